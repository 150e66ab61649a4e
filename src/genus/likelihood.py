"""What ``log_prob`` returns: a number that says what kind of number it is.

``Exact`` is log p(x). ``LowerBound`` is a number that is ≤ log p(x) in expectation (ELBO,
importance weighted bound, dequantisation). ``Estimate`` involves a Monte Carlo
log-partition, or the steps of an ODE, and may err on either side. All are natural logarithms
(nats) in the units of the data the caller passed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LogProb:
    """Log-probability of each row, in nats; higher is better.

    It is one of :class:`genus.Exact`, :class:`genus.LowerBound` and :class:`genus.Estimate`.

    Parameters
    ----------
    nats : array
        (n,) one value a row.
    stderr : float or array, default=0.0
        (n,) Monte Carlo standard error of each, independent between rows; 0 when exact.
    dims : int or array, default=1
        (n,) number of observed coordinates behind each value, for bits per dimension.
    measure : {"probability", "density", "mixed"}, default="density"
        Only numbers of the same measure may be compared.
    shared_stderr : float, default=0.0
        Standard error of a term that all rows share (log Z); it does not average out.
    detail : dict
        What a reader needs to trust it, such as ``k`` or ``ess``.

    Examples
    --------
    >>> import numpy as np, genus
    >>> p = genus.Gaussian().fit(np.random.default_rng(0).normal(size=(100, 2))).log_prob([[0, 0]])
    >>> isinstance(p, genus.LogProb), p.measure, p.nats.shape
    (True, 'density', (1,))
    """

    nats: Any
    stderr: Any = 0.0
    dims: Any = 1
    measure: str = "density"
    shared_stderr: float = 0.0
    detail: dict[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = ""
    symbol: ClassVar[str] = ""

    @property
    def bits_per_dim(self) -> np.ndarray:
        """−nats / (dims · ln 2), one value a row; lower is better."""
        return -np.asarray(self.nats) / (np.maximum(self.dims, 1) * math.log(2))

    def mean(self) -> float:
        """Mean over rows, in nats."""
        return float(np.mean(self.nats, dtype=np.float64))

    def mean_stderr(self) -> float:
        """Standard error of :meth:`mean`: the spread of the rows, and log Z's.

        The spread holds the rows' own Monte Carlo error.
        """
        n = len(self.nats)
        rows = float(np.var(self.nats, dtype=np.float64)) / max(n - 1, 1)
        return math.sqrt(rows + self.shared_stderr**2)

    def monte_carlo_stderr(self) -> float:
        """The part of the mean's error that more computation would remove."""
        n = len(self.nats)
        own = float(np.mean(np.square(np.broadcast_to(self.stderr, (n,)), dtype=np.float64))) / n
        return math.sqrt(own + self.shared_stderr**2)

    def __len__(self) -> int:
        return len(self.nats)

    def __repr__(self) -> str:
        bits = float(np.mean(self.bits_per_dim))
        extra = "".join(
            f", {k}={v:.4g}" if isinstance(v, float) else f", {k}={v}"
            for k, v in self.detail.items()
        )
        return (
            f"{type(self).__name__}(mean {self.symbol} {self.mean():.4f} ± "
            f"{self.mean_stderr():.4f} nats, "
            f"{bits:.4f} bits/dim, n={len(self)}, {self.measure}{extra})"
        )

    def plus(self, more: Tensor) -> LogProb:
        """A copy with ``more`` added to each row, in nats."""
        return replace(self, nats=self.nats + more)

    def with_rows(self, **changes: Any) -> LogProb:
        """A copy with some fields changed."""
        return replace(self, **changes)


class Exact(LogProb):
    """log p(x) itself.

    It takes what :class:`genus.LogProb` takes.

    Examples
    --------
    >>> import genus
    >>> genus.Exact([-1.0, -3.0], dims=2, measure="probability")
    Exact(mean = -2.0000 ± 1.0000 nats, 1.4427 bits/dim, n=2, probability)
    """

    kind = "exact"
    symbol = "="


class LowerBound(LogProb):
    """At most log p(x), in expectation over its Monte Carlo points.

    It takes what :class:`genus.LogProb` takes.

    Examples
    --------
    >>> import genus
    >>> genus.LowerBound([-1.0, -3.0], dims=2, measure="probability", detail={"k": 256})
    LowerBound(mean ≥ -2.0000 ± 1.0000 nats, 1.4427 bits/dim, n=2, probability, k=256)
    """

    kind = "lower bound"
    symbol = "≥"


class Estimate(LogProb):
    """log p(x) up to the error of a Monte Carlo log-partition or of an ODE, on either side.

    It takes what :class:`genus.LogProb` takes.

    Examples
    --------
    >>> import genus
    >>> genus.Estimate([-1.0, -3.0], dims=2, measure="probability", shared_stderr=0.1)
    Estimate(mean ≈ -2.0000 ± 1.0050 nats, 1.4427 bits/dim, n=2, probability)
    """

    kind = "estimate"
    symbol = "≈"


def concatenate(parts: Sequence[LogProb]) -> LogProb:
    """The rows of several chunks as one, in numpy."""

    def rows(name: str) -> np.ndarray:
        return np.concatenate([_numpy(getattr(p, name), len(p.nats)) for p in parts])

    first = parts[0]
    detail = {
        k: float(np.average([p.detail[k] for p in parts], weights=[len(p) for p in parts]))
        if isinstance(v, float)
        else v
        for k, v in first.detail.items()
    }
    return first.with_rows(
        nats=rows("nats"), stderr=rows("stderr"), dims=rows("dims"), detail=detail
    )


def _numpy(v: Any, n: int) -> np.ndarray:
    a = v.detach().cpu().numpy() if isinstance(v, Tensor) else np.asarray(v)
    return np.broadcast_to(a, (n,))
