"""Sequence to Sequence Learning with Neural Networks. Sutskever, Vinyals & Le. NIPS 2014,
https://arxiv.org/abs/1409.3215.

Claimed: an LSTM reads a sentence into one vector, and another writes its translation from it; reading the source
backwards takes perplexity from 5.8 to 4.7 and BLEU from 25.9 to 30.6, since it shortens the minimal time lag while the
mean one stays (Section 3.3; Table 1). It does so on long sentences, too (Sections 3.3 and 3.7). Deep LSTMs do better,
by nearly 10 % of perplexity a layer (Section 3.4); greedy decoding does well, and two beams have most of the benefit of
twelve (Section 3.2); an ensemble of five comes to 34.81 BLEU, above a statistical system's 33.30 (Table 1). Nearby
vectors are of sentences that mean nearly the same, and word order counts (Section 3.8; Figure 2).

Deviations:
- Section 2: the <EOS> that the decoder reads first is another one than that which it writes last, and neither is among
  the words whose order is reversed. The LSTM has no biases, with which it would have more than the 384 million
  parameters of Section 3.4.
- Section 3.1: all training pairs of WMT 2014, in place of 12 million that were selected; words are runs of letters and
  digits, and single signs; BLEU is sacreBLEU's.
- Section 3.2: the search is over when as many hypotheses have ended as there are beams. Lists of a statistical system's
  translations are not rescored (Table 2).
- Section 3.4: batches of similar lengths come from pools of 32 batches.
- Section 3.5: a network is on one device, and its layers are not spread over several.
What a smaller scale changes is in params/seq2seq.yaml, and nowhere else.

Reading order: Config; the order of words; sentence pairs as numbers; networks (LSTMs, a Transformer for the what-if, an
ensemble); Task; pictures.

Shapes: batch = sentence pairs; source, target = words of a sentence, the source padded on the left and the target on
the right; hidden = width of the states; words = size of the target vocabulary.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.store import open_alignments, open_parallel
from reprise.parts.decoding import State, beam_search
from reprise.parts.nn.attention import KeysValues, MultiHead, sinusoids
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.transformer import Block
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import ORANGE, Chart, blank, charts, film
from reprise.parts.text import BucketSampler, Ragged, padded
from reprise.parts.training import Schedule
from reprise.parts.translation import BEGIN, END, PAD, SPECIAL, Pieces, bleu
from reprise.parts.vocabulary import Count

FRAMES = 8
"""Number of times before the end of training at which sentence vectors are recorded."""
FURTHER = 10
"""A translation has at most this many words more than the longest source of its batch."""
BLOCK = 100
"""Pairs that are scored or translated at once."""
GREEDY, TWO = 1, 2
"""Beams that are tried beside those of `Config.beams` (Section 3.2)."""
PLACES = 15
"""Words of a translation whose cost is charted, place by place."""
ACTORS = (("girl", "king"), ("teacher", "dog"))
VERBS = ("loves", "finds", "visits", "follows", "hears", "helps")
"""Sentences of the film: who does it to whom, in both orders (Figure 2)."""


class LSTM(Strict):
    """Section 2: one LSTM that reads, one that writes."""

    kind: Literal["lstm"]
    layers: Count
    """Of each of both."""
    width: Count
    """Of the embeddings."""
    hidden: Annotated[int, Field(ge=2, multiple_of=2)]
    """Width of a layer's states; with two directions each has half of it in the encoder."""
    directions: Literal[1, 2] = 1
    """Whether one LSTM reads the source, or two of them, one in each direction."""
    attention: bool = False
    """Whether the decoder's top states attend to the encoder's (Luong et al. 2015, Section 3.1)."""


class Attending(Strict):
    """A Transformer (Vaswani et al. 2017), in place of the LSTMs."""

    kind: Literal["transformer"]
    layers: Count
    """Of each of encoder and decoder."""
    width: Annotated[int, Field(ge=2, multiple_of=2)]
    """Of all states."""
    heads: Count
    """Of each layer; a divisor of `width`."""
    feed_forward: Count
    """Hidden units of a layer's feed-forward network."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Attending:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; expected a multiple of heads, {self.heads}")
        return self


class Config(ExperimentConfig):
    """Translation, learned from pairs of sentences."""

    part: Literal["phrases", "wmt14_french"]
    """Sentence pairs: made up, or WMT 2014 English-French."""
    source_words: Annotated[int, Field(ge=5)]
    """Size of the source vocabulary, four special words included: its most frequent words (Section 3.1)."""
    target_words: Annotated[int, Field(ge=5)]
    """Of the target vocabulary."""
    longest: Count
    """Training pairs of which a side has more words are left out."""
    long: Count
    """Test sentences of more source words are called long."""
    source: Literal["forward", "reversed", "permuted"]
    """Order in which the source is read: its own, reversed (Section 3.3), or one drawn once for each length."""
    target: Literal["forward", "reversed"]
    """Order in which the target is written."""
    network: Annotated[LSTM | Attending, Field(discriminator="kind")]
    members: Count
    """Networks of the ensemble, which differ in their initial weights and in the order of batches (Section 3.6)."""
    init: vocabulary.Initialization
    """Initial weights (Section 3.4)."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule
    batch_size: Count
    """Sentence pairs in an update."""
    duration: DurationField
    beams: Annotated[int, Field(ge=3)]
    """Of the widest search; `bleu` is of it."""
    translated: Count
    """Most test sentences to translate, for BLEU."""


# The order of words


def reading_order(kind: Literal["forward", "reversed", "permuted"], length: int) -> Int[np.ndarray, " length"]:
    """Return the place of the word that is read first, second, and so on, in a sentence of so many words.

    A permuted order is the same for all sentences of a length, and for all seeds.
    """
    if kind == "permuted":
        return np.random.default_rng(length).permutation(length)
    return np.arange(length)[:: -1 if kind == "reversed" else 1]


def lags(
    links: Iterable[tuple[int, int]], source: Int[np.ndarray, " source"], target: Int[np.ndarray, " target"]
) -> Int[np.ndarray, " links"]:
    """Return the time lag of each link, from a source to a target place (Section 3.3).

    It is the number of words from when the one is read to when the other is written, in these orders.
    """
    read, written = np.argsort(source), np.argsort(target)
    return np.array([len(source) - read[i] + written[j] for i, j in links])


# Sentence pairs as numbers


class Vocabularies(nn.Module):
    """Both languages' words, saved with the weights, so that a model always has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = Pieces(SPECIAL, None), Pieces(SPECIAL, None)

    def get_extra_state(self) -> Tensor:
        """Return the words as lines of JSON, uint8."""
        return torch.tensor(list(self.to_json().encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the words from `get_extra_state`."""
        self.source, self.target = map(Pieces.from_json, bytes(state.cpu().numpy()).decode().split("\n"))

    def to_json(self) -> str:
        """Return the words of the source and of the target, in the order of their ids, a line each."""
        return f"{self.source.to_json()}\n{self.target.to_json()}"


def split_words(text: str) -> str:
    """Return runs of letters and digits, and single other signs, with spaces between them."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text))


def frequent_words(texts: Iterable[str], most: int) -> Pieces:
    """Return the most frequent words of the texts, `most` with the special ones, those as frequent by alphabet."""
    counts = Counter(chain.from_iterable(text.split() for text in texts))
    return Pieces([*SPECIAL, *sorted(counts, key=lambda word: (-counts[word], word))][:most], None)


class Batch(NamedTuple):
    """Sentence pairs in the order in which they are read and written."""

    source: Int[Tensor, "batch source"]
    """Padded on the left, so that the last word is the last that is read."""
    shown: Int[Tensor, "batch target"]
    """Words that the decoder reads, from BEGIN."""
    targets: Int[Tensor, "batch target"]
    """Words that it is to write, one place ahead of `shown`, up to END; PAD where nothing is."""


class Pairs:
    """A split."""

    def __init__(self, source: Ragged, target: Ragged, config: Config) -> None:
        self.words, self.count = source.lengths, target.lengths + 1
        """Source words of each pair, and words to write, END included."""
        # Mirrored, as padding on the right becomes padding on the left when a batch is mirrored again.
        self.source = _joined(row[reading_order(config.source, len(row))][::-1] for row in _rows(source))
        self.target = _joined(
            np.concatenate([[BEGIN], row[reading_order(config.target, len(row))], [END]]) for row in _rows(target)
        )

    def batch(self, at: Int[np.ndarray, " batch"], device: torch.device) -> Batch:
        """Return the pairs at these places."""
        source, target = (padded(side, at, PAD).to(device) for side in (self.source, self.target))
        return Batch(source.flip(1), target[:, :-1], target[:, 1:])

    def blocks(self, most: int | None = None) -> Iterator[Int[np.ndarray, " block"]]:
        """Yield pairs of similar lengths, BLOCK at a time, of the first `most`."""
        order = np.argsort(self.words[:most], kind="stable")
        yield from (order[first : first + BLOCK] for first in range(0, len(order), BLOCK))


def _rows(texts: Ragged) -> Iterator[np.ndarray]:
    return (texts[i] for i in range(len(texts.offsets) - 1))


def _joined(rows: Iterable[np.ndarray]) -> Ragged:
    every = list(rows)
    offsets = np.cumsum([0] + [len(one) for one in every], dtype=np.int64)
    return Ragged(np.concatenate(every).astype(np.int32), offsets)


# Networks


class LSTMs(nn.Module):
    """An LSTM that reads the source, and one that begins in its last state and writes the target (Section 2).

    Without biases an LSTM in state 0 that reads 0 stays in state 0, so that padding before a sentence changes nothing.
    """

    def __init__(self, network: LSTM, config: Config) -> None:
        super().__init__()
        n, width, layers = network.hidden, network.width, network.layers
        self.source_words = nn.Embedding(config.source_words, width, padding_idx=PAD)
        self.target_words = nn.Embedding(config.target_words, width, padding_idx=PAD)
        self.readers = nn.ModuleList(
            nn.LSTM(width, n // network.directions, layers, bias=False, batch_first=True)
            for _ in range(network.directions)
        )
        self.writer = nn.LSTM(width, n, layers, bias=False, batch_first=True)
        self.attention = MultiHead(n, 1, n, n) if network.attention else None
        self.joined = nn.Linear(2 * n, n) if network.attention else None
        self.logits = nn.Linear(n, config.target_words, bias=False)
        initialize_(self, config.init)
        for lstm in (*self.readers, self.writer):
            initialize_recurrent_(lstm, config.init)

    def read(
        self, source: Int[Tensor, "batch source"]
    ) -> tuple[Float[Tensor, "batch source hidden"], Float[Tensor, "layers batch hidden"], Tensor]:
        """Return the top states at each word, and all layers' last hidden and cell states."""
        orders = [source, mirrored(source)][: len(self.readers)]
        found = [reader(self.source_words(one)) for reader, one in zip(self.readers, orders, strict=True)]
        top = torch.cat([states for states, _ in found], 2)
        return top, torch.cat([h for _, (h, _) in found], 2), torch.cat([c for _, (_, c) in found], 2)

    def vectors(self, source: Int[Tensor, "batch source"]) -> Float[Tensor, "batch hidden"]:
        """Return the vectors of sentences: the top layer's last hidden states (Section 3.8)."""
        return self.read(source)[1][-1]

    def start(self, source: Int[Tensor, "batch source"]) -> State:
        """Read the source, with nothing written yet."""
        top, hidden, cell = self.read(source)
        state = {"hidden": hidden.transpose(0, 1), "cell": cell.transpose(0, 1)}
        if self.attention is None:
            return state
        return {**state, "memory": self.attention.keys_values(top), "mask": source != PAD}

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target words"]:
        """Return the logits of what follows each word of `target`."""
        return self._written(target, self.start(source))[0]

    def next(self, tokens: Int[Tensor, " batch"], state: State) -> tuple[Float[Tensor, "batch words"], State]:
        """Write one word."""
        logits, state = self._written(tokens[:, None], state)
        return logits[:, 0], state

    def _written(self, target: Tensor, state: State) -> tuple[Tensor, State]:
        before = (state["hidden"].transpose(0, 1).contiguous(), state["cell"].transpose(0, 1).contiguous())
        x, (hidden, cell) = self.writer(self.target_words(target), before)
        if self.attention is not None and self.joined is not None:
            found = self.attention(x, state["memory"], state["mask"])
            x = torch.tanh(self.joined(torch.cat([x, found], 2)))
        return self.logits(x), {**state, "hidden": hidden.transpose(0, 1), "cell": cell.transpose(0, 1)}


def mirrored(source: Int[Tensor, "batch source"]) -> Int[Tensor, "batch source"]:
    """Return each sentence in reverse, its padding still on the left."""
    places, pads = torch.arange(source.shape[1], device=source.device), (source == PAD).sum(1, keepdim=True)
    return source.gather(1, torch.where(places < pads, places, source.shape[1] - 1 - (places - pads)))


def initialize_recurrent_(lstm: nn.Module, init: vocabulary.Initialization) -> None:
    """Draw all weights of an nn.LSTM as `init` says of a layer's."""
    for weight in lstm.parameters():
        layer = nn.Linear(1, 1, bias=False, device="meta")
        layer.weight = weight
        initialize_(layer, init)


class WritingLayer(nn.Module):
    """A layer of the Transformer's decoder: it looks at what is written, then at the source."""

    def __init__(self, width: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        size = width // heads
        self.own, self.look = MultiHead(width, heads, size, size), MultiHead(width, heads, size, size)
        self.feed_forward = nn.Sequential(nn.Linear(width, feed_forward), nn.ReLU(), nn.Linear(feed_forward, width))
        self.own_norm, self.look_norm, self.feed_forward_norm = (nn.LayerNorm(width) for _ in range(3))

    def forward(
        self,
        x: Float[Tensor, "batch target hidden"],
        memory: KeysValues,
        mask: Bool[Tensor, "batch source"],
        past: KeysValues | None = None,
    ) -> tuple[Float[Tensor, "batch target hidden"], KeysValues]:
        """Return the layer's output, and the keys and values of all that is written; `past` are those before `x`."""
        own = self.own.keys_values(x)
        if past is not None:
            own = torch.cat([past[0], own[0]], 2), torch.cat([past[1], own[1]], 2)
        x = self.own_norm(x + self.own(x, own, causal=past is None))
        x = self.look_norm(x + self.look(x, memory, mask))
        return self.feed_forward_norm(x + self.feed_forward(x)), own


class Transformer(nn.Module):
    """An encoder and a decoder of attention alone, with the inputs and outputs of `LSTMs`."""

    def __init__(self, network: Attending, config: Config) -> None:
        super().__init__()
        width, sizes = network.width, (network.width, network.heads, network.feed_forward)
        self.source_words = nn.Embedding(config.source_words, width, padding_idx=PAD)
        self.target_words = nn.Embedding(config.target_words, width, padding_idx=PAD)
        self.encoder = nn.ModuleList(Block(*sizes) for _ in range(network.layers))
        self.decoder: Any = nn.ModuleList(WritingLayer(*sizes) for _ in range(network.layers))
        self.logits = nn.Linear(width, config.target_words, bias=False)
        initialize_(self, config.init)
        for words in (self.source_words, self.target_words):
            nn.init.normal_(words.weight)  # as large as the positions that are added

    def read(self, source: Int[Tensor, "batch source"]) -> Float[Tensor, "batch source hidden"]:
        """Return a state for each word; positions are counted from the first that is no padding."""
        mask = source != PAD
        table = sinusoids(source.shape[1], self.logits.in_features).to(self.logits.weight)
        x = self.source_words(source) + table[(mask.cumsum(1) - 1).clamp(min=0)]
        for block in self.encoder:
            x = block(x, mask)
        return x

    def start(self, source: Int[Tensor, "batch source"]) -> State:
        """Read the source, with nothing written yet."""
        states = self.read(source)
        memory = [layer.look.keys_values(states) for layer in self.decoder]
        return {"mask": source != PAD, "memory": memory, "past": [(k[:, :, :0], v[:, :, :0]) for k, v in memory]}

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target words"]:
        """Return the logits of what follows each word of `target`, all at once."""
        x, state = self._embedded(target, 0), self.start(source)
        for layer, memory in zip(self.decoder, state["memory"], strict=True):
            x, _ = layer(x, memory, state["mask"])
        return self.logits(x)

    def next(self, tokens: Int[Tensor, " batch"], state: State) -> tuple[Float[Tensor, "batch words"], State]:
        """Write one word; keys and values of earlier ones are kept in the state."""
        x, past = self._embedded(tokens[:, None], state["past"][0][0].shape[2]), []
        for layer, memory, before in zip(self.decoder, state["memory"], state["past"], strict=True):
            x, own = layer(x, memory, state["mask"], before)
            past.append(own)
        return self.logits(x)[:, 0], {**state, "past": past}

    def _embedded(self, target: Tensor, first: int) -> Tensor:
        x = self.target_words(target)
        return x + sinusoids(first + target.shape[1], x.shape[2])[first:].to(x)


class Ensemble(nn.Module):
    """Networks whose probabilities are averaged (Section 3.6); of one alone, that network."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members: Any = nn.ModuleList(members)

    def start(self, source: Int[Tensor, "batch source"]) -> State:
        """Let each read the source."""
        return [one.start(source) for one in self.members]

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target words"]:
        """Return the logarithm of the mean probability of what follows each word of `target`."""
        return mean_log_prob([one(source, target) for one in self.members])

    def next(self, tokens: Int[Tensor, " batch"], state: State) -> tuple[Float[Tensor, "batch words"], State]:
        """Write one word."""
        found = [one.next(tokens, its) for one, its in zip(self.members, state, strict=True)]
        return mean_log_prob([logits for logits, _ in found]), [its for _, its in found]


def mean_log_prob(logits: Sequence[Float[Tensor, "*batch words"]]) -> Float[Tensor, "*batch words"]:
    """Return the logarithm of the mean of the members' probabilities."""
    return torch.stack([one.log_softmax(-1) for one in logits]).logsumexp(0) - math.log(len(logits))


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the ensemble that translates."""
    network = config.network
    build = (lambda: LSTMs(network, config)) if isinstance(network, LSTM) else (lambda: Transformer(network, config))
    return {"network": Ensemble([build() for _ in range(config.members)])}


# Training


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


# Pictures


def film_sentences() -> list[str]:
    """Return the sentences of the film, those of one actor together."""
    return [f"the {actor} {verb} the {other}" for one in ACTORS for actor, other in (one, one[::-1]) for verb in VERBS]


def principal_axes(vectors: Float[np.ndarray, "sentences hidden"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the vectors and their first two principal axes [2, hidden]."""
    mean = vectors.mean(0)
    return mean, np.linalg.svd(vectors - mean, full_matrices=False)[2][:2]


def sentence_film(watched: Float[np.ndarray, "frames sentences hidden"]) -> Picture:
    """Show the vectors over training (Figure 2), on the two principal axes of the last ones."""
    mean, axes_of = principal_axes(watched[-1])
    points = (watched - mean) @ axes_of.T
    figure, [axes] = blank(3.2)
    reach = 1.1 * np.abs(points).max() + 1e-9
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="first principal axis", ylabel="second principal axis")
    names = [f"the {a} … the {b}" for one in ACTORS for a, b in (one, one[::-1])]
    size = len(VERBS)
    dots = [
        axes.scatter(*points[0, k * size : (k + 1) * size].T, s=26, label=name, marker="os"[k % 2])
        for k, name in enumerate(names)
    ]
    [track] = axes.plot([0, 0], [0, 0], color=ORANGE, transform=axes.transAxes, linewidth=3, clip_on=False)
    axes.legend(fontsize=7, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    def show(frame: int) -> None:
        moment = min(frame // 3, len(points) - 1)
        track.set_xdata([0, (moment + 1) / len(points)])
        for k, one in enumerate(dots):
            one.set_offsets(points[moment, k * size : (k + 1) * size])

    return film(figure, [*dots, track], 3 * len(points) + 9, show)


def place_chart(places: Sequence[int], bits: Sequence[float]) -> Picture:
    """Show what a word costs by its place in the translation."""
    return charts(
        Chart("What does each word cost?", {"": (places, bits)}, "word of the translation", "bits", bounds=(0, 6))
    )
