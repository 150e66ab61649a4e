"""Where a cell stands: angles know how far apart cells are, and vectors begin near a grid."""

from __future__ import annotations

import pytest
import torch

from genus.learn.rows import generator
from genus.networks.attention import turned
from genus.networks.positions import angles_of, at, places


def test_angles_know_how_far_apart_cells_are() -> None:
    q, k = torch.randn(2, 1, 1, 1, 8, generator=generator(0), dtype=torch.float64)
    angles = angles_of(None, 12, 4).double()

    def dot(i: int, j: int) -> float:
        a, b = (turned(v, angles[None, None, c]) for v, c in ((q, i), (k, j)))
        return float((a * b).sum())

    assert dot(5, 2) == pytest.approx(dot(11, 8), abs=1e-6)
    assert abs(dot(5, 2) - dot(6, 2)) > 1e-3


def test_angles_of_images_have_pairs_for_rows_and_columns_by_turns() -> None:
    square = angles_of((1, 4, 4), 16, 4)
    assert bool((square[5, ::2] == square[6, ::2]).all())  # of one row
    assert bool((square[5, 1::2] == square[9, 1::2]).all())  # of one column
    assert bool((square[5] != square[10]).any())


def test_neighbours_on_a_grid_begin_nearer_than_others() -> None:
    v = places((2, 6, 6), 72, 64, generator(0)).unflatten(0, (2, 6, 6))
    one_row = (v[0, 2, 1] - v[0, 2, 4]).norm()
    apart = (v[0, 2, 1] - v[0, 4, 4]).norm()
    other_channel = (v[0, 2, 1] - v[1, 2, 1]).norm()
    assert other_channel < one_row < apart


def test_cells_are_taken_in_the_order_of_each_row() -> None:
    h = torch.arange(12.0).reshape(2, 3, 2)
    one, each = torch.tensor([[2, 0]]), torch.tensor([[2, 0], [1, 1]])
    assert torch.equal(at(h, one), h[:, [2, 0]])
    assert torch.equal(at(h, each), torch.stack([h[0, [2, 0]], h[1, [1, 1]]]))
