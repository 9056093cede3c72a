"""JSON Schemas of the YAML files, with which editors complete and check them."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from inspect import cleandoc
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from reprise.core.config.config_loader import config_class, experiment_files, experiments_dir
from reprise.core.config.dataset import Dataset
from reprise.core.config.documents import KNOBS
from reprise.core.config.paper import Paper
from reprise.core.config.params import OWN_ARMS, Params, Section
from reprise.core.config.pipeline import Pipeline
from reprise.core.config.schema_descriptions import fill
from reprise.core.contract import ExperimentConfig

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def write(root: Path, experiments: Path | None = None) -> list[str]:
    """Write schemas/ below `root`, and return the paths of the files relative to it."""
    written = schemas(experiments or experiments_dir())
    for stale in {*(root / "schemas").rglob("*.schema.json")} - {root / name for name in written}:
        stale.unlink()
    for name, text in written.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return list(written)


def current(root: Path, experiments: Path | None = None) -> bool:
    """Whether the schemas below `root` are up to date."""
    files = schemas(experiments or experiments_dir()).items()
    return all((root / name).exists() and (root / name).read_text() == text for name, text in files)


def schemas(experiments: Path) -> dict[str, str]:
    """Return the text of each schema file by its path: one per kind of file, and one per experiment's knobs."""
    named = {
        "params": _schema(Params),
        "pipeline": _schema(Pipeline),
        "dataset": _schema(Dataset),
        "paper": _schema(Paper),
    }
    for key, file in experiment_files(experiments).items():
        named[f"{KNOBS}/{key}"] = knobs_schema(config_class(key, file, file.name))
    return {
        f"schemas/{name}.schema.json": json.dumps({"$schema": _DIALECT, **schema}, indent=1) + "\n"
        for name, schema in named.items()
    }


def knobs_schema(config: type[ExperimentConfig]) -> dict[str, Any]:
    """Return the schema of params/<key>.yaml, the knobs of one experiment. In an overlay no knob is required."""
    whole = _schema(config)
    overlay = _partial(whole)
    definitions = whole.pop("$defs", {}) | overlay.pop("$defs", {}) | {"overlay": overlay}
    docs, reference = _field_docs(Section), {"$ref": "#/$defs/overlay"}
    arms = {
        "description": "Arms that this scale changes or, with null, removes.",
        "type": "object",
        "additionalProperties": {"anyOf": [reference, {"type": "null"}]},
    }
    own_arms = {
        "description": "Arms that exist at this scale only.",
        "type": "object",
        "additionalProperties": reference,
    }
    # Not every knob is required in `paper`: an arm may supply one instead.
    blocks: dict[str, Any] = {
        scale: {
            "description": docs[scale],
            "type": "object",
            "additionalProperties": False,
            "properties": {
                **(whole["properties"] if scale == "paper" else overlay["properties"]),
                "arms": arms,
                OWN_ARMS: own_arms,
            },
        }
        for scale in ("paper", "laptop", "smoke")
    }
    blocks["arms"] = {"description": docs["arms"], "type": "object", "additionalProperties": reference}
    return {
        "description": config.__doc__ or "",
        "type": "object",
        "additionalProperties": False,
        "required": ["paper", "arms", "laptop", "smoke"],
        "properties": blocks,
        "$defs": definitions,
    }


class _Documented(GenerateJsonSchema):
    """Uses the docstring under each field as its description, read from the source only when needed."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        described = super().model_schema(schema)
        for name, text in _field_docs(schema["cls"]).items():
            described.get("properties", {}).get(name, {}).setdefault("description", text)
        return described


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = _plain(model.model_json_schema(schema_generator=_Documented))
    fill(schema)
    return schema


def _renamed(schema: Any, rename: Callable[[str], str]) -> Any:
    """Return the schema with every definition, and every reference to one, renamed."""
    if isinstance(schema, list):
        return [_renamed(item, rename) for item in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {key: _renamed(value, rename) for key, value in schema.items()}
    if isinstance(renamed.get("$ref"), str):
        renamed["$ref"] = "#/$defs/" + rename(renamed["$ref"].removeprefix("#/$defs/"))
    if "$defs" in renamed:
        renamed["$defs"] = {rename(name): definition for name, definition in renamed["$defs"].items()}
    return renamed


def _plain(schema: Any) -> Any:
    """Drop titles and OpenAPI discriminators, and turn oneOf into anyOf, which editors can complete."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        "anyOf" if key == "oneOf" else key: _plain(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "discriminator" and "oneOf" in schema)
    }


def _partial(schema: Any) -> Any:
    """Return the schema with nothing required, at any depth."""
    return _renamed(_without_required(schema), "{}.partial".format)


def _without_required(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_required(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    items = ((key, value) for key, value in schema.items() if not (key == "required" and isinstance(value, list)))
    return {key: _without_required(value) for key, value in items}


def _field_docs(model: type) -> dict[str, str]:
    """Return the docstring under each field of `model` and its bases."""
    docs: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            docs |= _class_docs(str(sys.modules[base.__module__].__file__)).get(base.__name__, {})
    return docs


@cache
def _class_docs(file: str) -> dict[str, dict[str, str]]:
    """Return, for each class of a file, the docstring under each annotated name."""
    classes = [node for node in ast.walk(ast.parse(Path(file).read_bytes())) if isinstance(node, ast.ClassDef)]
    return {node.name: dict(_docs_in(node)) for node in classes}


def _docs_in(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, doc in pairwise(node.body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str):
            yield field.target.id, cleandoc(doc.value.value)
