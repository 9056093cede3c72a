"""Sentence pairs in batches, and the vocabulary that is saved with the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from reprise.parts.text import Ragged, padded
from reprise.parts.translation import BEGIN, END, PAD, SPECIAL, Encoded, Pieces

BLOCK = 100
"""Pairs that are scored or translated at once."""


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
