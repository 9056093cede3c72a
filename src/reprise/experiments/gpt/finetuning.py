"""GPT's second stage: each task, and each other way to tune, from the same pretrained weights, one after another."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional import classification

from reprise.core.contract import Run
from reprise.core.run.task import Evaluation, Picture, Task
from reprise.experiments.gpt import config as settings
from reprise.experiments.gpt.bag_of_words import predicted_by_words
from reprise.experiments.gpt.examples import Examples, read_examples
from reprise.experiments.gpt.model import Finetuned, LanguageModel
from reprise.experiments.gpt.pictures import layers_chart, writing_film
from reprise.experiments.gpt.pretraining import Progress, language_loss, next_tokens
from reprise.parts.optim import build_optimizer
from reprise.parts.scores import matthews_correlation, pearson_correlation
from reprise.parts.text import BucketSampler, Vocabulary, WordPiece, padded
from reprise.parts.training import InTurn, Schedule

_AT_ONCE = 128
_SUBSET = 1 << 62
"""Stream of the generator that draws training examples; the streams of epochs count from 0."""


class Way(NamedTuple):
    """One way to tune one task."""

    task: str
    variant: settings.Variant
    optimizer: settings.vocabulary.Optimizer


def ways_of(config: settings.Config) -> dict[str, Way]:
    """Return every tuning of a run by name: each task as the paper has it, and `<task>_<variant>`."""
    tasks = config.subtasks
    plain = settings.Variant(tasks=list(tasks))
    ways = {name: Way(name, plain, task.optimizer) for name, task in tasks.items()}
    for name, variant in config.variants.items():
        for task in variant.tasks:
            optimizer = tasks[task].optimizer
            if task in variant.lr:
                optimizer = optimizer.model_copy(update={"lr": variant.lr[task]})
            ways[f"{task}_{name}"] = Way(task, variant, optimizer)
    return ways


def task_loss(outputs: Float[Tensor, "batch outputs"], labels: Tensor) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the classes (Equation 4), or for a single output the squared error."""
    if outputs.shape[1] == 1:
        return F.mse_loss(outputs[:, 0].float(), labels)
    return F.cross_entropy(outputs, labels)


class FinetuningTask(Task):
    """Fine-tuning: for each way a copy of the language model, a head and an optimiser."""

    log_every = 20
    prefers_bf16 = True

    def __init__(self, run: Run, config: settings.Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.tasks = config.subtasks
        self.ways = ways_of(config)
        self.models = nn.ModuleDict(
            {name: Finetuned(config.model, self.tasks[way.task].labels) for name, way in self.ways.items()}
        )
        self.vocabulary = Vocabulary()
        self.progress = Progress(config.model.positions)

    def load_data(self) -> None:
        """Start every copy of the language model from the pretrained weights, or from as many layers as it takes."""
        if self.run.init is None:
            return
        state = load_file(self.run.init)
        self.vocabulary.set_extra_state(state["vocabulary._extra_state"])
        self.progress.load_state_dict({name: state[f"progress.{name}"] for name in ("zero_shot", "written")})
        if self.config.pretrain.duration.amount == 0:
            return
        language = {key.removeprefix("model."): tensor for key, tensor in state.items() if key.startswith("model.")}
        for name, way in self.ways.items():
            self._start(self._model(name).language, language, way.variant.transferred)

    @torch.no_grad()
    def _start(self, model: LanguageModel, state: dict[str, Tensor], transferred: int | None) -> None:
        fresh, words = model.state_dict(), self.wordpiece
        for key, tensor in fresh.items():
            if transferred is None or model.height(key) <= transferred:
                # Start, delimiter and extract token are new to fine-tuning (Section 3.3): they stay as they were drawn.
                new = [words.cls, words.sep, words.mask] if key == "tokens.weight" else []
                drawn = tensor[new].clone() if new else tensor
                tensor.copy_(state[key])
                if new:
                    tensor[new] = drawn
        model.load_state_dict(fresh)

    def _model(self, name: str) -> Finetuned:
        model = self.models[name]
        assert isinstance(model, Finetuned)
        return model

    @cached_property
    def wordpiece(self) -> WordPiece:
        """Vocabulary of the pretrained weights."""
        return WordPiece(self.vocabulary.pieces)

    @cached_property
    def training_examples(self) -> dict[str, Examples]:
        """Training examples of each task, up to its limit, drawn by the seed."""

        def drawn(size: int) -> np.ndarray:
            # A prefix of one permutation, so that larger limits include smaller ones.
            return np.random.Generator(np.random.Philox(key=[self.run.seed, _SUBSET])).permutation(size)

        return {
            name: read_examples(self.run.data, task, "train", self.wordpiece, lambda n, k=task.limit: drawn(n)[:k])
            for name, task in self.tasks.items()
        }

    @cached_property
    def samplers(self) -> dict[str, BucketSampler]:
        """Sampler of each task, whose batches have similar lengths."""
        return {
            name: BucketSampler(examples.lengths, self.tasks[name].batch_size, self.run.seed)
            for name, examples in self.training_examples.items()
        }

    @cached_property
    def schedules(self) -> dict[str, Schedule]:
        """Learning-rate schedule of each task."""
        return {name: Schedule.of(task, self.samplers[name].steps_per_epoch) for name, task in self.tasks.items()}

    @cached_property
    def in_turn(self) -> InTurn:
        """The ways, one after another."""
        return InTurn([self.schedules[way.task].total_steps for way in self.ways.values()])

    @property
    def total_steps(self) -> int:
        """Number of updates of all ways."""
        return self.in_turn.total_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [build_optimizer(self.models[name], way.optimizer) for name, way in self.ways.items()]

    def _batch(self, examples: Examples, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids [orders, batch, seq], lengths [orders, batch] and labels [batch]."""
        orders = [padded(order, rows, self.wordpiece.pad) for order in examples.ids]
        widest = max(order.shape[1] for order in orders)
        ids = torch.stack([F.pad(order, (0, widest - order.shape[1]), value=self.wordpiece.pad) for order in orders])
        lengths = torch.from_numpy(np.stack([order.lengths[rows] for order in examples.ids]))
        labels = torch.from_numpy(examples.labels[rows])
        return ids.to(self.device), lengths.to(self.device), labels.to(self.device)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Make one update of one way (Equation 5); after its last one, free its optimiser's memory."""
        index, local = self.in_turn.at(step)
        name = list(self.ways)[index]
        way, model = self.ways[name], self._model(name)
        rows = self.samplers[way.task].indices(local, self.rank, self.world_size)
        ids, lengths, labels = self._batch(self.training_examples[way.task], rows)
        schedule = self.schedules[way.task]
        if way.variant.thaw:
            trained = {id(parameter) for parameter in model.thawed(local / schedule.total_steps)}
            for parameter in model.parameters():
                parameter.requires_grad_(id(parameter) in trained)
        outputs, hidden = model(ids, lengths)
        loss = task_loss(outputs, labels)
        said: dict[str, Tensor | float] = {f"{name}_loss": loss.detach()}
        weight = self.config.finetune.auxiliary if way.variant.auxiliary is None else way.variant.auxiliary
        if weight:
            targets = next_tokens(ids, lengths)
            share = self.weight_among_ranks((targets >= 0).sum())
            loss = loss + weight * share * language_loss(model.language, hidden, targets)
        optimizer = self.raw_optimizers[index]
        self.descend(loss, optimizer, way.optimizer, schedule.at(local))
        if local + 1 == schedule.total_steps:
            optimizer.zero_grad(set_to_none=True)
            optimizer.state.clear()
        return said

    def evaluate(self) -> Evaluation:
        """Score every task, what other ways to tune change, and the words alone."""
        scores = {name: self._scored(name, way) for name, way in self.ways.items()}
        metrics = {name: scores[name] for name in self.tasks}
        metrics["average"] = float(np.mean([scores[name] for name in self.tasks]))
        for name, variant in self.config.variants.items():
            if variant.transferred is None:
                gains = [scores[f"{task}_{name}"] - scores[task] for task in variant.tasks]
                metrics[f"{name}_effect"] = float(np.mean(gains))
        by_layers = self._by_layers(scores)
        if len(by_layers) > 1:
            layers, score = zip(*sorted(by_layers.items()), strict=True)
            metrics["per_layer"] = float(np.polyfit(layers, score, 1)[0])
        for name, task in self.tasks.items():
            if task.reads in ("text", "last_word") and task.labels > 1:
                metrics[f"{name}_over_words"] = scores[name] - self._scored_by_words(name, task)
        pictures: dict[str, Picture] = {}
        if self.config.pretrain.duration.amount:
            at_first, *_, at_last = self.progress.zero_shot.tolist()
            metrics |= {"zero_shot": at_last, "zero_shot_rise": at_last - at_first}
            texts = [self._spelt(row) for row in self.progress.written.tolist()]
            pictures["writing"] = writing_film(texts)
        if len(by_layers) > 1:
            pictures["layers"] = layers_chart(by_layers)
        return Evaluation(metrics, pictures)

    def _by_layers(self, scores: dict[str, float]) -> dict[int, float]:
        """Return the mean score by the number of layers transferred, over the tasks that a variant does so for."""
        partly = {name: each for name, each in self.config.variants.items() if each.transferred is not None}
        found = {
            each.transferred or 0: float(np.mean([scores[f"{task}_{name}"] for task in each.tasks]))
            for name, each in partly.items()
        }
        tasks = dict.fromkeys(task for each in partly.values() for task in each.tasks)
        if tasks:
            found[self.config.model.body.layers] = float(np.mean([scores[task] for task in tasks]))
        return found

    def _spelt(self, ids: list[int]) -> str:
        """Return tokens as text, without the start token."""
        return " ".join(self.wordpiece.pieces[i] for i in ids[1:]).replace(" ##", "")

    def _scored(self, name: str, way: Way) -> float:
        """Return the score of one way, times 100."""
        task = self.tasks[way.task]
        examples = self._examples_scored(way.task)
        outputs, truth = [], []
        # Similar lengths in a batch need little padding.
        order = np.argsort(examples.lengths, kind="stable")
        for start in range(0, len(order), _AT_ONCE):
            ids, lengths, labels = self._batch(examples, order[start : start + _AT_ONCE])
            outputs.append(self._model(name)(ids, lengths)[0].float())
            truth.append(labels)
        predicted, labels = torch.cat(outputs), torch.cat(truth)
        return measured(task, predicted[:, 0] if task.labels == 1 else predicted.argmax(-1), labels)

    def _examples_scored(self, name: str) -> Examples:
        task = self.tasks[name]
        return read_examples(self.run.data, task, task.split, self.wordpiece, lambda n: np.arange(n)[: task.scored])

    def _scored_by_words(self, name: str, task: settings.Subtask) -> float:
        """Return the score of TF-IDF and logistic regression on the same examples, times 100."""
        training, scored = self.training_examples[name], self._examples_scored(name)
        predicted = predicted_by_words(training.texts, training.labels, scored.texts)
        return measured(task, torch.from_numpy(predicted), torch.from_numpy(scored.labels))


def measured(task: settings.Subtask, predicted: Tensor, truth: Tensor) -> float:
    """Return the task's measure of predictions [n] against the truth [n], times 100."""
    measures = {
        "accuracy": lambda p, t: classification.multiclass_accuracy(p, t, task.labels, average="micro"),
        "f1": classification.binary_f1_score,
        "matthews": matthews_correlation,
        "pearson": pearson_correlation,
    }
    return 100 * float(measures[task.measure](predicted, truth))
