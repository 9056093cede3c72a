"""What pipeline.yaml can say: the names of the datasets, and the stages of each experiment."""

from __future__ import annotations

from reprise.core.config.names import Name
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

    datasets: list[Name]
    """The datasets, each described in datasets/<name>.yaml."""
    pretrain: dict[Name, Training]
    """The first training stage of each experiment."""
    finetune: dict[Name, Training] = {}
    """The second, of those that have one."""
    evaluate: dict[Name, Evaluation]
    """How each experiment is scored."""

    def stages(self, experiment: str) -> list[Stage]:
        """The training stages of `experiment`, in their order."""
        trained: list[tuple[Stage, dict[str, Training]]] = [("pretrain", self.pretrain), ("finetune", self.finetune)]
        return [stage for stage, section in trained if experiment in section]

    def data(self, experiment: str) -> list[str]:
        """The datasets that the stages of `experiment` read, each once."""
        tables = (self.pretrain, self.finetune, self.evaluate)
        return list(dict.fromkeys(table[experiment].data for table in tables if experiment in table))
