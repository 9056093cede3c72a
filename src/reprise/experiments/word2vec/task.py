"""Training over blocks of text, or by counting, and scoring.

Shapes: vocabulary, size, nodes as in the package; frames of the film.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.experiments.word2vec import kernels, measures, pictures
from reprise.experiments.word2vec.config import (
    Cbow,
    Config,
    Factorised,
    HierarchicalSoftmax,
    Learned,
    NegativeSampling,
    NoiseContrastive,
)
from reprise.experiments.word2vec.counting import factors, positive_information
from reprise.experiments.word2vec.text import (
    LETTERS,
    NOISE_POWER,
    corpus,
    keep_rates,
    noise_shifts,
    noise_table,
    place_weights,
    renumbered,
    shares,
)
from reprise.experiments.word2vec.tree import huffman
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.store import open_words
from reprise.parts.training import Schedule


class Vectors(nn.Module):
    """A vector for each word as an input, which is the word's vector, and one as an output, or for each inner node."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        tree = isinstance(config.method, Learned) and isinstance(config.method.objective, HierarchicalSoftmax)
        # As in the released code: inputs uniform in ± 1 / (2 size), outputs 0.
        inputs = (torch.rand(config.vocabulary, config.size) - 0.5) / config.size
        outputs = torch.zeros(config.vocabulary - tree, config.size)
        self.inputs = nn.Parameter(inputs, requires_grad=False)
        self.outputs = nn.Parameter(outputs, requires_grad=False)

    def forward(self, words: Int64[Tensor, " batch"]) -> Float[Tensor, "batch size"]:
        return self.inputs[words]


def build(run: Run, config: Config) -> WordTask:
    """Build the task of the arm's method."""
    match config.method:
        case Learned() as method:
            return LearningTask(run, config, method)
        case Factorised() as method:
            return CountingTask(run, config, method)


class WordTask(task.Task):
    """Base class of both methods: the text, and the scores of finished vectors."""

    letters: Tensor
    counts: Tensor
    filmed: Tensor
    pairs: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.vectors = Vectors(config)
        # The words themselves, so that a model can be tried without its text.
        self.register_buffer("letters", torch.zeros(config.vocabulary, LETTERS, dtype=torch.uint8))
        self.register_buffer("counts", torch.zeros(config.vocabulary, dtype=torch.int64))
        self.register_buffer("filmed", torch.zeros(config.frames, len(pictures.FILMED), config.size))
        self.register_buffer("pairs", torch.zeros((), dtype=torch.int64))

    def load_data(self) -> None:
        """Open the text, and number its most frequent words."""
        config = self.config
        self.corpus = corpus(self.run.data, config.text, config.vocabulary)
        held = len(self.corpus.words)
        if held < 10:
            raise ValueError(f"the text has {held} different words; expected 10 or more")
        self.letters[:held] = torch.from_numpy(spelt(self.corpus.words))
        self.counts[:held] = torch.from_numpy(self.corpus.counts)
        starts = range(0, len(self.corpus.ids), config.block)
        self.blocks = [self.corpus.ids[start : start + config.block] for start in starts]
        self.sampler = EpochSampler(len(self.blocks), 1, self.run.seed)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """None: the kernels descend by themselves."""
        return []

    def states(self, step: int) -> np.ndarray:
        """Return the states of two generators of random numbers, of this seed and update: uint64 [2]."""
        return np.random.SeedSequence([self.run.seed, step]).generate_state(2, np.uint64)

    @property
    def words(self) -> list[str]:
        """Words that have vectors, by number; those of the text, or of the weights that were loaded."""
        return read_letters(self.letters.cpu().numpy())

    def word_scores(self, given: Int64[Tensor, " some"]) -> Float[Tensor, "some vocabulary"]:
        """Return a score of every word as a window's centre, in the order of its probability given a word in it."""
        raise NotImplementedError

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        """Score the words' vectors, and draw them."""
        config, words = self.config, self.words
        vectors = self.vectors.inputs[: len(words)].detach().cpu()
        asked = measures.questions(self.run.data / "analogies", words, config.questions)
        metrics = measures.analogies(vectors, asked, config.sections)
        metrics["similarity"] = measures.similarity(vectors, self.run.data / "similarity", words)
        known, centre = self.held_out()
        metrics["held_out_rank"] = measures.mean_rank(self.word_scores, known, centre)
        metrics["pairs"] = max(int(self.pairs), 1) / 1e6
        numbers = {word: number for number, word in enumerate(words)}
        drawn: dict[str, Picture] = {"pairs": pictures.pairs(vectors.numpy(), numbers)}
        known_words = [word for word in pictures.FILMED if word in numbers]
        if config.frames and len(known_words) > 4:
            places = [pictures.FILMED.index(word) for word in known_words]
            moments = [
                f"{round(100 * frame / max(config.frames - 1, 1))} % of the training" for frame in range(config.frames)
            ]
            drawn["words_drifting"] = pictures.drifting(
                self.filmed[:, places].cpu().numpy(), known_words, moments, self.run.seed
            )
        return Evaluation(metrics, drawn)

    def held_out(self) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
        """Return pairs of a known word and its window's centre, from the texts kept back for the test."""
        opened = [open_words(self.run.data / part, "test") for part in self.config.text]
        ids = [renumbered(one.ids, list(one.vocabulary), self.words) for one in opened]
        return measures.neighbours(np.concatenate(ids), self.config.held_out, self.config.window, seed=0)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and outputs as arrays that share their memory, for kernels to write to."""
        return self.vectors.inputs.detach().cpu().numpy(), self.vectors.outputs.detach().cpu().numpy()

    def write(self, inputs: np.ndarray, outputs: np.ndarray) -> None:
        """Copy what kernels wrote to where the weights are, if that is not the processor's memory."""
        if self.vectors.inputs.device.type != "cpu":
            self.vectors.inputs.copy_(torch.from_numpy(inputs))
            self.vectors.outputs.copy_(torch.from_numpy(outputs))


class LearningTask(WordTask):
    """One update descends over one block of text."""

    log_every = 50

    def __init__(self, run: Run, config: Config, method: Learned) -> None:
        super().__init__(run, config)
        self.method = method

    def load_data(self) -> None:
        super().load_data()
        config, counts = self.config, self.corpus.counts
        self.schedule = Schedule(self.method.schedule, config.duration.steps(len(self.blocks)), len(self.blocks))
        self.keep = keep_rates(counts, config.subsample)
        match self.method.objective:
            case HierarchicalSoftmax():
                self.tree = huffman(counts)
            case NegativeSampling() | NoiseContrastive():
                self.noise = noise_table(counts)
        if isinstance(self.method.objective, NoiseContrastive):
            self.shifts = noise_shifts(counts, self.method.objective.negatives)
        else:
            self.shifts = np.zeros(len(counts), np.float32)
        encoded = isinstance(self.method.model, Cbow) and self.method.model.encoding == "position"
        self.weights = place_weights(config.window, config.size)
        if not encoded:
            self.weights[:] = 1

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Learn from one block of text, after its frequent words were thinned out."""
        self._film(step)
        first, second = self.states(step)
        inputs, outputs = self.arrays()
        words = kernels.thinned(self.blocks[int(self.sampler.indices(step))], self.keep, first)
        lr, window = np.float32(self.method.lr * self.schedule.at(step)), self.config.window
        match self.method.objective:
            case HierarchicalSoftmax():
                tree = (self.tree.paths, self.tree.turns, self.tree.lengths)
                loss, pairs = kernels.skip_gram_tree(words, inputs, outputs, *tree, window, lr, second)
            case NegativeSampling() | NoiseContrastive() as objective:
                sampling = (self.noise, self.shifts, objective.negatives, window)
                if isinstance(self.method.model, Cbow):
                    loss, pairs = kernels.cbow_sampling(words, inputs, outputs, *sampling, self.weights, lr, second)
                else:
                    loss, pairs = kernels.skip_gram_sampling(words, inputs, outputs, *sampling, lr, second)
        self.write(inputs, outputs)
        self.pairs += pairs
        if step + 1 == self.total_steps:
            self._film(self.total_steps)
        return {"loss": loss / max(pairs, 1)}

    def _film(self, step: int) -> None:
        """Keep the vectors of the film's words at evenly spaced updates, the first before any, the last after all."""
        last = self.config.frames - 1
        if last < 1:
            return
        frame, over = divmod(step * last, self.total_steps)
        if over < last:  # the first update at or after the frame's moment
            numbers = {word: number for number, word in enumerate(self.corpus.words)}
            for place, word in enumerate(pictures.FILMED):
                if word in numbers:
                    self.filmed[frame, place] = self.vectors.inputs[numbers[word]]

    def word_scores(self, given: Int64[Tensor, " some"]) -> Float[Tensor, "some vocabulary"]:
        held = len(self.words)
        inputs, outputs = self.vectors.inputs[given].cpu(), self.vectors.outputs.cpu()
        match self.method.objective:
            case HierarchicalSoftmax():
                return measures.tree_scores(inputs, outputs, huffman(self.counts[:held].cpu().numpy()))
            case NoiseContrastive():
                return inputs @ outputs[:held].T  # the logarithm of a softmax's numerator
            case NegativeSampling():
                # Dot products approach log p(word | given) - log k p_noise(word) (Levy & Goldberg 2014).
                noise = shares(self.counts[:held].cpu().numpy(), NOISE_POWER)
                return inputs @ outputs[:held].T + torch.from_numpy(noise).log().float()


class CountingTask(WordTask):
    """One update counts all pairs, and factorises their information."""

    log_every = 1

    def __init__(self, run: Run, config: Config, method: Factorised) -> None:
        super().__init__(run, config)
        self.method = method

    @property
    def total_steps(self) -> int:
        return 1

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Count over the whole text, its frequent words thinned out as for the other arms."""
        inputs, outputs = self.arrays()
        words = len(self.corpus.words)
        counts = np.zeros((words, words), np.float32)
        keep, pairs = keep_rates(self.corpus.counts, self.config.subsample), 0
        for number, block in enumerate(self.blocks):
            thinned = kernels.thinned(block, keep, self.states(number)[0])
            pairs += kernels.count_pairs(thinned, counts, self.config.window)
        information = positive_information(counts, self.method.shift)
        left, right, values = factors(information, self.config.size, self.method.power, self.run.seed)
        inputs[:], outputs[:] = 0, 0
        inputs[:words, : left.shape[1]], outputs[:words, : right.shape[1]] = left, right
        self.write(inputs, outputs)
        self.pairs += pairs
        return {"unexplained": 1 - float((values**2).sum() / max(information.power(2).sum(), 1e-9))}

    def word_scores(self, given: Int64[Tensor, " some"]) -> Float[Tensor, "some vocabulary"]:
        held = len(self.words)
        own = torch.from_numpy(shares(self.counts[:held].cpu().numpy(), NOISE_POWER)).log().float()
        return self.vectors.inputs[given].cpu() @ self.vectors.outputs[:held].cpu().T + own


def spelt(words: list[str]) -> UInt8[np.ndarray, "words letters"]:
    """Return the words as ASCII, with zeros after the last letter."""
    rows = [word.encode().ljust(LETTERS, b"\0") for word in words]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, LETTERS).copy()


def read_letters(letters: UInt8[np.ndarray, "words letters"]) -> list[str]:
    """Return the words of `spelt`; rows of zeros are none."""
    return [bytes(row).rstrip(b"\0").decode() for row in letters if row[0]]
