"""The language model and the networks of reward and value, which share its form."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reprise.experiments.rlhf.config import Config, Network
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.transformer import Block


class Decoder(nn.Module):
    """Token and position embeddings, causal blocks with the norm first, and a last norm (GPT-2, GPT-3)."""

    def __init__(self, config: Network) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, 4 * config.width, activation_name="gelu_tanh", norm_first=True)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        initialize_(self, config.init)

    def forward(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq dim"]:
        """Return the state after each token, which depends on that token and on those before it."""
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, causal=True)
        return self.norm(x)


class LanguageModel(nn.Module):
    """Logits of the next token. Input and output embeddings are the same, as in GPT-2."""

    def __init__(self, config: Network) -> None:
        super().__init__()
        self.decoder = Decoder(config)

    def forward(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        return functional.linear(self.decoder(tokens), self.decoder.tokens.weight)


class Scorer(nn.Module):
    """A scalar after each token: the reward model's score, or the value of the state (Section 3.5)."""

    def __init__(self, config: Network) -> None:
        super().__init__()
        self.decoder = Decoder(config)
        self.head = nn.Linear(config.width, 1)
        # So that scores start near 0, with a spread that does not depend on the width (Stiennon et al. 2020).
        nn.init.normal_(self.head.weight, std=(config.width + 1) ** -0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
        return self.head(self.decoder(tokens))[..., 0]


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the supervised model, the reward model, the policy and its value function."""
    of_scores = config.comparisons.network or config.network
    return {
        "supervised": LanguageModel(config.network),
        "reward": Scorer(of_scores),
        "policy": LanguageModel(config.network),
        "value": Scorer(of_scores),
    }


@torch.no_grad()
def sampled(
    model: LanguageModel,
    prompts: Int[Tensor, "batch 2"],
    uniform: Float[Tensor, "batch steps"],
    goal: int,
    pad: int,
) -> Int[Tensor, "batch 2+steps"]:
    """Draw replies at temperature 1, which end at `goal`; `pad` follows it.

    The tokens are drawn from the very distribution that `log_probs` scores: nothing is masked and nothing is cut off.
    Each is the inverse of the cumulative distribution at a number of `uniform`, so a reply depends on these alone.
    """
    tokens = prompts
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=prompts.device)
    for drawn in uniform.unbind(1):
        cumulative = model(tokens)[:, -1].float().softmax(-1).cumsum(-1)
        # Rounding can leave the last sum below the number drawn.
        found = (cumulative <= drawn[:, None]).sum(-1).clamp(max=cumulative.shape[-1] - 1)
        found = torch.where(ended, pad, found)
        ended = ended | (found == goal)
        tokens = torch.cat([tokens, found[:, None]], 1)
    return tokens
