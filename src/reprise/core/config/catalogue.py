"""Contents of the project as plain data: enough for `list`, `validate` and completion to answer at once.

Importing pydantic, reading YAML with positions and building the models takes three quarters of the time of `reprise
list`. `.reprise/catalogue.json` holds what these commands show of the papers, with a hash of everything that it was
read from and checked by. If anything of that changed, it is read and checked again, but only the papers that changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # it imports pydantic
    from reprise.core.config.documents import Reading

Checked = Literal["nothing", "papers", "everything"]
"""How much was checked: nothing, as completion needs it; papers/*.yaml by `list`; all YAML by `validate`."""
LEVELS: tuple[Checked, ...] = ("nothing", "papers", "everything")
PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Entry:
    """Facts of a paper that are listed."""

    digest: str
    """Hash of what the entry was read from."""
    title: str
    authors: str
    year: int
    venue: str
    family: str
    claims: list[str]
    """Names of the claims, in the order of papers/<key>.yaml."""
    arms: dict[str, list[str]]
    """Arms by scale, in declaration order."""
    tables: dict[str, str]
    """By stage table of pipeline.yaml, the dataset that the paper reads there."""

    @property
    def stages(self) -> list[str]:
        """The training stages, in order."""
        return [table for table in self.tables if table != "evaluate"]


@dataclass(frozen=True)
class Catalogue:
    """The papers of a project by key, in the order of pipeline.yaml."""

    scale: str
    """The active scale."""
    datasets: dict[str, str]
    """Title of each dataset, by name."""
    papers: dict[str, Entry]
    checked: Checked


def read(root: Path, now: str, checked: Checked) -> Catalogue | None:
    """Return the stored catalogue if it is of the state `now` and at least `checked` was checked; None otherwise."""
    then, stored = _stored(root)
    return stored if then == now and stored is not None and _reaches(stored, checked) else None


def renewed(reading: Reading, now: str, checked: Checked, check: Callable[[str], object] | None = None) -> Catalogue:
    """Return the catalogue of `reading`, and store it.

    Args:
        reading: the project's files.
        now: their state before they were read, so that an edit in the meantime is noticed the next time.
        checked: what is known to be free of mistakes once `check` has been called.
        check: called for each paper whose files changed since it was last checked; raises if it has mistakes. None if
            nothing is to be checked.
    """
    from reprise.core.config.documents import block

    _, stored = _stored(reading.root)
    needed: Checked = "nothing" if check is None else "papers"
    known = stored.papers if stored is not None and _reaches(stored, needed) else {}
    papers: dict[str, Entry] = {}
    for key in reading.experiments():
        digest, entry = _digest(reading, key), known.get(key)
        if entry is None or entry.digest != digest:
            if check is not None:
                check(key)
            entry = _entry(reading, key, digest)
        papers[key] = entry
    titles = {name: str(block(one.data).get("title", "")) for name, one in reading.datasets.items()}
    made = Catalogue(str(block(reading.params.data).get("scale")), titles, papers, checked)
    _store(reading.root, now, made)
    return made


def state(root: Path) -> str:
    """Return a hash of the project's YAML, of the papers' files and of the code that checks and reads them."""
    digest = hashlib.sha256(_code().encode())
    for file in _files(root):
        content = file.read_bytes() if file.is_file() else b""
        digest.update(f"\0{file.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    yield from (root / "params.yaml", root / "pipeline.yaml")
    for folder in ("params", "papers", "datasets"):
        yield from sorted((root / folder).glob("*.y*ml"))  # a .yml is a mistake, which `validate` names


@cache
def _code() -> str:
    """Return a hash of what checks YAML: this package, the papers' `Config`s, the readers, Python and pydantic."""
    files = [*(PACKAGE / "core" / "config").glob("*.py"), PACKAGE / "core" / "contract.py"]
    files += [PACKAGE / "parts" / "vocabulary.py", *(PACKAGE / "parts" / "data").glob("*.py")]
    files += [*(PACKAGE / "experiments").glob("*.py"), *(PACKAGE / "experiments").glob("*/*.py")]
    digest = hashlib.sha256(sys.version.encode())
    # importlib.metadata would tell pydantic's version too, but takes as long as all else here.
    pydantic = importlib.util.find_spec("pydantic")
    if pydantic is not None and pydantic.origin is not None:
        files.append(Path(pydantic.origin).with_name("version.py"))
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _digest(reading: Reading, key: str) -> str:
    """Return the hash of what one paper's entry is read from and checked by."""
    from reprise.core.config.documents import STAGE_TABLES, block

    tables = [block(reading.pipeline.data, table).get(key) for table in STAGE_TABLES]
    digest = hashlib.sha256(json.dumps([_code(), key, tables], default=repr).encode())
    for folder in (reading.knobs, reading.papers):
        digest.update(b"\0" + (folder.text(key) if key in folder else b""))
    return digest.hexdigest()


def _entry(reading: Reading, key: str, digest: str) -> Entry:
    from reprise.core.config.documents import STAGE_TABLES, block
    from reprise.core.contract import SCALES

    paper, pipeline = reading.paper(key), reading.pipeline.data
    words = {name: str(paper.get(name, "")) for name in ("title", "authors", "venue", "family")}
    year = paper.get("year")
    return Entry(
        digest=digest,
        year=year if isinstance(year, int) else 0,
        claims=list(block(paper, "claims")),
        arms={scale: reading.arms(key, scale) for scale in SCALES},
        tables={
            table: str(block(pipeline, table, key).get("data"))
            for table in STAGE_TABLES
            if key in block(pipeline, table)
        },
        **words,
    )


# --- .reprise/catalogue.json ------------------------------------------------------------------------------------------


def _file(root: Path) -> Path:
    return root / ".reprise" / "catalogue.json"


def _stored(root: Path) -> tuple[str | None, Catalogue | None]:
    """Return the stored catalogue, current or not, with the state it is of; Nones if there is none or it is damaged."""
    try:
        found = json.loads(_file(root).read_text(encoding="utf-8"))
        plain = dict(found["catalogue"])
        papers = {key: Entry(**entry) for key, entry in plain.pop("papers").items()}
        stored = Catalogue(papers=papers, **plain)
        return (found["state"], stored) if stored.checked in LEVELS else (None, None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None, None


def _reaches(stored: Catalogue, checked: Checked) -> bool:
    return LEVELS.index(stored.checked) >= LEVELS.index(checked)


def _store(root: Path, now: str, made: Catalogue) -> None:
    """Store the catalogue. In a read-only folder nothing is stored, and nothing is said."""
    file = _file(root)
    temporary = file.with_suffix(f".{os.getpid()}")  # two shells may complete at once
    try:
        file.parent.mkdir(exist_ok=True)
        temporary.write_text(json.dumps({"state": now, "catalogue": asdict(made)}) + "\n", encoding="utf-8")
        temporary.replace(file)
    except OSError:
        return
