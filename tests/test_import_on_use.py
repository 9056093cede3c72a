"""A package that stands for itself until something of it is used."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from reprise.inference.import_on_use import import_on_use

USER = """\
import heavy
from heavy import Metric, colours
from heavy.deep import twice
from heavy.deep import inner

Either = Metric | int
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that imports the package `heavy`, which says when it is loaded."""
    package = tmp_path / "heavy"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("import sys\nsys.loaded += 1\nclass Metric: pass\ncolours = {'red': 3}\n")
    (package / "deep" / "__init__.py").write_text("def twice(x): return 2 * x\n")
    (package / "deep" / "inner.py").write_text("ANSWER = 42\n")
    (tmp_path / "user.py").write_text(USER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "loaded", 0, raising=False)
    before, finders = set(sys.modules), [*sys.meta_path]
    with import_on_use("heavy"):
        yield importlib.import_module("user")
    assert sys.meta_path == finders
    for name in set(sys.modules) - before:
        del sys.modules[name]


def loaded() -> int:
    return sys.loaded  # type: ignore[attr-defined]


def test_it_is_not_loaded_for_being_imported(user: Any) -> None:
    assert not isinstance(3, user.Metric)
    assert user.Metric is user.heavy.Metric, "the same each time"
    assert loaded() == 0


@pytest.mark.parametrize(
    ("used", "value"),
    [
        (lambda user: user.twice(4), 8),
        (lambda user: user.inner.ANSWER, 42),
        (lambda user: user.colours["red"], 3),
        (lambda user: type(user.Metric()).__module__, "heavy"),
        (lambda user: user.heavy.colours["red"], 3),
        (lambda user: isinstance(user.Metric(), user.Metric), True),
    ],
)
def test_it_is_loaded_once_when_used(user: Any, used: Any, value: Any) -> None:
    assert used(user) == value
    assert used(user) == value
    assert loaded() == 1
    assert importlib.import_module("heavy").Metric is type(user.Metric()), "others now have the real one"


def test_what_it_does_not_have_is_an_error_when_used(user: Any) -> None:
    missing = user.heavy.absent
    with pytest.raises(ModuleNotFoundError, match=r"heavy\.absent"):
        missing()


def test_afterwards_it_is_imported_as_ever(user: Any) -> None:
    assert "heavy" in sys.modules
    with import_on_use("heavy"):  # within another, it changes nothing
        pass
    assert "heavy" in sys.modules
    assert loaded() == 0


def test_a_package_that_is_loaded_already_stays() -> None:
    before = [*sys.meta_path]
    with import_on_use("json"):
        assert sys.meta_path == before
        assert importlib.import_module("json") is sys.modules["json"]


def test_it_is_gone_when_unused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weighty.py").write_text("VALUE = 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    with import_on_use("weighty"):
        stand_in = importlib.import_module("weighty")
        value = stand_in.VALUE
    assert "weighty" not in sys.modules
    assert importlib.import_module("weighty").VALUE == 5
    assert value.real == 5, "of the real number"
    del sys.modules["weighty"]
