"""What a checkpoint's tensors must be to be taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genus.files import StoreError
from genus.learn.checks import check_tensors, naming_what_is_wrong

MINE = {"weight": torch.zeros(2, 3), "count": torch.zeros((), dtype=torch.long)}


def good() -> dict[str, Any]:
    return {name: t.clone() for name, t in MINE.items()}


def test_the_same_names_shapes_and_types_are_taken() -> None:
    check_tensors("the model", good(), MINE, finite={"weight"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weight": torch.zeros(3, 2)}, "weight"),
        ({"weight": torch.zeros(2, 3, dtype=torch.float64)}, "weight"),
        ({"weight": torch.full((2, 3), torch.nan)}, "weight"),
    ],
)
def test_others_are_refused_by_name(change: dict[str, Any], says: str) -> None:
    with pytest.raises(StoreError, match=says):
        check_tensors("the model", good() | change, MINE, finite={"weight"})


def test_what_lacks_is_named() -> None:
    with pytest.raises(StoreError, match="weight"):
        check_tensors("the model", {"count": MINE["count"]}, MINE, finite=())
    with pytest.raises(StoreError, match="has no 'loop'"), naming_what_is_wrong():
        _ = {}["loop"]
