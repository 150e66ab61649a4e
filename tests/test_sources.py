"""Rows that are read as they are needed: Parquet, memory maps, datasets and loaders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import genus
from genus import Space, sources
from genus.sources import OnDisk, Parquet, chunks_of, is_large, look_at, opened, spread

N = 300


def table() -> pd.DataFrame:
    """Columns whose kind hangs on a single row."""
    r = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "real": r.normal(size=N),
            "nearly_whole": r.integers(0, 9, N).astype(float),
            "nearly_bits": r.integers(0, 2, N),
            "price": r.integers(100, 999, N) / 10,
            "word": r.choice(["a", "b"], N),
            "gap": r.integers(0, 9, N),
            "flag": r.random(N) < 0.5,
            "positive": r.random(N) + 1,
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(r.integers(0, 99, N), "D"),
        }
    )
    X.loc[201, "nearly_whole"] = 2.5
    X.loc[202, "nearly_bits"] = 7
    X.loc[203, "price"] = 20.25
    X.loc[204, "word"] = "seldom"
    X["gap"] = X["gap"].astype("float64")
    X.loc[205, "gap"] = np.nan
    X.loc[206, "positive"] = -1.0
    return X


def written(X: pd.DataFrame, folder: Path, parts: int = 3) -> Path:
    """A folder of Parquet files with the rows of X in order."""
    folder.mkdir(exist_ok=True)
    for i, at in enumerate(np.array_split(np.arange(len(X)), parts)):
        X.iloc[at].to_parquet(folder / f"part-{i}.parquet")
    return folder


def test_a_spread_is_rising_and_from_all_over() -> None:
    assert spread(5, 9).tolist() == [0, 1, 2, 3, 4]
    at = spread(1000, 10)
    assert np.all(np.diff(at) > 0) and (at // 100).tolist() == list(range(10))
    assert spread(1000, 10).tolist() == at.tolist()


def test_the_space_of_many_rows_is_that_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = table()
    monkeypatch.setattr(sources, "LOOKED", 40)
    monkeypatch.setattr(sources, "CHUNK", 50)
    rows = Parquet(written(X, tmp_path))
    assert len(rows.look()) < 150
    there, whole = Space.of(rows), Space.of(X)
    assert there.container == "pandas" and there.shape == whole.shape
    for one, other in zip(there.columns, whole.columns, strict=True):
        assert (one.name, one.kind, one.levels, one.low) == (
            other.name,
            other.kind,
            other.levels,
            other.low,
        )
        assert (one.values, one.dtype, one.decimals) == (other.values, other.dtype, other.decimals)
        assert one.bounds == other.bounds
    assert there.columns[4].values == ("a", "b", "seldom")


def test_the_space_of_a_memory_map_hangs_on_every_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.zeros((500, 2))
    x[400, 1] = 0.5
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr(sources, "LOOKED", 20)
    assert Space.of(mapped).kind == "continuous"
    np.save(tmp_path / "y.npy", np.where(x == 0.5, 9, 0).astype(int))
    whole = np.load(tmp_path / "y.npy", mmap_mode="r")
    assert Space.of(whole).levels == 10 and len(look_at(whole)) <= 22


def test_parquet_is_read_in_chunks_and_parts(tmp_path: Path) -> None:
    X = table()
    rows = Parquet(written(X, tmp_path))
    assert len(rows) == N and rows.nbytes == 8 * N * 9
    assert repr(rows) == f"Parquet({tmp_path.name}: 300 rows, 9 columns)"
    assert max(len(c) for c in rows.chunks(40)) == 40
    pd.testing.assert_frame_equal(rows.read(), X)
    few = rows.part(np.array([250, 3, 99, 100])).part(slice(1, None))
    pd.testing.assert_frame_equal(few.read(), X.iloc[[99, 100, 250]].reset_index(drop=True))
    assert len(rows.some(10)) == 10
    assert Parquet(tmp_path, ["word", "real"]).read().columns.tolist() == ["word", "real"]
    X.set_index("word").to_parquet(tmp_path / "one.parquet")
    assert "word" not in Parquet(tmp_path / "one.parquet").columns


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no .parquet files"):
        Parquet(tmp_path)
    written(table(), tmp_path)
    with pytest.raises(ValueError, match="columns names 'x', which"):
        Parquet(tmp_path, ["x"])
    pd.DataFrame({"other": [1]}).to_parquet(tmp_path / "z.parquet")
    with pytest.raises(ValueError, match="z.parquet has other columns than part-0.parquet"):
        Parquet(tmp_path)
    (tmp_path / "z.parquet").write_text("no")
    with pytest.raises(ValueError, match="z.parquet cannot be read as Parquet"):
        Parquet(tmp_path)
    by_name = tmp_path / "year=2020"
    by_name.mkdir()
    table().to_parquet(by_name / "a.parquet")
    with pytest.raises(ValueError, match="partitioned by the names of its folders"):
        Parquet(tmp_path)
    with pytest.raises(ValueError, match="0 rows"):
        Space.of(Parquet(written(table().iloc[:0], tmp_path / "empty", 1)))


def test_rows_on_disk_widen_and_keep_one_shape() -> None:
    kept = OnDisk.of(iter([np.ones((2, 3), np.uint8), np.full((1, 3), 0.5)]))
    assert kept.shape == (3, 3) and kept.dtype == np.float64
    assert kept[np.array([2, 0])].tolist() == [[0.5] * 3, [1.0] * 3]
    x = np.random.default_rng(0).normal(size=(50, 2, 3)).astype(np.float32)
    many, at = OnDisk.of(iter([x[:20], x[20:]])), np.array([7, 49, 8, 9, 0, 7])
    assert np.array_equal(many[at], x[at]) and np.array_equal(many[12:40], x[12:40])
    assert many[at[:0]].shape == (0, 2, 3) and np.array_equal(many[45:99], x[45:])
    with pytest.raises(ValueError, match="rows of shape"):
        OnDisk.of(iter([np.ones((2, 3)), np.ones((2, 4))]))
    with pytest.raises(ValueError, match="0 rows"):
        OnDisk.of(iter([]))


class Numbers(IterableDataset):
    """Rows that can only be gone through."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.arange(20.0).reshape(10, 2))


def test_loaders_are_gone_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(70, 2, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, torch.zeros(70)), batch_size=30)
    kept = opened(loader)
    assert isinstance(kept, OnDisk) and np.array_equal(kept[:], x.numpy())
    assert opened(x) is x and is_large(loader) and not is_large(x) and chunks_of(x) is None
    memory = genus.Gaussian().fit(x)
    model = genus.Gaussian().fit(loader)
    assert torch.equal(memory.mean_, model.mean_) and model.sample(1).dtype == torch.float32
    assert np.array_equal(model.score_samples(loader), memory.score_samples(x))
    assert model.score(loader) == pytest.approx(memory.score(x))
    assert opened(Numbers())[3:5].tolist() == [[6.0, 7.0], [8.0, 9.0]]
    with pytest.raises(TypeError, match="yields dicts"):
        opened(DataLoader([{"x": 1.0}]))  # type: ignore[arg-type]


def test_scores_of_chunks_are_those_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = table()[["real", "positive"]]
    rows = Parquet(written(X, tmp_path))
    model = genus.Gaussian().fit(X)
    monkeypatch.setattr(sources, "CHUNK", 64)
    assert np.array_equal(model.score_samples(rows), model.score_samples(X))
    X.loc[250, "real"] = np.inf
    with pytest.raises(ValueError, match="inf") as e:
        model.log_prob(Parquet(written(X, tmp_path)))
    assert e.value.__notes__ == ["(row 0 is row 200 of X)"]


@pytest.mark.parametrize("kind", ["one", "array", "frame", "parquet", "dataset"])
def test_conditions_come_in_chunks_too(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = table()
    given: Any = X[["positive"]]
    rows = Parquet(written(X, tmp_path), ["real", "price"])
    quick = genus.Trainer(epochs=1)
    model = genus.MADE(trainer=quick, random_state=0).fit(X[["real", "price"]], given=given)
    there: Any = {
        "one": 1.5,
        "array": given.to_numpy(),
        "frame": given,
        "parquet": Parquet(tmp_path, ["positive"]),
        "dataset": TensorDataset(torch.tensor(given.to_numpy())),
    }[kind]
    monkeypatch.setattr(sources, "CHUNK", 64)
    monkeypatch.setattr(sources, "CELLS", 150)
    expected = model.score_samples(X[["real", "price"]], given=1.5 if kind == "one" else given)
    assert np.allclose(model.score_samples(rows, given=there), expected, atol=1e-6)
    if kind != "one":
        again = genus.MADE(trainer=quick, random_state=0).fit(rows, given=there)
        assert np.allclose(again.score_samples(rows, given=there), expected, atol=1e-5)


def test_verbs_that_need_all_rows_say_so(tmp_path: Path) -> None:
    X = table()[["real", "positive"]]
    rows = Parquet(written(X, tmp_path))
    model = genus.Gaussian().fit(rows)
    for verb in (model.complete, genus.BayesianLinearRegression().fit):
        with pytest.raises(TypeError, match=r"pass X.read\(\), or X.some\(10_000\)"):
            verb(rows, X["real"]) if verb != model.complete else verb(rows)
    with pytest.raises(TypeError, match="X is a DataLoader, and only fit"):
        model.complete(DataLoader(TensorDataset(torch.zeros(3, 2))))
