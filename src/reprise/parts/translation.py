"""Sentence pairs as numbers, in pieces that both languages share, and BLEU."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sacrebleu.metrics import BLEU
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from reprise.parts.data.store import Parallel
from reprise.parts.text import Ragged

SPECIAL = ("[PAD]", "[UNK]", "[BEGIN]", "[END]")
PAD, UNK, BEGIN, END = range(4)
_ALPHABET = 500
_FORMAT = "1"
Merges = list[tuple[str, str]]


class Pieces:
    """Byte-pair encoding (Sennrich et al. 2016), or with `merges` None whole words.

    Pieces of byte-pair encoding that begin a word begin with ▁; punctuation stands alone.
    """

    def __init__(self, pieces: Sequence[str], merges: Merges | None) -> None:
        """Build from `pieces`, in the order of their ids, SPECIAL first, and `merges`, in the order of learning."""
        if tuple(pieces[: len(SPECIAL)]) != SPECIAL:
            raise ValueError(f"expected the pieces to begin with {', '.join(SPECIAL)}")
        self.pieces, self.merges = list(pieces), merges
        numbers = {piece: number for number, piece in enumerate(pieces)}
        if merges is None:
            self._tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=SPECIAL[UNK]))
            self._tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        else:
            self._tokenizer = Tokenizer(models.BPE(numbers, merges, unk_token=SPECIAL[UNK]))
            self._tokenizer.pre_tokenizer = _spaces_and_punctuation()
            self._tokenizer.decoder = decoders.Metaspace()

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, texts: Iterable[str]) -> Ragged:
        """Tokenise each text, without special tokens."""
        ids = [one.ids for one in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        offsets = np.cumsum([0] + [len(one) for one in ids], dtype=np.int64)
        return Ragged(np.fromiter(chain.from_iterable(ids), np.int32, int(offsets[-1])), offsets)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of pieces."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def to_json(self) -> str:
        """Return everything as JSON, for `from_json`."""
        return json.dumps([self.pieces, self.merges], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Pieces:
        """Restore what `to_json` returned."""
        pieces, merges = json.loads(text)
        return cls(pieces, None if merges is None else [(a, b) for a, b in merges])


def _spaces_and_punctuation() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])


def words_of(texts: Iterable[str]) -> Pieces:
    """Return every word of the texts as a piece, in alphabetical order."""
    return Pieces([*SPECIAL, *sorted({word for text in texts for word in text.split()})], None)


def learn_byte_pairs(texts: Sequence[Sequence[str]], size: int) -> Pieces:
    """Learn `size` pieces from the texts of several parts. The result is deterministic, as in `text.train_wordpiece`:
    characters are numbered in order, since ties are broken by their numbers.
    """
    characters = Counter(chain.from_iterable(chain.from_iterable(texts)))
    frequent = sorted((c for c in characters if not c.isspace()), key=lambda c: (-characters[c], c))
    alphabet = sorted([*frequent[: min(_ALPHABET, size // 4)], "▁"])
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[*SPECIAL, *alphabet],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNK]))
    tokenizer.pre_tokenizer = _spaces_and_punctuation()
    tokenizer.train_from_iterator(chain.from_iterable(texts), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return Pieces(pieces, [(first, second) for first, second in model["merges"]])


class Encoded(NamedTuple):
    """A split of sentence pairs in pieces, without special tokens."""

    source: Ragged
    target: Ragged

    def no_longer_than(self, most: int) -> np.ndarray:
        """Return the indices of pairs of which neither side has more than `most` pieces, int64 [pairs]."""
        return np.flatnonzero(np.maximum(self.source.lengths, self.target.lengths) <= most)


def encoded(splits: dict[str, Parallel], cache: Path, *, byte_pairs: int | None) -> tuple[Pieces, dict[str, Encoded]]:
    """Encode all splits in pieces learned from `train`, both sides: `byte_pairs` of them, or with None its words.

    Results are cached: an entry is named by the hash of its inputs, and is complete or absent.
    """
    digest = hashlib.sha256(f"{_FORMAT} {byte_pairs}".encode())
    for split, pairs in splits.items():
        digest.update(split.encode())
        for side in (pairs.source, pairs.target):
            digest.update(side.blob.data)
            digest.update(side.offsets.data)
    entry = cache / digest.hexdigest()[:32]
    if not entry.exists():
        cache.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=cache, prefix="making-"))
        try:
            sides = [splits["train"].source, splits["train"].target]
            learned = learn_byte_pairs(sides, byte_pairs) if byte_pairs else words_of(chain.from_iterable(sides))
            (making / "pieces.json").write_text(learned.to_json(), encoding="utf-8")
            for split, pairs in splits.items():
                for name, side in (("source", pairs.source), ("target", pairs.target)):
                    values, offsets = learned.encode(side)
                    np.save(making / f"{split}_{name}.npy", values)
                    np.save(making / f"{split}_{name}_offsets.npy", offsets)
            os.rename(making, entry)
        except OSError:
            if not entry.exists():
                raise
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def opened(name: str) -> Ragged:
        return Ragged(*(np.load(entry / f"{name}{of}.npy", mmap_mode="r") for of in ("", "_offsets")))

    pieces = Pieces.from_json((entry / "pieces.json").read_text(encoding="utf-8"))
    return pieces, {split: Encoded(opened(f"{split}_source"), opened(f"{split}_target")) for split in splits}


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Return BLEU of a corpus by sacreBLEU (Post 2018), with its 13a tokeniser and case: see `BLEU_SIGNATURE`."""
    return float(_BLEU.corpus_score(list(translations), [list(references)]).score)


_BLEU = BLEU()
BLEU_SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp"
"""sacreBLEU's own words for how `bleu` is measured, but for its version."""
