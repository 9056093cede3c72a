"""Stories made up in bAbI's manner: their answers are worked out a second time, from the text alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from reprise.parts.data import stories
from reprise.parts.data.readers import babi
from reprise.parts.data.store import open_texts


def place_of(person: str, said: tuple[str, ...]) -> tuple[str, int]:
    """Where somebody went last, and the number of the statement, by looking backwards."""
    found = [(m[1], i) for i, one in enumerate(said) if (m := re.match(rf"{person} .*to the (\w+)\.", one))]
    return found[-1]


def place_of_thing(thing: str, said: tuple[str, ...]) -> tuple[str, set[int]] | None:
    """Where a thing is, and by which statements."""
    touched = [i for i, one in enumerate(said) if f"the {thing}" in one]
    if not touched:
        return None
    person, verb, *_ = said[touched[-1]].split()
    dropped = verb in ("dropped", "left", "discarded", "put")
    place, moved = place_of(person, said[: touched[-1]] if dropped else said)
    return place, {touched[-1], moved}


def solved(one: stories.Question) -> str:
    """The answer, worked out from the text alone."""
    asked, said = stories.words(one.question), one.statements
    if asked[:2] == ["where", "was"]:
        path: list[str] = []
        for end in range(len(said) + 1):
            found = place_of_thing(asked[3], said[:end])
            if found and path[-1:] != [found[0]]:
                path.append(found[0])
        return path[len(path) - path[::-1].index(asked[-1]) - 2]
    if asked[0] == "where":
        thing = place_of_thing(asked[-1], said)
        return thing[0] if thing else place_of(asked[-1].title(), said)[0]
    east_of = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}
    way = np.array(east_of[next(word for word in asked if word in east_of)])
    middle = next(word for word in asked if word in stories.PLACES)
    way = way if asked[2] in east_of else -way  # "What is north of x?" or "What is x north of?"
    for statement in said:
        _, a, _, direction, *_, b = stories.words(statement)
        for near, far, step in ((b, a, east_of[direction]), (a, b, tuple(-np.array(east_of[direction])))):
            if near == middle and tuple(way) == tuple(step):
                return far
    raise AssertionError(one)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_second_solver_finds_every_answer(tmp_path: Path, number: int) -> None:
    card = babi.read([], tmp_path, babi.Options(task=number, stories={"train": 60, "test": 20}))
    assert card["splits"] == {"train": 60, "test": 20}
    texts = {split: list(open_texts(tmp_path, split)) for split in ("train", "test")}
    assert len({*texts["train"], *texts["test"]}) == 80
    questions = [one for split in texts.values() for text in split for one in stories.parse(text)]
    assert [one.answer for one in questions] == [solved(one) for one in questions]
    known = {*stories.vocabulary(number)}
    for one in questions:
        assert {*stories.words(" ".join([*one.statements, one.question])), one.answer} <= known
        kept = tuple(said if i in one.support else "Nobody went to the moon." for i, said in enumerate(one.statements))
        if number < 3:  # what the answer follows from is enough for it
            assert solved(one._replace(statements=kept)) == one.answer
    with pytest.raises(ValueError, match="made before"):
        stories.parse("1 Mary went to the garden.\n2 Where is Mary?\tgarden\t3")
