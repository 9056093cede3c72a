"""BERT on sentences typed by a user: filling in missing words, and applying fine-tuned models."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor, nn

from reprise.core.run.task import Task
from reprise.experiments.bert.config import Subtask
from reprise.experiments.bert.finetuning import FinetuningTask
from reprise.experiments.bert.model import Finetuned, Pretrainer
from reprise.experiments.bert.pretraining import PretrainingTask
from reprise.inference.kinds import BLANK, Answer, Guess, Text, Unusable
from reprise.inference.models import Network
from reprise.parts.data import store
from reprise.parts.text import WordPiece

_WORD = re.compile(r"\w+(?:'\w+)?|[^\w\s]")
EXAMPLES = ("the film was good .", "a long and boring story , badly told .", "she is the best actor of her time .")


def fill(task: PretrainingTask, text: str, best: int = 5) -> list[list[Guess]]:
    """Return, for each [MASK] of `text`, the `best` most probable WordPieces.

    A left-to-right model predicts only from what precedes the position.

    Raises:
        Unusable: the text is too long.
    """
    words = WordPiece(task.vocabulary.pieces)
    ids, segments, places = masked(words, text, task.config.model.positions)
    causal = int(task.settings.objective == "left_to_right")
    with torch.no_grad():
        # From left to right, the word at a position is predicted by the state before it.
        hidden = task.model.encoder(ids, segments, causal=bool(causal))[0, places - causal]
        shares = task.model.token_logits(hidden).float().softmax(-1)
    known = shares[:, : len(words)]  # a small corpus yields fewer pieces than the model has outputs
    found = known.topk(min(best, known.shape[1]))
    return [
        [Guess(words.pieces[index], share) for index, share in zip(indices, values, strict=True)]
        for indices, values in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    ]


def masked(words: WordPiece, text: str, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return [CLS] text [SEP] as ids and segments [1, seq], and the positions of [MASK] [masks]."""
    ids = [words.cls]
    for index, stretch in enumerate(words.encode(BLANK.split(text))[i] for i in range(len(BLANK.findall(text)) + 1)):
        ids += [words.mask] * (index > 0) + stretch.tolist()
    ids = torch.tensor([[*ids, words.sep]])
    if ids.shape[1] > longest:
        raise Unusable(f"the text has {ids.shape[1] - 2} WordPieces; this model reads {longest - 2} at most")
    return ids, torch.zeros_like(ids), (ids[0] == words.mask).nonzero()[:, 0]


def answers(task: FinetuningTask, texts: list[str]) -> list[Answer]:
    """Return the output of every fine-tuned model that takes this number of texts, one or two.

    Raises:
        Unusable: no model takes that many, or the texts are too long.
    """
    fitting = {name: sub for name, sub in task.tasks.items() if reads(task, sub) == len(texts)}
    if not fitting:
        known = ", ".join(f"{name} ({reads(task, sub) or 'passages'})" for name, sub in task.tasks.items())
        raise Unusable(f"no task of this model takes {len(texts)} texts; the number that each takes: {known}")
    return [_answer(task, name, sub, texts) for name, sub in fitting.items()]


def reads(task: FinetuningTask, sub: Subtask) -> int:
    """Return how many texts one example of a task has; 0 for question answering on passages, which `try` leaves out."""
    if sub.kind == "span":
        return 0
    pairs = (task.run.data / sub.part / "train_first_text.npy").exists()
    return 2 if pairs else 1


def _answer(task: FinetuningTask, name: str, sub: Subtask, texts: list[str]) -> Answer:
    words = WordPiece(task.vocabulary.pieces)
    tagged = _WORD.findall(texts[0]) if sub.kind == "tagging" else []
    encoded = words.encode(tagged or texts)
    # A word that encodes to nothing still needs a position that its label is read from.
    parts = [encoded[i].tolist() or [words.unk] for i in range(len(tagged or texts))]
    ids, segments = [words.cls], [0]
    places = []
    for index, part in enumerate(parts):
        places.append(len(ids) + (0 if sub.label_on == "first" else len(part) - 1))
        last = [words.sep] if not tagged or index + 1 == len(parts) else []
        ids += part + last
        # The words of a sentence are one segment; a pair of texts is two.
        segments += [0 if tagged else index] * len(part + last)
    if len(ids) > sub.length:
        raise Unusable(
            f"{name}: the text has {len(ids)} WordPieces with the special ones; it reads {sub.length} at most"
        )
    model = task.models[name]
    batch = torch.tensor([ids])
    with torch.no_grad():
        output = model(batch, torch.tensor([segments]), torch.ones_like(batch, dtype=torch.bool))[0].float()
    said = tagged or [" / ".join(texts)]
    if sub.kind == "regression":
        return Answer(name, said, [f"{float(output[0]):.3f}"], [])
    scores = output[places] if tagged else output[None]
    shares, labels = scores.softmax(-1).max(-1)
    names = store.label_names(task.run.data / sub.part)
    return Answer(name, said, [names[label] for label in labels.tolist()], shares.tolist())


# --- networks ---------------------------------------------------------------------------------------------------------


class MaskedWords(nn.Module):
    """Scores of every WordPiece at every position."""

    def __init__(self, model: Pretrainer, causal: bool) -> None:
        super().__init__()
        self.model, self.causal = model, causal

    def forward(self, ids: Tensor, segments: Tensor) -> Tensor:
        return self.model.token_logits(self.model.encoder(ids, segments, causal=self.causal))


class NextSentence(nn.Module):
    """Scores for B following A, and for B being a random sentence."""

    def __init__(self, model: Pretrainer) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, segments: Tensor) -> Tensor:
        return self.model.next_sentence_logits(self.model.encoder(ids, segments)[:, 0])


def networks(task: Task) -> list[Network]:
    """Return the heads of the pretrained model, or each fine-tuned model; each includes its own encoder."""
    if isinstance(task, PretrainingTask):
        ids, segments, _ = _batch(WordPiece(task.vocabulary.pieces), task.config.model.positions)
        causal = int(task.settings.objective == "left_to_right")
        inputs, longest = {"ids": ids, "segments": segments}, task.config.model.positions
        what = "ids and segments int64 [batch, seq], [CLS] A [SEP] B [SEP]"
        token = f"{what}, to the logit of every WordPiece {'after' if causal else 'at'} each position"
        found = [Network("masked_words", MaskedWords(task.model, bool(causal)), inputs, "logits", token, longest)]
        if task.settings.objective == "mlm_nsp":
            says = f"{what}, to the logits [batch, 2] of B following A and of its being a random sentence"
            found.append(Network("next_sentence", NextSentence(task.model), inputs, "logits", says, longest))
        return found
    assert isinstance(task, FinetuningTask)
    return [_finetuned(task, name, sub) for name, sub in task.tasks.items()]


def _finetuned(task: FinetuningTask, name: str, sub: Subtask) -> Network:
    model = task.models[name]
    assert isinstance(model, Finetuned)
    ids, segments, mask = _batch(WordPiece(task.vocabulary.pieces), sub.length)
    inputs = {"ids": ids, "segments": segments, "mask": mask}
    of = "token" if model.per_token else "sequence"
    says = f"ids, segments int64 and mask bool [batch, seq], false at padding, to the {sub.labels} outputs of each {of}"
    module = model if model.per_token else OfSequence(model)
    labels: tuple[str, ...] = ()
    if (task.run.data / sub.part / "labels.json").exists():
        labels = tuple(store.label_names(task.run.data / sub.part))
    longest = len(model.encoder.positions.weight)
    return Network(name, module, inputs, "outputs", says, longest, labels, model)


class OfSequence(nn.Module):
    """A sequence classifier whose last block computes every position, since exporters would freeze a selection."""

    def __init__(self, model: Finetuned) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, segments: Tensor, mask: Tensor) -> Tensor:
        hidden = self.model.encoder(ids, segments, mask, causal=self.model.causal)
        if self.model.causal:
            last = (mask.long().sum(1) - 1)[:, None, None].expand(-1, 1, hidden.shape[2])
            summary = hidden.gather(1, last)[:, 0]
        else:
            summary = hidden[:, 0]
        return self.model.head(self.model.encoder.pooled(summary))


def _batch(words: WordPiece, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a few sentences, and two of them as a pair: ids, segments and mask [4, seq]."""
    encoded = [row.tolist() for row in map(words.encode(EXAMPLES).__getitem__, range(len(EXAMPLES)))]
    rows = [[words.cls, *row, words.sep] for row in encoded]
    # Where the second segment begins: beyond the end, for a single sentence.
    second = [len(row) for row in rows] + [len(rows[0])]
    rows.append([*rows[0], *encoded[1], words.sep])
    width = min(max(map(len, rows)), longest)
    ids = np.full((len(rows), width), words.pad, np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row[:width]
    lengths = np.array([min(len(row), width) for row in rows])
    column = np.arange(width)
    segments = ((column >= np.array(second)[:, None]) & (column < lengths[:, None])).astype(np.int64)
    return torch.from_numpy(ids), torch.from_numpy(segments), torch.from_numpy(column < lengths[:, None])


def files(task: Task) -> dict[str, str]:
    """Return the WordPieces, one per line, in order of their ids."""
    assert isinstance(task, PretrainingTask | FinetuningTask)
    return {"vocab.txt": "\n".join(task.vocabulary.pieces)}


MODELS = Text(fill=fill, answers=answers, networks=networks, files=files)
