"""Columns of numbers cut into bins, for models of discrete cells.

x lies in bin k, and inside a bin a column does what it does on its own, by its marginal F:

    p(x) = P(k) f(x) / F(bin k)

A draw is the quantile of F at a place between the ends of the bin. Bins hold equal parts of the
rows. A value that is heavier than half a bin has a bin of its own, and each value has one where
they are few. The outer bins are open: what lies beyond all that was seen has the marginal's tail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genus.distributions.columns import check_observed
from genus.distributions.levels import log_between
from genus.distributions.marginals import Numbers, between
from genus.space import Space


class Bins(nn.Module):
    """The codes of a space's cells: bins of numbers, and the levels of all other columns.

    bins: how many a continuous column has at most, besides those of heavy values; most: how many
    a column of whole numbers has, None: one for each value that was seen. Levels between known ends
    are left as they are where they are no more than ``most``. Raises ValueError that names a
    continuous column when bins is None.
    """

    learned_shapes = ("cuts_", "seen_")

    cuts_: Tensor  # (m, K) rising, inf where a column has fewer: x ≥ cut k lies beyond bin k
    seen_: Tensor  # (m, K + 1, 2): the smallest and largest value in each bin, NaN where none is
    at: Tensor
    numbers_: Numbers | None

    def __init__(self, space: Space, bins: int | None, most: int | None) -> None:
        super().__init__()
        self.space, self.most = space, most
        columns = [j for j in range(space.dim) if _is_cut(space, j, most)]
        real = [j for j in columns if space.kinds[j] == "continuous"]
        if real and bins is None:
            raise ValueError(
                f"X has real numbers in {space.names()[real[0]]}, where a table of probabilities "
                "needs levels: pass bins=8 to cut at quantiles"
            )
        self.parts = [bins if j in real else most for j in columns]
        kw: dict[str, Any] = {"dtype": torch.float64}
        self.register_buffer("at", torch.tensor(columns, dtype=torch.long), False)
        self.register_buffer("cuts_", torch.zeros(len(columns), 0, **kw))
        self.register_buffer("seen_", torch.zeros(len(columns), 1, 2, **kw))
        self.numbers_ = Numbers(space, columns) if columns else None

    def fit(self, x: Tensor) -> Bins:
        """Cut the columns of rows x (n, d). Raises ValueError that names an empty one."""
        if self.numbers_ is None:
            return self
        check_observed(self.space, (~torch.isnan(x)).any(0))
        numbers = x[:, self.at].double()
        self.numbers_.fit(numbers)
        cuts, seen = [], []
        for j, most in enumerate(self.parts):
            column = numbers[:, j]
            value, count = np.unique(column[~torch.isnan(column)].cpu().numpy(), return_counts=True)
            first = _first_of_bins(count, most)
            cut = (value[first[1:] - 1] + value[first[1:]]) / 2
            if self.numbers_.whole[j]:
                cut = np.ceil(cut)
            last = np.append(first[1:], len(value)) - 1
            cuts.append(cut)
            seen.append(np.stack([value[first], value[last]], 1))
        K = max(map(len, cuts))
        self.cuts_ = numbers.new_full((len(cuts), K), math.inf)
        self.seen_ = self.cuts_.new_full((len(cuts), K + 1, 2), math.nan)
        for j, (cut, ends) in enumerate(zip(cuts, seen, strict=True)):
            self.cuts_[j, : len(cut)] = torch.from_numpy(cut)
            self.seen_[j, : len(ends)] = torch.from_numpy(ends)
        return self

    def columns(self) -> Tensor:
        """Which columns are cut."""
        return self.at

    @property
    def cards(self) -> tuple[int, ...]:
        """Codes of every column."""
        out = list(self.space.cardinality)
        for j, cuts in zip(self.at.tolist(), torch.isfinite(self.cuts_).sum(1), strict=True):
            out[j] = int(cuts) + 1
        return tuple(out)

    def encode(self, x: Tensor) -> Tensor:
        """Codes (n, d) of cells (n, d), −1 where NaN."""
        whole = x.nan_to_num(nan=-1.0) if x.is_floating_point() else x
        codes = whole.to(torch.long, copy=True)
        if self.numbers_ is not None:
            values = x[:, self.at].T.double().contiguous()
            k = torch.searchsorted(self.cuts_, values.nan_to_num(), right=True)
            codes[:, self.at] = torch.where(torch.isnan(values), -1, k).T
        return codes

    def log_density(self, x: Tensor, codes: Tensor) -> Tensor:
        """Σ log p(x_j | bin) of every row over the cut columns that are observed, (n,)."""
        if self.numbers_ is None:
            return torch.zeros(len(x), dtype=torch.float64, device=x.device)
        log_p = self.numbers_.look(x[:, self.at].double())[2]
        low, high = self._edges()
        k = codes[:, self.at].clamp_min(0).T
        log_mass = log_between(low, high).gather(1, k).T
        return torch.where(codes[:, self.at] < 0, 0.0, log_p - log_mass).sum(1)

    def decode(self, codes: Tensor, uniform: Callable[[int, int], Tensor]) -> Tensor:
        """Values (n, d) of codes; uniform(n, columns) says where in the bin, 0.5 is the median."""
        out = codes.double()
        if self.numbers_ is not None:
            k = codes[:, self.at].T
            low, high = (end.gather(1, k).T for end in self._edges())
            z = between(low, high, uniform(len(codes), len(self.at)))
            out[:, self.at] = self.numbers_.invert(z)
        return out

    def _edges(self) -> tuple[Tensor, Tensor]:
        """Φ⁻¹ of F at both ends of every bin, (m, K + 1) each."""
        assert self.numbers_ is not None
        inner = torch.isfinite(self.cuts_)
        at = torch.where(inner, self.cuts_, 0.0).T
        z = self.numbers_.look(at)[0].T.masked_fill(~inner, math.inf)
        end = z.new_full((len(z), 1), math.inf)
        return torch.cat([-end, z], 1), torch.cat([z, end], 1)

    def ends(self, j: int) -> list[tuple[float, float]]:
        """The smallest and largest code seen in each bin of column j, which is cut."""
        place = self.at.tolist().index(j)
        return [(low, high) for low, high in self.seen_[place, : self.cards[j]].tolist()]


def _is_cut(space: Space, j: int, most: int | None) -> bool:
    """Is column j one of numbers that have no table of their own?"""
    kind = space.kinds[j]
    if kind == "ordinal":
        return most is not None and space.cardinality[j] > most
    return kind in ("integer", "continuous")


def _first_of_bins(count: np.ndarray, most: int | None) -> np.ndarray:
    """Which of the rising values with these counts begin a bin."""
    if most is None or len(count) <= most:
        return np.arange(len(count))
    heavy = count >= count.sum() / (2 * most)
    # what is left between heavy values is cut where their rows fall into parts of equal size
    size = max(count[~heavy].sum(), 1) / max(most - heavy.sum(), 1)
    begins = [True]
    held = 0
    for i in range(1, len(count)):
        held = 0 if heavy[i - 1] else held + count[i - 1]
        full = held + count[i] / 2 > size
        begins.append(bool(heavy[i] or heavy[i - 1] or full))
        if begins[-1]:
            held = 0
    return np.flatnonzero(begins)
