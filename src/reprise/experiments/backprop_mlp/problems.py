"""The problems: symmetry, two curves, two spirals, family trees."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

ENGLISH = ["Christopher", "Andrew", "Arthur", "James", "Charles", "Colin"]
ENGLISH += ["Penelope", "Christine", "Margaret", "Victoria", "Jennifer", "Charlotte"]
ITALIAN = ["Roberto", "Pierro", "Emilio", "Marco", "Tomaso", "Alfonso"]
ITALIAN += ["Maria", "Francesca", "Gina", "Lucia", "Angela", "Sophia"]
"""Six men, then six women; each Italian has the position of the English equivalent (1986, Figure 2)."""
PEOPLE = ENGLISH + ITALIAN
MALE = ["father", "husband", "son", "uncle", "brother", "nephew"]
FEMALE = ["mother", "wife", "daughter", "aunt", "sister", "niece"]
RELATIONSHIPS = MALE + FEMALE
COUPLES = {(0, 6): (2, 9), (1, 7): (3, 10), (3, 9): (5, 11), (2, 8): (), (4, 10): ()}
"""Husband and wife, then their son and daughter, as positions within either family."""


def symmetry(bits: int) -> tuple[Float[Tensor, "cases bits"], Int[Tensor, " cases"]]:
    """Return all 2^bits vectors, and whether each reads the same in both directions."""
    vectors = torch.arange(2**bits)[:, None].bitwise_right_shift(torch.arange(bits)).bitwise_and(1)
    return vectors.float(), vectors.eq(vectors.flip(1)).all(1).long()


def curves(points: int) -> tuple[Float[Tensor, "cases 2"], Int[Tensor, " cases"]]:
    """Return points on y = 0.6 x² - 0.3 ± 0.15, for x from -1 to 1; class 1 is the upper curve."""
    x = torch.linspace(-1, 1, points)
    lower, upper = (torch.stack([x, 0.6 * x**2 - 0.3 + shift], 1) for shift in (-0.15, 0.15))
    return torch.cat([lower, upper]), torch.arange(2).repeat_interleave(points)


def spirals(points: int, turns: float) -> tuple[Float[Tensor, "cases 2"], Int[Tensor, " cases"]]:
    """Return points from radius 6.5 in to 0.5, `turns` times round; class 1 is class 0 rotated by 180°."""
    along = torch.linspace(0, 1, points)
    angle, radius = 2 * math.pi * turns * along, 6.5 - 6 * along
    first = torch.stack([radius * angle.sin(), radius * angle.cos()], 1)
    return torch.cat([first, -first]), torch.arange(2).repeat_interleave(points)


def relatives(person: int, relationship: str) -> list[int]:
    """Return who is the `relationship` of `person` within a family, as positions in ENGLISH."""
    spouse = {one: other for pair in COUPLES for one, other in (pair, pair[::-1])}
    parents = {child: pair for pair, children in COUPLES.items() for child in children}
    children = {one: list(found) for pair, found in COUPLES.items() for one in pair}

    def siblings(of: int) -> list[int]:
        return [child for child in COUPLES.get(parents.get(of, ()), ()) if child != of]  # type: ignore[call-overload]

    def with_spouses(those: list[int]) -> list[int]:
        return [*those, *(spouse[one] for one in those if one in spouse)]

    match relationship:
        case "father" | "mother":
            found = [*parents.get(person, ())]
        case "husband" | "wife":
            found = [spouse[person]] if person in spouse else []
        case "son" | "daughter":
            found = children.get(person, [])
        case "brother" | "sister":
            found = siblings(person)
        case "uncle" | "aunt":
            # In these families an uncle's wife is an aunt, and an aunt's husband an uncle.
            found = with_spouses([uncle for parent in parents.get(person, ()) for uncle in siblings(parent)])
        case _:  # a nephew or niece, by blood or by marriage
            elders = siblings(person) + (siblings(spouse[person]) if person in spouse else [])
            found = [child for elder in elders for child in children.get(elder, [])]
    # Men come first in a family, and the relationships of men first in the list.
    return [one for one in found if (one < len(ENGLISH) // 2) == (relationship in MALE)]


def family_trees() -> tuple[Float[Tensor, "facts 36"], Int[Tensor, "facts 24"]]:
    """Return the 104 facts of 1986, Figures 2 and 3.

    An input has one unit on for the person and one for the relationship; an answer has 1 for everyone who stands in
    that relationship to the person.
    """
    inputs, answers = [], []
    for family in range(2):
        first = family * len(ENGLISH)
        for person in range(len(ENGLISH)):
            for place, relationship in enumerate(RELATIONSHIPS):
                if found := relatives(person, relationship):
                    inputs.append([first + person, len(PEOPLE) + place])
                    answers.append([first + one for one in found])
    x, y = torch.zeros(len(inputs), len(PEOPLE) + len(RELATIONSHIPS)), torch.zeros(len(inputs), len(PEOPLE)).long()
    for fact, (shown, right) in enumerate(zip(inputs, answers, strict=True)):
        x[fact, shown], y[fact, right] = 1.0, 1
    return x, y
