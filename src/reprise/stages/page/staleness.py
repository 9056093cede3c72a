"""Changes to the YAML since the results were made."""

from __future__ import annotations

from dataclasses import dataclass, field

from reprise.core.config.judged_seeds import judged_at
from reprise.core.config.project import Project
from reprise.core.verdicts.results import Results
from reprise.core.verdicts.results_writer import claim_hash, config_hash


@dataclass(frozen=True)
class Since:
    """Changes since an evaluation. What an earlier version did not record counts as unchanged."""

    arms: list[str] = field(default_factory=list)
    """Arms whose configuration has changed, and arms added or removed."""
    changed: list[str] = field(default_factory=list)
    """Claims that differ from what was judged."""
    new: list[str] = field(default_factory=list)
    """Claims added since, of those that are judged at this scale."""
    gone: list[str] = field(default_factory=list)
    """Claims removed since."""

    def __bool__(self) -> bool:
        return bool(self.arms or self.changed or self.new or self.gone)


def since(project: Project, experiment: str, found: Results) -> Since:
    """Return the changes since `found`, at its own scale, even if another one is active now."""
    paper, scale, card = project.papers[experiment], found.card["scale"], found.card
    asked_for = [arm for arm in project.arms(experiment, scale) if arm not in card.get("left_out", ())]
    now = {arm: config_hash(project.tree(experiment, arm, scale)) for arm in asked_for}
    before = card.get("configs", now)
    judged = card.get("claims", {})
    missing = {name: claim for name, claim in paper.claims.items() if name not in found.verdicts}
    both = [name for name in paper.claims if name in found.verdicts]
    return Since(
        arms=[arm for arm in {**now, **before} if now.get(arm) != before.get(arm)],
        changed=[name for name in both if name in judged and judged[name] != claim_hash(paper, name)],
        new=[name for name, claim in missing.items() if judged_at(vars(claim), scale)],
        gone=[name for name in found.verdicts if name not in paper.claims],
    )
