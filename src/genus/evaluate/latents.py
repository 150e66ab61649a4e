"""What a latent-variable model says of some rows, in one form for all such models.

    p(z),    p(x | z),    q(z | x) = Σ_c w_c N(m_c, R_c R_cᵀ)

A model is asked for ``posterior``, and for ``log_likelihood`` and ``parameters_of`` where it has
networks. A linear model has all of these in closed form, on the scale on which it is linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genus.distributions.draws import choose
from genus.distributions.points import LOG_2PI
from genus.model import CapabilityError


@dataclass(frozen=True)
class Posterior:
    """q(z | x) of n rows: each a mixture of C Gaussians.

    log_weight (n, C); mean (n, C, K); root (n, C, K, K), lower triangular.
    """

    log_weight: Tensor
    mean: Tensor
    root: Tensor

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def centre(self) -> Tensor:
        """E[z | x], (n, K)."""
        return (self.log_weight.exp()[..., None] * self.mean).sum(1)

    @property
    def spread(self) -> Tensor:
        """The standard deviation of every coordinate of every component, (n, C, K)."""
        return self.root.square().sum(-1).sqrt()

    def draw(self, k: int, rng: torch.Generator) -> Tensor:
        """k draws of every row, (k, n, K)."""
        n, _, K = self.mean.shape
        c = choose(self.log_weight.exp().expand(k, *self.log_weight.shape), rng)
        rows = torch.arange(n, device=c.device).expand(k, n)
        e = torch.randn(k, n, K, 1, generator=rng, dtype=self.mean.dtype, device=c.device)
        return self.mean[rows, c] + (self.root[rows, c] @ e)[..., 0]

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z | x_i) at draws z (k, n, K), each of its own row; (k, n)."""
        gap = (z[:, :, None] - self.mean)[..., None]
        e = torch.linalg.solve_triangular(self.root, gap, upper=False)[..., 0]
        return torch.logsumexp(self.log_weight + self._log_normal(e), -1)

    def log_pairs(self, z: Tensor) -> Tensor:
        """log q(z | x_j) of points z (m, K) under every row; (m, n)."""
        each = []
        for weight, mean, root in zip(self.log_weight, self.mean, self.root, strict=True):
            gap = (z[:, None] - mean).permute(1, 2, 0)  # (C, K, m)
            e = torch.linalg.solve_triangular(root, gap, upper=False).transpose(1, 2)
            log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, None]
            log_p = -0.5 * (e.square() + LOG_2PI).sum(-1) - log_det
            each.append(torch.logsumexp(weight[:, None] + log_p, 0))
        return torch.stack(each, 1)

    def log_coordinates(self, z: Tensor) -> Tensor:
        """log q(z_l) of every coordinate l of points z (m, K), averaged over the rows; (m, K)."""
        mean, spread = self.mean.flatten(0, 1), self.spread.flatten(0, 1)
        weight = self.log_weight.reshape(-1, 1) - math.log(len(self))
        out = []
        for some in z.split(max(1, 20_000_000 // mean.numel())):
            t = (some[:, None] - mean) / spread
            log_p = -0.5 * (t.square() + LOG_2PI) - torch.log(spread)
            out.append(torch.logsumexp(weight + log_p, 1))
        return torch.cat(out)

    def _log_normal(self, e: Tensor) -> Tensor:
        """log N(m + R e | m, R Rᵀ) of standardised e (..., C, K); (..., C)."""
        log_det = self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (e.square() + LOG_2PI).sum(-1) - log_det


class Latents:
    """The latent variable of some rows x under a model of p(x | z) p(z)."""

    x: Tensor  # cells (n, d), NaN where missing
    posterior: Posterior

    @property
    def size(self) -> int:
        """Numbers of a draw of the prior."""
        return self.posterior.mean.shape[-1]

    @property
    def refinable(self) -> bool:
        """Is q(z | x) one Gaussian of all that is latent?"""
        return self.posterior.mean.shape[1] == 1

    def bound(self, rows: Tensor, rng: torch.Generator, k: int = 64) -> Tensor:
        """The ELBO of some rows, a mean over k draws, (len(rows),) nats."""
        q = self.posterior
        z = q.draw(k, rng)
        log_q = q.log_prob(z)[:, rows]
        z = z[:, rows]
        return (self.log_likelihood(z, rows) + self.log_prior(z) - log_q).mean(0)

    def log_likelihood(self, z: Tensor, rows: Tensor) -> Tensor:
        """log p(x_i | z) of some rows; z (k, len(rows), K) → (k, len(rows))."""
        raise NotImplementedError

    def draw_cells(self, z: Tensor, rng: torch.Generator) -> Tensor:
        """x ~ p(x | z) of all rows; z (k, n, K) → (k, n, d)."""
        raise NotImplementedError

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z), (...)."""
        return -0.5 * (z.square() + LOG_2PI).sum(-1)

    def draw_prior(self, n: int, rng: torch.Generator) -> Tensor:
        """z ~ p(z), (n, K)."""
        mean, shape = self.posterior.mean, (n, self.size)
        return torch.randn(shape, generator=rng, dtype=mean.dtype, device=mean.device)


class OfNetworks(Latents):
    """Of a model with an encoder and a decoder.

    Where q(z | x) is no Gaussian, as one bent by a flow, it stands as that of its own moments.
    """

    def __init__(self, model: Any, x: Tensor, given: Tensor | None) -> None:
        self.model, self.rows, self.given = model, x, given
        self.x = x.flatten(1)
        q = model._q(x, *self._given(slice(None)))
        self.exact = model.posterior_.gaussian(q) is not None
        mean, root = q[:2] if self.exact else self._moments(q)
        root = torch.diag_embed(root) if root.dim() == 2 else root
        self.posterior = Posterior(mean.new_zeros(len(x), 1), mean[:, None], root[:, None])

    exact = True

    @property
    def refinable(self) -> bool:
        return self.exact and super().refinable

    def _moments(self, q: Any, k: int = 256) -> tuple[Tensor, Tensor]:
        """The mean of draws of q, and a root of their covariance."""
        n, K = q[0].shape
        e = torch.randn(k, n, K, generator=self.model._stream(0), device=q[0].device)
        z = self.model.posterior_.draw(q, e)[0]
        mean = z.mean(0)
        cov = torch.einsum("kni,knj->nij", z - mean, z - mean) / (k - 1)
        return mean, torch.linalg.cholesky(cov + 1e-6 * torch.eye(K, device=cov.device))

    def _given(self, some: Any) -> tuple[Tensor, ...]:
        return () if self.given is None else (self.given[some],)

    def bound(self, rows: Tensor, rng: torch.Generator, k: int = 64) -> Tensor:
        if self.exact:
            return super().bound(rows, rng, k)
        model = self.model._with_stream(
            int(torch.randint(2**31, (1,), generator=rng, device=rng.device))
        )
        draws = [model.elbo(self.rows[rows], *self._given(rows)) for _ in range(k)]
        return torch.stack(draws).mean(0)

    def log_likelihood(self, z: Tensor, rows: Tensor) -> Tensor:
        out: Tensor = self.model.log_likelihood(z, self.rows[rows], *self._given(rows))
        return out

    def draw_cells(self, z: Tensor, rng: torch.Generator) -> Tensor:
        p = self.model.parameters_of(z, *self._given(slice(None)))
        out: Tensor = self.model.observation_.sample(p, rng)
        return out

    def log_prior(self, z: Tensor) -> Tensor:
        out: Tensor = self.model._p().log_prob(z)
        return out

    def draw_prior(self, n: int, rng: torch.Generator) -> Tensor:
        out: Tensor = self.model._p().sample(n, rng)
        return out


class OfExperts(OfNetworks):
    """Of a model whose q(z | x) is a mixture of products of experts, and whose prior is N(0, I)."""

    def __init__(self, model: Any, x: Tensor, given: Tensor | None) -> None:
        self.model, self.rows, self.given = model, x, given
        self.x = x.flatten(1)
        self.posterior = Posterior(*model.experts_of(x, given))

    log_prior = Latents.log_prior
    draw_prior = Latents.draw_prior


class OfLadder(OfNetworks):
    """Of a model with latent vectors above one another: what is said of z is said of the top."""

    exact = False

    def __init__(self, model: Any, x: Tensor, given: Tensor | None) -> None:
        self.model, self.rows, self.given = model, x, given
        self.x = x.flatten(1)
        self.q = model._q(x, *self._given(slice(None)))
        _, m, s, _ = model.posterior_.down(self.q, torch.zeros_like(self.q[0]))
        self.top = slice(model.latent_dim - int(model.latent_dims[-1]), model.latent_dim)
        self.m, self.s = m[:, self.top], s[:, self.top]
        root = torch.diag_embed(self.s)[:, None]
        self.posterior = Posterior(m.new_zeros(len(m), 1), self.m[:, None], root)

    @property
    def size(self) -> int:
        return int(self.model.latent_dim)

    def draw_cells(self, z: Tensor, rng: torch.Generator) -> Tensor:
        shape = (len(z), len(self.m), self.size)
        e = torch.randn(shape, generator=rng, dtype=z.dtype, device=z.device)
        e[..., self.top] = (z - self.m) / self.s
        return super().draw_cells(self.model.posterior_.down(self.q, e)[0], rng)


class OfLines(Latents):
    """Of y = μ + W z + noise, whose posterior is exact."""

    def __init__(self, model: Any, x: Tensor, X: Any) -> None:
        self.model = model
        self.x = model._centres(x)
        mean, cov = (torch.from_numpy(a).to(self.x) for a in model.posterior(X))
        root = torch.linalg.cholesky(cov)
        self.posterior = Posterior(mean.new_zeros(len(x), 1), mean[:, None], root[:, None])

    def log_likelihood(self, z: Tensor, rows: Tensor) -> Tensor:
        v = self.model.noise_
        gap = self.x[rows] - self.model.mean_ - z @ self.model.loadings_.T
        return -0.5 * (gap.square() / v + torch.log(v) + LOG_2PI).nan_to_num().sum(-1)

    def draw_cells(self, z: Tensor, rng: torch.Generator) -> Tensor:
        mean = self.model.mean_ + z @ self.model.loadings_.T
        e = torch.randn(mean.shape, generator=rng, dtype=mean.dtype, device=mean.device)
        return mean + self.model.noise_.sqrt() * e


def latents_of(model: Any, X: Any, given: Any = None) -> Latents:
    """The latent variable of rows X; CapabilityError where the model has none of real numbers."""
    if not hasattr(model, "posterior"):
        name = type(model).__name__
        raise CapabilityError(
            f"{name} has no latent vector with a posterior: diagnose takes latent-variable models, "
            "such as VAE, HierarchicalVAE, MultimodalVAE, ProbabilisticPCA and FactorAnalysis"
        )
    x, conditions = model._enter(X, given)
    with torch.no_grad():
        if hasattr(model, "loadings_"):
            return OfLines(model, x, X)
        kind: type[OfNetworks] = OfNetworks
        if hasattr(model, "kl_per_layer"):
            kind = OfLadder
        elif hasattr(model, "experts_of"):
            kind = OfExperts
        return kind(model, x, *conditions or (None,))
