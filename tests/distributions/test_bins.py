"""Columns of numbers cut into bins, inside which they do what they do on their own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.coding import Column
from genus.distributions.bins import Bins
from genus.distributions.marginals import Marginals
from genus.space import Space

ROWS = np.random.default_rng(0)
ATOM = Column("rain", "continuous", atoms=(0.0,), bounds=(0.0, None))
RAIN = Space((1,), "table", columns=(ATOM,))
COUNTS = Space((1,), "integer", levels=400)


def tensor(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(x, dtype=np.float64)).reshape(-1, 1)


def half(n: int, d: int) -> Tensor:
    return torch.full((n, d), 0.5, dtype=torch.float64)


def rain(n: int = 500) -> Tensor:
    return tensor(np.where(np.arange(n) % 5 < 3, 0.0, ROWS.exponential(2, n)))


def test_rows_fall_into_equal_parts_and_heavy_values_have_their_own() -> None:
    x = tensor(10 + 3 * ROWS.normal(size=400))
    b = Bins(Space((1,)), 4, None).fit(x)
    assert torch.bincount(b.encode(x)[:, 0]).tolist() == [100] * 4 and b.cards == (4,)
    x = rain()
    b = Bins(RAIN, 4, None).fit(x)
    codes = b.encode(x)[:, 0]
    assert (codes[x[:, 0] == 0] == 0).all() and (codes[x[:, 0] > 0] > 0).all()
    rest = torch.bincount(codes)[1:]
    assert len(rest) == 3 and rest.max() - rest.min() <= 2
    assert b.ends(0)[0] == (0.0, 0.0)


@pytest.mark.parametrize("sort", ["real", "atoms", "whole"])
def test_inside_a_bin_the_marginal_is_scaled_to_sum_to_one(sort: str) -> None:
    """p(x) = P(k) f(x)/F(bin k), against sums and integrals over a grid."""
    x, space, step = {
        "real": (tensor(10 + 3 * ROWS.normal(size=400)), Space((1,)), 0.001),
        "atoms": (rain(), RAIN, 0.001),
        "whole": (tensor(ROWS.poisson(20, 400)), COUNTS, 1.0),
    }[sort]
    b = Bins(space, 4, 4).fit(x)
    f = Marginals(space).fit(x)
    grid = torch.arange(-40, 120, step, dtype=torch.float64)[:, None]
    grid = grid + (0 if sort == "whole" else step / 2)
    codes = b.encode(grid)
    p = b.log_density(grid, codes).exp()
    ratio = p / f.log_prob(grid)[:, 0].exp()
    for k in range(b.cards[0]):
        inside = codes[:, 0] == k
        total = float(p[inside].sum()) * step
        if sort == "atoms" and k == 0:  # the atom, and the little beside it
            zero = torch.zeros(1, 1, dtype=torch.float64)
            total += float(b.log_density(zero, torch.zeros(1, 1, dtype=torch.long)).exp())
        assert total == pytest.approx(1, abs=5e-3)
        some = ratio[inside & torch.isfinite(ratio)]
        assert float(some.max() / some.min()) == pytest.approx(1, abs=1e-6)
    far = tensor(np.array([-200.0 if sort == "real" else 0.0, 900.0]))  # the others are positive
    assert torch.isfinite(b.log_density(far, b.encode(far))).all()


def test_draws_of_a_bin_lie_in_it_and_follow_the_marginal() -> None:
    x = rain(2000)
    b = Bins(RAIN, 4, None).fit(x)
    u = (torch.arange(4000, dtype=torch.float64) + 0.5)[:, None] / 4000
    for k in range(b.cards[0]):
        drawn = b.decode(torch.full(u.shape, k), lambda n, d: u)
        assert (b.encode(drawn) == k).all() and (drawn >= 0).all()
        assert (drawn.diff(dim=0) >= 0).all()
        seen = x[b.encode(x)[:, 0] == k]
        assert float(drawn.mean()) == pytest.approx(float(seen.mean()), rel=0.1, abs=1e-3)


def test_few_whole_numbers_have_a_bin_each_and_the_outer_ones_are_open() -> None:
    x = tensor(ROWS.integers(2, 6, 300))
    b = Bins(COUNTS, None, 8).fit(x)
    assert b.cards == (4,) and b.ends(0) == [(v, v) for v in (2.0, 3.0, 4.0, 5.0)]
    assert b.encode(tensor(np.array([-3, 2, 3, 5, 70])))[:, 0].tolist() == [0, 0, 1, 3, 3]
    wide = tensor(ROWS.integers(0, 399, 300))
    assert Bins(COUNTS, None, 8).fit(wide).cards == (8,)
    every = Bins(COUNTS, None, None).fit(wide)
    assert every.cards == (len(wide.unique()),)


def test_levels_between_known_ends_and_categories_are_left_as_they_are() -> None:
    for space in (Space((1,), "ordinal", levels=4), Space((1,), "categorical", levels=30)):
        x = torch.from_numpy(ROWS.integers(0, space.levels, (100, 1)))
        b = Bins(space, None, 4).fit(x)
        assert b.cards == (space.levels,) and len(b.columns()) == 0
        assert torch.equal(b.encode(x), x) and not b.log_density(x, x).any()


def test_missing_cells_have_no_code_and_no_density() -> None:
    b = Bins(Space((1,)), 4, None).fit(tensor(ROWS.normal(size=100)))
    x = tensor(np.array([math.nan, 0.1]))
    codes = b.encode(x)
    assert codes[:, 0].tolist()[0] == -1 and codes[1, 0] >= 0 and b.log_density(x, codes)[0] == 0


@pytest.mark.parametrize("value", [0.0, 1e9])
def test_a_constant_column_has_one_bin_and_stays_constant(value: float) -> None:
    space = Space((1,), "table", columns=(Column("c", "continuous", atoms=(value,)),))
    x = tensor(np.full(50, value))
    b = Bins(space, 8, 8).fit(x)
    codes = b.encode(x)
    assert b.cards == (1,) and float(b.decode(codes[:1], half)) == value


def test_real_numbers_need_bins_and_values() -> None:
    with pytest.raises(ValueError, match="pass bins=8"):
        Bins(Space((1,)), None, None)
    with pytest.raises(ValueError, match="no observed value, only NaN: drop it"):
        Bins(Space((1,)), 8, 8).fit(torch.full((3, 1), math.nan))
