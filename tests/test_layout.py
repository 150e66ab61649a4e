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
    "unnormalised",
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


# ---------------------------------------------------------------------- chapters of models


# a chapter may import another where its models are made of the other's: a prior is a flow or a
# mixture
MADE_OF = {("latent", "flows"), ("latent", "mixtures")}


def chapters_of(name: str, source: str) -> set[tuple[str, str]]:
    """(chapter, other chapter) of each import of a module of models, wherever it is written."""
    own = name.split(".")[2]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            match module.split("."):
                case ["genus", "models", other, *_] if other != own:
                    found.add((own, other))
    return found


def test_chapters_do_not_import_one_another() -> None:
    found = set()
    for name, path in MODULES.items():
        if name.startswith("genus.models."):
            found |= chapters_of(name, path.read_text("utf-8"))
    assert found <= MADE_OF


@pytest.mark.parametrize(
    "line",
    [
        "from genus.models.mixtures.components import k_means",
        "from genus.models import mixtures",
        "def f():\n    import genus.models.mixtures.student",
    ],
)
def test_another_chapter_is_found_wherever_it_is_imported(line: str) -> None:
    assert chapters_of("genus.models.flows.flow", line) == {("flows", "mixtures")}
    assert chapters_of("genus.models.mixtures.student", line) == set()


# ---------------------------------------------------------------------- mirrored tests


TESTS = Path(__file__).parent


def test_every_file_has_its_mirrored_test() -> None:
    missing = []
    for path in ROOT.rglob("*.py"):
        source = path.relative_to(ROOT)
        mirror = TESTS / source.parent / f"test_{source.name}"
        if source.name.startswith("__"):
            continue
        if not mirror.exists() or "\ndef test_" not in mirror.read_text("utf-8"):
            missing.append(str(source))
    assert not missing
