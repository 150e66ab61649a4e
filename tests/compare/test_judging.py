"""Models are fitted and judged alike; what fails or is interrupted keeps its row."""

import math
import time

import pytest
import torch

from comparing import Toy, X, few, none
from genus.compare.run import compare

MISCHIEF = ("", "broken", "unscored", "warns", "nan")


@pytest.fixture(scope="module")
def table():
    return compare({m or "toy": Toy(m) for m in MISCHIEF}, X, **few)


def test_models_are_cloned_seeded_and_fitted_ones_used_as_they_are():
    mine = Toy()
    seeded = Toy(random_state=7)
    ready = Toy(random_state=5).fit(X[:10])
    mean = ready.mean_.clone()
    out = compare(
        [("mine", mine), ("seeded", seeded), ("ready", ready)], X, samples=0, random_state=3
    )
    assert not hasattr(mine, "mean_") and out["mine"].model is not mine
    assert out["mine"].model.random_state == 3 and mine.random_state is None
    assert out["seeded"].model.random_state == 7
    assert (
        out["ready"].model is ready
        and torch.equal(ready.mean_, mean)
        and math.isnan(out["ready"].fit_seconds)
    )


class Endless(Toy):
    """EM that never ends by itself."""

    def statistics(self, x):
        time.sleep(0.02)
        self.at = getattr(self, "at", 0.0) + 1.0
        return {
            "weight": torch.tensor(float(len(x))),
            "log_likelihood": torch.tensor(self.at * len(x)),
            "mean": x.double().sum(0),
        }

    def maximise(self, sums):
        self.mean_ = sums["mean"] / sums["weight"]

    def learn(self, data):
        from genus.learn.sums import solve

        solve(self, data, max_iter=10_000, tol=1e-9)


def test_the_budget_is_kept_by_each_fit():
    t = compare([Endless()], X, budget="0.5s", **none)
    assert 0.4 < t["Endless"].fit_seconds < 2
    assert t["Endless"].likelihood.nats > -10 and len(t["Endless"].history) > 2
    assert t.settings["budget"] == 0.5


@pytest.mark.parametrize("mode", ["interrupted", "stopped"])
def test_ctrl_c_keeps_what_is_done(mode):
    t = compare([("first", Toy()), ("second", Toy(mode)), ("third", Toy())], X, **none)
    assert t["first"].likelihood is not None
    assert (t["second"].error is None) == (mode == "stopped")
    assert t["third"].error == "not run: interrupted" == t["Gaussian"].error


def test_progress_is_told_to_a_function():
    lines = []
    compare([Toy("broken")], X, progress=lines.append, **none)
    assert (
        any("Toy (1 of 3)" in s for s in lines)
        and any("failed" in s for s in lines)
        and any("nats" in s for s in lines)
    )
