"""`reprise try` for models that walk on a graph."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from reprise.commands.project import UsageError
from reprise.commands.try_model.asked import Asked, find_model, offered, opened, waiting
from reprise.core.config.project import Project
from reprise.inference.kinds import Walker

WALKS = 8
"""Default number of walks."""


def walk(project: Project, asked: Asked) -> Iterator[str]:
    if asked.out is not None:
        raise UsageError("walks are printed; --json is for scripts, and there is no --out")
    if len(asked.given) > 1:
        raise UsageError(f"{len(asked.given)} nodes were given; expected one, where the walks start")
    trained = find_model(project, asked)
    yield from asked.header(trained)
    with waiting(project, asked):
        start = asked.given[0] if asked.given else None
        walked = offered(asked, Walker).walk(opened(project, trained), start, asked.number or WALKS, asked.draw)
    if asked.as_json:
        yield json.dumps({"model": trained.run.name, **asdict(walked)}, indent=1)
        return
    yield f"a shortest walk from {walked.start} to the goal is {walked.shortest}"
    width = max(len(reply.nodes) for replies in walked.replies.values() for reply in replies)
    yield "".join(f"{name:<{width + 12}}" for name in walked.replies).rstrip()
    for row in zip(*walked.replies.values(), strict=True):
        words = (f"{one.nodes:<{width}} {'no edge' if one.fault else format(one.score, '.2f'):<11}" for one in row)
        yield "".join(words).rstrip()
