"""The runs of a stage, each with its fingerprint, and which of them models/ holds as they are asked for now."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from reprise.core.config.project import Project
from reprise.core.contract import Failed, Run, Stage
from reprise.core.run import run_store
from reprise.core.run.integrity import Damaged
from reprise.core.run.source_hash import source_hash
from reprise.stages.dvc_deps import knobs_of_stage


def runs_of(project: Project, experiment: str, stage: Stage) -> list[Run]:
    """Every run of a stage, seed by seed, with its fingerprint."""
    source, _ = source_hash(experiment)
    arms = project.arms(experiment)
    configs = {arm: project.resolve(experiment, arm) for arm in arms}
    seeds = list(dict.fromkeys(seed for arm in arms for seed in configs[arm]["seeds"]))
    return [
        _run(project, experiment, stage, arm, seed, configs[arm], source)
        for seed in seeds
        for arm in arms
        if seed in configs[arm]["seeds"]
    ]


def _run(
    project: Project, experiment: str, stage: Stage, arm: str, seed: int, config: dict[str, Any], source: str
) -> Run:
    stages = project.pipeline.stages(experiment)
    before = None
    if stages.index(stage) > 0:
        before = _run(project, experiment, stages[stages.index(stage) - 1], arm, seed, config, source)
    data = project.root / "data" / "prepared" / getattr(project.pipeline, stage)[experiment].data
    card = data / "card.json"
    if not card.exists():
        raise Failed(f"{card.relative_to(project.root)} is not there: run `reprise prepare {data.name}` first")
    runtime = project.params.runtime
    identity = {
        "run": [experiment, stage, arm, seed, project.params.scale],
        "config": {key: value for key, value in knobs_of_stage(config, stage).items() if key != "seeds"},
        "data": hashlib.sha256(card.read_bytes()).hexdigest(),
        "source": source,
        "init": before.fingerprint if before else None,
        "precision": runtime.precision,
        **({"threads": runtime.threads} if runtime.threads != 1 else {}),
    }
    return Run(
        experiment=experiment,
        stage=stage,
        arm=arm,
        seed=seed,
        scale=project.params.scale,
        config=config,
        data=data,
        model=project.root / "models" / experiment / stage / arm / f"seed{seed}.safetensors",
        init=before.model if before else None,
        fingerprint=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20],
    )


def check_trained(
    project: Project, experiment: str, stage: Stage, runs: Sequence[Run]
) -> dict[tuple[str, int], dict[str, Any]]:
    """The records of `runs` in models/, by arm and seed.

    Failed unless each is there as it is asked for now, by these knobs, this code and these data, and as it was left.
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
    lacking = [f"{missing} of {len(runs)} runs are not there"] if missing else []
    if others:
        named = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        lacking.append(f"{len(others)} of {len(runs)} runs are of other knobs, code or data ({named})")
    lacking += [*damaged[:3], *([f"{len(damaged) - 3} more are damaged"] if len(damaged) > 3 else [])]
    if lacking:
        raise Failed(
            f"models/{experiment}/{stage}: {'; '.join(lacking)}: `dvc repro {stage}@{experiment}` or "
            f"`reprise {stage} {experiment}` trains what is asked for"
        )
    return records
