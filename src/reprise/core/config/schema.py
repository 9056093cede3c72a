"""JSON Schemas of params.yaml and pipeline.yaml, by which editors complete and check them."""

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

from reprise.core.config import schema_descriptions
from reprise.core.config.config_loader import config_class, experiment_files, experiments_dir
from reprise.core.config.documents import PARAMS
from reprise.core.config.params import Params, Section
from reprise.core.config.pipeline import Pipeline
from reprise.core.config.yaml import Document
from reprise.core.contract import ExperimentConfig

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def write(root: Path, experiments: Path | None = None) -> list[str]:
    """Write schemas/*.schema.json below `root`; the paths of the files, relative to it."""
    written = schemas(experiments or experiments_dir(), root / PARAMS)
    for name, text in written.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return list(written)


def current(root: Path, experiments: Path | None = None) -> bool:
    """Whether the schemas below `root` are what `write` would write."""
    files = schemas(experiments or experiments_dir(), root / PARAMS).items()
    return all((root / name).exists() and (root / name).read_text() == text for name, text in files)


def schemas(experiments: Path, params: Path) -> dict[str, str]:
    """The text of each schema file, by its path; `params`, if it can be read, says what each paper has where."""
    classes = {key: config_class(key, file, file.name) for key, file in experiment_files(experiments).items()}
    named = {"params": params_schema(classes, schema_descriptions.read(params)), "pipeline": _schema(Pipeline)}
    return {
        f"schemas/{name}.schema.json": json.dumps({"$schema": _DIALECT, **schema}, indent=1) + "\n"
        for name, schema in named.items()
    }


def params_schema(
    classes: dict[str, type[ExperimentConfig]], said: tuple[Document, list[str]] | None = None
) -> dict[str, Any]:
    """params.yaml's schema: under each experiment its own knobs; an overlay needs none of them."""
    schema = _schema(Params)
    sections: dict[str, Any] = {}
    for key, config in sorted(classes.items()):
        whole = _own_blocks_named(_schema(config), key, config)
        if said is not None:
            schema_descriptions.annotate(whole, key, *said)
        overlay = _partial(whole)
        schema["$defs"] |= whole.pop("$defs", {}) | overlay.pop("$defs", {}) | {f"{key}.overlay": overlay}
        sections[key] = _section_schema(key, whole["properties"], overlay["properties"])
        sections[key]["description"] = config.__doc__ or key
    del schema["$defs"]["Section"]
    schema["properties"]["experiments"] = {
        "description": _field_docs(Params)["experiments"],
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
    }
    return schema


def _section_schema(key: str, knobs: dict[str, Any], partial_knobs: dict[str, Any]) -> dict[str, Any]:
    """One experiment's section. An arm may hold what `paper` lacks, so `paper` need not hold every knob."""
    docs, overlay = _field_docs(Section), {"$ref": f"#/$defs/{key}.overlay"}
    removable = {"anyOf": [overlay, {"type": "null"}]}
    arms = {
        "description": "Arms that this scale changes, adds or, by null, takes away.",
        "type": "object",
        "additionalProperties": removable,
    }
    blocks = {
        scale: {
            "description": docs[scale],
            "type": "object",
            "additionalProperties": False,
            "properties": {**(knobs if scale == "paper" else partial_knobs), "arms": arms},
        }
        for scale in ("paper", "laptop", "smoke")
    }
    blocks["arms"] = {"description": docs["arms"], "type": "object", "additionalProperties": overlay}
    required = ["paper", "arms"]
    return {"type": "object", "additionalProperties": False, "required": required, "properties": blocks}


class _Documented(GenerateJsonSchema):
    """Takes the docstring under a field for its description, read from the source only when it is needed."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        described = super().model_schema(schema)
        for name, text in _field_docs(schema["cls"]).items():
            described.get("properties", {}).get(name, {}).setdefault("description", text)
        return described


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = _plain(model.model_json_schema(schema_generator=_Documented))
    schema_descriptions.fill(schema)
    return schema


def _own_blocks_named(schema: dict[str, Any], key: str, config: type[ExperimentConfig]) -> dict[str, Any]:
    """The same with `key` before the names of the blocks that the paper's file defines: the vocabulary is shared."""
    own = {name for name, value in vars(sys.modules[config.__module__]).items() if _defined_by(config, value)}
    return _renamed(schema, lambda name: f"{key}.{name}" if name in own else name)


def _defined_by(config: type[ExperimentConfig], value: Any) -> bool:
    return isinstance(value, type) and value.__module__ == config.__module__


def _renamed(schema: Any, rename: Callable[[str], str]) -> Any:
    """The same with every definition, and every reference to one, renamed."""
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
    """Without titles and OpenAPI's discriminators; a union is one that editors can complete."""
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
    """The same with nothing required, at any depth."""
    return _renamed(_without_required(schema), "{}.partial".format)


def _without_required(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_required(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    items = ((key, value) for key, value in schema.items() if not (key == "required" and isinstance(value, list)))
    return {key: _without_required(value) for key, value in items}


def _field_docs(model: type) -> dict[str, str]:
    """The docstring under each field of `model` and its bases."""
    docs: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            docs |= _class_docs(str(sys.modules[base.__module__].__file__)).get(base.__name__, {})
    return docs


@cache
def _class_docs(file: str) -> dict[str, dict[str, str]]:
    """For each class of a file, the docstring under each annotated name."""
    classes = [node for node in ast.walk(ast.parse(Path(file).read_bytes())) if isinstance(node, ast.ClassDef)]
    return {node.name: dict(_docs_in(node)) for node in classes}


def _docs_in(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, doc in pairwise(node.body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str):
            yield field.target.id, cleandoc(doc.value.value)
