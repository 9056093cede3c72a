"""Arguments that several commands take, each with what a shell completes them by; and how commands print."""

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
    typer.Argument(help="A paper's key, as `reprise list` shows them", autocompletion=completion.experiments),
]
Experiments = Annotated[
    list[str] | None,
    typer.Argument(help="Papers' keys; all unless given", autocompletion=completion.experiments),
]
Dataset = Annotated[str, typer.Argument(help="A name in `datasets`", autocompletion=completion.datasets)]
StageName = Annotated[str, typer.Argument(help="pretrain or finetune", autocompletion=completion.stages)]
Arm = Annotated[str, typer.Argument(help="As `reprise list` shows them", autocompletion=completion.arms)]
ArmOption = Annotated[str | None, typer.Option("--arm", help="The first unless given", autocompletion=completion.arms)]
ArmsOption = Annotated[
    list[str] | None,
    typer.Option("--arm", help="This one alone; may be repeated", autocompletion=completion.arms),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        "--scale", help="smoke | laptop | paper; params.yaml's unless given", autocompletion=completion.scales
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For scripts")]


def width() -> int:
    """Columns to print in: the terminal's, or $COLUMNS, or 80 where there is neither."""
    return shutil.get_terminal_size((80, 24)).columns


def print_lines(lines: Iterable[str]) -> None:
    """Each on a line, in colours where there is a terminal."""
    for line in lines:
        typer.echo(line)
