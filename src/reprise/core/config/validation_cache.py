"""Cache of the papers that were checked and found free of mistakes: `.reprise/faultless.json`.

`reprise validate` and every `dvc repro` check all papers, at 15 ms each, although people edit one at a time. The cache
holds a hash of everything that a paper's check reads; if any of it changes, the paper is checked again.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path

from reprise.core.config.documents import STAGE_TABLES, Reading, block
from reprise.core.config.reader_checks import reader_files


def unchecked(reading: Reading) -> list[str]:
    """Return the papers that are not known to be free of mistakes in their current state."""
    known = _read(_file(reading.root))
    return [key for key in _papers(reading) if known.get(key) != _hash(reading, key)]


def remember(reading: Reading) -> None:
    """Record that all papers were just found free of mistakes. A read-only folder is silently skipped."""
    file = _file(reading.root)
    found = {key: _hash(reading, key) for key in _papers(reading)}
    if found == _read(file):
        return
    temporary = file.with_suffix(".new")
    try:
        file.parent.mkdir(exist_ok=True)
        temporary.write_text(json.dumps(found, indent=1) + "\n")
        temporary.replace(file)
    except OSError:
        return


def _file(root: Path) -> Path:
    return root / ".reprise" / "faultless.json"


def _read(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _papers(reading: Reading) -> list[str]:
    return list(dict.fromkeys([*reading.experiments(), *reading.knobs, *reading.papers]))


def _hash(reading: Reading, key: str) -> str:
    """Hash what a paper's check reads: its files and table rows, the shared seeds, overrides, and the checking code."""
    tables = [block(reading.pipeline.data, table).get(key) for table in STAGE_TABLES]
    given = reading.given[key].data if key in reading.given else None
    seeds = block(reading.params.data).get("seeds")
    digest = hashlib.sha256(json.dumps([key, seeds, given, reading.overridden(key), tables], default=repr).encode())
    for folder, names in ((reading.knobs, [key]), (reading.papers, [key]), (reading.datasets, reading.data(key))):
        for name in names:
            digest.update(b"\0" + (folder.text(name) if name in folder else b""))
    file = reading.files.get(key)
    digest.update(b"\0" + (file.read_bytes() if file else b"") + _code())
    return digest.hexdigest()


@cache
def _code() -> bytes:
    """Hash the code that every check depends on: this package, what Configs and readers import, and pydantic."""
    core = Path(__file__).parents[1]
    files = [*sorted((core / "config").glob("*.py")), core / "contract.py", core.parent / "parts" / "vocabulary.py"]
    files += [*sorted((core.parent / "parts" / "data").glob("csv_table.py")), *reader_files().values()]
    digest = hashlib.sha256(version("pydantic").encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.digest()
