"""Columns cut at their quantiles, for models of discrete cells: x lies in bin k, and p(x | k) is spread evenly over it.

    p(x) = P(k) / w_k,  e_k ≤ x < e_{k+1},  w_k = e_{k+1} − e_k          (levels a bin, where x is ordinal)

The two outer bins of a continuous column keep a share t for what lies beyond all that was seen, p = t/w · exp(−distance/w), so
that no value is impossible.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genus.space import Space


def cut(x: Tensor, space: Space, bins: int | None) -> tuple[Tensor, Tensor]:
    """Edges (d, most bins + 1), padded with inf, all inf where a column is left whole; and the outer share t (d,).

    x: (n, d), NaN where missing. Continuous columns, and ordinal ones of more than ``bins`` levels, are cut where the
    rows fall into equal parts. Raises ValueError that names a continuous column when bins is None.
    """
    if bins is not None and (not isinstance(bins, int | np.integer) or isinstance(bins, bool) or bins < 2):
        raise ValueError(f"bins={bins!r}: a whole number of at least 2 is needed, or None")
    edges: list[np.ndarray] = []
    tails = torch.zeros(space.dim, dtype=torch.float64)
    for j, (levels, kind) in enumerate(zip(space.cardinality, space.kinds, strict=True)):
        if levels and (bins is None or kind != "ordinal" or levels <= bins):
            edges.append(np.zeros(0))
            continue
        name = space.names()[j]
        if bins is None:
            raise ValueError(f"X has real numbers in {name}, where a table of probabilities needs levels: pass bins=8 to cut at quantiles")
        s = np.sort(x[:, j][~torch.isnan(x[:, j])].double().numpy())
        if not len(s):
            raise ValueError(f"{name} has no observed value, only NaN: drop it")
        place = np.arange(1, bins) * len(s) // bins
        if levels:
            edges.append(np.unique([0.0, *s[place], levels]))
            continue
        low, high = s[0], s[-1]
        least = 1e-12 * max(abs(low), abs(high))
        if high - low <= least:
            half = 0.5e-6 * max(abs(high), 1.0)
            low, high = low - half, high + half
        # halfway between neighbours, so that no value lies on an edge
        inner = s[np.maximum(place - 1, 0)] / 2 + s[place] / 2
        e = [low]
        for v in inner:
            if v - e[-1] > least and high - v > least:
                e.append(v)
        edges.append(np.array([*e, high]))
        tails[j] = min(1 / 3, len(e) / (len(s) + 1))
    out = torch.full((space.dim, max(map(len, edges), default=0)), torch.inf, dtype=torch.float64)
    for j, e in enumerate(edges):
        out[j, : len(e)] = torch.from_numpy(e)
    return out, tails


@dataclass(frozen=True)
class Bins:
    """The edges and outer shares of :func:`cut`, and the levels of the space's columns (0 where continuous)."""

    edges: Tensor
    tails: Tensor
    levels: tuple[int, ...]

    @property
    def columns(self) -> Tensor:
        """Which columns are cut."""
        return torch.isfinite(self.edges[:, :1]).any(1).nonzero().squeeze(1)

    @property
    def cards(self) -> tuple[int, ...]:
        """Codes of every column."""
        some = torch.isfinite(self.edges).sum(1).tolist()
        return tuple(e - 1 if e else c for e, c in zip(some, self.levels, strict=True))

    def encode(self, x: Tensor) -> Tensor:
        """Codes (n, d) of cells (n, d), −1 where NaN."""
        codes = x.long() if not x.is_floating_point() else x.nan_to_num(nan=-1.0).long()
        c = self.columns
        if len(c):
            e = self.edges[c]
            inner = torch.where(torch.isfinite(e[:, 2:]), e[:, 1:-1], torch.inf).contiguous()
            values = x[:, c].T.double().contiguous()
            k = torch.searchsorted(inner, values.nan_to_num(), right=True)
            codes[:, c] = torch.where(torch.isnan(values), -1, k).T
        return codes

    def log_density(self, x: Tensor, codes: Tensor) -> Tensor:
        """Σ log p(x_j | bin) of every row over the cut columns that are observed, (n,)."""
        c = self.columns
        if not len(c):
            return torch.zeros(len(x), dtype=torch.float64)
        k, v = codes[:, c].clamp_min(0), x[:, c].double().nan_to_num()
        low, width, first, last, t = self._at(c, k)
        beyond = torch.where(v < low, low - v, v - low - width)
        inside = torch.log1p(-t * first - t * last)
        each = torch.where((beyond > 0) & (t > 0), t.log() - beyond / width, inside) - width.log()
        return torch.where(codes[:, c] < 0, 0.0, each).sum(1)

    def decode(self, codes: Tensor, uniform: Callable[..., Tensor]) -> Tensor:
        """Values (n, d) of codes; uniform(n, columns) says where in the bin, 0.5 is the middle."""
        out = codes.double()
        c = self.columns
        if not len(c):
            return out
        low, width, first, last, t = self._at(c, codes[:, c])
        u = uniform(len(codes), len(c))
        before, after = t * first, t * last
        value = low + width * ((u - before) / (1 - before - after)).clamp(0, 1)
        value = torch.where(u < before, low + width * (u / before.clamp_min(1e-300)).clamp_min(1e-300).log(), value)
        value = torch.where(u > 1 - after, low + width - width * ((1 - u) / after.clamp_min(1e-300)).clamp_min(1e-300).log(), value)
        levels = torch.tensor(self.levels, dtype=torch.float64)[c]
        out[:, c] = torch.where(levels > 0, value.floor().minimum(low + width - 1), value)
        return out

    def _at(self, c: Tensor, k: Tensor) -> tuple[Tensor, ...]:
        """Low end, width, whether first, whether last, and outer share of bin k of each cut column."""
        e = self.edges[c].expand(len(k), -1, -1)
        low = e.gather(2, k[..., None])[..., 0]
        high = e.gather(2, k[..., None] + 1)[..., 0]
        last = torch.isfinite(self.edges[c]).sum(1) - 2
        return low, high - low, (k == 0).double(), (k == last).double(), self.tails[c].expand(k.shape)

    def labels(self, j: int) -> list[str]:
        """The bins of column j in words."""
        e = [f"{v:.4g}" for v in self.edges[j][torch.isfinite(self.edges[j])].tolist()]
        return [f"[{a}, {b})" for a, b in itertools.pairwise(e)]
