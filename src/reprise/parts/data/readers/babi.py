"""Stories in bAbI's format, made up by `reprise.parts.data.stories`: there are no files, and no story comes twice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from reprise.core.contract import Strict


class Options(Strict):
    """Which stories, and how many of them; of tasks 1 to 3 each has five questions, of task 4 one."""

    task: Annotated[int, Field(ge=1, le=4)]
    """The number that bAbI gives it."""
    stories: dict[Literal["train", "test"], Annotated[int, Field(ge=1, le=3000)]]
    """By split. Of task 4 there are 3,840 in all."""
    seed: Annotated[int, Field(ge=0)] = 0


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Texts by split, each a story with its questions, answers and support; see `reprise.parts.data.stories`."""
    from reprise.parts.data.store import write_texts
    from reprise.parts.data.stories import story

    made: set[str] = set()
    index, counts = 0, {}
    for split, count in options.stories.items():
        texts: list[str] = []
        while len(texts) < count:
            text, index = story(options.task, options.seed, index), index + 1
            if text not in made:
                made.add(text)
                texts.append(text)
        counts[split] = write_texts(out, split, texts)
    return {"kind": "texts", "task": options.task, "splits": counts}
