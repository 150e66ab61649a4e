"""What a command reads, and where it writes."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import genus
from genus.cli.rows import hand_over, needs, open_model, out_path, part_of, rows_for
from genus.report.writing import write_rows


def test_a_run_is_found_with_and_without_its_ending(here: Path):
    assert type(open_model("run")) is type(open_model("run.genus")) is genus.GaussianMixture
    with pytest.raises(FileNotFoundError, match="no model absent or absent.genus.*genus fit"):
        open_model("absent")


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path: Path):
    assert out_path(str(tmp_path / "run")) == tmp_path / "run.genus"
    assert out_path(str(tmp_path / "v1.2")) == tmp_path / "v1.2.genus"
    (tmp_path / "taken.genus").mkdir()
    with pytest.raises(OSError, match="it is a folder"):
        out_path(str(tmp_path / "taken"))
    with pytest.raises(OSError, match="is no folder to write in"):
        out_path(str(tmp_path / "absent" / "run"))


def test_a_table_is_read_by_the_models_columns(here: Path):
    model = genus.load("wine.genus")
    wine = pd.read_csv("wine.csv")
    wine.assign(note="kept")[["note", "colour", "b", "a"]].to_csv("mixed-up.csv", index=False)
    rows, whole = rows_for(model, SimpleNamespace(file="mixed-up.csv", binarize=None))
    assert list(rows.columns) == ["a", "b", "colour"] and list(whole.columns)[0] == "note"
    wine.drop(columns="b").to_csv("short.csv", index=False)
    with pytest.raises(ValueError, match="short.csv lacks the column 'b'"):
        rows_for(model, SimpleNamespace(file="short.csv", binarize=None))


def test_a_verb_that_a_model_lacks_is_named():
    needs(genus.VAE(), "encode")
    with pytest.raises(genus.CapabilityError, match="Independent has no encode"):
        needs(genus.Independent(), "encode")


def test_parts_are_rows_whatever_holds_them():
    X = np.arange(10.0)[:, None]
    data = genus.data.load(X)
    assert np.array_equal(part_of(data, "train"), data.train.X)
    assert part_of(SimpleNamespace(test=X), "test") is X


def test_rows_go_to_the_file_or_to_stdout(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = genus.load("wine.genus")
    X = model.sample(3, random_state=0)
    hand_over(X, model, SimpleNamespace(out=None, json=False))
    assert capsys.readouterr().out.splitlines()[0] == "a,b,colour"
    hand_over(X, model, SimpleNamespace(out=None, json=True))
    assert capsys.readouterr().out.startswith('[{"a":')
    path = str(tmp_path / "x.csv")
    hand_over(X, model, SimpleNamespace(out=path, json=False))
    assert capsys.readouterr().out == f"3 rows in {path}\n"
    pd.testing.assert_frame_equal(pd.read_csv(path), X, check_dtype=False)


def test_flat_files_hold_images(here: Path, run):
    """What ``sample`` writes, ``score`` and ``complete`` read, also where half is empty."""
    run("sample", "run", "-n", 3, "--out", "drawn.csv")
    drawn = pd.read_csv("drawn.csv")
    assert drawn.shape == (3, 64)
    scores = pd.read_csv(io.StringIO(run("score", "run", "drawn.csv")[0]))
    assert len(scores) == 3 and np.isfinite(scores.iloc[:, -1]).all()
    half = drawn.astype(float)
    half.iloc[:, 32:] = np.nan
    half.to_csv("half.csv", index=False)
    run("complete", "run", "half.csv", "--out", "whole.csv")
    whole = pd.read_csv("whole.csv")
    assert (whole.iloc[:, :32] == drawn.iloc[:, :32]).all(axis=None) and not whole.isna().any(
        axis=None
    )
    more = pd.concat([drawn] * 20)
    more.to_csv("more.csv", index=False)
    assert "held-out rows" in run("evaluate", "run", "more.csv", "--samples", 10)[0]
    drawn.iloc[:, :-1].to_csv("narrow.csv", index=False)
    assert "63 columns, and rows of 8×8" in run("score", "run", "narrow.csv", code=1)[1]


def test_flat_files_keep_the_layout_of_images(tmp_path: Path):
    colour = np.random.default_rng(0).integers(0, 3, (20, 2, 4, 3))
    space = genus.Space((2, 4, 3), "ordinal", 3, layout="HWC")
    write_rows(tmp_path / "rows.csv", colour, space)
    model = genus.Independent().fit(colour, space=space)
    said = SimpleNamespace(file=str(tmp_path / "rows.csv"), binarize=None)
    assert np.array_equal(rows_for(model, said)[0], colour)
