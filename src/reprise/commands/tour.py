"""Output of `reprise` without arguments: where you are, and what to do next."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import typer

from reprise.commands.listing import tally, verdicts
from reprise.commands.options import width
from reprise.commands.project import NO_PROJECT
from reprise.core.config.config_loader import experiments_dir
from reprise.core.config.documents import Reading, block

LEFT = 37
"""Width of the command column, after two spaces."""


def lines(root: Path | None) -> Iterator[str]:
    """Yield the tour, with names from the project in `root` if there is one."""
    yield typer.style("Reprise reproduces deep learning's landmark experiments by editing YAML.", bold=True)
    if root is None:
        yield from textwrap.wrap(f"No project here, that is, no params.yaml and pipeline.yaml: {NO_PROJECT}.", width())
        yield from _ways([("reprise doctor", "check this machine"), ("reprise --help", "all commands")])
        return
    reading = Reading(root, experiments_dir())
    if problems := [*reading.pipeline.problems, *reading.params.problems]:
        yield f"Here: a project with an error: {problems[0]}"
        yield from _ways([("reprise validate", "all mistakes at once, with their places")])
        return
    papers, scale = reading.experiments(), reading.params.data.get("scale", "laptop")
    said = [verdict for key in papers for verdict in verdicts(root, key, scale).values()]
    yield from textwrap.wrap(f"Here: {len(papers)} experiments; verdicts: {tally(said)[0]}.", width())
    if not papers:
        yield from _ways([("reprise new my_paper", "create the four files of a first paper")])
        return
    key = next((key for key in papers if verdicts(root, key, scale)), papers[0])
    arms = list(block(reading.section(key), "arms"))
    arm = f" --arm {arms[0]}" if arms else ""
    yield ""
    yield "Look"
    yield from _ways(
        [
            ("reprise list", "experiments and their results"),
            (f"reprise verdicts {key}", "its claims, with estimates, intervals and margins"),
            (f"reprise show {key}{arm}", "all knobs of an arm, and the lines they come from"),
        ]
    )
    yield "Change a line and run again"
    yield from _ways(
        [
            (
                f"$EDITOR {reading.knobs.file(key)}",
                f"the knobs of {key}: `paper`, `arms`, and what is smaller on a laptop",
            ),
            ("reprise validate", "all mistakes at once, with their places"),
            (f"dvc repro evaluate@{key}", "trains only what changed, then shows verdicts"),
            ("reprise compare HEAD", "what changed: YAML, metrics, verdicts"),
        ]
    )
    yield "Go on"
    yield from _ways(
        [
            (f"reprise sweep {key} --knob …", "a W&B sweep over its knobs"),
            (f"reprise try {key}", "use trained models: draw, play, fill in, classify"),
            ("reprise new my_paper", "create the four files of a new paper"),
            ("reprise doctor", "check this machine, with advice"),
            ("reprise --install-completion", "then TAB completes commands, experiments, arms and knobs"),
            ("reprise --help", "all commands; `reprise show --help` explains one"),
        ]
    )


def _ways(ways: list[tuple[str, str]]) -> Iterator[str]:
    for command, what in ways:
        first, *rest = textwrap.wrap(what, max(width() - LEFT - 3, 20))
        yield f"  {typer.style(f'{command:<{LEFT}}', fg='cyan')} {first}"
        yield from (f"{'':<{LEFT + 3}}{line}" for line in rest)
