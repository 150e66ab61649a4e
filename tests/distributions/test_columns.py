"""Columns that go together, and what each does on its own."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from genus import Space
from genus.distributions.columns import check_observed, groups, log_shares, share_of_ones

FRAME = pd.DataFrame(
    {
        "a": [True, False, True],
        "x": [0.1, 0.5, 2.5],
        "word": ["u", "v", "w"],
        "b": [False, False, True],
        "name": ["r", "s", "t"],
    }
)


def test_columns_of_one_sort_and_as_many_levels_go_together() -> None:
    seen = []

    def sort(j: int, kind: str, levels: int) -> tuple[str, int]:
        seen.append((j, kind, levels))
        return ("number", 0) if kind in ("binary", "continuous") else ("word", levels)

    assert groups(Space.of(FRAME), sort) == [("number", 0, [0, 1, 3]), ("word", 3, [2, 4])]
    assert seen[1] == (1, "continuous", 0) and seen[4] == (4, "categorical", 3)


def test_a_column_without_any_value_is_named() -> None:
    space = Space.of(FRAME)
    check_observed(space, torch.tensor([1, 2, 3, 3, 1]))
    with pytest.raises(ValueError, match="word has no observed value, only NaN: drop it"):
        check_observed(space, torch.tensor([1, 2, 0, 0, 1]))


def test_shares_have_half_a_row_of_each_value_added() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, math.nan], [0.0, math.nan]])
    assert torch.allclose(share_of_ones(x), torch.tensor([2.5 / 4, 0.5 / 2]))
    expected = torch.log(torch.tensor([[1.5, 2.5, 0.5], [1.5, 0.5, 0.5]]))
    expected = expected - torch.logsumexp(expected, 1, keepdim=True)
    assert torch.allclose(log_shares(x, 3), expected)
