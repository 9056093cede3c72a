"""Translation of a sentence typed by a user, with the words that the network attended to for each word it wrote."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprise.experiments.attention_nmt import Task, split_words, translations
from reprise.inference.kinds import Translated, Translator, Unusable
from reprise.inference.models import Network
from reprise.parts.data import clauses
from reprise.parts.translation import BEGIN, END, PAD, UNK


def translate(task: Task, text: str) -> Translated:
    """Return the translation of `text`, with the weights of its words, if the network has any.

    A model of made-up pairs reads lower-case words, without signs.

    Raises:
        Unusable: it has no word, an unknown word, or more words than any sentence that the model was trained on.
    """
    config, words = task.config, task.vocabularies
    said = split_words(text)
    if config.part == "clauses":
        said = [word.lower() for word in said if word.isalpha()]
    ids = words.source.encode(said)
    if not ids:
        raise Unusable("the sentence is empty")
    if config.part == "clauses" and UNK in ids:
        word = said[ids.index(UNK)]
        raise Unusable(f"the model does not know the word {word!r}; it knows those of: {', '.join(examples()[:2])}")
    if len(ids) > config.longest:
        raise Unusable(f"the sentence has {len(ids)} words; this model was trained on at most {config.longest}")
    network, source = task.network.eval(), torch.tensor([[*ids, END]])
    [written] = translations(network, source, config)
    weights: list[Tensor] = []
    with torch.no_grad():
        network(source, torch.tensor([[BEGIN, *written]]), weights)
    looked = weights[0][0, : len(written), : len(ids)].tolist() if weights else []
    return Translated(said, [words.target.words[i] for i in written], looked, words.target.decode(written))


def examples() -> list[str]:
    """Return short English sentences that use the words of the made-up pairs."""
    made = (clauses.pair(0, number).source for number in range(200))
    return [" ".join(one) for one in made if len(one) <= 9][:8]


class Steps(nn.Module):
    """An nn.GRU that takes one word at a time. In torch's own the exporter would fix the number of sentences."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.gru = gru

    def forward(
        self, x: Float[Tensor, "batch words in"], hidden: Float[Tensor, "1 batch hidden"] | None = None
    ) -> tuple[Float[Tensor, "batch words hidden"], Float[Tensor, "1 batch hidden"]]:
        """Return the state after each word, and the last one, as nn.GRU does."""
        weights = [getattr(self.gru, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        state, states = x.new_zeros(x.shape[0], self.gru.hidden_size) if hidden is None else hidden[0], []
        for word in x.unbind(1):
            state = torch.gru_cell(word, state, *weights)
            states.append(state)
        return torch.stack(states, 1), state[None]


def word_by_word(network: nn.Module) -> nn.Module:
    """Return a copy whose GRUs are `Steps`, but for a decoder that searches, which takes steps of its own."""
    network = copy.deepcopy(network).eval()
    for name, gru in list(network.named_children()):
        if isinstance(gru, nn.GRU) and not (name == "decoder" and network.alignment is not None):
            setattr(network, name, Steps(gru))
    return network


def networks(task: Task) -> list[Network]:
    """Return the network, from a sentence and the beginning of its translation to the logits of what follows."""
    length, words = task.config.longest + 1, task.vocabularies.source
    source, target = torch.full((8, length), PAD), torch.full((8, length), PAD)
    for row, text in enumerate(examples()):
        ids = words.encode(text.split())[: length - 1]
        source[row, : len(ids) + 1] = torch.tensor([*ids, END])
        target[row, : len(ids) + 1] = torch.tensor([BEGIN, *ids])
    says = (
        f"source int64 [batch, {length}], words of the sentence and then {END}, and target int64 [batch, {length}], "
        f"{BEGIN} and then what is written so far, both padded with {PAD}, to the logit [batch, {length}, "
        f"{task.config.words}] of each word as the next after each place"
    )
    return [Network("network", word_by_word(task.network), {"source": source, "target": target}, "logits", says)]


def files(task: Task) -> dict[str, str]:
    """Return the words of both languages, in the order of their ids."""
    return {"words.json": task.vocabularies.to_json()}


MODELS = Translator(translate=translate, networks=networks, files=files)
