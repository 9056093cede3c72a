"""Which words a fine-tuned encoder looks at: the picture that shows whether it reads in both directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprise.core.run.task import Picture
from reprise.experiments.bert.model import Finetuned
from reprise.parts.nn.transformer import SelfAttention
from reprise.parts.pictures import blank, drawn

SHOWN = range(8, 15)
"""Tokens of a sentence that is shown, [CLS] and [SEP] included."""


def attention_weights(model: Finetuned, ids: Int[Tensor, " seq"]) -> Float[np.ndarray, "layers seq seq"]:
    """Return how much each token attends to each other in every layer, mean over heads; each row sums to 1."""
    seen: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, SelfAttention)
        q, k, _ = module.qkv(inputs[0]).unflatten(-1, (3, module.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        if model.causal:
            scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -torch.inf)
        seen.append(scores.float().softmax(-1)[0].mean(0))

    watched = [module for module in model.encoder.modules() if isinstance(module, SelfAttention)]
    hooks = [module.register_forward_pre_hook(record) for module in watched]
    try:
        model.encoder(ids[None], torch.zeros_like(ids[None]), causal=model.causal)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(seen).cpu().numpy()


def shown_sentence(sentences: Sequence[Sequence[str]]) -> int:
    """Return the index of the sentence that reads best as a picture: of 8 to 14 tokens, with the fewest split words.

    The first of several such; where none has this length, the shortest of all.
    """
    fitting = [index for index, pieces in enumerate(sentences) if len(pieces) in SHOWN]
    if not fitting:
        return min(range(len(sentences)), key=lambda index: len(sentences[index]))
    return min(fitting, key=lambda index: sum(piece.startswith("##") for piece in sentences[index]))


def attention_map(weights: Float[np.ndarray, "seq seq"], pieces: Sequence[str]) -> Picture:
    """Draw attention as [height, width, 3]: a row for each token that looks, darker where it looks."""
    figure, [axes] = blank(1.1 + 0.24 * max(len(pieces), 6))
    image = axes.imshow(weights, cmap="Greys", vmin=0, aspect="auto")
    axes.set_xticks(range(len(pieces)), pieces, rotation=60, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(pieces)), pieces)
    axes.set_xticks([place + 0.5 for place in range(len(pieces))], minor=True)
    axes.set_yticks([place + 0.5 for place in range(len(pieces))], minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="share of attention")
    return drawn(figure)
