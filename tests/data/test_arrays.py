"""Files of arrays, Parquet, and folders of images."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest

from genus.data import arrays
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
    with pytest.raises(ValueError, match="bad.npz is damaged"):
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


def claiming(shape, descr="<f8", body=bytes(100)):
    """The bytes of a .npy file whose header claims this shape."""
    f = io.BytesIO()
    header = {"shape": shape, "fortran_order": False, "descr": descr}
    np.lib.format.write_array_header_1_0(f, header)
    return f.getvalue() + body


def zipped(**parts):
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in parts.items():
            z.writestr(f"{name}.npy", data)
    return f.getvalue()


def png(width, height):
    """A picture that claims to be large."""

    def chunk(name, data):
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


WHOLE = zipped(x=claiming((1000, 2), body=np.random.default_rng(0).random((1000, 2)).tobytes()))
HOSTILE = {
    "tera.npy": (claiming((10**7, 10**6)), "claims an array of shape"),
    "below.npy": (claiming((-5, 2)), "claims an array of shape"),
    "wide.npy": (claiming((3,), "<U500000000"), "claims an array of shape"),
    "cut.npy": (claiming((100, 2)), "claims an array of shape"),
    "nothing.npy": (b"", "cannot be read"),
    "tera.npz": (zipped(x=claiming((10**7, 10**6))), "claims an array of shape"),
    "air.npz": (zipped(x=claiming((3000, 1000), "|u1", bytes(3 * 10**6))), "unpacks to"),
    "cut.npz": (WHOLE[: len(WHOLE) // 2], "damaged|cannot be read"),
    "flipped.npz": (WHOLE[:200] + b"\xff" * 40 + WHOLE[240:], "damaged|cannot be read"),
    "long.csv": (b"a,b\n" + b"x" * 200_000 + b",1\n" + b"y,2\n" * 20, "cannot be read as a table"),
    "odd.csv": ("a,b\n1,2\n3,4\n".encode("utf-16")[:-1], "cannot be read as text.*UTF-8"),
    "huge.png": (png(50_000, 50_000), "too large for an image"),
    "short.png": (png(50, 50), "cannot be read as an image"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_error_that_names_the_path(name, tmp_path, monkeypatch):
    data, says = HOSTILE[name]
    monkeypatch.setattr(arrays, "SWOLLEN", 10**6)
    folder = tmp_path / "pictures"
    folder.mkdir()
    path = (folder if name.endswith("png") else tmp_path) / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=says) as error:
        load(folder if name.endswith("png") else path)
    assert str(path) in str(error.value)
    (tmp_path / "whole.npz").write_bytes(WHOLE)
    assert len(load(tmp_path / "whole.npz")) == 1000
