"""Sets that have a name: from a folder, from Debian, from the network."""

import gzip
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from genus.data import known
from genus.data.binarising import binarize
from genus.data.dataset import DataUnavailableError
from genus.data.loading import load
from genus.space import Space


def test_digits_are_grey_levels_with_labels_and_a_split():
    d = load("digits")
    assert d.X.shape == (1797, 8, 8) and d.X.dtype == np.uint8 and d.X.max() == 16
    assert d.space == Space((8, 8), "ordinal", levels=17, layout="HW", dtype="uint8")
    assert (len(d), len(d.train), len(d.test), d.valid) == (1797, 1438, 359, None)
    assert repr(d) == "Data(digits: 1797 × 8×8 ordinal, 17 levels, labels, train 1438, test 359)"
    assert d.test.name == "digits test" and len(d.test.y) == 359


def test_a_set_from_the_data_folder_keeps_its_published_split(mnist):
    d = load("mnist", seed=7)
    assert (d.name, d.space.kind, d.space.levels, d.space.layout) == ("mnist", "ordinal", 256, "HW")
    np.testing.assert_array_equal(d.train.X, mnist["x_train"])
    np.testing.assert_array_equal(d.test.X, mnist["x_test"])
    np.testing.assert_array_equal(d.test.y, mnist["y_test"])
    binary = load("mnist", binarize="sample")
    np.testing.assert_array_equal(binary.test.X, binarize(mnist["x_test"], np.array([0, 1])))


def test_fashion_mnist_from_debian(tmp_path, monkeypatch):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    arrays = {}
    for part, n in (("train", 4), ("t10k", 2)):
        arrays[part] = np.random.default_rng(n).integers(0, 256, (n, 28, 28), np.uint8)
        head = bytes([0, 0, 8, 3]) + np.array([n, 28, 28], ">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(head + arrays[part].tobytes())
        )
        head = bytes([0, 0, 8, 1]) + np.array([n], ">i4").tobytes()
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(head + bytes(range(n))))
    monkeypatch.setattr(known, "DEBIAN", {"fashion_mnist": folder})
    d = load("fashion_mnist")
    np.testing.assert_array_equal(d.train.X, arrays["train"])
    np.testing.assert_array_equal(d.test.X, arrays["t10k"])
    assert d.test.y.tolist() == [0, 1]


def test_cifar10_of_jpegs_says_that_its_pixels_changed(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")

    def jpegs(n, value):
        files = []
        for i in range(n):
            out = io.BytesIO()
            image.fromarray(np.full((32, 32, 3), value + i, np.uint8)).save(out, "JPEG", quality=95)
            files.append(out.getvalue())
        return np.frombuffer(b"".join(files), np.uint8), np.cumsum([0, *map(len, files)])

    (tb, to), (sb, so) = jpegs(3, 100), jpegs(2, 200)
    np.savez(
        tmp_path / "cifar10_jpeg.npz",
        train_bytes=tb,
        train_offsets=to,
        test_bytes=sb,
        test_offsets=so,
        y_train=np.zeros(3, np.uint8),
        y_test=np.ones(2, np.uint8),
    )
    monkeypatch.setenv("GENUS_DATA", str(tmp_path))
    d = load("cifar10")
    assert d.space.layout == "HWC" and d.train.X.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(d.train.X[:, 0, 0, 0], [100, 101, 102])
    assert "JPEG" in d.note and "JPEG" in d.test.note


def test_binary_tables_have_three_parts(tmp_path, monkeypatch):
    with pytest.raises(DataUnavailableError, match=r"GENUS_DATA.*binary_tables.npz.*nltcs_train"):
        load("nltcs")
    sizes = {"train": 5, "valid": 3, "test": 2}
    np.savez(
        tmp_path / "binary_tables.npz",
        **{f"nltcs_{p}": np.full((n, 4), n % 2, np.uint8) for p, n in sizes.items()},
    )
    monkeypatch.setenv("GENUS_DATA", str(tmp_path))
    d = load("nltcs")
    assert d.space == Space((4,), "binary", dtype="uint8") and d.y is None
    assert (len(d.train), len(d.valid), len(d.test)) == (5, 3, 2)
    assert d.valid.X.all() and not d.test.X.any()


# ---------------------------------------------------------------------- downloads


class Web:
    """OpenML with one data set of 28 × 28 pixels, and the ways in which it can go wrong."""

    def __init__(self, n_rows, *, md5=None, cut=None):
        self.X = np.random.default_rng(0).integers(0, 256, (n_rows, 785)).astype(np.uint8)
        rows = "\n".join(",".join([*map(str, row[:-1]), f"'{row[-1]}'"]) for row in self.X)
        self.body = (
            "% a comment\n@relation r\n@attribute a numeric\n@DATA\n" + rows + "\n"
        ).encode()
        self.md5, self.cut, self.asked = md5 or hashlib.md5(self.body).hexdigest(), cut, []

    def get(self, url):
        self.asked.append(url)
        if "json" in url:
            assert url.endswith("/554")
            said = {"url": "https://example.org/mnist.arff", "md5_checksum": self.md5}
            return io.BytesIO(json.dumps({"data_set_description": said}).encode())
        return Cut(self.body, self.cut)


class Cut(io.BytesIO):
    """A connection that breaks after some bytes."""

    def __init__(self, body, cut):
        super().__init__(body)
        self.cut = cut

    def read(self, size=-1):
        if self.cut is not None and self.tell() >= self.cut:
            raise ConnectionResetError("the line broke")
        return super().read(size if self.cut is None else min(size, self.cut))


@pytest.fixture
def small(monkeypatch):
    """MNIST of 4 training rows."""
    monkeypatch.setitem(known.IMAGES, "mnist", known.Known("small", (28, 28), 4, 554))


def cached():
    return (
        sorted(os.listdir(os.environ["GENUS_CACHE"]))
        if Path(os.environ["GENUS_CACHE"]).exists()
        else []
    )


def test_a_download_is_cached(monkeypatch, small):
    web = Web(6)
    monkeypatch.setattr(known, "_get", web.get)
    d = load("mnist")
    np.testing.assert_array_equal(d.train.X, web.X[:4, :-1].reshape(-1, 28, 28))
    np.testing.assert_array_equal(d.test.X, web.X[4:, :-1].reshape(-1, 28, 28))
    np.testing.assert_array_equal(d.y, web.X[:, -1])
    assert cached() == ["mnist.npz"] and len(web.asked) == 2
    np.testing.assert_array_equal(load("mnist").X, d.X)
    assert len(web.asked) == 2


@pytest.mark.parametrize(
    ("web", "message"),
    [
        (Web(6, md5="0" * 32), "damaged on the way.*MD5"),
        (Web(6, cut=5000), "the line broke.*GENUS_DATA"),
        (Web(3), "is not mnist"),
    ],
)
def test_a_broken_download_leaves_nothing(monkeypatch, small, web, message):
    monkeypatch.setattr(known, "_get", web.get)
    with pytest.raises(DataUnavailableError, match=message):
        load("mnist")
    assert cached() == []


def test_a_cache_that_fails_half_way_leaves_nothing(monkeypatch, small):
    monkeypatch.setattr(known, "_get", Web(6).get)

    def full(path, **arrays):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(DataUnavailableError, match="No space left"):
        load("mnist")
    assert cached() == []


def test_offline_it_says_what_to_do():
    with pytest.raises(
        ConnectionError,
        match=r"'mnist' is not on this machine.*GENUS_DATA to a folder with mnist.npz.*x_train, "
        r"y_train",
    ):
        load("mnist")
