"""The command line. Nothing here imports torch until a command needs it."""

from __future__ import annotations

import codecs
import contextlib
import copy
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from reprise import __version__
from reprise.cli import look, stages, use, work, write
from reprise.commands.options import Command, print_lines, spare_pydantic
from reprise.commands.project import UsageError, find_root_if_any, run_own_code

TRACEBACK = "REPRISE_TRACEBACK"
COMPLETE = "_REPRISE_COMPLETE"
"""Set by a shell that asks for completion; the words are then in another variable."""
SIGNS = {"−": "-", "–": "-", "→": "->", "…": "...", "≥": ">=", "≤": "<=", "×": "x", "✓": "+", "✗": "x", "·": "."}
"""ASCII substitutes for the symbols used in tables and messages."""


class Grouped(TyperGroup):
    """Help with the commands under headings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words before the command."""
        spare_pydantic(self, ctx)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each heading, in the order of GROUPS."""
        headings: dict[str, list[tuple[str, str]]] = {}
        width = formatter.width - 6 - max(map(len, self.commands))
        for name, command in self.commands.items():
            if not command.hidden:
                heading = str(getattr(command, "rich_help_panel", None))
                headings.setdefault(heading, []).append((name, command.get_short_help_str(width)))
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


app = typer.Typer(
    help="Reproduce deep learning's landmark experiments by editing YAML.",
    cls=Grouped,
    invoke_without_command=True,
    # `main` prints errors itself, without a traceback.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _in_other_signs(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the terminal lacks by similar ones, or by a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(SIGNS.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("reprise", _in_other_signs)


def main() -> None:
    """Run the command. Mistakes by the user exit with status 2, failed runs and defects with 1, without a traceback.

    `--traceback` or REPRISE_TRACEBACK=1 prints the traceback too.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="reprise")  # do not fail because the terminal lacks an arrow
    # At its first model pydantic would search every installed package for plugins, a twentieth of the time of `list`.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    try:
        run_own_code()
        if COMPLETE in os.environ:
            # Typer would import rich for the markup in descriptions. They have none, and it takes as long as all else.
            sys.modules.setdefault("rich", None)  # pyright: ignore[reportArgumentType]
        _with_the_command_alone()()
    except Exception as error:
        _end(error)


def _with_the_command_alone() -> typer.Typer:
    """Return the app without the commands that are not called: building them all would take a sixth of a `list`."""
    words = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS")
    called = words.split()[1:] if words is not None and COMPLETE in os.environ else sys.argv[1:]
    if words is not None and len(called) == 1 and not words.endswith(" "):
        return app  # the word is not finished: any command may follow
    named = [command for command in app.registered_commands if called[:1] == [command.name]]
    alone = copy.copy(app)
    alone.registered_commands = named or app.registered_commands
    return alone


def _end(error: Exception) -> None:
    """Print what went wrong, and exit with its status."""
    from reprise.core.config.yaml import ConfigError
    from reprise.core.contract import Failed, Stopped

    match error:
        case ConfigError() | UsageError():
            _stop(str(error), 2)
        case Failed():
            _stop(str(error), 1)
        case Stopped():
            said = f"stopped by {error}: progress is kept; the same command resumes from there"
            # The status that a shell gives to a process ended by this signal.
            _stop(said, 128 + error.signum)
        case OSError():
            _stop(_of_the_disk(error) or _defect(error), 1)
        case _:
            _stop(_defect(error), 1)


@app.callback()
def tour(
    ctx: typer.Context,
    traceback_: Annotated[
        bool, typer.Option("--traceback", help=f"Show the traceback of errors; or {TRACEBACK}=1")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version")] = False,
) -> None:
    """Reproduce deep learning's landmark experiments by editing YAML. On its own, `reprise` shows where to start."""
    if traceback_:
        os.environ[TRACEBACK] = "1"
    if version:
        typer.echo(__version__)
    elif ctx.invoked_subcommand is None:
        from reprise.commands.tour import lines

        print_lines(lines(find_root_if_any()))


GROUPS: dict[str, dict[str, Callable[..., None]]] = {
    "Look": {
        "list": look.list_, "show": look.show, "plan": look.plan, "validate": look.validate, "verdicts": look.verdicts,
    },
    "Use trained models": {"try": use.try_, "export": use.export, "keep": use.keep},
    "Run": {"sweep": work.sweep, "trial": work.trial, "power": work.power, "doctor": work.doctor},
    "Compare": {"compare": work.compare},
    "Write": {"schema": write.schema, "new": write.new, "site": write.site, "card": write.card},
    "Stages, called by `dvc repro`": {
        "source": stages.source, "prepare": stages.prepare, "tabulate": stages.tabulate, "pretrain": stages.pretrain,
        "finetune": stages.finetune, "run": stages.run, "evaluate": stages.evaluate, "report": stages.report,
    },
}  # fmt: skip
"""Commands by name, under their headings in the help."""
HELP: dict[Callable[..., None], type[Command]] = {use.try_: use.HelpOfKinds}
"""Commands whose help shows more than their docstring."""

for heading, commands in GROUPS.items():
    for name, function in commands.items():
        app.command(name, cls=HELP.get(function, Command), rich_help_panel=heading)(function)


def _of_the_disk(error: OSError) -> str | None:
    """Describe what the user's disk does not allow; None for any other error."""
    from reprise.core.run.integrity import OF_THE_DISK, shown

    if error.errno not in OF_THE_DISK or not isinstance(error.filename, str):
        return None
    return f"{shown(Path(error.filename))}: {error.strerror}"


def _defect(error: Exception) -> str:
    """Describe an unexpected error, and where its traceback is kept."""
    said, root = f"{type(error).__name__}: {error}".rstrip(": "), None
    # The working directory may have been deleted.
    with contextlib.suppress(UsageError):
        root = find_root_if_any()
    if root is None:
        return f"{said} ({TRACEBACK}=1 shows where)"
    log = root / ".reprise" / "errors" / "command.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
    except OSError:
        return f"{said} ({TRACEBACK}=1 shows where)"
    return f"{said} (traceback in {os.path.relpath(log)})"


def _stop(message: str, status: int) -> None:
    if os.environ.get(TRACEBACK):
        traceback.print_exc()
    typer.echo(message, err=True)
    raise SystemExit(status)
