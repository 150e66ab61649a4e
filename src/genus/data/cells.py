"""Cells of text, a column at a time: numbers, dates and words as people write them.

    1,234.50   1 234,50   $1,200   12.5%   80 kg   (12.00)   −3         numbers
    2024-01-31T10:00Z   31.12.2024   1/31/24 9:05 PM   Jan 31, 2024     instants and days
    2024-03   Mar 2024   2024Q1                                  months and quarters
    08580                                                        words: codes begin with 0

A column is of one sort. What its cells leave open, the column decides; what the column leaves open
is said.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

# real minus signs are minus signs, and narrow spaces and those that do not break are spaces
PLAIN = str.maketrans({"\u2212": "-", "\u2012": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " "})
AMOUNT = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<before>[$€£¥₹]?)\s*(?P<sign2>[+-]?)"
    r"(?P<number>[\d.][\d., ']*?(?:[eE][+-]?\d+)?)"
    r"(\s*(?P<after>[$€£¥₹%])|\s+(?P<unit>[A-Za-zµ°][A-Za-z0-9°/²³]*))?(?P<sign3>-?)"
)
# the mark of thousands, the decimal mark, and how numbers look with them
STYLES = {
    (",", "."): re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?|(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
    (".", ","): re.compile(r"\d{1,3}(\.\d{3})+(,\d*)?|(\d+,?\d*|,\d+)([eE][+-]?\d+)?"),
    (" ", ","): re.compile(r"\d{1,3}( \d{3})*(,\d*)?"),
    (" ", "."): re.compile(r"\d{1,3}( \d{3})*(\.\d*)?"),
    ("'", "."): re.compile(r"\d{1,3}('\d{3})*(\.\d*)?"),
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = r"(?P<time>[T ,]+\d{1,2}:\d\d(:\d\d([.,]\d+)?)?)?\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
_ZONE = r"\s*(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?"
_MONTH = r"(?P<name>[A-Za-z]{3,9})\.?"
_YEAR = r"(?P<year>\d{4}|\d\d)"
FORMS = [
    re.compile(form + _TIME + _ZONE)
    for form in (
        r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)",
        r"(?P<year>\d{4})(?P<mark>[/.])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})",
        r"(?P<one>\d{1,2})(?P<mark>[/.-])(?P<two>\d{1,2})(?P=mark)" + _YEAR,
        _MONTH + r" (?P<day>\d{1,2})(st|nd|rd|th)?,? (?P<year>\d{4})",
        r"(?P<day>\d{1,2})(st|nd|rd|th)?[ .-]+" + _MONTH + "[ ,.-]+" + _YEAR,
    )
]
PERIODS = [
    re.compile(form)
    for form in (
        r"(?P<year>\d{4})[-/](?P<month>0[1-9]|1[0-2])",
        _MONTH + r"[ -](?P<year>\d{4})",
        r"(?P<year>\d{4})[ -]?Q(?P<quarter>[1-4])",
        r"Q(?P<quarter>[1-4])[ -](?P<year>\d{4})",
    )
]
# what ISO 3166 calls countries, and two more continents: NA is Namibia, or North America, there
_CODES = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR "
    "BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ "
    "EC EE EG EH ER ES ET EU FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU "
    "GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW "
    "KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU "
    "MV MW MX MY MZ NC NE NF NG NI NL NO NP NR NU NZ OC OM PA PE PF PG PH PK PL PM PN PR PS PT PW "
    "PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF "
    "TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UK UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE "
    "YT ZA ZM ZW"
)
COUNTRIES = frozenset(_CODES.split())
Complain = Callable[[pd.Series, str], ValueError]  # (where, what most are) → an error


def read_column(s: pd.Series, place: str, european: bool, complain: Complain) -> pd.Series:
    """A column of text as numbers, dates or truths where it holds them, else as words.

    ``european``: does the table part cells by semicolons? It then leans to decimal commas and to
    days before months. ``complain`` makes the error of a few odd cells among numbers or dates.
    """
    places, found = pd.factorize(s)  # what repeats is read once
    if not all(isinstance(v, str) for v in found):
        return s  # True and False, with missing cells
    bare = pd.Series([v.translate(PLAIN).strip() for v in found], dtype=s.dtype)
    s = pd.Series(bare.array.take(places, allow_fill=True), s.index, name=s.name)
    words = pd.Index(bare.unique(), dtype=object)
    if "NA" in words:
        others = words.drop("NA")
        if len(others) and others.isin(COUNTRIES).all():
            warnings.warn(f"{place}: NA is read as a country, as its other words are", stacklevel=2)
            return s
        s, words = s.where(s != "NA"), others
    for read in (_truths, _numbers, _dates, _periods):
        values = read(words, place, european)
        if values is not None:
            return s.map(values) if isinstance(values, dict) else _placed(s, words, values)
    _refuse_odd_cells(s, words, european, complain)
    return s


def is_value(cell: str) -> bool:
    """Is a cell a number or a date, which no name of a column is?"""
    cell = cell.translate(PLAIN).strip()
    return bool(_amount(cell) or _form_of(cell, FORMS))


def _placed(s: pd.Series, words: pd.Index, values: Any) -> pd.Series:
    """The values of words where the column has them, missing where it has none."""
    places = words.get_indexer(pd.Index(s))
    if isinstance(values, np.ndarray):
        numbers = values[places]
        return pd.Series(
            np.where(places < 0, np.nan, numbers) if (places < 0).any() else numbers,
            s.index,
            name=s.name,
        )
    return pd.Series(values.take(places, allow_fill=True), s.index, name=s.name)


def _truths(words: pd.Index, place: str, european: bool) -> dict[str, bool] | None:
    lower = {w: w.lower() for w in words}
    if len(words) and set(lower.values()) <= {"true", "false"}:
        return {w: small == "true" for w, small in lower.items()}
    return None


# ---------------------------------------------------------------------- numbers


def _amount(cell: str) -> tuple[str, str, str] | None:
    """The sign, the digits with their marks, and the unit of an amount."""
    inside = cell[1:-1].strip() if cell[:1] == "(" and cell[-1:] == ")" else cell
    found = AMOUNT.fullmatch(inside)
    if found is None or (found["before"] and (found["after"] or found["unit"])):
        return None
    signs = found["sign"] + found["sign2"] + found["sign3"]
    if len(signs) > 1 or (signs and inside is not cell):
        return None
    minus = "-" if signs == "-" or inside is not cell else ""
    unit = found["before"] or found["after"] or found["unit"] or ""
    return minus, found["number"].strip(), unit


def _numbers(words: pd.Index, place: str, european: bool) -> Any:
    """Numbers in the first style that fits all words; None where none does."""
    if len(words) and _amount(words[0]) is None:
        return None
    amounts = [_amount(w) for w in words]
    found = [a for a in amounts if a is not None]
    if len(found) < len(amounts) or len({unit for *_, unit in found if unit}) > 1:
        return None
    digits = [number for _, number, _ in found]
    codes = any(re.fullmatch(r"0[\d ]+", d) for d in digits)
    if codes or all(w.startswith("(") for w in words):
        return None
    style = _style_of(digits, european)
    if style is None:
        return None
    group, decimal = style
    text = [minus + number.replace(group, "").replace(decimal, ".") for minus, number, _ in found]
    return pd.to_numeric(pd.Series(text, dtype=object)).to_numpy()


def _style_of(digits: list[str], european: bool) -> tuple[str, str] | None:
    first = ((".", ","), (",", ".")) if european else ((",", "."), (".", ","))
    for style in (*first, *STYLES):
        if all(STYLES[style].fullmatch(d) for d in digits):
            return style
    return None


# ---------------------------------------------------------------------- dates


def _form_of(cell: str, forms: Iterable[re.Pattern[str]]) -> re.Match[str] | None:
    """How a cell is a date, by the first form that fits it."""
    for form in forms:
        found = form.fullmatch(cell)
        if found is not None and ("name" not in form.groupindex or _month_named(found["name"])):
            return found
    return None


def _month_named(name: str) -> int:
    """The number of a month by its English name, or its first three letters; 0: it is none."""
    long = (
        pd.Timestamp(2024, MONTHS.index(name[:3].lower()) + 1, 1)
        if (name[:3].lower() in MONTHS)
        else None
    )
    if long is None:
        return 0
    whole = long.month_name().lower()
    return long.month if name.lower() in (whole, whole[:3], whole[:4]) else 0


def compact_dates(s: pd.Series) -> pd.Series:
    """Whole numbers as dates, where all of many are such days as 20240131; else as they are."""
    seen = s.dropna()
    if len(seen) == 0 or seen.min() < 19000101 or seen.max() > 21001231 or seen.nunique() < 10:
        return s
    with contextlib.suppress(ValueError):
        days = pd.to_datetime(seen.astype("int64").astype(str), format="%Y%m%d")
        return days.dt.as_unit("us").reindex(s.index)
    return s


def _dates(words: pd.Index, place: str, european: bool) -> Any:
    """Dates, all with a zone or none; None where some word is none, or no such day exists."""
    if len(words) and _form_of(words[0], FORMS) is None:
        return None
    found = [_form_of(w, FORMS) for w in words]
    matches = [m for m in found if m is not None]
    if not matches or len(matches) < len(found):
        return None
    zones = {m["zone"] for m in matches}
    if None in zones and len(zones) > 1:
        return None
    day_first = _day_first(matches, place, european)
    if day_first is None:
        return None
    text = [_iso(m, day_first) for m in matches]
    one_offset = len(zones) == 1 and next(iter(zones)) not in (None, "Z", "UTC", "GMT")
    with contextlib.suppress(ValueError):
        dates = pd.to_datetime(
            pd.Series(text), format="ISO8601", utc=None not in zones and not one_offset
        )
        return dates.dt.as_unit("us").array
    return None


def _day_first(matches: list[re.Match[str]], place: str, european: bool) -> bool | None:
    """Does the day stand before the month? None: now it does and now it does not."""
    open_ones = [m for m in matches if "one" in m.re.groupindex]
    if not open_ones:
        return False
    first = any(int(m["one"]) > 12 for m in open_ones)
    second = any(int(m["two"]) > 12 for m in open_ones)
    if first and second:
        return None
    if first or second:
        return first
    if all(m["mark"] == "." for m in open_ones):
        return True
    order = "day" if european else "month"
    warnings.warn(
        f"{place}: {open_ones[0].group()!r} and all others could have the day or the month first: "
        f"the {order} is read first; write dates as 2024-01-31 to be sure",
        stacklevel=2,
    )
    return european


def _iso(m: re.Match[str], day_first: bool) -> str:
    """A date as ISO 8601 writes it."""
    parts = m.groupdict()
    year = int(parts["year"])
    if len(parts["year"]) == 2:
        year += 2000 if year < 69 else 1900
    if "one" in parts:
        one, two = int(parts["one"]), int(parts["two"])
        day, month = (one, two) if day_first else (two, one)
    else:
        day = int(parts["day"])
        month = _month_named(parts["name"]) if "name" in parts else int(parts["month"])
    text = f"{year:04d}-{month:02d}-{day:02d}"
    if parts["time"] is None:
        return text + ("T00:00" + _offset(parts["zone"]) if parts["zone"] else "")
    hour, _, rest = parts["time"].strip("T ,").replace(",", ".").partition(":")
    number = int(hour)
    if parts["half"]:
        number = number % 12 + (12 if parts["half"][0] in "Pp" else 0)
    return f"{text}T{number:02d}:{rest}{_offset(parts['zone'])}"


def _offset(zone: str | None) -> str:
    return "Z" if zone in ("UTC", "GMT") else zone or ""


def _periods(words: pd.Index, place: str, european: bool) -> Any:
    """Months or quarters; None where some word is neither."""
    found = [_form_of(w, PERIODS) for w in words]
    matches = [m for m in found if m is not None]
    if not matches or len(matches) < len(found):
        return None
    quarters = ["quarter" in m.re.groupindex for m in matches]
    if any(quarters) and not all(quarters):
        return None
    text = []
    for m in matches:
        parts = m.groupdict()
        if "quarter" in parts:
            month = 3 * int(parts["quarter"])
        else:
            month = _month_named(parts["name"]) if "name" in parts else int(parts["month"])
        text.append(f"{parts['year']}-{month:02d}")
    return pd.PeriodIndex(text, freq="Q" if all(quarters) else "M").array


# ---------------------------------------------------------------------- typing errors


def _refuse_odd_cells(s: pd.Series, words: pd.Index, european: bool, complain: Complain) -> None:
    """Raise where a few cells are no numbers, or no dates, and all others are."""
    numbers = np.array([_amount(w) is not None for w in words], dtype=bool)
    codes = any(re.fullmatch(r"0\d+", w) for w in words)
    dates = np.array([_form_of(w, FORMS) is not None for w in words], dtype=bool)
    for fine, what in ((numbers, "a number"), (dates, "a date")):
        if fine.sum() <= 20 or fine.all() or (codes and what == "a number"):
            continue
        odd = s.isin(words[~fine])
        if odd.sum() < 0.1 * s.notna().sum():
            raise complain(odd, what)
