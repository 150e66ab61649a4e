"""Completion scores: perfect, marginal and in between."""

import math
import time

import numpy as np
import pandas as pd
import pytest

from genus import Independent, Space
from genus.evaluate import completion_score, hide


class Oracle:
    """Completes with the truth (plus what ``wrong`` says)."""

    def __init__(self, X, wrong=0.0):
        self.X, self.wrong, self.space_ = X, wrong, Space.of(X)

    def complete(self, X, n, *, mask, random_state):
        assert random_state is not None and mask.shape == X.shape
        return np.stack([np.where(mask, self.X + self.wrong, X)] * n)


def test_masks_hide_a_share_or_the_lower_half():
    random = hide(Space((20,)), 500, 0.25, random_state=1)
    assert random.mean() == pytest.approx(0.25, abs=0.02)
    assert (random == hide(Space((20,)), 500, 0.25, random_state=1)).all()
    assert (random != hide(Space((20,)), 500, 0.25, random_state=2)).any()
    for shape, layout, axis in (((4, 6), "HW", 0), ((3, 4, 6), "CHW", 1), ((4, 6, 3), "HWC", 0)):
        mask = np.moveaxis(hide(Space(shape, "ordinal", 9, layout=layout), 2, "lower")[0], axis, 0)
        assert not mask[:2].any() and mask[2:].all()
    with pytest.raises(ValueError, match="image"):
        hide(Space((20,)), 5, "lower")
    for bad in (0.0, 1.0, "upper"):
        with pytest.raises(ValueError, match="share"):
            hide(Space((4, 6), layout="HW"), 5, bad)


def test_truth_scores_zero_and_an_offset_scores_itself():
    x = np.random.RandomState(0).randn(50, 4)
    assert completion_score(Oracle(x), x).rmse < 1e-12
    off = completion_score(Oracle(x, 0.5), x)
    assert off.rmse == pytest.approx(0.5)
    assert off.baseline_rmse == pytest.approx(1, abs=0.25)
    assert math.isnan(off.accuracy) and off.cells == pytest.approx(60, abs=25)


def test_the_baseline_is_the_mean_and_the_mode_of_train():
    train = np.array([[0.0, 1.0], [4.0, 1.0]])
    x = np.array([[5.0, 2.0]])
    found = completion_score(Oracle(x), x, hidden=np.array([[True, False]]), train=train)
    assert found.baseline_rmse == pytest.approx(3) and found.cells == 1
    bits = np.array([[0, 1], [0, 1], [1, 1]])
    y = np.array([[1, 1], [0, 0]])
    found = completion_score(Oracle(y), y, hidden=np.ones((2, 2), bool), train=bits)
    assert found.accuracy == 1 and found.baseline_accuracy == 0.5 and math.isnan(found.rmse)


def test_a_model_of_independent_columns_does_no_better_than_marginals():
    rng = np.random.RandomState(0)
    a = rng.choice(["x", "y", "z"], 400, p=[0.6, 0.3, 0.1])
    table = pd.DataFrame({"a": a, "b": rng.randn(400) * 50, "c": rng.randint(0, 100, 400)})
    model = Independent(random_state=0).fit(table[:300])
    found = completion_score(model, table[300:], train=table[:300], draws=30)
    assert found.accuracy == pytest.approx(found.baseline_accuracy, abs=0.12)
    assert found.rmse == pytest.approx(found.baseline_rmse, rel=0.12)
    assert 0.7 < found.baseline_rmse < 1.3  # in standard deviations
    assert found == completion_score(model, table[300:], train=table[:300], draws=30)


def test_cells_missing_already_are_not_scored():
    x = np.random.RandomState(0).randn(20, 2)
    holed = x.copy()
    holed[:, 1] = np.nan
    holed[0, 1] = 1.0
    assert completion_score(Oracle(x), holed, hidden=np.ones((20, 2), bool), train=x).cells == 21
    with pytest.raises(ValueError, match="nothing to score"):
        completion_score(Oracle(x), x, hidden=np.zeros((20, 2), bool))
    with pytest.raises(ValueError, match="shape"):
        completion_score(Oracle(x), x, hidden=np.zeros((3, 2), bool))


def test_intervals_of_enough_draws_cover_nine_tenths():
    x = np.random.RandomState(0).randn(400, 3)
    model = Independent(random_state=0).fit(x)
    found = completion_score(model, x, draws=39)
    assert found.coverage == pytest.approx(0.9, abs=0.05) and "90 % intervals cover" in str(found)
    assert math.isnan(completion_score(model, x, draws=18).coverage)
    bits = (x > 0).astype(int)
    few = Independent(random_state=0).fit(bits)
    assert math.isnan(completion_score(few, bits, draws=39).coverage)


def test_what_would_take_too_long_is_refused_after_a_few_rows():
    x = np.random.RandomState(0).randn(400, 3)
    seen = []

    class Slow(Oracle):
        def complete(self, X, n, *, mask, random_state):
            seen.append(len(X))
            time.sleep(0.01 * len(X))
            return np.stack([X] * n)

    with pytest.raises(TimeoutError, match=r"10 rows took \d s, and 400 would take about \d"):
        completion_score(Slow(x), x, seconds=1.0)
    assert seen == [10]
    seen.clear()
    completion_score(Slow(x[:60]), x[:60], seconds=30.0)
    assert seen == [10, 40, 10]


def test_conditions_are_handed_on():
    x, given = np.random.RandomState(0).randn(60, 2), np.arange(60)
    seen = []

    class Told(Oracle):
        def complete(self, X, n, *, mask, random_state, given):
            seen.extend(given)
            return np.stack([X] * n)

    completion_score(Told(x), x, given=given, seconds=30.0)
    assert seen == list(range(60))
