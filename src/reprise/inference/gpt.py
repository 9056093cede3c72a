"""GPT on the beginning of a sentence, which it continues, and its networks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from reprise.core.run.task import Task
from reprise.experiments.gpt.finetuning import FinetuningTask
from reprise.experiments.gpt.model import Finetuned, LanguageModel
from reprise.experiments.gpt.pretraining import PretrainingTask, continued
from reprise.inference.kinds import Unusable, Writer, Written
from reprise.inference.models import Network
from reprise.parts.data import store
from reprise.parts.text import WordPiece

EXAMPLES = (
    "the film was good .",
    "a long and boring story , badly told .",
    "she is the best actor of her time .",
    "no",
)
INPUTS = {
    "text": "[CLS] text [MASK]",
    "last_word": "[CLS] text",
    "pair": "[CLS] text [SEP] text [MASK]",
    "both_orders": "[CLS] text [SEP] text [MASK]",
}
"""Input of a fine-tuned model, by `reads` of its task."""
LENGTH = 24
"""Most pieces that are written."""


def write(task: PretrainingTask, text: str, count: int, draw: int) -> Written:
    """Return the likeliest continuation of `text` and `count` that are drawn, of 24 pieces or as many as fit.

    Raises:
        Unusable: the text is too long, or none of its characters is known.
    """
    words, longest = WordPiece(task.vocabulary.pieces), task.config.model.positions
    said = words.encode([text])[0].tolist()
    if not said or set(said) <= {words.unk}:
        raise Unusable("the text has no word that the model has learned")
    if len(said) > longest - 2:
        raise Unusable(f"the text has {len(said)} WordPieces; this model continues {longest - 2} at most")
    begun = [words.cls, *said]
    # A small corpus yields fewer pieces than the model has outputs.
    forbidden = [*words.special.tolist(), *range(len(words), task.config.model.vocab_size)]
    length = min(len(begun) + LENGTH, longest)
    uniform = np.random.default_rng([1_000_000, draw]).random((count, LENGTH))
    likeliest, *drawn = (
        spelt(words, continued(task.model, begun, length, forbidden, row)[len(begun) :]) for row in (None, *uniform)
    )
    return Written(spelt(words, said), likeliest, drawn)


def spelt(words: WordPiece, ids: list[int]) -> str:
    """Return pieces as text, those that continue a word joined to it."""
    return " ".join(words.pieces[i] for i in ids).replace(" ##", "")


class NextToken(nn.Module):
    """Scores of every WordPiece after every position."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model.logits(self.model(ids))


class OfSequences(nn.Module):
    """A fine-tuned model on one order of each example, its last token found by the mask."""

    def __init__(self, model: Finetuned) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.model(ids[None], mask.long().sum(1)[None])[0]


def networks(task: Task) -> list[Network]:
    """Return the language model, or each task's fine-tuned model."""
    assert isinstance(task, PretrainingTask | FinetuningTask)
    words, longest = WordPiece(task.vocabulary.pieces), task.config.model.positions
    rows = [[words.cls, *words.encode([text])[0].tolist(), words.mask][:longest] for text in EXAMPLES]
    width = max(map(len, rows))
    ids = torch.tensor([row + [words.pad] * (width - len(row)) for row in rows])
    mask = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
    if isinstance(task, PretrainingTask):
        says = "ids int64 [batch, seq], [CLS] and a text, to the logit of every WordPiece after each position"
        return [Network("language_model", NextToken(task.model), {"ids": ids}, "logits", says, longest)]
    found = []
    for name, sub in task.tasks.items():
        model = task.models[name]
        assert isinstance(model, Finetuned)
        shape = INPUTS[sub.reads]
        says = f"ids int64 and mask bool [batch, seq], {shape}, false at padding, to the {sub.labels} outputs"
        labels = ()
        if (task.run.data / sub.part / "labels.json").exists():
            labels = tuple(store.label_names(task.run.data / sub.part))
        found.append(Network(name, OfSequences(model), {"ids": ids, "mask": mask}, "outputs", says, longest, labels))
    return found


def files(task: Task) -> dict[str, str]:
    """Return the WordPieces, one per line, in order of their ids."""
    assert isinstance(task, PretrainingTask | FinetuningTask)
    return {"vocab.txt": "\n".join(task.vocabulary.pieces)}


MODELS = Writer(write=write, networks=networks, files=files)
