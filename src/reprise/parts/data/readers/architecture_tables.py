"""Accuracies of trained architectures, as in nas-bench-graph: a pickle for each set of data, read without running it.

A pickle is a program that can call whatever it names. These name two of NumPy's functions, and anything else is
refused before a byte of it has been run: a number is then put together here, without NumPy.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import Positive

_ALLOWED = {"numpy.core.multiarray scalar", "numpy dtype"}
_NAMELESS = {
    "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER",
}  # fmt: skip
"""Opcodes that call or load something otherwise than by a name that is written out."""
_FIELDS = {"valid_perf", "perf", "latency", "para"}


class Options(Strict):
    """Which tables to read."""

    tables: Annotated[list[Annotated[str, Field(pattern=r"^[a-z]+$")]], Field(min_length=1)]
    """Sets of data, in this order: the files are called <name>.bench."""
    architectures: Positive
    """Number of architectures of each table, to verify."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write accuracies and numbers of parameters of every table, and which architecture each code is."""
    import numpy as np

    from reprise.parts.data.store import write_architectures
    from reprise.parts.search.graph_cells import rows_of_codes

    found = {path.name: path for path in files}
    if missing := [name for name in options.tables if f"{name}.bench" not in found]:
        raise ValueError(f"no file {missing[0]}.bench among {', '.join(sorted(found))}")
    tables = [table(path := found[f"{name}.bench"], path.read_bytes()) for name in options.tables]
    keys = sorted(tables[0])
    for name, one in zip(options.tables, tables, strict=True):
        if len(one) != options.architectures or sorted(one) != keys:
            expected = f"expected the same {options.architectures:,} architectures as in the others"
            raise ValueError(f"{name}.bench: {expected}, found {len(one):,}")
    of_codes = rows_of_codes(keys)
    if without := len(keys) - len({*of_codes[of_codes >= 0].tolist()}):
        raise ValueError(f"{without:,} of {len(keys):,} architectures have no code")
    columns = {
        column: np.array([[one[key][column] for key in keys] for one in tables], np.float32)
        for column in ("valid_perf", "perf", "para")
    }
    write_architectures(out, of_codes, columns["valid_perf"][..., None], columns["perf"], columns["para"])
    return {
        "kind": "architectures",
        "tables": options.tables,
        "count": len(keys),
        "codes": int((of_codes >= 0).sum()),
        "left_out": {"codes_without_architecture": int((of_codes < 0).sum())},
    }


def table(path: Path, pickled: bytes) -> dict[int, dict[str, float]]:
    """Open a table: by number of an architecture, its accuracies, seconds and millions of parameters.

    Raises:
        ValueError: the pickle asks for anything but NumPy's float64, with the byte at which it does, or holds something
            else than a table.
    """
    check_globals(path.name, pickled)
    try:
        found = _Numbers(io.BytesIO(pickled)).load()
    except Exception as error:  # unpickling damaged bytes raises whatever their program runs into
        raise ValueError(f"{path.name}: not a table ({type(error).__name__}: {error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path.name}: expected a table by architecture, found {type(found).__name__}")
    for key, row in found.items():
        if type(key) is not int or not isinstance(row, dict) or {*row} != _FIELDS:
            raise ValueError(f"{path.name}: architecture {key!r}: expected {', '.join(sorted(_FIELDS))}, found {row!r}")
        if not all(type(value) is float for value in row.values()):
            raise ValueError(f"{path.name}: architecture {key}: expected numbers, found {row!r}")
    return found


def check_globals(name: str, pickled: bytes) -> None:
    """Check that a pickle loads nothing but what numbers of NumPy need, without unpickling it.

    Raises:
        ValueError: it does, or is no pickle; with the byte at which that is seen.
    """
    place = 0
    try:
        for opcode, argument, position in pickletools.genops(pickled):
            place = position or 0
            asked = argument if opcode.name == "GLOBAL" else opcode.name if opcode.name in _NAMELESS else None
            if asked is not None and asked not in _ALLOWED:
                said = str(asked).replace(" ", ".")
                raise ValueError(
                    f"it asks for {said}; expected nothing but numpy.core.multiarray.scalar and numpy.dtype"
                )
    except ValueError as error:
        raise ValueError(f"{name}: byte {place}: {error}") from None


class _Float64:
    """Stands for NumPy's dtype in a table."""

    def __init__(self, code: str, *_: object) -> None:
        if code != "f8":
            raise ValueError(f"a number of type {code!r}; expected f8")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] != "<":
            raise ValueError(f"a number of byte order {state[1]!r}; expected <")


def _number(dtype: _Float64, data: bytes) -> float:
    assert isinstance(dtype, _Float64)
    return struct.unpack("<d", data)[0]


class _Numbers(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for one of the two names that are allowed."""
        found = {"numpy.core.multiarray scalar": _number, "numpy dtype": _Float64}.get(f"{module} {name}")
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return found
