"""Checks that the readers named in YAML exist and accept the options given.

No reader is imported, so neither is numpy nor any decoder. As with a paper's `Config`, only the part of the module that
`Options` depends on is executed.
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
"""Modules that a reader's Options may import besides the standard library."""


def readers_dir() -> FilePath:
    """Return the folder of the readers' modules, without importing any of them."""
    found = importlib.util.find_spec("reprise")
    assert found is not None
    assert found.submodule_search_locations
    return FilePath(next(iter(found.submodule_search_locations))) / "parts" / "data" / "readers"


def reader_files(directory: FilePath | None = None) -> dict[str, FilePath]:
    """Return the module file of each reader, by the reader's name in YAML."""
    return {file.stem: file for file in sorted((directory or readers_dir()).glob("[a-z]*.py"))}


def reader_options(file: FilePath) -> type[Strict]:
    """Return the `Options` of the reader in `file`.

    Raises:
        ConfigError: the class cannot be loaded.
    """
    return _options(file, file.stat().st_mtime_ns)


@cache
# `_modified` is part of the cache key, so an edited reader is read again.
def _options(file: FilePath, _modified: int) -> type[Strict]:
    return sliced_class("Options", f"reprise.readers.{file.stem}", file, f"readers/{file.name}", Strict, ALLOWED)


def reader_problems(document: Document, path: Path, part: Any, directory: FilePath | None = None) -> Iterator[Problem]:
    """Yield what is wrong with the readers and options of a part at `path` of `document`, and of its sources.

    `part` is plain data as read; the schema checks its shape. A mistake in options that sources inherit from the part
    is reported once, where it is written.
    """
    if not isinstance(part, Mapping):
        return  # a reference to another dataset's part, or null
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
    """Yield the path, reader and merged options of each source, and the keys of the options it sets itself."""
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
    """Yield what is wrong with a reader's options, located at the block that sets them: the source or its part."""
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
    if mistake.place == "parent":  # mark the options or, if there are none, their owner
        return _problem(document.key_mark(path[:-1]), path, f"{mistake.message}; reader {reader} needs it")
    return _problem(document.key_mark(path), path, mistake.message)


def _problem(mark: Mark, path: Path, message: str) -> Problem:
    return Problem(mark, dotted(path), message)


def _sources(part: Mapping[str, Any]) -> list[Any]:
    sources = part.get("sources")
    return sources if isinstance(sources, list) else []
