"""The Gaussian, whole or partly observed.

With x = (x_o, x_m), o observed and m missing (Ghahramani & Jordan, 1994), and Λ = Σ⁻¹ = U Uᵀ:

    C = Cov[x_m | x_o] = Λ_mm⁻¹ = Jᵀ J
    E[x_m | x_o] = μ_m − C Λ_mo (x_o − μ_o)
    log p(x_o) = log N(x_o | μ_o, Σ_oo)
    (x_o − μ_o)ᵀ Σ_oo⁻¹ (x_o − μ_o) = |Uᵀ (E[x | x_o] − μ)|²,    |Σ_oo| = |Σ| |Λ_mm|

Only the missing block of each pattern is factored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genus.distributions.bijections import ROUNDING
from genus.distributions.points import LOG_2PI


def by_pattern(y: Tensor, cells: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows grouped by which entries are missing, many patterns at a time, without a loop over rows.

    Yields (index, real, o): index (P, R) of rows, real (P, R) False where a group is padded, o (P,
    d) the observed entries of each pattern. Patterns of like group size go together, those of like
    number of missing entries next to each other, at most ``cells`` rows·patterns.
    """
    patterns, group, counts = torch.unique(
        ~torch.isnan(y), dim=0, return_inverse=True, return_counts=True
    )
    order = torch.argsort(group, stable=True)
    first = counts.cumsum(0) - counts
    size = torch.ceil(torch.log2(counts.double())).long()
    by_number = torch.argsort(patterns.sum(1), stable=True)
    for s in size.unique().tolist():
        wide = 2**s
        for some in by_number[size[by_number] == s].split(max(1, cells // wide)):
            place = torch.arange(wide, device=y.device)[None] + torch.zeros_like(some)[:, None]
            real = place < counts[some][:, None]
            index = order[(first[some][:, None] + place).clamp_max(len(order) - 1)]
            yield index, real, patterns[some]


class Conditionals:
    """K Gaussians N(μ_k, Σ_k) from which rows show some entries: marginals of those, and the rest.

    ``mean`` (K, d), ``cov`` (K, d, d). The precision Λ is factored once; a pattern then costs no
    more than a factor of its missing block.
    """

    def __init__(self, mean: Tensor, cov: Tensor) -> None:
        self.mean = mean
        self.U = precision_factor(cov)
        self.precision = self.U @ self.U.mT
        self.half_log_det = -self.U.diagonal(dim1=1, dim2=2).log().sum(1)

    def given(self, y: Tensor, o: Tensor) -> Given:
        """The rows y (P, R, d) of P patterns o (P, d): what their observed entries tell."""
        d = o.shape[1]
        missing = ~o
        most = max(1, int(missing.sum(1).max()))
        place = torch.argsort(o.byte(), dim=1, stable=True)[:, :most]  # the missing ones first
        hidden = missing.gather(1, place)
        block = self.precision[:, place[:, :, None], place[:, None, :]].transpose(0, 1)
        both = hidden[:, :, None] & hidden[:, None, :]
        eye = torch.eye(most, dtype=y.dtype, device=y.device)
        # padding is the identity: it adds nothing
        L = torch.linalg.cholesky(torch.where(both[:, None], block, eye))
        J = torch.linalg.solve_triangular(L, eye.expand_as(L), upper=False)
        J = J * hidden[:, None, None]
        C = J.mT @ J
        r = torch.where(missing[:, None, None], 0.0, y.nan_to_num()[:, None] - self.mean[:, None])
        pull = torch.einsum("pkrd,kde->pkre", r, self.precision)
        at = place[:, None, None].expand(*pull.shape[:3], most)
        e = r.scatter_add(3, at, -(pull.gather(3, at) @ C))
        q = torch.einsum("pkrd,kde->pkre", e, self.U).square().sum(3)
        half_log_det = self.half_log_det + L.diagonal(dim1=2, dim2=3).log().sum(2)
        filled = torch.where(o[:, None, None], y[:, None], self.mean[:, None] + e)
        log_norm = half_log_det + 0.5 * LOG_2PI * o.to(y.dtype).sum(1)[:, None]
        log_p = -0.5 * q - log_norm[..., None]
        return Given(q, half_log_det, log_p, filled.nan_to_num(), C, place, d)


class Given(NamedTuple):
    """What P patterns of R rows tell of K Gaussians."""

    q: Tensor  # (x_o − μ_o)ᵀ Σ_oo⁻¹ (x_o − μ_o), (P, K, R)
    half_log_det: Tensor  # ½ log |Σ_oo|, (P, K)
    log_p: Tensor  # log N(x_o | μ_o, Σ_oo), (P, K, R)
    filled: Tensor  # the rows, missing entries at their conditional means, (P, K, R, d)
    C: Tensor  # covariances of the missing entries, (P, K, b, b), 0 where padded
    place: Tensor  # the missing entries of each pattern, (P, b), and observed ones as padding
    d: int

    def covariance(self, weight: Tensor) -> Tensor:
        """Σ_p w_pk C_pk, (P, K) → (K, d, d)."""
        K = self.C.shape[1]
        C = self.C * weight[..., None, None]
        cell = self.place[:, :, None] * self.d + self.place[:, None, :]
        cell = cell[:, None] + self.d**2 * torch.arange(K, device=cell.device)[:, None, None]
        out = C.new_zeros(K * self.d**2)
        return out.index_add_(0, cell.flatten(), C.flatten()).reshape(K, self.d, self.d)

    def noise(self, e: Tensor) -> Tensor:
        """Draws of N(0, C) from standard normals e (P, R, d): (P, K, R, d)."""
        at = self.place[:, None].expand(-1, e.shape[1], -1)
        drawn = e.gather(2, at)[:, None] @ factor(self.C).mT
        at = at[:, None].expand_as(drawn)
        return drawn.new_zeros(*drawn.shape[:3], self.d).scatter_add_(3, at, drawn)


def factor(C: Tensor) -> Tensor:
    """A with A Aᵀ = C for positive semi-definite C, zero rows and columns included."""
    values, vectors = torch.linalg.eigh(C)
    return vectors * values.clamp_min(0).sqrt()[..., None, :]


def precision_factor(cov: Tensor) -> Tensor:
    """Upper triangular U with Σ⁻¹ = U Uᵀ."""
    L, failed = torch.linalg.cholesky_ex(cov)
    jitter = 1e-10
    # rounding took it below zero: raise its own diagonal until it stands
    while bool(failed.any()) and jitter < 1:
        diagonal = torch.diag_embed(cov.diagonal(dim1=-2, dim2=-1))
        cov = cov + jitter * diagonal * (failed > 0)[..., None, None]
        L, failed = torch.linalg.cholesky_ex(cov)
        jitter *= 10
    eye = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device).expand_as(cov)
    return torch.linalg.solve_triangular(L, eye, upper=False).mT


SHARES = np.geomspace(1e-6, 0.999, 40).tolist()  # ρ that are tried; at 0 S may be singular


class LeaveOneOut:
    """Which share ρ of (1 − ρ) S + ρ diag S tells most about rows that are left out.

    S (d, d) is the covariance of n rows, z a row about their mean. Without that row the mean lies
    at −z/(n − 1) and

        Σ = A − c z zᵀ,   A = (1 − ρ) n/(n − 1) S + ρ diag S,   c = (1 − ρ) n/(n − 1)²

    so that with h = zᵀ A⁻¹ z its log-density, but for constants, is (Hoffbeck & Landgrebe, 1996)

        −½ [ (n/(n − 1))² h/(1 − c h) + log |A| + log(1 − c h) ]

    Columns are taken in units of their deviations, and one decomposition of S serves every ρ.
    """

    def __init__(self, S: Tensor, n: float) -> None:
        n = max(n, 3)
        self.deviation = S.diagonal().sqrt()
        values, self.vectors = torch.linalg.eigh(S / self.deviation / self.deviation[:, None])
        self.n = n
        self.rho = torch.tensor(SHARES, dtype=S.dtype, device=S.device)[:, None]
        wide = (1 - self.rho) * n / (n - 1) * values.clamp_min(0) + self.rho
        self.values = wide.clamp_min(1e-12)  # (shares, d)
        self.total = torch.zeros_like(self.rho[:, 0])

    def add(self, z: Tensor, weight: Tensor | None = None) -> None:
        """Take rows z (m, d) into account, each as many times as its weight says."""
        if len(z) > 8192:
            parts = z.split(8192)
            weights = [None] * len(parts) if weight is None else weight.split(8192)
            for some, w in zip(parts, weights, strict=True):
                self.add(some, w)
            return
        along = (z / self.deviation @ self.vectors).square()
        h = (1 / self.values) @ along.T  # (shares, m)
        left = (1 - (1 - self.rho) * self.n / (self.n - 1) ** 2 * h).clamp_min(1e-12)
        form = (self.n / (self.n - 1)) ** 2 * h / left + left.log()
        lost = 0.5 * (form + self.values.log().sum(1, keepdim=True))
        self.total -= lost.sum(1) if weight is None else lost @ weight

    def best(self) -> float:
        """ρ of the highest total."""
        return float(self.rho[self.total.argmax(), 0])


def towards_diagonal(S: Tensor, rho: float) -> Tensor:
    """(1 − ρ) S + ρ diag S."""
    return (1 - rho) * S + rho * torch.diag(S.diagonal())


def variance_floor(variance: Tensor, mean: Tensor, share: float) -> Tensor:
    """What is added to each variance: a share of it.

    For a constant column it is what rounding can tell apart.
    """
    least = (1e-6 * mean.abs()).clamp_min(1e-3).square()
    constant = variance <= (ROUNDING * mean.abs()).square().clamp_min(1e-200)
    return torch.where(constant, least, share * variance)
