r"""Priors p(z) of a latent vector.

    normal      N(0, I)
    gaussian    N(a, diag b²), learned
    mixture     Σ_k π_k N(a_k, diag b_k²), learned
    vamp        (1/K) Σ_k q(z | u_k), pseudo-inputs u_k learned   (Tomczak & Welling, 2018)
    flow        a RealNVP of genus, or any density of genus that learns by gradient

A prior is learned by the same bound as the encoder and the decoder.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from genus.models.latent.posteriors import Parameters, Posterior, log_normal

PRIORS = ("normal", "gaussian", "mixture", "vamp", "flow")


class Prior(nn.Module):
    """p(z): ``log_prob`` and ``sample``."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z), in nats, (..., latent_dim) → (...)."""
        raise NotImplementedError

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """n draws, (n, latent_dim)."""
        raise NotImplementedError

    def kl(self, m: Tensor, variance: Tensor, log_s: Tensor) -> Tensor | None:
        """KL from a Gaussian q to p in parts that belong to coordinates; None: no closed form.

        q has the means m and the variances of each coordinate, (n, latent_dim), and Σ log_s is
        half the log-determinant of its covariance.
        """
        return None


class Normal(Prior):
    """N(0, I)."""

    def log_prob(self, z: Tensor) -> Tensor:
        return log_normal(z)

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.randn(n, self.latent_dim, generator=rng, device=rng.device)

    def kl(self, m: Tensor, variance: Tensor, log_s: Tensor) -> Tensor:
        return 0.5 * (m.square() + variance - 1) - log_s


class Gaussian(Prior):
    """N(a, diag b²), at first N(0, I)."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.mean_ = nn.Parameter(torch.zeros(latent_dim))
        self.log_std_ = nn.Parameter(torch.zeros(latent_dim))

    def log_prob(self, z: Tensor) -> Tensor:
        return log_normal((z - self.mean_) / self.log_std_.exp()) - self.log_std_.sum()

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        e = torch.randn(n, self.latent_dim, generator=rng, device=rng.device)
        return self.mean_ + self.log_std_.exp() * e

    def kl(self, m: Tensor, variance: Tensor, log_s: Tensor) -> Tensor:
        own = torch.exp(-2 * self.log_std_)
        return 0.5 * (((m - self.mean_).square() + variance) * own - 1) - log_s + self.log_std_


class Mixture(Prior):
    """Σ_k π_k N(a_k, diag b_k²): at first a_k are draws of N(0, ½ I), and b_k² = ½."""

    def __init__(self, latent_dim: int, K: int, rng: torch.Generator) -> None:
        super().__init__(latent_dim)
        a = torch.randn(K, latent_dim, generator=rng)
        self.logits_ = nn.Parameter(torch.zeros(K))
        self.means_ = nn.Parameter(a * 0.5**0.5)
        self.log_stds_ = nn.Parameter(torch.full((K, latent_dim), -0.3466))

    def log_prob(self, z: Tensor) -> Tensor:
        e = (z[..., None, :] - self.means_) / self.log_stds_.exp()
        each = log_normal(e) - self.log_stds_.sum(1)
        return torch.logsumexp(each + torch.log_softmax(self.logits_, 0), -1)

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        k = torch.multinomial(self.logits_.softmax(0), n, True, generator=rng)
        e = torch.randn(n, self.latent_dim, generator=rng, device=rng.device)
        return self.means_[k] + self.log_stds_[k].exp() * e


class Vamp(Prior):
    """(1/K) Σ_k q(z | u_k): ``components`` are the parameters of q at the pseudo-inputs u_k.

    u_k are features as the encoder sees them, at first those of K rows. The model sets
    ``components`` with :meth:`at` before each use, since the encoder that gives them is its own.
    """

    def __init__(self, latent_dim: int, K: int, shape: tuple[int, ...]) -> None:
        super().__init__(latent_dim)
        self.pseudo_ = nn.Parameter(torch.zeros(K, *shape))

    def at(self, posterior: Posterior, q: Parameters) -> Prior:
        """The prior with these components."""
        return _Aggregate(posterior, q)


class _Aggregate(Prior):
    """(1/K) Σ_k q_k(z)."""

    def __init__(self, posterior: Posterior, q: Parameters) -> None:
        super().__init__(posterior.latent_dim)
        self.posterior, self.q = posterior, q

    def log_prob(self, z: Tensor) -> Tensor:
        K = len(self.q[0])
        each = self.posterior.log_prob(self.q, z[..., None, :].expand(*z.shape[:-1], K, -1))
        return torch.logsumexp(each, -1) - math.log(K)

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        k = torch.randint(len(self.q[0]), (n,), generator=rng, device=rng.device)
        e = torch.randn(n, self.latent_dim, generator=rng, device=rng.device)
        return self.posterior.draw(tuple(p[k] for p in self.q), e)[0]


class Density(Prior):
    """A density of genus: ``log_density(z)`` and ``draw(n, rng)``."""

    def __init__(self, latent_dim: int, model: Any) -> None:
        super().__init__(latent_dim)
        self.model_ = model

    def log_prob(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            log_p = self.model_.log_density(z.reshape(-1, self.latent_dim))
        return log_p.reshape(z.shape[:-1]).to(z.dtype)

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        out: Tensor = self.model_.draw(n, rng)
        return out.to(torch.get_default_dtype())
