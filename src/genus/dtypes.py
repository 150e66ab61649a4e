"""Columns of every dtype as plain numbers, days or words, and back.

A column enters as pandas, Arrow or Python holds it: dates, months, decimals, sparse cells. Inside
it is numbers. A word for the dtype it had says how it leaves: pandas's own name of it, or ``date``,
``datetime`` and ``decimal`` for objects of Python.

An instant is the same whatever the zone it is told in, so inside it is days since 1970 in UTC, with
fractions. A calendar day is counted where the clocks hang that tell it.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

DAY = 86400e6  # microseconds
LAST = np.iinfo(np.int64).max // 1000  # microseconds that still fit where nanoseconds are counted


# ---------------------------------------------------------------------- the way in


def plain(s: pd.Series) -> tuple[pd.Series, str]:
    """A column in a dtype of numbers, dates or words, and the word for the dtype it had."""
    dtype, word = s.dtype, str(s.dtype)
    if isinstance(dtype, pd.SparseDtype):
        cells: Any = s.sparse
        return cells.to_dense(), word
    if isinstance(dtype, pd.PeriodDtype):
        periods: Any = s.array
        numbers = pd.Series(periods.asi8, s.index, name=s.name)
        return (numbers.where(s.notna()) if s.hasnans else numbers), word
    if isinstance(dtype, pd.ArrowDtype):
        return _of_arrow(s), word
    if isinstance(dtype, pd.DatetimeTZDtype):
        s = _named_zone(s)
        return s, str(s.dtype)
    return _of_objects(s) if dtype.kind == "O" and word == "object" else (s, word)


def _of_arrow(s: Any) -> pd.Series:
    word = str(s.dtype)
    if pd.api.types.is_datetime64_any_dtype(s.dtype):
        zone = _zone_in(word)
        return s.astype(f"datetime64[us, {zone}]" if zone else "datetime64[us]")
    if word.startswith("decimal"):
        return s.astype("float64")
    return s.astype(object).astype("category") if word.startswith("dictionary") else s


def _of_objects(s: pd.Series) -> tuple[pd.Series, str]:
    """Python's dates, times and decimals; other objects are left as they are."""
    kind = pd.api.types.infer_dtype(s, skipna=True)
    if kind == "date":
        days = np.array(s.where(s.notna(), None).to_numpy(), dtype="datetime64[us]")
        return pd.Series(days, s.index, name=s.name), "date"
    if kind in ("datetime", "datetime64"):
        found = s.infer_objects()
        if found.dtype == object:  # in several zones
            found = pd.to_datetime(s, utc=True)
        found = _named_zone(found)
        zone = zone_of(found)
        return found, f"datetime, {zone}" if zone else "datetime"
    if kind == "decimal":
        return s.astype("float64"), "decimal"
    if kind == "period":
        return plain(pd.Series(pd.array(s), s.index, name=s.name))
    return s, str(s.dtype)


def _named_zone(s: pd.Series) -> pd.Series:
    """Instants in their zone, or in UTC where no name says which it is."""
    try:
        pd.api.types.pandas_dtype(str(s.dtype))
    except TypeError:
        return s.dt.tz_convert("UTC")
    return s


def zone_of(s: pd.Series) -> str | None:
    """The time zone of a column of dates."""
    zone = getattr(s.dtype, "tz", None)
    return None if zone is None else str(zone)


def _zone_in(word: str) -> str | None:
    """The time zone in the word for a dtype."""
    found = re.search(r"datetime, (.+)$|\[\w+, (?:tz=)?([^\]]+)\]", word)
    return found and (found[1] or found[2])


def holds_dates(word: str) -> bool:
    """Does the word for a dtype mean dates?"""
    return word.startswith(("datetime", "timestamp", "date"))


def is_calendar(word: str) -> bool:
    """Does the word for a dtype mean dates, months or quarters?"""
    return holds_dates(word) or word.startswith("period")


def days_of(s: pd.Series, word: str, local: bool) -> np.ndarray:
    """Dates as days since 1970, NaN where one is missing: of UTC, or ``local``, in a zone.

    ``word``: the dtype of the column, which says the zone. ValueError where one of both has none.
    """
    zone = _zone_in(word)
    if (zone is None) != (zone_of(s) is None):
        ours, others = ("a", "none") if zone is None else ("no", "one")
        raise ValueError(
            f"has {ours} time zone, and fit saw {others}: "
            "give both one, .dt.tz_localize(zone), or none, .dt.tz_localize(None)"
        )
    if zone is not None:
        s = s.dt.tz_convert(zone if local else "UTC").dt.tz_localize(None)
    since = s.to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(since), np.nan, since.astype(np.int64) / DAY)


# ---------------------------------------------------------------------- the way out


def dates_from(days: np.ndarray, word: str, local: bool) -> pd.Series:
    """The inverse of :func:`days_of`: dates in the dtype that ``word`` means.

    A clock that is put forward over a midnight makes that day begin an hour later.
    """
    since = np.rint(days * DAY)
    if "[ns" in word:
        since = np.clip(since, -LAST, LAST)
    nowhere = np.isnan(since)
    micro = np.where(nowhere, 0, since).astype(np.int64).astype("datetime64[us]")
    micro[nowhere] = np.datetime64("NaT")
    dates, zone = pd.Series(micro), _zone_in(word)
    if zone is not None and local:
        ambiguous = np.ones(len(dates), dtype=bool)
        dates = dates.dt.tz_localize(zone, ambiguous=ambiguous, nonexistent="shift_forward")
    elif zone is not None:
        dates = dates.dt.tz_localize("UTC").dt.tz_convert(zone)
    if word == "date":
        return _objects(dates.dt.date, nowhere)
    if word.startswith("datetime") and not word.startswith("datetime64"):
        return _objects(dates.dt.to_pydatetime(), nowhere)
    return dates.astype(word)  # type: ignore[call-overload]


def _objects(values: Any, nowhere: np.ndarray) -> pd.Series:
    out = np.array(values, dtype=object)
    out[nowhere] = None
    return pd.Series(out, dtype=object)


def decimals_from(numbers: np.ndarray, word: str, places: int | None) -> pd.Series:
    """Numbers as decimals, of so many places where all have as many."""
    text = [repr(float(v)) if places is None else f"{v:.{places}f}" for v in numbers]
    out = _objects([Decimal(v) for v in text], np.isnan(numbers))
    if word == "decimal":
        return out
    import pyarrow

    precision, scale = re.findall(r"\d+", word)[1:3]
    own = pyarrow.decimal128(int(precision), int(scale))
    exact = Decimal(1).scaleb(-int(scale))
    return out.map(lambda v: v.quantize(exact), na_action="ignore").astype(pd.ArrowDtype(own))


def from_plain(values: pd.Series, word: str) -> pd.Series:
    """Plain numbers or words in the dtype that ``word`` means; periods by their number."""
    if word.startswith("period"):
        dtype: Any = pd.api.types.pandas_dtype(word)
        nowhere = values.isna()
        whole = values.where(~nowhere, 0).astype("int64")
        index: Any = pd.PeriodIndex
        periods = index.from_ordinals(whole, freq=dtype.freq)
        return pd.Series(periods).where(~nowhere)
    if word.startswith("Sparse"):
        found = re.fullmatch(r"Sparse\[(\w+), (.+)\]", word)
        assert found is not None
        fill = {"True": True, "False": False}.get(found[2])
        held: Any = "float64" if values.isna().any() else found[1]
        dense = values.astype(held)
        return dense.astype(pd.SparseDtype(dense.dtype, float(found[2]) if fill is None else fill))
    return values.astype(word)  # type: ignore[call-overload]
