"""Picks, among networks trained in parallel, the one with the lowest training loss."""

from __future__ import annotations

from typing import Any

from torch import nn

from reprise.experiments import backprop_mlp
from reprise.inference.images import flat, image_networks
from reprise.inference.kinds import Classifier, Output, Parts
from reprise.inference.models import Composed, Network


def output(config: Any) -> Output | None:
    """Return what the arm does with images; arms on problems other than digits take none."""
    return "classifier" if config.problem.kind == "digits" else None


def lowest_of(task: backprop_mlp.Task) -> tuple[nn.Module, str]:
    """Return the best of the parallel networks as a module of its own, and a description of it."""
    losses = backprop_mlp.objective(task.config.loss, task.nets(task.inputs), task.labels)
    best = int(losses.argmin())
    network = backprop_mlp.networks(task.config)["network"]
    state = {**task.nets.parameter_names, **task.nets.buffer_names}
    network.load_state_dict({name: getattr(task.nets, stacked)[best] for name, stacked in state.items()})
    says = f"of {len(losses)} nets from different starts, number {best}, of the lowest training loss"
    return network.eval().requires_grad_(False), says


def parts(task: backprop_mlp.Task) -> Parts:
    """Return the network, which takes flattened pixels."""
    return Parts(flat, *lowest_of(task))


def networks(task: backprop_mlp.Task) -> list[Network]:
    """Return the network as a function of images, or of the cases of its problem."""
    if output(task.config):
        return image_networks(MODELS, task, task.config)
    network, which = lowest_of(task)
    cases = task.inputs
    says = f"cases [batch, {cases.shape[1]}] to the logit [batch, 1] of the second class; {which}"
    return [Network("network", Composed(nn.Identity(), network), {"cases": cases}, "logit", says)]


MODELS = Classifier(parts=parts, output=output, networks=networks)
