"""Arguments shared by several commands, with their completion; and printing."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable
from typing import Annotated

import typer

from reprise.commands import completion

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="key=value, as in params/gan.yaml:laptop.batch_size=64", autocompletion=completion.overrides),
]
Experiment = Annotated[
    str,
    typer.Argument(help="A paper's key, as shown by `reprise list`", autocompletion=completion.experiments),
]
Experiments = Annotated[
    list[str] | None,
    typer.Argument(help="Papers' keys; all by default", autocompletion=completion.experiments),
]
Dataset = Annotated[str, typer.Argument(help="Name of a dataset", autocompletion=completion.datasets)]
StageName = Annotated[str, typer.Argument(help="pretrain or finetune", autocompletion=completion.stages)]
Arm = Annotated[str, typer.Argument(help="As shown by `reprise list`", autocompletion=completion.arms)]
ArmOption = Annotated[str | None, typer.Option("--arm", help="The first by default", autocompletion=completion.arms)]
ArmsOption = Annotated[
    list[str] | None,
    typer.Option("--arm", help="Only this arm (repeatable); the others are kept", autocompletion=completion.arms),
]
ScaleOption = Annotated[
    str | None,
    typer.Option("--scale", help="smoke | laptop | paper; params.yaml's by default", autocompletion=completion.scales),
]
Json = Annotated[bool, typer.Option("--json", help="For scripts")]


def width() -> int:
    """Return the width to print in: the terminal's, or $COLUMNS, or 80."""
    return shutil.get_terminal_size((80, 24)).columns


def folded(line: str, hang: int = 2) -> list[str]:
    """Wrap a line to `width`, at blanks. Its continuation is indented by `hang` more."""
    lead = " " * (len(line) - len(line.lstrip()))
    further = lead + " " * hang
    return textwrap.wrap(
        line.strip(), width(), initial_indent=lead, subsequent_indent=further,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def print_lines(lines: Iterable[str]) -> None:
    """Print each line, coloured if there is a terminal."""
    for line in lines:
        typer.echo(line)
