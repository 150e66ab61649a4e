"""Points of a Monte Carlo likelihood: a row's own, and independent between rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genus import LowerBound
from genus.distributions.points import log_mean_exp, row_hash, row_normals, row_uniforms


def test_log_mean_exp_and_its_error_against_fresh_draws() -> None:
    """The spread of log (1/k) Σ exp w is the standard error that one repetition states."""
    w = (
        torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        * 0.8
    )
    value, stderr, ess = log_mean_exp(w, 1)
    assert torch.allclose(value, w.exp().mean(1).log())
    assert abs(float(stderr.square().mean().sqrt() / value.std()) - 1) < 0.05
    assert ((ess > 1) & (ess <= 64)).all()
    same = log_mean_exp(torch.full((1, 5), -1e4), 1)
    assert torch.allclose(torch.stack(same)[:, 0], torch.tensor([-1e4, 0.0, 5.0]), atol=1e-6)


# ---------------------------------------------------------------------- row hashes


def rows(n: int, d: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 2, (n, d), generator=torch.Generator().manual_seed(seed)).float()


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=6), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_points_depend_on_nothing_but_the_row(values: list[float], seed: int) -> None:
    x = torch.tensor(values, dtype=torch.float64).reshape(2, 3)
    many = torch.cat([torch.randn(9, 3, generator=torch.Generator().manual_seed(seed)).double(), x])
    order = torch.randperm(11, generator=torch.Generator().manual_seed(seed))
    u = row_uniforms(x, 4, 3)
    assert torch.equal(row_uniforms(many, 4, 3)[-2:], u)
    assert torch.equal(row_uniforms(many[order], 4, 3), row_uniforms(many, 4, 3)[order])
    assert torch.equal(row_uniforms(x[:1], 4, 3), u[:1])
    assert torch.equal(row_uniforms(x.reshape(2, 1, 3), 4, 3), u)


def test_the_hash_sees_values_and_their_order_not_their_dtype() -> None:
    x = torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    h = row_hash(x)
    assert h[0] == h[2] != h[1]
    assert torch.equal(row_hash(x.to(torch.uint8)), h) and torch.equal(row_hash(x.double()), h)
    assert torch.equal(
        row_hash(torch.tensor([[-0.0, math.nan]])), row_hash(torch.tensor([[0.0, -math.nan]]))
    )
    assert row_hash(torch.zeros(1, 3)) != row_hash(torch.zeros(1, 4))
    big = rows(3000, 100)  # more than one chunk
    assert torch.equal(row_hash(big), torch.cat([row_hash(r[None]) for r in big]))


def test_no_two_rows_share_a_hash() -> None:
    grid = torch.cartesian_prod(*[torch.arange(2)] * 16).float()
    assert len(row_hash(grid).unique()) == len(grid) == 65536
    steps = torch.cat([torch.arange(50_000).double()[:, None] * s for s in (1e-300, 1.0, 1e15)])[
        :, :1
    ]
    assert len(row_hash(steps).unique()) == len(steps.unique())


def test_points_are_uniform_and_normal_and_strictly_inside() -> None:
    x = torch.arange(4000.0)[:, None]
    u, e = row_uniforms(x, 8, 3), row_normals(x, 8, 3)
    assert u.dtype == e.dtype == torch.float32 and u.shape == (4000, 8, 3)
    assert 0 < float(u.min()) and float(u.max()) < 1 and bool(e.isfinite().all())
    for k in (0, 7):
        for d in range(3):
            assert stats.kstest(u[:, k, d].numpy(), "uniform").pvalue > 1e-3
            assert stats.kstest(e[:, k, d].numpy(), "norm").pvalue > 1e-3
    assert torch.allclose(torch.special.ndtr(e.double()), u.double(), atol=1e-6)


def test_points_are_independent_between_rows_and_between_dimensions() -> None:
    u = row_uniforms(torch.arange(20_000.0)[:, None], 2, 3).double() - 0.5
    for a, b in (
        (u[:-1, 0, 0], u[1:, 0, 0]),
        (u[:, 0, 0], u[:, 0, 1]),
        (u[:-1, 1, 2], u[1:, 0, 2]),
    ):
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 4 / math.sqrt(20_000)
    similar = torch.zeros(20_000, 16)  # neighbours on the hypercube, which differ in one pixel
    similar[torch.arange(20_000), torch.arange(20_000) % 16] = torch.arange(20_000.0) // 16 + 1
    v = row_uniforms(similar, 1, 1)[:, 0, 0]
    assert stats.kstest(v.numpy(), "uniform").pvalue > 1e-3


def test_points_of_a_row_fill_space_more_evenly_than_chance() -> None:
    x = torch.arange(500.0)[:, None]
    for k in (16, 64):
        error = row_uniforms(x, k, 2).double().mean(1) - 0.5  # of an integral whose value is ½
        assert float(error.std()) < 0.4 / math.sqrt(12 * k)


def test_the_error_of_a_mean_is_honest_against_fresh_draws() -> None:
    """Points shared by all rows without the shift would understate it many times over."""
    f = lambda e: (1.5 * e).sum(2)  # log weights # noqa: E731
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    value, stderr, _ = log_mean_exp(f(row_normals(x, 32, 2)), 1)
    stated = LowerBound(value.numpy(), stderr.numpy()).monte_carlo_stderr()
    means = []
    for seed in range(300):
        e = torch.randn(400, 32, 2, generator=torch.Generator().manual_seed(seed))
        means.append(float(log_mean_exp(f(e), 1)[0].mean()))
    fresh = float(np.std(means))
    assert 0.5 < stated / fresh < 1.5
    assert abs(float(value.mean()) - np.mean(means)) < 5 * fresh


@pytest.mark.parametrize("dims", [1, 784, 30_000])
def test_many_dimensions(dims: int) -> None:
    u = row_uniforms(rows(2), 3, dims)
    assert u.shape == (2, 3, dims) and abs(float(u.mean()) - 0.5) < 0.5


def test_points_touch_no_global_state() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    row_normals(rows(3), 9, 11)
    row_normals(rows(3), 2, 30_001)
    assert torch.equal(before, torch.random.get_rng_state())
