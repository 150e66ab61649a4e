"""Scores of rows that do not belong, against closed forms."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

import genus
from genus import CapabilityError
from genus.evaluate import belonging, detection, outlier_auroc
from genus.evaluate.detection import compressed_bits, told_apart


def test_areas_of_two_normals():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.5, 1, 20_000), rng.normal(0, 1, 20_000)
    told = told_apart(a, b, n_bootstrap=2)
    assert told.auroc == pytest.approx(stats.norm.cdf(1.5 / np.sqrt(2)), abs=0.01)
    # 95 % of the inside scores are above 1.5 − 1.645
    assert told.fpr95 == pytest.approx(stats.norm.sf(1.5 - 1.645), abs=0.01)
    t = np.linspace(-6, 8, 4000)
    recall, false = stats.norm.cdf(t), stats.norm.cdf(t - 1.5)
    area = np.trapezoid(recall / (recall + false), recall)
    assert told.aupr == pytest.approx(area, abs=0.01)


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    a, b = rng.integers(2, 9, 60), rng.integers(0, 7, 40)
    told = told_apart(a, b, n_bootstrap=2)
    strange, scores = np.repeat([0, 1], [60, 40]), -np.concatenate([a, b])
    assert told.auroc == pytest.approx(roc_auc_score(strange, scores))
    assert told.aupr == pytest.approx(average_precision_score(strange, scores))


def test_the_interval_is_as_wide_as_the_error():
    rng = np.random.default_rng(0)
    told = told_apart(rng.normal(1, 1, 100), rng.normal(size=100), n_bootstrap=400)
    low, high = told.intervals["auroc"]
    assert low < told.auroc < high

    class Rows:
        def log_prob(self, X):
            return genus.Exact(np.asarray(X))

    rng = np.random.default_rng(0)
    error = outlier_auroc(Rows(), rng.normal(1, 1, 100), rng.normal(size=100)).stderr
    assert (high - low) / 2 / 1.96 == pytest.approx(error, rel=0.25)


def test_equal_scores_tell_nothing_and_minus_infinity_is_the_strangest():
    told = told_apart(np.zeros(20), np.zeros(20), n_bootstrap=2)
    assert told.auroc == 0.5 and told.fpr95 == 1.0 and told.aupr == 0.5
    assert told_apart(np.zeros(20), np.full(20, -np.inf), n_bootstrap=2).auroc == 1.0
    with pytest.raises(ValueError, match="row 1 of outside is NaN"):
        told_apart(np.zeros(3), np.array([0.0, np.nan]))


@pytest.fixture(scope="module")
def gaussian():
    X = np.random.default_rng(0).normal(size=(500, 3)) @ np.diag([1.0, 2.0, 3.0])
    return genus.Gaussian().fit(X), X


def test_approximate_mass_is_the_slope_of_log_prob(gaussian):
    model, X = gaussian
    h = 1e-4 * np.eye(3)
    fall = [(model.score_samples(X + e) - model.score_samples(X - e)) / 2e-4 for e in h]
    slope = np.linalg.norm(fall, axis=0)
    np.testing.assert_allclose(-belonging(model, X, "approximate_mass"), slope, rtol=1e-3)


def test_typicality_finds_rows_that_are_too_likely(gaussian):
    model, X = gaussian
    middle = np.repeat(X.mean(0)[None], 50, 0)
    assert detection(model, X[:250], middle, n_bootstrap=2).auroc < 0.05
    told = detection(model, X[:250], middle, score="typicality", typical=X[250:], n_bootstrap=2)
    assert told.auroc > 0.6
    with pytest.raises(ValueError, match="typical="):
        detection(model, X, X, score="typicality")


def test_complexity_needs_no_model_and_corrects_one():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 16, (60, 8, 8)).astype(np.uint8)
    flat = np.full((20, 8, 8), 7, np.uint8)
    model = genus.Independent().fit(X, space=genus.Space.of(X, "ordinal"))
    assert (compressed_bits(model.space_, X).min() > compressed_bits(model.space_, flat)).all()
    assert detection(model, X, flat, score="complexity", n_bootstrap=2).auroc == 0.0
    log_p, bits = model.score_samples(X), compressed_bits(model.space_, X)
    both = belonging(model, X, "log_prob_complexity")
    np.testing.assert_allclose(both, log_p / np.log(2) + bits)


def test_a_score_says_what_it_lacks(gaussian):
    model, X = gaussian
    with pytest.raises(CapabilityError, match="predict_proba"):
        belonging(model, X, "max_softmax")
    bits = genus.Independent().fit(X)
    with pytest.raises(CapabilityError, match="no density of real coordinates"):
        belonging(bits, X, "approximate_mass")
