"""Data: sets by name, files that nobody prepared, splits and binarisation that repeat."""

import gzip
import hashlib
import io
import json
import os
import urllib.error
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import genus
from genus.data import known
from genus.data.binarising import binarize
from genus.data.dataset import Data, DataUnavailableError
from genus.data.loading import load, names
from genus.space import Space


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No data folder, no cache, no Debian package and no network, unless a test makes one."""
    monkeypatch.delenv("GENUS_DATA", raising=False)
    monkeypatch.setenv("GENUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known, "DEBIAN", {})

    def offline(url):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(known, "_get", offline)


def written(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


# ---------------------------------------------------------------------- Data


def test_digits_are_grey_levels_with_labels_and_a_split():
    d = load("digits")
    assert d.X.shape == (1797, 8, 8) and d.X.dtype == np.uint8 and d.X.max() == 16
    assert d.space == Space((8, 8), "ordinal", levels=17, layout="HW", dtype="uint8")
    assert (len(d), len(d.train), len(d.test), d.valid) == (1797, 1438, 359, None)
    assert repr(d) == "Data(digits: 1797 × 8×8 ordinal, 17 levels, labels, train 1438, test 359)"
    assert d.test.name == "digits test" and len(d.test.y) == 359


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
    model = genus.IndependentHistogram().fit(d.train)
    assert model.space_ == d.space
    assert model.score(d.test) == model.score(d.test.X)
    assert model.sample(2, random_state=0).dtype == np.uint8


# ---------------------------------------------------------------------- binarisation


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
        model = genus.IndependentHistogram(random_state=0).fit(d.train)
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


# ---------------------------------------------------------------------- known sets


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """A folder with a small mnist.npz."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (6, 28, 28), np.uint8),
        "y_train": np.arange(6, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (3, 28, 28), np.uint8),
        "y_test": np.arange(3, dtype=np.uint8),
    }
    np.savez(tmp_path / "mnist.npz", **arrays)
    monkeypatch.setenv("GENUS_DATA", str(tmp_path))
    return arrays


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


# ---------------------------------------------------------------------- files


def test_a_plain_table(tmp_path):
    d = load(written(tmp_path / "t.csv", "age,job,pay\n30,cook,1.5\n41,smith,\n30,,3.5\n"))
    assert d.name == "t" and d.space.kinds == ("categorical", "categorical", "continuous")
    assert d.X["pay"].isna().tolist() == [False, True, False] and d.X["job"].isna().sum() == 1


@pytest.mark.parametrize(
    ("text", "name", "encoding"),
    [
        ("a,b\n1.5,x\n2.5,y\n", "t.csv", "utf-8-sig"),
        ("a;b\n1,5;x\n2,5;y\n", "t.csv", "utf-8"),
        ("a\tb\n1.5\tx\n2.5\ty\n", "t.csv", "utf-16"),
        ("a\tb\n1.5\tx\n2.5\ty\n", "t.tsv", "utf-8"),
        ("a|b\n1.5|x\n2.5|y\n", "t.csv", "utf-8"),
        ("\n a , b\r\n 1.5 , x\r\n\r\n 2.5 , y \r\n\r\n", "t.csv", "utf-8"),
        (",a,b\n0,1.5,x\n1,2.5,y\n", "t.csv", "utf-8"),
        ("a,b,\n1.5,x,\n2.5,y,\n", "t.csv", "utf-8"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out")
def test_a_table_that_nobody_prepared(tmp_path, text, name, encoding):
    X = load(written(tmp_path / name, text, encoding)).X
    assert (
        list(X.columns) == ["a", "b"]
        and X["a"].tolist() == [1.5, 2.5]
        and X["b"].tolist() == ["x", "y"]
    )


def test_old_western_letters_are_read(tmp_path):
    assert load(written(tmp_path / "t.csv", "naïf,b\né,1\nü,2\n", "cp1252")).X["naïf"].tolist() == [
        "é",
        "ü",
    ]


def test_thousands_gaps_and_truths(tmp_path):
    text = 'pay,yes,n\n"1,234.5",True,3\n"1,000",,?\n12,False,5\n'
    X = load(written(tmp_path / "t.csv", text)).X
    assert X["pay"].tolist() == [1234.5, 1000, 12] and X["n"].isna().tolist() == [
        False,
        True,
        False,
    ]
    assert load(tmp_path / "t.csv").space.kinds[1] == "binary"
    assert load(written(tmp_path / "e.csv", "a;b\n1.234,5;x\n2,5;y\n")).X["a"].tolist() == [
        1234.5,
        2.5,
    ]


def test_what_is_dropped_is_said(tmp_path):
    path = written(tmp_path / "t.csv", ",a,empty\n0,1.5,\n1,2.5,\n")
    with pytest.warns(
        UserWarning, match=r"left out 'Unnamed: 0' \(a mere row number\), 'empty' \(empty\)"
    ):
        assert list(load(path).X.columns) == ["a"]
    rows = "".join(f"{i},u{i},{i % 7 / 2},{'ab'[i % 2]},{20 * i}\n" for i in range(60))
    with pytest.warns(
        UserWarning,
        match=r"left out 'ID' \(a mere row number\), 'name' \(60 different words in 60 rows",
    ):
        assert list(load(written(tmp_path / "ids.csv", "ID,name,a,b,n\n" + rows)).X.columns) == [
            "a",
            "b",
            "n",
        ]
    assert list(genus.data.read_csv(tmp_path / "ids.csv").columns) == ["ID", "name", "a", "b", "n"]


def test_dates_are_read_and_come_back(tmp_path):
    days = "".join(
        f"2021-03-{d:02d},2021-03-{d:02d} 12:30:{d:02d},2021-03-x{d % 3}\n" for d in range(1, 29)
    )
    data = load(written(tmp_path / "t.csv", "day,time,word\n" + days))
    assert data.space.kinds == ("ordinal", "continuous", "categorical")
    drawn = genus.IndependentHistogram(random_state=0).fit(data).sample(5, random_state=0)
    assert (drawn.dtypes[["day", "time"]] == data.X.dtypes[["day", "time"]]).all()
    assert (drawn["day"] == drawn["day"].dt.normalize()).all() and drawn["day"].between(
        "2021-03-01", "2021-03-28"
    ).all()


def test_numbers_without_a_header_are_all_kept(tmp_path):
    X = load(written(tmp_path / "t.csv", "1.5,2\n2.5,3\n")).X
    assert X.shape == (2, 2) and list(X.columns) == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv is empty"),
        ("a,b\n", "a header but no rows"),
        ("a,b\nr1,1,2\nr2,3,4\n", "more cells than the header"),
        ("a,b\n1,2\n3,4,5\n", "Expected 2 fields in line 3, saw 3"),
        ("a,a\n1,x\n", None),
        (
            "n\n" + "\n".join(map(str, range(50))) + "\n5o\n",
            r"t.csv, line 52, column 'n': '5o' is not a number",
        ),
        (
            "\n\nn;b\n" + "\n".join(f"{i},5;w" for i in range(50)) + "\n5o;w\n",
            r"line 54, column 'n'",
        ),
        (
            "when\n" + "".join(f"u{i}\n" for i in range(1200)),
            r"t.csv has no column to learn from: 'when' is 1200 different words",
        ),
    ],
)
def test_a_table_that_cannot_be_read_says_where(tmp_path, text, message):
    path = written(tmp_path / "t.csv", text)
    if message is None:  # pandas renames the second of two equal names
        assert list(load(path).X.columns) == ["a", "a.1"]
        return
    with pytest.raises(ValueError, match=message):
        load(path)


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    df = pd.DataFrame({"a": [1.5, None], "b": ["x", "y"]})
    df.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(load(tmp_path / "t.parquet").X, df)
    written(tmp_path / "bad.parquet", "no")
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
    written(tmp_path / "bad.npz", "no")
    with pytest.raises(ValueError, match="bad.npz cannot be read"):
        load(tmp_path / "bad.npz")
    np.save(tmp_path / "flat.npy", np.ones(3))
    with pytest.raises(ValueError, match="flat.npy: Expected 2D array"):
        load(tmp_path / "flat.npy")
    with pytest.raises(ValueError, match="files of type '.doc' cannot be read"):
        load(written(tmp_path / "t.doc", "x"))


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
    written(tmp_path / "dog" / "big.png", "no")
    with pytest.raises(ValueError, match="big.png cannot be read as an image"):
        load(tmp_path)


def test_a_folder_without_images_says_so(tmp_path):
    with pytest.raises(ValueError, match="has no images"):
        load(tmp_path)
