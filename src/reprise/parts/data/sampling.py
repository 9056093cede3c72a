"""Sampling of batches. Batch k is a pure function of (seed, k), so that a resumed run needs no state."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def share_of(batch_size: int, rank: int, world_size: int) -> slice:
    """Return the part of a global batch that belongs to `rank`.

    Raises:
        ValueError: the batch cannot be shared equally.
    """
    if batch_size % world_size:
        raise ValueError(f"batch_size is {batch_size}; expected a multiple of the {world_size} devices")
    share = batch_size // world_size
    return slice(rank * share, (rank + 1) * share)


def subset(total: int, count: int, seed: int) -> slice | Int[np.ndarray, " count"]:
    """Return which `count` of `total` examples a seed trains on, as sorted indices, or all if there are no more.

    Like a replication, each seed draws its own training data. Validation and test data stay the same for every seed.
    """
    if count >= total:
        return slice(None)
    # Sorted, as memory-mapped files are read faster in order.
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))


def generator_of(*key: int) -> torch.Generator:
    """Return a random generator of its own for each key."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


class EpochSampler:
    """Batches drawn without replacement, in a new order every epoch. A last partial batch is dropped."""

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        """`size`: number of examples.

        Raises:
            ValueError: unless 1 <= batch_size <= size.
        """
        if not 1 <= batch_size <= size:
            raise ValueError(f"batch_size is {batch_size}; expected 1 to {size}, the number of training examples")
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = size // batch_size
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int, rank: int = 0, world_size: int = 1) -> Tensor:
        """Return the share of `rank` in the batch of update `step` (from 0), int64 [batch_size / world_size].

        The shares of all ranks in order make up the batch of a single rank.

        Raises:
            ValueError: the batch cannot be shared equally.
        """
        share = share_of(self.batch_size, rank, world_size)
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            # Philox takes a key, so every (seed, epoch) gets its own stream without any state.
            shuffle = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            self._order = torch.from_numpy(shuffle.permutation(self.size))
            self._epoch = epoch
        return self._order[batch * self.batch_size : (batch + 1) * self.batch_size][share]
