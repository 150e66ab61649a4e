"""Bijections: there and back, and the log-determinant that autograd finds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genus.distributions.bijections import Bijection, Chain, Logit, Standardise, moments

seeds = st.integers(0, 2**31)


def uniform(seed: int, n: int = 5, d: int = 3) -> Tensor:
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(kind: str, seed: int) -> tuple[Bijection, Tensor]:
    """A map and rows in its domain."""
    u = uniform(seed)
    scale = 10 ** (6 * uniform(seed + 1, 1) - 3)
    x = (u - 0.4) * scale
    standard = Standardise(3).fit(x)
    if kind == "standardise":
        return standard, x
    box = Logit(
        torch.full((3,), -0.5) * scale[0],
        0.7 * scale[0],
        alpha=0.05 * float(uniform(seed + 2, 1, 1)),
    )
    if kind == "logit":
        return box, x
    return Chain(box, Standardise(3).fit(box(x)[0])), x


@pytest.mark.parametrize("kind", ["standardise", "logit", "chain"])
@given(seeds)
@settings(max_examples=40, deadline=None)
def test_inverse_and_log_determinant(kind: str, seed: int) -> None:
    f, x = make(kind, seed)
    y, log_det = f(x)
    assert y.shape == x.shape and log_det.shape == (5,) and log_det.dtype == torch.float64
    assert torch.allclose(f.inverse(y), x, rtol=1e-9, atol=1e-9 * float(x.abs().max()))
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda r: f(r[None])[0][0], x[i])
        assert torch.isclose(torch.linalg.slogdet(jacobian)[1], log_det[i], rtol=1e-9, atol=1e-9)


def test_standardise_takes_the_moments_of_what_is_observed() -> None:
    x = torch.tensor([[1.0, 5.0, math.nan], [3.0, 5.0, math.nan], [math.nan, 5.0, math.nan]])
    f = Standardise(3).fit(x)
    assert f.mean_.tolist() == [2, 5, 0] and f.std_.tolist() == [1, 1, 1]
    y, log_det = f(x)
    assert torch.equal(torch.isnan(y), torch.isnan(x)) and log_det.tolist() == [0, 0, 0]
    wide = Standardise(2).fit(torch.tensor([[0.0, 0.0], [4.0, 20.0]]))
    assert torch.allclose(
        wide(torch.tensor([[math.nan, 1.0]]))[1], -torch.tensor([10.0], dtype=torch.float64).log()
    )
    assert "mean_" in f.state_dict() and "std_" in f.state_dict()


@pytest.mark.parametrize(
    ("offset", "spread"), [(0.0, 1e-200), (0.0, 1e90), (1e9, 1.0), (1e99, 1e95), (0.0, 1.0)]
)
def test_standardise_at_the_ends_of_the_numbers(offset: float, spread: float) -> None:
    x = offset + spread * (uniform(0, 1000, 2) - 0.5)
    y = Standardise(2).fit(x)(x)[0]
    assert torch.allclose(y.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-4)
    assert torch.allclose(y.std(0, unbiased=False), torch.ones(2, dtype=torch.float64), rtol=1e-4)


def test_a_constant_column_keeps_its_scale() -> None:
    for value in (0.0, 1e20, 0.1 + 0.2, -1e-300):
        f = Standardise(1).fit(torch.full((9, 1), value, dtype=torch.float64))
        assert f.std_.item() == 1
        assert bool(f(torch.full((2, 1), value, dtype=torch.float64))[1].eq(0).all())


def test_moments_leave_missing_entries_out() -> None:
    x = uniform(3, 50, 2) * 7 + 2
    mean, std = moments(x)
    assert torch.allclose(mean, x.mean(0)) and torch.allclose(std, x.std(0, unbiased=False))
    holed = torch.cat([x, torch.full((5, 2), math.nan)])
    assert all(torch.equal(a, b) for a, b in zip(moments(holed), (mean, std), strict=True))


def test_logit_keeps_the_edges_and_the_missing() -> None:
    f = Logit(torch.zeros(2), torch.ones(2), alpha=0.05)
    y, log_det = f(torch.tensor([[0.0, 1.0], [math.nan, 0.5]]))
    assert torch.isfinite(y[0]).all() and torch.isnan(y[1, 0]) and not torch.isnan(y[1, 1])
    assert torch.isfinite(log_det).all()
    only = Logit(torch.zeros(1), torch.ones(1), alpha=0.05)(torch.tensor([[0.5]]))[1]
    assert torch.isclose(log_det[1], only[0])  # what is missing adds nothing
    far = f.inverse(torch.tensor([[-800.0, 800.0]]))
    assert torch.isfinite(far).all()


def test_a_density_through_a_chain_integrates_to_one() -> None:
    f = Chain(Logit(torch.full((1,), -1.0), torch.full((1,), 3.0), alpha=0.01), Standardise(1))
    x = torch.linspace(-1, 3, 20_001, dtype=torch.float64)[:, None]
    y, log_det = f(x)
    low, high = (float(f(torch.tensor([[v]]))[0]) for v in (-1.0, 3.0))
    inside = torch.special.ndtr(torch.tensor(high)) - torch.special.ndtr(torch.tensor(low))
    p = torch.exp(-0.5 * y[:, 0].square() + log_det) / math.sqrt(2 * math.pi)
    assert math.isclose(float(torch.trapezoid(p, x[:, 0])), float(inside), rel_tol=1e-6)


def test_chain_inverts_in_the_other_order() -> None:
    a, b = Standardise(1), Standardise(1)
    a.mean_.fill_(3.0)
    b.std_.fill_(2.0)
    f = Chain(a, b)
    x = torch.tensor([[5.0]], dtype=torch.float64)
    assert f(x)[0].item() == 1 and f.inverse(f(x)[0]).item() == 5
    assert math.isclose(f(x)[1].item(), -math.log(2))
