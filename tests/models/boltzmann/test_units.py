"""Visible units of every kind, against sums over their states and integrals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.learn.rows import generator
from genus.models.boltzmann.units import Units
from genus.space import Space

SPACES = {
    "binary": Space((3,), "binary"),
    "ordinal": Space((2,), "ordinal", levels=5),
    "categorical": Space((2,), "categorical", levels=4),
}
N = 3


def units(kind: str) -> Units:
    return Units(SPACES[kind], "auto")


def drawn(u: Units, n: int = N) -> tuple[Tensor, Tensor]:
    """Biases and the rows of natural parameters that hidden units add."""
    rng = generator(0)
    return torch.randn(u.n_bias, generator=rng), torch.randn(n, u.n_phi, generator=rng)


def states(space: Space) -> Tensor:
    return torch.tensor(list(itertools.product(*map(range, space.cardinality)))).float()


@pytest.mark.parametrize("kind", SPACES)
def test_the_partition_function_is_the_sum_over_states(kind: str) -> None:
    u = units(kind)
    b, a = drawn(u)
    v = states(u.space)
    want = torch.logsumexp(u.linear(v, b) + a @ u.phi(v).T, 1)
    np.testing.assert_allclose(u.log_partition(b, a), want, rtol=1e-5)


@pytest.mark.parametrize("kind", SPACES)
def test_draws_and_means_follow_the_probabilities(kind: str) -> None:
    u, n = units(kind), 20_000
    b, a = drawn(u, 1)
    v = states(u.space)
    p = torch.softmax(u.linear(v, b) + a @ u.phi(v).T, 1)[0]
    x = u.draw(b, a.expand(n, -1), generator(1))
    same = (x[:, None] == v).all(2)
    assert same.any(1).all()
    assert (same.float().mean(0) - p).abs().max() < 4 * 0.5 / math.sqrt(n)
    mean = u.mean(b, a)[0]
    if kind == "categorical":  # the likeliest value
        likeliest = [
            int(torch.stack([p[v[:, j] == l].sum() for l in range(4)]).argmax()) for j in range(2)
        ]
        assert mean.tolist() == likeliest
    else:
        torch.testing.assert_close(mean, p @ v, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", SPACES)
def test_biases_take_up_what_constant_hidden_units_add(kind: str) -> None:
    u = units(kind)
    b, a = drawn(u, 1)
    v = states(u.space)
    want = u.linear(v, b) + u.phi(v) @ a[0]
    u.absorb_(b, a[0])
    torch.testing.assert_close(u.linear(v, b), want)


@pytest.mark.parametrize("kind", SPACES)
def test_independent_cells_have_the_shares_of_the_rows(kind: str) -> None:
    u = units(kind)
    space = u.space
    x = torch.from_numpy(np.random.default_rng(0).integers(0, space.cardinality, (500, space.dim)))
    x[:250] = 0
    b = u.independent(x.float())
    v = states(space)
    p = torch.softmax(u.linear(v, b), 0)
    for j, levels in enumerate(space.cardinality):
        for l in range(levels):
            share = float((x[:, j] == l).float().mean())
            assert float(p[v[:, j] == l].sum()) == pytest.approx(share, abs=0.01)


def test_real_cells_are_standardised_and_integrate_to_their_partition_function() -> None:
    u = Units(Space((1,)), "auto").double()
    x = torch.from_numpy(100 + 5 * np.random.default_rng(0).normal(size=(400, 1)))
    u.fit(x)
    v, log_det = u.enter(x, generator(0))
    assert abs(float(v.mean())) < 1e-4 and float(v.std()) == pytest.approx(1, abs=0.01)
    assert float(log_det[0]) == pytest.approx(-math.log(float(x.std())), abs=0.01)
    torch.testing.assert_close(u.leave(v.double()), x, rtol=1e-5, atol=0)
    u.log_tau_.data.fill_(0.7)
    b, a = torch.tensor([0.3]).double(), torch.tensor([[0.5], [-2.0]]).double()
    grid = torch.arange(-20, 20, 0.001, dtype=torch.float64)[:, None]
    log_p = u.bias(grid, b) + a @ u.phi(grid).T
    want = torch.logsumexp(log_p, 1) + math.log(0.001)
    np.testing.assert_allclose(u.log_partition(b, a).detach(), want.detach(), rtol=1e-6)


def test_many_levels_are_treated_as_real_numbers_and_come_back() -> None:
    space = Space((2,), "ordinal", levels=256)
    u = Units(space, "auto")
    assert u.gaussian and u.dequantises
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (200, 2)))
    u.fit(x)
    v, log_det = u.enter(x, generator(0))
    assert torch.equal(u.leave(v.double()).long(), x) and torch.isfinite(log_det).all()


@pytest.mark.parametrize(
    ("visible", "space", "says"),
    [
        ("bernoulli", Space((2,)), "column 0, which is continuous"),
        ("categorical", Space((2,)), "does not suit"),
        ("bernoulli", SPACES["categorical"], "which is categorical"),
    ],
)
def test_units_that_do_not_suit_are_refused(visible: str, space: Space, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Units(space, visible)
