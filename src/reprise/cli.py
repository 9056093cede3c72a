"""The command line. Nothing here imports torch before a command needs it."""

from __future__ import annotations

import codecs
import contextlib
import importlib.metadata
import io
import json
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from reprise.commands import completion, tools, using
from reprise.commands.options import (
    Arm,
    Dataset,
    Experiment,
    Experiments,
    Json,
    Overrides,
    ScaleOption,
    StageName,
    print_lines,
)
from reprise.commands.project import UsageError, find_root_if_any
from reprise.commands.project import check_known as _known
from reprise.commands.project import check_project as _checked
from reprise.commands.project import open_project as _project
from reprise.core.config.project import Project
from reprise.core.config.yaml import ConfigError
from reprise.core.contract import SCALES, Failed, Stage, Stopped

TRACEBACK = "REPRISE_TRACEBACK"
LOOK, USE, RUN, COMPARE = "Look", "Use what was trained", "Run", "Compare"
WRITE, STAGES = "Write", "Stages, which `dvc repro` calls"


class Grouped(TyperGroup):
    """Help with the commands under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A section for each heading; what has none comes last."""
        headings: dict[str, list[tuple[str, str]]] = {
            heading: [] for heading in (LOOK, USE, RUN, COMPARE, WRITE, STAGES)
        }
        width = formatter.width - 6 - max(map(len, self.commands))
        for name, command in self.commands.items():
            if not command.hidden:
                heading = getattr(command, "rich_help_panel", None) or "Others"
                headings.setdefault(heading, []).append((name, command.get_short_help_str(width)))
        for heading, rows in headings.items():
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


app = typer.Typer(
    help="Reproduce deep learning's landmark experiments by editing YAML.",
    cls=Grouped,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command; the user's mistakes end with status 2, failed runs and defects with 1, all without a traceback.

    Asked for by `--traceback` or REPRISE_TRACEBACK=1, it is printed too.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="replace")  # an arrow that the terminal lacks is no reason to stop
    try:
        app()
    except (ConfigError, UsageError) as error:
        _stop(str(error), 2)
    except Failed as error:
        _stop(str(error), 1)
    except Stopped as stop:
        _stop(f"stopped by {stop}: what was done is kept; the same command goes on from there", 128 + stop.signum)
    except Exception as error:
        _stop(_defect(error), 1)


@app.callback()
def tour(
    ctx: typer.Context,
    traceback_: Annotated[bool, typer.Option("--traceback", help=f"With each error; or {TRACEBACK}=1")] = False,
    version: Annotated[bool, typer.Option("--version", help="Which Reprise this is")] = False,
) -> None:
    """Reproduce deep learning's landmark experiments by editing YAML. Alone, `reprise` says where to begin."""
    if traceback_:
        os.environ[TRACEBACK] = "1"
    if version:
        typer.echo(importlib.metadata.version("reprise"))
    elif ctx.invoked_subcommand is None:
        from reprise.commands.tour import lines

        print_lines(lines(find_root_if_any()))


@app.command("list", rich_help_panel=LOOK)
def list_(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Experiments; or words of title, authors, venue, year", autocompletion=completion.experiments
        ),
    ] = None,
    family: Annotated[str | None, typer.Option(help="Of papers", autocompletion=completion.families)] = None,
    data: Annotated[str | None, typer.Option(help="A dataset they use", autocompletion=completion.datasets)] = None,
    verdict: Annotated[
        str | None, typer.Option(help="Of some claim: reproduced, weaker, refuted, inconclusive, not run")
    ] = None,
    claims: Annotated[
        bool, typer.Option("--claims", help="Arms, and each claim's verdict; so for one experiment")
    ] = False,
    as_json: Json = False,
) -> None:
    """The experiments, and what came of them.

    Oldest first; filters leave those that agree with all that is said.
    """
    from reprise.commands.listing import Filters, rows, table

    found = rows(_project(papers=()), Filters(words or [], family, data, verdict))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    elif not found:
        typer.echo("no experiment agrees with all of that; `reprise list` shows them all")
    else:
        details = claims or verdict is not None or len(found) == 1
        print_lines(table(found, details, _terminal_width()))


@app.command(rich_help_panel=LOOK)
def show(
    experiment: Experiment,
    overrides: Overrides = None,
    arm: Annotated[
        str | None,
        typer.Option(help="Resolve this arm; without it, what all arms share", autocompletion=completion.arms),
    ] = None,
    scale: ScaleOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The resolved tree alone")] = False,
) -> None:
    """The knobs of an experiment, and the line each comes from."""
    project = _project(overrides, scale, experiment, papers=[experiment])
    _known(experiment, project.pipeline.experiments, "experiment")
    if arm is not None:
        _known(arm, project.arms(experiment), f"arm of {experiment}")
    if as_json:
        typer.echo(json.dumps(project.resolve(experiment, arm), indent=1))
        return
    _print_config(project, experiment, arm)


@app.command(rich_help_panel=LOOK)
def plan(
    experiment: Experiment,
    overrides: Overrides = None,
    arm: Annotated[str | None, typer.Option(help="This arm alone; without it, all of them")] = None,
    scale: ScaleOption = None,
    utilisation: Annotated[float, typer.Option(help="Share of its peak that a device is assumed to reach")] = 0.35,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts")] = False,
) -> None:
    """What training would take, train nothing.

    Parameters, FLOPs, memory, downloads, and hours on named devices.
    """
    if not 0 < utilisation <= 1:
        raise UsageError(f"--utilisation is {utilisation:g}; expected a share above 0, at most 1")
    project = _project(overrides, scale, experiment, papers=[experiment])
    _known(experiment, project.pipeline.experiments, "experiment")
    if arm is not None:
        _known(arm, project.arms(experiment), f"arm of {experiment}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # an arm that starts from published weights would fetch them
    from rich.console import Console

    from reprise.stages.plan import plan as run
    from reprise.stages.plan import tables

    with Console(stderr=True).status("") as status:
        found = run(project, experiment, [arm] if arm else project.arms(experiment), utilisation, status.update)
    if as_json:
        typer.echo(json.dumps({"config": project.resolve(experiment, arm), **found}, indent=1))
        return
    _print_config(project, experiment, arm)
    Console(width=None if sys.stdout.isatty() else 140).print(tables(found))


@app.command(rich_help_panel=LOOK)
def validate(overrides: Overrides = None, as_json: Json = False) -> None:
    """Check both files, every arm at every scale; change nothing."""
    try:
        project = _checked(overrides)
    except ConfigError as error:
        if not as_json:
            raise
        found = [{**vars(one.mark), "path": one.path, "message": one.message} for one in error.problems]
        typer.echo(json.dumps({"problems": found}, indent=1))
        raise typer.Exit(2) from error
    papers = project.pipeline.experiments
    claims = sum(len(paper.claims) for paper in papers.values())
    if as_json:
        typer.echo(json.dumps({"problems": [], "experiments": len(papers), "claims": claims}, indent=1))
    else:
        typer.echo(f"{len(papers)} experiments, {claims} claims: all valid at {', '.join(SCALES)}")


@app.command(rich_help_panel=WRITE)
def schema() -> None:
    """Write schemas/, by which editors complete and check YAML."""
    from reprise.core.config.schema import write

    for path in write(_project().root):
        typer.echo(path)


@app.command(rich_help_panel=STAGES)
def source() -> None:
    """Check, then write what DVC watches.

    Each stage's knobs, and the hash of its code.
    """
    from reprise.core.run.run_store import adopt
    from reprise.stages.dvc_deps import other_code, write_all

    project = _checked()
    if others := other_code(project):
        typer.echo(f"warning: the code of {', '.join(others)} runs as it is now, not as it was when queued", err=True)
    write_all(project)
    if found := adopt(project.root):
        typer.echo(f"source: {found} run(s) in models/ come from elsewhere, and need not be trained again here")


@app.command(rich_help_panel=STAGES)
def prepare(dataset: Dataset, overrides: Overrides = None) -> None:
    """Fetch, check and prepare a dataset into data/prepared/."""
    project = _project(overrides, papers=())
    _known(dataset, project.pipeline.datasets, "dataset")
    from reprise.commands.status_line import Waiting
    from reprise.stages.prepare import prepare as run

    parts = project.pipeline.datasets[dataset].parts_at(project.params.scale)
    try:
        with Waiting(f"prepare {dataset}", project.root, len(parts)) as waiting:
            run(project, dataset, waiting.echo)
    except ValueError as error:
        raise Failed(str(error)) from error


@app.command(rich_help_panel=STAGES)
def pretrain(experiment: Experiment, overrides: Overrides = None) -> None:
    """Train the arms × seeds of the first stage."""
    _train(experiment, "pretrain", overrides)


@app.command(rich_help_panel=STAGES)
def finetune(experiment: Experiment, overrides: Overrides = None) -> None:
    """Train those of the second, from the weights of the first."""
    _train(experiment, "finetune", overrides)


@app.command(rich_help_panel=STAGES)
def run(
    experiment: Experiment,
    stage: StageName,
    arm: Arm,
    seed: int,
    overrides: Overrides = None,
) -> None:
    """Train one run in this process.

    For torchrun and SLURM, which start it once for each device.
    """
    project = _project(overrides, experiment=experiment, papers=[experiment])
    _known(experiment, project.pipeline.experiments, "experiment")
    stages = project.pipeline.stages(experiment)
    _known(stage, stages, f"stage of {experiment}")
    _known(arm, project.arms(experiment), f"arm of {experiment}")
    seeds = project.resolve(experiment, arm)["seeds"]
    _known(str(seed), [str(each) for each in seeds], f"seed of {experiment}/{arm}")
    from reprise.stages.train import train_here

    train_here(project, experiment, stages[stages.index(stage)], arm, seed, typer.echo)  # type: ignore[arg-type]


@app.command(rich_help_panel=STAGES)
def evaluate(experiment: Experiment, overrides: Overrides = None) -> None:
    """Score the trained runs, judge the claims, write results/."""
    project = _project(overrides, experiment=experiment, papers=[experiment])
    _known(experiment, project.pipeline.evaluate, "experiment with an evaluate stage")
    from reprise.stages.evaluate import evaluate as run

    run(project, experiment)
    _print_verdicts(project, [experiment])


@app.command(rich_help_panel=LOOK)
def verdicts(
    experiments: Experiments = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As results/README.md has them")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="As README.md has them")] = False,
    as_json: Json = False,
) -> None:
    """Claims, each with estimate, interval and margin."""
    project = _project(papers=())
    for experiment in experiments or ():
        _known(experiment, project.pipeline.experiments, "experiment")
    asked = [key for key in experiments or project.pipeline.evaluate if _evaluated(project.root, key)]
    _tell_of_those_without(project, [key for key in experiments or () if key not in asked], asked)
    form = "json" if as_json else "page" if markdown else "summary" if summary else "table"
    _print_verdicts(project, asked, form)


@app.command(rich_help_panel=STAGES)
def report(show: Annotated[bool, typer.Option("--open", help="Then open it in the browser")] = False) -> None:
    """Write reports/, a folder of pages, from results/."""
    from reprise.commands.status_line import Waiting
    from reprise.stages.report import report as run

    project = _project(papers=())
    with Waiting("report", project.root) as waiting:
        page = run(project, waiting.echo)
    if show:
        import webbrowser

        if not webbrowser.open(page.as_uri()):
            typer.echo("no browser found: open reports/index.html yourself", err=True)


for command, heading in (
    (tools.compare, COMPARE),
    (tools.sweep, RUN),
    (tools.trial, RUN),
    (tools.power, RUN),
    (tools.new, WRITE),
    (tools.doctor, RUN),
):
    app.command(rich_help_panel=heading)(command)
app.command("try", rich_help_panel=USE)(using.try_)
app.command(rich_help_panel=USE)(using.export)


def _train(experiment: str, stage: Stage, overrides: list[str] | None) -> None:
    project = _project(overrides, experiment=experiment, papers=[experiment])
    _known(experiment, getattr(project.pipeline, stage), f"experiment with a {stage} stage")
    from reprise.stages.train import train

    train(project, experiment, stage, typer.echo)


def _print_config(project: Project, experiment: str, arm: str | None) -> None:
    """Every resolved value, and where it was written."""
    from reprise.commands.listing import values

    lines = list(values(project, experiment, arm))
    left = max(len(value) for value, _ in lines)
    print_lines(f"{value:<{left}}  # {origin}" if origin else value for value, origin in lines)


def _print_verdicts(
    project: Project, experiments: Sequence[str], form: Literal["table", "page", "summary", "json"] = "table"
) -> None:
    from rich.console import Console

    from reprise.core.verdicts.multiplicity import q_values
    from reprise.core.verdicts.results import read_verdicts, verdict_markdown, verdict_summary, verdict_table

    folders = {key: project.root / "results" / key for key in project.pipeline.evaluate}
    all_of_them = {key: read_verdicts(folder) for key, folder in folders.items() if _evaluated(project.root, key)}
    found = {key: all_of_them[key] for key in experiments}
    if form == "table":
        Console(width=None if sys.stdout.isatty() else 140).print(verdict_table(found, all_of_them))
    elif form == "page":
        typer.echo(verdict_markdown(found))
    elif form == "json":
        q = q_values(all_of_them)
        plain = {
            key: {name: {**one.as_json(), "q": q.get((key, name))} for name, one in claims.items()}
            for key, claims in found.items()
        }
        typer.echo(json.dumps(plain, indent=1, ensure_ascii=False))
    else:
        years = {experiment: project.pipeline.experiments[experiment].year for experiment in experiments}
        typer.echo(verdict_summary(found, years))


def _tell_of_those_without(project: Project, lacking: Sequence[str], asked: Sequence[str]) -> None:
    """Say which papers have no verdicts yet, and what gives them some; Failed if there is no other to show."""
    if not asked and not lacking:
        first = next(iter(project.pipeline.evaluate), "…")
        raise Failed(f"no experiment has been evaluated; as in `dvc repro evaluate@{first}`")
    commands = " ".join(f"evaluate@{key}" for key in lacking)
    said = f"not evaluated: {', '.join(lacking)}; `dvc repro {commands}` does that"
    if not asked:
        raise Failed(said)
    if lacking:
        typer.echo(said, err=True)


def _evaluated(root: Path, experiment: str) -> bool:
    return (root / "results" / experiment / "claims.json").exists()


def _terminal_width() -> int | None:
    """Of the terminal; None where there is none, and nothing needs to be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _defect(error: Exception) -> str:
    """What went wrong that should not have, and where its traceback is kept."""
    said, root = f"{type(error).__name__}: {error}".rstrip(": "), None
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
