"""Arguments shared by several commands, with their completion; and printing."""

from __future__ import annotations

import shutil
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


def print_lines(lines: Iterable[str]) -> None:
    """Print each line, coloured if there is a terminal."""
    for line in lines:
        typer.echo(line)
