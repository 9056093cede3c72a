"""Answers to questions about a story typed by a user, with the attention to its statements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reprise.experiments.memn2n import Task, counted
from reprise.inference.kinds import Stories, Told, Unusable
from reprise.inference.models import Network
from reprise.parts.data import stories


def answer(task: Task, text: str, count: int) -> Told:
    """Return the `count` most probable answers to the last sentence of `text`, given the statements before it.

    Raises Unusable if there is no statement, or a word is unknown.
    """
    *statements, question = [one.strip() for one in re.split(r"(?<=[.?!])\s+", text.strip())]
    if not statements:
        raise Unusable("expected statements and then a question, each with its full stop or question mark")
    words = stories.vocabulary(task.config.story)
    unknown = [word for one in (*statements, question) for word in stories.words(one) if word not in words]
    if unknown:
        raise Unusable(f"the model does not know the word {unknown[0]!r}; it knows: {', '.join(words)}")
    memory, asked = told(task, statements, question)
    with torch.no_grad():
        read = task.networks(memory[None], ages(memory[None]), asked[None])
    start, kept = int(task.best), statements[-len(memory) :]
    found = read.logits[start, 0].softmax(0).topk(min(count, len(words)))
    answers = [
        (words[index], share) for index, share in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    ]
    attention = [hop[start, 0, : len(kept)].flip(0).tolist() for hop in read.attention]
    return Told(kept, question, answers, attention)


def told(task: Task, statements: Sequence[str], question: str) -> tuple[Tensor, Tensor]:
    """Return memory [slots, 2*words], the newest statement first, and question [2*words]."""
    words, encoding = stories.vocabulary(task.config.story), task.config.network.encoding
    memory = torch.zeros(int(task.slots), 2 * len(words))
    for slot, statement in enumerate(statements[-len(memory) :][::-1]):
        memory[slot] = counted(statement, words, encoding)
    return memory, counted(question, words, encoding)


def ages(memory: Tensor) -> Tensor:
    """Return ages [batch, slots]: 1 for the newest statement, 0 where there is none."""
    return torch.where(memory.ne(0).any(2), torch.arange(1, memory.shape[1] + 1), 0)


class OneStart(nn.Module):
    """One of the parallel networks, from memories and a question to the logits of its answer."""

    def __init__(self, networks: Any, start: int) -> None:
        super().__init__()
        self.networks, self.start = networks, start

    def forward(self, memory: Tensor, question: Tensor) -> Tensor:
        return self.networks(memory, ages(memory), question).logits[self.start]


def networks(task: Task) -> list[Network]:
    """Return the start that counts, with generated stories."""
    words = stories.vocabulary(task.config.story)
    made_up = [stories.parse(stories.story(task.config.story, 1, number))[0] for number in range(8)]
    pairs = [told(task, one.statements, one.question) for one in made_up]
    memory, question = (torch.stack(each) for each in zip(*pairs, strict=True))
    says = (
        f"memory float32 [batch, {memory.shape[1]}, {memory.shape[2]}], the newest statement first and rows of zeros "
        f"where there is none, and question [batch, {memory.shape[2]}], all as weighted counts of the words (Section "
        f"4.1), to the logit [batch, {len(words)}] of each word as the answer"
    )
    module = OneStart(task.networks, int(task.best))
    inputs = {"memory": memory, "question": question}
    return [Network("network", module, inputs, "logits", says, labels=tuple(words))]


def files(task: Task) -> dict[str, str]:
    """Return the words, one per line, in order of their ids."""
    return {"vocab.txt": "\n".join(stories.vocabulary(task.config.story))}


MODELS = Stories(answer=answer, networks=networks, files=files)
