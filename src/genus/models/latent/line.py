"""A linear path beside the networks of an encoder and a decoder.

    code = encoder(h) + A h,        parameters = decoder(z) + B z

It starts at the linear model of the rows: probabilistic PCA of real numbers, factor analysis of
scores and words. The networks learn departures from it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genus.distributions.observation import Normal, Observation
from genus.networks.layers import Linear, initialise

WIDEST = 1024  # features, at most, of rows that have a linear path


class Line(nn.Module):
    """A h and B z, at first 0; ``d`` features, ``n_out`` parameters of the observation."""

    def __init__(self, d: int, latent_dim: int, n_out: int, rng: torch.Generator) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.project_ = Linear(d, latent_dim, bias=False, zero=True)
        self.expand_ = Linear(latent_dim, n_out, bias=False, zero=True)
        for path in (self.project_, self.expand_):
            initialise(path, rng)

    def project(self, h: Tensor) -> Tensor:
        """A h of features h (n, …), (n, latent_dim)."""
        out: Tensor = self.project_(h.flatten(1))
        return out

    def expand(self, z: Tensor) -> Tensor:
        """B z, (..., latent_dim) → (..., n_out)."""
        out: Tensor = self.expand_(z)
        return out

    @torch.no_grad()
    def start_at_factors(
        self, h: Tensor, observation: Observation, mean: Tensor, std: Tensor
    ) -> Tensor:
        """Set both maps to factor analysis of standardised features h (n, d), NaN left out.

        mean, std: of the features before. Returns the posterior's standard deviations, (K,).
        """
        share = (~torch.isnan(h)).double().mean(0).clamp_min(1 / len(h)).sqrt()
        h = h.nan_to_num() / share
        S = h.T @ h / len(h)
        # categories of one cell exclude each other: that is no common factor
        places = torch.tensor(observation.places, device=S.device)
        same = places[:, None] == places
        S = S * (~same | torch.eye(len(S), dtype=torch.bool, device=S.device))
        least = torch.tensor(observation.least, dtype=S.dtype, device=S.device)
        W, noise = factors(S, min(self.latent_dim, len(S), len(h) - 1), least)
        K = W.shape[1]
        V = W / noise[:, None]
        variance = 1 / (1 + (W * V).sum(0))
        self.expand_.weight.zero_()
        self.project_.weight.zero_()
        self.expand_.weight[:, :K] = observation.start_at(W, noise, mean, std).float()
        self.project_.weight[:K] = (V * variance).T.float()
        return variance.sqrt()

    @torch.no_grad()
    def start_at_pca(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Set both maps to probabilistic PCA of standardised rows y, NaN at their mean.

        Returns the posterior's standard deviations, (K,), and the variance of the noise.
        """
        y = y.nan_to_num().double()
        d, q = y.shape[1], min(self.latent_dim, y.shape[1] - 1, len(y) - 1)
        values, vectors = torch.linalg.eigh(torch.cov(y.T, correction=0).reshape(d, d))
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        noise = values[max(q, 0) :].mean().clamp_min(2 * Normal.floor**2)
        kept = values[: max(q, 0)].clamp_min(noise)
        K = len(kept)
        share = 1 - noise / kept  # of an axis that is signal
        self.expand_.weight.zero_()
        self.project_.weight.zero_()
        self.expand_.weight[:, :K] = (vectors[:, :K] * (share * kept).sqrt()).float()
        self.project_.weight[:K] = ((share / kept).sqrt() * vectors[:, :K]).T.float()
        return (1 - share).clamp_min(1e-4).sqrt(), noise


def factors(S: Tensor, K: int, least: Tensor) -> tuple[Tensor, Tensor]:
    """Loadings W (d, K), with Wᵀ Ψ⁻¹ W diagonal, and noise Ψ (d,) of factor analysis of S (d, d).

    W = Ψ^½ U (Λ − I)_+^½, ψ_j = S_jj − Σ_k W_jk², but at least ``least``, in turns (Rubin & Thayer,
    1982).
    """
    total = S.diagonal()
    drawn = 0.98 * S + 0.02 * torch.diag(total) + torch.diag(1e-6 * torch.ones_like(total))
    noise = torch.linalg.inv(drawn).diagonal().abs().reciprocal().minimum(total).maximum(least)
    for _ in range(100 if len(S) <= 200 else 10):
        root = noise.sqrt()
        values, U = torch.linalg.eigh(S / root[:, None] / root)
        values, U = values.flip(0)[:K], U.flip(1)[:, :K]
        W = root[:, None] * U * (values - 1).clamp_min(0).sqrt()
        noise = (total - W.square().sum(1)).maximum(least)
    V = W / noise.sqrt()[:, None]
    return W @ torch.linalg.eigh(V.T @ V)[1].flip(1), noise
