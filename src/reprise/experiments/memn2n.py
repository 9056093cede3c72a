"""End-To-End Memory Networks. Sukhbaatar, Szlam, Weston & Fergus. NeurIPS 2015, https://arxiv.org/abs/1503.08895.

Claimed: a network that reads a memory of statements by attention answers questions about them, trained by questions and
answers alone (Abstract); more hops over the memory improve it (Abstract; Section 5; Table 1: on two supporting facts
62.0 % of errors with one hop, 15.6 % with two, 11.4 % with three; on three, 76.9, 31.6 and 21.9 %); an LSTM fails there
(Table 1: 80 %). Position encoding helps where the order of words matters (Section 5; Table 1, task 4: 32.0 % with bags
of words, 3.8 % with it); linear start helps to avoid local minima, and random noise to generalise (Section 5). What is
attended to are the supporting statements, though nobody told which they are (Section 5, Figure 2).

Deviations:
- Section 4: bAbI's own files are not to be had from a package registry. Stories of its tasks 1 to 4 are made up by
  `parts/data/stories.py`: same words and tasks, somewhat shorter; 1,000 questions of a larger pool for each seed.
- Table 1's rows of one, two and three hops are of training on all twenty tasks at once, with vectors of 50. Here each
  task is learnt by itself, as in its columns PE LS RN, with vectors of 20.
- Section 4.2: the softmax comes back after a number of epochs, as in the authors' code, not when the validation loss
  stops falling.
- Section 4.1: the paper says that 10 % of empty memories are added; the authors' code, which is followed here, skips
  places in time, up to a tenth as many as there are statements, drawn anew whenever a story is read.
- Table 1's LSTM (of Weston et al. 2015) reads words. Ours is given the vectors of whole sentences, which is easier.
- The starts of Section 4.2, of which the one with the lowest training error counts, are trained side by side, on the
  same batches.
What a smaller scale changes is in params/memn2n.yaml, and nowhere else.

Shapes: batch = questions; starts = networks side by side, each with weights of its own; slots = memories, the newest
statement first; sentences = different statements or questions of a task, of which number 0 is empty; words = of the
task's vocabulary; width = d, the vectors' length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice, pairwise
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data import stories
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.store import open_texts
from reprise.parts.data.stories import Question
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import BLUE, ORANGE, blank, drawn, film
from reprise.parts.training import Schedule
from reprise.parts.vocabulary import Count

MOST_SUPPORT = 3
"""Statements that an answer follows from."""
FRAMES, LONGEST_SHOWN = 12, 9
"""Moments of training, before its end, at which attention is looked at; statements of the story that it is shown on."""


class MemoryNetwork(Strict):
    """The network of Section 2, weights tied between neighbouring layers (Section 2.2)."""

    kind: Literal["memory"]
    hops: Count
    """K, how often the memory is read."""
    width: Count
    """d, the length of all vectors."""
    encoding: Literal["bag", "position"]
    """A sentence as the sum of its words' vectors, or with weights by their position (Section 4.1)."""
    time: bool
    """Whether memories know their age: the temporal encoding of Section 4.1."""


class Recurrent(Strict):
    """An LSTM that reads the statements from the oldest to the newest, then the question."""

    kind: Literal["lstm"]
    width: Count
    """Of the sentences' vectors and of the state."""
    encoding: Literal["bag", "position"]
    """As a memory network's."""


class Config(ExperimentConfig):
    """Questions about stories, learnt from answers."""

    story: Annotated[int, Field(ge=1, le=4)]
    """bAbI's task: 1, 2 or 3 supporting facts; 4, two arguments of a relation."""
    shuffled: bool = False
    """Whether the statements of every story are put into an order of chance: a control."""
    questions: Annotated[int, Field(ge=10, le=2000)]
    """To learn from, a tenth of which is kept back: the first of the stories in the seed's order."""
    test: Annotated[int, Field(ge=1, le=1000)]
    """Test questions that are scored."""
    network: Annotated[MemoryNetwork | Recurrent, Field(discriminator="kind")]
    std: vocabulary.Rate
    """Standard deviation that words and times start with (Section 4.2)."""
    starts: Count
    """Networks trained side by side; the one with the lowest training error counts (Section 4.2)."""
    memories: Count
    """The most that are kept of a story: its newest statements."""
    noise: vocabulary.Fraction
    """Places in time that are skipped at most, as a share of the statements: the random noise of Section 4.1."""
    linear_start: DurationField
    """How long there is no softmax over the memories (Section 4.2); 0ep for none."""
    optimizer: vocabulary.Optimizer
    """Its rate is of gradients summed over the batch."""
    clip: vocabulary.Rate
    """Largest L2 norm of the gradient of each start, summed over the batch."""
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    batch_size: Count
    duration: DurationField

    @model_validator(mode="after")
    def _clipped_by_start(self) -> Config:
        if self.optimizer.clip_norm is not None:
            raise ValueError("optimizer.clip_norm would take all starts together: expected clip, which takes each")
        return self


# Sentences


def counted(sentence: str, words: Sequence[str], encoding: str) -> Float[Tensor, " 2*words"]:
    """A sentence as two weighted counts of each word, of which `layers` makes a vector.

    Position encoding weighs element k of d of word j of J by l_kj = (1 - j/J) - (k/d)(1 - 2j/J) (Section 4.1), so
    that a sentence is Σ_j (1 - j/J) A x_j less k/d times Σ_j (1 - 2j/J) A x_j: the two sums are of the first and of
    the second counts. A bag of words is plain counts, and zeros.
    """
    counts, said = torch.zeros(2, len(words)), stories.words(sentence)
    for place, word in enumerate(said, start=1):
        share = place / len(said)
        first, second = (1 - share, 1 - 2 * share) if encoding == "position" else (1.0, 0.0)
        counts[0, words.index(word)] += first
        counts[1, words.index(word)] += second
    return counts.flatten()


def layers(words: Float[Tensor, "words layers starts width"]) -> Float[Tensor, "layers starts 2*words width"]:
    """By what `counted` is multiplied to give vectors: each word's, and its opposite with element k times k/d."""
    k = torch.arange(1, words.shape[-1] + 1, device=words.device) / words.shape[-1]
    return torch.cat([words, -k * words]).permute(1, 2, 0, 3)


# Networks


class Read(NamedTuple):
    """What networks make of a batch of questions."""

    logits: Float[Tensor, "starts batch words"]
    attention: list[Float[Tensor, "starts batch slots"]]
    """Of each hop; none of an LSTM."""


class MemoryNetworks(nn.Module):
    """`starts` networks of Section 2.2: A^(k+1) = C^k, B = A^1 and W^T = C^K, of words and of ages (T_A, T_C)."""

    def __init__(self, network: MemoryNetwork, words: int, memories: int, starts: int, std: float) -> None:
        super().__init__()
        shape = network.hops + 1, starts, network.width
        self.words = nn.Parameter(torch.empty(words, *shape).normal_(0, std))
        self.times = nn.Parameter(torch.empty(memories, *shape).normal_(0, std)) if network.time else None

    def forward(
        self,
        memory: Float[Tensor, "batch slots 2*words"],
        ages: Int[Tensor, "batch slots"],
        question: Float[Tensor, "batch 2*words"],
        *,
        linear: bool = False,
    ) -> Read:
        """Answers to questions from memories, both as `counted` gives them; ages are 1 for the newest, 0 for none.

        An empty slot has score 0, and its part in the softmax, as in the authors' code. With `linear` there is no
        softmax (Section 4.2).

        With x_i the counts of memory i and its age as one of ones and zeros, and A and T_A one below the other, m_i is
        x_i A, so that u·m_i is x_i·(A u), and Σ p_i c_i is (Σ p_i x_i) C: no vector of a memory is ever made.
        """
        matrices = layers(self.words)
        u = question @ matrices[0]
        if self.times is not None:
            matrices = torch.cat([matrices, self.times.permute(1, 2, 0, 3)], 2)
            known = torch.arange(1, len(self.times) + 1, device=ages.device)
            memory = torch.cat([memory, (ages[:, :, None] == known).to(memory.dtype)], 2)
        attention = []
        for a, c in pairwise(matrices.unbind()):
            scores = memory @ (u @ a.mT).permute(1, 2, 0)
            weights = scores if linear else scores.softmax(1)
            attention.append(weights.permute(2, 0, 1))
            u = u + (memory.mT @ weights).permute(2, 0, 1) @ c
        return Read(u @ self.words[:, -1].permute(1, 2, 0), attention)


class Recurrents(nn.Module):
    """`starts` LSTMs; what goes in and comes out is as of `MemoryNetworks`, but that ages are not looked at."""

    def __init__(self, network: Recurrent, words: int, starts: int, std: float) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.empty(words, 2, starts, network.width).normal_(0, std))
        self.recurrent = nn.ModuleList(nn.LSTM(network.width, network.width, batch_first=True) for _ in range(starts))

    def forward(
        self,
        memory: Float[Tensor, "batch slots 2*words"],
        ages: Int[Tensor, "batch slots"],
        question: Float[Tensor, "batch 2*words"],
        *,
        linear: bool = False,
    ) -> Read:
        """Empty slots are read first, as vectors of zeros."""
        read = torch.cat([memory.flip(1), question[:, None]], 1)
        vectors = torch.einsum("btr,srd->sbtd", read, layers(self.words)[0])
        states = [lstm(said)[0][:, -1] for said, lstm in zip(vectors, self.recurrent, strict=True)]
        return Read(torch.stack(states) @ self.words[:, 1].permute(1, 2, 0), [])


def networks(config: Config) -> dict[str, nn.Module]:
    """All starts together."""
    network, words = config.network, len(stories.vocabulary(config.story))
    if isinstance(network, Recurrent):
        return {"networks": Recurrents(network, words, config.starts, config.std)}
    return {"networks": MemoryNetworks(network, words, config.memories, config.starts, config.std)}


# Training


def clip_by_start(stacked: Sequence[Tensor], own: Sequence[Sequence[Tensor]], most: float) -> None:
    """Scale the gradient of each start whose L2 norm is above `most` (Section 4.2).

    Its gradient is of its part of each of `stacked`, which are [..., starts, width], and of what is its `own`.
    """
    grads = [p.grad for p in stacked if p.grad is not None]
    squares = torch.stack([grad.square().sum((*range(grad.ndim - 2), grad.ndim - 1)) for grad in grads]).sum(0)
    owned = [[p.grad for p in of_one if p.grad is not None] for of_one in own]
    if owned:
        squares = squares + torch.stack([torch.stack([grad.square().sum() for grad in one]).sum() for one in owned])
    scale = most / squares.sqrt().clamp(min=most)
    for grad in grads:
        grad.mul_(scale[:, None])
    for one, by in zip(owned, scale, strict=False):
        for grad in one:
            grad.mul_(by)


def noisy_ages(
    lengths: Int[np.ndarray, " batch"], slots: int, memories: int, noise: float, draws: np.random.Generator
) -> Int[np.ndarray, "batch slots"]:
    """Ages of the memories, 1 for the newest and 0 for an empty slot, with some left out at random (Section 4.1).

    Of a story of n statements 0 to ⌈noise·n⌉ ages are left out, which makes older ones that much older, up to
    `memories`.
    """
    widest = slots + int(np.ceil(noise * slots))
    extra = draws.integers(0, np.ceil(noise * lengths).astype(np.int64) + 1)
    keys = draws.random((len(lengths), widest))
    keys[np.arange(widest) >= (lengths + extra)[:, None]] = 2.0
    kept = keys.argsort(1).argsort(1) < lengths[:, None]
    ages = np.zeros((len(lengths), slots), np.int64)
    ages[np.arange(slots) < lengths[:, None]] = np.minimum(kept.nonzero()[1] + 1, memories)
    return ages


class Questions(nn.Module):
    """A split as tensors: for each question its memories, the newest first."""

    memory: Int[Tensor, "questions slots"]
    lengths: Int[Tensor, " questions"]
    question: Int[Tensor, " questions"]
    answers: Int[Tensor, " questions"]
    support: Int[Tensor, "questions support"]
    """Slots; -1 for none, and `slots` where the statement is no longer in memory."""

    def __init__(self, **columns: Tensor) -> None:
        super().__init__()
        for name, column in columns.items():
            self.register_buffer(name, column, persistent=False)

    def __len__(self) -> int:
        return len(self.answers)

    def ages(self, at: Any) -> Int[Tensor, "batch slots"]:
        """Without noise."""
        places = torch.arange(1, self.memory.shape[1] + 1, device=self.memory.device)
        return torch.where(places <= self.lengths[at][:, None], places, 0)


class Task(task.Task):
    """All starts on the same batches; the one with the lowest training error is scored."""

    log_every = 28
    best: Tensor
    """The start with the lowest training error, known at the end of training."""
    slots: Tensor
    """Of every memory: those that the longest story needs, or as many as are kept."""
    watched: Tensor
    sentences: Tensor
    asked: Tensor
    train_set: Questions
    validation_set: Questions
    test_set: Questions

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.networks = networks(config)["networks"]
        hops = config.network.hops if isinstance(config.network, MemoryNetwork) else 0
        for name in ("best", "slots"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self.register_buffer("watched", torch.zeros(FRAMES + 1, config.starts, hops, LONGEST_SHOWN))

    def load_data(self) -> None:
        """Questions of the seed's stories, a tenth of them to choose on; the test set is the same for every seed."""
        config, folder = self.config, self.run.data / f"task_{self.config.story}"
        draws = np.random.default_rng(self.run.seed)
        texts = open_texts(folder, "train")
        order = draws.permutation(len(texts))
        learnt = _first(config.questions, (texts[int(number)] for number in order))
        test = _first(config.test, open_texts(folder, "test"))
        self.shown = next((one for one in test if 6 <= len(one.statements) <= LONGEST_SHOWN), test[0])
        every = [*learnt, *test, self.shown]
        words = stories.vocabulary(config.story)
        said = ["", *sorted({statement for one in every for statement in one.statements})]
        asked = sorted({one.question for one in every})
        for name, sentences in (("sentences", said), ("asked", asked)):
            counts = torch.stack([counted(one, words, config.network.encoding) for one in sentences])
            self.register_buffer(name, counts, persistent=False)
        slots = min(config.memories, max(len(one.statements) for one in every))
        self.slots.fill_(slots)
        kept_back = len(learnt) // 10
        splits = (learnt[:-kept_back], learnt[-kept_back:], test, [self.shown])
        self.train_set, self.validation_set, self.test_set, self.shown_set = (
            _split(split, said, asked, words, slots, draws if config.shuffled else None) for split in splits
        )
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, self.run.seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)
        self.linear_steps = config.linear_start.steps(self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = build_optimizer(self.networks, self.config.optimizer)
        recurrent = self.networks.recurrent if isinstance(self.networks, Recurrents) else []
        own = [[*lstm.parameters()] for lstm in recurrent]
        stacked = [p for p in self.networks.parameters() if not any(p is q for of_one in own for q in of_one)]
        optimizer.register_step_pre_hook(lambda *_: clip_by_start(stacked, own, self.config.clip))
        return optimizer

    def read(self, split: Questions, at: Any, ages: Tensor, linear: bool) -> Read:
        """What the networks make of the questions `at` of a split."""
        return self.networks(self.sentences[split.memory[at]], ages, self.asked[split.question[at]], linear=linear)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """One batch, its loss summed (Section 4.2), for every start; at FRAMES moments the attention is kept first."""
        if step * FRAMES // self.total_steps > (step - 1) * FRAMES // self.total_steps:
            self.watch(step * FRAMES // self.total_steps, step < self.linear_steps)
        batch, split = self.sampler.indices(step), self.train_set
        here = self.sampler.indices(step, self.rank, self.world_size)
        ages = split.ages(here)
        if self.config.noise > 0:
            draws = np.random.Generator(np.random.Philox(key=[self.run.seed, step]))
            lengths, slots = split.lengths[batch].cpu().numpy(), split.memory.shape[1]
            drawn = noisy_ages(lengths, slots, self.config.memories, self.config.noise, draws)
            first = self.rank * len(here)  # all of the batch is drawn, so that a device more changes nothing
            ages = torch.from_numpy(drawn[first : first + len(here)]).to(ages.device)
        logits = self.read(split, here, ages, step < self.linear_steps).logits
        answers = split.answers[here].repeat(len(logits))
        loss = functional.cross_entropy(logits.flatten(0, 1), answers, reduction="sum")
        self.descend(loss * self.world_size, self.raw_optimizers[0], self.config.optimizer, self.schedule.at(step))
        if step + 1 == self.total_steps:
            self.watch(FRAMES, step + 1 <= self.linear_steps)
            with torch.no_grad():
                self.best.fill_(chosen(self.scores(self.train_set)))
        wrong = logits.detach().argmax(2).flatten() != answers
        return {"loss": loss.detach() / len(answers), "error": 100 * wrong.float().mean()}

    @torch.no_grad()
    def watch(self, frame: int, linear: bool) -> None:
        """Keep every start's attention to the story that is shown."""
        attention = self.read(self.shown_set, slice(None), self.shown_set.ages(slice(None)), linear).attention
        if attention:
            seen = torch.stack(attention, 1)[:, :, 0, :LONGEST_SHOWN]
            self.watched[frame:, :, :, : seen.shape[2]] = seen

    # Evaluation

    def scores(self, split: Questions) -> Scores:
        """Of every start, without noise."""
        blocks = [slice(first, first + 250) for first in range(0, len(split), 250)]
        read = [self.read(split, block, split.ages(block), self.total_steps <= self.linear_steps) for block in blocks]
        logits = torch.cat([one.logits for one in read], 1)
        answers = split.answers.expand(len(logits), -1)
        losses = functional.cross_entropy(logits.mT, answers, reduction="none").mean(1)
        errors = 100 * (logits.argmax(2) != answers).float().mean(1)
        attended = [torch.cat(hop, 1).argmax(2) for hop in zip(*(one.attention for one in read), strict=True)]
        return Scores(losses, errors, torch.stack(attended, 1) if attended else None)

    def evaluate(self) -> Evaluation:
        """Of the start with the lowest training error, and over all of them."""
        train, validation, test = map(self.scores, (self.train_set, self.validation_set, self.test_set))
        best = int(self.best)
        metrics = {
            "train_error": float(train.errors[best]),
            "validation_error": float(validation.errors[best]),
            "median_validation_error": float(validation.errors.quantile(0.5)),
            "test_error": float(test.errors[best]),
            "median_error": float(test.errors.quantile(0.5)),
        }
        pictures: dict[str, Picture] = {"starts": starts_chart(train.errors, test.errors)}
        if test.attended is not None:
            metrics["support_found"] = support_found(test.attended[best], self.test_set.support)
            pictures["attention"] = attention_film(self.watched[:, best].cpu().numpy(), self.shown)
        return Evaluation(metrics, pictures)


class Scores(NamedTuple):
    """Of every start on a split."""

    losses: Float[Tensor, " starts"]
    errors: Float[Tensor, " starts"]
    """In percent."""
    attended: Int[Tensor, "starts hops questions"] | None
    """The slot that each hop attends to most; None of an LSTM."""


def chosen(train: Scores) -> int:
    """The start with the lowest training error (Section 4.2); of several, the one with the lowest training loss."""
    return min(range(len(train.errors)), key=lambda start: (float(train.errors[start]), float(train.losses[start])))


def support_found(attended: Int[Tensor, "hops questions"], support: Int[Tensor, "questions support"]) -> float:
    """Percent of the questions of which every supporting statement is what some hop attends to most."""
    found = (attended[:, :, None] == support).any(0) | (support < 0)
    return 100 * float(found.all(1).float().mean())


def _first(count: int, texts: Iterable[str]) -> list[Question]:
    """The first `count` questions of stories in bAbI's format."""
    return list(islice(chain.from_iterable(map(stories.parse, texts)), count))


def _split(
    questions: Sequence[Question],
    said: Sequence[str],
    asked: Sequence[str],
    words: Sequence[str],
    slots: int,
    shuffle: np.random.Generator | None,
) -> Questions:
    """The questions as numbers of sentences and words; of longer stories the newest statements are kept."""
    sentence, number, word = ({name: i for i, name in enumerate(names)} for names in (said, asked, words))
    count = len(questions)
    memory = torch.zeros(count, slots, dtype=torch.int64)
    support = torch.full((count, MOST_SUPPORT), -1)
    for row, one in enumerate(questions):
        newest_first = list(range(len(one.statements)))[::-1][:slots]
        if shuffle is not None:
            newest_first = [newest_first[place] for place in shuffle.permutation(len(newest_first))]
        for slot, statement in enumerate(newest_first):
            memory[row, slot] = sentence[one.statements[statement]]
        for place, statement in enumerate(one.support):
            support[row, place] = newest_first.index(statement) if statement in newest_first else slots
    return Questions(
        memory=memory,
        lengths=(memory > 0).sum(1),
        question=torch.tensor([number[one.question] for one in questions]),
        answers=torch.tensor([word[one.answer] for one in questions]),
        support=support,
    )


# Pictures


def starts_chart(train: Tensor, test: Tensor) -> Picture:
    """Errors of all starts, in the order in which the paper would choose them."""
    order = train.argsort(stable=True).cpu()
    figure, [axes] = blank()
    for name, errors, colour in (("training", train, BLUE), ("test", test, ORANGE)):
        axes.plot(range(1, len(order) + 1), errors.cpu()[order], "o-", color=colour, markersize=4, label=name)
    axes.set_xticks(range(1, len(order) + 1))
    axes.set(title="errors of each start", xlabel="starts, by their training error", ylabel="error (%)", ylim=(0, 100))
    axes.grid(color="0.92")
    axes.legend(fontsize=8, frameon=False)
    return drawn(figure)


def attention_film(watched: Float[np.ndarray, "frames hops slots"], shown: Question) -> Picture:
    """The attention of each hop to the statements of a story, over training: darker is more.

    Supporting statements are in bold. A linear start's weights are shown between 0 and 1.
    """
    statements = shown.statements[-watched.shape[2] :]
    cut = len(shown.statements) - len(statements)
    oldest_first = watched[:, :, : len(statements)][:, :, ::-1].transpose(0, 2, 1).clip(0, 1)
    figure, [axes] = blank(0.9 + 0.24 * max(len(statements), 4))
    image = axes.imshow(oldest_first[0], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(watched.shape[1]), [f"hop {hop + 1}" for hop in range(watched.shape[1])])
    axes.set_yticks(range(len(statements)), statements)
    for place, label in enumerate(axes.get_yticklabels()):
        if place + cut in shown.support:
            label.set_fontweight("bold")
    figure.suptitle(f"{shown.question} {shown.answer}", fontsize=10)
    axes.set_xticks([hop + 0.5 for hop in range(watched.shape[1])], minor=True)
    axes.set_yticks([place + 0.5 for place in range(len(statements))], minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    [track] = axes.plot([0, 0], [1.0, 1.0], color=ORANGE, transform=axes.transAxes, linewidth=3, clip_on=False)

    def show(frame: int) -> None:
        moment = min(frame // 4, len(watched) - 1)
        image.set_data(oldest_first[moment])
        track.set_xdata([0, (moment + 1) / len(watched)])

    return film(figure, [image, track], 4 * len(watched) + 15, show)
