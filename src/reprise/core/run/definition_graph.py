"""The graph of definitions: what each name in reprise's code stands for, and which part of it counts where it is used.

`core/run/definitions.py` reads one module. Here names are followed from module to module, through imports and
re-exports; `core/run/source_hash.py` walks from a paper's file along them.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from reprise.core.run.definitions import (
    EVERY_MODULE,
    PACKAGE,
    Facts,
    Function,
    Module,
    Reference,
    Use,
    copy_of_class,
    read_module,
)

EXECUTOR = "reprise.core.run.execution"
"""It runs every experiment, though none imports it; its own file counts, what it imports does not."""
PICTURES = {
    ("reprise.core.run.task", "Task._take_snapshot"): "snapshot",
    (EXECUTOR, "execute"): "write_picture",
}
"""Where training asks for pictures, and by what name: nothing that is trained depends on them."""


class Node(NamedTuple):
    """A definition, or a part of it that counts by itself."""

    module: str
    place: int
    part: str = ""
    """Empty: all of it; `:fields`: a class without its methods; `:methods`: what is not schema of a pydantic model;
    `:type`: what a type names; `:table`: a table without its entries; else the name of a method or the key of an entry.
    """


class DefinitionGraph:
    """The definitions of a package as its files are now."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files
        self._modules: dict[str, Module] = {}
        self._targets: dict[Node, list[tuple[Use, tuple[Node, ...]]]] = {}
        self._kinds: dict[tuple[str, int], str] = {}
        self._effects: dict[str, list[Node]] = {}
        self._names: dict[Node, str] = {}

    def module(self, name: str) -> Module:
        """A module of the package."""
        if name not in self._modules:
            self._modules[name] = read_module(self.files, name)
        return self._modules[name]

    def statement(self, node: Node) -> ast.stmt:
        """The top-level statement that `node` is, or is part of."""
        return self.module(node.module).body[node.place]

    def name(self, node: Node) -> str:
        """`build_optimizer`, `Task.update`, `BUILDERS.adam`: what a definition is called in its module."""
        if node not in self._names:
            name = self.module(node.module).name_at(node.place)
            self._names[node] = name + (f".{node.part}" if node.part and not node.part.startswith(":") else "")
        return self._names[node]

    def find(self, reference: Reference) -> list[Node]:
        """The definitions that a reference names; none if it names nothing of the package."""
        found: list[Node] = []
        for module, place in self.places(reference, set()):
            found += [node for node in [self.as_used(module, place, reference.use)] if node]
        return found

    def places(self, reference: Reference, passed: set[Reference]) -> list[tuple[str, int]]:
        """Module and place of each definition that a reference names."""
        if reference == EVERY_MODULE:
            return [place for name in self.files for place in self._all_of(name, passed)]
        if reference in passed or reference.module not in (*self.files, PACKAGE):
            return []
        passed.add(reference)
        if not reference.path:
            return [] if reference.module == PACKAGE else self._all_of(reference.module, passed)
        name, *rest = reference.path
        if reference.module != PACKAGE:
            module = self.module(reference.module)
            if name in module.bound:
                return [(module.name, place) for place in module.bound[name]]
            if name in module.imports:
                origin = module.imports[name]
                return self.places(Reference(origin.module, (*origin.path, *rest)), passed)
            for star in module.stars:
                if found := self.places(Reference(star, reference.path), passed):
                    return found
        inner = f"{reference.module}.{name}"
        return self.places(Reference(inner, tuple(rest)), passed) if inner in self.files else []

    def _all_of(self, name: str, passed: set[Reference]) -> list[tuple[str, int]]:
        """Every definition of a module, and what it imports by name."""
        module = self.module(name)
        found = [(name, place) for place in range(len(module.body))]
        for origin in module.imports.values():
            found += self.places(origin, passed) if origin.path else []
        return found

    def as_used(self, module: str, place: int, use: Use) -> Node | None:
        """The part of a definition that counts where it is used as `use`."""
        statement = self.module(module).body[place]
        match statement:
            case ast.ClassDef():
                kind = self.kind(module, place)
                if kind == "task":
                    return Node(module, place, ":fields")
                return Node(module, place, ":methods" if kind == "schema" and use == "type" else "")
            case ast.Assign() | ast.AnnAssign():
                if use == "key" and self.entries(Node(module, place)):
                    return Node(module, place, ":table")
                return Node(module, place, ":type" if use == "type" else "")
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return None if use == "type" else Node(module, place)
        return Node(module, place)

    # Classes

    def kind(self, module: str, place: int) -> str:
        """`task` for a class that derives from a LightningModule, `schema` from a pydantic model, else `plain`."""
        key = module, place
        if key not in self._kinds:
            self._kinds[key] = "plain"  # while its bases are looked at: none is its own
            self._kinds[key] = self._kind(module, place)
        return self._kinds[key]

    def _kind(self, module: str, place: int) -> str:
        for base in self.bases(module, place):
            if isinstance(base, str):
                name = base.rpartition(".")[2]
                if name == "LightningModule":
                    return "task"
                if base.startswith("pydantic.") and name in ("BaseModel", "RootModel"):
                    return "schema"
            elif (kind := self.kind(*base)) != "plain":
                return kind
        return "plain"

    def bases(self, module: str, place: int) -> list[tuple[str, int] | str]:
        """The classes that a class derives from: their places, or the dotted paths of those from elsewhere."""
        statement, read = self.module(module).body[place], self.module(module)
        found: list[tuple[str, int] | str] = []
        for base in statement.bases if isinstance(statement, ast.ClassDef) else ():
            base = base.value if isinstance(base, ast.Subscript) else base
            root, *attributes = ast.unparse(base).split(".")
            if root in read.external:
                found.append(".".join([read.external[root], *attributes]))
            else:
                origin = read.imports.get(root, Reference(module, (root,)))
                places = self.places(Reference(origin.module, (*origin.path, *attributes)), set())
                found += [each for each in places if isinstance(self.module(each[0]).body[each[1]], ast.ClassDef)]
        return found

    def family(self, module: str, place: int) -> list[tuple[str, int]]:
        """A class of the package and those it derives from."""
        found = [(module, place)]
        for each in found:
            found += [base for base in self.bases(*each) if not isinstance(base, str) and base not in found]
        return found

    def methods(self, module: str, place: int) -> dict[str, list[Function]]:
        """The methods of a class by name, getters and setters of one property together."""
        found: dict[str, list[Function]] = {}
        statement = self.module(module).body[place]
        for each in statement.body if isinstance(statement, ast.ClassDef) else ():
            if isinstance(each, Function):
                found.setdefault(each.name, []).append(each)
        return found

    def entries(self, node: Node) -> dict[str, ast.expr]:
        """The entries of a table of builders by their keys; {} for anything else."""
        statement = self.statement(node)
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if not isinstance(value, ast.Dict):
            return {}
        keys = [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
        plain = all(isinstance(each, ast.Name | ast.Attribute | ast.Lambda) for each in value.values)
        return dict(zip(keys, value.values, strict=True)) if plain and len(keys) == len(value.keys) else {}

    def kinds_of(self, node: Node) -> frozenset[str]:
        """The strings that select a pydantic model from a union: those of its field `kind`; none if it has none."""
        statement = self.statement(node)
        for each in statement.body if isinstance(statement, ast.ClassDef) else ():
            if isinstance(each, ast.AnnAssign) and ast.unparse(each.target) == "kind":
                literals = (one.value for one in ast.walk(each.annotation) if isinstance(one, ast.Constant))
                return frozenset(one for one in literals if isinstance(one, str))
        return frozenset()

    # What a node says

    def facts(self, node: Node) -> Facts:
        """What a node says and names."""
        kept = self.module(node.module).kept
        if (node.place, node.part) not in kept:
            kept[node.place, node.part] = self._read_facts(node)
        return kept[node.place, node.part]

    def _read_facts(self, node: Node) -> Facts:
        module, statement = self.module(node.module), self.statement(node)
        if isinstance(statement, ast.ClassDef):
            if node.part == ":fields":
                return module.facts([_of_class(statement, lambda each: not isinstance(each, Function))])
            if node.part == ":methods":
                kept = [each for each in statement.body if not _is_schema(each)]
                schema = [each for each in statement.body if _is_schema(each) and not isinstance(each, Function)]
                return module.facts(kept, types=[*statement.bases, *schema])
            if node.part:
                facts = module.facts(self.methods(node.module, node.place)[node.part])
                facts.text = f"{statement.name}: {facts.text}"
                return facts
        elif node.part == ":table":
            return Facts()
        elif node.part == ":type":
            return module.facts([value for value in [getattr(statement, "value", None)] if value], "type")
        elif node.part:
            facts = module.facts([self.entries(node)[node.part]])
            facts.text = f"{node.part}: {facts.text}"
            return facts
        return module.facts([statement])

    def targets(self, node: Node) -> list[tuple[Use, tuple[Node, ...]]]:
        """For each name in a node, in order: how it is used, and the definitions it stands for."""
        if node not in self._targets:
            stopped = PICTURES.get((node.module, self.name(node)))
            found = []
            for reference in self.facts(node).references:
                if stopped and reference.path[:1] == (stopped,):
                    continue
                nodes = [] if node.module == EXECUTOR and reference.module != EXECUTOR else self.find(reference)
                found += [(reference.use, tuple(nodes))] if nodes else []
            self._targets[node] = found
        return self._targets[node]

    def effects(self, name: str) -> list[Node]:
        """What acts when a module is imported."""
        if name not in self._effects:
            self._effects[name] = self._find_effects(name)
        return self._effects[name]

    def _find_effects(self, name: str) -> list[Node]:
        module = self.module(name)
        found = [Node(name, place) for place in module.effects]
        found += [Node(name, place) for place in range(len(module.body)) if self._registers(name, place)]
        for star in module.stars:
            found += self.find(Reference(star, ()))
        return found

    def _registers(self, name: str, place: int) -> bool:
        """Whether defining a class runs code of the package: a base's `__init_subclass__`, or a metaclass."""
        statement = self.module(name).body[place]
        if not isinstance(statement, ast.ClassDef):
            return False
        family = [each for each in self.family(name, place) if each != (name, place)]
        metaclass = any(keyword.arg == "metaclass" for keyword in statement.keywords)
        return metaclass or any("__init_subclass__" in self.methods(*each) for each in family)

    def loads(self, name: str) -> set[str]:
        """The modules that are imported directly with a module: the packages that hold it, and those it imports."""
        parts = name.split(".")
        packages = {".".join(parts[:count]) for count in range(2, len(parts))}
        imported = set() if name == EXECUTOR else self.module(name).loads
        return {each for each in packages | imported if each in self.files}


def _of_class(node: ast.ClassDef, kept: Any) -> ast.ClassDef:
    return copy_of_class(node, [each for each in node.body if kept(each)])


def _is_schema(statement: ast.stmt) -> bool:
    """Whether a part of a pydantic model shows in the values of a validated configuration, and nowhere else."""
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name)):
            return not name.startswith("_") and "ClassVar" not in ast.unparse(statement.annotation)
        case ast.Assign(targets=[ast.Name(id="model_config")]) | ast.Pass():
            return True
        case ast.FunctionDef():
            return any("validator" in ast.unparse(decorator) for decorator in statement.decorator_list)
    return False
