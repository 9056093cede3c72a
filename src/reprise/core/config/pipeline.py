"""What pipeline.yaml can say: the datasets, and the stages of each paper."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from reprise.core.config.dataset import Dataset, resolved
from reprise.core.config.names import Name
from reprise.core.config.paper import Paper
from reprise.core.contract import Stage, Strict


class Training(Strict):
    """A training stage of one experiment."""

    data: Name
    """The dataset it reads: data/prepared/<data>."""


class Evaluation(Strict):
    """The evaluation of one experiment."""

    model: Stage
    """The stage whose weights are judged."""
    data: Name
    """The dataset it is scored on."""


class Pipeline(Strict):
    """The whole of pipeline.yaml."""

    datasets: Annotated[dict[Name, Dataset], AfterValidator(resolved)]
    """What is fetched, checked and prepared."""
    pretrain: dict[Name, Training]
    """The first training stage of each experiment."""
    finetune: dict[Name, Training] = {}
    """The second, of those that have one."""
    evaluate: dict[Name, Evaluation]
    """How each experiment is scored."""
    experiments: dict[Name, Paper]
    """The papers: what they claim, published and measure."""

    def stages(self, experiment: str) -> list[Stage]:
        """The training stages of `experiment`, in their order."""
        trained: list[tuple[Stage, dict[str, Training]]] = [("pretrain", self.pretrain), ("finetune", self.finetune)]
        return [stage for stage, section in trained if experiment in section]
