"""Bad input for the laws of test_contract.py and test_predictor.py: rows with something wrong.

AT_THE_DOOR never reaches a family: the Space refuses it, or reads the same codes from it as from
good rows. What is BEHIND it, every family has to answer for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Bad:
    """An input that something is wrong with.

    spoil(X): from good rows (n, d) of numbers, or from a good table of colour, old and size.

    must: ``answer``, ``error`` or ``either``. says: what an error's message must hold. scored: it
    comes after a good fit.
    """

    name: str
    spoil: Callable[[Any], Any]
    must: str = "either"
    says: str = ""
    scored: bool = False


# ---------------------------------------------------------------------- arrays


def _set(X: np.ndarray, value: Any, rows: Any = 3, column: Any = 1) -> np.ndarray:
    X = X.astype(np.float64)
    X[rows, column] = value
    return X


def _read_only(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X.setflags(write=False)
    return X


def _with_none(X: np.ndarray) -> np.ndarray:
    X = X.astype(object)
    X[3, 1] = None
    return X


def _words(X: np.ndarray) -> np.ndarray:
    return np.where(X > X.mean(), "a", "b")


ALL = slice(None)
NAN = "NaN in column 1 .*drop or fill"
ROW_OF_NAN = "NaN in column 0 .*row 3.*drop or fill"
INF = "inf in column 1 .row 3.*drop or replace"
HUGE = "column 1 .row 3.*(rescale|outside .*pass space=)"
COMPLEX = "Complex data not supported.*pass real and imaginary"
RAGGED = "different lengths.*pass rows of one length"
WIDTH = "features|shape|columns"

BEHIND = [
    Bad("constant column", lambda X: _set(X, X[0, 1], ALL), "answer"),
    Bad("all columns constant", lambda X: np.repeat(X[:1], len(X), 0), "answer"),
    Bad("duplicated columns", lambda X: np.hstack([X, X]), "answer"),
    Bad("one row", lambda X: X[:1], "answer"),
    Bad("fewer rows than columns", lambda X: X[: max(2, X.shape[1] - 1)], "answer"),
    Bad("NaN", lambda X: _set(X, np.nan), says=NAN),
    Bad("a column of NaN", lambda X: _set(X, np.nan, ALL), says=NAN + "|column 1 .*drop it"),
    Bad("a row of NaN", lambda X: _set(X, np.nan, 3, ALL), says=ROW_OF_NAN),
    Bad("1e30", lambda X: X * 1e30, "answer"),
    Bad("1e20", lambda X: X * 1e20, "answer"),
    Bad("1e-300", lambda X: X * 1e-300, "answer"),
    Bad("1e-30", lambda X: X * 1e-30, "answer"),
    Bad("scales far apart", lambda X: X * np.logspace(-12, 12, X.shape[1]), "answer"),
    Bad("offset 1e9", lambda X: X + 1e9, "answer"),
    Bad("one cell of 1e20", lambda X: _set(X, 1e20), "answer"),
    Bad("one cell of 1e30", lambda X: _set(X, 1e30), "answer"),
    Bad("uint64", lambda X: np.abs(X).astype(np.uint64) + 2**60, says="too many|rescale|outside"),
    Bad("bool", lambda X: X > X.mean(), "answer"),
    Bad("NaN, scored", lambda X: _set(X, np.nan), says=NAN, scored=True),
    Bad("a row of NaN, scored", lambda X: _set(X, np.nan, 3, ALL), says=ROW_OF_NAN, scored=True),
    Bad("far, scored", lambda X: _set(X, 1e6), says=HUGE, scored=True),
    Bad("1e20, scored", lambda X: _set(X, 1e20), says=HUGE, scored=True),
    Bad("1e30, scored", lambda X: _set(X, 1e30), says=HUGE, scored=True),
    Bad("1e-300, scored", lambda X: _set(X, 1e-300), says="whole number", scored=True),
]
AT_THE_DOOR = [
    Bad("no rows", lambda X: X[:0], "error", "0 sample"),
    Bad("no columns", lambda X: X[:, :0], "error", "0 feature"),
    Bad("one dimension", lambda X: X[:, 0], "error", "Reshape your data"),
    Bad("all NaN", lambda X: X * np.nan, "error", "only NaN: drop it"),
    Bad("inf", lambda X: _set(X, np.inf), "error", INF),
    Bad("-inf", lambda X: _set(X, -np.inf), "error", INF),
    Bad("1e300", lambda X: X * 1e300, "error", "column 0 .row 0.*rescale"),
    Bad("float16", lambda X: X.astype(np.float16), "answer"),
    Bad("float32", lambda X: X.astype(np.float32), "answer"),
    Bad("longdouble", lambda X: X.astype(np.longdouble), "answer"),
    Bad("int8", lambda X: X.astype(np.int8), "answer"),
    Bad("object", lambda X: X.astype(object), "answer"),
    Bad("object with None", _with_none, says="NaN in column 1 .row 3"),
    Bad("words", _words, "error", "must hold numbers.*DataFrame"),
    Bad("read-only", _read_only, "answer"),
    Bad("not contiguous", lambda X: np.repeat(X, 2, 1)[:, ::2], "answer"),
    Bad("columns first", lambda X: np.asfortranarray(X), "answer"),
    Bad("backwards", lambda X: X[::-1, ::-1], "answer"),
    Bad("big-endian", lambda X: X.astype(">f8"), "answer"),
    Bad("sparse", lambda X: csr_matrix(X), "error", "sparse.*toarray"),
    Bad("complex", lambda X: X + 1j, "error", COMPLEX),
    Bad("lists", lambda X: X.tolist(), "answer"),
    Bad("ragged lists", lambda X: [*X.tolist(), [1.0]], "error", RAGGED),
    Bad("tensor", lambda X: torch.from_numpy(X.astype(np.float64)), "answer"),
    Bad("nothing", lambda X: None, "error"),
    Bad("a number", lambda X: 3.0, "error", "Expected 2D array"),
    Bad("wrong width", lambda X: X[:, :-1], "error", WIDTH, scored=True),
    Bad("no rows, scored", lambda X: X[:0], "error", "0 sample", scored=True),
    Bad("inf, scored", lambda X: _set(X, np.inf), "error", INF, scored=True),
    Bad("words, scored", _words, "error", "must hold numbers", scored=True),
    Bad("sparse, scored", lambda X: csr_matrix(X), "error", "sparse.*toarray", scored=True),
    Bad("complex, scored", lambda X: X + 1j, "error", "Complex data not supported", scored=True),
    Bad("float16, scored", lambda X: X.astype(np.float16), scored=True),
    Bad("1e300, scored", lambda X: _set(X, 1e300), "error", HUGE, scored=True),
]
BAD = BEHIND + AT_THE_DOOR


# ---------------------------------------------------------------------- tables


def _nullable(t: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a": t["size"].astype("Float64"),
            "b": t["old"].astype("boolean"),
            "c": t.index.astype("Int64"),
        }
    )


def _nullable_with_gaps(t: pd.DataFrame) -> pd.DataFrame:
    return _nullable(t).where(np.arange(len(t))[:, None] + np.zeros(3) != 3)


def _cell(t: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    """The table with one cell changed, in row 3."""
    return t.assign(**{column: t[column].where(t.index != 3, value)})


def _dates(t: pd.DataFrame) -> pd.DataFrame:
    return t.assign(day=pd.Timestamp("2020-01-01") + pd.to_timedelta(t.index % 9, "D"))


EMPTY = "0 (feature|sample)"
BARE = "column 'size' has no observed value: drop it"
DURATIONS = "column 'day' holds durations: turn it into numbers"
TWICE = "'colour' occurs more than once: rename"

TABLES_BEHIND = [
    Bad("nullable", _nullable, "answer"),
    Bad("nullable with NA", _nullable_with_gaps, says="NaN in a .row 3.*drop"),
    Bad("one word", lambda t: t.assign(colour="red"), "answer"),
    Bad("one row", lambda t: t[:1], "answer"),
    Bad("missing word", lambda t: _cell(t, "colour", np.nan), says="NaN in colour .row 3"),
    Bad("dates", _dates, "answer"),
]
TABLES_AT_THE_DOOR = [
    Bad("no columns", lambda t: pd.DataFrame(index=range(5)), "error", "0 feature"),
    Bad("no rows", lambda t: t[:0], "error", "0 sample"),
    Bad("empty", lambda t: pd.DataFrame(), "error", EMPTY),
    Bad("column of NaN", lambda t: t.assign(size=np.nan), "error", BARE),
    Bad("inf", lambda t: _cell(t, "size", np.inf), "error", "column 'size'.*inf.*row 3"),
    Bad("durations", lambda t: t.assign(day=pd.Timedelta(days=1)), "error", DURATIONS),
    Bad("words and numbers", lambda t: _cell(t, "colour", 7), "error", "column 'colour' mixes"),
    Bad("lists", lambda t: t.assign(colour=[[1]] * len(t)), "error", "column 'colour'"),
    Bad("two of a name", lambda t: pd.concat([t, t], axis=1), "error", TWICE),
]
BAD_TABLES = TABLES_BEHIND + TABLES_AT_THE_DOOR
