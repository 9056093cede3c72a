"""Section 3.3: a controller that also chooses skip connections, by set-selection attention.

Shapes: searches = 1; batch = architectures; decisions; units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprise.parts.search.controller import Controller


class AnchoredController(Controller):
    """Draws layer after layer: at an anchor point the layers before that are its inputs, then its numbers.

    Layer i has i decisions of two options, whether layers 0 to i − 1 are its inputs, and then `choices`.
    """

    def __init__(self, choices: tuple[int, ...], depth: int, units: int, layers: int, bound: float = 0.08) -> None:
        """`choices`: options of each number of a layer; `depth`: of the deepest architecture."""
        super().__init__(choices * depth, 1, units, layers, bound)
        self.choices, self.depth = choices, depth
        """`depth` may be lowered for a while: further decisions are then drawn blindly, and nothing is learned."""
        self.all_decisions = sum(range(depth)) + len(choices) * depth

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(1, *shape).uniform_(-bound, bound))

        self.of_previous, self.of_current, self.v = drawn(units, units), drawn(units, units), drawn(units, 1)
        self.after_anchor = drawn(1, units)

    def is_input(
        self, previous: Float[Tensor, "1 batch units"], current: Float[Tensor, "1 batch units"]
    ) -> Float[Tensor, "1 batch"]:
        """Return P(layer j is an input to layer i) = sigmoid(vᵀ tanh(W_prev h_j + W_curr h_i))."""
        mixed = torch.bmm(previous, self.of_previous) + torch.bmm(current, self.of_current)
        return torch.bmm(mixed.tanh(), self.v)[..., 0].sigmoid()

    def _decisions(self, batch: int, choose: Callable[[int, Tensor], Tensor]) -> Iterator[Tensor]:
        states = [self.embedding.new_zeros(2, 1, batch, self.units) for _ in range(self.layers)]
        x, first, decision = self.embedding[:, :1].expand(-1, batch, -1), 1, 0
        hidden: list[Tensor] = []
        for layer in range(len(self.heads) // len(self.choices)):
            if layer >= self.depth:
                for options in (2,) * layer + self.choices:
                    log_p = x.new_full((1, batch, options), 1 / options).log()
                    yield log_p
                    choose(decision, log_p)
                    decision += 1
                continue
            hidden.append(self._read(x, states))
            for previous in hidden[:-1]:
                p = self.is_input(previous, hidden[-1])
                log_p = torch.stack([1 - p, p], 2).log()
                yield log_p
                choose(decision, log_p)
                decision += 1
            x = self.after_anchor.expand(-1, batch, -1)
            for place, options in enumerate(self.choices, layer * len(self.choices)):
                log_p = torch.bmm(self._read(x, states), self.heads[place]).log_softmax(2)
                yield log_p
                taken = choose(decision, log_p).long() + first
                decision, first = decision + 1, first + options
                if place + 1 < len(self.heads):
                    x = self.embedding.gather(1, taken[..., None].expand(-1, -1, self.units))

    def _read(self, x: Tensor, states: list[Tensor]) -> Tensor:
        """Read an input, and return the state of the last layer. `states` are replaced."""
        for layer, (hidden, cell) in enumerate(states):
            gates = torch.baddbmm(self.biases[layer], x, self.inputs[layer]) + torch.bmm(hidden, self.states[layer])
            i, f, g, o = gates.chunk(4, 2)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            x = o.sigmoid() * cell.tanh()
            states[layer] = torch.stack([x, cell])
        return x
