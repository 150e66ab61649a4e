"""Two-sample measures: known answers on both sides, and the right size under the null."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import linalg

from genus import Space
from genus.evaluate import (
    Embedding,
    Features,
    SampleTest,
    classifier_test,
    frechet,
    frechet_gaussians,
    memorisation,
    mmd,
)


def normal(n, d=4, seed=0, shift=0.0):
    return (np.random.RandomState(seed).randn(n, d) + shift).astype(np.float32)


# ---------------------------------------------------------------- features


def test_features_of_a_table_are_one_hot_and_standardised():
    table = pd.DataFrame(
        {"colour": ["red", "green", "blue", "red"], "size": [10.5, 30.5, np.nan, 20.5]}
    )
    space = Space.of(table)
    x = space.encode(table)
    f = Features(space, x)(x)
    assert f.shape == (4, 4)
    one_hot = f[:, :3] - f[:, :3].min(axis=0)
    np.testing.assert_allclose(
        one_hot, pd.get_dummies(table.colour)[["blue", "green", "red"]].to_numpy(), atol=1e-6
    )
    np.testing.assert_allclose(
        f[[0, 1, 3], 3], (np.array([10, 30, 20]) - 20) / np.std([10, 30, 20]), rtol=1e-5
    )
    assert f[2, 3] == 0  # a missing cell is the mean


def test_pixels_share_a_scale_and_columns_do_not():
    x = np.zeros((100, 3), dtype=np.uint8)
    x[:50, 0], x[0, 1] = 255, 1  # a bright pixel, one that is almost always off, one always off
    space = Space.of(x)
    f = Features(space, space.encode(x))(space.encode(x))
    assert np.ptp(f[:, 0]) == pytest.approx(255 * np.ptp(f[:, 1]), rel=1e-4)
    space = Space.of(x.astype(float))
    f = Features(space, space.encode(x.astype(float)))(space.encode(x.astype(float)))
    assert f[:, 0].std() == pytest.approx(1, rel=1e-4)
    assert f[:, 1].std() == pytest.approx(1, rel=1e-4)
    assert (f[:, 2] == 0).all()


# ---------------------------------------------------------------- classifier two-sample test


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


# ---------------------------------------------------------------- MMD


def plain_mmd(x, y, width2):
    def k(a, b):
        d2 = ((a[:, None] - b[None]) ** 2).sum(2)
        return sum(np.exp(-d2 / (2 * s * width2)) for s in (0.25, 1, 4)) / 3

    m = len(x)
    within = [(k(a, a).sum() - np.trace(k(a, a))) / (m * (m - 1)) for a in (x, y)]
    return sum(within) - 2 * k(x, y).mean()


def test_mmd_is_its_definition():
    x, y = normal(30).astype(np.float64), normal(30, seed=1, shift=0.5).astype(np.float64)
    found = mmd(x, y, permutations=50)
    assert found.mmd2 == pytest.approx(plain_mmd(x, y, found.bandwidth**2), abs=1e-12)


def test_mmd_is_unbiased_and_its_p_values_are_uniform_under_the_null():
    found = [
        mmd(normal(50, seed=2 * i), normal(50, seed=2 * i + 1), permutations=99) for i in range(200)
    ]
    values = np.array([f.mmd2 for f in found])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(200)
    assert (values < 0).any()
    p = np.array([f.p_value for f in found])
    assert 0.35 < (p <= 0.5).mean() < 0.65
    assert (p <= 0.05).mean() < 0.12


def test_mmd_of_far_distributions():
    found = mmd(normal(50), normal(50, seed=1, shift=3.0), permutations=199)
    assert found.mmd2 > 0.1 and found.p_value == 1 / 200


# ---------------------------------------------------------------- Fréchet


def test_frechet_of_gaussians_is_the_closed_form():
    rng = np.random.RandomState(0)
    A, B = rng.randn(5, 5), rng.randn(5, 5)
    S, T, m = A @ A.T, B @ B.T, rng.randn(5)
    root = linalg.sqrtm(S @ T).real
    assert frechet_gaussians(m, S, np.zeros(5), T) == pytest.approx(
        m @ m + np.trace(S + T - 2 * root), rel=1e-8
    )
    assert frechet_gaussians(1.0, 4.0, 3.0, 9.0) == pytest.approx(4 + 1)  # (μ−μ′)² + (σ−σ′)²
    assert frechet_gaussians(m, S, m, S) == pytest.approx(0, abs=1e-7)


def test_frechet_of_samples_converges_to_it():
    a, b = normal(40000, d=3).astype(float), 2 * normal(40000, d=3, seed=1).astype(float) + 1
    assert frechet(a, b) == pytest.approx(3 + 3, rel=0.03)


def test_embeddings_are_named_and_have_unit_variance():
    x = np.concatenate([normal(150, d=6), normal(150, d=6, seed=1, shift=4.0)])
    y = np.repeat(["cat", "dog"], 150)
    for labels, name in ((None, "pca-6"), (y, "classifier-16"), (np.linspace(0, 1, 300), "pca-6")):
        e = Embedding(x, labels)
        assert e.name == name
        assert e(x).var(axis=0).sum() == pytest.approx(1)
    by_class = Embedding(x, y)(x)
    gap = np.linalg.norm(by_class[:150].mean(0) - by_class[150:].mean(0))
    assert gap > 1  # classes stand apart


# ---------------------------------------------------------------- memorisation


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


# ---------------------------------------------------------------- all four


@pytest.fixture(scope="module")
def judge():
    rng = np.random.RandomState(0)
    x = rng.randn(400, 3) * [1, 10, 100]
    return x, SampleTest(Space.of(x), x[:300], x[300:], rows=80)


def test_sample_test_uses_equal_counts_and_repeats(judge):
    x, test = judge
    good = np.random.RandomState(1).randn(80, 3) * [1, 10, 100]
    a, b = test(good), test(good)
    assert a == b
    assert a.n == a.frechet.n == a.memorisation.n == 80 and a.classifier.n == a.mmd.n == 160
    assert a.frechet.name == "Fréchet (pca-3)"
    assert a.frechet.distance < 6 * a.frechet.floor
    bad = test(good * [1, 1, 3])
    assert (
        bad.frechet.distance > 2 * a.frechet.distance
        and bad.classifier.accuracy > a.classifier.accuracy
        and bad.mmd.p_value < 0.05
    )
    assert test(x[:80]).memorisation.word == "copies training rows"


def test_too_few_or_broken_samples_are_refused(judge):
    x, test = judge
    with pytest.raises(ValueError, match="fewer than the 80"):
        test(x[:20])
    broken = x[:80].copy()
    broken[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        test(broken)
    with pytest.raises(ValueError, match="too few"):
        SampleTest(Space.of(x), x[:30], x[:5])


def test_holes_of_real_rows_do_not_give_samples_away():
    def draw(n, seed):
        return np.random.RandomState(seed).randn(n, 4) + 3

    x = draw(600, 0)
    x[np.random.RandomState(1).rand(600, 4) < 0.4] = np.nan
    test = SampleTest(Space.of(x), x[:400], x[400:])
    found = test(draw(200, 2))
    assert found.classifier.p_value > 0.01 and found.mmd.p_value > 0.01


def test_every_sort_of_space_is_measured():
    rng = np.random.RandomState(0)
    table = pd.DataFrame(
        {"a": rng.choice(["x", "y"], 120), "b": rng.randn(120), "c": rng.rand(120) < 0.5}
    )
    images = rng.randint(0, 17, (120, 4, 4)).astype(np.uint8)
    tensor = torch.from_numpy(rng.randint(0, 2, (120, 6)))
    for X in (table, images, tensor):
        part = [
            X.iloc[i] if hasattr(X, "iloc") else X[i]
            for i in (slice(0, 60), slice(60, 90), slice(90, 120))
        ]
        quality = SampleTest(Space.of(X), part[0], part[1])(part[2])
        assert (
            quality.n == 30
            and np.isfinite(quality.frechet.distance)
            and quality.classifier.accuracy < 0.8
        )
