"""Networks, and many of one shape side by side."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from reprise.experiments.backprop_mlp.config import Config, Digits, FamilyTrees, Problem, Symmetry
from reprise.experiments.backprop_mlp.problems import PEOPLE, RELATIONSHIPS
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.classifiers import mlp


def networks(config: Config) -> dict[str, nn.Module]:
    """Build one of the nets that are trained side by side; its representation is the input of the last layer."""
    inputs, outputs = sizes(config.problem)
    layers = mlp(inputs, config.hidden, outputs, config.activation, config.normalization, config.dropout)
    if isinstance(config.problem, FamilyTrees):
        # The first half of the units sees only the person, the second only the relationship.
        layers[0] = TwoGroups(config.hidden[0])
    return {"network": initialize_(nn.Sequential(*layers), config.init)}


class TwoGroups(nn.Module):
    """First layer of 1986, Figure 3: separate hidden units for people and for relationships, in this order."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.people = nn.Linear(len(PEOPLE), units // 2)
        self.relationships = nn.Linear(len(RELATIONSHIPS), units - units // 2)

    def forward(self, x: Float[Tensor, "*cases inputs"]) -> Float[Tensor, "*cases units"]:
        """Return the inputs of both groups' units, before the activation."""
        people, relationships = x.split([len(PEOPLE), len(RELATIONSHIPS)], -1)
        return torch.cat([self.people(people), self.relationships(relationships)], -1)


def sizes(problem: Problem) -> tuple[int, int]:
    """Return the number of input and of output units."""
    match problem:
        case Symmetry(bits=bits):
            return bits, 1
        case Digits():
            return 28 * 28, 10
        case FamilyTrees():
            return len(PEOPLE) + len(RELATIONSHIPS), len(PEOPLE)
    return 2, 1


class Replicates(nn.Module):
    """Nets of one shape side by side, each parameter stacked along a first axis."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        parameters, buffers = stack_module_state(nets)
        # Names of parameters must not contain dots.
        self.parameter_names = {name: name.replace(".", "_") for name in parameters}
        self.buffer_names = {name: name.replace(".", "_") for name in buffers}
        for name, stacked in parameters.items():
            self.register_parameter(self.parameter_names[name], nn.Parameter(stacked.detach()))
        for name, stacked in buffers.items():
            self.register_buffer(self.buffer_names[name], stacked)
        self._skeleton = [copy.deepcopy(nets[0])]  # in a list, so that its weights are not registered as ours

    def forward(self, x: Float[Tensor, "cases inputs"]) -> Float[Tensor, "nets cases outputs"]:
        """Return the outputs of every net for the same cases."""
        return self._call(self._skeleton[0], x)

    def representation(self, x: Float[Tensor, "cases inputs"]) -> Float[Tensor, "nets cases units"]:
        """Return the input of every net's last layer, or `x` itself if there is no hidden layer."""
        skeleton = self._skeleton[0]
        assert isinstance(skeleton, nn.Sequential)
        if len(skeleton) == 1:
            # Without a hidden layer, all nets have the same representation.
            return x.expand(len(next(self.parameters())), *x.shape)
        return self._call(skeleton[:-1], x)

    def train(self, mode: bool = True) -> Replicates:
        """Set the mode of the nets and of the skeleton that they are called with."""
        self._skeleton[0].train(mode)
        return super().train(mode)

    def _call(self, net: nn.Module, x: Tensor) -> Tensor:
        # Without its last layer, `net` has only part of the parameters.
        wanted = {name for name, _ in (*net.named_parameters(), *net.named_buffers())}
        names = {**self.parameter_names, **self.buffer_names}
        state = {name: getattr(self, attribute) for name, attribute in names.items() if name in wanted}
        # Each net draws its own dropout mask.
        return vmap(lambda one: functional_call(net, one, (x,)), randomness="different")(state)
