"""GPT's first stage: the next word of running text (Section 3.1), watched without any training on a task."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from reprise.core.contract import Run
from reprise.core.run.task import Evaluation, Task
from reprise.experiments.gpt import config as settings
from reprise.experiments.gpt.examples import order_pairs, sentences_of
from reprise.experiments.gpt.model import LanguageModel
from reprise.parts.data.sampling import EpochSampler, share_of
from reprise.parts.data.store import Texts, open_texts
from reprise.parts.optim import build_optimizer
from reprise.parts.text import Ragged, Vocabulary, WordPiece, packed_with_vocabulary, padded
from reprise.parts.training import Schedule

CHECKPOINTS = 10
"""How often, evenly spaced, zero-shot accuracy is measured and a text is written."""
WRITTEN = 40
"""Tokens of such a text, prompt and start token included."""
PROMPT = "the film is"
_AT_ONCE = 125
_IGNORED = -100


class Progress(nn.Module):
    """Abilities of the model at each checkpoint of its pretraining, saved with the weights."""

    def __init__(self, length: int) -> None:
        """`length`: tokens of a text, of which none has more than `WRITTEN`."""
        super().__init__()
        self.zero_shot: Tensor
        self.written: Tensor
        self.register_buffer("zero_shot", torch.zeros(CHECKPOINTS))
        self.register_buffer("written", torch.zeros(CHECKPOINTS, min(length, WRITTEN), dtype=torch.int64))


def language_loss(
    model: LanguageModel, hidden: Float[Tensor, "... seq dim"], targets: Int[Tensor, "... seq"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the next tokens (Equation 1), in nats; targets of -100 do not count."""
    counted = targets != _IGNORED
    # The multiplication by the vocabulary is most of the work, so it is not done for padding.
    return F.cross_entropy(model.logits(hidden[counted]), targets[counted])


def next_tokens(
    ids: Int[Tensor, "orders batch seq"], lengths: Int[Tensor, "orders batch"]
) -> Int[Tensor, "orders batch seq"]:
    """Return what follows each token of padded sequences, -100 at the last token and at padding."""
    places = torch.arange(ids.shape[-1], device=ids.device)
    return ids.roll(-1, -1).masked_fill(places >= lengths[..., None] - 1, _IGNORED)


def mean_log_probs(model: LanguageModel, texts: Ragged, start: int, device: torch.device) -> Float[Tensor, " texts"]:
    """Return the mean log-probability of the tokens of each text, after the token `start` (Section 5)."""
    found = []
    for first in range(0, len(texts.offsets) - 1, _AT_ONCE):
        rows = np.arange(first, min(first + _AT_ONCE, len(texts.offsets) - 1))
        targets = padded(texts, rows, _IGNORED).to(device)
        ids = F.pad(targets.clamp(min=0), (1, 0), value=start)[:, :-1]
        counted = targets != _IGNORED
        losses = F.cross_entropy(model.logits(model(ids)[counted]).float(), targets[counted], reduction="none")
        sums = torch.zeros(targets.shape, device=device).masked_scatter(counted, losses).sum(1)
        found.append(-sums / counted.sum(1))
    return torch.cat(found)


@torch.no_grad()
def continued(
    model: LanguageModel,
    ids: list[int],
    length: int,
    forbidden: list[int],
    draws: Float[np.ndarray, " tokens"] | None = None,
) -> list[int]:
    """Return the tokens `ids` and what the model writes after them, `length` tokens in all.

    Greedy without `draws`; with these numbers, uniform in [0, 1), each token is drawn from the model's distribution.
    Tokens in `forbidden` are not written.
    """
    written, device = list(ids), model.tokens.weight.device
    while len(written) < length:
        logits = model.logits(model(torch.tensor([written], device=device))[0, -1]).float()
        logits[forbidden] = -torch.inf
        if draws is None:
            written.append(int(logits.argmax()))
            continue
        shares = logits.double().softmax(-1).cumsum(-1)
        at = torch.searchsorted(shares, shares[-1:] * float(draws[len(written) - len(ids)]), right=True)
        written.append(min(int(at), len(shares) - 1))
    return written


class PretrainingTask(Task):
    """Pretraining on running text."""

    log_every = 20
    prefers_bf16 = True

    def __init__(self, run: Run, config: settings.Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.settings = config.pretrain
        self.model = LanguageModel(config.model)
        self.vocabulary = Vocabulary()
        self.progress = Progress(config.model.positions)

    def load_data(self) -> None:
        """Open the packed text without its held-out documents, and read the sentences of these."""
        first, *others = (open_texts(self.run.data / part) for part in self.settings.text)
        kept = len(first) - self.settings.held_out
        if kept < 1:
            raise ValueError(
                f"pretrain.held_out is {self.settings.held_out}; expected less than {len(first)}, all there are"
            )
        self.vocabulary.pieces, self.packed = packed_with_vocabulary(
            [Texts(first.blob, first.offsets[: kept + 1]), *others],
            _cache(self.run.data),
            vocab_size=self.config.model.vocab_size,
        )
        self.wordpiece = WordPiece(self.vocabulary.pieces)
        pairs = order_pairs(sentences_of(first[kept:]), self.settings.sentences)
        room = self.config.model.positions
        self.held_out = [_cut(self.wordpiece.encode([pair[i] for pair in pairs]), room) for i in (0, 1)]
        self.sampler = EpochSampler(
            (len(self.packed.ids) - 1) // self.settings.length, self.settings.batch_size, self.run.seed
        )
        self.schedule = Schedule.of(self.settings, self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        """Number of updates."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.model, self.settings.optimizer)

    def batch(self, step: int) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
        """Return the tokens of update `step` and those that follow them; every device takes its share."""
        length = self.settings.length
        starts = self.sampler.indices(step).numpy() * length
        windows = self.packed.ids[starts[:, None] + np.arange(length + 1)].astype(np.int64)
        mine = torch.from_numpy(windows[share_of(self.settings.batch_size, self.rank, self.world_size)])
        return mine[:, :-1].to(self.device), mine[:, 1:].to(self.device)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Make one update (Equation 1); at a checkpoint, look at what the model can do."""
        ids, targets = self.batch(step)
        loss, scale = language_loss(self.model, self.model(ids), targets), self.schedule.at(step)
        self.descend(loss, self.raw_optimizers[0], self.settings.optimizer, scale)
        said: dict[str, Tensor | float] = {"language_loss": loss.detach()}
        begun, done = (at * CHECKPOINTS // self.total_steps for at in (step, step + 1))
        if done > begun:
            training = self.training
            self.eval()
            said["zero_shot"] = 100 * self.zero_shot()
            self.progress.zero_shot[begun:done] = said["zero_shot"]
            self.progress.written[begun:done] = torch.tensor(self.written(), device=self.device)
            self.train(training)
        return said

    @torch.no_grad()
    def zero_shot(self) -> Float[Tensor, ""]:
        """Return the share of held-out sentences more probable than the same with two words exchanged.

        It is the paper's heuristic for CoLA, the mean log-probability of the tokens, with the other form in place of a
        threshold (Section 5).
        """
        as_is, other = (mean_log_probs(self.model, texts, self.wordpiece.cls, self.device) for texts in self.held_out)
        return (as_is > other).float().mean()

    def written(self) -> list[int]:
        """Return a prompt and what the model writes after it, by the same draws at every checkpoint."""
        ids = [self.wordpiece.cls, *self.wordpiece.encode([PROMPT])[0].tolist()]
        draws = np.random.default_rng(self.run.seed).random(WRITTEN)
        return continued(self.model, ids, self.progress.written.shape[1], self.wordpiece.special.tolist(), draws)

    def evaluate(self) -> Evaluation:
        """Return no metrics: pretraining is judged by fine-tuning."""
        return Evaluation({})


def _cut(texts: Ragged, room: int) -> Ragged:
    """Return the texts without what is beyond `room` tokens."""
    rows = [texts[i][:room] for i in range(len(texts.offsets) - 1)]
    return Ragged(np.concatenate(rows), np.cumsum([0] + [len(row) for row in rows], dtype=np.int64))


def _cache(data: Path) -> Path:
    """Return the cache next to the runs' working folders, which `REPRISE_WORK` moves."""
    return Path(os.environ.get("REPRISE_WORK", data.parents[2] / ".reprise" / "runs")).parent / "cache" / "text"
