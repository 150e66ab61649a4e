"""The time that a fit has."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

import genus
from genus import Trainer
from genus.learn.fit import time_limit
from toys import EM, Stack
from training import Slope, X, slope, within


def test_a_budget_that_is_over_before_the_first_step_is_told() -> None:
    class Late(Slope):
        def start(self, rows: Any) -> None:
            time.sleep(0.2)

    with pytest.warns(UserWarning, match=r"learned nothing: max_time=0.1 was over"):
        Late(trainer=Trainer(max_time=0.1)).fit(X)


def test_max_time_stops_and_ends_the_schedule() -> None:
    class Slow(Slope):
        def losses(self, x: torch.Tensor) -> Any:
            time.sleep(0.005)
            yield from super().losses(x)

    slope(epochs=1)  # the first optimiser of a process imports much
    for fit in (
        lambda: Slow(trainer=Trainer(epochs=10_000, max_time=0.3, schedule="linear")).fit(X),
        lambda: within(0.3, lambda: Slow(trainer=Trainer(epochs=10_000, schedule="linear")).fit(X)),
    ):
        begun = time.perf_counter()
        model = fit()
        assert 0.25 < time.perf_counter() - begun < 2
        assert 5 < model.n_steps_ < 100
        assert model.history_[-1]["lr"] < 0.1 * model.history_[0]["lr"]


def test_a_look_at_held_out_rows_ends_with_the_budget() -> None:
    class Thorough(Slope):
        looks = 0

        def validate(self, x: torch.Tensor) -> float:
            self.looks += 1
            time.sleep(0.1)
            return 0.0

    many = np.zeros((10_000, 3))
    trainer = Trainer(max_time=0.25, validation=0.9, patience=None, epochs=10_000, batch_size=1000)
    begun = time.perf_counter()
    model = Thorough(trainer=trainer).fit(many)
    assert 1 <= model.looks < 9 and time.perf_counter() - begun < 2  # all would be 9
    assert "validation" not in model.history_[-1]


def test_stages_share_the_time() -> None:
    begun = time.perf_counter()
    model = Stack(trainer=Trainer(epochs=100_000, max_time=0.6)).fit(X)
    assert time.perf_counter() - begun < 3
    spent = {
        s: sum(1 for line in model.history_ if line["stage"] == s) for s in ("first", "second")
    }
    assert spent["first"] > 3 and spent["second"] > 3


def test_time_limit_stops_em() -> None:
    class Slow(EM):
        def statistics(self, x: torch.Tensor) -> Any:
            time.sleep(0.02)
            return super().statistics(x)

        def maximise(self, sums: Any) -> None:
            super().maximise(sums)
            self.means_ = self.means_ + 0.01 * torch.randn(self.means_.shape, generator=self.rng)

    with time_limit(0.2):
        model = Slow(max_iter=10_000, random_state=0).fit(X)
    assert 2 < model.n_iter_ < 20 and not model.converged_


@pytest.mark.parametrize(
    "name", ["GaussianMixture", "BayesianGaussianMixture", "CategoricalMixture"]
)
def test_starts_share_one_time_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five starts take no longer than one: each has what the others left of the budget."""
    cls = getattr(genus, name)
    statistics, calls = cls.statistics, 0

    def slow(self: Any, *batch: torch.Tensor) -> Any:
        nonlocal calls
        calls += 1
        time.sleep(0.05)
        return statistics(self, *batch)

    monkeypatch.setattr(cls, "statistics", slow)
    rows = X > 0 if name == "CategoricalMixture" else X
    with time_limit(0.3):
        cls(2, n_init=5, max_iter=10_000, tol=0.0, random_state=0).fit(rows)
    # trials and the choice of shrinkage come first; each start with the whole budget makes 40
    assert 1 <= calls <= 25
