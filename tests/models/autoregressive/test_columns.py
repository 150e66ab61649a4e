"""Columns of each kind: what the network sees, and the conditional of what it puts out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from genus.learn.rows import generator
from genus.models.autoregressive.columns import Bits, Levels, Numbers, Part

M = 2  # columns
ALL = slice(None)
RNG = np.random.default_rng(0)


def part(name: str) -> Part:
    return {
        "bits": lambda: Bits([0, 1], several=False),
        "levels": lambda: Levels([0, 1], 5),
        "numbers": lambda: Numbers([0, 1], [0, 0], K=3, several=False),
        "whole": lambda: Numbers([0, 1], [5, 5], K=3, several=False),
    }[name]()


def rows(name: str, n: int = 400) -> Tensor:
    if name == "numbers":
        return torch.from_numpy(50 + 4 * RNG.normal(size=(n, M)))
    return torch.from_numpy(RNG.binomial(1 if name == "bits" else 4, 0.3, (n, M))).double()


def parameters(p: Part, n: int = 1) -> Tensor:
    return torch.randn(n, M, p.n_out, generator=generator(3), dtype=torch.float64)


@pytest.mark.parametrize("name", ["bits", "levels", "whole"])
def test_levels_sum_to_one_and_draws_have_their_shares(name: str) -> None:
    p = part(name)
    p.fit(rows(name))
    levels = 2 if name == "bits" else 5
    every = torch.arange(levels, dtype=torch.float64)[:, None].expand(-1, M)
    theta = parameters(p)
    mass = p.log_prob(theta.expand(levels, -1, -1), every).exp()
    np.testing.assert_allclose(mass.sum(0), 1, rtol=1e-6)
    n = 20_000
    drawn = p.draw(theta.expand(n, -1, -1), ALL, generator(0))
    for v in range(levels):
        share = (drawn == v).double().mean(0)
        assert (share - mass[v]).abs().max() < 4 * 0.5 / math.sqrt(n)


def test_numbers_integrate_to_one_in_the_units_of_the_data() -> None:
    p = part("numbers")
    x = rows("numbers")
    p.fit(x)
    theta = parameters(p)
    grid = torch.arange(-150, 250, 0.01, dtype=torch.float64)[:, None].expand(-1, M)
    density = p.log_prob(theta.expand(len(grid), -1, -1), grid).exp()
    np.testing.assert_allclose(density.sum(0) * 0.01, 1, atol=1e-3)
    drawn = p.draw(theta.expand(4000, -1, -1), ALL, generator(0)).numpy()
    for j in range(M):
        cdf = np.cumsum(density[:, j].numpy()) * 0.01
        law = lambda v, cdf=cdf: np.interp(v, grid[:, 0].numpy(), cdf)  # noqa: E731
        assert stats.kstest(drawn[:, j], law).pvalue > 1e-3


@pytest.mark.parametrize("name", ["bits", "levels", "numbers", "whole"])
def test_the_fit_is_the_marginal(name: str) -> None:
    """The parameters that ``fit`` gives are those of columns on their own."""
    p, x = part(name), rows(name)
    theta = p.fit(x)
    assert theta.shape == (M, p.n_out)
    got = p.log_prob(theta.expand(len(x), -1, -1), x).mean(0)
    if name == "numbers":
        best = [stats.norm(*stats.norm.fit(c)).logpdf(c).mean() for c in x.T.numpy()]
        assert (got.numpy() > np.array(best) - 0.3).all()
    else:
        shares = [np.unique(c, return_counts=True)[1] / len(x) for c in x.T.numpy()]
        best = [(s * np.log(s)).sum() for s in shares]
        assert (got.numpy() > np.array(best) - (0.4 if name == "whole" else 0.01)).all()


def test_what_the_network_sees() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double()
    bits = part("bits")
    bits.fit(x)
    np.testing.assert_allclose(bits.features(x)[..., 0], x - bits.mean_)
    assert part("levels").features(x).tolist()[0] == [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    numbers = part("numbers")
    numbers.fit(rows("numbers"))
    far = numbers.features(torch.full((1, M), 1e9, dtype=torch.float64))
    assert (far == 10).all()  # a network sees an edge


def test_with_several_orders_a_feature_says_that_a_cell_is_seen() -> None:
    x = rows("numbers", 7)
    for p in (Bits([0, 1], several=True), Numbers([0, 1], [0, 0], 3, several=True)):
        f = p.features(x)
        assert f.shape == (7, M, 2) and (f[..., 1] == 1).all()


def test_some_of_the_columns_are_those_columns() -> None:
    for name in ("bits", "levels", "numbers", "whole"):
        p, x = part(name), rows(name)
        p.fit(x)
        theta, one = parameters(p, len(x)), slice(1, 2)
        assert torch.equal(p.features(x[:, one], one), p.features(x)[:, one])
        some = p.log_prob(theta[:, one], x[:, one], one)
        torch.testing.assert_close(some, p.log_prob(theta, x)[:, one])


def test_columns_are_picked_by_their_place() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(Levels([3, 1], 2).of(x), x[:, [3, 1]])
    assert Levels([0, 1, 2, 3], 2).of(x) is x
