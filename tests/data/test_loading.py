"""load: rows by name, by file, by folder, or as they are in memory."""

import numpy as np
import pandas as pd
import pytest

from genus.data.loading import load, names


def test_names_say_what_there_is_and_where(mnist):
    where = {row["name"]: row["where"] for row in names()}
    assert where["digits"] == "scikit-learn" and where["mnist"].endswith("mnist.npz")
    assert where["cifar10"] == "to download" and "GENUS_DATA" in where["dna"]
    assert all(row["about"] for row in names())


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(
        ValueError, match="'mnits' is neither a file nor a known data set: did you mean 'mnist'"
    ):
        load("mnits")


@pytest.mark.parametrize("ending", [".CSV", ".npy", ".npz"])
def test_the_ending_of_a_file_says_how_it_is_read(ending, tmp_path):
    X = np.arange(20.0).reshape(10, 2) + 0.5
    path = tmp_path / f"rows{ending}"
    if ending == ".CSV":
        pd.DataFrame(X, columns=["a", "b"]).to_csv(path, index=False)
    else:
        {".npy": np.save, ".npz": np.savez}[ending](path, X)
    for source in (path, str(path)):
        data = load(source)
        assert data.name == "rows"
        np.testing.assert_array_equal(np.asarray(data.X), X)
        assert len(data.test) == 2


def test_one_row_is_not_split():
    data = load(np.array([[1.5, 2.5]]))
    assert data.parts == {} and len(data) == 1
