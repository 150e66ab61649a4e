"""What one observation looks like, and the way in and out of tensors.

A row enters as the caller's array, table, tensor, dataset or dict of arrays and becomes a tensor of
*codes* of shape (n, *space.cell_shape): the value itself for continuous cells, 0 … levels − 1 for
discrete ones, NaN for a missing one. Images are channel-first inside, whatever they are outside.
Samples leave by the same door, in the caller's own type.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
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
    as_labels,
    check_shape,
    codes_of,
    column_codes,
    column_of,
    infer,
    layout_of,
    numbers_of,
    seen_in,
    series_of,
    values_of,
)
from genus.sources import OnDisk, look_at


@dataclass(frozen=True, repr=False)
class Space:
    """What one observation looks like; ``Space.of(X)`` infers all of it.

    Parameters
    ----------
    shape : tuple of ints
        The shape of one row: ``(d,)``, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``.
    kind : {"binary", "ordinal", "integer", "categorical", "continuous", "table"}
        {0, 1}; whole numbers low … low + levels − 1, as pixels are; whole
        numbers of which only some were seen; one of ``values``; real numbers;
        or a kind per column. By default continuous.
    levels : int or None, default=None
        How many values a discrete coordinate can take; of integers, how many
        lie between the ends that were seen.
    low : int, default=0
        The smallest ordinal value (the one coded 0).
    values : tuple or None, default=None
        The caller's value of each categorical code.
    layout : {"HW", "CHW", "HWC"} or None, default=None
        Of images.
    columns : tuple of Column, default=()
        For tables, one :class:`Column` each.
    container : str, default="numpy"
        What the caller's rows came in, and samples go out in.
    dtype : str, default="float64"
        Of the caller's rows, in numpy's words.
    parts : tuple of pairs (str, Space), default=()
        For dicts of arrays, the name and the space of each; their cells lie side by side.
    planes : bool, default=True
        False for models of an old file, which took (H, W, C) images as if they were (C, H, W),
        and images that are conditions as rows of numbers.

    Examples
    --------
    >>> import pandas as pd, genus
    >>> X = pd.DataFrame({"size": [1.5, 2.5, 0.5], "colour": ["red", "blue", "red"]})
    >>> genus.Space.of(X).kinds
    ('continuous', 'categorical')
    >>> str(genus.data.load("digits").space)
    '8×8 ordinal, 17 levels'
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
    parts: tuple[tuple[str, Space], ...] = ()
    planes: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(s) for s in self.shape))
        if self.kind not in (*KINDS, "table"):
            raise ValueError(
                f"space kind {self.kind!r} is unknown: choose one of {', '.join(KINDS)} or table"
            )
        if self.kind == "binary":
            object.__setattr__(self, "levels", 2)
        if self.kind == "continuous" and not self.dtype.startswith("float"):
            object.__setattr__(self, "dtype", "float64")  # draws are not whole numbers
        if self.kind == "categorical" and self.values is None and self.levels:
            object.__setattr__(self, "values", tuple(range(self.levels)))
        if self.kind == "categorical" and self.values is not None:
            object.__setattr__(self, "values", tuple(self.values))
            object.__setattr__(self, "levels", len(self.values))
        ordered = ("ordinal", "integer", "categorical")
        if self.kind in ordered and not (self.levels and self.levels >= 1):
            raise ValueError(
                f"a Space of kind {self.kind!r} needs levels=, the number of values a cell can take"
            )
        if self.layout is not None and (
            self.layout not in ("HW", "CHW", "HWC") or len(self.layout) != len(self.shape)
        ):
            raise ValueError(
                f"layout {self.layout!r} does not fit the shape "
                f"{self.shape}: use 'HW', 'CHW' or 'HWC'"
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
    def discrete(self) -> tuple[bool, ...]:
        """True where a coordinate is discrete."""
        return tuple(levels > 0 for levels in self.cardinality)

    def bounds(self, j: int) -> tuple[float | None, float | None]:
        """The smallest and largest code that cell j can have; None: there is no such end."""
        c = self._column(j)
        if c.kind in ("integer", "continuous"):
            low, high = c.bounds
            return (
                None if low is None else low - c.low,
                None if high is None else high - c.low,
            )
        return 0.0, float((c.levels or 1) - 1)

    def atoms(self, j: int) -> tuple[float, ...]:
        """The real numbers of cell j that have mass of their own."""
        return self._column(j).atoms

    def value_of(self, j: int, code: float) -> str:
        """A code of cell j as the caller wrote it."""
        c = self._column(j)
        if c.kind == "continuous" or not math.isfinite(code):
            return repr(code)
        if c.values is not None and 0 <= code < len(c.values):
            return repr(c.values[int(code)])
        return repr(int(code) + c.low)

    def decimals(self, j: int) -> int | None:
        """The places that all values of cell j have; None: there is no such number."""
        return self._column(j).decimals

    @property
    def open(self) -> tuple[bool, ...]:
        """True where a cell holds words, of which new ones may come."""
        if self.columns:
            return tuple(c.open for c in self.columns)
        return (False,) * self.dim

    def _column(self, j: int) -> Column:
        return self.columns[j] if self.columns else self._cell

    @property
    def measure(self) -> str:
        """``probability`` when all cells are discrete, ``density`` when none is, else ``mixed``.

        A real number that has mass of its own makes its column one of both sorts.
        """
        if all(self.discrete):
            return "probability"
        mass = any(self.discrete) or any(c.atoms for c in self.columns)
        return "mixed" if mass else "density"

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
        """A name for every cell of a row, in the order of :meth:`cells`."""
        if self.columns:
            return [str(c.name) for c in self.columns]
        order = self.cells(np.arange(self.dim).reshape(self.shape)).reshape(-1)
        return [self._place(j) for j in order.tolist()]

    def _place(self, j: int) -> str:
        """What cell j of the caller's flattened row is called."""
        if len(self.shape) == 1:
            return f"column {j}"
        return f"cell {tuple(int(i) for i in np.unravel_index(j, self.shape))}"

    # ------------------------------------------------------------------ shape

    @property
    def cell_shape(self) -> tuple[int, ...]:
        """The shape of a row of codes: (C, H, W) for images with channels, else ``shape``."""
        if self._turned:
            h, w, c = self.shape
            return (c, h, w)
        return self.shape

    @property
    def _turned(self) -> bool:
        """Do cells lie in another order inside?"""
        return self.layout == "HWC" and self.planes

    def cells(self, rows: Any) -> Any:
        """Rows (…, *shape) as cells (…, *cell_shape), channel-first: an array or a tensor."""
        if not self._turned:
            return rows
        return rows.movedim(-1, -3) if isinstance(rows, Tensor) else np.moveaxis(rows, -1, -3)

    def rows(self, cells: Any) -> Any:
        """Cells (…, *cell_shape) as rows (…, *shape): the inverse of :meth:`cells`."""
        if not self._turned:
            return cells
        return cells.movedim(-3, -1) if isinstance(cells, Tensor) else np.moveaxis(cells, -3, -1)

    def cell_at(self, j: int) -> int:
        """The number of the cell at place j of a caller's flattened row."""
        if not self._turned:
            return j
        return int(self.rows(np.arange(self.dim).reshape(self.cell_shape)).reshape(-1)[j])

    def flat(self) -> Space:
        """The cells of all parts of a dict as columns of one table."""
        return dataclasses.replace(self, container="pandas", parts=())

    def images(self, X: Any) -> np.ndarray:
        """Rows of images as pictures, (n, H, W, C); ValueError where rows are no images."""
        if self.image_shape is None:
            raise ValueError(
                f"rows of {self} are not images: a layout 'HW', 'CHW' or 'HWC' is needed"
            )
        a = as_array(X)
        cells = self.cells(a.reshape(len(a), *self.shape))
        return np.moveaxis(cells.reshape(len(a), *self.image_shape), 1, -1)

    def __str__(self) -> str:
        what = "×".join(map(str, self.shape))
        if self.kind == "table":
            counts = {k: self.kinds.count(k) for k in KINDS if k in self.kinds}
            return f"table of {what} columns: " + ", ".join(f"{n} {k}" for k, n in counts.items())
        counted = self.kind in ("ordinal", "categorical")
        return f"{what} {self.kind}" + (f", {self.levels} levels" if counted else "")

    def __repr__(self) -> str:
        return f"Space: {self}" + "".join(f"\n  {line}" for line in self.describe())

    def describe(self) -> list[str]:
        """A line for every column of a table: what it was taken for, and why."""
        return [f"{c.name}: {c.kind}{_details(c)}" for c in self.columns]

    # ------------------------------------------------------------------ inference

    @classmethod
    def of(cls, X: Any, space: Space | str | dict[Any, str] | None = None) -> Space:
        """Infer the space of X; ``space`` overrides it, as a whole or in its kinds.

        Of arrays: values all in {0, 1} → binary; uint8 → ordinal with 256 levels; other integers →
        ordinal in images, integer elsewhere; float → continuous. DataFrame → table, a kind per
        column by its values: words, categories → categorical; {0, 1} and Booleans → binary; whole
        numbers, whatever dtype holds them, and days → integer; the rest → continuous. dict of
        arrays → a table of the cells of all parts. A kind's name goes to all columns of numbers, a
        dict {column: kind} to some.
        Raises ValueError or TypeError that names the column.
        """
        if isinstance(space, str) and space not in KINDS:
            raise ValueError(
                f"space={space!r} is unknown: pass a Space or one of {', '.join(KINDS)}"
            )
        own, X = own_space(X), unwrap(X)
        if own is not None and (space is None or space == own.kind):
            return own
        loaded = isinstance(X, torch.utils.data.Dataset | OnDisk)
        X = look_at(X)
        if isinstance(space, dict) and not isinstance(X, pd.DataFrame):
            raise ValueError("space is a dict of kinds by column: it needs X to be a DataFrame")
        kind = space if isinstance(space, str) else None
        if has_parts(X):
            return space if isinstance(space, Space) else cls._of_parts(X, kind)
        if isinstance(X, pd.DataFrame | pd.Series):
            if isinstance(space, Space):
                return dataclasses.replace(space, container="pandas")
            frame = as_frame(X)
            kinds = dict.fromkeys(frame.columns, space) if isinstance(space, str) else space or {}
            for name in kinds:
                if name not in frame.columns:
                    raise ValueError(f"space names a column {name!r} that X has not")
            columns = tuple(
                column_of(frame.iloc[:, j], name, kinds.get(name))
                for j, name in enumerate(frame.columns)
            )
            return cls((len(columns),), "table", columns=columns, container="pandas")
        a = as_array(X)
        container = "torch" if isinstance(X, Tensor) or loaded else "numpy"
        if isinstance(space, Space):
            return dataclasses.replace(space, container=container, dtype=str(a.dtype))
        check_shape(a.shape)
        seen = seen_in(X, a)
        if seen.size == 0:
            raise ValueError("X has no observed value, only masked ones: drop it")
        c = infer(seen, kind, "X")
        if c.kind == "integer" and a.ndim > 2 and kind is None:  # grey levels
            c = dataclasses.replace(c, kind="ordinal")
        layout = own.layout if own is not None else layout_of(a.shape, c.kind)
        return cls(
            a.shape[1:], c.kind, c.levels, c.low, c.values, layout, (), container, str(seen.dtype)
        )

    @classmethod
    def of_labels(cls, values: Any) -> Space:
        """The space of conditions or targets: few distinct whole numbers are categories.

        No category may come that was not seen.
        """
        if has_parts(values):
            return cls._of_parts(values, None, cls.of_labels)
        rows = column_vector(look_at(unwrap(values)))
        space = cls.of(rows)
        if isinstance(rows, pd.DataFrame):
            columns = tuple(
                as_labels(c, numbers_of(s, c.name, c.dtype, local=True))
                if c.kind == "integer"
                else c
                for c, (_, s) in zip(space.columns, rows.items(), strict=True)
            )
            strict = tuple(dataclasses.replace(c, open=False) for c in columns)
            return dataclasses.replace(space, columns=strict)
        whole = space.kind == "integer" or (space.kind == "ordinal" and space.dtype != "uint8")
        if own_space(values) is not None or not whole:
            return space
        c = as_labels(space._cell, as_array(rows))
        return dataclasses.replace(space, kind=c.kind, levels=c.levels, low=c.low, values=c.values)

    @classmethod
    def _of_parts(
        cls, X: dict[str, Any], kind: str | None, of: Callable[..., Space] | None = None
    ) -> Space:
        """The space of a dict of arrays: the cells of all parts side by side; ``of`` infers one."""
        if not X:
            raise ValueError("X is an empty dict: at least one part is needed")
        parts: list[tuple[str, Space]] = []
        columns: list[Column] = []
        for name, values in X.items():
            if values is None:
                raise ValueError(f"part {name!r} of X is None: fit needs to see every part")
            with _about_part(name):
                rows = column_vector(values)
                part = cls.of(rows, kind) if of is None else of(rows)
            if np.ndim(values) == 1:
                part = dataclasses.replace(part, container="vector")
            parts.append((str(name), part))
            cells = part.columns or (part._cell,) * part.dim
            places = part.names()
            one = len(places) == 1
            columns += [
                dataclasses.replace(c, name=str(name) if one else f"{name}: {place}")
                for c, place in zip(cells, places, strict=True)
            ]
        return cls(
            (len(columns),),
            "table",
            columns=tuple(columns),
            container="dict",
            parts=tuple(parts),
        )

    # ------------------------------------------------------------------ the way in

    def encode(self, X: Any, *, missing: bool = True, fractional: bool = False) -> Tensor:
        """The codes of X, (n, *cell_shape), copied: uint8 where all are small integers, else float.

        ``missing=False`` refuses NaN. ``fractional=True`` lets a binary space take probabilities in
        [0, 1] (grey pixels, drawn afresh each time a batch is read in training). Raises ValueError
        or TypeError that names the column and the row.
        """
        X = unwrap(X)
        if self.parts:
            return self._part_codes(X, missing)
        if self.columns:
            codes = self._table_codes(X)
        else:
            if isinstance(X, pd.DataFrame | pd.Series):
                X = np.stack([numbers_of(s, name) for name, s in as_frame(X).items()], axis=1)
            a = as_array(X)
            check_shape(a.shape)
            if a.shape[1:] != self.shape:
                raise ValueError(
                    f"X has rows of shape {a.shape[1:]}, "
                    f"but the model was fitted on rows of shape {self.shape}"
                )
            codes = codes_of(a, self._cell, self._place, fractional)
            codes = np.ascontiguousarray(self.cells(codes))
        if not missing and codes.dtype.kind == "f" and np.isnan(codes).any():
            row, *_ = np.argwhere(np.isnan(codes))[0]
            name = self.names()[int(np.isnan(codes[row].reshape(-1)).argmax())]
            raise ValueError(
                f"X contains NaN in {name} (row {row}): this model takes no missing values; "
                "drop or fill those rows, or use one that does (GaussianMixture, VAE)"
            )
        return torch.from_numpy(codes)

    def _part_codes(self, X: Any, missing: bool) -> Tensor:
        """Codes of a dict of arrays; a part that is not there is missing cells."""
        if not has_parts(X):
            names = ", ".join(repr(name) for name, _ in self.parts)
            raise TypeError(f"X must be a dict of arrays, as in fit, with the parts {names}")
        known = [name for name, _ in self.parts]
        for name in X:
            if name not in known:
                raise ValueError(f"X has a part {name!r} that fit did not see: it saw {known}")
        seen: dict[str, Any] = {}
        for name, values in X.items():
            if values is not None:
                with _about_part(name):
                    seen[name] = column_vector(values)
        if not seen:
            raise ValueError(f"X has none of the parts {known}: at least one is needed")
        sizes = {name: len(v) for name, v in seen.items()}
        n = next(iter(sizes.values()))
        for name, size in sizes.items():
            if size != n:
                raise ValueError(
                    f"part {name!r} of X has {size} rows, {next(iter(sizes))!r} has {n}"
                )
        blocks: list[Tensor] = []
        for name, part in self.parts:
            if name in seen:
                with _about_part(name):
                    blocks.append(part.encode(seen[name], missing=missing).flatten(1))
            elif missing:
                blocks.append(torch.full((n, part.dim), torch.nan))
            else:
                raise ValueError(
                    f"X lacks the part {name!r}: this model takes no missing values; "
                    "pass every part, or use a model that does (VAE)"
                )
        dtype = blocks[0].dtype
        for block in blocks:
            dtype = torch.promote_types(dtype, block.dtype)
        return torch.cat([block.to(dtype) for block in blocks], 1)

    @property
    def _cell(self) -> Column:
        """The column of every cell of an array; counts stay counts."""
        counts = self.kind == "integer" and self.low >= 0
        bounds = (0.0 if counts else None, None)
        return Column("", self.kind, self.levels, self.low, self.values, bounds=bounds)

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
        """Codes (…, *cell_shape) back to the caller's type.

        An ndarray, a tensor, a DataFrame (a list of them for 3-D codes), or a dict of those.
        """
        x = x.detach().cpu()
        if self.parts:
            return {name: part.decode(block) for name, part, block in self._blocks(x)}
        if not self.columns:
            a = values_of(
                self.rows(x.reshape(*self._leading(x), *self.cell_shape)).numpy(),
                self._cell,
                self.dtype,
            )
            if self.container == "vector":
                return a[..., 0]
            return torch.from_numpy(a) if self.container == "torch" else a
        codes = x.double().reshape(-1, self.dim).numpy()
        frame = pd.concat([series_of(codes[:, j], c) for j, c in enumerate(self.columns)], axis=1)
        frame.columns = pd.Index([c.name for c in self.columns])
        if self.container != "pandas":
            a = frame.to_numpy().reshape(x.shape)
            if self.container == "vector":
                return a[..., 0]
            return torch.from_numpy(a) if self.container == "torch" else a
        size = x.shape[-2]
        parts = [
            frame.iloc[i : i + size].reset_index(drop=True) for i in range(0, len(frame), size)
        ]
        return frame if x.dim() == 2 else parts

    def means(self, x: Tensor) -> Any:
        """Expected codes in the caller's units.

        Cells of arrays of binary or ordinal kind may lie between levels; else as :meth:`decode`.
        """
        if self.parts:
            x = x.detach().cpu()
            return {name: part.means(block) for name, part, block in self._blocks(x)}
        if self.columns or self.kind not in ("binary", "ordinal", "integer"):
            return self.decode(x)
        x = self.rows(x.reshape(*self._leading(x), *self.cell_shape))
        a = x.detach().cpu().float().numpy() + np.float32(self.low)
        if self.container == "vector":
            return a[..., 0]
        return torch.from_numpy(a) if self.container == "torch" else a

    def _leading(self, x: Tensor) -> tuple[int, ...]:
        """The axes before those of a row, for codes whose cells may be flattened."""
        flat = x.shape[-1] == self.dim and x.shape[-len(self.shape) :] != self.cell_shape
        return tuple(x.shape[:-1] if flat else x.shape[: x.dim() - len(self.shape)])

    def _blocks(self, x: Tensor) -> Iterator[tuple[str, Space, Tensor]]:
        """The codes (…, dim) of each part, (…, *cell_shape)."""
        blocks = x.split([part.dim for _, part in self.parts], -1)
        for (name, part), block in zip(self.parts, blocks, strict=True):
            yield name, part, block.reshape(*block.shape[:-1], *part.cell_shape)

    # ------------------------------------------------------------------ JSON

    def to_json(self) -> dict[str, Any]:
        """Plain JSON of the space."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, d: dict[str, Any]) -> Space:
        """The space of :meth:`to_json`."""

        def listed(values: Any) -> Any:
            return None if values is None else tuple(values)

        def column(c: dict[str, Any]) -> Column:
            several: dict[str, Any] = {
                k: listed(c[k]) for k in ("values", "bounds", "atoms") if k in c
            }
            return Column(**(c | several))

        columns = tuple(column(c) for c in d["columns"])
        parts = tuple((name, cls.from_json(part)) for name, part in d.get("parts", ()))
        return cls(**{**d, "columns": columns, "values": listed(d["values"]), "parts": parts})


def _details(c: Column) -> str:
    """What else is known of a column, in words."""
    said = []
    if c.kind == "categorical":
        said.append(f"{c.levels} categories" + (", others may come" if c.open else ""))
    if c.kind == "integer":
        said.append(f"{c.low} … {c.low + (c.levels or 1) - 1} seen")
    if c.kind == "ordinal":
        said.append(f"{c.low} … {c.low + (c.levels or 1) - 1}, no others")
    low, high = c.bounds
    if low is not None:
        said.append(f"not below {low:g}")
    if high is not None:
        said.append(f"not above {high:g}")
    if c.atoms:
        shown = ", ".join(f"{a:g}" for a in c.atoms[:3])
        said.append(f"with mass at {shown}{' …' if len(c.atoms) > 3 else ''}")
    if c.decimals is not None:
        said.append(f"{c.decimals} decimals")
    return f" ({'; '.join(said)})" if said else ""


@contextlib.contextmanager
def _about_part(name: str) -> Iterator[None]:
    """Errors name the part of a dict that they are about."""
    try:
        yield
    except (ValueError, TypeError) as e:
        raise type(e)(f"part {name!r} of X: {e}") from None


def own_space(X: Any) -> Space | None:
    """The space that a ``genus.data`` set carries with it."""
    space = getattr(X, "space", None)
    return space if isinstance(space, Space) else None


def unwrap(X: Any) -> Any:
    """The rows of a ``genus.data`` set; anything else as it is."""
    return X.X if own_space(X) is not None else X


def has_parts(X: Any) -> bool:
    """Is X a dict of arrays? (Some sparse matrices are dicts as well.)"""
    return isinstance(X, dict) and not hasattr(X, "toarray")


def column_vector(values: Any) -> Any:
    """Conditions or parts as rows: a vector of labels becomes one column."""
    if isinstance(values, Tensor):
        return values.reshape(-1, 1) if values.dim() == 1 else values
    if hasattr(values, "columns") or isinstance(
        values, dict | torch.utils.data.Dataset | np.memmap
    ):
        return values
    masked = isinstance(values, np.ma.MaskedArray)
    a = as_array(values, strings=True) if masked else np.asarray(values)
    if a.ndim == 0:
        raise ValueError(f"X is the one value {values!r}: pass an array, with one a row")
    a = a.reshape(-1, 1) if a.ndim == 1 else a
    if a.dtype.kind in "OUS":  # words
        return pd.DataFrame(a, columns=[f"given {j}" for j in range(a.shape[1])])
    return a
