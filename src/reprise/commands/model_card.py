"""Model card of an exported model, in the Hugging Face hub's format: what it is, how good, and its limits."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reprise.commands.find_model import Trained
from reprise.core.config.project import Project, load
from reprise.core.config.yaml import ConfigError
from reprise.core.contract import Failed, Run
from reprise.core.run import tracking
from reprise.core.verdicts import results
from reprise.core.verdicts.listings import SCALE_IN_WORDS, verdict_rows
from reprise.inference.lookup import models_of
from reprise.inference.models import read_config
from reprise.stages.page.cards import data_in_words
from reprise.stages.page.docstrings import account, module_of

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

HERE = Path(__file__).parent


def card(
    project: Project, trained: Trained, networks: dict[str, dict[str, Any]], examples: dict[str, str], code: str
) -> ModelCard:
    """Build the card. Its numbers are those of this very run, or it says that there are none.

    `examples` are inputs of the first of `networks`, as Python code; `code` is the revision.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    run = trained.run
    paper = project.papers[run.experiment]
    stages = project.pipeline.stages(run.experiment)
    stages = stages[: stages.index(run.stage) + 1]
    keys = list(dict.fromkeys(getattr(project.pipeline, stage)[run.experiment].data for stage in stages))
    datasets = [project.datasets[key] for key in keys]
    key, dataset = keys[-1], datasets[-1]
    scores, means, verdicts, missing = _results(project, trained)
    task = models_of(run.experiment).hub_task(read_config(run), run.stage)
    name = f"{run.experiment}-{run.arm}-s{run.seed}"
    evaluated = [
        EvalResult(
            task_type=task or paper.family, dataset_type=key, dataset_name=dataset.title,
            metric_type=metric, metric_value=value, metric_name=paper.metrics[metric].says,
        )
        for metric, value in scores.items()
    ]  # fmt: skip
    data = ModelCardData(
        license="mit",
        library_name="reprise",
        pipeline_tag=task,
        datasets=keys,
        tags=["reprise", run.experiment, run.arm, paper.family, *(["onnx"] if _onnx(networks) else [])],
        metrics=list(scores),
        model_name=name if evaluated else None,
        eval_results=evaluated or None,
    )
    config = project.reading.files[run.experiment]
    told = account(module_of(run.experiment, config), config)
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=False, finalize=_without_tags, keep_trailing_newline=True,
    )  # fmt: skip
    text = environment.get_template("model_card.md").render(
        name=name, run=run, paper=paper, record=trained.record, datasets=datasets, stages=stages,
        less=data_in_words(list(dataset.parts_at(run.scale)), list(dataset.parts_at("paper"))),
        networks=networks, keys=keys, scores=scores, means=means, missing=missing, told=told, code=code,
        scale=SCALE_IN_WORDS[run.scale],
        verdicts=verdict_rows(verdicts) if verdicts else [],
        steps=trained.record.get("steps"), examples=examples, same=_is_current(project, run),
    )  # fmt: skip
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def _without_tags(value: Any) -> Any:
    """Escape HTML in `value`. Jinja's autoescape would also escape quotation marks in code."""
    return value.replace("<", "&lt;") if isinstance(value, str) else value


def _onnx(networks: dict[str, dict[str, Any]]) -> bool:
    return any(one["file"].endswith(".onnx") for one in networks.values())


def _is_current(project: Project, run: Run) -> bool | None:
    """Whether the current code and YAML would train this very run, at its own scale.

    None if that cannot be determined, for example because its data are not prepared.
    """
    from reprise.stages.run_list import runs_of

    try:
        there = load(project.root, scale=run.scale, papers=[run.experiment])
        return run.fingerprint in {one.fingerprint for one in runs_of(there, run.experiment, run.stage)}
    except (ConfigError, Failed):
        return None


def _results(
    project: Project, trained: Trained
) -> tuple[dict[str, float], dict[str, dict[str, Any]], list[results.Verdict], str]:
    """Return this run's scores, its arm's means over seeds, and verdicts that involve its arm; or why there are none.

    If the scored run has a different fingerprint there are none, since the numbers would belong to another model.
    """
    run, folder = trained.run, project.results_folder(trained.run.experiment, trained.run.scale)
    command = f"`dvc repro evaluate@{run.experiment}`"
    if run.stage != project.pipeline.evaluate[run.experiment].model:
        return {}, {}, [], f"Models of stage {run.stage} are not scored; those trained from them are."
    if not (folder / "card.json").exists():
        return {}, {}, [], f"It has not been scored: run {command}."
    written = results.read_card(folder)
    scored = written["fingerprints"]
    if scored.get(f"{run.arm}/s{run.seed}") != run.fingerprint:
        return {}, {}, [], f"The existing results belong to other runs: {command} scores this one."
    with (
        results.reporting_damage(folder / "runs.csv"),
        (folder / "runs.csv").open(newline="", encoding="utf-8") as file,
    ):
        results.check_bytes(written, "runs.csv", (folder / "runs.csv").read_bytes())
        rows = [row for row in csv.DictReader(file) if (row["arm"], int(row["seed"])) == (run.arm, run.seed)]
        scores = {
            name: float(value) for row in rows for name, value in row.items() if name not in ("arm", "seed") and value
        }
    with results.reporting_damage(folder / "metrics.json"):
        results.check_bytes(written, "metrics.json", (folder / "metrics.json").read_bytes())
        means = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get(run.arm, {})
    verdicts = [
        one for one in results.read_verdicts(folder).values() if run.arm in one.arms and one.interval is not None
    ]
    return scores, means, verdicts, ""


def revision(root: Path) -> str:
    """Return the commit of code and YAML, noting uncommitted changes; "unknown" outside git."""
    found = tracking.revision(root)
    if found is None:
        return "unknown"
    return f"{found.commit} with uncommitted changes" if found.dirty else found.commit
