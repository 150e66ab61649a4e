"""What classifiers that model p(x, y) share: labels in and out."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from genus import RBMClassifier, Trainer
from genus.model import NotFittedError


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Bits whose first three say the label, with noise."""
    r = np.random.default_rng(0)
    y = r.integers(0, 2, 200)
    X = np.column_stack([y, y, y, r.integers(0, 2, 200)]) ^ (r.random((200, 4)) < 0.05)
    return X, y


@cache
def fitted(kind: str) -> tuple[Any, np.ndarray, np.ndarray]:
    X, y = rows()
    labels: np.ndarray = {
        "words": np.array(["no", "yes"])[y],
        "bools": y == 1,
        "numbers": np.array([-3, 7])[y],
        "reals": np.array([0.0, 2.0])[y],
    }[kind]
    model = RBMClassifier(3, trainer=Trainer(epochs=10), random_state=0).fit(X, labels)
    return model, X, labels


@pytest.mark.parametrize("kind", ["words", "bools", "numbers", "reals"])
def test_labels_come_back_as_they_were_given(kind: str) -> None:
    model, X, labels = fitted(kind)
    assert np.array_equal(model.classes_, np.unique(labels))
    told = model.predict(X)
    assert told.dtype == labels.dtype and (told == labels).mean() > 0.9
    p = model.predict_proba(X)
    assert p.shape == (200, 2) and np.allclose(p.sum(1), 1)
    assert np.array_equal(model.classes_[p.argmax(1)], told)
    assert model.score(X, labels) == (told == labels).mean()


def test_labels_are_the_condition() -> None:
    model, X, labels = fitted("words")
    by_given = RBMClassifier(3, trainer=Trainer(epochs=10), random_state=0).fit(X, given=labels)
    assert torch.equal(by_given.U_, model.U_)
    assert model.score(X, given=labels) == model.score(X, labels)
    series = pd.Series(labels, index=np.arange(200)[::-1])
    assert np.array_equal(
        model.score_samples(X, given=series), model.score_samples(X, given=labels)
    )
    assert model.sample(3, given="yes", random_state=0).shape == (3, 4)
    held = RBMClassifier(3, trainer=Trainer(epochs=3), random_state=0)
    held.fit(X, labels, validation=(X[:50], labels[:50]))
    p = held.predict_proba(X[:50])[np.arange(50), (labels[:50] == "yes").astype(int)]
    best = min(line["validation"] for line in held.history_)
    assert best == pytest.approx(-np.log(p).mean(), abs=1e-5)


def test_what_is_no_label_is_told() -> None:
    model, X, labels = fitted("words")
    with pytest.raises(ValueError, match="requires y"):
        RBMClassifier().fit(X)
    with pytest.raises(ValueError, match="Unknown label type"):
        RBMClassifier().fit(X, np.linspace(0, 1, 200))
    with pytest.raises(ValueError, match=r"y contains NaN \(row 2\)"):
        RBMClassifier().fit(X, np.where(np.arange(200) == 2, np.nan, 1.0))
    with pytest.raises(ValueError, match=r"y has inf \(row 3\)"):
        RBMClassifier().fit(X, np.where(np.arange(200) == 3, np.inf, 1.0))
    with pytest.raises(ValueError, match="given has 5 rows, X has 200"):
        RBMClassifier().fit(X, labels[:5])
    with pytest.raises(ValueError, match=r"y has 'perhaps' \(row 0\)"):
        model.sample(2, given="perhaps")
    with pytest.raises(ValueError, match="given has 3 rows"):
        model.sample(2, given=["no", "yes", "no"])
    with pytest.raises(NotFittedError):
        RBMClassifier().predict(X)
