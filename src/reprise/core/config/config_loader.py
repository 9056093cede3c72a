"""Loading an experiment's `Config` without running the rest of its file.

`reprise list`, `show` and `validate` must not import torch. So only the top-level statements that `class Config`
depends on are executed, in the paper's file or in its package's config.py. Dependencies are found by name.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from reprise.core.config.yaml import ConfigError, Mark, Problem
from reprise.core.contract import ExperimentConfig, Strict

Base = TypeVar("Base", bound=Strict)
ALLOWED = ("pydantic", "reprise.core.contract", "reprise.parts.vocabulary")
"""Modules that a Config may import besides the standard library."""


def experiments_dir() -> Path:
    """Return the folder of the papers' files, without importing any of them."""
    found = importlib.util.find_spec("reprise.experiments")
    assert found is not None
    assert found.submodule_search_locations
    return Path(next(iter(found.submodule_search_locations)))


def experiment_files(directory: Path) -> dict[str, Path]:
    """Return the file that holds the `Config` of each experiment in `directory`, by the experiment's key."""
    files = {file.stem: file for file in sorted(directory.glob("[a-z]*.py"))}
    packages = {file.parent.name: file.parent / "config.py" for file in sorted(directory.glob("[a-z]*/__init__.py"))}
    return files | packages


def config_class(key: str, file: Path, shown: str) -> type[ExperimentConfig]:
    """Return the `Config` that `file` defines.

    Raises:
        ConfigError: the class cannot be loaded. The message calls the file `shown`.
    """
    return sliced_class("Config", f"reprise.configs.{key}", file, shown, ExperimentConfig, ALLOWED)


def sliced_class(
    name: str, module_name: str, file: Path, shown: str, base: type[Base], allowed: Sequence[str]
) -> type[Base]:
    """Return the class `name` of `file`, executing only the statements that it depends on.

    Args:
        name: the class; it must derive from `base`.
        module_name: module that the statements are executed in.
        file: Python file.
        shown: name of the file in messages.
        base: required base class.
        allowed: modules that the statements may import besides the standard library.

    Raises:
        ConfigError: the file has no such class, or it cannot be loaded.
    """

    def refuse(message: str, line: int = 1, column: int = 1) -> ConfigError:
        return ConfigError([Problem(Mark(shown, line, column), name, message)])

    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except OSError:
        raise refuse("there is no such file") from None
    except SyntaxError as error:
        raise refuse(f"not Python: {error.msg}", error.lineno or 1, error.offset or 1) from None
    statements = list(_needed(tree, name))
    if not any(isinstance(statement, ast.ClassDef) and statement.name == name for statement in statements):
        raise refuse(f"the file defines no class {name}")
    for statement in statements:
        for module in _imported(statement, allowed):
            if module.split(".")[0] not in sys.stdlib_module_names and not _allowed(module, allowed):
                modules = f"{', '.join(allowed)} and the standard library"
                message = f"depends on {module}; a {name} may import only {modules}"
                raise refuse(message, statement.lineno, statement.col_offset + 1)
    module = types.ModuleType(module_name, ast.get_docstring(tree))
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # pydantic resolves annotations through sys.modules
    try:
        exec(compile(ast.Module(statements, []), str(file), "exec"), module.__dict__)
    except Exception as error:
        # The last line of the file itself, and not of pydantic, where the error was raised.
        line = next((at.tb_lineno for at in reversed(list(_frames(error))) if at.tb_frame.f_globals is vars(module)), 1)
        raise refuse(f"{type(error).__name__}: {error}".splitlines()[0], line) from error
    found = vars(module)[name]
    if not (isinstance(found, type) and issubclass(found, base)):
        article = "an" if base.__name__[0] in "AEIO" else "a"
        raise refuse(f"{name} is not {article} {base.__name__} of reprise.core.contract")
    return found


def _needed(tree: ast.Module, name: str) -> Iterator[ast.stmt]:
    """Yield, in order, the top-level statements that `name` depends on. Imports are reduced to the names used."""
    bound: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for defined in _bound(statement):
            bound.setdefault(defined, []).append(statement)
    names, todo = set[str](), [name]
    while todo:
        if (current := todo.pop()) not in names:
            names.add(current)
            todo += [n for statement in bound.get(current, ()) for n in _used(statement)]
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            yield statement
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            aliases = [alias for alias in statement.names if _alias_name(alias) in names]
            if aliases:
                kept = (
                    ast.Import(aliases)
                    if isinstance(statement, ast.Import)
                    else ast.ImportFrom(statement.module, aliases, statement.level)
                )
                yield ast.copy_location(kept, statement)
        elif not names.isdisjoint(_bound(statement)):
            yield statement


def _alias_name(alias: ast.alias) -> str:
    return alias.asname or alias.name.split(".")[0]


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement defines."""
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return {statement.name}
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {_alias_name(alias) for alias in statement.names}
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    return set()


def _used(statement: ast.stmt) -> set[str]:
    """Return the names that a statement reads, except those it also binds, such as fields and local variables."""
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
    return {node.id for node in names} - own


def _imported(statement: ast.stmt, allowed: Sequence[str]) -> list[str]:
    """Return the modules that a statement imports, even inside functions. Relative imports start with a dot."""
    modules: list[str] = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            modules += [f"{base}.{alias.name}" if f"{base}.{alias.name}" in allowed else base for alias in node.names]
    return modules


def _allowed(module: str, allowed: Sequence[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


def _frames(error: BaseException) -> Iterator[types.TracebackType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next
