"""Objectives without chains, against Gaussians whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from genus.learn.rows import generator
from genus.models.energy import objectives


def rows(s: float, n: int = 20_000) -> torch.Tensor:
    return s * torch.randn(n, 1, generator=generator(0), dtype=torch.float64)


def best(objective, y: torch.Tensor) -> float:
    """The precision λ of log f = −½ λ y² where a loss is least."""
    precision = torch.ones((), dtype=torch.float64, requires_grad=True)
    step = torch.optim.LBFGS([precision], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        step.zero_grad()
        value = objective(lambda v: -0.5 * precision * v.square().sum(1), y).mean()
        value.backward()
        return value

    step.step(loss)
    return float(precision.detach())


def test_score_matching_recovers_the_precision() -> None:
    y = rows(0.5)
    assert best(objectives.score_matching, y) == pytest.approx(1 / float(y.square().mean()))


def test_sliced_score_matching_does_too() -> None:
    y = rows(0.5)
    found = best(lambda f, v: objectives.sliced(f, v, generator(1)), y)
    assert found == pytest.approx(1 / float(y.square().mean()))


def test_denoising_recovers_the_precision_of_noisy_rows() -> None:
    found = best(lambda f, v: objectives.denoising(f, v, 0.4, generator(1)), rows(0.5))
    assert found == pytest.approx(1 / (0.5**2 + 0.4**2), rel=0.03)


def test_the_exact_trace_is_that_of_the_hessian() -> None:
    y = torch.randn(5, 3, generator=generator(0), dtype=torch.float64)

    def log_f(v: torch.Tensor) -> torch.Tensor:
        return -(v.sum(1) ** 2).cosh().log() - v[:, 0] ** 4

    for i in range(5):
        s = torch.autograd.functional.jacobian(lambda v: log_f(v[None])[0], y[i])
        H = torch.autograd.functional.hessian(lambda v: log_f(v[None])[0], y[i])
        expected = 0.5 * s.square().sum() + H.trace()
        torch.testing.assert_close(objectives.score_matching(log_f, y)[i], expected)
    many = torch.stack([objectives.sliced(log_f, y, generator(k)) for k in range(4000)])
    error = many.std(0) / math.sqrt(4000)
    exact = objectives.score_matching(log_f, y)
    assert bool(((many.mean(0) - exact).abs() < 4.5 * error + 1e-12).all())


def test_the_constant_of_noise_contrast_is_minus_log_z() -> None:
    """f = e^{−y²/(2s²)}, Z = s √(2π), against noise of N(0, 1)."""
    s, y = 0.5, rows(0.5)
    noise = rows(1.0).flip(0)
    c = torch.zeros((), dtype=torch.float64, requires_grad=True)
    step = torch.optim.LBFGS([c], max_iter=50, line_search_fn="strong_wolfe")

    def log_r(v: torch.Tensor) -> torch.Tensor:
        log_noise = -0.5 * v[:, 0].square() - 0.5 * math.log(2 * math.pi)
        return -0.5 * v[:, 0].square() / s**2 + c - log_noise

    def loss() -> torch.Tensor:
        step.zero_grad()
        value = objectives.contrastive(log_r, y, noise).mean()
        value.backward()
        return value

    step.step(loss)
    assert float(c.detach()) == pytest.approx(-math.log(s * math.sqrt(2 * math.pi)), abs=0.03)
