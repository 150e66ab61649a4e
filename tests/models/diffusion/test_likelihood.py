"""The ODE's density on Gaussians that are known."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from genus.learn.rows import generator
from genus.models.diffusion.likelihood import log_density, transport
from genus.models.diffusion.schedules import Cosine, Exploding, LinearBeta, Schedule, Straight
from oracles import GaussianField

MEAN = torch.tensor([0.5, -0.3], dtype=torch.float64)
COV = torch.tensor([[1.0, 0.7], [0.7, 0.8]], dtype=torch.float64)
PATHS = [Straight(), Cosine(), LinearBeta(), Exploding()]


def forward(path: Schedule, n: int) -> torch.Tensor:
    return path.times(n).flip(0)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: type(p).__name__)
def test_the_density_of_a_gaussian(path: Schedule) -> None:
    field, truth = GaussianField(path, MEAN, COV), MultivariateNormal(MEAN, COV)
    e = torch.randn(20, 2, generator=generator(0), dtype=torch.float64)
    y = MEAN + e @ torch.linalg.cholesky(COV).T
    known = truth.log_prob(y)
    found, _ = log_density(field, path, y, forward(path, 16))
    slack = 5e-3 if path.last > 1.57 else 0.03  # a path that ends early begins with a little data
    assert float((found - known).abs().max()) < slack


def test_errors_fall_at_fourth_order() -> None:
    path = Straight()
    field, truth = GaussianField(path, MEAN, COV), MultivariateNormal(MEAN, COV)
    y = MEAN + torch.tensor([[0.5, 0.2], [-1.0, 0.3]], dtype=torch.float64)
    errors = [
        float((log_density(field, path, y, forward(path, n))[0] - truth.log_prob(y)).abs().max())
        for n in (8, 16)
    ]
    assert errors[1] < errors[0] / 10


def test_a_probe_is_right_on_average_and_not_alone() -> None:
    path = Straight()
    field = GaussianField(path, MEAN, COV)
    y = MEAN.expand(400, 2)
    exact, _ = log_density(field, path, y[:1], forward(path, 16))
    probe = 2.0 * torch.randint(2, y.shape, generator=generator(0)).double() - 1
    probed, _ = log_density(field, path, y, forward(path, 16), probe)
    assert float(probed.mean()) == pytest.approx(float(exact), abs=0.1)
    assert float(probed.std()) > 0.3


def test_there_and_back() -> None:
    path = Straight()
    field = GaussianField(path, MEAN, COV)
    y = MEAN + torch.tensor([[0.5, 0.2], [-1.0, 0.3]], dtype=torch.float64)
    z = transport(field, path, y, forward(path, 16))
    assert torch.allclose(transport(field, path, z, path.times(16)), y, atol=1e-4)
    assert torch.allclose(z, log_density(field, path, y, forward(path, 16))[1])
    assert float((z - y).abs().max()) > 0.1
