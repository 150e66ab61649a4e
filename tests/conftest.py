"""What all tests share."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# the same examples in every run
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

sys.path.insert(0, str(Path(__file__).parent))  # so that tests may import toys

# a shell that runs the tests in the background has SIGINT ignored, here and in every child: the
# tests of Ctrl-C need it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models learn on the processor, also where there is a GPU: tests of devices ask for one."""
    monkeypatch.setattr("genus.model.usual_device", lambda: "cpu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that ask one row of the contract follow each other.

    It is fitted once in a worker, as workers take tests in pieces (``--dist worksteal``).
    """
    files: dict[Path, int] = {}
    rows: dict[str, int] = {}

    def place(item: pytest.Item) -> tuple[int, int]:
        row: Any = getattr(getattr(item, "callspec", None), "params", {}).get("row")
        name = getattr(row, "name", "")
        return (
            files.setdefault(item.path, len(files)),
            rows.setdefault(name, len(rows)) if name else -1,
        )

    items.sort(key=place)
