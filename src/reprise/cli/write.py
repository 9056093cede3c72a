"""Commands that write into the project: new, schema, site."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from reprise.commands import completion
from reprise.commands.project import open_project


def new(
    key: Annotated[str, typer.Argument(help="Names its files and sections: lower-case letters, digits and _")],
    title: Annotated[str | None, typer.Option(help="Of the paper")] = None,
    authors: Annotated[str | None, typer.Option(help="Surnames, with commas between")] = None,
    year: Annotated[int | None, typer.Option(help="Of publication", min=1940)] = None,
    venue: Annotated[str | None, typer.Option(help="Journal or conference")] = None,
    link: Annotated[str | None, typer.Option(help="To the paper")] = None,
    family: Annotated[
        str, typer.Option(help="How papers are grouped", autocompletion=completion.families)
    ] = "foundations",
    data: Annotated[
        str, typer.Option(help="A dataset with digits in it", autocompletion=completion.datasets)
    ] = "small_images",
) -> None:
    """Write the four files of a new paper.

    They run as they are: a small experiment on digits. What they leave to write is marked, and `validate` lists it.
    """
    from reprise.commands.new import Paper, write

    project = open_project(papers=())
    known = {"title": title, "authors": authors, "year": year, "venue": venue, "link": link}
    said: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
    for path in write(project, Paper(key, **said, family=family, data=data)):
        typer.echo(path.relative_to(project.root))
    wide = len(f"dvc repro evaluate@{key}")
    typer.echo(f"""
They are a working example, with TO WRITE at each passage that is yours.
  {"reprise validate":<{wide}}  lists these passages
  {f"pytest -k {key}":<{wide}}  tests it
  {f"dvc repro evaluate@{key}":<{wide}}  runs it""")


def schema() -> None:
    """Write schemas/, by which editors complete and check YAML."""
    from reprise.core.config.schema import write

    for path in write(open_project().root):
        typer.echo(path)


def site() -> None:
    """Write site/: the page and the docs as one folder, for any host.

    Every link in it is relative; it needs no server of its own and asks no other for anything.
    """
    from reprise.commands.status_line import Waiting
    from reprise.stages.site import site as run

    project = open_project(papers=())
    with Waiting("site", project.root) as waiting:
        run(project, waiting.echo)
