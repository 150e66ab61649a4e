"""Held-out likelihoods: one number, its error and its kind, and differences on the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genus.likelihood import LogProb


@dataclass(frozen=True)
class Likelihood:
    """A held-out log-likelihood, ready for a table.

    Attributes
    ----------
    nats
        Mean over rows; higher is better.
    stderr
        Its standard error: the spread of the rows, which holds their Monte Carlo error, and that of
        a shared log Z.
    mc_stderr
        The part of it that more computation would remove.
    bits_per_dim, bits_stderr
        −nats / (dims · ln 2), lower is better, and its standard error.
    n
        Rows.
    kind, symbol
        ``exact`` =, ``lower bound`` ≥, ``estimate`` ≈.
    measure
        ``probability``, ``density`` or ``mixed``; numbers of different measures are not comparable.
    detail
        Such as ``k`` or ``ess``.
    """

    nats: float
    stderr: float
    mc_stderr: float
    bits_per_dim: float
    bits_stderr: float
    n: int
    kind: str
    symbol: str
    measure: str
    detail: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.symbol} {self.nats:.2f} ± {self.stderr:.2f}"


def likelihood_summary(log_prob: LogProb) -> Likelihood:
    """The mean of a LogProb with its errors, bits per dimension, kind and measure.

    A row of probability 0 makes the mean −inf and the error nan.

    Source of bits/dim: Theis, van den Oord & Bethge (2016).

    Parameters
    ----------
    log_prob : LogProb
        Of ``model.log_prob(X)``, one value a row.
    """
    bits = np.asarray(log_prob.bits_per_dim, dtype=np.float64)
    n = len(bits)
    dims = float(np.mean(np.maximum(log_prob.dims, 1)))
    with np.errstate(invalid="ignore"):
        own = float(np.var(bits)) / max(n - 1, 1)
        shared = log_prob.shared_stderr / (dims * math.log(2))
        bits_stderr = math.sqrt(own + shared**2)
        return Likelihood(
            nats=log_prob.mean(),
            stderr=log_prob.mean_stderr(),
            mc_stderr=log_prob.monte_carlo_stderr(),
            bits_per_dim=float(np.mean(bits)),
            bits_stderr=bits_stderr,
            n=n,
            kind=log_prob.kind,
            symbol=log_prob.symbol,
            measure=log_prob.measure,
            detail=dict(log_prob.detail),
        )


@dataclass(frozen=True)
class Difference:
    """Mean of a − b over the same rows, in nats, and its standard error."""

    nats: float
    stderr: float

    def __str__(self) -> str:
        return f"{self.nats:+.2f} ± {self.stderr:.2f}"


def paired_difference(a: LogProb, b: LogProb) -> Difference:
    """How much higher a scores than b on the same rows, in nats a row.

        d_i = a_i − b_i,    stderr² = Var(d) / n + the shared log-Z errors of both

    Rows that are hard for both models cancel, so this error is often far below that of either mean.

    Raises
    ------
    ValueError
        When the rows or the measures differ: a density minus a probability means nothing.
    """
    if a.measure != b.measure:
        raise ValueError(f"a {a.measure} and a {b.measure} have no difference: {COMPARABLE}")
    if len(a) != len(b):
        raise ValueError(f"paired differences need the same rows: a has {len(a)}, b has {len(b)}")
    x, y = np.asarray(a.nats, dtype=np.float64), np.asarray(b.nats, dtype=np.float64)
    same = x == y  # also where both are −inf
    d = np.subtract(x, y, where=~same, out=np.zeros_like(x))
    with np.errstate(invalid="ignore"):
        own = float(np.var(d)) / max(len(d) - 1, 1)
        stderr = math.sqrt(own + a.shared_stderr**2 + b.shared_stderr**2)
        return Difference(float(np.mean(d)), stderr)


COMPARABLE = (
    "a density is per unit of the data and may exceed 1, a probability never does. "
    "To compare them, fit both on the same discrete space, where a continuous model adds uniform "
    "noise (dequantises) and bounds a probability; or pass space='continuous' for all, and leave "
    "out the models that cannot serve it"
)
