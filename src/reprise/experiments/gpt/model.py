"""The language model, a Transformer decoder or an LSTM; its output layers; the key map for the published weights.

Shapes: `batch` sequences of `seq` tokens, hidden states of `dim` features, `vocab` WordPieces.
"""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from reprise.experiments.gpt.config import Architecture, Attending, Config
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.transformer import Block


class LanguageModel(nn.Module):
    """P(u_i | u_1, ..., u_i-1): embeddings, layers, and the embeddings once more as output layer (Equation 2)."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        body = config.body
        self.layers = body.layers
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        if isinstance(body, Attending):
            self.positions = nn.Embedding(config.positions, config.width)
            self.blocks = nn.ModuleList(
                Block(
                    config.width,
                    body.heads,
                    body.feed_forward,
                    activation_name=body.activation,
                    dropout=config.dropout,
                    norm_first=body.norm == "pre",
                )
                for _ in range(body.layers)
            )
            self.final_norm = nn.LayerNorm(config.width) if body.norm == "pre" else nn.Identity()
        else:
            between = config.dropout if body.layers > 1 else 0.0
            self.lstm = nn.LSTM(config.width, body.hidden, body.layers, batch_first=True, dropout=between)
            self.narrow = nn.Linear(body.hidden, config.width)
        self.attending = isinstance(body, Attending)
        initialize_(self, config.init)

    def forward(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq dim"]:
        """Return the last hidden states; each has seen its own token and those before it."""
        x = self.tokens(ids)
        if not self.attending:
            return self.dropout(self.narrow(self.lstm(self.dropout(x))[0]))
        x = self.dropout(x + self.positions.weight[: ids.shape[1]])
        for block in self.blocks:
            x = block(x, causal=True)
        return self.final_norm(x)

    def logits(self, hidden: Float[Tensor, "... dim"]) -> Float[Tensor, "... vocab"]:
        """Return the scores of every WordPiece as the next."""
        return F.linear(hidden, self.tokens.weight)

    def height(self, name: str) -> int:
        """Return the layer that a parameter belongs to: 0 for embeddings, 1 for the first block; the last norm has the
        last block's.
        """
        first, _, rest = name.partition(".")
        if first == "final_norm":
            return self.layers
        return 1 + int(rest.partition(".")[0]) if first == "blocks" else 0


class Finetuned(nn.Module):
    """The language model with one linear output layer on the state of the last token (Section 3.2)."""

    def __init__(self, config: Architecture, outputs: int) -> None:
        super().__init__()
        self.language = LanguageModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, outputs)
        initialize_(self.head, config.init)

    def forward(
        self, ids: Int[Tensor, "orders batch seq"], lengths: Int[Tensor, "orders batch"]
    ) -> tuple[Float[Tensor, "batch outputs"], Float[Tensor, "orders batch seq dim"]]:
        """Return the outputs, and the hidden states of all tokens.

        Padding is on the right. The representation is that of the last token, at `lengths` - 1; those of both orders of
        a pair are added (Figure 1).
        """
        hidden = self.language(ids.flatten(0, 1)).unflatten(0, ids.shape[:2])
        last = hidden.take_along_dim((lengths - 1)[..., None, None], 2).squeeze(2)
        return self.head(self.dropout(last.sum(0))), hidden

    def thawed(self, share: float) -> Iterator[nn.Parameter]:
        """Yield the parameters to train when this share of the updates is done: the output layer, then from above.

        There is a group for the output layer, one for each layer, and one for the embeddings, which comes last.
        """
        groups = self.language.layers + 2
        lowest = groups - 1 - int(share * groups)
        yield from self.head.parameters()
        for name, parameter in self.language.named_parameters():
            if self.language.height(name) >= lowest:
                yield parameter


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the language model, named by what it is made of."""
    return {config.model.body.kind: LanguageModel(config.model)}


_RENAMED_IN_LAYER = {
    "attn.c_attn.": "attention.qkv.",
    "attn.c_proj.": "attention.out.",
    "ln_1.": "attention_norm.",
    "mlp.c_fc.": "feed_forward.0.",
    "mlp.c_proj.": "feed_forward.2.",
    "ln_2.": "feed_forward_norm.",
}


def from_published(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the tensors of transformers' OpenAIGPTModel to the state of a `LanguageModel`.

    Its matrices are those of convolutions of width 1, so they are transposed. Raises ValueError for an unknown name.
    """
    ours = {"tokens.weight": theirs["tokens_embed.weight"], "positions.weight": theirs["positions_embed.weight"]}
    for key, tensor in theirs.items():
        if key.startswith(("tokens_embed.", "positions_embed.")) or key.endswith((".attn.bias", "position_ids")):
            continue  # above, or constants
        first, _, rest = key.partition(".")
        index, _, rest = rest.partition(".")
        old = next((old for old in _RENAMED_IN_LAYER if rest.startswith(old)), None)
        if first != "h" or old is None:
            raise ValueError(f"{key} is no tensor of a published GPT")
        matrix = old.startswith(("attn.", "mlp.")) and tensor.ndim == 2
        name = f"blocks.{index}.{_RENAMED_IN_LAYER[old]}{rest.removeprefix(old)}"
        ours[name] = tensor.T if matrix else tensor
    return ours
