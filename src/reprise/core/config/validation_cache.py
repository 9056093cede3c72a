"""Cache of the papers and datasets that were checked and found free of mistakes: `.reprise/faultless.json`.

`reprise validate` and every `dvc repro` check all papers, at 15 ms each, although people edit one at a time. The cache
holds a hash of everything that a paper's check reads; if any of it changes, the paper is checked again. Datasets are
part of the papers that read them; one that no paper reads has an entry of its own, `datasets/<name>`.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path

from reprise.core.config.documents import DATASETS, STAGE_TABLES, Reading, block
from reprise.core.config.reader_checks import reader_files


def unchecked(reading: Reading) -> list[str]:
    """Return the papers and `datasets/<name>` that are not known to be free of mistakes in their current state."""
    known = _read(_file(reading.root))
    return [key for key in _checked(reading) if known.get(key) != _hash(reading, key)]


def remember(reading: Reading) -> None:
    """Record that all papers and datasets were just found free of mistakes. A read-only folder is silently skipped."""
    file = _file(reading.root)
    found = {key: _hash(reading, key) for key in _checked(reading)}
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


def _checked(reading: Reading) -> list[str]:
    papers = list(dict.fromkeys([*reading.experiments(), *reading.knobs, *reading.papers]))
    read = {name for key in papers for name in reading.data(key)}
    return [*papers, *(f"{DATASETS}/{name}" for name in reading.datasets if name not in read)]


def _hash(reading: Reading, key: str) -> str:
    """Hash what the check of a paper or dataset reads: its files, a paper's rows, seeds and overrides, and the code."""
    tables = [block(reading.pipeline.data, table).get(key) for table in STAGE_TABLES]
    given = reading.given[key].data if key in reading.given else None
    seeds = block(reading.params.data).get("seeds")
    digest = hashlib.sha256(json.dumps([key, seeds, given, reading.overridden(key), tables], default=repr).encode())
    datasets = reading.datasets_of(key)
    for folder, names in ((reading.knobs, [key]), (reading.papers, [key]), (reading.datasets, datasets)):
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
