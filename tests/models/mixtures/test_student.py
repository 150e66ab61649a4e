"""Student's t, whole and partly observed, against scipy and distribution functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from genus.learn.rows import generator
from genus.models.mixtures.student import draw_students, log_students

K, D = 2, 3
RNG = np.random.default_rng(0)
MEANS = torch.from_numpy(RNG.normal(size=(K, D)))
ROOT = RNG.normal(size=(K, D, D))
FULL = torch.from_numpy(ROOT @ ROOT.transpose(0, 2, 1) + 0.3 * np.eye(D))
DIAG = FULL.diagonal(dim1=1, dim2=2).clone()
F = torch.tensor([3.0, 11.0], dtype=torch.float64)
GAPS = [[], [1], [0, 2], [0, 1, 2]]


def rows_with(gap: list[int], n: int = 20) -> Tensor:
    y = torch.from_numpy(3 * RNG.normal(size=(n, D)))
    y[:, gap] = np.nan
    return y


@pytest.mark.parametrize("gap", GAPS, ids=str)
def test_a_t_in_d_dimensions_is_scipys_also_where_entries_are_missing(gap: list[int]) -> None:
    """The marginal of a t is the t of the remaining coordinates."""
    y = rows_with(gap)
    got = log_students(y, MEANS, FULL, F)
    o = [j for j in range(D) if j not in gap]
    for k in range(K):
        if not o:
            want = np.zeros(len(y))
        else:
            mean, shape = MEANS[k, o].numpy(), FULL[k][np.ix_(o, o)].numpy()
            want = stats.multivariate_t(mean, shape, float(F[k])).logpdf(y[:, o].numpy())
        np.testing.assert_allclose(got[k], want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gap", GAPS, ids=str)
@pytest.mark.parametrize("f", [F, None], ids=["t", "normal"])
def test_a_product_of_ts_is_scipys_and_without_degrees_the_normal(
    f: Tensor | None, gap: list[int]
) -> None:
    y = rows_with(gap)
    got = log_students(y, MEANS, DIAG, f)
    o = [j for j in range(D) if j not in gap]
    for k in range(K):
        mean, scale = MEANS[k].numpy(), DIAG[k].sqrt().numpy()
        each = stats.norm(mean, scale) if f is None else stats.t(float(f[k]), mean, scale)
        np.testing.assert_allclose(got[k], each.logpdf(y.numpy())[:, o].sum(1), rtol=1e-9)


@pytest.mark.parametrize("shapes", [FULL, DIAG], ids=["full", "diag"])
def test_draws_of_one_component_have_its_distribution(shapes: Tensor) -> None:
    n = 4000
    only = torch.tensor([0.0, -torch.inf], dtype=torch.float64)
    blank = torch.full((n, D), torch.nan, dtype=torch.float64)
    drawn = draw_students(blank, only, MEANS, shapes, F, generator(1)).numpy()
    for j in range(D):
        scale = float((FULL[0, j, j]).sqrt())
        alone = stats.t(float(F[0]), float(MEANS[0, j]), scale)
        assert stats.kstest(drawn[:, j], alone.cdf).pvalue > 1e-3


def test_entries_are_drawn_given_the_others() -> None:
    """x_m | x_o is a t with f + d_o degrees, its shape grown by (f + q)/(f + d_o).

    It is at the conditional mean.
    """
    n, m, o = 4000, 0, [1, 2]
    only = torch.tensor([0.0, -torch.inf], dtype=torch.float64)
    y = torch.tensor([[torch.nan, 2.0, -1.0]], dtype=torch.float64).repeat(n, 1)
    drawn = draw_students(y, only, MEANS, FULL, F, generator(2)).numpy()
    assert (drawn[:, o] == [2.0, -1.0]).all()
    S, r, f = FULL[0].numpy(), np.array([2.0, -1.0]) - MEANS[0, o].numpy(), float(F[0])
    solved = np.linalg.solve(S[np.ix_(o, o)], np.stack([r, S[o, m]], 1))
    mean = float(MEANS[0, m]) + S[m, o] @ solved[:, 0]
    shape = (S[m, m] - S[m, o] @ solved[:, 1]) * (f + r @ solved[:, 0]) / (f + 2)
    law = stats.t(f + 2, mean, np.sqrt(shape))
    assert stats.kstest(drawn[:, m], law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("shapes", [FULL, DIAG], ids=["full", "diag"])
def test_components_are_drawn_given_what_is_observed(shapes: Tensor) -> None:
    n = 8000
    log_w = torch.log(torch.tensor([0.3, 0.7], dtype=torch.float64))
    means = MEANS.clone()
    means[1, 0] += 50  # the drawn entry tells which one it was
    y = torch.tensor([[torch.nan, 0.5, 0.5]], dtype=torch.float64)
    log_joint = log_w + log_students(y, means, shapes, F)[:, 0]
    drawn = draw_students(y.repeat(n, 1), log_w, means, shapes, F, generator(3))
    share = float((drawn[:, 0] > means[0, 0] + 25).double().mean())
    assert share == pytest.approx(float(log_joint.softmax(0)[1]), abs=4 * 0.5 / np.sqrt(n) + 0.01)
