r"""The mass of a Gaussian in a box, one coordinate after the other.

With Σ = L Lᵀ and y = μ + L e, coordinate j lies in [a_j, b_j] where e_j is between

    α_j = (a_j − μ_j − Σ_{i<j} L_ji e_i) / L_jj    and    β_j, likewise of b_j

so that, e_j drawn from the normal between them, P(box) = E Π_j (Φ(β_j) − Φ(α_j)). (Geweke, 1991;
Hajivassiliou & McFadden, 1998; Genz, 1992.) Where a = b the coordinate is known, and its density
takes the place of the mass; where a = −∞ and b = ∞ it is missing, and costs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genus.distributions.levels import log_between
from genus.distributions.marginals import between
from genus.distributions.points import LOG_2PI


def in_box(mean: Tensor, L: Tensor, low: Tensor, high: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """log of what K Gaussians put into boxes, by m points each (n, K, m), and y (n, K, m, d) there.

    mean (K, d), L (K, d, d); low, high (n, d) the ends of each row's box; u (n, m, d) uniforms.
    """
    n, d = low.shape
    K, m = len(mean), u.shape[1]
    known = low == high
    e = u.new_zeros(n, K, m, d)
    log_w = u.new_zeros(n, K, m)
    for j in range(d):
        s = L[:, j, j][:, None]
        centre = mean[:, j, None] + torch.einsum("nkmi,ki->nkm", e[..., :j], L[:, j, :j])
        a = (low[:, j, None, None] - centre) / s
        b = (high[:, j, None, None] - centre) / s
        here = known[:, j, None, None]
        density = -0.5 * (a.square() + LOG_2PI) - s.log()
        log_w += torch.where(here, density, log_between(a, torch.maximum(b, a)))
        e[..., j] = torch.where(here, a, between(a, b, u[:, None, :, j].expand_as(a)))
    y = mean[:, None] + torch.einsum("nkmi,kji->nkmj", e, L)
    return log_w, y
