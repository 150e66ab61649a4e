"""Which rows are compared on: those that models learn from, and those that judge them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from genus.coding import as_array
from genus.space import Space


def take(
    X: Any, test: Any, y: Any, space: Space | str | None, seed: int
) -> tuple[Any, Any, Any, Any, Space]:
    """(train, test, y of train, y of test, space)."""
    own = getattr(X, "space", None)
    whole = space
    if whole is None and isinstance(own, Space):
        whole = own
    labels = y
    if isinstance(own, Space) or (hasattr(X, "train") and hasattr(X, "X")):  # a genus.data set
        if test is None and getattr(X, "test", None) is not None:
            return _own_parts(X, y, whole)
        labels = getattr(X, "y", None) if y is None else y
        X = _rows_of(X)
    elif not hasattr(X, "shape") and not isinstance(X, pd.DataFrame):
        X = as_array(X)
    if labels is not None and len(labels) != len(X):
        raise ValueError(f"y has {len(labels)} labels, X has {len(X)} rows")
    if test is not None and not isinstance(test, int | float):
        held = _rows_of(test)
        return X, held, labels, getattr(test, "y", None), Space.of(X, whole)
    share = 0.2 if test is None else float(test)
    n = round(share * len(X))
    if not 0 < share < 1 or not 0 < n < len(X):
        raise ValueError(
            f"test={test!r}: rows, or a share between 0 and 1 that leaves rows on both sides, "
            f"is needed (X has {len(X)})"
        )
    train, held = _parted(len(X), n, seed)
    y_train, y_held = pick(labels, train), pick(labels, held)
    return pick(X, train), pick(X, held), y_train, y_held, Space.of(pick(X, train), whole)


def _own_parts(X: Any, y: Any, space: Space | str | None) -> tuple[Any, Any, Any, Any, Space]:
    """The training and test rows that a data set brings along; y: labels of the former."""
    x, held = _rows_of(X.train), _rows_of(X.test)
    y_train, y_held = getattr(X.train, "y", None), getattr(X.test, "y", None)
    if y is not None:
        if len(y) != len(x):
            raise ValueError(f"y has {len(y)} labels, the training part {len(x)} rows")
        y_train, y_held = y, None
    return x, held, y_train, y_held, Space.of(x, space)


def _parted(rows: int, held: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the training rows and of those set aside."""
    order = np.random.RandomState(seed).permutation(rows)
    return np.sort(order[held:]), np.sort(order[:held])


def conditions_of(
    given: Any, train: tuple[Any, Any], held: tuple[Any, Any], test: Any, seed: int
) -> tuple[Any, Any]:
    """Conditions of the training rows and of the test rows; each part is its rows and labels."""
    (x, y_x), (x_held, y_held) = train, held
    if given is None:
        return None, None
    if isinstance(given, str) and given == "y":
        if y_x is None or y_held is None:
            raise ValueError("given='y': the rows of X or of test have no labels")
        return y_x, y_held
    if isinstance(given, tuple) and len(given) == 2:
        g_x, g_held = given
    elif len(given) == len(x) + len(x_held) and (test is None or isinstance(test, int | float)):
        train_at, held_at = _parted(len(given), len(x_held), seed)
        g_x, g_held = pick(given, train_at), pick(given, held_at)
    else:
        raise ValueError(
            f"given has {len(given)} rows, X {len(x)} and test {len(x_held)}: pass given='y' or a "
            "pair (given of X, given of test)"
        )
    for g, rows, name in ((g_x, x, "X"), (g_held, x_held, "test")):
        if len(g) != len(rows):
            raise ValueError(f"given of {name} has {len(g)} rows, {name} has {len(rows)}")
    return g_x, g_held


def bits(x: Any, space: Space, seed: int) -> Any:
    """Grey rows under a binary space drawn once; other rows as they are."""
    real = isinstance(x, np.ndarray) and x.dtype.kind == "f"
    if space.kind != "binary" or not real or np.isin(x, (0, 1)).all() or np.isnan(x).any():
        return x
    import genus.data

    return genus.data.binarize(x, seed)


def _rows_of(part: Any) -> Any:
    return getattr(part, "X", part)


def pick(a: Any, index: np.ndarray) -> Any:
    """Some rows of a table, array or list; None of None."""
    if a is None:
        return None
    if hasattr(a, "iloc"):
        return a.iloc[index].reset_index(drop=True)
    return a[index] if hasattr(a, "shape") else np.asarray(a)[index]


def cap(held: Any, y: Any, given: Any, most: int, seed: int) -> tuple[Any, Any, Any, list[str]]:
    """At most so many test rows, with their labels and conditions, and notes that say so."""
    if len(held) <= most:
        return held, y, given, []
    chosen = np.sort(np.random.RandomState(seed).permutation(len(held))[:most])
    note = f"{most} of the {len(held)} test rows were used, drawn by the seed."
    return pick(held, chosen), pick(y, chosen), pick(given, chosen), [note]
