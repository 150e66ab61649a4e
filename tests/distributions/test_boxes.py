"""The mass of a Gaussian in a box, against scipy's integration."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats

from genus.distributions.boxes import in_box

MEAN = np.array([0.5, -1.0, 0.0])
COV = np.array([[1.0, 0.6, 0.2], [0.6, 2.0, -0.4], [0.2, -0.4, 0.5]])
INF = math.inf


def log_mass(low: list[float], high: list[float], m: int = 4096) -> tuple[float, torch.Tensor]:
    u = torch.quasirandom.SobolEngine(3, scramble=True, seed=0).draw(m).double()[None]
    t = torch.tensor
    log_w, y = in_box(
        t(MEAN)[None],
        torch.linalg.cholesky(t(COV))[None],
        t([low]).double(),
        t([high]).double(),
        u.clamp(1e-9, 1 - 1e-9),
    )
    return float(log_w.logsumexp(2)[0, 0] - math.log(m)), y[0, 0]


def test_boxes_are_those_of_scipy() -> None:
    joint = stats.multivariate_normal(MEAN, COV)
    for low, high in (
        ([-1, -2, -1], [1, 0, 1]),
        ([-INF, -2, 0], [0, INF, 1]),
        ([2, 2, 1], [3, 3, 2]),
    ):
        truth = joint.cdf(np.array(high), lower_limit=np.array(low, float))
        value, y = log_mass([float(v) for v in low], [float(v) for v in high])
        np.testing.assert_allclose(math.exp(value), truth, rtol=0.01)
        assert (y >= torch.tensor(low) - 1e-9).all() and (y <= torch.tensor(high) + 1e-9).all()


def test_a_known_coordinate_has_its_density_and_a_missing_one_costs_nothing() -> None:
    value, y = log_mass([0.3, -INF, -INF], [0.3, INF, INF])
    assert abs(value - stats.norm(0.5, 1.0).logpdf(0.3)) < 1e-7
    # draws of the missing ones are those of the conditional
    mean = MEAN[1:] + COV[1:, 0] * (0.3 - 0.5)
    cov = COV[1:, 1:] - np.outer(COV[1:, 0], COV[1:, 0])
    np.testing.assert_allclose(y[:, 1:].mean(0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(y[:, 1:].T), cov, atol=0.05)


def test_far_boxes_do_not_underflow() -> None:
    value, _ = log_mass([30.0, -INF, -INF], [31.0, INF, INF])
    assert abs(value - stats.norm(0.5, 1.0).logsf(30.0)) < 1e-6
