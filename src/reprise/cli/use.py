"""`reprise try`, `reprise export` and `reprise keep`: using trained models, and passing them on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from reprise.commands import completion
from reprise.commands.options import Command, Experiment, Json, print_lines
from reprise.commands.project import check_known, open_project

FORMATS = ("onnx", "torch")


class HelpOfKinds(Command):
    """Help that ends with what there is to try, by paper."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write a line for each kind of model, as declared in inference/."""
        from reprise.commands.try_model.uses import in_words

        with formatter.section("What there is to try"):
            for what, papers in in_words():
                formatter.write_text(f"{what}: {papers}")


TriedArm = Annotated[
    str | None,
    typer.Option("--arm", help="The arm that the paper proposes by default", autocompletion=completion.trained_arms),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="The first by default", autocompletion=completion.trained_seeds)
]


def try_(
    experiment: Experiment,
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]...",
            help="One or two sentences, with or without [MASK]; a story; words; picture files; moves",
        ),
    ] = None,
    arm: TriedArm = None,
    seed: Seed = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output file: .png, .gif for a game, .sgf with --against")
    ] = None,
    number: Annotated[
        int | None, typer.Option("--number", "-n", help="Number of samples, test images or words", min=1)
    ] = None,
    draw: Annotated[int, typer.Option(help="Seed for other samples or another game", min=0)] = 0,
    against: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="Play Go against a program that speaks GTP, as in 'gnugo --mode gtp'"),
    ] = None,
    games: Annotated[int | None, typer.Option(help="Number of games against it, colours alternating", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Use trained models: draw, play, fill in, classify."""
    from reprise.commands.try_model.asked import Asked
    from reprise.commands.try_model.uses import use

    project = open_project(papers=[])
    check_known(experiment, project.papers, "experiment")
    print_lines(use(project, Asked(experiment, given or [], arm, seed, out, number, draw, as_json, against, games)))


def export(
    experiment: Experiment,
    arm: TriedArm = None,
    seed: Seed = None,
    stage: Annotated[
        str | None, typer.Option(help="The evaluated stage by default", autocompletion=completion.stages)
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="onnx or torch (torch.export's .pt2)", autocompletion=completion.formats)
    ] = "onnx",
    to: Annotated[Path | None, typer.Option("--to", help="exports/<experiment>-<arm>-s<seed> by default")] = None,
    as_json: Json = False,
) -> None:
    """Export a trained model as a folder for others.

    It has the form of a model repository on the Hugging Face hub: a card, the weights, and each network in a file that
    does not need Reprise. Each file is loaded back and compared with the live network.
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
            f"   agrees with the live network within {done.differences[name]:.1g}" if name in done.differences else ""
        )
        typer.echo(f"  {name:<28} {size / 1000:>9,.1f} kB{compared}")


def keep(experiment: Experiment, arm: TriedArm = None, seed: Seed = None) -> None:
    """Keep a trained model in the repository, for `try`.

    In half precision, at most 1 MB, as kept/<experiment>.zip with a card that says what it is. It needs
    no data to run and, if it neither plays games nor reads text, no torch.
    """
    from reprise.commands.keep import keep as run
    from reprise.commands.status_line import Waiting

    project = open_project(papers=[])
    check_known(experiment, project.papers, "experiment")
    with Waiting(f"keep {experiment}", project.root):
        archive, card = run(project, experiment, arm, seed)
    checked = ", ".join(f"{name.replace('_', ' ')} {value:,.4g}" for name, value in card["checked"].items())
    size = f"{archive.stat().st_size / 1000:,.1f} kB"
    typer.echo(f"{os.path.relpath(archive)}: {size}, {card['name']} in {card['precision']} precision; {checked}")
