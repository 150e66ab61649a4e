"""Rows written to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import genus
from genus.report.writing import (
    frame,
    json_records,
    text_table,
    with_whole_numbers,
    write_rows,
)

SPACES = {
    "numbers": genus.Space((2,)),
    "image": genus.Space((2, 2), "ordinal", 17, layout="HW"),
}


@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv", ".json", ".parquet"])
def test_rows_read_back_from_every_format(ending: str, tmp_path: Path):
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow to write Parquet")
    X = np.arange(8).reshape(2, 2, 2)
    path = tmp_path / f"x{ending}"
    write_rows(path, X, SPACES["image"])
    read = {
        ".npy": np.load,
        ".npz": lambda p: np.load(p)["X"],
        ".csv": pd.read_csv,
        ".json": pd.read_json,
        ".parquet": pd.read_parquet,
    }[ending](path)
    assert np.array_equal(np.asarray(read).reshape(X.shape), X)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_images_become_a_picture(tmp_path: Path):
    write_rows(tmp_path / "x.png", np.arange(8).reshape(2, 2, 2), SPACES["image"])
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_is_written_as_it_is(tmp_path: Path):
    table = pd.DataFrame({"a": [1.5, 2.5], "word": ["x", "y"]})
    assert frame(table, genus.Space.of(table)) is table
    assert list(frame(np.zeros((2, 2, 2)), SPACES["image"]).columns) == SPACES["image"].names()


@pytest.mark.parametrize(
    ("name", "space", "says"),
    [
        ("x.gif", "image", "'.gif' is none of .csv"),
        ("x", "image", "'none'"),
        ("x.png", "numbers", "no images"),
    ],
)
def test_a_format_that_does_not_suit_is_refused(name: str, space: str, says: str, tmp_path: Path):
    with pytest.raises(ValueError, match=says):
        write_rows(tmp_path / name, np.zeros((2, 2)), SPACES[space])
    assert not list(tmp_path.iterdir())


def test_write_rows_keeps_the_permissions_of_a_new_file(tmp_path: Path):
    write_rows(tmp_path / "x.csv", np.zeros((2, 2)), genus.Space((2,)))
    (tmp_path / "y").write_text("")
    assert (tmp_path / "x.csv").stat().st_mode == (tmp_path / "y").stat().st_mode


def test_whole_numbers_have_no_decimals_where_a_gap_made_them_floats():
    gap = np.nan
    table = pd.DataFrame(
        {"age": [31.0, gap, 45.0], "pay": [1.25, 2.5, gap], "bit": [gap, 1.0, 0.0], "n": 3 * [2.0]}
    )
    space = genus.Independent().fit(table[["age", "pay", "bit"]]).space_
    told = text_table(table, space)
    assert told.to_csv(index=False).split() == [
        "age,pay,bit,n",
        "31,1.25,,2.0",
        ",2.5,1,2.0",
        "45,,0,2.0",
    ]
    assert json_records(told).startswith('[{"age":31,"pay":1.25,"bit":null,"n":2.0}')
    between = table.assign(age=[31.5, 32.0, 33.0], pay=[1.0, gap, 1.123], n=[gap, 7.0, 8.0])
    kept = with_whole_numbers(between, space)
    assert kept["age"].iloc[0] == 31.5 and kept["pay"].iloc[2] == 1.123
    assert kept["n"].dtype == "Int64"  # of a column that the model does not know
    assert text_table(between, space)["pay"].iloc[2] == 1.12
