"""The Gaussian, whole or partly observed.

With x = (x_o, x_m), o observed and m missing (Ghahramani & Jordan, 1994):

    log p(x_o) = log N(x_o | μ_o, Σ_oo)
    E[x_m | x_o] = μ_m + Σ_mo Σ_oo⁻¹ (x_o − μ_o)
    C = Cov[x_m | x_o] = Σ_mm − Σ_mo Σ_oo⁻¹ Σ_om
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from genus.distributions.points import LOG_2PI


def by_pattern(y: Tensor, cells: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows grouped by which entries are missing, many patterns at a time, without a loop over rows.

    Yields (index, real, o): index (P, R) of rows, real (P, R) False where a group is padded, o (P,
    d) the observed entries of each pattern. Patterns of like group size go together, at most
    ``cells`` rows·patterns.
    """
    patterns, group, counts = torch.unique(
        ~torch.isnan(y), dim=0, return_inverse=True, return_counts=True
    )
    order = torch.argsort(group, stable=True)
    first = counts.cumsum(0) - counts
    size = torch.ceil(torch.log2(counts.double())).long()
    for s in size.unique().tolist():
        wide = 2**s
        for some in (size == s).nonzero().squeeze(1).split(max(1, cells // wide)):
            place = torch.arange(wide, device=y.device)[None] + torch.zeros_like(some)[:, None]
            real = place < counts[some][:, None]
            index = order[(first[some][:, None] + place).clamp_max(len(order) - 1)]
            yield index, real, patterns[some]


def conditional(y: Tensor, o: Tensor, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-density of the observed part, rows with missing entries at their conditional mean, and C.

    y (P, R, d) rows of P patterns o (P, d); mean (K, d), cov (K, d, d). Returns (P, K, R), (P, K,
    R, d) and (P, K, d, d); rows and columns of C at observed entries are 0.
    """
    q, half_log_det, filled, C = observed_part(y, o, mean, cov)
    log_p = -0.5 * (q + o.to(y.dtype).sum(1)[:, None, None] * LOG_2PI) - half_log_det[..., None]
    return log_p, filled, C


def observed_part(
    y: Tensor, o: Tensor, mean: Tensor, cov: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x_o − μ_o)ᵀ Σ_oo⁻¹ (x_o − μ_o) (P, K, R), ½ log |Σ_oo| (P, K), and what conditions the rest.

    The last two are those of :func:`conditional`.
    """
    f = o.to(y.dtype)
    both = f[:, None, :, None] * f[:, None, None, :]
    eye = torch.diag_embed(1 - f)[:, None]
    # the missing block is the identity: it adds nothing
    L = torch.linalg.cholesky(cov * both + eye)
    y = torch.nan_to_num(y)  # padding too
    r = (y[:, None] - mean[:, None]) * f[:, None, None]
    t = torch.linalg.solve_triangular(L, r.mT, upper=False)
    across = cov * (1 - f)[:, None, :, None] * f[:, None, None, :]  # Σ_mo in place
    s = torch.linalg.solve_triangular(L, across.mT, upper=False)
    filled = torch.where(o[:, None, None], y[:, None], mean[:, None] + t.mT @ s)
    C = cov * (1 - f)[:, None, :, None] * (1 - f)[:, None, None, :] - s.mT @ s
    return t.square().sum(2), L.diagonal(dim1=2, dim2=3).log().sum(2), filled, C


def factor(C: Tensor) -> Tensor:
    """A with A Aᵀ = C for positive semi-definite C, zero rows and columns included."""
    values, vectors = torch.linalg.eigh(C)
    return vectors * values.clamp_min(0).sqrt()[..., None, :]


def variance_floor(variance: Tensor, mean: Tensor, share: float) -> Tensor:
    """What is added to each variance: a share of it.

    For a constant column it is what rounding can tell apart.
    """
    least = (1e-6 * mean.abs()).clamp_min(1e-3).square()
    constant = variance <= (1e-10 * mean.abs()).square().clamp_min(1e-200)
    return torch.where(constant, least, share * variance)
