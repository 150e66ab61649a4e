"""What a command reads, and where it writes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.cli.words import json_text

if TYPE_CHECKING:
    import pandas as pd

    from genus.model import Model
    from genus.space import Space


def out_path(path: str) -> Path:
    """Where to save a model: the path with its ending .genus, if it can be written."""
    run = Path(path)
    run = run if run.suffix == ".genus" else run.with_name(run.name + ".genus")
    writable(run)
    return run


def writable(path: str | Path) -> None:
    """Say so before the work, not after it, when a file cannot be written."""
    folder = Path(path).resolve().parent
    if Path(path).is_dir():
        raise OSError(f"{path} cannot be written: it is a folder")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(f"{path} cannot be written: {folder} is no folder to write in")


def open_model(path: str) -> Model:
    """The model saved at a path, with or without its ending .genus."""
    import genus

    tried = (Path(path), Path(path + ".genus"))
    for run in tried:
        if run.is_file():
            model: Model = genus.load(run)
            return model
    raise FileNotFoundError(
        f"there is no model {path} or {path}.genus: `genus fit MODEL DATA --out {path}` makes one"
    )


def load_rows(said: Any) -> Any:
    """The rows that a command line names."""
    import genus.data

    source = said.data if "data" in said else said.file
    return genus.data.load(source, binarize=said.binarize)


def rows_for(model: Model, said: Any) -> tuple[Any, Any]:
    """The rows of a file, and, of a table, all that stands in it.

    The latter has the columns that the model does not know, and the empty ones.
    """
    from genus import data

    path = Path(said.file)
    space = model.space_
    names = [c.name for c in space.columns]
    if not _is_text(path):
        return load_rows(said).X, None
    whole = data.read_table(path)
    if not names:
        return _images_of(whole, space, path), None
    absent = [n for n in names if n not in whole.columns]
    if absent:
        raise ValueError(f"{path} lacks the column {absent[0]!r} that the model was fitted on")
    return whole[names], whole


def data_for(model: Model, said: Any) -> Any:
    """The data that a command line names, its lines of text as images where the model has them."""
    import genus.data

    path = Path(said.data)
    if model.space_.columns or not _is_text(path):
        return load_rows(said)
    return genus.data.load(_images_of(genus.data.read_table(path), model.space_, path))


def _is_text(path: Path) -> bool:
    """Does a file hold a table of text?"""
    from genus.data.tables import STDIN, TEXT, kind_of

    return path == STDIN or (path.is_file() and kind_of(path) in TEXT)


def _images_of(table: pd.DataFrame, space: Space, path: Path) -> Any:
    """Lines of a file as images: a column a cell, as ``genus sample`` writes them."""
    if table.shape[1] != space.dim:
        raise ValueError(
            f"{path} has {table.shape[1]} columns, and rows of {space} have {space.dim} cells: "
            f"pass a column a cell, or an .npy file of rows of shape {space.shape}"
        )
    words = [name for name, s in table.items() if s.dtype.kind not in "fiub"]
    if words:
        raise ValueError(f"{path} has words in the column {words[0]!r}: cells are numbers")
    cells = table.to_numpy(dtype=np.float64, na_value=np.nan)
    return space.rows(cells.reshape(len(cells), *space.cell_shape))


def part_of(rows: Any, name: str) -> Any:
    """One part of the rows: ``train``, ``valid`` or ``test``."""
    part = getattr(rows, name)
    return getattr(part, "X", part)


def labels_of(rows: Any) -> Any:
    """The labels of the training rows, or None."""
    return getattr(rows.train, "y", None)


def needs(model: Model, verb: str) -> None:
    """Raise where the model lacks a verb."""
    if not hasattr(model, verb):
        from genus.model import CapabilityError

        raise CapabilityError(
            f"{type(model).__name__} has no {verb}: `genus models` lists other families"
        )


def hand_over(X: Any, model: Model, said: Any) -> None:
    """Rows to --out, or as CSV (or JSON) to stdout."""
    from genus.report.writing import json_records, text_table, write_rows

    if said.out:
        write_rows(said.out, X, model.space_)
        facts = json_text({"out": said.out, "rows": len(X)})
        print(facts if said.json else f"{len(X)} rows in {said.out}")
        return
    table = text_table(X, model.space_)
    if said.json:
        print(json_records(table))
    else:
        table.to_csv(sys.stdout, index=False)
