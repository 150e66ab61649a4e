"""Data sets by name, and files that nobody prepared, with splits and binarisation that repeat bit for bit.

    data = genus.data.load("digits")
    model.fit(data.train).score(data.test)

Every draw here comes from numpy's ``RandomState``, whose streams are frozen for good: a split or a
binarisation of a seed is the same on every machine and with every later version.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import difflib
import gzip
import hashlib
import io
import json
import os
import re
import tempfile
import urllib.request
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genus.space import Space, as_array

Index = slice | np.ndarray


class DataUnavailableError(ConnectionError):
    """A known data set that is not on this machine and cannot be fetched; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Data:
    """Rows, their space and, where there are any, labels; ``train`` and ``test`` are Data too.

    Arguments
    ---------
    X: (n, *shape) array, tensor, DataFrame or dataset; y: (n,) labels, or None.
    space: what a row looks like; inferred when None.
    note: what a reader of results must know about these rows.
    parts: rows of "train", "test" and perhaps "valid"; when empty, ``train`` and ``test`` are those of :meth:`split`.

    ``Model.fit``, ``log_prob`` and ``compare`` take it as it is.
    """

    X: Any
    y: Any = None
    space: Space = None  # type: ignore[assignment]
    name: str = "data"
    note: str = ""
    parts: dict[str, Index] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.space is None:
            object.__setattr__(self, "space", Space.of(self.X))
        if self.y is not None and len(self.y) != len(self):
            raise ValueError(f"y has {len(self.y)} labels, X has {len(self)} rows")

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{k} {len(self._part(k))}" for k in self.parts)
        return f"Data({self.name}: {len(self)} × {self.space}{', labels' if self.y is not None else ''}{', ' + sizes if sizes else ''})"

    @cached_property
    def train(self) -> Data:
        """The rows to learn from."""
        return self._part("train") if self.parts else self.split().train

    @cached_property
    def test(self) -> Data:
        """The rows to measure on."""
        return self._part("test") if self.parts else self.split().test

    @cached_property
    def valid(self) -> Data | None:
        """The published validation rows, where there are any."""
        return self._part("valid") if "valid" in self.parts else None

    def split(self, test: float = 0.2, seed: int = 0) -> Data:
        """The same rows with a random share ``test`` of them, 0 < test < 1, set aside by ``seed``; at least one row each."""
        n = len(self)
        if not 0 < test < 1 or n < 2:
            raise ValueError(f"test={test!r} of {n} rows: a share between 0 and 1 of at least 2 rows is needed")
        order = np.random.RandomState(seed).permutation(n)
        held = min(max(1, round(test * n)), n - 1)
        return dataclasses.replace(self, parts={"train": np.sort(order[held:]), "test": np.sort(order[:held])})

    def _part(self, part: str) -> Data:
        rows = self.parts[part]
        y = None if self.y is None else _take(self.y, rows)
        return Data(_take(self.X, rows), y, self.space, f"{self.name} {part}", self.note)


def _take(X: Any, rows: Index) -> Any:
    if isinstance(X, torch.utils.data.Dataset):
        return torch.utils.data.Subset(X, np.arange(len(X))[rows].tolist())  # type: ignore[arg-type]
    if isinstance(X, pd.DataFrame | pd.Series):
        return X.iloc[rows]
    return X[torch.from_numpy(rows)] if isinstance(X, Tensor) and isinstance(rows, np.ndarray) else X[rows]


def load(source: Any, *, binarize: str | None = None, seed: int = 0, test: float = 0.2) -> Data:
    """Data by name, from a file or folder, or from an array that is there already.

    source: a name of :func:`names`; a ``.csv``, ``.tsv``, ``.parquet``, ``.npy`` or ``.npz`` file (``x_train``, ``y_train``,
        ``x_test``, ``y_test``; or one array, or ``X`` and ``y``); a folder of images of one size, whose sub-folders are
        labels; an array, tensor, DataFrame or dataset.
    binarize: for grey images: ``"sample"`` draws each pixel once, x ~ Bernoulli(grey), with ``seed``; ``"threshold"`` cuts at
        ½; ``"dynamic"`` draws the test rows once and leaves the training rows grey, to be drawn afresh for every batch.
    test, seed: the share of rows set aside, and by which permutation, where no split was published.

    Raises ValueError that names the file, line or column; DataUnavailableError when a known set can be got nowhere.
    """
    if binarize not in (None, "sample", "dynamic", "threshold"):
        raise ValueError(f"binarize={binarize!r}: choose 'sample', 'dynamic', 'threshold' or None")
    data = _open(source)
    if not data.parts and len(data) > 1:
        data = data.split(test, seed)
    return data if binarize is None else _binarized(data, binarize, seed)


def names() -> list[dict[str, str]]:
    """The known data sets: ``name``, ``about`` in one line, and ``where`` each is ("to download" when not on this machine)."""
    rows = [{"name": "digits", "about": "1,797 images of 8×8 pixels in 17 grey levels, 10 digits", "where": "scikit-learn"}]
    for name, known in IMAGES.items():
        rows.append({"name": name, "about": known.about, "where": str(_local(name) or "to download")})
    tables = _folder() and _folder() / "binary_tables.npz"  # type: ignore[operator]
    here = str(tables) if tables and tables.exists() else "not here: set GENUS_DATA to a folder with binary_tables.npz"
    rows += [{"name": name, "about": about, "where": here} for name, about in TABLES.items()]
    return rows


def _open(source: Any) -> Data:
    if isinstance(source, Data):
        return source
    if not isinstance(source, str | os.PathLike):
        return Data(source)
    name = str(source)
    if name == "digits":
        from sklearn.datasets import load_digits

        bunch = load_digits()
        space = Space((8, 8), "ordinal", levels=17, layout="HW", dtype="uint8")
        return Data(bunch.images.astype(np.uint8), bunch.target, space, name)
    if name in IMAGES:
        return _images(name)
    if name in TABLES:
        return _binary_table(name)
    path = Path(source).expanduser()
    if path.is_dir():
        return _image_folder(path)
    if path.exists():
        reader = {".csv": _csv, ".tsv": _csv, ".txt": _csv, ".parquet": _parquet, ".npy": _npy, ".npz": _npz}.get(path.suffix.lower())
        if reader is None:
            raise ValueError(f"{path}: files of type {path.suffix!r} cannot be read: use .csv, .tsv, .parquet, .npy or .npz")
        return reader(path)
    known = [row["name"] for row in names()]
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"{name!r} is neither a file nor a known data set: {hint}known are {', '.join(known)}")


# ---------------------------------------------------------------------- binarisation


def binarize(X: Any, seed: int = 0, *, top: float | None = None) -> np.ndarray:
    """Black and white drawn once from grey: x ~ Bernoulli(X / top), uint8, the same for the same seed everywhere.

    X: grey values 0 … top. top: the value of white; None: 255 for uint8, else 1.
    """
    return _draw(_grey(X, top), np.random.RandomState(seed))


def _grey(X: Any, top: float | None = None) -> np.ndarray:
    a = as_array(X)
    top = top or (255 if a.dtype == np.uint8 else 1)
    if a.size == 0 or not (a.min() >= 0 and a.max() <= top):
        raise ValueError(f"grey values must lie in 0 … {top:g} (no NaN) to be made binary")
    return a if a.dtype == np.float32 and top == 1 else np.divide(a, top, dtype=np.float32)


def _draw(grey: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    out = np.empty(grey.shape, np.uint8)
    for i in range(0, len(grey), 1000):  # the stream is the same in one piece
        out[i : i + 1000] = rng.random_sample(grey[i : i + 1000].shape) < grey[i : i + 1000]
    return out


def _binarized(data: Data, how: str, seed: int) -> Data:
    s = data.space
    if s.kind == "binary":
        return data
    if s.kind not in ("ordinal", "continuous") or s.low != 0 or isinstance(data.X, torch.utils.data.Dataset):
        raise ValueError(f"binarize={how!r} needs grey images, an array of values from 0 up: these rows are {s}")
    grey = _grey(data.X, s.levels - 1 if s.levels else 1)
    if how == "threshold":
        X: np.ndarray = (grey > 0.5).astype(np.uint8)
    else:
        X = grey.copy() if how == "dynamic" else np.empty(grey.shape, np.uint8)
        for k, (part, rows) in enumerate(data.parts.items()):
            if how == "sample" or part != "train":
                X[rows] = _draw(grey[rows], np.random.RandomState([seed, k]))
        if not data.parts:
            X[:] = _draw(grey, np.random.RandomState(seed)) if how == "sample" else grey
    space = Space(s.shape, "binary", layout=s.layout, dtype="uint8")
    said = {"sample": f"pixels drawn once, seed {seed}", "threshold": "pixels cut at ½"}
    note = said.get(how, f"training pixels drawn afresh for every batch, test pixels once, seed {seed}")
    return dataclasses.replace(data, X=X, space=space, name=f"{data.name}, binary", note="; ".join(filter(None, (data.note, note))))


# ---------------------------------------------------------------------- known sets


@dataclass(frozen=True)
class Known:
    """A published set of images: what it is, its shape and training rows, and its number at OpenML."""

    about: str
    shape: tuple[int, ...]
    n_train: int
    openml: int


IMAGES = {
    "mnist": Known("70,000 images of 28×28 pixels, 256 levels, 10 handwritten digits", (28, 28), 60_000, 554),
    "fashion_mnist": Known("70,000 images of 28×28 pixels, 256 levels, 10 sorts of clothes", (28, 28), 60_000, 40996),
    "cifar10": Known("60,000 images of 32×32 pixels in colour, 10 sorts of things", (3, 32, 32), 50_000, 40927),
}
TABLES = {
    "nltcs": "21,574 rows of 16 binary columns: disability of old people",
    "plants": "23,215 rows of 69 binary columns: where plants grow",
    "mushrooms": "8,124 rows of 112 binary columns: mushrooms",
    "dna": "3,186 rows of 180 binary columns: splice junctions",
    "baudio": "20,000 rows of 100 binary columns: who listened to what",
    "nips": "1,740 rows of 500 binary columns: words of papers",
}
DEBIAN = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}  # the package dataset-fashion-mnist
OPENML = "https://www.openml.org/api/v1/json/data/{}"
KEYS = ("x_train", "y_train", "x_test", "y_test")


def _folder() -> Path | None:
    return Path(os.environ["GENUS_DATA"]).expanduser() if os.environ.get("GENUS_DATA") else None


def _cache() -> Path:
    return Path(os.environ.get("GENUS_CACHE") or "~/.cache/genus").expanduser()


def _local(name: str) -> Path | None:
    """Where a known set of images is on this machine."""
    folder = _folder()
    places = [] if folder is None else [folder / f"{name}.npz", folder / f"{name}_jpeg.npz"]
    places += [DEBIAN[name]] if name in DEBIAN else []
    return next((p for p in [*places, _cache() / f"{name}.npz"] if p.exists()), None)


def _images(name: str) -> Data:
    path = _local(name) or _download(name)
    if path.is_dir():
        x, y, tx, ty = (_idx(path / f"{p}-{k}-ubyte.gz") for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1"))
        return _published(name, x, y, tx, ty)
    if path.stem.endswith("_jpeg"):
        with np.load(path, allow_pickle=False) as z:
            x, tx = (_jpegs(z[f"{p}_bytes"], z[f"{p}_offsets"], path) for p in ("train", "test"))
            return _published(name, x, z["y_train"], tx, z["y_test"], "the pixels went through JPEG, which changed them")
    return dataclasses.replace(_npz(path), name=name)


def _published(name: str, x: Any, y: Any, tx: Any, ty: Any, note: str = "") -> Data:
    n, m = len(x), len(tx)
    labels = None if y is None or ty is None else np.concatenate([y, ty])
    return Data(np.concatenate([x, tx]), labels, name=name, note=note, parts={"train": slice(0, n), "test": slice(n, n + m)})


def _binary_table(name: str) -> Data:
    folder = _folder()
    path = folder / "binary_tables.npz" if folder else None
    if path is None or not path.exists():
        raise DataUnavailableError(
            f"the data set {name!r} is not on this machine: set the environment variable GENUS_DATA to a folder with "
            f"binary_tables.npz (uint8 arrays {name}_train, {name}_valid, {name}_test, from UCLA-StarAI Density-Estimation-Datasets)"
        )
    with np.load(path, allow_pickle=False) as z:
        parts = {p: z[f"{name}_{p}"] for p in ("train", "valid", "test")}
    ends = np.cumsum([0, *map(len, parts.values())]).tolist()
    X = np.concatenate(list(parts.values()))
    return Data(X, None, Space(X.shape[1:], "binary", dtype="uint8"), name, parts={p: slice(*ends[i : i + 2]) for i, p in enumerate(parts)})


def _idx(path: Path) -> np.ndarray:
    """An array of bytes in the IDX format of MNIST: magic 0, 0, 8, rank; big-endian sizes; data."""
    with gzip.open(path) as f:
        data = f.read()
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, 4)
    return np.frombuffer(data, np.uint8, int(shape.prod()), 4 + 4 * rank).reshape(shape)


def _jpegs(data: np.ndarray, offsets: np.ndarray, path: Path) -> np.ndarray:
    image = _pillow(path)
    ends = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return np.stack([np.asarray(image.open(io.BytesIO(data[a:b].tobytes()))) for a, b in ends])


def _pillow(path: Path) -> Any:
    try:
        from PIL import Image
    except ImportError as e:
        raise ImportError(f"{path} holds images, which need pillow: pip install 'genus[images]'") from e
    return Image


# ---------------------------------------------------------------------- downloads


def _get(url: str) -> IO[bytes]:
    """Open a URL; the one place that touches the network."""
    return cast(IO[bytes], urllib.request.urlopen(urllib.request.Request(url, headers={"User-Agent": "genus"}), timeout=30))


def _download(name: str) -> Path:
    """Fetch a set from OpenML, check the MD5 that OpenML states, and cache it as .npz. Nothing half-written is left."""
    known, cache = IMAGES[name], _cache()
    try:
        with _get(OPENML.format(known.openml)) as f:
            said = json.load(f)["data_set_description"]
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}.") as aside:
            arff, digest = Path(aside) / "data.arff", hashlib.md5(usedforsecurity=False)
            with _get(said["url"]) as f, arff.open("wb") as out:
                while block := f.read(1 << 20):
                    digest.update(block)
                    out.write(block)
            if digest.hexdigest() != said["md5_checksum"]:
                raise DataUnavailableError(
                    f"{said['url']} was damaged on the way (MD5 {digest.hexdigest()}, OpenML states {said['md5_checksum']}): try again"
                )
            table = _arff(arff)
            if table.shape[1] != int(np.prod(known.shape)) + 1 or len(table) <= known.n_train:
                raise DataUnavailableError(f"{said['url']} has {table.shape} cells, which is not {name}")
            x, y, n = table[:, :-1].reshape(-1, *known.shape), table[:, -1], known.n_train
            ready = Path(aside) / "ready.npz"
            np.savez_compressed(ready, x_train=x[:n], y_train=y[:n], x_test=x[n:], y_test=y[n:])
            os.replace(ready, cache / f"{name}.npz")
    except DataUnavailableError:
        raise
    except (OSError, KeyError, ValueError) as e:
        debian = ", install the Debian package dataset-fashion-mnist" if name in DEBIAN else ""
        raise DataUnavailableError(
            f"the data set {name!r} is not on this machine and could not be downloaded from OpenML ({e}). Set the environment "
            f"variable GENUS_DATA to a folder with {name}.npz (uint8 arrays {', '.join(KEYS)}){debian}, or go online once. "
            "load('digits') works everywhere"
        ) from e
    return cache / f"{name}.npz"


def _arff(path: Path) -> np.ndarray:
    """The rows of a dense ARFF file of bytes."""
    with path.open("rb") as f:
        for line in f:
            if line.strip().lower() == b"@data":
                return pd.read_csv(f, header=None, dtype=np.uint8, quotechar="'", comment="%").to_numpy()
    raise ValueError("no @data line")


# ---------------------------------------------------------------------- files


def _npy(path: Path) -> Data:
    try:
        X = np.load(path, mmap_mode="r" if path.stat().st_size > 2**31 else None, allow_pickle=False)
    except (ValueError, EOFError) as e:
        raise ValueError(f"{path} cannot be read as an array of numbers: {e}") from None
    return _named(path, X)


def _npz(path: Path) -> Data:
    try:
        with np.load(path, allow_pickle=False) as z:
            arrays = {k: z[k] for k in z.files}
    except (ValueError, EOFError, OSError, AttributeError) as e:
        raise ValueError(f"{path} cannot be read as arrays of numbers: {e}") from None
    lower = {k.lower(): a for k, a in arrays.items()}
    if "x_train" in lower and "x_test" in lower:
        x, y, tx, ty = (lower.get(k) for k in KEYS)
        return _published(path.stem, x, y, tx, ty)
    X = lower["x"] if "x" in lower else next(iter(arrays.values())) if len(arrays) == 1 else None
    if X is None:
        raise ValueError(f"{path} holds {', '.join(arrays) or 'nothing'}: expected {', '.join(KEYS)}; or X (and y); or one array")
    return _named(path, X, lower.get("y"))


def _parquet(path: Path) -> Data:
    try:
        frame = pd.read_parquet(path)
    except ImportError as e:
        raise ImportError(f"{path} is Parquet, which needs pyarrow: pip install 'genus[parquet]'") from e
    except (OSError, ValueError) as e:
        raise ValueError(f"{path} cannot be read as Parquet: {e}") from None
    return _named(path, frame)


def _named(path: Path, X: Any, y: Any = None) -> Data:
    try:
        return Data(X, y, name=path.stem)
    except (ValueError, TypeError) as e:
        raise type(e)(f"{path}: {e}") from None


def _image_folder(folder: Path) -> Data:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg") and not p.name.startswith("."))
    if not files:
        raise ValueError(f"{folder} has no images: .png and .jpg files are looked for, in it and in its sub-folders")
    image = _pillow(folder)
    pictures: list[np.ndarray] = []
    for path in files:
        try:
            with image.open(path) as i:
                pictures.append(np.asarray(i if i.mode in ("L", "RGB") else i.convert("L" if i.mode in ("1", "LA") else "RGB")))
        except OSError as e:
            raise ValueError(f"{path} cannot be read as an image: {e}") from None
        if pictures[-1].shape[:2] != pictures[0].shape[:2]:
            sizes = ["×".join(map(str, p.shape[1::-1])) for p in (pictures[-1], pictures[0])]
            raise ValueError(f"{path} is {sizes[0]} pixels, {files[0]} is {sizes[1]}: resize them to one size")
    colour = any(p.ndim == 3 for p in pictures)
    X = np.stack([np.repeat(p[..., None], 3, 2) if colour and p.ndim == 2 else p for p in pictures])
    labels = [p.relative_to(folder).parts[0] if p.parent != folder else "" for p in files]
    space = Space(X.shape[1:], "ordinal", levels=256, layout="HWC" if colour else "HW", dtype="uint8")
    return Data(X, np.array(labels) if any(labels) else None, space, folder.name)


# ---------------------------------------------------------------------- tables of text

MISSING = ("?", "-", "--", ".")  # beside pandas's own: empty, NA, NaN, null, None …
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?|[+-]?\d+(\.\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?")
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?")


def _csv(path: Path) -> Data:
    """The table of a text file, without the columns that say nothing of the others, which a warning names."""
    df = read_csv(path)
    dropped = {c: why for c in df if (why := _useless(df[c], c))} if df.columns.is_unique else {}
    if dropped:
        warnings.warn(f"{path}: left out {', '.join(f'{c!r} ({why})' for c, why in dropped.items())}", stacklevel=2)
        df = df.drop(columns=list(dropped))
    if not len(df.columns):
        raise ValueError(f"{path} has no column to learn from: {', '.join(f'{c!r} is {why}' for c, why in dropped.items())}")
    return _named(path, df)


def _useless(s: pd.Series, name: Any) -> str:
    """Why a column of a file cannot be learned from: it is empty, counts the rows, or names them."""
    if s.isna().all():
        return "empty"
    if str(name).casefold() in ("unnamed: 0", "id", "index", "row") and _counts(s):
        return "a mere row number"
    seen = s.dropna()
    if s.dtype in (object, "str", "string") and len(seen) > 50 and (n := seen.nunique()) > len(seen) / 2:
        return f"{n} different words in {len(seen)} rows, an identifier or free text"
    return ""


def read_csv(path: Path) -> pd.DataFrame:
    """All columns of a table of text: separator, header, decimal comma, dates and missing cells are guessed."""
    whole = _text(path)
    text = whole.lstrip("\r\n")
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    if not lines:
        raise ValueError(f"{path} is empty")
    sep = _separator(lines, path)
    first = next(csv.reader([lines[0]], delimiter=sep))
    header = not all(_is_number(c.strip()) for c in first)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            df = pd.read_csv(
                io.StringIO(text),
                sep=sep,
                header=0 if header else None,
                index_col=False,
                na_values=list(MISSING),
                skipinitialspace=True,
                skip_blank_lines=False,
                low_memory=False,
            )
    except pd.errors.ParserWarning:
        raise ValueError(f"{path}: the rows have more cells than the header has names: name every column") from None
    except pd.errors.ParserError as e:
        said = str(e).strip().removeprefix("Error tokenizing data. C error: ")
        raise ValueError(f"{path}: {said} (cells are parted by {sep!r})") from None
    df = df.dropna(how="all")  # blank lines; the index goes on counting lines
    if len(df) == 0:
        raise ValueError(f"{path} has a header but no rows")
    df.columns = pd.Index([c.strip() if isinstance(c, str) else c for c in df.columns])
    line = whole.count("\n", 0, len(whole) - len(text)) + (2 if header else 1)
    columns = [_words(c, line, sep, path) if c.dtype in (object, "str", "string") else c for _, c in df.items()]
    return pd.concat(columns, axis=1).reset_index(drop=True)


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _separator(lines: list[str], path: Path) -> str:
    """The separator that parts every line into the same number of cells, and into the most."""
    if path.suffix.lower() == ".tsv":
        return "\t"

    def merit(sep: str) -> tuple[float, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=sep)]
        return (counts.count(counts[0]) / len(counts) if counts[0] > 1 else 0.0, counts[0])

    return max(",;\t|", key=merit)


def _is_number(cell: str) -> bool:
    with contextlib.suppress(ValueError):
        float(cell.replace(",", "."))
        return True
    return False


def _counts(s: pd.Series) -> bool:
    return pd.api.types.is_integer_dtype(s.dtype) and bool((s.diff().dropna() == 1).all())


def _words(s: pd.Series, first_line: int, sep: str, path: Path) -> pd.Series:
    """A column of text: numbers with commas and dates are read; a typing error among numbers is refused; words stay."""
    s = s.map(lambda v: v.strip() if isinstance(v, str) else v)
    seen = s.dropna()
    if not seen.map(lambda v: isinstance(v, str)).all():
        return s  # truths, with gaps
    whole, strip = (THOUSANDS, ",") if sep == "," else (DECIMAL_COMMA, ".")
    fine = seen.map(lambda v: whole.fullmatch(v) is not None)
    if fine.all():
        return pd.to_numeric(s.map(lambda v: v.replace(strip, "").replace(",", ".") if isinstance(v, str) else v))
    if len(seen) and seen.map(lambda v: ISO_DATE.fullmatch(v) is not None).all():
        with contextlib.suppress(ValueError):
            return pd.to_datetime(s, format="ISO8601")
    fine |= pd.to_numeric(seen, errors="coerce").notna()
    if fine.mean() > 0.9 and seen[fine].nunique() > 20:
        row = seen.index[~fine][0]
        raise ValueError(
            f"{path}, line {row + first_line}, column {s.name!r}: {seen[row]!r} is not a number, as most of the column is: "
            "correct it or leave it empty"
        )
    return s
