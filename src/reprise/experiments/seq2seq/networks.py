"""Networks that read a sentence and write another: LSTMs, a Transformer, an ensemble of either."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprise.experiments.seq2seq.config import LSTM, Attending, Config
from reprise.parts import vocabulary
from reprise.parts.decoding import State
from reprise.parts.nn.attention import KeysValues, MultiHead, sinusoids
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.transformer import Block
from reprise.parts.translation import PAD


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
