"""``load``: rows by name, by file, by folder, or as they are in memory."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

import numpy as np

from genus.data.arrays import image_folder, naming_damage, read_npy, read_npz, read_parquet
from genus.data.binarising import binarized
from genus.data.dataset import Data
from genus.data.known import IMAGES, TABLES, binary_table, data_folder, known_images, local_file
from genus.data.tables import STDIN, TEXT, kind_of, table_file
from genus.space import Space


def load(source: Any, *, binarize: str | None = None, seed: int = 0, test: float = 0.2) -> Data:
    """Data by name, from a file or folder, or from an array that is there already.

    Parameters
    ----------
    source : str, path, array, tensor, DataFrame or dataset
        A name of :func:`names`; a ``.csv``, ``.tsv``, ``.json``, ``.jsonl``, ``.parquet``, ``.npy``
        or ``.npz`` file (``x_train``, ``y_train``, ``x_test``, ``y_test``; or one array, or ``X``
        and ``y``), text also packed (``.csv.gz``); ``-``, a CSV on stdin; a folder of ``.parquet``
        files; or a folder of images of one size, whose sub-folders are labels. Many rows of Parquet
        stay on disk, as :class:`Parquet`.
    binarize : {"sample", "threshold", "dynamic"} or None, default=None
        Of grey images. ``sample`` draws each pixel once, x ~ Bernoulli(grey), with ``seed``;
        ``threshold`` cuts at ½; ``dynamic`` draws the test rows once and leaves the training rows
        grey, to be drawn afresh for every batch.
    seed : int, default=0
        Of the split, where none was published, and of ``sample``.
    test : float, default=0.2
        The share of rows set aside, where no split was published.

    Raises
    ------
    ValueError
        It names the file, line or column.
    DataUnavailableError
        When a known set can be got nowhere.

    Examples
    --------
    >>> import genus
    >>> genus.data.load("digits").train.X.shape
    (1438, 8, 8)
    """
    if binarize not in (None, "sample", "dynamic", "threshold"):
        raise ValueError(f"binarize={binarize!r}: choose 'sample', 'dynamic', 'threshold' or None")
    data = _open(source)
    if not data.parts and len(data) > 1:
        data = data.split(test, seed)
    return data if binarize is None else binarized(data, binarize, seed)


def names() -> list[dict[str, str]]:
    """The known data sets: ``name``, ``about`` in one line, and ``where`` each is.

    ``where`` is "to download" when it is not on this machine.

    Examples
    --------
    >>> import genus
    >>> genus.data.names()[0]["name"]
    'digits'
    """
    rows = [
        {
            "name": "digits",
            "about": "1,797 images of 8×8 pixels in 17 grey levels, 10 digits",
            "where": "scikit-learn",
        }
    ]
    for name, known in IMAGES.items():
        rows.append(
            {"name": name, "about": known.about, "where": str(local_file(name) or "to download")}
        )
    tables = data_folder() and data_folder() / "binary_tables.npz"  # type: ignore[operator]
    here = (
        str(tables)
        if tables and tables.exists()
        else "not here: set GENUS_DATA to a folder with binary_tables.npz"
    )
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
        return known_images(name)
    if name in TABLES:
        return binary_table(name)
    path = Path(source).expanduser()
    if path == STDIN:
        return table_file(path)
    if path.is_dir():
        tables = any(path.rglob("*.parquet"))
        return read_parquet(path) if tables else image_folder(path)
    if path.exists():
        reader = {
            **dict.fromkeys(TEXT, table_file),
            ".parquet": read_parquet,
            ".npy": read_npy,
            ".npz": read_npz,
        }.get(kind_of(path))
        if reader is None:
            raise ValueError(
                f"{path}: files of type {path.suffix!r} cannot be read: "
                "use .csv, .tsv, .json, .jsonl, .parquet, .npy or .npz"
            )
        with naming_damage(path):
            return reader(path)
    known = [row["name"] for row in names()]
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"{name!r} is neither a file nor a known data set: {hint}known are {', '.join(known)}"
    )
