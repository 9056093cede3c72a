"""The project's text files as of a git revision, a DVC experiment or the working tree.

Nothing is checked out; git delivers the contents. A DVC experiment is a git commit under refs/exps.
"""

from __future__ import annotations

import difflib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from reprise.commands.project import UsageError

WORKING_TREE = "."
_READ = re.compile(
    r"(params|pipeline)\.yaml|(params|papers|datasets)/\w+\.yaml|results/\w+/\w+/((card|claims)\.json|runs\.csv)"
)
_FOLDERS = ("params.yaml", "pipeline.yaml", "params/", "papers/", "datasets/", "results/")
_EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(?P<name>.+)")


@dataclass(frozen=True)
class Snapshot:
    """Contents of one side, as far as `reprise compare` reads them."""

    name: str
    """Name that the user gave."""
    about: str
    """Description of that revision."""
    files: dict[str, str]
    """Text of the YAML files and of results/, by path."""


def read(root: Path, name: str) -> Snapshot:
    """Read the side `name`: a git revision, a DVC experiment, or `.`.

    Raises:
        UsageError: there is no such side.
    """
    if name == WORKING_TREE:
        return Snapshot("working tree", "as it is now, committed or not", _on_disk(root))
    commit, kind = _resolve(root, name)
    subject = _git(root, "show", "--no-patch", "--format=%h, %cs: %s", commit)
    if kind == "experiment":
        subject = "DVC experiment on " + _git(root, "show", "--no-patch", "--format=%h, %cs: %s", f"{commit}^")
    return Snapshot(name, subject, _in_commit(root, commit))


def names(root: Path) -> list[tuple[str, str]]:
    """Return branches, tags and DVC experiments, each with a description."""
    found = []
    for line in _git(root, "for-each-ref", "--format=%(refname) %(refname:short) %(committerdate:short)").splitlines():
        full, short, *date = line.split(" ")
        if match := _EXPERIMENT.fullmatch(full):
            found.append((match["name"], f"DVC experiment, {' '.join(date)}"))
        elif full.startswith(("refs/heads/", "refs/tags/", "refs/remotes/")):
            found.append((short, "tag" if full.startswith("refs/tags/") else "branch"))
    return [("HEAD", "the last commit"), *found]


def _resolve(root: Path, name: str) -> tuple[str, str]:
    """Return the commit called `name`, and whether it is a revision or an experiment."""
    if commit := _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", quiet=True):
        return commit, "revision"
    listed = [line.split(" ") for line in _git(root, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()]
    found = [commit for ref, commit in listed if (at := _EXPERIMENT.fullmatch(ref)) and at["name"] == name]
    if len(found) > 1:
        raise UsageError(f"{len(found)} DVC experiments are called {name}; give a commit instead: {', '.join(found)}")
    if not found:
        known = [known for known, _ in names(root)]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else "`git log --oneline` and `dvc exp list --all` list them"
        raise UsageError(f"no git revision or DVC experiment is called {name!r}; {hint}")
    return found[0], "experiment"


def _on_disk(root: Path) -> dict[str, str]:
    patterns = ("*.yaml", "params/*.yaml", "papers/*.yaml", "datasets/*.yaml", "results/*/*/*.*")
    paths = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    return {
        name: _text(path.read_bytes())
        for path in paths
        if _READ.fullmatch(name := path.relative_to(root).as_posix()) and path.is_file()
    }


def _in_commit(root: Path, commit: str) -> dict[str, str]:
    listed = _git(root, "ls-tree", "-r", "--name-only", "-z", commit, *_FOLDERS)
    paths = [path for path in listed.split("\0") if _READ.fullmatch(path)]
    # One process for all files: `git show` for each would take seconds.
    asked = "".join(f"{commit}:./{path}\n" for path in paths)
    done = subprocess.run(
        ["git", "cat-file", "--batch"], cwd=root, input=asked.encode(), capture_output=True, check=True
    )
    files, rest = {}, done.stdout
    for path in paths:
        head, _, rest = rest.partition(b"\n")
        size = int(head.split()[-1])
        files[path] = _text(rest[:size])
        rest = rest[size + 1 :]
    return files


def _text(content: bytes) -> str:
    """Decode, keeping bytes that are not UTF-8 as surrogates, so that damage is detected later instead of hidden."""
    return content.decode(errors="surrogateescape")


def _git(root: Path, *arguments: str, quiet: bool = False) -> str:
    """Return git's output without its final newline, or "" if it fails and `quiet`.

    Raises:
        UsageError: git fails, with its message.
    """
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UsageError("git is not installed; it is needed to read earlier revisions") from None
    if done.returncode and not quiet:
        raise UsageError(f"git {arguments[0]}: {done.stderr.strip() or f'status {done.returncode}'}")
    return done.stdout.rstrip("\n") if done.returncode == 0 else ""
