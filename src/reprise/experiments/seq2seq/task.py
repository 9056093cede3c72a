"""Training by maximum likelihood, and evaluation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.experiments.seq2seq.config import LSTM, Config
from reprise.experiments.seq2seq.networks import networks
from reprise.experiments.seq2seq.pictures import film_sentences, place_chart, sentence_film
from reprise.experiments.seq2seq.words import (
    Batch,
    Pairs,
    Vocabularies,
    frequent_words,
    lags,
    reading_order,
    split_words,
)
from reprise.parts.data.store import open_alignments, open_parallel
from reprise.parts.decoding import beam_search
from reprise.parts.optim import build_optimizer
from reprise.parts.text import BucketSampler
from reprise.parts.training import Schedule
from reprise.parts.translation import BEGIN, END, PAD, bleu

FRAMES = 8
"""Number of times before the end of training at which sentence vectors are recorded."""
FURTHER = 10
"""A translation has at most this many words more than the longest source of its batch."""
GREEDY, TWO = 1, 2
"""Beams that are tried beside those of `Config.beams` (Section 3.2)."""
PLACES = 15
"""Words of a translation whose cost is charted, place by place."""


def cross_entropy(
    logits: Float[Tensor, "batch target words"], targets: Int[Tensor, "batch target"]
) -> Float[Tensor, ""]:
    """Return -log p(T | S) (Equation 1), in nats, summed over all words but PAD."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="sum")


class Task(task.Task):
    """Trains each member of the ensemble by maximum likelihood (Section 3.2)."""

    log_every = 20
    watched: Tensor
    """Vectors [frame, sentence, hidden] of the film's sentences, by the first member; none of a Transformer."""

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.network: Any = networks(config)["network"]
        self.vocabularies = Vocabularies()
        hidden = config.network.hidden if isinstance(config.network, LSTM) else 0
        self.register_buffer("watched", torch.zeros(FRAMES + 1, len(film_sentences()), hidden))

    def load_data(self) -> None:
        """Number the words of all splits."""
        config, folder = self.config, self.run.data / self.config.part
        texts = {}
        for split in ("train", "validation", "test"):
            pairs = open_parallel(folder, split)
            texts[split] = [[split_words(text) for text in side] for side in (pairs.source, pairs.target)]
        fit = [max(len(text.split()) for text in pair) <= config.longest for pair in zip(*texts["train"], strict=True)]
        texts["train"] = [[text for text, fits in zip(side, fit, strict=True) if fits] for side in texts["train"]]
        words, sizes = self.vocabularies, (config.source_words, config.target_words)
        words.source, words.target = (
            frequent_words(side, most) for side, most in zip(texts["train"], sizes, strict=True)
        )
        self.pairs = {split: Pairs(words.source.encode(source), words.target.encode(target), config)
                      for split, (source, target) in texts.items()}  # fmt: skip
        self.references = texts["test"][1][: config.translated]
        self.gold = open_alignments(folder, "test")
        # A member's own order of batches is another stream of the same seed.
        self.samplers = [BucketSampler(self.pairs["train"].words, config.batch_size, self.run.seed + (member << 32))
                         for member in range(config.members)]  # fmt: skip
        self.schedule = Schedule.of(config, self.samplers[0].steps_per_epoch)
        sentences = words.source.encode(film_sentences())
        self.film_pairs = Pairs(sentences, sentences, config)

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [build_optimizer(member, self.config.optimizer) for member in self.network.members]

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Let each member learn from a batch. At FRAMES evenly spaced times, sentence vectors are recorded first."""
        frame = step * FRAMES // self.total_steps
        if step == 0 or frame > (step - 1) * FRAMES // self.total_steps:
            self.watch(frame)
        losses = []
        for member, sampler, optimizer in zip(self.network.members, self.samplers, self.raw_optimizers, strict=True):
            whole = self.pairs["train"].batch(sampler.indices(step), self.device)
            # Every device pads the whole batch, and takes its share: lengths are then the same on all.
            batch = Batch(*(each[self.rank :: self.world_size] for each in whole))
            loss = cross_entropy(member(batch.source, batch.shown), batch.targets)
            words = (batch.targets != PAD).sum()
            pairs = torch.tensor(len(batch.source), device=self.device)
            # The gradient whose norm is bounded is the mean over pairs (Section 3.4); the loss is shown per word.
            objective = loss / len(batch.source) * self.weight_among_ranks(pairs)
            self.descend(objective, optimizer, self.config.optimizer, self.schedule.at(step))
            losses.append(loss.detach() / words * self.weight_among_ranks(words))
        if step + 1 == self.total_steps:
            self.watch(FRAMES)
        return {"loss": torch.stack(losses).mean()}

    @torch.no_grad()
    def watch(self, frame: int) -> None:
        """Record the vectors of the film's sentences, if the network has any."""
        if not self.watched.shape[2]:
            return
        source = self.film_pairs.batch(np.arange(len(self.film_pairs.words)), self.device).source
        self.watched[frame:] = self.network.members[0].vectors(source).float()

    # Evaluation

    def evaluate(self) -> Evaluation:
        """Score the ensemble."""
        self.network.eval()
        test, config = self.pairs["test"], self.config
        nats, places = self.nats("test")
        inside, third = places >= 0, 3 * places // np.maximum(1, test.count - 1)[:, None]
        ended = places == test.count[:, None] - 1
        long = (test.words > config.long)[:, None]

        def bits(chosen: np.ndarray) -> float:
            return float(nats[chosen].sum() / max(1, chosen.sum()) / math.log(2))

        validation, there = self.nats("validation")
        written = {beams: self.translations(beams) for beams in (GREEDY, TWO, config.beams)}
        greedy, two, widest = (bleu(one, self.references) for one in written.values())
        at = np.flatnonzero(long[: len(self.references), 0])
        long_bleu = bleu([written[config.beams][i] for i in at], [self.references[i] for i in at]) if len(at) else 0.0
        metrics = {
            "bits": bits(inside),
            "validation_bits": float(validation[there >= 0].mean() / math.log(2)),
            "perplexity": 2 ** bits(inside),
            "early_bits": bits(inside & ~ended & (third == 0)),
            "late_bits": bits(inside & ~ended & (third == 2)),
            "long_bits": bits(inside & long),
            "bleu": widest,
            "bleu_greedy": greedy,
            "bleu_two": two,
            "two_beams": (two - greedy) - (widest - two),
            "long_bleu": long_bleu,
            "parameters": float(sum(p.numel() for p in self.network.parameters())),
        }
        if self.gold is not None:
            metrics |= self.time_lags()
        cost = [(place + 1, bits(places == place)) for place in range(PLACES) if (places == place).any()]
        pictures: dict[str, Picture] = {"places": place_chart(*zip(*cost, strict=True))}
        if self.watched.shape[2]:
            pictures["sentences"] = sentence_film(self.watched.cpu().double().numpy())
        return Evaluation(metrics, pictures)

    @torch.no_grad()
    def nats(self, split: str) -> tuple[Float[np.ndarray, "pairs target"], Int[np.ndarray, "pairs target"]]:
        """Return the cross-entropy of each word of the translations, END included, and its place; -1 where none is."""
        pairs = self.pairs[split]
        places = np.arange(pairs.count.max()) + np.zeros_like(pairs.count)[:, None]
        places[places >= pairs.count[:, None]] = -1
        found = np.zeros(places.shape)
        for at in pairs.blocks():
            batch = pairs.batch(at, self.device)
            logits = self.network(batch.source, batch.shown).transpose(1, 2)
            each = functional.cross_entropy(logits, batch.targets, ignore_index=PAD, reduction="none").cpu().numpy()
            found[at, : each.shape[1]] = each
        return found, places

    def translations(self, beams: int) -> list[str]:
        """Translate the first `translated` test sentences."""
        pairs, written = self.pairs["test"], [""] * len(self.references)
        for at in pairs.blocks(len(written)):
            source = pairs.batch(at, self.device).source
            for place, ids in zip(at.tolist(), translations(self.network, source, self.config, beams), strict=True):
                written[place] = self.vocabularies.target.decode(ids)
        return written

    def time_lags(self) -> dict[str, float]:
        """Return the mean and, over sentences, the mean of the shortest lag between words that translate each other."""
        assert self.gold is not None
        config, sizes = self.config, zip(self.pairs["test"].words, self.pairs["test"].count - 1, strict=True)
        found = [lags(links, reading_order(config.source, source), reading_order(config.target, target))
                 for links, (source, target) in zip(self.gold, sizes, strict=True)]  # fmt: skip
        return {
            "mean_lag": float(np.concatenate(found).mean()),
            "shortest_lag": float(np.mean([one.min() for one in found])),
        }


def translations(network: Any, source: Int[Tensor, "batch source"], config: Config, beams: int) -> list[list[int]]:
    """Translate by beam search (Section 3.2), in the order of the target language."""
    found = beam_search(
        network, source, begin=BEGIN, end=END, beams=beams, alpha=0.0, longest=source.shape[1] + FURTHER
    )
    return [ids[::-1] if config.target == "reversed" else ids for ids in found]
