"""Makes up pairs of an English and a Portuguese sentence in which it is known which word translates which.

A noun phrase is a determiner, up to two adjectives and a noun. Portuguese has the adjectives after the noun, in
reverse, and lets determiner and adjectives agree with its gender and number; the verb agrees with its subject. So the
order differs within a phrase, and most words are translated by two: their own counterpart, and the noun.

    the old houses visit my small friend with that dog
    as casas velhas visitam meu amigo pequeno com aquele cachorro
    0-0 2-1 1-2 3-3 4-4 6-5 5-6 7-7 8-8 9-9                       Pharaoh's format: source-target, from 0
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")

DETERMINERS = (
    ("the", "the", "o", "a", "os", "as"),
    ("this", "these", "este", "esta", "estes", "estas"),
    ("that", "those", "aquele", "aquela", "aqueles", "aquelas"),
    ("a", "some", "um", "uma", "uns", "umas"),
    ("my", "my", "meu", "minha", "meus", "minhas"),
    ("our", "our", "nosso", "nossa", "nossos", "nossas"),
)
"""English singular and plural; Portuguese masculine and feminine singular, then plural."""
MASCULINE = {
    "book": "livro", "cat": "gato", "dog": "cachorro", "horse": "cavalo", "friend": "amigo", "king": "rei",
    "brother": "irmão", "field": "campo", "river": "rio", "boat": "barco", "bird": "pássaro", "wall": "muro",
}  # fmt: skip
FEMININE = {
    "house": "casa", "table": "mesa", "window": "janela", "cow": "vaca", "road": "estrada", "girl": "menina",
    "sister": "irmã", "teacher": "professora", "queen": "rainha", "star": "estrela", "letter": "carta",
    "tree": "árvore",
}  # fmt: skip
"""Nouns whose plural takes an s in both languages."""
ADJECTIVES = {
    "old": "velho", "new": "novo", "red": "vermelho", "white": "branco", "small": "pequeno", "beautiful": "bonito",
    "narrow": "estreito", "quiet": "quieto", "tired": "cansado", "green": "verde", "big": "grande", "sad": "triste",
}  # fmt: skip
"""With the masculine singular; those in -o have a feminine in -a."""
VERBS = {
    "love": "ama", "find": "acha", "draw": "desenha", "visit": "visita", "follow": "acompanha", "hear": "escuta",
    "help": "ajuda", "hide": "oculta",
}  # fmt: skip
"""With the third person singular, whose plural adds an m."""
PREPOSITIONS = {"with": "com", "without": "sem", "on": "sobre", "against": "contra"}


class Pair(NamedTuple):
    """A sentence, its translation, and which word translates which."""

    source: list[str]
    target: list[str]
    alignment: list[tuple[int, int]]
    """Places of a source word and of its counterpart, in the order of the target."""

    def pharaoh(self) -> str:
        """Return the alignment in Pharaoh's format."""
        return " ".join(f"{source}-{target}" for source, target in self.alignment)


class Phrases:
    """Draws phrases. Of Python's generator only `random` is used, whose numbers are the same in every version."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed).random
        self.source: list[str] = []
        self.target: list[str] = []
        self.alignment: list[tuple[int, int]] = []

    def one(self, items: Sequence[Item]) -> Item:
        return items[int(self.random() * len(items))]

    def add(self, source: Sequence[str], target: Sequence[str], order: Sequence[int]) -> None:
        """Append words; word k of `target` translates word `order[k]` of `source`."""
        self.alignment += [(len(self.source) + order[k], len(self.target) + k) for k in range(len(target))]
        self.source += source
        self.target += target

    def noun_phrase(self) -> bool:
        """Add a noun phrase; return whether it is plural."""
        plural, feminine = self.random() < 0.4, self.random() < 0.5
        form = 2 * plural + feminine
        words = self.one(DETERMINERS)
        nouns = FEMININE if feminine else MASCULINE
        noun = self.one(list(nouns))
        count = int(3 * self.random())
        left = list(ADJECTIVES)
        adjectives = [left.pop(int(self.random() * len(left))) for _ in range(count)]
        ending = "s" if plural else ""
        said = [agreeing(ADJECTIVES[each], feminine) + ending for each in adjectives[::-1]]
        source = [words[plural], *adjectives, noun + ending]
        self.add(source, [words[2 + form], nouns[noun] + ending, *said], [0, count + 1, *range(count, 0, -1)])
        return plural

    def clause(self) -> None:
        """Add subject, verb and object and, in half of all clauses, a preposition with a noun phrase."""
        plural = self.noun_phrase()
        verb = self.one(list(VERBS))
        self.add([verb if plural else verb + "s"], [VERBS[verb] + ("m" if plural else "")], [0])
        self.noun_phrase()
        if self.random() < 0.5:
            preposition = self.one(list(PREPOSITIONS))
            self.add([preposition], [PREPOSITIONS[preposition]], [0])
            self.noun_phrase()


def agreeing(adjective: str, feminine: bool) -> str:
    """Return the singular of a Portuguese adjective, given its masculine."""
    return adjective[:-1] + "a" if feminine and adjective.endswith("o") else adjective


def pair(seed: int, index: int) -> Pair:
    """Make up pair number `index` of `seed`; it does not depend on other pairs."""
    phrases = Phrases(f"{seed} {index}")
    phrases.clause()
    if phrases.random() < 0.3:
        phrases.add(["and"], ["e"], [0])
        phrases.clause()
    return Pair(phrases.source, phrases.target, phrases.alignment)
