"""An encoder, the context drawn from its annotations for each word, and a decoder (Section 3; Appendix A)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reprise.experiments.attention_nmt.config import Config
from reprise.parts import vocabulary
from reprise.parts.decoding import State
from reprise.parts.nn.build import initialize_
from reprise.parts.translation import PAD


class Alignment(nn.Module):
    """The alignment model a(s_(i-1), h_j) (Section 3.1; Appendix A.1.2)."""

    def __init__(self, hidden: int, memory: int, units: int, *, additive: bool) -> None:
        super().__init__()
        self.query = nn.Linear(hidden, units, bias=False)
        self.key = nn.Linear(memory, units, bias=False)
        self.v = nn.Linear(units, 1, bias=False) if additive else None

    def forward(
        self,
        state: Float[Tensor, "batch hidden"],
        keys: Float[Tensor, "batch source units"],
        mask: Bool[Tensor, "batch source"],
    ) -> Float[Tensor, "batch source"]:
        """Return alpha_ij (Equation 6) over the source words where `mask` is true; `keys` are U_a h_j."""
        query = self.query(state)[:, None]
        if self.v is None:
            scores = (query * keys).sum(-1) * keys.shape[-1] ** -0.5
        else:
            scores = self.v(torch.tanh(query + keys))[..., 0]
        return scores.masked_fill(~mask, -torch.inf).softmax(-1)


def fixed_weights(
    kind: Literal["uniform", "diagonal"], mask: Bool[Tensor, "batch source"], places: Int[Tensor, "batch target"]
) -> Float[Tensor, "batch target source"]:
    """Return weights that are not searched for: equal ones, or all on the word at each of `places`, or on the last."""
    lengths = mask.sum(1, keepdim=True)
    if kind == "uniform":
        return (mask / lengths)[:, None].expand(-1, places.shape[1], -1)
    return functional.one_hot(torch.minimum(places, lengths - 1), mask.shape[1]).to(torch.get_default_dtype())


class Translator(nn.Module):
    """RNNsearch, and RNNencdec if its context is fixed (Appendix A.2)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        n, width = config.hidden, config.width
        memory = 2 * n if config.encoder == "both" else n
        self.context: Any = config.context
        self.source_words, self.target_words = nn.Embedding(config.words, width), nn.Embedding(config.words, width)
        self.forward_reader = nn.GRU(width, n, batch_first=True) if config.encoder != "backward" else None
        self.backward_reader = nn.GRU(width, n, batch_first=True) if config.encoder != "forward" else None
        self.begin = nn.Linear(n, n)
        searches = config.context in ("additive", "dot")
        self.alignment = (
            Alignment(n, memory, config.alignment, additive=config.context == "additive") if searches else None
        )
        self.decoder = nn.GRU(width + memory, n, batch_first=True)
        self.output = nn.Linear(n + width + memory, 2 * config.maxout)
        self.logits = nn.Linear(config.maxout, config.words)
        initialize_(self, config.init)
        for gru in (self.forward_reader, self.backward_reader, self.decoder):
            if gru is not None:
                initialize_gru_(gru, config.init)

    def read(
        self, source: Int[Tensor, "batch source"]
    ) -> tuple[Float[Tensor, "batch source memory"], Float[Tensor, "batch memory"], Float[Tensor, "batch hidden"]]:
        """Return annotations h_j, the last state of each direction, joined, and that from which the decoder begins.

        Each direction starts at a word of the sentence, so that padding is never read before it.
        """
        x, places = self.source_words(source), torch.arange(source.shape[1], device=source.device)
        end = (source != PAD).sum(1, keepdim=True) - 1
        annotations, last = [], []
        if self.forward_reader is not None:
            states = self.forward_reader(x)[0]
            annotations.append(states)
            last.append(_at(states, end)[:, 0])
        if self.backward_reader is not None:
            mirrored = torch.where(places <= end, end - places, places)
            states = _at(self.backward_reader(_at(x, mirrored))[0], mirrored)
            annotations.append(states)
            last.append(states[:, 0])
        return torch.cat(annotations, 2), torch.cat(last, 1), last[-1]

    def start(self, source: Int[Tensor, "batch source"]) -> State:
        """Read the source, with nothing written yet."""
        memory, last, first = self.read(source)
        state = {
            "mask": source != PAD,
            "memory": memory,
            "last": last,
            "hidden": torch.tanh(self.begin(first)),
            "place": torch.zeros_like(source[:, 0]),
        }
        return state if self.alignment is None else {**state, "keys": self.alignment.key(memory)}

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        watch: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch target words"]:
        """Return the logits of what follows each word of `target`.

        The weights of the source words [batch, target, source] with which it is written are appended to `watch`; there
        are none if the context is the encoder's last states.
        """
        return self._written(target, self.start(source), watch)[0]

    def next(self, tokens: Int[Tensor, " batch"], state: State) -> tuple[Float[Tensor, "batch words"], State]:
        """Write one word."""
        logits, state = self._written(tokens[:, None], state, None)
        return logits[:, 0], state

    def _written(self, target: Tensor, state: State, watch: list[Tensor] | None) -> tuple[Tensor, State]:
        x, count = self.target_words(target), target.shape[1]
        if self.alignment is None:
            if self.context == "last":
                contexts = state["last"][:, None].expand(-1, count, -1)
            else:
                places = state["place"][:, None] + torch.arange(count, device=target.device)
                weights = fixed_weights(self.context, state["mask"], places)
                contexts = weights @ state["memory"]
                if watch is not None:
                    watch.append(weights)
            states = self.decoder(torch.cat([x, contexts], 2), state["hidden"][None].contiguous())[0]
            before = torch.cat([state["hidden"][:, None], states[:, :-1]], 1)
            hidden = states[:, -1]
        else:
            before, contexts, hidden = self._searched(x, state, watch)
        pairs = self.output(torch.cat([before, x, contexts], 2)).unflatten(-1, (-1, 2))
        state = {**state, "hidden": hidden, "place": state["place"] + count}
        return self.logits(pairs.amax(-1)), state

    def _searched(self, x: Tensor, state: State, watch: list[Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return s_(i-1) and c_i for each word, and the last state."""
        assert self.alignment is not None
        gru: Any = self.decoder  # torch types its weights as tensors or modules
        cell = gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0
        hidden, before, contexts, seen = state["hidden"], [], [], []
        for word in x.unbind(1):
            weights = self.alignment(hidden, state["keys"], state["mask"])
            context = (weights[:, None] @ state["memory"])[:, 0]
            before.append(hidden)
            contexts.append(context)
            seen.append(weights)
            hidden = torch.gru_cell(torch.cat([word, context], 1), hidden, *cell)
        if watch is not None:
            watch.append(torch.stack(seen, 1))
        return torch.stack(before, 1), torch.stack(contexts, 1), hidden


def _at(x: Tensor, places: Tensor) -> Tensor:
    # torch.take_along_dim would fix the number of sentences in what is exported.
    return x.gather(1, places[:, :, None].expand(-1, -1, x.shape[2]))


def initialize_gru_(gru: Any, init: vocabulary.Initialization) -> None:
    """Draw the input weights of an nn.GRU as `init` says, the others of each gate orthogonal, and zero the biases."""
    inputs = nn.Linear(1, 1, device="meta")
    inputs.weight, inputs.bias = gru.weight_ih_l0, gru.bias_ih_l0
    initialize_(inputs, init)
    if not gru.weight_hh_l0.is_meta:
        with torch.no_grad():
            gru.bias_hh_l0.zero_()
            for gate in gru.weight_hh_l0.chunk(3):
                nn.init.orthogonal_(gate)


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the network that translates."""
    return {"network": Translator(config)}
