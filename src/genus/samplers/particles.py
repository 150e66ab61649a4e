"""Particles: k weighted draws a row, of which those that count go on, and of which one is kept.

    w_i = e^{log w_i} / Σ_j e^{log w_j},        effective number 1 / Σ_i w_i², from 1 to k

Log-weights are (n, k). The particles of a row stand together, (n k, …); what is returned are places
among these. Sources: Gordon, Salmond & Smith (1993); Kong, Liu & Wong (1994).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
