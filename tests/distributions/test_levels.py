"""The mass of a level against scipy's distribution functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from genus.distributions.levels import log_between, log_logistic_mass, log_normal_mass

LAWS: dict[str, Any] = {
    "normal": (log_normal_mass, stats.norm),
    "logistic": (log_logistic_mass, stats.logistic),
}


@pytest.mark.parametrize("mu, s", [(2.3, 0.7), (-4.0, 1.5), (30.0, 6.0), (9.0, 40.0)])
@pytest.mark.parametrize("law", LAWS)
def test_levels_have_the_mass_within_half_and_the_ends_the_tails(
    law: str, mu: float, s: float
) -> None:
    log_mass, truth = LAWS[law]
    x = torch.arange(10, dtype=torch.float64)
    ends = (np.array([-np.inf, *np.arange(9) + 0.5, np.inf]) - mu) / s
    # by the tail that does not cancel
    low, high = truth.cdf(ends), truth.sf(ends)
    expected = np.where(ends[1:] < 0, np.diff(low), -np.diff(high))
    found = log_mass(x, 10, x - mu, 0.5, torch.tensor(s, dtype=torch.float64)).exp()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-300)
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("law", LAWS)
def test_far_levels_lose_nothing_to_cancellation(law: str) -> None:
    log_mass, truth = LAWS[law]
    x, one = torch.tensor(3.0), torch.tensor(1.0)
    for z in (-30.0, 30.0):
        # nearly all of it at the end that is nearer
        expected = truth.logcdf(-29.5) + np.log1p(
            -np.exp(truth.logcdf(-30.5) - truth.logcdf(-29.5))
        )
        assert float(log_mass(x, 10, torch.tensor(z), 0.5, one)) == pytest.approx(
            expected, rel=1e-4
        )


@pytest.mark.parametrize("law", LAWS)
def test_only_one_level_is_certain(law: str) -> None:
    one = LAWS[law][0](torch.zeros(1), 1, torch.tensor([5.0]), 0.1, torch.tensor([1.0]))
    assert float(one) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("law", LAWS)
def test_gradients_are_finite_wherever_a_level_lies(law: str, dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, 1.0, 4.0]).repeat(5)
    r = torch.tensor([-3e3, -5.0, 0.0, 5.0, 3e3], dtype=dtype).repeat_interleave(3)
    s = torch.full_like(r, 1.3)
    r.requires_grad_()
    s.requires_grad_()
    log_p = LAWS[law][0](x, 5, r, 0.5, s)
    log_p.sum().backward()
    for t in (log_p, r.grad, s.grad):
        assert t is not None and bool(t.isfinite().all())


def test_between_is_the_same_on_either_side() -> None:
    a = torch.tensor([-8.0, -2.5, -21.0, -1.0], dtype=torch.float64)
    b = torch.tensor([-7.0, -2.0, -20.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(log_between(a, b), log_between(-b, -a), rtol=1e-12, atol=0)
    expected = np.log(stats.norm.cdf(b.numpy()) - stats.norm.cdf(a.numpy()))
    np.testing.assert_allclose(log_between(a, b).numpy(), expected, rtol=1e-9)
