"""Beam search, over any network that writes one token at a time."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map_only

State = Any
"""Tensors, in any nesting, whose first axis is the sentence: what the next token depends on."""


class Writer(Protocol):
    """A network that writes a translation token by token."""

    def start(self, source: Int[Tensor, "batch source"]) -> State:
        """Read the sources."""
        ...

    def next(self, tokens: Int[Tensor, " batch"], state: State) -> tuple[Float[Tensor, "batch pieces"], State]:
        """Return the logits of what follows `tokens`, and the state after them."""
        ...


@torch.no_grad()
def beam_search(
    model: Writer,
    source: Int[Tensor, "batch source"],
    *,
    begin: int,
    end: int,
    beams: int,
    alpha: float,
    longest: int,
) -> list[list[int]]:
    """Return the best translation found of each source, without `begin` and `end`, of at most `longest` tokens.

    A hypothesis Y is ranked by log P(Y) / ((5 + |Y|) / 6)^alpha (Wu et al. 2016, Equation 14). The search of a sentence
    is over when `beams` hypotheses have ended. One beam is greedy decoding.
    """
    batch = len(source)
    state = _picked(model.start(source), torch.arange(batch, device=source.device).repeat_interleave(beams))
    tokens = torch.full((batch * beams,), begin, device=source.device)
    written = torch.zeros(batch * beams, 0, dtype=torch.int64, device=source.device)
    # All beams begin alike, so that at first only one of them counts.
    scores = torch.full((batch, beams), -torch.inf, device=source.device)
    scores[:, 0] = 0.0
    ended: list[list[tuple[float, list[int]]]] = [[] for _ in range(batch)]
    first = torch.arange(batch, device=source.device)[:, None] * beams
    for length in range(1, longest + 2):
        logits, state = model.next(tokens, state)
        logits[:, begin] = -torch.inf
        totals = scores[:, :, None] + logits.log_softmax(-1).unflatten(0, (batch, beams))
        best, at = totals.flatten(1).topk(min(2 * beams, totals[0].numel()))
        beam, token = at // totals.shape[2], at % totals.shape[2]
        over = token == end
        penalty = ((5 + length) / 6) ** alpha
        for row, place in over[:, :beams].nonzero().tolist():
            if len(ended[row]) < beams:
                text = written[first[row, 0] + beam[row, place]].tolist()
                ended[row].append((float(best[row, place]) / penalty, text))
        scores, kept = best.masked_fill(over, -torch.inf).topk(beams)
        rows = (first + beam.gather(1, kept)).flatten()
        tokens = token.gather(1, kept).flatten()
        if length > longest or all(len(one) >= beams for one in ended):
            break
        written = torch.cat([written[rows], tokens[:, None]], 1)
        state = _picked(state, rows)
    unfinished = written.unflatten(0, (batch, beams))[:, 0]
    return [max(one)[1] if one else unfinished[row].tolist() for row, one in enumerate(ended)]


def _picked(state: State, rows: Int[Tensor, " batch"]) -> State:
    return tree_map_only(Tensor, lambda each: each[rows], state)
