"""Columns cut at their quantiles, each bin with an even density, as earlier versions had them.

x lies in bin k, and p(x) = P(k) p(x | k).

    continuous:  p(x | k) = 1 / w_k,  e_k ≤ x < e_{k+1},  w_k = e_{k+1} − e_k
    ordinal:     p(x | k) = (n_x + α) / Σ_{levels v of bin k} (n_v + α)

The two outer bins of a continuous column keep a share t for what lies beyond all that was seen,
p = t/w · exp(−distance/w), so that no value is impossible.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genus.space import Space


def cut(
    x: Tensor, space: Space, bins: int | None, max_levels: int | None, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Edges (d, most bins + 1), the outer share t (d,), and p(level | bin) (d, most levels).

    Edges are padded with inf; p(level | bin) is 0 where continuous.

    x: (n, d), NaN where missing. Continuous columns are cut into at most ``bins``, and ordinal ones
    of more levels into at most ``max_levels``, where the rows fall into equal parts. Raises
    ValueError that names a continuous column when bins is None.
    """
    edges: list[np.ndarray] = [np.zeros(0)] * space.dim
    shares: list[np.ndarray] = [np.zeros(0)] * space.dim
    tails = np.zeros(space.dim)
    for j, (levels, kind) in enumerate(zip(space.cardinality, space.kinds, strict=True)):
        most = max_levels if levels else bins
        if levels and (most is None or kind != "ordinal" or levels <= most):
            continue
        name = space.names()[j]
        if most is None:
            raise ValueError(
                f"X has real numbers in {name}, where a table of probabilities needs levels: pass "
                "bins=8 to cut at quantiles"
            )
        s = np.sort(x[:, j][~torch.isnan(x[:, j])].double().cpu().numpy())
        if not len(s):
            raise ValueError(f"{name} has no observed value, only NaN: drop it")
        place = np.arange(1, most) * len(s) // most
        if levels:
            edges[j] = np.unique([0.0, *s[place], levels])
            n = np.bincount(s.astype(np.int64), minlength=levels) + max(alpha, 1e-9)
            first = edges[j][:-1].astype(np.int64)
            shares[j] = n / np.repeat(np.add.reduceat(n, first), np.diff(edges[j]).astype(np.int64))
            continue
        low, high = s[0], s[-1]
        least = 1e-12 * max(abs(low), abs(high))
        if high - low <= least:
            half = 0.5e-6 * max(abs(high), 1.0)
            low, high = low - half, high + half
        e = [low]
        # halfway between neighbours, so that no value lies on an edge
        for v in s[np.maximum(place - 1, 0)] / 2 + s[place] / 2:
            if v - e[-1] > least and high - v > least:
                e.append(v)
        edges[j] = np.array([*e, high])
        tails[j] = min(1 / 3, len(e) / (len(s) + 1))
    return _padded(edges, np.inf), torch.from_numpy(tails), _padded(shares, 0.0)


def _padded(rows: list[np.ndarray], value: float) -> Tensor:
    out = np.full((len(rows), max(map(len, rows), default=0)), value)
    for j, row in enumerate(rows):
        out[j, : len(row)] = row
    return torch.from_numpy(out)


@dataclass(frozen=True)
class EvenBins:
    """What :func:`cut` found, and the levels of the space's columns (0 where continuous)."""

    edges: Tensor
    tails: Tensor
    shares: Tensor
    levels: tuple[int, ...]

    def columns(self, continuous: bool | None = None) -> Tensor:
        """Which columns are cut: all, or those that are, or are not, continuous."""
        some = torch.isfinite(self.edges[:, :1]).any(1)
        if continuous is not None:
            some &= (torch.tensor(self.levels, device=some.device) == 0) == continuous
        return some.nonzero().squeeze(1)

    @property
    def cards(self) -> tuple[int, ...]:
        """Codes of every column."""
        some = torch.isfinite(self.edges).sum(1).tolist()
        return tuple(e - 1 if e else c for e, c in zip(some, self.levels, strict=True))

    def encode(self, x: Tensor) -> Tensor:
        """Codes (n, d) of cells (n, d), −1 where NaN."""
        c = self.columns()
        whole = x.nan_to_num(nan=-1.0) if x.is_floating_point() else x
        codes = whole.to(torch.long, copy=True)
        if len(c):
            e = self.edges[c]
            inner = torch.where(torch.isfinite(e[:, 2:]), e[:, 1:-1], torch.inf).contiguous()
            values = x[:, c].T.double().contiguous()
            k = torch.searchsorted(inner, values.nan_to_num(), right=True)
            codes[:, c] = torch.where(torch.isnan(values), -1, k).T
        return codes

    def log_density(self, x: Tensor, codes: Tensor) -> Tensor:
        """Σ log p(x_j | bin) of every row over the cut columns that are observed, (n,)."""
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for continuous in (True, False):
            c = self.columns(continuous)
            if not len(c):
                continue
            k, v = codes[:, c].clamp_min(0), x[:, c].double().nan_to_num()
            if continuous:
                low, width, first, last, t = self._at(c, k)
                beyond = torch.where(v < low, low - v, v - low - width)
                inside = torch.log1p(-t * first - t * last)
                each = torch.where(beyond > 0, t.log() - beyond / width, inside) - width.log()
            else:
                each = self.shares[c].gather(1, v.T.long()).T.log()
            total += torch.where(codes[:, c] < 0, 0.0, each).sum(1)
        return total

    def decode(self, codes: Tensor, uniform: Callable[[int, int], Tensor]) -> Tensor:
        """Values (n, d) of codes; uniform(n, columns) says where in the bin, 0.5 is the median."""
        out = codes.double()
        c = self.columns(True)
        if len(c):
            low, width, first, last, t = self._at(c, codes[:, c])
            u = uniform(len(codes), len(c))
            before, after = t * first, t * last
            value = low + width * ((u - before) / (1 - before - after)).clamp(0, 1)
            value = torch.where(
                u < before, low + width * (u / before).clamp_min(1e-300).log(), value
            )
            out[:, c] = torch.where(
                u > 1 - after,
                low + width - width * ((1 - u) / after).clamp_min(1e-300).log(),
                value,
            )
        c = self.columns(False)
        if len(c):  # every bin adds 1 to the sum of shares, so that bin k begins at k
            total = self.shares[c].cumsum(1).contiguous()
            at = (codes[:, c] + uniform(len(codes), len(c)).clamp(1e-9, 1 - 1e-9)).T.contiguous()
            out[:, c] = torch.searchsorted(total, at, right=True).T.double()
        return out

    def _at(self, c: Tensor, k: Tensor) -> tuple[Tensor, ...]:
        """Low end, width, whether first, whether last, and outer share of each continuous bin k."""
        e = self.edges[c].expand(len(k), -1, -1)
        low = e.gather(2, k[..., None])[..., 0]
        high = e.gather(2, k[..., None] + 1)[..., 0]
        last = torch.isfinite(self.edges[c]).sum(1) - 2
        return (
            low,
            high - low,
            (k == 0).double(),
            (k == last).double(),
            self.tails[c].expand(k.shape),
        )

    def labels(self, j: int) -> list[str]:
        """The bins of column j in words; those of ordinal codes are numbered from 0."""
        e = self.edges[j][torch.isfinite(self.edges[j])].tolist()
        return [f"[{a:.4g}, {b:.4g})" for a, b in itertools.pairwise(e)]
