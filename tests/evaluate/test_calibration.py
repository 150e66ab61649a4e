"""Calibration, against hand counts and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

import genus
from genus.evaluate import calibration
from genus.evaluate.calibration import reliability


def test_by_hand():
    proba = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]])
    told = reliability(proba, np.array([0, 1, 1, 1]), bins=2)
    # all four are in (0.5, 1]: three are right, at a mean confidence of 0.75
    assert told.table[["low", "high", "n"]].to_numpy().tolist() == [[0.5, 1.0, 4]]
    assert told.accuracy == 0.75 and told.ece == pytest.approx(0.0)
    told = reliability(proba, np.array([0, 1, 1, 1]), bins=4)
    # (0.5, 0.75]: 0.7 wrong, 0.6 right; (0.75, 1]: 0.9 and 0.8, both right
    assert told.ece == pytest.approx(0.5 * 0.15 + 0.5 * 0.15)
    assert told.brier == pytest.approx(2 * (0.1**2 + 0.7**2 + 0.2**2 + 0.4**2) / 4)
    assert told.nll == pytest.approx(-np.log([0.9, 0.3, 0.8, 0.6]).mean())
    assert told.bins == "4 bins of equal width"


def test_a_bin_holds_its_upper_end():
    told = reliability(np.array([[0.5, 0.5], [0.75, 0.25]]), np.array([0, 0]), bins=4)
    assert told.table.high.tolist() == [0.5, 0.75]


def test_the_error_of_a_calibrated_classifier_vanishes_and_of_a_sure_one_does_not():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    proba, y = np.stack([1 - p, p], 1), (rng.random(20_000) < p).astype(int)
    assert reliability(proba, y).ece < 0.012
    sure = proba**4 / (proba**4).sum(1, keepdims=True)
    assert reliability(sure, y).ece > 0.1


def test_bins_of_equal_count():
    p = np.random.default_rng(0).random(1000)
    told = reliability(np.stack([1 - p, p], 1), np.zeros(1000, int), bins=10, of="equal count")
    assert told.table.n.tolist() == [100] * 10


def test_labels_are_found_among_the_classes_of_any_classifier():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = np.where(X[:, 0] + rng.normal(size=300) > 0, "yes", "no")
    theirs = LogisticRegression().fit(X, y)
    told = calibration(theirs, X, y)
    assert told.accuracy == theirs.score(X, y)
    assert told.nll == pytest.approx(log_loss(y, theirs.predict_proba(X)))
    table = pd.DataFrame({"a": X[:, 0] > 0, "b": X[:, 1] > 0, "y": y})
    net = genus.BayesNet("naive", target="y").fit(table)
    assert calibration(net, table, y).accuracy == (net.predict(table) == y).mean()
    with pytest.raises(ValueError, match="'maybe'.*not seen"):
        calibration(theirs, X, np.repeat("maybe", 300))
    with pytest.raises(ValueError, match="299 labels"):
        calibration(theirs, X, y[1:])
