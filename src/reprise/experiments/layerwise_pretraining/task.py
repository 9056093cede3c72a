"""Training and evaluation of both stages."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import Failed, Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation
from reprise.experiments.layerwise_pretraining.config import Components, Config, ConjugateGradients, Stack
from reprise.experiments.layerwise_pretraining.line_searches import LineSearches
from reprise.experiments.layerwise_pretraining.measures import (
    neighbour_error,
    reconstruction_loss,
    reconstruction_metrics,
    squared_error,
)
from reprise.experiments.layerwise_pretraining.networks import (
    Autoencoder,
    Classifier,
    PrincipalComponents,
    contrastive_divergence,
    linear_layers,
    listed,
    machines,
)
from reprise.experiments.layerwise_pretraining.pictures import pictures
from reprise.parts import vocabulary
from reprise.parts.data.image_set import ImageSet, unit_pixels
from reprise.parts.data.sampling import EpochSampler, subset
from reprise.parts.data.small_images import tensors
from reprise.parts.data.store import open_images
from reprise.parts.metrics import classification_scores, in_blocks
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import weight_sheet
from reprise.parts.training import InTurn, Schedule


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
