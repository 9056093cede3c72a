"""Commands that write into the project: new, schema."""

from __future__ import annotations

from typing import Annotated

import typer

from reprise.commands import completion
from reprise.commands.project import open_project


def new(
    key: Annotated[str, typer.Argument(help="Names its files and sections: lower-case letters, digits and _")],
    title: Annotated[str, typer.Option(help="Of the paper")] = "Title of the paper",
    authors: Annotated[str, typer.Option(help="Surnames, with commas between")] = "Author, Other",
    year: Annotated[int, typer.Option(help="Of publication", min=1940)] = 2026,
    venue: Annotated[str, typer.Option(help="Journal or conference")] = "Venue",
    link: Annotated[str, typer.Option(help="To the paper")] = "https://arxiv.org/",
    family: Annotated[
        str, typer.Option(help="How papers are grouped", autocompletion=completion.families)
    ] = "foundations",
    data: Annotated[
        str, typer.Option(help="A dataset with digits in it", autocompletion=completion.datasets)
    ] = "small_images",
) -> None:
    """Write the four files of a new paper.

    They pass all checks as they are: a small experiment on digits, to be written over.
    """
    from reprise.commands.new import Paper, write

    project = open_project(papers=())
    for path in write(project, Paper(key, title, authors, year, venue, link, family, data)):
        typer.echo(path.relative_to(project.root))
    typer.echo(f"\nWrite the paper over them. `pytest -k {key}` tests it, `dvc repro evaluate@{key}` runs it.")


def schema() -> None:
    """Write schemas/, by which editors complete and check YAML."""
    from reprise.core.config.schema import write

    for path in write(open_project().root):
        typer.echo(path)
