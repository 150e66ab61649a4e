"""Rows that are known to be whole are not looked at again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import genus
from genus.missing import has_gaps, learning_from
from training import Slope

HOLED = torch.tensor([[0.0, torch.nan], [1.0, 2.0]])


def test_a_gap_is_found() -> None:
    assert has_gaps(HOLED) and not has_gaps(HOLED.nan_to_num())


def test_rows_that_are_known_to_be_whole_are_not_looked_at() -> None:
    with learning_from(whole=True):
        assert not has_gaps(HOLED)
        with learning_from(whole=False):
            assert has_gaps(HOLED)
        assert not has_gaps(HOLED)
    assert has_gaps(HOLED)


@pytest.mark.parametrize(
    ("rows", "looked"),
    [
        (np.zeros((40, 2)) + np.arange(40)[:, None], False),
        (np.arange(80).reshape(40, 2) % 3, False),  # levels have no gaps
        (np.where(np.arange(80).reshape(40, 2) == 7, np.nan, 1.5), True),
    ],
)
def test_a_descent_knows_whether_its_rows_have_gaps(rows: np.ndarray, looked: bool) -> None:
    seen = []

    class Asking(Slope):
        allow_nan = True

        def losses(self, x):
            seen.append(has_gaps(HOLED))
            yield from super().losses(x)

    Asking(trainer=genus.Trainer(max_steps=3)).fit(rows)
    assert seen == [looked] * 3
