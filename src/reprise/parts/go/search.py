"""Monte-Carlo tree search guided by an evaluator, in many games side by side.

Silver et al. 2017, Methods, Search algorithm: selection by PUCT, expansion of one leaf, backup of its value. Each
simulation takes one leaf of every game, so that an evaluator sees as many positions at once as there are games.

Deviations: no virtual loss and no threads, as a game has one leaf at a time; a fresh tree for each move.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from reprise.parts.go.rules import Positions

Evaluated = tuple[Float[np.ndarray, "games actions"], Float[np.ndarray, " games"]]
"""The probability of every action, legal or not, and the value for the side to play, in [-1, 1], of each position."""
Evaluator = Callable[[Positions], Evaluated]


@dataclass
class Tree:
    """The search tree of each game. The root is node 0; the others are numbered by their simulation."""

    visits: Float32[np.ndarray, "games nodes actions"]
    """N(s, a)."""
    value_sums: Float32[np.ndarray, "games nodes actions"]
    """W(s, a), for the side to play at s."""
    priors: Float32[np.ndarray, "games nodes actions"]
    """P(s, a): 0 for illegal actions."""
    children: Int[np.ndarray, "games nodes actions"]
    """Node that each action leads to; 0 if not yet expanded."""
    ended: Bool[np.ndarray, "games nodes"]
    """Whether the game is over at each node."""
    results: Float32[np.ndarray, "games nodes"]
    """Result at nodes where the game is over: 1 if Black has won, -1 if White has, 0 for a draw."""

    @classmethod
    def empty(cls, games: int, nodes: int, actions: int) -> Tree:
        """Return empty trees for `games` games."""
        visits, sums, priors = (np.zeros((games, nodes, actions), np.float32) for _ in range(3))
        children, results = np.zeros((games, nodes, actions), np.int32), np.zeros((games, nodes), np.float32)
        return cls(visits, sums, priors, children, np.zeros((games, nodes), bool), results)

    @property
    def root_visits(self) -> Float32[np.ndarray, "games actions"]:
        """N(s, a) of the roots."""
        return self.visits[:, 0]

    @property
    def root_values(self) -> Float32[np.ndarray, "games actions"]:
        """Q(s, a) of the roots; 0 for unvisited actions."""
        return self.value_sums[:, 0] / np.maximum(self.visits[:, 0], 1)


def puct(
    visits: Float[np.ndarray, "... actions"],
    value_sums: Float[np.ndarray, "... actions"],
    priors: Float[np.ndarray, "... actions"],
    exploration: float,
) -> Float[np.ndarray, "... actions"]:
    """Return Q + U, with U = c P √ΣN / (1 + N), Q = W / N, or 0 if N = 0; -inf if P = 0 (2017, Methods, Select).

    Before the first visit √ΣN counts as 1, so that the first simulation follows the prior.
    """
    total = np.sqrt(np.maximum(visits.sum(-1, keepdims=True), 1))
    q = value_sums / np.maximum(visits, 1)
    return np.where(priors > 0, q + exploration * total * priors / (1 + visits), -np.inf)


def outcome(positions: Positions, komi: float) -> Float[np.ndarray, " games"]:
    """Return the result for the side to play: 1, -1, or 0 for a draw."""
    return np.sign(positions.area() - komi) * positions.to_play


def masked(
    probabilities: Float[np.ndarray, "games actions"], legal: Bool[np.ndarray, "games actions"]
) -> Float[np.ndarray, "games actions"]:
    """Return probabilities restricted to legal actions and renormalised; uniform if all of these had 0."""
    # The addend keeps the sum above 0 where all legal actions had 0.
    kept = np.where(legal, probabilities + 1e-9, 0.0)
    return kept / kept.sum(1, keepdims=True)


def search(
    roots: Positions,
    evaluate: Evaluator,
    simulations: int,
    exploration: float,
    komi: float,
    noise: Callable[[Float[np.ndarray, "games actions"]], Float[np.ndarray, "games actions"]] | None = None,
) -> Tree:
    """Return a tree of `simulations` leaves for every game. None of the games may be over.

    `exploration` is c of PUCT; `noise` perturbs the priors of the roots (2017, Methods, Self-play).
    """
    games, width = len(roots), simulations + 1
    tree = Tree.empty(games, width, roots.points + 1)
    nodes = Positions.start(roots.size, games * width, roots.past.shape[1], roots.seen.shape[1] - 1)
    nodes.put(np.arange(games) * width, roots)
    priors = masked(evaluate(roots)[0], roots.legal())
    tree.priors[:, 0] = noise(priors) if noise else priors
    colour = roots.to_play.astype(np.float32)
    for simulation in range(1, width):
        path, above, action, node = _descend(tree, games, exploration)
        values = tree.results[np.arange(games), node]  # to Black; of a node that is not new, its result
        if len(new := np.flatnonzero(node == 0)):
            leaves = nodes.take(new * width + above[new])
            leaves.play(action[new])
            nodes.put(new * width + simulation, leaves)
            tree.children[new, above[new], action[new]] = simulation
            values[new] = _expand(tree, leaves, new, simulation, evaluate, komi)
        for depth, (rows, at, taken) in enumerate(path):
            tree.visits[rows, at, taken] += 1
            tree.value_sums[rows, at, taken] += values[rows] * colour[rows] * (-1) ** depth
    return tree


_Path = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def _descend(tree: Tree, games: int, exploration: float) -> tuple[_Path, np.ndarray, np.ndarray, np.ndarray]:
    """Descend each tree by PUCT to a leaf. Return the path, and each game's last node, its action and the child there.

    The path has, for each depth, the games that reach it with their nodes and actions. The child is a node where the
    game is over, or 0 if it has yet to be expanded.
    """
    rows, node, path = np.arange(games), np.zeros(games, np.int32), _Path()
    above, last, following = (np.zeros(games, np.int64) for _ in range(3))
    while len(rows):
        scores = puct(tree.visits[rows, node], tree.value_sums[rows, node], tree.priors[rows, node], exploration)
        action = scores.argmax(1)
        path.append((rows, node, action))
        child = tree.children[rows, node, action]
        above[rows], last[rows], following[rows] = node, action, child
        goes_on = (child > 0) & ~tree.ended[rows, child]
        rows, node = rows[goes_on], child[goes_on]
    return path, above, last, following


def _expand(
    tree: Tree, leaves: Positions, games: np.ndarray, node: int, evaluate: Evaluator, komi: float
) -> Float[np.ndarray, " leaves"]:
    """Add new leaves and return their values for Black: the result if the game is over, else the evaluator's value."""
    over, colour = leaves.over, leaves.to_play
    values = np.zeros(len(leaves))
    if over.any():
        ended = np.flatnonzero(over)
        values[ended] = np.sign(leaves.take(ended).area() - komi)
        tree.ended[games[ended], node], tree.results[games[ended], node] = True, values[ended]
    if len(going := np.flatnonzero(~over)):
        asked = leaves.take(going)
        priors, value = evaluate(asked)
        tree.priors[games[going], node] = masked(priors, asked.legal())
        values[going] = value * colour[going]
    return values


def with_dirichlet(
    random: np.random.Generator, concentration: float, share: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function to (1 - ε) P + ε η, η ~ Dir(α) over the legal actions (2017, Self-play: ε = 0.25, α = 0.03)."""

    def noisy(priors: Float[np.ndarray, "games actions"]) -> Float[np.ndarray, "games actions"]:
        # At α = 0.03 a draw can underflow to 0; if all of a row did, the quotient would be 0 / 0.
        drawn = np.where(priors > 0, random.gamma(concentration, size=priors.shape) + 1e-30, 0.0)
        return (1 - share) * priors + share * drawn / drawn.sum(1, keepdims=True)

    return noisy


def rollouts(random: np.random.Generator, komi: float) -> Evaluator:
    """Return an evaluator without a network: uniform probabilities, and the result of one game played out at random.

    Superko is not checked, and no side fills its own eyes; a side without another move passes. After as many moves as
    the board has points the area decides, whatever could still be captured.
    """

    def evaluate(positions: Positions) -> Evaluated:
        colour, results = positions.to_play, np.zeros(len(positions))
        uniform = np.full((len(positions), positions.points + 1), 1 / (positions.points + 1))
        rows, games = np.arange(len(positions)), positions.take(np.arange(len(positions)))
        for move in range(positions.points):
            allowed = games.legal_but_for_superko()
            allowed[:, :-1] &= ~games.own_eyes()
            allowed[:, -1] = ~allowed[:, :-1].any(1)
            games.play((random.random(allowed.shape, np.float32) * allowed).argmax(1))
            over = games.over | (move == positions.points - 1)
            if over.any():
                results[rows[over]] = np.sign(games.take(np.flatnonzero(over)).area() - komi)
                rows, games = rows[~over], games.take(np.flatnonzero(~over))
            if not len(rows):
                break
        return uniform, results * colour

    return evaluate


def drawn(
    visits: Float[np.ndarray, "games actions"], random: np.random.Generator, greedy: Bool[np.ndarray, " games"]
) -> Int[np.ndarray, " games"]:
    """Draw an action in proportion to its visits (τ = 1) or, if `greedy`, take the most visited (τ → 0)."""
    shares = np.cumsum(visits, 1)
    by_chance = (shares > random.random((len(visits), 1)) * shares[:, -1:]).argmax(1)
    return np.where(greedy, visits.argmax(1), by_chance)
