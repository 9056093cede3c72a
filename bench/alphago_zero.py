"""AlphaGo Zero: positions of self-play a second, against open_spiel's AlphaZero in Python.

Both sides play games of 5 x 5 against themselves with the weights of the start: 24 simulations a move, PUCT, Dirichlet
noise at the root, a tower of two residual blocks of 16 filters, one thread. Nothing is learned. open_spiel plays one
game in each of its processes and evaluates one leaf at a time, with JAX, whose operations are compiled before the clock
starts, but not its inference as a whole; here 96 games share each evaluation. open_spiel's heads have 16 hidden units
each and 4 planes as inputs, ours 32 in the value's alone and 5 planes: `facts` has the number of weights. It keeps
evaluations that come again in a cache.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.measure import Case, Result

ROOT = Path(__file__).resolve().parent.parent
MOVES = 20
"""Timed moves of each of our games."""
GAMES = 2
"""Timed games of open_spiel's; each has some 30 positions."""


def reprise(pair: int) -> Result:
    """The arm `zero` at laptop scale: its own step of self-play, as before each update."""
    from reprise.core.config.project import load
    from reprise.core.contract import Run
    from reprise.core.run.execution import build_task
    from reprise.experiments.alphago_zero import SelfPlay, Task

    knobs = load(ROOT, scale="laptop", papers=["alphago_zero"]).resolve("alphago_zero", "zero")
    task = build_task(Run("alphago_zero", "pretrain", "zero", pair, "laptop", knobs, Path(), Path()))
    assert isinstance(task, Task)
    play = task.config.play
    assert isinstance(play, SelfPlay)
    task._open()
    task.network.eval()
    for _ in range(3):
        task._move(play)
    start, spent = time.perf_counter(), time.process_time()
    for _ in range(MOVES):
        task._move(play)
    seconds, spent, positions = time.perf_counter() - start, time.process_time() - spent, MOVES * play.games
    parameters = sum(one.numel() for one in task.network.parameters())
    facts: dict[str, float | str] = {
        "seconds": seconds,
        "processor_seconds": spent,
        "positions": positions,
        "parameters": parameters,
    }
    return Result(positions / seconds, {}, facts)


def open_spiel(pair: int) -> Result:
    """`_play_game` of its alpha_zero.py, which an actor calls for each game."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"  # one thread, as ours; read when JAX is imported
    import numpy as np
    import pyspiel  # pyright: ignore[reportMissingImports]
    from open_spiel.python.algorithms.alpha_zero import alpha_zero  # pyright: ignore[reportMissingImports]

    class Silent:
        def print(self, *told: Any) -> None:
            """Told nowhere."""

        opt_print = print

    np.random.seed(pair)
    game = pyspiel.load_game("go", {"board_size": 5, "komi": 0.5, "max_game_length": 40})
    with tempfile.TemporaryDirectory() as folder:
        config = alpha_zero.Config(
            game="go", path=folder, learning_rate=0.05, weight_decay=1e-4, decouple_weight_decay=False,
            train_batch_size=512, replay_buffer_size=2**16, replay_buffer_reuse=3, max_steps=1, checkpoint_freq=1,
            actors=1, evaluators=0, evaluation_window=1, eval_levels=1, uct_c=1.5, max_simulations=24,
            policy_alpha=0.4, policy_epsilon=0.25, temperature=1, temperature_drop=6, nn_model="resnet", nn_width=16,
            nn_depth=2, observation_shape=game.observation_tensor_shape(), output_size=game.num_distinct_actions(),
            verbose=False, quiet=True,
        )  # fmt: skip
        model = alpha_zero._init_model_from_config(config)
        evaluator = alpha_zero.evaluator_lib.AlphaZeroEvaluator(game, model)
        bots = [alpha_zero._init_bot(config, game, evaluator, False) for _ in range(2)]
        evaluator.evaluate(game.new_initial_state())  # compiles its operations
        start, spent, positions = time.perf_counter(), time.process_time(), 0
        for number in range(GAMES):
            played = alpha_zero._play_game(Silent(), number, game, bots, config.temperature, config.temperature_drop)
            positions += len(played.states)
        seconds, spent = time.perf_counter() - start, time.process_time() - spent
    facts: dict[str, float | str] = {
        "seconds": seconds,
        "processor_seconds": spent,
        "positions": positions,
        "parameters": int(model.num_trainable_variables),
        "cache": str(evaluator.cache_info()),
    }
    return Result(positions / seconds, {}, facts)


CASES = [
    Case(
        name="go_self_play",
        what="Self-play on 5×5 Go with weights of the start: 24 simulations a move, 2 residual blocks of 16 filters; "
        "nothing is learned",
        unit="positions/s",
        ours=reprise,
        peers={"open_spiel": open_spiel},
        goals={"open_spiel": 10.0},
        memory=False,
    )
]
