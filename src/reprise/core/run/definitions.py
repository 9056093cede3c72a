"""The top-level definitions of each module of reprise, and the names in them, read with `ast` and without imports.

`core/run/definition_graph.py` follows the names. Here each module is parsed once, and each definition examined on
demand.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

PACKAGE = "reprise"
Use = Literal["value", "type", "key"]
"""How a name is used: as a value; as a type, in annotations, `isinstance` and class patterns; or as a key lookup in a
table, `TABLE[key]`.
"""
PURE_DECORATORS = {
    "abstractmethod", "cache", "cached_property", "classmethod", "contextmanager", "dataclass", "final",
    "inference_mode", "lru_cache", "no_grad", "overload", "property", "runtime_checkable", "staticmethod",
    "total_ordering", "unique",
}  # fmt: skip
"""Decorators without side effects. Any other may register what it decorates, so it counts on import of its module."""
Function = ast.FunctionDef | ast.AsyncFunctionDef
Statement = Function | ast.ClassDef


@dataclass(frozen=True)
class Reference:
    """A name used by a definition: `path`, the name and its attributes, looked up in `module`. () is the module."""

    module: str
    path: tuple[str, ...]
    use: Use = "value"


EVERY_MODULE = Reference(PACKAGE, ("*",))


@dataclass
class Facts:
    """The code of a definition, or of a part of it, and the names in it."""

    text: str = ""
    """Its code, without comments, docstrings and the names of reprise's modules."""
    references: list[Reference] = field(default_factory=list)
    modules: set[str] = field(default_factory=set)
    """Modules that it imports when it runs."""
    strings: set[str] = field(default_factory=set)
    """String literals that may be used as values; those only compared with something are left out."""
    attributes: set[str] = field(default_factory=set)
    """`name` for each `x.name`."""
    called: set[str] = field(default_factory=set)
    """`name` for each `x.name(...)`, `self.name` and `super().name`."""
    dynamic: Literal["", "self", "any"] = ""
    """Whether it accesses an attribute by a computed name, and on what."""


@dataclass
class Module:
    """One file, parsed."""

    name: str
    is_package: bool
    files: Mapping[str, Path]
    """Every module of the package."""
    body: list[ast.stmt] = field(default_factory=list)
    bound: dict[str, list[int]] = field(default_factory=dict)
    """Names, with the places in `body` that bind them."""
    imports: dict[str, Reference] = field(default_factory=dict)
    """Names imported from other modules of reprise."""
    external: dict[str, str] = field(default_factory=dict)
    """Names imported from elsewhere, with their dotted paths."""
    loads: set[str] = field(default_factory=set)
    """Modules of reprise that are imported with it."""
    stars: list[str] = field(default_factory=list)
    effects: list[int] = field(default_factory=list)
    """Places in `body` of statements that act when the module is imported, whether or not anyone names them."""
    kept: dict[tuple[int, str], Facts] = field(default_factory=dict)
    """Cache of facts, by place and part."""

    def name_at(self, place: int) -> str:
        """Return the name of the definition at a place of `body`."""
        names = [name for name, places in self.bound.items() if place in places]
        return ",".join(names) or f"statement {place + 1}"

    def facts(self, nodes: Sequence[ast.AST], use: Use = "value", types: Sequence[ast.AST] = ()) -> Facts:
        """Return the code of `nodes`, used as `use`, and the names in them; of `types` only the names."""
        reader = _Reader(self, use)
        for node in nodes:
            reader.visit(node)
        reader.use = "type"
        for node in types:
            reader.visit(node)
        if use == "value":
            reader.facts.text = reader.text(nodes)
        return reader.facts


def modules_of(package: Path) -> dict[str, Path]:
    """Return the file of each module below the folder of `reprise`, by module name."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        *folders, last = file.relative_to(package).with_suffix("").parts
        found[".".join([PACKAGE, *folders, *([] if last == "__init__" else [last])])] = file
    found.pop(PACKAGE, None)  # it only holds the version
    return found


_READ: dict[tuple[Path, str], tuple[object, Module]] = {}


def read_module(files: Mapping[str, Path], name: str) -> Module:
    """Return a module as it is now. It is parsed again only if its file, or the set of modules, has changed."""
    file = files[name]
    facts = file.stat()
    state = facts.st_mtime_ns, facts.st_size, files.keys()
    known = _READ.get((file, name))
    if known is None or known[0] != state:
        known = _READ[file, name] = state, _read(files, name, file)
    return known[1]


def _read(files: Mapping[str, Path], name: str, file: Path) -> Module:
    module = Module(name, file.name == "__init__.py", files)
    tree = _WithoutText().visit(ast.parse(file.read_bytes(), str(file)))
    for statement in _statements(tree.body):
        _enter(module, statement)
    return module


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield top-level statements, without blocks for type checkers or for running as a script."""
    for statement in body:
        test = ast.unparse(statement.test) if isinstance(statement, ast.If) else ""
        if isinstance(statement, ast.If) and test in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _statements(statement.orelse)
        elif test.replace('"', "'") != "__name__ == '__main__'":
            yield statement


def _enter(module: Module, statement: ast.stmt) -> None:
    place = len(module.body)
    if isinstance(statement, ast.Import | ast.ImportFrom):
        _enter_import(module, statement)
        return
    if isinstance(statement, ast.Pass):
        return
    module.body.append(statement)
    if isinstance(statement, Statement):
        names = [statement.name]
        acts = not all(_is_pure(decorator) for decorator in statement.decorator_list)
    elif isinstance(statement, ast.Assign | ast.AnnAssign) or type(statement).__name__ == "TypeAlias":
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        # `type X = ...` of Python 3.12 has a name instead of targets.
        targets = [target or getattr(statement, "name", None) for target in targets]
        names = [each for target in targets if target for each in _names_set(target)]
        # `module.name = ...` and `TABLE[key] = ...` change something that this name does not lead to.
        stored = (node for target in targets if target for node in ast.walk(target))
        acts = any(isinstance(getattr(node, "ctx", None), ast.Store) and not _is_place(node) for node in stored)
    else:
        names, acts = [], True
        for node in ast.walk(statement):
            if isinstance(node, ast.Import | ast.ImportFrom):
                _enter_import(module, node)
            elif isinstance(node, Statement):
                names.append(node.name)
            elif isinstance(node, ast.Name) and _is_stored(node):
                names.append(node.id)
    for name in names:
        module.bound.setdefault(name, []).append(place)
    if acts:
        module.effects.append(place)


def _names_set(target: ast.AST) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name) and _is_stored(node)]


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _is_place(node: ast.AST) -> bool:
    """Whether a target binds names of this module, rather than setting `x.name` or `x[key]`."""
    return isinstance(node, ast.Name | ast.Tuple | ast.List | ast.Starred)


def _is_pure(decorator: ast.expr) -> bool:
    name = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")) in PURE_DECORATORS


def _enter_import(module: Module, node: ast.Import | ast.ImportFrom) -> None:
    base = _base(module, node)
    for alias in node.names:
        if alias.name == "*":
            module.stars += [base] if base in module.files else []
            continue
        name, path, imported = _target(module, base, node, alias)
        if imported is None:
            module.external[name] = path
        else:
            module.imports[name] = imported
    module.loads |= _imported(module, node)


def _base(module: Module, node: ast.Import | ast.ImportFrom) -> str:
    """Return the absolute name of the module in `from ... import`, or "" for a plain import."""
    if isinstance(node, ast.Import):
        return ""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts if module.is_package else parts[:-1]
    return ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])


def _target(
    module: Module, base: str, node: ast.Import | ast.ImportFrom, alias: ast.alias
) -> tuple[str, str, Reference | None]:
    """Return the name that an import binds, its dotted path, and the reference if that is in reprise."""
    if isinstance(node, ast.Import):
        path = alias.name if alias.asname else alias.name.split(".")[0]
        found = Reference(path, ()) if path == PACKAGE or path in module.files else None
        return alias.asname or path, path, found
    path = f"{base}.{alias.name}"
    if path in module.files:
        return alias.asname or alias.name, path, Reference(path, ())
    inside = base == PACKAGE or base in module.files
    return alias.asname or alias.name, path, Reference(base, (alias.name,)) if inside else None


def _imported(module: Module, node: ast.Import | ast.ImportFrom) -> set[str]:
    """Return the modules of reprise that an import statement loads."""
    base = _base(module, node)
    names = [alias.name if not base else f"{base}.{alias.name}" for alias in node.names]
    return {name for name in (base, *names) if name and name in module.files}


class _WithoutText(ast.NodeTransformer):
    """Removes docstrings, including those of fields."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | ast.Pass:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.copy_location(ast.Pass(), node)  # a body may not be empty; the rest is dropped below
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list) and len(body) > 1:
                setattr(node, name, [each for each in body if not isinstance(each, ast.Pass)] or body[:1])
        return node


class _Reader(ast.NodeVisitor):
    """Collects the `Facts` of nodes, resolving each name in its scope."""

    def __init__(self, module: Module, use: Use) -> None:
        self.module = module
        self.use: Use = use
        self.facts = Facts()
        self.scopes: list[dict[str, Reference | None]] = []
        """Enclosing function scopes. None marks a local name; a reference tells where a local import gets it from."""
        self.aliases: list[tuple[object, str, object]] = []
        """Node, attribute and replacement for each place where the code names a module of reprise."""

    def text(self, nodes: Sequence[ast.AST]) -> str:
        """Return the code of `nodes`, with names of reprise's modules replaced by _, so that files can be renamed."""
        # Names are replaced in the tree itself, which is shared, and put back: copying it would take longer.
        kept = [(node, name, getattr(node, name)) for node, name, _ in self.aliases]
        for node, name, value in self.aliases:
            setattr(node, name, value)
        try:
            return "\n".join(ast.unparse(node) for node in nodes)
        finally:
            for node, name, value in reversed(kept):
                setattr(node, name, value)

    def find(self, name: str) -> Reference | None:
        """Return where to look `name` up, or None if it is local or not from reprise."""
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        if name in self.module.imports:
            return self.module.imports[name]
        return None if name in self.module.external else Reference(self.module.name, (name,))

    def refer(self, root: ast.Name, attributes: Sequence[str], use: Use) -> None:
        found = self.find(root.id)
        if found is None:
            return
        if not found.path and attributes:  # a module, as in `optim.build_optimizer`
            self.aliases.append((root, "id", "_"))
        self.facts.references.append(Reference(found.module, (*found.path, *attributes), use))

    # Names

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Store):
            self.refer(node, (), self.use)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.chain(node, self.use)

    def chain(self, node: ast.expr, use: Use) -> None:
        """Record a name with attributes, or the attributes of any other expression."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        self.facts.attributes.update(attributes)
        if isinstance(node, ast.Name):
            if node.id == "self" and attributes:  # not only calls: a method may be handed on
                self.facts.called.add(attributes[0])
            if self._external(node, attributes) == "sys.modules":
                self.facts.references.append(Reference(self.module.name, ()))
            self.refer(node, attributes, use)
            return
        if attributes and isinstance(node, ast.Call) and getattr(node.func, "id", "") == "super":
            self.facts.called.add(attributes[0])
        self.visit(node)

    def _external(self, root: ast.Name, attributes: Sequence[str]) -> str:
        return ".".join([self.module.external.get(root.id, root.id), *attributes])

    def visit_Subscript(self, node: ast.Subscript) -> None:
        plain = isinstance(node.slice, ast.Name | ast.Attribute | ast.Constant) and isinstance(node.ctx, ast.Load)
        # Only a plain `TABLE[key]` selects single entries.
        if plain and self.use == "value" and isinstance(node.value, ast.Name | ast.Attribute):
            self.chain(node.value, "key")
        else:
            self.visit(node.value)
        self.visit(node.slice)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if isinstance(node.func, ast.Attribute):
            self.facts.called.add(name)
        if name in ("isinstance", "issubclass") and len(node.args) == 2:  # runs no method of the class
            self.visit(node.args[0])
            self.as_type(node.args[1])
            return
        self._dynamic(node, name)
        self.generic_visit(node)

    def _dynamic(self, node: ast.Call, name: str) -> None:
        """Record calls that look names up dynamically."""
        constants = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if name in ("getattr", "hasattr", "setattr", "delattr", "attrgetter", "methodcaller"):
            self.facts.attributes.update(part for text in constants for part in text.split("."))
            self.facts.called.update(part for text in constants for part in text.split("."))
            # getattr(x, name, default) has its name second; attrgetter(*names) has nothing else.
            computed = node.args[1:2] if name.endswith("attr") else node.args
            if any(not isinstance(each, ast.Constant) for each in computed):
                of_self = name.endswith("attr") and getattr(node.args[0], "id", "") == "self"
                self.facts.dynamic = "self" if of_self and self.facts.dynamic != "any" else "any"
        elif isinstance(node.func, ast.Name) and (
            name in ("globals", "eval", "exec") or (name == "vars" and not node.args)
        ):
            self.facts.references.append(Reference(self.module.name, ()))
        elif name in ("import_module", "__import__"):
            known = constants and not constants[0].startswith(".") and len(constants) == len(node.args)
            if not known:
                self.facts.references.append(EVERY_MODULE)
            elif constants[0] in self.module.files:
                self.facts.references.append(Reference(constants[0], ()))

    # Types and strings

    def as_type(self, *nodes: ast.AST | None) -> None:
        """Visit nodes that are used only as types."""
        before, self.use = self.use, "type"
        for node in nodes:
            if node is not None:
                self.visit(node)
        self.use = before

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, str):
            return
        if self.use == "type":
            if node.value.isidentifier():  # a forward reference
                self.refer(ast.Name(node.value, ast.Load()), (), "type")
        else:
            self.facts.strings.add(node.value)

    def visit_Compare(self, node: ast.Compare) -> None:
        for each in (node.left, *node.comparators):
            # A constant that is only compared with something cannot select an entry of a table.
            among = each.elts if isinstance(each, ast.Tuple | ast.List | ast.Set) else [each]
            for one in among:
                if not isinstance(one, ast.Constant):
                    self.visit(one)

    def visit_MatchValue(self, node: ast.MatchValue) -> None:
        if not isinstance(node.value, ast.Constant):
            self.visit(node.value)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        self.facts.attributes.update(node.kwd_attrs)
        self.as_type(node.cls)
        for pattern in (*node.patterns, *node.kwd_patterns):
            self.visit(pattern)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        self.as_type(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    # Scopes

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.function(node)

    def function(self, node: Function | ast.Lambda) -> None:
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [each for each in (arguments.vararg, arguments.kwarg) if each]
        # Python evaluates defaults, annotations and decorators outside the function's own scope.
        for default in (*arguments.defaults, *filter(None, arguments.kw_defaults)):
            self.visit(default)
        self.as_type(*(each.annotation for each in every))
        body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
        if not isinstance(node, ast.Lambda):
            for decorator in node.decorator_list:
                self.visit(decorator)
            self.as_type(node.returns, *getattr(node, "type_params", ()))
        names: dict[str, Reference | None] = dict.fromkeys(each.arg for each in every)
        self.scopes.append(names | self.locals(body))
        for each in body:
            self.visit(each)
        self.scopes.pop()

    def locals(self, body: Sequence[ast.AST]) -> dict[str, Reference | None]:
        """Return the names that a function binds, without those of nested functions."""
        names: dict[str, Reference | None] = {}
        elsewhere = set[str]()
        todo = list(body)
        while todo:
            node = todo.pop()
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    names[node.name] = None
                    continue
                case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                    # A walrus in a comprehension binds in the function around it; the other names are its own.
                    walrus = (each.target for each in ast.walk(node) if isinstance(each, ast.NamedExpr))
                    names |= dict.fromkeys(target.id for target in walrus)
                    continue
                case ast.Lambda():
                    continue
                case ast.Global() | ast.Nonlocal():
                    elsewhere.update(node.names)
                case ast.Import() | ast.ImportFrom():
                    base = _base(self.module, node)
                    for alias in node.names:
                        name, _, found = _target(self.module, base, node, alias)
                        names[name] = found
                case ast.Name(ctx=ast.Store() | ast.Del()):
                    names[node.id] = None
                case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                    names[name] = None
                case ast.MatchMapping(rest=str(name)):
                    names[name] = None
            todo += ast.iter_child_nodes(node)
        return {name: found for name, found in names.items() if name not in elsewhere}

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self.comprehension(node, node.elt)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self.comprehension(node, node.elt)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self.comprehension(node, node.elt)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self.comprehension(node, node.key, node.value)

    def comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, *elements: ast.expr
    ) -> None:
        first, *others = node.generators
        self.visit(first.iter)  # Python evaluates it outside the comprehension's scope
        targets = [each for one in node.generators for each in ast.walk(one.target) if isinstance(each, ast.Name)]
        self.scopes.append(dict.fromkeys(each.id for each in targets if isinstance(each.ctx, ast.Store)))
        inner: list[ast.expr] = [first.target, *first.ifs]
        inner += [each for one in others for each in (one.iter, one.target, *one.ifs)]
        for each in (*inner, *elements):
            self.visit(each)
        self.scopes.pop()

    # Imports within functions

    def visit_Import(self, node: ast.Import) -> None:
        self._import(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._import(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        loaded = _imported(self.module, node)
        self.facts.modules |= loaded
        if not loaded:
            return
        if isinstance(node, ast.ImportFrom):
            self.aliases += [(node, "module", "_"), (node, "level", 0)]
        base = _base(self.module, node)
        for alias in node.names:
            name = f"{base}.{alias.name}" if base else alias.name
            if alias.name == "*":
                self.facts.references.append(Reference(base, ()))
            elif name in self.module.files:
                self.aliases += [(alias, "name", "_"), (alias, "asname", None)]


def copy_of_class(node: ast.ClassDef, body: Sequence[ast.stmt]) -> ast.ClassDef:
    """Return a copy of `node` with another body."""
    changed = copy.copy(node)
    changed.body = list(body) or [ast.Pass()]
    return changed
