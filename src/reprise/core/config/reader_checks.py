"""Readers of datasets as YAML names them: whether there is such a reader, and whether it has such options.

No reader is imported, and so neither numpy nor what decodes its files: only that part of its module runs which its
`Options` is made of, as with a paper's `Config`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path as FilePath
from typing import Any

from reprise.core.config.config_loader import sliced_class
from reprise.core.config.error_messages import Mistake, mistakes_in, shown
from reprise.core.config.yaml import ConfigError, Document, Mark, Path, Problem, did_you_mean, dotted
from reprise.core.contract import Strict

ALLOWED = ("pydantic", "reprise.core.contract", "reprise.parts.data.csv_table", "reprise.parts.data.readers")
"""What a reader's Options may be made of, beside the standard library."""


def readers_dir() -> FilePath:
    """The folder of the readers' modules, found without importing any of them."""
    found = importlib.util.find_spec("reprise")
    assert found is not None
    assert found.submodule_search_locations
    return FilePath(next(iter(found.submodule_search_locations))) / "parts" / "data" / "readers"


def reader_files(directory: FilePath | None = None) -> dict[str, FilePath]:
    """The module of each reader, by the name that YAML calls it by."""
    return {file.stem: file for file in sorted((directory or readers_dir()).glob("[a-z]*.py"))}


def reader_options(file: FilePath) -> type[Strict]:
    """The `Options` of the reader in `file`; ConfigError if it cannot be had."""
    return _options(file, file.stat().st_mtime_ns)


@cache
def _options(file: FilePath, _modified: int) -> type[Strict]:
    return sliced_class("Options", f"reprise.readers.{file.stem}", file, f"readers/{file.name}", Strict, ALLOWED)


def reader_problems(document: Document, path: Path, part: Any, directory: FilePath | None = None) -> Iterator[Problem]:
    """What is wrong with the readers and options of a part, and of its sources, which stands at `path` of `document`.

    `part` is plain data, as it was read; what is wrong with its shape is for the schema to say. A mistake in options
    that a source takes over from its part is told once, where it stands.
    """
    if not isinstance(part, Mapping):
        return  # the name of another dataset's part, or no part at all
    files = reader_files(directory)
    places = [(path, part), *(((*path, "sources", index), one) for index, one in enumerate(_sources(part)))]
    for place, block in places:
        reader = block.get("reader") if isinstance(block, Mapping) else None
        if isinstance(reader, str) and reader not in files:
            message = (
                f"unknown reader {shown(reader)}{did_you_mean(reader, files) or '; there are ' + ', '.join(files)}"
            )
            yield _problem(document.value_mark((*place, "reader")), (*place, "reader"), message)
    told: set[Problem] = set()
    for place, reader, options, own in _combinations(path, part):
        if isinstance(reader, str) and reader in files:
            for problem in _option_problems(document, path, place, files[reader], options, own):
                if problem not in told:
                    told.add(problem)
                    yield problem


def _combinations(path: Path, part: Mapping[str, Any]) -> Iterator[tuple[Path, Any, dict[str, Any], set[str]]]:
    """For each source that is there: its place, its reader, its options, and which of these it says itself."""
    shared = part.get("options")
    shared = dict(shared) if isinstance(shared, Mapping) else {}
    for index, source in enumerate(_sources(part)):
        source = source if isinstance(source, Mapping) else {}
        own = source.get("options")
        own = dict(own) if isinstance(own, Mapping) else {}
        reader = source.get("reader") or part.get("reader")
        yield (*path, "sources", index), reader, {**shared, **own}, set(own)


def _option_problems(
    document: Document, path: Path, place: Path, file: FilePath, options: dict[str, Any], own: set[str]
) -> Iterator[Problem]:
    """What is wrong with a reader's options, each at the block that says it: the source's, or else its part's."""
    try:
        kind = reader_options(file)
    except ConfigError as error:
        yield from error.problems
        return
    for mistake in mistakes_in(kind, options):
        at = place if mistake.path and mistake.path[0] in own else path
        yield _located(document, at, mistake, file.stem)


def _located(document: Document, block: Path, mistake: Mistake, reader: str) -> Problem:
    path = (*block, "options", *mistake.path)
    if mistake.place == "value":
        return _problem(document.value_mark(path), path, mistake.message)
    if mistake.place == "parent":  # the mark is that of the options, or where there are none of what they belong to
        return _problem(document.key_mark(path[:-1]), path, f"{mistake.message}; reader {reader} needs it")
    return _problem(document.key_mark(path), path, mistake.message)


def _problem(mark: Mark, path: Path, message: str) -> Problem:
    return Problem(mark, dotted(path), message)


def _sources(part: Mapping[str, Any]) -> list[Any]:
    sources = part.get("sources")
    return sources if isinstance(sources, list) else []
