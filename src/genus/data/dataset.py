"""A set of rows with its space, its labels and its parts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genus.space import Space

Index = slice | np.ndarray
KEYS = ("x_train", "y_train", "x_test", "y_test")


class DataUnavailableError(ConnectionError):
    """A known data set that is not on this machine and cannot be fetched; the message says what to
    do.
    """


@dataclass(frozen=True, eq=False)
class Data:
    """Rows, their space and, where there are any, labels; ``train`` and ``test`` are Data too.

    Arguments
    ---------
    X: (n, *shape) array, tensor, DataFrame or dataset; y: (n,) labels, or None.
    space: what a row looks like; inferred when None.
    note: what a reader of results must know about these rows.
    parts: rows of "train", "test" and perhaps "valid"; when empty, ``train`` and ``test`` are those
        of :meth:`split`.

    ``Model.fit``, ``log_prob`` and ``compare`` take it as it is.
    """

    X: Any
    y: Any = None
    space: Space = None  # type: ignore[assignment]
    name: str = "data"
    note: str = ""
    parts: dict[str, Index] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.space is None:
            object.__setattr__(self, "space", Space.of(self.X))
        if self.y is not None and len(self.y) != len(self):
            raise ValueError(f"y has {len(self.y)} labels, X has {len(self)} rows")

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{k} {len(self._part(k))}" for k in self.parts)
        return (
            f"Data({self.name}: {len(self)} × "
            f"{self.space}{', labels' if self.y is not None else ''}{', ' + sizes if sizes else ''})"
        )

    @cached_property
    def train(self) -> Data:
        """The rows to learn from."""
        return self._part("train") if self.parts else self.split().train

    @cached_property
    def test(self) -> Data:
        """The rows to measure on."""
        return self._part("test") if self.parts else self.split().test

    @cached_property
    def valid(self) -> Data | None:
        """The published validation rows, where there are any."""
        return self._part("valid") if "valid" in self.parts else None

    def split(self, test: float = 0.2, seed: int = 0) -> Data:
        """The same rows with a random share ``test`` of them, 0 < test < 1, set aside by ``seed``;
        at least one row each.
        """
        n = len(self)
        if not 0 < test < 1 or n < 2:
            raise ValueError(
                f"test={test!r} of {n} rows: a share between 0 and 1 of at least 2 rows is needed"
            )
        order = np.random.RandomState(seed).permutation(n)
        held = min(max(1, round(test * n)), n - 1)
        return dataclasses.replace(
            self, parts={"train": np.sort(order[held:]), "test": np.sort(order[:held])}
        )

    def _part(self, part: str) -> Data:
        rows = self.parts[part]
        y = None if self.y is None else _take(self.y, rows)
        return Data(_take(self.X, rows), y, self.space, f"{self.name} {part}", self.note)


def _take(X: Any, rows: Index) -> Any:
    if isinstance(X, torch.utils.data.Dataset):
        return torch.utils.data.Subset(X, np.arange(len(X))[rows].tolist())  # type: ignore[arg-type]
    if isinstance(X, pd.DataFrame | pd.Series):
        return X.iloc[rows]
    return (
        X[torch.from_numpy(rows)]
        if isinstance(X, Tensor) and isinstance(rows, np.ndarray)
        else X[rows]
    )


def published(name: str, x: Any, y: Any, tx: Any, ty: Any, note: str = "") -> Data:
    n, m = len(x), len(tx)
    labels = None if y is None or ty is None else np.concatenate([y, ty])
    return Data(
        np.concatenate([x, tx]),
        labels,
        name=name,
        note=note,
        parts={"train": slice(0, n), "test": slice(n, n + m)},
    )
