"""What every arm of every stage came to at smoke scale: tests/golden/<key>.json, compared and written.

    python tests/golden.py [KEY ...]            what is other than it was; ends with status 1 if anything is
    python tests/golden.py [KEY ...] --write    record it anew, after a change that is meant to move numbers

Of the first seed of each arm: what its first ten updates returned, its metrics, and two numbers for each tensor of its
weights: their norm, and their projection on a fixed direction, which a norm alone would not tell from others. They are
of one thread and 32-bit floats. The tests compare them to a relative 1e-4, as processors round differently; where one
number may differ by more, `exceptions` in the file says which, by how much (null: by anything), and why. A file says
what vector instructions the processor had (AVX512 unless it does); on another, the start of training is compared.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import smoke
from layout import REPOSITORY, papers
from reprise.core.contract import Run
from reprise.core.run import run_store
from reprise.stages.run_list import runs_of
from smoke import Smoke

FOLDER = REPOSITORY / "tests" / "golden"
RTOL = 1e-4
ELSEWHERE_RTOL, ELSEWHERE_UPDATES = 1e-2, 2
"""On a processor with other vector instructions only the first updates are compared: ten of them amplify rounding, and
a metric that counts examples moves by whole ones.
"""
RECORDED_ON = "AVX512"
"""Instructions of the processor of files that do not name them."""
ABOUT = ("exceptions", "processor")
"""Keys of a file that are not stages."""
ATOL = 1e-9
NOISE = 1e-7
"""To a tensor whose gradient is 0 on paper, as a bias before batch normalisation, rounding alone brings so much."""
DIGITS = 7


def golden_file(key: str) -> Path:
    """Where the goldens of a paper are."""
    return FOLDER / f"{key}.json"


def recorded(trained: Smoke) -> dict[str, Any]:
    """By stage and arm, what the first seed of each came to in a project that was trained."""
    project, key = trained.project, trained.key
    pipeline = project.pipeline
    found: dict[str, Any] = {}
    for stage in pipeline.stages(key):
        runs = {run.arm: run for run in runs_of(project, key, stage)[::-1]}
        found[stage] = {arm: _outcome(trained, runs[arm]) for arm in project.arms(key)}
    data = project.root / "data" / "prepared" / pipeline.evaluate[key].data
    scored = {run.arm: replace(run, data=data) for run in runs_of(project, key, pipeline.evaluate[key].model)[::-1]}
    for arm, run in scored.items():
        metrics = run_store.read_metrics(project.root, run) or {}
        found[run.stage][arm]["metrics"] = {name: _rounded(value) for name, value in metrics.items()}
    return found


def _outcome(trained: Smoke, run: Run) -> dict[str, Any]:
    record = json.loads(run.model.with_suffix(".run.json").read_text())
    updates = trained.updates.get(run.name, [])
    columns = dict.fromkeys(name for values in updates for name in values)
    outcome: dict[str, Any] = {"steps": record["steps"]}
    if record["diverged"]:
        outcome["diverged"] = record["diverged"]
    outcome["updates"] = {
        name: [_rounded(values[name]) if name in values else None for values in updates] for name in columns
    }
    weights = load_file(run.model) if run.model.exists() else {}
    outcome["weights"] = {name: summary(tensor) for name, tensor in sorted(weights.items())}
    return outcome


def summary(tensor: torch.Tensor) -> list[float]:
    """The norm of a tensor, and its product with the cosines of 1, 2, 3, ..., in float64.

    Elements that are not finite count as 0; if there are any, their number comes third.
    """
    values = tensor.double().flatten()
    direction = torch.arange(1, len(values) + 1, dtype=torch.float64).cos()
    finite = values.where(values.isfinite(), 0.0)
    count = int(values.isfinite().logical_not().sum())
    return [_rounded(float(finite.norm())), _rounded(float(finite @ direction)), *([count] if count else [])]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def differences(found: dict[str, Any], golden: dict[str, Any]) -> list[str]:
    """A line for each number that is other than in the golden file, or is in one of both alone."""
    exceptions = golden.get("exceptions", {})
    expected = dict(_numbers({k: v for k, v in golden.items() if k not in ABOUT}))
    elsewhere = golden.get("processor", RECORDED_ON) != torch.backends.cpu.get_cpu_capability()
    actual = dict(_numbers(found))
    lines = [f"{path}: not in the golden file" for path in actual if path not in expected]
    for path, value in expected.items():
        if path not in actual:
            lines.append(f"{path}: only in the golden file")
            continue
        allowed = [said["rtol"] for pattern, said in exceptions.items() if fnmatchcase(path, pattern)]
        rtol = max([RTOL, *(math.inf if each is None else each for each in allowed)])
        if elsewhere and not path.endswith("/steps"):
            if "/updates/" not in path or int(path.rpartition("/")[2]) >= ELSEWHERE_UPDATES:
                continue
            rtol = max(rtol, ELSEWHERE_RTOL)
        if not _close(actual[path], value, rtol):
            lines.append(f"{path}: {actual[path]}, was {value} (rtol {rtol:g})")
    return lines


def _numbers(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value with its path, as `pretrain/minimax/updates/loss/3`; a tensor's two numbers are one value."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _numbers(value, f"{path}/{name}" if path else name)
    elif isinstance(tree, list) and "/updates/" in path:
        for place, value in enumerate(tree):
            yield f"{path}/{place}", value
    else:
        yield path, tree


def _close(found: Any, golden: Any, rtol: float) -> bool:
    if isinstance(golden, list):  # a tensor: both numbers may be off by a part of its norm
        within = max(rtol * abs(golden[0]), NOISE)
        return found[2:] == golden[2:] and all(_near(*pair, within) for pair in zip(found[:2], golden[:2], strict=True))
    if isinstance(golden, int | float) and isinstance(found, int | float):
        return _near(found, golden, max(rtol * abs(golden), ATOL))
    return found == golden


def _near(found: float, golden: float, within: float) -> bool:
    if math.isfinite(golden) and math.isfinite(found):
        return abs(found - golden) <= within
    return found == golden or (math.isnan(found) and math.isnan(golden))


def read(key: str) -> dict[str, Any]:
    """The golden file of a paper; empty if there is none."""
    file = golden_file(key)
    return json.loads(file.read_text()) if file.exists() else {}


def write(key: str, found: dict[str, Any]) -> None:
    """Record what was found; the exceptions of the file stay."""
    FOLDER.mkdir(exist_ok=True)
    about = {name: value for name, value in read(key).items() if name == "exceptions"}
    about["processor"] = torch.backends.cpu.get_cpu_capability()
    golden_file(key).write_text(_json(about | found) + "\n")


def _json(tree: Any, indent: int = 0) -> str:
    """JSON with a line for each list and each innermost block: a diff shows which arm moved."""
    if not isinstance(tree, dict) or not tree:
        return json.dumps(tree, ensure_ascii=False)
    inner = ",\n".join(
        f"{' ' * (indent + 1)}{json.dumps(name)}: {_json(value, indent + 1)}" for name, value in tree.items()
    )
    return f"{{\n{inner}\n{' ' * indent}}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keys", nargs="*", metavar="KEY", help="papers; all unless given")
    parser.add_argument("--write", action="store_true", help="record what is found")
    asked = parser.parse_args()
    moved = False
    for key in asked.keys or papers():
        with tempfile.TemporaryDirectory() as folder:
            trained = smoke.make(Path(folder), key)
            trained.train()
            found = recorded(trained)
        before, count = read(key), len([*_numbers(found)])
        lines = differences(found, before)
        moved |= bool(lines)
        print(f"{key}: {len(lines)} of {count} numbers differ" if before else f"{key}: {count} new numbers", flush=True)
        if asked.write:
            write(key, found)
        else:
            print("".join(f"  {line}\n" for line in lines), end="", flush=True)
    sys.exit(moved and not asked.write)


if __name__ == "__main__":
    main()
