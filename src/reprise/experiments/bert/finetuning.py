"""BERT's second stage: each task fine-tuned from the same pretrained weights, one after another (Section 4)."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional import classification
from torchmetrics.functional.text import squad

from reprise.core.contract import Run
from reprise.core.run.task import Evaluation, Picture, Task
from reprise.experiments.bert import config as settings
from reprise.experiments.bert.examples import UNLABELLED, Examples, read_examples
from reprise.experiments.bert.model import Finetuned
from reprise.experiments.bert.pictures import attention_map, attention_weights, shown_sentence
from reprise.parts.optim import build_optimizer
from reprise.parts.scores import matthews_correlation, pearson_correlation, spearman_correlation
from reprise.parts.text import BucketSampler, Ragged, Vocabulary, WordPiece, padded
from reprise.parts.training import InTurn, Schedule

_EVALUATED_AT_ONCE = 128
_LONGEST_ANSWER = 30
_SUBSET = 1 << 62
"""Stream of the generator that draws training examples; the streams of epochs count from 0."""


def head_loss(outputs: Tensor, labels: Tensor, mask: Tensor, kind: str) -> Tensor:
    """Return the mean loss of a batch.

    tagging: cross-entropy of the labelled tokens, outputs [batch, seq, labels] and labels [batch, seq]. classification,
    regression: cross-entropy or squared error, outputs [batch, labels], labels [batch]. span: mean of the
    cross-entropies of start and end over tokens (Section 4.2), outputs [batch, seq, 2], labels [batch, 2]. `mask`, bool
    [batch, seq], is false at padding.
    """
    match kind:
        case "tagging":
            return F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), ignore_index=UNLABELLED)
        case "classification":
            return F.cross_entropy(outputs, labels)
        case "regression":
            return F.mse_loss(outputs[:, 0].float(), labels)
        case _:
            # Padding cannot be part of an answer.
            return F.cross_entropy(outputs.masked_fill(~mask[..., None], -torch.inf), labels)


def best_span(outputs: Tensor, first: int) -> tuple[float, int, int]:
    """Return the highest sum of start and end score with start <= end, and both tokens, counted from `first`.

    `outputs` is [seq, 2] for one window, without its last [SEP].
    """
    start, end = outputs[first:].float().unbind(-1)
    scores = start[:, None] + end
    # Ends from the start on, at most 30 tokens long.
    allowed = torch.ones_like(scores, dtype=torch.bool).triu().tril(_LONGEST_ANSWER - 1)
    value, at = scores.masked_fill(~allowed, -torch.inf).flatten().max(0)
    return float(value), int(at) // len(start), int(at) % len(start)


class FinetuningTask(Task):
    """Fine-tuning with a copy of the encoder, a head and an optimiser per task; updates count through all tasks."""

    log_every = 20
    prefers_bf16 = True

    def __init__(self, run: Run, config: settings.Config) -> None:
        super().__init__(run, config)
        self.tasks = config.subtasks
        causal = config.pretrain.objective == "left_to_right"
        self.models = nn.ModuleDict(
            {
                name: Finetuned(config.model, task.labels, per_token=task.kind in ("tagging", "span"), causal=causal)
                for name, task in self.tasks.items()
            }
        )
        self.vocabulary = Vocabulary()

    def load_data(self) -> None:
        """Start every copy of the encoder from the pretrained weights."""
        if self.run.init is None:
            return
        state = load_file(self.run.init)
        self.vocabulary.set_extra_state(state["vocabulary._extra_state"])
        prefix = "model.encoder."
        # Only the encoder is kept: the heads of pretraining are not used again.
        encoder = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        for name in self.tasks:
            self._model(name).encoder.load_state_dict(encoder)

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
            name: BucketSampler(examples.ids.lengths, self.tasks[name].batch_size, self.run.seed)
            for name, examples in self.training_examples.items()
        }

    @cached_property
    def schedules(self) -> dict[str, Schedule]:
        """Learning-rate schedule of each task."""
        return {name: Schedule.of(task, self.samplers[name].steps_per_epoch) for name, task in self.tasks.items()}

    @cached_property
    def in_turn(self) -> InTurn:
        """The tasks, one after another."""
        return InTurn([schedule.total_steps for schedule in self.schedules.values()])

    @property
    def total_steps(self) -> int:
        """Number of updates of all tasks."""
        return self.in_turn.total_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [build_optimizer(self.models[name], task.optimizer) for name, task in self.tasks.items()]

    def _batch(self, examples: Examples, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ids, segments and mask [batch, seq], and labels."""
        ids = padded(examples.ids, rows, self.wordpiece.pad)
        segments = padded(examples.segments, rows, 0)
        mask = torch.arange(ids.shape[1]) < torch.from_numpy(examples.ids.lengths[rows])[:, None]
        if isinstance(examples.labels, Ragged):
            labels = padded(examples.labels, rows, UNLABELLED)
        else:
            labels = torch.from_numpy(examples.labels[rows])
        ids, segments, mask, labels = (tensor.to(self.device) for tensor in (ids, segments, mask, labels))
        return ids, segments, mask, labels

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Make one update of one task; after a task's last one, free its optimiser's memory."""
        index, local = self.in_turn.at(step)
        name = list(self.tasks)[index]
        task, sampler = self.tasks[name], self.samplers[name]
        rows = sampler.indices(local, self.rank, self.world_size)
        ids, segments, mask, labels = self._batch(self.training_examples[name], rows)
        loss = head_loss(self.models[name](ids, segments, mask), labels, mask, task.kind)
        # Devices have different numbers of labelled tokens, so their means need weights.
        if task.kind == "tagging":
            loss = loss * self.weight_among_ranks((labels != UNLABELLED).sum())
        optimizer, schedule = self.raw_optimizers[index], self.schedules[name]
        self.descend(loss, optimizer, task.optimizer, schedule.at(local))
        if local + 1 == schedule.total_steps:
            optimizer.zero_grad(set_to_none=True)
            optimizer.state.clear()
        return {f"{name}_loss": loss.detach()}

    def evaluate(self) -> Evaluation:
        """Compute every score of every task."""
        metrics: dict[str, float] = {}
        for name, task in self.tasks.items():
            for split in dict.fromkeys(score.split for score in task.scores.values()):
                measured = self._measure(name, task, split)
                metrics |= {
                    metric: 100 * measured[score.measure]
                    for metric, score in task.scores.items()
                    if score.split == split
                }
        return Evaluation(metrics, self._attention())

    def _attention(self) -> dict[str, Picture]:
        """Show where the first layer of the first tagger looks, in a sentence of its test split."""
        name = next((name for name, task in self.tasks.items() if task.kind == "tagging"), None)
        if name is None:
            return {}
        ids = read_examples(self.run.data, self.tasks[name], "test", self.wordpiece).ids
        sentences = [ids[index] for index in range(len(ids.offsets) - 1)]
        pieces = [[self.wordpiece.pieces[token] for token in sentence.tolist()] for sentence in sentences]
        shown = shown_sentence(pieces)
        # Later layers look at what the first has gathered, so their columns no longer stand for single words.
        tokens = torch.from_numpy(sentences[shown].astype(np.int64)).to(self.device)
        first, *_ = attention_weights(self._model(name), tokens)
        return {"attention": attention_map(first, pieces[shown])}

    def _measure(self, name: str, task: settings.Subtask, split: str) -> dict[str, float]:
        """Return the measures of `task` on `split`, as fractions."""
        examples = read_examples(self.run.data, task, split, self.wordpiece)
        wanted = {score.measure for score in task.scores.values() if score.split == split}
        if task.kind == "span":
            return self._measure_spans(name, examples)
        outputs, truth = [], []
        # Similar lengths in a batch need little padding.
        order = np.argsort(examples.ids.lengths, kind="stable")
        for start in range(0, len(order), _EVALUATED_AT_ONCE):
            ids, segments, mask, labels = self._batch(examples, order[start : start + _EVALUATED_AT_ONCE])
            output = self.models[name](ids, segments, mask).float()
            labelled = labels != UNLABELLED
            outputs.append(output[labelled] if task.kind == "tagging" else output)
            truth.append(labels[labelled] if task.kind == "tagging" else labels)
        predicted, labels = torch.cat(outputs), torch.cat(truth)
        if task.kind == "regression":
            measures = {"pearson": pearson_correlation, "spearman": spearman_correlation}
            return {measure: float(measures[measure](predicted[:, 0], labels)) for measure in wanted}
        predicted = predicted.argmax(-1)
        n = task.labels
        measures = {
            "accuracy": lambda p, t: classification.multiclass_accuracy(p, t, n, average="micro"),
            "f1": classification.binary_f1_score,
            "matthews": matthews_correlation,
        }
        return {measure: float(measures[measure](predicted, labels)) for measure in wanted}

    def _measure_spans(self, name: str, examples: Examples) -> dict[str, float]:
        """Return SQuAD's exact match and F1 for the best span over all windows of each question."""
        best: dict[int, tuple[float, str]] = {}
        for start in range(0, len(examples), _EVALUATED_AT_ONCE):
            rows = np.arange(start, min(start + _EVALUATED_AT_ONCE, len(examples)))
            outputs = self.models[name](*self._batch(examples, rows)[:3])
            for row, output in zip(rows.tolist(), outputs, strict=True):
                window = examples.windows[row]
                tokens = window.first + len(window.characters)
                score, i, j = best_span(output[:tokens], window.first)
                if window.question not in best or score > best[window.question][0]:
                    context = examples.questions[window.question].context
                    best[window.question] = score, context[window.characters[i, 0] : window.characters[j, 1]]
        predictions = [{"id": str(q), "prediction_text": text} for q, (_, text) in best.items()]
        targets = [
            {
                "id": str(q),
                "answers": {
                    "text": [examples.questions[q].context[a:b] for a, b in examples.questions[q].answers],
                    "answer_start": [a for a, _ in examples.questions[q].answers],
                },
            }
            for q in best
        ]
        scores = squad(predictions, targets)
        return {"exact_match": float(scores["exact_match"]) / 100, "span_f1": float(scores["f1"]) / 100}
