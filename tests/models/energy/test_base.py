"""The Gaussian that chains begin at, against scipy."""

import numpy as np
import torch
from scipy import stats

from genus.learn.rows import generator
from genus.models.energy.base import Base

COV = np.array([[1.0, 0.8, 0.0], [0.8, 2.0, -0.3], [0.0, -0.3, 0.5]])


def fitted() -> Base:
    z = np.random.default_rng(0).multivariate_normal([1.0, 2.0, 3.0], COV, 4000)
    base = Base(3)
    base.fit(torch.from_numpy(z))
    return base


def test_log_prob_draws_and_correlation_are_of_one_gaussian():
    base = fitted()
    scale = base.scale_.std_.numpy()
    cov = base.correlation.numpy() * np.outer(scale, scale)
    np.testing.assert_allclose(cov, COV, atol=0.1)
    z = base.draw(20_000, generator(1))
    np.testing.assert_allclose(np.cov(z.numpy().T), cov, atol=0.06)
    law = stats.multivariate_normal(base.scale_.mean_.numpy(), cov)
    np.testing.assert_allclose(base.log_prob(z[:50]), law.logpdf(z[:50].numpy()), atol=1e-4)


def test_gaps_are_filled_by_the_conditional():
    base = fitted()
    z = torch.tensor([[1.5, torch.nan, 3.0]], dtype=torch.float64).repeat(20_000, 1)
    e = torch.rand(z.shape, generator=generator(0), dtype=torch.float64)
    filled, log_q = base.fill(z, e, 1, 1.0)
    scale, mean = base.scale_.std_.numpy(), base.scale_.mean_.numpy()
    cov = base.correlation.numpy() * np.outer(scale, scale)
    gain = cov[1, [0, 2]] @ np.linalg.inv(cov[np.ix_([0, 2], [0, 2])])
    middle = mean[1] + gain @ (np.array([1.5, 3.0]) - mean[[0, 2]])
    spread = np.sqrt(cov[1, 1] - gain @ cov[[0, 2], 1])
    assert bool((filled[:, [0, 2]] == z[:, [0, 2]]).all())
    np.testing.assert_allclose(filled[:, 1].mean(), middle, atol=0.04)
    np.testing.assert_allclose(filled[:, 1].std(), spread, atol=0.03)
    law = stats.norm(middle, spread)
    np.testing.assert_allclose(log_q[:20], law.logpdf(filled[:20, 1].numpy()), atol=1e-4)
