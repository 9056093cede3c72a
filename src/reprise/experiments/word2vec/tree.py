"""Huffman's tree over the words, whose inner nodes are the hierarchical softmax's decisions (NIPS, Section 2.1)."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32


class Tree(NamedTuple):
    """The way from the root to each word; frequent words have short ones."""

    paths: Int32[np.ndarray, "vocabulary depth"]
    """Inner nodes from the root; 0 past the end of a path."""
    turns: Float32[np.ndarray, "vocabulary depth"]
    """1 where the path turns left, else 0."""
    lengths: Int32[np.ndarray, " vocabulary"]
    """Inner nodes on the path."""


def huffman(counts: Int[np.ndarray, " vocabulary"]) -> Tree:
    """Build the tree: the two rarest nodes become children of a new one, until one is left. Of equals, the older first.

    Inner node n is the n-th that was made, so the last one is the root.
    """
    words = len(counts)
    heap = [(int(count), word) for word, count in enumerate(counts)]
    heapq.heapify(heap)
    parents = np.zeros(2 * words - 1, np.int64)
    left = np.zeros(2 * words - 1, np.float32)
    for made in range(words, 2 * words - 1):
        (first, one), (second, other) = heapq.heappop(heap), heapq.heappop(heap)
        parents[[one, other]], left[one] = made, 1
        heapq.heappush(heap, (first + second, made))
    ways: list[list[tuple[int, float]]] = []
    for word in range(words):
        node, way = word, []
        while node != 2 * words - 2:
            way.append((int(parents[node]) - words, float(left[node])))
            node = int(parents[node])
        ways.append(way[::-1])
    depth = max(map(len, ways))
    paths, turns = np.zeros((words, depth), np.int32), np.zeros((words, depth), np.float32)
    for word, way in enumerate(ways):
        paths[word, : len(way)], turns[word, : len(way)] = zip(*way, strict=True) if way else ((), ())
    return Tree(paths, turns, np.array([len(way) for way in ways], np.int32))
