"""The product of the columns' own distributions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from genus import Independent, Space


def test_the_sum_over_columns_and_every_level() -> None:
    X = np.array([[0, 2], [0, 1], [1, 2], [0, 2]] * 10)
    m = Independent().fit(X, space=Space((2,), "ordinal", levels=3))
    every = np.array([[a, b] for a in range(3) for b in range(3)])
    p = m.log_prob(every)
    assert np.exp(p.nats).sum() == pytest.approx(1, abs=1e-9)
    assert p.kind == "exact" and p.measure == "probability"
    first = np.exp(m.score_samples(every)).reshape(3, 3).sum(1)
    np.testing.assert_allclose(first, [0.75, 0.25, 0.0], atol=0.02)


def test_a_missing_cell_is_left_out_of_counts_and_of_scores() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(300, 2))
    holes = X.copy()
    holes[:100, 0] = np.nan
    m, part = Independent().fit(holes), Independent().fit(X[:, 1:])
    np.testing.assert_allclose(
        m.score_samples([[np.nan, 0.3]]), part.score_samples([[0.3]]), rtol=1e-12
    )
    assert m.score_samples([[np.nan, np.nan]])[0] == 0
    assert m.log_prob([[np.nan, 0.3]]).dims[0] == 1
    seen = Independent().fit(X[100:, :1]).score_samples([[0.2]])
    np.testing.assert_allclose(m.score_samples([[0.2, np.nan]]), seen, rtol=1e-12)


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
    # a mixed density: Σ_b ∫ p(a, b) da = 1, less the share of words that may come
    grid = np.linspace(1e-4, 60, 200_001)
    total = sum(
        np.trapezoid(np.exp(m.score_samples(pd.DataFrame({"a": grid, "b": v}))), grid)
        for v in "xyz"
    )
    assert total == pytest.approx(1, abs=3e-3)


def test_what_it_learns_is_counted() -> None:
    words = pd.DataFrame({"w": list("aabbc"), "b": [True, False, True, True, False]})
    assert Independent().fit(words).n_parameters() == 2 + 1
