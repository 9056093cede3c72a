"""Which papers were checked before and found without a mistake: `.reprise/faultless.json`.

`reprise validate` and every `dvc repro` check all papers, 15 ms each, though a person edits one at a time. A paper is
known by a hash of all that its check reads; whatever changes there, it is checked again.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path

from reprise.core.config.documents import Reading, block


def unchecked(reading: Reading) -> list[str]:
    """The papers of either file that were not found faultless as they now are."""
    known = _read(_file(reading.root))
    return [key for key in _papers(reading) if known.get(key) != _hash(reading, key)]


def remember(reading: Reading) -> None:
    """That all papers were just found without a mistake. A folder that cannot be written to is left alone."""
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
    both = (reading.params.data, reading.pipeline.data)
    return list(dict.fromkeys(key for data in both for key in block(data, "experiments")))


def _hash(reading: Reading, key: str) -> str:
    """Of the paper's sections, the seeds of all, the file of its Config, and the code that checks them."""
    params, pipeline = (document.data or {} for document in (reading.params, reading.pipeline))
    knobs = reading.knobs[key].data if key in reading.knobs else None
    sections = [block(data, "experiments").get(key) for data in (params, pipeline)]
    read = json.dumps([key, params.get("seeds"), knobs, *sections], default=repr)
    file = reading.files.get(key)
    return hashlib.sha256(read.encode() + (file.read_bytes() if file else b"") + _code()).hexdigest()


@cache
def _code() -> bytes:
    """What every check depends on: this folder, what a Config is made of, and pydantic."""
    core = Path(__file__).parents[1]
    files = [*sorted((core / "config").glob("*.py")), core / "contract.py", core.parent / "parts" / "vocabulary.py"]
    digest = hashlib.sha256(version("pydantic").encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.digest()
