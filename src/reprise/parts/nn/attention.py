"""Attention from one sequence to another or to itself, in several heads, and positions (Vaswani et al. 2017).

Shapes: `batch` sequences; `queries` positions attend to `keys` positions; `dim` features.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reprise.parts.nn.transformer import attention

KeysValues = tuple[Tensor, Tensor]
"""Keys [batch, heads, keys, d_k] and values [batch, heads, keys, d_v]."""


class MultiHead(nn.Module):
    """Multi-head attention whose heads may have any size (Section 3.2.2): keys of `d_k`, values of `d_v` features.

    Keys and values are an argument of their own, so that they can be kept while a sentence is written.
    """

    def __init__(self, width: int, heads: int, d_k: int, d_v: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q, self.k = nn.Linear(width, heads * d_k), nn.Linear(width, heads * d_k)
        self.v, self.out = nn.Linear(width, heads * d_v), nn.Linear(heads * d_v, width)

    def keys_values(self, memory: Float[Tensor, "batch keys dim"]) -> KeysValues:
        """Return the keys and values of the positions that are attended to."""
        k, v = (layer(memory).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.k, self.v))
        return k, v

    def forward(
        self,
        x: Float[Tensor, "batch queries dim"],
        keys_values: KeysValues,
        mask: Bool[Tensor, "batch keys"] | None = None,
        *,
        causal: bool = False,
        watch: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch queries dim"]:
        """Attend where `mask` is true; `causal` hides all later positions, and excludes a mask.

        The weights, [batch, heads, queries, keys], are appended to `watch`.
        """
        k, v = keys_values
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        over = None if mask is None else mask[:, None, None, :]
        if watch is not None:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            watch.append((scores if over is None else scores.masked_fill(~over, -torch.inf)).softmax(-1))
        heads = attention(q, k, v, over, causal=causal, dropout=self.dropout if self.training else 0.0)
        return self.out(heads.transpose(1, 2).flatten(2))


def sinusoids(count: int, width: int) -> Float[Tensor, "count width"]:
    """Positions 0, 1, ... as sines (even features) and cosines (odd) of 1 / 10000^(2i/width) (Section 3.5)."""
    angles = torch.arange(count)[:, None] * 10_000 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]
