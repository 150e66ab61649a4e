"""One column: how it is inferred, coded and decoded."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from genus.coding import (
    Column,
    as_array,
    as_frame,
    codes_of,
    column_codes,
    column_of,
    infer,
    layout_of,
    numbers_of,
    sentinel_in,
    series_of,
    values_of,
)

NAN = float("nan")


def place(j: int) -> str:
    return f"column {j}"


# ---------------------------------------------------------------------- arrays of every sort


@pytest.mark.parametrize(
    ("X", "dtype"),
    [
        ([[1, 2]], "int64"),
        ([[1.5, None]], "float64"),
        (np.ones((1, 2), np.longdouble), "float64"),
        (torch.ones(1, 2, dtype=torch.bfloat16), "float32"),
        (np.array([["1", "2"]]), "float64"),
        (torch.utils.data.TensorDataset(torch.ones(1, 2, dtype=torch.int16)), "int16"),
    ],
)
def test_numbers_are_read_from_anything(X: Any, dtype: str) -> None:
    a = as_array(X)
    assert a.dtype == dtype and a.shape == (1, 2)


def test_an_array_of_numbers_is_not_copied() -> None:
    a = np.arange(6.0).reshape(3, 2)
    assert as_array(a) is a


@pytest.mark.parametrize(
    ("X", "error", "says"),
    [
        (sparse.csr_array(np.eye(3)), TypeError, "sparse.*toarray"),
        ([[1, 2], [3]], ValueError, "different lengths"),
        ([[1j]], ValueError, "Complex data not supported"),
        ([["a"]], ValueError, "must hold numbers.*DataFrame"),
    ],
)
def test_what_is_no_array_of_numbers_is_told_why(X: Any, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        as_array(X)
    if says.startswith("must"):
        assert as_array(X, strings=True).tolist() == [["a"]]


def test_rows_of_a_table_have_names_that_differ() -> None:
    assert as_frame(pd.Series([1, 2], name="x")).columns.tolist() == ["x"]
    assert as_frame([["a", 1], ["b", 2]]).dtypes[1] == "int64"
    with pytest.raises(ValueError, match="'a' occurs more than once: rename"):
        as_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(ValueError, match="must be words or whole numbers: rename"):
        as_frame(pd.DataFrame({1.5: [1]}))


def test_the_layout_is_told_by_where_the_channels_can_be() -> None:
    assert layout_of((9, 4, 4), "binary") == "HW"
    assert layout_of((9, 3, 4, 4), "binary") == "CHW"
    assert layout_of((9, 4, 4, 1), "binary") == "HWC"
    assert layout_of((9, 4), "binary") is layout_of((9, 4, 4, 2), "binary") is None
    with pytest.raises(ValueError, match="layout='CHW' or 'HWC'"):
        layout_of((9, 3, 4, 3), "binary")


# ---------------------------------------------------------------------- inference


@pytest.mark.parametrize(
    ("a", "kind", "levels", "low"),
    [
        (np.array([0.0, 1.0, NAN]), "binary", 2, 0),
        (np.array([0, 1], np.uint8), "binary", 2, 0),
        (np.array([3, 200], np.uint8), "ordinal", 256, 0),
        (np.arange(40) - 7, "integer", 40, -7),
        (np.array([0.0, 2.0]), "continuous", None, 0),
    ],
)
def test_kinds_of_numbers(a: np.ndarray, kind: str, levels: int | None, low: int) -> None:
    c = infer(a, None, "column 0")
    assert (c.kind, c.levels, c.low) == (kind, levels, low)


@pytest.mark.parametrize(
    ("a", "kind", "says"),
    [
        (np.array([NAN, NAN]), None, "column 0 has no observed value, only NaN: drop it"),
        (np.array([1.0, np.inf]), "ordinal", "contains inf"),
        (np.arange(20_000) * 1.5, "categorical", "too many categories; use space='continuous'"),
        (np.array([0, 2**60]), "ordinal", "too many to tell apart"),
    ],
)
def test_numbers_that_have_no_such_kind(a: np.ndarray, kind: str | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        infer(a, kind, "column 0")


def test_a_column_of_words_is_in_their_order() -> None:
    c = column_of(pd.Series(["b", None, "a"]), "w", None)
    assert (c.kind, c.levels, c.values) == ("categorical", 2, ("a", "b"))
    ordered = pd.CategoricalDtype(["s", "m", "l"], ordered=True)
    c = column_of(pd.Series(["l", "s"], dtype=ordered), "size", None)
    assert c.values == ("s", "m", "l") and c.ordered and c.dtype == "category"


def test_dates_are_days_since_1970() -> None:
    s = pd.Series(pd.to_datetime(["1970-01-02", None, "1970-01-01 12:00"], format="ISO8601"))
    np.testing.assert_array_equal(numbers_of(s, "day"), [1.0, NAN, 0.5])
    with pytest.raises(ValueError, match="column 'pay' must hold numbers"):
        numbers_of(pd.Series(["one"]), "pay")


# ---------------------------------------------------------------------- values and codes


CODED: list[tuple[Any, Column]] = [
    (np.array([7.0, NAN, 9.0]), Column("c", "categorical", 2, values=(7, 9))),
    (np.array([1990.0, NAN, 2019.0]), Column("c", "ordinal", 30, 1990)),
    (np.array([0.0, NAN, 1.0]), Column("c", "binary", 2)),
    (np.array([0.25, NAN, -3.5]), Column("c", "continuous")),
]


@pytest.mark.parametrize(("a", "c"), CODED, ids=lambda v: getattr(v, "kind", None))
def test_values_become_codes_and_come_back(a: np.ndarray, c: Column) -> None:
    codes = codes_of(a[:, None], c, place)
    assert np.isnan(codes[1, 0])
    if c.levels:
        assert 0 <= np.nanmin(codes) and np.nanmax(codes) < c.levels
    np.testing.assert_array_equal(values_of(codes[:, 0], c, "float64"), a)
    np.testing.assert_array_equal(column_codes(pd.Series(a, name="c"), c), codes[:, 0])


def test_few_levels_take_a_byte_and_large_numbers_keep_every_digit() -> None:
    few = codes_of(np.array([[3], [5]]), Column("", "ordinal", 3, 3), place)
    assert few.dtype == np.uint8 and few.tolist() == [[0], [2]]
    big = 1_700_000_000_000_000_000
    codes = codes_of(np.array([[big], [big + 40]]), Column("", "ordinal", 41, big), place)
    assert codes.tolist() == [[0], [40]]


@pytest.mark.parametrize(
    ("value", "c", "says"),
    [
        (5.0, Column("", "categorical", 2, values=(7, 9)), "5.0 in column 1 .row 2.*not seen"),
        (np.inf, Column("", "continuous"), "inf in column 1 .row 2.*drop or replace"),
        (1e200, Column("", "continuous"), "too large.*rescale the column"),
        (41.0, Column("", "ordinal", 10), "outside 0 … 9; pass space="),
        (0.5, Column("", "ordinal", 10), "a whole number is expected"),
        (0.5, Column("", "binary", 2), "genus.data.binarize"),
    ],
)
def test_a_bad_cell_is_named_by_its_place(value: float, c: Column, says: str) -> None:
    good = float(c.values[0]) if c.values else 0.0
    a = np.full((4, 3), good)
    a[2, 1] = value
    with pytest.raises(ValueError, match=says):
        codes_of(a, c, place)


def test_grey_is_left_between_the_levels_where_it_is_asked_for() -> None:
    codes = codes_of(np.array([[0.25]]), Column("", "binary", 2), place, fractional=True)
    assert codes.dtype == np.float32 and codes.tolist() == [[0.25]]


@pytest.mark.parametrize(
    "s",
    [
        pd.Series([True, False], name="c"),
        pd.Series(["a", "b"], name="c"),
        pd.Series([1, 2], dtype="Int64", name="c"),
        pd.Series([0.5, NAN], name="c"),
        pd.Series(pd.to_datetime(["2020-01-31 10:30", None]).tz_localize("Asia/Tokyo"), name="c"),
        pd.Series(pd.Categorical(["s", None], categories=["s", "l"], ordered=True), name="c"),
    ],
    ids=lambda s: str(s.dtype),
)
def test_a_column_comes_back_in_its_dtype(s: pd.Series) -> None:
    c = column_of(s, "c", None)
    pd.testing.assert_series_equal(series_of(column_codes(s, c), c).rename("c"), s)


def test_gaps_that_a_dtype_cannot_hold_make_it_float() -> None:
    s = pd.Series([5, 6], name="c")
    out = series_of(np.array([1.0, NAN]), column_of(s, "c", None))
    assert out.dtype == "float64" and out[0] == 6 and math.isnan(out[1])


def test_free_text_in_a_frame_is_said() -> None:
    words = pd.Series([f"w{i}" for i in range(60)])
    with pytest.warns(UserWarning, match="column 'c' has 60 different words in 60 rows"):
        column_of(words, "c", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        column_of(words[:50], "c", None)
        column_of(pd.concat([words] * 3), "c", None)


@pytest.mark.parametrize(
    ("low", "high", "odd", "said"),
    [
        (0, 30, -999, True),
        (0, 3, 99, True),
        (-5.0, 5.0, 999.9, True),
        (0, 98, 99, False),
        (0, 30, -1, False),
        (-900, 900, -999, False),
    ],
)
def test_numbers_that_stand_for_missing_ones_are_said(
    low: float, high: float, odd: float, said: bool
) -> None:
    values = np.linspace(low, high, 31)
    values = np.rint(values) if isinstance(low, int) else values
    a = np.concatenate([values, [odd, odd]])
    found = sentinel_in(a)
    assert found == (f"{odd:g} in 2 rows, far from all others" if said else "")
    assert sentinel_in(a[:-1]) == ""  # one alone may be true
    if said:
        with pytest.warns(UserWarning, match=f"column 'c' has {odd:g} in 2 rows"):
            column_of(pd.Series(a), "c", None)
