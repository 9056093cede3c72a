"""Text as numbers: learned WordPieces, documents packed into one row of tokens, batches of similar lengths.

Shapes: `batch` sequences of `seq` tokens, special tokens included.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn

from reprise.parts.data.store import Texts

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ALPHABET = 1000
_AT_ONCE = 1000
_FORMAT = "1"


class Ragged(NamedTuple):
    """Sequences of different lengths in one array: the i-th is `values[offsets[i] : offsets[i + 1]]`."""

    values: np.ndarray
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Length of each sequence, int64 [sequences]."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return self.values[self.offsets[index] : self.offsets[index + 1]]


class WordPiece:
    """A WordPiece vocabulary (Wu et al. 2016), with BERT's lower-casing and splitting at punctuation."""

    def __init__(self, pieces: Sequence[str]) -> None:
        """Build the vocabulary from `pieces`, in the order of their ids.

        Raises:
            ValueError: a piece occurs twice, or a special token is missing.
        """
        numbers = {piece: number for number, piece in enumerate(pieces)}
        if len(numbers) < len(pieces):
            raise ValueError("the vocabulary has a piece twice")
        if missing := [token for token in SPECIAL if token not in numbers]:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}")
        self.pieces = list(pieces)
        self.pad, self.unk, self.cls, self.sep, self.mask = (numbers[token] for token in SPECIAL)
        self.special = np.array([self.pad, self.unk, self.cls, self.sep, self.mask])
        self._tokenizer = _tokenizer(numbers)

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, texts: Iterable[str]) -> Ragged:
        """Tokenise each text, without special tokens."""
        # The fast version does not track character positions.
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ids = [encoding.ids for encoding in encodings]
        offsets = np.cumsum([0] + [len(one) for one in ids], dtype=np.int64)
        return Ragged(np.fromiter((i for one in ids for i in one), np.int32, int(offsets[-1])), offsets)

    def encode_with_characters(self, texts: Iterable[str]) -> tuple[Ragged, np.ndarray]:
        """Tokenise like `encode`, and also return int64 [pieces, 2]: the character span of each piece in its text."""
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        offsets = np.cumsum([0] + [len(encoding) for encoding in encodings], dtype=np.int64)
        ids = np.fromiter((i for encoding in encodings for i in encoding.ids), np.int32, int(offsets[-1]))
        spans = [span for encoding in encodings for span in encoding.offsets]
        return Ragged(ids, offsets), np.array(spans, np.int64).reshape(-1, 2)


class Vocabulary(nn.Module):
    """The WordPieces, saved with the weights, so that a model always has its vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = list(SPECIAL)

    def get_extra_state(self) -> Tensor:
        """Return the pieces in UTF-8, one per line, as uint8."""
        # A state dict of safetensors holds only tensors.
        return torch.tensor(list("\n".join(self.pieces).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the pieces from `get_extra_state`."""
        self.pieces = bytes(state.cpu().numpy()).decode().split("\n")


def _tokenizer(numbers: dict[str, int] | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocab=numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def train_wordpiece(parts: Sequence[Sequence[str]], vocab_size: int) -> list[str]:
    """Learn `vocab_size` pieces from the texts of `parts`, special tokens first. The result is deterministic.

    The trainer numbers single characters in the random order of a hash map, and breaks ties by these numbers. Passing
    the characters as special tokens, sorted, fixes their order.
    """
    normalize = normalizers.BertNormalizer(lowercase=True).normalize_str
    characters: Counter[str] = Counter()
    for text in chain.from_iterable(parts):
        characters.update(normalize(text))
    # Ties are broken by the character, so that the vocabulary is reproducible.
    frequent = sorted((c for c in characters if not c.isspace()), key=lambda c: (-characters[c], c))
    # Rare characters become [UNK]; the vocabulary is for words.
    alphabet = sorted(frequent[: min(_ALPHABET, vocab_size // 8)])
    first = [*SPECIAL, *alphabet, *("##" + character for character in alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=first,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer = _tokenizer()
    tokenizer.train_from_iterator(chain.from_iterable(parts), trainer)
    numbers = tokenizer.get_vocab()
    return sorted(numbers, key=numbers.__getitem__)


class Packed(NamedTuple):
    """Documents in sequence, each followed by [SEP]."""

    ids: np.ndarray
    """uint16 or int32 [tokens], memory-mapped."""
    starts: np.ndarray
    """int64 [sentences], memory-mapped: where sentences begin, after . ! ? or [SEP]."""


def pack(parts: Sequence[Sequence[str]], vocabulary: WordPiece, folder: Path) -> Packed:
    """Write the texts of `parts` to `folder` as tokens, holding a thousand documents in memory at a time."""
    kind = np.uint16 if len(vocabulary) <= 1 << 16 else np.int32
    stops = np.array([i for i, piece in enumerate(vocabulary.pieces) if piece in {".", "!", "?"}] + [vocabulary.sep])
    written, ended = 0, True
    with (folder / "ids.bin").open("wb") as ids_file, (folder / "starts.bin").open("wb") as starts_file:
        documents = chain.from_iterable(parts)
        while some := list(islice(documents, _AT_ONCE)):
            texts = vocabulary.encode(some)
            ids = np.insert(texts.values, texts.offsets[1:], vocabulary.sep).astype(kind)
            stop = np.isin(ids, stops)
            # A sentence begins at a token that is no stop but follows one; runs of stops such as ... begin none.
            begins = ~stop & np.concatenate([[ended], stop[:-1]])
            (written + np.flatnonzero(begins)).astype(np.int64).tofile(starts_file)
            ids.tofile(ids_file)
            written, ended = written + len(ids), bool(stop[-1])
    return _open_packed(folder, kind)


def _open_packed(folder: Path, kind: type) -> Packed:
    return Packed(np.memmap(folder / "ids.bin", kind, "r"), np.memmap(folder / "starts.bin", np.int64, "r"))


def packed_with_vocabulary(
    parts: Sequence[Texts], cache: Path, *, vocab_size: int, pieces: list[str] | None = None
) -> tuple[list[str], Packed]:
    """Pack the texts of `parts`, in WordPieces learned from them unless `pieces` are given. Results are cached.

    A cache entry is named by the hash of its inputs, and is complete or absent. If two runs create it at the same time,
    the first one wins.
    """
    digest = hashlib.sha256(f"{_FORMAT} {vocab_size} {pieces}".encode())
    for part in parts:
        digest.update(part.blob.data)
        digest.update(part.offsets.data)
    entry = cache / digest.hexdigest()[:32]
    if not entry.exists():
        cache.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=cache, prefix="making-"))
        try:
            learned = pieces or train_wordpiece(parts, vocab_size)
            pack(parts, WordPiece(learned), making)
            (making / "vocab.txt").write_text("\n".join(learned), encoding="utf-8")
            os.rename(making, entry)
        except OSError:
            if not entry.exists():
                raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
    learned = (entry / "vocab.txt").read_text(encoding="utf-8").split("\n")
    return learned, _open_packed(entry, np.uint16 if len(learned) <= 1 << 16 else np.int32)


class BucketSampler:
    """Batches of similar lengths, without replacement, in a new order every epoch. A last partial batch is dropped.

    Batch k is a pure function of (seed, k). An epoch is shuffled and cut into pools of `pool` batches. Each pool is
    sorted by length and cut into batches; finally all batches are shuffled.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, pool: int = 32) -> None:
        """`lengths`: int64 [examples].

        Raises:
            ValueError: unless 1 <= batch_size <= examples.
        """
        if not 1 <= batch_size <= len(lengths):
            raise ValueError(f"batch_size is {batch_size}; expected 1 to {len(lengths)}, the number of examples")
        self.lengths, self.batch_size, self.seed, self.pool = lengths, batch_size, seed, pool
        self.steps_per_epoch = len(lengths) // batch_size
        self._epoch = -1
        self._batches: list[np.ndarray] = []

    def indices(self, step: int, rank: int = 0, world_size: int = 1) -> np.ndarray:
        """Return the share of `rank` in the batch of update `step` (from 0), int64 [batch_size / world_size].

        Raises:
            ValueError: the batch cannot be shared equally.
        """
        if self.batch_size % world_size:
            raise ValueError(f"batch_size is {self.batch_size}; expected a multiple of the {world_size} devices")
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, list(self._cut(epoch))
        # Strided, not contiguous: a sorted batch then gives every rank similar lengths.
        return self._batches[batch][rank::world_size]

    def _cut(self, epoch: int) -> Iterator[np.ndarray]:
        shuffle = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        order = shuffle.permutation(len(self.lengths))[: self.steps_per_epoch * self.batch_size]
        batches = []
        for start in range(0, len(order), self.pool * self.batch_size):
            pool = order[start : start + self.pool * self.batch_size]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        return (batches[i] for i in shuffle.permutation(len(batches)))


def padded(sequences: Ragged, indices: np.ndarray, fill: int) -> Tensor:
    """Return the sequences at `indices`, padded on the right: int64 [len(indices), width].

    The width is the longest of these lengths, rounded up to a multiple of 8 but not beyond the longest of all
    sequences. CPU kernels are cached per shape, and fewer shapes take half the memory and a tenth less time.
    """
    lengths = sequences.lengths[indices]
    columns = np.arange(min(-(-int(lengths.max()) // 8) * 8, int(sequences.lengths.max())))
    inside = columns < lengths[:, None]
    out = np.full(inside.shape, fill, np.int64)
    out[inside] = sequences.values[(sequences.offsets[indices][:, None] + columns)[inside]]
    return torch.from_numpy(out)


class Corruption(NamedTuple):
    """Tokens of a batch to be predicted, and what the model sees in their place."""

    shown: np.ndarray
    """Input of the model, int64 [batch, seq]."""
    positions: np.ndarray
    """Positions to predict, int64 [batch, predicted]."""


def corrupt(
    ids: np.ndarray,
    vocabulary: WordPiece,
    generator: np.random.Generator,
    *,
    predicted: int,
    mask_share: float = 0.8,
    random_share: float = 0.1,
) -> Corruption:
    """Choose `predicted` tokens of each sequence, excluding special ones (BERT, Section 3.1 and Appendix A.1).

    A share of them becomes [MASK], a share a random token, and the rest stays unchanged.
    """
    scores = generator.random(ids.shape, dtype=np.float32)
    # Scores lie in [0, 1), so special tokens come last and are never chosen.
    scores[np.isin(ids, vocabulary.special)] = 2.0
    positions = np.argpartition(scores, predicted, axis=1)[:, :predicted]
    fate = generator.random(positions.shape, dtype=np.float32)
    others = generator.integers(0, len(vocabulary), positions.shape)
    true = np.take_along_axis(ids, positions, axis=1)
    new = np.where(fate < mask_share, vocabulary.mask, np.where(fate < mask_share + random_share, others, true))
    shown = ids.copy()
    np.put_along_axis(shown, positions, new, axis=1)
    return Corruption(shown, positions)
