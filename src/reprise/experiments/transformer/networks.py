"""The Transformer, and GRUs with attention, with the same inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reprise.experiments.transformer.config import Attending, Config, Recurrent
from reprise.parts.decoding import State
from reprise.parts.nn.attention import KeysValues, MultiHead, sinusoids
from reprise.parts.nn.build import activation, initialize_
from reprise.parts.translation import PAD


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
