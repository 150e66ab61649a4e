"""Hidden and swapped cells: what they are, and who does well on them."""

from __future__ import annotations

import math
import re
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from comparing import few, none
from genus import Gaussian, Independent, Space
from genus.compare import uses
from genus.compare.run import compare
from genus.compare.uses import UseTest, swapped

RNG = np.random.default_rng(0)
A = RNG.normal(size=600)
FRAME = pd.DataFrame(
    {
        "a": A,
        "b": A + 0.2 * RNG.normal(size=600),
        "c": RNG.normal(size=600),
        "d": 2 * A + 0.2 * RNG.normal(size=600),
        "word": np.where(A > 0, "high", "low"),
    }
)


@pytest.fixture(scope="module")
def table() -> Any:
    return compare([Gaussian()], FRAME, **few)


def test_cells_are_swapped_within_their_column_and_in_a_share_of_the_rows() -> None:
    x = np.arange(1000.0)[:, None] + np.arange(12) * 10_000
    out = swapped(x, 0.1, np.random.RandomState(0))
    changed = out != x
    assert changed.any(1).sum() == 100 and 1 < changed.sum(1).max() == 2
    assert (out // 10_000 == np.arange(12)).all()
    assert (x == np.arange(1000.0)[:, None] + np.arange(12) * 10_000).all()


def test_rows_that_a_swap_did_not_change_count_as_they_are() -> None:
    x = np.zeros((100, 3))
    x[:4] = RNG.normal(size=(4, 3))
    test = UseTest(Space((3,)), x, x)
    assert 0 < len(test.outside) < 10
    with pytest.raises(ValueError, match="alike"):
        UseTest(Space((3,)), x[4:], x[4:])
    for held, space in ((x[:, :1], Space((1,))), (x[:5], Space((3,)))):
        with pytest.raises(ValueError, match="two columns and ten test rows"):
            UseTest(space, held, held)


def test_who_knows_how_columns_go_together_does_well(table: Any) -> None:
    found, base = table["Gaussian"].numbers(), table["Independent"].numbers()
    assert found["filled_rmse"] < 0.75 < 0.85 < base["filled_rmse"]
    assert found["filled_accuracy"] > 0.8 > base["filled_accuracy"]
    assert 0.8 < found["filled_coverage"] < 0.97
    assert found["swapped_auroc"] > 0.85 > base["swapped_auroc"]
    assert 0 < found["swapped_auroc_stderr"] < 0.2


def test_the_terminal_shows_it(table: Any) -> None:
    text = str(table)
    for part in ("error in sd", "right", "covers", "AUROC", "Hidden cells: 20 %", "swapped cells"):
        assert part in text
    assert f"{table['Gaussian'].completion.rmse:.3f}" in text
    assert "numbers (error in sd)" in table._repr_html_()


def test_images_and_bare_likelihoods_are_not_judged_so() -> None:
    images = np.random.RandomState(0).randint(0, 5, (60, 3, 3)).astype(np.uint8)
    for out in (compare([Gaussian()], images, **few), compare([Gaussian()], FRAME, **none)):
        assert not out.of_use and "Hidden cells" not in str(out)
        assert "numbers (error in sd)" not in out.table()[0]
        assert math.isnan(out["Gaussian"].numbers()["filled_rmse"])


def test_few_test_rows_are_told() -> None:
    out = compare([Gaussian()], FRAME[:40], **few)
    assert not out.of_use and any("ten test rows" in note for note in out.notes)


def test_missing_cells_are_no_obstacle() -> None:
    out = compare([Gaussian()], FRAME.mask(RNG.random(FRAME.shape) < 0.1), **few)
    assert out["Gaussian"].completion.rmse < 0.8 and out["Gaussian"].outliers.auroc > 0.7


def test_processes_judge_alike(table: Any) -> None:
    two = compare([Gaussian()], FRAME, jobs=2, **few)
    assert two["Gaussian"].completion == table["Gaussian"].completion
    assert two["Gaussian"].outliers == table["Gaussian"].outliers


class Slow(Independent):
    """It takes a fiftieth of a second for each row that it fills in."""

    def _complete_many(self, x: torch.Tensor, n: int, rng: Any, given: Any = None) -> torch.Tensor:
        time.sleep(0.02 * len(x))
        return super()._complete_many(x, n, rng, given)


def test_a_model_that_takes_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "SECONDS", 1.0)
    begun = time.perf_counter()
    out = compare([Slow()], FRAME, **few)
    assert time.perf_counter() - begun < 20
    assert out["Slow"].completion is None and out["Slow"].outliers is not None
    (note,) = out["Slow"].notes
    assert re.search(r"it fills in: 10 rows took \d s, and 120 would take about \d+$", note)


class Broken(Independent):
    def _complete(self, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        raise RuntimeError("no way")


def test_what_fails_keeps_the_rest_of_the_row() -> None:
    row = compare([Broken()], FRAME, **few)["Broken"]
    assert row.completion is None and row.outliers is not None
    assert "no cells filled in: RuntimeError: no way" in row.notes
