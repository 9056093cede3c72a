"""Random walks on graphs: they take edges, and the shortest ones are networkx's."""

from __future__ import annotations

import itertools
from pathlib import Path

import networkx
import pytest

from reprise.parts.data import walks
from reprise.parts.data.readers import random_walks
from reprise.parts.data.store import open_texts


def test_the_shortest_walks_are_networkxs_and_walks_take_edges() -> None:
    graph = walks.parse(walks.graph(0, 3, 21, 0.1, 10, 300))
    reference = networkx.shortest_path_length(networkx.DiGraph(graph.edges), target=0)
    assert walks.distances(graph.edges).tolist() == [reference[node] for node in range(21)]
    for walk in graph.walks:
        nodes = [walks.LETTERS.index(letter) for letter in walk]
        assert all(graph.edges[a, b] for a, b in itertools.pairwise(nodes))
        assert 0 not in nodes[:-1]
        assert len(nodes) == 10 or nodes[-1] == 0


def test_splits_are_parts_of_one_graphs_walks(tmp_path: Path) -> None:
    options = random_walks.Options(graphs=2, nodes=8, edges=0.3, length=6, walks={"train": 30, "test": 10})
    assert random_walks.read([], tmp_path, options)["splits"] == {"train": 2, "test": 2}
    whole = walks.parse(walks.graph(0, 1, 8, 0.3, 6, 40))
    train, test = (walks.parse(open_texts(tmp_path, split)[1]) for split in ("train", "test"))
    assert (train.edges == whole.edges).all()
    assert (test.edges == whole.edges).all()
    assert train.walks + test.walks == whole.walks
    with pytest.raises(ValueError, match="a line such as"):
        walks.parse("abc")
