"""Where chains begin: a Gaussian fitted to the normal scores z of the columns.

    p₀(z) = N(z; μ, S R S),    S the scales and R the correlations of the rows

Each column has its own distribution and all are joined by a Gaussian (a Gaussian copula), so draws
have the marginals of the data. It is normalised, drawn from and conditioned in closed form.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.bijections import Standardise
from genus.distributions.gaps import Conditionals, correlations
from genus.distributions.points import LOG_2PI
from genus.missing import has_gaps


class Base(nn.Module):
    """p₀ of d normal scores."""

    root_: Tensor  # L, L Lᵀ = R
    white_: Tensor  # L⁻¹

    def __init__(self, d: int) -> None:
        super().__init__()
        self.scale_ = Standardise(d)
        self.register_buffer("root_", torch.eye(d))
        self.register_buffer("white_", torch.eye(d))

    def fit(self, z: Tensor) -> None:
        """From scores (n, d), NaN where cells are missing."""
        self.scale_.fit(z)
        R = correlations(self.scale_(z)[0]).double()
        L = torch.linalg.cholesky(R)
        eye = torch.eye(len(L), dtype=L.dtype, device=L.device)
        self.root_.copy_(L)
        self.white_.copy_(torch.linalg.solve_triangular(L, eye, upper=False))

    @property
    def correlation(self) -> Tensor:
        """R, float64."""
        L = self.root_.double()
        return L @ L.T

    def log_prob(self, z: Tensor) -> Tensor:
        """log p₀(z), (n, d) → (n,), in the precision of z."""
        A = (self.white_ / self.scale_.std_).to(z.dtype)  # L⁻¹ D⁻¹; chains call this at each step
        e = F.linear(z - self.scale_.mean_.to(z.dtype), A)
        log_det = A.diagonal().log().sum()
        return log_det - 0.5 * len(A) * LOG_2PI - 0.5 * e.square().sum(1)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """n draws, (n, d), float64."""
        root = self.root_.double()
        e = torch.randn(n, len(root), generator=rng, dtype=torch.float64, device=root.device)
        return self.scale_.inverse(e @ root.T)

    def fill(self, z: Tensor, e: Tensor, copies: int, wide: float) -> tuple[Tensor, Tensor]:
        """z with its gaps drawn from p₀(missing | observed), and log of their density, (n,).

        e: uniforms (n, d). copies: rows that stand together and have the same gaps. wide: how much
        wider than p₀ the draws are.
        """
        gaps = torch.isnan(z)
        if not has_gaps(z):
            return z, z.new_zeros(len(z))
        draws = Conditionals(self.correlation, gaps[::copies], copies, wide)
        mean, scale = self.scale_.mean_, self.scale_.std_
        known = torch.where(gaps, 0.0, (z - mean) / scale)
        normal = torch.where(gaps, torch.special.ndtri(e.double().clamp(1e-7, 1 - 1e-7)), 0.0)
        filled = torch.where(gaps, mean + scale * draws(known, normal), z)
        log_q = draws.log_q(normal) - (gaps * scale.log()).sum(1)
        return filled, torch.where(gaps.any(1), log_q, 0.0)
