"""What YAML says otherwise now than when the results were made."""

from __future__ import annotations

from dataclasses import dataclass, field

from reprise.core.config.project import Project
from reprise.core.verdicts.results import Results, claim_hash, config_hash


@dataclass(frozen=True)
class Since:
    """Changes since an evaluation; what one of an earlier version did not write down counts as unchanged."""

    arms: list[str] = field(default_factory=list)
    """Those whose configuration is another, and those that came or went."""
    changed: list[str] = field(default_factory=list)
    """Claims that say something else than what was judged."""
    new: list[str] = field(default_factory=list)
    """Claims that were not there."""
    gone: list[str] = field(default_factory=list)
    """Claims that are there no longer."""

    def __bool__(self) -> bool:
        return bool(self.arms or self.changed or self.new or self.gone)


def since(project: Project, experiment: str, found: Results) -> Since:
    """What changed since `found`, at its scale, whichever is active now."""
    paper, scale, card = project.papers[experiment], found.card["scale"], found.card
    asked_for = [arm for arm in project.arms(experiment, scale) if arm not in card.get("left_out", ())]
    now = {arm: config_hash(project.tree(experiment, arm, scale)) for arm in asked_for}
    before = card.get("configs", now)
    judged = card.get("claims", {})
    both = [name for name in paper.claims if name in found.verdicts]
    return Since(
        arms=[arm for arm in {**now, **before} if now.get(arm) != before.get(arm)],
        changed=[name for name in both if name in judged and judged[name] != claim_hash(paper, name)],
        new=[name for name in paper.claims if name not in found.verdicts],
        gone=[name for name in found.verdicts if name not in paper.claims],
    )
