"""Exports a trained model as a self-contained folder: card, knobs, weights, and each network in a portable format."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reprise.commands.find_model import check_data, find
from reprise.commands.project import UsageError
from reprise.core.config.project import Project
from reprise.core.contract import Failed, Stage
from reprise.inference.lookup import kind_of, models_of

NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime", "huggingface_hub"), "torch": ("huggingface_hub",)}
MARK = "reprise"
"""Key of config.json that marks a folder as an export."""
FILES = ("README.md", "config.json", "model.safetensors", "vocab.txt")
"""Files that an export may contain besides the networks."""


@dataclass(frozen=True)
class Exported:
    """Result of an export."""

    model: str
    folder: Path
    files: dict[str, int]
    """Size of each file, in bytes."""
    differences: dict[str, float]
    """Largest difference between the outputs of each network's file and of the live network."""
    said: list[str]
    """Lines on which model this is, and what to know about it."""


def write(
    project: Project,
    experiment: str,
    arm: str | None,
    seed: int | None,
    stage: Stage | None,
    form: Any,
    to: Path | None,
) -> Exported:
    """Export one trained model to a folder, completely or not at all.

    The files of an earlier export are replaced; anything else in the folder stays.

    Raises:
        UsageError: a package is missing, or the folder is in use.
        Failed: a file does not compute what the network does.
    """
    trained = find(project, experiment, arm, seed, stage)
    lacking = [name.replace("_", "-") for name in NEEDED[form] if find_spec(name) is None]
    if lacking:
        raise UsageError(
            f"{', '.join(lacking)}: not installed; `pip install 'reprise-papers[export]'` installs what export needs"
        )
    run = trained.run
    target = (to or project.root / "exports" / f"{experiment}-{run.arm}-s{run.seed}").resolve()
    before = _of_an_earlier_export(target)

    from reprise.commands.model_card import card, revision
    from reprise.inference import files
    from reprise.inference.models import load, read_config

    if kind_of(experiment).needs_data:
        check_data(project, run)
    config, models = read_config(run), models_of(experiment)
    task = load(run, with_data=models.needs_data)
    networks = models.of(task, config)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Next to the target, so that finished files are moved within one disk.
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        shutil.copyfile(run.model, temporary / "model.safetensors")
        differences, taken = {}, {}
        for network in networks:
            path, difference = files.write(network, temporary, form)
            differences[path.name] = difference
            taken[network.name] = {name: network.inputs[name] for name in files.inputs_of(path, network)}
        for name, text in models.files(task).items():
            (temporary / name).write_text(text, encoding="utf-8")
        described = {
            network.name: {
                "file": f"{network.name}{files.SUFFIXES[form]}",
                "says": network.says,
                "inputs": {name: _kind(value, network.longest) for name, value in taken[network.name].items()},
                "output": network.output,
                "labels": list(network.labels),
            }
            for network in networks
        }
        code = revision(project.root)
        knobs = {
            MARK: {
                "experiment": experiment, "stage": run.stage, "arm": run.arm, "seed": run.seed, "scale": run.scale,
                "fingerprint": run.fingerprint, "revision": code,
                "files": sorted({path.name for path in temporary.iterdir()} | {"README.md", "config.json"}),
            },
            "networks": described,
            "config": run.config,
        }  # fmt: skip
        _write_json(temporary / "config.json", knobs)
        card(project, trained, described, _examples(next(iter(taken.values()), {})), code).save(temporary / "README.md")
        _check_weights(run.model, temporary / "model.safetensors")
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        _put(temporary, target, before)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    said = [
        f"{run.name}, trained at scale {run.scale}",
        *(f"  {one}" for one in (trained.chosen, *trained.notes) if one),
    ]
    if others := sorted(path.name for path in target.iterdir() if path.name not in sizes):
        said.append(f"  kept other files: {', '.join(others)}")
    if not networks:
        said.append(f"  no network of arm {run.arm} runs by itself: only its weights and the card were written")
    return Exported(run.name, target, sizes, differences, said)


def _of_an_earlier_export(target: Path) -> set[str]:
    """Return the names of the files in `target` that an earlier export wrote.

    Raises:
        UsageError: the folder is not an export, and not empty.
    """
    if not target.exists():
        return set()
    try:
        found = json.loads((target / "config.json").read_text(encoding="utf-8"))
        mark, networks = found[MARK], found["networks"].values()
        named = mark.get("files") or [*FILES, *(one["file"] for one in networks)]  # earlier versions wrote no list
        # Only names within the folder: a manipulated list must not lead to other files.
        return {name for name in named if Path(name).name == name}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        if target.is_dir() and not any(target.iterdir()):
            return set()
    raise UsageError(
        f"{os.path.relpath(target)} already exists and is not an earlier export; use another --to, or move it away"
    )


def _put(new: Path, target: Path, before: set[str]) -> None:
    """Rename `new` to `target` or, if that exists, move its files there in place of those in `before`.

    An existing folder is kept, because it may be a git clone with more in it than an export. On failure everything is
    restored.

    Raises:
        UsageError: a new file has the name of one that is not ours.
    """
    if not target.exists():
        new.rename(target)
        return
    names = sorted(path.name for path in new.iterdir())
    names.sort(key=lambda name: name != "config.json")  # first, because it records which files are ours
    old = [name for name in sorted(before) if (target / name).is_file()]
    if foreign := [name for name in names if name not in old and os.path.lexists(target / name)]:
        raise UsageError(
            f"{os.path.relpath(target / foreign[0])} is not from the existing export; move it away, or use another --to"
        )
    kept = new / ".old"
    kept.mkdir()
    for name in old:
        shutil.copy2(target / name, kept / name)
    try:
        for name in names:
            (new / name).replace(target / name)
        for name in {*old} - {*names}:
            (target / name).unlink()
    # Also when interrupted: the earlier export is restored.
    except BaseException:
        for name in {*names} - {*old}:
            (target / name).unlink(missing_ok=True)
        for name in old:
            (kept / name).replace(target / name)
        raise


def _check_weights(before: Path, after: Path) -> None:
    """Check that the copy holds bitwise the same tensors.

    Raises:
        Failed: it does not.
    """
    import torch
    from safetensors.torch import load_file

    old, new = load_file(before), load_file(after)
    if old.keys() != new.keys() or not all(torch.equal(old[name], new[name]) for name in old):
        raise Failed(f"{after.name} does not hold what {before} holds")


def _kind(value: Any, longest: int | None) -> str:
    """Format the type and shape of an input as `float32 [batch, 28, 28]`."""
    rest = "".join(f", {size}" for size in value.shape[1:]) if longest is None else f", seq, at most {longest}"
    return f"{str(value.dtype).removeprefix('torch.')} [batch{rest}]"


def _examples(inputs: dict[str, Any]) -> dict[str, str]:
    """Return NumPy expressions for zeros in the shapes of these inputs."""
    kinds = {name: str(value.dtype).removeprefix("torch.").replace("bool", "bool_") for name, value in inputs.items()}
    return {name: f"np.zeros({(1, *value.shape[1:])}, np.{kinds[name]})" for name, value in inputs.items()}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
