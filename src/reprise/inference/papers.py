"""Which paper's models can be used for what, and where that is done."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from reprise.core.contract import ExperimentConfig, Run
from reprise.core.run.task import Task
from reprise.inference import classifiers, foundations
from reprise.inference.models import Network, load

Use = Literal["samples", "game", "sentences", "classifier", "autoencoder"]
OWN: dict[str, Use] = {"gan": "samples", "dqn": "game", "bert": "sentences"}
TRIED = (*OWN, *classifiers.PAPERS)
"""The papers with something to try, of some arm at least."""
FOUNDATIONS = {
    "gmdh": foundations.of_gmdh,
    "neocognitron": foundations.of_neocognitron,
    "perceptron": foundations.of_perceptron,
    "backprop_mlp": foundations.of_backprop_mlp,
}
"""What gives the networks of their models, where these sort no images."""
WITHOUT_DATA = ("gan", "dqn", "bert")
"""Those whose models need nothing but their weights to be used."""


def use_of(experiment: str, config: ExperimentConfig) -> Use | None:
    """What can be tried of an arm, from its knobs; None where nothing can."""
    return OWN.get(experiment) or classifiers.kind_of(experiment, config)


def opened(run: Run) -> Task:
    """The trained task of `run`, with the data that its networks need."""
    return load(run, with_data=run.experiment not in WITHOUT_DATA)


def networks(task: Any, config: ExperimentConfig) -> list[Network]:
    """Every network of a trained task that plays a part of its own; none where there is none, or none is known."""
    experiment = task.run.experiment
    if classifiers.kind_of(experiment, config):
        return _classifiers(task, config)
    if experiment in OWN:
        return importlib.import_module(f"reprise.inference.{experiment}").networks(task)
    return FOUNDATIONS[experiment](task) if experiment in FOUNDATIONS else []


def texts(task: Any) -> dict[str, str]:
    """Files that a user of a task's networks needs beside them, by name."""
    if task.run.experiment != "bert":
        return {}
    from reprise.inference.bert import vocabulary

    return {"vocab.txt": "\n".join(vocabulary(task))}


def _classifiers(task: Any, config: ExperimentConfig) -> list[Network]:
    if task.run.stage == "pretrain" and task.run.experiment == "layerwise_pretraining":
        return foundations.of_machines(task)
    return classifiers.networks(task, config)
