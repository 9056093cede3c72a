"""The stages, called by `dvc repro`."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from reprise.cli.look import print_verdicts
from reprise.commands.options import Arm, ArmsOption, Dataset, Experiment, Overrides, StageName, Table
from reprise.commands.project import check_known, check_links, check_project, open_project

if TYPE_CHECKING:
    from reprise.core.config.project import Project
    from reprise.core.contract import Stage


def source() -> None:
    """Check the YAML, then write the files that DVC watches.

    They hold each stage's knobs and the hash of its code.
    """
    from reprise.core.run.run_store import adopt
    from reprise.stages.dvc_deps import other_code, write_all

    project = check_project()
    if others := other_code(project):
        typer.echo(
            f"warning: the code of {', '.join(others)} runs in its current state, not as it was when queued", err=True
        )
    write_all(project)
    if found := adopt(project.root):
        typer.echo(f"source: {found} run(s) in models/ come from elsewhere and need not be trained here")


def prepare(dataset: Dataset, overrides: Overrides = None) -> None:
    """Fetch, check and prepare a dataset into data/prepared/."""
    project = open_project(overrides, papers=())
    check_known(dataset, project.datasets, "dataset")
    check_links(project.root, "data")
    from reprise.commands.status_line import Waiting
    from reprise.stages.prepare import prepare as run

    parts = project.datasets[dataset].parts_at(project.params.scale)
    try:
        with Waiting(f"prepare {dataset}", project.root, len(parts)) as waiting:
            run(project, dataset, waiting.echo)
    except ValueError as error:
        from reprise.core.contract import Failed

        raise Failed(str(error)) from error
    users = [key for key, stage in project.pipeline.pretrain.items() if stage.data == dataset]
    if _in_dvc() and len(users) > 1:
        # DVC does not tell for which of them it prepares the dataset.
        typer.echo(f"next stage: dvc repro pretrain@..., of {len(users)} papers (reprise list --data {dataset})")
    elif users:
        # By hand one suggestion is enough.
        _tell_next("pretrain", users[0], overrides)


def tabulate(table: Table, overrides: Overrides = None) -> None:
    """Train every network of a table in which searches look up results.

    Finished trainings are kept: if it is stopped, the same command resumes it.
    """
    project = open_project(overrides, papers=())
    check_known(table, project.pipeline.tables, "table")
    from reprise.stages.tabulate import tabulate as run

    run(project, table, typer.echo)
    typer.echo(f"next: sha256sum tables/{table}.csv, for datasets/{project.pipeline.tables[table].part_of}.yaml")


def pretrain(experiment: Experiment, overrides: Overrides = None, arms: ArmsOption = None) -> None:
    """Train the arms × seeds of the first stage."""
    _train(experiment, "pretrain", overrides, arms or [])


def finetune(experiment: Experiment, overrides: Overrides = None, arms: ArmsOption = None) -> None:
    """Train the second stage, from the weights of the first."""
    _train(experiment, "finetune", overrides, arms or [])


def run(
    experiment: Experiment,
    stage: StageName,
    arm: Arm,
    seed: int,
    overrides: Overrides = None,
) -> None:
    """Train one run in this process.

    For torchrun and SLURM, which start it once per device.
    """
    project = open_project(overrides, experiment=experiment, papers=[experiment])
    check_known(experiment, project.papers, "experiment")
    stages = project.pipeline.stages(experiment)
    check_known(stage, stages, f"stage of {experiment}")
    check_known(arm, project.arms(experiment), f"arm of {experiment}")
    seeds = project.resolve(experiment, arm)["seeds"]
    check_known(str(seed), [str(each) for each in seeds], f"seed of {experiment}/{arm}")
    from reprise.stages.train import train_here

    train_here(project, experiment, stages[stages.index(stage)], arm, seed, typer.echo)  # type: ignore[arg-type]


def evaluate(experiment: Experiment, overrides: Overrides = None, arms: ArmsOption = None) -> None:
    """Score the trained runs, judge the claims, and write results/."""
    project = open_project(overrides, experiment=experiment, papers=[experiment])
    check_known(experiment, project.pipeline.evaluate, "experiment with an evaluate stage")
    _check_arms(project, experiment, arms or [])
    from reprise.stages.evaluate import evaluate as run

    check_links(project.root, "results")
    run(project, experiment, arms or [])
    print_verdicts(project, [experiment])
    typer.echo("next stage: dvc repro report" if _in_dvc() else "next: reprise report --open")


def report(show: Annotated[bool, typer.Option("--open", help="Open it in the browser afterwards")] = False) -> None:
    """Write reports/, a folder of web pages, from results/."""
    from reprise.commands.status_line import Waiting
    from reprise.stages.report import report as run

    project = open_project(papers=())
    with Waiting("report", project.root) as waiting:
        page = run(project, waiting.echo)
    if not show:
        typer.echo("next: open reports/index.html in a browser; edit a knob (docs/change-a-knob.md)")
        return
    import webbrowser

    if not webbrowser.open(page.as_uri()):
        typer.echo("no browser found: open reports/index.html yourself", err=True)


def _check_arms(project: Project, experiment: str, arms: list[str]) -> None:
    for arm in arms:
        check_known(arm, project.arms(experiment), f"arm of {experiment}")


def _train(experiment: str, stage: Stage, overrides: list[str] | None, arms: list[str]) -> None:
    project = open_project(overrides, experiment=experiment, papers=[experiment])
    check_known(experiment, getattr(project.pipeline, stage), f"experiment with a {stage} stage")
    _check_arms(project, experiment, arms)
    check_links(project.root, "models")
    from reprise.stages.train import train

    train(project, experiment, stage, typer.echo, arms)
    later = [*project.pipeline.stages(experiment), "evaluate"]
    _tell_next(later[later.index(stage) + 1], experiment, overrides, arms)


def _tell_next(stage: str, experiment: str, overrides: list[str] | None = None, arms: list[str] | None = None) -> None:
    """Tell the stage that follows, by the command that the user is at."""
    # DVC may go on to it by itself, or may have been asked for one stage: it does not tell the stage which.
    if _in_dvc():
        typer.echo(f"next stage: dvc repro {stage}@{experiment}")
    else:
        chosen = [shlex.quote(word) for word in overrides or []] + [f"--arm {arm}" for arm in arms or []]
        typer.echo(" ".join([f"next: reprise {stage} {experiment}", *chosen]))


def _in_dvc() -> bool:
    return "DVC_STAGE" in os.environ
