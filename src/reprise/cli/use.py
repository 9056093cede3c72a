"""`reprise try` and `reprise export`: what was trained, used and given away."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from reprise.commands import completion
from reprise.commands.options import Experiment, Json, print_lines
from reprise.commands.project import check_known, open_project

FORMATS = ("onnx", "torch")


class HelpOfKinds(TyperCommand):
    """Help that ends in what there is to try, of which papers."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """A line for each kind of models, as their files in inference/ declare them."""
        from reprise.commands.try_model import in_words

        with formatter.section("What there is to try"):
            for what, papers in in_words():
                formatter.write_text(f"{what}: {papers}")


TriedArm = Annotated[
    str | None,
    typer.Option("--arm", help="The one that the paper favours, unless given", autocompletion=completion.trained_arms),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="The first unless given", autocompletion=completion.trained_seeds)
]


def try_(
    experiment: Experiment,
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[INPUT]...", help="A sentence with or without [MASK], or two; a picture file; moves"),
    ] = None,
    arm: TriedArm = None,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A .png, or the .gif of a game")] = None,
    number: Annotated[
        int | None, typer.Option("--number", "-n", help="Of samples, test images or words", min=1)
    ] = None,
    draw: Annotated[int, typer.Option(help="Other random numbers: other samples, another game", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Use what was trained: draw, play, fill in, classify."""
    from reprise.commands.try_model import Asked, use

    project = open_project(papers=[])
    check_known(experiment, project.papers, "experiment")
    print_lines(use(project, Asked(experiment, given or [], arm, seed, out, number, draw, as_json)))


def export(
    experiment: Experiment,
    arm: TriedArm = None,
    seed: Seed = None,
    stage: Annotated[
        str | None, typer.Option(help="The one that is evaluated, unless given", autocompletion=completion.stages)
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="onnx or torch (torch.export's .pt2)", autocompletion=completion.formats)
    ] = "onnx",
    to: Annotated[Path | None, typer.Option("--to", help="exports/<experiment>-<arm>-s<seed> unless given")] = None,
    as_json: Json = False,
) -> None:
    """Write a trained model as a folder for others.

    As a model repository of the Hugging Face hub has it: a card, the weights, and each network in a file that needs
    no Reprise, loaded back and compared with the live one.
    """
    import json

    from reprise.commands.export import write
    from reprise.commands.status_line import Waiting

    check_known(form, FORMATS, "format")
    project = open_project(papers=[])
    check_known(experiment, project.papers, "experiment")
    with Waiting(f"export {experiment}", project.root):
        done = write(project, experiment, arm, seed, stage, form, to)  # type: ignore[arg-type]
    shown = os.path.relpath(done.folder)
    if as_json:
        files = {name: {"bytes": size} for name, size in done.files.items()}
        files |= {name: files[name] | {"largest_difference": one} for name, one in done.differences.items()}
        typer.echo(json.dumps({"model": done.model, "folder": shown, "files": files}, indent=1))
        return
    print_lines([*done.said, shown + os.sep])
    for name, size in done.files.items():
        compared = (
            f"   the same as the live network within {done.differences[name]:.1g}" if name in done.differences else ""
        )
        typer.echo(f"  {name:<28} {size / 1000:>9,.1f} kB{compared}")
