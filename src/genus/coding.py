"""One column: how it is inferred, coded and decoded.

The caller's values become codes: the value itself for real numbers, 0 … levels − 1 for discrete
cells, NaN where one is missing. The same column turns codes back into values of the caller's type.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from genus.dtypes import dates_from, days_of, decimals_from, from_plain, holds_dates, plain
from genus.sources import Parquet, length, stacked

KINDS = ("binary", "ordinal", "integer", "categorical", "continuous")
SENTINELS = (99, 999, 9999, 99999, 999999, 99.9, 999.9, 9999.9, 99.99, 999.99, 9999.99, 32768)
FEW = 20  # labels of at most this many whole numbers are read as categories
MANY = 10_000  # categories of numbers, at most
LARGEST = 1e100  # squares of larger numbers do not fit in float64
UNKNOWN = "unknown"  # a category of this name, if declared, stands for those that fit never saw


@dataclass(frozen=True)
class Column:
    """How one cell is coded: its name, kind, and the caller's values behind the codes.

    ``levels``, ``low`` and ``values`` are those of :class:`Space`; ``dtype`` and
    ``ordered`` are pandas's. In the units of the data: ``bounds`` are the ends that no value can
    pass (None: there is none), ``atoms`` the real numbers that have mass of their own, and
    ``decimals`` the places that all values have. ``open``: may words come that fit never saw?
    """

    name: str | int
    kind: str
    levels: int | None = None
    low: int = 0
    values: tuple[Any, ...] | None = None
    dtype: str = "float64"
    ordered: bool = False
    bounds: tuple[float | None, float | None] = (None, None)
    atoms: tuple[float, ...] = ()
    decimals: int | None = None
    open: bool = False


# ---------------------------------------------------------------------- arrays of every sort


def check_in_memory(X: Any) -> None:
    """Raise TypeError for rows that come in chunks, where all are needed at once."""
    if isinstance(X, Parquet):
        raise TypeError(
            f"X is {X!r}, and only fit, log_prob and score of models of X read such rows as they "
            "need them: pass X.read(), or X.some(10_000), rows from all over"
        )
    if isinstance(X, DataLoader | IterableDataset):
        raise TypeError(
            f"X is a {type(X).__name__}, and only fit, log_prob and score of models of X read such "
            "rows as they need them: pass some of its rows, as a tensor"
        )


def as_array(X: Any, *, strings: bool = False) -> np.ndarray:
    """X as an ndarray of numbers (with ``strings``, of anything), or an error that says why.

    Cells that a mask of numpy's covers are missing.
    """
    if isinstance(X, str | os.PathLike):
        raise TypeError(f"X is the path {str(X)!r}: pass genus.data.load({str(X)!r})")
    if isinstance(X, np.ma.MaskedArray):
        return _without_masked(X)
    if isinstance(X, np.ndarray) and X.dtype.kind in "fiub" and X.dtype != np.longdouble:
        return X
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError("X is a sparse matrix, which is not supported: pass X.toarray()")
    check_in_memory(X)
    if isinstance(X, torch.utils.data.Dataset):
        X = stacked(X, range(length(X)))
    if isinstance(X, Tensor):
        half = X.dtype in (torch.bfloat16, torch.float16)
        X = X.detach().cpu().to(torch.float32 if half else X.dtype).numpy()
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
        advice = "pass a pandas DataFrame for columns of words or categories"
        raise type(e)(f"X must hold numbers ({e}): {advice}") from None


def _without_masked(X: Any) -> np.ndarray:
    """The values of a masked array, with NaN (None among objects) where the mask covers them."""
    if not np.ma.getmaskarray(X).any():
        return as_array(X.data, strings=True)
    if X.dtype.kind in "OUS":
        return np.asarray(X.astype(object).filled(None))
    return np.asarray(X.astype(X.dtype if X.dtype.kind == "f" else np.float64).filled(np.nan))


def seen_in(X: Any, a: np.ndarray) -> np.ndarray:
    """The numbers that decide a kind: those of a masked array in their own dtype, else a."""
    return X.compressed() if isinstance(X, np.ma.MaskedArray) else a


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse what are no rows, in the words that scikit-learn's checks look for."""
    if len(shape) < 2:
        raise ValueError(
            f"Expected 2D array, got {len(shape)}D array instead. "
            "Reshape your data either using X.reshape(-1, 1) if it has a single column "
            "or X.reshape(1, -1) if it is a single row."
        )
    empty = "sample" if shape[0] == 0 else "feature" if min(shape[1:]) == 0 else None
    if empty:
        raise ValueError(
            f"Found array with 0 {empty}(s) (shape={shape}) while a minimum of 1 is required."
        )


def as_frame(X: Any) -> pd.DataFrame:
    """Rows for a table: a DataFrame with columns of distinct names, numbered when X is an array."""
    check_in_memory(X)
    if isinstance(X, pd.Series):
        X = X.to_frame()
    elif not isinstance(X, pd.DataFrame):
        if isinstance(X, np.ma.MaskedArray):
            X = as_array(X)
        words = isinstance(X, np.ndarray) and X.dtype.kind in "OUS"
        mixed = words or isinstance(X, list | tuple)
        a = np.asarray(X, dtype=object) if mixed else as_array(X)
        check_shape(a.shape)
        if a.ndim > 2:
            raise ValueError(f"X has rows of shape {a.shape[1:]}, and a table has rows of columns")
        return pd.DataFrame(a).infer_objects()
    check_shape(X.shape)
    if not X.columns.is_unique:
        twice = X.columns[X.columns.duplicated()][0]
        raise ValueError(f"the column name {twice!r} occurs more than once: rename one of them")
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
    low, high = a.min(), a.max()  # where nothing is missing, several times faster than fmin
    if np.isnan(low):
        return np.fmin.reduce(a, axis=None), np.fmax.reduce(a, axis=None)
    return low, high


def _is_whole(a: np.ndarray) -> np.ndarray:
    """Where a number has no fraction; NaN has none."""
    return (a == np.floor(a)) | np.isnan(a)


# ---------------------------------------------------------------------- inference


def infer(a: np.ndarray, kind: str | None, place: str) -> Column:
    """How numbers are coded, NaN aside; ``kind`` where the caller decided it."""
    low, high = _ends(a)
    if np.isnan(low):
        raise ValueError(f"{place} has no observed value, only NaN: drop it")
    kind = kind or _kind_of(a, low, high)
    if kind == "binary":
        return Column("", kind, 2)
    if kind == "continuous":
        return Column("", kind)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{place} contains inf: drop or replace it")
    if kind == "categorical":
        distinct = np.unique(a[~np.isnan(a)])
        if len(distinct) > MANY:
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


def _kind_of(a: np.ndarray, low: Any, high: Any) -> str:
    """The kind of numbers from low to high, by their values and their dtype."""
    real = a.dtype.kind == "f"
    if low >= 0 and high <= 1 and (not real or bool(_is_whole(a).all())):
        return "binary"
    if real:
        return "continuous"
    return "ordinal" if a.dtype == np.uint8 else "integer"


def as_labels(c: Column, a: np.ndarray) -> Column:
    """The column of whole numbers a as one of categories, where they are few, as labels are."""
    distinct = np.unique(a[~np.isnan(a)])
    if c.kind not in ("integer", "ordinal") or len(distinct) > FEW:
        return c
    return dataclasses.replace(
        c, kind="categorical", levels=len(distinct), low=0, values=tuple(distinct.tolist())
    )


def column_of(s: pd.Series, name: Any, kind: str | None) -> Column:
    """How one column of a DataFrame is coded; ``kind`` where the caller decided it."""
    place = f"column {name!r}"
    if kind is not None and kind not in KINDS:
        raise ValueError(f"{place} has the kind {kind!r}: choose one of {', '.join(KINDS)}")
    name = name if isinstance(name, str) else int(name)
    s, word = plain(s)
    seen = s.dropna()
    if len(seen) == 0:
        raise ValueError(f"{place} has no observed value: drop it")
    if s.dtype == object and not seen.map(_is_word).any():
        seen = seen.infer_objects()
    if isinstance(s.dtype, pd.CategoricalDtype):
        column = _declared(s.dtype, place)
    elif pd.api.types.is_bool_dtype(seen.dtype):
        column = Column("", "binary", 2, 0, (False, True), word)
    elif pd.api.types.is_numeric_dtype(seen.dtype):
        column = _of_numbers(s, seen, name, kind, word)
    elif pd.api.types.is_datetime64_any_dtype(seen.dtype):
        column = _of_dates(seen, name, kind, word)
    elif pd.api.types.is_timedelta64_dtype(seen.dtype):
        raise ValueError(
            f"{place} holds durations: turn it into numbers first, .dt.total_seconds()"
        )
    else:
        column = _of_words(seen, place, word)
    return dataclasses.replace(column, name=name)


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _declared(dtype: pd.CategoricalDtype, place: str) -> Column:
    """A column of pandas's own categories."""
    values = tuple(dtype.categories.tolist())
    if not all(isinstance(v, str | int | float) for v in values):
        raise ValueError(
            f"{place} has categories of type {type(values[0]).__name__}: "
            "turn them into words, .astype(str), first"
        )
    return Column("", "categorical", len(values), 0, values, "category", bool(dtype.ordered))


def _of_dates(seen: pd.Series, name: Any, kind: str | None, word: str) -> Column:
    """A column of dates: whole days where all are midnights of their zone, else instants."""
    days = numbers_of(seen, name, word, local=True)
    whole = bool(_is_whole(days).all())
    kind = kind or ("integer" if whole else "continuous")
    if kind == "continuous":
        days = numbers_of(seen, name, word)
    elif whole:
        days = days.astype(np.int64)
    return dataclasses.replace(infer(days, kind, f"column {name!r}"), dtype=word)


def _of_numbers(s: pd.Series, seen: pd.Series, name: Any, kind: str | None, word: str) -> Column:
    """A column of numbers; ``seen``: those that are not missing.

    Whole numbers are whole whatever dtype holds them: pandas makes floats of them for one gap.
    """
    place = f"column {name!r}"
    a = numbers_of(seen, name)
    if a.dtype.kind == "f":
        if np.isinf(a).any():
            row = int(np.isinf(numbers_of(s, name)).argmax())
            raise ValueError(f"{place} contains inf (row {row}): drop or replace it")
        if np.abs(a).max() < 2**53 and _is_whole(a).all():
            a = a.astype(np.int64)
    elif a.dtype == np.uint8:
        a = a.astype(np.int64)  # no pixel, but a column of a table
    if word.startswith("period"):  # numbered from 1970 on, which is no end
        column = infer(a, kind or "integer", place)
        return dataclasses.replace(column, dtype=word)
    column = infer(a, kind, place)
    dtype = word
    if column.kind == "continuous" and pd.api.types.is_integer_dtype(s.dtype):
        dtype = "float64"  # its draws are not whole numbers
    column = dataclasses.replace(column, dtype=dtype)
    if kind is None and (found := sentinel_in(a)):
        warnings.warn(f"{place} has {found}: NaN is how to write missing cells", stacklevel=2)
    if column.kind == "integer":
        return dataclasses.replace(column, bounds=bounds_of(a, whole=True))
    if column.kind != "continuous":
        return column
    values = a.astype(np.float64)
    return dataclasses.replace(
        column,
        bounds=bounds_of(values, whole=False),
        atoms=atoms_of(values),
        decimals=decimals_of(values),
    )


SPIKE = 0.02  # share of the rows from which one value may have mass of its own
NEW = "(new)"  # how a word that fit never saw is written, where only its code is known
ENOUGH = 10  # rows that tell where values end
MOST = 30  # values of a column with mass of their own, at most


def spikes(value: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Which of the rising values occur so much oftener than their neighbours; a mask.

    At least a fiftieth of all rows, and four times the median count of five values on either side.
    """
    heavy = count >= max(4, SPIKE * count.sum())
    out = np.zeros(len(value), dtype=bool)
    for i in np.flatnonzero(heavy):
        near = np.concatenate([count[max(0, i - 5) : i], count[i + 1 : i + 6]])
        out[i] = len(near) == 0 or count[i] >= 4 * np.median(near)
    return out


def atoms_of(a: np.ndarray) -> tuple[float, ...]:
    """The real numbers that have mass of their own, as no rain has: a few, or all where few are."""
    value, count = np.unique(a, return_counts=True)
    if len(value) == 1:
        return (float(value[0]),)
    if len(value) <= MOST and len(a) >= 5 * len(value):
        return tuple(value.tolist())
    found = spikes(value, count)
    return tuple(value[found].tolist()) if found.sum() <= MOST else ()


def bounds_of(a: np.ndarray, whole: bool) -> tuple[float | None, float | None]:
    """The ends that values of a column cannot pass, as far as those that were seen tell.

    0, where none lies on its other side; 1, of shares; and an end at which values pile up. Few rows
    tell nothing.
    """
    value, count = np.unique(a, return_counts=True)
    if len(value) == 1 or len(a) < ENOUGH:
        return None, None
    lowest, highest = float(value[0]), float(value[-1])
    low = 0.0 if lowest >= 0 else None
    high = 0.0 if highest < 0 else None
    if not whole and low is not None and 0.95 <= highest <= 1:
        high = 1.0
    if len(value) > MOST:
        least = max(3, 0.01 * len(a))
        if low is None and count[0] >= least and count[0] >= 3 * np.median(count[1:6]):
            low = lowest
        if high is None and count[-1] >= least and count[-1] >= 3 * np.median(count[-6:-1]):
            high = highest
    return low, high


def decimals_of(a: np.ndarray) -> int | None:
    """The places, at most four, that write every value of real numbers; None: they have more."""
    for places in range(5):
        scaled = a * 10.0**places
        if np.abs(scaled).max() > 1e12:
            return None
        if bool((np.abs(scaled - np.rint(scaled)) <= 1e-6 * np.abs(scaled)).all()):
            return places
    return None


def why_text(words: int, rows: int) -> str:
    """Why a column of words is taken for an identifier or free text; empty where it is not."""
    if rows > 50 and words > rows / 2:
        return f"{words} different words in {rows} rows, an identifier or free text"
    return ""


def sentinel_in(a: np.ndarray) -> str:
    """What is said of a number that stands for missing ones, as −999 does; empty where none does.

    It is one that people write (99, 999 … with either sign), repeats, and lies at an end, farther
    from all others than twice their width.
    """
    value, count = np.unique(a, return_counts=True)
    for at, step in ((0, 1), (-1, -1)):
        odd = float(value[at])
        if len(value) < 4 or abs(odd) not in SENTINELS or count[at] < 2:
            continue
        others = value[1:] if at == 0 else value[:-1]
        if step * (others[at] - odd) > 2 * (others[-1] - others[0]):
            return f"{odd:g} in {count[at]} rows, far from all others"
    return ""


def _of_words(seen: pd.Series, place: str, dtype: str) -> Column:
    """A column of words, whose categories are those that were seen."""
    for value in seen:
        if not _is_word(value):
            raise TypeError(
                f"{place} mixes words with {type(value).__name__}: "
                "argument must be a string or a number"
            )
    values = tuple(sorted(seen.unique().tolist()))
    why = why_text(len(values), len(seen))
    if len(values) > 1000 and len(values) > len(seen) / 2:
        raise ValueError(
            f"{place} has {len(values)} different words in {len(seen)} rows "
            "(an identifier?): drop it"
        )
    if why:
        warnings.warn(f"{place} has {why}: drop it", stacklevel=2)
    return Column("", "categorical", len(values), 0, values, dtype, open=True)


def numbers_of(s: pd.Series, name: Any, word: str | None = None, local: bool = False) -> np.ndarray:
    """The numbers of a column, missing ones as NaN; dates as days since 1970.

    ``word``: the dtype of the column in fit, if that is known. ``local``: days of its time zone.
    """
    s, own = plain(s)
    word = word or own
    dates = pd.api.types.is_datetime64_any_dtype(s.dtype)
    if holds_dates(word) and not dates and not pd.api.types.is_numeric_dtype(s.dtype):
        s, dates = _as_dates(s, name), True
    period = word if word.startswith("period") else None
    if (period or own.startswith("period")) and own != word:
        raise ValueError(f"column {name!r} must hold {word}, as in fit, and holds {own}")
    if dates != holds_dates(word):
        raise ValueError(
            f"column {name!r} must hold {'dates' if holds_dates(word) else 'numbers'}, "
            f"as in fit, and holds {own}"
        )
    if dates:
        try:
            return days_of(s, word, local)
        except ValueError as e:
            raise ValueError(f"column {name!r} {e}") from None
    if isinstance(s.dtype, np.dtype) and s.dtype.kind in "fiub":
        return s.to_numpy()
    try:
        s = pd.to_numeric(s.astype(object))
        if pd.api.types.is_integer_dtype(s.dtype) and not s.hasnans:
            return s.to_numpy(dtype=np.int64)
        return s.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as e:
        raise ValueError(f"column {name!r} must hold numbers: {e}") from None


def _as_dates(s: pd.Series, name: Any) -> pd.Series:
    """A column that holds no date: all of it is missing, or it is refused."""
    if s.notna().any():
        raise ValueError(f"column {name!r} must hold dates, as in fit: use pd.to_datetime")
    return pd.Series(pd.NaT, s.index, dtype="datetime64[us]")


# ---------------------------------------------------------------------- values and codes

Fail = Callable[[np.ndarray, str], ValueError]  # (where, why) → an error that names the cell


def column_codes(s: pd.Series, c: Column) -> np.ndarray:
    """The codes (n,) of one column of a table, float64."""
    words = not all(isinstance(v, int | float) for v in c.values or ())
    if words:
        cells = plain(s)[0].to_numpy(dtype=object)
    else:
        cells = numbers_of(s, c.name, c.dtype, local=c.kind != "continuous")
    return codes_of(cells, c, lambda j: f"column {c.name!r}").astype(np.float64)


def codes_of(
    a: np.ndarray, c: Column, place: Callable[[int], str], fractional: bool = False
) -> np.ndarray:
    """A fresh array of the codes of ``a``; ``place(j)`` names cell j of a row in messages."""

    def fail(bad: np.ndarray, why: str) -> ValueError:
        row, cell = np.argwhere(bad.reshape(len(a), -1))[0].tolist()
        value = a.reshape(len(a), -1)[row].tolist()[cell]
        return ValueError(f"X has {value!r} in {place(cell)} (row {row}): {why}")

    levels = c.levels or 1
    if a.dtype == np.float16:
        a = a.astype(np.float32)
    if c.values is not None and c.values != tuple(range(levels)):
        codes = _category_codes(a, c, fail)
    else:
        low, high = _ends(a)
        _check_size(a, low, high, fail)
        if c.kind == "continuous":
            return a.astype(np.float32 if a.dtype == np.float32 else np.float64, order="C")
        _check_range(a, c, low, high, fail)
        real = a.dtype.kind == "f"
        if real and not (whole := _is_whole(a)).all():
            if c.kind == "binary" and fractional:
                return a.astype(np.float32, order="C")
            why = (
                "a whole number is expected here; "
                "for grey values use genus.data.binarize(X), or space='continuous'"
            )
            raise fail(~whole, why)
        codes = a
        if c.low != 0:
            codes = a.astype(np.float64 if real else np.int64) - c.low
    if c.kind == "integer":
        return _whole_numbers(codes)
    if c.open:
        levels += 1  # the last code is that of a new word
    if levels <= 256 and not (codes.dtype.kind == "f" and np.isnan(codes).any()):
        return codes.astype(np.uint8, order="C")
    return codes.astype(np.float32 if levels <= 2**24 else np.float64, order="C")


def _whole_numbers(codes: np.ndarray) -> np.ndarray:
    """Codes without ends, in the smallest type that holds them."""
    low, high = _ends(codes)
    whole = codes.dtype.kind != "f" or not np.isnan(codes).any()
    if whole and low >= 0 and high <= 255:
        return codes.astype(np.uint8, order="C")
    exact = max(-low, high) <= 2**24
    return codes.astype(np.float32 if exact else np.float64, order="C")


def _category_codes(a: np.ndarray, c: Column, fail: Fail) -> np.ndarray:
    """The place of each value among the categories, NaN where it is missing."""
    values = list(c.values or ())
    nan = pd.isna(a)
    codes = pd.Index(values).get_indexer(pd.Index(a.reshape(-1))).reshape(a.shape)
    new = (codes < 0) & ~nan
    if c.dtype == "category" and UNKNOWN in values:
        codes = np.where(new, values.index(UNKNOWN), codes)
    elif c.open:
        odd = new & ~np.frompyfunc(_is_word, 1, 1)(a).astype(bool)
        if odd.any():
            raise fail(odd, "a word is expected here")
        codes = np.where(new, len(values), codes)
    elif new.any():
        why = (
            "a category that was not seen in fit; drop the row, fit on data that hold all of them, "
            f"or declare {UNKNOWN!r} as one, pd.CategoricalDtype([...]), to read others as it"
        )
        raise fail(new, why)
    return np.where(nan, np.nan, codes) if nan.any() else codes


def _check_size(a: np.ndarray, low: Any, high: Any, fail: Fail) -> None:
    """Refuse numbers that cannot be reckoned with."""
    if np.isinf(low) or np.isinf(high):
        raise fail(np.isinf(a), "inf is not a number a model can use; drop or replace it")
    if a.dtype == np.float64 and max(-low, high) > LARGEST:
        raise fail(np.abs(a) > LARGEST, "too large for floating point; rescale the column")


def _check_range(a: np.ndarray, c: Column, low: Any, high: Any, fail: Fail) -> None:
    """Refuse levels that the column does not have; whole numbers have no ends."""
    if c.kind == "integer":
        return
    top = c.low + (c.levels or 1) - 1
    if low < c.low or high > top:
        why = f"outside {c.low} … {top}; pass space=Space(..., levels=...) to fit to allow it"
        raise fail((a < c.low) | (a > top), why)


def values_of(codes: np.ndarray, c: Column, dtype: str) -> np.ndarray:
    """The caller's values of codes, in numpy's ``dtype``, or float64 where it cannot hold NaN."""
    if c.kind == "continuous":
        return codes.astype(dtype, copy=False)
    whole, nan = _whole_codes(codes)
    out = whole + c.low if c.values is None else np.asarray(c.values)[whole]
    if not nan.any():
        return out.astype(dtype)
    return np.where(nan, np.nan, out).astype(dtype if dtype.startswith("float") else "float64")


def _whole_codes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes as whole numbers, 0 where they are missing, and where that is."""
    nan = np.isnan(codes)
    return np.rint(np.where(nan, 0, codes)).astype(np.int64), nan


def series_of(codes: np.ndarray, c: Column) -> pd.Series:
    """One column of codes in the caller's dtype; float64 when missing cells do not fit in it."""
    dtype: Any = c.dtype
    if holds_dates(dtype) and dtype != "category":
        days = values_of(codes, dataclasses.replace(c, dtype="float64"), "float64")
        return dates_from(days, dtype, local=c.kind != "continuous")
    if c.kind == "continuous":
        if dtype.startswith("decimal"):
            return decimals_from(codes, dtype, c.decimals)
        return from_plain(pd.Series(codes), dtype)
    whole, nan = _whole_codes(codes)
    if dtype == "category":
        categories: Any = list(c.values or ())
        places = np.where(nan, -1, whole)
        return pd.Series(
            pd.Categorical.from_codes(places, categories=categories, ordered=c.ordered)
        )
    if c.values is None:
        out = (whole + c.low).astype(object)
    else:
        values = (*c.values, NEW) if c.open else c.values
        out = np.asarray(values, dtype=object)[whole]
    out[nan] = None
    if dtype.startswith("decimal"):
        return decimals_from(out.astype(np.float64), dtype, 0)
    if dtype.startswith(("period", "Sparse")):
        return from_plain(pd.Series(out, dtype=object).infer_objects(), dtype)
    found = pd.api.types.pandas_dtype(dtype)
    if nan.any() and isinstance(found, np.dtype) and found.kind in "iub":
        dtype = "float64"
    return pd.Series(out, dtype=object).astype(dtype)
