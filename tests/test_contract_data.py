"""Laws of rows and of what stands beside them, for every class of the contract.

Law 9: the same images in any layout have the same scores. Law 11: conditions, on every verb of
every model that takes them. Rows may be dicts of arrays, whose missing parts are missing cells.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import genus
from contract import ROWS, Row, first_of_each_class
from genus import EBM, CapabilityError, Space


def named(rows: list[Row]) -> Any:
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


# ---------------------------------------------------------------------- 9: layouts


RNG = np.random.default_rng(2)
COLOURS = (RNG.integers(0, 2, (1, 2, 4, 3)) + RNG.integers(0, 2, (60, 2, 4, 3))).clip(0, 2)
GREY = COLOURS[..., 0]
PICTURES = first_of_each_class([r for r in ROWS if {"ordinal", "image"} & set(r.fits)])


def same_images(row: Row, one: Any, two: Any, there: Any) -> None:
    """Scores, draws, completions and codes of the same images in two layouts."""
    (X, layout), (Y, other) = one, two
    a = row.hasty.fit(X, space=Space(X.shape[1:], "ordinal", 3, layout=layout))
    b = row.hasty.fit(Y, space=Space(Y.shape[1:], "ordinal", 3, layout=other))
    assert np.array_equal(there(X), Y)
    assert np.array_equal(there(a.sample(3, random_state=0)), b.sample(3, random_state=0))
    if isinstance(a, EBM):  # of images by short chains, which have no density
        assert np.array_equal(a.energy(X[:9]), b.energy(Y[:9]))
    elif hasattr(a, "log_prob"):
        assert np.array_equal(a.score_samples(X[:9]), b.score_samples(Y[:9]))
    if hasattr(a, "encode"):
        assert np.array_equal(a.encode(X[:9]), b.encode(Y[:9]))
        assert np.array_equal(there(a.reconstruct(X[:9])), b.reconstruct(Y[:9]))
    if hasattr(a, "complete"):
        mask = np.zeros(X[:4].shape, dtype=bool)
        mask[:, -1:] = layout != "CHW"
        filled = a.complete(X[:4], mask=mask, random_state=0)
        assert np.array_equal(there(filled), b.complete(Y[:4], mask=there(mask), random_state=0))


@named(PICTURES)
def test_9_images_in_any_layout_have_the_same_scores(row: Row) -> None:
    try:
        row.hasty.fit(COLOURS, space=Space((2, 4, 3), "ordinal", 3, layout="HWC"))
    except ValueError as refused:
        assert row.refuses, refused
        return
    first = np.ascontiguousarray(np.moveaxis(COLOURS, -1, 1))
    same_images(row, (COLOURS, "HWC"), (first, "CHW"), lambda x: np.moveaxis(x, -1, 1))
    same_images(row, (GREY, "HW"), (GREY[..., None], "HWC"), lambda x: x[..., None])


# ---------------------------------------------------------------------- 11: conditions


CONDITIONAL = first_of_each_class([r for r in ROWS if r.make().conditions != "none"])


def shifted(kind: str) -> tuple[np.ndarray, np.ndarray, Any]:
    """Rows that a label decides, the labels, and their space."""
    labels = np.arange(120) % 2
    noise = RNG.random((120, 3)) < 0.2
    if kind == "continuous":
        return RNG.normal(size=(120, 2)) + 3 * labels[:, None], labels, None
    if kind == "image":
        return (
            (labels[:, None] ^ noise).astype(np.uint8)[:, None],
            labels,
            Space((1, 3), "binary", layout="HW"),
        )
    return (labels[:, None] ^ noise).astype(float), labels, None


@cache
def conditional(row: Row) -> tuple[Any, np.ndarray, np.ndarray]:
    """The fitted model, rows and labels, shared by tests that only look at them."""
    X, labels, space = shifted(row.fits[0])
    model = row.make()
    return model.fit(X, given=np.where(labels, "b", "a"), space=space), X, labels


def scores(model: Any, X: Any, **given: Any) -> np.ndarray:
    """Log-probabilities of rows; of a model that has none, the critic's numbers or the codes."""
    for name in ("log_prob", "decision_function", "encode"):
        if hasattr(model, name):
            found = getattr(model, name)(X, **given)
            return np.asarray(found.nats if name == "log_prob" else found)
    raise AssertionError(f"{type(model).__name__} says nothing of rows")


@named(CONDITIONAL)
def test_11_conditions_are_learned_and_every_verb_takes_them(row: Row, tmp_path: Path) -> None:
    model, X, labels = conditional(row)
    right, wrong = np.where(labels, "b", "a"), np.where(labels, "a", "b")
    if hasattr(model, "log_prob"):
        assert model.score(X, given=right) > model.score(X, given=wrong) + 0.3
    low, high = (model.sample(400, given=g, random_state=0).mean() for g in ("a", "b"))
    assert low < X.mean() < high
    some = scores(model, X[:6], given=right[:6])
    alone = [scores(model, X[i : i + 1], given=right[i])[0] for i in range(6)]
    np.testing.assert_allclose(alone, some, rtol=0, atol=2e-5 * (1 + np.abs(some).max()))
    path = tmp_path / "m"
    model.save(path)
    again = genus.load(path)
    assert np.array_equal(scores(again, X, given=right), scores(model, X, given=right))
    if hasattr(model, "complete"):
        mask = np.zeros(X.shape, dtype=bool)
        mask[..., 0] = True
        filled = model.complete(X, mask=mask, given=right, random_state=0)
        assert np.array_equal(filled[..., 1:], X[..., 1:])
    if hasattr(model, "encode"):
        z = model.encode(X[:5], given=right[:5])
        assert np.isfinite(z).all()
        assert model.decode(z, given=right[:5]).shape == X[:5].shape
        assert model.reconstruct(X[:5], given=right[:5]).shape == X[:5].shape
        assert model.interpolate(X[0], X[1], 3, given="a").shape == (3, *X.shape[1:])


@named([r for r in CONDITIONAL if r.make().null_condition])
def test_11_the_condition_may_be_left_out_where_a_class_says_so(row: Row) -> None:
    model, X, labels = conditional(row)
    right = np.where(labels, "b", "a")
    assert model.score(X) < model.score(X, given=right)
    free, told = (model.sample(400, given=g, random_state=0) for g in (None, "a"))
    assert free.std() > told.std()
    assert model.reconstruct(X[:5]).shape == X[:5].shape
    assert model.complete(X[:5], mask=np.ones_like(X[:5], dtype=bool)).shape == X[:5].shape


@named([r for r in CONDITIONAL if not r.make().null_condition])
def test_11_without_the_condition_there_is_one_message(row: Row) -> None:
    model, X, _ = conditional(row)
    verbs: list[Any] = [lambda: scores(model, X), lambda: model.sample(2)]
    if hasattr(model, "complete"):
        verbs.append(lambda: model.complete(X))
    if hasattr(model, "encode"):
        verbs += [lambda: model.encode(X), lambda: model.interpolate(X[0], X[1])]
    for verb in verbs:
        with pytest.raises(
            ValueError, match=rf"this {type(model).__name__} models p\(x \| given\)"
        ):
            verb()
    with pytest.raises(ValueError, match="given has 3 rows"):
        model.sample(2, given=["a", "b", "a"])
    with pytest.raises(ValueError, match="'c'"):
        model.sample(2, given="c")


@named(first_of_each_class([r for r in ROWS if r.make().conditions == "none"]))
def test_11_a_model_without_conditions_says_so(row: Row) -> None:
    X, labels, space = shifted(row.fits[0])
    model = row.hasty
    with pytest.raises(CapabilityError, match="leave given out"):
        clone(model).fit(X, given=labels, space=space)
    with pytest.raises(CapabilityError, match="leave given out"):
        model.fit(X, space=space).sample(2, given=1)


# ---------------------------------------------------------------------- dicts of arrays


PARTS = {
    "image": GREY[:, :, :2].astype(np.uint8) // 2,
    "label": np.where(COLOURS[:, 0, 0, 0] > 0, "yes", "no"),
    "x": COLOURS[:, 0, 0, :1] + RNG.normal(size=(60, 1)),
}


@named(first_of_each_class([r for r in ROWS if "mixed" in r.fits]))
def test_rows_may_be_dicts_of_arrays(row: Row, tmp_path: Path) -> None:
    model = row.hasty.fit(PARTS)
    drawn = model.sample(4, random_state=0)
    assert {k: v.shape for k, v in drawn.items()} == {
        "image": (4, 2, 2),
        "label": (4,),
        "x": (4, 1),
    }
    assert set(drawn["label"]) <= {"yes", "no"} and drawn["image"].dtype == np.uint8
    said = scores(model, PARTS)
    assert len(said) == 60 and np.isfinite(said).all()
    model.save(tmp_path / "m")
    assert np.array_equal(scores(genus.load(tmp_path / "m"), PARTS), said)
    if hasattr(model, "complete"):
        some = {"x": PARTS["x"][:3], "label": PARTS["label"][:3]}
        filled = model.complete(some, random_state=0)
        assert filled["image"].shape == (3, 2, 2) and np.array_equal(filled["label"], some["label"])
