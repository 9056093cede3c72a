"""Arguments shared by several commands, with their completion; and printing."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

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
Table = Annotated[str, typer.Argument(help="Name of a table of networks", autocompletion=completion.tables)]
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


class Command(TyperCommand):
    """A command that starts fast."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command."""
        spare_pydantic(self, ctx)
        return super().parse_args(ctx, args)


def spare_pydantic(command: TyperCommand | TyperGroup, ctx: Any) -> None:
    """Have Typer convert only values that were given: it imports pydantic even to convert None, which takes 50 ms."""
    for param in command.get_params(ctx):
        param.process_value = partial(_processed, param, type(param).process_value)


def _processed(param: Any, process: Callable[..., Any], ctx: Any, value: Any) -> Any:
    """Return the value of a parameter. Completion needs the words as they were typed, and checks none."""
    if ctx.resilient_parsing:
        return value
    if value is not None or param.required:
        return process(param, ctx, value)
    none = () if param.multiple or param.nargs == -1 else None
    return none if param.callback is None else param.callback(ctx, param, none)


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
