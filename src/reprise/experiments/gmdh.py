"""The group method of data handling: the first deep networks that learned. Ivakhnenko & Lapa, Cybernetic Predicting
Devices, Naukova Dumka, Kiev 1965 (English: Cybernetics and Forecasting Techniques, American Elsevier 1967).
The method as it is done here: Ivakhnenko, Polynomial theory of complex systems, IEEE Transactions on Systems, Man, and
Cybernetics 1 (4), 1971, https://doi.org/10.1109/TSMC.1971.4308320.

Claimed: layers of quadratic polynomials of two variables, each fitted by least squares on one part of the data, build
up a polynomial of high degree; an external criterion, the error on a part that no coefficient saw, selects the units of
each layer and controls overfitting (1971, abstract). The number of layers and units is learned in problem-dependent
fashion; in 1971 there were eight layers (Schmidhuber 2015, Section 5.3). That growth ends at the minimum of the
criterion, and that a complete polynomial would need more observations, is what others report about the 1971 paper; the
paper itself was not available to us.

Deviations, at scale paper:
- The examples of 1965 and 1971 (river flow, the British economy) are short tables that are not available. Instead there
  are trees of quadratic polynomials, drawn here, whose degree is known, so that one can see whether it is found; and,
  as real observations, pairs of MNIST digits to be told apart, from 200 images.
- A unit survives if its criterion is below that of the best unit of the previous layer by the share `improvement`, and
  among these the best `width` survive. The paper leaves the threshold to the experimenter.
- The criterion is relative to the squares of y about its mean, which does not change what it selects.
- `training` selects by the error of the fit and has no use for a second part: it fits on both parts together.
- `complete` gets more help than the complete polynomial that the paper argues against, whose equations would have more
  unknowns than rows here: it is ridge regression, with the ridge chosen on the checking sequence and the final fit on
  both sequences.
- `unstopped` grows all its layers: the best `width` units of each layer survive, whether better than before or not.
- A polynomial of high degree is wild where there are no data. For every arm, predictions are therefore clamped to the
  range of the fitted observations before they are scored.
- Equations are solved with a ridge of 1e-9 of their mean diagonal, since two units of a layer may be nearly equal.
What a smaller scale changes is in params/gmdh.yaml, and nowhere else.

Shapes: rows = observations; inputs = variables of the problem; units = survivors of a layer; pairs = candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.collections import LineCollection
from pydantic import Field, model_validator
from torch import Tensor, nn

from reprise.core.contract import ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts.data.store import open_images
from reprise.parts.pictures import GREY, ORANGE, Chart, blank, charts, drawn, heat_map, scatter
from reprise.parts.vocabulary import Count

Share = Annotated[float, Field(ge=0, lt=1)]
TERMS = 6


class Tree(Strict):
    """A polynomial to find from noisy observations."""

    kind: Literal["tree"]
    degree: Literal[2, 4, 8, 16]
    """Degree: the polynomial is a tree of quadratic ones over as many inputs, and each level doubles the degree."""
    inputs: Annotated[int, Field(ge=2)]
    """Number of variables, uniform from -1 to 1. The polynomial depends on `degree` of them."""
    noise: Annotated[float, Field(ge=0)]
    """Standard deviation of the noise, relative to that of the polynomial."""
    fit: Annotated[int, Field(ge=TERMS)]
    """Size of the training sequence: observations that coefficients are fitted to."""
    check: Count
    """Size of the checking sequence: observations that the external criterion is measured on."""
    test: Count
    """Noiseless observations that the network is scored on."""

    @model_validator(mode="after")
    def _enough_inputs(self) -> Tree:
        if self.inputs < self.degree:
            raise ValueError(f"inputs is {self.inputs}; a polynomial of degree {self.degree} needs as many")
        return self


class Digits(Strict):
    """Images of two of the ten digits, to be told apart as 1 and -1."""

    kind: Literal["digits"]
    square: Literal[2, 4, 7]
    """Side, in pixels, of the squares whose mean brightness, from -1 to 1, is an input."""
    fit: Annotated[int, Field(ge=TERMS)]
    """Number of images that coefficients are fitted to."""
    check: Count
    """Number of images that the external criterion is measured on."""
    test: Count
    """Largest number of images that the network is scored on."""
    scored_on: Literal["test", "train"] = "test"
    """Split of these images. For tuning: training images that were neither fitted nor checked."""


class Layered(Strict):
    """A network grown layer by layer."""

    kind: Literal["layered"]
    criterion: Literal["external", "training"]
    """Criterion for selecting and stopping: the error on the checking sequence, or of the fit on both sequences."""
    width: Count
    """Largest number of units of a layer that survive."""
    layers: Count
    """Largest number of layers."""
    improvement: Share
    """Share by which a unit's criterion must be below the best of the previous layer."""
    stops: bool = True
    """Whether growth ends when no unit qualifies; otherwise the best `width` of every layer survive."""


class Complete(Strict):
    """All terms of a polynomial at once."""

    kind: Literal["complete"]
    degree: Count
    ridges: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    """Ridge weights to choose from on the checking sequence, before the final fit on both."""


class Config(ExperimentConfig):
    """Knobs of Ivakhnenko & Lapa 1965."""

    problem: Annotated[Tree | Digits, Field(discriminator="kind")]
    model: Annotated[Layered | Complete, Field(discriminator="kind")]
    replicates: Count
    """Number of polynomials to find, or of pairs of digits to tell apart, one after another in each run."""


# --- networks ---------------------------------------------------------------------------------------------------------


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the networks of the arm, from its config alone."""
    if isinstance(config.model, Complete):
        return {}
    return {"networks": Networks(config.model, config.replicates)}


class Networks(nn.Module):
    """Storage for the units of every layer of every replicate; `widths` holds the numbers of units."""

    origins: Tensor
    widths: Tensor

    def __init__(self, model: Layered, replicates: int) -> None:
        super().__init__()
        shape = (replicates, model.layers, model.width)
        self.coefficients = nn.Parameter(torch.zeros(*shape, TERMS, dtype=torch.float64), requires_grad=False)
        self.register_buffer("origins", torch.zeros(*shape, 2, dtype=torch.int64))
        self.register_buffer("widths", torch.zeros(replicates, model.layers, dtype=torch.int64))

    def depth(self, replicate: int) -> int:
        """Number of layers grown."""
        return int((self.widths[replicate] > 0).sum())

    def layers(self, x: Float[Tensor, "rows inputs"], replicate: int) -> list[Float[Tensor, "rows units"]]:
        """Return the inputs, followed by the outputs of each layer's units, best unit first."""
        found = [x]
        for layer in range(self.depth(replicate)):
            units = int(self.widths[replicate, layer])
            first, second = self.origins[replicate, layer, :units].unbind(1)
            terms = quadratic_terms(found[-1][:, first], found[-1][:, second])
            found.append((terms * self.coefficients[replicate, layer, :units]).sum(2))
        return found

    def ancestors(self, replicate: int) -> list[set[int]]:
        """Return which inputs, and which units of each layer, the best unit of the last layer depends on."""
        used: list[set[int]] = [{0} if self.depth(replicate) else set()]
        for layer in reversed(range(self.depth(replicate))):
            origins = self.origins[replicate, layer]
            used.insert(0, {int(origin) for unit in used[0] for origin in origins[unit]})
        return used


# --- method -----------------------------------------------------------------------------------------------------------


def quadratic_terms(
    first: Float[Tensor, "rows pairs"], second: Float[Tensor, "rows pairs"]
) -> Float[Tensor, "rows pairs 6"]:
    """(1) Terms of the partial description y = a0 + a1 u + a2 v + a3 u v + a4 u² + a5 v² (1971)."""
    return torch.stack([torch.ones_like(first), first, second, first * second, first.square(), second.square()], 2)


def least_squares(terms: Float[Tensor, "rows pairs terms"], y: Float[Tensor, " rows"]) -> Float[Tensor, "pairs terms"]:
    """(2) Least-squares coefficients of each pair, by the normal equations."""
    products = torch.einsum("rpi,rpj->pij", terms, terms)
    ridge = 1e-9 * products.diagonal(dim1=1, dim2=2).mean(1)
    products = products + ridge[:, None, None] * torch.eye(terms.shape[2], dtype=terms.dtype, device=terms.device)
    return torch.linalg.solve(products, torch.einsum("rpi,r->pi", terms, y))


def relative_error(found: Float[Tensor, "rows pairs"], y: Float[Tensor, " rows"]) -> Float[Tensor, " pairs"]:
    """(3) The regularity criterion: squared error relative to the squares of y about its mean."""
    return (found - y[:, None]).square().sum(0) / (y - y.mean()).square().sum()


def within(found: Float[Tensor, "rows pairs"], y: Float[Tensor, " observations"]) -> Float[Tensor, "rows pairs"]:
    """Clamp `found` to the range of `y`, with the mean of `y` in place of NaN."""
    return torch.where(found.isnan(), y.mean(), found).clamp(y.min(), y.max())


def grown(
    fit: Rows, check: Rows, best: float, model: Layered
) -> tuple[Int[Tensor, "units 2"], Float[Tensor, "units 6"], Float[Tensor, " units"]]:
    """Grow one more layer over the units `fit[0]` [rows, units], to predict `fit[1]`, selecting among all pairs.

    Returns the surviving pairs, their coefficients and their criterion on `check`, best first. If the network stops by
    itself, only pairs below `best` survive.
    """
    first, second = torch.triu_indices(fit[0].shape[1], fit[0].shape[1], 1, device=fit[0].device)
    coefficients = least_squares(quadratic_terms(fit[0][:, first], fit[0][:, second]), fit[1])
    checked = quadratic_terms(check[0][:, first], check[0][:, second])
    criterion = relative_error((checked * coefficients).sum(2), check[1])
    # A stable sort keeps ties in the same order on every machine.
    kept = criterion.argsort(stable=True)[: model.width]
    if model.stops:
        kept = kept[criterion[kept] < best * (1 - model.improvement)]
    return torch.stack([first, second], 1)[kept], coefficients[kept], criterion[kept]


def complete_polynomial(
    x: Float[Tensor, "rows inputs"],
    y: Float[Tensor, " rows"],
    at: Float[Tensor, "others inputs"],
    degree: int,
    ridge: float,
) -> Float[Tensor, " others"]:
    """Ridge regression on all terms up to `degree`, by the kernel (1 + x·z / inputs)^degree, at the rows of `at`."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (1 + a @ b.T / x.shape[1]) ** degree

    inner = kernel(x, x) + ridge * torch.eye(len(x), dtype=x.dtype, device=x.device)
    return y.mean() + kernel(at, x) @ torch.linalg.solve(inner, y - y.mean())


# --- data -------------------------------------------------------------------------------------------------------------

Rows = tuple[Tensor, Tensor]
"""Inputs [rows, inputs] and y [rows], float64."""


@dataclass
class Data:
    """Observations of one object."""

    fit: Rows
    check: Rows
    test: Rows
    relevant: set[int] | None = None
    """Inputs that it depends on, if known."""

    @property
    def both(self) -> Rows:
        """Training and checking sequence together."""
        return torch.cat([self.fit[0], self.check[0]]), torch.cat([self.fit[1], self.check[1]])

    def move(self, device: torch.device) -> None:
        """Move the observations to a device."""
        self.fit, self.check, self.test = [(x.to(device), y.to(device)) for x, y in (self.fit, self.check, self.test)]


def tree_data(problem: Tree, seed: int, replicate: int) -> Data:
    """Draw observations of a polynomial that is a tree of `_node`s."""
    rng = np.random.default_rng([seed, replicate, problem.degree])
    sizes = [problem.fit, problem.check, problem.test]
    x = rng.uniform(-1, 1, (sum(sizes), problem.inputs))
    relevant = {int(i) for i in rng.permutation(problem.inputs)[: problem.degree]}
    values = [x[:, i] for i in sorted(relevant)]
    while len(values) > 1:
        values = [_node(u, v, rng) for u, v in zip(values[::2], values[1::2], strict=True)]
    # Noise only on the fitted and checked rows; the test rows are exact.
    noise = np.r_[rng.normal(size=sum(sizes) - problem.test), np.zeros(problem.test)]
    y = torch.tensor(values[0] + problem.noise * noise)
    fit, check, test = zip(torch.tensor(x).split(sizes), y.split(sizes), strict=True)
    return Data(fit, check, test, relevant)


def _node(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """b1 u + b2 v + b3 u v with each |b| in [0.5, 1.5], scaled to mean 0 and variance 1."""
    b = rng.uniform(0.5, 1.5, 3) * rng.choice([-1.0, 1.0], 3)
    value = b[0] * u + b[1] * v + b[2] * u * v
    # Standardised at each node, or products of products would vanish or dominate.
    return (value - value.mean()) / value.std()


def digits_data(folder: Path, problem: Digits, seed: int, replicate: int) -> Data:
    """Draw two digits, with images to fit and check from the training set, and to test from the test set."""
    rng = np.random.default_rng([seed, replicate])
    pair = rng.permutation(10)[:2]
    seen = problem.fit + problem.check

    def rows(split: Literal["train", "test"], count: int) -> Rows:
        images, labels = open_images(folder, split)
        places = rng.permutation(np.flatnonzero(np.isin(labels, pair)))[:count]
        side = images.shape[1] // problem.square
        squares = images[places].reshape(len(places), side, problem.square, side, problem.square)
        # To [-1, 1], the range of the other problem's inputs.
        x = squares.mean((2, 4)).reshape(len(places), -1) / 127.5 - 1
        return torch.tensor(x), torch.tensor(np.where(labels[places] == pair[0], 1.0, -1.0))

    held_out = problem.scored_on == "train"
    x, y = rows("train", seen + held_out * problem.test)
    scored = (x[seen:], y[seen:]) if held_out else rows("test", problem.test)
    return Data((x[: problem.fit], y[: problem.fit]), (x[problem.fit : seen], y[problem.fit : seen]), scored)


# --- training ---------------------------------------------------------------------------------------------------------


def Task(run: Run, config: Config) -> PolynomialTask:  # noqa: N802 (the contract's name; it makes one)
    """Build the task of the arm's model."""
    match config.model:
        case Layered() as model:
            return LayeredTask(run, config, model)
        case Complete() as model:
            return CompleteTask(run, config, model)


class PolynomialTask(task.Task):
    """Processes one object after another."""

    log_every = 1

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config

    def load_data(self) -> None:
        """Open the objects of this seed, the same for every arm of a problem."""
        problem, seed = self.config.problem, self.run.seed
        self.data = [
            tree_data(problem, seed, index)
            if isinstance(problem, Tree)
            else digits_data(self.run.data / "digits", problem, seed, index)
            for index in range(self.config.replicates)
        ]

    def on_train_start(self) -> None:
        """Move the data to the network's device."""
        super().on_train_start()
        for one in self.data:
            one.move(self.device)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """None: least squares takes no steps."""
        return []

    def found(self, index: int, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows 1"]:
        """Return the model's y at the rows of `x`, clamped to the range of the fitted y."""
        raise NotImplementedError

    def errors(self, index: int, fitted: Rows) -> dict[str, float]:
        """Squared error relative to the variance of y, on the fitted rows and on the test rows."""
        pairs = {"train_error": fitted, "test_error": self.data[index].test}
        return {name: float(relative_error(self.found(index, x), y)) for name, (x, y) in pairs.items()}


class LayeredTask(PolynomialTask):
    """One step grows one layer, for every object whose network still grows."""

    x_axis = "layer"

    def __init__(self, run: Run, config: Config, model: Layered) -> None:
        super().__init__(run, config)
        self.model = model
        self.networks = Networks(model, config.replicates)

    @property
    def total_steps(self) -> int:
        """Largest number of layers."""
        return self.model.layers

    def sequences(self, data: Data) -> tuple[Rows, Rows]:
        """Return the rows that are fitted, and the rows that the criterion is measured on."""
        return (data.fit, data.check) if self.model.criterion == "external" else (data.both, data.both)

    def criterion(self, index: int) -> float:
        """Criterion of the best unit so far; without units 1, the error of the mean."""
        if not self.networks.depth(index):
            # Without layers the network predicts the mean of y.
            return 1.0
        x, y = self.sequences(self.data[index])[1]
        # Units are sorted by the criterion: the first one is the network's output.
        return float(relative_error(self.networks.layers(x, index)[-1][:, :1], y))

    def found(self, index: int, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows 1"]:
        """Return the output of the best unit of the last layer, or the mean if there is no layer."""
        y = self.sequences(self.data[index])[0][1]
        if not self.networks.depth(index):
            return y.mean().expand(len(x), 1)
        return within(self.networks.layers(x, index)[-1][:, :1], y)

    @torch.no_grad()
    def update(self, step: int) -> dict[str, Tensor | float]:
        """Grow a layer on every network that grew one in the previous step."""
        rows = []
        for index, data in enumerate(self.data):
            fitted, checking = self.sequences(data)
            # A network with fewer layers stopped growing earlier.
            if self.networks.depth(index) == step:
                self.grow(index, step, fitted, checking)
            growing = float(self.networks.depth(index) == step + 1)
            rows.append({"loss": self.criterion(index), "growing": growing} | self.errors(index, fitted))
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def grow(self, index: int, layer: int, fitted: Rows, checking: Rows) -> None:
        """Store the surviving units, if any, in `layer` of the network."""
        units, seen = (self.networks.layers(x, index)[-1] for x, _ in (fitted, checking))
        # With a single survivor there is no pair to combine.
        if units.shape[1] < 2:
            return
        before = self.criterion(index)
        origins, coefficients, _ = grown((units, fitted[1]), (seen, checking[1]), before, self.model)
        self.networks.widths[index, layer] = len(origins)
        self.networks.origins[index, layer, : len(origins)] = origins
        self.networks.coefficients[index, layer, : len(origins)] = coefficients

    def evaluate(self) -> Evaluation:
        """Score depth, error, widths and the inputs used."""
        rows = [self.score(index) for index in range(len(self.data))]
        metrics = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        pictures: dict[str, Picture] = {"network": self.diagram(0), "criterion": self.curves()}
        if isinstance(self.config.problem, Digits):
            pictures["looks_at"] = self.looks_at(0)
        return Evaluation(metrics, pictures)

    def score(self, index: int) -> dict[str, float]:
        """Return the metrics of one network."""
        data, depth, widths = self.data[index], self.networks.depth(index), self.networks.widths[index]
        scores = self.errors(index, self.sequences(data)[0]) | {
            "depth": float(depth),
            "last_to_first_width": float(widths[depth - 1] / widths[0]) if depth else 1.0,
        }
        if isinstance(self.config.problem, Digits):
            x, y = data.test
            return scores | {"mistakes": float((self.found(index, x)[:, 0] * y <= 0).double().mean())}
        assert data.relevant is not None
        used = self.networks.ancestors(index)[0]
        return scores | {
            "depth_found": float(2**depth == self.config.problem.degree),
            "inputs_found": len(used & data.relevant) / len(data.relevant),
            "inputs_needless": float(len(used - data.relevant)),
        }

    def diagram(self, index: int) -> Picture:
        """Draw the network: inputs on the left, then each layer's survivors; what the output depends on is coloured."""
        depth, used = self.networks.depth(index), self.networks.ancestors(index)
        widths = [self.data[index].fit[0].shape[1], *self.networks.widths[index, :depth].tolist()]
        figure, [axes] = blank(min(1.2 + 0.16 * max(widths), 5.0))

        def place(layer: int, unit: int) -> tuple[float, float]:
            return layer, (widths[layer] - 1) / 2 - unit

        lines = [
            (place(layer - 1, origin), place(layer, unit))
            for layer in range(1, depth + 1)
            for unit in used[layer]
            for origin in self.networks.origins[index, layer - 1, unit].tolist()
        ]
        axes.add_collection(LineCollection(lines, colors=ORANGE, linewidths=1.2, zorder=1))
        units = [(layer, unit) for layer in range(depth + 1) for unit in range(widths[layer])]
        for name, colour, wanted in (("survived", GREY, False), ("in use", ORANGE, True)):
            kept = np.array([place(*one) for one in units if (one[1] in used[one[0]]) == wanted]).reshape(-1, 2)
            axes.scatter(*kept.T, s=300 / max(*widths, 12), color=colour, label=name, zorder=2)
        if widths[0] <= 16:
            for unit in range(widths[0]):
                axes.annotate(
                    f"x{unit + 1}", place(0, unit), (-8, 0), textcoords="offset points", ha="right", va="center"
                )
        axes.set(yticks=[], title="the network that was grown")
        axes.set_xticks(range(depth + 1), ["inputs", *(f"layer {layer}" for layer in range(1, depth + 1))])
        axes.margins(x=0.15)
        axes.spines[:].set_visible(False)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        return drawn(figure)

    def curves(self) -> Picture:
        """Plot the means of criterion, fit error and test error by layer."""
        named = {"criterion": "loss", "fit": "train_error", "test": "test_error"}
        lines = {
            label: (range(len(self.history) + 1), [1.0, *(row[name] for row in self.history)])
            for label, name in named.items()
        }
        return charts(Chart("error, of the variance of y", lines, x="layers grown", bounds=(0, 1.05)))

    def looks_at(self, index: int) -> Picture:
        """Show where the two digits differ on average, with frames around the inputs that the network uses."""
        x, y = self.data[index].fit
        difference = (x[y > 0].mean(0) - x[y < 0].mean(0)).cpu().numpy()
        side = round(len(difference) ** 0.5)
        framed = [divmod(place, side) for place in sorted(self.networks.ancestors(index)[0])]
        return heat_map(
            difference.reshape(side, side), title="inputs in use (framed)", signed=True, framed=framed,
            scale="difference of mean brightness",
        )  # fmt: skip


class CompleteTask(PolynomialTask):
    """One step solves one system of equations for each object."""

    chosen: Tensor

    def __init__(self, run: Run, config: Config, model: Complete) -> None:
        super().__init__(run, config)
        self.model = model
        self.register_buffer("chosen", torch.zeros(config.replicates, dtype=torch.int64))

    @property
    def total_steps(self) -> int:
        """A single step."""
        return 1

    def fitted(self, rows: Rows, x: Float[Tensor, "others inputs"], ridge: float) -> Float[Tensor, "others 1"]:
        """Return the values at `x` of a fit to `rows`."""
        return within(complete_polynomial(*rows, x, self.model.degree, ridge)[:, None], rows[1])

    def found(self, index: int, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows 1"]:
        """Return the values of the fit to both sequences, with the chosen ridge."""
        return self.fitted(self.data[index].both, x, self.model.ridges[int(self.chosen[index])])

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Choose each object's ridge on its checking sequence."""
        best = []
        for index, data in enumerate(self.data):
            x, y = data.check
            errors = torch.stack([relative_error(self.fitted(data.fit, x, ridge), y) for ridge in self.model.ridges])
            self.chosen[index] = errors.argmin()
            best.append(float(errors.min()))
        return {"loss": float(np.mean(best))}

    def evaluate(self) -> Evaluation:
        """Score the errors, and plot the first object against the fit."""
        rows = [self.errors(index, data.both) for index, data in enumerate(self.data)]
        metrics = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        x, y = self.data[0].test
        points = torch.stack([y, self.found(0, x)[:, 0]], 1).cpu().numpy()
        picture = scatter(
            {"": points}, title="test observations", x="y", y="what the fit gives", bounds=((-3, 3), (-3, 3)),
            diagonal=True,
        )  # fmt: skip
        return Evaluation(metrics, {"found": picture})
