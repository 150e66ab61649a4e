"""The examples of the public docstrings run, and scikit-learn reads the docstrings of models."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import warnings
from pathlib import Path

import pytest

import genus

PUBLIC = [n for n in genus.__all__ if n not in ("__version__", "data")]
PUBLIC += [f"data.{n}" for n in ("Data", "load", "names")]
ROOT = Path(genus.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def named(name):
    """What ``genus.name`` is, also where the name has a dot."""
    found = genus
    for part in name.split("."):
        found = getattr(found, part)
    return found


CLASSES = [n for n in PUBLIC if isinstance(named(n), type)]
MODELS = [n for n in CLASSES if issubclass(named(n), genus.Model)]
ABSTRACT = (genus.Model, genus.DensityModel, genus.Predictor, genus.CapabilityError)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_runs(name):
    found = doctest.DocTestFinder(recurse=False).find(named(name), name, globs={})
    (example,) = (test for test in found if test.name == name)
    assert example.examples, f"genus.{name} has no example"
    failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(example)
    assert not failed


@pytest.mark.parametrize("name", [n for n in PUBLIC if named(n) not in ABSTRACT])
def test_every_argument_is_documented(name):
    """In its own docstring, or in that of the base which its docstring names."""
    owner = named(name)
    if isinstance(owner, type):
        owner = next(c for c in owner.__mro__ if "__init__" in vars(c))
        assert owner is named(name) or owner.__name__ in named(name).__doc__
    said = re.findall(r"^(\w+) : \S.*\n    \S", inspect.getdoc(owner), flags=re.MULTILINE)
    assert said == list(inspect.signature(owner).parameters)


@pytest.mark.parametrize("name", MODELS)
def test_scikit_learn_shows_it_without_a_warning(name):
    model = named(name)()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert name in model._repr_html_()


def docstrings(path):
    """(line, lines of text) of every docstring of a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            constant = node.body[0].value
            yield constant.lineno, constant.value.split("\n")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_docstring_opens_with_one_line(path):
    """And the quotes that close a longer one stand on a line of their own."""
    for line, text in docstrings(path):
        if len(text) > 1:
            assert not text[1].strip(), f"line {line}: the first sentence fits on one line"
            assert not text[-1].strip(), f"line {line}: the quotes stand on a line of their own"


def test_every_exported_name_is_there():
    packages = [p for p in SOURCES if "\n__all__ =" in p.read_text("utf-8")]
    assert len(packages) > 5
    for path in packages:
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
        assert [n for n in module.__all__ if not hasattr(module, n)] == []
