"""Monte Carlo points that depend on nothing but the row, and averages over them.

A row's likelihood must not depend on its neighbours or on the batch: its points come from a hash of
its own bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def log_mean_exp(w: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """log (1/k) Σ exp w over ``dim``, its standard error, and the effective sample size.

    The error is by the delta method. stderr² ≈ (Σ w̃² − 1/k) with w̃ the normalised weights; ESS =
    1 / Σ w̃².
    """
    k = w.shape[dim]
    value = torch.logsumexp(w, dim) - math.log(k)
    spread = (torch.softmax(w, dim) - 1 / k).square().sum(dim)  # Σ w̃² − 1/k without cancellation
    return value, (spread * k / max(k - 1, 1)).sqrt(), 1 / (spread + 1 / k)


def by_blocks(w: Tensor) -> Tensor:
    """The standard error of log (1/k) Σ e^w of points (n, k), from blocks of them; NaN where k < 8.

    Points of a net are not independent, and the formula for those that are does not hold; blocks of
    a net nearly are. It is the spread of the blocks' own logarithms, which has no upper limit.
    """
    k = w.shape[1]
    if k < 8:
        return w.new_full((len(w),), math.nan)
    blocks = 4 if k < 32 else 8
    each = w[:, : k - k % blocks].unflatten(1, (blocks, -1)).logsumexp(2)
    return each.std(1) / math.sqrt(blocks)


@dataclass
class Averages:
    """log (1/k) Σ e^w of rows, with as many points as each needs."""

    value: Tensor  # (n,)
    stderr: Tensor  # (n,)
    ess: Tensor  # (n,) effective points
    k: Tensor  # (n,) points
    moved: Tensor  # (n,) how far the last doubling moved the value, upwards

    @property
    def detail(self) -> dict[str, float]:
        """What a reader needs to trust the mean over rows."""
        means = {"k": self.k.double(), "ess": self.ess, "moved": self.moved}
        return {name: float(t.mean()) for name, t in means.items()}


def averaged(
    log_w: Callable[[Tensor, int, int], Tensor], n: int, first: int, most: int, device: Any = None
) -> Averages:
    """Averages of n rows: ``first`` points each, four times as many, to ``most``, where few count.

    log_w(rows, begin, end): (rows, points) for points begin … end of rows, by their places. A row
    goes on while less than a quarter of its points count, which its own weights alone decide.
    """
    rows = torch.arange(n, device=device)
    w, k = log_w(rows, 0, first), first
    kw: dict[str, Any] = {"dtype": w.dtype, "device": w.device}
    out = torch.zeros(5, n, **kw)
    while True:
        value, _, ess = log_mean_exp(w, 1)
        half = torch.logsumexp(w[:, : max(1, k // 2)], 1) - math.log(max(1, k // 2))
        count = torch.full_like(value, k)
        out[:, rows] = torch.stack([value, by_blocks(w), ess, count, value - half])
        more = ess < k / 4
        if 4 * k > most or not more.any():
            return Averages(*out)
        rows, w = rows[more], w[more]
        w = torch.cat([w, log_w(rows, k, 4 * k)], 1)
        k = 4 * k


# --------------------------------------------------------------- points of a Monte Carlo likelihood
#
# A row's estimate must not depend on its neighbours, yet the errors of different rows must be
# independent, so that they average out. So all rows share one low-discrepancy set u_1 … u_k, and
# each row shifts it by a hash of its own bits, u_k ⊕ h(row). It is a digital shift, which keeps a
# Sobol net a net (Owen, 1995).


def row_uniforms(x: Tensor, k: int, dims: int) -> Tensor:
    """(n, k, dims) uniforms in (0, 1) that depend on nothing but the row itself.

    They are the same in any batch or order.
    """
    shift = _uniform_bits(row_hash(x), dims)
    bits = _base_bits(k, dims).to(x.device)[None] ^ shift[:, None]
    return (bits.to(torch.float32) + 0.5) * 2.0**-_BITS


def row_normals(x: Tensor, k: int, dims: int) -> Tensor:
    """(n, k, dims) standard normals, Φ⁻¹ of :func:`row_uniforms`."""
    return row_uniforms(x, k, dims).mul_(2).sub_(1).erfinv_().mul_(math.sqrt(2))


def row_hash(x: Tensor) -> Tensor:
    """A 64-bit hash of each row's values, (n, …) → int64 (n,).

    Column order counts; −0 = 0 and all NaN are one. h = mix(Σ_j key_j · fold(bits_j)), integer sums
    that wrap: exact whatever the batch or the thread count.
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
    """The finaliser of splitmix64: a bijection of 64-bit integers that avalanches.

    Steele et al. (2014).
    """
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
