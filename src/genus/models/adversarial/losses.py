r"""What the players of a GAN lose, of the critic's numbers a on real rows and b on drawn ones.

    loss             the critic loses                  the generator loses
    minimax          −log σ(a) − log(1 − σ(b))         log(1 − σ(b))
    non-saturating   −log σ(a) − log(1 − σ(b))         −log σ(b)
    wasserstein-gp   b − a                             −b
    hinge            max(0, 1 − a) + max(0, 1 + b)     −b

All are means over rows. With p the density of real rows and q that of drawn ones, the best critic
of the first two is log p(x)/q(x), and loses 2 log 2 − 2 JSD(p, q). The best of the third has slopes
of at most 1, and loses −W₁(p, q). That of hinge is the sign of p − q, and loses 2 − 2 TV(p, q).
Where p = q they lose 2 log 2, 0 and 2.

The slope of the critic is held down by one of two penalties on its gradient:

    r1        ½ E |∇D(x)|²             x real
    one       E (|∇D(x)| − 1)²         x on the line from a real row to a drawn one

Sources: Goodfellow et al. (2014); Arjovsky, Chintala & Bottou (2017); Gulrajani et al. (2017); Lim
& Ye (2017); Mescheder, Geiger & Nowozin (2018).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Network = Callable[..., Tensor]


def minimax(a: Tensor, b: Tensor) -> Tensor:
    """−log σ(a) − log(1 − σ(b))."""
    return F.softplus(-a).mean() + F.softplus(b).mean()


def minimax_generator(b: Tensor) -> Tensor:
    """log(1 − σ(b)), whose gradient is small where the critic is sure."""
    return -F.softplus(b).mean()


def non_saturating_generator(b: Tensor) -> Tensor:
    """−log σ(b)."""
    return F.softplus(-b).mean()


def wasserstein(a: Tensor, b: Tensor) -> Tensor:
    """b − a."""
    return b.mean() - a.mean()


def hinge(a: Tensor, b: Tensor) -> Tensor:
    """max(0, 1 − a) + max(0, 1 + b)."""
    return F.relu(1 - a).mean() + F.relu(1 + b).mean()


def raise_critic(b: Tensor) -> Tensor:
    """−b."""
    return -b.mean()


# the critic's and the generator's, by the name of the loss
LOSSES = {
    "minimax": (minimax, minimax_generator),
    "non-saturating": (minimax, non_saturating_generator),
    "wasserstein-gp": (wasserstein, raise_critic),
    "hinge": (hinge, raise_critic),
}


def slope(critic: Network, x: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
    """D(x) (n,), and |∇D(x)|² (n,) with a gradient of its own; x (n, *shape)."""
    x = x.detach().requires_grad_()
    value = critic(x, *context)
    (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    return value, gradient.flatten(1).square().sum(1)


def one_slope(critic: Network, real: Tensor, drawn: Tensor, u: Tensor, *context: Tensor) -> Tensor:
    """E (|∇D(x)| − 1)² at x = u real + (1 − u) drawn, u (n, 1, …)."""
    _, square = slope(critic, u * real + (1 - u) * drawn, *context)
    return ((square + 1e-12).sqrt() - 1).square().mean()
