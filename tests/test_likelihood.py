"""LogProb: what a number of nats is, and its errors."""

from __future__ import annotations

import math

import numpy as np
import torch

from genus import Estimate, Exact, LowerBound
from genus.likelihood import concatenate


def test_log_prob_says_what_it_is() -> None:
    p = LowerBound(
        np.array([-1.0, -3.0]),
        stderr=np.array([0.1, 0.2]),
        dims=2,
        measure="probability",
        detail={"k": 5, "ess": 3.25},
    )
    assert p.mean() == -2 and len(p) == 2
    assert np.allclose(p.bits_per_dim, [0.5 / math.log(2), 1.5 / math.log(2)])
    assert (
        repr(p)
        == "LowerBound(mean ≥ -2.0000 ± 1.0000 nats, 1.4427 bits/dim, n=2, probability, k=5, "
        "ess=3.25)"
    )
    assert [c.symbol for c in (Exact, LowerBound, Estimate)] == ["=", "≥", "≈"]
    assert [c.kind for c in (Exact, LowerBound, Estimate)] == ["exact", "lower bound", "estimate"]


def test_errors_of_the_mean() -> None:
    p = Estimate(np.array([-1.0, -3.0]), stderr=np.array([0.3, 0.4]), shared_stderr=0.5)
    # var/(n − 1) and log Z's, which does not average out
    assert math.isclose(p.mean_stderr(), math.sqrt(1.0 + 0.25))
    assert math.isclose(p.monte_carlo_stderr(), math.sqrt((0.09 + 0.16) / 4 + 0.25))
    assert Exact(np.array([-1.0, -3.0])).monte_carlo_stderr() == 0


def test_concatenate_keeps_rows_and_weighs_details() -> None:
    a = LowerBound(torch.tensor([-1.0]), torch.tensor([0.1]), 3, detail={"k": 4, "ess": 1.0})
    b = LowerBound(
        torch.tensor([-2.0, -4.0, -5.0]), 0.0, torch.tensor([1, 2, 3]), detail={"k": 4, "ess": 3.0}
    )
    p = concatenate([a, b])
    assert (
        type(p) is LowerBound
        and p.nats.tolist() == [-1, -2, -4, -5]
        and p.dims.tolist() == [3, 1, 2, 3]
    )
    assert np.allclose(p.stderr, [0.1, 0, 0, 0]) and p.detail == {"k": 4, "ess": 2.5}
