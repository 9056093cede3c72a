"""The classifier with the most labels, the autoencoder that shares its initialisation, and the pretrained machines."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from reprise.inference.images import flat, image_networks, pixels, test_images
from reprise.inference.kinds import Classifier, Output, Parts
from reprise.inference.models import Network


def output(config: Any) -> Output | None:
    """Return what the arm does; without labels, or with principal components, it reconstructs images."""
    return "autoencoder" if config.model.kind == "pca" or not config.finetune.labels else "classifier"


def parts(task: Any) -> Parts:
    """Return the classifier with the most labels or, without labels, the autoencoder or principal components."""
    if task.config.model.kind == "pca":
        return Parts(flat, nn.Sequential(task.components, nn.Unflatten(1, (28, 28))))
    if not task.config.finetune.labels:
        return Parts(flat, autoencoder(task))
    most = max(task.config.finetune.labels)
    return Parts(flat, task.classifiers[str(most)], f"the classifier trained on {most} labels")


def autoencoder(task: Any) -> nn.Module:
    """Return the autoencoder as a network from pixels to pixels."""
    back = nn.Sequential(nn.Flatten(), task.autoencoder, nn.Sigmoid(), nn.Unflatten(1, (28, 28)))
    return back.eval()


def networks(task: Any) -> list[Network]:
    """Return the judged model and, with a classifier, also the autoencoder; for the first stage, the machines."""
    if task.run.stage == "pretrain":
        return machines(task)
    whole = image_networks(MODELS, task, task.config)
    if output(task.config) == "classifier" and task.config.finetune.autoencoder.duration.amount > 0:
        images = pixels(test_images(task, "digits")[0][:8])
        says = "images [batch, 28, 28], pixels 0 to 1, to images [batch, 28, 28] again"
        whole.append(Network("autoencoder", autoencoder(task), {"images": images}, "reconstruction", says))
    return whole


def machines(task: Any) -> list[Network]:
    """Return the machines of the first stage, stacked into the encoder that they initialise."""
    if not len(task.machines):
        return []
    images = task.test_images()[0][:8]
    says = f"images [batch, 784], pixels 0 to 1, to the {task.config.model.code} units of the last machine"
    return [Network("machines", Stacked(task.machines), {"images": images}, "code", says)]


class Stacked(nn.Module):
    """Hidden means of each machine, computed from those of the machine below."""

    def __init__(self, machines: nn.ModuleList) -> None:
        super().__init__()
        self.machines = machines

    def forward(self, images: Tensor) -> Tensor:
        for machine in self.machines:
            images = machine.hidden(images)  # type: ignore[operator]
        return images


MODELS = Classifier(parts=parts, output=output, networks=networks)
