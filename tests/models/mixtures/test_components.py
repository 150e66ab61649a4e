"""What mixtures of Gaussians share, against scipy and sums written out row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import genus
from genus.learn.rows import generator
from genus.models.mixtures.components import (
    LogJoint,
    full_covariances,
    k_means,
    log_joint,
    responsibilities_,
    row_weights,
    statistics,
)
from oracles import brute

K, D = 3, 4
KINDS = ("full", "tied", "diag", "spherical")
RNG = np.random.default_rng(0)
LOG_W = torch.log(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64))
MEANS = torch.from_numpy(RNG.normal(size=(K, D)))
ROOT = RNG.normal(size=(K, D, D))
FULL = torch.from_numpy(ROOT @ ROOT.transpose(0, 2, 1) + 0.3 * np.eye(D))
COV = {
    "full": FULL,
    "tied": FULL[0],
    "diag": FULL.diagonal(dim1=1, dim2=2).clone(),
    "spherical": FULL[:, 0, 0].clone(),
}


def plan(kind: str, dtype: torch.dtype = torch.float64) -> LogJoint:
    return LogJoint(LOG_W, MEANS, COV[kind], kind, dtype)


def rows(n: int = 50, gaps: float = 0.0) -> Tensor:
    """(1, y) with some of y missing."""
    y = 2 * RNG.normal(size=(n, D))
    y[RNG.random(y.shape) < gaps] = np.nan
    return torch.from_numpy(np.concatenate([np.ones((n, 1)), y], 1))


def one_by_one(x1: Tensor, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log ρ (K, n), rows filled at their conditional means (K, n, D), covariances (K, n, D, D)."""
    cov = full_covariances(COV[kind], kind, K, D).numpy()
    y = x1[:, 1:].numpy()
    all_of = [[brute(row, MEANS[k].numpy(), cov[k]) for row in y] for k in range(K)]
    log_p = np.array([[row[0] for row in of_k] for of_k in all_of]) + LOG_W.numpy()[:, None]
    filled = np.array([[row[1] for row in of_k] for of_k in all_of])
    return log_p, filled, np.array([[row[2] for row in of_k] for of_k in all_of])


@pytest.mark.parametrize("kind", KINDS)
def test_log_densities_are_scipys(kind: str) -> None:
    x1 = rows()
    cov = full_covariances(COV[kind], kind, K, D).numpy()
    want = [stats.multivariate_normal(MEANS[k].numpy(), cov[k]).logpdf(x1[:, 1:]) for k in range(K)]
    want = np.array(want) + LOG_W.numpy()[:, None]
    np.testing.assert_allclose(plan(kind).log_joint(x1), want, rtol=1e-9)
    single = plan(kind, torch.float32).log_joint(x1.float())
    np.testing.assert_allclose(single, want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_entries_are_integrated_out(kind: str) -> None:
    x1 = rows(gaps=0.4)
    np.testing.assert_allclose(log_joint(plan(kind), x1), one_by_one(x1, kind)[0], rtol=1e-8)


@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_those_of_the_rows(kind: str, weighted: bool, gaps: float) -> None:
    x1 = rows(60, gaps)
    w = torch.from_numpy(RNG.integers(0, 3, 60).astype(float)) if weighted else None
    got = statistics(plan(kind), x1, w)
    log_p, filled, C = one_by_one(x1, kind)
    log_x = np.logaddexp.reduce(log_p, 0)
    weight = np.ones(60) if w is None else w.numpy()
    r = np.exp(log_p - log_x) * weight
    z = filled - (MEANS.numpy()[:, None] if kind == "full" else 0)
    second = np.einsum("kn,knd,kne->kde", r, z, z) + np.einsum("kn,knde->kde", r, C)
    if kind == "tied":
        second = second.sum(0)
    elif kind != "full":
        second = second.diagonal(axis1=1, axis2=2)
    want: dict[str, Any] = {
        "log_likelihood": log_x @ weight,
        "weight": weight.sum(),
        "count": r.sum(1),
        "first": np.einsum("kn,knd->kd", r, z),
        "second": second,
    }
    assert got.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-7, atol=1e-9, err_msg=name)


def test_responsibilities_of_far_rows_sum_to_one() -> None:
    log_p = torch.tensor([[-1e5, 0.0], [-1e5 - 1, -1e5], [-2e5, -1e5]], dtype=torch.float64)
    r, log_x = responsibilities_(log_p.clone())
    np.testing.assert_allclose(r.sum(0), 1, rtol=1e-12)
    np.testing.assert_allclose(log_x, torch.logsumexp(log_p, 0), rtol=1e-12)
    assert r[0, 0] / r[1, 0] == pytest.approx(np.e)


def test_k_means_finds_clear_groups_and_leaves_rows_of_no_weight_out() -> None:
    centres = torch.tensor([[0.0, 0], [20, 0], [0, 20]], dtype=torch.float64)
    label = torch.arange(90) % 3
    z = centres[label] + torch.from_numpy(RNG.normal(size=(90, 2)))
    far = torch.full((1, 2), 1e3, dtype=torch.float64)
    w = torch.cat([torch.ones(90, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    found, c = k_means(torch.cat([z, far]), w, 3, generator(0))
    assert len({(a, b) for a, b in zip(label.tolist(), found[:90].tolist(), strict=True)}) == 3
    assert c.abs().max() < 25
    np.testing.assert_allclose(c[found[0]], z[label == 0].mean(0), rtol=1e-9)


def test_fewer_distinct_rows_than_groups_are_no_trouble() -> None:
    z = torch.zeros(5, 2, dtype=torch.float64)
    label, c = k_means(z, torch.ones(5, dtype=torch.float64), 3, generator(0))
    assert label.shape == (5,) and not c.any()


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        (np.ones((5, 2)), "1D array"),
        (-np.ones(5), "at least 0"),
        (np.full(5, np.inf), "infinite"),
        (np.full(5, np.nan), "NaN"),
        (np.zeros(5), "zero for every row"),
    ],
)
def test_weights_that_are_no_counts_are_refused(weight: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        row_weights(weight)
    assert row_weights(None) is None
    assert row_weights([1, 0, 2]).dtype == torch.float64


@pytest.mark.parametrize(
    "model",
    [
        genus.GaussianMixture(2, random_state=0),
        genus.BayesianGaussianMixture(2, random_state=0),
        genus.CategoricalMixture(2, random_state=0),
    ],
    ids=lambda m: type(m).__name__,
)
def test_fit_predict_tells_the_clusters(model):
    rng = np.random.default_rng(0)
    side = np.repeat([0, 1], 60)
    X = 8 * side[:, None] + rng.normal(size=(120, 2))
    labels = model.fit_predict(X)
    assert (labels == model.predict(X)).all()
    assert np.mean(labels == side) in (0, 1)
