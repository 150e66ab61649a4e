"""What a table holds that its reader should know before any model is ranked, in sentences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from genus.dtypes import is_calendar
from genus.space import Space

SHOWN = 12  # names of a list, at most
ATOM = 0.05  # the share of the rows from which one value of real numbers is an atom
FEW = 5  # values, at most, that are too few for one column to be called a function of another
COMPARED = 2e9  # cells looked at for functions, at most; of larger tables the first rows


def describe(X: Any, space: Space) -> list[str]:
    """Sentences about the columns and rows of a table, one a fact; none about images.

    X: rows, in the order in which they came, for row numbers are known by it.
    """
    if space.image_shape is not None or len(space.shape) != 1:
        return []
    codes = space.encode(X, fractional=True).double().numpy()
    names = space.names()
    constant = _constant(codes)
    numbered = [j for j in range(space.dim) if _is_identifier(codes[:, j], space, j)]
    known = {*np.flatnonzero(constant).tolist(), *numbered}
    lines = [
        _kinds(space, names),
        _said("Constant", [names[j] for j in np.flatnonzero(constant)]),
        _said("One number holds much of a continuous column", _atoms(codes, space, names)),
        _said("Functions of another column", _functions(codes, names, known)),
        _said("Likely mere names or numbers of the rows, better left out", _named(numbered, names)),
        _duplicates(codes, space),
        _few_rows(codes),
    ]
    return [line for line in lines if line]


def left_out(families: dict[str, str]) -> list[str]:
    """A sentence for each reason why families of models, by name, are not compared."""
    reasons: dict[str, list[str]] = {}
    for name, why in families.items():
        reasons.setdefault(why.rstrip("."), []).append(name)
    return [f"Not compared: {listed(names)} ({why})." for why, names in reasons.items()]


def listed(names: list[str]) -> str:
    """``a, b, c``; of many, the first and how many more."""
    if len(names) <= SHOWN + 1:
        return ", ".join(names)
    return f"{', '.join(names[:SHOWN])} and {len(names) - SHOWN} more"


def _said(what: str, found: list[str]) -> str:
    return f"{what}: {listed(found)}." if found else ""


def _named(places: list[int], names: list[str]) -> list[str]:
    return [names[j] for j in places]


# ---------------------------------------------------------------------- columns


def _kinds(space: Space, names: list[str]) -> str:
    """The columns of each kind; nothing of an array, which has one kind."""
    if not space.columns:
        return ""
    groups: dict[str, list[str]] = {}
    for name, kind in zip(names, space.kinds, strict=True):
        groups.setdefault(kind, []).append(name)
    return "Columns: " + "; ".join(f"{kind}: {listed(n)}" for kind, n in groups.items()) + "."


def _constant(codes: np.ndarray) -> np.ndarray:
    """Columns of one value, (d,), missing cells aside."""
    low, high = np.fmin.reduce(codes, 0), np.fmax.reduce(codes, 0)
    return np.asarray(low == high)


def _atoms(codes: np.ndarray, space: Space, names: list[str]) -> list[str]:
    """Continuous columns in which one value is frequent, with that value and its share."""
    found = []
    for j, kind in enumerate(space.kinds):
        seen = codes[~np.isnan(codes[:, j]), j]
        values, counts = np.unique(seen, return_counts=True)
        if kind != "continuous" or len(values) < 2:
            continue
        most = counts.argmax()
        share = counts[most] / len(seen)
        if share > ATOM and counts[most] > 1:
            found.append(f"{names[j]} ({values[most] + 0.0:g} in {100 * share:.0f} % of the rows)")
    return found


def _functions(codes: np.ndarray, names: list[str], skipped: set[int]) -> list[str]:
    """``b of a`` where each value of a comes with one value of b; ``a and b`` where both hold.

    The values of a must repeat, or anything would be a function of it. Of two columns whose values
    do not, that they have the same order, or the reverse, is enough.
    """
    n, d = codes.shape
    whole = np.stack([pd.factorize(codes[:, j], use_na_sentinel=False)[0] for j in range(d)], 1)
    some = whole[: max(1, int(COMPARED / d**2))]
    sizes = whole.max(0) + 1
    able = [j for j in range(d) if sizes[j] > FEW and j not in skipped]
    repeated = [j for j in able if sizes[j] <= n / 2]
    tells = np.zeros((d, d), dtype=bool)
    for a in repeated:
        found_in_some = _determined(some, a)
        for b in able:
            told = b != a and found_in_some[b]
            tells[a, b] = told and _determined(whole[:, (a, b)], 0)[1]
    single = [j for j in able if j not in repeated and not np.isnan(codes[:, j]).any()]
    order = {j: codes[:, j].argsort(kind="stable") for j in single}
    for i, a in enumerate(single):
        for b in single[i + 1 :]:
            steps = np.diff(codes[order[a], b])
            ties = np.diff(codes[order[a], a]) == 0
            strict = (steps > 0).all() or (steps < 0).all()
            tells[a, b] = tells[b, a] = bool(strict and not ties.any())
    found = []
    for a, b in np.argwhere(tells).tolist():
        if not tells[b, a]:
            found.append(f"{names[b]} of {names[a]}")
        elif a < b:
            found.append(f"{names[a]} and {names[b]} of each other")
    return found


def _determined(values: np.ndarray, a: int) -> np.ndarray:
    """Which columns (d,) have one value wherever column a has one."""
    _, first, group = np.unique(values[:, a], return_index=True, return_inverse=True)
    same: np.ndarray = (values[first[group]] == values).all(0)
    return same


def _is_identifier(column: np.ndarray, space: Space, j: int) -> bool:
    """All words different, or whole numbers each greater by one than the one before; no dates."""
    if len(column) < 3 or np.isnan(column).any():
        return False
    if space.columns and is_calendar(space.columns[j].dtype):
        return False
    if space.kinds[j] == "categorical" and isinstance(_first_value(space, j), str):
        return len(np.unique(column)) == len(column)
    return bool((np.diff(column) == 1).all())


def _first_value(space: Space, j: int) -> Any:
    values = space.columns[j].values if space.columns else space.values
    return values[0] if values else None


# ---------------------------------------------------------------------- rows


def _duplicates(codes: np.ndarray, space: Space) -> str:
    """How many rows there were before; nothing where few different rows are possible."""
    n = len(codes)
    possible = math.prod(float(levels or math.inf) for levels in space.cardinality)
    again = int(pd.DataFrame(codes).duplicated().sum())
    if not again or possible < 100 * n:
        return ""
    return f"{again:,} of {n:,} rows are copies of earlier ones."


def _few_rows(codes: np.ndarray) -> str:
    n, d = codes.shape
    if n >= d:
        return ""
    return f"Fewer rows ({n:,}) than columns ({d:,}): what models learn rests on little."
