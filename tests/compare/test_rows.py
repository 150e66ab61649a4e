"""Which rows models learn from, and which judge them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import genus
from comparing import Toy, X, few, none
from genus import Space
from genus.compare.run import compare


def test_rows_to_judge_by_may_be_given():
    t = compare([Toy()], X[:100], test=X[100:140], **none)
    np.testing.assert_array_equal(t.test, X[100:140])
    np.testing.assert_array_equal(t.train, X[:100])
    t = compare([Toy()], X, test=0.5, max_test=40, **none)
    assert len(t.train) == 75 and len(t.test) == 40
    assert any("40 of the 75 test rows" in n for n in t.footnotes())


def test_a_data_set_brings_its_own_parts_and_labels():
    y = (X[:, 0] > 0).astype(int)
    part = SimpleNamespace(X=X[:100], y=y[:100]), SimpleNamespace(X=X[100:], y=y[100:])
    data = SimpleNamespace(
        X=X,
        y=y,
        space=Space.of(X),
        name="two bells",
        note="They ring.",
        train=part[0],
        test=part[1],
    )
    t = compare([Toy()], data, **few)
    assert "two bells: They ring." in t.about
    assert t.name == "two bells" and len(t.train) == 100 and len(t.test) == 50
    np.testing.assert_array_equal(t.y_test, y[100:])
    assert t["Toy"].quality.frechet.embedding == "classifier-16"
    data.test = None
    assert len(compare([Toy()], data, test=0.4, **none).test) == 60


def test_grey_rows_drawn_afresh_for_every_batch_are_compared():
    grey = np.random.RandomState(1).rand(120, 4).astype(np.float32)
    data = genus.data.load(grey, binarize="dynamic")
    table = compare(["Independent"], data, samples=20, random_state=0)
    assert table["Independent"].samples is not None and set(np.unique(table.train)) == {
        0,
        1,
    }
    assert data.train.X.dtype == np.float32  # and the models saw the grey


def test_tables_with_missing_cells_are_compared():
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"a": rng.choice(["x", "y"], 120), "b": rng.randn(120)})
    frame.loc[::5, "b"] = np.nan
    # the toy takes no missing cells, both baselines do
    t = compare([Toy], frame, y=frame["a"], **few)
    assert t["Independent"].likelihood.measure == "mixed"
    assert isinstance(t["Independent"].samples, pd.DataFrame)
    assert t["Gaussian"].error is None and ("NaN" in t["Toy"].error or "missing" in t["Toy"].error)


def test_few_rows_are_said_to_be_too_few():
    t = compare([Toy()], X[:20], random_state=0)
    assert t["Toy"].likelihood is not None and t["Toy"].quality is None
    assert any("too few" in n for n in t.footnotes())


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="X is missing"):
        compare([Toy()])
    with pytest.raises(ValueError, match="labels"):
        compare([Toy()], X, y=[1, 2])
    for bad in (0.0, 1.0, 2, -0.1):
        with pytest.raises(ValueError, match="test="):
            compare([Toy()], X, test=bad)


def test_conditional_models_are_compared_with_their_conditions():
    labels = np.arange(150) % 2
    X = np.random.RandomState(0).randn(150, 2) + 4 * labels[:, None]
    model = genus.RealNVP(2, trainer=genus.Trainer(epochs=20), random_state=0)
    for more in ({"given": labels}, {"y": labels, "given": "y"}):
        table = compare([model], X, **few, **more)
        row = table["RealNVP"]
        assert row.error is None and "saw the conditions" in row.notes[0]
        assert row.likelihood.nats > table["Gaussian"].likelihood.nats and row.quality is not None
    with pytest.raises(ValueError, match="given has 5 rows, X 120 and test 30"):
        compare([model], X, given=labels[:5], **few)
    with pytest.raises(ValueError, match="given='y': .*no labels"):
        compare([model], X, given="y", **few)
    fitted = model.fit(X, given=labels)
    unasked = compare([("it", fitted)], X, **few)["it"]
    assert any("pass given=" in note for note in unasked.notes)


def test_dicts_of_arrays_are_compared_as_tables_of_their_cells():
    r = np.random.RandomState(0)
    label = r.randint(0, 2, 150)
    parts = {
        "image": (r.rand(150, 2, 2) < 0.2 + 0.6 * label[:, None, None]).astype(np.uint8),
        "label": np.where(label, "a", "b"),
    }
    table = compare(["CategoricalMixture"], parts, **few)
    assert table["CategoricalMixture"].error is None and table.space.dim == 5
    assert table["CategoricalMixture"].likelihood.nats > table["Independent"].likelihood.nats
    assert "label" in table.test.columns and "image: cell (0, 1)" in table.test.columns
