"""Columns cut at their quantiles, each bin even: what lies in it, and what beyond all seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.distributions.even import EvenBins, cut
from genus.space import Space

ROWS = np.random.default_rng(0)


def bins_of(x: np.ndarray, space: Space, bins: int | None = 4, most: int | None = 4) -> EvenBins:
    edges, tails, shares = cut(torch.from_numpy(x), space, bins, most, 0.5)
    return EvenBins(edges, tails, shares, tuple(space.cardinality))


def middle(n: int, d: int) -> Tensor:
    return torch.full((n, d), 0.5, dtype=torch.float64)


@pytest.fixture
def real() -> tuple[np.ndarray, EvenBins]:
    x = 10 + 3 * ROWS.normal(size=(400, 1))
    return x, bins_of(x, Space((1,)))


def test_rows_fall_into_equal_parts(real: tuple[np.ndarray, EvenBins]) -> None:
    x, b = real
    codes = b.encode(torch.from_numpy(x))
    assert torch.bincount(codes[:, 0]).tolist() == [100] * 4
    assert b.cards == (4,) and len(b.labels(0)) == 4


def test_a_density_in_bins_integrates_to_one_and_reaches_everywhere(
    real: tuple[np.ndarray, EvenBins],
) -> None:
    x, b = real
    grid = torch.arange(-60, 80, 0.01, dtype=torch.float64)[:, None]
    codes = b.encode(grid)
    for k in range(4):
        inside = codes[:, 0] == k
        p = b.log_density(grid[inside], codes[inside]).exp()
        assert float(p.sum()) * 0.01 == pytest.approx(1, abs=0.02)
    far = torch.tensor([[-1e6], [1e6]], dtype=torch.float64)
    assert torch.isfinite(b.log_density(far, b.encode(far))).all()


def test_places_in_a_bin_are_the_inverse_of_its_distribution_function(
    real: tuple[np.ndarray, EvenBins],
) -> None:
    _, b = real
    u = torch.linspace(1e-4, 1 - 1e-4, 100_001, dtype=torch.float64)[:, None]
    for k in (0, 1, 3):  # the first and the last have an outer share
        codes = torch.full(u.shape, k)
        x = b.decode(codes, lambda n, d: u)
        assert (x.diff(dim=0) >= 0).all() and torch.equal(b.encode(x), codes)
        p = b.log_density(x, codes).exp()[:, None]
        mass = ((p[1:] + p[:-1]) / 2 * x.diff(dim=0)).cumsum(0)
        np.testing.assert_allclose(mass, u[1:] - u[0], atol=1e-3)


def test_levels_of_a_bin_keep_their_shares() -> None:
    space = Space((1,), "ordinal", levels=50)
    x = ROWS.poisson(20, (500, 1)).clip(0, 49)
    b = bins_of(x, space)
    levels = torch.arange(50)[:, None]
    codes = b.encode(levels)
    assert levels[-1] == 49  # the caller's rows are left alone
    p = b.log_density(levels, codes).exp()
    for k in range(b.cards[0]):
        inside = codes[:, 0] == k
        assert float(p[inside].sum()) == pytest.approx(1)
        n = np.bincount(x[:, 0], minlength=50)[inside.numpy()] + 0.5
        np.testing.assert_allclose(p[inside], n / n.sum(), rtol=1e-9)
    u = torch.rand(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = b.decode(torch.ones(4000, 1, dtype=torch.long), lambda n, d: u)
    assert (b.encode(drawn) == 1).all()
    share = torch.bincount(drawn[:, 0].long(), minlength=50) / 4000
    assert (share - torch.where(codes[:, 0] == 1, p, 0.0)).abs().max() < 4 * 0.5 / math.sqrt(4000)


def test_few_levels_and_categories_are_left_as_they_are() -> None:
    for space in (Space((1,), "ordinal", levels=4), Space((1,), "categorical", levels=30)):
        x = ROWS.integers(0, space.levels, (100, 1))
        b = bins_of(x, space)
        assert b.cards == (space.levels,) and len(b.columns()) == 0
        assert torch.equal(b.encode(torch.from_numpy(x)), torch.from_numpy(x))
        assert not b.log_density(torch.from_numpy(x), torch.from_numpy(x)).any()


def test_missing_cells_have_no_code_and_no_density(real: tuple[np.ndarray, EvenBins]) -> None:
    _, b = real
    x = torch.tensor([[math.nan], [10.0]], dtype=torch.float64)
    codes = b.encode(x)
    assert codes[0, 0] == -1 and codes[1, 0] >= 0
    assert b.log_density(x, codes)[0] == 0


@pytest.mark.parametrize("value", [0.0, 1e9])
def test_the_bins_of_a_constant_column_are_narrow(value: float) -> None:
    x = np.full((50, 1), value)
    b = bins_of(x, Space((1,)))
    codes = b.encode(torch.from_numpy(x))
    assert (codes == codes[0]).all()
    assert float(b.decode(codes[:1], middle)) == pytest.approx(value, rel=1e-6, abs=1e-6)


def test_real_numbers_need_bins_and_values() -> None:
    with pytest.raises(ValueError, match="pass bins=8"):
        cut(torch.zeros(3, 1), Space((1,)), None, None, 0.5)
    with pytest.raises(ValueError, match="no observed value, only NaN: drop it"):
        cut(torch.full((3, 1), math.nan), Space((1,)), 8, 8, 0.5)
