"""Hash of the code that a run executes, used by DVC and in the run's fingerprint.

The hash covers definitions, not files: those reachable from `Config`, `networks` and `Task` of a paper's file, by
following names through imports and re-exports. Nothing is imported to compute it. The rules:

- Comments, docstrings, layout, imports for type checkers, and module names do not count.
- Knobs do not count: their values are in the validated configuration, which is hashed separately. Of a pydantic model
  only methods other than validators count. A model that code itself calls counts whole.
- A table `TABLE = {"adam": _adam, ...}` that is only ever used as `TABLE[key]` counts by entry: those whose key is a
  string of the configuration, or a literal in code that counts. Keys must not come from anywhere else.
  A model with a field `kind` counts only if the configuration has that kind.
- Training is separate from evaluation and pictures. `evaluate` and `snapshot` of a Task, and methods that only these
  call, belong to `evaluation_hash`. Pictures taken in training are therefore kept when the code that draws them
  changes.
- Code that runs when a module is imported counts for everything that imports the module.
- Computed names may reach anything in the place they look in. A module passed as a value counts whole, and so does a
  module that calls `globals()` or `eval`, or reads `sys.modules`. `getattr` with a variable reaches all methods of a
  Task, and `import_module` with a variable every module of the package.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from reprise.core.config.config_loader import experiments_dir
from reprise.core.run.definitions import (
    EVERY_MODULE,
    PACKAGE,
    Facts,
    Function,
    Module,
    Reference,
    Use,
    copy_of_class,
    modules_of,
    read_module,
)

EXECUTOR = "reprise.core.run.execution"
"""Runs every experiment although none imports it. Its own definitions count, but not what it imports."""
TRAINS, EVALUATES = ("build_task", "execute"), ("evaluate",)
"""Functions of the executor that train a run and that score one."""
SCORING = ("evaluate", "snapshot")
"""Methods of a Task that do not train."""
PICTURES = {
    ("reprise.core.run.task", "Task._take_snapshot"): "snapshot",
    (EXECUTOR, "execute"): "write_picture",
}
"""Where training asks for pictures, and under which name; training does not depend on them."""

Hashes = tuple[str, dict[str, str]]


def source_hash(experiment: str, config: Mapping[str, Any] | None = None, package: Path | None = None) -> Hashes:
    """Return the hash of the code that trains `experiment`, and the hash of each definition in it.

    Args:
        experiment: key of the paper.
        config: validated configuration of a run as plain values; by default every entry of every table counts.
        package: folder of `reprise`.
    """
    return read_code(package).training(experiment, config)


def evaluation_hash(experiment: str, config: Mapping[str, Any] | None = None, package: Path | None = None) -> Hashes:
    """Return the hash of the code that scores a trained run and draws its pictures. Arguments as in `source_hash`.

    Code that builds the model and opens its data belongs to the training hash.
    """
    return read_code(package).evaluation(experiment, config)


def reader_hash(readers: Sequence[str], package: Path | None = None) -> str:
    """Return the hash of the source code of some readers."""
    graph = read_code(package)
    modules = [f"reprise.parts.data.readers.{reader}" for reader in readers]
    roots = [
        node for module in modules for name in ("read", "Options") for node in graph.find(Reference(module, (name,)))
    ]
    return _Walk(graph, roots).digest()[0]


def text_hash(names: Sequence[str], package: Path | None = None) -> str:
    """Return the hash of files and folders of the package, byte for byte, including comments and docstrings."""
    package = package or experiments_dir().parent
    files: list[Path] = []
    for name in names:
        path = package / name
        files += [path] if path.is_file() else path.rglob("*")
    kept = sorted(file for file in files if file.is_file() and file.suffix != ".pyc")
    return _sha256(
        "".join(f"{file.relative_to(package)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in kept)
    )


def _strings(value: Any) -> frozenset[str]:
    """Return every string in a configuration, keys included."""
    if isinstance(value, str):
        return frozenset([value])
    if isinstance(value, Mapping):
        return frozenset(value).union(*map(_strings, value.values()))
    return frozenset[str]().union(*map(_strings, value)) if isinstance(value, list | tuple) else frozenset()


# The graph of definitions


class Node(NamedTuple):
    """A definition, or a part of one that counts separately."""

    module: str
    place: int
    part: str = ""
    """Which part: empty for all of it; `:fields`, a class without its methods; `:methods`, a pydantic model without its
    schema; `:type`, the names in a type; `:table`, a table without its entries; else a method's name or an entry's
    key.
    """


class SourceCode:
    """The graph of a package's definitions, as its files are now."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files
        self._papers: dict[str, _Paper] = {}
        self._modules: dict[str, Module] = {}
        self._targets: dict[Node, list[tuple[Use, tuple[Node, ...]]]] = {}
        self._kinds: dict[tuple[str, int], str] = {}
        self._effects: dict[str, list[Node]] = {}
        self._names: dict[Node, str] = {}

    def training(self, experiment: str, config: Mapping[str, Any] | None = None) -> Hashes:
        """Return `source_hash` without checking whether files have changed since."""
        return self._paper(experiment).hashes(Training, config)

    def evaluation(self, experiment: str, config: Mapping[str, Any] | None = None) -> Hashes:
        """Return `evaluation_hash` without checking whether files have changed since."""
        return self._paper(experiment).hashes(Evaluation, config)

    def _paper(self, experiment: str) -> _Paper:
        if experiment not in self._papers:
            self._papers[experiment] = _Paper(self, experiment)
        return self._papers[experiment]

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
                kept = [each for each in statement.body if not _is_schema(each)]
                schema = [each for each in statement.body if _is_schema(each) and not isinstance(each, Function)]
                return module.facts(kept, types=[*statement.bases, *schema])
            if node.part:
                facts = module.facts(self.methods(node.module, node.place)[node.part])
                # Without the prefix, a method moved to another class would keep its hash.
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
        """Return, for each name in a node, in order, how it is used and the definitions it stands for."""
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
        """Return the statements that act when a module is imported."""
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


@cache
def _framework_names() -> frozenset[str]:
    """Return the methods of LightningModule and its bases, read from their files: the framework may call them."""
    files = {
        "pytorch_lightning": ("core/module.py", "core/hooks.py", "core/mixins/hparams_mixin.py"),
        "torch": ("nn/modules/module.py",),
    }
    names = set[str]()
    for library, paths in files.items():
        spec = find_spec(library)
        folders = spec.submodule_search_locations or () if spec else ()
        for file in (Path(folder) / path for folder in folders for path in paths):
            names.update(re.findall(r"^    def (\w+)\(", file.read_text(), re.MULTILINE) if file.exists() else ())
    return frozenset(names)


# Reachability


class _Walk:
    """The nodes reachable from some roots, as a worklist algorithm."""

    def __init__(
        self,
        graph: SourceCode,
        roots: Iterable[Node],
        strings: frozenset[str] | None = None,
        modules: Iterable[str] = (),
    ) -> None:
        self.graph = graph
        self.configured = strings
        """Strings of the configuration; None lets every entry of a table count."""
        self.reached: dict[Node, None] = {}
        self.pending: dict[Node, None] = {}
        """Models whose kind has not been found among the reached strings so far."""
        self.loaded: set[str] = set()
        self.strings: set[str] = set(strings or ())
        self.attributes: set[str] = set()
        self.called: set[str] = set()
        self.dynamic = False
        self.todo: list[Node] = []
        for node in roots:
            self.add(node)
        self.load(modules)
        self.run()

    def methods_wanted(self, module: str, place: int) -> Iterable[str]:
        """Return the methods of a Task that count."""
        return self.graph.methods(module, place)

    def run(self) -> None:
        while self.todo:
            while self.todo:
                self.visit(self.todo.pop())
            self.extend()

    def add(self, node: Node) -> None:
        if node in self.reached:
            return
        if node.part == ":methods" and not self.selected(self.graph.kinds_of(node)):
            self.pending[node] = None
            return
        self.reached[node] = None
        self.todo.append(node)

    def selected(self, kinds: frozenset[str]) -> bool:
        return self.configured is None or not kinds or not kinds.isdisjoint(self.strings)

    def visit(self, node: Node) -> None:
        facts = self.graph.facts(node)
        stopped = PICTURES.get((node.module, self.graph.name(node)))
        self.strings |= facts.strings
        self.attributes |= facts.attributes - {stopped}
        self.called |= facts.called - {stopped}
        statement = self.graph.statement(node)
        in_task = isinstance(statement, ast.ClassDef) and self.graph.kind(node.module, node.place) == "task"
        self.dynamic |= facts.dynamic == "any" or (facts.dynamic == "self" and in_task)
        for _, targets in self.graph.targets(node):
            for target in targets:
                self.add(target)
        self.load({node.module, *facts.modules})

    def load(self, modules: Iterable[str]) -> None:
        todo = [name for name in modules if name in self.graph.files]
        while todo:
            name = todo.pop()
            if name not in self.loaded:
                self.loaded.add(name)
                for node in self.graph.effects(name):
                    self.add(node)
                todo += self.graph.loads(name)

    def extend(self) -> None:
        """Add the methods, entries and models that the strings and names reached so far select."""
        for node in list(self.reached):
            if node.part == ":fields":
                for name in self.methods_wanted(node.module, node.place):
                    self.add(Node(node.module, node.place, name))
            elif node.part == ":table":
                for key in self.graph.entries(node):
                    if self.selected(frozenset([key])):
                        self.add(Node(node.module, node.place, key))
        for node in list(self.pending):
            self.add(node)

    def digest(self) -> Hashes:
        """Return the hash of everything reached, and of each definition by its name.

        A definition's hash covers its own text, the hashes of the definitions it names, in order, and of those that
        these name. So it changes when a name comes to mean something else, but not when a module is renamed or a
        definition moved.
        """
        texts = {node: _sha256(self.graph.facts(node).text) for node in self.reached if self.graph.facts(node).text}
        named = {node: self._named(node) for node in texts}
        hashes = texts
        # Two rounds cover the names in a definition, and the names in those.
        for _ in range(2):
            hashes = {
                node: _sha256(
                    texts[node]
                    + "".join(" ".join(sorted(hashes[each] for each in some)) + "\n" for some in named[node])
                )
                for node in texts
            }
        kinds = {node: node.part if node.part.startswith(":") else "" for node in texts}
        by_name = {f"{node.module}.{self.graph.name(node)}{kinds[node]}": texts[node] for node in texts}
        return _sha256("\n".join(sorted({*hashes.values()}))), dict(sorted(by_name.items()))

    def _named(self, node: Node) -> list[set[Node]]:
        """Return the definitions with text that each name in a node stands for. Types come first, as one set."""
        types, values = set[Node](), list[set[Node]]()
        for use, targets in self.graph.targets(node):
            found = self._with_text(targets)
            if use == "type":
                types |= found
            elif found:
                values.append(found)
        return [types, *values]

    def _with_text(self, nodes: Iterable[Node]) -> set[Node]:
        """Return those of `nodes` that have text of their own and, in place of the others, what they name."""
        found, passed, todo = set[Node](), set[Node](), list(nodes)
        while todo:
            node = todo.pop()
            if node in passed or node not in self.reached:
                continue
            passed.add(node)
            if self.graph.facts(node).text:
                found.add(node)
            elif node.part == ":table":
                todo += [Node(node.module, node.place, key) for key in self.graph.entries(node)]
            else:
                todo += [each for _, targets in self.graph.targets(node) for each in targets]
        return found


class _Paper:
    """Everything that the file of one paper reaches."""

    def __init__(self, graph: SourceCode, experiment: str) -> None:
        self.graph = graph
        self.module = f"{PACKAGE}.experiments.{experiment}"
        everything = _Walk(graph, self.roots(TRAINS), None, [self.module])
        self.tasks = [node for node in everything.reached if node.part == ":fields"]
        self.scoring = self._scoring()
        """Names of the methods that only `evaluate` and `snapshot` may call."""
        self.choices = frozenset().union(*map(self._choices, everything.reached))
        """Strings by which a configuration selects definitions."""
        self.known: dict[tuple[object, frozenset[str] | None], Hashes] = {}

    def roots(self, executor: Sequence[str]) -> list[Node]:
        """Return the paper's entry points and those of the executor. A module without any counts whole."""
        uses: dict[str, Use] = {"Config": "type", "networks": "value", "Task": "value"}
        own = [node for name, use in uses.items() for node in self.graph.find(Reference(self.module, (name,), use))]
        carrier = [node for name in executor for node in self.graph.find(Reference(EXECUTOR, (name,)))]
        own = own or self.graph.find(Reference(self.module, ()))
        return own + (carrier or self.graph.find(Reference(EXECUTOR, ())))

    def _scoring(self) -> frozenset[str]:
        methods = [(task, self.graph.methods(task.module, task.place)) for task in self.tasks]
        names = {name for _, own in methods for name in own}
        # A method that Lightning may call, or that our base Task defines, can also run in training.
        called_by_others = _framework_names() | {name for task, own in methods if self._is_first(task) for name in own}
        found, todo = set[str](SCORING), list[str](SCORING)
        while todo:
            name = todo.pop()
            for task, own in methods:
                if name in own:
                    named = self.graph.facts(Node(task.module, task.place, name)).attributes & names
                    new = {each for each in named - called_by_others - found if not each.startswith("__")}
                    found |= new
                    todo.extend(new)
        return frozenset(found)

    def _is_first(self, task: Node) -> bool:
        """Whether a class derives directly from Lightning's; it then drives the paper's classes."""
        return all(isinstance(base, str) for base in self.graph.bases(task.module, task.place))

    def _choices(self, node: Node) -> frozenset[str]:
        if node.part == ":table":
            return frozenset(self.graph.entries(node))
        return self.graph.kinds_of(node) if node.part == ":methods" else frozenset()

    def hashes(
        self, walk: Callable[[_Paper, frozenset[str] | None], _Walk], config: Mapping[str, Any] | None
    ) -> Hashes:
        """Return the hash of what `walk` reaches under a configuration."""
        strings = None if config is None else _strings(config) & self.choices
        key = walk, strings
        if key not in self.known:
            self.known[key] = walk(self, strings).digest()
        return self.known[key]


class _PaperWalk(_Walk):
    paper: _Paper

    def __init__(self, paper: _Paper, roots: Iterable[Node], strings: frozenset[str] | None) -> None:
        self.paper = paper
        super().__init__(paper.graph, roots, strings, [paper.module])


class Training(_PaperWalk):
    """The code of training: everything but the methods that only `evaluate` and `snapshot` call."""

    def __init__(self, paper: _Paper, strings: frozenset[str] | None) -> None:
        super().__init__(paper, paper.roots(TRAINS), strings)

    def methods_wanted(self, module: str, place: int) -> Iterable[str]:
        """Return the methods that training calls or that the framework may call."""
        named = self.called | (self.attributes - {*SCORING})
        return [
            name
            for name in self.graph.methods(module, place)
            if name not in self.paper.scoring or name in named or self.dynamic
        ]


class Evaluation(_PaperWalk):
    """The code of scoring: `evaluate` and `snapshot`, and what these call."""

    def __init__(self, paper: _Paper, strings: frozenset[str] | None) -> None:
        self.trained = {(task.module, task.place) for task in paper.tasks}
        carrier = paper.roots(EVALUATES)[-1:]
        super().__init__(paper, [*paper.tasks, *carrier], strings)

    def methods_wanted(self, module: str, place: int) -> Iterable[str]:
        """Return the methods that are named, or all methods of a Task that training does not use."""
        every = (module, place) not in self.trained or self.dynamic
        return [
            name for name in self.graph.methods(module, place) if every or name in SCORING or name in self.attributes
        ]


_GRAPHS: dict[Path, tuple[object, SourceCode]] = {}


def read_code(package: Path | None = None) -> SourceCode:
    """Return the graph of a package as its files are now, cached. `package` is the folder of `reprise`."""
    package = package or experiments_dir().parent
    files = modules_of(package)
    state = [(name, (facts := file.stat()).st_mtime_ns, facts.st_size) for name, file in files.items()]
    known = _GRAPHS.get(package)
    if known is None or known[0] != state:
        known = _GRAPHS[package] = state, SourceCode(files)
    return known[1]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
