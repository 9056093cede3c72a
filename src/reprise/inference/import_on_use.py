"""Puts off the import of a package until one of its functions or classes is used.

Lightning imports all of torchmetrics, with SciPy's signal processing, matplotlib and, where they are installed,
transformers: two of the six seconds before a kept model that needs torch could answer. It only asks whether a value is
a metric. Papers import metrics to score their runs, which a model that is tried does not do.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextmanager
def import_on_use(package: str) -> Iterator[None]:
    """While this lasts, names that are imported from `package` stand for the real ones and load them on first use.

    A package that was loaded before stays as it is. What was imported meanwhile goes on working afterwards.
    """
    if package in sys.modules:
        yield
        return
    finder = _Finder(package)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.withdraw()


class _Finder(MetaPathFinder, Loader):
    """Finds empty modules in place of a package and all below it."""

    def __init__(self, package: str) -> None:
        self.package, self.made = package, list[ModuleType]()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        inside = fullname == self.package or fullname.startswith(f"{self.package}.")
        return ModuleSpec(fullname, self, is_package=True) if inside else None

    def exec_module(self, module: ModuleType) -> None:
        def stand_in(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(f"{module.__name__} is not loaded yet, so {name} is not known")
            made = _StandIn(name, (), {"__module__": module.__name__})
            made._finder = self
            setattr(module, name, made)  # the same object each time
            return made

        self.made.append(module)
        module.__getattr__ = stand_in  # type: ignore[method-assign]

    def withdraw(self) -> None:
        """Leave `sys.modules` as if the package had never been imported, unless the real one has been since."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for module in self.made:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


class _StandIn(type):
    """A class in place of a class, function or module: `isinstance` and annotations take nothing but a class."""

    _finder: _Finder

    @property
    def _real(cls) -> Any:
        cls._finder.withdraw()
        module = importlib.import_module(cls.__module__)
        try:
            return getattr(module, cls.__name__)
        except AttributeError:
            return importlib.import_module(f"{cls.__module__}.{cls.__name__}")

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._real(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(cls._real, name)

    def __getitem__(cls, key: Any) -> Any:
        return cls._real[key]

    def __instancecheck__(cls, instance: Any) -> bool:
        module = sys.modules.get(cls._finder.package)
        # Nothing can be an instance of a class that has not been loaded.
        if module is None or module in cls._finder.made:
            return False
        return isinstance(instance, cls._real)
