"""Training, translation and evaluation."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.experiments.transformer.config import Attending, Config
from reprise.experiments.transformer.networks import networks
from reprise.experiments.transformer.pairs import Batch, Pairs, Vocabulary
from reprise.experiments.transformer.pictures import SHOWN, attention_film, shown_pair
from reprise.parts.data.store import open_alignments, open_parallel
from reprise.parts.decoding import beam_search
from reprise.parts.optim import build_optimizer
from reprise.parts.text import BucketSampler
from reprise.parts.training import Schedule
from reprise.parts.translation import BEGIN, END, PAD, bleu, encoded

FRAMES = 16
"""Number of times before the end of training at which attention is recorded."""
FURTHER = 50
"""A translation has at most this many pieces more than the longest source of its batch (Section 6.1)."""


def smoothed_loss(
    logits: Float[Tensor, "batch target pieces"], targets: Int[Tensor, "batch target"], smoothing: float
) -> Float[Tensor, ""]:
    """Mean cross-entropy per piece, in nats, with a share of each label spread over all pieces (Section 5.4)."""
    return functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, label_smoothing=smoothing
    )


class Task(task.Task):
    """Trains one network; what is scored is the mean of its last checkpoints."""

    log_every = 20
    flops: Tensor
    """FLOPs of training so far, in matrix products."""
    averaged: Tensor
    """Number of checkpoints in the mean so far."""
    watched: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.network: Any = networks(config)["network"]
        self.mean: Any = copy.deepcopy(self.network).requires_grad_(False) if config.averaging > 1 else None
        self.vocabulary = Vocabulary()
        self.register_buffer("flops", torch.zeros((), dtype=torch.float64))
        self.register_buffer("averaged", torch.zeros((), dtype=torch.int64))
        layers = config.network.layers if isinstance(config.network, Attending) else 1
        self.register_buffer("watched", torch.zeros(FRAMES + 1, layers, SHOWN, SHOWN))

    def load_data(self) -> None:
        """Encode all splits; test pairs too long to be kept are `longer`. A pair of the validation split is shown."""
        config, folder = self.config, self.run.data / self.config.part
        texts = {split: open_parallel(folder, split) for split in ("train", "validation", "test")}
        byte_pairs = config.pieces if config.byte_pairs else None
        self.vocabulary.pieces, splits = encoded(texts, _cache(self.run.data), byte_pairs=byte_pairs)
        if (count := len(self.vocabulary.pieces)) > config.pieces:
            raise ValueError(f"pieces is {config.pieces}; expected at least {count}, the number of different words")
        kept = {split: pairs.no_longer_than(config.longest) for split, pairs in splits.items()}
        self.pairs = {split: Pairs(pairs, kept[split]) for split, pairs in splits.items()}
        longer = np.setdiff1d(np.arange(len(texts["test"])), kept["test"])
        if len(longer):
            self.pairs["longer"] = Pairs(splits["test"], longer)
        self.references = {split: [texts[split].target[int(i)] for i in kept[split][: config.translated]]
                           for split in ("validation", "test")}  # fmt: skip
        gold = {split: open_alignments(folder, split) for split in ("validation", "test")}
        self.gold = {split: [links[i] for i in kept[split]] for split, links in gold.items() if links is not None}
        self.shown = int(shown_pair(self.pairs["validation"].lengths))
        self.sampler = BucketSampler(self.pairs["train"].lengths, config.batch_size, self.run.seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)
        self.every = max(1, config.averaged_every.steps(self.sampler.steps_per_epoch))

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.network, self.config.optimizer)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Learn from one batch. At FRAMES evenly spaced times, attention is recorded first."""
        frame = step * FRAMES // self.total_steps
        if step == 0 or frame > (step - 1) * FRAMES // self.total_steps:
            self.watch(frame)
        whole = self.pairs["train"].batch(self.sampler.indices(step), self.device)
        # Every device pads the whole batch, and takes its share: lengths are then the same on all.
        batch = Batch(*(each[self.rank :: self.world_size] for each in whole))
        logits = self.network(batch.source, batch.shown)
        loss = smoothed_loss(logits, batch.targets, self.config.smoothing)
        weight = self.weight_among_ranks((batch.targets != PAD).sum())
        self.descend(loss * weight, self.raw_optimizers[0], self.config.optimizer, self.schedule.at(step))
        # A multiplication and an addition; twice as many backward as forward.
        self.flops += 6 * self.network.multiplications(*whole.source.shape, whole.shown.shape[1])
        left = self.total_steps - step - 1
        if self.mean is not None and left % self.every == 0 and left // self.every < self.config.averaging:
            self.average()
        if left == 0:
            self.watch(FRAMES)
        return {"loss": loss.detach() * weight}

    @torch.no_grad()
    def average(self) -> None:
        """Take the weights as they are into the mean."""
        self.averaged += 1
        for mean, now in zip(self.mean.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1 / self.averaged)

    @torch.no_grad()
    def watch(self, frame: int) -> None:
        """Record the attention from the target to the source of the pair that is shown, mean over heads."""
        batch, training = self.pairs["validation"].batch(np.array([self.shown]), self.device), self.network.training
        attention: list[Tensor] = []
        self.network.eval()
        self.network(batch.source, batch.shown, attention)
        self.network.train(training)
        seen = torch.stack(attention, 1)[0].mean(1)[:, :SHOWN, :SHOWN]
        self.watched[frame:, :, : seen.shape[1], : seen.shape[2]] = seen

    # Evaluation

    def evaluate(self) -> Evaluation:
        """Score the mean of the last checkpoints."""
        network = self.network if self.mean is None else self.mean
        network.eval()
        bits = {split: self.bits(network, split) for split in ("validation", "test")}
        scores = {split: self.bleu(network, split) for split in ("validation", "test")}
        metrics = {
            "bits": bits["test"],
            "validation_bits": bits["validation"],
            "validation_perplexity": 2 ** bits["validation"],
            "bleu": scores["test"],
            "validation_bleu": scores["validation"],
            "training_flops": float(self.flops),
            "flops_to_target": self.flops_to(self.config.target_loss),
        }
        if "longer" in self.pairs:
            metrics["bits_longer"] = self.bits(network, "longer")
        layer = -1
        if self.gold:
            layer = int(np.argmax(self.aligned(network, "validation")))
            metrics["aligned"] = self.aligned(network, "test")[layer]
        return Evaluation(metrics, {"attention": self.attention_film(layer)})

    def bits(self, network: Any, split: str) -> float:
        """Return the cross-entropy of the targets, without smoothing, in bits per piece, END included."""
        total, count, pairs = 0.0, 0, self.pairs[split]
        for at in pairs.blocks():
            batch = pairs.batch(at, self.device)
            logits = network(batch.source, batch.shown).flatten(0, 1)
            total += float(functional.cross_entropy(logits, batch.targets.flatten(), ignore_index=PAD, reduction="sum"))
            count += int((batch.targets != PAD).sum())
        return total / count / math.log(2)

    def flops_to(self, target: float) -> float:
        """Return the FLOPs of training up to the first row of history with a loss of at most `target`, or of all.

        Batches are taken to be of one size; over a row of history they nearly are.
        """
        ends = (row[self.x_axis] for row in self.history if row["loss"] <= target)
        return float(self.flops) * next(ends, self.total_steps) / self.total_steps

    def bleu(self, network: Any, split: str) -> float:
        """Return the BLEU of translations of the first `translated` sources."""
        pairs, references = self.pairs[split], self.references[split]
        written = [""] * len(references)
        for at in pairs.blocks(len(references)):
            found = translations(network, pairs.batch(at, self.device).source, self.config)
            for place, ids in zip(at.tolist(), found, strict=True):
                written[place] = self.vocabulary.pieces.decode(ids)
        return bleu(written, references)

    def aligned(self, network: Any, split: str) -> list[float]:
        """Return, by layer, the share in % of target words that attend most to their counterpart, heads averaged."""
        right, pairs = np.zeros(self.watched.shape[1]), self.pairs[split]
        for at in pairs.blocks():
            batch, attention = pairs.batch(at, self.device), list[Tensor]()
            network(batch.source, batch.shown, attention)
            most = torch.stack([layer.mean(1).argmax(2) for layer in attention]).cpu().numpy()
            for row, place in enumerate(at.tolist()):
                source, target = np.array(self.gold[split][place]).T
                right += (most[:, row, target] == source).sum(1)
        return (100 * right / sum(map(len, self.gold[split]))).tolist()

    def attention_film(self, layer: int) -> Picture:
        """Show a layer's attention to the source over training, a row for each piece that is written."""
        pairs, names = self.pairs["validation"], self.vocabulary.pieces.pieces
        source, target = (side[self.shown].tolist() for side in (pairs.source, pairs.target))
        return attention_film(
            self.watched[:, layer].cpu().numpy(), [names[i] for i in source], [names[i] for i in target[1:]]
        )


def translations(network: Any, source: Int[Tensor, "batch source"], config: Config) -> list[list[int]]:
    """Translate by beam search (Section 6.1)."""
    return beam_search(
        network, source, begin=BEGIN, end=END, beams=config.beams, alpha=config.alpha,
        longest=source.shape[1] + FURTHER,
    )  # fmt: skip


def _cache(data: Path) -> Path:
    """Return the cache next to the runs' working folders, which `REPRISE_WORK` moves."""
    return Path(os.environ.get("REPRISE_WORK", data.parents[2] / ".reprise" / "runs")).parent / "cache" / "pairs"
