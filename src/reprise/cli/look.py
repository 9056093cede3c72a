"""Commands that show something: list, show, verdicts, plan, validate."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reprise.commands import completion
from reprise.commands.options import Experiment, Experiments, Json, Overrides, ScaleOption, print_lines, width
from reprise.commands.project import (
    UsageError,
    check_all,
    check_known,
    check_project,
    find_root,
    open_catalogue,
    open_project,
)

if TYPE_CHECKING:
    from reprise.core.config.project import Project


VERDICTS = "reproduced, reproduced by an earlier rule, weaker, refuted, inconclusive, not run"


def list_(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Experiments, or words from title, authors, venue or year", autocompletion=completion.experiments
        ),
    ] = None,
    family: Annotated[str | None, typer.Option(help="Family of papers", autocompletion=completion.families)] = None,
    data: Annotated[
        str | None, typer.Option(help="Dataset that the papers use", autocompletion=completion.datasets)
    ] = None,
    verdict: Annotated[
        str | None,
        typer.Option(help=f"Verdict of at least one claim: {VERDICTS}"),
    ] = None,
    claims: Annotated[
        bool, typer.Option("--claims", help="Also show arms and claims; the default for one experiment")
    ] = False,
    as_json: Json = False,
) -> None:
    """List experiments and their results.

    Oldest first; several filters must all match.
    """
    from reprise.commands.listing import Filters, mistyped, rows, table

    catalogue = open_catalogue()
    found = rows(find_root(), catalogue, Filters(words or [], family, data, verdict))
    details = claims or verdict is not None or len(found) == 1
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    elif not found:
        typer.echo("no experiment matches all of these; `reprise list` shows every one")
    else:
        print_lines(table(found, details, width()))
        for hint in mistyped(catalogue, words or []):
            typer.echo(hint, err=True)


def show(
    experiment: Experiment,
    overrides: Overrides = None,
    arm: Annotated[
        str | None,
        typer.Option(help="Resolve this arm; without it, what all arms share", autocompletion=completion.arms),
    ] = None,
    scale: ScaleOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the resolved configuration, as JSON")] = False,
) -> None:
    """Show the knobs of an experiment, and the line each comes from."""
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
    markdown: Annotated[bool, typer.Option("--markdown", help="In the form of results/README.md")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="In the form of README.md")] = False,
    as_json: Json = False,
) -> None:
    """Show claims with estimates, intervals and margins."""
    project = open_project(papers=())
    for experiment in experiments or ():
        check_known(experiment, project.papers, "experiment")
    asked = [key for key in experiments or project.pipeline.evaluate if _evaluated(project, key)]
    _tell_of_those_without(project, [key for key in experiments or () if key not in asked], asked)
    form = "json" if as_json else "page" if markdown else "summary" if summary else "lines"
    print_verdicts(project, asked, form)


def plan(
    experiment: Experiment,
    overrides: Overrides = None,
    arm: Annotated[str | None, typer.Option(help="Only this arm; all by default")] = None,
    scale: ScaleOption = None,
    utilisation: Annotated[float, typer.Option(help="Assumed share of a device's peak rate")] = 0.35,
    config: Annotated[bool, typer.Option("--config", help="Also show the knobs, like `reprise show`")] = False,
    as_json: Json = False,
) -> None:
    """Estimate the cost of training, without training.

    Parameters, FLOPs, memory, downloads, and hours on named devices.
    """
    if not 0 < utilisation <= 1:
        raise UsageError(f"--utilisation is {utilisation:g}; expected a share above 0 and at most 1")
    project = open_project(overrides, scale, experiment, papers=[experiment])
    check_known(experiment, project.papers, "experiment")
    if arm is not None:
        check_known(arm, project.arms(experiment), f"arm of {experiment}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # else an arm that starts from published weights would download them
    from reprise.commands.status_line import Waiting

    title = f"plan {experiment} at scale {project.params.scale}"
    with Waiting(title, project.root) as waiting:
        from reprise.stages.plan import plan as run
        from reprise.stages.plan import tables

        def say(step: str) -> None:
            waiting.title = f"{title}, {step}"

        found = run(project, experiment, [arm] if arm else project.arms(experiment), utilisation, say)
        waiting.title = title  # the key under which its duration is stored
    if as_json:
        typer.echo(json.dumps({"config": project.resolve(experiment, arm), **found}, indent=1))
        return
    if config:
        print_lines([*_config_lines(project, experiment, arm), ""])
    from rich.console import Console

    Console(width=width()).print(tables(found))


def validate(overrides: Overrides = None, as_json: Json = False) -> None:
    """Check all YAML, every arm at every scale; change nothing.

    Passages that `reprise new` left for you to write are listed too. They are not mistakes.
    """
    from reprise.commands.unwritten import unwritten
    from reprise.core.config.yaml import ConfigError

    try:
        papers = check_project(overrides).papers if overrides else check_all().papers
    except ConfigError as error:
        if not as_json:
            raise
        found = [{**one.mark._asdict(), "path": one.path, "message": one.message} for one in error.problems]
        typer.echo(json.dumps({"problems": found}, indent=1))
        # The same status as without --json.
        raise typer.Exit(2) from error
    passages = unwritten(find_root())
    claims = sum(len(paper.claims) for paper in papers.values())
    if as_json:
        said = [{**one.mark._asdict(), "path": one.path, "message": one.message} for one in passages]
        content = {"problems": [], "to_write": said, "experiments": len(papers), "claims": claims}
        typer.echo(json.dumps(content, indent=1))
    else:
        print_lines(f"warning: {passage}" for passage in passages)
        typer.echo(f"{len(papers)} experiments, {claims} claims: all valid at smoke, laptop, paper")
        if passages:
            unfinished = len({Path(passage.mark.file).stem for passage in passages})
            typer.echo("1 paper has" if unfinished == 1 else f"{unfinished} papers have", nl=False)
            typer.echo(" passages to write")


def _config_lines(project: Project, experiment: str, arm: str | None) -> Iterator[str]:
    """Yield every resolved value with the place where it was written."""
    from reprise.commands.knobs import beside, values

    return beside(values(project, experiment, arm), width())


def print_verdicts(
    project: Project, experiments: Sequence[str], form: Literal["lines", "page", "summary", "json"] = "lines"
) -> None:
    """Print the verdicts of all `experiments` that were evaluated, in the given form."""
    from reprise.commands.listing import not_run, verdict_lines
    from reprise.core.verdicts.listings import verdict_markdown, verdict_summary
    from reprise.core.verdicts.multiplicity import q_values
    from reprise.core.verdicts.results import core_seconds, read_verdicts

    # The q of a claim depends on all claims of the project, not only on those asked for.
    catalogue = {
        key: read_verdicts(project.results_folder(key)) for key in project.pipeline.evaluate if _evaluated(project, key)
    }
    found = {key: catalogue[key] for key in experiments}
    if form == "lines":
        years = {key: project.papers[key].year for key in experiments}
        in_order = {key: found[key] for key in sorted(found, key=lambda key: years[key])}  # like `reprise list`
        judged = {key: {n: one for n, one in c.items() if one.verdict != "not run"} for key, c in in_order.items()}
        if any(judged.values()):
            shown = {key: claims for key, claims in judged.items() if claims}
            print_lines(verdict_lines(shown, catalogue, width()))
        print_lines(not_run(in_order, width()))
    elif form == "json":
        q = q_values(catalogue)
        plain = {
            key: {name: {**one.as_json(), "q": q.get((key, name))} for name, one in claims.items()}
            for key, claims in found.items()
        }
        typer.echo(json.dumps(plain, indent=1, ensure_ascii=False))
    else:
        own = {key: project.results_folder(key, "paper") for key in found if project.params.scale != "paper"}
        whole = {key: read_verdicts(folder) for key, folder in own.items() if (folder / "claims.json").exists()}
        if form == "page":
            typer.echo(verdict_markdown(found, project.papers, whole))
        else:
            spent = {key: core_seconds(project.results_folder(key)) for key in found}
            typer.echo(verdict_summary(found, project.papers, spent, whole))


def _tell_of_those_without(project: Project, lacking: Sequence[str], asked: Sequence[str]) -> None:
    """Report which papers have no verdicts yet, and the command to get them.

    Raises:
        Failed: there are none to show.
    """
    from reprise.core.contract import Failed

    if not asked and not lacking:
        first = next(iter(project.pipeline.evaluate), "…")
        raise Failed(f"no experiment has been evaluated; start with `dvc repro evaluate@{first}`")
    commands = " ".join(f"evaluate@{key}" for key in lacking)
    said = f"not evaluated: {', '.join(lacking)}; run `dvc repro {commands}`"
    if not asked:
        raise Failed(said)
    if lacking:
        typer.echo(said, err=True)


def _evaluated(project: Project, experiment: str) -> bool:
    return (project.results_folder(experiment) / "claims.json").exists()
