r"""Ways to learn an unnormalised log f(y) without its normaliser and without chains.

With s = ∇ log f and rows y (n, d):

    score matching    E[½ ‖s‖² + tr ∇s]                         (Hyvärinen, 2005)
    sliced            E[½ ‖s‖² + vᵀ(∇s)v],   v of ±1            (Song et al., 2019)
    denoising         E[½ ‖σ s(y + σe) + e‖²]                   (Vincent, 2011)
    noise contrastive −E log σ(r(y)) − E_{p₀} log σ(−r(y)),     (Gutmann & Hyvärinen, 2010)
                      r = log f + c − log p₀,  c → −log Z

Score matching is that of a density: where the data have atoms it has no minimum. Denoising learns
the density of the rows with noise of σ.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LogF = Callable[[Tensor], Tensor]


def scores(log_f: LogF, y: Tensor) -> tuple[Tensor, Tensor]:
    """(y, s) of rows, with the graph that further derivatives need."""
    y = y.detach().requires_grad_()
    (s,) = torch.autograd.grad(log_f(y).sum(), y, create_graph=True)
    return y, s


def score_matching(log_f: LogF, y: Tensor) -> Tensor:
    """With the exact trace, d further derivatives; (n, d) → (n,)."""
    y, s = scores(log_f, y)
    trace = torch.zeros_like(s[:, 0])
    for j in range(y.shape[1]):
        (row,) = torch.autograd.grad(s[:, j].sum(), y, create_graph=True)
        trace = trace + row[:, j]
    return 0.5 * s.square().sum(1) + trace


def sliced(log_f: LogF, y: Tensor, rng: torch.Generator) -> Tensor:
    """With one projection of the trace a row; (n, d) → (n,)."""
    y, s = scores(log_f, y)
    v = 2.0 * torch.randint(2, y.shape, generator=rng, device=y.device).to(y.dtype) - 1
    (row,) = torch.autograd.grad((s * v).sum(), y, create_graph=True)
    return 0.5 * s.square().sum(1) + (row * v).sum(1)


def denoising(log_f: LogF, y: Tensor, sigma: float, rng: torch.Generator) -> Tensor:
    """(n, d) → (n,)."""
    e = torch.randn(y.shape, generator=rng, dtype=y.dtype, device=y.device)
    _, s = scores(log_f, y + sigma * e)
    return 0.5 * (sigma * s + e).square().sum(1)


def contrastive(log_r: Callable[[Tensor], Tensor], y: Tensor, noise: Tensor) -> Tensor:
    """log_r: r of rows. y, noise: as many rows of the data and of p₀, (n, d) → (n,)."""
    return F.softplus(-log_r(y)) + F.softplus(log_r(noise))
