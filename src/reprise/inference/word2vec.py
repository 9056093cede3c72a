"""Words nearest to a word, or to a sum and difference of words, such as king - man + woman."""

from __future__ import annotations

import difflib
import re

import torch
from torch.nn import functional

from reprise.experiments.word2vec.task import WordTask
from reprise.inference.kinds import Near, Unusable, Words
from reprise.inference.models import Network


def near(task: WordTask, text: str, count: int) -> Near:
    """Return the `count` words with the largest cosines to the sum of unit vectors in `text`, but for its own words.

    Raises:
        Unusable: it is not a word, or words with + or - between them, or has a word without a vector.
    """
    terms = re.findall(r"[+-]|[^\s+-]+", text.lower())
    signs = {"+": 1.0, "-": -1.0}
    if not terms or len(terms) % 2 == 0 or any((term in signs) != bool(place % 2) for place, term in enumerate(terms)):
        raise Unusable(f"expected a word, or words with + or - between them, as in king - man + woman; found {text!r}")
    asked, words = terms[::2], task.words
    weights = [1.0, *(signs[sign] for sign in terms[1::2])]
    numbers = {word: number for number, word in enumerate(words)}
    if unknown := next((word for word in asked if word not in numbers), None):
        alike = difflib.get_close_matches(unknown, words, 1)
        hint = f"; did you mean {alike[0]}?" if alike else ""
        raise Unusable(f"{unknown!r} is not among the {len(words):,} words that have vectors{hint}")
    unit = functional.normalize(task.vectors.inputs[: len(words)], dim=1)
    own = torch.tensor([numbers[word] for word in asked])
    target = (torch.tensor(weights)[:, None] * unit[own]).sum(0)
    cosines = (unit @ functional.normalize(target, dim=0)).index_fill(0, own, -torch.inf)
    found = cosines.topk(min(count, max(len(words) - len(set(asked)), 0)))
    pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
    return Near(" ".join(terms), [(words[number], cosine) for number, cosine in pairs])


def networks(task: WordTask) -> list[Network]:
    """Return the table of vectors, from numbers of words."""
    says = (
        f"word int64 [batch], its line in vocab.txt from 0, to its vector [batch, {task.config.size}]; words that are "
        f"used alike have a large cosine"
    )
    return [Network("vectors", task.vectors, {"word": torch.arange(8)}, "vector", says)]


def files(task: WordTask) -> dict[str, str]:
    """Return the words, one per line, in order of their numbers."""
    return {"vocab.txt": "\n".join(task.words)}


MODELS = Words(near=near, networks=networks, files=files)
