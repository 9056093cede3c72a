"""Pydantic's errors in plain English, each with the path of the YAML it concerns."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from reprise.core.config.names import NAME_OF_WANDB
from reprise.core.config.yaml import Path, did_you_mean

Place = Literal["key", "value", "parent", "block"]
"""Part of the file that is at fault: a key, a value, a parent that lacks a key, or a block that contradicts itself."""

PATTERNS = {
    r"^[a-z][a-z0-9_]*/[a-z][a-z0-9_]*$": "a part of another dataset, as in mnist/digits",
    r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$": "the name of a package on PyPI, without options or addresses",
    r"^(@[A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*$": "the name of a package on npm, as in @owner/name",
    r"^[a-z0-9][a-z0-9+.-]+$": "the name of a Debian package",
    r"^([A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*$": "a dataset of the hub, as in owner/name",
    r"^[0-9][A-Za-z0-9.!+_-]*$": "one version, as in 1.2.3",
    r"^[0-9]+\.[0-9]+\.[0-9]+([-+][A-Za-z0-9.+-]+)?$": "one version, as in 1.2.3",
    r"^[0-9][A-Za-z0-9.+~:-]*$": "a version of Debian's, as in 1:2.3-4",
    r"^pool/([A-Za-z0-9_+~-][A-Za-z0-9._+~-]*/)+[A-Za-z0-9][A-Za-z0-9._+~-]*\.deb$": "a path, pool/….deb",
    r"^[a-z][a-z0-9_]*$": "a name of lower-case letters, digits and _",
    r"^[0-9a-f]{64}$": "a SHA-256 checksum: 64 hexadecimal digits",
    r"^[0-9a-f]{40}$": "a commit: 40 hexadecimal digits",
    NAME_OF_WANDB: "a name of at most 128 characters, without / \\ # ? % and :",
    r"^https?://": "an address that begins with http:// or https://",
    r"^(https?|file)://": "an address that begins with https://, http:// or file://",
}


@dataclass(frozen=True)
class Mistake:
    """One mistake in plain data: its path, what is at fault, and the message."""

    path: Path
    place: Place
    message: str


def mistakes_in(kind: Any, data: Any) -> list[Mistake]:
    """Return everything that keeps `data` from validating as `kind`, a model or any other type."""
    try:
        TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        return list(_translated(kind, data, error))
    return []


def _translated(kind: Any, data: Any, error: ValidationError) -> Iterator[Mistake]:
    # Pydantic has an error for each member of a union. What they expected of one value becomes one message.
    expected: dict[Path, list[str]] = {}
    found: dict[Path, Any] = {}
    others: list[Mistake] = []
    items: list[Any] = error.errors(include_url=False)
    for item in items:
        path = _path(data, item["loc"])
        what = _expected(item)
        if item["type"] == "missing":
            others.append(Mistake((*path, item["loc"][-1]), "parent", "this key is missing"))
        elif item["type"] == "extra_forbidden":
            known = _fields(kind, item["loc"][:-1])
            others.append(Mistake(path, "key", f"unknown key{_nearest(path[-1], known, 'known here')}"))
        elif item["type"].startswith("union_tag") and isinstance(item["input"], dict):
            tags = _tags(kind, item["loc"])
            if "kind" in item["input"]:
                tag = item["input"]["kind"]
                said = f"expected one of {', '.join(tags)}, found {shown(tag)}"
                others.append(Mistake((*path, "kind"), "value", said + did_you_mean(tag, tags)))
            else:
                others.append(Mistake((*path, "kind"), "parent", f"this key is missing: one of {', '.join(tags)}"))
        elif item["loc"] and item["loc"][-1] == "[key]":  # pydantic's word for the key of a dict
            others.append(Mistake(path, "key", f"expected {what} as a key"))
        elif what is None:
            said = str(item["ctx"]["error"]) if item["type"] == "value_error" else item["msg"]
            block = isinstance(item["input"], (dict, list))
            ending = f", found {shown(item['input'])}" if said.startswith("expected") and not block else ""
            others.append(Mistake(path, "block" if block else "value", said[0].lower() + said[1:] + ending))
        else:
            expected.setdefault(path, []).append(what)
            found[path] = item["input"]
    paths = [*expected, *(mistake.path for mistake in others)]
    for path, wanted in expected.items():
        if any(other[: len(path)] == path and other != path for other in paths):
            continue  # another member of the union matched further down
        said = f"expected {' or '.join(dict.fromkeys(wanted))}, found {shown(found[path])}"
        yield Mistake(path, "value", said + _hint(wanted, found[path]))
    yield from others


def _expected(item: Any) -> str | None:
    """Describe what pydantic expected; None if the error is not about a single value."""
    limits = item.get("ctx", {})
    words = {
        "int_type": "a whole number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "string_type": "text",
        "bool_type": "true or false",
        "list_type": "a list",
        "dict_type": "a block of keys",
        "model_type": "a block of keys",
        "model_attributes_type": "a block of keys",
        "none_required": "nothing",
        "union_tag_not_found": "a block of keys",
        "greater_than": "a number above {gt}",
        "greater_than_equal": "a number of at least {ge}",
        "less_than": "a number below {lt}",
        "less_than_equal": "a number of at most {le}",
        "multiple_of": "a multiple of {multiple_of}",
        "literal_error": "one of {expected}",
        "enum": "one of {expected}",
        "string_too_short": "text",
        "string_too_long": "at most {max_length} characters",
        "too_short": "{min_length} or more entries",
        "too_long": "{max_length} or fewer entries",
    }
    if item["type"] == "string_pattern_mismatch":
        return PATTERNS.get(limits["pattern"], f"text of the form {limits['pattern']}")
    if item["type"] == "literal_error" and " or " not in limits["expected"]:
        return limits["expected"].replace("'", "")
    text = words.get(item["type"])
    if text is None:
        return None
    numbers = {key: f"{value:g}" if isinstance(value, float) else value for key, value in limits.items()}
    if "expected" in numbers:
        numbers["expected"] = str(numbers["expected"]).replace("'", "").replace(" or ", ", ")
    return text.format(**numbers)


def _hint(wanted: list[str], found: Any) -> str:
    """Return a suggestion of what may have been meant, or the empty string."""
    if isinstance(found, str):
        words = [word for text in wanted for word in text.removeprefix("one of ").split(", ")]
        if "true or false" in wanted and found.lower() in ("yes", "no", "on", "off", "y", "n"):
            return f"; did you mean {'true' if found.lower() in ('yes', 'on', 'y') else 'false'}?"
        if any("number" in text for text in wanted) and found.replace("_", "").isdigit():
            return "; numbers are written without _ and without quotes"
        return did_you_mean(found, words)
    if any(text.startswith("text") for text in wanted) and isinstance(found, (int, float)):
        return "; put it in quotes"
    return ""


def shown(value: Any) -> str:
    """Format a value for a message."""
    if isinstance(value, dict):
        return "a block of keys" if value else "an empty block"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if value is None:
        return "nothing"
    text = f"'{value}'" if isinstance(value, str) else str(value) if isinstance(value, float) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:56]}...'"


def _nearest(word: object, known: list[str], introduction: str) -> str:
    near = did_you_mean(word, known)
    return near or (f"; {introduction}: {', '.join(known)}" if known else "")


def _path(data: Any, loc: tuple[str | int, ...]) -> Path:
    """Return the part of `loc` that exists in `data`, without pydantic's union tags and type names."""
    path: Path = ()
    tagged = False
    for key in loc:
        # Pydantic inserts the tag of a union into `loc`. Skip it once per block, unless it is itself a key of that
        # block.
        if isinstance(data, dict) and not tagged and key == data.get("kind", "difference") and "kind" not in path[-1:]:
            tagged = True
        elif (isinstance(data, dict) and key in data) or (
            isinstance(data, list) and isinstance(key, int) and key < len(data)
        ):
            data, path, tagged = data[key], (*path, key), False  # type: ignore[index]
    return path


def _members(kind: Any) -> list[Any]:
    """Return the members of a union, or the type itself, without Annotated and None."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for part in get_args(kind) if part is not type(None) for member in _members(part)]
    return [kind]


def _tags(kind: Any, loc: tuple[str | int, ...]) -> list[str]:
    """Return the kinds that a block at `loc` can have."""
    tags = [tag for member in _reached(kind, loc) if isinstance(member, type) for tag in _kinds_of(member)]
    return list(dict.fromkeys(tags))


def _kinds_of(member: Any) -> list[str]:
    if not (isinstance(member, type) and issubclass(member, BaseModel)) or "kind" not in member.model_fields:
        return []
    return [str(value) for value in get_args(member.model_fields["kind"].annotation)]


def _fields(kind: Any, loc: tuple[str | int, ...]) -> list[str]:
    """Return the keys that a block at `loc` can have."""
    models = [member for member in _reached(kind, loc) if isinstance(member, type) and issubclass(member, BaseModel)]
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


def _reached(kind: Any, loc: tuple[str | int, ...]) -> list[Any]:
    """Return the types allowed at `loc`, which may include pydantic's union tags and type names."""
    if not loc:
        return _members(kind)
    members = _members(kind)
    tagged = [member for member in members if loc[0] in (*_kinds_of(member), getattr(member, "__name__", None))]
    if tagged and len(members) > 1:
        return [found for member in tagged for found in _reached(member, loc[1:])]
    reached: list[Any] = []
    for member in members:
        if isinstance(member, type) and issubclass(member, BaseModel):
            if loc[0] in member.model_fields:
                reached += _reached(member.model_fields[str(loc[0])].annotation, loc[1:])
        elif get_origin(member) in (dict, list):
            reached += _reached(get_args(member)[-1], loc[1:])
    return reached
