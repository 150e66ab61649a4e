"""What one observation looks like, and the way in and out of tensors.

A row enters as the caller's array, table, tensor or dataset and becomes a tensor of *codes* of
shape (n, *space.shape): the value itself for continuous coordinates, 0 … levels − 1 for discrete
ones, NaN for a missing one. Samples leave by the same door, in the caller's own type."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genus.coding import (
    KINDS,
    Column,
    as_array,
    as_frame,
    check_shape,
    codes_of,
    column_codes,
    column_of,
    head,
    infer,
    layout_of,
    numbers_of,
    series_of,
    values_of,
)


@dataclass(frozen=True)
class Space:
    """What one observation looks like.

    Arguments
    ---------
    shape: the shape of one row: ``(d,)``, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``.
    kind: ``"binary"`` {0, 1}; ``"ordinal"`` integers low … low + levels − 1; ``"categorical"`` one
        of ``values``; ``"continuous"``; or ``"table"``, a kind per column.
    levels: how many values a discrete coordinate can take.
    low: the smallest ordinal value (the one coded 0).
    values: the caller's value of each categorical code.
    layout: ``"HW"``, ``"CHW"`` or ``"HWC"`` for images.
    columns: for tables, one :class:`Column` each.

    ``Space.of(X)`` infers all of it.
    """

    shape: tuple[int, ...]
    kind: str = "continuous"
    levels: int | None = None
    low: int = 0
    values: tuple[Any, ...] | None = None
    layout: str | None = None
    columns: tuple[Column, ...] = ()
    container: str = "numpy"
    dtype: str = "float64"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(s) for s in self.shape))
        if self.kind not in (*KINDS, "table"):
            raise ValueError(
                f"space kind {self.kind!r} is unknown: choose one of {', '.join(KINDS)} or table"
            )
        if self.kind == "binary":
            object.__setattr__(self, "levels", 2)
        if self.kind == "continuous" and not self.dtype.startswith("float"):
            object.__setattr__(self, "dtype", "float64")  # its draws are not whole numbers
        if self.kind == "categorical" and self.values is None and self.levels:
            object.__setattr__(self, "values", tuple(range(self.levels)))
        if self.kind == "categorical" and self.values is not None:
            object.__setattr__(self, "values", tuple(self.values))
            object.__setattr__(self, "levels", len(self.values))
        if self.kind in ("ordinal", "categorical") and not (self.levels and self.levels >= 1):
            raise ValueError(
                f"a Space of kind {self.kind!r} needs levels=, the number of values a cell can take"
            )
        if self.layout is not None and (
            self.layout not in ("HW", "CHW", "HWC") or len(self.layout) != len(self.shape)
        ):
            raise ValueError(
                f"layout {self.layout!r} does not fit the shape {self.shape}: use 'HW', 'CHW' or "
                f"'HWC'"
            )
        if self.kind == "table" and len(self.columns) != self.shape[0]:
            raise ValueError(
                "a table Space needs one Column per coordinate: let Space.of(X) infer it"
            )

    # ------------------------------------------------------------------ reading the space

    @property
    def dim(self) -> int:
        """Number of coordinates of one row."""
        return int(np.prod(self.shape))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of every coordinate of the flattened row."""
        return tuple(c.kind for c in self.columns) if self.columns else (self.kind,) * self.dim

    @property
    def cardinality(self) -> tuple[int, ...]:
        """Number of values of every coordinate; 0 where continuous."""
        if self.columns:
            return tuple(c.levels or 0 for c in self.columns)
        return (0 if self.kind == "continuous" else int(self.levels or 0),) * self.dim

    @property
    def discrete(self) -> Tensor:
        """True where a coordinate is discrete; shape (dim,)."""
        return torch.tensor(self.cardinality) > 0

    @property
    def measure(self) -> str:
        """``probability`` when every coordinate is discrete, ``density`` when none is, else
        ``mixed``.
        """
        if self.kind != "table":
            return "density" if self.kind == "continuous" else "probability"
        some, every = bool(self.discrete.any()), bool(self.discrete.all())
        return "probability" if every else "mixed" if some else "density"

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) for images, else None."""
        if self.layout == "HW":
            return (1, *self.shape)  # type: ignore[return-value]
        if self.layout == "CHW":
            return self.shape  # type: ignore[return-value]
        if self.layout == "HWC":
            return (self.shape[2], self.shape[0], self.shape[1])
        return None

    def names(self) -> list[str]:
        """A name for every coordinate, for messages and tables."""
        if self.columns:
            return [str(c.name) for c in self.columns]
        if len(self.shape) == 1:
            return [f"column {j}" for j in range(self.dim)]
        return [f"cell {tuple(int(i) for i in ix)}" for ix in np.ndindex(*self.shape)]

    def __str__(self) -> str:
        what = "×".join(map(str, self.shape))
        if self.kind == "table":
            counts = {k: self.kinds.count(k) for k in KINDS if k in self.kinds}
            return f"table of {what} columns: " + ", ".join(f"{n} {k}" for k, n in counts.items())
        return f"{what} {self.kind}" + (
            f", {self.levels} levels" if self.kind in ("ordinal", "categorical") else ""
        )

    # ------------------------------------------------------------------ inference

    @classmethod
    def of(cls, X: Any, space: Space | str | None = None) -> Space:
        """Infer the space of X; ``space`` overrides it, as a whole or (a kind's name) in its kind
        alone.

        Values all in {0, 1} → binary; uint8 → ordinal with 256 levels; other integers → categorical
        when at most 20 distinct, else ordinal; float → continuous; DataFrame → table, a kind per
        column (a kind's name goes to its columns of numbers). Raises ValueError or TypeError that
        names the column."""
        if isinstance(space, str) and space not in KINDS:
            raise ValueError(
                f"space={space!r} is unknown: pass a Space or one of {', '.join(KINDS)}"
            )
        own, X = own_space(X), unwrap(X)
        if own is not None and (space is None or space == own.kind):
            return own
        if isinstance(X, pd.DataFrame | pd.Series):
            if isinstance(space, Space):
                return dataclasses.replace(space, container="pandas")
            frame = as_frame(X)
            columns = tuple(
                column_of(frame.iloc[:, j], name, space) for j, name in enumerate(frame.columns)
            )
            return cls((len(columns),), "table", columns=columns, container="pandas")
        a = as_array(head(X))
        container = "torch" if isinstance(X, Tensor | torch.utils.data.Dataset) else "numpy"
        if isinstance(space, Space):
            return dataclasses.replace(space, container=container, dtype=str(a.dtype))
        check_shape(a.shape)
        c = infer(a, space, "X")
        layout = own.layout if own is not None else layout_of(a.shape, c.kind)
        return cls(
            a.shape[1:], c.kind, c.levels, c.low, c.values, layout, (), container, str(a.dtype)
        )

    # ------------------------------------------------------------------ the way in

    def encode(self, X: Any, *, missing: bool = True, fractional: bool = False) -> Tensor:
        """The codes of X, shape (n, *shape), copied: uint8 where every cell is a small integer,
        else float.

        ``missing=False`` refuses NaN. ``fractional=True`` lets a binary space take probabilities in
        [0, 1] (grey pixels, drawn afresh each time a batch is read in training). Raises ValueError
        or TypeError that names the column and the row."""
        X = unwrap(X)
        if self.columns:
            codes = self._table_codes(X)
        else:
            if isinstance(X, pd.DataFrame | pd.Series):
                X = np.stack([numbers_of(s, name) for name, s in as_frame(X).items()], axis=1)
            a = as_array(X)
            check_shape(a.shape)
            if a.shape[1:] != self.shape:
                raise ValueError(
                    f"X has rows of shape {a.shape[1:]}, but the model was fitted on rows of "
                    f"shape {self.shape}"
                )
            codes = codes_of(a, self._cell, lambda j: self.names()[j], fractional)
        if not missing and codes.dtype.kind == "f" and np.isnan(codes).any():
            row, *_ = np.argwhere(np.isnan(codes))[0]
            name = self.names()[int(np.isnan(codes[row].reshape(-1)).argmax())]
            raise ValueError(
                f"X contains NaN in {name} (row {row}): this model takes no missing values; "
                "drop or fill those rows, or use one that does (GaussianMixture, VAE)"
            )
        return torch.from_numpy(codes)

    @property
    def _cell(self) -> Column:
        return Column("", self.kind, self.levels, self.low, self.values)

    def _table_codes(self, X: Any) -> np.ndarray:
        """Columns are found by name in a DataFrame, by place in anything else."""
        frame = as_frame(X)
        if isinstance(X, pd.DataFrame | pd.Series):
            names = [c.name for c in self.columns]
            absent = [n for n in names if n not in frame.columns]
            if absent:
                raise ValueError(f"X lacks the column {absent[0]!r} that the model was fitted on")
            frame = frame[names]
        elif frame.shape[1] != self.dim:
            raise ValueError(
                f"X has {frame.shape[1]} columns, but the model was fitted on {self.dim}"
            )
        return np.stack(
            [column_codes(s, c) for (_, s), c in zip(frame.items(), self.columns, strict=True)],
            axis=1,
        )

    # ------------------------------------------------------------------ the way out

    def decode(self, x: Tensor) -> Any:
        """Codes of shape (..., *shape) back to the caller's type: ndarray, tensor, or DataFrame (a
        list of them for 3-D codes).
        """
        x = x.detach().cpu()
        if not self.columns:
            a = values_of(x.numpy(), self._cell, self.dtype)
            return torch.from_numpy(a) if self.container == "torch" else a
        codes = x.double().reshape(-1, self.dim).numpy()
        frame = pd.concat([series_of(codes[:, j], c) for j, c in enumerate(self.columns)], axis=1)
        frame.columns = pd.Index([c.name for c in self.columns])
        if self.container != "pandas":
            a = frame.to_numpy().reshape(x.shape)
            return torch.from_numpy(a) if self.container == "torch" else a
        size = x.shape[-2]
        parts = [
            frame.iloc[i : i + size].reset_index(drop=True) for i in range(0, len(frame), size)
        ]
        return frame if x.dim() == 2 else parts

    def means(self, x: Tensor) -> Any:
        """Expected codes in the caller's units: arrays of binary or ordinal cells may lie between
        levels; else as :meth:`decode`.
        """
        if self.columns or self.kind not in ("binary", "ordinal"):
            return self.decode(x)
        a = x.detach().cpu().float().numpy() + np.float32(self.low)
        return torch.from_numpy(a) if self.container == "torch" else a

    # ------------------------------------------------------------------ JSON

    def to_json(self) -> dict[str, Any]:
        """Plain JSON of the space."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, d: dict[str, Any]) -> Space:
        """The space of :meth:`to_json`."""

        def listed(values: Any) -> Any:
            return None if values is None else tuple(values)

        columns = tuple(Column(**{**c, "values": listed(c["values"])}) for c in d["columns"])
        return cls(**{**d, "columns": columns, "values": listed(d["values"])})


def own_space(X: Any) -> Space | None:
    """The space that a ``genus.data`` set carries with it."""
    space = getattr(X, "space", None)
    return space if isinstance(space, Space) else None


def unwrap(X: Any) -> Any:
    """The rows of a ``genus.data`` set; anything else as it is."""
    return X.X if own_space(X) is not None else X
