"""Training by maximum likelihood, and evaluation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.experiments.attention_nmt.alignments import agreement, ibm_model_1, moved
from reprise.experiments.attention_nmt.config import Config
from reprise.experiments.attention_nmt.networks import networks
from reprise.experiments.attention_nmt.pictures import SHOWN, alignment_film, length_chart, shown_pair
from reprise.experiments.attention_nmt.words import Batch, Pairs, Vocabularies, Words, split_words
from reprise.parts.data.store import open_alignments, open_parallel
from reprise.parts.decoding import beam_search
from reprise.parts.optim import build_optimizer
from reprise.parts.text import BucketSampler
from reprise.parts.training import Schedule
from reprise.parts.translation import BEGIN, END, PAD, UNK, bleu

FRAMES = 16
"""Number of times before the end of training at which the alignment is recorded."""
FURTHER = 50
"""A translation has at most this many words more than the longest source of its batch."""
BIN = 5
"""Source words from one point of a curve over lengths to the next."""
COUNTED = 4000
"""Training pairs that IBM Model 1 learns from."""


class Task(task.Task):
    """Trains one network by maximum likelihood (Section 2.1)."""

    log_every = 20
    watched: Tensor
    """Weights [frame, target, source] for the validation pair that is shown."""

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.network: Any = networks(config)["network"]
        self.vocabularies = Vocabularies()
        self.register_buffer("watched", torch.zeros(FRAMES + 1, SHOWN, SHOWN))

    def load_data(self) -> None:
        """Number the words of all splits."""
        config, folder = self.config, self.run.data / self.config.part
        texts = {}
        for split in ("train", "validation", "test"):
            pairs = open_parallel(folder, split)
            texts[split] = [[split_words(text) for text in side] for side in (pairs.source, pairs.target)]
        fits = [max(map(len, pair)) <= config.longest for pair in zip(*texts["train"], strict=True)]
        texts["train"] = [[text for text, fit in zip(side, fits, strict=True) if fit] for side in texts["train"]]
        words = self.vocabularies
        words.source, words.target = (Words.of(side, config.words) for side in texts["train"])
        self.pairs = {
            split: Pairs([words.source.encode(one) for one in source], [words.target.encode(one) for one in target])
            for split, (source, target) in texts.items()
        }
        self.references = [" ".join(one) for one in texts["test"][1][: config.translated]]
        self.gold = {split: open_alignments(folder, split) for split in ("validation", "test")}
        self.shown = shown_pair(self.pairs["validation"], self.gold["validation"])
        self.sampler = BucketSampler(self.pairs["train"].source.lengths, config.batch_size, self.run.seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.network, self.config.optimizer)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Learn from one batch. At FRAMES evenly spaced times, the alignment is recorded first."""
        frame = step * FRAMES // self.total_steps
        if step == 0 or frame > (step - 1) * FRAMES // self.total_steps:
            self.watch(frame)
        whole = self.pairs["train"].batch(self.sampler.indices(step), self.device)
        batch = Batch(*(each[self.rank :: self.world_size] for each in whole))
        loss = cross_entropy(self.network(batch.source, batch.shown), batch.targets)
        words = (batch.targets != PAD).sum()
        pairs = torch.tensor(len(batch.source), device=self.device)
        # The objective is a mean over pairs, on which the bound on the gradient depends; the loss is shown per word.
        objective = loss / len(batch.source) * self.weight_among_ranks(pairs)
        self.descend(objective, self.raw_optimizers[0], self.config.optimizer, self.schedule.at(step))
        if step + 1 == self.total_steps:
            self.watch(FRAMES)
        return {"loss": loss.detach() / words * self.weight_among_ranks(words)}

    @torch.no_grad()
    def watch(self, frame: int) -> None:
        """Record the alignment of the pair that is shown, if the network searches."""
        if self.network.alignment is None:
            return
        batch, seen = self.pairs["validation"].batch(np.array([self.shown]), self.device), list[Tensor]()
        self.network(batch.source, batch.shown, seen)
        weights = seen[0][0, :SHOWN, :SHOWN]
        self.watched[frame:, : weights.shape[0], : weights.shape[1]] = weights

    # Evaluation

    def evaluate(self) -> Evaluation:
        """Score the network."""
        self.network.eval()
        test, config = self.pairs["test"], self.config
        total, count = self.nats("test")
        short, long = test.words <= config.short, test.words > config.long

        def bits(at: np.ndarray) -> float:
            return float(total[at].sum() / max(1, count[at].sum()) / math.log(2))

        written, first = self.translations(), slice(config.translated)
        by_length = {"short": self.bleu(written, short[first]), "long": self.bleu(written, long[first])}
        validation_total, validation_count = self.nats("validation")
        metrics = {
            "bits": bits(np.full(len(total), True)),
            "validation_bits": float(validation_total.sum() / validation_count.sum() / math.log(2)),
            "short_bits": bits(short),
            "long_bits": bits(long),
            "bits_by_length": bits(long) - bits(short),
            "bleu": bleu(written, self.references),
            "short_bleu": by_length["short"],
            "long_bleu": by_length["long"],
            "bleu_lost": by_length["short"] - by_length["long"],
            "parameters": float(sum(p.numel() for p in self.network.parameters())),
        }
        known = np.array([UNK not in (*test.source[i], *test.target[i]) for i in range(len(written))])
        metrics["bleu_known"] = self.bleu(written, known)
        pictures: dict[str, Picture] = {"lengths": length_chart(*self.bleu_by_length(written))}
        if (gold := self.gold["test"]) is not None and self.config.context not in ("last", "uniform"):
            places = self.attended("test")
            metrics["aligned"] = agreement(places, gold)
            metrics["aligned_moved"] = agreement(places, [moved(links) for links in gold])
        if self.network.alignment is not None:
            if gold is not None:
                metrics["beyond_ibm_1"] = metrics["aligned"] - agreement(self.ibm_1(), gold)
            pictures["alignment"] = self.alignment_film()
        return Evaluation(metrics, pictures)

    @torch.no_grad()
    def nats(self, split: str) -> tuple[Float[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
        """Return the cross-entropy of each pair's translation, in nats, and the number of its words, END included."""
        pairs = self.pairs[split]
        total, count = np.zeros(len(pairs.words)), pairs.target.lengths - 1
        for at in pairs.blocks():
            batch = pairs.batch(at, self.device)
            logits = self.network(batch.source, batch.shown).transpose(1, 2)
            each = functional.cross_entropy(logits, batch.targets, ignore_index=PAD, reduction="none")
            total[at] = each.sum(1).double().cpu().numpy()
        return total, count

    def translations(self) -> list[str]:
        """Translate the first `translated` test sentences."""
        pairs, written = self.pairs["test"], [""] * len(self.references)
        for at in pairs.blocks(len(written)):
            found = translations(self.network, pairs.batch(at, self.device).source, self.config)
            for place, ids in zip(at.tolist(), found, strict=True):
                written[place] = self.vocabularies.target.decode(ids)
        return written

    def bleu(self, written: list[str], chosen: Bool[np.ndarray, " written"]) -> float:
        """Return the BLEU of the chosen translations; 0 if none are chosen."""
        at = np.flatnonzero(chosen)
        return bleu([written[i] for i in at], [self.references[i] for i in at]) if len(at) else 0.0

    @torch.no_grad()
    def attended(self, split: str) -> list[Int[np.ndarray, " words"]]:
        """Return for each pair the place of the source word that has most weight as each target word is written."""
        pairs = self.pairs[split]
        most = [np.zeros(0, np.int64)] * len(pairs.words)
        for at in pairs.blocks():
            batch, seen = pairs.batch(at, self.device), list[Tensor]()
            self.network(batch.source, batch.shown, seen)
            places = seen[0].argmax(2).cpu().numpy()
            for row, place in enumerate(at.tolist()):
                most[place] = places[row, : len(pairs.target[place]) - 2]
        return most

    def ibm_1(self) -> list[Int[np.ndarray, " words"]]:
        """Return for each test pair the places that IBM Model 1 aligns, learned from training pairs, as `attended`."""
        sides = {
            split: ([pairs.source[i][:-1] for i in range(len(pairs.words))][:most],
                    [pairs.target[i][1:-1] for i in range(len(pairs.words))][:most])
            for split, pairs, most in (("train", self.pairs["train"], COUNTED), ("test", self.pairs["test"], None))
        }  # fmt: skip
        table = ibm_model_1(*sides["train"], words=self.config.words)
        return [table[source][:, target].argmax(0) for source, target in zip(*sides["test"], strict=True)]

    def bleu_by_length(self, written: list[str]) -> tuple[list[float], list[float]]:
        """Return the middle of each bin of source lengths, in words, and the BLEU of its translations."""
        words = self.pairs["test"].words[: len(written)]
        bins = -(-words // BIN)
        return [BIN * each - (BIN - 1) / 2 for each in np.unique(bins)], [
            self.bleu(written, bins == each) for each in np.unique(bins)
        ]

    def alignment_film(self) -> Picture:
        """Show the alignment over training (Figure 3): a row for each word written, a column for each word read."""
        pairs, words, gold = self.pairs["validation"], self.vocabularies, self.gold["validation"]
        source = [words.source.words[i] for i in pairs.source[self.shown]][:SHOWN]
        target = [words.target.words[i] for i in pairs.target[self.shown]][1:][:SHOWN]
        return alignment_film(self.watched.cpu().numpy(), source, target, [] if gold is None else gold[self.shown])


def cross_entropy(
    logits: Float[Tensor, "batch target words"], targets: Int[Tensor, "batch target"]
) -> Float[Tensor, ""]:
    """Return -log p(targets), in nats, summed over all words but PAD."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="sum")


def translations(network: Any, source: Int[Tensor, "batch source"], config: Config) -> list[list[int]]:
    """Translate by beam search (Section 5.1)."""
    return beam_search(
        network, source, begin=BEGIN, end=END, beams=config.beams, alpha=config.alpha,
        longest=source.shape[1] + FURTHER,
    )  # fmt: skip
