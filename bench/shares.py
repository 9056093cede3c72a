"""Where processor time goes between an edit and a verdict: shares of updates, of scoring, and of everything else.

`python -m bench.shares PAPER ...` trains and judges each paper anew under DVC, in a clone that is thrown away, while
py-spy looks fifty times a second at what each of its processes is doing. It needs root, or ptrace allowed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.edit import dvc, environment
from bench.start import ROOT

CAUSES = (
    ("updates", r"^\w*Task\.update .*experiments/"),
    ("scoring", r"^\w*Task\.(evaluate|snapshot) .*experiments/"),
    ("opening data", r"^\w*Task\.load_data .*experiments/"),
    ("imports", r"importlib\._bootstrap>"),
    ("W&B", r"/wandb/|core/run/tracking"),
    ("checkpoints and files of runs", r"run/(checkpoints|run_store|integrity)|safetensors"),
    ("configuration and hashes", r"core/config|run/(source_hash|defin)|/(pydantic|pydantic_core|omegaconf|yaml)/"),
    ("claims and results", r"core/verdicts"),
    ("Lightning", r"/(pytorch_lightning|lightning_fabric|torchmetrics)/"),
    ("DVC", r"/(dvc\w*|scmrepo|dulwich|pygit2|ruamel)/"),
    ("stages and grid", r"reprise/(stages|cli|commands|core/run/grid)|multiprocessing"),
)
"""Causes, each with what a frame of its code looks like. The first that any frame of a stack looks like decides."""


def cause(stack: Sequence[str]) -> str:
    """Name what a stack of frames is doing; a frame is a function, a space and its file."""
    for name, pattern in CAUSES:
        if any(re.search(pattern, frame) for frame in stack):
            return name
    return "rest"


def stacks(recorded: Mapping[str, Any]) -> Iterator[tuple[list[str], float]]:
    """Yield each sample of a recording in speedscope's format: its frames, outermost first, and its seconds."""
    frames = [f"{frame['name']} {frame.get('file') or ''}" for frame in recorded["shared"]["frames"]]
    for profile in recorded["profiles"]:
        for sample, seconds in zip(profile["samples"], profile["weights"], strict=True):
            # py-spy puts the command lines of the process and of its parents first. They name modules as well.
            yield [frames[place] for place in sample if not frames[place].startswith("process ")], seconds


def shares(recordings: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return each cause's share of the time sampled. Threads without a Python frame are those of native libraries."""
    seconds: Counter[str] = Counter()
    for recorded in recordings:
        for stack, each in stacks(recorded):
            if stack:
                seconds[cause(stack)] += each
    total = seconds.total()
    return {name: each / total for name, each in seconds.most_common()}


def sampled(paper: str) -> dict[str, float]:
    """Train and judge `paper`, and return the shares of what was on a processor meanwhile."""
    (ROOT / ".reprise").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".reprise") as name:
        folder = Path(name) / "project"
        subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(folder)], check=True)
        shutil.copytree(ROOT / ".dvc" / "cache", folder / ".dvc" / "cache", copy_function=os.link)
        dvc(folder, "repro", "source")
        dvc(folder, "checkout", "--allow-missing")
        stages = re.findall(rf"^\S+@{paper}$", dvc(folder, "stage", "list", "--name-only"), flags=re.MULTILINE)
        recordings = []
        for stage in sorted(stages, key=_order):
            output = Path(name) / "stacks.json"
            command = ["py-spy", "record", "--subprocesses", "--rate", "50", "--format", "speedscope"]
            work = [sys.executable, "-m", "dvc", "repro", "--quiet", "--single-item", "--force", stage]
            subprocess.run(
                [*command, "--output", str(output), "--", *work],
                cwd=folder,
                env=environment() | {"WANDB_MODE": "offline"},  # as a user without a key has it
                check=True,
                capture_output=True,
            )
            recordings.append(json.loads(output.read_text()))
    return shares(recordings)


def _order(stage: str) -> int:
    return ("pretrain", "finetune", "evaluate").index(stage.partition("@")[0])


def main(papers: Sequence[str]) -> None:
    """Print a JSON object for each paper."""
    for paper in papers:
        print(json.dumps({paper: {name: round(share, 4) for name, share in sampled(paper).items()}}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
