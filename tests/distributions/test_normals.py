"""The Gaussian, whole or partly observed, against scipy and inverses written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.distributions.normals import by_pattern, conditional, factor, variance_floor
from oracles import brute

K, D = 2, 3
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


def test_partly_observed_rows_against_scipy_and_inverses() -> None:
    y = with_gaps()
    mean, cov = torch.from_numpy(MEAN), torch.from_numpy(COV)
    for index, real, o in by_pattern(y, 10_000):
        log_p, filled, C = conditional(y[index], o, mean, cov)
        for p in range(len(index)):
            for k in range(K):
                for r in real[p].nonzero().flatten().tolist():
                    want = brute(y[index[p, r]].numpy(), MEAN[k], COV[k])
                    assert float(log_p[p, k, r]) == pytest.approx(want[0], rel=1e-10)
                    np.testing.assert_allclose(filled[p, k, r], want[1], rtol=1e-10)
                    np.testing.assert_allclose(C[p, k], want[2], atol=1e-12)


def test_a_factor_squares_to_its_matrix_though_rows_of_it_are_zero() -> None:
    C = torch.zeros(4, 4, dtype=torch.float64)
    C[1:3, 1:3] = torch.tensor([[2.0, 1.9999999], [1.9999999, 2.0]])
    A = factor(C)
    np.testing.assert_allclose(A @ A.T, C, atol=1e-6)
    assert not A[0].any() and not A[3].any()


def test_the_floor_of_a_variance_is_a_share_of_it_or_what_rounding_can_tell() -> None:
    variance = torch.tensor([4.0, 0.0, 1e-30], dtype=torch.float64)
    mean = torch.tensor([0.0, 0.0, 1e9], dtype=torch.float64)
    floor = variance_floor(variance, mean, 0.01)
    np.testing.assert_allclose(floor, [0.04, 1e-6, 1e6])
