"""The project that a command is about, and errors for unknown names."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:  # importing pydantic would slow `reprise --help` down
    from reprise.core.config.catalogue import Catalogue
    from reprise.core.config.project import Project


NO_PROJECT = "run reprise in a clone of its repository, which holds the papers' YAML; the package holds only the code"


class UsageError(Exception):
    """A mistake in how the command was called, such as a name that does not exist."""


def find_root() -> Path:
    """Return the nearest folder, from here upwards, that holds both files.

    Raises:
        UsageError: there is none.
    """
    root = find_root_if_any()
    if root is None:
        raise UsageError(f"no params.yaml and pipeline.yaml here, nor in any folder above: {NO_PROJECT}")
    return root


def find_root_if_any() -> Path | None:
    """Return the project's root, or None outside a project.

    Raises:
        UsageError: the working directory was deleted.
    """
    root = nearest_root()
    if root is not None and ".dvc" in root.resolve().parts:  # perhaps a copy made by DVC
        from reprise.core.run.run_store import share_runs  # imports pydantic

        share_runs(root)
    return root


def nearest_root() -> Path | None:
    """Return the project's root, or None outside a project, without importing anything.

    Raises:
        UsageError: the working directory was deleted.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise UsageError("the working directory has been deleted: cd to a project") from None
    for folder in (here, *here.parents):
        if (folder / "params.yaml").exists() and (folder / "pipeline.yaml").exists():
            return folder
    return None


def open_project(
    overrides: list[str] | None = None,
    scale: str | None = None,
    experiment: str | None = None,
    papers: Collection[str] | None = None,
) -> Project:
    """Open the project here, as loaded by `core.config.project.load`."""
    from reprise.core.config.project import load

    return load(find_root(), overrides or [], scale=scale, experiment=experiment, papers=papers)


def open_catalogue() -> Catalogue:
    """Return what the project here holds, as stored if nothing changed since papers/*.yaml was last found valid."""
    from reprise.core.config import catalogue

    root = find_root()
    now = catalogue.state(root)
    known = catalogue.read(root, now, "papers")
    if known is not None:
        return known
    project = open_project(papers=())
    return catalogue.renewed(project.reading, now, "papers", project.papers.__getitem__)


def check_all() -> Catalogue:
    """Return what the project here holds, with all of its YAML checked, unless it is known to be valid.

    Raises:
        ConfigError: lists every mistake found.
    """
    from reprise.core.config import catalogue

    root = find_root()
    now = catalogue.state(root)
    known = catalogue.read(root, now, "everything")
    if known is not None:
        return known
    project = check_project()
    return catalogue.renewed(project.reading, now, "everything", project.papers.__getitem__)


def check_project(overrides: list[str] | None = None) -> Project:
    """Check that every paper is valid. Papers known to be valid and unchanged are skipped."""
    from reprise.core.config.project import load
    from reprise.core.config.validation_cache import remember, unchecked

    project = load(find_root(), overrides or [], papers=unchecked)
    remember(project.reading)
    return project


def run_own_code() -> None:
    """If the project here has its own package in `src/` but another was imported, restart the command with its own.

    This happens in a worktree or second clone that shares an environment with the first. A package named by PYTHONPATH
    is the user's choice, and is used with a warning. Copies made by DVC are exempt; see `stages.dvc_deps`.
    """
    imported, root = Path(__file__).resolve().parents[2], nearest_root()
    sources = root.resolve() / "src" if root else imported
    if sources == imported or not (sources / "reprise" / "__main__.py").exists():
        return
    from reprise.core.run.run_store import checkout

    if checkout(sources) != sources:
        return
    named = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    if {imported, sources}.isdisjoint(Path(one).resolve() for one in named):
        os.environ["PYTHONPATH"] = os.pathsep.join([str(sources), *named])
        os.execv(sys.executable, [sys.executable, "-P", "-m", "reprise", *sys.argv[1:]])
    typer.echo(f"warning: running the code of {imported}, which PYTHONPATH names, not that of {sources}", err=True)


def check_links(root: Path, name: str) -> None:
    """Check that a DVC stage does not write through a link, since DVC would reject the output at the end.

    Raises:
        Failed: it does.
    """
    if "DVC_STAGE" in os.environ and (root / name).is_symlink():
        from reprise.core.contract import Failed

        raise Failed(
            f"{name} is a link to {os.path.realpath(root / name)}, and DVC rejects outputs behind a link: "
            f"put DVC's cache on the other disk (`dvc cache dir`), or mount the disk at {name}"
        )


def check_known(word: str, words: Collection[str], what: str) -> None:
    """Check that `word` is one of `words`.

    Raises:
        UsageError: it is not. The message suggests the nearest, or lists all.
    """
    if word not in words:
        nearest = difflib.get_close_matches(word, list(words), 1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are: {', '.join(words)}"
        raise UsageError(f"no {what} is called {word!r}; {hint}")


def check_suffix(out: Path | None, suffix: str, what: str) -> None:
    """Before anything is made: UsageError for another format, or a folder that is not there."""
    if out is None:
        return
    if out.suffix.lower() != suffix:
        raise UsageError(f"--out is {out}; expected a name that ends in {suffix}: {what}")
    if not out.parent.is_dir():
        raise UsageError(f"--out is {out}; there is no folder {out.parent}")
