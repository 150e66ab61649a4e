"""Images as coordinates of a box: y = 2 (x − low)/(high − low) − 1, in [−1, 1].

low and high are the ends of the data, all cells together. Levels are points of the box, and a draw
has the nearest one. What a model learns then sits on points, so that it has no density; it serves
chains that are short.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genus.space import Space

BOX = (-1.0, 1.0)


class Pixels(nn.Module):
    """The map of rows of codes (n, d) to the box, and back; what ``Coordinates`` is elsewhere."""

    how = "pixels"
    marginals_ = None
    low_: Tensor
    high_: Tensor
    levels: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        levels = torch.tensor(space.cardinality)
        self.register_buffer("levels", levels, False)
        self.register_buffer("low_", torch.zeros(space.dim, dtype=torch.float64))
        self.register_buffer("high_", torch.ones(space.dim, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Take the box of the data from rows x (n, *shape): one pair of ends for all cells."""
        seen = x.double()[~torch.isnan(x)]
        if len(seen):
            self.low_.fill_(float(seen.min()))
            self.high_.fill_(float(seen.max()))
            self.high_[self.high_ <= self.low_] += 1

    def hides(self, x: Tensor) -> Tensor:
        """No cell hides a place."""
        return torch.zeros(x.shape, dtype=torch.bool, device=x.device)

    def forward(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """y (n, d), NaN where x is, and Σ log |∂y/∂x| of real cells, (n,)."""
        width = self.high_ - self.low_
        y = 2 * (x.double() - self.low_) / width - 1
        log_det = torch.where(self.levels == 0, torch.log(2 / width), 0.0).sum()
        return y, log_det.expand(len(x))

    def between(self, y: Tensor) -> Tensor:
        """Codes (n, d) of points of the box, also between the levels."""
        return self.low_ + (y.double() + 1) / 2 * (self.high_ - self.low_)

    def inverse(self, y: Tensor) -> Tensor:
        """Codes (n, d), the nearest level where there are levels."""
        x = self.between(y.clamp(*BOX))
        return torch.where(self.levels == 0, x, x.round())

    def inside(self, y: Tensor) -> Tensor:
        """Every point is the coordinate of some code."""
        return torch.ones(len(y), dtype=torch.bool, device=y.device)
