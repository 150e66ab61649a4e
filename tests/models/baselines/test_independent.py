"""The independent histogram against counts made by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from genus import Independent, Space


def test_discrete_probabilities_are_the_counts() -> None:
    X = np.array([[0, 2], [0, 1], [1, 2], [0, 2]])
    m = Independent(pseudo_count=0.5).fit(X, space=Space((2,), "ordinal", levels=3))
    first, second = np.array([3.5, 1.5, 0.5]) / 5.5, np.array([0.5, 1.5, 3.5]) / 5.5
    every = np.array(list(itertools.product(range(3), range(3))))
    lp = m.log_prob(every)
    np.testing.assert_allclose(np.exp(lp.nats), np.outer(first, second).ravel(), rtol=1e-12)
    assert np.exp(lp.nats).sum() == pytest.approx(1, abs=1e-12)
    assert lp.kind == "exact" and lp.measure == "probability"
    assert m.n_parameters() == 4


def test_pseudo_count_acts() -> None:
    X = np.array([[0], [0], [0], [1]], dtype=np.uint8)
    rare = [
        np.exp(Independent(pseudo_count=a).fit(X).score_samples([[1]]))[0]
        for a in (1e-6, 1.0, 1e6)
    ]
    np.testing.assert_allclose(rare, [0.25, 2 / 6, 0.5], atol=1e-5)
    with pytest.raises(ValueError, match="pseudo_count"):
        Independent(pseudo_count=0).fit(X)


def test_continuous_density_by_hand_and_its_integral() -> None:
    x = np.random.default_rng(0).gamma(2.0, size=400)
    m = Independent(bins=8).fit(x[:, None])
    counts, edges = np.histogram(x, bins=8)
    width, tail = edges[1] - edges[0], 1 / 401
    grid = np.linspace(-20, 30, 200_001)
    inside = np.zeros_like(grid)
    ok = (grid >= edges[0]) & (grid <= edges[-1])
    inside[ok] = ((counts + 1) / 408 / width)[
        np.clip(((grid[ok] - edges[0]) / width).astype(int), 0, 7)
    ]
    expected = (1 - tail) * inside + tail * stats.norm.pdf(grid, x.mean(), x.std())
    got = np.exp(m.score_samples(grid[:, None]))
    edge = np.min(np.abs(grid[:, None] - edges), 1) < 1e-6
    np.testing.assert_allclose(got[~edge], expected[~edge], rtol=1e-6)
    assert np.trapezoid(got, grid) == pytest.approx(1, abs=1e-3)
    # the tails are a Gaussian, never 0
    outside = m.score_samples([[x.max() + 3.0], [x.min() - 3.0]])
    np.testing.assert_allclose(
        outside,
        math.log(tail) + stats.norm.logpdf([x.max() + 3, x.min() - 3], x.mean(), x.std()),
        rtol=1e-6,
    )


def test_bins_are_the_cube_root_of_the_rows() -> None:
    x = np.random.default_rng(1).normal(size=(1000, 1))
    assert Independent().fit(x).n_parameters() == 10 + 3
    assert Independent().fit(x[:20]).n_parameters() == 5 + 3
    assert Independent(bins=40).fit(x).n_parameters() == 40 + 3


def test_a_missing_cell_is_left_out_of_counts_and_of_scores() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(300, 2))
    holes = X.copy()
    holes[:100, 0] = np.nan
    m, part = Independent(bins=6).fit(holes), Independent(bins=6).fit(X[:, 1:])
    np.testing.assert_allclose(
        m.score_samples([[np.nan, 0.3]]), part.score_samples([[0.3]]), rtol=1e-12
    )
    assert m.score_samples([[np.nan, np.nan]])[0] == 0
    assert m.log_prob([[np.nan, 0.3]]).dims[0] == 1
    # tail weight apart, the column with holes is the histogram of what was seen
    seen = Independent(bins=6).fit(X[100:, :1]).score_samples([[0.2]])
    np.testing.assert_allclose(m.score_samples([[0.2, np.nan]]), seen, atol=0.01)


def test_a_column_of_nothing_but_holes_says_so() -> None:
    X = np.array([[1.0, np.nan], [2.0, np.nan], [0.5, np.nan]])
    with pytest.raises(ValueError, match="column 1"):
        Independent().fit(X)


def test_draws_have_the_frequencies() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"a": rng.exponential(size=2000), "b": rng.choice(list("xyz"), 2000, p=[0.6, 0.3, 0.1])}
    )
    m = Independent(random_state=0).fit(frame)
    draws = m.sample(20_000)
    np.testing.assert_allclose(
        draws["b"].value_counts(normalize=True).loc[list("xyz")],
        frame["b"].value_counts(normalize=True).loc[list("xyz")],
        atol=0.02,
    )
    assert stats.ks_2samp(draws["a"], frame["a"]).statistic < 0.05
    assert m.log_prob(frame).measure == "mixed"
    done = m.complete(frame.assign(a=np.nan).head(2000))
    assert (
        done["b"].equals(frame["b"].head(2000))
        and stats.ks_2samp(done["a"], frame["a"]).statistic < 0.07
    )
    # a mixed density: Σ_b ∫ p(a, b) da = 1
    grid = np.linspace(-10, 25, 20_001)
    total = sum(
        np.trapezoid(np.exp(m.score_samples(pd.DataFrame({"a": grid, "b": v}))), grid)
        for v in "xyz"
    )
    assert total == pytest.approx(1, abs=2e-3)


def test_bins_that_are_none_and_levels_too_many_to_count() -> None:
    with pytest.raises(ValueError, match="bins=0"):
        Independent(bins=0).fit(np.arange(10).reshape(-1, 1) / 3.0)
    with pytest.raises(ValueError, match="when has 10000001 levels"):
        Independent().fit(
            pd.DataFrame({f"c{i}": np.arange(30) for i in range(9)} | {"when": np.r_[0:29, 10**7]})
        )
