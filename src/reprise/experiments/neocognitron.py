"""Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition unaffected by shift in
position. Fukushima. Biological Cybernetics 36, 1980, https://doi.org/10.1007/BF00344251 (first in Japanese, 1979).

Claimed: layers of S-cells, which find features, and of C-cells, which answer to a feature wherever it lies nearby,
organise themselves without a teacher when five patterns are shown again and again; in the end each pattern has a C-cell
of its own in the last layer, which answers to no other, and goes on answering when the pattern is shifted or a little
distorted (Section 5). A C-cell does, "because another presynaptic S-cell will become to respond instead" (Section 2);
and the more stages of C-cells lie before a cell, the more tolerant of shifts it is (Section 4). That patterns are
compared in small visual fields is what sets it apart from "a direct pattern matching in a wide visual field" (Section
4); and that S-planes compete leaves none for a feature which another has (Section 3).

Deviations, at scale paper:
- The patterns are digits of MNIST from 0 to 4, halved in size and of two tones, in place of five drawn by the author.
- In the paper patterns are shown at random places, of which it says no more. In `wandering` they move by up to `wander`
  cells either way. In the other arms they are learned in one place, which the paper calls easier: a network that then
  answers to a shifted pattern does so by its structure alone.
- The layers organise themselves one after another, the deeper when those before are done; in the paper all do at once.
- The sizes of layers are the paper's. How its cells are spaced follows from them: C-cells two cells apart, their areas
  of 5 x 5 reaching over the border; S-cells of the second stage with a border of one, of the third with none.
- The weights c and d, in the paper "monotonically decreasing" from the centre, are powers of `falloff` by distance.
- Initial weights a are small and uniform; in the paper they have a very weak preference for orientations.
- An S-column, in which cells of all planes compete, is one position with `column` cells to each side.
- Arms with fewer stages of C-cells are ours: where a stage has none, every second S-cell stands in for them, so that
  all layers but the last keep their sizes.
- Two opponents are ours. In `sampled` S-planes do not compete: each learns what lies at one place of one pattern, both
  drawn at random. In `matched` there is no network: patterns, blurred, are matched with the learned ones as a whole.
What a smaller scale changes is in params/neocognitron.yaml, and nowhere else.

Shapes: planes = 24 cell-planes of a layer; height, width = cells of a plane; before = planes of the layer before.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation
from reprise.parts.data.store import open_images
from reprise.parts.pictures import Picture, mosaic
from reprise.parts.vocabulary import Count

Positive = Annotated[float, Field(gt=0)]
RETINA = 16
STAGES = 3
NOISES = 8
"""How many disturbed copies of each pattern are scored."""


class Stage(Strict):
    """A layer of S-cells and one of C-cells."""

    planes: Count
    """Cell-planes of either layer: K."""
    selectivity: Positive
    """r: the larger, the more alike a pattern must be to the one that was learned."""
    rate: Annotated[float, Field(ge=0)]
    """q: how much is added to the weights of a representative."""
    pooling: bool = True
    """Whether C-cells gather S-cells over an area; else each has the one at its place alone."""


class Matcher(Strict):
    """Direct matching in one wide visual field: the cosine of the pattern shown and each that was learned."""

    blur: Annotated[float, Field(ge=0)]
    """Standard deviation of a Gaussian that blurs them before, in cells."""


class Config(ExperimentConfig):
    """Fukushima 1980."""

    matcher: Matcher | None = None
    """In place of a network."""
    learning: Literal["competition", "sampling"] = "competition"
    """What each S-plane is reinforced by: what it represents in competition, or a place of a pattern, drawn once."""
    wander: Annotated[int, Field(ge=0, le=4)] = 0
    """By how many cells at most, in either direction, each pattern is moved down and right when it is shown."""
    stages: Annotated[list[Stage], Field(min_length=STAGES, max_length=STAGES)]
    falloff: Annotated[float, Field(gt=0, le=1)]
    """The factor by which c and d fall, for each cell's distance from the centre."""
    saturation: Positive
    """α of ψ(x) = x / (α + x)."""
    initial: Positive
    """Weights a start uniformly between 0 and this."""
    column: Annotated[int, Field(ge=0)]
    """Cells to each side over which an S-column reaches."""
    digits: Annotated[list[Annotated[int, Field(ge=0, le=9)]], Field(min_length=2)] = [0, 1, 2, 3, 4]
    """A pattern of each."""
    presentations: Annotated[int, Field(ge=0)]
    """How often each pattern is shown to each stage."""
    sets: Count
    """Sets of patterns, each learned by a network of its own."""
    shifts: Annotated[list[Annotated[int, Field(ge=1, le=4)]], Field(min_length=1)]
    """By how many cells patterns are moved, in eight directions, when recognition is scored."""
    flips: Count = 5
    """Of the retina's 256 cells, how many are inverted when recognition in noise is scored."""


# Networks

SIMPLE_PADDING = (2, 1, 0)
"""US1 16 x 16 from 16 x 16, US2 8 x 8 from 10 x 10, US3 2 x 2 from 6 x 6."""
AREAS = (5, 5, 2)
"""UC1 10 x 10 from 16 x 16, UC2 6 x 6 from 8 x 8, UC3 1 x 1 from 2 x 2."""


def networks(config: Config) -> dict[str, nn.Module]:
    """One network for each set of patterns, from the config alone; none for a matcher."""
    if config.matcher:
        return {}
    return {f"neocognitron_{index}": Neocognitron(config) for index in range(config.sets)}


def falling(size: int, falloff: float) -> Float[Tensor, "size size"]:
    """Weights over an area that sum to 1 and fall from its centre."""
    axis = torch.arange(size) - (size - 1) / 2
    weights = falloff ** torch.hypot(axis[:, None], axis[None, :])
    return weights / weights.sum()


def shunted(excitation: Tensor, inhibition: Tensor) -> Tensor:
    """(2) φ[(1 + excitation) / (1 + inhibition) - 1], φ the positive part; written so that small ones keep digits."""
    return functional.relu((excitation - inhibition) / (1 + inhibition))


Samples = list[list[tuple[int, int, int]]]
"""For each pattern, S-cells as (plane, row, column)."""


class Simple(nn.Module):
    """A layer of S-cells: weights `a` and `b`, shared by all cells of a plane."""

    c: Tensor

    def __init__(self, before: int, stage: Stage, padding: int, config: Config) -> None:
        super().__init__()
        self.stage, self.padding = stage, padding
        self.a = nn.Parameter(torch.rand(stage.planes, before, 5, 5) * config.initial, requires_grad=False)
        self.b = nn.Parameter(torch.zeros(stage.planes), requires_grad=False)
        self.register_buffer("c", falling(5, config.falloff) / before, persistent=False)

    def inhibition(self, below: Float[Tensor, "batch before h w"]) -> Float[Tensor, "batch 1 height width"]:
        """(3) v = sqrt(Σ c u²), over the whole receptive field."""
        kernel = self.c.expand(1, below.shape[1], 5, 5)
        return functional.conv2d(below.square(), kernel, padding=self.padding).clamp(min=0).sqrt()

    def forward(self, below: Float[Tensor, "batch before h w"]) -> Float[Tensor, "batch planes height width"]:
        """(1) u = r φ[(1 + Σ a u) / (1 + 2r / (1 + r) b v) - 1]."""
        r = self.stage.selectivity
        excitation = functional.conv2d(below, self.a, padding=self.padding)
        return r * shunted(excitation, 2 * r / (1 + r) * self.b[:, None, None] * self.inhibition(below))

    @torch.no_grad()
    def reinforce(self, below: Float[Tensor, "1 before h w"], column: int) -> int:
        """(7) Δa = q c u and (8) Δb = q v / 2 at each representative; returns how many there were."""
        return self.reinforce_at(below, representatives(self(below)[0], column))

    @torch.no_grad()
    def reinforce_at(self, below: Float[Tensor, "1 before h w"], chosen: list[tuple[int, int, int]]) -> int:
        """(7) and (8) at the S-cells `chosen`, as (plane, row, column); returns how many there were."""
        inhibition, padded = self.inhibition(below)[0, 0], functional.pad(below[0], [self.padding] * 4)
        for plane, row, col in chosen:
            self.a[plane] += self.stage.rate * self.c * padded[:, row : row + 5, col : col + 5]
            self.b[plane] += self.stage.rate / 2 * inhibition[row, col]
        return len(chosen)

    def samples(self, below: Float[Tensor, "patterns before h w"], generator: np.random.Generator) -> Samples:
        """For each pattern the cells of `Config.learning`'s sampling: every plane has one, at a place with input."""
        places = self.inhibition(below)[:, 0].nonzero().tolist()
        found: Samples = [[] for _ in below]
        for plane in range(self.stage.planes):
            if places:
                pattern, row, col = places[generator.integers(len(places))]
                found[pattern].append((plane, row, col))
        return found


class Complex(nn.Module):
    """A layer of C-cells; nothing in it learns."""

    d: Tensor

    def __init__(self, size: int, pooling: bool, config: Config) -> None:
        super().__init__()
        self.saturation = config.saturation
        area = size if pooling else 1
        self.padding, self.stride = (size // 2 + area // 2, 2) if size > 2 else (0, 1)
        self.register_buffer("d", falling(area, config.falloff), persistent=False)

    def forward(self, simple: Float[Tensor, "batch planes h w"]) -> Float[Tensor, "batch planes height width"]:
        """(4) u = ψ[(1 + Σ d u) / (1 + v) - 1], (5) ψ[x] = φ[x / (α + x)], (6) v the mean of Σ d u over all planes."""
        planes = simple.shape[1]
        kernel = self.d.expand(planes, 1, *self.d.shape)
        gathered = functional.conv2d(simple, kernel, padding=self.padding, stride=self.stride, groups=planes)
        x = shunted(gathered, gathered.mean(1, keepdim=True))
        return x / (self.saturation + x)


class Neocognitron(nn.Module):
    """U0, and three stages."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        before = [1, *(stage.planes for stage in config.stages)]
        self.simple = nn.ModuleList(
            Simple(n, stage, padding, config)
            for n, stage, padding in zip(before[:STAGES], config.stages, SIMPLE_PADDING, strict=True)
        )
        self.complex = nn.ModuleList(
            Complex(size, stage.pooling, config) for size, stage in zip(AREAS, config.stages, strict=True)
        )

    def forward(self, u: Float[Tensor, "batch 1 16 16"], stages: int = STAGES) -> Float[Tensor, "batch planes h w"]:
        """The C-cells after `stages` stages; U0 after none."""
        for index in range(stages):
            u = self.complex[index](self.simple[index](u))
        return u


def representatives(cells: Float[Tensor, "planes height width"], column: int) -> list[tuple[int, int, int]]:
    """The S-cells that are reinforced, as (plane, row, column); at most one of a plane (Section 3).

    Of every S-column, the cells of all planes within `column` of a position, the strongest is a candidate if it answers
    at all; columns overlap. Of the candidates of one plane the strongest is its representative.
    """
    strongest, plane = cells.max(0)
    columns = functional.max_pool2d(strongest[None], 2 * column + 1, stride=1, padding=column, return_indices=True)[1]
    best: dict[int, tuple[float, int]] = {}
    for place in columns.unique().tolist():
        one, answer = int(plane.flatten()[place]), float(strongest.flatten()[place])
        best[one] = max(best.get(one, (0.0, 0)), (answer, place))
    return [(one, *divmod(place, cells.shape[2])) for one, (answer, place) in sorted(best.items()) if answer > 0]


def moved(patterns: Float[Tensor, "batch 1 16 16"], down: int, right: int) -> Float[Tensor, "batch 1 16 16"]:
    """The patterns elsewhere on the retina; what leaves it is lost."""
    return functional.pad(patterns, [right, -right, down, -down])


def winners(answers: Float[Tensor, "patterns cells"]) -> Int[Tensor, " patterns"]:
    """The cell that answers most to each pattern; -1 where none does."""
    strongest, cell = answers.max(1)
    return torch.where(strongest > 0, cell, -1)


def own(cells: Int[Tensor, " patterns"]) -> Bool[Tensor, " patterns"]:
    """Whether each pattern's winner is that of no other."""
    return (cells[:, None] == cells).sum(1).eq(1) & (cells >= 0)


def only(answers: Float[Tensor, "patterns cells"]) -> Bool[Tensor, " patterns"]:
    """Whether each pattern elicits an answer of one cell only, and that cell answers to no other pattern."""
    answering = answers > 0
    alone = answering & (answering.sum(0) == 1)
    return (answering.sum(1) == 1) & alone.any(1)


def shared(answers: Float[Tensor, "patterns cells"]) -> float:
    """The share of cells that answer to more than one pattern, among those that answer to any."""
    patterns_of_each = (answers > 0).sum(0)
    return float((patterns_of_each > 1).sum() / (patterns_of_each > 0).sum().clamp(min=1))


def noisy(patterns: Float[Tensor, "batch 1 16 16"], flips: int, generator: np.random.Generator) -> Tensor:
    """The patterns, of each `flips` cells inverted."""
    found = patterns.clone()
    for one in found.flatten(1):
        places = torch.from_numpy(generator.permutation(one.numel())[:flips]).to(one.device)
        one[places] = 1 - one[places]
    return found


def matched(
    shown: Float[Tensor, "shown 1 16 16"], learned: Float[Tensor, "patterns 1 16 16"], blur: float
) -> Float[Tensor, "shown patterns"]:
    """The cosine of each pattern shown with each that was learned, all blurred."""
    if blur:
        axis = torch.arange(-RETINA, RETINA + 1, device=shown.device)
        kernel = torch.exp(-(axis**2) / (2 * blur**2))
        kernel = (kernel[:, None] * kernel)[None, None]
        shown, learned = (functional.conv2d(one, kernel, padding=RETINA) for one in (shown, learned))
    return functional.normalize(shown.flatten(1), dim=1) @ functional.normalize(learned.flatten(1), dim=1).T


# Training


class Task(task.Task):
    """One step shows all patterns of all sets once to the stage whose turn it is."""

    log_every = 5
    patterns: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config, self.seed = config, run.seed
        self.networks = nn.ModuleList(networks(config).values())
        self.seen: dict[tuple[int, int], Tensor] = {}

    def load_data(self) -> None:
        """Draw the sets: [sets, patterns, 1, 16, 16] of 0 and 1; every arm of a seed has the same."""
        images, labels = open_images(self.run.data / "digits", "train")
        rng = np.random.default_rng([self.seed, 2])
        drawn = [
            [images[rng.choice(np.flatnonzero(np.asarray(labels) == digit))] for digit in self.config.digits]
            for _ in range(self.config.sets)
        ]
        digits = torch.tensor(np.stack(drawn)).float() / 255
        halved = functional.avg_pool2d(digits.flatten(0, 1)[:, None], 2)
        edge = (RETINA - halved.shape[-1]) // 2
        patterns = functional.pad((halved > 0.5).float(), [edge] * 4)
        self.register_buffer("patterns", patterns.unflatten(0, digits.shape[:2]), persistent=False)

    @property
    def total_steps(self) -> int:
        """Presentations to each stage in its turn; none to a matcher."""
        return 0 if self.config.matcher else STAGES * self.config.presentations

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """None: representatives are reinforced."""
        return []

    @torch.no_grad()
    def update(self, step: int) -> dict[str, Tensor | float]:
        """Show every pattern once, and reinforce the representatives of one stage."""
        stage = step // self.config.presentations
        counts, strongest = [], []
        for index, network in enumerate(self.networks):
            assert isinstance(network, Neocognitron)
            simple = network.simple[stage]
            assert isinstance(simple, Simple)
            below = self.below(index, stage, step)
            strongest.append(simple(below).amax((1, 2, 3)).mean())
            if self.config.learning == "sampling":
                samples = simple.samples(below, np.random.default_rng([self.seed, 3, index, stage]))
                counts += [simple.reinforce_at(one[None], cells) for one, cells in zip(below, samples, strict=True)]
            else:
                counts += [simple.reinforce(one[None], self.config.column) for one in below]
        return {"strongest_answer": torch.stack(strongest).mean(), "representatives": float(np.mean(counts))}

    def below(self, index: int, stage: int, step: int) -> Tensor:
        """What the stage sees of one set's patterns at `step`: kept while it stays the same, as earlier stages have."""
        if self.config.wander:
            return self.networks[index](self.shown(self.patterns[index], index, step), stage)
        if (index, stage) not in self.seen:
            self.seen[index, stage] = self.networks[index](self.patterns[index], stage)
        return self.seen[index, stage]

    def shown(self, patterns: Float[Tensor, "patterns 1 16 16"], index: int, step: int) -> Tensor:
        """The patterns of one set as they are presented at `step`, each at a place of its own."""
        most = self.config.wander
        moves = np.random.default_rng([self.seed, 4, index, step]).integers(-most, most + 1, (len(patterns), 2))
        return torch.cat(
            [moved(one[None], int(down), int(right)) for one, (down, right) in zip(patterns, moves, strict=True)]
        )

    def respond(self, index: int, shown: Float[Tensor, "shown 1 16 16"]) -> Float[Tensor, "shown cells"]:
        """The answers of the last layer of one set's network, or what takes its place."""
        if self.config.matcher:
            return matched(shown, self.patterns[index], self.config.matcher.blur)
        return self.networks[index](shown).flatten(1)

    def evaluate(self) -> Evaluation:
        """Which cells answer, and whether they still do when patterns move or are disturbed."""
        counts = dict.fromkeys(("own", "only", "silent", "shared", "shifted", "disturbed"), 0.0)
        moves = [move for shift in self.config.shifts for move in directions(shift)]
        for index, patterns in enumerate(self.patterns):
            learned = self.respond(index, patterns)
            cells = winners(learned)
            owned = own(cells)

            def kept(shown: Tensor, index: int = index, cells: Tensor = cells, owned: Tensor = owned) -> float:
                return float((owned & (winners(self.respond(index, shown)) == cells)).float().mean())

            generator = np.random.default_rng([self.seed, 5, index])
            counts["own"] += float(owned.float().mean())
            counts["only"] += float(only(learned).float().mean())
            counts["silent"] += float((cells < 0).float().mean())
            counts["shared"] += shared(learned)
            counts["shifted"] += float(np.mean([kept(moved(patterns, *move)) for move in moves]))
            counts["disturbed"] += float(
                np.mean([kept(noisy(patterns, self.config.flips, generator)) for _ in range(NOISES)])
            )
        means = {name: count / len(self.patterns) for name, count in counts.items()}
        metrics = {
            "own_cell": means["own"],
            "only_cell": means["only"],
            "silent": means["silent"],
            "shared": means["shared"],
            "shifted_recognised": means["shifted"],
            "shift_kept": means["shifted"] / max(means["own"], 1e-9),
            "noise_kept": means["disturbed"] / max(means["own"], 1e-9),
        }
        pictures: dict[str, task.Picture] = {"shifts": self.answers()}
        if not self.config.matcher:
            pictures["features"] = self.features()
        return Evaluation(metrics, pictures)

    def features(self) -> Picture:
        """The pattern that each plane of the first S-layer has learned to find; black if it was never chosen."""
        simple = self.networks[0].get_submodule("simple.0")
        assert isinstance(simple, Simple)
        weights = simple.a[:, 0] / simple.a.amax((1, 2, 3))[:, None, None] * simple.b.gt(0)[:, None, None]
        names = [f"plane {index + 1}" for index in range(len(weights))]
        title = "first S-layer: what each plane finds"
        return mosaic([grey(one) for one in weights], names, columns=6, title=title, tile_height=0.55)

    def answers(self) -> Picture:
        """The first set's patterns, in the middle and moved, and which cell of the last layer answers most to each."""
        patterns = self.patterns[0]
        tiles, names = [], []
        for down, right in [(0, 0), *directions(max(self.config.shifts))[::2]]:
            shown = moved(patterns, down, right)
            tiles += [grey(one[0]) for one in shown]
            cells = winners(self.respond(0, shown)).tolist()
            names += [f"cell {cell + 1}" if cell >= 0 else "no cell" for cell in cells]
        title = "patterns in the middle, then moved:\nthe last stage's cell that answers most"
        return mosaic(tiles, names, columns=len(patterns), title=title, tile_height=0.6)


def directions(shift: int) -> list[tuple[int, int]]:
    """Eight moves by `shift` cells, straight and aslant."""
    return [
        (round(shift * math.sin(turn * math.pi / 4)), round(shift * math.cos(turn * math.pi / 4))) for turn in range(8)
    ]


def grey(values: Float[Tensor, "height width"]) -> Picture:
    """Values from 0 to 1 as shades of grey."""
    return (values.clamp(0, 1) * 255).round().byte().cpu().numpy()
