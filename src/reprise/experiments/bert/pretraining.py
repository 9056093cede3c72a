"""BERT's first stage: masked words, next sentences, or next words, on packed text (Sections 3.1 and A.2)."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from reprise.core.contract import Run
from reprise.core.run.task import Evaluation, Task
from reprise.experiments.bert import config as settings
from reprise.experiments.bert.model import Pretrainer, load_published_
from reprise.parts.data.sampling import EpochSampler, share_of
from reprise.parts.data.store import open_texts
from reprise.parts.optim import build_optimizer
from reprise.parts.text import Packed, Vocabulary, WordPiece, corrupt, packed_with_vocabulary
from reprise.parts.training import Schedule

_BATCHES = 1 << 62
"""First stream of the generators that make batches; the streams that order epochs count from 0."""


class Batch(NamedTuple):
    """[CLS] A [SEP] B [SEP], and what is to be predicted."""

    shown: Int[Tensor, "batch seq"]
    segments: Int[Tensor, "batch seq"]
    """0 up to the first [SEP], 1 after it."""
    positions: Int[Tensor, "batch predicted"]
    targets: Int[Tensor, "batch predicted"]
    is_random: Int[Tensor, " batch"]
    """1 if B is a random sentence of the corpus instead of the text after A."""


def two_sentences(
    packed: Packed,
    windows: np.ndarray,
    length: int,
    vocabulary: WordPiece,
    generator: np.random.Generator,
    *,
    random_next: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Build [CLS] A [SEP] B [SEP] from the text at `windows` (indices of first tokens, int64 [batch]), unpadded.

    A ends at the end of a random sentence, or anywhere if no sentence ends within reach. B is the text after A or, in
    half of the cases with `random_next`, text from the start of a random sentence. Returns ids and segments, int64
    [batch, length], and is_random, int64 [batch].
    """
    body = length - 3
    target = windows + generator.integers(1, body, len(windows))
    sentence = packed.starts[np.minimum(np.searchsorted(packed.starts, target), len(packed.starts) - 1)]
    cut = np.where((sentence >= target) & (sentence < windows + body), sentence, target) - windows
    # Drawn in every arm, so that all arms use the same random numbers.
    elsewhere = packed.starts[generator.integers(0, len(packed.starts), len(windows))]
    is_random = (generator.random(len(windows)) < 0.5) & random_next

    column = np.arange(body)
    # Tokens of B are one place further right, after the [SEP] between A and B.
    behind = column >= cut[:, None]
    at = np.where(behind & is_random[:, None], elsewhere[:, None] - cut[:, None], windows[:, None]) + column
    ids = np.full((len(windows), length), vocabulary.sep, np.int64)
    ids[:, 0] = vocabulary.cls
    # Text after the last token continues with the first.
    np.put_along_axis(ids, column + 1 + behind, packed.ids[at % len(packed.ids)].astype(np.int64), axis=1)
    segments = (np.arange(length) > cut[:, None] + 1).astype(np.int64)
    return ids, segments, is_random.astype(np.int64)


def pretraining_losses(model: Pretrainer, batch: Batch, objective: str) -> dict[str, Float[Tensor, ""]]:
    """Return mean cross-entropies of the predicted tokens and, for `mlm_nsp`, of whether B follows A (Section 3.1).

    A masked model predicts a token at its own position, a left-to-right one at the position before. The last block, and
    the multiplication by the vocabulary, are only computed for the positions that predict something.
    """
    causal = objective == "left_to_right"
    at = batch.positions - 1 if causal else batch.positions
    asked = objective == "mlm_nsp"
    token_logits, next_sentence = model(batch.shown, batch.segments, at, causal=causal, next_sentence=asked)
    losses = {"token_loss": F.cross_entropy(token_logits, batch.targets.flatten())}
    if next_sentence is not None:
        losses["next_sentence_loss"] = F.cross_entropy(next_sentence, batch.is_random)
    return losses


class PretrainingTask(Task):
    """Pretraining with one of three objectives, on the same text windows, predicting the same tokens."""

    log_every = 50
    prefers_bf16 = True

    def __init__(self, run: Run, config: settings.Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.settings = config.pretrain
        self.model = Pretrainer(config.model)
        self.vocabulary = Vocabulary()

    def load_data(self) -> None:
        """Open the packed text and, if any, the checkpoint to start from."""
        start, pieces = self.settings.start_from, None
        if start.kind != "scratch":
            pieces = load_published_(self.model, Path(start.path) if start.kind == "folder" else _fetched(start))
        parts = [open_texts(self.run.data / part) for part in self.settings.text]
        self.vocabulary.pieces, self.packed = packed_with_vocabulary(
            parts,
            _cache(self.run.data),
            vocab_size=self.config.model.vocab_size,
            pieces=pieces,
        )
        self.wordpiece = WordPiece(self.vocabulary.pieces)
        # Windows are numbered per length: a phase with longer sequences has fewer.
        self.samplers = {
            phase.length: EpochSampler(
                len(self.packed.ids) // (phase.length - 3), self.settings.batch_size, self.run.seed
            )
            for phase in self.settings.phases
        }
        # An epoch is the number of updates that show every token about once, at the first phase's length.
        first = self.samplers[self.settings.phases[0].length]
        self.schedule = Schedule.of(self.settings, first.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        """Number of updates of all phases."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.model, self.settings.optimizer)

    def length(self, step: int) -> int:
        """Return the number of tokens per sequence at update `step`."""
        phases = self.settings.phases
        begun = itertools.accumulate((phase.share for phase in phases[:-1]), initial=0.0)
        return [p.length for p, begins in zip(phases, begun, strict=True) if step >= begins * self.total_steps][-1]

    def batch(self, step: int) -> Batch:
        """Return the batch of update `step`, a function of seed and step; only NSP's B differs between arms.

        Every device draws the whole batch, and takes its share.
        """
        length = self.length(step)
        indices = self.samplers[length].indices(step).numpy()
        generator = np.random.Generator(np.random.Philox(key=[self.run.seed, _BATCHES + step]))
        ids, segments, is_random = two_sentences(
            self.packed,
            indices * (length - 3),
            length,
            self.wordpiece,
            generator,
            random_next=self.settings.objective == "mlm_nsp",
        )
        shown, positions = corrupt(
            ids,
            self.wordpiece,
            generator,
            predicted=max(1, round(self.settings.predicted * length)),
            mask_share=self.settings.mask_share,
            random_share=self.settings.random_share,
        )
        # It reads the text uncorrupted, but predicts the same tokens.
        if self.settings.objective == "left_to_right":
            shown = ids
        targets = np.take_along_axis(ids, positions, axis=1)
        mine = share_of(self.settings.batch_size, self.rank, self.world_size)
        whole = (shown, segments, positions, targets, is_random)
        return Batch(*(torch.from_numpy(array[mine]).to(self.device) for array in whole))

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Make one update, as in Section A.2."""
        batch = self.batch(step)
        losses = pretraining_losses(self.model, batch, self.settings.objective)
        loss, scale = torch.stack([*losses.values()]).sum(), self.schedule.at(step)
        self.descend(loss, self.raw_optimizers[0], self.settings.optimizer, scale)
        return {name: loss.detach() for name, loss in losses.items()}

    def evaluate(self) -> Evaluation:
        """Return no metrics: pretraining is judged by fine-tuning."""
        return Evaluation({})


def _cache(data: Path) -> Path:
    """Return the cache next to the runs' working folders, which `REPRISE_WORK` moves."""
    return Path(os.environ.get("REPRISE_WORK", data.parents[2] / ".reprise" / "runs")).parent / "cache" / "text"


def _fetched(start: settings.FromHub) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["model.safetensors", "vocab.txt"]
    return Path(snapshot_download(start.repository, revision=start.revision, allow_patterns=patterns))
