"""Cells of text as people write them."""

import warnings

import numpy as np
import pandas as pd
import pytest

from genus.data.cells import compact_dates, is_value, read_column


def read(words, european=False):
    def complain(odd, what):
        return ValueError(f"{odd[odd].index[0]} is not {what}")

    return read_column(pd.Series(words, dtype=object), "c", european, complain)


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["$1,200", "$3.50", "-$4"], [1200, 3.5, -4]),
        (["12 €", "1 234,50 €"], [12, 1234.5]),
        (["12.5%", "40 %"], [12.5, 40]),
        (["(12.00)", "7.50"], [-12, 7.5]),
        (["1\u202f234,50", "−3", "2,5"], [1234.5, -3, 2.5]),
        (["1'234.50", "2"], [1234.5, 2]),
        (["1.234,50", "2,5"], [1234.5, 2.5]),
        (["12.00-", "1"], [-12, 1]),
        (["1e-3", "2"], [0.001, 2]),
        (["80.5 kg", "7 kg"], [80.5, 7]),
        (["5%", "10%"] * 20, [5, 10] * 20),
        (["1,200", "NA"], [1200, np.nan]),
    ],
)
def test_amounts_are_numbers(words, numbers):
    np.testing.assert_array_equal(read(words), numbers)


def test_a_comma_is_of_thousands_or_of_decimals_as_the_table_is():
    assert read(["1,234", "2,345"]).tolist() == [1234, 2345]
    assert read(["1,234", "2,345"], european=True).tolist() == [1.234, 2.345]


@pytest.mark.parametrize(
    "words",
    [
        ["08580", "12345"],
        ["$5", "€5"],
        ["5 kg", "5 lb"],
        ["1A", "2A"],
        ["(1)", "(2)"],
        ["192.168.0.1", "10.0.0.1"],
        ["10:30", "11:45"],
        ["1-2", "3-4"],
        ["Mayor", "June"],
        ["13/13/2024", "1/1/2024"],
        ["31/12/2024", "12/31/2024"],
        ["2024-13", "2024-01"],
        ["2024-01-02", "2024-01-02T10:00Z"],
    ],
)
def test_other_things_stay_words(words):
    assert read(words).tolist() == words


@pytest.mark.parametrize(
    ("words", "dates"),
    [
        (["2024-01-31", "2024-02-01"], ["2024-01-31", "2024-02-01"]),
        (["31/1/2024", "1/2/2024"], ["2024-01-31", "2024-02-01"]),
        (["1/31/2024", "2/1/2024"], ["2024-01-31", "2024-02-01"]),
        (["1/31/24 9:05 PM", "2/1/24 12:00 AM"], ["2024-01-31 21:05", "2024-02-01"]),
        (["2.1.2024", "3.1.2024"], ["2024-01-02", "2024-01-03"]),
        (["2024/01/31", "2024/2/1"], ["2024-01-31", "2024-02-01"]),
        (["Jan 31, 2024", "September 1, 2024"], ["2024-01-31", "2024-09-01"]),
        (["31 Jan 2024", "1st Feb 2024"], ["2024-01-31", "2024-02-01"]),
        (["31-Jan-24", "01-Feb-69"], ["2024-01-31", "1969-02-01"]),
        (
            ["2024-01-31 10:30", "2024-02-01T09:05:01.5"],
            ["2024-01-31 10:30", "2024-02-01 9:05:01.5"],
        ),
    ],
)
def test_dates_are_dates(words, dates):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read([*words, None])
    expected = pd.to_datetime(pd.Series([*dates, None]), format="mixed").astype("datetime64[us]")
    pd.testing.assert_series_equal(found, expected)


@pytest.mark.parametrize(("european", "month"), [(False, 1), (True, 2)])
def test_what_may_be_day_or_month_is_said(european, month):
    with pytest.warns(UserWarning, match="'1/2/2024' and all others could have the day or the mo"):
        assert read(["1/2/2024", "3/4/2024"], european).dt.month[0] == month


@pytest.mark.parametrize(
    ("words", "dtype", "hours"),
    [
        (["2024-01-31T10:00Z", "2024-07-31T10:00:00Z"], "UTC", [10, 10]),
        (["2024-01-31 10:00+01:00", "2024-07-31 10:00+02:00"], "UTC", [9, 8]),
        (["2024-01-31T10:00+0200", "2024-07-31T10:00+0200"], "UTC+02:00", [10, 10]),
    ],
)
def test_dates_with_a_zone_are_instants(words, dtype, hours):
    found = read(words)
    assert str(found.dtype) == f"datetime64[us, {dtype}]" and found.dt.hour.tolist() == hours


@pytest.mark.parametrize(
    ("words", "dtype"),
    [
        (["2024-03", "2024-12"], "period[M]"),
        (["Mar 2024", "December 2024"], "period[M]"),
        (["2024Q1", "2024-Q4"], "period[Q-DEC]"),
    ],
)
def test_months_and_quarters_are_periods(words, dtype):
    found = read([words[0], None, words[1]])
    assert found.dtype == dtype and found.isna().tolist() == [False, True, False]
    assert found[0].end_time.month == 3 and found[2].end_time.month == 12


def test_na_is_a_country_among_countries():
    with pytest.warns(UserWarning, match="NA is read as a country"):
        assert read(["NA", "ZA", "DE"]).tolist() == ["NA", "ZA", "DE"]
    assert read(["NA", "red", "blue"]).isna().tolist() == [True, False, False]
    assert read(["NA", "TRUE", "false"]).tolist()[1:] == [True, False]


def test_an_odd_cell_is_no_word():
    with pytest.raises(ValueError, match="50 is not a number"):
        read([*map(str, range(50)), "5o"])
    days = [f"2024-03-{d:02d}" for d in range(1, 29)]
    with pytest.raises(ValueError, match="28 is not a date"):
        read([*days, "soon"])


def test_names_are_no_values():
    assert all(map(is_value, ["1", "2,5", "$3", "2024-01-01", "1/2/2024", "-3.5e4"]))
    assert not any(map(is_value, ["a", "", "x1", "May", "Mar 2024x"]))


def test_whole_numbers_that_are_days_are_dates():
    days = pd.Series([20240100 + d for d in range(1, 29)])
    found = compact_dates(days)
    assert found.dtype == "datetime64[us]" and found[27] == pd.Timestamp("2024-01-28")
    for others in (days + 1300, days[:5], pd.Series(range(100)), pd.Series([], dtype="int64")):
        pd.testing.assert_series_equal(compact_dates(others), others)
