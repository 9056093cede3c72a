"""The hash of the source that an experiment imports: what DVC and the fingerprint of a run know its code by.

Comments, docstrings and layout do not count. Found by reading imports, so that nothing is imported.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reprise.core.config.config_loader import experiments_dir

EXECUTOR = "reprise.core.run.execution"
"""It runs every experiment, though none imports it; its own file counts, what it imports does not."""


def source_hash(experiment: str, package: Path | None = None) -> tuple[str, dict[str, str]]:
    """The hash of `experiment`'s source, and of each module in it; `package` is the folder of `reprise`."""
    package = package or experiments_dir().parent
    return _hash(package, [f"reprise.experiments.{experiment}"], EXECUTOR)


def reader_hash(readers: Sequence[str], package: Path | None = None) -> str:
    """The hash of the source of some dataset's readers."""
    package = package or experiments_dir().parent
    return _hash(package, [f"reprise.parts.data.readers.{reader}" for reader in readers])[0]


def text_hash(names: Sequence[str], package: Path | None = None) -> str:
    """Of files of the package, and of those in its folders, comments and docstrings too: what is shown as it stands."""
    package = package or experiments_dir().parent
    files: list[Path] = []
    for name in names:
        path = package / name
        files += [path] if path.is_file() else path.rglob("*")
    kept = sorted(file for file in files if file.is_file() and file.suffix != ".pyc")
    return _sha256(
        "".join(f"{file.relative_to(package)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in kept)
    )


def _hash(package: Path, names: list[str], alone: str | None = None) -> tuple[str, dict[str, str]]:
    """Of `names`, of what they import, and of the module `alone` without what it imports."""
    modules: dict[str, _Module] = {}
    todo = [name for name in names if _file(package, name)]
    while todo:
        if (name := todo.pop()) not in modules:
            modules[name] = _module(package, name)
            todo += modules[name].imports
    if alone is not None:
        modules.setdefault(alone, _module(package, alone))
    hashes = {name: module.hash for name, module in sorted(modules.items())}
    return _sha256("".join(f"{name} {digest}\n" for name, digest in hashes.items())), hashes


@dataclass(frozen=True)
class _Module:
    hash: str
    imports: tuple[str, ...]
    """The modules of reprise that it names."""


def _module(package: Path, name: str) -> _Module:
    file = _file(package, name)
    assert file is not None, f"no module {name}"
    return _read(package, name, file, file.stat().st_mtime_ns)


@cache
def _read(package: Path, name: str, file: Path, _modified: int) -> _Module:
    tree = ast.parse(file.read_bytes(), str(file))
    named = dict.fromkeys(found for node in ast.walk(tree) for found in _named(package, name, file, node))
    return _Module(_sha256(ast.unparse(_WithoutText().visit(tree))), tuple(named))


def _named(package: Path, name: str, file: Path, node: ast.AST) -> list[str]:
    """The modules of reprise that an import statement in module `name` names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if _file(package, alias.name)]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parts = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
        base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
    modules = [f"{base}.{alias.name}" for alias in node.names]
    found = [module if _file(package, module) else base for module in modules]
    return [module for module in found if _file(package, module)]


def _file(package: Path, module: str) -> Path | None:
    """The file of a module of reprise; None for any other."""
    root, *parts = module.split(".")
    path = package.joinpath(*parts)
    candidates = (path / "__init__.py", path.with_suffix(".py")) if root == "reprise" and parts else ()
    return next((file for file in candidates if file.is_file()), None)


class _WithoutText(ast.NodeTransformer):
    """Drops docstrings, those of fields too."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
