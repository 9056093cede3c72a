"""Translation of a sentence typed by a user, by way of one vector."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprise.experiments.seq2seq import Pairs, Task, split_words, translations
from reprise.inference.kinds import Translated, Translator, Unusable
from reprise.inference.models import Network
from reprise.parts.data import phrases
from reprise.parts.translation import BEGIN, PAD, UNK


def translate(task: Task, text: str) -> Translated:
    """Return the translation of `text`, by as many beams as the arm has; nothing says where it comes from.

    A model of made-up pairs reads lower-case words, without signs.

    Raises:
        Unusable: it has no word, a word that is none of the model's, or more words than the model learned from.
    """
    config, words = task.config, task.vocabularies
    said = split_words(text).split()
    if config.part == "phrases":
        said = [word.lower() for word in said if word.isalpha()]
    ids = words.source.encode([" ".join(said)])[0]
    if not len(ids):
        raise Unusable("the sentence is empty")
    if config.part == "phrases" and UNK in ids:
        word = said[ids.tolist().index(UNK)]
        raise Unusable(f"the model does not know the word {word!r}; it knows those of: {', '.join(examples()[:2])}")
    if len(ids) > config.longest:
        raise Unusable(f"the sentence has {len(ids)} words; this model was trained on at most {config.longest}")
    [written] = translations(task.network.eval(), read(task, [said]), config, config.beams)
    text = words.target.decode(written)
    return Translated(said, text.split(), [], text)


def read(task: Task, sentences: Sequence[list[str]]) -> Int[Tensor, "batch source"]:
    """Return sentences as the network reads them: in its order, padded on the left."""
    source = task.vocabularies.source.encode([" ".join(one) for one in sentences])
    return Pairs(source, source, task.config).batch(np.arange(len(sentences)), torch.device("cpu")).source


def examples() -> list[str]:
    """Return short English sentences in the words of the made-up pairs."""
    made = (phrases.pair(0, number).source for number in range(100))
    return [" ".join(one) for one in made if len(one) <= 9][:8]


class Steps(nn.Module):
    """An nn.LSTM without biases, word by word. The exporter would fix the number of sentences in torch's own."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(
        self, x: Float[Tensor, "batch words in"], before: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Float[Tensor, "batch words hidden"], tuple[Tensor, Tensor]]:
        """Return the top states at each word, and all layers' last ones [layers, batch, hidden], as nn.LSTM does."""
        hidden, cell = [], []
        for layer in range(self.lstm.num_layers):
            weights = [getattr(self.lstm, f"weight_{of}_l{layer}") for of in ("ih", "hh")]
            empty = x.new_zeros(x.shape[0], self.lstm.hidden_size)
            state, states = (empty, empty) if before is None else (before[0][layer], before[1][layer]), []
            for word in x.unbind(1):
                state = torch.lstm_cell(word, state, *weights)
                states.append(state[0])
            x = torch.stack(states, 1)
            hidden.append(state[0])
            cell.append(state[1])
        return x, (torch.stack(hidden), torch.stack(cell))


def word_by_word(network: nn.Module) -> nn.Module:
    """Return a copy whose LSTMs are `Steps`."""
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LSTM) and not isinstance(parent, Steps):
                setattr(parent, name, Steps(child))
    return network


def networks(task: Task) -> list[Network]:
    """Return the network, from a sentence and the beginning of its translation to what follows."""
    config, said = task.config, [one.split() for one in examples()]
    source = read(task, [one[: config.longest] for one in said])
    target = torch.full((len(said), source.shape[1] + 1), PAD)
    for row, ids in enumerate(source):
        inside = ids[ids != PAD]
        target[row, : len(inside) + 1] = torch.tensor([BEGIN, *(inside % config.target_words).tolist()])
    says = (
        f"source int64 [batch, {source.shape[1]}], words of the sentence in the order in which they are read "
        f"({config.source}), padded on the left with {PAD}, and target int64 [batch, {target.shape[1]}], {BEGIN} and "
        f"then what is written so far, padded on the right with {PAD}, to the log-probability [batch, "
        f"{target.shape[1]}, {config.target_words}] of each word as the next after each place"
    )
    return [Network("network", word_by_word(task.network), {"source": source, "target": target}, "log_probs", says)]


def files(task: Task) -> dict[str, str]:
    """Return the words of both languages, in the order of their ids, a line of JSON each."""
    return {"words.json": task.vocabularies.to_json()}


MODELS = Translator(translate=translate, networks=networks, files=files)
