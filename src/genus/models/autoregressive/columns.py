"""How a column of each kind enters a network as numbers and leaves it as parameters."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.bijections import Standardise
from genus.distributions.columns import log_shares, share_of_ones
from genus.distributions.draws import choose, flip
from genus.distributions.levels import log_normal_mass

ALL = slice(None)


class Part(nn.Module):
    """Columns of one kind, n_in features and n_out parameters each; ``at`` picks some of them."""

    columns: Tensor

    def __init__(self, columns: list[int], n_in: int, n_out: int) -> None:
        super().__init__()
        self.n_in, self.n_out = n_in, n_out
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def of(self, x: Tensor) -> Tensor:
        """Its columns of rows (n, d)."""
        return x if x.shape[1] == len(self.columns) else x[:, self.columns]

    def fit(self, x: Tensor) -> Tensor:
        """Take scales from rows x (n, m); the parameters of the columns' marginals, (m, n_out)."""
        raise NotImplementedError

    def features(self, x: Tensor, at: slice = ALL) -> Tensor:
        """(n, m) → (n, m, n_in)."""
        raise NotImplementedError

    def log_prob(self, theta: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        """(n, m, n_out), (n, m) → (n, m), nats."""
        raise NotImplementedError

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        """(n, m, n_out) → (n, m)."""
        raise NotImplementedError


class Bits(Part):
    """log p = log σ((2x − 1) ℓ).

    The feature is x less its mean; ``several`` orders get a 1 as well, which says that x is seen.
    """

    mean_: Tensor

    def __init__(self, columns: list[int], several: bool) -> None:
        super().__init__(columns, 1 + several, 1)
        self.register_buffer("mean_", torch.full((len(columns),), 0.5, dtype=torch.float64))

    def fit(self, x: Tensor) -> Tensor:
        self.mean_.copy_(share_of_ones(x.double()))
        return torch.logit(self.mean_)[:, None]

    def features(self, x: Tensor, at: slice = ALL) -> Tensor:
        return _and_one((x - self.mean_[at])[..., None], self.n_in)

    def log_prob(self, theta: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        return F.logsigmoid((2 * x - 1) * theta[..., 0])

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        return flip(torch.sigmoid(theta[..., 0]), rng)


class Levels(Part):
    """log p = ℓ_x − log Σ_v e^{ℓ_v}. A feature a level, 1 at x."""

    def __init__(self, columns: list[int], levels: int) -> None:
        super().__init__(columns, levels, levels)

    def fit(self, x: Tensor) -> Tensor:
        return log_shares(x, self.n_out)

    def features(self, x: Tensor, at: slice = ALL) -> Tensor:
        return F.one_hot(x.long(), self.n_in).to(x.dtype)

    def log_prob(self, theta: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        return theta.gather(-1, x.long()[..., None])[..., 0] - theta.logsumexp(-1)

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        return choose(theta.softmax(-1), rng).to(theta.dtype)


class Numbers(Part):
    """A mixture of K normals of y = (x − m)/s: its density, or its mass at a level.

    The density is that over s. With ``levels`` it is the mass within ½ of the
    level; the ends take the tails.
    """

    floor = 0.01  # of σ, in standard units
    shift_: Tensor
    scale_: Tensor
    levels: Tensor

    def __init__(self, columns: list[int], levels: list[int], K: int, several: bool) -> None:
        super().__init__(columns, 1 + several, 3 * K)
        self.K, self.whole = K, any(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("shift_", torch.zeros(len(columns), dtype=torch.float64))
        self.register_buffer("scale_", torch.ones(len(columns), dtype=torch.float64))

    def fit(self, x: Tensor) -> Tensor:
        f = Standardise(x.shape[1]).to(x.device).fit(x)
        self.shift_.copy_(f.mean_)
        self.scale_.copy_(f.std_)
        q = (torch.arange(self.K, device=x.device).double() + 0.5) / self.K
        mu = torch.quantile(self._standard(x), q, 0).T
        return torch.cat([torch.zeros_like(mu), mu, torch.full_like(mu, math.log(0.5))], 1)

    def features(self, x: Tensor, at: slice = ALL) -> Tensor:
        return _and_one(self._standard(x, at).clamp(-10, 10)[..., None], self.n_in)

    def log_prob(self, theta: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        log_pi, mu, sigma = self._mixture(theta)
        r = self._standard(x, at)[..., None] - mu
        if not self.whole:
            log_n = -0.5 * (r / sigma).square() - torch.log(sigma) - 0.5 * math.log(2 * math.pi)
            return torch.logsumexp(log_pi + log_n, -1) - torch.log(self.scale_[at])
        half, levels = (0.5 / self.scale_[at])[:, None], self.levels[at][:, None]
        log_p = log_normal_mass(x[..., None], levels, r, half, sigma)
        return torch.logsumexp(log_pi + log_p, -1)

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        log_pi, mu, sigma = self._mixture(theta)
        k = choose(log_pi.exp(), rng)[..., None]
        mu, sigma = mu.gather(-1, k)[..., 0], sigma.gather(-1, k)[..., 0]
        e = torch.randn(mu.shape, generator=rng, dtype=mu.dtype, device=mu.device)
        x = (mu + sigma * e) * self.scale_[at] + self.shift_[at]
        return x.round().clamp_min(0).minimum(self.levels[at] - 1.0) if self.whole else x

    def _standard(self, x: Tensor, at: slice = ALL) -> Tensor:
        return (x.double() - self.shift_[at]) / self.scale_[at]

    def _mixture(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log π, μ and σ, (n, m, K) each."""
        logits, mu, log_s = theta.double().split(self.K, -1)
        return logits.log_softmax(-1), mu, self.floor + log_s.clamp_max(20).exp()


def _and_one(f: Tensor, n_in: int) -> Tensor:
    return f if n_in == 1 else torch.cat([f, torch.ones_like(f)], -1)
