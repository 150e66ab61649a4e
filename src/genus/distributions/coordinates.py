r"""Cells of every kind as real coordinates, and back; what a row hides is a place u in [0, 1).

    learned    z = Φ⁻¹(F(x−) + u (F(x) − F(x−))), F the column's own distribution (marginals.py)
    affine     y = x where x is real, y = x + u − ½ where it is a whole number
    logit      y = logit(α + (1 − 2α)(x + u)/L), a level in a box of L

With u ~ U[0, 1), a density on the coordinates gives P(x) = ∫ p(y(x, u)) |∂y/∂u| du. Affine
coordinates are in the units of the data; columns that have no scale of their own are learned there
too: words, bits, real numbers with atoms, and whole numbers of which more than half are one value.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from genus.distributions.bijections import Logit
from genus.distributions.marginals import Marginals
from genus.distributions.points import LOG_2PI
from genus.space import Space

MARGINALS = ("learned", "affine", "logit")
ALPHA = 0.01  # of the logit: how far its edges stay from infinity


class Coordinates(nn.Module):
    """The map of rows of codes (n, d) to real vectors (n, d); ``how``: one of MARGINALS.

    plain_: (d,), 1 where affine coordinates are in the units of the data.
    """

    plain_: Tensor
    levels: Tensor
    real: Tensor

    def __init__(self, space: Space, how: str) -> None:
        super().__init__()
        self.space, self.how = space, how
        real = [levels == 0 and not space.atoms(j) for j, levels in enumerate(space.cardinality)]
        levels = torch.tensor(space.cardinality, dtype=torch.long)
        self.register_buffer("levels", levels, False)
        self.register_buffer("real", torch.tensor(real), False)
        self.some_discrete = any(space.cardinality)
        self.all_discrete = all(space.cardinality)
        self.some_atoms = any(not r and not c for r, c in zip(real, space.cardinality, strict=True))
        if how == "affine":
            self.register_buffer("plain_", torch.tensor(real).long())
        tidy = bool(space.columns) or not all(real)
        learned = how == "learned" or (how == "affine" and tidy)
        self.marginals_ = Marginals(space) if learned else None

    def fit(self, x: Tensor) -> None:
        """Learn the columns' own distributions from rows x (n, *shape)."""
        if self.marginals_ is None:
            return
        x = x.flatten(1).double()
        self.marginals_.fit(x)
        if self.how == "affine":
            kinds = self.space.kinds
            ordered = [kind in ("integer", "ordinal") for kind in kinds]
            seen = ~torch.isnan(x)
            most = torch.stack([c[s].mode().values for c, s in zip(x.T, seen.T, strict=True)])
            scaled = (x == most).sum(0) <= 0.5 * seen.sum(0)
            whole = torch.tensor(ordered, device=x.device) & scaled
            self.plain_.copy_((self.real | whole).long())

    def hides(self, x: Tensor) -> Tensor:
        """Where a cell of rows x (n, d) has mass, and so a place u inside it."""
        discrete = (self.levels > 0).expand(x.shape)
        if self.marginals_ is None or not self.some_atoms:
            return discrete
        low, high = self.marginals_.edges(x)
        return discrete | (low < high)

    def forward(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """y (n, d), NaN where x is, and Σ log |∂y/∂u| (n,); −inf for what cannot be."""
        x = x.double()
        if self.how == "logit":
            return self._unfolded(x, u)
        if self.marginals_ is None:
            return x, x.new_zeros(len(x))
        if self.how == "learned":
            y, each = self.marginals_.scores(x, u)
            return y, each.sum(1)
        plain = self.plain_.bool()
        y = torch.where(self.levels > 0, x + u - 0.5, x)
        rest = x.masked_fill(plain, torch.nan)
        if not plain.all():
            z, each = self.marginals_.scores(rest, u)
            y = torch.where(plain, y, z)
            return y, each.sum(1)
        return y, x.new_zeros(len(x))

    def box(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The ends (n, d) of the coordinates of each cell of rows x (n, d), and log |∂y/∂x| (n,).

        Both ends are one where x has a density, and infinite where it is missing. The last levels
        before an end take what lies beyond. What cannot be has log −∞.
        """
        x = x.double()
        missing = torch.isnan(x)
        low, high, log_det = self._box(x)
        return low.masked_fill(missing, -math.inf), high.masked_fill(missing, math.inf), log_det

    def _box(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        discrete = self.levels > 0
        if self.how == "logit":
            low, high = x.clone(), x.clone()
            if self.some_discrete:
                unfold, codes = self._unfold(), x[:, discrete]
                low[:, discrete] = unfold(codes)[0].masked_fill(codes < 0.5, -math.inf)
                top = codes > self.levels[discrete] - 1.5
                high[:, discrete] = unfold(codes + 1)[0].masked_fill(top, math.inf)
            return low, high, x.new_zeros(len(x))
        if self.marginals_ is None:
            return x, x, x.new_zeros(len(x))
        low, high, log_p = self.marginals_.look(x)
        density = (low == high) & ~torch.isnan(x)
        each = torch.where(density, log_p + 0.5 * (low.square() + LOG_2PI), 0.0)
        each = torch.where(torch.isneginf(log_p), log_p, each)
        if self.how == "affine":
            plain = self.plain_.bool()
            half = 0.5 * discrete
            least, most = self.marginals_.ends()
            here = torch.where(x - half < least, -math.inf, x - half)
            there = torch.where(x + half > most, math.inf, x + half)
            whole = plain & discrete
            low = torch.where(whole, here, torch.where(plain, x, low))
            high = torch.where(whole, there, torch.where(plain, x, high))
            each = torch.where(plain & ~torch.isneginf(log_p), 0.0, each)
        return low, high, each.sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """Codes (n, d) of real vectors, a whole number where discrete."""
        y = y.double()
        if self.how == "logit":
            return self._folded(y)
        if self.marginals_ is None:
            return y
        x = self.marginals_.invert(y)
        if self.how == "affine":
            at = self.marginals_.at_numbers
            plain = self.plain_.bool()
            near = torch.full_like(y, torch.nan)
            if self.marginals_.numbers_ is not None:
                near[:, at] = self.marginals_.numbers_.tidied(y[:, at])
            x = torch.where(plain, near, x)
        return x

    def inside(self, y: Tensor) -> Tensor:
        """Which rows y are coordinates of some code, (n,): of the logit, a little is not."""
        discrete = self.levels > 0
        if self.how != "logit" or not self.some_discrete:
            return torch.ones(len(y), dtype=torch.bool, device=y.device)
        unfold = self._unfold()
        x = unfold.inverse(y[:, discrete])
        return ((x >= 0) & (x < unfold.high)).all(1)

    def _discrete(self) -> Any:
        """The discrete columns as an index: a slice where they are all."""
        return slice(None) if self.all_discrete else self.levels > 0

    def _unfold(self) -> Logit:
        levels = self.levels[self._discrete()].double()
        return Logit(torch.zeros_like(levels), levels, alpha=ALPHA)

    def _unfolded(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        discrete = self._discrete()
        if not self.some_discrete:
            return x, x.new_zeros(len(x))
        y = x.clone()  # x may be the caller's own rows
        y[:, discrete], log_det = self._unfold()((x + u)[:, discrete])
        return y, log_det

    def _folded(self, y: Tensor) -> Tensor:
        discrete = self._discrete()
        if not self.some_discrete:
            return y
        x = y.clone()
        unfold = self._unfold()
        level = unfold.inverse(y[:, discrete]).floor()
        x[:, discrete] = level.clamp_min(0).minimum(unfold.high - 1)
        return x
