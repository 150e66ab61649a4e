"""Grey images made binary: draws that repeat, and parts drawn apart."""

import numpy as np
import pandas as pd
import pytest
import torch

import genus
from genus.data.binarising import binarize
from genus.data.loading import load
from genus.space import Space


def test_pixels_are_drawn_once_and_repeat():
    X = np.full((1500, 4), 51, np.uint8)
    a = binarize(X, 3)
    assert a.dtype == np.uint8 and set(np.unique(a)) == {0, 1}
    np.testing.assert_array_equal(a, binarize(X, 3))
    np.testing.assert_array_equal(
        a, np.random.RandomState(3).random_sample(X.shape) < np.float32(0.2)
    )
    assert not np.array_equal(a, binarize(X, 4))
    assert abs(a.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / a.size)
    np.testing.assert_array_equal(binarize(X / 255.0, 3), a)
    with pytest.raises(ValueError, match="grey values must lie in 0 … 1"):
        binarize(X / 10.0)


def test_black_and_white_stay_as_they_are():
    X = np.array([[0, 255], [255, 0]], np.uint8)
    for seed in range(20):
        np.testing.assert_array_equal(binarize(X, seed), X // 255)


@pytest.mark.parametrize("how", ["sample", "threshold", "dynamic"])
def test_digits_made_binary(how):
    grey, d = load("digits"), load("digits", binarize=how)
    assert d.space == Space((8, 8), "binary", layout="HW", dtype="uint8")
    assert d.train.space.encode(d.test).dtype == torch.uint8
    np.testing.assert_array_equal(d.test.y, grey.test.y)
    np.testing.assert_array_equal(d.X, load("digits", binarize=how).X)
    certain = (grey.X == 0) | (grey.X == 16)
    np.testing.assert_array_equal(d.X[certain], grey.X[certain] / 16)
    if how == "threshold":
        np.testing.assert_array_equal(d.X, grey.X > 8)
        return
    np.testing.assert_array_equal(d.test.X, binarize(grey.test.X, np.array([0, 1]), top=16))
    assert not np.array_equal(d.test.X, load("digits", binarize=how, seed=5).test.X[: len(d.test)])
    if how == "dynamic":
        np.testing.assert_allclose(d.train.X, grey.train.X / 16)
        model = genus.Independent(random_state=0).fit(d.train)
        assert model.space_.kind == "binary" and np.isfinite(model.score(d.test))
        assert set(np.unique(model.sample(50, random_state=0))) == {0, 1}
    else:
        np.testing.assert_array_equal(d.train.X, binarize(grey.train.X, np.array([0, 0]), top=16))


def test_binarisation_is_for_grey_images():
    with pytest.raises(ValueError, match="needs grey images"):
        load(pd.DataFrame({"a": [1.5, 2.5]}), binarize="sample")
    with pytest.raises(ValueError, match="choose 'sample'"):
        load("digits", binarize="samples")
    bits = np.array([[0, 1], [1, 1]])
    assert load(bits, binarize="sample").X is bits
