r"""Approximate posteriors q(z | x), whose parameters an encoder puts out.

    diagonal    z = m + s ε                          ε ~ N(0, I)
    full        z = m + L ε,  L lower triangular     its diagonal is s
    flow        z = f_T ∘ … ∘ f_1(m + s ε; c)        f inverse autoregressive

A step of the flow (Kingma et al., 2016) is z_j ← z_j e^{a(z_<j, c)} + b(z_<j, c), all j at once,
with the order of coordinates turned round from step to step. It is the identity at the start.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.points import LOG_2PI
from genus.models.flows.couplings import Affine, Autoregressive
from genus.networks.layers import initialise
from genus.networks.masked import MaskedMLP

ONE = math.log(math.e - 1)  # softplus(ONE) = 1
LEAST = 1e-4  # of s
Parameters = tuple[Tensor, ...]  # of q(z | x): m (n, latent_dim), and what else it has

POSTERIORS = ("diagonal", "full", "flow")


def posterior_of(name: str, latent_dim: int, rng: torch.Generator) -> Posterior:
    """The posterior of this name."""
    if name == "diagonal":
        return Diagonal(latent_dim)
    if name == "full":
        return Full(latent_dim)
    return InverseAutoregressive(latent_dim, rng)


class Posterior(nn.Module):
    """q(z | x). ``code_size``: numbers that the encoder puts out, m first, then what s comes of."""

    has_density = True  # is log q(z | x) cheap at any z?

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    @property
    def code_size(self) -> int:
        return 2 * self.latent_dim

    def parameters_of(self, code: Tensor) -> Parameters:
        """(m, s, …) from what the encoder puts out, (n, code_size)."""
        m, raw = code.split([self.latent_dim, code.shape[1] - self.latent_dim], 1)
        return m, scale(raw)

    def moments(self, q: Parameters) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each z_j, (n, latent_dim)."""
        return q[0], q[1]

    def gaussian(self, q: Parameters) -> tuple[Tensor, Tensor, Tensor] | None:
        """Mean, variance and log-diagonal of the factor of a Gaussian; None where it is none."""
        m, s = q
        return m, s.square(), torch.log(s)

    def draw(self, q: Parameters, e: Tensor) -> tuple[Tensor, Tensor]:
        """z and log q(z | x) by way of standard normals e (..., n, latent_dim)."""
        raise NotImplementedError

    def log_prob(self, q: Parameters, z: Tensor) -> Tensor:
        """log q(z | x) at z (..., n, latent_dim), in nats, (..., n)."""
        raise NotImplementedError


class Diagonal(Posterior):
    """N(m, diag s²)."""

    def draw(self, q: Parameters, e: Tensor) -> tuple[Tensor, Tensor]:
        m, s = q
        return m + s * e, log_normal(e) - torch.log(s).sum(-1)

    def log_prob(self, q: Parameters, z: Tensor) -> Tensor:
        m, s = q
        return log_normal((z - m) / s) - torch.log(s).sum(-1)


class Full(Posterior):
    """N(m, L Lᵀ); q is (m, L)."""

    @property
    def code_size(self) -> int:
        return 2 * self.latent_dim + self.latent_dim * (self.latent_dim - 1) // 2

    def parameters_of(self, code: Tensor) -> Parameters:
        d = self.latent_dim
        m, raw, below = code.split([d, d, code.shape[1] - 2 * d], 1)
        at = torch.tril_indices(d, d, -1, device=code.device)
        # below the diagonal in units of the row's own s, so that correlations stay as s shrinks
        s = scale(raw)
        L = torch.diag_embed(s)
        L[:, at[0], at[1]] = below * s[:, at[0]]
        return m, L

    def moments(self, q: Parameters) -> tuple[Tensor, Tensor]:
        return q[0], q[1].square().sum(-1).sqrt()

    def gaussian(self, q: Parameters) -> tuple[Tensor, Tensor, Tensor]:
        m, L = q
        return m, L.square().sum(-1), L.diagonal(dim1=1, dim2=2).log()

    def draw(self, q: Parameters, e: Tensor) -> tuple[Tensor, Tensor]:
        m, L = q
        log_det = L.diagonal(dim1=1, dim2=2).log().sum(-1)
        # no matrix product, which would have three digits in bfloat16
        return m + (L * e[..., None, :]).sum(-1), log_normal(e) - log_det

    def log_prob(self, q: Parameters, z: Tensor) -> Tensor:
        m, L = q
        L = L.expand(*z.shape[:-1], *L.shape[1:])
        e = torch.linalg.solve_triangular(L, (z - m)[..., None], upper=False)[..., 0]
        return log_normal(e) - L.diagonal(dim1=-2, dim2=-1).log().sum(-1)


class InverseAutoregressive(Posterior):
    """A flow after N(m, diag s²), with a context c from the encoder; q is (m, s, c)."""

    has_density = False  # one coordinate after the other
    steps = 2
    depth = 1

    def __init__(self, latent_dim: int, rng: torch.Generator) -> None:
        super().__init__(latent_dim)
        width = max(64, 4 * latent_dim)
        maps = []
        for i in range(self.steps):
            made = MaskedMLP(
                latent_dim, 2, width, self.depth, "silu", latent_dim, backwards=i % 2 == 1
            )
            maps.append(Autoregressive(Affine(), initialise(made, rng)))  # type: ignore[arg-type]
        self.maps_ = nn.ModuleList(maps)

    @property
    def code_size(self) -> int:
        return 3 * self.latent_dim

    def parameters_of(self, code: Tensor) -> Parameters:
        m, raw, c = code.chunk(3, 1)
        return m, scale(raw), c

    def moments(self, q: Parameters) -> tuple[Tensor, Tensor]:
        """The image of m, and s before the flow."""
        return self.draw(q, torch.zeros_like(q[0]))[0], q[1]

    def gaussian(self, q: Parameters) -> None:
        return None

    def draw(self, q: Parameters, e: Tensor) -> tuple[Tensor, Tensor]:
        m, s, c = q
        log_q = log_normal(e) - torch.log(s).sum(-1)
        z, context = self._flat(m + s * e, c)
        with torch.autocast(z.device.type, enabled=False):
            for f in self.maps_:
                z, log_det = f(z, context)
                log_q = log_q - log_det.reshape(log_q.shape)
        return z.reshape(e.shape), log_q

    def log_prob(self, q: Parameters, z: Tensor) -> Tensor:
        m, s, c = q
        shape = z.shape
        z, context = self._flat(z, c)
        log_det = z.new_zeros(len(z))
        with torch.autocast(z.device.type, enabled=False):
            for f in reversed(self.maps_):
                z = f.inverse(z, context)  # type: ignore[operator]
                log_det = log_det + f(z, context)[1]
        e = (z.reshape(shape) - m) / s
        return log_normal(e) - torch.log(s).sum(-1) - log_det.reshape(shape[:-1])

    def _flat(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Points of rows, one below the other, and their contexts."""
        flat = z.reshape(-1, self.latent_dim)
        return flat, c.repeat(len(flat) // len(c), 1)


def scale(raw: Tensor) -> Tensor:
    """s > 0, 1 where raw is 0."""
    return F.softplus(raw + ONE) + LEAST


def raw_of(s: Tensor) -> Tensor:
    """The inverse of :func:`scale`."""
    return torch.log(torch.expm1(s - LEAST)) - ONE


def log_normal(e: Tensor) -> Tensor:
    """log N(e | 0, I) over the last axis."""
    return -0.5 * (e.square().sum(-1) + e.shape[-1] * LOG_2PI)
