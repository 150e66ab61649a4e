r"""Missing coordinates of real vectors, drawn from a Gaussian given those that are seen.

    y_m = μ_m − Λ_mm⁻¹ Λ_mo (y_o − μ_o) + s Λ_mm^{−1/2} ε,    Λ = Σ⁻¹,  ε ~ N(0, I)

μ and Σ are those of the rows, by EM where they have gaps (Dempster et al., 1977). With s > 1 the
draws have wider tails than the Gaussian's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genus.distributions.normals import Conditionals as Normals
from genus.distributions.normals import by_pattern
from genus.distributions.points import LOG_2PI

ROWS = 4096  # from which the correlations of gappy rows are learned, at most
SWEEPS = 20  # of EM
TOWARDS_ONE = 0.01  # how far correlations are drawn towards none


def correlations(v: Tensor) -> Tensor:
    """Those of standardised rows v (n, d) with gaps, drawn a little towards none."""
    d = v.shape[1]
    eye = torch.eye(d, dtype=v.dtype, device=v.device)
    if not torch.isnan(v).any():
        return torch.lerp(v.T @ v / len(v), eye, TOWARDS_ONE)
    some = v[:ROWS]
    C = eye
    mean = torch.zeros(d, dtype=v.dtype, device=v.device)
    cells = 1 + 2_000_000 // d**2
    for _ in range(SWEEPS):
        total, square = torch.zeros_like(mean), torch.zeros_like(C)
        normal = Normals(mean[None], C[None])
        for index, real, o in by_pattern(some, cells):
            given = normal.given(some[index], o)
            e = given.filled[:, 0][real]
            total += e.sum(0)
            square += e.T @ e + given.covariance(real.sum(1, keepdim=True).to(e.dtype))[0]
        mean = total / len(some)
        C = square / len(some) - torch.outer(mean, mean)
        C = torch.lerp((C + C.T) / 2, eye, TOWARDS_ONE)
    scale = C.diagonal().clamp_min(1e-6).rsqrt()
    return C * scale[:, None] * scale


class Conditionals:
    """Gaussians of missing coordinates given the others of standardised rows, one a pattern.

    gaps: (n, d) of rows; copies: how often each row stands in what is filled; wide: s.
    """

    def __init__(self, correlation: Tensor, gaps: Tensor, copies: int, wide: float) -> None:
        d = len(correlation)
        patterns, which = gaps.unique(dim=0, return_inverse=True)
        eye = torch.eye(d, dtype=correlation.dtype, device=correlation.device)
        precision = torch.linalg.inv(correlation)
        C = torch.linalg.cholesky(
            torch.where(patterns[:, :, None] & patterns[:, None, :], precision, eye)
        )
        # C⁻¹, whose transpose is a root of the covariance
        spread = torch.linalg.solve_triangular(C, eye.expand_as(C), upper=False)
        onto = -(patterns[:, :, None] * (spread.mT @ spread)) @ precision  # −Λ_mm⁻¹ Λ_m·
        self.which, self.copies = which if len(patterns) > 1 else None, copies
        self.spread, self.onto, self.wide = wide * spread, onto.mT, wide
        log_det = C.diagonal(dim1=1, dim2=2).log().sum(1) - patterns.sum(1) * math.log(wide)
        self.log_det = log_det[which].repeat_interleave(copies)

    def __call__(self, known: Tensor, e: Tensor) -> Tensor:
        """μ(y_o) + s A ε_m of rows that are 0 where the other sort of cell is, (n copies, d)."""
        if self.which is None:
            return known @ self.onto[0] + e @ self.spread[0]
        shape = (len(self.which), self.copies, known.shape[1])
        out = (
            known.reshape(shape) @ self.onto[self.which]
            + e.reshape(shape) @ self.spread[self.which]
        )
        return out.reshape(known.shape)

    def log_q(self, e: Tensor) -> Tensor:
        """Log-density (n copies,) of what was drawn by way of normals e, 0 where cells are seen."""
        missing = e != 0
        return -0.5 * (e.square() + missing * LOG_2PI).sum(1) + self.log_det
