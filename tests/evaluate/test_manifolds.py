"""Precision, recall, density and coverage where the answer is known."""

import numpy as np
import pytest

from genus.evaluate import overlap


def clouds(*centres, n=300, seed=0):
    r = np.random.default_rng(seed)
    at = np.array(centres)[np.arange(n) % len(centres)]
    return np.stack([at, np.zeros(n)], 1) + 0.1 * r.normal(size=(n, 2))


def test_one_distribution():
    found = overlap(clouds(0, 5), clouds(0, 5, seed=1))
    assert min(found.precision, found.recall) > 0.9
    assert found.density == pytest.approx(1, abs=0.15)
    assert found.coverage == pytest.approx(1 - 0.5**5, abs=0.04)
    assert found.k == 5 and found.n == 300


def test_a_sort_of_rows_that_is_never_drawn():
    found = overlap(clouds(0, 5), clouds(0, seed=1))
    assert found.precision > 0.9 and found.recall < 0.6 and found.coverage < 0.6


def test_draws_of_which_half_are_no_rows():
    found = overlap(clouds(0), clouds(0, 5, seed=1))
    assert found.precision < 0.6 and found.recall > 0.9 and found.coverage > 0.85


def test_a_stray_sample_has_a_large_ball_and_counts_for_recall_alone():
    fake = clouds(0, seed=1)
    fake[:6] = [100, 0]
    fake[0] = [-100, 0]  # its ball reaches to the others
    found = overlap(clouds(0, 5), fake)
    assert found.recall > 0.95 and found.coverage < 0.6


def test_it_refuses_what_it_cannot_count():
    x = clouds(0)
    with pytest.raises(ValueError, match="as many of each"):
        overlap(x, x[:20])
    with pytest.raises(ValueError, match="k=300: a whole number from 1 to 299"):
        overlap(x, x, k=300)
