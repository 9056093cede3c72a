"""The three steps of training in turn, matches and pictures."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation
from reprise.experiments.alphago.config import Config, Match, Reinforcement, Supervised, Value
from reprise.experiments.alphago.features import PAST, planes, sensible
from reprise.experiments.alphago.networks import (
    leaf_value,
    log_probabilities,
    networks,
    plane_count,
    reinforce_loss,
)
from reprise.experiments.alphago.positions import (
    Examples,
    drawn_points,
    drawn_turns,
    ensemble,
    examples,
    records,
    turned,
    turned_actions,
)
from reprise.parts.data.sampling import share_of
from reprise.parts.data.store import open_texts
from reprise.parts.go.pictures import board, heat
from reprise.parts.go.play import Player, openings, won
from reprise.parts.go.rules import Positions
from reprise.parts.go.search import Evaluator, outcome, rollouts, search
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import Picture, mosaic
from reprise.parts.training import InTurn, Schedule

HELD = 8
"""Frames of a film, 15 a second, for which a move is shown."""
BLOCK = 512
"""Positions that a network sees at a time where no gradient is needed."""


class Moves(NamedTuple):
    """Moves that the policy made, with what it saw."""

    planes: Int8[np.ndarray, "n planes size size"]
    moves: Bool[np.ndarray, "n points"]
    """Those it could choose from."""
    actions: Int[np.ndarray, " n"]
    outcomes: Float[np.ndarray, " n"]
    """Result of the game for the policy."""


class Task(task.Task):
    """Supervised policy, reinforced policy, value network: one after another, as many as there are."""

    log_every = 10

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        found = networks(config)
        self.supervised = found["policy"]
        self.reinforced, self.value, self.pool = None, found.get("value"), nn.ModuleList()
        self.schedules = [Schedule.of(one, steps_per_epoch=1) for one in self.trainings]
        self.in_turn = InTurn([schedule.total_steps for schedule in self.schedules])
        if config.reinforcement:
            self.reinforced = copy.deepcopy(self.supervised)
            count = -(-self.schedules[1].total_steps // config.reinforcement.every)
            selves = (copy.deepcopy(self.supervised) for _ in range(count))
            self.pool = nn.ModuleList(one.requires_grad_(False) for one in selves)
        self.examples: Examples | None = None
        self.self_play: Examples | None = None

    @property
    def trainings(self) -> list[Supervised | Reinforcement | Value]:
        """The steps that there are, in order."""
        config = self.config
        return [one for one in (config.supervised, config.reinforcement, config.value) if one is not None]

    @property
    def policy(self) -> nn.Module:
        """The last policy that was trained."""
        return self.supervised if self.reinforced is None else self.reinforced

    @property
    def total_steps(self) -> int:
        """Updates of all steps."""
        return self.in_turn.total_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        trained = [self.supervised, self.reinforced, self.value]
        return [
            build_optimizer(network, settings.optimizer)
            for network, settings in zip(trained, self.trainings, strict=False)
            if network is not None
        ]

    # Training

    def update(self, step: int) -> dict[str, Tensor | float]:
        """One step down the loss of a minibatch of positions, or of games, as the step of training has it."""
        index, own_step = self.in_turn.at(step)
        settings = self.trainings[index]
        match settings:
            case Supervised():
                loss, row = self._imitate(settings, own_step)
            case Reinforcement():
                loss, row = self._reinforce(settings, own_step)
            case Value():
                loss, row = self._regress(settings, own_step)
        self.descend(loss, self.raw_optimizers[index], settings.optimizer, self.schedules[index].at(own_step))
        return row

    def _imitate(self, settings: Supervised, step: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        """-log p(a|s), over positions in one of eight orientations (Methods, Policy network: classification)."""
        if self.device.type == "meta":
            seen, actions = self._planned(settings.batch), torch.zeros(settings.batch, dtype=torch.long)
        else:
            if self.examples is None:
                self.examples = self._experts(settings)
            rows, which = self._minibatch(len(self.examples.actions), settings.batch, 0, step)
            seen = turned(torch.from_numpy(self.examples.planes[rows]), which).to(self.device).float()
            actions = turned_actions(torch.from_numpy(self.examples.actions[rows]), which, self.config.board.size)
        logits = self.supervised(seen)
        actions = actions.to(self.device)
        loss = functional.cross_entropy(logits, actions)
        right = (logits.argmax(1) == actions).float().mean()
        return loss, {"policy_loss": loss.detach(), "policy_accuracy": 100 * right}

    def _minibatch(
        self, total: int, batch: int, key: int, step: int
    ) -> tuple[Int[np.ndarray, " batch"], Int[Tensor, " batch"]]:
        """Draw which positions this device learns from, and the symmetry of each."""
        random, mine = np.random.default_rng([self.run.seed, key, step]), share_of(batch, self.rank, self.world_size)
        rows, which = random.integers(total, size=batch), random.integers(8, size=batch)
        return rows[mine], torch.from_numpy(which[mine])

    def _experts(self, settings: Supervised) -> Examples:
        """Read positions of experts' games, drawn by the seed."""
        random = np.random.default_rng([self.run.seed, 3])
        games = records([*open_texts(self.run.data / settings.part, "train")], self.config.board.size)
        found = examples(games, settings.positions, self.config.network.features, random)
        return found._replace(actions=random.permutation(found.actions)) if settings.labels == "shuffled" else found

    def _reinforce(self, settings: Reinforcement, step: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Games of the policy, each move learned by the result (Methods, Policy network: reinforcement learning)."""
        if self.device.type == "meta":
            # As many moves as points, which is what a game lasts, are seen by both sides; half of them are learned.
            count = settings.games * self.config.board.size**2
            with torch.no_grad():
                self.policy(self._planned(count))
            seen = self._planned(count // 2)
            found = log_probabilities(self.policy(seen), seen[:, 0].flatten(1) == 0)
            return reinforce_loss(found[:, 0], found[:, 0].detach(), settings.games), {}
        if step == 0:
            self.policy.load_state_dict(self.supervised.state_dict())
        if step % settings.every == 0:
            self.pool[step // settings.every].load_state_dict(self.policy.state_dict())
        random, games = np.random.default_rng([self.run.seed, 1, step]), settings.games
        chosen = int(random.integers(step // settings.every + 1))
        opponent = self.pool[chosen] if settings.opponents == "pool" else self.policy
        chance = random.random((games, self.config.board.limit))
        mine = share_of(games, self.rank, self.world_size)
        colours = np.where(np.arange(games) % 2 == 0, 1, -1)[mine]
        self.policy.eval()
        played, results, lengths = self.games_against(opponent, colours, chance[mine])
        self.policy.train()
        logits = self.policy(torch.from_numpy(played.planes).to(self.device).float())
        moves, actions, outcomes = (torch.from_numpy(one).to(self.device) for one in played[1:])
        chosen_moves = log_probabilities(logits, moves).gather(1, actions[:, None])[:, 0]
        loss = reinforce_loss(chosen_moves, outcomes.float(), len(colours))
        return loss, {"length": float(lengths.mean()), "wins": 100 * float((results > 0).mean())}

    def games_against(
        self, opponent: nn.Module, colours: Int[np.ndarray, " games"], chance: Float[np.ndarray, "games limit"]
    ) -> tuple[Moves, Float[np.ndarray, " games"], Float[np.ndarray, " games"]]:
        """The policy's moves in games in which it has `colours`, each drawn from p(·|s); results, lengths."""
        features, found, rows = self.config.network.features, list[tuple[np.ndarray, ...]](), np.arange(len(colours))
        games, results, lengths = self._start(len(colours)), np.zeros(len(colours)), np.zeros(len(colours))
        while len(rows):
            moves = sensible(games)
            seen, actions, turn = planes(games, features, moves), np.empty(len(rows), np.int64), int(games.moves[0])
            ours = colours[rows] == games.to_play
            for network, some in ((self.policy, np.flatnonzero(ours)), (opponent, np.flatnonzero(~ours))):
                if len(some):
                    probabilities = self._probabilities(network, seen[some], moves[some])
                    actions[some] = drawn_points(probabilities, moves[some], chance[rows[some], turn])
            kept = ours & moves.any(1)
            found.append((seen[kept], moves[kept], actions[kept], rows[kept]))
            games.play(actions)
            over = games.over
            lengths[rows[over]] = games.moves[over]
            results[rows[over]] = np.sign(games.take(np.flatnonzero(over)).area() - self.config.board.komi)
            rows, games = rows[~over], games.take(np.flatnonzero(~over))
        seen, moves, actions, owners = (np.concatenate(one) for one in zip(*found, strict=True))
        results = results * colours
        return Moves(seen, moves, actions, results[owners]), results, lengths

    def _regress(self, settings: Value, step: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        """(z - v(s))² over positions of self-play in one of eight orientations (Methods, Value network: regression)."""
        assert self.value is not None
        if self.device.type == "meta":
            seen, outcomes = self._planned(settings.batch, "colour"), torch.zeros(settings.batch, device=self.device)
        else:
            if self.self_play is None:
                self.self_play = self.value_examples(settings, settings.positions, 0)
            rows, which = self._minibatch(len(self.self_play.outcomes), settings.batch, 2, step)
            seen = turned(torch.from_numpy(self.self_play.planes[rows]), which).to(self.device).float()
            outcomes = torch.from_numpy(self.self_play.outcomes[rows]).to(self.device)
        loss = functional.mse_loss(self.value(seen), outcomes)
        return loss, {"value_loss": loss.detach()}

    def value_examples(self, settings: Value, count: int, key: int) -> Examples:
        """Positions of self-play with their results; another `key` gives other games.

        U - 1 moves of the supervised policy, one at random, and the rest of the reinforced policy: the position after
        the random move, or all from there on (Methods, Value network: regression). Actions are left at 0.
        """
        random, found = np.random.default_rng([self.run.seed, 4, key]), list[tuple[np.ndarray, np.ndarray]]()
        # A game of a board's size has about as many moves as points; those that end too early give nothing.
        chunk = count if settings.per_game == "one" else -(-count // self.config.board.size**2)
        training = self.policy.training
        self.eval()
        while sum(len(outcomes) for _, outcomes in found) < count:
            found.append(self._diverse_games(chunk, settings, random))
        self.train(training)
        seen, outcomes = (np.concatenate(one)[:count] for one in zip(*found, strict=True))
        return Examples(seen, np.zeros(len(seen), np.int64), outcomes.astype(np.float32))

    def _diverse_games(
        self, count: int, settings: Value, random: np.random.Generator
    ) -> tuple[Int8[np.ndarray, "n planes size size"], Float[np.ndarray, " n"]]:
        """Positions and results of `count` games, game after game."""
        features, games, rows = [*self.config.network.features, "colour"], self._start(count), np.arange(count)
        until, results = random.integers(1, settings.random_by, count, endpoint=True), np.zeros(count)
        chance, found = random.random((count, self.config.board.limit)), list[tuple[np.ndarray, ...]]()
        while len(rows):
            moves, turn = sensible(games), int(games.moves[0])
            seen, first = planes(games, features, moves), until[rows]
            probabilities = moves / np.maximum(moves.sum(1, keepdims=True), 1)
            for network, some in ((self.supervised, turn + 1 < first), (self.policy, turn + 1 > first)):
                if some.any():
                    probabilities[some] = self._probabilities(network, seen[some, :-1], moves[some])
            kept = turn == first if settings.per_game == "one" else turn >= first
            found.append((rows[kept], seen[kept], games.to_play[kept]))
            games.play(drawn_points(probabilities, moves, chance[rows, turn]))
            over = games.over
            results[rows[over]] = np.sign(games.take(np.flatnonzero(over)).area() - self.config.board.komi)
            rows, games = rows[~over], games.take(np.flatnonzero(~over))
        owners, seen, colours = (np.concatenate(one) for one in zip(*found, strict=True))
        order = np.argsort(owners, kind="stable")
        return seen[order], (results[owners] * colours)[order]

    def _start(self, games: int) -> Positions:
        return Positions.start(self.config.board.size, games, PAST, self.config.board.limit)

    def _planned(self, count: int, *more: str) -> Tensor:
        """Planes of `count` positions on a device that has shapes alone."""
        size, features = self.config.board.size, [*self.config.network.features, *more]
        return torch.zeros(count, plane_count(features), size, size, device=self.device)

    # Players

    def _probabilities(
        self, network: nn.Module, seen: Int8[np.ndarray, "n planes size size"], moves: Bool[np.ndarray, "n points"]
    ) -> Float[np.ndarray, "n points"]:
        """p(a|s) over `moves`; uniform where there are none."""
        moves = np.where(moves.any(1, keepdims=True), moves, True)
        found = []
        with torch.no_grad():
            for some, allowed in _blocks(seen, moves):
                logits = network(some.to(self.device).float())
                found.append(log_probabilities(logits, allowed.to(self.device)).exp().cpu())
        return torch.cat(found).numpy()

    def values(self, seen: Int8[np.ndarray, "n planes size size"]) -> Float[np.ndarray, " n"]:
        """v(s) for the side to play, of planes that end with its colour."""
        assert self.value is not None
        with torch.no_grad():
            found = [self.value(some.to(self.device).float()).cpu() for some, _ in _blocks(seen, seen)]
        return torch.cat(found).numpy()

    def evaluator(self, mixing: float, random: np.random.Generator) -> Evaluator:
        """Priors of the supervised policy, and V(s) = (1 - λ) v(s) + λ z of a rollout."""
        features, playouts = [*self.config.network.features, "colour"], rollouts(random, self.config.board.komi)

        def evaluate(positions: Positions) -> tuple[np.ndarray, np.ndarray]:
            moves = sensible(positions)
            seen, passes = planes(positions, features, moves), ~moves.any(1)
            priors = np.zeros((len(positions), positions.points + 1))
            priors[:, :-1] = np.where(moves, self._probabilities(self.supervised, seen[:, :-1], moves), 0)
            priors[:, -1] = passes
            value = self.values(seen) if mixing < 1 else np.zeros(len(positions))
            rollout = playouts(positions)[1] if mixing > 0 else np.zeros(len(positions))
            return priors, leaf_value(value, rollout, mixing)

        return evaluate

    def searching(self, mixing: float, random: np.random.Generator) -> Player:
        """The most visited move of a search with leaves valued by λ = `mixing`."""
        return self._most_visited(self.evaluator(mixing, random))

    def playouts(self, random: np.random.Generator) -> Player:
        """The most visited move of a search with uniform priors and a random rollout a leaf."""
        return self._most_visited(rollouts(random, self.config.board.komi))

    def _most_visited(self, evaluate: Evaluator) -> Player:
        settings, komi = self.config.search, self.config.board.komi

        def player(games: Positions) -> Int[np.ndarray, " games"]:
            return search(games, evaluate, settings.simulations, settings.exploration, komi).root_visits.argmax(1)

        return player

    def likeliest(self, network: nn.Module) -> Player:
        """The most probable sensible move, or a pass where there is none."""

        def player(games: Positions) -> Int[np.ndarray, " games"]:
            moves = sensible(games)
            found = self._probabilities(network, planes(games, self.config.network.features, moves), moves)
            return np.where(moves.any(1), np.where(moves, found, -1).argmax(1), games.points)

        return player

    def drawn(self, network: nn.Module, random: np.random.Generator) -> Player:
        """A sensible move drawn from p(·|s), as the policies play each other."""

        def player(games: Positions) -> Int[np.ndarray, " games"]:
            moves = sensible(games)
            found = self._probabilities(network, planes(games, self.config.network.features, moves), moves)
            return drawn_points(found, moves, random.random(len(games)))

        return player

    def best(self, random: np.random.Generator) -> Player:
        """The strongest player that was trained: the search, or else the policy."""
        return self.likeliest(self.policy) if self.value is None else self.searching(self.config.search.mixing, random)

    # Scores

    def evaluate(self) -> Evaluation:
        """Predictions of held-out moves, matches, how well results are foreseen, and a game."""
        asked, metrics, pictures = self.config.evaluate, dict[str, float](), dict[str, Picture | list[np.ndarray]]()
        if asked.predictions:
            metrics |= self._predictions()
        for match in asked.matches:
            random = np.random.default_rng([self.run.seed, 5])
            begun = self._openings(random)
            if match == "earlier":
                last = self.drawn(self.policy, random)
                results = [won(last, self.drawn(one, random), begun, self.config.board.komi)[0] for one in self.pool]
                metrics["against_worst_of_earlier"] = 100 * min(float(one.mean()) for one in results)
                continue
            scores, _, actions = won(*self._players(match, random), begun, self.config.board.komi)
            metrics[f"against_{match}"] = 100 * float(scores.mean())
            if match == "playouts":
                pictures["game"] = self.film(begun.take(np.zeros(1, np.int64)), actions[0])
        if asked.values:
            metrics |= self._foreseen(asked.values)
        if asked.experts:
            metrics |= self._beside_rollouts(asked.experts)
        return Evaluation(metrics, pictures)

    def _players(self, match: Match, random: np.random.Generator) -> tuple[Player, Player]:
        """The player that is scored, and its opponent."""
        if match == "supervised":
            return self.drawn(self.policy, random), self.drawn(self.supervised, random)
        searching = self.searching(self.config.search.mixing, random)
        match match:
            case "policy":
                return searching, self.likeliest(self.supervised)
            case "playouts":
                return searching, self.playouts(random)
            case "values_alone":
                return searching, self.searching(0, random)
            case _:
                return searching, self.searching(1, random)

    def _openings(self, random: np.random.Generator) -> Positions:
        asked, board = self.config.evaluate, self.config.board
        return openings(board.size, asked.games, asked.opening, board.limit, PAST, random)

    def held_out(self, count: int, *more: str) -> Examples:
        """Positions of held-out games, drawn by the seed."""
        games = records([*open_texts(self.run.data / self.config.supervised.part, "test")], self.config.board.size)
        random = np.random.default_rng([self.run.seed, 6])
        return examples(games, count, [*self.config.network.features, *more], random)

    def _predictions(self) -> dict[str, float]:
        """Moves of held-out games that are the policy's most probable, in %; of some by eight predictions, too."""
        asked, size = self.config.evaluate, self.config.board.size
        found = self.held_out(asked.predictions)
        seen, actions = torch.from_numpy(found.planes), torch.from_numpy(found.actions)
        right = self._predicted(seen, 0).argmax(1) == actions
        metrics = {"accuracy": 100 * float(right.double().mean())}
        if some := min(asked.ensemble, len(seen)):
            together = ensemble(torch.stack([self._predicted(seen[:some], which) for which in range(8)]), size)
            gained = (together.argmax(1) == actions[:some]).double() - right[:some].double()
            metrics["ensemble_gain"] = 100 * float(gained.mean())
        return metrics

    def _predicted(self, seen: Int8[Tensor, "n planes size size"], which: int) -> Float[Tensor, "n points"]:
        """p(a|s) under one of the board's symmetries, not turned back."""
        blocks = (turned(some, torch.full((len(some),), which)) for some in seen.split(BLOCK))
        return torch.cat([self.supervised(some.to(self.device).float()).softmax(1).cpu() for some in blocks])

    def _foreseen(self, count: int) -> dict[str, float]:
        """Squared errors of z, on positions learned from and on others."""
        settings = self.config.value
        assert settings is not None
        one = settings.model_copy(update={"per_game": "one"})
        learned = self.self_play or self.value_examples(settings, settings.positions, 0)
        fresh = self.value_examples(one, count, 1)
        known, new = (float(np.square(self.values(some.planes) - some.outcomes).mean()) for some in (learned, fresh))
        return {"value_error": new, "value_gap": new - known}

    def _beside_rollouts(self, count: int) -> dict[str, float]:
        """Squared errors of z on positions of experts' held-out games, of the value network and of rollouts."""
        config, squares = self.config, list[np.ndarray]()
        games = records([*open_texts(self.run.data / config.supervised.part, "test")], config.board.size)
        turns, _ = drawn_turns(games, count, np.random.default_rng([self.run.seed, 7]))
        playouts = rollouts(np.random.default_rng([self.run.seed, 8]), config.board.komi)
        for turn in turns:
            if len(turn.places):
                outcomes = turn.winners * turn.positions.to_play
                many = turn.positions.take(np.repeat(np.arange(len(outcomes)), config.evaluate.rollouts))
                rolled = playouts(many)[1].reshape(len(outcomes), -1).mean(1)
                seen = planes(turn.positions, [*config.network.features, "colour"])
                squares.append(np.square(np.stack([self.values(seen), rolled]) - outcomes))
        of_value, of_rollouts = np.concatenate(squares, 1).mean(1)
        return {"expert_value_error": float(of_value), "worse_by_rollouts": float(of_rollouts - of_value)}

    # Pictures

    @property
    def snapshots(self) -> int:
        """How often training is looked at: where professionals' moves are predicted."""
        return 6 if self.config.evaluate.predictions else 0

    def snapshot(self) -> dict[str, Picture | list[np.ndarray]]:
        """Draw a position of a held-out game, where the policy would play, and where the professional did."""
        texts = open_texts(self.run.data / self.config.supervised.part, "test")
        game = records([texts[0]], self.config.board.size)[0]
        position, shown = self._start(1), min(SHOWN, len(game.moves) - 1)
        for move in game.moves[:shown]:
            position.play(np.array([move.action]))
        stones, played = position.stones[0, :-1], game.moves[shown].action
        moves = sensible(position)
        found = self._probabilities(self.supervised, planes(position, self.config.network.features, moves), moves)[0]
        position.play(np.array([played]))
        tiles = [_halved(one) for one in (heat(found, stones), board(position.stones[0, :-1], played))]
        title = f"update {self.step:,}"
        return {"professional": mosaic(tiles, ["policy", "what was played"], columns=2, title=title, tile_height=1.9)}

    def _thought(self, position: Positions, last: int | None, title: str) -> Picture:
        """A board, and as heat maps the prior, the search's visits, and the value network's chance after each move."""
        config, stones, points = self.config, position.stones[0, :-1], position.points
        tiles = [board(stones, last)]
        if position.over[0]:
            tiles += [heat(np.zeros(points), stones)] * 3
        else:
            evaluate = self.evaluator(config.search.mixing, np.random.default_rng([self.run.seed, 9]))
            tree = search(position, evaluate, config.search.simulations, config.search.exploration, config.board.komi)
            tiles += [heat(one[:points], stones) for one in (tree.priors[0, 0], tree.root_visits[0])]
            tiles.append(heat(self._chances(position), stones))
        names = ["board", "policy", "visits", "value of each move"]
        return mosaic(tiles, names, columns=2, title=title, tile_height=1.5)

    def _chances(self, position: Positions) -> Float[np.ndarray, " points"]:
        """The chance to win that the value network sees after each sensible move (Figure 5a); 0 elsewhere."""
        moves = np.flatnonzero(sensible(position)[0])
        chances = np.zeros(position.points)
        if len(moves):
            after = position.take(np.zeros(len(moves), np.int64))
            after.play(moves)
            seen = planes(after, [*self.config.network.features, "colour"])
            values = np.where(after.over, outcome(after, self.config.board.komi), self.values(seen))
            chances[moves] = (1 - values) / 2
        return chances

    def film(self, position: Positions, actions: list[int]) -> list[np.ndarray]:
        """A game, as AlphaGo sees it: a frame is shown for half a second."""
        frames, last = [], None
        for number, action in enumerate([*actions, None]):
            frames += [self._thought(position, last, f"move {number}")] * HELD
            if action is not None:
                position.play(np.array([action]))
                last = action
        return frames


SHOWN = 60
"""Moves before the position of a held-out game that is drawn."""


def _blocks(seen: np.ndarray, beside: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    """Two arrays of equal length as tensors, a block of their rows at a time."""
    return zip(torch.from_numpy(seen).split(BLOCK), torch.from_numpy(beside).split(BLOCK), strict=True)


def _halved(tile: Picture) -> Picture:
    """A picture at half its size: a board of 19 x 19 is wider than the page has room for."""
    height, width = (length // 2 for length in tile.shape[:2])
    return tile[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean((1, 3)).astype(np.uint8)
