"""The laws of classifiers that model p(x, y), over the table CLASSIFIERS of contract.py."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import genus
from contract import CLASSIFIERS, Classifies, labelled
from genus import CapabilityError, Trainer
from genus.classifier import Classifier
from genus.model import NotFittedError

every = pytest.mark.parametrize("row", CLASSIFIERS, ids=lambda row: row.name)
GAPPY = [row for row in CLASSIFIERS if row.make().may_lack_labels]
STRICT = [row for row in CLASSIFIERS if row not in GAPPY]


def labels_of(kind: str) -> np.ndarray:
    yes = labelled()[1] == "yes"
    labels: np.ndarray = {
        "words": np.where(yes, "yes", "no"),
        "bools": yes,
        "numbers": np.where(yes, 7, -3),
        "reals": np.where(yes, 2.0, 0.0),
    }[kind]
    return labels


@cache
def fitted(row: Classifies) -> Any:
    return row.fit()


def bits(model: Any) -> list[np.ndarray]:
    """Everything that a fitted model says of the rows: parameters, labels, features, scores."""
    X, y = labelled()
    out = [t.numpy() for t in model.state_dict().values()]
    out += [model.predict_proba(X), model.predict(X)]
    out += [model.encode(X)] if hasattr(model, "encode") else []
    if hasattr(model, "log_prob"):
        out += [model.log_prob(X).nats, model.log_prob(X, given=y).nats]
        out += [model.sample(5, random_state=3), model.sample(5, given="yes", random_state=3)]
    return out


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------------- probabilities and labels


@every
def test_probabilities_sum_to_one_and_a_row_has_its_own(row: Classifies) -> None:
    model, (X, y) = fitted(row), labelled()
    p = model.predict_proba(X)
    assert p.shape == (len(X), 2) and p.dtype == np.float64 and (p >= 0).all()
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    parts = [model.predict_proba(X[i : i + 7]) for i in range(0, len(X), 7)]
    np.testing.assert_allclose(np.concatenate(parts), p, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(X[::-1]), p[::-1], atol=1e-6)
    told = model.predict(X)
    assert np.array_equal(told, model.classes_[p.argmax(1)])
    assert model.score(X, y) == model.score(X, given=y) == (told == y).mean() > 0.9


@pytest.mark.parametrize("kind", ["words", "bools", "numbers", "reals"])
@every
def test_labels_come_back_as_they_were_given(row: Classifies, kind: str) -> None:
    X, labels = labelled()[0], labels_of(kind)
    model = row.fit(labels)
    assert np.array_equal(model.classes_, np.unique(labels))
    told = model.predict(X)
    assert told.dtype == labels.dtype and (told == labels).mean() > 0.9
    np.testing.assert_array_equal(model.predict_proba(X), fitted(row).predict_proba(X))


@every
def test_labels_are_the_condition(row: Classifies) -> None:
    X, labels = labelled()
    model = fitted(row)
    assert same(bits(row.make().fit(X, given=labels)), bits(model))
    if not hasattr(model, "log_prob"):
        return
    series = pd.Series(labels, index=np.arange(len(X))[::-1])
    of_class = model.score_samples(X, given=labels)
    assert np.array_equal(model.score_samples(X, given=series), of_class)
    other = model.score_samples(X, given=np.where(labels == "yes", "no", "yes"))
    assert of_class.mean() > other.mean() + 1
    assert model.sample(3, given="yes", random_state=0).shape == (3, 4)


@every
def test_held_out_labels_are_what_validation_is(row: Classifies) -> None:
    X, y = labelled()
    model = row.fit(validation=(X[:50], y[:50]))
    p = model.predict_proba(X[:50])[np.arange(50), (y[:50] == "yes").astype(int)]
    told = [line["validation"] for line in model.history_ if "validation" in line]
    assert min(told) == pytest.approx(-np.log(p).mean(), abs=1e-5)


# ---------------------------------------------------------------------- labels that are missing


@pytest.mark.parametrize("row", GAPPY, ids=lambda row: row.name)
def test_a_row_without_a_label_counts_where_it_may(row: Classifies) -> None:
    X, y = labelled()
    known = np.arange(len(y)) % 3 == 0
    as_none = row.fit(np.where(known, y, None))
    assert as_none.classes_.tolist() == ["no", "yes"] and as_none.score(X, y) > 0.8
    as_nan = row.fit(np.where(known, labels_of("reals"), np.nan))
    np.testing.assert_array_equal(as_nan.predict_proba(X), as_none.predict_proba(X))
    alone = row.make().fit(X[known], y[known])
    assert not np.allclose(alone.predict_proba(X), as_none.predict_proba(X))
    with pytest.raises(ValueError, match="no label at all"):
        row.fit(np.full(len(X), np.nan))


@pytest.mark.parametrize("row", STRICT, ids=lambda row: row.name)
def test_elsewhere_it_is_named(row: Classifies) -> None:
    y = labels_of("reals")
    with pytest.raises(ValueError, match=r"y contains NaN \(row 2\)"):
        row.fit(np.where(np.arange(len(y)) == 2, np.nan, y))


# ---------------------------------------------------------------------- bad input


@every
def test_what_is_no_label_is_told(row: Classifies) -> None:
    (X, labels), n = labelled(), 120
    for y, says in (
        (np.linspace(0, 1, n), "Unknown label type"),
        (np.where(np.arange(n) == 3, np.inf, 1.0), r"y has inf \(row 3\)"),
        (labels[:5], "given has 5 rows, X has 120"),
        (np.stack([labels, labels], 1), "1d array"),
    ):
        with pytest.raises(ValueError, match=says):
            row.fit(y)
    with pytest.raises(ValueError, match="requires y"):
        row.make().fit(X)
    with pytest.raises(NotFittedError):
        row.make().predict(X)
    model = fitted(row)
    bad = X.astype(float)
    bad[4, 1] = np.inf
    for verb in (model.predict, model.predict_proba):
        with pytest.raises(ValueError, match="2 features"):
            verb(X[:, :2])
        with pytest.raises(ValueError, match=r"inf in column 1 \(row 4\)"):
            verb(bad)
    if hasattr(model, "log_prob"):
        for given, says in (
            (["no", "perhaps"], r"y has 'perhaps' \(row 1\), a class that was not seen in fit"),
            (["no", "yes", "no"], "given has 3 rows"),
            (np.array([None, "no"], dtype=object), r"y contains NaN \(row 0\)"),
        ):
            with pytest.raises(ValueError, match=says):
                model.sample(2, given=given)


@pytest.mark.parametrize(
    ("model", "instead"),
    [
        (genus.RBM(), "RBMClassifier"),
        (genus.BoltzmannMachine(), "RBMClassifier"),
        (genus.DBM(), "RBMClassifier"),
        (genus.DBN(), "DBNClassifier"),
        (genus.EBM(), "JEM"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_model_of_rows_alone_names_the_one_for_labels(model: Any, instead: str) -> None:
    assert issubclass(getattr(genus, instead), Classifier)
    with pytest.raises(CapabilityError, match=f"or use {instead} for labels"):
        model.fit(labelled()[0], given=labelled()[1])


# ---------------------------------------------------------------------- seeds, files, resume


@every
def test_the_same_seed_gives_the_same_bits(row: Classifies) -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    before = random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
    assert same(bits(row.fit()), bits(fitted(row)))
    after = random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
    assert after == before
    X, y = labelled()
    other = row.make().set_params(random_state=1).fit(X, y)
    assert not np.allclose(other.predict_proba(X), fitted(row).predict_proba(X))


@every
def test_a_loaded_one_says_the_same(row: Classifies, tmp_path: Path) -> None:
    model = fitted(row)
    model.save(tmp_path / "m")
    loaded = genus.load(tmp_path / "m")
    assert loaded.classes_.dtype == model.classes_.dtype
    assert same(bits(loaded), bits(model))


@every
def test_an_interrupted_run_resumes_as_if_nothing_had_happened(
    row: Classifies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = labelled()
    trainer = row.make().trainer.replace(epochs=4, checkpoint_every=0.0, schedule="constant")

    def run(name: str, **more: Any) -> Any:
        own: Trainer = trainer.replace(checkpoint=tmp_path / name)
        return row.make().set_params(trainer=own).fit(X, y, **more)

    whole = run("whole")
    calls, losses = 0, type(whole).losses

    def stop(self: Any, *batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 9:  # in the middle of the second epoch
            raise KeyboardInterrupt
        yield from losses(self, *batch)

    with monkeypatch.context() as m, pytest.warns(UserWarning, match="interrupted"):
        m.setattr(type(whole), "losses", stop)
        cut = run("cut")
    assert calls == 9 and np.isfinite(cut.predict_proba(X)).all()
    assert not same(bits(cut), bits(whole))
    again = run("cut", resume=True)
    assert again.n_steps_ == whole.n_steps_ and same(bits(again), bits(whole))
