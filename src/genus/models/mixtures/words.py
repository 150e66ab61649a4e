"""Words and bits beside numbers, for mixtures that have a table of them in each component.

The location model (Olkin & Tate, 1961): given the component, words are independent of each other
and of the numbers. A row's coordinates y hold a word as a normal score z, of which only the word
counts: on its score a word v has the density p_k(v) φ(z)/P(v), P its share of the column.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.distributions.coordinates import Coordinates
from genus.distributions.draws import choose
from genus.distributions.marginals import Words, between
from genus.distributions.points import LOG_2PI
from genus.space import Space


class WordCells:
    """Where words and bits stand in a row, and their levels; none where a row has no numbers.

    ``at`` and ``numbers``: the columns of either sort. ``levels``: of each column of words.
    """

    def __init__(self, space: Space, coordinates: Coordinates) -> None:
        words = [j for j, kind in enumerate(space.kinds) if kind in ("binary", "categorical")]
        beside = coordinates.how != "logit" and 0 < len(words) < space.dim
        self.at = words if beside else []
        self.numbers = [j for j in range(space.dim) if j not in self.at]
        self.levels = [space.cardinality[j] for j in self.at]
        self._coordinates = coordinates

    def __bool__(self) -> bool:
        return len(self.at) > 0

    def _columns(self) -> Words:
        """What the columns do on their own."""
        return self._coordinates.marginals_.words_  # type: ignore[union-attr,return-value]

    def shares(self) -> Tensor:
        """Of all words, column after column, (L,)."""
        rows = zip(self._columns().log_shares_, self.levels, strict=True)
        return torch.cat([row[:levels] for row, levels in rows]).exp()

    def split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates of numbers, and h, a 1 at each word that a row has, (n, L)."""
        if not self:
            return y, y.new_zeros(len(y), 0)
        return y[:, self.numbers], self.hot(self._columns().invert(y[:, self.at])).to(y.dtype)

    def hot(self, codes: Tensor) -> Tensor:
        """A 1 at each word of codes (n, m), 0 at all of a missing one; (n, L)."""
        each = [
            F.one_hot(c.nan_to_num().long(), levels) * ~torch.isnan(c)[:, None]
            for c, levels in zip(codes.T, self.levels, strict=True)
        ]
        return torch.cat(each, 1).double()

    def log_base(self, y: Tensor) -> Tensor:
        """Σ log (P(v)/φ(z)) over the words v of rows y, (n,)."""
        z = y[:, self.at]
        words = self._columns()
        each = words.look(words.invert(z))[2] + 0.5 * (z.square() + LOG_2PI)
        return each.nan_to_num().sum(1)

    def draw(self, p: Tensor, rng: torch.Generator) -> Tensor:
        """Coordinates (n, m) of words drawn from tables p (n, L)."""
        codes = torch.stack([choose(t, rng) for t in p.split(self.levels, 1)], 1).to(p.dtype)
        low, high, _ = self._columns().look(codes)
        return between(low, high, torch.full_like(low, 0.5))

    def of_columns(self, counts: Tensor) -> Tensor:
        """Sums over the words of each column, at each of its words, (K, L)."""
        each = [c.sum(1, keepdim=True).expand_as(c) for c in counts.split(self.levels, 1)]
        return torch.cat(each, 1)
