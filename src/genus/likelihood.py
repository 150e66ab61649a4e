"""What ``log_prob`` returns: a number that says what kind of number it is.

``Exact`` is log p(x). ``LowerBound`` is a number that is ≤ log p(x) in expectation (ELBO, importance
weighted bound, dequantisation). ``Estimate`` involves a Monte Carlo log-partition and may err on either
side. All are natural logarithms (nats) in the units of the data the caller passed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class LogProb:
    """Log-probability of each row, in nats; higher is better.

    nats: (n,) one value a row.
    stderr: (n,) Monte Carlo standard error of each, independent between rows; 0 when exact.
    dims: number of observed coordinates behind each value, an int or (n,) (for bits per dimension).
    measure: ``probability``, ``density`` or ``mixed``.
    shared_stderr: standard error of a term that all rows share (log Z); it does not average out.
    detail: what a reader needs to trust it, such as ``k`` or ``ess``.
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
        """Standard error of :meth:`mean`: the spread of the rows (which holds their Monte Carlo error) and log Z's."""
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
        extra = "".join(f", {k}={v:.4g}" if isinstance(v, float) else f", {k}={v}" for k, v in self.detail.items())
        return (
            f"{type(self).__name__}(mean {self.symbol} {self.mean():.4f} ± {self.mean_stderr():.4f} nats, "
            f"{bits:.4f} bits/dim, n={len(self)}, {self.measure}{extra})"
        )

    def with_rows(self, **changes: Any) -> LogProb:
        """A copy with some fields changed."""
        return replace(self, **changes)


class Exact(LogProb):
    """log p(x) itself."""

    kind = "exact"
    symbol = "="


class LowerBound(LogProb):
    """At most log p(x), in expectation over its Monte Carlo points."""

    kind = "lower bound"
    symbol = "≥"


class Estimate(LogProb):
    """log p(x) up to the error of a Monte Carlo log-partition, on either side."""

    kind = "estimate"
    symbol = "≈"


def concatenate(parts: Sequence[LogProb]) -> LogProb:
    """The rows of several chunks as one, in numpy."""

    def rows(name: str) -> np.ndarray:
        return np.concatenate([_numpy(getattr(p, name), len(p.nats)) for p in parts])

    first = parts[0]
    detail = {
        k: float(np.average([p.detail[k] for p in parts], weights=[len(p) for p in parts])) if isinstance(v, float) else v
        for k, v in first.detail.items()
    }
    return first.with_rows(nats=rows("nats"), stderr=rows("stderr"), dims=rows("dims"), detail=detail)


def _numpy(v: Any, n: int) -> np.ndarray:
    a = v.detach().cpu().numpy() if isinstance(v, Tensor) else np.asarray(v)
    return np.broadcast_to(a, (n,))


def log_mean_exp(w: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """log (1/k) Σ exp w over ``dim``, its standard error by the delta method, and the effective sample size.

    stderr² ≈ (Σ w̃² − 1/k) with w̃ the normalised weights; ESS = 1 / Σ w̃².
    """
    k = w.shape[dim]
    value = torch.logsumexp(w, dim) - math.log(k)
    spread = (torch.softmax(w, dim) - 1 / k).square().sum(dim)  # Σ w̃² − 1/k without cancellation
    return value, (spread * k / max(k - 1, 1)).sqrt(), 1 / (spread + 1 / k)


# ---------------------------------------------------------------------- points of a Monte Carlo likelihood
#
# A row's estimate must not depend on its neighbours, yet the errors of different rows must be independent
# so that they average out. So all rows share one low-discrepancy set u_1 … u_k, and each row shifts it by
# a hash of its own bits, u_k ⊕ h(row) (a digital shift, which keeps a Sobol net a net; Owen, 1995).


def row_uniforms(x: Tensor, k: int, dims: int) -> Tensor:
    """(n, k, dims) uniforms in (0, 1) that depend on nothing but the row itself: the same in any batch or order."""
    shift = _uniform_bits(row_hash(x), dims)
    bits = _base_bits(k, dims).to(x.device)[None] ^ shift[:, None]
    return (bits.to(torch.float32) + 0.5) * 2.0**-_BITS


def row_normals(x: Tensor, k: int, dims: int) -> Tensor:
    """(n, k, dims) standard normals, Φ⁻¹ of :func:`row_uniforms`."""
    return row_uniforms(x, k, dims).mul_(2).sub_(1).erfinv_().mul_(math.sqrt(2))


def row_hash(x: Tensor) -> Tensor:
    """A 64-bit hash of each row's values, (n, …) → int64 (n,). Column order counts; −0 = 0 and all NaN are one.

    h = mix(Σ_j key_j · fold(bits_j)), integer sums that wrap: exact whatever the batch or the thread count.
    """
    x = x.detach().reshape(len(x), -1)
    n, d = x.shape
    step = max(1, 65536 // max(d, 1))  # chunks that stay in cache
    if n > step:
        return torch.cat([row_hash(c) for c in x.split(step)])
    x = x.double() + 0.0
    x = torch.where(torch.isnan(x), torch.full((), math.nan, dtype=x.dtype, device=x.device), x)
    key = _mix(torch.arange(1, d + 1, device=x.device) * _GAMMA) | 1
    bits = (x.contiguous().view(torch.int64) + key) * _MIX1
    bits = (bits ^ _shift_right(bits, 32)) * key
    return _mix(bits.sum(1) + d)


_BITS = 23  # so that (bits + ½)/2^23 is exact and below 1 in float32


def _signed(c: int) -> int:
    return c - (1 << 64) if c >= 1 << 63 else c


_GAMMA, _MIX1, _MIX2 = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift_right(z: Tensor, s: int) -> Tensor:
    return (z >> s) & ((1 << (64 - s)) - 1)


def _mix(z: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele et al., 2014): a bijection of 64-bit integers that avalanches."""
    z = (z ^ _shift_right(z, 30)) * _MIX1
    z = (z ^ _shift_right(z, 27)) * _MIX2
    return z ^ _shift_right(z, 31)


def _uniform_bits(h: Tensor, dims: int) -> Tensor:
    counter = torch.arange(1, dims + 1, device=h.device) * _GAMMA
    return _shift_right(_mix(h[:, None] + counter), 64 - _BITS).to(torch.int32)


@lru_cache(maxsize=32)
def _base_bits(k: int, dims: int) -> Tensor:
    if dims <= torch.quasirandom.SobolEngine.MAXDIM:
        u = torch.quasirandom.SobolEngine(dims, scramble=True, seed=0).draw(k)
    else:
        u = torch.rand(k, dims, generator=torch.Generator().manual_seed(0))
    return (u * 2.0**_BITS).to(torch.int32).clamp_(0, 2**_BITS - 1)
