"""The mass that a density on the line puts on a level: that within ½ of it, ends with their tails.

    P(x) = F((r + h)/s) − F((r − h)/s),     P(0) = F((r + h)/s),     P(L − 1) = 1 − F((r − h)/s)

F is the distribution function of the standard normal or logistic, r = x − μ how far the level lies
from the mean, h half of a level's width, and s the scale, all in the same units.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FAR_AWAY = 1e4  # scales: what lies further has no mass, and gradients stay finite


def log_normal_mass(
    x: Tensor, levels: Tensor | int, r: Tensor, half: Tensor | float, s: Tensor
) -> Tensor:
    """log P(x) of levels x from 0 to L − 1, by the normal; all arguments broadcast."""
    return log_between(*_ends(x, levels, r, half, s))


def log_logistic_mass(
    x: Tensor, levels: Tensor | int, r: Tensor, half: Tensor | float, s: Tensor
) -> Tensor:
    """log P(x) of levels x from 0 to L − 1, by the logistic; all arguments broadcast.

    σ(b) − σ(a) = σ(b) σ(−a) (1 − e^{a−b}), so that nothing cancels in the tails.
    """
    below, above = _ends(x, levels, r, half, s)
    inside = (x > 0.5) & (x < levels - 1.5)
    width = torch.where(inside, torch.log(-torch.expm1(-2 * half / s)), 0.0)
    return F.logsigmoid(above) + F.logsigmoid(-below) + width


def log_between(a: Tensor, b: Tensor) -> Tensor:
    """log(Φ(b) − Φ(a)) for a < b, by the lower tail, where it does not cancel."""
    flip = a > 0
    a, b = torch.where(flip, -b, a), torch.where(flip, -a, b)
    low, high = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    return high + torch.log(-torch.expm1((low - high).clamp_max(-1e-12)))


def _ends(
    x: Tensor, levels: Tensor | int, r: Tensor, half: Tensor | float, s: Tensor
) -> tuple[Tensor, Tensor]:
    """Where the cell of a level ends, in standard units: far away on the outer side of an end."""
    below = torch.where(x < 0.5, -FAR_AWAY, (r - half) / s)
    above = torch.where(x > levels - 1.5, FAR_AWAY, (r + half) / s)
    return below, above
