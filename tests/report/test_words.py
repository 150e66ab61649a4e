"""The report in words: the answer, and numbers as a reader wants them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import genus
from genus.compare.table import Comparison
from genus.evaluate import likelihood_summary
from genus.report.words import answer, plus_minus, seconds


def _shifted(comparison: Comparison, by: dict[str, float]) -> Comparison:
    """The comparison with every row's log-probability that of the first, moved by so many nats.

    With small noise.
    """
    base = comparison.rows[0].log_prob
    noise = np.random.default_rng(0).normal(size=(len(by), len(base)))
    rows = []
    for (name, nats), e in zip(by.items(), noise, strict=True):
        log_prob = genus.Exact(base.nats + nats + e, dims=base.dims, measure=base.measure)
        rows.append(
            replace(comparison[name], log_prob=log_prob, likelihood=likelihood_summary(log_prob))
        )
    found = replace(comparison, rows=rows)
    for name, rank in found.rank().items():
        found[name].rank = rank
    found.rows.sort(key=lambda r: (r.rank, -r.likelihood.nats))
    return found


def test_answer_names_the_winner_and_the_margin(digits: Comparison):
    said = " ".join(answer(_shifted(digits, {"VAE": 0.0, "mixture": -5.0, "Gaussian": -9.0})))
    assert "<b>VAE</b> describes these rows best" in said
    margin = re.search(r"([\d.]+) ± ([\d.]+) nats above mixture", said)
    assert margin and abs(float(margin[1]) - 5) < 0.6 and float(margin[2]) < 0.3
    assert "baseline" not in said


def test_answer_calls_level_models_level(digits: Comparison):
    said = " ".join(answer(_shifted(digits, {"VAE": 0.0, "mixture": 0.0, "Gaussian": -9.0})))
    assert "describe these rows equally well" in said and "Gaussian follows" in said


def test_answer_says_who_does_not_beat_a_baseline(digits: Comparison):
    said = " ".join(answer(_shifted(digits, {"Gaussian": 0.0, "VAE": -5.0, "mixture": 3.0})))
    assert "<b>VAE</b> does not beat the baseline Gaussian" in said


def test_answer_never_ranks_a_density_with_a_probability(digits: Comparison):
    found = _shifted(digits, {"VAE": 0.0, "mixture": -5.0})
    density = genus.Exact(found["mixture"].log_prob.nats + 500, dims=64, measure="density")
    rows = [
        found["VAE"],
        replace(found["mixture"], log_prob=density, likelihood=likelihood_summary(density), rank=1),
    ]
    said = " ".join(answer(replace(found, rows=rows)))
    assert "not ranked together" in said and "nats above" not in said


def test_answer_says_what_has_no_likelihood_and_draws_nothing(digits: Comparison):
    mute = replace(digits["VAE"], log_prob=None, likelihood=None, rank=None)
    said = " ".join(answer(replace(digits, rows=[digits["mixture"], mute])))
    assert "only its samples speak for it" in said
    mute = replace(mute, notes=["no sample quality: it draws no codes"])
    said = " ".join(answer(replace(digits, rows=[digits["mixture"], mute])))
    assert "no likelihood, and draws no rows" in said


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-91.886, 0.584, "−91.89 ± 0.58"),
        (-1234.5, 12.3, "−1,234 ± 12"),
        (2.0, 0.0, "2.000 ± 0.000"),
        (-np.inf, np.nan, "−∞"),
    ],
)
def test_plus_minus(value: float, error: float, text: str):
    assert plus_minus(value, error) == text


def test_seconds():
    assert [seconds(s) for s in (0.034, 25.2, 61.0, 3700.0, float("nan"))] == [
        "34 ms",
        "25 s",
        "1 min 1 s",
        "1 h 1 min",
        "—",
    ]
