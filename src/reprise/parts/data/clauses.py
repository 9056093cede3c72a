"""Makes up longer pairs than `phrases`, of 5 to 30 English words, whose order differs by whole clauses.

A sentence has one to three clauses of `phrases`. A clause that begins with "when", "because", "if" or "while" comes
last in English and first in Portuguese. A verb may be denied, by two English words and one Portuguese; "in the" and
"of the" are one Portuguese word. So a word's counterpart is seldom at its own place.

    the girl does not visit my old house because the dogs hide in the boat
    como os cachorros ocultam no barco a menina não visita minha casa velha
"""

from __future__ import annotations

from reprise.parts.data.phrases import PREPOSITIONS, VERBS, Pair, Phrases

LONGEST = 30
"""Most English words of a sentence."""
IN_ORDER = {"and": "e", "but": "mas"}
FRONTED = {"when": "quando", "because": "como", "if": "se", "while": "enquanto"}
"""Words before a further clause; those of FRONTED bring it to the front of the translation."""
CONTRACTED = {"in": ("em", "n"), "of": ("de", "d")}
"""Portuguese prepositions, and what is left of them before an article, which they become one word with."""
ARTICLES = {"o", "a", "os", "as"}
CLAUSES = (1, 1, 2, 2, 3)
"""Numbers of clauses, one of which is drawn."""
_DENIED, _PLACED, _FRONT = 0.25, 0.4, 0.6


class _Clauses(Phrases):
    """Draws clauses."""

    def clause(self) -> None:
        """Add subject, verb, object and, in 40 % of all clauses, a preposition with a noun phrase."""
        plural, verb = self.noun_phrase(), self.one(list(VERBS))
        said = VERBS[verb] + ("m" if plural else "")
        if self.random() < _DENIED:
            self.alignment.append((len(self.source), len(self.target)))
            self.add(["do" if plural else "does", "not", verb], ["não", said], [1, 2])
        else:
            self.add([verb if plural else verb + "s"], [said], [0])
        self.noun_phrase()
        if self.random() < _PLACED:
            self.placed()

    def placed(self) -> None:
        """Add a preposition with a noun phrase."""
        word = self.one([*PREPOSITIONS, *CONTRACTED])
        whole, rest = CONTRACTED.get(word, (PREPOSITIONS.get(word, ""), ""))
        at = len(self.target)
        self.add([word], [whole], [0])
        self.noun_phrase()
        if rest and self.target[at + 1] in ARTICLES:
            self.target[at : at + 2] = [rest + self.target[at + 1]]
            self.alignment = [(source, target - (target > at)) for source, target in self.alignment]

    def joined(self) -> None:
        """Add a further clause, and the word before it."""
        at = len(self.target)
        fronted = self.random() < _FRONT
        words = FRONTED if fronted else IN_ORDER
        word = self.one(list(words))
        self.add([word], [words[word]], [0])
        self.clause()
        if fronted:
            moved = len(self.target) - at
            self.target = self.target[at:] + self.target[:at]
            self.alignment = [(s, t - at if t >= at else t + moved) for s, t in self.alignment]


def pair(seed: int, index: int) -> Pair:
    """Make up pair number `index` of `seed`; it does not depend on other pairs."""
    draws = _Clauses(f"clauses {seed} {index}")
    while True:
        draws.source, draws.target, draws.alignment = [], [], []
        further = draws.one(CLAUSES) - 1
        draws.clause()
        for _ in range(further):
            draws.joined()
        if len(draws.source) <= LONGEST:
            return Pair(draws.source, draws.target, sorted(draws.alignment, key=lambda link: link[::-1]))
