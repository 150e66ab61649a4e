"""The four measures together: equal counts, refusals, missing cells, every sort of space."""

import numpy as np
import pandas as pd
import pytest
import torch

from genus import Space
from genus.evaluate import SampleTest


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


def test_a_network_judges_where_there_are_draws_to_learn_from(judge):
    _, test = judge
    r = np.random.RandomState(2)
    good = r.randn(380, 3) * [1, 10, 100]
    bad = good.copy()
    bad[:, 1] = 5 * bad[:, 0] + 8 * r.randn(380)
    assert test(good[:80]).network is None
    fair, found = test(good), test(bad)
    assert fair.network.p_value > 0.01 and found.network.accuracy > fair.network.accuracy + 0.1
    assert found.classifier == test(bad[:80]).classifier, "the first are judged as ever"
    assert found.network.n == 160


def test_real_rows_have_a_spread_and_an_overlap(judge):
    _, test = judge
    good = test(np.random.RandomState(1).randn(80, 3) * [1, 10, 100])
    low, high = good.frechet.spread
    assert 0 <= low < high and good.frechet.distance < 3 * high
    few = test(np.repeat(np.random.RandomState(1).randn(4, 3) * [1, 10, 100], 20, 0))
    assert few.overlap.coverage < 0.3 < 0.8 < good.overlap.coverage
    assert good.overlap.n == 80


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


def test_a_sorted_file_is_judged_as_a_shuffled_one():
    """Five clusters one after another, as many as folds: a fold must not be a cluster."""
    rng = np.random.RandomState(0)
    clusters = np.arange(1200) // 240 / 5 + 0.02 * rng.random(1200)
    fake = rng.random((300, 1))  # everywhere
    train, held = np.delete(clusters, np.s_[::4])[:, None], clusters[::4, None]
    in_order = SampleTest(Space((1,)), train, held)(fake).classifier.accuracy
    shuffled = SampleTest(Space((1,)), train, rng.permutation(held))(fake).classifier.accuracy
    assert abs(in_order - shuffled) < 0.05 and in_order > 0.8
