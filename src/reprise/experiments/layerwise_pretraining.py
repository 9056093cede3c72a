"""Reducing the Dimensionality of Data with Neural Networks. Hinton, Salakhutdinov. Science 313, 504-507 (2006),
https://doi.org/10.1126/science.1127647

Claimed: a deep autoencoder that starts from the weights of a stack of restricted Boltzmann machines, trained one after
another, reconstructs digits far better than principal components (Figure 2: squared error 3.00 per image, logistic PCA
8.01, standard PCA 13.87); "without pretraining, the very deep autoencoder always reconstructs the average of the
training data, even after prolonged fine-tuning" (p. 506); its codes of two numbers separate the digits better than the
first two principal components (Figure 3); pretraining helps a classifier to generalise, with 1.2 % errors instead of
1.6 %, "because most of the information in the weights comes from modelling the images" and little from labels (p. 507).

Deviations:
- At laptop scale, fine-tuning uses stochastic gradient descent with momentum. At paper scale it uses conjugate
  gradients with three line searches on each batch of 1,000, as in the released code (backprop.m, 200 epochs). The line
  search of that code, minimize.m, is rewritten here with the same conditions and constants, but in float32 and with
  cubic interpolation throughout.
- Logistic principal components are an autoencoder with one linear code layer and logistic pixels: its encoder is
  linear, whereas the paper may have optimised the code of each image.
- Curves, faces and newswire stories are not included, nor is document retrieval (Figure 4).
- The paper uses curves to show that a very deep autoencoder fails without pretraining; here a net with the same layers
  (784-400-200-100-50-25-6, arms `very_deep`) has to reconstruct digits. The same holds for its statement on shallow
  autoencoders (`shallow`, with as many parameters as `machines`). Every arm learns at its own best rate.
- The classifier is the autoencoder's own stack with a softmax on its last hidden layer, instead of a separate net with
  500, 500 and 2000 units; it also learns from 100 and 1,000 labels, to show where the gain is.
- Two arms are not in the paper: `scaled`, in which only the initial weights are larger (Glorot & Bengio 2010), and
  `modern` (ReLU, He et al. 2015, Adam). They show what replaced pretraining.
What a smaller scale changes is in params/layerwise_pretraining.yaml, and nowhere else.

Shapes: batch = images; 784 = 28 * 28 pixels; visible, hidden = units of a machine; code = numbers in an image's code.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Failed, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.image_set import ImageSet, unit_pixels
from reprise.parts.data.sampling import EpochSampler, subset
from reprise.parts.data.small_images import tensors
from reprise.parts.data.store import open_images
from reprise.parts.metrics import classification_scores, in_blocks
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.classifiers import hidden_layers, mlp
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import scatter, sheet, weight_sheet
from reprise.parts.training import InTurn, Schedule
from reprise.parts.vocabulary import Count

PIXELS, CLASSES = 28 * 28, 10


class Stack(Strict):
    """An encoder, its mirror image as decoder, and the machines that both may start from."""

    kind: Literal["autoencoder"]
    hidden: list[Count]
    """Units in the encoder's hidden layers; [] gives logistic principal components."""
    code: Count
    """Units in the code layer, which is linear."""
    activation: vocabulary.Activation = "sigmoid"
    normalization: vocabulary.Normalization = "none"
    dropout: vocabulary.Dropout = 0.0
    """Fraction of the hidden layers' units dropped."""
    init: vocabulary.Initialization
    """Initial weights of the machines, or of the nets if there are no machines."""


class Components(Strict):
    """Baseline: the first principal components of the training images."""

    kind: Literal["pca"]
    code: Annotated[int, Field(ge=1, le=PIXELS)]


class Pretraining(Strict):
    """Contrastive divergence, one machine after another."""

    duration: DurationField
    """Length of training of each machine; with 0step, nets start from `model.init`."""
    batch_size: Count
    optimizer: vocabulary.Optimizer
    """The optimiser of the machines; its weight decay does not apply to biases."""
    code_lr: vocabulary.Rate
    """Learning rate of the last machine, whose hidden units are linear, instead of optimizer.lr."""
    first_momentum: vocabulary.Fraction
    """Momentum during the first updates of each machine, under sgd."""
    first: DurationField
    """Length of the period with `first_momentum`."""


class Training(Strict):
    """One net trained by gradient descent."""

    duration: DurationField
    batch_size: Count
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT


class ConjugateGradients(Strict):
    """Conjugate gradients: line searches determine the step size, so there is no learning rate."""

    kind: Literal["conjugate_gradients"]
    searches: Count
    """Line searches per batch."""


class AutoencoderTraining(Training):
    """Training of the autoencoder, by gradient descent or by line searches."""

    optimizer: Annotated[vocabulary.Optimizer | ConjugateGradients, Field(discriminator="kind")]


class Finetuning(Strict):
    """The autoencoder, and a classifier for each number of labels; each starts from the machines."""

    autoencoder: AutoencoderTraining
    classifier: Training
    labels: list[Count]
    """Numbers of labelled images. papers/layerwise_pretraining.yaml has to list label_error_<number> for each."""


class Config(ExperimentConfig):
    """Hinton & Salakhutdinov 2006 on MNIST."""

    model: Annotated[Stack | Components, Field(discriminator="kind")]
    images: Annotated[int, Field(ge=1, le=60_000)]
    """Number of training images, drawn by the seed; rates are tuned on the last 10,000."""
    test: Annotated[int, Field(ge=10, le=10_000)]
    """Number of test images to score."""
    pretrain: Pretraining
    finetune: Finetuning

    @model_validator(mode="after")
    def _labels_have_a_layer(self) -> Config:
        if isinstance(self.model, Stack) and not self.model.hidden and self.finetune.labels:
            raise ValueError("a classifier stands on the last hidden layer: without one, expected labels: []")
        return self


# Networks


class Machine(nn.Module):
    """A restricted Boltzmann machine whose hidden units are logistic, or linear with noise of variance 1."""

    def __init__(self, visible: int, hidden: int, linear: bool, init: vocabulary.Initialization) -> None:
        super().__init__()
        self.up = nn.Linear(visible, hidden)
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.linear = linear
        initialize_(self.up, init)

    def hidden(self, visible: Float[Tensor, "batch visible"]) -> Float[Tensor, "batch hidden"]:
        """Return the hidden means: the logistic of b_j + Σ v_i w_ij, or that sum itself."""
        total = self.up(visible)
        return total if self.linear else total.sigmoid()

    def visible(self, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch visible"]:
        """Return the probabilities that pixels, or units of the layer below, are on."""
        return functional.linear(hidden, self.up.weight.T, self.visible_bias).sigmoid()

    def free_energy(self, visible: Float[Tensor, "batch visible"]) -> Float[Tensor, " batch"]:
        """Return -log Σ_h exp(-E(v, h)), with E from Equation 1; its derivative by w_ij is -v_i <h_j>."""
        total = self.up(visible)
        hidden = 0.5 * total.square() if self.linear else functional.softplus(total)
        return -(visible @ self.visible_bias) - hidden.sum(1)

    def reconstruct(self, visible: Float[Tensor, "batch visible"]) -> Float[Tensor, "batch visible"]:
        """Return the visible means for hidden states drawn at random."""
        mean = self.hidden(visible)
        return self.visible(mean + torch.randn_like(mean) if self.linear else mean.bernoulli())


def contrastive_divergence(
    machine: Machine, data: Float[Tensor, "batch visible"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the loss of contrastive divergence and the squared error of the reconstruction.

    The derivative of the loss by w_ij is -(<v_i h_j>data - <v_i h_j>recon): Equation 2.
    """
    with torch.no_grad():
        # Constant, so that the gradient of the loss is Equation 2 and does not go through the sampling.
        recon = machine.reconstruct(data)
    loss = (machine.free_energy(data) - machine.free_energy(recon)).mean()
    return loss, (recon - data).square().sum(1).mean()


class Autoencoder(nn.Module):
    """The unrolled machines: an encoder to a linear code, and a decoder to the logits of pixels."""

    def __init__(self, model: Stack) -> None:
        super().__init__()
        kinds = model.activation, model.normalization, model.dropout
        self.encoder = nn.Sequential(*mlp(PIXELS, model.hidden, model.code, *kinds))
        self.decoder = nn.Sequential(*mlp(model.code, model.hidden[::-1], PIXELS, *kinds))
        initialize_(self, model.init)

    def forward(self, images: Float[Tensor, "batch 784"]) -> Float[Tensor, "batch 784"]:
        """Return the logits of the reconstruction."""
        return self.decoder(self.encoder(images))

    @torch.no_grad()
    def unroll_(self, machines: Sequence[Machine]) -> Autoencoder:
        """Take every machine's weights twice, upwards in the encoder and downwards in the decoder (Figure 1)."""
        for machine, layer in zip(machines, linear_layers(self.encoder), strict=True):
            copy_(layer, machine.up.weight, machine.up.bias)
        for machine, layer in zip(reversed(machines), linear_layers(self.decoder), strict=True):
            copy_(layer, machine.up.weight.T, machine.visible_bias)
        return self


class Classifier(nn.Module):
    """The encoder's hidden layers, without the code, and a softmax layer on top."""

    def __init__(self, model: Stack) -> None:
        super().__init__()
        kinds = model.activation, model.normalization, model.dropout
        self.body = nn.Sequential(*hidden_layers(PIXELS, model.hidden, *kinds))
        self.head = nn.Linear(model.hidden[-1], CLASSES)
        initialize_(self, model.init)

    def forward(self, images: Float[Tensor, "batch 784"]) -> Float[Tensor, "batch classes"]:
        """Return the logits of the digits."""
        return self.head(self.body(images))

    @torch.no_grad()
    def unroll_(self, machines: Sequence[Machine]) -> Classifier:
        """Take the weights of all machines except the last."""
        for machine, layer in zip(machines[:-1], linear_layers(self.body), strict=True):
            copy_(layer, machine.up.weight, machine.up.bias)
        return self


class PrincipalComponents(nn.Module):
    """The best linear autoencoder, as buffers set by `fit`."""

    mean: Tensor
    basis: Tensor

    def __init__(self, code: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(PIXELS))
        self.register_buffer("basis", torch.zeros(code, PIXELS))

    def fit(self, images: Float[Tensor, "n 784"]) -> None:
        """Compute the components from the covariance of all images."""
        centred = images - images.mean(0)
        # In float64; eigh sorts eigenvalues in ascending order, so the first components come last.
        axes = torch.linalg.eigh((centred.T @ centred).double()).eigenvectors
        self.mean.copy_(images.mean(0))
        self.basis.copy_(axes.T.flip(0)[: len(self.basis)])

    def encode(self, images: Float[Tensor, "batch 784"]) -> Float[Tensor, "batch code"]:
        """Return the coordinates along the components."""
        return (images - self.mean) @ self.basis.T

    def forward(self, images: Float[Tensor, "batch 784"]) -> Float[Tensor, "batch 784"]:
        """Return reconstructions, whose pixels may lie outside [0, 1]."""
        return self.encode(images) @ self.basis + self.mean


def linear_layers(net: nn.Module) -> list[nn.Linear]:
    """Return the linear layers of `net`, in order."""
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


def copy_(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Set both parameters of `layer`."""
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


def machines(model: Stack) -> nn.ModuleList:
    """Build one machine for each layer of the encoder; the last one is linear."""
    widths = [PIXELS, *model.hidden, model.code]
    pairs = list(itertools.pairwise(widths))
    return nn.ModuleList(Machine(v, h, i == len(pairs) - 1, model.init) for i, (v, h) in enumerate(pairs))


def listed(stack: nn.ModuleList) -> list[Machine]:
    """Return the machines of a stack, from the pixels up."""
    return [machine for machine in stack if isinstance(machine, Machine)]


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the networks of both stages."""
    if isinstance(config.model, Components):
        return {"components": PrincipalComponents(config.model.code)}
    classifiers = {f"classifier_{count}": Classifier(config.model) for count in config.finetune.labels}
    return {"machines": machines(config.model), "autoencoder": Autoencoder(config.model), **classifiers}


# Objective and measures


def reconstruction_loss(logits: Float[Tensor, "batch 784"], images: Float[Tensor, "batch 784"]) -> Float[Tensor, ""]:
    """Return -Σ p log p̂ - Σ (1 - p) log(1 - p̂) over pixels, as a mean over images, in nats (p. 506)."""
    return functional.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)


def squared_error(found: Float[Tensor, "n 784"], images: Float[Tensor, "n 784"]) -> float:
    """Return the sum over pixels, as a mean over images: the unit of the paper's numbers."""
    return float((found - images).square().sum(1).mean())


def neighbour_error(codes: Float[Tensor, "n code"], labels: Int[Tensor, " n"], neighbours: int = 5) -> float:
    """Return the percentage of codes whose nearest neighbours have a majority of another digit.

    The lowest digit wins ties.
    """
    wrong = 0
    # In blocks: all distances between 10,000 codes take 400 MB.
    for start in range(0, len(codes), 1000):
        distances = torch.cdist(codes[start : start + 1000], codes)
        own = torch.arange(len(distances))
        # A code is not its own neighbour.
        distances[own, own + start] = float("inf")
        nearest = labels[distances.topk(neighbours, largest=False).indices]
        votes = functional.one_hot(nearest, CLASSES).sum(1).argmax(1)
        wrong += int(votes.ne(labels[start : start + 1000]).sum())
    return 100 * wrong / len(codes)


# Conjugate gradients


class Point(NamedTuple):
    """A point on the line that is searched."""

    step: float
    value: float
    slope: float
    gradient: Float[Tensor, " weights"] | None = None


class LineSearches(torch.optim.Optimizer):
    """Conjugate gradients, restarted on each batch, as the released code calls Rasmussen's minimize.m.

    Directions are Polak and Ribière's. A line search ends where Wolfe's conditions hold: the loss has fallen by at
    least 0.05 of what the initial slope promises, and the slope is at most a tenth of the initial one.
    """

    FALL, SLOPE = 0.05, 0.1
    EVALUATIONS = 20
    """Largest number of loss evaluations in one line search."""

    def __init__(self, module: nn.Module, searches: int) -> None:
        super().__init__(module.parameters(), {})
        self.searches = searches

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Make line searches on the batch of `closure`, which gives loss and gradients; return the loss before them."""
        here = nn.utils.parameters_to_vector(self.weights)
        before, gradient = self.evaluate(here, closure)
        value, direction, failed = float(before), -gradient, False
        # The first step of minimize.m, 1 / (1 + |slope|).
        step = 1 / (1 + float(gradient @ gradient))
        for _ in range(self.searches):
            start = Point(0.0, value, float(gradient @ direction), gradient)
            if not start.slope < 0:  # at a minimum, or not finite
                break
            found, holds = self.search(start, here, direction, step, closure)
            assert found.gradient is not None
            here, value = here + found.step * direction, found.value
            if holds:
                change = float(found.gradient @ found.gradient - gradient @ found.gradient)
                # Polak and Ribière's formula.
                direction = change / float(gradient @ gradient) * direction - found.gradient
                gradient = found.gradient
                # Not a descent direction, or NaN: start again from the gradient.
                if not float(gradient @ direction) < 0:
                    direction = -gradient
                # Keeps the quotient of slopes finite; the step grows at most tenfold from search to search.
                slope = min(float(gradient @ direction), -1e-30)
                step = found.step * min(10.0, start.slope / slope)
            elif failed:
                break
            else:  # one more try, along the gradient of the best point seen
                gradient, direction = found.gradient, -found.gradient
                step = 1 / (1 + float(gradient @ gradient))
            failed = not holds
        self.move(here)
        return before

    @property
    def weights(self) -> list[Tensor]:
        """All weights of the module."""
        return self.param_groups[0]["params"]

    @torch.no_grad()
    def move(self, where: Float[Tensor, " weights"]) -> None:
        """Set the module's weights."""
        pieces = where.split([weight.numel() for weight in self.weights])
        for weight, piece in zip(self.weights, pieces, strict=True):
            weight.copy_(piece.view_as(weight))

    def evaluate(
        self, where: Float[Tensor, " weights"], closure: Callable[[], Tensor]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " weights"]]:
        """Return the loss and the gradient at `where`."""
        self.move(where)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        return loss.detach(), torch.cat([weight.grad.flatten() for weight in self.weights if weight.grad is not None])

    def search(
        self,
        start: Point,
        here: Float[Tensor, " weights"],
        direction: Float[Tensor, " weights"],
        step: float,
        closure: Callable[[], Tensor],
    ) -> tuple[Point, bool]:
        """Search along `direction`: return a point that satisfies Wolfe's conditions, or the lowest; and which."""
        before, low, high, lowest = start, start, None, start
        for _ in range(self.EVALUATIONS):
            loss, gradient = self.evaluate(here + step * direction, closure)
            found = Point(step, float(loss), float(gradient @ direction), gradient)
            # Too long a step may overflow; it counts as an upper end of the bracket.
            finite = math.isfinite(found.value) and math.isfinite(found.slope)
            if finite and found.value < lowest.value:
                lowest = found
            short = not finite or found.value > min(start.value + self.FALL * step * start.slope, low.value)
            if not short and abs(found.slope) <= -self.SLOPE * start.slope:
                return found, True
            if short or found.slope > 0:
                high = found
            else:
                before, low = low, found
            step = beyond(before, low) if high is None else between(low, high)
        return lowest, False


def between(low: Point, high: Point) -> float:
    """Return the cubic's minimum, at least a tenth of the bracket from either end; the middle if there is none."""
    step, width = lowest_of_cubic(low, high), high.step - low.step
    return (
        min(max(step, low.step + 0.1 * width), high.step - 0.1 * width) if math.isfinite(step) else low.step + width / 2
    )


def beyond(before: Point, last: Point) -> float:
    """Return the cubic's minimum if it is further on, but at most three times as far; otherwise three times as far."""
    step, least, most = lowest_of_cubic(before, last), 1.1 * last.step - 0.1 * before.step, 3 * last.step
    return min(max(step, least), most) if step > last.step else most


def lowest_of_cubic(a: Point, b: Point) -> float:
    """Return where the cubic with these two values and slopes has its minimum; NaN if it has none."""
    width = b.step - a.step
    mean = a.slope + b.slope - 3 * (b.value - a.value) / width
    square = mean * mean - a.slope * b.slope
    if not square >= 0:
        return math.nan
    root = math.copysign(math.sqrt(square), width)
    below = b.slope - a.slope + 2 * root
    return b.step - width * (b.slope + root - mean) / below if below else math.nan


# Tasks


def Task(run: Run, config: Config) -> DigitsTask:  # noqa: N802 (the contract's name; it makes one)
    """Build the task for the run's stage and model."""
    if run.stage == "pretrain":
        return PretrainingTask(run, config)
    return ComponentsTask(run, config) if isinstance(config.model, Components) else FinetuningTask(run, config)


class DigitsTask(task.Task):
    """MNIST's pixels, on the device with the model."""

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config

    def load_data(self) -> None:
        """Load the training images drawn by the seed as rows of bytes, and the test images with pixels in [0, 1]."""
        train, test = (open_images(self.run.data / "digits", split) for split in ("train", "test"))
        learnt = subset(len(train.images), self.config.images, self.run.seed)
        self.train_set = ImageSet(*tensors(train, learnt)).mapped(lambda images: images.flatten(1))
        self.test_set = ImageSet(*tensors(test, slice(self.config.test))).mapped(unit_pixels)

    def batch(self, indices: Tensor) -> Float[Tensor, "batch 784"]:
        """Return training images with pixels in [0, 1]."""
        return self.train_set.images[indices].float().div_(255)


class PretrainingTask(DigitsTask):
    """A stack of machines, each learning from the hidden means of the one below; empty for principal components."""

    log_every = 50

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        model = config.model
        self.machines = machines(model) if isinstance(model, Stack) else nn.ModuleList()

    def load_data(self) -> None:
        """Load the data, and the order of batches, which all machines share."""
        super().load_data()
        self.sampler = EpochSampler(len(self.train_set), self.config.pretrain.batch_size, self.run.seed)
        self.length = self.config.pretrain.duration.steps(self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        """Number of updates of all machines."""
        return self.length * len(self.machines)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build two optimisers for each machine, for its weights and for its biases."""
        found = []
        for machine, settings in zip(listed(self.machines), self.settings(), strict=True):
            no_decay = settings.model_copy(update={"weight_decay": 0.0})
            found.append(build_optimizer([machine.up.weight], settings))
            found.append(build_optimizer([machine.up.bias, machine.visible_bias], no_decay))
        return found

    def settings(self) -> list[vocabulary.Optimizer]:
        """Return the optimiser of each machine; the last has its own rate."""
        common = self.config.pretrain.optimizer
        code = common.model_copy(update={"lr": self.config.pretrain.code_lr})
        return [*[common] * (len(self.machines) - 1), code][: len(self.machines)]

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Take one step of contrastive divergence (Equation 2)."""
        index, own_step = divmod(step, self.length)
        data = self.batch(self.sampler.indices(own_step, self.rank, self.world_size))
        *below, machine = listed(self.machines)[: index + 1]
        with torch.no_grad():
            for done in below:
                # Means instead of samples: less noise for the next machine.
                data = done.hidden(data)
        settings = self.settings()[index]
        of_weights, of_biases = self.raw_optimizers[2 * index : 2 * index + 2]
        for group in (*of_weights.param_groups, *of_biases.param_groups):
            group["lr"] = settings.lr
            if isinstance(settings, vocabulary.SGD):
                early = own_step < self.config.pretrain.first.steps(self.sampler.steps_per_epoch)
                group["momentum"] = self.config.pretrain.first_momentum if early else settings.momentum
        loss, error = contrastive_divergence(machine, data)
        of_biases.zero_grad(set_to_none=True)
        self.descend(loss, of_weights, settings)
        # The backward pass in `descend` has also computed the gradients of the biases.
        of_biases.step()
        return {f"machine_{index + 1}_error": error}

    def evaluate(self) -> Evaluation:
        """Return no metrics: machines are judged by what is unrolled from them."""
        return Evaluation({})


class FinetuningTask(DigitsTask):
    """The unrolled autoencoder, then classifiers with few and with many labels."""

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        assert isinstance(config.model, Stack)
        self.model = config.model
        self.autoencoder = Autoencoder(config.model)
        self.classifiers = nn.ModuleDict({str(count): Classifier(config.model) for count in config.finetune.labels})

    def load_data(self) -> None:
        """Load the data, and the machines if any; labelled images are nested subsets that depend only on the seed."""
        super().load_data()
        finetune = self.config.finetune
        if self.run.init is not None and self.config.pretrain.duration.amount > 0:
            stack = machines(self.model)
            state = load_file(self.run.init)
            # The weights of the first stage were saved by its task, under its names.
            stack.load_state_dict({name.removeprefix("machines."): value for name, value in state.items()})
            learnt = listed(stack)
            self.autoencoder.unroll_(learnt)
            for classifier in self.classifiers.values():
                assert isinstance(classifier, Classifier)
                classifier.unroll_(learnt)
        if max(finetune.labels, default=0) > len(self.train_set):
            raise ValueError(f"labels has {max(finetune.labels)}; expected at most {len(self.train_set)}, all images")
        # Beginnings of one permutation: each set of labelled images includes the smaller ones.
        self.order = torch.from_numpy(np.random.default_rng(self.run.seed).permutation(len(self.train_set)))
        sizes = [len(self.train_set), *finetune.labels]
        self.trainings = [finetune.autoencoder, *[finetune.classifier] * len(finetune.labels)]
        self.samplers = [
            EpochSampler(size, min(training.batch_size, size), self.run.seed)
            for size, training in zip(sizes, self.trainings, strict=True)
        ]
        self.schedules = [
            Schedule.of(training, sampler.steps_per_epoch)
            for training, sampler in zip(self.trainings, self.samplers, strict=True)
        ]
        self.in_turn = InTurn([schedule.total_steps for schedule in self.schedules])

    @property
    def total_steps(self) -> int:
        """Number of updates of all nets."""
        return self.in_turn.total_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build the optimisers of the autoencoder and of the classifiers."""
        how = self.config.finetune.autoencoder.optimizer
        if isinstance(how, ConjugateGradients):
            if self.world_size > 1:
                raise Failed("line searches of the autoencoder run on one device, not on several")
            first = LineSearches(self.autoencoder, how.searches)
        else:
            first = build_optimizer(self.autoencoder, how)
        settings = self.config.finetune.classifier.optimizer
        return [first, *(build_optimizer(net, settings) for net in self.classifiers.values())]

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Take one step of the net in turn, or all line searches on one batch of images."""
        index, own_step = self.in_turn.at(step)
        chosen = self.samplers[index].indices(own_step, self.rank, self.world_size)
        optimizer, scale = self.raw_optimizers[index], self.schedules[index].at(own_step)
        if index > 0:
            count = self.config.finetune.labels[index - 1]
            chosen = self.order[chosen]
            logits = self.classifiers[str(count)](self.batch(chosen))
            loss = functional.cross_entropy(logits, self.train_set.labels[chosen])
            self.descend(loss, optimizer, self.config.finetune.classifier.optimizer, scale)
            return {f"label_loss_{count}": loss.detach()}
        images, settings = self.batch(chosen), self.config.finetune.autoencoder.optimizer
        if isinstance(settings, ConjugateGradients):

            def closure() -> Tensor:
                loss = reconstruction_loss(self.autoencoder(images), images)
                self.manual_backward(loss)
                return loss

            return {"loss": optimizer.step(closure)}  # type: ignore[arg-type]
        loss = reconstruction_loss(self.autoencoder(images), images)
        self.descend(loss, optimizer, settings, scale)
        return {"loss": loss.detach()}

    def evaluate(self) -> Evaluation:
        """Measure errors by number of labels; if the autoencoder was trained, also reconstructions and codes."""
        test, labels = self.test_set[:]
        errors = {
            int(count): classification_scores(in_blocks(net, test), labels).error
            for count, net in self.classifiers.items()
        }
        metrics = {f"label_error_{count}": error for count, error in errors.items()}
        if len(errors) > 1:
            metrics["few_labels_cost"] = errors[min(errors)] - errors[max(errors)]
        # Without an autoencoder, there is only the first layer of a classifier to show.
        if not self.schedules[0].total_steps:
            return Evaluation(metrics, {"filters": weight_sheet(linear_layers(self.classifiers)[0].weight[:100])})
        found = in_blocks(lambda some: self.autoencoder(some).sigmoid(), test)
        codes = in_blocks(self.autoencoder.encoder, test)
        train = self.batch(torch.arange(min(len(self.train_set), 10_000)))
        learnt = in_blocks(lambda some: self.autoencoder(some).sigmoid(), train)
        metrics |= reconstruction_metrics(test, found, train, learnt) | {"code_error": neighbour_error(codes, labels)}
        filters = linear_layers(self.autoencoder.encoder)[0].weight[:100]
        return Evaluation(metrics, pictures(test, found, codes, labels, filters))


class ComponentsTask(DigitsTask):
    """Principal components, computed in one update."""

    log_every = 1

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        assert isinstance(config.model, Components)
        self.components = PrincipalComponents(config.model.code)

    @property
    def total_steps(self) -> int:
        """One update."""
        return 1

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build none: principal components need no gradient."""
        return []

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Compute the components of all images."""
        images = unit_pixels(self.train_set.images)
        self.components.fit(images)
        return {"squared_error": squared_error(self.components(images), images)}

    def evaluate(self) -> Evaluation:
        """Measure reconstructions and codes."""
        test, labels = self.test_set[:]
        train = self.batch(torch.arange(min(len(self.train_set), 10_000)))
        found, codes = self.components(test), self.components.encode(test)
        metrics = reconstruction_metrics(test, found, train, self.components(train))
        metrics["code_error"] = neighbour_error(codes, labels)
        return Evaluation(metrics, pictures(test, found, codes, labels, self.components.basis))


def reconstruction_metrics(
    test: Float[Tensor, "n 784"],
    test_found: Float[Tensor, "n 784"],
    train: Float[Tensor, "m 784"],
    train_found: Float[Tensor, "m 784"],
) -> dict[str, float]:
    """Return squared errors per image, and the share of the mean image's error removed on training images."""
    train_error = squared_error(train_found, train)
    of_the_mean = squared_error(train.mean(0).expand_as(train), train)
    return {
        "test_squared_error": squared_error(test_found, test),
        "train_squared_error": train_error,
        "explained": 1 - train_error / of_the_mean,
    }


# Pictures


def pictures(
    test: Float[Tensor, "n 784"],
    found: Float[Tensor, "n 784"],
    codes: Float[Tensor, "n code"],
    labels: Int[Tensor, " n"],
    filters: Float[Tensor, "units 784"],
) -> dict[str, Picture]:
    """Draw Figures 2 and 3, and the filters of the first layer.

    Figure 2 is the first image of each digit over its reconstruction; Figure 3 the codes of 1,000 images, by digit.
    Codes of more than two numbers are projected onto their first two principal components.
    """
    firsts = torch.stack([labels.eq(digit).int().argmax() for digit in range(CLASSES)])
    some = codes[:1000] - codes[:1000].mean(0)
    if some.shape[1] > 2:
        some = some @ torch.linalg.eigh(some.T @ some).eigenvectors[:, -2:]
    return {
        "reconstructions": sheet(torch.cat([test[firsts], found[firsts].clamp(0, 1)])),
        "codes": code_chart(some.cpu().numpy(), labels[:1000].cpu().numpy()),
        "filters": weight_sheet(filters),
    }


def code_chart(codes: Float[np.ndarray, "n axes"], labels: Int[np.ndarray, " n"]) -> Picture:
    """Draw Figure 3: codes along one axis or two, coloured by digit; the outermost 2 % may be cut off."""
    points = codes if codes.shape[1] == 2 else np.repeat(codes, 2, axis=1)
    (left, bottom), (right, top) = np.percentile(points, [1, 99], axis=0).tolist()
    digits = {str(digit): points[labels == digit] for digit in range(CLASSES)}
    # Bounds must differ, even where all codes are equal.
    bounds = ((left, right + 1e-9), (bottom, top + 1e-9))
    return scatter(digits, title="codes of test images", x="first axis", y="second axis", bounds=bounds)
