"""Runs of a stage with their fingerprints, and which of them are up to date in models/."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reprise.core.config.project import Project
from reprise.core.contract import Failed, Run, Stage
from reprise.core.run import run_store
from reprise.core.run.integrity import Damaged
from reprise.core.run.source_hash import SourceCode, read_code
from reprise.stages.dvc_deps import knobs_of_stage, validated


@dataclass(frozen=True)
class _Arm:
    """Configuration and data that all seeds of an arm share."""

    config: dict[str, Any]
    """Same as `Run.config`."""
    knobs: dict[str, Any]
    """Validated configuration: defaults are included, and different spellings of a value are equal."""
    sources: dict[Stage, str]
    """Hash of the arm's training code, by stage."""
    scoring: str


def runs_of(project: Project, experiment: str, stage: Stage) -> list[Run]:
    """Return every run of a stage, seed by seed, with its fingerprint."""
    code = read_code()
    arms = {arm: _arm(project, experiment, arm, code) for arm in project.arms(experiment)}
    # Seed by seed: after an interruption, whole comparisons are done rather than whole arms.
    seeds = list(dict.fromkeys(seed for arm in arms.values() for seed in arm.config["seeds"]))
    return [
        _run(project, experiment, stage, name, seed, arm)
        for seed in seeds
        for name, arm in arms.items()
        if seed in arm.config["seeds"]
    ]


def _arm(project: Project, experiment: str, arm: str, code: SourceCode) -> _Arm:
    knobs = {key: value for key, value in validated(project, experiment, arm).items() if key != "seeds"}
    scoring = [code.evaluation(experiment, knobs)[0], knobs.get("evaluate")]
    return _Arm(
        project.resolve(experiment, arm),
        knobs,
        {
            stage: code.training(experiment, knobs_of_stage(knobs, stage))[0]
            for stage in project.pipeline.stages(experiment)
        },
        hashlib.sha256(json.dumps(scoring, sort_keys=True).encode()).hexdigest(),
    )


def _run(project: Project, experiment: str, stage: Stage, name: str, seed: int, arm: _Arm) -> Run:
    stages = project.pipeline.stages(experiment)
    before = None
    if stages.index(stage) > 0:
        before = _run(project, experiment, stages[stages.index(stage) - 1], name, seed, arm)
    data = project.root / "data" / "prepared" / getattr(project.pipeline, stage)[experiment].data
    card = data / "card.json"
    if not card.exists():
        raise Failed(f"{card.relative_to(project.root)} is missing: run `reprise prepare {data.name}` first")
    runtime = project.params.runtime
    identity = {
        "run": [experiment, stage, name, seed, project.params.scale],
        "config": knobs_of_stage(arm.knobs, stage),
        "data": hashlib.sha256(card.read_bytes()).hexdigest(),
        "source": arm.sources[stage],
        "init": before.fingerprint if before else None,
        "precision": runtime.precision,
        # Left out at 1, so that fingerprints from before this knob stay valid.
        **({"threads": runtime.threads} if runtime.threads != 1 else {}),
    }
    return Run(
        experiment=experiment,
        stage=stage,
        arm=name,
        seed=seed,
        scale=project.params.scale,
        config=arm.config,
        data=data,
        model=project.models_folder(experiment) / stage / name / f"seed{seed}.safetensors",
        init=before.model if before else None,
        fingerprint=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20],
        source=arm.sources[stage],
        scoring=arm.scoring,
    )


def untrained(runs: Sequence[Run]) -> set[str]:
    """Return the arms for which models/ lacks one of `runs`, or has one with other knobs, code or data."""
    lacking: set[str] = set()
    for run in runs:
        path = run.model.with_suffix(".run.json")
        try:
            if not path.exists() or run_store.read_published(path)["fingerprint"] != run.fingerprint:
                lacking.add(run.arm)
        except Damaged:
            lacking.add(run.arm)
    return lacking


def check_trained(
    project: Project, experiment: str, stage: Stage, runs: Sequence[Run]
) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the records of `runs` in models/, by arm and seed.

    Raises:
        Failed: a run is missing, damaged, or was made with other knobs, code or data.
    """
    records: dict[tuple[str, int], dict[str, Any]] = {}
    missing, others, damaged = 0, [], []
    for run in runs:
        path = run.model.with_suffix(".run.json")
        if not os.path.lexists(path):
            missing += 1
            continue
        try:
            records[run.arm, run.seed] = record = run_store.read_published(path)
            if record["fingerprint"] != run.fingerprint:
                others.append(run.name)
            else:
                run_store.check_published(path, record)
        except Damaged as error:
            damaged.append(str(error))
    lacking = [f"{missing} of {len(runs)} runs are missing"] if missing else []
    if others:
        named = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        lacking.append(f"{len(others)} of {len(runs)} runs were made with other knobs, code or data ({named})")
    lacking += [*damaged[:3], *([f"{len(damaged) - 3} more are damaged"] if len(damaged) > 3 else [])]
    if lacking:
        folder = f"models/{project.params.scale}/{experiment}/{stage}"
        raise Failed(
            f"{folder}: {'; '.join(lacking)}: `dvc repro {stage}@{experiment}` or "
            f"`reprise {stage} {experiment}` trains them"
        )
    return records
