"""A data set: its rows, labels, parts and space."""

import numpy as np
import pandas as pd
import pytest
import torch

import genus
from genus.data.dataset import Data
from genus.data.loading import load


def test_a_split_parts_the_rows_and_repeats():
    X = np.arange(50).reshape(-1, 1) * 1.5
    a, b, c = load(X), load(X), load(X, seed=1)
    np.testing.assert_array_equal(a.test.X, b.test.X)
    assert not np.array_equal(a.test.X, c.test.X)
    assert sorted([*a.train.X[:, 0], *a.test.X[:, 0]]) == X[:, 0].tolist()
    # frozen: results rest on it
    assert a.test.X[:, 0].tolist() == [3.0, 6.0, 15.0, 16.5, 33.0, 40.5, 42.0, 46.5, 57.0, 61.5]
    assert len(load(X, test=0.5).test) == 25
    assert (len(a.split(0.001).test), len(a.split(0.999).train)) == (1, 1)
    for share in (0, 1, 1.5):
        with pytest.raises(ValueError, match="a share between 0 and 1"):
            a.split(share)


@pytest.mark.parametrize("kind", ["array", "tensor", "table", "dataset"])
def test_what_is_in_memory_keeps_its_type(kind):
    a = np.arange(20.0).reshape(10, 2) + 0.5
    X = {
        "array": a,
        "tensor": torch.from_numpy(a),
        "table": pd.DataFrame(a, columns=["p", "q"]),
        "dataset": torch.utils.data.TensorDataset(torch.from_numpy(a)),
    }[kind]
    d = load(X)
    assert (len(d.train), len(d.test)) == (8, 2)
    assert isinstance(d.test.X, torch.utils.data.Dataset if kind == "dataset" else type(X))
    held = d.space.encode(d.test)
    assert torch.equal(
        held, torch.from_numpy(a[np.sort(np.random.RandomState(0).permutation(10)[:2])])
    )
    assert load(d) is d


def test_labels_must_fit_the_rows():
    with pytest.raises(ValueError, match="y has 3 labels, X has 4 rows"):
        Data(np.zeros((4, 2)), y=[1, 2, 3])


def test_models_take_data_as_it_is():
    d = load("digits")
    model = genus.Independent().fit(d.train)
    assert model.space_ == d.space
    assert model.score(d.test) == model.score(d.test.X)
    assert model.sample(2, random_state=0).dtype == np.uint8
