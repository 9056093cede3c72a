"""The graph of definitions: what each name in reprise's code refers to, and which part of it counts when so used.

`core/run/definitions.py` reads one module. Here names are followed from module to module, through imports and
re-exports; `core/run/source_hash.py` walks the graph from a paper's file.
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
"""Runs every experiment although none imports it. Its own definitions count, but not what it imports."""
PICTURES = {
    ("reprise.core.run.task", "Task._take_snapshot"): "snapshot",
    (EXECUTOR, "execute"): "write_picture",
}
"""Where training asks for pictures, and under which name; training does not depend on them."""


class Node(NamedTuple):
    """A definition, or a part of one that counts separately."""

    module: str
    place: int
    part: str = ""
    """Which part: empty for all of it; `:fields`, a class without its methods; `:methods`, a pydantic model without its
    schema; `:type`, the names in a type; `:table`, a table without its entries; else a method's name or an entry's
    key.
    """


class DefinitionGraph:
    """The graph of a package's definitions, as its files are now."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files
        self._modules: dict[str, Module] = {}
        self._targets: dict[Node, list[tuple[Use, tuple[Node, ...]]]] = {}
        self._kinds: dict[tuple[str, int], str] = {}
        self._effects: dict[str, list[Node]] = {}
        self._names: dict[Node, str] = {}

    def module(self, name: str) -> Module:
        """Return a module of the package, parsing it on first use."""
        if name not in self._modules:
            self._modules[name] = read_module(self.files, name)
        return self._modules[name]

    def statement(self, node: Node) -> ast.stmt:
        """Return the top-level statement that `node` is, or is part of."""
        return self.module(node.module).body[node.place]

    def name(self, node: Node) -> str:
        """Return a definition's name within its module, such as `build_optimizer`, `Task.update` or `BUILDERS.adam`."""
        if node not in self._names:
            name = self.module(node.module).name_at(node.place)
            self._names[node] = name + (f".{node.part}" if node.part and not node.part.startswith(":") else "")
        return self._names[node]

    def find(self, reference: Reference) -> list[Node]:
        """Return the definitions that a reference names, none if it leads outside the package."""
        found: list[Node] = []
        for module, place in self.places(reference, set()):
            found += [node for node in [self.as_used(module, place, reference.use)] if node]
        return found

    def places(self, reference: Reference, passed: set[Reference]) -> list[tuple[str, int]]:
        """Return the module and place of each definition that a reference names. `passed` stops circular imports."""
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
        # Not a definition, so perhaps a submodule: `parts.optim`.
        inner = f"{reference.module}.{name}"
        return self.places(Reference(inner, tuple(rest)), passed) if inner in self.files else []

    def _all_of(self, name: str, passed: set[Reference]) -> list[tuple[str, int]]:
        """Return every definition of a module, and those it imports by name."""
        module = self.module(name)
        found = [(name, place) for place in range(len(module.body))]
        for origin in module.imports.values():
            found += self.places(origin, passed) if origin.path else []
        return found

    def as_used(self, module: str, place: int, use: Use) -> Node | None:
        """Return the part of a definition that counts when used as `use`."""
        statement = self.module(module).body[place]
        match statement:
            case ast.ClassDef():
                kind = self.kind(module, place)
                if kind == "task":  # its methods are added one by one, by the walk
                    return Node(module, place, ":fields")
                return Node(module, place, ":methods" if kind == "schema" and use == "type" else "")
            case ast.Assign() | ast.AnnAssign():
                if use == "key" and self.entries(Node(module, place)):
                    return Node(module, place, ":table")
                return Node(module, place, ":type" if use == "type" else "")
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return None if use == "type" else Node(module, place)  # an annotation calls no function
        return Node(module, place)

    # Classes

    def kind(self, module: str, place: int) -> str:
        """Return `task` for subclasses of LightningModule, `schema` for pydantic models, else `plain`."""
        key = module, place
        if key not in self._kinds:
            self._kinds[key] = "plain"  # provisional: it ends recursion if a class is found among its own bases
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
        """Return the base classes of a class: their places or, if they are external, their dotted paths."""
        statement, read = self.module(module).body[place], self.module(module)
        found: list[tuple[str, int] | str] = []
        for base in statement.bases if isinstance(statement, ast.ClassDef) else ():
            base = base.value if isinstance(base, ast.Subscript) else base  # Generic[T]
            root, *attributes = ast.unparse(base).split(".")
            if root in read.external:
                found.append(".".join([read.external[root], *attributes]))
            else:
                origin = read.imports.get(root, Reference(module, (root,)))
                places = self.places(Reference(origin.module, (*origin.path, *attributes)), set())
                found += [each for each in places if isinstance(self.module(each[0]).body[each[1]], ast.ClassDef)]
        return found

    def family(self, module: str, place: int) -> list[tuple[str, int]]:
        """Return a class of the package and all its base classes in the package."""
        found = [(module, place)]
        for each in found:
            found += [base for base in self.bases(*each) if not isinstance(base, str) and base not in found]
        return found

    def methods(self, module: str, place: int) -> dict[str, list[Function]]:
        """Return the methods of a class by name; the getter and setter of a property share one."""
        found: dict[str, list[Function]] = {}
        statement = self.module(module).body[place]
        for each in statement.body if isinstance(statement, ast.ClassDef) else ():
            if isinstance(each, Function):
                found.setdefault(each.name, []).append(each)
        return found

    def entries(self, node: Node) -> dict[str, ast.expr]:
        """Return the entries of a table of builders by key, or {} for anything else."""
        statement = self.statement(node)
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if not isinstance(value, ast.Dict):
            return {}
        keys = [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
        # Any other expression runs on import, whichever entry is chosen; a computed key or **table could be any key.
        plain = all(isinstance(each, ast.Name | ast.Attribute | ast.Lambda) for each in value.values)
        return dict(zip(keys, value.values, strict=True)) if plain and len(keys) == len(value.keys) else {}

    def kinds_of(self, node: Node) -> frozenset[str]:
        """Return the strings that select a pydantic model from a union, from its field `kind`; none if it has none."""
        statement = self.statement(node)
        for each in statement.body if isinstance(statement, ast.ClassDef) else ():
            if isinstance(each, ast.AnnAssign) and ast.unparse(each.target) == "kind":
                literals = (one.value for one in ast.walk(each.annotation) if isinstance(one, ast.Constant))
                return frozenset(one for one in literals if isinstance(one, str))
        return frozenset()

    # The contents of a node

    def facts(self, node: Node) -> Facts:
        """Return a node's code and the names in it, cached."""
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
                # Fields of the schema show in the validated configuration, but their types lead to further models.
                kept = [each for each in statement.body if not _is_schema(each)]
                schema = [each for each in statement.body if _is_schema(each) and not isinstance(each, Function)]
                return module.facts(kept, types=[*statement.bases, *schema])
            if node.part:
                facts = module.facts(self.methods(node.module, node.place)[node.part])
                # Without the prefix, a method moved to another class would keep its hash.
                facts.text = f"{statement.name}: {facts.text}"
                return facts
        elif node.part == ":table":  # its entries are added one by one, by the walk
            return Facts()
        elif node.part == ":type":
            return module.facts([value for value in [getattr(statement, "value", None)] if value], "type")
        elif node.part:
            facts = module.facts([self.entries(node)[node.part]])
            facts.text = f"{node.part}: {facts.text}"
            return facts
        return module.facts([statement])

    def targets(self, node: Node) -> list[tuple[Use, tuple[Node, ...]]]:
        """Return, for each name in a node, in order, how it is used and the definitions it stands for."""
        if node not in self._targets:
            stopped = PICTURES.get((node.module, self.name(node)))
            found = []
            for reference in self.facts(node).references:
                if stopped and reference.path[:1] == (stopped,):
                    continue
                # What the executor imports carries a run, and tests show that it changes no result.
                nodes = [] if node.module == EXECUTOR and reference.module != EXECUTOR else self.find(reference)
                found += [(reference.use, tuple(nodes))] if nodes else []
            self._targets[node] = found
        return self._targets[node]

    def effects(self, name: str) -> list[Node]:
        """Return the statements that act when a module is imported."""
        if name not in self._effects:
            self._effects[name] = self._find_effects(name)
        return self._effects[name]

    def _find_effects(self, name: str) -> list[Node]:
        module = self.module(name)
        found = [Node(name, place) for place in module.effects]
        found += [Node(name, place) for place in range(len(module.body)) if self._registers(name, place)]
        for star in module.stars:  # nothing says which of its names are used
            found += self.find(Reference(star, ()))
        return found

    def _registers(self, name: str, place: int) -> bool:
        """Whether defining a class runs code of the package, through a base's `__init_subclass__` or a metaclass."""
        statement = self.module(name).body[place]
        if not isinstance(statement, ast.ClassDef):
            return False
        family = [each for each in self.family(name, place) if each != (name, place)]
        metaclass = any(keyword.arg == "metaclass" for keyword in statement.keywords)
        return metaclass or any("__init_subclass__" in self.methods(*each) for each in family)

    def loads(self, name: str) -> set[str]:
        """Return the modules imported directly with a module: the packages that contain it, and its own imports."""
        parts = name.split(".")
        packages = {".".join(parts[:count]) for count in range(2, len(parts))}
        imported = set() if name == EXECUTOR else self.module(name).loads
        return {each for each in packages | imported if each in self.files}


def _of_class(node: ast.ClassDef, kept: Any) -> ast.ClassDef:
    return copy_of_class(node, [each for each in node.body if kept(each)])


def _is_schema(statement: ast.stmt) -> bool:
    """Whether a part of a pydantic model is fully reflected in the values of a validated configuration."""
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name)):
            return not name.startswith("_") and "ClassVar" not in ast.unparse(statement.annotation)
        case ast.Assign(targets=[ast.Name(id="model_config")]) | ast.Pass():
            return True
        case ast.FunctionDef():
            return any("validator" in ast.unparse(decorator) for decorator in statement.decorator_list)
    return False
