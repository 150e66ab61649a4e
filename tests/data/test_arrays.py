"""Files of arrays, Parquet, and folders of images."""

import numpy as np
import pandas as pd
import pytest

from genus.data.loading import load


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    df = pd.DataFrame({"a": [1.5, None], "b": ["x", "y"]})
    df.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(load(tmp_path / "t.parquet").X, df)
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(ValueError, match="bad.parquet cannot be read as Parquet"):
        load(tmp_path / "bad.parquet")


def test_arrays_in_files(tmp_path):
    X, y = np.arange(40, dtype=np.uint8).reshape(10, 4), np.arange(10)
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "one.npz", whatever=X)
    np.savez(tmp_path / "xy.npz", X=X, y=y, more=y)
    np.savez(tmp_path / "parts.npz", x_train=X[:7], x_test=X[7:])
    for name in ("a.npy", "one.npz", "xy.npz", "parts.npz"):
        np.testing.assert_array_equal(load(tmp_path / name).X, X)
    assert load(tmp_path / "xy.npz").y.tolist() == y.tolist()
    np.testing.assert_array_equal(load(str(tmp_path / "parts.npz")).test.X, X[7:])


def test_arrays_that_cannot_be_read_say_so(tmp_path):
    np.savez(tmp_path / "two.npz", p=np.ones(2), q=np.ones(2))
    with pytest.raises(ValueError, match="two.npz holds p, q: expected x_train"):
        load(tmp_path / "two.npz")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="o.npy cannot be read"):
        load(tmp_path / "o.npy")
    (tmp_path / "bad.npz").write_text("no")
    with pytest.raises(ValueError, match="bad.npz cannot be read"):
        load(tmp_path / "bad.npz")
    np.save(tmp_path / "flat.npy", np.ones(3))
    with pytest.raises(ValueError, match="flat.npy: Expected 2D array"):
        load(tmp_path / "flat.npy")
    (tmp_path / "t.doc").write_text("x")
    with pytest.raises(ValueError, match="files of type '.doc' cannot be read"):
        load(tmp_path / "t.doc")


def test_a_folder_of_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(3):
            image.fromarray(np.full((5, 7), 40 * i, np.uint8)).save(tmp_path / label / f"{i}.png")
    d = load(tmp_path)
    assert d.X.shape == (6, 5, 7) and d.X[:3, 0, 0].tolist() == [0, 40, 80]
    assert (d.space.kind, d.space.levels, d.space.layout) == ("ordinal", 256, "HW")
    assert d.y.tolist() == ["cat"] * 3 + ["dog"] * 3
    image.fromarray(np.full((5, 7, 3), 9, np.uint8)).save(tmp_path / "dog" / "9.png")
    assert load(tmp_path).X.shape == (7, 5, 7, 3) and load(tmp_path).space.layout == "HWC"
    image.fromarray(np.zeros((6, 7), np.uint8)).save(tmp_path / "dog" / "big.png")
    with pytest.raises(ValueError, match=r"big.png is 7×6 pixels, .*0.png is 7×5: resize"):
        load(tmp_path)
    (tmp_path / "dog" / "big.png").write_text("no")
    with pytest.raises(ValueError, match="big.png cannot be read as an image"):
        load(tmp_path)


def test_a_folder_without_images_says_so(tmp_path):
    with pytest.raises(ValueError, match="has no images"):
        load(tmp_path)


def saved_images(folder, *pictures):
    image = pytest.importorskip("PIL.Image")
    for i, picture in enumerate(pictures):
        image.fromarray(picture).save(folder / f"{i}.png")


def test_images_of_16_bits_keep_their_levels(tmp_path):
    deep = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300
    saved_images(tmp_path, deep, deep + 1)
    d = load(tmp_path)
    np.testing.assert_array_equal(d.X, [deep, deep + 1])
    assert (d.space.kind, d.space.levels) == ("ordinal", 4096)
    saved_images(tmp_path, np.zeros((3, 4), np.uint8))
    with pytest.raises(ValueError, match="1.png has 16 bits a pixel"):
        load(tmp_path)


def test_images_of_one_bit_are_binary(tmp_path):
    bits = np.eye(4, dtype=bool)
    saved_images(tmp_path, bits, ~bits)
    d = load(tmp_path)
    np.testing.assert_array_equal(d.X, [bits, ~bits])
    assert d.space.kind == "binary" and d.X.dtype == np.uint8
    saved_images(tmp_path, np.full((4, 4), 7, np.uint8))
    mixed = load(tmp_path)
    assert mixed.space.levels == 256 and mixed.X[1].max() == 255


@pytest.mark.filterwarnings("error")
def test_what_is_left_out_of_images_is_said(tmp_path):
    full = np.full((4, 5, 4), 255, np.uint8)
    saved_images(tmp_path, full)
    assert load(tmp_path).X.shape == (1, 4, 5, 3)
    full[0, 0, 3] = 7
    saved_images(tmp_path, full)
    with pytest.warns(UserWarning, match=r"transparent pixels are \(alpha\) is left out"):
        assert "alpha" in load(tmp_path).note
