"""Commands besides the stages: compare, sweep, trial, power, doctor."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reprise.commands import completion
from reprise.commands.options import ArmOption, Experiment, Json, Overrides, print_lines, width
from reprise.commands.project import (
    UsageError,
    check_known,
    check_project,
    find_root,
    find_root_if_any,
    open_project,
)

if TYPE_CHECKING:
    from reprise.core.config.project import Project

Side = typer.Argument(
    help="Git revision, DVC experiment, or . for the working tree", autocompletion=completion.revisions
)


def compare(
    before: Annotated[str, Side],
    after: Annotated[str, Side] = ".",
    experiments: Annotated[
        list[str] | None,
        typer.Option(
            "--experiment", "-e", help="Only this one; may be repeated", autocompletion=completion.experiments
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also metrics whose change is within the noise")] = False,
    as_json: Json = False,
) -> None:
    """Show what changed between two revisions or experiments.

    In YAML, metrics and verdicts, with intervals. Nothing is checked out: git provides the contents of each side.
    """
    from reprise.commands.compare import compare as run
    from reprise.commands.comparison_text import lines

    root = find_root()
    found = run(root, before, after, experiments)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    else:
        print_lines(lines(found, everything))


def sweep(
    experiment: Experiment,
    overrides: Overrides = None,
    knobs: Annotated[
        list[str] | None,
        typer.Option("--knob", help="Such as 'optimizer.lr=[0.1, 0.2]', or W&B's {min: …, max: …}; may be repeated"),
    ] = None,
    arm: ArmOption = None,
    metric: Annotated[str | None, typer.Option(help="The first on validation data by default")] = None,
    method: Annotated[str | None, typer.Option(help="grid, random or bayes")] = None,
    output: Annotated[str | None, typer.Option(help="sweeps/<experiment>-<arm>.yaml by default; - prints it")] = None,
) -> None:
    """Write a W&B sweep over knobs of one arm.

    Each of its trials is a `reprise trial`, which runs the same stages as `dvc repro`.
    """
    from reprise.commands.sweep import open_for_arm, parse_knob, save, sweep_file

    if not knobs:
        raise UsageError(
            "no --knob was given; expected one such as 'optimizer.lr=[0.1, 0.2]', or with W&B's {min: …, max: …}"
        )
    plain = open_project(papers=[experiment])
    arm = _arm(plain, experiment, arm)
    project = open_for_arm(plain.root, overrides or [], experiment, arm)
    if project.params.tracking.wandb == "off":
        typer.echo("params.yaml has tracking.wandb: off; W&B receives no trials until that is changed", err=True)
    text = sweep_file(project, experiment, arm, [parse_knob(knob) for knob in knobs], metric, method, overrides or [])
    if output == "-":
        typer.echo(text, nl=False)
        return
    path = Path(output) if output else project.root / "sweeps" / f"{experiment}-{arm}.yaml"
    save(path, text)
    shown = os.path.relpath(path)
    started = "prints the `wandb agent …` to start, on as many machines as you like"
    typer.echo(f"{shown}\nwandb sweep {shlex.quote(shown)}    # {started}")


def trial(
    experiment: Experiment,
    overrides: Overrides = None,
    arm: ArmOption = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", min=0, max=2**32 - 1, help="100 by default; may be repeated")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train and evaluate one arm on a tuning seed.

    This leaves models/ and results/ unchanged.
    """
    from reprise.commands.sweep import TUNING_SEED, log_trial, open_for_arm
    from reprise.commands.sweep import trial as run

    plain = open_project(papers=[experiment])
    arm = _arm(plain, experiment, arm)
    project = open_for_arm(plain.root, overrides or [], experiment, arm)
    # Progress goes to standard error where standard output is to be JSON.
    found = run(project, experiment, arm, seeds or [TUNING_SEED], lambda text: typer.echo(text, err=as_json))
    log_trial(project, experiment, arm, found)
    if as_json:
        typer.echo(json.dumps({"metrics": found.metrics, "failures": found.failures}, indent=1))
        return
    print_lines(f"{name}: {value:.6g}" for name, value in found.metrics.items())
    print_lines(f"{name} diverged: {reason}" for name, reason in found.failures.items())


def power(
    experiment: Experiment,
    overrides: Overrides = None,
    runs: Annotated[int, typer.Option(help="Runs of each arm in the pilot, on seeds from 100 up")] = 4,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Use results/ on seeds below the judged ones as the pilot")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Write the seeds into the claims of the paper's YAML")] = False,
    as_json: Json = False,
) -> None:
    """Estimate how many seeds each claim needs, and the cost.

    The pilot runs on tuning seeds and leaves models/ and results/ unchanged.
    """
    from reprise.commands.power import lines
    from reprise.commands.power import power as run
    from reprise.commands.power import write as put

    project = open_project(overrides, experiment=experiment, papers=[experiment])
    check_known(experiment, project.pipeline.evaluate, "experiment with an evaluate stage")
    rows = run(project, experiment, runs, overrides or [], lambda text: typer.echo(text, err=True), reuse=reuse)
    if as_json:
        typer.echo(json.dumps({row.claim: row.as_json() for row in rows}, indent=1, ensure_ascii=False))
    else:
        print_lines(lines(rows, experiment, runs, width()))
    if write:
        print_lines(put(project, experiment, rows))


def doctor(as_json: Json = False) -> None:
    """Check this machine and project, and give advice.

    Exits with 1 if something would stop a run.
    """
    from reprise.commands.doctor import Doctor, report
    from reprise.commands.doctor import as_json as in_json
    from reprise.commands.status_line import Waiting

    root = find_root_if_any()
    with Waiting("doctor", root):
        findings = Doctor(root, check_project).findings()
    if as_json:
        typer.echo(in_json(findings))
    else:
        print_lines(report(findings))
    if any(one.status == "fail" for one in findings):
        raise typer.Exit(1)


def _arm(project: Project, experiment: str, arm: str | None) -> str:
    """Return `arm`, or the first arm of `experiment`."""
    check_known(experiment, project.pipeline.evaluate, "experiment with an evaluate stage")
    arms = project.arms(experiment)
    check_known(arm or arms[0], arms, f"arm of {experiment}")
    return arm or arms[0]
