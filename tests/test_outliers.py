"""A model as a detector of outliers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

import genus
from genus import OutlierDetector

X = np.random.default_rng(0).normal(size=(400, 2))


def test_scikit_learn_checks_pass():
    check_estimator(OutlierDetector(genus.Gaussian()))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_a_share_of_the_rows_are_outliers(share):
    detector = OutlierDetector(genus.Gaussian(), share=share)
    assert np.mean(detector.fit_predict(X) == -1) == pytest.approx(share, abs=0.003)
    p = detector.score_samples(X)
    np.testing.assert_array_equal(p, genus.Gaussian().fit(X).score_samples(X))
    assert (detector.predict(X) == np.where(detector.decision_function(X) < 0, -1, 1)).all()
    assert p[detector.predict(X) == -1].max() < p[detector.predict(X) == 1].min()


def test_tables_with_words_and_gaps():
    frame = pd.DataFrame({"a": X[:, 0], "w": np.where(X[:, 0] > 0, "up", "down")})
    detector = OutlierDetector(share=0.02).fit(frame)
    odd = pd.DataFrame({"a": [2.0, 2.0, None], "w": ["up", "down", "up"]})
    assert detector.predict(odd).tolist() == [1, -1, 1]


def test_parameters_of_the_model_can_be_searched():
    grid = {"model__shrinkage": [0.0, 0.5]}
    model = genus.Gaussian()
    if "shrinkage" not in model.get_params():
        grid = {"share": [0.1, 0.2]}
    found = GridSearchCV(OutlierDetector(model), grid, scoring=lambda d, X, y=None: 0.0).fit(X)
    assert found.best_estimator_.predict(X).shape == (400,)


@pytest.mark.parametrize(
    ("detector", "says"),
    [
        (OutlierDetector(share=0), "share=0"),
        (OutlierDetector(share=1), "share=1"),
        (OutlierDetector(model="Gaussian"), "model='Gaussian'"),
    ],
)
def test_nonsense_is_refused_by_name(detector, says):
    with pytest.raises(ValueError, match=says):
        detector.fit(X)
