"""Copies of training rows are told from fresh draws, and from smooth ones."""

import numpy as np
import pytest

from genus.evaluate import memorisation


def normal(n, d=4, seed=0, shift=0.0):
    return (np.random.RandomState(seed).randn(n, d) + shift).astype(np.float32)


def test_memorisation_flags_copies_and_not_fresh_draws():
    train, held, fresh = normal(400, 8), normal(100, 8, seed=1), normal(100, 8, seed=2)
    assert memorisation(train, held, fresh).word == "no copying"
    copies = train[np.random.RandomState(3).permutation(400)[:100]]
    found = memorisation(train, held, copies)
    assert found.word == "copies training rows"
    assert (
        found.share == pytest.approx(1)
        and found.excess == pytest.approx(1)
        and found.distance_ratio == 0
    )
    noisy = copies + 0.05 * normal(100, 8, seed=4)
    assert memorisation(train, held, noisy).word == "copies training rows"
    some = np.concatenate([copies[:40], fresh[:60]])
    assert memorisation(train, held, some).word != "no copying"


def test_smooth_samples_are_no_copies():
    train, held = normal(400, 8), normal(100, 8, seed=1)
    smooth = 0.2 * normal(100, 8, seed=2)  # much nearer to training rows than held-out rows are
    found = memorisation(train, held, smooth)
    assert found.distance_ratio < 0.9 and found.word == "no copying"


def test_memorisation_is_honest_under_the_null_and_where_rows_repeat():
    p = np.array(
        [
            memorisation(
                normal(120, 3, 3 * i), normal(60, 3, 3 * i + 1), normal(60, 3, 3 * i + 2)
            ).p_value
            for i in range(200)
        ]
    )
    assert 0.35 < (p < 0.5).mean() < 0.65
    assert (p < 0.05).mean() < 0.12
    bits = [np.random.RandomState(s).randint(0, 2, (100, 3)).astype(np.float32) for s in range(3)]
    assert memorisation(*bits).word == "no copying"
    # 8 possible rows: nothing to copy
    assert memorisation(bits[0], bits[1], bits[0]).word == "no copying"
