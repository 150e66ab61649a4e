"""The summary of a LogProb and paired differences."""

import math

import numpy as np
import pytest

from genus import Estimate, Exact, LowerBound
from genus.evaluate import likelihood_summary, paired_difference


def test_summary_of_known_numbers():
    lp = LowerBound(
        np.array([-1.0, -2.0, -3.0]),
        stderr=np.full(3, 0.3),
        dims=2,
        measure="probability",
        detail={"k": 8},
    )
    s = likelihood_summary(lp)
    assert s.nats == pytest.approx(-2)
    assert s.stderr == pytest.approx(1 / math.sqrt(3))  # sd 1 over √n
    assert s.mc_stderr == pytest.approx(0.3 / math.sqrt(3))
    assert s.bits_per_dim == pytest.approx(1 / math.log(2))
    assert s.bits_stderr == pytest.approx(s.stderr / (2 * math.log(2)))
    assert (s.kind, s.symbol, s.measure, s.n, s.detail) == (
        "lower bound",
        "≥",
        "probability",
        3,
        {"k": 8},
    )
    assert str(s) == "≥ -2.00 ± 0.58"


def test_an_error_that_rows_share_does_not_average_out():
    s = likelihood_summary(Estimate(np.full(1000, -5.0), shared_stderr=0.25, dims=4))
    assert s.stderr == s.mc_stderr == pytest.approx(0.25)
    assert s.bits_stderr == pytest.approx(0.25 / (4 * math.log(2)))


def test_impossible_rows_are_told():
    s = likelihood_summary(Exact(np.array([-1.0, -math.inf])))
    assert s.nats == -math.inf and math.isnan(s.stderr)


def test_pairing_removes_what_rows_have_in_common():
    hard = np.random.RandomState(0).randn(500) * 30
    a, b = Exact(hard), Exact(hard - 1 + 0.1 * np.random.RandomState(1).randn(500))
    d = paired_difference(a, b)
    assert d.nats == pytest.approx(1, abs=4 * d.stderr)
    assert d.stderr < 0.01 < likelihood_summary(a).stderr
    back = paired_difference(b, a)
    assert back.nats == pytest.approx(-d.nats) and back.stderr == pytest.approx(d.stderr)


def test_differences_with_impossible_rows_and_shared_errors():
    a = Exact(np.array([-math.inf, -1.0, -2.0]))
    assert paired_difference(a, a).nats == 0
    worse = paired_difference(a, Exact(np.array([-3.0, -1.0, -2.0])))
    assert worse.nats == -math.inf
    shared = paired_difference(
        Estimate(np.zeros(3), shared_stderr=3.0), Estimate(np.zeros(3), shared_stderr=4.0)
    )
    assert shared.stderr == pytest.approx(5)


def test_a_probability_minus_a_density_is_refused():
    with pytest.raises(ValueError, match="no difference.*dequantises"):
        paired_difference(
            Exact(np.zeros(3), measure="probability"), Exact(np.zeros(3), measure="density")
        )
    with pytest.raises(ValueError, match="same rows"):
        paired_difference(Exact(np.zeros(3)), Exact(np.zeros(4)))
