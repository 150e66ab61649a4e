"""Batches that follow the number of rows."""

from __future__ import annotations

import pytest

from genus.learn.trainer import batch_of


@pytest.mark.parametrize(
    "n, batch", [(1, 16), (320, 16), (600, 32), (1280, 64), (5000, 128), (10**6, 128)]
)
def test_batches_are_the_nearest_power_of_two_between_the_limits(n: int, batch: int) -> None:
    assert batch_of(n, 20, 16, 128) == batch
