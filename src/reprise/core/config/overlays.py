"""Overlays: how a run's config comes about from params.yaml, and where each value of it was written."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from reprise.core.config.yaml import Document, Mark, Path, dotted


@dataclass(frozen=True)
class Layer:
    """One overlay: a block of a document."""

    document: Document
    path: Path
    """Where in the document the block stands."""
    tree: dict[str, Any]
    """The block, without `arms`."""

    def key_mark(self, path: Path) -> Mark:
        """The place of the key at `path` of the overlay."""
        return self.document.key_mark((*self.path, *path))

    def value_mark(self, path: Path) -> Mark:
        """The place of the value at `path` of the overlay."""
        return self.document.value_mark((*self.path, *path))


@dataclass(frozen=True)
class Origin:
    """Where a value of a resolved config was written."""

    layer: str
    """`laptop`, or `seeds`, or `command line`."""
    mark: Mark

    def __str__(self) -> str:
        return f"{self.mark} {self.layer}" if self.mark.line else str(self.mark)


@dataclass(frozen=True)
class Merged:
    """The result of merging layers, and for each path in it which layer did what."""

    tree: dict[str, Any]
    made: dict[Path, Layer]
    """The layer that made a block, or gave a value; the first block of all made the whole."""
    touched: dict[Path, Layer]
    """The last layer that says anything at or within a path."""

    @property
    def origins(self) -> dict[Path, Origin]:
        """Where every value stands that is not itself a block of keys."""
        return {
            path: Origin(dotted(layer.path) or str(path[0]), layer.value_mark(path))
            for path, layer in self.made.items()
            if path and (not isinstance(value := _at(self.tree, path), dict) or not value)
        }


def merge(layers: Iterable[Layer]) -> Merged:
    """What `resolve` gives, with the origin of every value, and fast enough to check every arm at every scale."""
    layers = list(layers)
    merged = Merged({}, {(): next((layer for layer in layers if layer.path), layers[0])}, {})
    for layer in layers:
        merged.touched[()] = layer
        _lay(merged, merged.tree, layer.tree, (), layer)
    return merged


def resolve(layers: Iterable[Layer]) -> dict[str, Any]:
    """The config that a run gets: OmegaConf.merge of the layers.

    Blocks merge deep, lists and values replace; a block that names another `kind` replaces the one before.
    """
    from omegaconf import OmegaConf

    tree: dict[str, Any] = {}
    for layer in layers:
        merged = OmegaConf.merge(_without_replaced(tree, layer.tree), layer.tree)
        tree = OmegaConf.to_container(merged, resolve=True)  # type: ignore[assignment]
    return tree


def _without_replaced(below: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for key, old in below.items():
        new = overlay.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            kept[key] = {} if _replaces(old, new) else _without_replaced(old, new)
        else:
            kept[key] = old
    return kept


def _replaces(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return "kind" in old and new.get("kind", old["kind"]) != old["kind"]


def _lay(merged: Merged, below: dict[str, Any], overlay: dict[str, Any], path: Path, layer: Layer) -> None:
    for key, value in overlay.items():
        at, old = (*path, key), below.get(key)
        merged.touched[at] = layer
        if not isinstance(value, dict):
            _forget(merged, at, old)
            below[key], merged.made[at] = copy.deepcopy(value), layer
            continue
        if not isinstance(old, dict) or _replaces(old, value):
            _forget(merged, at, old)
            below[key], merged.made[at] = {}, layer
        _lay(merged, below[key], value, at, layer)


def _forget(merged: Merged, path: Path, old: Any) -> None:
    """Drop what is known about the blocks within a block that is replaced."""
    for key, value in old.items() if isinstance(old, dict) else ():
        _forget(merged, (*path, key), value)
        merged.made.pop((*path, key), None)
        merged.touched.pop((*path, key), None)


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree
