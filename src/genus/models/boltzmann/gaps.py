"""Rows with missing cells: a layer that is given from above sums out what a row does not tell.

    log Σ_missing e^{bᵀt(v) + aᵀφ(v)} = Σ_seen (b_i t(v_i) + a_i φ(v_i)) + Σ_missing A(b_i, a_i)

Cells are independent given the layer above, so that this is exact.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.models.boltzmann.units import Units


def log_sum(units: Units, v: Tensor, b: Tensor, a: Tensor) -> Tensor:
    """log Σ e^{bᵀt(v) + aᵀφ(v)} over the cells of v (n, d) that are NaN, (n,), in float64."""
    b, a = b.double(), a.double()
    gap = torch.isnan(v)
    v = v.nan_to_num().double()
    total = a.new_zeros(len(a))
    for i, ((sort, _, columns), (s, t)) in enumerate(zip(units.groups, units.slices, strict=True)):
        if sort == "bernoulli":
            up = a[:, s] + b[t]
            seen, summed = v[:, columns] * up, F.softplus(up)
        else:
            logits = units._levels(b, a, i)
            seen = logits.gather(-1, v[:, columns, None].long())[..., 0]
            summed = torch.logsumexp(logits, -1)
        total = total + torch.where(gap[:, columns], summed, seen).sum(1)
    return total


def expected_phi(units: Units, v: Tensor, b: Tensor, a: Tensor) -> Tensor:
    """φ(v), that of missing cells in the mean given a from above; (n, n_phi)."""
    return units.expected(b, a, torch.zeros_like(a), v, v).to(a.dtype)
