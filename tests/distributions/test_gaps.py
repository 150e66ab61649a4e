"""Missing coordinates drawn from a Gaussian, against its own conditionals."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from genus.distributions.gaps import Conditionals, correlations

R = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.0, 0.0], [0.3, 0.0, 1.0]], dtype=torch.float64)


def rows(n: int) -> torch.Tensor:
    e = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return e @ torch.linalg.cholesky(R).T


def test_correlations_are_found_through_gaps() -> None:
    v = rows(4000)
    torch.testing.assert_close(correlations(v), R, atol=0.05, rtol=0)
    hidden = torch.rand(v.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    torch.testing.assert_close(correlations(v.masked_fill(hidden, torch.nan)), R, atol=0.06, rtol=0)


def test_draws_are_those_of_the_conditional_and_log_q_is_their_density() -> None:
    gaps = torch.tensor([[True, False, False], [False, True, True]])
    copies, wide = 2000, 1.0
    draws = Conditionals(R, gaps, copies, wide)
    known = torch.tensor([[0.0, 1.0, -0.5], [0.7, 0.0, 0.0]], dtype=torch.float64)
    many, hole = known.repeat_interleave(copies, 0), gaps.repeat_interleave(copies, 0)
    e = torch.randn(many.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    e = torch.where(hole, e, 0.0)
    y = torch.where(hole, draws(many, e), many).numpy()
    S = R.numpy()
    for i, m in enumerate(gaps.numpy()):
        o = ~m
        B = S[np.ix_(m, o)] @ np.linalg.inv(S[np.ix_(o, o)])
        mean, cov = B @ known[i].numpy()[o], S[np.ix_(m, m)] - B @ S[np.ix_(o, m)]
        some = slice(i * copies, (i + 1) * copies)
        np.testing.assert_allclose(y[some][:, m].mean(0), mean, atol=0.08)
        np.testing.assert_allclose(np.cov(y[some][:, m].T), cov.squeeze(), atol=0.08)
        log_q = stats.multivariate_normal(mean, cov).logpdf(y[some][:, m])
        np.testing.assert_allclose(draws.log_q(e)[some], log_q, atol=1e-8)


def test_wide_draws_pay_for_their_width() -> None:
    gaps = torch.tensor([[True, False, False]])
    e = torch.tensor([[0.5, 0.0, 0.0]], dtype=torch.float64)
    one, two = Conditionals(R, gaps, 1, 1.0), Conditionals(R, gaps, 1, 2.0)
    assert np.isclose(float(one.log_q(e) - two.log_q(e)), np.log(2.0))
    still = torch.zeros(1, 3, dtype=torch.float64)
    torch.testing.assert_close(two(still, e)[0, 0], 2 * one(still, e)[0, 0])
