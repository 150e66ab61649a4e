"""Tables of text that nobody prepared."""

from __future__ import annotations

import bz2
import collections
import csv
import gzip
import io
import json
import lzma
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genus.coding import sentinel_in, why_text
from genus.data.arrays import named
from genus.data.cells import compact_dates, is_value, read_column
from genus.data.dataset import Data

# NA is not among them: it may be a country
MISSING = (
    *("", "?", "-", "--", ".", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NULL", "null"),
    *("None", "NaN", "-NaN", "nan", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
TOTALS = ("total", "totals", "grand total", "sum")  # first cells of a last line that is no row
STDIN = Path("-")
TEXT = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson")


def table_file(path: Path) -> Data:
    """The table of a text file, without useless columns, which a warning names."""
    df = read_table(path)
    useless: dict[Any, str] = {}
    if df.columns.is_unique:
        useless = {name: _useless(df[name], name) for name in df}
    dropped = {name: why for name, why in useless.items() if why}
    notes = []
    if dropped:
        said = ", ".join(f"{name!r} ({why})" for name, why in dropped.items())
        notes.append(f"left out {said}")
        warnings.warn(f"{path}: {notes[0]}", stacklevel=2)
        df = df.drop(columns=list(dropped))
    if not len(df.columns):
        said = ", ".join(f"{name!r} is {why}" for name, why in dropped.items())
        raise ValueError(f"{path} has no column to learn from: {said}")
    for name, s in df.items():
        numbers = pd.api.types.is_numeric_dtype(s.dtype) and s.dtype != bool
        odd = sentinel_in(s.dropna().to_numpy()) if numbers else ""
        if odd:
            notes.append(f"column {name!r} has {odd}")
    return named(path, df, note="; ".join(notes))


def _useless(s: pd.Series, name: Any) -> str:
    """Why nothing can be learned from a column: it is empty, counts the rows, or names them."""
    if s.isna().all():
        return "empty"
    if str(name).casefold() in ("unnamed: 0", "id", "index", "row") and _counts(s):
        return "a mere row number"
    seen = s.dropna()
    if _holds_text(s):
        return why_text(seen.nunique(), len(seen))
    return ""


def _counts(s: pd.Series) -> bool:
    return pd.api.types.is_integer_dtype(s.dtype) and bool((s.diff().dropna() == 1).all())


def _holds_text(s: pd.Series) -> bool:
    return s.dtype in (object, "str", "string")


# ---------------------------------------------------------------------- files


def kind_of(path: Path) -> str:
    """The ending that says what a file holds, without that of how it is packed."""
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() if ending in PACKED else ending


def read_table(path: Path) -> pd.DataFrame:
    """All columns of a table of text: CSV, JSON or a line of JSON a row; ``-`` is stdin."""
    if kind_of(path) in (".json", ".jsonl", ".ndjson"):
        return _read_json(path)
    return read_csv(path)


def _bytes_of(path: Path) -> bytes:
    if path == STDIN:
        return sys.stdin.buffer.read()
    data = path.read_bytes()
    unpack = PACKED.get(path.suffix.lower())
    if unpack is None:
        return data
    try:
        return unpack(data)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as e:
        raise ValueError(f"{path} cannot be unpacked: {e}") from None


def _text(path: Path) -> str:
    """The text of a file, with one sort of line ends; ValueError where it is no table at all."""
    data = _bytes_of(path)
    if data.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a pointer of Git LFS, not the file: run git lfs pull")
    if re.match(rb"\s*<(!doctype html|html)", data[:200], re.IGNORECASE):
        raise ValueError(f"{path} is a page of HTML, not a table: download the file itself")
    return _decoded(data).replace("\r\n", "\n").replace("\r", "\n")


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _read_json(path: Path) -> pd.DataFrame:
    """Records, a dict of columns, or one such list under one name."""
    text = _text(path)
    try:
        if kind_of(path) == ".json":
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as e:
        raise ValueError(f"{path} cannot be read as JSON: {e}") from None
    if isinstance(rows, dict) and len(rows) == 1 and isinstance(next(iter(rows.values())), list):
        (inner,) = rows.values()
        rows = inner if inner and isinstance(inner[0], dict) else rows
    lists = isinstance(rows, dict) and all(isinstance(v, list) for v in rows.values())
    records = isinstance(rows, list) and all(isinstance(v, dict | list) for v in rows)
    if not rows or not (lists or records):
        raise ValueError(f"{path} holds no table: a list of records, or a list a column, is needed")
    try:
        df = pd.DataFrame(rows)
    except ValueError as e:
        raise ValueError(f"{path} cannot be read as a table: {e}") from None
    for name, s in df.items():
        if s.map(lambda v: isinstance(v, dict | list)).any():
            raise ValueError(f"{path}: column {name!r} holds lists or records: one value is needed")

    def complain(odd: pd.Series, what: str) -> ValueError:
        row = int(odd.to_numpy().argmax())
        return ValueError(f"{path}: a cell of row {row} is not {what}, as most of its column are")

    columns = [
        read_column(s, f"{path}: column {name!r}", False, complain) if _holds_text(s) else s
        for name, s in df.items()
    ]
    return pd.concat(columns, axis=1)


def read_csv(path: str | Path) -> pd.DataFrame:
    """All columns of a table of text.

    Separator, header, titles and comments, decimal comma, dates and missing cells are guessed.
    """
    path = Path(path)
    whole = _text(path)
    said = re.match(r"\s*sep=(.)\n", whole)  # as Excel writes it
    text = whole[said.end() :] if said else whole.lstrip("\n")
    sep = said[1] if said else _separator(_some_lines(text, path), path)
    if sep == " ":
        whole = text = _with_tabs(text)
        sep = "\t"
    text = _without_remarks(text, sep, path)
    text = text.lstrip("\n")
    header = _has_header([r for r in _cells_of(_some_lines(text, path), sep, path) if r], path)
    line = whole.count("\n", 0, len(whole) - len(text)) + (2 if header else 1)
    df = _parsed(text, sep, header, path)
    if re.search(rf"(?:^|[\n\"{re.escape(sep)}]) *[+-]?0\d", text):
        _restore_codes(df, text, sep, header, path)
    df = df.dropna(how="all")  # without blank lines, which the index still counts
    if len(df) == 0:
        raise ValueError(f"{path} has a header but no rows")
    df.columns = pd.Index([c.strip() if isinstance(c, str) else c for c in df.columns])

    def typed(s: pd.Series) -> pd.Series:
        def complain(odd: pd.Series, what: str) -> ValueError:
            row = odd[odd].index[0]
            return ValueError(
                f"{path}, line {row + line}, column {s.name!r}: {s[row].strip()!r} is not {what}, "
                "as most of the column is: correct it or leave it empty"
            )

        return read_column(s, f"{path}: column {s.name!r}", sep == ";", complain)

    columns = [typed(s) if _holds_text(s) else s for _, s in df.items()]
    whole_numbers = pd.api.types.is_integer_dtype
    columns = [compact_dates(s) if whole_numbers(s.dtype) else s for s in columns]
    return pd.concat(columns, axis=1).reset_index(drop=True)


def _parsed(text: str, sep: str, header: bool, path: Path, **how: Any) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            return pd.read_csv(
                io.StringIO(text),
                sep=sep,
                header=0 if header else None,
                index_col=False,
                na_values=list(MISSING),
                keep_default_na=False,
                skipinitialspace=True,
                skip_blank_lines=False,
                low_memory=False,
                **how,
            )
    except pd.errors.ParserWarning:
        raise ValueError(
            f"{path}: the rows have more cells than the header has names: name every column"
        ) from None
    except pd.errors.ParserError as e:
        said = str(e).strip().removeprefix("Error tokenizing data. C error: ")
        raise ValueError(f"{path}: {said} (cells are parted by {sep!r})") from None


def _restore_codes(df: pd.DataFrame, text: str, sep: str, header: bool, path: Path) -> None:
    """Digits that begin with 0 are codes, as 08580 is: their columns hold words."""
    words = _parsed(text, sep, header, path, dtype=str)
    for j, name in enumerate(df.columns):
        if _holds_text(df.iloc[:, j]):
            continue
        s = words.iloc[:, j].str.strip()
        if s.str.fullmatch(r"0\d+").any() and s.dropna().str.fullmatch(r"\d+").all():
            df[name] = s


# ---------------------------------------------------------------------- lines


def _some_lines(text: str, path: Path) -> list[str]:
    """The first lines that hold anything; ValueError where none does."""
    lines = [line for line in text[: 1 << 20].splitlines() if line.strip()][:50]
    if not lines:
        raise ValueError(f"{path} is empty")
    return lines


def _cells_of(lines: list[str], sep: str, path: Path) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=sep, skipinitialspace=True))
    except csv.Error as e:
        raise ValueError(f"{path} cannot be read as a table of text: {e}") from None


def _separator(lines: list[str], path: Path) -> str:
    """The separator that parts most lines into the same number of cells, and into the most."""
    if kind_of(path) == ".tsv":
        return "\t"
    plain = [line for line in lines if not line.startswith("#")] or lines

    def merit(sep: str) -> tuple[float, int]:
        counts = [len(row) for row in _cells_of(plain, sep, path)]
        usual, times = collections.Counter(counts).most_common(1)[0]
        return (times / len(counts) if usual > 1 else 0.0, usual)

    best = max(",;\t|", key=merit)
    spaced = {len(line.split()) for line in plain}
    if merit(best)[0] == 0 and len(spaced) == 1 and spaced != {1} and len(plain) > 2:
        values = [is_value(cell) for cell in plain[-1].split()]
        return " " if any(values) else best
    return best


def _with_tabs(text: str) -> str:
    """Lines whose cells are parted by spaces, with tabs between them."""
    lines = [re.sub("^# +", "#", line) for line in text.split("\n")]
    return "\n".join("\t".join(line.split()) for line in lines)


def _without_remarks(text: str, sep: str, path: Path) -> str:
    """The text with empty lines in place of comments and of the titles above the table."""
    lines = text.split("\n")
    full = [i for i, line in enumerate(lines) if line.strip()]
    marked = _marked(lines, full)
    rows = [i for i in full if i not in marked]
    counts = [len(row) for row in _cells_of([lines[i] for i in rows[:50]], sep, path)]
    usual = collections.Counter(counts).most_common(1)[0][0]
    comments = [i for i in marked if i < rows[0] or lines[i].count(sep) + 1 != usual]
    titles: list[int] = []
    for i in rows:
        after = lines[i + 1].strip() if i + 1 < len(lines) else ""
        if not _is_title(lines[i], sep, usual, after):
            break
        titles.append(i)
    titles += _below(lines, rows, titles, sep)
    if titles:
        said = "; ".join(repr(lines[i].strip(sep + "\r ")) for i in titles)
        warnings.warn(f"{path}: left out the lines {said}", stacklevel=3)
    if not comments and not titles:
        return text
    above = [i for i in comments if i < rows[0]]
    names = lines[above[-1]].lstrip("# ").rstrip() if above else ""
    for i in (*comments, *titles):
        lines[i] = ""
    first = lines[rows[0]].split(sep)
    if len(names.split(sep)) == usual > 1 and any(is_value(cell) for cell in first):
        lines[rows[0] - 1] = names  # as numpy writes a header
    return "\n".join(lines)


def _below(lines: list[str], rows: list[int], titles: list[int], sep: str) -> list[int]:
    """A few lines below a long table that are no rows: totals, and what comes after a gap."""
    table = [i for i in rows if i not in titles]
    gap = next((k for k in range(1, len(table)) if table[k] - table[k - 1] > 1), len(table))
    below = table[gap:]
    if lines[table[gap - 1]].split(sep)[0].strip().casefold() in TOTALS:
        below = table[gap - 1 :]
    if not 0 < 10 * len(below) < len(table) or any('"' in lines[i] for i in below):
        return []
    return below


def _marked(lines: list[str], full: list[int]) -> set[int]:
    """The lines that begin with #, but none where most do, or where they stand in quotes."""
    marked = {i for i in full if lines[i].startswith("#")}
    if not marked or len(marked) > len(full) / 2:
        return set()
    quotes = np.cumsum([line.count('"') for line in lines])
    return {i for i in marked if i == 0 or quotes[i - 1] % 2 == 0}


def _is_title(line: str, sep: str, usual: int, after: str) -> bool:
    """Is a line above a table one of words, with no cells beside?"""
    cells = [c for c in line.split(sep) if c.strip(' "\r')]
    if usual < 2 or len(cells) != 1 or is_value(cells[0]):
        return False
    return usual > 2 or not after or " " in cells[0].strip()


def _has_header(rows: list[list[str]], path: Path) -> bool:
    """Does the first line name the columns?

    It does where a word stands above numbers, and does not where its words come again below or
    numbers stand in it; but years, or other numbers one after another, can name columns.
    """
    first, below = [c.strip() for c in rows[0]], rows[1:]
    values = [is_value(c) for c in first]
    if all(values):
        return False
    again = False
    for j, cell in enumerate(first):
        column = [r[j].strip() for r in below if j < len(r) and r[j].strip() not in MISSING]
        if cell in MISSING or values[j] or not column:
            continue
        if np.mean([is_value(c) for c in column]) > 0.5:
            return True
        again = again or cell in column
    numbers = [c for c, value in zip(first, values, strict=True) if value]
    if not again and (not numbers or not below or _counts_up(numbers)):
        return True
    warnings.warn(
        f"{path}: the first line is read as a row, for it looks like the others: "
        "add a line of names if that is wrong",
        stacklevel=3,
    )
    return False


def _counts_up(cells: list[str]) -> bool:
    """Are these whole numbers at equal steps, as years are?"""
    if len(cells) < 2 or not all(re.fullmatch(r"\d+", c) for c in cells):
        return False
    steps = np.diff([int(c) for c in cells])
    return bool(steps[0] > 0 and (steps == steps[0]).all())
