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
            text_table(X, space).to_csv(temporary, index=False)
        elif path.suffix == ".parquet":
            frame(X, space).to_parquet(temporary)
        else:
            temporary.write_text(json_records(text_table(X, space)), encoding="utf-8")


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


def text_table(X: Any, space: Space) -> pd.DataFrame:
    """Rows as a table to write as text, with decimals as the data that were fitted had them.

    What has more in a column, as a draw between two of their values, is rounded.
    """
    table = with_whole_numbers(frame(X, space), space)
    for c in space.columns:
        if c.kind != "continuous" or c.decimals is None or c.name not in table:
            continue
        if table[c.name].dtype.kind == "f":
            table[c.name] = table[c.name].round(c.decimals)
    return table


def with_whole_numbers(table: pd.DataFrame, space: Space) -> pd.DataFrame:
    """The table with 33 in the place of 33.0 where a gap made a column of whole numbers floats.

    Columns that the space holds as continuous stay as they are, as do those that it does not know,
    unless they have a gap.
    """
    table = table.copy()
    kinds = {c.name: c.kind for c in space.columns}
    for name in table.columns[[dtype.kind == "f" for dtype in table.dtypes]]:
        cells = table[name]
        whole = cells.isna() | ((cells.mod(1) == 0) & (cells.abs() < 2**53))
        known = kinds.get(name, "integer" if bool(cells.isna().any()) else "continuous")
        if known != "continuous" and bool(whole.all()):
            table[name] = cells.astype("Int64")
    return table


def json_records(table: pd.DataFrame) -> str:
    """A table as JSON, an object a row."""
    return table.to_json(orient="records", date_format="iso", double_precision=15)


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
