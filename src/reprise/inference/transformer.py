"""Translation of a sentence typed by a user, with the pieces that the network attended to for each piece it wrote."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.experiments.transformer import Task, translations
from reprise.inference.kinds import Translated, Translator, Unusable
from reprise.inference.models import Network
from reprise.parts.data import phrases
from reprise.parts.translation import BEGIN, END, PAD, UNK


def translate(task: Task, text: str) -> Translated:
    """Return the translation of `text`, with the last layer's attention from each of its pieces, mean over heads.

    A model of whole words reads lower-case ones, without punctuation.

    Raises:
        Unusable: it has an unknown word or character, or more pieces than any sentence that the model was trained on.
    """
    pieces, config = task.vocabulary.pieces, task.config
    said = text if pieces.merges is not None else "".join(c for c in text.lower() if c.isalpha() or c.isspace())
    ids = pieces.encode([said])[0].tolist()
    if not ids:
        raise Unusable("the sentence is empty")
    if UNK in ids and pieces.merges is None:
        word = said.split()[ids.index(UNK)]
        raise Unusable(f"the model does not know the word {word!r}; it knows those of: {', '.join(examples()[:2])}")
    if UNK in ids:
        raise Unusable("the sentence has characters that the model does not know")
    if len(ids) > config.longest:
        raise Unusable(f"the sentence has {len(ids)} pieces; this model was trained on at most {config.longest}")
    network, source = translating(task), torch.tensor([[*ids, END]])
    [written] = translations(network, source, config)
    attention: list[Tensor] = []
    with torch.no_grad():
        network(source, torch.tensor([[BEGIN, *written]]), attention)
    looked = attention[-1][0].mean(0)[: len(written), : len(ids)]
    return Translated(
        [pieces.pieces[i] for i in ids], [pieces.pieces[i] for i in written], looked.tolist(), pieces.decode(written)
    )


def translating(task: Task) -> nn.Module:
    """Return the network that translates: the mean of the last checkpoints, or the last one, in evaluation mode."""
    return (task.network if task.mean is None else task.mean).eval()


def examples() -> list[str]:
    """Return English sentences that use the words of the made-up pairs."""
    return [" ".join(phrases.pair(0, number).source[:7]) for number in range(8)]


def networks(task: Task) -> list[Network]:
    """Return the network, from a sentence and the beginning of its translation to the logits of what follows."""
    pieces, length = task.vocabulary.pieces, task.config.longest + 1
    source, target = torch.full((8, length), PAD), torch.full((8, length), PAD)
    texts = pieces.encode(examples())
    for row in range(8):
        ids = texts[row].tolist()[: length - 1]
        source[row, : len(ids) + 1] = torch.tensor([*ids, END])
        target[row, : len(ids) + 1] = torch.tensor([BEGIN, *ids])
    says = (
        f"source int64 [batch, {length}], pieces of the sentence and then {END}, and target int64 [batch, {length}], "
        f"{BEGIN} and then what is written so far, both padded with {PAD}, to the logit [batch, {length}, "
        f"{task.config.pieces}] of each piece as the next after each place"
    )
    return [Network("network", translating(task), {"source": source, "target": target}, "logits", says)]


def files(task: Task) -> dict[str, str]:
    """Return the pieces with the merges that make them."""
    return {"pieces.json": task.vocabulary.pieces.to_json()}


MODELS = Translator(translate=translate, networks=networks, files=files)
