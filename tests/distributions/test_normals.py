"""The Gaussian, whole or partly observed, against scipy and inverses written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from torch import Tensor

import genus
from genus.distributions.normals import (
    Conditionals,
    LeaveOneOut,
    by_pattern,
    factor,
    precision_factor,
    variance_floor,
)
from oracles import brute

K, D = 2, 3
D_LOG = 5 * np.log(2 * np.pi)
RNG = np.random.default_rng(0)
MEAN = RNG.normal(size=(K, D))
ROOT = RNG.normal(size=(K, D, D))
COV = ROOT @ ROOT.transpose(0, 2, 1) + 0.5 * np.eye(D)


def with_gaps(n: int = 60) -> Tensor:
    y = RNG.normal(size=(n, D))
    y[RNG.random(y.shape) < 0.4] = np.nan
    y[0] = np.nan  # nothing observed
    return torch.from_numpy(y)


@pytest.mark.parametrize("cells", [1, 7, 10_000])
def test_patterns_hold_every_row_once(cells: int) -> None:
    y = with_gaps()
    rows = []
    for index, real, o in by_pattern(y, cells):
        rows += index[real].tolist()
        for group, keep, pattern in zip(index, real, o, strict=True):
            assert (~torch.isnan(y[group[keep]]) == pattern).all()
    assert sorted(rows) == list(range(len(y)))


def correlated(d: int, gap: float) -> np.ndarray:
    """Columns that share all but ``gap`` of their variance, and one apart; units differ."""
    shared = np.ones((d, d)) + gap * np.eye(d)
    shared[-1, :-1] = shared[:-1, -1] = 0.1
    scale = 10.0 ** (np.arange(d) - 1)
    return shared * scale[:, None] * scale


@pytest.mark.parametrize("gap", [0.5, 1e-4])
def test_partly_observed_rows_against_scipy_and_inverses(gap: float) -> None:
    covs = COV if gap == 0.5 else np.stack([correlated(D, gap), COV[1]])
    y = with_gaps()
    mean, cov = torch.from_numpy(MEAN), torch.from_numpy(covs)
    normals = Conditionals(mean, cov)
    total = np.zeros((K, D, D))
    weight = 1.0 + torch.arange(K, dtype=torch.float64)
    got = torch.zeros(K, D, D, dtype=torch.float64)
    for index, real, o in by_pattern(y, 10_000):
        given = normals.given(y[index], o)
        got += given.covariance(weight.expand(len(index), K))
        for p in range(len(index)):
            for k in range(K):
                one = given.covariance(torch.eye(len(index), dtype=torch.float64)[p][:, None])
                for r in real[p].nonzero().flatten().tolist():
                    want = brute(y[index[p, r]].numpy(), MEAN[k], covs[k])
                    assert float(given.log_p[p, k, r]) == pytest.approx(want[0], rel=1e-8)
                    np.testing.assert_allclose(given.filled[p, k, r], want[1], rtol=1e-8)
                    np.testing.assert_allclose(one[k], want[2], rtol=1e-6, atol=1e-12)
                total[k] += float(weight[k]) * want[2]
    np.testing.assert_allclose(got, total, rtol=1e-6)


def test_noise_has_the_conditional_covariance_and_leaves_observed_entries_alone() -> None:
    y = torch.tensor([[[math.nan, 0.3, math.nan]]], dtype=torch.float64)
    given = Conditionals(torch.from_numpy(MEAN), torch.from_numpy(COV)).given(y, ~y[0].isnan())
    # draws from the unit vectors are the rows of a root of C
    root = torch.cat([given.noise(e[None, None]) for e in torch.eye(D, dtype=torch.float64)], 2)
    for k in range(K):
        want = brute(y[0, 0].numpy(), MEAN[k], COV[k])[2]
        np.testing.assert_allclose(root[0, k].T @ root[0, k], want, atol=1e-12)


def test_a_factor_squares_to_its_matrix_though_rows_of_it_are_zero() -> None:
    C = torch.zeros(4, 4, dtype=torch.float64)
    C[1:3, 1:3] = torch.tensor([[2.0, 1.9999999], [1.9999999, 2.0]])
    A = factor(C)
    np.testing.assert_allclose(A @ A.T, C, atol=1e-6)
    assert not A[0].any() and not A[3].any()


def test_a_factor_of_the_precision_stands_where_rounding_took_the_covariance_below_zero() -> None:
    cov = torch.from_numpy(COV)
    U = precision_factor(cov)
    np.testing.assert_allclose(U @ U.mT, torch.linalg.inv(cov), rtol=1e-9, atol=1e-12)
    assert not U.tril(-1).any()
    flat = torch.ones(2, 2, dtype=torch.float64)
    flat[1, 0] = flat[0, 1] = 1 + 1e-12
    assert torch.isfinite(precision_factor(flat[None])).all()


def test_the_floor_of_a_variance_is_a_share_of_it_or_what_rounding_can_tell() -> None:
    variance = torch.tensor([4.0, 0.0, 1e-30], dtype=torch.float64)
    mean = torch.tensor([0.0, 0.0, 1e9], dtype=torch.float64)
    floor = variance_floor(variance, mean, 0.01)
    np.testing.assert_allclose(floor, [0.04, 1e-6, 1e6])


def test_the_share_is_that_of_rows_left_out_one_by_one() -> None:
    z = RNG.normal(size=(12, 5)) @ RNG.normal(size=(5, 5)) + 3
    n, mean = len(z), z.mean(0)
    S = np.cov(z.T, bias=True)
    left_out = LeaveOneOut(torch.from_numpy(S), n)
    for part in np.array_split(z - mean, 3):
        left_out.add(torch.from_numpy(part))
    want = []
    for rho in left_out.rho[:, 0].tolist():
        total = 0.0
        for i in range(n):
            rest = np.delete(z, i, 0)
            cov = (1 - rho) * np.cov(rest.T, bias=True) + rho * np.diag(np.diag(S))
            total += stats.multivariate_normal(rest.mean(0), cov).logpdf(z[i])
        want.append(total)
    constant = n * (0.5 * D_LOG + np.log(np.diag(S)).sum() / 2)
    np.testing.assert_allclose(left_out.total - constant, want, rtol=1e-8)
    assert left_out.best() == left_out.rho[int(np.argmax(want)), 0] > 0
    twice = LeaveOneOut(torch.from_numpy(S), n)
    twice.add(torch.from_numpy(z - mean), torch.full((n,), 2.0, dtype=torch.float64))
    np.testing.assert_allclose(twice.total, 2 * left_out.total)


@pytest.mark.parametrize(
    "model",
    [
        genus.Gaussian(),
        genus.GaussianMixture(2),
        genus.ProbabilisticPCA(1),
        genus.BayesianGaussianMixture(2),
        genus.CategoricalMixture(2),
    ],
    ids=lambda m: type(m).__name__,
)
def test_a_small_spread_on_a_large_offset_is_a_spread(model: Any) -> None:
    x = np.random.default_rng(0).normal(size=(400, 2))
    here, there = clone(model), clone(model)
    here.set_params(random_state=0).fit(x)
    there.set_params(random_state=0).fit(x + 1e11)  # numbers 1.5e-5 apart
    spread = there.sample(2000, random_state=0).std(0)
    np.testing.assert_allclose(spread, x.std(0), rtol=0.1)
    assert abs(here.score(x) - there.score(x + 1e11)) < 0.01


def test_a_column_constant_but_for_rounding_has_a_floor() -> None:
    mean = torch.tensor([1e11, 1e11, 0.3], dtype=torch.float64)
    spread = torch.tensor([1.0, 2e-3, 1e-16], dtype=torch.float64)
    added = variance_floor(spread.square(), mean, 0.0)
    assert added[0] == 0 and added[1] > 0 and added[2] > 0
