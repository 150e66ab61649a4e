r"""How data turn into noise: x_t = α(t) x_0 + σ(t) ε, from t = 0, data, to t = 1, noise.

    Straight     α = 1 − t,                        σ = t                     flow matching
    Cosine       α = cos θ,                        σ = sin θ,  θ = t arctan 100
    LinearBeta   α = exp(−½ ∫ β),  β from .1 to 20,  σ = √(1 − α²)           DDPM
    Exploding    α = 1,    σ = σ_min √((σ_max/σ_min)^{2t} − 1)               score models

Coordinates are standard normal, cell by cell, so that x̂ = x_t / r with r = √(α² + σ²) is so at
every t. In the angle θ, tan θ = σ/α, all schedules are one and the same path:

    x̂ = cos θ x_0 + sin θ ε,      dx̂/dθ = cos θ ε − sin θ x_0

They differ in which angles are learned most, and where the path ends. (Song et al., 2021; Nichol &
Dhariwal, 2021; Lipman et al., 2023.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Schedule:
    """α and σ as functions of the time, and the time of an angle."""

    last = math.pi / 2  # the angle of t = 1

    def alpha(self, t: Tensor) -> Tensor:
        """α(t), the share of the data."""
        raise NotImplementedError

    def sigma(self, t: Tensor) -> Tensor:
        """σ(t), the scale of the noise."""
        raise NotImplementedError

    def time(self, angle: Tensor) -> Tensor:
        """t with tan(angle) = σ(t)/α(t)."""
        raise NotImplementedError

    def angle(self, t: Tensor) -> Tensor:
        """θ = arctan(σ/α)."""
        return torch.atan2(self.sigma(t), self.alpha(t))

    def radius(self, t: Tensor) -> Tensor:
        """r = √(α² + σ²), the spread of x_t."""
        return torch.hypot(self.alpha(t), self.sigma(t))

    def times(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """n + 1 times from 1 to 0 whose angles are as far apart as one another; float64."""
        share = torch.linspace(1, 0, n + 1, dtype=torch.float64, device=device)
        times = self.time(self.last * share)
        times[0], times[-1] = 1.0, 0.0
        return times


class Straight(Schedule):
    """A straight line from data to noise."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def time(self, angle: Tensor) -> Tensor:
        return angle.sin() / (angle.sin() + angle.cos())


class Cosine(Schedule):
    """A quarter of a circle at constant speed, which stops where σ/α = 100."""

    last = math.atan(100)

    def alpha(self, t: Tensor) -> Tensor:
        return (self.last * t).cos()

    def sigma(self, t: Tensor) -> Tensor:
        return (self.last * t).sin()

    def time(self, angle: Tensor) -> Tensor:
        return angle / self.last


class LinearBeta(Schedule):
    """Noise is added at a rate β(t) that grows linearly: dx = −½ β x dt + √β dw."""

    low, high = 0.1, 20.0

    def __init__(self) -> None:
        self.last = math.acos(math.exp(-0.25 * (self.low + self.high)))

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -0.25 * (self.high - self.low) * t.square() - 0.5 * self.low * t

    def alpha(self, t: Tensor) -> Tensor:
        return self._log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * self._log_alpha(t))).sqrt()

    def time(self, angle: Tensor) -> Tensor:
        spent = -4 * angle.cos().log()  # 2 ∫ β
        root = (4 * self.low**2 + 4 * (self.high - self.low) * spent).sqrt()
        return 2 * spent / (root + 2 * self.low)  # nothing cancels near 0


class Exploding(Schedule):
    """Data that stay, under noise that grows geometrically."""

    def __init__(self, low: float = 0.01, high: float = 50.0) -> None:
        self.low, self.high = low, high
        self.log_ratio = math.log(high / low)
        self.last = math.atan(low * math.sqrt(math.expm1(2 * self.log_ratio)))

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.low * torch.expm1(2 * self.log_ratio * t).sqrt()

    def time(self, angle: Tensor) -> Tensor:
        return torch.log1p((angle.tan() / self.low).square()) / (2 * self.log_ratio)
