"""What `reprise` alone says: where you are, and what to do next."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import typer

from reprise.commands.listing import tally, verdicts
from reprise.commands.options import width
from reprise.core.config.config_loader import experiments_dir
from reprise.core.config.documents import Reading, block

LEFT = 37
"""Columns of a command, after its two blanks."""


def lines(root: Path | None) -> Iterator[str]:
    """The tour, with names of the project in `root` if there is one."""
    yield typer.style("Reprise reproduces deep learning's landmark experiments by editing YAML.", bold=True)
    if root is None:
        yield "There is no project here: go to a folder with params.yaml and pipeline.yaml, or below it."
        yield from _ways(
            [("reprise doctor", "whether this machine is fit for it"), ("reprise --help", "every command")]
        )
        return
    reading = Reading(root, experiments_dir())
    if problems := [*reading.pipeline.problems, *reading.params.problems]:
        yield f"Here: a project with a mistake: {problems[0]}"
        yield from _ways([("reprise validate", "every mistake at once, with its place")])
        return
    papers, scale = reading.experiments(), reading.params.data.get("scale", "laptop")
    said = [verdict for key in papers for verdict in verdicts(root, key, scale).values()]
    yield from textwrap.wrap(f"Here: {len(papers)} experiments; verdicts: {tally(said)[0]}.", width())
    if not papers:
        yield from _ways([("reprise new vae", "the four files of a first paper")])
        return
    key = next((key for key in papers if verdicts(root, key, scale)), papers[0])
    arms = list(block(reading.section(key), "arms"))
    arm = f" --arm {arms[0]}" if arms else ""
    yield ""
    yield "Look"
    yield from _ways(
        [
            ("reprise list", "what there is, and what came of it"),
            (f"reprise verdicts {key}", "its claims, each with estimate, interval and margin"),
            (f"reprise show {key}{arm}", "every knob of an arm, and the line it comes from"),
        ]
    )
    yield "Change a line, and run again"
    yield from _ways(
        [
            (
                f"$EDITOR {reading.knobs.file(key)}",
                f"the knobs of {key}: `paper`, `arms`, and what is smaller on a laptop",
            ),
            ("reprise validate", "every mistake at once, with its place"),
            (f"dvc repro evaluate@{key}", "trains what changed, and only that; ends in verdicts"),
            ("reprise compare HEAD", "what that changed: YAML, metrics, verdicts"),
        ]
    )
    yield "Go on"
    yield from _ways(
        [
            (f"reprise sweep {key} --knob …", "a W&B sweep over its knobs"),
            (f"reprise try {key}", "use what was trained: draw, play, fill in, classify"),
            ("reprise new vae", "the four files of a new paper"),
            ("reprise doctor", "whether this machine is fit for a run, and what to do"),
            ("reprise --install-completion", "then TAB completes commands, experiments, arms and knobs"),
            ("reprise --help", "every command; `reprise show --help`: all of one"),
        ]
    )


def _ways(ways: list[tuple[str, str]]) -> Iterator[str]:
    for command, what in ways:
        first, *rest = textwrap.wrap(what, max(width() - LEFT - 3, 20))
        yield f"  {typer.style(f'{command:<{LEFT}}', fg='cyan')} {first}"
        yield from (f"{'':<{LEFT + 3}}{line}" for line in rest)
