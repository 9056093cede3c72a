"""Commands that look: list, show, verdicts, plan, validate."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reprise.commands import completion
from reprise.commands.options import Experiment, Experiments, Json, Overrides, ScaleOption, print_lines, width
from reprise.commands.project import UsageError, check_known, check_project, open_project

if TYPE_CHECKING:
    from reprise.core.config.project import Project


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

    found = rows(open_project(papers=()), Filters(words or [], family, data, verdict))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    elif not found:
        typer.echo("no experiment agrees with all of that; `reprise list` shows them all")
    else:
        details = claims or verdict is not None or len(found) == 1
        print_lines(table(found, details, width()))


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
    project = open_project(overrides, scale, experiment, papers=[experiment])
    check_known(experiment, project.papers, "experiment")
    if arm is not None:
        check_known(arm, project.arms(experiment), f"arm of {experiment}")
    if as_json:
        typer.echo(json.dumps(project.resolve(experiment, arm), indent=1))
        return
    print_lines(_config_lines(project, experiment, arm))


def verdicts(
    experiments: Experiments = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As results/README.md has them")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="As README.md has them")] = False,
    as_json: Json = False,
) -> None:
    """Claims, each with estimate, interval and margin."""
    project = open_project(papers=())
    for experiment in experiments or ():
        check_known(experiment, project.papers, "experiment")
    asked = [key for key in experiments or project.pipeline.evaluate if _evaluated(project, key)]
    _tell_of_those_without(project, [key for key in experiments or () if key not in asked], asked)
    form = "json" if as_json else "page" if markdown else "summary" if summary else "table"
    print_verdicts(project, asked, form)


def plan(
    experiment: Experiment,
    overrides: Overrides = None,
    arm: Annotated[str | None, typer.Option(help="This arm alone; without it, all of them")] = None,
    scale: ScaleOption = None,
    utilisation: Annotated[float, typer.Option(help="Share of its peak that a device is assumed to reach")] = 0.35,
    config: Annotated[bool, typer.Option("--config", help="Also the knobs, as `reprise show` has them")] = False,
    as_json: Json = False,
) -> None:
    """What training would take, train nothing.

    Parameters, FLOPs, memory, downloads, and hours on named devices.
    """
    if not 0 < utilisation <= 1:
        raise UsageError(f"--utilisation is {utilisation:g}; expected a share above 0, at most 1")
    project = open_project(overrides, scale, experiment, papers=[experiment])
    check_known(experiment, project.papers, "experiment")
    if arm is not None:
        check_known(arm, project.arms(experiment), f"arm of {experiment}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # an arm that starts from published weights would fetch them
    from reprise.commands.status_line import Waiting

    title = f"plan {experiment} at scale {project.params.scale}"
    with Waiting(title, project.root) as waiting:
        from reprise.stages.plan import plan as run
        from reprise.stages.plan import tables

        def say(step: str) -> None:
            waiting.title = f"{title}, {step}"

        found = run(project, experiment, [arm] if arm else project.arms(experiment), utilisation, say)
        waiting.title = title  # under which its duration is kept
    if as_json:
        typer.echo(json.dumps({"config": project.resolve(experiment, arm), **found}, indent=1))
        return
    if config:
        print_lines([*_config_lines(project, experiment, arm), ""])
    from rich.console import Console

    Console(width=width()).print(tables(found))


def validate(overrides: Overrides = None, as_json: Json = False) -> None:
    """Check all YAML, every arm at every scale; change nothing.

    Passages that `reprise new` left to write are named; they are no mistakes, and the papers run.
    """
    from reprise.commands.unwritten import unwritten
    from reprise.core.config.yaml import ConfigError
    from reprise.core.contract import SCALES

    try:
        project = check_project(overrides)
    except ConfigError as error:
        if not as_json:
            raise
        found = [{**vars(one.mark), "path": one.path, "message": one.message} for one in error.problems]
        typer.echo(json.dumps({"problems": found}, indent=1))
        raise typer.Exit(2) from error
    papers, passages = project.papers, unwritten(project.root)
    claims = sum(len(paper.claims) for paper in papers.values())
    if as_json:
        said = [{**vars(one.mark), "path": one.path, "message": one.message} for one in passages]
        content = {"problems": [], "to_write": said, "experiments": len(papers), "claims": claims}
        typer.echo(json.dumps(content, indent=1))
    else:
        print_lines(f"warning: {passage}" for passage in passages)
        typer.echo(f"{len(papers)} experiments, {claims} claims: all valid at {', '.join(SCALES)}")
        if passages:
            unfinished = len({Path(passage.mark.file).stem for passage in passages})
            typer.echo("1 paper has" if unfinished == 1 else f"{unfinished} papers have", nl=False)
            typer.echo(" passages to write")


def _config_lines(project: Project, experiment: str, arm: str | None) -> Iterator[str]:
    """Every resolved value, and where it was written."""
    from reprise.commands.listing import beside, values

    return beside(values(project, experiment, arm), width())


def print_verdicts(
    project: Project, experiments: Sequence[str], form: Literal["table", "page", "summary", "json"] = "table"
) -> None:
    """Of all `experiments` that were evaluated, in the form that is asked for."""
    from rich.console import Console

    from reprise.commands.listing import not_run
    from reprise.core.verdicts.listings import verdict_markdown, verdict_summary, verdict_table
    from reprise.core.verdicts.multiplicity import q_values
    from reprise.core.verdicts.results import core_seconds, read_verdicts

    catalogue = {
        key: read_verdicts(project.results_folder(key)) for key in project.pipeline.evaluate if _evaluated(project, key)
    }
    found = {key: catalogue[key] for key in experiments}
    if form == "table":
        years = {key: project.papers[key].year for key in experiments}
        in_order = {key: found[key] for key in sorted(found, key=lambda key: years[key])}  # as `reprise list`
        judged = {key: {n: one for n, one in c.items() if one.verdict != "not run"} for key, c in in_order.items()}
        if any(judged.values()):
            shown = {key: claims for key, claims in judged.items() if claims}
            Console(width=width()).print(verdict_table(shown, catalogue))
        print_lines(not_run(in_order, width()))
    elif form == "page":
        typer.echo(verdict_markdown(found))
    elif form == "json":
        q = q_values(catalogue)
        plain = {
            key: {name: {**one.as_json(), "q": q.get((key, name))} for name, one in claims.items()}
            for key, claims in found.items()
        }
        typer.echo(json.dumps(plain, indent=1, ensure_ascii=False))
    else:
        spent = {key: core_seconds(project.results_folder(key)) for key in found}
        own = {key: project.results_folder(key, "paper") for key in found if project.params.scale != "paper"}
        whole = {key: read_verdicts(folder) for key, folder in own.items() if (folder / "claims.json").exists()}
        typer.echo(verdict_summary(found, project.papers, spent, whole))


def _tell_of_those_without(project: Project, lacking: Sequence[str], asked: Sequence[str]) -> None:
    """Say which papers have no verdicts yet, and what gives them some; Failed if there is no other to show."""
    from reprise.core.contract import Failed

    if not asked and not lacking:
        first = next(iter(project.pipeline.evaluate), "…")
        raise Failed(f"no experiment has been evaluated; as in `dvc repro evaluate@{first}`")
    commands = " ".join(f"evaluate@{key}" for key in lacking)
    said = f"not evaluated: {', '.join(lacking)}; `dvc repro {commands}` does that"
    if not asked:
        raise Failed(said)
    if lacking:
        typer.echo(said, err=True)


def _evaluated(project: Project, experiment: str) -> bool:
    return (project.results_folder(experiment) / "claims.json").exists()
