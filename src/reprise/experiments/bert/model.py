"""BERT's encoder, its heads, and the key map for the published checkpoints.

Shapes: `batch` sequences of `seq` tokens, hidden states of `dim` features, `vocab` WordPieces.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from reprise.experiments.bert.config import Architecture, Config
from reprise.parts.nn.build import activation, initialize_
from reprise.parts.nn.transformer import Block


class Encoder(nn.Module):
    """The embeddings of Figure 2 (token + segment + position), Transformer blocks, and the pooler of [CLS]."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.segments = nn.Embedding(2, config.width)
        self.norm = nn.LayerNorm(config.width, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                config.feed_forward,
                activation_name=config.activation,
                dropout=config.dropout,
                norm_first=config.norm == "pre",
                norm_eps=config.norm_eps,
            )
            for _ in range(config.layers)
        )
        self.final_norm = nn.LayerNorm(config.width, config.norm_eps) if config.norm == "pre" else nn.Identity()
        self.pooler = nn.Linear(config.width, config.width)
        initialize_(self, config.init)

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        segments: Int[Tensor, "batch seq"],
        mask: Bool[Tensor, "batch seq"] | None = None,
        *,
        causal: bool = False,
        at: Int[Tensor, "batch n"] | None = None,
    ) -> Float[Tensor, "batch n dim"]:
        """Return the last hidden states, of all positions or of those in `at`.

        With `at`, the last block computes no other positions. `mask` is true at tokens and false at padding, which is
        on the right.
        """
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]] + F.embedding(segments, self.segments.weight)
        x = self.dropout(self.norm(x))
        # Padding is on the right, where causal attention does not look.
        mask = None if causal else mask
        *before, last = self.blocks
        for block in before:
            x = block(x, mask, causal=causal)
        x = last(x, mask, causal=causal, at=at)
        return self.final_norm(x)

    def pooled(self, summary: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Return the sequence's representation, from the hidden state of the token that has seen all of it."""
        return torch.tanh(self.pooler(summary))


class Pretrainer(nn.Module):
    """The encoder with two pretraining heads (Section 3.1); output and input embeddings are the same."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.transform = nn.Sequential(
            nn.Linear(config.width, config.width),
            activation(config.activation),
            nn.LayerNorm(config.width, config.norm_eps),
        )
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.next_sentence = nn.Linear(config.width, 2)
        initialize_(self.transform, config.init)
        initialize_(self.next_sentence, config.init)

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        segments: Int[Tensor, "batch seq"],
        at: Int[Tensor, "batch n"],
        *,
        causal: bool = False,
        next_sentence: bool = False,
    ) -> tuple[Float[Tensor, "batch*n vocab"], Float[Tensor, "batch 2"] | None]:
        """Return the scores of every WordPiece at the positions `at` and, if asked, of whether B follows A."""
        if not next_sentence:
            hidden = self.encoder(ids, segments, causal=causal, at=at)
            return self.token_logits(hidden.flatten(0, 1)), None
        # Position 0, [CLS], is what the next-sentence head reads.
        hidden = self.encoder(ids, segments, causal=causal, at=F.pad(at, (1, 0)))
        summary, hidden = hidden.tensor_split([1], 1)
        return self.token_logits(hidden.flatten(0, 1)), self.next_sentence_logits(summary.squeeze(1))

    def token_logits(self, hidden: Float[Tensor, "n dim"]) -> Float[Tensor, "n vocab"]:
        """Return the scores of every WordPiece for the given hidden states."""
        return F.linear(self.transform(hidden), self.encoder.tokens.weight, self.bias)

    def next_sentence_logits(self, summary: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch 2"]:
        """Return the scores of B following A (0) and of B being a random sentence (1), given the state of [CLS]."""
        return self.next_sentence(self.encoder.pooled(summary))


class Finetuned(nn.Module):
    """The encoder with one task-specific output layer (Section 4 and Figure 4)."""

    def __init__(self, config: Architecture, outputs: int, *, per_token: bool, causal: bool) -> None:
        super().__init__()
        self.per_token = per_token
        self.causal = causal
        self.encoder = Encoder(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, outputs)
        initialize_(self.head, config.init)

    def forward(
        self, ids: Int[Tensor, "batch seq"], segments: Int[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch seq outputs"] | Float[Tensor, "batch outputs"]:
        """Return outputs for every token, or for the sequence: from [CLS] or, if causal, from the last token."""
        if self.per_token:
            return self.head(self.dropout(self.encoder(ids, segments, mask, causal=self.causal)))
        at = mask.sum(1, keepdim=True) - 1 if self.causal else torch.zeros_like(ids[:, :1])
        summary = self.encoder(ids, segments, mask, causal=self.causal, at=at)[:, 0]
        return self.head(self.dropout(self.encoder.pooled(summary)))


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the encoder, named like the authors' releases, and the pretraining model."""
    size = config.model
    pretrainer = Pretrainer(size)
    return {f"l{size.layers}_h{size.width}_a{size.heads}": pretrainer.encoder, "pretrainer": pretrainer}


# --- published checkpoints --------------------------------------------------------------------------------------------

_RENAMED = {
    "bert.embeddings.word_embeddings.": "encoder.tokens.",
    "bert.embeddings.position_embeddings.": "encoder.positions.",
    "bert.embeddings.token_type_embeddings.": "encoder.segments.",
    "bert.embeddings.LayerNorm.": "encoder.norm.",
    "bert.pooler.dense.": "encoder.pooler.",
    "cls.predictions.transform.dense.": "transform.0.",
    "cls.predictions.transform.LayerNorm.": "transform.2.",
    "cls.predictions.bias": "bias",
    "cls.seq_relationship.": "next_sentence.",
}
_RENAMED_IN_LAYER = {
    "attention.output.dense.": "attention.out.",
    "attention.output.LayerNorm.": "attention_norm.",
    "intermediate.dense.": "feed_forward.0.",
    "output.dense.": "feed_forward.2.",
    "output.LayerNorm.": "feed_forward_norm.",
}


def from_published(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the tensors of a BertForPreTraining or BertForMaskedLM checkpoint to the state of a `Pretrainer`.

    The older names for layer normalisation (gamma, beta) are accepted. A checkpoint without the pooler or the
    next-sentence head gives a state without them. Raises ValueError for a tensor with an unknown name.
    """
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        theirs = {key.replace(old, new): tensor for key, tensor in theirs.items()}
    ours: dict[str, Tensor] = {}
    for key, tensor in theirs.items():
        if key.startswith("cls.predictions.decoder.") or key.endswith("position_ids"):
            continue  # tied output embedding, copy of its bias, and a constant
        if key.startswith("bert.encoder.layer."):
            index, _, rest = key.removeprefix("bert.encoder.layer.").partition(".")
            block = f"encoder.blocks.{index}."
            if rest.startswith("attention.self."):
                _, _, which, kind = rest.split(".")
                # We have one matrix for query, key and value, built when the query comes.
                if which == "query":
                    names = [key.replace(".query.", f".{name}.") for name in ("query", "key", "value")]
                    ours[f"{block}attention.qkv.{kind}"] = torch.cat([theirs[name] for name in names])
                continue
            renamed, key, prefix = _RENAMED_IN_LAYER, rest, block
        else:
            renamed, prefix = _RENAMED, ""
        old = next((old for old in renamed if key.startswith(old)), None)
        if old is None:
            raise ValueError(f"{prefix}{key} is no tensor of a published BERT checkpoint")
        ours[prefix + renamed[old] + key.removeprefix(old)] = tensor
    return ours


def load_published_(model: Pretrainer, folder: Path) -> list[str]:
    """Load model.safetensors from `folder` into `model`; return the WordPieces in its vocab.txt.

    Raises ValueError if a tensor of the encoder is missing, or has another shape than `model` with this config.
    """
    state = from_published(load_file(folder / "model.safetensors"))
    try:
        missing, _ = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{folder}: the checkpoint is of another size than `model` in the config: {error}") from error
    if lacking := [key for key in missing if key.startswith("encoder.") and not key.startswith("encoder.pooler.")]:
        raise ValueError(f"{folder}: model.safetensors lacks {', '.join(lacking[:3])}")
    return (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[: len(model.bias)]
