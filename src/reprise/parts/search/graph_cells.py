"""Architectures of NAS-Bench-Graph: cells of a graph network, and which of them are the same function.

Qin, Zhang, Wang, Zhang, Zhu: NAS-Bench-Graph: benchmarking graph neural architecture search, NeurIPS 2022, Section 3.
A cell has four nodes. Each applies an operation to the output of one earlier node or to the input, and what no node
uses is the output. Many codes are one function: nodes may be numbered otherwise, and a skip connection in a chain may
stand anywhere in it. The benchmark trained one of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
"""Operations, in the benchmark's order."""
NODES = 4
OPTIONS = (2, 3, 4, *[len(OPERATIONS)] * NODES)
"""Options of a code: inputs of nodes 2, 3 and 4, where 0 is the cell's input and 1 the first node; then operations."""
_SKIP = OPERATIONS.index("skip")
_INPUTS = ((0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 1), (0, 0, 1, 2), (0, 0, 1, 3), (0, 1, 1, 1), (0, 1, 1, 2),
           (0, 1, 2, 2), (0, 1, 2, 3))  # fmt: skip
"""Inputs of the nodes, by the first digit of a key of the benchmark."""

Tree = tuple[tuple[int, "Tree"], ...]
"""Operations on one input, each with what is applied to its output, sorted: the same for cells of one function."""


def function_of(inputs: Sequence[int], operations: Sequence[int]) -> Tree:
    """Return the function of a cell as a tree without skip connections that do nothing; () if there are no others.

    `inputs` has the input of each node, in 0..4, and `operations` its operation, in 0..8.
    """
    users: list[list[int]] = [[] for _ in range(NODES + 1)]
    for node, source in enumerate(inputs, start=1):
        users[source].append(node)

    def applied(source: int) -> list[tuple[int, list]]:
        found: list[tuple[int, list]] = []
        for node in users[source]:
            after, operation = applied(node), operations[node - 1]
            # What uses a skip connection uses what that skips from.
            found += after if operation == _SKIP and users[node] else [(operation, after)]
        return found

    def cleaned(branches: list[tuple[int, list]], at_input: bool) -> Tree:
        # An unused skip beside other branches adds its input to the output, but for the cell's input, which has another
        # width; alone it does nothing.
        if at_input or len(branches) == 1:
            branches = [branch for branch in branches if branch != (_SKIP, [])]
        return tuple(sorted((operation, cleaned(after, at_input=False)) for operation, after in branches))

    return cleaned(applied(0), at_input=True)


def function_of_key(key: int) -> Tree:
    """Return the function of the architecture that the benchmark calls `key`: five digits, the first 0 to 8.

    Raises:
        ValueError: the benchmark has no such key.
    """
    digits = [*map(int, f"{key:05d}")] if 0 <= key < 90_000 else []
    if not digits or 9 in digits:
        raise ValueError(f"{key} is no architecture: expected five digits of 0 to 8")
    return function_of(_INPUTS[digits[0]], digits[1:])


def in_words(code: Sequence[int]) -> str:
    """Return the function of a code's cell as text, with branches on the same output in brackets.

    `gcn > (gat, sage > fc)` applies gat to gcn's output, and sage too, and fc to that of sage.
    """

    def branches(tree: Tree) -> str:
        said = [OPERATIONS[operation] + (f" > {branches(after)}" if after else "") for operation, after in tree]
        return said[0] if len(said) == 1 else f"({', '.join(said)})"

    return branches(function_of((0, *code[: NODES - 1]), code[NODES - 1 :]) or ((_SKIP, ()),))


def rows_of_codes(keys: Sequence[int]) -> np.ndarray:
    """Return the place among `keys` of every code, int32 [codes], in the order of `code_numbers`; -1 for none."""
    places = {function_of_key(key): place for place, key in enumerate(keys)}
    codes = product(*map(range, OPTIONS))
    found = [places.get(function_of((0, *code[:3]), code[3:]), -1) for code in codes]
    return np.array(found, np.int32)


def code_numbers(codes: np.ndarray) -> np.ndarray:
    """Number codes [n, decisions] in lexicographic order, int64 [n]."""
    return np.asarray(np.ravel_multi_index(tuple(codes.astype(np.int64).T), OPTIONS))
