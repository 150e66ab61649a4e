"""Cells as real coordinates and back, by each of the three ways."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from genus.distributions.coordinates import MARGINALS, Coordinates
from genus.space import Space

R = np.random.default_rng(0)
N = 400
TABLE = pd.DataFrame(
    {
        "real": R.normal(50, 5, N),
        "rain": np.where(R.random(N) < 0.7, 0.0, R.gamma(1, 3, N)),
        "count": R.poisson(6, N),
        "zeros": np.where(R.random(N) < 0.8, 0, R.poisson(30, N)),
        "word": R.choice(list("abc"), N),
    }
)


def fitted(how: str) -> tuple[Coordinates, torch.Tensor]:
    space = Space.of(TABLE)
    c = Coordinates(space, how)
    x = space.encode(TABLE).double()
    c.fit(x)
    return c, x


@pytest.mark.parametrize("how", MARGINALS)
def test_rows_come_back(how: str) -> None:
    c, x = fitted(how)
    u = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, log_det = c(x, u)
    assert torch.isfinite(y).all() and torch.isfinite(log_det).all() and c.inside(y).all()
    torch.testing.assert_close(c.inverse(y), x, rtol=1e-9, atol=1e-9)


def test_affine_coordinates_are_in_the_units_of_the_data_where_there_are_units() -> None:
    c, x = fitted("affine")
    assert c.plain_.tolist() == [1, 0, 1, 0, 0]
    y, _ = c(x, torch.full_like(x, 0.5))
    torch.testing.assert_close(y[:, [0, 2]], x[:, [0, 2]])
    assert stats.kstest(c(x, torch.rand_like(x))[0][:, 1].numpy(), "norm").statistic < 0.06


def test_plain_floats_are_left_as_they_are() -> None:
    x = torch.randn(20, 3, dtype=torch.float64)
    c = Coordinates(Space((3,)), "affine")
    c.fit(x)
    assert c(x, x)[0] is x and c.marginals_ is None


def test_what_a_row_hides() -> None:
    c, x = fitted("learned")
    hidden = c.hides(x)
    assert not hidden[:, 0].any() and hidden[:, 2:].all()
    assert torch.equal(hidden[:, 1], x[:, 1] == 0)


def test_missing_cells_stay_missing() -> None:
    for how in MARGINALS:
        c, x = fitted(how)
        x = x.masked_fill(torch.rand(x.shape) < 0.3, torch.nan)
        y, log_det = c(x, torch.full_like(x, 0.5))
        assert torch.equal(torch.isnan(y), torch.isnan(x)) and torch.isfinite(log_det).all()
        assert torch.equal(torch.isnan(c.inverse(y)), torch.isnan(x))
