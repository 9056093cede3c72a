"""The objectives of the three steps, as functions of tensors.

Shapes: batch = sequences; seq = tokens of a sequence; steps = seq - 2, the tokens of a reply, since the first two are
the prompt; prompts with K replies each.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

PROMPT = 2
"""Tokens of a prompt: which kind of sequence it is, and the first node."""


def reply_mask(tokens: Int[Tensor, "batch seq"], goal: int) -> Bool[Tensor, "batch steps"]:
    """Return which tokens of each reply count: those up to and including the first `goal`, or all."""
    ends = (tokens[:, PROMPT:] == goal).long()
    return ends.cumsum(1) - ends == 0


def log_probs(
    logits: Float[Tensor, "batch seq vocab"], tokens: Int[Tensor, "batch seq"]
) -> Float[Tensor, "batch steps"]:
    """Return log π(y_t | x, y_<t) of every token of the replies."""
    scores = logits[:, PROMPT - 1 : -1].log_softmax(-1)
    return scores.gather(-1, tokens[:, PROMPT:, None])[..., 0]


def masked_mean(values: Float[Tensor, "batch steps"], mask: Bool[Tensor, "batch steps"]) -> Float[Tensor, ""]:
    """Return the mean over the tokens that count."""
    return (values * mask).sum() / mask.sum()


def divergence(
    logits: Float[Tensor, "batch seq vocab"],
    of_supervised: Float[Tensor, "batch seq vocab"],
    mask: Bool[Tensor, "batch steps"],
) -> Float[Tensor, " batch"]:
    """Return KL(π ‖ π_SFT) of each reply: the exact divergence of every next-token distribution, summed over it.

    Over replies of π its mean is the divergence of whole replies, with less variance than the log-ratio of the tokens.
    """
    own, other = (one[:, PROMPT - 1 : -1].log_softmax(-1) for one in (logits, of_supervised))
    return ((own.exp() * (own - other)).sum(-1) * mask).sum(1)


def last(values: Float[Tensor, "batch seq"], mask: Bool[Tensor, "batch steps"]) -> Float[Tensor, " batch"]:
    """Return the value after the last token of each reply."""
    return values.gather(1, PROMPT - 1 + mask.sum(1, keepdim=True))[:, 0]


# Step 2: the reward model


def preferences(
    scores: Float[Tensor, "prompts K"], flipped: Bool[Tensor, "prompts K K"]
) -> Float[Tensor, "prompts K K"]:
    """Return 1 where a labeler prefers the row's reply to the column's, else 0; a tie is no comparison.

    `flipped` says, above the diagonal, which comparisons are labelled the wrong way round.
    """
    better = scores[:, :, None] > scores[:, None, :]
    upper = flipped.triu(1)
    return torch.where(upper | upper.mT, better.mT, better).float()


def comparison_loss(rewards: Float[Tensor, "prompts K"], preferred: Float[Tensor, "prompts K K"]) -> Float[Tensor, ""]:
    """-log σ(r(x, y_w) - r(x, y_l)), averaged over the comparisons (Equation 1)."""
    gaps = rewards[:, :, None] - rewards[:, None, :]
    return -(functional.logsigmoid(gaps) * preferred).sum() / preferred.sum().clamp(min=1)


def agreement(rewards: Float[Tensor, "prompts K"], preferred: Float[Tensor, "prompts K K"]) -> Float[Tensor, ""]:
    """Return the share of comparisons in which the preferred reply has the larger reward."""
    right = (rewards[:, :, None] > rewards[:, None, :]).float()
    return (right * preferred).sum() / preferred.sum().clamp(min=1)


# Step 3: the policy


def token_rewards(
    scores: Float[Tensor, " batch"],
    log_ratio: Float[Tensor, "batch steps"],
    mask: Bool[Tensor, "batch steps"],
    beta: float,
) -> Float[Tensor, "batch steps"]:
    """Return -β log(π(y_t) / π_SFT(y_t)) at every token that counts, and the score as well at the last (Equation 2)."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    ends = steps == mask.sum(1, keepdim=True) - 1
    return (scores[:, None] * ends - beta * log_ratio) * mask


def advantages(
    rewards: Float[Tensor, "batch steps"],
    values: Float[Tensor, "batch steps"],
    mask: Bool[Tensor, "batch steps"],
    trace: float,
) -> Float[Tensor, "batch steps"]:
    """Return generalised advantage estimates without discount: Σ λ^k δ_(t+k) (Schulman et al. 2016, Equation 16).

    δ_t = r_t + V(s_(t+1)) - V(s_t). Nothing follows the last token, so V is 0 there, and padding adds nothing.
    """
    values = values * mask
    following = functional.pad(values[:, 1:], (0, 1))
    delta, total, found = rewards * mask + following - values, torch.zeros_like(values[:, 0]), []
    for step in reversed(range(values.shape[1])):
        total = delta[:, step] + trace * total
        found.append(total)
    return torch.stack(found[::-1], 1) * mask


def whitened(values: Float[Tensor, "batch steps"], mask: Bool[Tensor, "batch steps"]) -> Float[Tensor, "batch steps"]:
    """Return values with mean 0 and variance 1 over the tokens that count."""
    centred = values - masked_mean(values, mask)
    return centred * (masked_mean(centred.square(), mask) + 1e-8).rsqrt() * mask


def clipped_loss(
    log_ratio: Float[Tensor, "batch steps"], advantage: Float[Tensor, "batch steps"],
    mask: Bool[Tensor, "batch steps"], clip: float,
) -> Float[Tensor, ""]:  # fmt: skip
    """-min(ρ A, clip(ρ, 1 - ε, 1 + ε) A), averaged over tokens; ρ = exp(log_ratio) (Schulman et al. 2017, Eq. 7)."""
    ratio = log_ratio.exp()
    worst = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return -masked_mean(worst, mask)


def dpo_loss(
    log_ratios: Float[Tensor, "prompts K"], preferred: Float[Tensor, "prompts K K"], beta: float
) -> Float[Tensor, ""]:
    """-log σ(β (log-ratio of y_w - log-ratio of y_l)), averaged over comparisons (Rafailov et al. 2023, Equation 7).

    A log-ratio is log(π(y | x) / π_SFT(y | x)) of a whole reply. It takes the place of the reward in Equation 1.
    """
    return comparison_loss(beta * log_ratios, preferred)
