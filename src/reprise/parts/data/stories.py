"""Generates and parses stories with questions like those of bAbI (Weston et al. 2015, arXiv:1502.05698): tasks 1 to 4.

People move between places, and take and drop things; where people and things are follows from earlier statements. A
story is kept as text in bAbI's own format, with a numbered line for each statement and question:

    1 Mary moved to the bathroom.
    2 Mary took the milk there.
    3 Mary went to the garden.
    4 Where is the milk?	garden	2 3

A question is followed by its answer and the numbers of the statements that support it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")

PEOPLE = ("Mary", "John", "Sandra", "Daniel")
PLACES = ("bathroom", "hallway", "garden", "office", "bedroom", "kitchen")
THINGS = ("football", "apple", "milk")
MOVES = ("moved to", "went to", "went back to", "journeyed to", "travelled to")
TAKES = ("got", "took", "grabbed", "picked up")
DROPS = ("dropped", "left", "discarded", "put down")
DIRECTIONS = ("north", "south", "east", "west")
QUESTIONS = 5
"""Number of questions in a story of tasks 1 to 3; a story of task 4 has one."""


class Question(NamedTuple):
    """A question with all statements before it."""

    statements: tuple[str, ...]
    """Statements in order."""
    question: str
    answer: str
    """One word."""
    support: tuple[int, ...]
    """Indices of the statements that the answer follows from."""


def words(sentence: str) -> list[str]:
    """Return the words of a sentence in lower case, without punctuation."""
    return re.findall(r"\w+", sentence.lower())


def vocabulary(task: int) -> list[str]:
    """Return all words that stories of a task can contain, in alphabetical order."""
    if task == 4:
        return sorted({*PLACES, *DIRECTIONS, *words("the is of what")})
    said = [*PEOPLE, *PLACES, *MOVES, "the where is"]
    if task > 1:
        said += [*THINGS, *TAKES, *DROPS, "there"]
    if task == 3:
        said += ["was before"]
    # Task 3 asks where a thing was, so it has no "is".
    return sorted({word for phrase in said for word in words(phrase)} - ({"is"} if task == 3 else set()))


def parse(text: str) -> list[Question]:
    """Return the questions of a story in bAbI's format.

    Raises:
        ValueError: a line is neither a statement nor a question, or a supporting statement was not made before.
    """
    numbers: dict[int, int] = {}
    statements: list[str] = []
    questions: list[Question] = []
    for line in text.splitlines():
        number, _, rest = line.partition(" ")
        parts = rest.split("\t")
        if not number.isdigit() or len(parts) not in (1, 3):
            raise ValueError(f"expected a number and a statement, or a question, its answer and its support: {line!r}")
        if len(parts) == 1:
            numbers[int(number)] = len(statements)
            statements.append(rest.strip())
            continue
        support = [int(each) for each in parts[2].split()]
        if unknown := [each for each in support if each not in numbers]:
            raise ValueError(f"expected statements that were made before, found {unknown[0]}: {line!r}")
        places = tuple(numbers[each] for each in support)
        questions.append(Question(tuple(statements), parts[0].strip(), parts[1], places))
    return questions


# Making them up


def story(task: int, seed: int, index: int) -> str:
    """Generate story number `index` of `seed` in bAbI's format; it does not depend on other stories.

    Of Python's generator only `random` is used, whose numbers are the same in every version.
    """
    return _STORIES[task](_Dice(f"{task} {seed} {index}"))


class _Dice:
    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed).random

    def one(self, items: Sequence[Item]) -> Item:
        return items[int(self.random() * len(items))]

    def below(self, share: float) -> bool:
        return self.random() < share

    def several(self, items: Sequence[Item], count: int) -> list[Item]:
        """Draw `count` different items."""
        left = list(items)
        return [left.pop(int(self.random() * len(left))) for _ in range(count)]


class _Visit(NamedTuple):
    """A thing's stay at a place."""

    place: str
    line: int
    """Line of the statement that brought it there, which is its carrier's move."""


@dataclass
class _World:
    """Where people and things are, and the lines that say so."""

    dice: _Dice
    lines: list[str] = field(default_factory=list)
    place: dict[str, str] = field(default_factory=dict)
    """Place of each person."""
    moved: dict[str, int] = field(default_factory=dict)
    """Line of each person's last move."""
    carrier: dict[str, str] = field(default_factory=dict)
    """Person who carries each thing that is carried."""
    lies: dict[str, str] = field(default_factory=dict)
    """Place of each thing that was dropped."""
    handled: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each thing: the line in which it was last taken or dropped, and that of the person's last move before it."""
    visits: dict[str, list[_Visit]] = field(default_factory=dict)
    """For each thing: the places where it was, since somebody first took it."""

    def say(self, text: str) -> int:
        self.lines.append(f"{len(self.lines) + 1} {text}")
        return len(self.lines)

    def ask(self, question: str, answer: str, support: Sequence[int]) -> None:
        self.say(f"{question}\t{answer}\t{' '.join(map(str, support))}")

    def move(self, person: str) -> None:
        dice = self.dice
        place = dice.one([place for place in PLACES if place != self.place.get(person)])
        line = self.say(f"{person} {dice.one(MOVES)} the {place}.")
        self.place[person], self.moved[person] = place, line
        # What is carried moves along without a statement of its own; tasks 2 and 3 ask for just that.
        for thing, carrier in self.carrier.items():
            if carrier == person:
                self.visits[thing].append(_Visit(place, line))

    def handle(self, person: str) -> bool:
        """Let a person take or drop something; return False if there is nothing to take or drop."""
        dice, place = self.dice, self.place[person]
        had = [thing for thing in THINGS if self.carrier.get(thing) == person]
        # A thing that nobody has touched yet lies wherever somebody looks for it.
        there = [thing for thing in THINGS if thing not in self.carrier and self.lies.get(thing, place) == place]
        if not had + there:
            return False
        thing = dice.one(had + there)
        after = " there" if dice.below(0.5) else ""
        line = self.say(f"{person} {dice.one(DROPS if thing in had else TAKES)} the {thing}{after}.")
        self.handled[thing] = line, self.moved[person]
        if thing in had:
            del self.carrier[thing]
            self.lies[thing] = place
        else:
            self.carrier[thing] = person
            self.lies.pop(thing, None)
            # Only the first taking begins the list: a thing taken up again lies where its last visit ended.
            self.visits.setdefault(thing, [_Visit(place, self.moved[person])])
        return True

    def act(self) -> None:
        """Add one statement: somebody moves, or takes or drops something."""
        person = self.dice.one(PEOPLE)
        # Somebody who has not moved yet has no place at which to take anything.
        if person not in self.place or not self.dice.below(_HANDLES) or not self.handle(person):
            self.move(person)


_HANDLES = 0.4
"""Probability that somebody with a known place takes or drops something, if possible, instead of moving."""


def _whereabouts(dice: _Dice) -> str:
    """Task 1, one supporting fact: people move; the answer is in the last move of the person asked about."""
    world = _World(dice)
    for _ in range(QUESTIONS):
        for _ in range(2):
            world.move(dice.one(PEOPLE))
        person = dice.one(list(world.place))
        world.ask(f"Where is {person}?", world.place[person], [world.moved[person]])
    return "\n".join(world.lines)


def _things(dice: _Dice) -> str:
    """Task 2, two supporting facts: where a thing is follows from who has it, or had it, and where they went."""
    world = _World(dice)
    for _ in range(QUESTIONS):
        _until(world, 0.4, lambda: bool(world.handled))
        thing = dice.one(sorted(world.handled))
        line, moved = world.handled[thing]
        carrier = world.carrier.get(thing)
        place = world.place[carrier] if carrier else world.lies[thing]
        world.ask(f"Where is the {thing}?", place, [line, world.moved[carrier] if carrier else moved])
    return "\n".join(world.lines)


def _before(dice: _Dice) -> str:
    """Task 3, three supporting facts: where a thing was before it was moved to its current place."""
    world = _World(dice)
    for _ in range(QUESTIONS):
        _until(world, 0.25, lambda: any(len(visits) > 1 for visits in world.visits.values()))
        thing = dice.one(sorted(thing for thing, visits in world.visits.items() if len(visits) > 1))
        before, here = world.visits[thing][-2:]
        support = [world.handled[thing][0], here.line, before.line]
        world.ask(f"Where was the {thing} before the {here.place}?", before.place, support)
    return "\n".join(world.lines)


def _until(world: _World, share: float, possible: Callable[[], bool]) -> None:
    """Add two or more statements, until a question is possible; then ask with probability `share` after each."""
    world.act()
    world.act()
    while not possible() or not world.dice.below(share):
        world.act()


def _directions(dice: _Dice) -> str:
    """Task 4, two arguments of a relation: one place is, say, north of a second, which is north of a third.

    "What is north of the second?" and "What is the second north of?" have the same words but different answers; half of
    the questions can be answered from the words alone, as they name the first or the third place.
    """
    world = _World(dice)
    first, middle, last = dice.several(PLACES, 3)
    way = dice.one(sorted(DIRECTIONS))
    facts = dice.several([(first, middle), (middle, last)], 2)
    for a, b in facts:
        world.say(f"The {a} is {way} of the {b}.")
    number = 1 if dice.below(0.5) else 2
    a, b = facts[number - 1]
    if dice.below(0.5):
        world.ask(f"What is {way} of the {b}?", a, [number])
    else:
        world.ask(f"What is the {a} {way} of?", b, [number])
    return "\n".join(world.lines)


_STORIES: dict[int, Callable[[_Dice], str]] = {1: _whereabouts, 2: _things, 3: _before, 4: _directions}
