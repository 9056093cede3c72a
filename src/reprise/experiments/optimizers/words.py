"""Reviews that are made up: bags of words of which most are rare, as IMDB's are.

Kingma and Ba's Figure 1 (right) has IMDB's 25,000 reviews in a vocabulary of 10,000. What matters to an optimiser is
that a word's gradient is zero but where the word occurs, and that words differ in frequency by a factor of hundreds.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

COMMONEST = 10
"""Word k has a share as 1 / (k + COMMONEST) of the text (Zipf's law, Mandelbrot's form)."""
OPINION = 0.2
"""Standard deviation of a word's leaning: by its exponential a good review uses it more often, and a bad one less."""


def shares(words: int, generator: torch.Generator) -> Float[Tensor, "2 words"]:
    """Each word's share of the text of bad and of good reviews."""
    frequency = 1 / (torch.arange(words) + COMMONEST)
    leaning = OPINION * torch.randn(words, generator=generator)
    both = frequency * torch.stack([-leaning, leaning]).exp()
    return both / both.sum(1, keepdim=True)


def reviews(
    of: Float[Tensor, "2 words"], count: int, length: int, generator: torch.Generator
) -> tuple[Bool[Tensor, "n words"], Int[Tensor, " n"]]:
    """Which words occur in each of `count` reviews of `length` words; whether it is good."""
    labels = torch.arange(count) % 2
    drawn = torch.multinomial(of[labels], length, replacement=True, generator=generator)
    return torch.zeros(count, of.shape[1], dtype=torch.bool).scatter_(1, drawn, value=True), labels
