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

from genus.sources import Parquet
from genus.space import Space

Index = slice | np.ndarray
KEYS = ("x_train", "y_train", "x_test", "y_test")


class DataUnavailableError(ConnectionError):
    """A known data set that is neither on this machine nor to be fetched; it says what to do."""


@dataclass(frozen=True, eq=False)
class Data:
    """Rows, their space and, where there are any, labels; ``train`` and ``test`` are Data too.

    ``Model.fit``, ``log_prob`` and ``compare`` take it as it is.

    Parameters
    ----------
    X : array, tensor, DataFrame or dataset
        Rows, (n, *shape).
    y : array or None, default=None
        Labels, (n,).
    space : Space, default=None
        What a row looks like; inferred when None.
    name : str, default="data"
        For reports.
    note : str, default=""
        What a reader of results must know about these rows.
    parts : dict
        Rows of "train", "test" and perhaps "valid"; when empty, ``train`` and ``test``
        are those of :meth:`split`.

    Examples
    --------
    >>> import numpy as np, genus
    >>> data = genus.data.Data(np.arange(20.0).reshape(10, 2), name="few")
    >>> len(data.train), len(data.test)
    (8, 2)
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
        labels = ", labels" if self.y is not None else ""
        parts = f", {sizes}" if sizes else ""
        return f"Data({self.name}: {len(self)} × {self.space}{labels}{parts})"

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
        """The same rows with a random share ``test`` of them, 0 < test < 1, set aside by ``seed``.

        Each side has at least one row.
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
    if isinstance(X, Parquet):
        return X.part(rows)
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
    """Data with the training and test rows that their publisher chose."""
    n, m = len(x), len(tx)
    labels = None if y is None or ty is None else np.concatenate([y, ty])
    return Data(
        np.concatenate([x, tx]),
        labels,
        name=name,
        note=note,
        parts={"train": slice(0, n), "test": slice(n, n + m)},
    )
