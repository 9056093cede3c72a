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
from typing import Any

from reprise.core.config.config_loader import experiments_dir
from reprise.core.run.definition_graph import EXECUTOR, PICTURES, DefinitionGraph, Node
from reprise.core.run.definitions import PACKAGE, Reference, Use, modules_of

TRAINS, EVALUATES = ("build_task", "execute"), ("evaluate",)
"""Functions of the executor that train a run and that score one."""
SCORING = ("evaluate", "snapshot")
"""Methods of a Task that do not train."""
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


class SourceCode(DefinitionGraph):
    """The graph of a package's definitions, with what each paper's file reaches in it."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        super().__init__(files)
        self._papers: dict[str, _Paper] = {}

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


class _Walk:
    """The nodes reachable from some roots, as a worklist algorithm."""

    def __init__(
        self,
        graph: DefinitionGraph,
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
            # Which methods, entries and models count depends on all strings and names reached so far, and those that
            # are added may have more: until nothing new is found.
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

    def __init__(self, graph: DefinitionGraph, experiment: str) -> None:
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
        # Where the expected names are missing nothing can be followed: the module counts whole.
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
        # `config.evaluate` is a block of knobs, so mentioning a name of SCORING is not enough: it must be called.
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
        carrier = paper.roots(EVALUATES)[-1:]  # the executor's part, without the paper's entry points
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
