"""Conditions y of a model p(x | y), as the numbers that its network sees."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.distributions.bijections import Standardise
from genus.space import Space

LABELS = 64  # ordered levels up to which each has a weight of its own


class Conditions(Standardise):
    """A 1 at the category or level; standard units of reals and of many ordered levels.

    ``fit`` takes the units from rows.
    """

    def __init__(self, space: Space) -> None:
        super().__init__(len(space.cardinality))
        kinds = zip(space.kinds, space.cardinality, strict=True)
        self.levels = [c if kind == "categorical" or c <= LABELS else 0 for kind, c in kinds]
        self.width = sum(max(c, 1) for c in self.levels)

    def features(self, given: Tensor, dtype: torch.dtype) -> Tensor:
        """Codes (n, …) → (n, width)."""
        g = given.flatten(1)
        scaled = self(g)[0]
        parts = [
            F.one_hot(g[:, j].long(), c) if c else scaled[:, j, None]
            for j, c in enumerate(self.levels)
        ]
        return torch.cat([p.to(dtype) for p in parts], 1)
