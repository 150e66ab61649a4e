"""Rows written to files in the format of the file's ending, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genus.coding import as_array
from genus.files import replacing
from genus.space import Space, has_parts

ENDINGS = (".csv", ".json", ".npy", ".npz", ".parquet", ".png")


def write_rows(path: str | Path, X: Any, space: Space) -> None:
    """Rows of a space as a file: a grid of images, a table, JSON or an array.

    ``.png``, ``.csv``, ``.json``, ``.npy``, ``.npz`` or ``.parquet``. Raises ValueError for another
    ending, or for a ``.png`` of rows that are no images.
    """
    path = Path(path)
    check_ending(path, space)
    with replacing(path) as temporary:
        if path.suffix == ".png":
            from genus.report.plots import image_grid

            figure = image_grid(X, space)
            figure.savefig(temporary, dpi=192)
        elif path.suffix == ".npy":
            np.save(temporary, as_array(X, strings=True))
        elif path.suffix == ".npz":
            parts: dict[str, Any] = X if has_parts(X) else {"X": as_array(X, strings=True)}
            np.savez_compressed(temporary, **parts)
        elif path.suffix == ".csv":
            with_decimals(frame(X, space), space).to_csv(temporary, index=False)
        elif path.suffix == ".parquet":
            frame(X, space).to_parquet(temporary)
        else:
            frame(X, space).to_json(
                temporary, orient="records", date_format="iso", double_precision=15
            )


def check_ending(path: str | Path, space: Space) -> None:
    """Raise ValueError when :func:`write_rows` cannot write rows of this space to such a file."""
    ending = Path(path).suffix
    if ending not in ENDINGS:
        raise ValueError(
            f"{path}: the ending says the format, "
            f"and {ending or 'none'!r} is none of {', '.join(ENDINGS)}"
        )
    if ending == ".png" and space.image_shape is None:
        raise ValueError(f"{path}: rows of {space} are no images; write .csv or .npz")


def with_decimals(table: pd.DataFrame, space: Space) -> pd.DataFrame:
    """The table with as many decimals in a column as the data that were fitted had there.

    What has more, as a draw between two of their values, is rounded. Whole numbers have none, also
    where a gap among the rows made their column one of floats.
    """
    table = table.copy()
    for c in space.columns:
        if c.name not in table or table[c.name].dtype.kind != "f":
            continue
        cells = table[c.name]
        whole = cells.isna() | ((cells.mod(1) == 0) & (cells.abs() < 2**53))
        if c.kind == "integer" and bool(whole.all()):
            table[c.name] = cells.astype("Int64")
        elif c.kind == "continuous" and c.decimals is not None:
            table[c.name] = cells.round(c.decimals)
    return table


def frame(X: Any, space: Space) -> pd.DataFrame:
    """Rows as a DataFrame, one column a coordinate."""
    if isinstance(X, pd.DataFrame):
        return X
    if has_parts(X):
        table: pd.DataFrame = space.flat().decode(space.encode(X))
        return table
    a = as_array(X, strings=True)
    cells = space.cells(a.reshape(len(a), *space.shape))
    return pd.DataFrame(cells.reshape(len(a), -1), columns=pd.Index(space.names()))
