"""The classifier two-sample test: known answers, and the right size under the null."""

import numpy as np

from genus.evaluate import classifier_test


def normal(n, d=4, seed=0, shift=0.0):
    return (np.random.RandomState(seed).randn(n, d) + shift).astype(np.float32)


def test_classifier_is_at_chance_on_one_distribution_with_honest_p_values():
    tests = [
        classifier_test(normal(60, seed=2 * i), normal(60, seed=2 * i + 1), folds=3)
        for i in range(16)
    ]
    assert 0.42 < np.mean([t.accuracy for t in tests]) < 0.53
    p = np.array([t.p_value for t in tests])
    assert (p < 0.05).mean() <= 0.13
    assert 0.2 < (p > 0.5).mean() <= 1  # not all small


def test_classifier_tells_far_distributions_apart():
    t = classifier_test(normal(60), normal(60, seed=1, shift=20.0))
    assert t.accuracy == 1.0 and t.p_value < 1e-30 and t.stderr > 0


def test_classifier_sees_a_dependence_that_marginals_hide():
    a = normal(300, d=2)
    b = normal(300, d=2, seed=1)
    b[:, 1] = np.abs(b[:, 1]) * np.sign(b[:, 0])  # the same marginals
    assert classifier_test(a, b).accuracy > 0.65


def test_its_error_holds_that_folds_share_training_rows():
    t = classifier_test(normal(100), normal(100, seed=1, shift=0.3), folds=4)
    alone = np.sqrt(t.accuracy * (1 - t.accuracy) / 200)
    assert np.isclose(t.stderr, alone * np.sqrt(4 / 3))
