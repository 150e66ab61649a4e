"""One column: how it is inferred, coded and decoded.

The caller's values become codes: the value itself for real numbers, 0 … levels − 1 for discrete
cells, NaN where one is missing. The same column turns codes back into values of the caller's type.
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


# a category of this name, where a table declares it, stands for those that fit never saw
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Column:
    """How one cell is coded: its name, kind, and the caller's values behind the codes.

    ``levels``, ``low`` and ``values`` are those of :class:`Space`; ``dtype`` and
    ``ordered`` are pandas's.
    """

    name: str | int
    kind: str
    levels: int | None = None
    low: int = 0
    values: tuple[Any, ...] | None = None
    dtype: str = "float64"
    ordered: bool = False


# ---------------------------------------------------------------------- arrays of every sort


def as_array(X: Any, *, strings: bool = False) -> np.ndarray:
    """X as an ndarray of numbers (with ``strings``, of anything), or an error that says why."""
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
        raise ValueError(
            "X must be an array: its rows are of different lengths; pass rows of one length"
        ) from None
    if a.dtype.kind == "c":
        raise ValueError(
            "Complex data not supported: X has complex numbers; "
            "pass real and imaginary parts as columns"
        )
    if a.dtype.kind in "fiub" and a.dtype != np.longdouble:
        return a
    if strings:
        return a
    try:
        return a.astype(np.float64)
    except (TypeError, ValueError) as e:
        text = (
            f"X must hold numbers ({e}): pass a pandas DataFrame for columns of words or categories"
        )
        raise type(e)(text) from None


def head(X: Any, rows: int | None = 65536) -> Any:
    """The rows that decide a space: all of an array, the first of a dataset or memory map."""
    if isinstance(X, torch.utils.data.Dataset):
        items = [X[i] for i in range(len(X))[:rows]]  # type: ignore[arg-type]
        if not items:
            raise ValueError("the dataset has 0 rows: at least one is needed")
        return torch.stack(
            [torch.as_tensor(np.asarray(v[0] if isinstance(v, tuple | list) else v)) for v in items]
        )
    return X[:rows] if isinstance(X, np.memmap) else X


def check_shape(shape: tuple[int, ...]) -> None:
    """In the words that scikit-learn's checks look for."""
    if len(shape) < 2:
        raise ValueError(
            f"Expected 2D array, got {len(shape)}D array instead. Reshape your data either using "
            "X.reshape(-1, 1) if it "
            "has a single column or X.reshape(1, -1) if it is a single row."
        )
    for size, what in ((shape[0], "sample"), (min(shape[1:]), "feature")):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={shape}) while a minimum of 1 is required."
            )


def as_frame(X: Any) -> pd.DataFrame:
    """Rows for a table: a DataFrame with columns of distinct names, numbered when X is an array."""
    if isinstance(X, pd.Series):
        X = X.to_frame()
    elif not isinstance(X, pd.DataFrame):
        words = isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.dtype.kind in "OUS")
        a = np.asarray(X, dtype=object) if words else as_array(X)
        check_shape(a.shape)
        return pd.DataFrame(a).infer_objects()
    check_shape(X.shape)
    if not X.columns.is_unique:
        raise ValueError(
            f"the column name {X.columns[X.columns.duplicated()][0]!r} "
            "occurs more than once: rename one of them"
        )
    if not all(isinstance(n, str | int | np.integer) for n in X.columns):
        raise ValueError(
            f"the column names {list(X.columns)[:3]} … must be words or whole numbers: rename them"
        )
    return X


def layout_of(shape: tuple[int, ...], kind: str) -> str | None:
    """The layout of images (n, *shape), by where 1 or 3 channels can be."""
    if len(shape) != 4:
        return "HW" if len(shape) == 3 else None
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first and last:
        raise ValueError(
            f"X of shape {shape} could be (n, C, H, W) or (n, H, W, C): pass "
            f"space=Space({shape[1:]}, kind={kind!r}, layout='CHW' or 'HWC')"
        )
    return "CHW" if first else "HWC" if last else None


def _ends(a: np.ndarray) -> tuple[Any, Any]:
    """The smallest and the largest number but NaN; NaN where there is no other."""
    low, high = a.min(), a.max()  # several times faster than fmin where nothing is missing
    return (
        (np.fmin.reduce(a, axis=None), np.fmax.reduce(a, axis=None))
        if np.isnan(low)
        else (low, high)
    )


# ---------------------------------------------------------------------- inference


def infer(a: np.ndarray, kind: str | None, place: str) -> Column:
    """How numbers are coded, NaN aside; ``kind`` where the caller decided it."""
    low, high = _ends(a)
    if np.isnan(low):
        raise ValueError(f"{place} has no observed value, only NaN: drop it")
    if kind is None:
        if (
            low >= 0
            and high <= 1
            and (a.dtype.kind != "f" or bool(((a == 0) | (a == 1) | np.isnan(a)).all()))
        ):
            kind = "binary"
        elif a.dtype.kind == "f":
            kind = "continuous"
        else:
            few = a.dtype != np.uint8 and all(
                len(np.unique(part)) <= FEW for part in (a.reshape(-1)[:4096], a)
            )
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
            raise ValueError(
                f"{place} has {len(distinct)} distinct values: "
                "too many categories; use space='continuous'"
            )
        return Column("", kind, len(distinct), values=tuple(distinct.tolist()))
    if a.dtype == np.uint8:
        return Column("", kind, 256)
    low, high = int(low), int(high)
    if high - low >= 2**53 or high >= 2**63:
        raise ValueError(
            f"{place} has whole numbers from {low} to {high}, "
            "too many to tell apart: use space='continuous'"
        )
    return Column("", kind, high - low + 1, low)


def column_of(s: pd.Series, name: Any, kind: str | None) -> Column:
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
            raise ValueError(
                f"{place} has categories of type {type(values[0]).__name__}: turn them into "
                "words, .astype(str), first"
            )
        return Column(name, "categorical", len(values), 0, values, "category", bool(s.cat.ordered))
    if pd.api.types.is_bool_dtype(seen.dtype):
        return Column(name, "binary", 2, 0, (False, True), dtype)
    if pd.api.types.is_numeric_dtype(seen.dtype):
        a = numbers_of(seen, name)
        if a.dtype.kind == "f" and np.isinf(a).any():
            raise ValueError(
                f"{place} contains inf (row "
                f"{int(np.isinf(numbers_of(s, name)).argmax())}): drop or replace it"
            )
        gaps = (
            len(seen) < len(s)
            and a.dtype.kind == "f"
            and np.abs(a).max() < 2**53
            and (a == np.floor(a)).all()
        )
        if gaps or a.dtype == np.uint8:  # whole numbers that pandas made float to hold NaN
            a = a.astype(np.int64)
        c = dataclasses.replace(infer(a, kind, place), name=name, dtype=dtype)
        real = c.kind != "continuous" or dtype == "object" or pd.api.types.is_float_dtype(s.dtype)
        return c if real else dataclasses.replace(c, dtype="float64")
    if pd.api.types.is_datetime64_any_dtype(seen.dtype):
        days = numbers_of(seen, name)
        whole = bool((days == np.floor(days)).all())
        return dataclasses.replace(
            infer(days.astype(np.int64) if whole else days, kind, place), name=name, dtype=dtype
        )
    if pd.api.types.is_timedelta64_dtype(seen.dtype):
        raise ValueError(
            f"{place} holds durations: turn it into numbers first, .dt.total_seconds()"
        )
    if not seen.map(lambda v: isinstance(v, str)).all():
        other = next(v for v in seen if not isinstance(v, str))
        raise TypeError(
            f"{place} mixes words with {type(other).__name__}: "
            "argument must be a string or a number"
        )
    values = tuple(sorted(seen.unique().tolist()))
    if len(values) > 1000 and len(values) > len(seen) / 2:
        raise ValueError(
            f"{place} has {len(values)} different words in {len(seen)} "
            "rows (an identifier?): drop it"
        )
    return Column(name, "categorical", len(values), 0, values, dtype)


def numbers_of(s: pd.Series, name: Any) -> np.ndarray:
    """The numbers of a column, missing ones as NaN; dates as days since 1970."""
    if pd.api.types.is_datetime64_any_dtype(s.dtype):
        days: np.ndarray = (
            (s.dt.tz_localize(None) - pd.Timestamp(0)) / pd.Timedelta(days=1)
        ).to_numpy(dtype=np.float64)
        return days
    if isinstance(s.dtype, np.dtype) and s.dtype.kind in "fiub":
        return s.to_numpy()
    try:
        s = pd.to_numeric(s.astype(object))
        whole = pd.api.types.is_integer_dtype(s.dtype) and not s.hasnans
        return (
            s.to_numpy(dtype=np.int64) if whole else s.to_numpy(dtype=np.float64, na_value=np.nan)
        )
    except (TypeError, ValueError) as e:
        raise ValueError(f"column {name!r} must hold numbers: {e}") from None


# ---------------------------------------------------------------------- values and codes


def column_codes(s: pd.Series, c: Column) -> np.ndarray:
    """The codes (n,) of one column of a table, float64."""
    words = not all(isinstance(v, int | float) for v in c.values or ())
    cells = s.to_numpy(dtype=object) if words else numbers_of(s, c.name)
    return codes_of(cells, c, lambda j: f"column {c.name!r}").astype(np.float64)


def codes_of(
    a: np.ndarray, c: Column, place: Callable[[int], str], fractional: bool = False
) -> np.ndarray:
    """A fresh array of the codes of ``a``; ``place(j)`` names cell j of a row in messages."""

    def fail(bad: np.ndarray, why: str) -> ValueError:
        row, cell = np.argwhere(bad.reshape(len(a), -1))[0].tolist()
        return ValueError(
            f"X has {a.reshape(len(a), -1)[row].tolist()[cell]!r} in "
            f"{place(cell)} (row {row}): {why}"
        )

    levels = c.levels or 1
    a = a.astype(np.float32) if a.dtype == np.float16 else a
    if c.values is not None and c.values != tuple(range(levels)):
        nan = pd.isna(a)
        codes = pd.Index(list(c.values)).get_indexer(pd.Index(a.reshape(-1))).reshape(a.shape)
        new = (codes < 0) & ~nan
        if c.dtype == "category" and UNKNOWN in c.values:
            codes = np.where(new, c.values.index(UNKNOWN), codes)
        elif new.any():
            why = (
                "a category that was not seen in fit; drop the row, fit on data that hold all of "
                f"them, or declare {UNKNOWN!r} as one"
            )
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
            raise fail(
                (a < c.low) | (a > top),
                f"outside {c.low} … {top}; pass space=Space(..., levels=...) to fit to allow it",
            )
        if a.dtype.kind == "f" and ((a != np.floor(a)) & ~np.isnan(a)).any():
            if c.kind == "binary" and fractional:
                return a.astype(np.float32, order="C")
            why = (
                "a whole number is expected here; "
                "for grey values use genus.data.binarize(X), or space='continuous'"
            )
            raise fail((a != np.floor(a)) & ~np.isnan(a), why)
        codes = (
            a if c.low == 0 else a.astype(np.float64 if a.dtype.kind == "f" else np.int64) - c.low
        )
    if levels <= 256 and not (codes.dtype.kind == "f" and np.isnan(codes).any()):
        return codes.astype(np.uint8, order="C")
    return codes.astype(np.float32 if levels <= 2**24 else np.float64, order="C")


def values_of(codes: np.ndarray, c: Column, dtype: str) -> np.ndarray:
    """The caller's values of codes, in numpy's ``dtype``, or float64 where it cannot hold NaN."""
    if c.kind == "continuous":
        return codes.astype(dtype, copy=False)
    nan = np.isnan(codes)
    whole = np.rint(np.where(nan, 0, codes)).astype(np.int64)
    out = whole + c.low if c.values is None else np.asarray(c.values)[whole]
    if nan.any():
        return np.where(nan, np.nan, out).astype(dtype if dtype.startswith("float") else "float64")
    return out.astype(dtype)


def series_of(codes: np.ndarray, c: Column) -> pd.Series:
    """One column of codes in the caller's dtype; float64 when missing cells do not fit in it."""
    dtype: Any = c.dtype
    if dtype.startswith("datetime64"):
        days = values_of(codes, dataclasses.replace(c, dtype="float64"), "float64")
        found = pd.api.types.pandas_dtype(dtype)
        dates = (
            pd.Timestamp(0) + pd.Series(pd.to_timedelta((days * 86400e6).round(), unit="us"))
        ).dt.tz_localize(getattr(found, "tz", None))
        return dates.astype(dtype)
    if c.kind == "continuous":
        return pd.Series(codes).astype(dtype)
    nan = np.isnan(codes)
    whole = np.rint(np.where(nan, 0, codes)).astype(np.int64)
    if dtype == "category":
        categories: Any = list(c.values or ())
        return pd.Series(
            pd.Categorical.from_codes(
                np.where(nan, -1, whole), categories=categories, ordered=c.ordered
            )
        )
    out = (whole + c.low if c.values is None else np.asarray(c.values, dtype=object)[whole]).astype(
        object
    )
    out[nan] = None
    found = pd.api.types.pandas_dtype(dtype)
    if nan.any() and isinstance(found, np.dtype) and found.kind in "iub":
        dtype = "float64"
    return pd.Series(out, dtype=object).astype(dtype)
