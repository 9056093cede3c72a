"""AlphaGo Zero: a network learns Go from nothing, by the games that its own search plays.

Silver, Schrittwieser, Simonyan, Antonoglou, Huang, Guez, Hubert, Baker, Lai, Bolton, Chen, Lillicrap, Hui, Sifre, van
den Driessche, Graepel, Hassabis: Mastering the game of Go without human knowledge, Nature 550, 2017,
https://doi.org/10.1038/nature24270.

What is claimed: starting from random play, with no data but the rules, it comes to beat programs that searched before
it; search makes a far stronger player than the raw network (Figure 6b); a network that learns from experts' games
predicts experts better and plays worse (Figure 3); one network for policy and value, with residual blocks, serves
better than two or than plain convolutions (Figure 4).

Deviations, at every scale:
- Methods, Self-play: the newest weights play; there is no evaluator that lets only winners of 55 % of 400 games play
  (nor is there in AlphaZero, Silver et al. 2018). Nobody resigns.
- Methods, Search algorithm: a fresh tree for each move, one thread a game and no virtual loss. The leaves of all games
  are evaluated together.
- Methods, Optimization: self-play and learning take turns, one move of every game to one update of the weights.
- Methods, Supervised learning: the experts are a search without a network, on a laptop, and professionals' games in
  place of KGS at paper scale, where no registry has the originals.
- Methods, Neural network architecture comparison: the four networks of Figure 4 learn the experts' games too, not
  AlphaGo Zero's own, and plain towers have two convolutions a block: 13 layers, not 12, at paper scale; on a laptop as
  many as the residual towers.
At laptop scale: everything that `laptop` of params/alphago_zero.yaml names. Above all a board of 5 x 5, two residual
blocks of 32 filters, and 1 thousand games, not 4.9 million.

Shapes: games, side by side; planes = 2 x (past + 1) + 1; points = size²; actions = points + 1, the last one to pass.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Int8
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation
from reprise.parts import vocabulary
from reprise.parts.data.sampling import share_of
from reprise.parts.data.store import open_texts
from reprise.parts.go import sgf
from reprise.parts.go.pictures import board, heat
from reprise.parts.go.play import Player, openings, won
from reprise.parts.go.rules import Positions, symmetries
from reprise.parts.go.search import Evaluator, drawn, rollouts, search, with_dirichlet
from reprise.parts.go.turns import Turns, turns_of
from reprise.parts.nn.build import normalization
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import Picture, mosaic
from reprise.parts.training import Schedule
from reprise.parts.vocabulary import Count

Share = Annotated[float, Field(ge=0, le=1)]
Match = Literal["first", "playouts", "raw"]


class Board(Strict):
    """The game."""

    size: Annotated[int, Field(ge=2, le=19)]
    komi: float
    """Points that White receives as compensation for moving second."""
    limit: Count
    """Largest number of moves; the game then ends and is scored."""


class Network(Strict):
    """Methods, Neural network architecture."""

    blocks: Count
    """Residual blocks in the tower, with two convolutions each."""
    filters: Count
    hidden: Count
    """Units of the value head."""
    past: Annotated[int, Field(ge=0)]
    """Earlier positions among the inputs."""
    residual: bool
    """Whether a block's input is added to its output."""
    dual: bool
    """One tower for policy and value, or one each."""
    normalization: vocabulary.Normalization = "batch"


class Search(Strict):
    """Methods, Search algorithm. Self-play and evaluation differ only in the noise."""

    simulations: Count
    exploration: Annotated[float, Field(gt=0)]
    """c of PUCT."""


class SelfPlay(Strict):
    """Self-play of the newest weights with search, whose visit counts are learned (Methods, Self-play)."""

    kind: Literal["search"]
    games: Count
    """Number of parallel games, over all devices."""
    drawn: Annotated[int, Field(ge=0)]
    """Number of first moves drawn in proportion to visits, τ = 1; later ones are the most visited, τ → 0."""
    noise: Share
    """ε: share of Dirichlet noise in the root's priors."""
    concentration: Annotated[float, Field(gt=0)]
    """α of that noise."""
    window: Count
    """Number of latest moves kept for learning, for each of the parallel games."""


class PolicyPlay(Strict):
    """Self-play of the newest weights without search: moves are drawn from p and reinforced by the outcome."""

    kind: Literal["policy"]
    games: Count
    """Number of parallel games, over all devices."""
    window: Count
    """Number of latest moves kept for learning, for each of the parallel games."""


class Experts(Strict):
    """Supervised learning of the moves and outcomes of games played by others (Methods, Supervised learning)."""

    kind: Literal["experts"]
    games: Count
    """Number of games, drawn by the seed."""


class Evaluate(Strict):
    """Matches of the final weights, and prediction of other players' games."""

    matches: list[Match]
    """Against: its first self; playouts (search without a network, `playouts` simulations); its own raw network, which
    plays the most probable move without search."""
    games: Count
    """Games per match: each opening is played twice, with both colours."""
    opening: Annotated[int, Field(ge=0)]
    """Random moves before a game."""
    playouts: Count
    """Simulations of the search without a network."""
    experts: bool
    """Whether to predict held-out games of the experts."""


class Config(ExperimentConfig):
    """Every knob of AlphaGo Zero."""

    board: Board
    network: Network
    search: Search
    play: Annotated[SelfPlay | PolicyPlay | Experts, Field(discriminator="kind")]
    duration: DurationField
    """Updates; in self-play each follows one move of every game."""
    batch: Count
    value_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the squared error in the loss (Methods: 1, and 0.01 in supervised learning)."""
    optimizer: vocabulary.Optimizer
    """`weight_decay` is twice the paper's c: its loss has c‖θ‖²."""
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    evaluate: Evaluate


# The network


def convolution(inputs: int, filters: int, kernel: int, norm: vocabulary.Normalization) -> nn.Sequential:
    """Return a convolution that keeps the board's size, and its normalisation."""
    layer = nn.Conv2d(inputs, filters, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, normalization(norm, filters, 2))


class Block(nn.Module):
    """Two convolutions. With `residual` the input is added before the last rectifier."""

    def __init__(self, config: Network) -> None:
        super().__init__()
        self.residual = config.residual
        self.first, self.second = (
            convolution(config.filters, config.filters, 3, config.normalization) for _ in range(2)
        )

    def forward(self, x: Float[Tensor, "batch filters size size"]) -> Float[Tensor, "batch filters size size"]:
        out = self.second(functional.relu(self.first(x)))
        return functional.relu(out + x if self.residual else out)


class PolicyValue(nn.Module):
    """(p, v) = f_θ(s): logits of every action, and the value of the side to play."""

    def __init__(self, config: Network, size: int) -> None:
        super().__init__()
        planes, points, norm = 2 * (config.past + 1) + 1, size * size, config.normalization

        def tower() -> nn.Sequential:
            first = [convolution(planes, config.filters, 3, norm), nn.ReLU()]
            return nn.Sequential(*first, *(Block(config) for _ in range(config.blocks)))

        self.tower = tower()
        self.value_tower = None if config.dual else tower()
        self.policy = nn.Sequential(
            convolution(config.filters, 2, 1, norm), nn.ReLU(), nn.Flatten(), nn.Linear(2 * points, points + 1)
        )
        self.value = nn.Sequential(
            convolution(config.filters, 1, 1, norm), nn.ReLU(), nn.Flatten(),
            nn.Linear(points, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(
        self, planes: Float[Tensor, "batch planes size size"]
    ) -> tuple[Float[Tensor, "batch actions"], Float[Tensor, " batch"]]:
        features = self.tower(planes)
        of_value = features if self.value_tower is None else self.value_tower(planes)
        return self.policy(features), self.value(of_value)[:, 0]


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the network from the configuration alone."""
    return {"network": PolicyValue(config.network, config.board.size)}


# The objective


def losses(
    logits: Float[Tensor, "batch actions"],
    values: Float[Tensor, " batch"],
    targets: Float[Tensor, "batch actions"],
    outcomes: Float[Tensor, " batch"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return (z - v)² and -πᵀ log p, means over the batch (2017, Equation 1; the optimiser adds c‖θ‖²)."""
    return functional.mse_loss(values, outcomes), functional.cross_entropy(logits, targets)


def reinforce_loss(
    logits: Float[Tensor, "batch actions"],
    values: Float[Tensor, " batch"],
    actions: Float[Tensor, "batch actions"],
    outcomes: Float[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Return -(z - v) log p(a), where v is a baseline without gradient (Williams 1992; Silver et al. 2016, Methods)."""
    chosen = (actions * logits.log_softmax(1)).sum(1)
    return -((outcomes - values.detach()) * chosen).mean()


# The task


class Task(task.Task):
    """Alternates between self-play and learning, or learns from others' games."""

    log_every = 10

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.network = networks(config)["network"]
        self.first = copy.deepcopy(self.network).requires_grad_(False)
        """The weights that training began with, to play against."""
        self.schedule = Schedule.of(config, steps_per_epoch=1)
        self.random = np.random.default_rng([run.seed, 0])
        self.games: Positions | None = None
        self.turns: Turns | None = None

    @property
    def total_steps(self) -> int:
        """Number of updates, from `duration`."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.network, self.config.optimizer)

    # Players

    def evaluator(self, network: nn.Module, random: np.random.Generator | None = None) -> Evaluator:
        """Return an evaluator. With `random`, each position is seen under a randomly drawn symmetry of the board."""
        size = self.config.board.size

        def evaluate(positions: Positions) -> tuple[np.ndarray, np.ndarray]:
            planes = torch.from_numpy(positions.planes())
            which = None if random is None else torch.from_numpy(random.integers(8, size=len(positions)))
            if which is not None:
                planes = turned(planes, which, size)
            with torch.no_grad():
                logits, values = network(planes.to(self.device).float())
            probabilities = logits.float().softmax(1).cpu()
            if which is not None:
                probabilities = torch.zeros_like(probabilities).scatter(1, _turns(size)[which], probabilities)
            return probabilities.numpy(), values.float().cpu().numpy()

        return evaluate

    def searching(self, network: nn.Module, random: np.random.Generator) -> Player:
        """Return a player that takes the most visited move of a search by `network`."""
        return self._most_visited(self.evaluator(network, random), self.config.search.simulations)

    def playouts(self, random: np.random.Generator) -> Player:
        """Return a player that takes the most visited move of a search with uniform priors and random playouts."""
        return self._most_visited(rollouts(random, self.config.board.komi), self.config.evaluate.playouts)

    def raw(self, network: nn.Module) -> Player:
        """Return a player that takes the network's most probable legal move."""
        evaluate = self.evaluator(network)
        return lambda games: np.where(games.legal(), evaluate(games)[0], -1).argmax(1)

    def _most_visited(self, evaluate: Evaluator, simulations: int) -> Player:
        board, settings = self.config.board, self.config.search

        def player(games: Positions) -> Int[np.ndarray, " games"]:
            tree = search(games, evaluate, simulations, settings.exploration, board.komi)
            return tree.root_visits.argmax(1)

        return player

    # Training

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Play one move of every game, unless games are given, and take one step on a minibatch."""
        play, row = self.config.play, dict[str, Tensor | float]()
        if self.device.type == "meta":  # a plan counts evaluations, and plays nothing
            return self._planned()
        self._open()
        if not isinstance(play, Experts):
            self.network.eval()
            row |= self._move(play)
            self.network.train()
            if step < self.config.board.limit:  # until then a device may have no game that has ended
                return row
        assert self.turns is not None
        mine = share_of(self.config.batch, self.rank, self.world_size)
        sample = self.turns.sample(mine.stop - mine.start, self.random)
        planes, targets, outcomes = (torch.from_numpy(one) for one in sample)
        which = torch.from_numpy(self.random.integers(8, size=len(planes)))
        planes = turned(planes, which, self.config.board.size)
        targets = targets.gather(1, _turns(self.config.board.size)[which])
        return row | self._learn(planes.to(self.device), targets.to(self.device), outcomes.to(self.device), step)

    def _open(self) -> None:
        """Start the games of this device, or read those of others."""
        play, config = self.config.play, self.config
        if self.turns is not None:
            return
        self.random = np.random.default_rng([self.run.seed, self.rank])
        if isinstance(play, Experts):
            texts = open_texts(self.run.data / "games", "train")
            order = np.random.default_rng(self.run.seed).permutation(len(texts))[: play.games]
            self.turns = self.expert_turns([texts[int(place)] for place in order])
            return
        if play.games % self.world_size:
            raise ValueError(f"play.games is {play.games}; expected a multiple of {self.world_size} devices")
        count, board = play.games // self.world_size, config.board
        self.games = Positions.start(board.size, count, config.network.past, board.limit)
        self.turns = Turns.empty(play.window, count, 2 * config.network.past + 3, board.size)

    def expert_turns(self, texts: list[str]) -> Turns:
        """Return every turn of games given as SGF."""
        records = [sgf.read(text, f"game {number + 1}")[0] for number, text in enumerate(texts)]
        size, found = self.config.board.size, records[0].size
        if found != size:
            raise ValueError(f"board.size is {size}; expected {found}, as in the experts' games")
        return turns_of(records, self.config.network.past)

    def _move(self, play: SelfPlay | PolicyPlay) -> dict[str, Tensor | float]:
        """Play one move in every game. A game that ends is scored and replaced by a new one."""
        games, board, settings, random = self.games, self.config.board, self.config.search, self.random
        assert games is not None
        assert self.turns is not None
        evaluate = self.evaluator(self.network, random)
        if isinstance(play, SelfPlay):
            noise = with_dirichlet(random, play.concentration, play.noise) if play.noise else None
            tree = search(games, evaluate, settings.simulations, settings.exploration, board.komi, noise)
            visits = tree.root_visits
            actions = drawn(visits, random, games.moves >= play.drawn)
            targets = visits / visits.sum(1, keepdims=True)
        else:
            allowed = games.legal()
            actions = drawn(np.where(allowed, evaluate(games)[0] + 1e-9, 0), random, np.zeros(len(games), bool))
            targets = np.eye(games.points + 1, dtype=np.float32)[actions]
        self.turns.add(games.planes(), targets, games.to_play)
        games.play(actions)
        row: dict[str, Tensor | float] = {}
        if len(over := np.flatnonzero(games.over)):
            ended = games.take(over)
            winners = np.sign(ended.area() - board.komi)
            self.turns.end(over, winners)
            row |= {"length": float(ended.moves.mean()), "black_wins": float((winners > 0).mean())}
            games.put(over, Positions.start(board.size, len(over), self.config.network.past, board.limit))
        return row

    def _learn(
        self, planes: Int8[Tensor, "batch planes size size"], targets: Tensor, outcomes: Tensor, step: int
    ) -> dict[str, Tensor | float]:
        play, config = self.config.play, self.config
        logits, values = self.network(planes.float())
        value_loss, policy_loss = losses(logits, values, targets, outcomes)
        row: dict[str, Tensor | float] = {"value_loss": value_loss.detach(), "policy_loss": policy_loss.detach()}
        if isinstance(play, PolicyPlay):
            policy_loss = reinforce_loss(logits, values, targets, outcomes)
        loss = policy_loss + config.value_weight * value_loss
        self.descend(loss, self.raw_optimizers[0], config.optimizer, self.schedule.at(step))
        return {"loss": loss.detach(), **row}

    def _planned(self) -> dict[str, Tensor | float]:
        config, play = self.config, self.config.play
        shape = (2 * config.network.past + 3, config.board.size, config.board.size)
        if not isinstance(play, Experts):
            leaves = config.search.simulations + 1 if isinstance(play, SelfPlay) else 1
            with torch.no_grad():
                self.network(torch.empty(play.games * leaves, *shape, device=self.device))
        targets = torch.empty(config.batch, config.board.size**2 + 1, device=self.device)
        return self._learn(torch.empty(config.batch, *shape, device=self.device), targets, targets[:, 0], step=0)

    def extra_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"random": self.random.bit_generator.state}
        if self.games is not None and self.turns is not None:
            state |= {"games": self.games.state_dict(), "turns": self.turns.state_dict()}
        return state

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self._open()
        self.random.bit_generator.state = state["random"]
        if self.games is not None and self.turns is not None:
            self.games.load_state_dict(state["games"])
            self.turns.load_state_dict(state["turns"])

    # Scores

    def evaluate(self) -> Evaluation:
        """Play matches with the final weights, predict the experts' moves, and draw a game and a search."""
        asked, metrics, pictures = self.config.evaluate, dict[str, float](), dict[str, Picture | list[np.ndarray]]()
        for match in asked.matches:
            random = np.random.default_rng([self.run.seed, 1])
            players = self._players(match, random)
            begun = self._openings(random)
            scores, black, actions = won(*players, begun, self.config.board.komi)
            metrics[f"against_{match}"] = 100 * float(scores.mean())
            if match == "playouts":
                metrics["against_playouts_as_black"] = 100 * float(scores[black].mean())
                if isinstance(self.config.play, SelfPlay):
                    pictures["game"] = self.film(begun.take(np.zeros(1, np.int64)), actions[0])
        if asked.experts:
            metrics |= self._expert_scores()
        return Evaluation(metrics, pictures)

    def _players(self, match: Match, random: np.random.Generator) -> tuple[Player, Player]:
        """Return the player to be scored, and its opponent."""
        searching = self.searching(self.network, random)
        match match:
            case "first":
                return searching, self.searching(self.first, random)
            case "raw":
                return searching, self.raw(self.network)
            case "playouts":
                return searching, self.playouts(random)

    def _openings(self, random: np.random.Generator) -> Positions:
        asked, board = self.config.evaluate, self.config.board
        return openings(board.size, asked.games, asked.opening, board.limit, self.config.network.past, random)

    def _expert_scores(self) -> dict[str, float]:
        """Score held-out games: the % of experts' moves that are the most probable, and the squared error of z."""
        texts = open_texts(self.run.data / "games", "test")
        held_out = self.expert_turns([*texts])
        planes = torch.from_numpy(held_out.planes[:, 0])
        logits, values = zip(*(self.network(some.to(self.device).float()) for some in planes.split(512)), strict=True)
        found, targets = torch.cat(logits).cpu().argmax(1), torch.from_numpy(held_out.targets[:, 0]).argmax(1)
        outcomes = torch.from_numpy(held_out.outcomes[:, 0])
        return {
            "expert_accuracy": 100 * float((found == targets).float().mean()),
            "expert_value_error": float(functional.mse_loss(torch.cat(values).cpu().float(), outcomes)) / 4,
        }

    # Pictures

    @property
    def snapshots(self) -> int:
        """Number of snapshots; none when learning from others' games."""
        return 6 if isinstance(self.config.play, SelfPlay) else 0

    def snapshot(self) -> dict[str, Picture | list[np.ndarray]]:
        """Draw the search of the empty board or, if a game is filmed, of each of its turns."""
        start = Positions.start(self.config.board.size, 1, self.config.network.past, self.config.board.limit)
        return {"first_move": self._thought(start, None, f"update {self.step:,}")}

    def _thought(self, position: Positions, last: int | None, title: str) -> Picture:
        """Draw a board and, as heat maps, the network's prior, the search's visits and the value of each move."""
        evaluate, settings = self.evaluator(self.network), self.config.search
        stones, points = position.stones[0, :-1], position.points
        tiles = [board(stones, last)]
        if position.over[0]:
            tiles += [heat(np.zeros(points), stones)] * 3
        else:
            tree = search(position, evaluate, settings.simulations, settings.exploration, self.config.board.komi)
            tried = tree.root_visits[0] > 0
            values = np.where(tried, (1 + tree.root_values[0]) / 2, 0)
            tiles += [heat(one[:points], stones) for one in (tree.priors[0, 0], tree.root_visits[0], values)]
        return mosaic(tiles, ["board", "prior", "visits", "chance to win"], columns=2, title=title, tile_height=1.5)

    def film(self, position: Positions, actions: list[int]) -> list[np.ndarray]:
        """Film a game as the network sees it, half a second for each move."""
        frames, last = [], None
        for number, action in enumerate([*actions, None]):
            picture = self._thought(position, last, f"move {number}")
            frames += [picture] * HELD
            if action is not None:
                position.play(np.array([action]))
                last = action
        return frames


HELD = 8
"""Number of frames for which a move is shown, at 15 a second."""


def _turns(size: int) -> Int[Tensor, "8 actions"]:
    return torch.from_numpy(symmetries(size))


def turned(
    planes: Int8[Tensor, "batch planes size size"], which: Int[Tensor, " batch"], size: int
) -> Int8[Tensor, "batch planes size size"]:
    """Apply one of the board's eight rotations and reflections to each position."""
    places = _turns(size)[which, :-1]
    return planes.flatten(2).gather(2, places[:, None].expand(-1, planes.shape[1], -1)).view(planes.shape)
