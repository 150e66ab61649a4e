"""Tables of text that nobody prepared."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from genus.data.arrays import named
from genus.data.dataset import Data

MISSING = ("?", "-", "--", ".")  # beside pandas's own: empty, NA, NaN, null, None …
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?|[+-]?\d+(\.\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?")
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?")


def table_file(path: Path) -> Data:
    """The table of a text file, without useless columns, which a warning names."""
    df = read_csv(path)
    useless: dict[Any, str] = {}
    if df.columns.is_unique:
        useless = {name: _useless(df[name], name) for name in df}
    dropped = {name: why for name, why in useless.items() if why}
    note = ""
    if dropped:
        said = ", ".join(f"{name!r} ({why})" for name, why in dropped.items())
        note = f"left out {said}"
        warnings.warn(f"{path}: {note}", stacklevel=2)
        df = df.drop(columns=list(dropped))
    if not len(df.columns):
        said = ", ".join(f"{name!r} is {why}" for name, why in dropped.items())
        raise ValueError(f"{path} has no column to learn from: {said}")
    return named(path, df, note=note)


def _useless(s: pd.Series, name: Any) -> str:
    """Why nothing can be learned from a column: it is empty, counts the rows, or names them."""
    if s.isna().all():
        return "empty"
    if str(name).casefold() in ("unnamed: 0", "id", "index", "row") and _counts(s):
        return "a mere row number"
    seen = s.dropna()
    if _holds_text(s) and len(seen) > 50:
        n = seen.nunique()
        if n > len(seen) / 2:
            return f"{n} different words in {len(seen)} rows, an identifier or free text"
    return ""


def _holds_text(s: pd.Series) -> bool:
    return s.dtype in (object, "str", "string")


def read_csv(path: Path) -> pd.DataFrame:
    """All columns of a table of text.

    Separator, header, decimal comma, dates and missing cells are guessed.
    """
    whole = _text(path)
    text = whole.lstrip("\r\n")
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    if not lines:
        raise ValueError(f"{path} is empty")
    sep = _separator(lines, path)
    first = next(csv.reader([lines[0]], delimiter=sep))
    header = not all(_is_number(c.strip()) for c in first)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            df = pd.read_csv(
                io.StringIO(text),
                sep=sep,
                header=0 if header else None,
                index_col=False,
                na_values=list(MISSING),
                skipinitialspace=True,
                skip_blank_lines=False,
                low_memory=False,
            )
    except pd.errors.ParserWarning:
        raise ValueError(
            f"{path}: the rows have more cells than the header has names: name every column"
        ) from None
    except pd.errors.ParserError as e:
        said = str(e).strip().removeprefix("Error tokenizing data. C error: ")
        raise ValueError(f"{path}: {said} (cells are parted by {sep!r})") from None
    df = df.dropna(how="all")  # without blank lines, which the index still counts
    if len(df) == 0:
        raise ValueError(f"{path} has a header but no rows")
    df.columns = pd.Index([c.strip() if isinstance(c, str) else c for c in df.columns])
    line = whole.count("\n", 0, len(whole) - len(text)) + (2 if header else 1)
    columns = [_read(c, line, sep, path) if _holds_text(c) else c for _, c in df.items()]
    return pd.concat(columns, axis=1).reset_index(drop=True)


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _separator(lines: list[str], path: Path) -> str:
    """The separator that parts every line into the same number of cells, and into the most."""
    if path.suffix.lower() == ".tsv":
        return "\t"

    def merit(sep: str) -> tuple[float, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=sep)]
        first = counts[0]
        alike = counts.count(first) / len(counts)
        return (alike if first > 1 else 0.0, first)

    return max(",;\t|", key=merit)


def _is_number(cell: str) -> bool:
    with contextlib.suppress(ValueError):
        float(cell.replace(",", "."))
        return True
    return False


def _counts(s: pd.Series) -> bool:
    return pd.api.types.is_integer_dtype(s.dtype) and bool((s.diff().dropna() == 1).all())


def _read(s: pd.Series, first_line: int, sep: str, path: Path) -> pd.Series:
    """A column of text as numbers or dates where it holds them, else as words.

    A typing error among numbers is refused.
    """
    s = s.map(lambda v: v.strip() if isinstance(v, str) else v)
    seen = s.dropna()
    if not seen.map(lambda v: isinstance(v, str)).all():
        return s  # True and False, with missing cells
    form, group = (THOUSANDS, ",") if sep == "," else (DECIMAL_COMMA, ".")
    fine = seen.map(lambda v: form.fullmatch(v) is not None)
    if fine.all():
        plain = seen.map(lambda v: v.replace(group, "").replace(",", "."))
        return pd.to_numeric(plain.reindex(s.index))
    if len(seen) and seen.map(lambda v: ISO_DATE.fullmatch(v) is not None).all():
        with contextlib.suppress(ValueError):
            return pd.to_datetime(s, format="ISO8601")
    fine |= pd.to_numeric(seen, errors="coerce").notna()
    if fine.mean() > 0.9 and seen[fine].nunique() > 20:
        row = seen.index[~fine][0]
        raise ValueError(
            f"{path}, line {row + first_line}, column {s.name!r}: {seen[row]!r} is not a number, "
            "as most of the column is: correct it or leave it empty"
        )
    return s
