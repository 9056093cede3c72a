"""Commands that write into the project: new, schema, site, card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reprise.commands import completion
from reprise.commands.options import Experiment
from reprise.commands.project import UsageError, check_known, check_suffix, open_project


def new(
    key: Annotated[str, typer.Argument(help="Key for its files: lower-case letters, digits and _")],
    title: Annotated[str | None, typer.Option(help="Title of the paper")] = None,
    authors: Annotated[str | None, typer.Option(help="Surnames, separated by commas")] = None,
    year: Annotated[int | None, typer.Option(help="Year of publication", min=1940)] = None,
    venue: Annotated[str | None, typer.Option(help="Journal or conference")] = None,
    link: Annotated[str | None, typer.Option(help="Link to the paper")] = None,
    family: Annotated[str, typer.Option(help="Group of the paper", autocompletion=completion.families)] = "foundations",
    data: Annotated[str, typer.Option(help="Dataset with digits", autocompletion=completion.datasets)] = "small_images",
) -> None:
    """Create the four files of a new paper.

    They work as they are: a small experiment on digits. Passages for you to write are marked, and `validate` lists
    them.
    """
    from reprise.commands.new import Paper, write

    project = open_project(papers=())
    known = {"title": title, "authors": authors, "year": year, "venue": venue, "link": link}
    said: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
    for path in write(project, Paper(key, **said, family=family, data=data)):
        typer.echo(path.relative_to(project.root))
    wide = len(f"dvc repro evaluate@{key}")
    typer.echo(f"""
They are a working example, with TO WRITE at each passage for you to fill in.
  {"reprise validate":<{wide}}  lists these passages
  {f"pytest -k {key}":<{wide}}  tests it
  {f"dvc repro evaluate@{key}":<{wide}}  runs it""")


def schema() -> None:
    """Write schemas/, which editors use to complete and check YAML."""
    from reprise.core.config.schema import write

    for path in write(open_project().root):
        typer.echo(path)


def site(
    address: Annotated[
        str, typer.Option(help="Where it will be, as in https://example.org/reprise; link previews need it")
    ] = "",
) -> None:
    """Write site/: the page and the docs as one folder, for any host.

    All links are relative, and nothing is loaded from other servers.
    """
    from reprise.commands.status_line import Waiting
    from reprise.stages.site import site as run

    if address and not address.startswith(("https://", "http://")):
        raise UsageError(f"--address is {address}; expected one that begins with https:// or http://")
    project = open_project(papers=())
    with Waiting("site", project.root) as waiting:
        run(project, address, waiting.echo)


def card(
    experiment: Experiment,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A .png; <experiment>.png by default")] = None,
) -> None:
    """Draw a paper's card to share.

    A picture of 1200 × 630: what was trained, what was claimed, and what became of it.
    """
    project = open_project(papers=[])
    check_known(experiment, project.papers, "experiment")
    path = out or Path(f"{experiment}.png")
    check_suffix(path, ".png", "a card is a picture")
    from reprise.stages.page.cards import card_of
    from reprise.stages.page.share_card import write

    write(card_of(project, experiment), path)
    typer.echo(path)
