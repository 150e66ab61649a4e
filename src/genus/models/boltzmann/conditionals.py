"""Each cell of an RBM given all others, p(v_i | v_−i): what Z is not needed for.

    log p(v_i | v_−i) = −F(v) − log Σ_u e^{−F(v_1, …, u, …, v_d)},   u every value of cell i
    Σ_i log p(v_i | v_−i)                     the pseudo-likelihood (Besag, 1975)

Another value of one cell moves the hidden inputs by W_i (φ(u) − φ(v_i)), and nothing else. Given
hidden units a gaussian cell is normal with precision τ, so that its sum is one over points that lie
1/√τ apart: e^{−2π²} of it is lost.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.models.boltzmann.units import Units

LARGEST = 2**23  # numbers at a time


def log_conditionals(m: Any, v: Tensor, columns: list[int]) -> Tensor:
    """log p(v_i | v_−i) of the cells ``columns`` of states v (n, d), (n, len(columns)).

    m: an RBM.
    """
    found = [_log_conditional(m, v, column) for column in columns]
    return torch.stack(found, 1)


def _log_conditional(m: Any, v: Tensor, column: int) -> Tensor:
    """log p(v_i | v_−i) of cell i, (n,), in float64."""
    units, lam = m.units_, m.lambda_
    group, s, t = _place(units, column)
    W, b = m.W_[s], m.b_[t]
    phi, own, log_step = _values(units, column, group, b, W, lam)
    moves = phi @ W
    size = max(1, LARGEST // (len(phi) * W.shape[1]))
    out = []
    for some in v.split(size):
        all_phi = units.phi(some)
        inputs = torch.addmm(m.c_, all_phi - m.mu_, m.W_)
        rest = inputs - all_phi[:, s] @ W
        a = rest[:, None] + moves
        each = own + (F.softplus(a).sum(2) - a @ lam).double()
        here = _bias(units, column, group, b, some[:, column])
        here = here + (F.softplus(inputs).sum(1) - inputs @ lam).double()
        out.append(here - torch.logsumexp(each, 1) - log_step)
    return torch.cat(out)


def _place(units: Units, column: int) -> tuple[int, slice, slice]:
    """The group of a cell, and where its φ and its part of b stand."""
    group = next(i for i, (_, _, columns) in enumerate(units.groups) if column in columns)
    _, _, columns = units.groups[group]
    s, t = units.slices[group]
    place = list(columns).index(column)
    wide, long = (s.stop - s.start) // len(columns), (t.stop - t.start) // len(columns)
    begin, first = s.start + place * wide, t.start + place * long
    return group, slice(begin, begin + wide), slice(first, first + long)


def _values(
    units: Units, column: int, group: int, b: Tensor, W: Tensor, lam: Tensor
) -> tuple[Tensor, Tensor, float]:
    """φ of every value of a cell (u, r), its log base + bᵀt (u,), and the log of their distance."""
    sort, levels, _ = units.groups[group]
    if levels:
        return units._table(sort, levels, W), b.double(), 0.0
    if sort == "bernoulli":
        u = torch.tensor([0.0, 1.0], dtype=W.dtype, device=W.device)
        return u[:, None], (u * b).double(), 0.0
    tau = _precision(units, column)
    # the means that hidden units can give it
    centre, low, high = b - W @ lam, W.clamp_max(0).sum(), W.clamp_min(0).sum()
    least, most = (float(((centre + end) / tau).detach()) for end in (low, high))
    step = float(tau.detach()) ** -0.5
    n = math.ceil((most - least) / step) + 17
    u = least + step * (torch.arange(n, dtype=W.dtype, device=W.device) - 8)
    return u[:, None], _bias(units, column, group, b, u), math.log(step)


def _bias(units: Units, column: int, group: int, b: Tensor, v: Tensor) -> Tensor:
    """log base(v) + bᵀt(v) of one cell, (n,)."""
    sort, levels, _ = units.groups[group]
    if levels:
        return b[v.long()].double()
    if sort == "bernoulli":
        return (b * v).double()
    return (b * v - 0.5 * _precision(units, column) * v.square()).double()


def _precision(units: Units, column: int) -> Tensor:
    """τ of a gaussian cell."""
    columns = next(columns for sort, _, columns in units.groups if sort == "gaussian")
    return units.tau()[list(columns).index(column)]
