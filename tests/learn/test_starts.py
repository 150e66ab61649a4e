"""Several starts, of which the best is kept, and the warning where a fit was cut short."""

from __future__ import annotations

import dataclasses
import time
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from genus.learn.fit import Fit, time_limit
from genus.learn.starts import STEPS, TRIALS, best_start, sample_rows, warn_unless_converged
from genus.learn.sums import solve
from toys import EM

X = np.random.default_rng(0).normal(size=(60, 3)) + 2
GOOD = [0.3, 0.9, 0.5]  # what three starts are worth


class Starts(EM):
    """Start number i is worth GOOD[i], and says so in all that it learns."""

    seconds = 0.0
    interrupted_at = -1
    tol = 1e-9

    def learn(self, fit: Fit) -> None:
        self.begun: list[int] = []

        def begin() -> None:
            self.begun.append(len(self.begun))

        def run() -> float:
            i = self.begun[-1] if self.begun else 1
            time.sleep(self.seconds)
            self.means_ = torch.full_like(self.means_, float(i))
            self.history_ = [*self.history_, {"stage": "", "objective": -GOOD[i]}]
            self.n_iter_, self.converged_ = self.n_iter_ + 1 + i, True
            if i == self.interrupted_at:
                self.interrupted_ = True
            return GOOD[i]

        best_start(self, fit, len(GOOD), begin, run)


def test_what_the_best_start_learned_is_kept_whole() -> None:
    model = Starts().fit(X)
    assert model.begun == [0, 1, 2]
    assert model.n_iter_ == 2 and bool((model.means_ == 1).all())
    assert [line["objective"] for line in model.history_] == [-0.9]  # of that start alone


def test_the_likeliest_of_several_trials_goes_on() -> None:
    worth = np.random.default_rng(1).random(TRIALS)

    class Tried(Starts):
        def learn(self, fit: Fit) -> None:
            self.begun, self.steps = [], 0

            def begin() -> None:
                self.begun.append(len(self.begun))
                self.means_ = torch.full_like(self.means_, float(self.begun[-1]))

            def step() -> float:
                self.steps += 1
                return float(worth[self.begun[-1]])

            def run() -> float:
                self.n_iter_, self.converged_ = 1, True
                return 0.0

            best_start(self, fit, 1, begin, run, step)

    model = Tried().fit(X)
    assert len(model.begun) == TRIALS and model.steps == TRIALS * STEPS
    assert bool((model.means_ == float(worth.argmax())).all())


def test_the_rows_of_a_start_are_the_same_in_any_order_repeated_or_weighted() -> None:
    rng = np.random.default_rng(2)
    y = torch.from_numpy(rng.normal(size=(500, 3)))
    w = torch.from_numpy(rng.integers(1, 4, 500).astype(float))
    index, weight, rank = sample_rows(y, w, 50)
    assert len(index) == 50 and bool((weight == 1).all()) and bool((rank.diff() >= 0).all())
    order = torch.from_numpy(rng.permutation(500))
    moved, _, _ = sample_rows(1000 * y[order], w[order], 50)
    assert torch.equal(y[order][moved], y[index])
    again = y.repeat_interleave(w.long(), 0)
    repeated, _, _ = sample_rows(again, torch.ones(len(again), dtype=torch.float64), 50)
    assert torch.equal(again[repeated], y[index])
    index, weight, rank = sample_rows(y, w, 500)
    assert sorted(index.tolist()) == list(range(500)) and torch.equal(weight, w[index])
    y[3] = y[4] = np.nan
    assert len(sample_rows(y, w, 500)[2].unique()) == 499


def test_a_fit_that_goes_on_has_one_start_where_it_is() -> None:
    model = Starts().fit(X)
    model.fit(X, resume=True)
    assert model.begun == []
    assert model.n_iter_ == 4 and len(model.history_) == 2


def test_no_start_sets_out_after_ctrl_c() -> None:
    class Interrupted(Starts):
        interrupted_at = 0

    model = Interrupted().fit(X)
    assert model.begun == [0] and model.interrupted_


def test_starts_share_the_time() -> None:
    class Slow(Starts):
        seconds = 0.2

    with time_limit(0.1):
        assert Slow().fit(X).begun == [0]
    with time_limit(60.0):
        assert Slow().fit(X).begun == [0, 1, 2]


class Cut(EM):
    def __init__(self, tol: float = 1e-12, max_iter: int = 3, random_state: Any = None) -> None:
        super().__init__(2, max_iter, random_state)
        self.tol = tol

    def learn(self, fit: Fit) -> None:
        self.means_ = torch.randn(self.means_.shape, generator=self.rng).double()
        inner = dataclasses.replace(fit)
        self.converged_ = solve(self, inner, max_iter=self.max_iter, tol=self.tol)
        warn_unless_converged(self, "climbing", unit="steps")


def test_a_limit_that_ended_the_fit_is_named() -> None:
    said = "climbing stopped after max_iter=3 steps before tol=1e-12 was met"
    with pytest.warns(ConvergenceWarning, match=said):
        Cut(random_state=0).fit(X)


@pytest.mark.parametrize("settings", [{"tol": 0.0}, {"max_iter": 1}, {"tol": 100.0}])
def test_no_warning_where_none_is_due(settings: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Cut(random_state=0, **settings).fit(X)


def test_time_that_ran_out_is_no_lack_of_iterations() -> None:
    class Slow(Cut):
        def statistics(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            time.sleep(0.05)
            return super().statistics(x)

    with warnings.catch_warnings(), time_limit(0.1):
        warnings.simplefilter("error")
        model = Slow(max_iter=1000, random_state=0).fit(X)
    assert not model.converged_ and model.n_iter_ < 1000
