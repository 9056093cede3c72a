"""The project's text files as they are in a git revision, in an experiment of DVC, or in the working tree.

Nothing is checked out: git hands the files over. An experiment of DVC is a commit of git's, under refs/exps.
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
    """What `reprise compare` reads of one side."""

    name: str
    """As the user calls it."""
    about: str
    """What that is."""
    files: dict[str, str]
    """The text of the files of YAML and of results/, by path."""


def read(root: Path, name: str) -> Snapshot:
    """The side called `name`: a revision of git, an experiment of DVC, or `.`; UsageError if there is none."""
    if name == WORKING_TREE:
        return Snapshot("working tree", "as it is now, committed or not", _on_disk(root))
    commit, kind = _resolve(root, name)
    subject = _git(root, "show", "--no-patch", "--format=%h, %cs: %s", commit)
    if kind == "experiment":
        subject = "experiment of DVC on " + _git(root, "show", "--no-patch", "--format=%h, %cs: %s", f"{commit}^")
    return Snapshot(name, subject, _in_commit(root, commit))


def names(root: Path) -> list[tuple[str, str]]:
    """Branches, tags and experiments of DVC, each with what it is."""
    found = []
    for line in _git(root, "for-each-ref", "--format=%(refname) %(refname:short) %(committerdate:short)").splitlines():
        full, short, *date = line.split(" ")
        if match := _EXPERIMENT.fullmatch(full):
            found.append((match["name"], f"experiment of DVC, {' '.join(date)}"))
        elif full.startswith(("refs/heads/", "refs/tags/", "refs/remotes/")):
            found.append((short, "tag" if full.startswith("refs/tags/") else "branch"))
    return [("HEAD", "the last commit"), *found]


def _resolve(root: Path, name: str) -> tuple[str, str]:
    """The commit called `name`, and whether it is a revision or an experiment."""
    if commit := _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", quiet=True):
        return commit, "revision"
    listed = [line.split(" ") for line in _git(root, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()]
    found = [commit for ref, commit in listed if (at := _EXPERIMENT.fullmatch(ref)) and at["name"] == name]
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} experiments of DVC are called {name}; name one by its commit: {', '.join(found)}"
        )
    if not found:
        known = [known for known, _ in names(root)]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else "`git log --oneline` and `dvc exp list --all` name them"
        raise UsageError(f"no revision of git and no experiment of DVC is called {name!r}; {hint}")
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
    """Of bytes that are no UTF-8, text that no reader takes for what was written: it says where it is damaged."""
    return content.decode(errors="surrogateescape")


def _git(root: Path, *arguments: str, quiet: bool = False) -> str:
    """What git prints, without the last line's end; if it fails UsageError with what it says, or nothing if `quiet`."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UsageError("git is not installed, and only git knows what an earlier revision holds") from None
    if done.returncode and not quiet:
        raise UsageError(f"git {arguments[0]}: {done.stderr.strip() or f'status {done.returncode}'}")
    return done.stdout.rstrip("\n") if done.returncode == 0 else ""
