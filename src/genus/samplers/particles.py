"""Particles: k weighted draws a row, of which those that count go on, and of which one is kept.

    w_i = e^{log w_i} / Σ_j e^{log w_j},        effective number 1 / Σ_i w_i², from 1 to k

Log-weights are (n, k). The particles of a row stand together, (n k, …); what is returned are places
among these. Sources: Gordon, Salmond & Smith (1993); Kong, Liu & Wong (1994).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

PER_DRAW = 4  # particles, at least, for each of several that are kept


def enough(k: int, n: int) -> int:
    """How many particles a row needs where n of them are kept; k where one is."""
    return k if n == 1 else max(k, PER_DRAW * n)


def weights(log_w: Tensor) -> Tensor:
    """w of each particle, (n, k); 1/k where no particle of a row has any weight."""
    return torch.softmax(log_w, 1).nan_to_num(1 / log_w.shape[1])


def effective_number(w: Tensor) -> Tensor:
    """1 / Σ w² of weights (n, k) that sum to 1: how many of equal weight would tell as much."""
    return 1 / w.square().sum(1)


def pick(log_w: Tensor, rng: torch.Generator) -> Tensor:
    """The place of one particle a row, drawn by weight, (n,)."""
    n, k = log_w.shape
    chosen = torch.multinomial(weights(log_w), 1, generator=rng)[:, 0]
    return chosen + k * torch.arange(n, device=log_w.device)


def pick_several(log_w: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """The places of n particles a row, (n, rows), each drawn by weight.

    One uniform number a row, and n − 1 more at equal steps, are looked up in the cumulated weights:
    a particle comes n w_i times but for rounding (systematic resampling; Kitagawa, 1996). They are
    shuffled, so that each of the n alone is a draw.
    """
    if n == 1:
        return pick(log_w, rng)[None]
    rows, k = log_w.shape
    kw: dict[str, Any] = {"generator": rng, "dtype": torch.float64, "device": log_w.device}
    steps = torch.arange(n, device=log_w.device)
    u = (torch.rand(rows, 1, **kw) + steps) / n
    chosen = torch.searchsorted(weights(log_w).double().cumsum(1), u).clamp_max(k - 1)
    chosen = chosen.gather(1, torch.rand(rows, n, **kw).argsort(1))
    return (chosen + k * torch.arange(rows, device=log_w.device)[:, None]).T


def resample(log_w: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """The places (n k,) of the particles that go on, and their log-weights; None where all go on.

    A row whose effective number is below k/2 gets k draws by weight, which then weigh the same:
    the mean weight of the row stays what it was. Other rows are left alone.
    """
    n, k = log_w.shape
    w = weights(log_w)
    few = effective_number(w) < k / 2
    if not few.any():
        return None
    places = torch.arange(n * k, device=log_w.device).reshape(n, k)
    drawn = torch.multinomial(w[few], k, replacement=True, generator=rng)
    places[few] = places[few].gather(1, drawn)
    log_w = log_w.clone()
    log_w[few] = torch.logsumexp(log_w[few], 1, keepdim=True) - math.log(k)
    return places.flatten(), log_w
