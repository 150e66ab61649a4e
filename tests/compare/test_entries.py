"""Who is in the table: names, classes, instances, and those that nobody asked for."""

import numpy as np
import pandas as pd
import pytest

import genus
from comparing import Toy, X, none
from genus import Gaussian, Independent, Space
from genus.compare.entries import families, resolve
from genus.compare.run import compare


def test_names_are_found_in_any_case_and_typos_get_a_hint():
    assert [n for n, _ in resolve("gaussian")] == ["Gaussian", "Independent"]
    assert type(resolve(["independent"])[0][1]) is Independent
    with pytest.raises(ValueError, match="did you mean Gaussian"):
        resolve("Gausian")
    with pytest.raises(ValueError, match="choose from"):
        resolve("qqqqqq")
    for bad in (3, [None], np.zeros(3), [int]):
        with pytest.raises(TypeError, match="model"):
            resolve([bad])


def test_unasked_are_those_that_suit_the_data():
    images, numbers = (
        {n for n, _ in resolve(None, s)}
        for s in (Space((4, 4), "binary", layout="HW"), Space((4,)))
    )
    assert {"PixelCNN", "VAE", "GaussianMixture", "CategoricalMixture"} <= images
    bits = {"BoltzmannMachine", "DBN", "DBM"}
    assert images - numbers == {"PixelCNN", "PixelRNN"} | bits
    assert "IAF" not in images | numbers  # it takes d passes to score
    assert {n for n, _ in resolve(["IAF"], Space((4,)))} == {
        "IAF",
        "Gaussian",
        "Independent",
    }


def test_classes_instances_pairs_and_dicts_are_models_and_baselines_always_there():
    names = [n for n, _ in resolve([Toy, Toy(), ("mine", Toy("x")), Gaussian()])]
    assert names == ["Toy", "Toy (2)", "mine", "Gaussian", "Independent"]
    assert [n for n, _ in resolve({"a": Toy, "b": "gaussian"})] == [
        "a",
        "b",
        "Independent",
    ]
    everyone = [n for n, _ in resolve(None)]
    assert set(everyone) <= set(families()) and {"Gaussian", "Independent"} <= set(everyone)
    assert "Model" not in families() and "DensityModel" not in families()
    assert all(
        m.allow_nan for n, m in resolve(None, missing=True) if n not in ("Gaussian", "Independent")
    )


def test_a_mixture_of_bernoullis_stands_in_every_table_of_binary_data():
    bits = (np.random.RandomState(0).rand(60, 4) < 0.5).astype(int)
    frame = pd.DataFrame(bits, columns=list("abcd")).astype({"a": bool, "b": str})
    for rows, space in ((bits, "binary"), (frame, None)):
        out = compare(Independent, rows, space=space, **none)
        assert {r.name for r in out.rows} == {
            "Independent",
            "Gaussian",
            "CategoricalMixture",
        }
        assert (
            out["CategoricalMixture"].baseline
            and "CategoricalMixture" in str(out).split("Baselines:")[1]
        )
    mine = compare({"mine": genus.CategoricalMixture(2)}, bits, space="binary", **none)
    assert {r.name for r in mine.rows} == {"mine", "Independent", "Gaussian"}
    for rows in (X, frame.assign(e=X[:60, 0]), np.random.RandomState(0).randint(3, size=(60, 2))):
        assert "CategoricalMixture" not in {r.name for r in compare(Toy, rows, **none).rows}


def test_a_regressor_is_refused_by_name():
    with pytest.raises(ValueError, match=r"BayesianLinearRegression models p\(y \| X\)"):
        resolve([genus.BayesianLinearRegression()])


def test_all_are_those_that_are_slow_as_well_but_none_that_needs_labels():
    space = Space.of(np.arange(32).reshape(8, 4) % 3, "ordinal")
    unasked, everything = ([n for n, _ in resolve(w, space)] for w in (None, "all"))
    assert set(unasked) < set(everything)
    assert {"Diffusion", "IAF"} <= set(everything) - set(unasked)
    assert not {"JEM", "RBMClassifier", "DBNClassifier"} & set(everything)
    assert [n for n, _ in resolve(["all"], space)] == everything
