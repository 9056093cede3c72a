"""YAML reader: YAML 1.2 core schema, plain data, and the position of every key and value.

`1e-4` is a float, `yes` and `12:30` are strings, `010` is 10. Duplicate keys, tags, anchors, aliases, tabs and `${...}`
are rejected. So are control characters, because a terminal would act on them. A mistake in a file raises nothing here:
mistakes are collected as `Problem`s, so the user sees all of them at once. Lines that are not valid YAML are skipped
and the rest of the file is still read.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml

Path = tuple[str | int, ...]
COMMAND_LINE = "command line"

_Parser = getattr(yaml, "CLoader", yaml.Loader)
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
LONGEST_NUMBER = 1000
"""Longest number accepted, in characters. Python refuses to convert integers of many more digits."""
DEEPEST = 50
"""Deepest nesting of blocks accepted."""
_ATTEMPTS = 20
"""How many faulty lines are skipped before reading gives up."""
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Characters that move a terminal's cursor, colour its text or reverse its direction, and lone surrogates."""
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class Mark(NamedTuple):
    """Position in a file: path relative to the project root, line and column from 1, or 0 if there is none."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake by the user: its position, the key it concerns, and the message."""

    mark: Mark
    path: str
    message: str

    def __str__(self) -> str:
        return printable(f"{self.mark}: {self.path}: {self.message}" if self.path else f"{self.mark}: {self.message}")


class ConfigError(ValueError):
    """Every mistake found, without duplicates, in file order. `str` gives the text shown to the user."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass
class Document:
    """Contents of one YAML file, with the position of every key and value."""

    file: str
    data: Any = None
    """Plain dicts, lists and scalars; None if the file could not be read."""
    keys: dict[Path, Mark] = field(default_factory=dict)
    """Position of the key at each path."""
    values: dict[Path, Mark] = field(default_factory=dict)
    """Position where the value at each path begins."""
    problems: list[Problem] = field(default_factory=list)
    partial: bool = False
    """Whether lines that are not valid YAML were skipped. If so, the file may hold more than `data`."""

    def key_mark(self, path: Path) -> Mark:
        """Return the position of the key at `path` or, if missing, of its nearest existing ancestor.

        An entry of a list has no key, so its own position is returned.
        """
        above = [path[:end] for end in range(len(path), 0, -1)]
        marks = (self.values.get(one) if isinstance(one[-1], int) else self.keys.get(one) for one in above)
        return next((mark for mark in marks if mark), self.top)

    def value_mark(self, path: Path) -> Mark:
        """Return the position of the value at `path` or, if missing, of the nearest existing key above it."""
        return self.values.get(path) or self.key_mark(path)

    @property
    def top(self) -> Mark:
        """Position of the beginning of the file."""
        return Mark(self.file) if self.file == COMMAND_LINE else Mark(self.file, 1, 1)

    def put(self, path: Path, value: Any, mark: Mark) -> None:
        """Set the value at `path`, creating the blocks above it. Everything new gets the position `mark`.

        Raises:
            TypeError: an ancestor of `path` is not a block. The message is that ancestor's path.
        """
        block = self.data
        for end, key in enumerate(path[:-1], start=1):
            if key not in block or block[key] is None:
                block[key] = {}
                self.keys[path[:end]] = self.values[path[:end]] = mark
            block = block[key]
            if not isinstance(block, dict):
                raise TypeError(dotted(path[:end]))
        block[path[-1]] = value
        # Positions of the old value would point at text that no longer applies.
        for old in [*self.keys, *self.values]:
            if old[: len(path)] == path:
                self.keys.pop(old, None)
                self.values.pop(old, None)
        for below in walk(value, path):
            self.keys[below] = self.values[below] = mark


def walk(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of `value` and of everything inside it."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from walk(item, (*path, key))


def leaves(tree: Mapping[str, Any], above: Path = ()) -> dict[Path, Any]:
    """Return every leaf of `tree` by its path. An empty block counts as a leaf."""
    found: dict[Path, Any] = {}
    for key, value in tree.items():
        path = (*above, key)
        found |= leaves(value, path) if isinstance(value, dict) and value else {path: value}
    return found


def dotted(path: Path) -> str:
    """Format a path the way users write it, such as `paper.betas[0]`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def printable(text: str) -> str:
    """Escape control characters in `text`, so that a file or an argument cannot control the terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def did_you_mean(word: object, words: Iterable[str]) -> str:
    """Return `; did you mean relu?` if a known word is close, else the empty string."""
    known = list(words)
    # difflib ranks transposed letters (gna for gan) low, so try permutations first.
    swapped = [other for other in known if sorted(other) == sorted(str(word))]
    near = swapped or difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def load(path: FilePath, name: str | None = None) -> Document:
    """Read the YAML file at `path`. Messages call it `name`."""
    document = Document(name or path.name)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError:
        document.problems.append(Problem(Mark(document.file), "", "there is no such file"))
        return document
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        document.problems.append(Problem(Mark(document.file, line, 1), "", "not UTF-8 text"))
        return document
    parse(text, document)
    if document.data is None and not document.problems:
        document.data = {}
    if document.data is not None and not isinstance(document.data, dict):
        document.problems.append(Problem(document.top, "", "expected keys with values at the top of the file"))
        document.data = None
    return document


def parse(text: str, document: Document) -> None:
    """Parse `text` into `document`, and set `document.partial` if some of it is not valid YAML."""
    text = _without_control_characters(text, document)
    text, shifts = _without_tabs(text, document)
    lines = text.split("\n")
    problems, told = [*document.problems], bool(document.problems)  # an earlier problem, such as a tab, may explain it
    for _ in range(_ATTEMPTS):
        builder = _Builder("\n".join(lines), document, shifts)
        try:
            builder.build()
            return
        except yaml.YAMLError as error:
            if not told:
                problems += builder.open_quotes or [_syntax_problem(error, document, lines)]
            told = True
            _leave_out(_faulty_line(error, builder, lines), lines)
            document.data, document.keys, document.values = None, {}, {}
            document.problems, document.partial = [*problems], True


def parse_value(text: str, path: Path) -> tuple[Any, list[Problem]]:
    """Parse a command-line value as YAML. `path` is the key it will be set at, for messages."""
    document = Document(COMMAND_LINE)
    parse(text, document)
    here = Mark(COMMAND_LINE)
    found = [Problem(here, _below(dotted(path), p.path), p.message) for p in document.problems]
    return document.data, found


def _below(path: str, rest: str) -> str:
    """Join two formatted paths: `seeds` and `[0]`, or `optimizer` and `lr`."""
    return f"{path}.{rest}".removesuffix(".").replace(".[", "[")


def _without_tabs(text: str, document: Document) -> tuple[str, dict[int, int]]:
    """Replace each tab by likely indentation, so that reading can continue.

    Returns the new text and, by line number from 0, how many columns each line grew.
    """
    if "\t" not in text:
        return text, {}
    lines, shifts, above = text.split("\n"), {}, ""
    for number, line in enumerate(lines):
        if "\t" in line:
            message = "a tab; YAML is written with spaces"
            document.problems.append(Problem(Mark(document.file, number + 1, line.index("\t") + 1), "", message))
            body = line.lstrip(" \t")
            indent = line[: len(line) - len(body)]
            if "\t" in indent:
                # A line after `key:` is most likely one level deeper.
                indent = " " * (len(above) - len(above.lstrip()) + 2 * above.rstrip().endswith(":"))
            lines[number] = indent + body.replace("\t", " ")
            shifts[number] = len(lines[number]) - len(line)
        if lines[number].strip():
            above = lines[number]
    return "\n".join(lines), shifts


def _without_control_characters(text: str, document: Document) -> str:
    """Replace control characters by U+FFFD, and report the first one of each line."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if found := _CONTROL.search(line):
            document.problems.append(Problem(Mark(document.file, number + 1, found.start() + 1), "", _refused(found)))
            lines[number] = _CONTROL.sub("\ufffd", line)
    return "\n".join(lines)


def _refused(found: re.Match[str]) -> str:
    return f"a control character, U+{ord(found[0]):04X}; YAML is plain text"


def _syntax_problem(error: yaml.YAMLError, document: Document, lines: list[str]) -> Problem:
    """Describe where parsing failed or, for an unclosed bracket or quote further up, where that began."""
    at = (error.problem_mark or error.context_mark) if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or at is None:
        return Problem(document.top, "", f"not YAML: {str(error).splitlines()[0]}")
    began = error.context_mark
    what = ", ".join(said for said in (error.context, error.problem) if said)
    if began is not None and began.line < at.line:
        if _never_closed(error, lines):
            what = f"this {'quote' if 'quoted' in str(error.context) else 'bracket'} is never closed"
            failed = f"; reading failed on line {at.line + 1}" if at.line < len(lines) - 1 else ""
            return Problem(Mark(document.file, began.line + 1, began.column + 1), "", f"not YAML: {what}{failed}")
        what += f"; what it is in began on line {began.line + 1}"
    return Problem(Mark(document.file, at.line + 1, at.column + 1), "", f"not YAML: {what}")


def _never_closed(error: yaml.MarkedYAMLError, lines: list[str]) -> bool:
    """Whether parsing failed beyond the block in which a bracket or quote was opened."""
    began, at = error.context_mark, error.problem_mark
    if began is None or at is None or not re.search("flow|quoted", error.context or ""):
        return False
    return at.line >= len(lines) or _indent(lines[at.line]) <= _indent(lines[began.line]) or not lines[at.line].strip()


def _faulty_line(error: yaml.YAMLError, builder: _Builder, lines: list[str]) -> int:
    """Return the index, from 0, of the line to skip so that reading can continue."""
    if builder.open_quotes:
        return builder.open_quotes[0].mark.line - 1
    if not isinstance(error, yaml.MarkedYAMLError):
        return 0
    at = error.context_mark if _never_closed(error, lines) else error.problem_mark or error.context_mark
    return min(at.line if at else 0, len(lines) - 1)


def _leave_out(number: int, lines: list[str]) -> None:
    """Blank line `number`, or the nearest non-blank line above it, together with the lines nested under it."""
    while number > 0 and not lines[number].strip():
        number -= 1
    indent, lines[number] = _indent(lines[number]), ""
    for below in range(number + 1, len(lines)):
        if lines[below].strip() and _indent(lines[below]) <= indent:
            return
        lines[below] = ""


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


class _Builder:
    """Builds a document's data from the events of PyYAML's parser."""

    def __init__(self, text: str, document: Document, shifts: dict[int, int]) -> None:
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=_Parser))
        self.document = document
        self.shifts = shifts
        self.lines = text.split("\n")
        self.open_quotes: list[Problem] = []
        """Quotes that run past the end of their block. What looks like their end is the start of the next quote."""

    def build(self) -> None:
        """Read the file's only document."""
        # The first event is the start of the stream; the next starts a document, or ends an empty stream.
        next(self.events)
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return
        self.document.data = self._value(next(self.events), ())
        next(self.events)  # the end of the document
        more = next(self.events)
        if not isinstance(more, yaml.StreamEndEvent):
            self._problem(more, (), "a second document; one file holds one")

    def _mark(self, event: Any) -> Mark:
        place = event.start_mark
        return Mark(self.document.file, place.line + 1, place.column + 1 - self.shifts.get(place.line, 0))

    def _problem(self, event: Any, path: Path, message: str) -> None:
        self.document.problems.append(Problem(self._mark(event), dotted(path), message))

    def _value(self, event: Any, path: Path) -> Any:
        self.document.values[path] = self._mark(event)
        if isinstance(event, yaml.AliasEvent):
            self._problem(event, path, f"an alias, *{event.anchor}; write the value out")
            return None
        if event.anchor is not None:
            self._problem(event, path, f"an anchor, &{event.anchor}; write the value out where it is used")
        if event.tag is not None:
            self._problem(event, path, f"a tag, {event.tag}; write the plain value")
        if isinstance(event, yaml.CollectionStartEvent) and len(path) >= DEEPEST:
            # Stop here: on deep nesting libyaml's time grows with the square of the depth.
            raise yaml.MarkedYAMLError(problem=f"nested more than {DEEPEST} deep", problem_mark=event.start_mark)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._scalar(event, path)

    def _scalar(self, event: Any, path: Path) -> Any:
        text = self._text(event, path)
        if "${" in text:
            self._problem(event, path, "${...} is not filled in here; write the value out")
        if event.style:
            return text
        if len(text) > LONGEST_NUMBER and (_INT.fullmatch(text) or _BASED.fullmatch(text) or _FLOAT.fullmatch(text)):
            self._problem(event, path, f"a number of {len(text):,} characters; expected at most {LONGEST_NUMBER:,}")
            return 0
        return scalar(text)

    def _text(self, event: Any, path: Path) -> str:
        """Return the text of a scalar, with control characters from escape sequences replaced."""
        if event.style in ("'", '"') and self._leaves_its_block(event):
            said = f"this quote is not closed before line {event.end_mark.line + 1}"
            problem = Problem(self._mark(event), dotted(path), said)
            self.document.problems.append(problem)
            self.open_quotes.append(problem)
        if found := _CONTROL.search(event.value):
            self._problem(event, path, _refused(found))
            return _CONTROL.sub("\ufffd", event.value)
        return event.value

    def _leaves_its_block(self, event: Any) -> bool:
        """Whether quoted text continues on lines indented no deeper than the entry it belongs to."""
        begin, end = event.start_mark, event.end_mark.line
        # A quote that follows `key:` on its line must continue on deeper lines. One that starts its line need not.
        alone = not self.lines[begin.line][: begin.column].strip()
        deeper = _indent(self.lines[begin.line]) + (not alone)
        return any(line.strip() and _indent(line) < deeper for line in self.lines[begin.line + 1 : end + 1])

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        block: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._problem(event, path, "expected a plain word as a key")
                self._skip(event)
                self._skip(next(self.events))
                continue
            key = self._text(event, (*path, printable(event.value)))
            at = (*path, key)
            if event.anchor is not None or event.tag is not None:
                self._problem(event, at, "a tag or an anchor at a key; write the plain word")
            if key in block:
                first = self.document.keys[at].line
                self._problem(event, at, f"duplicate key; the first one is on line {first}")
                self._skip(next(self.events))
                continue
            self.document.keys[at] = self._mark(event)
            block[key] = self._value(next(self.events), at)
        return block

    def _skip(self, event: Any) -> None:
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth == 0:
                return
            event = next(self.events)


def scalar(text: str) -> Any:
    """Convert an unquoted scalar by the YAML 1.2 core schema."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    # YAML writes .inf and .nan, Python inf and nan.
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text
