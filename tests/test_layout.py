"""The floor plan of the house, read from the source."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import genus

ROOT = Path(genus.__file__).parent
# what everything stands on: its imports count wherever they are written
CORE = {
    *("space", "coding", "likelihood", "settings", "files", "model", "density", "predictor"),
    *("store", "distributions", "learn", "networks", "samplers"),
}


def name_of(path: Path) -> str:
    """The name of a module: genus.learn of learn/__init__.py, genus.learn.rows of learn/rows.py."""
    parts = ("genus", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def statements(tree: ast.AST, within_functions: bool) -> Iterator[ast.AST]:
    """All nodes of a module, or those that run when it is imported or its types are checked."""
    for node in ast.iter_child_nodes(tree):
        if within_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from statements(node, within_functions)


def imports_of(name: str, source: str) -> set[str]:
    """The modules of genus that a module imports."""
    wing = name.partition(".")[2].partition(".")[0]
    found = set()
    for node in statements(ast.parse(source), within_functions=wing in CORE):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {m if m in MODULES else str(node.module) for m in inner}
    return {m for m in found if m in MODULES}


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """A circle of imports, from a module back to itself; empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as e:
        return list(e.args[1])
    return []


def test_no_import_circle() -> None:
    graph = {name: imports_of(name, path.read_text("utf-8")) for name, path in MODULES.items()}
    assert "genus.learn.rows" in graph["genus.model"]
    assert circle_in(graph) == []


@pytest.mark.parametrize(
    "line",
    [
        "from genus.model import Model",
        "if TYPE_CHECKING:\n    from genus.model import Model",
        "def f():\n    import genus.model",
        "def f():\n    from genus import model",
    ],
)
def test_a_circle_is_found_wherever_it_is_written(line: str) -> None:
    graph = {name: imports_of(name, path.read_text("utf-8")) for name, path in MODULES.items()}
    graph["genus.learn.fit"] |= imports_of("genus.learn.fit", line)
    circle = circle_in(graph)
    assert {"genus.learn.fit", "genus.model"} <= set(circle)
