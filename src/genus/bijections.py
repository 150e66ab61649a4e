"""Invertible maps with log-determinants: y = f(x), x = f⁻¹(y), log |det ∂y/∂x|.

Preprocessing and flows share them: a density model on y reports log p(x) = log p(y) + log |det ∂y/∂x|.
Everything works on flattened rows of shape (n, d).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bijection(nn.Module):
    """An invertible map of R^d (or a box in it). ``forward`` returns (y, log_det) with log_det of shape (n,)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(y, log |det ∂y/∂x|)."""
        raise NotImplementedError

    def inverse(self, y: Tensor) -> Tensor:
        """x with forward(x) = y."""
        raise NotImplementedError


class Standardise(Bijection):
    """y = (x − mean) / std, a column at a time; missing entries stay missing and add nothing to the log-determinant.

    A column whose spread is nothing beside its size counts as constant and keeps scale 1.
    """

    mean_: Tensor
    std_: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("mean_", torch.zeros(d, dtype=torch.float64))
        self.register_buffer("std_", torch.ones(d, dtype=torch.float64))

    def fit(self, x: Tensor) -> Standardise:
        """Take mean and standard deviation from rows x of shape (n, d)."""
        mean, std = moments(x)
        self.mean_.copy_(mean)
        self.std_.copy_(torch.where(std > 1e-10 * mean.abs().clamp_min(1e-200), std, torch.ones_like(std)))
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = (x.double() - self.mean_) / self.std_
        log_det = -(torch.log(self.std_) * ~torch.isnan(y)).sum(1)
        return y, log_det

    def inverse(self, y: Tensor) -> Tensor:
        return y.double() * self.std_ + self.mean_


class Logit(Bijection):
    """y = logit(α + (1 − 2α)(x − low)/(high − low)), from a box to R^d (Dinh et al., 2017).

    low, high: (d,) the box; alpha in [0, ½) keeps its edges away from infinity.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor, alpha: float = 0.05) -> None:
        super().__init__()
        self.register_buffer("low", low.double())
        self.register_buffer("high", high.double())
        self.alpha = alpha

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        slope = (1 - 2 * self.alpha) / (self.high - self.low)
        p = self.alpha + slope * (x.double() - self.low)
        y = torch.log(p) - torch.log1p(-p)
        log_det = (torch.log(slope) + F.softplus(y) + F.softplus(-y)).nan_to_num().sum(1)  # dy/dp = 1/(p(1−p))
        return y, log_det

    def inverse(self, y: Tensor) -> Tensor:
        p = torch.sigmoid(y.double())
        return (p - self.alpha) / (1 - 2 * self.alpha) * (self.high - self.low) + self.low


class Chain(Bijection):
    """f_m ∘ … ∘ f_1: the maps in the order given, log-determinants added."""

    def __init__(self, *maps: Bijection) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for f in self.maps:
            x, log_det = f(x)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor) -> Tensor:
        for f in reversed(self.maps):
            y = f.inverse(y)  # type: ignore[operator]
        return y


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (1/n) standard deviation of each column in float64, missing entries left out."""
    x = x.double()
    mean = torch.nan_to_num(torch.nanmean(x, 0))
    centred = x - mean
    size = centred.abs().nan_to_num().amax(0).clamp_min(math.ulp(0.0))  # squares of 1e-300 vanish: scale first
    std = torch.nan_to_num(torch.nanmean((centred / size).square(), 0).sqrt() * size)
    return mean, torch.where(std < 1e-290, torch.zeros_like(std), std)
