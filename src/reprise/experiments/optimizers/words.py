"""Synthetic reviews: bags of words in which most words are rare, as in IMDB's.

Kingma and Ba's Figure 1 (right) uses IMDB's 25,000 reviews with a vocabulary of 10,000. For an optimiser it matters
that a word's gradient is zero except where the word occurs, and that word frequencies differ by a factor of hundreds.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

COMMONEST = 10
"""Word k makes up a share of the text proportional to 1 / (k + COMMONEST) (Zipf's law in Mandelbrot's form)."""
OPINION = 0.2
"""Standard deviation of a word's leaning l: good reviews use it exp(l) times as often, bad ones exp(-l) times."""


def shares(words: int, generator: torch.Generator) -> Float[Tensor, "2 words"]:
    """Return each word's share of the text in bad and in good reviews."""
    frequency = 1 / (torch.arange(words) + COMMONEST)
    leaning = OPINION * torch.randn(words, generator=generator)
    both = frequency * torch.stack([-leaning, leaning]).exp()
    return both / both.sum(1, keepdim=True)


def reviews(
    of: Float[Tensor, "2 words"], count: int, length: int, generator: torch.Generator
) -> tuple[Bool[Tensor, "n words"], Int[Tensor, " n"]]:
    """Return which words occur in each of `count` reviews of `length` words, and whether each review is good."""
    labels = torch.arange(count) % 2
    drawn = torch.multinomial(of[labels], length, replacement=True, generator=generator)
    return torch.zeros(count, of.shape[1], dtype=torch.bool).scatter_(1, drawn, value=True), labels
