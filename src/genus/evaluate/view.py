"""Rows as numbers: what every comparison of samples with real rows looks at."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from genus.space import Space


class NumericView:
    """The numeric view of a space's rows: (n, p) float32, centred and scaled by a reference.

    Categories become one-hot columns. Numbers are divided by a standard deviation: their own
    column's in a table or a continuous vector, one common to all cells where cells are of one sort
    (pixels, binary or ordinal arrays), so that a pixel that is almost always off is not blown up. A
    missing cell becomes the mean.

    Parameters
    ----------
    space : Space
        Of the rows.
    x : Tensor
        Codes (n, *shape) of the reference rows, which are the training rows.
    """

    def __init__(self, space: Space, x: Tensor) -> None:
        self.space = space
        raw = _without_empty_columns(self._one_hot(x))
        self.mean = np.nan_to_num(np.nanmean(raw, axis=0))
        variance = np.nan_to_num(np.nanvar(raw, axis=0))
        if space.kind in ("binary", "ordinal", "integer") or len(space.shape) > 1:
            variance = np.full_like(variance, variance.mean())
        scale = np.where(self._is_number(), np.sqrt(variance), 1.0)
        rounding = 1e-12 * np.maximum(np.abs(self.mean), 1e-12)
        self.scale = np.where(scale > rounding, scale, 1.0)

    def __call__(self, x: Tensor) -> np.ndarray:
        """Codes (n, *shape) → the numeric view (n, p)."""
        centred = self._one_hot(x) - self.mean
        return np.nan_to_num(centred / self.scale).astype(np.float32)

    def _one_hot(self, x: Tensor) -> np.ndarray:
        """The codes, with a column of 0 and 1 for each level of a category; NaN where missing."""
        codes = x.detach().cpu().flatten(1).double().numpy()
        if "categorical" not in self.space.kinds:
            return codes
        columns = []
        for j, kind in enumerate(self.space.kinds):
            column = codes[:, j : j + 1]
            if kind == "categorical":
                levels = np.arange(self.space.cardinality[j])
                column = np.where(np.isnan(column), np.nan, column == levels)
            columns.append(column)
        return np.concatenate(columns, axis=1)

    def _is_number(self) -> np.ndarray:
        """Which columns of the view are numbers, and not levels of a category, (p,)."""
        found: list[bool] = []
        for kind, levels in zip(self.space.kinds, self.space.cardinality, strict=True):
            found += [False] * levels if kind == "categorical" else [True]
        return np.array(found)


def _without_empty_columns(raw: np.ndarray) -> np.ndarray:
    """Zeros where a column holds no value at all, so that its mean exists."""
    empty = np.isnan(raw).all(axis=0)
    return np.where(empty, 0.0, raw) if empty.any() else raw


def check_same_count(real: np.ndarray, fake: np.ndarray) -> None:
    """Raise ValueError unless there are as many samples as real rows, and at least 10."""
    if len(real) != len(fake) or len(real) < 10:
        raise ValueError(
            f"{len(real)} real rows and {len(fake)} samples: "
            "as many of each, and at least 10, are needed"
        )
