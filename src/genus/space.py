"""What one observation looks like, and the way in and out of tensors.

A row enters as the caller's array, table, tensor or dataset and becomes a tensor of *codes* of shape
(n, *space.shape): the value itself for continuous coordinates, 0 … levels − 1 for discrete ones, NaN
for a missing one. Samples leave by the same door, in the caller's own type.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

KINDS = ("binary", "ordinal", "categorical", "continuous")
FEW = 20  # integers with at most this many distinct values are read as categories
LARGEST = 1e100  # beyond this, squares leave float64
UNKNOWN = "unknown"  # a category of this name, where a table declares it, stands for those that fit never saw


@dataclass(frozen=True)
class Column:
    """How one cell is coded: its name, kind, and the caller's values behind the codes.

    ``levels``, ``low`` and ``values`` are those of :class:`Space`; ``dtype`` and ``ordered`` are pandas's.
    """

    name: str | int
    kind: str
    levels: int | None = None
    low: int = 0
    values: tuple[Any, ...] | None = None
    dtype: str = "float64"
    ordered: bool = False


@dataclass(frozen=True)
class Space:
    """What one observation looks like.

    Arguments
    ---------
    shape: the shape of one row: ``(d,)``, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``.
    kind: ``"binary"`` {0, 1}; ``"ordinal"`` integers low … low + levels − 1; ``"categorical"`` one of
        ``values``; ``"continuous"``; or ``"table"``, a kind per column.
    levels: how many values a discrete coordinate can take.
    low: the smallest ordinal value (the one coded 0).
    values: the caller's value of each categorical code.
    layout: ``"HW"``, ``"CHW"`` or ``"HWC"`` for images.
    columns: for tables, one :class:`Column` each.

    ``Space.of(X)`` infers all of it.
    """

    shape: tuple[int, ...]
    kind: str = "continuous"
    levels: int | None = None
    low: int = 0
    values: tuple[Any, ...] | None = None
    layout: str | None = None
    columns: tuple[Column, ...] = ()
    container: str = "numpy"
    dtype: str = "float64"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(s) for s in self.shape))
        if self.kind not in (*KINDS, "table"):
            raise ValueError(f"space kind {self.kind!r} is unknown: choose one of {', '.join(KINDS)} or table")
        if self.kind == "binary":
            object.__setattr__(self, "levels", 2)
        if self.kind == "continuous" and not self.dtype.startswith("float"):
            object.__setattr__(self, "dtype", "float64")  # its draws are not whole numbers
        if self.kind == "categorical" and self.values is None and self.levels:
            object.__setattr__(self, "values", tuple(range(self.levels)))
        if self.kind == "categorical" and self.values is not None:
            object.__setattr__(self, "values", tuple(self.values))
            object.__setattr__(self, "levels", len(self.values))
        if self.kind in ("ordinal", "categorical") and not (self.levels and self.levels >= 1):
            raise ValueError(f"a Space of kind {self.kind!r} needs levels=, the number of values a cell can take")
        if self.layout is not None and (self.layout not in ("HW", "CHW", "HWC") or len(self.layout) != len(self.shape)):
            raise ValueError(f"layout {self.layout!r} does not fit the shape {self.shape}: use 'HW', 'CHW' or 'HWC'")
        if self.kind == "table" and len(self.columns) != self.shape[0]:
            raise ValueError("a table Space needs one Column per coordinate: let Space.of(X) infer it")

    # ------------------------------------------------------------------ reading the space

    @property
    def dim(self) -> int:
        """Number of coordinates of one row."""
        return int(np.prod(self.shape))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of every coordinate of the flattened row."""
        return tuple(c.kind for c in self.columns) if self.columns else (self.kind,) * self.dim

    @property
    def cardinality(self) -> tuple[int, ...]:
        """Number of values of every coordinate; 0 where continuous."""
        if self.columns:
            return tuple(c.levels or 0 for c in self.columns)
        return (0 if self.kind == "continuous" else int(self.levels or 0),) * self.dim

    @property
    def discrete(self) -> Tensor:
        """True where a coordinate is discrete; shape (dim,)."""
        return torch.tensor(self.cardinality) > 0

    @property
    def measure(self) -> str:
        """``probability`` when every coordinate is discrete, ``density`` when none is, else ``mixed``."""
        if self.kind != "table":
            return "density" if self.kind == "continuous" else "probability"
        some, every = bool(self.discrete.any()), bool(self.discrete.all())
        return "probability" if every else "mixed" if some else "density"

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) for images, else None."""
        if self.layout == "HW":
            return (1, *self.shape)  # type: ignore[return-value]
        if self.layout == "CHW":
            return self.shape  # type: ignore[return-value]
        if self.layout == "HWC":
            return (self.shape[2], self.shape[0], self.shape[1])
        return None

    def names(self) -> list[str]:
        """A name for every coordinate, for messages and tables."""
        if self.columns:
            return [str(c.name) for c in self.columns]
        if len(self.shape) == 1:
            return [f"column {j}" for j in range(self.dim)]
        return [f"cell {tuple(int(i) for i in ix)}" for ix in np.ndindex(*self.shape)]

    def __str__(self) -> str:
        what = "×".join(map(str, self.shape))
        if self.kind == "table":
            counts = {k: self.kinds.count(k) for k in KINDS if k in self.kinds}
            return f"table of {what} columns: " + ", ".join(f"{n} {k}" for k, n in counts.items())
        return f"{what} {self.kind}" + (f", {self.levels} levels" if self.kind in ("ordinal", "categorical") else "")

    # ------------------------------------------------------------------ inference

    @classmethod
    def of(cls, X: Any, space: Space | str | None = None) -> Space:
        """Infer the space of X; ``space`` overrides it, as a whole or (a kind's name) in its kind alone.

        Values all in {0, 1} → binary; uint8 → ordinal with 256 levels; other integers → categorical when
        at most 20 distinct, else ordinal; float → continuous; DataFrame → table, a kind per column (a kind's
        name goes to its columns of numbers). Raises ValueError or TypeError that names the column.
        """
        if isinstance(space, str) and space not in KINDS:
            raise ValueError(f"space={space!r} is unknown: pass a Space or one of {', '.join(KINDS)}")
        own, X = own_space(X), unwrap(X)
        if own is not None and (space is None or space == own.kind):
            return own
        if isinstance(X, pd.DataFrame | pd.Series):
            if isinstance(space, Space):
                return dataclasses.replace(space, container="pandas")
            frame = _frame(X)
            columns = tuple(_column(frame.iloc[:, j], name, space) for j, name in enumerate(frame.columns))
            return cls((len(columns),), "table", columns=columns, container="pandas")
        a = as_array(head(X))
        container = "torch" if isinstance(X, Tensor | torch.utils.data.Dataset) else "numpy"
        if isinstance(space, Space):
            return dataclasses.replace(space, container=container, dtype=str(a.dtype))
        _check_shape(a.shape)
        c = _infer(a, space, "X")
        layout = own.layout if own is not None else _layout(a.shape, c.kind)
        return cls(a.shape[1:], c.kind, c.levels, c.low, c.values, layout, (), container, str(a.dtype))

    # ------------------------------------------------------------------ the way in

    def encode(self, X: Any, *, missing: bool = True, fractional: bool = False) -> Tensor:
        """The codes of X, shape (n, *shape), copied: uint8 where every cell is a small integer, else float.

        ``missing=False`` refuses NaN. ``fractional=True`` lets a binary space take probabilities in [0, 1]
        (grey pixels, drawn afresh each time a batch is read in training). Raises ValueError or TypeError
        that names the column and the row.
        """
        X = unwrap(X)
        if self.columns:
            codes = self._table_codes(X)
        else:
            if isinstance(X, pd.DataFrame | pd.Series):
                X = np.stack([_numbers(s, name) for name, s in _frame(X).items()], axis=1)
            a = as_array(X)
            _check_shape(a.shape)
            if a.shape[1:] != self.shape:
                raise ValueError(f"X has rows of shape {a.shape[1:]}, but the model was fitted on rows of shape {self.shape}")
            codes = _codes(a, self._cell, lambda j: self.names()[j], fractional)
        if not missing and codes.dtype.kind == "f" and np.isnan(codes).any():
            row, *_ = np.argwhere(np.isnan(codes))[0]
            name = self.names()[int(np.isnan(codes[row].reshape(-1)).argmax())]
            raise ValueError(
                f"X contains NaN in {name} (row {row}): this model takes no missing values; "
                "drop or fill those rows, or use one that does (GaussianMixture, VAE)"
            )
        return torch.from_numpy(codes)

    @property
    def _cell(self) -> Column:
        return Column("", self.kind, self.levels, self.low, self.values)

    def _table_codes(self, X: Any) -> np.ndarray:
        """Columns are found by name in a DataFrame, by place in anything else."""
        frame = _frame(X)
        if isinstance(X, pd.DataFrame | pd.Series):
            names = [c.name for c in self.columns]
            absent = [n for n in names if n not in frame.columns]
            if absent:
                raise ValueError(f"X lacks the column {absent[0]!r} that the model was fitted on")
            frame = frame[names]
        elif frame.shape[1] != self.dim:
            raise ValueError(f"X has {frame.shape[1]} columns, but the model was fitted on {self.dim}")
        return np.stack([column_codes(s, c) for (_, s), c in zip(frame.items(), self.columns, strict=True)], axis=1)

    # ------------------------------------------------------------------ the way out

    def decode(self, x: Tensor) -> Any:
        """Codes of shape (..., *shape) back to the caller's type: ndarray, tensor, or DataFrame (a list of them for 3-D codes)."""
        x = x.detach().cpu()
        if not self.columns:
            a = _values(x.numpy(), self._cell, self.dtype)
            return torch.from_numpy(a) if self.container == "torch" else a
        codes = x.double().reshape(-1, self.dim).numpy()
        frame = pd.concat([_series(codes[:, j], c) for j, c in enumerate(self.columns)], axis=1)
        frame.columns = pd.Index([c.name for c in self.columns])
        if self.container != "pandas":
            a = frame.to_numpy().reshape(x.shape)
            return torch.from_numpy(a) if self.container == "torch" else a
        size = x.shape[-2]
        parts = [frame.iloc[i : i + size].reset_index(drop=True) for i in range(0, len(frame), size)]
        return frame if x.dim() == 2 else parts

    def means(self, x: Tensor) -> Any:
        """Expected codes in the caller's units: arrays of binary or ordinal cells may lie between levels; else as :meth:`decode`."""
        if self.columns or self.kind not in ("binary", "ordinal"):
            return self.decode(x)
        a = x.detach().cpu().float().numpy() + np.float32(self.low)
        return torch.from_numpy(a) if self.container == "torch" else a

    # ------------------------------------------------------------------ JSON

    def to_json(self) -> dict[str, Any]:
        """Plain JSON of the space."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, d: dict[str, Any]) -> Space:
        """The space of :meth:`to_json`."""

        def listed(values: Any) -> Any:
            return None if values is None else tuple(values)

        columns = tuple(Column(**{**c, "values": listed(c["values"])}) for c in d["columns"])
        return cls(**{**d, "columns": columns, "values": listed(d["values"])})


# ---------------------------------------------------------------------- arrays of every sort


def own_space(X: Any) -> Space | None:
    """The space that a ``genus.data`` set carries with it."""
    space = getattr(X, "space", None)
    return space if isinstance(space, Space) else None


def unwrap(X: Any) -> Any:
    """The rows of a ``genus.data`` set; anything else as it is."""
    return X.X if own_space(X) is not None else X


def as_array(X: Any, *, strings: bool = False) -> np.ndarray:
    """X as an ndarray of numbers (or, with ``strings``, of anything), else an error that says what is wrong with it."""
    if isinstance(X, np.ndarray) and X.dtype.kind in "fiub" and X.dtype != np.longdouble:
        return X
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError("X is a sparse matrix, which is not supported: pass X.toarray()")
    if isinstance(X, torch.utils.data.Dataset):
        X = head(X, rows=None)
    if isinstance(X, Tensor):
        X = X.detach().cpu()
        X = (X.float() if X.dtype in (torch.bfloat16, torch.float16) else X).numpy()
    try:
        a = np.asarray(X)
    except ValueError:
        raise ValueError("X must be an array: its rows are of different lengths; pass rows of one length") from None
    if a.dtype.kind == "c":
        raise ValueError("Complex data not supported: X has complex numbers; pass real and imaginary parts as columns")
    if a.dtype.kind in "fiub" and a.dtype != np.longdouble:
        return a
    if strings:
        return a
    try:
        return a.astype(np.float64)
    except (TypeError, ValueError) as e:
        text = f"X must hold numbers ({e}): pass a pandas DataFrame for columns of words or categories"
        raise type(e)(text) from None


def head(X: Any, rows: int | None = 65536) -> Any:
    """The rows that decide a space: all of an array in memory, the first of a dataset or memory map."""
    if isinstance(X, torch.utils.data.Dataset):
        items = [X[i] for i in range(len(X))[:rows]]  # type: ignore[arg-type]
        if not items:
            raise ValueError("the dataset has 0 rows: at least one is needed")
        return torch.stack([torch.as_tensor(np.asarray(v[0] if isinstance(v, tuple | list) else v)) for v in items])
    return X[:rows] if isinstance(X, np.memmap) else X


def _check_shape(shape: tuple[int, ...]) -> None:
    """In the words that scikit-learn's checks look for."""
    if len(shape) < 2:
        raise ValueError(
            f"Expected 2D array, got {len(shape)}D array instead. Reshape your data either using X.reshape(-1, 1) if it "
            "has a single column or X.reshape(1, -1) if it is a single row."
        )
    for size, what in ((shape[0], "sample"), (min(shape[1:]), "feature")):
        if size == 0:
            raise ValueError(f"Found array with 0 {what}(s) (shape={shape}) while a minimum of 1 is required.")


def _frame(X: Any) -> pd.DataFrame:
    """Rows for a table: a DataFrame with columns of distinct names, numbered when X is an array."""
    if isinstance(X, pd.Series):
        X = X.to_frame()
    elif not isinstance(X, pd.DataFrame):
        words = isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.dtype.kind in "OUS")
        a = np.asarray(X, dtype=object) if words else as_array(X)
        _check_shape(a.shape)
        return pd.DataFrame(a).infer_objects()
    _check_shape(X.shape)
    if not X.columns.is_unique:
        raise ValueError(f"the column name {X.columns[X.columns.duplicated()][0]!r} occurs more than once: rename one of them")
    if not all(isinstance(n, str | int | np.integer) for n in X.columns):
        raise ValueError(f"the column names {list(X.columns)[:3]} … must be words or whole numbers: rename them")
    return X


def _layout(shape: tuple[int, ...], kind: str) -> str | None:
    """The layout of images (n, *shape), by where 1 or 3 channels can be."""
    if len(shape) != 4:
        return "HW" if len(shape) == 3 else None
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first and last:
        raise ValueError(
            f"X of shape {shape} could be (n, C, H, W) or (n, H, W, C): pass space=Space({shape[1:]}, kind={kind!r}, layout='CHW' or 'HWC')"
        )
    return "CHW" if first else "HWC" if last else None


def _ends(a: np.ndarray) -> tuple[Any, Any]:
    """The smallest and the largest number but NaN; NaN where there is no other."""
    low, high = a.min(), a.max()  # several times faster than fmin where nothing is missing
    return (np.fmin.reduce(a, axis=None), np.fmax.reduce(a, axis=None)) if np.isnan(low) else (low, high)


# ---------------------------------------------------------------------- inference


def _infer(a: np.ndarray, kind: str | None, place: str) -> Column:
    """How numbers are coded, NaN aside; ``kind`` where the caller decided it."""
    low, high = _ends(a)
    if np.isnan(low):
        raise ValueError(f"{place} has no observed value, only NaN: drop it")
    if kind is None:
        if low >= 0 and high <= 1 and (a.dtype.kind != "f" or bool(((a == 0) | (a == 1) | np.isnan(a)).all())):
            kind = "binary"
        elif a.dtype.kind == "f":
            kind = "continuous"
        else:
            few = a.dtype != np.uint8 and all(len(np.unique(part)) <= FEW for part in (a.reshape(-1)[:4096], a))
            kind = "categorical" if few else "ordinal"
    if kind == "binary":
        return Column("", kind, 2)
    if kind == "continuous":
        return Column("", kind)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{place} contains inf: drop or replace it")
    if kind == "categorical":
        distinct = np.unique(a[~np.isnan(a)])
        if len(distinct) > 10_000:
            raise ValueError(f"{place} has {len(distinct)} distinct values: too many categories; use space='continuous'")
        return Column("", kind, len(distinct), values=tuple(distinct.tolist()))
    if a.dtype == np.uint8:
        return Column("", kind, 256)
    low, high = int(low), int(high)
    if high - low >= 2**53 or high >= 2**63:
        raise ValueError(f"{place} has whole numbers from {low} to {high}, too many to tell apart: use space='continuous'")
    return Column("", kind, high - low + 1, low)


def _column(s: pd.Series, name: Any, kind: str | None) -> Column:
    """How one column of a DataFrame is coded."""
    place = f"column {name!r}"
    name = name if isinstance(name, str) else int(name)
    seen = s.dropna()
    if len(seen) == 0:
        raise ValueError(f"{place} has no observed value: drop it")
    if s.dtype == object and not seen.map(lambda v: isinstance(v, str)).any():
        seen = seen.infer_objects()
    dtype = str(s.dtype)
    if isinstance(s.dtype, pd.CategoricalDtype):
        values = tuple(s.cat.categories.tolist())
        if not all(isinstance(v, str | int | float) for v in values):
            raise ValueError(f"{place} has categories of type {type(values[0]).__name__}: turn them into words, .astype(str), first")
        return Column(name, "categorical", len(values), 0, values, "category", bool(s.cat.ordered))
    if pd.api.types.is_bool_dtype(seen.dtype):
        return Column(name, "binary", 2, 0, (False, True), dtype)
    if pd.api.types.is_numeric_dtype(seen.dtype):
        a = _numbers(seen, name)
        if a.dtype.kind == "f" and np.isinf(a).any():
            raise ValueError(f"{place} contains inf (row {int(np.isinf(_numbers(s, name)).argmax())}): drop or replace it")
        gaps = len(seen) < len(s) and a.dtype.kind == "f" and np.abs(a).max() < 2**53 and (a == np.floor(a)).all()
        if gaps or a.dtype == np.uint8:  # whole numbers that pandas made float to hold NaN
            a = a.astype(np.int64)
        c = dataclasses.replace(_infer(a, kind, place), name=name, dtype=dtype)
        real = c.kind != "continuous" or dtype == "object" or pd.api.types.is_float_dtype(s.dtype)
        return c if real else dataclasses.replace(c, dtype="float64")
    if pd.api.types.is_datetime64_any_dtype(seen.dtype):
        days = _numbers(seen, name)
        whole = bool((days == np.floor(days)).all())
        return dataclasses.replace(_infer(days.astype(np.int64) if whole else days, kind, place), name=name, dtype=dtype)
    if pd.api.types.is_timedelta64_dtype(seen.dtype):
        raise ValueError(f"{place} holds durations: turn it into numbers first, .dt.total_seconds()")
    if not seen.map(lambda v: isinstance(v, str)).all():
        other = next(v for v in seen if not isinstance(v, str))
        raise TypeError(f"{place} mixes words with {type(other).__name__}: argument must be a string or a number")
    values = tuple(sorted(seen.unique().tolist()))
    if len(values) > 1000 and len(values) > len(seen) / 2:
        raise ValueError(f"{place} has {len(values)} different words in {len(seen)} rows (an identifier?): drop it")
    return Column(name, "categorical", len(values), 0, values, dtype)


def _numbers(s: pd.Series, name: Any) -> np.ndarray:
    """The numbers of a column, missing ones as NaN; dates as days since 1970."""
    if pd.api.types.is_datetime64_any_dtype(s.dtype):
        days: np.ndarray = ((s.dt.tz_localize(None) - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)
        return days
    if isinstance(s.dtype, np.dtype) and s.dtype.kind in "fiub":
        return s.to_numpy()
    try:
        s = pd.to_numeric(s.astype(object))
        whole = pd.api.types.is_integer_dtype(s.dtype) and not s.hasnans
        return s.to_numpy(dtype=np.int64) if whole else s.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as e:
        raise ValueError(f"column {name!r} must hold numbers: {e}") from None


# ---------------------------------------------------------------------- values and codes


def column_codes(s: pd.Series, c: Column) -> np.ndarray:
    """The codes (n,) of one column of a table, float64."""
    words = not all(isinstance(v, int | float) for v in c.values or ())
    cells = s.to_numpy(dtype=object) if words else _numbers(s, c.name)
    return _codes(cells, c, lambda j: f"column {c.name!r}").astype(np.float64)


def _codes(a: np.ndarray, c: Column, place: Callable[[int], str], fractional: bool = False) -> np.ndarray:
    """A fresh array of the codes of ``a``; ``place(j)`` names cell j of a row in messages."""

    def fail(bad: np.ndarray, why: str) -> ValueError:
        row, cell = np.argwhere(bad.reshape(len(a), -1))[0].tolist()
        return ValueError(f"X has {a.reshape(len(a), -1)[row].tolist()[cell]!r} in {place(cell)} (row {row}): {why}")

    levels = c.levels or 1
    a = a.astype(np.float32) if a.dtype == np.float16 else a
    if c.values is not None and c.values != tuple(range(levels)):
        nan = pd.isna(a)
        codes = pd.Index(list(c.values)).get_indexer(pd.Index(a.reshape(-1))).reshape(a.shape)
        new = (codes < 0) & ~nan
        if c.dtype == "category" and UNKNOWN in c.values:
            codes = np.where(new, c.values.index(UNKNOWN), codes)
        elif new.any():
            why = f"a category that was not seen in fit; drop the row, fit on data that hold all of them, or declare {UNKNOWN!r} as one"
            raise fail(new, why + ", pd.CategoricalDtype([...]), to read others as it")
        if nan.any():
            codes = np.where(nan, np.nan, codes)
    else:
        low, high = _ends(a)
        if np.isinf(low) or np.isinf(high):
            raise fail(np.isinf(a), "inf is not a number a model can use; drop or replace it")
        if a.dtype == np.float64 and max(-low, high) > LARGEST:
            raise fail(np.abs(a) > LARGEST, "too large for floating point; rescale the column")
        if c.kind == "continuous":
            return a.astype(np.float32 if a.dtype == np.float32 else np.float64, order="C")
        top = c.low + levels - 1
        if low < c.low or high > top:
            raise fail((a < c.low) | (a > top), f"outside {c.low} … {top}; pass space=Space(..., levels=...) to fit to allow it")
        if a.dtype.kind == "f" and ((a != np.floor(a)) & ~np.isnan(a)).any():
            if c.kind == "binary" and fractional:
                return a.astype(np.float32, order="C")
            why = "a whole number is expected here; for grey values use genus.data.binarize(X), or space='continuous'"
            raise fail((a != np.floor(a)) & ~np.isnan(a), why)
        codes = a if c.low == 0 else a.astype(np.float64 if a.dtype.kind == "f" else np.int64) - c.low
    if levels <= 256 and not (codes.dtype.kind == "f" and np.isnan(codes).any()):
        return codes.astype(np.uint8, order="C")
    return codes.astype(np.float32 if levels <= 2**24 else np.float64, order="C")


def _values(codes: np.ndarray, c: Column, dtype: str) -> np.ndarray:
    """The caller's values of codes, in numpy's ``dtype``; float64 when missing cells do not fit in it."""
    if c.kind == "continuous":
        return codes.astype(dtype, copy=False)
    nan = np.isnan(codes)
    whole = np.rint(np.where(nan, 0, codes)).astype(np.int64)
    out = whole + c.low if c.values is None else np.asarray(c.values)[whole]
    if nan.any():
        return np.where(nan, np.nan, out).astype(dtype if dtype.startswith("float") else "float64")
    return out.astype(dtype)


def _series(codes: np.ndarray, c: Column) -> pd.Series:
    """One column of codes in the caller's dtype; float64 when missing cells do not fit in it."""
    dtype: Any = c.dtype
    if dtype.startswith("datetime64"):
        days = _values(codes, dataclasses.replace(c, dtype="float64"), "float64")
        found = pd.api.types.pandas_dtype(dtype)
        dates = (pd.Timestamp(0) + pd.Series(pd.to_timedelta((days * 86400e6).round(), unit="us"))).dt.tz_localize(
            getattr(found, "tz", None)
        )
        return dates.astype(dtype)
    if c.kind == "continuous":
        return pd.Series(codes).astype(dtype)
    nan = np.isnan(codes)
    whole = np.rint(np.where(nan, 0, codes)).astype(np.int64)
    if dtype == "category":
        categories: Any = list(c.values or ())
        return pd.Series(pd.Categorical.from_codes(np.where(nan, -1, whole), categories=categories, ordered=c.ordered))
    out = (whole + c.low if c.values is None else np.asarray(c.values, dtype=object)[whole]).astype(object)
    out[nan] = None
    found = pd.api.types.pandas_dtype(dtype)
    if nan.any() and isinstance(found, np.dtype) and found.kind in "iub":
        dtype = "float64"
    return pd.Series(out, dtype=object).astype(dtype)
