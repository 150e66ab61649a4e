"""Schedules: ends, angles, and the formulas that they are known by."""

from __future__ import annotations

import math

import pytest
import torch

from genus.models.diffusion.schedules import Cosine, Exploding, LinearBeta, Schedule, Straight

ALL = [Straight(), Cosine(), LinearBeta(), Exploding()]
every = pytest.mark.parametrize("path", ALL, ids=lambda p: type(p).__name__)
T = torch.linspace(0, 1, 201, dtype=torch.float64)


@every
def test_data_at_0_and_noise_at_1(path: Schedule) -> None:
    assert path.alpha(T)[0] == 1 and path.sigma(T)[0] == 0
    assert path.alpha(T)[-1] / path.sigma(T)[-1] <= 0.0201
    angle = path.angle(T)
    assert (angle.diff() > 0).all() and float(angle[-1]) == pytest.approx(path.last)


@every
def test_time_undoes_angle(path: Schedule) -> None:
    assert torch.allclose(path.time(path.angle(T)), T, atol=1e-12)
    times = path.times(7)
    assert times[0] == 1 and times[-1] == 0
    assert torch.allclose(path.angle(times).diff(), torch.tensor(-path.last / 7).double())


def test_formulas() -> None:
    assert torch.equal(Straight().alpha(T) + Straight().sigma(T), torch.ones_like(T))
    for path in (Cosine(), LinearBeta()):  # of constant variance
        assert torch.allclose(path.radius(T), torch.ones_like(T))
    speed = Cosine().angle(T).diff()
    assert torch.allclose(speed, speed[:1])
    # the chain of DDPM, β from 1e-4 to .02 in a thousand steps
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    chain = (1 - betas).cumprod(0)
    mine = LinearBeta().alpha(torch.arange(1, 1001).double() / 1000).square()
    assert float((chain.log() - mine.log()).abs().max()) < 0.12
    grow = (Exploding(0.01, 50.0).sigma(T).square() + 1e-4).log().diff()
    assert torch.allclose(grow, torch.full_like(grow, 2 * math.log(5000) / 200))
