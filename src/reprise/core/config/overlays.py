"""Overlays: how a run's configuration is merged, and where each of its values was written."""

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
    """Path of the block in the document."""
    tree: dict[str, Any]
    """The block, without `arms`."""

    def key_mark(self, path: Path) -> Mark:
        """Return the position of the key at `path` within the overlay."""
        return self.document.key_mark((*self.path, *path))

    def value_mark(self, path: Path) -> Mark:
        """Return the position of the value at `path` within the overlay."""
        return self.document.value_mark((*self.path, *path))


@dataclass(frozen=True)
class Origin:
    """Where a value of a resolved configuration was written."""

    layer: str
    """Name of the layer: `laptop`, `seeds` or `command line`."""
    mark: Mark

    def __str__(self) -> str:
        return f"{self.mark} {self.layer}" if self.mark.line else str(self.mark)


@dataclass(frozen=True)
class Merged:
    """A merged configuration, with the layers responsible for each path."""

    tree: dict[str, Any]
    made: dict[Path, Layer]
    """Layer that created the block or gave the value at a path. The entry at () is the first non-empty layer."""
    touched: dict[Path, Layer]
    """Last layer that mentions a path or anything inside it."""

    @property
    def origins(self) -> dict[Path, Origin]:
        """Origin of every value that is not a non-empty block."""
        return {
            path: Origin(dotted(layer.path) or str(path[0]), layer.value_mark(path))
            for path, layer in self.made.items()
            if path and (not isinstance(value := _at(self.tree, path), dict) or not value)
        }


def merge(layers: Iterable[Layer]) -> Merged:
    """Merge layers by the same rules as `resolve`, tracking origins, and fast enough to check every arm."""
    layers = list(layers)
    merged = Merged({}, {(): next((layer for layer in layers if layer.path), layers[0])}, {})
    for layer in layers:
        merged.touched[()] = layer
        _lay(merged, merged.tree, layer.tree, (), layer)
    return merged


def resolve(layers: Iterable[Layer]) -> dict[str, Any]:
    """Merge layers with OmegaConf into the configuration that a run receives.

    Blocks merge recursively; lists and scalars replace. A block with a different `kind` replaces the old block.
    """
    from omegaconf import OmegaConf

    tree: dict[str, Any] = {}
    for layer in layers:
        # OmegaConf would merge blocks of different kinds and keep fields of the old one.
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
    return "kind" in old and "kind" in new and new["kind"] != old["kind"]


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
    """Drop the records of everything inside a block that is being replaced."""
    for key, value in old.items() if isinstance(old, dict) else ():
        _forget(merged, (*path, key), value)
        merged.made.pop((*path, key), None)
        merged.touched.pop((*path, key), None)


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree
