"""The command line. Nothing here imports torch before a command needs it."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from reprise.core.config import Project, load
from reprise.core.contract import SCALES, Failed, Stage, Stopped
from reprise.core.faultless import remember, unchecked
from reprise.core.yaml import ConfigError

app = typer.Typer(
    help="Reproduce deep learning's landmark experiments by editing YAML.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, as in experiments.gan.laptop.batch_size=64")]
Experiment = Annotated[str, typer.Argument(help="A key of `experiments`, as `reprise list` shows them")]
ScaleOption = Annotated[str | None, typer.Option("--scale", help=" | ".join(SCALES) + "; params.yaml's unless given")]


COLOURS = {"reproduced": "green", "refuted": "red", "inconclusive": "yellow"}


class UsageError(Exception):
    """The command names something that does not exist."""


def main() -> None:
    """Run the command; the user's mistakes end with status 2 and no traceback, failed runs with 1."""
    try:
        app()
    except (ConfigError, UsageError) as error:
        _stop(str(error), 2)
    except Failed as error:
        _stop(str(error), 1)
    except Stopped as stop:
        _stop(f"stopped by {stop}: what was done is kept; the same command goes on from there", 128 + stop.signum)


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="For scripts")] = False) -> None:
    """The experiments: paper, stages, arms, and the last verdicts."""
    project = _project(papers=())
    rows = []
    for key, paper in sorted(project.pipeline.experiments.items(), key=lambda item: item[1].year):
        claims = _verdicts(project.root, key)
        rows.append(
            {
                "experiment": key,
                "year": paper.year,
                "title": paper.title,
                "stages": [*project.pipeline.stages(key), "evaluate"],
                "arms": project.arms(key),
                "verdicts": {name: claims.get(name, "not run") for name in paper.claims},
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        typer.echo(f"{row['experiment']:<24} {row['year']}  {row['title']}")
        typer.echo(f"  arms      {', '.join(row['arms'])}")
        for number, (name, verdict) in enumerate(row["verdicts"].items()):
            said = typer.style(verdict, fg=COLOURS.get(verdict))
            typer.echo(f"  {'' if number else 'verdicts':<9} {name}: {said}")


@app.command()
def show(
    experiment: Experiment,
    overrides: Overrides = None,
    arm: Annotated[str | None, typer.Option(help="Resolve this arm; without it, what all arms share")] = None,
    scale: ScaleOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The resolved tree alone")] = False,
) -> None:
    """The resolved configuration, and the file and line each value comes from."""
    project = _project(overrides, scale, experiment, papers=[experiment])
    _known(experiment, project.pipeline.experiments, "experiment")
    if arm is not None:
        _known(arm, project.arms(experiment), f"arm of {experiment}")
    if as_json:
        typer.echo(json.dumps(project.resolve(experiment, arm), indent=1))
        return
    _print_config(project, experiment, arm)


@app.command()
def plan(
    experiment: Experiment,
    overrides: Overrides = None,
    arm: Annotated[str | None, typer.Option(help="This arm alone; without it, all of them")] = None,
    scale: ScaleOption = None,
    utilisation: Annotated[float, typer.Option(help="Share of its peak that a device is assumed to reach")] = 0.35,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts")] = False,
) -> None:
    """What training takes: parameters, FLOPs, memory, downloads, hours on named devices; train nothing."""
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


@app.command()
def validate(overrides: Overrides = None) -> None:
    """Check every file, every experiment, every arm at all three scales; change nothing."""
    project = _checked(overrides)
    claims = sum(len(paper.claims) for paper in project.pipeline.experiments.values())
    typer.echo(f"{len(project.pipeline.experiments)} experiments, {claims} claims: all valid at {', '.join(SCALES)}")


@app.command()
def schema() -> None:
    """Write schemas/*.schema.json, which editors complete and check params.yaml and pipeline.yaml by."""
    from reprise.core.schema import write

    for path in write(_project().root):
        typer.echo(path)


@app.command()
def source() -> None:
    """Check every file, then write what each stage depends on, its knobs and the hash of its code: what DVC watches."""
    from reprise.stages.inputs import write_all

    write_all(_checked())


@app.command()
def prepare(dataset: Annotated[str, typer.Argument(help="A key of `datasets`")], overrides: Overrides = None) -> None:
    """Fetch, check and prepare a dataset into data/prepared/."""
    project = _project(overrides, papers=())
    _known(dataset, project.pipeline.datasets, "dataset")
    from reprise.stages.prepare import prepare as run

    try:
        run(project, dataset, typer.echo)
    except ValueError as error:
        raise Failed(str(error)) from error


@app.command()
def pretrain(experiment: Experiment, overrides: Overrides = None) -> None:
    """Train the arms × seeds of an experiment's first stage."""
    _train(experiment, "pretrain", overrides)


@app.command()
def finetune(experiment: Experiment, overrides: Overrides = None) -> None:
    """Train the arms × seeds of an experiment's second stage, from the weights of the first."""
    _train(experiment, "finetune", overrides)


@app.command()
def run(experiment: Experiment, stage: str, arm: str, seed: int, overrides: Overrides = None) -> None:
    """Train one run in this process: for torchrun and SLURM, which start it once for each device."""
    project = _project(overrides, papers=[experiment])
    _known(experiment, project.pipeline.experiments, "experiment")
    stages = project.pipeline.stages(experiment)
    _known(stage, stages, f"stage of {experiment}")
    _known(arm, project.arms(experiment), f"arm of {experiment}")
    from reprise.stages.train import train_here

    train_here(project, experiment, stages[stages.index(stage)], arm, seed, typer.echo)  # type: ignore[arg-type]


@app.command()
def evaluate(experiment: Experiment, overrides: Overrides = None) -> None:
    """Score the trained runs, judge the claims, write results/<experiment>/, print the verdicts."""
    project = _project(overrides, papers=[experiment])
    _known(experiment, project.pipeline.evaluate, "experiment with an evaluate stage")
    from reprise.stages.evaluate import evaluate as run

    run(project, experiment)
    _print_verdicts(project, [experiment])


@app.command()
def verdicts(
    experiments: Annotated[list[str] | None, typer.Argument(help="Keys of `experiments`; all unless given")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As results/README.md has them")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="As README.md has them")] = False,
) -> None:
    """The verdicts of every experiment that has results, with their intervals."""
    project = _project(papers=())
    for experiment in experiments or ():
        _known(experiment, project.pipeline.experiments, "experiment")
    asked = [key for key in experiments or project.pipeline.evaluate if _verdicts(project.root, key)]
    _print_verdicts(project, asked, "page" if markdown else "summary" if summary else "table")


@app.command()
def report() -> None:
    """Write reports/index.html from results/."""
    from reprise.stages.report import report as run

    run(_project(papers=()), typer.echo)


def _train(experiment: str, stage: Stage, overrides: list[str] | None) -> None:
    project = _project(overrides, papers=[experiment])
    _known(experiment, getattr(project.pipeline, stage), f"experiment with a {stage} stage")
    from reprise.stages.train import train

    train(project, experiment, stage, typer.echo)


def _print_config(project: Project, experiment: str, arm: str | None) -> None:
    """Every resolved value, and where it was written."""
    origins = project.origins(experiment, arm)
    lines = [
        (f"{'.'.join(map(str, path))}: {json.dumps(value)}", origins.get(path))
        for path, value in _leaves(project.resolve(experiment, arm))
    ]
    left = max(len(line) for line, _ in lines)
    for line, origin in lines:
        typer.echo(f"{line:<{left}}  # {origin}" if origin else line)


def _print_verdicts(
    project: Project, experiments: Sequence[str], form: Literal["table", "page", "summary"] = "table"
) -> None:
    from rich.console import Console

    from reprise.core.results import read_verdicts, verdict_markdown, verdict_summary, verdict_table

    folders = {experiment: project.root / "results" / experiment for experiment in experiments}
    found = {experiment: read_verdicts(folder) for experiment, folder in folders.items()}
    if form == "table":
        Console(width=None if sys.stdout.isatty() else 140).print(verdict_table(found))
    elif form == "page":
        typer.echo(verdict_markdown(found))
    else:
        years = {experiment: project.pipeline.experiments[experiment].year for experiment in experiments}
        typer.echo(verdict_summary(found, years))


def _verdicts(root: Path, experiment: str) -> dict[str, str]:
    path = root / "results" / experiment / "claims.json"
    if not path.exists():
        return {}
    return {name: claim["verdict"] for name, claim in json.loads(path.read_text()).items()}


def _project(
    overrides: list[str] | None = None,
    scale: str | None = None,
    experiment: str | None = None,
    papers: Collection[str] | None = None,
) -> Project:
    return load(_root(), overrides or [], scale=scale, experiment=experiment, papers=papers)


def _checked(overrides: list[str] | None = None) -> Project:
    """Every paper without a mistake: those that were so before and are as they were, and the others, checked now."""
    project = load(_root(), overrides or [], papers=unchecked)
    remember(project.reading)
    return project


def _root() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").exists() and (folder / "pipeline.yaml").exists():
            return folder
    raise UsageError("no params.yaml and pipeline.yaml here, nor in any folder above: run reprise in a project")


def _known(word: str, words: Collection[str], what: str) -> None:
    if word not in words:
        nearest = difflib.get_close_matches(word, list(words), 1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are: {', '.join(words)}"
        raise UsageError(f"no {what} is called {word!r}; {hint}")


def _leaves(tree: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    if isinstance(tree, dict) and tree:
        return [leaf for key, value in tree.items() for leaf in _leaves(value, (*path, key))]
    return [(path, tree)]


def _stop(message: str, status: int) -> None:
    typer.echo(message, err=True)
    raise SystemExit(status)
