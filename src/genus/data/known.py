"""Data sets by name: found on this machine, or fetched once."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import itertools
import json
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
import pandas as pd

from genus.data.arrays import pillow, read_npz
from genus.data.dataset import KEYS, Data, DataUnavailableError, Index, published
from genus.space import Space


@dataclass(frozen=True)
class Known:
    """A published set of images: what it is, its shape, training rows and number at OpenML."""

    about: str
    shape: tuple[int, ...]
    n_train: int
    openml: int


IMAGES = {
    "mnist": Known(
        "70,000 images of 28×28 pixels, 256 levels, 10 handwritten digits", (28, 28), 60_000, 554
    ),
    "fashion_mnist": Known(
        "70,000 images of 28×28 pixels, 256 levels, 10 sorts of clothes", (28, 28), 60_000, 40996
    ),
    "cifar10": Known(
        "60,000 images of 32×32 pixels in colour, 10 sorts of things", (3, 32, 32), 50_000, 40927
    ),
}
TABLES = {
    "nltcs": "21,574 rows of 16 binary columns: disability of old people",
    "plants": "23,215 rows of 69 binary columns: where plants grow",
    "mushrooms": "8,124 rows of 112 binary columns: mushrooms",
    "dna": "3,186 rows of 180 binary columns: splice junctions",
    "baudio": "20,000 rows of 100 binary columns: who listened to what",
    "nips": "1,740 rows of 500 binary columns: words of papers",
}
# where the package dataset-fashion-mnist has its files
DEBIAN = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}
OPENML = "https://www.openml.org/api/v1/json/data/{}"


def data_folder() -> Path | None:
    """The folder that GENUS_DATA names, or None."""
    folder = os.environ.get("GENUS_DATA")
    return Path(folder).expanduser() if folder else None


def _cache() -> Path:
    return Path(os.environ.get("GENUS_CACHE") or "~/.cache/genus").expanduser()


def local_file(name: str) -> Path | None:
    """Where a known set of images is on this machine."""
    places = []
    folder = data_folder()
    if folder is not None:
        places += [folder / f"{name}.npz", folder / f"{name}_jpeg.npz"]
    if name in DEBIAN:
        places.append(DEBIAN[name])
    places.append(_cache() / f"{name}.npz")
    return next((p for p in places if p.exists()), None)


def known_images(name: str) -> Data:
    """Published images, from the disk or downloaded once."""
    path = local_file(name) or _download(name)
    if path.is_dir():
        x, tx = (_idx(path / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k"))
        y, ty = (_idx(path / f"{part}-labels-idx1-ubyte.gz") for part in ("train", "t10k"))
        return published(name, x, y, tx, ty)
    if path.stem.endswith("_jpeg"):
        note = "the pixels went through JPEG, which changed them"
        with np.load(path, allow_pickle=False) as z:
            x = _jpegs(z["train_bytes"], z["train_offsets"], path)
            tx = _jpegs(z["test_bytes"], z["test_offsets"], path)
            return published(name, x, z["y_train"], tx, z["y_test"], note)
    return dataclasses.replace(read_npz(path), name=name)


def binary_table(name: str) -> Data:
    """A published table of bits, out of binary_tables.npz in GENUS_DATA."""
    folder = data_folder()
    path = folder / "binary_tables.npz" if folder else None
    if path is None or not path.exists():
        raise DataUnavailableError(
            f"the data set {name!r} is not on this machine: "
            "set the environment variable GENUS_DATA to a folder with binary_tables.npz "
            f"(uint8 arrays {name}_train, {name}_valid, {name}_test, "
            "from UCLA-StarAI Density-Estimation-Datasets)"
        )
    with np.load(path, allow_pickle=False) as z:
        parts = {p: z[f"{name}_{p}"] for p in ("train", "valid", "test")}
    X = np.concatenate(list(parts.values()))
    places: dict[str, Index] = {}
    begin = 0
    for part, rows in parts.items():
        places[part] = slice(begin, begin + len(rows))
        begin += len(rows)
    space = Space(X.shape[1:], "binary", dtype="uint8")
    return Data(X, None, space, name, parts=places)


def _idx(path: Path) -> np.ndarray:
    """An array of bytes in the IDX format of MNIST: magic 0, 0, 8, rank; big-endian sizes; data."""
    with gzip.open(path) as f:
        data = f.read()
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, 4)
    return np.frombuffer(data, np.uint8, int(shape.prod()), 4 + 4 * rank).reshape(shape)


def _jpegs(data: np.ndarray, offsets: np.ndarray, path: Path) -> np.ndarray:
    """Images that lie one after another as JPEG files, the next one from each offset on."""
    image = pillow(path)
    found = []
    for begin, end in itertools.pairwise(offsets.tolist()):
        file = io.BytesIO(data[begin:end].tobytes())
        found.append(np.asarray(image.open(file)))
    return np.stack(found)


# ---------------------------------------------------------------------- downloads


def _get(url: str) -> IO[bytes]:
    """Open a URL; the one place that touches the network."""
    request = urllib.request.Request(url, headers={"User-Agent": "genus"})
    return cast(IO[bytes], urllib.request.urlopen(request, timeout=30))


def _download(name: str) -> Path:
    """Fetch a set from OpenML, check the MD5 that OpenML states, and cache it as .npz.

    Nothing half-written is left.
    """
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
                    f"{said['url']} was damaged on the way (MD5 {digest.hexdigest()}, OpenML "
                    f"states {said['md5_checksum']}): try again"
                )
            table = _arff(arff)
            if table.shape[1] != int(np.prod(known.shape)) + 1 or len(table) <= known.n_train:
                raise DataUnavailableError(
                    f"{said['url']} has {table.shape} cells, which is not {name}"
                )
            x, y = table[:, :-1].reshape(-1, *known.shape), table[:, -1]
            n = known.n_train
            ready = Path(aside) / "ready.npz"
            np.savez_compressed(ready, x_train=x[:n], y_train=y[:n], x_test=x[n:], y_test=y[n:])
            os.replace(ready, cache / f"{name}.npz")
    except DataUnavailableError:
        raise
    except (OSError, KeyError, ValueError) as e:
        debian = ", install the Debian package dataset-fashion-mnist" if name in DEBIAN else ""
        raise DataUnavailableError(
            f"the data set {name!r} is not on this machine and could not be downloaded "
            f"from OpenML ({e}). Set the environment variable GENUS_DATA to a folder with "
            f"{name}.npz (uint8 arrays {', '.join(KEYS)}){debian}, or go online once. "
            "load('digits') works everywhere"
        ) from e
    return cache / f"{name}.npz"


def _arff(path: Path) -> np.ndarray:
    """The rows of a dense ARFF file of bytes."""
    with path.open("rb") as f:
        for line in f:
            if line.strip().lower() == b"@data":
                rows = pd.read_csv(f, header=None, dtype=np.uint8, quotechar="'", comment="%")
                return rows.to_numpy()
    raise ValueError("no @data line")
