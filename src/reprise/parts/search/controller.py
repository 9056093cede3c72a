"""A recurrent controller that draws architectures, decision by decision, and learns by REINFORCE.

Zoph & Le 2017, Neural architecture search with reinforcement learning, Section 3. Each search has its own
controller; they form one module, whose weights have a first axis over searches.

Shapes: searches; batch = architectures that one update learns from; decisions; units = of a layer; options, of all
decisions together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprise.parts.search.codes import Codes, Space
from reprise.parts.search.searchers import Accuracies, Searcher


class Controller(nn.Module):
    """An LSTM whose input is the embedding of the previous decision and whose output is the distribution of the next.

    Each decision has its own embedding of options and its own softmax (Zoph & Le, Figure 2).
    """

    def __init__(self, options: tuple[int, ...], searches: int, units: int, layers: int, bound: float = 0.08) -> None:
        """Weights are drawn from U(-bound, bound) (Zoph & Le, Section 4.1)."""
        super().__init__()
        self.options, self.units, self.layers = options, units, layers

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(searches, *shape).uniform_(-bound, bound))

        # Of the embeddings the first is the input of the first decision.
        self.embedding = drawn(1 + sum(options[:-1]), units)
        self.inputs = nn.ParameterList(drawn(units, 4 * units) for _ in range(layers))
        self.states = nn.ParameterList(drawn(units, 4 * units) for _ in range(layers))
        self.biases = nn.ParameterList(drawn(1, 4 * units) for _ in range(layers))
        self.heads = nn.ParameterList(drawn(units, count) for count in options)

    def forward(
        self, codes: Int[Tensor, "searches batch decisions"]
    ) -> tuple[Float[Tensor, "searches batch"], Float[Tensor, "searches batch"]]:
        """Return log p of architectures, and the sum of the entropies of the decisions, in nats."""
        likelihood = entropy = torch.zeros(codes.shape[:2], device=codes.device)
        for decision, log_p in enumerate(self._decisions(codes.shape[1], lambda decision, _: codes[..., decision])):
            likelihood = likelihood + log_p.gather(2, codes[..., decision, None])[..., 0]
            entropy = entropy - (log_p.exp() * log_p).sum(2)
        return likelihood, entropy

    @torch.no_grad()
    def drawn(
        self, uniform: Float[np.ndarray, "searches batch decisions"]
    ) -> Int[np.ndarray, "searches batch decisions"]:
        """Draw architectures by inverse sampling, from one number in [0, 1) per decision."""
        chosen: list[Tensor] = []

        def choose(decision: int, log_p: Tensor) -> Tensor:
            within = torch.from_numpy(uniform[..., decision : decision + 1]).to(log_p.device)
            above = log_p.double().exp().cumsum(2)[..., :-1] <= within
            chosen.append(above.sum(2))
            return chosen[-1]

        for _ in self._decisions(uniform.shape[1], choose):
            pass
        return torch.stack(chosen, 2).cpu().numpy()

    def probabilities(self, codes: Int[Tensor, "searches batch decisions"]) -> list[Float[Tensor, "searches options"]]:
        """Return the probabilities of each decision's options, as a mean over architectures that lead there."""
        every = self._decisions(codes.shape[1], lambda decision, _: codes[..., decision])
        return [log_p.exp().mean(1) for log_p in every]

    def _decisions(self, batch: int, choose: Callable[[int, Tensor], Tensor]) -> Iterator[Tensor]:
        """Yield log p [searches, batch, options] of each decision; `choose(decision, log_p)` says what is taken."""
        searches = len(self.embedding)
        states = [self.embedding.new_zeros(2, searches, batch, self.units) for _ in range(self.layers)]
        x, first = self.embedding[:, :1].expand(-1, batch, -1), 1
        for decision, head in enumerate(self.heads):
            for layer, (hidden, cell) in enumerate(states):
                gates = torch.baddbmm(self.biases[layer], x, self.inputs[layer]) + torch.bmm(hidden, self.states[layer])
                i, f, g, o = gates.chunk(4, 2)
                cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
                x = o.sigmoid() * cell.tanh()
                states[layer] = torch.stack([x, cell])
            log_p = torch.bmm(x, head).log_softmax(2)
            yield log_p
            if decision + 1 < len(self.heads):
                taken = choose(decision, log_p).long() + first
                x = self.embedding.gather(1, taken[..., None].expand(-1, -1, self.units))
                first += self.options[decision]
            else:
                choose(decision, log_p)


class Reinforce(Searcher):
    """Draws a batch of architectures and, once they are measured, makes those better than usual more probable.

    The baseline is an exponential moving average of earlier accuracies (Zoph & Le, Section 3.2).
    """

    def __init__(
        self,
        space: Space,
        random: np.random.Generator,
        controller: Controller,
        batch: int,
        decay: float,
        entropy: float,
    ) -> None:
        """`decay`: of the moving average; `entropy`: weight of the controller's entropy, in accuracies per nat."""
        super().__init__(space, random)
        self.controller, self.batch, self.decay, self.entropy = controller, batch, decay, entropy
        searches, decisions = space.searches, len(space.code.options)
        self.codes, self.rewards = np.zeros((searches, batch, decisions), np.int64), np.zeros((searches, batch))
        self.baseline = np.full(searches, np.nan)

    def propose(self) -> Codes:
        place = self.step % self.batch
        if place == 0:
            self.codes = self._drawn()
        return self.codes[:, place].astype(np.int8)

    def observe(self, codes: Codes, accuracies: Accuracies) -> Tensor | None:
        """Return the loss of a whole batch, a sum over searches, which share no weights."""
        self.rewards[:, self.step % self.batch] = accuracies
        self.step += 1
        if self.step % self.batch:
            return None
        means = self.rewards.mean(1)
        self.baseline = np.where(np.isnan(self.baseline), means, self.baseline)
        advantage = self.rewards - self.baseline[:, None]
        self.baseline = self.decay * self.baseline + (1 - self.decay) * means
        device = self.controller.embedding.device
        likelihood, entropy = self.controller(torch.from_numpy(self.codes).to(device))
        gain = torch.from_numpy(advantage).float().to(device) * likelihood + self.entropy * entropy
        return -gain.mean(1).sum()

    def _drawn(self) -> np.ndarray:
        """Draw a batch for every search; invalid codes are drawn again."""
        shape = self.codes.shape
        codes = self.controller.drawn(self.random.random(shape))
        flat = codes.reshape(-1, shape[2])
        while (bad := ~self.space.is_valid(flat)).any():
            flat[bad] = self.controller.drawn(self.random.random(shape)).reshape(flat.shape)[bad]
        return codes
