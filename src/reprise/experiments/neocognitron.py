"""Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition unaffected by shift in
position. Fukushima. Biological Cybernetics 36, 1980, https://doi.org/10.1007/BF00344251 (first in Japanese, 1979).

Claimed: layers of S-cells, which detect features, and of C-cells, which respond to a feature wherever it lies nearby,
organise themselves without a teacher when five patterns are shown again and again. In the end each pattern has a C-cell
of its own in the last layer, which responds to no other, and keeps responding when the pattern is shifted or slightly
distorted (Section 5). A C-cell does so "because another presynaptic S-cell will become to respond instead" (Section 2);
and the more stages of C-cells precede a cell, the more tolerant of shifts it is (Section 4). That patterns are compared
in small visual fields sets it apart from "a direct pattern matching in a wide visual field" (Section 4); and
competition between S-planes leaves none for a feature that another has (Section 3).

Deviations, at scale paper:
- The patterns are MNIST digits from 0 to 4, halved in size and binary, instead of five drawn by the author.
- The paper shows patterns at random places, and says no more about it. In `wandering` they move by up to `wander` cells
  in either direction. In the other arms they are learned in one place, which the paper calls easier: a network that
  then responds to a shifted pattern does so by its structure alone.
- The layers organise themselves one after another, each when those before it are done; in the paper all do at once.
- The layer sizes are the paper's. The spacing of its cells follows from them: C-cells are two cells apart, with areas
  of 5 x 5 that reach over the border; S-cells have a border of one in the second stage and none in the third.
- The weights c and d, in the paper "monotonically decreasing" from the centre, are powers of `falloff` by distance.
- Initial weights a are small and uniform; in the paper they have a very weak preference for orientations.
- An S-column, in which cells of all planes compete, is one position with `column` cells on each side.
- Arms with fewer stages of C-cells are ours. A stage without them passes on every second S-cell instead, so that all
  layers but the last keep their sizes.
- Two baselines are ours. In `sampled` S-planes do not compete: each learns what lies at one place of one pattern, both
  drawn at random. `matched` has no network: blurred patterns are matched with the learned ones as a whole.
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
"""Number of noisy copies of each pattern that are scored."""


class Stage(Strict):
    """A layer of S-cells followed by a layer of C-cells."""

    planes: Count
    """Number of cell-planes K in either layer."""
    selectivity: Positive
    """Selectivity r: the larger, the more similar a pattern must be to the learned one."""
    rate: Annotated[float, Field(ge=0)]
    """Learning rate q: how much is added to the weights of a representative."""
    pooling: bool = True
    """Whether C-cells pool S-cells over an area; otherwise each takes only the one at its own place."""


class Matcher(Strict):
    """Direct matching in one wide visual field, by the cosine of the shown pattern with each learned one."""

    blur: Annotated[float, Field(ge=0)]
    """Standard deviation, in cells, of a Gaussian that blurs patterns first."""


class Config(ExperimentConfig):
    """Knobs of Fukushima 1980."""

    matcher: Matcher | None = None
    """Replaces the network by direct matching."""
    learning: Literal["competition", "sampling"] = "competition"
    """How an S-plane is reinforced: by the places it wins in competition, or by one place of a pattern, drawn once."""
    wander: Annotated[int, Field(ge=0, le=4)] = 0
    """Largest shift, in cells, of each pattern down and right when it is shown."""
    stages: Annotated[list[Stage], Field(min_length=STAGES, max_length=STAGES)]
    falloff: Annotated[float, Field(gt=0, le=1)]
    """Factor by which c and d fall per cell of distance from the centre."""
    saturation: Positive
    """α of ψ(x) = x / (α + x)."""
    initial: Positive
    """Initial weights a are uniform between 0 and this."""
    column: Annotated[int, Field(ge=0)]
    """Cells on each side that an S-column covers."""
    digits: Annotated[list[Annotated[int, Field(ge=0, le=9)]], Field(min_length=2)] = [0, 1, 2, 3, 4]
    """Digits; there is one pattern of each."""
    presentations: Annotated[int, Field(ge=0)]
    """How often each pattern is shown to each stage."""
    sets: Count
    """Number of pattern sets, each learned by its own network."""
    shifts: Annotated[list[Annotated[int, Field(ge=1, le=4)]], Field(min_length=1)]
    """Shifts, in cells and in eight directions, under which recognition is scored."""
    flips: Count = 5
    """Number of the retina's 256 cells that are inverted when recognition in noise is scored."""


# Networks

SIMPLE_PADDING = (2, 1, 0)
"""Padding of S-layers: US1 16 x 16 from 16 x 16, US2 8 x 8 from 10 x 10, US3 2 x 2 from 6 x 6."""
AREAS = (5, 5, 2)
"""Areas of C-cells: UC1 10 x 10 from 16 x 16, UC2 6 x 6 from 8 x 8, UC3 1 x 1 from 2 x 2."""


def networks(config: Config) -> dict[str, nn.Module]:
    """Build one network per set of patterns, from the config alone; none for a matcher."""
    if config.matcher:
        return {}
    return {f"neocognitron_{index}": Neocognitron(config) for index in range(config.sets)}


def falling(size: int, falloff: float) -> Float[Tensor, "size size"]:
    """Weights over an area that sum to 1 and fall off from its centre."""
    axis = torch.arange(size) - (size - 1) / 2
    weights = falloff ** torch.hypot(axis[:, None], axis[None, :])
    return weights / weights.sum()


def shunted(excitation: Tensor, inhibition: Tensor) -> Tensor:
    """(2) φ[(1 + excitation) / (1 + inhibition) - 1], φ the positive part, in a form precise for small values."""
    return functional.relu((excitation - inhibition) / (1 + inhibition))


Samples = list[list[tuple[int, int, int]]]
"""For each pattern, S-cells as (plane, row, column)."""


class Simple(nn.Module):
    """A layer of S-cells, with weights `a` and `b` shared by all cells of a plane."""

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
        # Rounding in the convolution can make a sum slightly negative.
        return functional.conv2d(below.square(), kernel, padding=self.padding).clamp(min=0).sqrt()

    def forward(self, below: Float[Tensor, "batch before h w"]) -> Float[Tensor, "batch planes height width"]:
        """(1) u = r φ[(1 + Σ a u) / (1 + 2r / (1 + r) b v) - 1]."""
        r = self.stage.selectivity
        excitation = functional.conv2d(below, self.a, padding=self.padding)
        return r * shunted(excitation, 2 * r / (1 + r) * self.b[:, None, None] * self.inhibition(below))

    @torch.no_grad()
    def reinforce(self, below: Float[Tensor, "1 before h w"], column: int) -> int:
        """(7) Δa = q c u and (8) Δb = q v / 2 at each representative. Returns the number of representatives."""
        return self.reinforce_at(below, representatives(self(below)[0], column))

    @torch.no_grad()
    def reinforce_at(self, below: Float[Tensor, "1 before h w"], chosen: list[tuple[int, int, int]]) -> int:
        """Apply (7) and (8) at the S-cells `chosen`, as (plane, row, column), and return their number."""
        inhibition, padded = self.inhibition(below)[0, 0], functional.pad(below[0], [self.padding] * 4)
        for plane, row, col in chosen:
            self.a[plane] += self.stage.rate * self.c * padded[:, row : row + 5, col : col + 5]
            self.b[plane] += self.stage.rate / 2 * inhibition[row, col]
        return len(chosen)

    def samples(self, below: Float[Tensor, "patterns before h w"], generator: np.random.Generator) -> Samples:
        """Sample cells for `Config.learning`: for every plane one place with input, in one of the patterns."""
        places = self.inhibition(below)[:, 0].nonzero().tolist()
        found: Samples = [[] for _ in below]
        for plane in range(self.stage.planes):
            if places:
                pattern, row, col = places[generator.integers(len(places))]
                found[pattern].append((plane, row, col))
        return found


class Complex(nn.Module):
    """A layer of C-cells, in which nothing is learned."""

    d: Tensor

    def __init__(self, size: int, pooling: bool, config: Config) -> None:
        super().__init__()
        self.saturation = config.saturation
        area = size if pooling else 1
        # The last layer reduces 2 x 2 cells to one; the others take every second cell, with areas reaching over the
        # border.
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
    """The input layer U0 and three stages."""

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
        """Return the C-cells after `stages` stages; after none, U0."""
        for index in range(stages):
            u = self.complex[index](self.simple[index](u))
        return u


def representatives(cells: Float[Tensor, "planes height width"], column: int) -> list[tuple[int, int, int]]:
    """Return the S-cells to reinforce, as (plane, row, column), at most one per plane (Section 3).

    An S-column holds the cells of all planes within `column` of a position; columns overlap. The strongest cell of a
    column is a candidate if it responds at all. The strongest candidate of a plane is its representative.
    """
    # Across planes first: only the strongest plane at a position can win a column there.
    strongest, plane = cells.max(0)
    columns = functional.max_pool2d(strongest[None], 2 * column + 1, stride=1, padding=column, return_indices=True)[1]
    best: dict[int, tuple[float, int]] = {}
    for place in columns.unique().tolist():
        one, answer = int(plane.flatten()[place]), float(strongest.flatten()[place])
        best[one] = max(best.get(one, (0.0, 0)), (answer, place))
    return [(one, *divmod(place, cells.shape[2])) for one, (answer, place) in sorted(best.items()) if answer > 0]


def moved(patterns: Float[Tensor, "batch 1 16 16"], down: int, right: int) -> Float[Tensor, "batch 1 16 16"]:
    """Shift the patterns on the retina; whatever leaves it is lost."""
    # A negative padding crops.
    return functional.pad(patterns, [right, -right, down, -down])


def winners(answers: Float[Tensor, "patterns cells"]) -> Int[Tensor, " patterns"]:
    """Return the cell with the strongest response to each pattern, or -1 if none responds."""
    strongest, cell = answers.max(1)
    return torch.where(strongest > 0, cell, -1)


def own(cells: Int[Tensor, " patterns"]) -> Bool[Tensor, " patterns"]:
    """Whether each pattern's winner is the winner of no other pattern."""
    return (cells[:, None] == cells).sum(1).eq(1) & (cells >= 0)


def only(answers: Float[Tensor, "patterns cells"]) -> Bool[Tensor, " patterns"]:
    """Whether each pattern makes exactly one cell respond, which responds to no other pattern."""
    answering = answers > 0
    alone = answering & (answering.sum(0) == 1)
    return (answering.sum(1) == 1) & alone.any(1)


def shared(answers: Float[Tensor, "patterns cells"]) -> float:
    """Share of cells that respond to several patterns, among those that respond to any."""
    patterns_of_each = (answers > 0).sum(0)
    return float((patterns_of_each > 1).sum() / (patterns_of_each > 0).sum().clamp(min=1))


def noisy(patterns: Float[Tensor, "batch 1 16 16"], flips: int, generator: np.random.Generator) -> Tensor:
    """Return the patterns with `flips` cells of each inverted."""
    found = patterns.clone()
    for one in found.flatten(1):
        places = torch.from_numpy(generator.permutation(one.numel())[:flips]).to(one.device)
        one[places] = 1 - one[places]
    return found


def matched(
    shown: Float[Tensor, "shown 1 16 16"], learned: Float[Tensor, "patterns 1 16 16"], blur: float
) -> Float[Tensor, "shown patterns"]:
    """Cosine of each shown pattern with each learned one, all blurred."""
    if blur:
        axis = torch.arange(-RETINA, RETINA + 1, device=shown.device)
        kernel = torch.exp(-(axis**2) / (2 * blur**2))
        kernel = (kernel[:, None] * kernel)[None, None]
        shown, learned = (functional.conv2d(one, kernel, padding=RETINA) for one in (shown, learned))
    return functional.normalize(shown.flatten(1), dim=1) @ functional.normalize(learned.flatten(1), dim=1).T


# Training


class Task(task.Task):
    """One step shows all patterns of all sets once, to the stage that is learning."""

    log_every = 5
    patterns: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config, self.seed = config, run.seed
        self.networks = nn.ModuleList(networks(config).values())
        self.seen: dict[tuple[int, int], Tensor] = {}

    def load_data(self) -> None:
        """Draw the sets, [sets, patterns, 1, 16, 16] of 0 and 1. Every arm of a seed has the same."""
        images, labels = open_images(self.run.data / "digits", "train")
        rng = np.random.default_rng([self.seed, 2])
        drawn = [
            [images[rng.choice(np.flatnonzero(np.asarray(labels) == digit))] for digit in self.config.digits]
            for _ in range(self.config.sets)
        ]
        digits = torch.tensor(np.stack(drawn)).float() / 255
        halved = functional.avg_pool2d(digits.flatten(0, 1)[:, None], 2)
        edge = (RETINA - halved.shape[-1]) // 2
        # Fukushima's patterns are black and white, and surrounded by empty cells.
        patterns = functional.pad((halved > 0.5).float(), [edge] * 4)
        self.register_buffer("patterns", patterns.unflatten(0, digits.shape[:2]), persistent=False)

    @property
    def total_steps(self) -> int:
        """Presentations to the stages in turn; none for a matcher."""
        return 0 if self.config.matcher else STAGES * self.config.presentations

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """None: weights are reinforced without gradients."""
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
        """Return a stage's input for one set of patterns at `step`, cached if it does not change over time."""
        if self.config.wander:
            return self.networks[index](self.shown(self.patterns[index], index, step), stage)
        # Earlier stages have finished learning, so their responses are constant.
        if (index, stage) not in self.seen:
            self.seen[index, stage] = self.networks[index](self.patterns[index], stage)
        return self.seen[index, stage]

    def shown(self, patterns: Float[Tensor, "patterns 1 16 16"], index: int, step: int) -> Tensor:
        """Return the patterns of one set as presented at `step`, each at its own place."""
        most = self.config.wander
        moves = np.random.default_rng([self.seed, 4, index, step]).integers(-most, most + 1, (len(patterns), 2))
        return torch.cat(
            [moved(one[None], int(down), int(right)) for one, (down, right) in zip(patterns, moves, strict=True)]
        )

    def respond(self, index: int, shown: Float[Tensor, "shown 1 16 16"]) -> Float[Tensor, "shown cells"]:
        """Return the last layer's responses of one set's network, or of the matcher."""
        if self.config.matcher:
            return matched(shown, self.patterns[index], self.config.matcher.blur)
        return self.networks[index](shown).flatten(1)

    def evaluate(self) -> Evaluation:
        """Score which cells respond, and whether they still do when patterns are shifted or noisy."""
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
            # Relative to the patterns that were learned: others cannot be recognised when shifted.
            "shift_kept": means["shifted"] / max(means["own"], 1e-9),
            "noise_kept": means["disturbed"] / max(means["own"], 1e-9),
        }
        pictures: dict[str, task.Picture] = {"shifts": self.answers()}
        if not self.config.matcher:
            pictures["features"] = self.features()
        return Evaluation(metrics, pictures)

    def features(self) -> Picture:
        """Show the pattern that each plane of the first S-layer has learned, black if it was never chosen."""
        simple = self.networks[0].get_submodule("simple.0")
        assert isinstance(simple, Simple)
        # b is positive only after reinforcement; before that a plane has only its random initial weights.
        weights = simple.a[:, 0] / simple.a.amax((1, 2, 3))[:, None, None] * simple.b.gt(0)[:, None, None]
        names = [f"plane {index + 1}" for index in range(len(weights))]
        title = "first S-layer: what each plane finds"
        return mosaic([grey(one) for one in weights], names, columns=6, title=title, tile_height=0.55)

    def answers(self) -> Picture:
        """Show the first set's patterns, centred and shifted, with the strongest cell of the last layer for each."""
        patterns = self.patterns[0]
        tiles, names = [], []
        # Every second of the eight directions, so that the picture stays readable.
        for down, right in [(0, 0), *directions(max(self.config.shifts))[::2]]:
            shown = moved(patterns, down, right)
            tiles += [grey(one[0]) for one in shown]
            cells = winners(self.respond(0, shown)).tolist()
            names += [f"cell {cell + 1}" if cell >= 0 else "no cell" for cell in cells]
        title = "patterns in the middle, then moved:\nthe last stage's cell that answers most"
        return mosaic(tiles, names, columns=len(patterns), title=title, tile_height=0.6)


def directions(shift: int) -> list[tuple[int, int]]:
    """Eight moves by `shift` cells, straight and diagonal."""
    return [
        (round(shift * math.sin(turn * math.pi / 4)), round(shift * math.cos(turn * math.pi / 4))) for turn in range(8)
    ]


def grey(values: Float[Tensor, "height width"]) -> Picture:
    """Convert values in [0, 1] to grey levels."""
    return (values.clamp(0, 1) * 255).round().byte().cpu().numpy()
