"""Rows that are read as they are needed: Parquet, memory maps, datasets and loaders.

All of them give their rows in chunks, in order, so that no verb holds more than a chunk. What must
be known before learning, the space of the rows, comes from a look: one row drawn from each of 2^16
equal stretches of the rows and, of Parquet and of memory maps, which are read through once, every
row on which the kind of a column hangs: its ends, a fraction, a number with more places, a new
word, a missing cell.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

LOOKED = 65536  # rows that decide a space
CHUNK = 65536  # rows that are read at a time
CELLS = 1 << 22  # cells that are read at a time, at most
IN_MEMORY = 2**31  # bytes of a memory map above which its rows are read as they are needed
WORDS = 100_000  # words of a column that are looked for, at most


def spread(n: int, most: int) -> np.ndarray:
    """Rising places of at most so many of n rows: all, or one drawn from each equal stretch."""
    if n <= most:
        return np.arange(n)
    places = (np.arange(most) + np.random.RandomState(0).random_sample(most)) * (n / most)
    return places.astype(np.int64).clip(0, n - 1)


class Parquet:
    """Rows of a Parquet file, or of a folder of such files, read a chunk at a time.

    ``fit``, ``log_prob`` and ``score`` of every model take it as they take a DataFrame, whatever
    its size: they hold a chunk of the rows. Files of a folder are read in the order of their names
    and have the same columns.

    Parameters
    ----------
    path : str or path
        The file or folder.
    columns : list of str or None, default=None
        The columns to read; None: all.

    Raises
    ------
    ImportError
        Without pyarrow, which ``pip install 'genus[parquet]'`` brings.
    ValueError
        For a folder without such files, or files with other columns than the first.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np, pandas as pd, genus
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for part in range(3):
    ...     rows = np.random.default_rng(part).normal(size=(100, 2))
    ...     pd.DataFrame(rows, columns=["a", "b"]).to_parquet(folder / f"{part}.parquet")
    >>> X = genus.data.Parquet(folder)
    >>> len(X), X.columns
    (300, ['a', 'b'])
    >>> genus.Gaussian().fit(X).log_prob(X)
    Exact(mean = -... nats, ... bits/dim, n=300, density)
    """

    def __init__(self, path: str | Path, columns: list[str] | None = None) -> None:
        self.path = Path(path).expanduser()
        arrow = _pyarrow(self.path)
        if self.path.is_dir():
            found = sorted(self.path.rglob("*.parquet"))
            self.files = [f for f in found if not f.name.startswith((".", "_"))]
            if not self.files:
                raise ValueError(f"{path} has no .parquet files: pass a folder with some")
            if any("=" in f.parent.name for f in self.files):
                raise ValueError(
                    f"{path} is partitioned by the names of its folders, which are not read: write "
                    "those columns into the files"
                )
        else:
            self.files = [self.path]
        self.index: np.ndarray | None = None  # rising places of the rows, None: all
        self.rows = 0
        self.columns: list[str] = []
        for file in self.files:
            try:
                with arrow.ParquetFile(file) as f:
                    self.rows += f.metadata.num_rows
                    schema = f.schema_arrow
            except (OSError, ValueError) as e:
                raise ValueError(f"{file} cannot be read as Parquet: {e}") from None
            index = (schema.pandas_metadata or {}).get("index_columns", [])
            names = [name for name in schema.names if name not in index]
            self.columns = self.columns or names
            if set(names) != set(self.columns):
                odd = sorted(set(names) ^ set(self.columns))
                raise ValueError(
                    f"{file} has other columns than {self.files[0].name}: they differ in {odd[0]!r}"
                )
        for name in columns or []:
            if name not in self.columns:
                raise ValueError(f"columns names {name!r}, which {path} has not")
        self.columns = list(columns or self.columns)
        self._seen: pd.DataFrame | None = None

    def __len__(self) -> int:
        return self.rows if self.index is None else len(self.index)

    def __repr__(self) -> str:
        return f"Parquet({self.path.name}: {len(self):,} rows, {len(self.columns)} columns)"

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in memory, about: 8 a cell."""
        return 8 * len(self) * len(self.columns)

    def chunks(self, size: int | None = None) -> Iterator[pd.DataFrame]:
        """The rows in order, at most ``size`` at a time."""
        size = size or _rows_at_a_time(len(self.columns))
        begin = 0
        for frame in self._read(size):
            end = begin + len(frame)
            if self.index is not None:
                low, high = np.searchsorted(self.index, [begin, end])
                frame = frame.iloc[self.index[low:high] - begin].reset_index(drop=True)
            begin = end
            if len(frame):
                yield frame

    def _read(self, size: int) -> Iterator[pd.DataFrame]:
        arrow = _pyarrow(self.path)
        for file in self.files:
            with arrow.ParquetFile(file) as f:
                for batch in f.iter_batches(size, columns=self.columns, use_threads=False):
                    yield batch.to_pandas(ignore_metadata=True)[self.columns]

    def part(self, index: np.ndarray | slice) -> Parquet:
        """The rows of rising places ``index``."""
        out = object.__new__(Parquet)
        out.__dict__ = {**self.__dict__, "_seen": None}
        whole = np.arange(len(self)) if self.index is None else self.index
        out.index = np.sort(whole[index])
        return out

    def read(self) -> pd.DataFrame:
        """All rows, in memory."""
        return pd.concat(list(self.chunks()), ignore_index=True)

    def some(self, most: int) -> pd.DataFrame:
        """At most so many rows, in memory: all, or one drawn from each of equal stretches."""
        return self.part(spread(len(self), most)).read()

    def look(self) -> pd.DataFrame:
        """The rows that decide a space; see this file."""
        if self._seen is None:
            pieces = list(_looked(self.chunks(), len(self)))
            if not pieces:
                raise ValueError(f"{self.path} has 0 rows: at least one is needed")
            self._seen = pd.concat(pieces, ignore_index=True)
        return self._seen


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as e:
        raise ImportError(
            f"{path} is Parquet, which needs pyarrow: pip install 'genus[parquet]'"
        ) from e
    return pyarrow.parquet


def _rows_at_a_time(dim: int) -> int:
    """Rows of a chunk: many, but no more cells than CELLS."""
    return max(1, min(CHUNK, CELLS // max(dim, 1)))


# ---------------------------------------------------------------------- what a space hangs on


def _looked(chunks: Iterable[Any], n: int) -> Iterator[Any]:
    """Of every chunk of n rows those that decide a space."""
    at, begin, told = spread(n, LOOKED), 0, Telling()
    for chunk in chunks:
        low, high = np.searchsorted(at, [begin, begin + len(chunk)])
        rows = np.union1d(at[low:high] - begin, told.of(chunk))
        yield chunk.iloc[rows] if isinstance(chunk, pd.DataFrame) else np.array(chunk[rows])
        begin += len(chunk)


class Telling:
    """Which rows of chunks that follow one another tell something new about a column."""

    def __init__(self) -> None:
        self.ends: dict[Any, tuple[float, float]] = {}
        self.noted: set[Any] = set()
        self.words: dict[Any, set[Any]] = {}

    def of(self, chunk: pd.DataFrame | np.ndarray) -> np.ndarray:
        """Places of such rows in a chunk, rising."""
        if not isinstance(chunk, pd.DataFrame):
            cells = np.asarray(chunk).reshape(len(chunk), -1)
            return np.unique(np.array(self._of_numbers("", cells, 1), dtype=np.int64))
        rows: list[int] = []
        for name in chunk.columns:
            s = chunk[name]
            if pd.api.types.is_bool_dtype(s.dtype):
                continue
            if pd.api.types.is_datetime64_any_dtype(s.dtype):
                s = s.astype("int64").astype("float64").where(s.notna())
            if pd.api.types.is_numeric_dtype(s.dtype):
                a = s.to_numpy(dtype=np.float64, na_value=np.nan)
                rows += self._of_numbers(name, a[:, None], 5)
            else:
                rows += self._of_words(name, s)
        return np.unique(np.array(rows, dtype=np.int64))

    def _of_numbers(self, name: Any, a: np.ndarray, most: int) -> list[int]:
        """Rows of cells (n, c) with a new end, a missing cell, or more than 0 … ``most`` places."""
        rows: list[int] = []
        real = a.dtype.kind == "f"
        gaps = np.isnan(a) if real else np.zeros((1, 1), dtype=bool)
        if gaps.any():
            rows += self._first("gap", name, gaps)
            if gaps.all():
                return rows
        low, high = self.ends.get(name, (np.inf, -np.inf))
        first, last = np.fmin.reduce(a, axis=None), np.fmax.reduce(a, axis=None)
        rows += self._first("", name, a == first) if first < low else []
        rows += self._first("", name, a == last) if last > high else []
        self.ends[name] = min(low, first), max(high, last)
        for places in range(most if real else 0):
            if ("places", places, name) not in self.noted:
                scaled = a * 10.0**places
                with np.errstate(invalid="ignore"):
                    more = np.abs(scaled - np.rint(scaled)) > 1e-6 * np.abs(scaled)
                rows += self._first(("places", places), name, more)
        return rows

    def _first(self, what: Any, name: Any, where: np.ndarray) -> list[int]:
        """The first row with such a cell; what is named is told once."""
        key = (*what, name) if isinstance(what, tuple) else (what, name)
        if not where.any() or (what and key in self.noted):
            return []
        if what:
            self.noted.add(key)
        return [int(where.any(1).argmax())]

    def _of_words(self, name: Any, s: pd.Series) -> list[int]:
        known = self.words.setdefault(name, set())
        rows = self._first("gap", name, s.isna().to_numpy()[:, None])
        if len(known) >= WORDS:
            return rows
        places = np.flatnonzero((~s.duplicated() & s.notna()).to_numpy())
        words = s.iloc[places].tolist()
        rows += [int(i) for i, w in zip(places, words, strict=True) if w not in known]
        known.update(words)
        return rows


def look_at(X: Any) -> Any:
    """The rows of a source that decide a space, in memory; anything else as it is."""
    if isinstance(X, Parquet):
        return X.look()
    if isinstance(X, np.memmap | OnDisk):
        if len(X) <= LOOKED:
            return X[:]
        return np.concatenate(list(_looked(chunks_of(X) or (), len(X))))
    if isinstance(X, Dataset):
        return stacked(X, spread(length(X), LOOKED).tolist())
    return X


def length(X: Any) -> int:
    """The number of rows of a dataset."""
    n = len(X)
    if n == 0:
        raise ValueError("the dataset has 0 rows: at least one is needed")
    return n


def stacked(X: Any, rows: Iterable[int]) -> Tensor:
    """Items of a dataset as a tensor; an item may be a pair of a row and its label."""
    items = [X[i] for i in rows]
    found = [item[0] if isinstance(item, tuple | list) else item for item in items]
    return torch.stack([torch.as_tensor(np.asarray(row)) for row in found])


# ---------------------------------------------------------------------- rows on disk


class OnDisk:
    """Rows (n, …) of numbers in a temporary file without a name, which goes when this does."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, file: Any) -> None:
        self.shape, self.dtype, self.file = shape, dtype, file

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: np.dtype) -> OnDisk:
        """No rows of that shape yet."""
        return cls((0, *shape), dtype, tempfile.TemporaryFile())

    @classmethod
    def of(cls, chunks: Iterable[np.ndarray]) -> OnDisk:
        """Chunks one after another; their types may widen on the way."""
        out: OnDisk | None = None
        for chunk in chunks:
            if out is None:
                out = cls.empty(chunk.shape[1:], chunk.dtype)
            if chunk.shape[1:] != out.shape[1:]:
                raise ValueError(
                    f"X has rows of shape {chunk.shape[1:]} after rows of {out.shape[1:]}: all "
                    "rows need one shape"
                )
            wide = np.promote_types(out.dtype, chunk.dtype)
            if wide != out.dtype:
                before, size = out, _rows_at_a_time(out.dim)
                out = cls.empty(chunk.shape[1:], wide)
                for i in range(0, len(before), size):
                    out.append(before[i : i + size])
            out.append(chunk)
        if out is None:
            raise ValueError("X has 0 rows: at least one is needed")
        out.file.flush()
        return out

    def append(self, chunk: np.ndarray) -> None:
        """More rows at the end."""
        self.file.seek(0, 2)
        self.file.write(np.ascontiguousarray(chunk, self.dtype).data)
        self.shape = (self.shape[0] + len(chunk), *self.shape[1:])

    @property
    def dim(self) -> int:
        """Cells of a row."""
        return int(np.prod(self.shape[1:]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Some rows, in memory: a slice, or those of an array of places."""
        if isinstance(index, slice):
            begin, end, _ = index.indices(len(self))
            return self._read(begin, max(0, end - begin))
        at = np.asarray(index, dtype=np.int64)
        order = np.argsort(at, kind="stable")
        rising = at[order]
        out = np.empty((len(at), *self.shape[1:]), self.dtype)
        ends = np.flatnonzero(np.diff(rising) != 1) + 1  # of runs of rows that lie side by side
        for run in np.split(np.arange(len(at)), ends) if len(at) else ():
            out[order[run]] = self._read(int(rising[run[0]]), len(run))
        return out

    def _read(self, begin: int, n: int) -> np.ndarray:
        """n rows from a place on. A mapped file would be in memory as far as it was looked at."""
        out = np.empty((n, *self.shape[1:]), self.dtype)
        self.file.seek(begin * self.dim * self.dtype.itemsize)
        self.file.readinto(out.reshape(-1).view(np.uint8))
        return out


def opened(X: Any) -> Any:
    """A loader or iterable dataset as rows on disk, read through once; anything else as it is."""
    if isinstance(X, DataLoader | IterableDataset):
        return OnDisk.of(np.asarray(chunk) for chunk in chunks_of(X) or ())
    return X


def is_large(X: Any) -> bool:
    """Are these rows that are read as they are needed?"""
    if isinstance(X, np.memmap):
        return X.nbytes > IN_MEMORY
    return isinstance(X, Parquet | OnDisk | DataLoader | Dataset)


def chunks_of(X: Any) -> Iterator[Any] | None:
    """The rows of a source, a chunk at a time, in the caller's type; None where X is none."""
    if isinstance(X, Parquet):
        return X.chunks()
    if isinstance(X, DataLoader):
        return (_batch(item) for item in X)
    if isinstance(X, IterableDataset):
        return (_batch(item) for item in DataLoader(X, batch_size=256))
    if isinstance(X, Dataset):
        n = length(X)
        size = _rows_at_a_time(stacked(X, [0])[0].numel())
        return (stacked(X, range(i, min(n, i + size))) for i in range(0, n, size))
    if isinstance(X, np.memmap | OnDisk):
        n, size = len(X), _rows_at_a_time(int(np.prod(X.shape[1:])))
        return (np.asarray(X[i : i + size]) for i in range(0, n, size))
    return None


def _batch(item: Any) -> Tensor:
    """The rows of a loader's batch, which may be a pair of rows and labels."""
    x = item[0] if isinstance(item, tuple | list) else item
    if isinstance(x, dict):
        raise TypeError(
            "the loader yields dicts: let it yield rows, or pairs of rows and labels, as tensors"
        )
    return torch.as_tensor(np.asarray(x))
