"""Schema of pipeline.yaml: the datasets, and the stages of each experiment."""

from __future__ import annotations

from reprise.core.config.names import Name
from reprise.core.contract import Stage, Strict


class Training(Strict):
    """A training stage of one experiment."""

    data: Name
    """Dataset it reads, in data/prepared/<data>."""


class Evaluation(Strict):
    """The evaluation of one experiment."""

    model: Stage
    """Stage whose weights are evaluated."""
    data: Name
    """Dataset that they are scored on."""


class Tabulation(Strict):
    """A table of networks, all of which are trained once; its rows are in tables/<name>.csv, in git."""

    data: Name
    """Dataset that the networks learn."""
    part_of: Name
    """Dataset that has the table as its part <name>, which says how the networks are trained."""


class Pipeline(Strict):
    """Contents of pipeline.yaml."""

    datasets: list[Name]
    """Names of the datasets; each is described in datasets/<name>.yaml."""
    tables: dict[Name, Tabulation] = {}
    """Tables of trained networks, for papers that search for architectures."""
    pretrain: dict[Name, Training]
    """First training stage of each experiment."""
    finetune: dict[Name, Training] = {}
    """Second training stage, for experiments that have one."""
    evaluate: dict[Name, Evaluation]
    """Evaluation of each experiment."""

    def stages(self, experiment: str) -> list[Stage]:
        """Return the training stages of `experiment`, in order."""
        trained: list[tuple[Stage, dict[str, Training]]] = [("pretrain", self.pretrain), ("finetune", self.finetune)]
        return [stage for stage, section in trained if experiment in section]

    def data(self, experiment: str) -> list[str]:
        """Return the datasets that the stages of `experiment` read, without duplicates."""
        tables = (self.pretrain, self.finetune, self.evaluate)
        return list(dict.fromkeys(table[experiment].data for table in tables if experiment in table))
