"""Columns of dates, months, decimals and sparse cells, of pandas, Arrow and Python."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import genus
from genus.dtypes import dates_from, days_of, plain

RNG = np.random.default_rng(0)
N = 40
# a night in which the clocks of Berlin are put forward, and many around it
TIMES = pd.Series(pd.Timestamp("2024-03-30 20:00") + pd.to_timedelta(RNG.permutation(N), unit="h"))
DAYS = pd.Series(pd.Timestamp("2024-03-20") + pd.to_timedelta(RNG.permutation(N), unit="D"))
UTC = TIMES.dt.tz_localize("UTC")
MONTHS = pd.PeriodIndex.from_ordinals(RNG.integers(600, 660, N), freq="M")
PRICES = [Decimal(f"{v:.2f}") for v in RNG.normal(size=N)]
COLUMNS = {
    "times": TIMES,
    "times of a zone": UTC.dt.tz_convert("Europe/Berlin"),
    "times of an offset": UTC.dt.tz_convert(dt.timezone(dt.timedelta(hours=5))),
    "days of a zone": DAYS.dt.tz_localize("America/Sao_Paulo"),
    "days of Python": pd.Series(DAYS.dt.date.tolist(), dtype=object),
    "times of Python": pd.Series(TIMES.dt.to_pydatetime().tolist(), dtype=object),
    "prices": pd.Series(PRICES, dtype=object),
    "amounts": pd.Series([Decimal(int(100 * p)) for p in PRICES], dtype=object),
    "months": pd.Series(MONTHS),
    "sparse": pd.Series(RNG.random(N).round(1)).astype(pd.SparseDtype(float, 0)),
    "sparse with gaps": pd.Series(np.where(RNG.random(N) < 0.5, np.nan, RNG.random(N))).astype(
        "Sparse[float64, nan]"
    ),
    "sparse counts": pd.Series(RNG.integers(0, 5, N)).astype("Sparse[int64, 0]"),
    "sparse truths": pd.Series(RNG.random(N) < 0.5).astype("Sparse[bool, False]"),
}


def arrow_columns():
    pa = pytest.importorskip("pyarrow")
    return {
        "times": TIMES.astype(pd.ArrowDtype(pa.timestamp("ns"))),
        "times of a zone": UTC.astype(pd.ArrowDtype(pa.timestamp("us", "Europe/Berlin"))),
        "days": DAYS.astype(pd.ArrowDtype(pa.date32())),
        "prices": pd.Series(PRICES, dtype=pd.ArrowDtype(pa.decimal128(10, 2))),
        "counts": pd.Series(range(N), dtype=pd.ArrowDtype(pa.int64())),
    }


def check_there_and_back(s):
    X = pd.DataFrame({"c": s, "x": RNG.normal(size=N)})
    model = genus.Independent(random_state=0).fit(X)
    space = model.space_
    pd.testing.assert_frame_equal(space.decode(space.encode(X)), X)
    drawn = model.sample(5, random_state=0)
    assert drawn["c"].dtype == s.dtype
    assert isinstance(drawn["c"].iloc[0], type(s.iloc[0])) or "sparse" in str(s.dtype).lower()
    assert np.isfinite(model.log_prob(drawn).nats).all()


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back_as_it_was(name):
    check_there_and_back(COLUMNS[name])


@pytest.mark.parametrize("name", ["times", "times of a zone", "days", "prices", "counts"])
def test_a_column_of_arrow_comes_back_as_it_was(name):
    check_there_and_back(arrow_columns()[name])


@pytest.mark.parametrize("name", ["times of a zone", "days of Python", "prices", "months"])
def test_missing_cells_stay_missing(name):
    s = COLUMNS[name].copy()
    s.iloc[::7] = None
    X = pd.DataFrame({"c": s, "x": 1.5})
    space = genus.Space.of(X)
    back = space.decode(space.encode(X))
    assert space.kinds == genus.Space.of(X.assign(c=COLUMNS[name])).kinds
    assert (back["c"].isna() == s.isna()).all() and back["c"].dtype == s.dtype


def test_an_instant_scores_alike_in_every_zone():
    X = pd.DataFrame({"when": UTC.dt.tz_convert("Europe/Berlin"), "x": RNG.normal(size=N)})
    model = genus.Independent().fit(X)
    there = X.assign(when=X["when"].dt.tz_convert("Asia/Tokyo"))
    np.testing.assert_array_equal(model.log_prob(there).nats, model.log_prob(X).nats)


def test_a_clock_change_stops_nothing():
    word = "datetime64[us, Europe/Berlin]"
    zone = "Europe/Berlin"
    hours = pd.Series(pd.date_range("2024-10-26 22:00", periods=8, freq="h", tz="UTC", unit="us"))
    back = dates_from(days_of(hours, word, local=False), word, local=False)
    pd.testing.assert_series_equal(back, hours.dt.tz_convert(zone))
    # midnight did not come in Brazil on 4 November 2018: the day began at one
    day = np.array([(dt.date(2018, 11, 4) - dt.date(1970, 1, 1)).days], dtype=np.float64)
    found = dates_from(day, "datetime64[us, America/Sao_Paulo]", local=True)
    assert str(found[0]) == "2018-11-04 01:00:00-02:00"


def test_days_of_a_zone_are_whole_days():
    X = pd.DataFrame({"c": COLUMNS["days of a zone"]})
    assert genus.Space.of(X).kinds == ("integer",)


def test_times_of_python_in_several_zones_are_in_utc():
    zones = [dt.timezone(dt.timedelta(hours=i)) for i in (0, 2)]
    s = pd.Series([dt.datetime(2024, 1, 1, 12, tzinfo=z) for z in zones], dtype=object)
    found, word = plain(s)
    assert word == "datetime, UTC" and found.dt.hour.tolist() == [12, 10]


def test_dates_far_away_are_dates():
    s = pd.Series([dt.date(1500, 1, 2), dt.date(2900, 1, 1)], dtype=object)
    X = pd.DataFrame({"c": s})
    space = genus.Space.of(X)
    assert space.decode(space.encode(X))["c"].tolist() == s.tolist()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"when": TIMES}, "column 'when' has no time zone, and fit saw one"),
        ({"when": 1.5}, "column 'when' must hold dates, as in fit"),
        ({"when": "soon"}, "column 'when' must hold dates, as in fit: use pd.to_datetime"),
        ({"month": 3}, r"column 'month' must hold period\[M\]"),
        ({"x": TIMES}, "column 'x' must hold numbers, as in fit"),
    ],
)
def test_another_sort_of_column_is_refused(change, says):
    X = pd.DataFrame({"when": UTC, "month": pd.Series(MONTHS), "x": RNG.normal(size=N)})
    space = genus.Space.of(X)
    with pytest.raises(ValueError, match=says):
        space.encode(X.assign(**change))


def test_a_network_names_bins_of_dates_and_months() -> None:
    X = pd.DataFrame({"day": COLUMNS["days of Python"], "month": COLUMNS["months"]})
    model = genus.BayesNet([]).fit(X)
    assert str(model.cpt("day").columns[0]).startswith("2024-03-20")
    assert str(model.cpt("month").columns[0]).startswith(str(MONTHS.min()))
