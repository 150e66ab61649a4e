"""The variational bound where it is exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from genus.models.diffusion.bound import variational_bound
from genus.models.diffusion.samplers import posterior
from genus.models.diffusion.schedules import Cosine, LinearBeta, Schedule
from oracles import GaussianField

ROWS = torch.tensor([[-1.0], [0.2], [1.4]], dtype=torch.float64)


def bound(path: Schedule, mean: float, s: float, **more: object) -> Tensor:
    """The bound of ROWS in a chain of 20 steps.

    Each term is quadratic in its noise: its mean over all noise is that over −1 and 1.
    """
    one = torch.ones(1, dtype=torch.float64)
    field = GaussianField(path, mean * one, s**2 * one[None])
    noise = torch.ones(3, 20, 1, dtype=torch.float64)
    both = [
        variational_bound(field, path, ROWS, path.times(20), e, **more)  # type: ignore[arg-type]
        for e in (noise, -noise)
    ]
    return sum(both) / 2


@pytest.mark.parametrize("path", [Cosine(), LinearBeta()], ids=lambda p: type(p).__name__)
def test_exact_on_standard_normal_data_where_the_variance_is_beta(path: Schedule) -> None:
    truth = Normal(0.0, 1.0).log_prob(ROWS[:, 0])
    assert torch.allclose(bound(path, 0.0, 1.0), truth, atol=1e-3)
    loose = bound(path, 0.0, 1.0, variance="beta-tilde")
    assert (loose < truth - 0.02).any()


def test_exact_on_any_gaussian_where_variance_and_prior_are_its_own() -> None:
    path, mean, s = Cosine(), 0.7, 0.4

    def v(t: Tensor) -> Tensor:
        return path.alpha(t).square() * s**2 + path.sigma(t).square()

    def variance(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        beta = posterior(path, x, x, t, r)[2]
        return beta * v(r) / v(t)

    last = torch.ones((), dtype=torch.float64)
    prior = (path.alpha(last) * mean, v(last).sqrt())
    truth = Normal(mean, s).log_prob(ROWS[:, 0])
    assert torch.allclose(bound(path, mean, s, variance=variance, prior=prior), truth, atol=1e-3)
    assert not torch.allclose(bound(path, mean, s), truth, atol=0.1)
