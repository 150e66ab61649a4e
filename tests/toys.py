"""Tiny models, one for each way of learning, which prove that the core carries it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus import MLP, DensityModel, LogProb, LowerBound, Model, Space, Trainer
from genus.distributions.bijections import Standardise
from genus.distributions.points import log_mean_exp, row_normals
from genus.learn import Rows
from genus.learn.descent import descend
from genus.learn.fit import Fit
from genus.learn.sums import solve
from genus.likelihood import Exact

SMALL = Trainer(epochs=4, batch_size=16, lr=1e-2)


class Toy(Model):
    """What the toys share: two constructor arguments."""

    def __init__(self, trainer: Trainer | None = None, random_state: Any = None) -> None:
        self.trainer = trainer
        self.random_state = random_state

    def defaults(self, n: int) -> Trainer:
        return SMALL


class ToyVAE(Model):
    """One player, a bound: log p(x) ≥ E_q log p(x|z) p(z) / q(z|x), p(x|z) = N(g(z), σ² I).

    On standardised rows.
    """

    def __init__(
        self,
        latent_dim: int = 2,
        encoder: Any = None,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.encoder = encoder
        self.trainer = trainer
        self.random_state = random_state

    def defaults(self, n: int) -> Trainer:
        return SMALL

    def build(self, space: Space) -> None:
        d, k = space.dim, self.latent_dim
        self.scaler = Standardise(d)
        self.encoder_ = self.make_network(self.encoder, (d,), (2 * k,), MLP(8, 1))
        self.decoder_ = self.make_network(None, (k,), (d,), MLP(8, 1))
        self.log_sigma_ = nn.Parameter(torch.zeros(()))

    def start(self, rows: Rows) -> None:
        self.scaler.fit(rows.take(slice(0, 4096))[0].flatten(1))

    def real(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = self.scaler(x.flatten(1))
        return y.float(), log_det.float()

    def weights(self, y: Tensor, e: Tensor) -> Tensor:
        """log p(y, z) − log q(z|y) at the points e, (n, k, latent) → (n, k)."""
        mean, log_s = self.encoder_(y).float().chunk(2, 1)
        log_s = log_s.clamp(-7, 7)[:, None]
        z = mean[:, None] + log_s.exp() * e
        out = self.decoder_(z.flatten(0, 1)).float().unflatten(0, z.shape[:2])
        log_p = (
            -0.5 * ((y[:, None] - out) / self.log_sigma_.exp()).square()
            - self.log_sigma_
            - 0.5 * math.log(2 * math.pi)
        )
        return log_p.sum(2) + (-0.5 * z.square() + 0.5 * e.square() + log_s).sum(2)

    def losses(self, x: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        e = torch.randn(len(x), 1, self.latent_dim, generator=self.rng, device=x.device)
        yield self, -self.weights(self.real(x)[0], e).mean()

    def _log_prob(self, x: Tensor) -> LogProb:
        y, log_det = self.real(x)
        value, stderr, ess = log_mean_exp(self.weights(y, row_normals(x, 8, self.latent_dim)), 1)
        return LowerBound(value + log_det, stderr, detail={"k": 8, "ess": float(ess.mean())})

    def _encode(self, x: Tensor) -> Tensor:
        return self.encoder_(self.real(x)[0]).chunk(2, 1)[0]

    def _decode(self, z: Tensor) -> Tensor:
        return self.scaler.inverse(self.decoder_(z)).reshape(-1, *self.space_.shape)

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        z = torch.randn(n, self.latent_dim, generator=rng)
        e = torch.randn(n, self.space_.dim, generator=rng)
        return self.scaler.inverse(self.decoder_(z) + self.log_sigma_.exp() * e).reshape(
            -1, *self.space_.shape
        )


class GAN(Toy):
    """Two players in turn and no likelihood."""

    def build(self, space: Space) -> None:
        self.generator_ = self.make_network(None, (2,), space.shape, MLP(8, 1))
        self.critic_ = self.make_network(None, space.shape, (1,), MLP(8, 1))
        self.critic_.learning_rate = 0.5

    def generate(self, n: int, rng: torch.Generator) -> Tensor:
        return self.generator_(torch.randn(n, 2, generator=rng))

    def losses(self, x: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        fake = self.generate(len(x), self.rng)
        yield (
            self.critic_,
            F.softplus(-self.critic_(x.float())).mean()
            + F.softplus(self.critic_(fake.detach())).mean(),
        )
        yield self.generator_, F.softplus(-self.critic_(fake)).mean()

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        return self.generate(n, rng)


class Duel(Toy):
    """Two players whose every step can be told by hand: weights 1, gradients 1 and 2."""

    def build(self, space: Space) -> None:
        self.left_ = nn.Linear(1, 1, bias=False)
        self.right_ = nn.Linear(1, 1, bias=False)
        for player in (self.left_, self.right_):
            nn.init.ones_(player.weight)

    def defaults(self, n: int) -> Trainer:
        return Trainer(epochs=2, batch_size=25, lr=0.1, optimizer="sgd", schedule="constant")

    def losses(self, x: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        yield self.left_, self.left_.weight.sum()
        yield self.right_, 2 * self.right_.weight.sum()


class EBM(Toy):
    """An energy, and a Langevin chain whose ends stay in a replay buffer that no file holds."""

    def build(self, space: Space) -> None:
        self.energy_ = self.make_network(None, space.shape, (1,), MLP(8, 1, activation="silu"))
        self.register_buffer("replay", torch.zeros(32, *space.shape), persistent=False)

    def energy(self, x: Tensor) -> Tensor:
        return self.energy_(x)[:, 0] + 0.5 * x.flatten(1).square().sum(1)

    def langevin(self, x: Tensor, steps: int, rng: torch.Generator, eta: float = 0.1) -> Tensor:
        for _ in range(steps):
            with torch.enable_grad():
                x = x.detach().requires_grad_(True)
                (grad,) = torch.autograd.grad(self.energy(x).sum(), x)
            x = x.detach() - eta * grad + math.sqrt(2 * eta) * torch.randn(x.shape, generator=rng)
        return x

    def losses(self, x: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        pick = torch.randint(len(self.replay), (len(x),), generator=self.rng)
        fake = self.langevin(self.replay[pick], 3, self.rng)
        self.replay[pick] = fake
        yield self, self.energy(x.float()).mean() - self.energy(fake).mean()

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        return self.langevin(torch.zeros(n, *self.space_.shape), 20, rng)


class Stack(Toy):
    """Two stages, as in a deep belief network: an autoencoder, then one of noisy hidden units."""

    def build(self, space: Space) -> None:
        self.first_ = nn.ModuleList(
            [
                self.make_network(MLP(4, 0), (space.dim,), (4,)),
                self.make_network(MLP(4, 0), (4,), (space.dim,)),
            ]
        )
        self.second_ = nn.ModuleList(
            [self.make_network(MLP(4, 0), (4,), (2,)), self.make_network(MLP(4, 0), (2,), (4,))]
        )

    def learn(self, fit: Fit) -> None:
        def losses(layer: nn.ModuleList) -> Any:
            def of(x: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
                noisy = x.float() + 0.1 * torch.randn(x.shape, generator=self.rng)
                yield layer, (layer[1](layer[0](noisy)) - x.float()).square().mean()

            return of

        descend(self, fit, losses=losses(self.first_), stage="first", max_time=fit.time_left() / 2)
        with torch.no_grad():
            hidden = self.first_[0](fit.rows.x.float())
            # drawn between two stages
            hidden = hidden + 0.1 * torch.randn(hidden.shape, generator=self.rng)
        above = Fit(Rows(hidden), None, fit.trainer, fit.seed, fit.resume, fit.begun)
        descend(self, above, losses=losses(self.second_), stage="second", lr=5e-3)

    def _encode(self, x: Tensor) -> Tensor:
        return self.second_[0](self.first_[0](x.float()))

    def _decode(self, z: Tensor) -> Tensor:
        return self.first_[1](self.second_[1](z))


class Conditional(Toy):
    """p(x | given) = N(f(given), σ²)."""

    conditions = "required"

    def build(self, space: Space) -> None:
        self.mean_ = self.make_network(None, self.given_space_.shape, space.shape, MLP(8, 1))
        self.log_sigma_ = nn.Parameter(torch.zeros(space.shape))

    def losses(self, x: Tensor, given: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        yield self, -self._log_prob(x, given).nats.mean()

    def _log_prob(self, x: Tensor, given: Tensor) -> LogProb:
        z = (x.float() - self.mean_(given.float())) / self.log_sigma_.exp()
        return Exact(
            (-0.5 * z.square() - self.log_sigma_ - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
        )

    def _sample(self, n: int, rng: torch.Generator, given: Tensor) -> Tensor:
        return self.mean_(given.float()) + self.log_sigma_.exp() * torch.randn(
            n, *self.space_.shape, generator=rng
        )

    def _complete(self, x: Tensor, rng: torch.Generator, given: Tensor) -> Tensor:
        return torch.where(torch.isnan(x), self._sample(len(x), rng, given), x)


class EM(DensityModel):
    """Expectation-maximisation: Σ_k π_k N(y | μ_k, s²) with s the mean spread of the columns."""

    allow_nan = False

    def __init__(self, n_components: int = 2, max_iter: int = 50, random_state: Any = None) -> None:
        self.n_components = n_components
        self.max_iter = max_iter
        self.random_state = random_state

    def build(self, space: Space) -> None:
        K = self.n_components
        self.register_buffer("weights_", torch.full((K,), 1 / K, dtype=torch.float64))
        self.register_buffer("means_", torch.zeros(K, space.dim, dtype=torch.float64))
        self.register_buffer("variance_", torch.ones((), dtype=torch.float64))

    def learn(self, fit: Fit) -> None:
        y = torch.cat([self.real(x, self.rng)[0] for (x,) in fit.rows.chunks(4096)])
        if not getattr(self, "n_iter_", 0):
            pick = torch.randint(len(y), (self.n_components,), generator=self.rng)
            self.means_ = y[pick].clone()
            self.variance_ = (
                y.var(0, unbiased=False)
                .mean()
                .clamp_min(1e-12 * y.square().mean().clamp_min(1e-290))
            )
        self.converged_ = solve(
            self, fit, max_iter=self.max_iter, tol=1e-9, start=getattr(self, "n_iter_", 0)
        )

    def joint(self, y: Tensor) -> Tensor:
        square = (y[:, None] - self.means_).square().sum(2) / self.variance_
        return (
            self.weights_.log()
            - 0.5 * square
            - 0.5 * y.shape[1] * torch.log(2 * math.pi * self.variance_)
        )

    def statistics(self, x: Tensor) -> dict[str, Tensor]:
        y, log_det = self.real(x, self.rng)
        log_p = self.joint(y)
        r = log_p.softmax(1)
        return {
            "log_likelihood": (log_p.logsumexp(1) + log_det).sum(),
            "weight": torch.tensor(float(len(y))),
            "n": r.sum(0),
            "y": r.T @ y,
        }

    def maximise(self, sums: dict[str, Tensor]) -> None:
        self.weights_ = (sums["n"] / sums["weight"]).clamp_min(1e-300)
        self.means_ = sums["y"] / sums["n"].clamp_min(1e-300)[:, None]

    def log_density(self, y: Tensor) -> Tensor:
        return self.joint(y).logsumexp(1)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        k = torch.multinomial(self.weights_, n, replacement=True, generator=rng)
        e = torch.randn(n, self.means_.shape[1], generator=rng, dtype=torch.float64)
        return self.means_[k] + self.variance_.sqrt() * e
