"""Attention Is All You Need. Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser & Polosukhin. NeurIPS 2017,
https://arxiv.org/abs/1706.03762.

Claimed: a network of attention alone translates better than recurrent ones, at a fraction of the training cost
(Abstract; Section 6.1; Table 2: 27.3 BLEU for 3.3e18 FLOP, where GNMT needs 2.3e19 for 24.6). One head is 0.9 BLEU
worse than eight (Section 6.2; Table 3, rows A), smaller keys hurt (rows B), learned positions do as well as sinusoids
(row E); without recurrence or convolution, positions have to be injected (Section 3.5). The learning rate is warmed up
(Section 5.3); the paper does not say what happens otherwise.

Deviations:
- Section 5.1: batches have a fixed number of sentences of similar length, not of tokens.
- Section 6.1: checkpoints are averaged that lie a number of updates apart, not ten minutes.
- Section 6.1's BLEU is of tokenised text with compounds split. Here it is sacreBLEU's, of the text itself, and about
  one point lower.
- The paper does not give the initial weights: glorot uniform, and N(0, 1/d) for embeddings, as in the authors' code.
- Table 2's recurrent network is GNMT. Ours is a GRU with attention (Luong et al. 2015), whose encoder has one
  bidirectional layer below the others, like GNMT's; it shares all embeddings, as the Transformer does.
- Table 2 multiplies time by an estimate of each device's speed. Here FLOPs of matrix products are counted, forward and
  twice as many backward, padding included.
What a smaller scale changes is in params/transformer.yaml, and nowhere else.

Shapes: batch = sentence pairs; source, target = pieces of a sentence, special ones included, padded on the right; dim =
width, the paper's d_model; pieces = size of the shared vocabulary.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.store import open_alignments, open_parallel
from reprise.parts.decoding import State, beam_search
from reprise.parts.nn.attention import KeysValues, MultiHead, sinusoids
from reprise.parts.nn.build import activation, initialize_
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import ORANGE, blank, film
from reprise.parts.text import BucketSampler, Ragged, padded
from reprise.parts.training import Schedule
from reprise.parts.translation import BEGIN, END, PAD, SPECIAL, Encoded, Pieces, bleu, encoded
from reprise.parts.vocabulary import Count

BLOCK = 100
"""Pairs that are scored or translated at once."""
FRAMES, SHOWN = 16, 16
"""Number of times before the end of training at which attention is recorded; most pieces of the sentence shown."""
FURTHER = 50
"""A translation has at most this many pieces more than the longest source of its batch (Section 6.1)."""


class Attending(Strict):
    """The Transformer of Section 3."""

    kind: Literal["transformer"]
    layers: Count
    """N, of the encoder and of the decoder."""
    width: Count
    """d_model."""
    heads: Count
    """h."""
    d_k: Count
    """Size of a head's queries and keys."""
    d_v: Count
    """Size of a head's values."""
    feed_forward: Count
    """d_ff."""
    activation: vocabulary.Activation = "relu"
    """Activation of the feed-forward networks' hidden layers."""
    positions: Literal["sinusoidal", "learned", "none"]
    """Positional encoding (Section 3.5)."""
    norm: Literal["post", "pre"]
    """Layer normalisation of the sum of a sub-layer and its input, as in the paper (post), or of the input (pre)."""


class Recurrent(Strict):
    """GRUs with attention: the encoder's first layer is bidirectional, all others read or write forward."""

    kind: Literal["gru"]
    layers: Count
    """Number of layers of the encoder, and of the decoder."""
    width: Count
    """Width of the embeddings."""
    hidden: Annotated[int, Field(ge=2, multiple_of=2)]
    """Width of the states."""


class Config(ExperimentConfig):
    """Translation, learned from pairs of sentences."""

    part: Literal["phrases", "bible", "wmt14"]
    """Sentence pairs: made up with their alignments, or the Bible in English and Portuguese, or WMT 2014
    English-German."""
    byte_pairs: bool
    """Whether the pieces are learned by byte-pair encoding (Section 5.1), or are whole words."""
    pieces: Annotated[int, Field(ge=8)]
    """Size of the vocabulary that both languages share; of words, at least their number."""
    longest: Count
    """Pairs of which a side has more pieces are left out."""
    network: Annotated[Attending | Recurrent, Field(discriminator="kind")]
    dropout: vocabulary.Dropout
    """P_drop, of each sub-layer's output and of the sums of embeddings and positions (Section 5.4)."""
    smoothing: vocabulary.Fraction
    """Label smoothing (Section 5.4)."""
    init: vocabulary.Initialization
    """Initial weights, but for embeddings."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule
    batch_size: Count
    """Sentence pairs in an update."""
    duration: DurationField
    averaging: Count
    """Number of checkpoints whose mean is evaluated (Section 6.1)."""
    averaged_every: DurationField
    """From one of them to the next."""
    beams: Count
    alpha: vocabulary.Decay
    """Exponent of the length penalty."""
    translated: Count
    """Most sentences of each split to translate, for BLEU."""


# Networks


class Layer(nn.Module):
    """A layer of the encoder, or with `cross` of the decoder (Section 3.1)."""

    def __init__(self, network: Attending, dropout: float, *, cross: bool) -> None:
        super().__init__()
        sizes = network.width, network.heads, network.d_k, network.d_v
        self.pre = network.norm == "pre"
        self.own, self.own_norm = MultiHead(*sizes), nn.LayerNorm(network.width)
        self.cross = MultiHead(*sizes) if cross else None
        self.cross_norm = nn.LayerNorm(network.width) if cross else None
        self.feed_forward = nn.Sequential(
            nn.Linear(network.width, network.feed_forward),
            activation(network.activation),
            nn.Linear(network.feed_forward, network.width),
        )
        self.feed_forward_norm = nn.LayerNorm(network.width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch seq dim"],
        mask: Bool[Tensor, "batch seq"] | None = None,
        *,
        causal: bool = False,
        past: KeysValues | None = None,
        memory: KeysValues | None = None,
        memory_mask: Bool[Tensor, "batch source"] | None = None,
        watch: list[Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch seq dim"], KeysValues]:
        """Return the layer's output, and the keys and values of its own positions, those in `past` first.

        The decoder attends to `memory`, the encoder's keys and values; the weights are appended to `watch`.
        """
        h = self._before(self.own_norm, x)
        own = self.own.keys_values(h)
        if past is not None:
            own = torch.cat([past[0], own[0]], 2), torch.cat([past[1], own[1]], 2)
        x = self._after(self.own_norm, x, self.own(h, own, mask, causal=causal))
        if self.cross is not None and self.cross_norm is not None and memory is not None:
            attended = self.cross(self._before(self.cross_norm, x), memory, memory_mask, watch=watch)
            x = self._after(self.cross_norm, x, attended)
        transformed = self.feed_forward(self._before(self.feed_forward_norm, x))
        return self._after(self.feed_forward_norm, x, transformed), own

    def _before(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        return norm(x) if self.pre else x

    def _after(self, norm: nn.LayerNorm, x: Tensor, branch: Tensor) -> Tensor:
        total = x + self.dropout(branch)
        return total if self.pre else norm(total)


class Transformer(nn.Module):
    """Encoder and decoder of Figure 1; one matrix embeds both languages and gives the logits (Section 3.4)."""

    def __init__(self, network: Attending, config: Config) -> None:
        super().__init__()
        self.network = network
        self.embedding = _embedding(config.pieces, network.width)
        # Of the longest sentence and one special piece.
        self.learned = _embedding(config.longest + 1, network.width) if network.positions == "learned" else None
        self.encoder = nn.ModuleList(Layer(network, config.dropout, cross=False) for _ in range(network.layers))
        self.decoder = nn.ModuleList(Layer(network, config.dropout, cross=True) for _ in range(network.layers))
        pre = network.norm == "pre"
        self.encoder_norm = nn.LayerNorm(network.width) if pre else nn.Identity()
        self.decoder_norm = nn.LayerNorm(network.width) if pre else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        for layers in (self.encoder, self.decoder):
            initialize_(layers, config.init)

    def embedded(self, ids: Int[Tensor, "batch seq"], first: int = 0) -> Float[Tensor, "batch seq dim"]:
        """Return embeddings times sqrt(d_model) plus positions, of which `first` is that of the first piece."""
        x = self.embedding(ids) * math.sqrt(self.network.width)
        if self.learned is not None:
            places = torch.arange(first, first + ids.shape[1], device=ids.device)
            # Only a translation can be longer than what was learned.
            x = x + self.learned(places.clamp(max=self.learned.num_embeddings - 1))
        elif self.network.positions == "sinusoidal":
            x = x + sinusoids(first + ids.shape[1], self.network.width)[first:].to(x)
        return self.dropout(x)

    def encoded(self, source: Int[Tensor, "batch source"]) -> list[KeysValues]:
        """Read the source; return its keys and values for each layer of the decoder."""
        x, mask = self.embedded(source), source != PAD
        for layer in self.encoder:
            x, _ = layer(x, mask)
        x = self.encoder_norm(x)
        return [layer.cross.keys_values(x) for layer in _layers(self.decoder)]

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        watch: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch target pieces"]:
        """Return the logits of what follows each piece of `target`, all at once.

        The decoder's attention to the source, [batch, heads, target, source], is appended to `watch` layer by layer.
        """
        x, mask = self.embedded(target), source != PAD
        for layer, memory in zip(self.decoder, self.encoded(source), strict=True):
            x, _ = layer(x, causal=True, memory=memory, memory_mask=mask, watch=watch)
        return functional.linear(self.decoder_norm(x), self.embedding.weight)

    def start(self, source: Int[Tensor, "batch source"]) -> State:
        """Read the source, with nothing written yet."""
        memory = self.encoded(source)
        return {"mask": source != PAD, "memory": memory, "past": [(k[:, :, :0], v[:, :, :0]) for k, v in memory]}

    def next(self, tokens: Int[Tensor, " batch"], state: State) -> tuple[Float[Tensor, "batch pieces"], State]:
        """Write one piece; keys and values of earlier ones are kept in the state."""
        x, past = self.embedded(tokens[:, None], first=state["past"][0][0].shape[2]), []
        for layer, memory, before in zip(self.decoder, state["memory"], state["past"], strict=True):
            x, own = layer(x, past=before, memory=memory, memory_mask=state["mask"])
            past.append(own)
        return functional.linear(self.decoder_norm(x)[:, 0], self.embedding.weight), {**state, "past": past}

    def multiplications(self, batch: int, source: int, target: int) -> int:
        """Return the number of multiplications of a forward pass, in matrix products alone."""
        n = self.network
        attended = n.heads * (n.d_k + n.d_v)
        projected, transformed = n.width * attended, 2 * n.width * n.feed_forward
        encoder = source * (2 * projected + transformed) + source * source * attended
        # To the decoder's sub-layers each of both sides brings half of the projections from one to the other.
        decoder = target * (3 * projected + transformed) + source * projected + target * (target + source) * attended
        return batch * (n.layers * (encoder + decoder) + target * n.width * self.embedding.num_embeddings)


class GRUs(nn.Module):
    """An encoder and a decoder of GRUs with attention, with the inputs and outputs of `Transformer`."""

    def __init__(self, network: Recurrent, config: Config) -> None:
        super().__init__()
        width, hidden, layers = network.width, network.hidden, network.layers
        self.network = network
        self.embedding = _embedding(config.pieces, width)
        self.onward, self.back = (nn.GRU(width, hidden // 2, batch_first=True) for _ in range(2))
        dropout = config.dropout if layers > 2 else 0.0
        self.encoder = nn.GRU(hidden, hidden, layers - 1, batch_first=True, dropout=dropout) if layers > 1 else None
        self.begin = nn.Linear(hidden, layers * hidden)
        dropout = config.dropout if layers > 1 else 0.0
        self.decoder = nn.GRU(width, hidden, layers, batch_first=True, dropout=dropout)
        self.attention = MultiHead(hidden, 1, hidden, hidden)
        self.joined = nn.Linear(2 * hidden, width)
        self.dropout = nn.Dropout(config.dropout)
        for module in (self.begin, self.attention, self.joined):
            initialize_(module, config.init)

    def embedded(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq dim"]:
        return self.dropout(self.embedding(ids) * math.sqrt(self.network.width))

    def encoded(self, source: Int[Tensor, "batch source"]) -> Float[Tensor, "batch source hidden"]:
        """Read the source both ways, each from its first piece, so that padding is never read before a sentence."""
        x, places = self.embedded(source), torch.arange(source.shape[1], device=source.device)
        last = (source != PAD).sum(1, keepdim=True) - 1
        reversed_ = torch.where(places <= last, last - places, places)[:, :, None]
        back = torch.take_along_dim(self.back(torch.take_along_dim(x, reversed_, 1))[0], reversed_, 1)
        memory = torch.cat([self.onward(x)[0], back], 2)
        return memory if self.encoder is None else self.encoder(self.dropout(memory))[0]

    def start(self, source: Int[Tensor, "batch source"]) -> State:
        """Read the source; the decoder begins with what its first position knows, as in Bahdanau et al. (2015)."""
        memory = self.encoded(source)
        states = torch.tanh(self.begin(memory[:, 0])).unflatten(1, (self.network.layers, -1))
        return {"mask": source != PAD, "states": states, "memory": self.attention.keys_values(memory)}

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        watch: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch target pieces"]:
        """As `Transformer.forward`, with a single layer of attention."""
        return self._written(target, self.start(source), watch)[0]

    def next(self, tokens: Int[Tensor, " batch"], state: State) -> tuple[Float[Tensor, "batch pieces"], State]:
        """Write one piece."""
        logits, state = self._written(tokens[:, None], state, None)
        return logits[:, 0], state

    def _written(self, target: Tensor, state: State, watch: list[Tensor] | None) -> tuple[Tensor, State]:
        h, states = self.decoder(self.embedded(target), state["states"].transpose(0, 1).contiguous())
        context = self.attention(h, state["memory"], state["mask"], watch=watch)
        joined = self.dropout(torch.tanh(self.joined(torch.cat([context, h], 2))))
        return functional.linear(joined, self.embedding.weight), {**state, "states": states.transpose(0, 1)}

    def multiplications(self, batch: int, source: int, target: int) -> int:
        """As `Transformer.multiplications`."""
        n = self.network
        both_ways, above = 3 * n.hidden * (n.width + n.hidden // 2), 6 * (n.layers - 1) * n.hidden**2
        encoder = source * (both_ways + above + 2 * n.hidden**2) + n.layers * n.hidden**2
        decoder = target * (3 * n.hidden * (n.width + n.hidden) + above + 2 * n.hidden**2 + 2 * n.hidden * n.width)
        logits = target * n.width * self.embedding.num_embeddings
        return batch * (encoder + decoder + 2 * target * source * n.hidden + logits)


def _layers(layers: nn.ModuleList) -> Iterator[Any]:
    # torch types what is in a list as any module.
    return iter(layers)


def _embedding(count: int, width: int) -> nn.Embedding:
    embedding = nn.Embedding(count, width)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    return embedding


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the network that translates."""
    if isinstance(config.network, Recurrent):
        return {"network": GRUs(config.network, config)}
    return {"network": Transformer(config.network, config)}


# Training


def smoothed_loss(
    logits: Float[Tensor, "batch target pieces"], targets: Int[Tensor, "batch target"], smoothing: float
) -> Float[Tensor, ""]:
    """Mean cross-entropy per piece, in nats, with a share of each label spread over all pieces (Section 5.4)."""
    return functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, label_smoothing=smoothing
    )


class Batch(NamedTuple):
    """Sentence pairs, padded on the right."""

    source: Int[Tensor, "batch source"]
    """Ends with END."""
    shown: Int[Tensor, "batch target"]
    """Pieces that the decoder reads, from BEGIN."""
    targets: Int[Tensor, "batch target"]
    """Pieces that it is to write, one place ahead of `shown`, up to END; PAD where nothing is."""


class Pairs:
    """A split, with the special pieces."""

    def __init__(self, split: Encoded, at: Int[np.ndarray, " pairs"]) -> None:
        """Batch of the pairs `at` of a split."""
        self.source = bracketed(_at(split.source, at), first=None)
        self.target = bracketed(_at(split.target, at), first=BEGIN)
        self.lengths = np.maximum(self.source.lengths, self.target.lengths)

    def batch(self, at: Int[np.ndarray, " batch"], device: torch.device) -> Batch:
        """Return pairs, [batch]."""
        source, target = (padded(side, at, PAD).to(device) for side in (self.source, self.target))
        return Batch(source, target[:, :-1], target[:, 1:])

    def blocks(self, most: int | None = None) -> Iterator[Int[np.ndarray, " block"]]:
        """Yield pairs of similar lengths, BLOCK at a time, of the first `most`."""
        order = np.argsort(self.lengths[:most], kind="stable")
        yield from (order[first : first + BLOCK] for first in range(0, len(order), BLOCK))


def bracketed(texts: Ragged, first: int | None) -> Ragged:
    """Put `first`, if any, before each sequence and END after it."""
    values, offsets = np.insert(texts.values, texts.offsets[1:], END), texts.offsets + np.arange(len(texts.offsets))
    if first is None:
        return Ragged(values, offsets)
    return Ragged(np.insert(values, offsets[:-1], first), offsets + np.arange(len(offsets)))


def _at(texts: Ragged, at: Int[np.ndarray, " chosen"]) -> Ragged:
    """Return the sequences `at`."""
    lengths = texts.lengths[at]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.repeat(texts.offsets[:-1][at] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Ragged(np.asarray(texts.values)[places], offsets)


class Vocabulary(nn.Module):
    """The pieces, saved with the weights, so that a model always has its vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces = Pieces(SPECIAL, None)

    def get_extra_state(self) -> Tensor:
        """Return the pieces as JSON, uint8."""
        return torch.tensor(list(self.pieces.to_json().encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the pieces from `get_extra_state`."""
        self.pieces = Pieces.from_json(bytes(state.cpu().numpy()).decode())


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
        """Encode all splits; a pair of the validation split is shown."""
        config, folder = self.config, self.run.data / self.config.part
        texts = {split: open_parallel(folder, split) for split in ("train", "validation", "test")}
        byte_pairs = config.pieces if config.byte_pairs else None
        self.vocabulary.pieces, splits = encoded(texts, _cache(self.run.data), byte_pairs=byte_pairs)
        if (count := len(self.vocabulary.pieces)) > config.pieces:
            raise ValueError(f"pieces is {config.pieces}; expected at least {count}, the number of different words")
        kept = {split: pairs.no_longer_than(config.longest) for split, pairs in splits.items()}
        self.pairs = {split: Pairs(pairs, kept[split]) for split, pairs in splits.items()}
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
        }
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


def shown_pair(lengths: Int[np.ndarray, " pairs"]) -> int:
    """Return the first pair with 10 to SHOWN pieces, or the one nearest to it."""
    return int(np.argmin(np.maximum(10 - lengths, 0) + np.maximum(lengths - SHOWN, 0)))


def _cache(data: Path) -> Path:
    """Return the cache next to the runs' working folders, which `REPRISE_WORK` moves."""
    return Path(os.environ.get("REPRISE_WORK", data.parents[2] / ".reprise" / "runs")).parent / "cache" / "pairs"


# Pictures


def attention_film(watched: Float[np.ndarray, "frames target source"], source: list[str], target: list[str]) -> Picture:
    """Show attention over training: darker is more; a row for each piece written, a column for each piece read."""
    source, target = source[: watched.shape[2]], target[: watched.shape[1]]
    names = [[piece.replace("▁", " ") for piece in side] for side in (source, target)]
    figure, [axes] = blank(1.1 + 0.22 * max(len(target), 6))
    image = axes.imshow(watched[0, : len(target), : len(source)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source)), names[0], rotation=60, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(target)), names[1])
    axes.set_xticks([place + 0.5 for place in range(len(source))], minor=True)
    axes.set_yticks([place + 0.5 for place in range(len(target))], minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    [track] = axes.plot([0, 0], [-0.02, -0.02], color=ORANGE, transform=axes.transAxes, linewidth=3, clip_on=False)

    def show(frame: int) -> None:
        moment = min(frame // 3, len(watched) - 1)
        image.set_data(watched[moment, : len(target), : len(source)])
        track.set_xdata([0, (moment + 1) / len(watched)])

    return film(figure, [image, track], 3 * len(watched) + 12, show)
