"""What one observation looks like, and the way in and out of tensors.

A row enters as the caller's array, table, tensor or dataset and becomes a tensor of *codes* of shape
(n, *space.shape): the value itself for continuous coordinates, 0 … levels − 1 for discrete ones, NaN
for a missing one. Samples leave by the same door, in the caller's own type.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

KINDS = ("binary", "ordinal", "categorical", "continuous")
FEW = 20  # integers with at most this many distinct values are read as categories
LARGEST = 1e100  # beyond this, squares leave float64


@dataclass(frozen=True)
class Column:
    """One coordinate of a table: its name, kind, and how its codes map to the caller's values."""

    name: str
    kind: str
    levels: int | None = None
    low: int = 0
    values: tuple[Any, ...] | None = None
    dtype: str = "float64"
    ordered: bool = False


@dataclass(frozen=True)
class Space:
    """What one observation looks like.

    Arguments
    ---------
    shape: the shape of one row: ``(d,)``, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``.
    kind: ``"binary"`` {0, 1}; ``"ordinal"`` integers low … low + levels − 1; ``"categorical"`` one of
        ``values``; ``"continuous"``; or ``"table"``, a kind per column.
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
            raise ValueError(f"space kind {self.kind!r} is unknown: choose one of {', '.join(KINDS)} or table")
        if self.kind == "binary" and self.levels is None:
            object.__setattr__(self, "levels", 2)
        if self.kind == "categorical" and self.values is None and self.levels:
            object.__setattr__(self, "values", tuple(range(self.levels)))
        if self.kind == "categorical" and self.values is not None:
            object.__setattr__(self, "values", tuple(self.values))
            object.__setattr__(self, "levels", len(self.values))
        if self.kind in ("ordinal", "categorical") and not (self.levels and self.levels >= 1):
            raise ValueError(f"a Space of kind {self.kind!r} needs levels=, the number of values a cell can take")
        if self.layout is not None and (self.layout not in ("HW", "CHW", "HWC") or len(self.layout) != len(self.shape)):
            raise ValueError(f"layout {self.layout!r} does not fit the shape {self.shape}: use 'HW', 'CHW' or 'HWC'")
        if self.kind == "table" and len(self.columns) != self.shape[0]:
            raise ValueError("a table Space needs one Column per coordinate: let Space.of(X) infer it")

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
        """``probability`` when every coordinate is discrete, ``density`` when none is, else ``mixed``."""
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
            return [c.name for c in self.columns]
        if len(self.shape) == 1:
            return [f"column {j}" for j in range(self.dim)]
        return [f"cell {tuple(int(i) for i in ix)}" for ix in np.ndindex(*self.shape)]

    def __str__(self) -> str:
        what = "×".join(map(str, self.shape))
        if self.kind == "table":
            counts = {k: self.kinds.count(k) for k in KINDS if k in self.kinds}
            return f"table of {what} columns: " + ", ".join(f"{n} {k}" for k, n in counts.items())
        return f"{what} {self.kind}" + (f", {self.levels} levels" if self.kind in ("ordinal", "categorical") else "")

    # ------------------------------------------------------------------ inference

    @classmethod
    def of(cls, X: Any, space: Space | str | None = None) -> Space:
        """Infer the space of X; ``space`` overrides it, as a whole or (a kind's name) in its kind alone.

        Values all in {0, 1} → binary; uint8 → ordinal with 256 levels; other integers → categorical when
        at most 20 distinct, else ordinal; float → continuous; DataFrame → table, a kind per column.
        """
        if isinstance(space, Space):
            return dataclasses.replace(space, container=_container(X), dtype=_dtype(X, space.dtype))
        own = getattr(X, "space", None)
        if isinstance(own, Space) and (space is None or space == own.kind):
            return own
        if space is not None and space not in KINDS:
            raise ValueError(f"space={space!r} is unknown: pass a Space or one of {', '.join(KINDS)}")
        X = getattr(X, "X", X) if isinstance(own, Space) else X
        if isinstance(X, pd.Series):
            X = X.to_frame()
        if isinstance(X, pd.DataFrame):
            _check_table(X)
            columns = tuple(_column(X.iloc[:, j], str(X.columns[j]), space) for j in range(X.shape[1]))
            return cls((X.shape[1],), "table", columns=columns, container="pandas", dtype="table")
        a = as_array(head(X))
        _check_rank(a)
        kind, levels, low, values = _kind_of(a, space, "X")
        layout = None
        if a.ndim == 3:
            layout = "HW"
        elif a.ndim == 4:
            first, last = a.shape[1] in (1, 3), a.shape[3] in (1, 3)
            if first and last:
                raise ValueError(
                    f"X of shape {a.shape} could be (n, C, H, W) or (n, H, W, C): pass "
                    f"space=Space({a.shape[1:]}, kind={kind!r}, layout='CHW' or 'HWC')"
                )
            layout = "CHW" if first else "HWC" if last else None
        return cls(
            a.shape[1:],
            kind,
            levels,
            low,
            values,
            layout,
            container=_container(X),
            dtype=_dtype(X, str(a.dtype)),
        )

    # ------------------------------------------------------------------ the way in

    def encode(self, X: Any, *, missing: bool = True, fractional: bool = False) -> Tensor:
        """The codes of X, shape (n, *shape): uint8 where every cell is a small integer, else float.

        ``missing=False`` refuses NaN. ``fractional=True`` lets a binary space take probabilities in [0, 1]
        (grey pixels, drawn afresh each time a batch is read in training). Raises ValueError or TypeError
        that names the column.
        """
        X = getattr(X, "X", X) if isinstance(getattr(X, "space", None), Space) else X
        if isinstance(X, pd.Series):
            X = X.to_frame()
        if self.columns:
            out = self._encode_table(X)
        else:
            if isinstance(X, pd.DataFrame):
                X = X.to_numpy()
            a = as_array(X)
            _check_rank(a)
            if a.shape[1:] != self.shape:
                raise ValueError(f"X has rows of shape {a.shape[1:]}, but the model was fitted on rows of shape {self.shape}")
            out = self._codes(a, self.kind, self.levels, self.low, self.values, None, fractional)
        if out.is_floating_point():
            if not missing and bool(torch.isnan(out).any()):
                name, row = self._where(torch.isnan(out))
                raise ValueError(
                    f"X contains NaN in {name} (row {row}): this model takes no missing values; "
                    "drop or fill those rows, or use one that does (GaussianMixture, VAE)"
                )
        return out

    def _where(self, bad: Tensor) -> tuple[str, int]:
        row, cell = (int(i) for i in bad.flatten(1).nonzero()[0])
        return self.names()[cell], row

    def _encode_table(self, X: Any) -> Tensor:
        if isinstance(X, pd.DataFrame):
            _check_table(X)
            absent = [c.name for c in self.columns if c.name not in map(str, X.columns)]
            if absent:
                raise ValueError(f"X lacks the column {absent[0]!r} that the model was fitted on")
            by_name = {str(n): X.iloc[:, j] for j, n in enumerate(X.columns)}
            series = [by_name[c.name] for c in self.columns]
        else:
            a = as_array(X, strings=True)
            _check_rank(a)
            if a.shape[1:] != self.shape:
                raise ValueError(f"X has {a.shape[1]} columns, but the model was fitted on {self.dim}")
            series = [pd.Series(a[:, j]) for j in range(self.dim)]
        if len(series[0]) == 0:
            raise ValueError("X has 0 rows: at least one is needed")
        parts = []
        for column, s in zip(self.columns, series, strict=True):
            if column.kind == "categorical":
                codes = pd.Index(list(column.values or ())).get_indexer(pd.Index(s.astype(object)))
                unseen = (codes < 0) & s.notna().to_numpy()
                if unseen.any():
                    row = int(np.argmax(unseen))
                    raise ValueError(
                        f"column {column.name!r} has the value {s.iloc[row]!r} (row {row}), which was not seen in fit: "
                        "fit on data that hold every category, or drop the row"
                    )
                parts.append(torch.from_numpy(np.where(codes < 0, np.nan, codes.astype(float))))
            else:
                a = _numbers(s, column.name)
                parts.append(self._codes(a[:, None], column.kind, column.levels, column.low, None, column.name, False)[:, 0].double())
        return torch.stack(parts, dim=1)

    def _codes(
        self,
        a: np.ndarray,
        kind: str,
        levels: int | None,
        low: int,
        values: tuple[Any, ...] | None,
        name: str | None,
        fractional: bool,
    ) -> Tensor:
        def fail(bad: np.ndarray, what: str) -> ValueError:
            row, cell = (int(i) for i in np.argwhere(bad.reshape(len(a), -1))[0])
            where = repr(name) if name else self.names()[cell]
            return ValueError(f"X has {a.reshape(len(a), -1)[row, cell]!r} in {where} (row {row}): {what}")

        if a.dtype.kind == "f":
            if np.isinf(a).any():
                raise fail(np.isinf(a), "inf is not a number a model can use; drop or replace it")
            with np.errstate(invalid="ignore"):
                if a.dtype.itemsize > 4 and (np.abs(a) > LARGEST).any():
                    raise fail(np.abs(a) > LARGEST, "too large for floating point; rescale the column")
        if kind == "continuous":
            a = a if a.dtype in (np.float32, np.float64) else a.astype(np.float32 if a.dtype == np.float16 else np.float64)
            return torch.from_numpy(np.array(a, order="C"))
        if values is not None and values != tuple(range(len(values))):
            index = pd.Index(list(values)).get_indexer(pd.Index(a.reshape(-1)))
            codes = np.where(index < 0, np.nan, index.astype(float)).reshape(a.shape)
            bad = np.isnan(codes) & ~pd.isna(a)
            if bad.any():
                raise fail(bad, "a category that was not seen in fit")
        elif low == 0 and a.dtype == np.uint8:
            codes = a
        else:
            codes = a.astype(np.float64) - low
        nan = np.isnan(codes) if codes.dtype.kind == "f" else np.zeros(1, bool)
        top = int(levels or 1) - 1
        with np.errstate(invalid="ignore"):
            bad = ((codes < 0) | (codes > top)) & ~nan
            if bad.any():
                raise fail(bad, f"outside {low} … {low + top}; pass space=Space(..., levels=...) to fit to allow it")
            if codes.dtype.kind == "f":
                whole = codes == np.floor(codes)
                if not (whole | nan).all():
                    if kind == "binary" and fractional:
                        return torch.from_numpy(codes.astype(np.float32))
                    raise fail(
                        ~(whole | nan),
                        "a whole number is expected here; for grey values use genus.data.binarize(X), or space='continuous'",
                    )
        if levels and levels <= 256 and not nan.any():
            return torch.from_numpy(np.array(codes.astype(np.uint8), order="C"))
        return torch.from_numpy(codes.astype(np.float32 if levels and levels < 2**20 else np.float64))

    # ------------------------------------------------------------------ the way out

    def decode(self, x: Tensor) -> Any:
        """Codes of shape (..., *shape) back to the caller's type: ndarray, DataFrame (2-D only) or tensor."""
        lead = x.shape[: x.dim() - len(self.shape)]
        x = x.detach().cpu()
        if self.kind == "table":
            flat = x.double().reshape(-1, self.dim).numpy()
            if self.container != "pandas":
                return flat.reshape(*lead, self.dim)
            frames = pd.DataFrame({c.name: _restore(flat[:, j], c) for j, c in enumerate(self.columns)})
            if len(lead) == 1:
                return frames
            size = lead[-1]
            return [frames.iloc[i : i + size].reset_index(drop=True) for i in range(0, len(frames), size)]
        if self.kind == "continuous":
            out = x.numpy()
        else:
            codes = x.double().numpy()
            nan = np.isnan(codes)
            if self.kind == "categorical" and self.values is not None:
                out = np.asarray(self.values)[np.where(nan, 0, codes).astype(int)]
                out = np.where(nan, np.nan, out) if nan.any() else out
            else:
                out = codes + self.low
            if nan.any():
                return self._boxed(out)
        dtype = np.dtype(self.dtype if self.dtype not in ("table", "object") else "float64")
        if dtype.kind in "fiub" and dtype != out.dtype:
            out = out.astype(dtype)
        return self._boxed(out)

    def _boxed(self, a: np.ndarray) -> Any:
        return torch.from_numpy(a) if self.container == "torch" else a

    # ------------------------------------------------------------------ JSON

    def to_json(self) -> dict[str, Any]:
        """Plain JSON of the space."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, d: dict[str, Any]) -> Space:
        """The space of :meth:`to_json`."""
        columns = tuple(Column(**{**c, "values": c["values"] and tuple(c["values"])}) for c in d.get("columns", ()))
        values = d.get("values")
        return cls(**{**d, "shape": tuple(d["shape"]), "columns": columns, "values": values and tuple(values)})


# ---------------------------------------------------------------------- arrays of every sort


def as_array(X: Any, *, strings: bool = False) -> np.ndarray:
    """X as a numeric ndarray, or a ValueError/TypeError that says what is wrong with it."""
    if isinstance(X, np.ndarray) and X.dtype.kind in "fiub" and X.dtype != np.longdouble:
        return X
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError("X is a sparse matrix, which is not supported: pass X.toarray()")
    if isinstance(X, Tensor):
        X = X.detach().cpu()
        X = (X.float() if X.dtype in (torch.bfloat16, torch.float16) else X).numpy()
    elif isinstance(X, torch.utils.data.Dataset):
        X = torch.stack([_first(X[i]) for i in range(len(X))]).numpy()  # type: ignore[arg-type]
    a = np.asarray(X)
    if a.dtype.kind == "c":
        raise ValueError("Complex data not supported: X has complex numbers; pass real and imaginary parts as columns")
    if a.dtype.kind in "fiub":
        return a.astype(np.float64) if a.dtype == np.longdouble else a
    if strings:
        return a
    try:
        return a.astype(np.float64)
    except (TypeError, ValueError) as e:
        text = f"X must hold numbers ({e}): pass a pandas DataFrame for columns of words or categories"
        raise type(e)(text) from None


def head(X: Any, rows: int = 65536) -> Any:
    """The rows that decide a space: all of an array in memory, the first of a dataset or memory map."""
    if isinstance(X, torch.utils.data.Dataset):
        n = min(len(X), rows)  # type: ignore[arg-type]
        if n == 0:
            raise ValueError("the dataset has 0 rows: at least one is needed")
        return torch.stack([_first(X[i]) for i in range(n)])
    return X[:rows] if isinstance(X, np.memmap) else X


def _first(item: Any) -> Tensor:
    return torch.as_tensor(np.asarray(item[0] if isinstance(item, tuple | list) else item))


def _check_rank(a: np.ndarray) -> None:
    if a.ndim < 2:
        raise ValueError(
            f"Expected 2D array, got {a.ndim}D array instead. Reshape your data either using X.reshape(-1, 1) if it "
            "has a single column or X.reshape(1, -1) if it is a single row."
        )
    if a.shape[0] == 0:
        raise ValueError(f"Found array with 0 sample(s) (shape={a.shape}) while a minimum of 1 is required.")
    if 0 in a.shape:
        raise ValueError(f"Found array with 0 feature(s) (shape={a.shape}) while a minimum of 1 is required.")


def _check_table(X: pd.DataFrame) -> None:
    if X.shape[1] == 0:
        raise ValueError(f"Found array with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required.")
    if X.shape[0] == 0:
        raise ValueError(f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required.")
    twice = X.columns[X.columns.duplicated()]
    if len(twice):
        raise ValueError(f"the column name {twice[0]!r} occurs more than once: rename one of them")


def _container(X: Any) -> str:
    if isinstance(X, pd.DataFrame | pd.Series):
        return "pandas"
    return "torch" if isinstance(X, Tensor | torch.utils.data.Dataset) else "numpy"


def _dtype(X: Any, fallback: str) -> str:
    if isinstance(X, np.ndarray) and X.dtype.kind in "fiub":
        return str(X.dtype)
    if isinstance(X, Tensor):
        return str(X.dtype).removeprefix("torch.") if X.dtype not in (torch.bfloat16, torch.float16) else "float32"
    return fallback


def _kind_of(a: np.ndarray, kind: str | None, name: str) -> tuple[str, int | None, int, tuple[Any, ...] | None]:
    """(kind, levels, low, values) of an array of numbers."""
    seen = a[~np.isnan(a)] if a.dtype.kind == "f" else a.reshape(-1)
    if seen.size == 0:
        raise ValueError(f"{name} has no observed value, only NaN: drop it")
    if kind is None:
        if a.dtype == np.uint8:
            kind = "binary" if seen.max() <= 1 else "ordinal"
        elif bool(((seen == 0) | (seen == 1)).all()):
            kind = "binary"
        elif a.dtype.kind in "iu":
            kind = "categorical" if len(np.unique(seen)) <= FEW else "ordinal"
        else:
            kind = "continuous"
    if kind == "continuous":
        return kind, None, 0, None
    if kind == "binary":
        return kind, 2, 0, None
    if seen.dtype.kind == "f" and not np.isfinite(seen).all():
        raise ValueError(f"{name} contains inf: drop or replace it")
    if kind == "categorical":
        distinct = np.unique(seen)
        if len(distinct) > 10_000:
            raise ValueError(f"{name} has {len(distinct)} distinct values: too many categories; use space='continuous'")
        return kind, len(distinct), 0, tuple(distinct.tolist())
    if a.dtype == np.uint8:
        return kind, 256, 0, None
    low = int(seen.min())
    return kind, int(seen.max()) - low + 1, low, None


def _column(s: pd.Series, name: str, kind: str | None) -> Column:
    """How one column of a DataFrame is read."""
    dtype = str(s.dtype)
    if isinstance(s.dtype, pd.CategoricalDtype):
        return Column(name, "categorical", len(s.cat.categories), 0, tuple(s.cat.categories.tolist()), "category", bool(s.cat.ordered))
    if pd.api.types.is_bool_dtype(s.dtype):
        return Column(name, "binary", 2, 0, None, dtype)
    if not pd.api.types.is_numeric_dtype(s.dtype):
        if pd.api.types.is_datetime64_any_dtype(s.dtype) or pd.api.types.is_timedelta64_dtype(s.dtype):
            raise ValueError(f"column {name!r} holds dates: turn it into numbers (year, day of year, seconds) first")
        seen = s.dropna()
        if len(seen) == 0:
            raise ValueError(f"column {name!r} has no observed value: drop it")
        numeric = pd.to_numeric(seen, errors="coerce")
        if s.dtype == object and bool(numeric.notna().all()) and not seen.map(lambda v: isinstance(v, str)).any():
            return dataclasses.replace(_column(pd.to_numeric(s), name, kind), dtype=dtype)
        try:
            values = tuple(sorted(seen.unique().tolist()))
        except TypeError:
            raise TypeError(f"column {name!r} mixes types ({type(seen.iloc[0]).__name__} and others): argument must be a string or a number") from None
        if len(values) > 1000 and len(values) > len(seen) / 2:
            raise ValueError(f"column {name!r} has {len(values)} different words in {len(seen)} rows (an identifier?): drop it")
        return Column(name, "categorical", len(values), 0, values, dtype)
    a = _numbers(s, name)
    if a.dtype.kind == "f" and np.isinf(a).any():
        raise ValueError(f"column {name!r} contains inf (row {int(np.isinf(a).argmax())}): drop or replace it")
    if a.dtype.kind == "f" and kind is None and np.isnan(a).any():
        seen_ = a[~np.isnan(a)]
        if seen_.size and (seen_ == np.floor(seen_)).all() and np.abs(seen_).max() < 2**53:
            return dataclasses.replace(Column(name, *_kind_of(seen_.astype(np.int64), None, repr(name))), dtype=dtype)
    found, levels, low, values_ = _kind_of(a.astype(np.int64) if a.dtype == np.uint8 else a, kind, f"column {name!r}")
    return Column(name, found, levels, low, values_, dtype)


def _numbers(s: pd.Series, name: str) -> np.ndarray:
    """The numbers of a column, missing ones as NaN."""
    if isinstance(s.dtype, np.dtype) and s.dtype.kind in "fiub":
        return s.to_numpy()
    try:
        a = pd.to_numeric(s).to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as e:
        raise ValueError(f"column {name!r} must hold numbers: {e}") from None
    if isinstance(s.dtype, pd.api.extensions.ExtensionDtype) and pd.api.types.is_integer_dtype(s.dtype) and not np.isnan(a).any():
        return a.astype(np.int64)
    return a


def _restore(codes: np.ndarray, c: Column) -> Any:
    """Codes of one column in the caller's dtype."""
    nan = np.isnan(codes)
    if c.kind == "continuous":
        return pd.array(codes, dtype=c.dtype) if c.dtype not in ("object",) else codes
    whole = np.where(nan, 0, codes).astype(np.int64)
    if c.dtype == "category":
        return pd.Categorical.from_codes(np.where(nan, -1, whole), categories=list(c.values or ()), ordered=c.ordered)
    if c.values is not None:
        out = pd.Series(list(c.values), dtype=object).to_numpy()[whole]
        out[nan] = None
        if nan.any() and c.dtype in ("bool",) or (nan.any() and c.dtype.startswith(("int", "uint"))):
            return pd.Series(out, dtype="float64")
        return pd.Series(out).astype(c.dtype)
    numbers = pd.Series(np.where(nan, np.nan, codes + c.low))
    return numbers if nan.any() and c.dtype.startswith(("int", "uint", "bool")) else numbers.astype(c.dtype)
