"""The imputer as a step of pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import check_estimator

import genus
from genus import Imputer

RNG = np.random.default_rng(0)
A = RNG.normal(size=240)
Y = (A + 0.2 * RNG.normal(size=240)) > 0
WHOLE = pd.DataFrame(
    {
        "size": A,
        "twice": 2 * A + 0.1 * RNG.normal(size=240),
        "count": np.arange(240) % 40,
        "word": np.where(A > 0, "big", "small"),
    },
    index=np.arange(240) * 3,
)
GAPS = RNG.random(WHOLE.shape) < 0.15
GAPS[:, 2] = False
HOLED = WHOLE.mask(GAPS)


class WithoutGaps(genus.Gaussian):
    """A model that takes no missing values."""

    allow_nan = False


def test_scikit_learn_checks_pass() -> None:
    check_estimator(Imputer(genus.Gaussian()))


def test_it_fills_by_the_other_cells_and_keeps_frames_as_they_are() -> None:
    filled = Imputer(genus.GaussianMixture(2), random_state=0).fit_transform(HOLED)
    assert filled.index.equals(WHOLE.index) and filled.dtypes.equals(WHOLE.dtypes)
    assert not filled.isna().any(axis=None)
    hidden = GAPS[:, 1] & ~GAPS[:, 0]
    error = (filled["twice"] - WHOLE["twice"])[hidden]
    assert error.std() < 0.3 < WHOLE["twice"].std()
    for j, name in enumerate(WHOLE):
        assert (filled[name] == WHOLE[name])[~GAPS[:, j]].all()


def test_new_rows_are_filled_by_what_fit_saw() -> None:
    imputer = Imputer(genus.Gaussian()).fit(WHOLE[["size", "twice"]])
    row = pd.DataFrame({"size": [1.0, np.nan], "twice": [np.nan, -3.0]}, index=["p", "q"])
    filled = imputer.transform(row)
    assert filled.loc["p", "twice"] == pytest.approx(2, abs=0.1)
    assert filled.loc["q", "size"] == pytest.approx(-1.5, abs=0.1)
    assert imputer.get_feature_names_out().tolist() == ["size", "twice"]
    assert np.array_equal(row.isna(), [[False, True], [True, False]])  # the caller's is as it was


def test_arrays_come_out_as_arrays_and_as_frames_where_asked() -> None:
    x = HOLED[["size", "twice"]].to_numpy()
    out = Imputer(genus.Gaussian()).fit_transform(x)
    assert isinstance(out, np.ndarray) and not np.isnan(out).any()
    framed = Imputer(genus.Gaussian()).set_output(transform="pandas").fit_transform(x)
    assert isinstance(framed, pd.DataFrame) and list(framed) == ["x0", "x1"]


def test_how_says_what_stands_in_a_gap() -> None:
    both = HOLED[["size", "twice"]]
    means = Imputer(genus.Gaussian(), random_state=0).fit_transform(both)
    draws = Imputer(genus.Gaussian(), "draw", random_state=0).fit_transform(both)
    again = Imputer(genus.Gaussian(), "draw", random_state=0).fit_transform(both)
    pd.testing.assert_frame_equal(draws, again)
    gone = GAPS[:, 0] & GAPS[:, 1]  # nothing is known of these rows
    assert gone.sum() > 2 and means["size"][gone].std() < 1e-9 < draws["size"][gone].std()


def test_in_a_pipeline_with_words_and_a_classifier() -> None:
    pipeline = make_pipeline(
        Imputer(random_state=0),
        make_column_transformer((OneHotEncoder(), ["word"]), remainder="passthrough"),
        LogisticRegression(max_iter=1000),
    )
    assert pipeline.fit(HOLED[:160], Y[:160]).score(HOLED[160:], Y[160:]) > 0.9


def test_a_search_chooses_the_model_that_fills_in() -> None:
    X = WHOLE[["size", "twice"]].mask(np.arange(480).reshape(240, 2) % 4 == 0)
    one = make_column_transformer(
        ("passthrough", ["size"])
    )  # the other column serves to fill it in
    steps = [("imputer", Imputer(random_state=0)), ("one", one), ("by", LogisticRegression())]
    pipeline = Pipeline(steps)
    models = [genus.Independent(), genus.Gaussian()]
    search = GridSearchCV(pipeline, {"imputer__model": models}, cv=3).fit(X, Y)
    assert type(search.best_params_["imputer__model"]) is genus.Gaussian
    assert search.best_score_ > search.cv_results_["mean_test_score"][0] + 0.05
    pipeline.set_params(imputer__model=genus.GaussianMixture(1))
    grid = {"imputer__model__n_components": [1, 2], "imputer__how": ["mean", "mode"]}
    found = GridSearchCV(pipeline, grid, cv=2).fit(X, Y)
    assert (found.cv_results_["mean_test_score"] > 0.9).all()


def test_the_given_model_is_left_as_it_is() -> None:
    model = genus.Gaussian()
    imputer = Imputer(model, random_state=3).fit(WHOLE)
    assert not model.__sklearn_is_fitted__() and model.random_state is None
    assert imputer.model_.random_state == 3
    copy: Any = clone(imputer)
    assert not hasattr(copy, "model_") and copy.model is not model


@pytest.mark.parametrize(
    ("imputer", "says"),
    [
        (Imputer(how="median"), "how='median'"),
        (Imputer(model="Gaussian"), "model='Gaussian'"),
        (Imputer(genus.BayesianLinearRegression()), "cannot complete"),
        (Imputer(WithoutGaps()), "no missing values"),
        (Imputer(random_state=-1), "random_state=-1"),
    ],
)
def test_nonsense_is_refused_by_name(imputer: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        imputer.fit(HOLED)
