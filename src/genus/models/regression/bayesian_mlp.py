"""A distribution over the weights of a small network, by VI, Laplace's method or HMC.

    θ ~ N(0, diag s²),   y ~ N(f(x, θ), σ²)   or   y ~ Categorical(softmax f(x, θ))
    U(θ) = −log p(y | X, θ) − log p(θ),    p(θ | X, y) ∝ e^−U

s is ``prior_scale``/√(fan-in) for the weights of a layer and ``prior_scale`` for its biases; x and
a real y are brought to mean 0 and variance 1 first.

``"map"``      θ* = argmin U, one network; with ``prior_scale=inf`` that of maximum likelihood.
``"vi"``       q(θ) = N(μ, diag ρ²) that maximises E_q log p(y | X, θ) − KL(q ‖ p). A linear layer's
               output a = W h + c is then Gaussian, N(μ_W h + μ_c, ρ²_W h² + ρ²_c), and it is a
               that is drawn, apart for every row: local reparameterisation (Kingma et al., 2015;
               Blundell et al., 2015). KL's share grows from 0 to 1 in the first half of the steps:
               or else few rows cannot hold against the prior at first, and q stays where the
               network says nothing (Sønderby et al., 2016).
``"laplace"``  N(θ*, Λ⁻¹), Λ = Σ_n J_nᵀ H_n J_n + diag 1/s², J_n = ∂f(x_n, θ*)/∂θ, H_n = I/σ² or
               diag p − p pᵀ: the whole generalised Gauss–Newton matrix. It is the Hessian of the
               linear model f(x, θ*) + J(θ − θ*), which is therefore what predicts (MacKay, 1992;
               Immer et al., 2021).
``"hmc"``      draws of e^−U by Hamiltonian chains side by side, in the coordinates z of
               θ = θ* + L⁻ᵀ z, Λ = L Lᵀ (Neal, 1996).

Predictions are means over ``n_draws`` networks drawn once, when the model is fitted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from genus.distributions.points import LOG_2PI, log_mean_exp
from genus.learn.descent import descend
from genus.learn.fit import Fit
from genus.learn.progress import CtrlC
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer
from genus.likelihood import Estimate, Exact, LogProb
from genus.networks.activations import ACTIVATIONS
from genus.networks.blueprints import BLUEPRINT, MLP, Blueprint
from genus.networks.layers import Dropout
from genus.predictor import TASKS, Predictor
from genus.samplers.chains import hmc
from genus.settings import Number, OneOf, Rule, Whole
from genus.space import Space
from genus.typing import RowsLike, available_if

POSTERIORS = ("map", "vi", "laplace", "hmc")
DENSE = 5000  # weights of a network whose matrix Λ is still held whole
LEAST = -10.0  # of log σ, so that Λ keeps its digits where the network meets y exactly
LOG_NOISE = (-1.0, 1.0)  # prior mean and standard deviation of log σ, in standard deviations of y


class BayesianMLP(Predictor):
    r"""A network whose weights have a posterior: its mean predicts, its spread says how surely.

    ``log_prob(y, given=X)`` is an ``Estimate``: log (1/S) Σ p(y | x, θ_s). All rows share the
    draws, and so their errors.

    Parameters
    ----------
    network : blueprint or None, default=None
        One that makes a sequence of linear layers and activations, such as ``MLP(width, depth,
        "tanh")``; a depth of 0 is linear regression. None: ``MLP(10, 1, "tanh")``.
    posterior : {"vi", "laplace", "hmc", "map"}, default="vi"
        ``"map"`` is a point. Laplace and HMC take networks of at most 5,000 weights.
    task : {"auto", "regression", "classification"}, default="auto"
        ``"auto"``: bits, words and few distinct whole numbers are classes.
    prior_scale : float, default=2.0
        s > 0; ``math.inf``, with ``"map"``, is no prior.
    noise : float or "learned", default="learned"
        σ > 0 in the units of y; or a point that is learned, except with HMC, which draws it. Not
        used for classes.
    n_draws : int, default=100
        Networks that predictions average over, in chains of HMC too. More cost
        more and err less, as 1/√n.
    chains : int, default=8
        Of HMC.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Attributes
    ----------
    mean_
        The weights in the middle, (P,).
    draws_
        (n_draws, P).
    noise_
        σ in the units of y.
    acceptance_
        Of HMC's proposals.
    rhat_
        Of HMC, of the energy and the outputs: 1 where the chains agree.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> few = genus.Trainer(epochs=5)
    >>> model = genus.BayesianMLP(posterior="laplace", trainer=few, random_state=0)
    >>> mean, std = model.fit(X, np.sin(3 * X[:, 0])).predict([[0.0], [5.0]], return_std=True)
    >>> bool(std[1] > std[0])  # far from the data it is less sure
    True
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "network": BLUEPRINT | None,
        "posterior": OneOf(*POSTERIORS),
        "task": OneOf(*TASKS),
        "prior_scale": Number(above=0, most=math.inf),
        "noise": Number(above=0) | OneOf("learned"),
        "n_draws": Whole(1),
        "chains": Whole(1),
    }
    learned_by = "variational inference, Laplace, HMC"
    learned_shapes = ("draws_", "log_noise_draws_")
    chunk = 1024

    mean_: Tensor
    log_std_: Tensor  # log ρ
    log_noise_: Tensor  # log σ, in standard deviations of y
    draws_: Tensor
    log_noise_draws_: Tensor
    prior_std_: Tensor  # s of every weight
    x_mean_: Tensor
    x_std_: Tensor
    y_mean_: Tensor
    y_std_: Tensor
    rows_: int

    def __init__(
        self,
        network: Blueprint | None = None,
        posterior: str = "vi",
        task: str = "auto",
        prior_scale: float = 2.0,
        noise: float | str = "learned",
        n_draws: int = 100,
        chains: int = 8,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.posterior = posterior
        self.task = task
        self.prior_scale = prior_scale
        self.noise = noise
        self.n_draws = n_draws
        self.chains = chains
        self.trainer = trainer
        self.random_state = random_state

    def defaults(self, n: int) -> Trainer:
        """About 2,000 steps, more where there are many rows."""
        batch = min(n, 128)
        return Trainer(epochs=max(20, round(2000 * batch / n)), batch_size=batch, lr=1e-2)

    def build(self, space: Space) -> None:
        if self.prior_scale == math.inf and self.posterior != "map":
            raise ValueError(
                f"prior_scale=inf is no prior, and posterior={self.posterior!r} needs one: pass a "
                "number, or posterior='map'"
            )
        d, k = self.given_space_.dim, space.levels or 1
        net = self.make_network(self.network, (d,), (k,), MLP(10, 1, "tanh"))
        self._steps = _steps(net)
        layers = [m for m in self._steps if isinstance(m, nn.Linear)]
        parts = [p.detach().double().reshape(-1) for m in layers for p in m.parameters()]
        scale = [
            torch.full_like(p, m.in_features**-0.5 if p is m.weight else 1.0)
            for m in layers
            for p in m.parameters()
        ]
        P = sum(len(p) for p in parts)
        if self.posterior in ("laplace", "hmc") and P > DENSE:
            raise ValueError(
                f"network has {P} weights, and posterior={self.posterior!r} takes at most "
                f"{DENSE}: use fewer units, or 'vi'"
            )
        self.mean_ = nn.Parameter(torch.cat(parts))
        self.register_buffer(
            "prior_std_", self.prior_scale * torch.cat([s.reshape(-1) for s in scale]).double()
        )
        if self.posterior == "vi":
            self.log_std_ = nn.Parameter((0.1 * self.prior_std_).log())
        learned = self.task_ == "regression" and self.noise == "learned"
        start = torch.tensor(LOG_NOISE[0], dtype=torch.float64)
        if learned:
            self.log_noise_ = nn.Parameter(start)
        else:
            self.register_buffer("log_noise_", start)
        for name, size in (("x_mean_", (d,)), ("x_std_", (d,)), ("y_mean_", ()), ("y_std_", ())):
            self.register_buffer(name, torch.full(size, float("std" in name), dtype=torch.float64))
        draws = 1 if self.posterior == "map" else int(self.n_draws)
        self.register_buffer("draws_", torch.zeros(draws, P, dtype=torch.float64))
        self.register_buffer("log_noise_draws_", torch.zeros(draws, dtype=torch.float64))

    # ------------------------------------------------------------------ the network

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        """f(x, θ) of S networks at once, (S, P) and (n, d) → (S, n, K)."""
        h, i = x.expand(len(theta), *x.shape), 0
        for step in self._steps:
            if isinstance(step, nn.Linear):
                W, c, i = _cut(theta, i, step)
                h = h @ W.mT if c is None else torch.baddbmm(c[:, None], h, W.mT)
            else:
                h = step(h)
        return h

    def noisy(self, x: Tensor) -> Tensor:
        """f(x, θ) with θ ~ q drawn apart for every row, by the outputs of its layers; (n, K)."""
        h, i = x, 0
        mean, var = self.mean_[None], (2 * self.log_std_).exp()[None]
        for step in self._steps:
            if isinstance(step, nn.Linear):
                W, c, _ = _cut(mean, i, step)
                V, v, i = _cut(var, i, step)
                a, s2 = h @ W[0].T, h.square() @ V[0].T
                if c is not None and v is not None:
                    a, s2 = a + c[0], s2 + v[0]
                e = torch.randn(a.shape, generator=self.rng, dtype=a.dtype, device=a.device)
                h = a + s2.clamp_min(1e-30).sqrt() * e
            else:
                h = step(h)
        return h

    def log_likelihood(self, out: Tensor, y: Tensor, log_noise: Tensor) -> Tensor:
        """log p(y | f) of standardised y: out (..., n, K), y (n, 1), log σ (...) → (..., n)."""
        if self.task_ == "classification":
            return torch.log_softmax(out, -1).gather(-1, y.long().expand(*out.shape[:-1], 1))[
                ..., 0
            ]
        r = log_noise[..., None]
        return -0.5 * ((out[..., 0] - y[:, 0]) / r.exp()).square() - r - 0.5 * LOG_2PI

    def log_prior(self, theta: Tensor, log_noise: Tensor) -> Tensor:
        """log p(θ) + log p(log σ), constants aside; (...,)."""
        m, s = LOG_NOISE
        return -0.5 * (
            (theta / self.prior_std_).square().sum(-1)
            + ((log_noise - m) / s).square() * self._noise_is_free
        )

    @property
    def _noise_is_free(self) -> bool:
        return isinstance(self.log_noise_, nn.Parameter)

    # ------------------------------------------------------------------ learning

    def losses(self, y: Tensor, given: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        x, y = self._scaled(given), self._standard(y)
        if self.posterior == "vi":
            fit = self.log_likelihood(self.noisy(x), y, self.log_noise_).mean()
            kl = self.ramp(0.5) * self.kl()
            yield self, (kl - self.log_prior(0 * self.mean_, self.log_noise_)) / self.rows_ - fit
        else:
            fit = self.log_likelihood(
                self.forward(self.mean_[None], x)[0], y, self.log_noise_
            ).mean()
            yield self, -self.log_prior(self.mean_, self.log_noise_) / self.rows_ - fit

    def kl(self) -> Tensor:
        """KL(q ‖ p) = Σ ½ (ρ² + μ²)/s² − ½ − log ρ/s."""
        r = self.log_std_ - self.prior_std_.log()
        return (0.5 * ((2 * r).exp() + (self.mean_ / self.prior_std_).square()) - 0.5 - r).sum()

    def validate(self, y: Tensor, given: Tensor) -> Tensor:
        """Mean −log p(y | x) of the network in the middle."""
        out = self.forward(self.mean_[None], self._scaled(given))[0]
        return -self.log_likelihood(out, self._standard(y), self.log_noise_).mean()

    def start(self, rows: Rows) -> None:
        x, y = rows.given, rows.x
        assert x is not None
        self.x_mean_, self.x_std_ = _moments(x.flatten(1))
        self.rows_ = len(rows)
        if self.task_ == "regression":
            mean, std = _moments(y)
            self.y_mean_, self.y_std_ = mean[0], std[0]
            if self.noise != "learned":
                self.log_noise_ = torch.log(float(self.noise) / self.y_std_)

    def learn(self, fit: Fit) -> None:
        if fit.fresh:
            self.start(fit.rows)
        descend(self, fit)
        with torch.no_grad():
            if self.posterior == "map":
                draws, log_noise = self.mean_[None].clone(), self.log_noise_[None].clone()
            elif self.posterior == "vi":
                draws, log_noise = (
                    self.mean_ + self.log_std_.exp() * self._pairs(),
                    self.log_noise_.repeat(self.n_draws),
                )
            else:
                x, y = self._scaled(fit.rows.given), self._standard(fit.rows.x)
                L = self._curvature(x, y)
                if self.posterior == "laplace":
                    draws, log_noise = (
                        self.mean_ + _solve(L, self._pairs()),
                        self.log_noise_.repeat(self.n_draws),
                    )
                else:
                    draws, log_noise = self._chains(x, y, L, fit)
        self.draws_, self.log_noise_draws_ = draws.detach(), log_noise.detach()

    def _pairs(self) -> Tensor:
        """Standard normals (n_draws, P) in pairs ±e, whose mean is 0."""
        e = torch.randn(
            (self.n_draws + 1) // 2,
            len(self.mean_),
            generator=self.rng,
            dtype=torch.float64,
            device=self.mean_.device,
        )
        return torch.cat([e, -e])[: self.n_draws]

    def _curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """L, with L Lᵀ = Λ; a σ that is learned becomes that of the evidence.

        σ² = |y − f|²/(n − γ), γ = P − tr(Λ⁻¹ diag 1/s²).
        """
        theta, P = self.mean_.detach(), len(self.mean_)
        jacobian = torch.func.vmap(
            torch.func.jacrev(lambda t, row: self.forward(t[None], row[None])[0, 0]),
            in_dims=(None, 0),
        )
        G = theta.new_zeros(P, P)
        for part in x.split(max(1, 10_000_000 // (P * (self.space_.levels or 1)))):
            J = jacobian(theta, part)  # (n, K, P)
            if self.task_ == "classification":
                p = torch.softmax(self.forward(theta[None], part)[0], 1)
                u = torch.einsum("nk,nkp->np", p, J)
                J = p.sqrt()[:, :, None] * J
                G -= u.T @ u
            J = J.flatten(0, 1)
            G += J.T @ J
        A = self.prior_std_.pow(-2)
        squares = (
            (y - self.forward(theta[None], x)[0]).square().sum()
            if self.task_ == "regression"
            else theta.new_zeros(())
        )
        for _ in range(20 if self._noise_is_free else 1):
            precision = torch.exp(-2 * self.log_noise_) if self.task_ == "regression" else 1.0
            L, info = torch.linalg.cholesky_ex(precision * G + torch.diag(A))
            if int(info):
                raise ValueError(
                    f"posterior={self.posterior!r}: Λ is singular to rounding; "
                    "raise noise, lower prior_scale, or use 'vi'"
                )
            if self._noise_is_free:
                gamma = P - (torch.cholesky_inverse(L).diagonal() * A).sum()
                m, s = LOG_NOISE  # with the prior of log σ: one step of Newton's method in log σ
                left = len(y) - gamma
                slope = left - squares * precision + (self.log_noise_ - m) / s**2
                self.log_noise_ -= slope / (2 * squares * precision + 1 / s**2)
                self.log_noise_.clamp_(min=LEAST)
        return L

    def _chains(self, x: Tensor, y: Tensor, L: Tensor, fit: Fit) -> tuple[Tensor, Tensor]:
        """Draws of (θ, log σ): chains of HMC in z, after a warm-up that finds their step."""
        theta, start, free, rng = (
            self.mean_.detach(),
            self.log_noise_.detach(),
            self._noise_is_free,
            self.rng,
        )
        C, spread = min(self.chains, self.n_draws), (2 * len(y)) ** -0.5  # of log σ about its mode

        def unfold(z: Tensor) -> tuple[Tensor, Tensor]:
            return theta + _solve(L, z[:, : len(theta)]), start + (
                spread * z[:, -1] if free else z.new_zeros(len(z))
            )

        def energy(z: Tensor) -> Tensor:
            t, r = unfold(z)
            return -self.log_likelihood(self.forward(t, x), y, r).sum(1) - self.log_prior(t, r)

        z = torch.randn(
            C, len(theta) + free, generator=rng, dtype=torch.float64, device=theta.device
        )
        step, kept, accepted = z.shape[1] ** -0.25, [], []
        keep = -(-self.n_draws // C)
        try:
            with CtrlC() as ctrl_c:
                for i in range(WARM_UP + THIN * keep):
                    if fit.time_left() <= 0:
                        break
                    ctrl_c.check()
                    jitter = 0.8 + 0.4 * float(torch.rand((), generator=rng, device=theta.device))
                    z, rate = hmc(
                        energy, z, 1, jitter * step, min(max(1, round(1.5 / step)), 32), rng
                    )
                    if i < WARM_UP:
                        step *= math.exp((rate - 0.8) / (1 + i / 10) ** 0.5)
                        continue
                    accepted.append(float(rate))
                    if (i - WARM_UP) % THIN == THIN - 1:
                        kept.append(z)
        except KeyboardInterrupt:
            warnings.warn(
                f"interrupted after {len(kept)} of {keep} draws a chain: "
                "the model is usable as it is",
                stacklevel=2,
            )
            self.interrupted_ = True
        Z = torch.stack(kept or [z])  # (T, C, dim)
        draws, log_noise = unfold(Z.flatten(0, 1))
        self.acceptance_ = float(np.mean(accepted)) if accepted else math.nan
        some = self.forward(draws, x[:50])
        told = torch.cat([energy(Z.flatten(0, 1))[:, None], some.flatten(1)], 1)
        self.rhat_ = rhat(told.reshape(*Z.shape[:2], -1))
        if self.rhat_ > 1.2:
            warnings.warn(
                f"the chains of HMC disagree (R-hat {self.rhat_:.2f}): "
                "fewer chains make longer ones",
                ConvergenceWarning,
                stacklevel=2,
            )
        return draws[: self.n_draws], log_noise[: self.n_draws]

    # ------------------------------------------------------------------ predicting

    def _scaled(self, given: Tensor) -> Tensor:
        return (given.flatten(1) - self.x_mean_) / self.x_std_

    def _standard(self, y: Tensor) -> Tensor:
        return (y - self.y_mean_) / self.y_std_  # classes: mean 0, spread 1

    def _outputs(self, given: Tensor) -> Tensor:
        """f(x) of every draw, (S, n, K), y at mean 0 and variance 1.

        After Laplace it is that of the linear model about θ*.
        """
        x = self._scaled(given)
        if self.posterior != "laplace":
            return self.forward(self.draws_, x)
        theta = self.mean_.detach()

        def change(v: Tensor) -> Tensor:
            return torch.func.jvp(lambda t: self.forward(t[None], x)[0], (theta,), (v,))[1]

        return self.forward(theta[None], x) + torch.func.vmap(change)(self.draws_ - theta)

    @property
    def noise_(self) -> float:
        """σ in the units of y: the root of its mean square over the draws."""
        return float((2 * self.log_noise_draws_).exp().mean().sqrt() * self.y_std_)

    def functions(self, X: Any) -> np.ndarray:
        """The prediction of every network drawn.

        E[y | x, θ_s], (n_draws, n), or its classes' probabilities, (n_draws, n, K).
        """
        with torch.no_grad():
            out = torch.cat([self._outputs(part) for part in self._given(X).split(self.chunk)], 1)
            out = (
                out.softmax(2)
                if self.task_ == "classification"
                else self.y_mean_ + self.y_std_ * out[..., 0]
            )
        return out.cpu().numpy()

    @available_if(lambda self: self._kind() != "regression")
    def predict_proba(self, X: RowsLike) -> np.ndarray:
        """p(class | x), the mean over the networks drawn; (n, K), in the order of ``classes_``."""
        self._check_fitted()
        if self.task_ == "regression":
            raise ValueError(
                "predict_proba: it was fitted to numbers; "
                "use predict(X, return_std=True), or task='classification'"
            )
        with torch.no_grad():
            return (
                torch.cat(
                    [self._outputs(p).softmax(2).mean(0) for p in self._given(X).split(self.chunk)]
                )
                .cpu()
                .numpy()
            )

    def predict(self, X: RowsLike, return_std: bool = False) -> Any:
        """The likeliest class, or E[y | x].

        With ``return_std`` also the standard deviation of y, of the networks and the noise.
        """
        self._check_fitted()
        if self.task_ == "classification":
            if return_std:
                raise ValueError(
                    "return_std=True: classes have no standard deviation; use predict_proba(X)"
                )
            return self.classes_[self.predict_proba(X).argmax(1)]
        with torch.no_grad():
            out = [self._outputs(p)[..., 0] for p in self._given(X).split(self.chunk)]
            mean = self.y_mean_ + self.y_std_ * torch.cat([o.mean(0) for o in out])
            noise = (2 * self.log_noise_draws_).exp().mean()
            std = self.y_std_ * (torch.cat([o.var(0, correction=0) for o in out]) + noise).sqrt()
        return (mean.cpu().numpy(), std.cpu().numpy()) if return_std else mean.cpu().numpy()

    # ------------------------------------------------------------------ hooks

    def _log_classes(self, given: Tensor) -> Tensor:
        """log p(class | x) of codes of X, (n, K), with its gradient."""
        return self._outputs(given).log_softmax(2).logsumexp(0) - math.log(len(self.draws_))

    def _log_prob(self, y: Tensor, given: Tensor) -> LogProb:
        each = self.log_likelihood(self._outputs(given), self._standard(y), self.log_noise_draws_)
        each = each - (self.y_std_.log() if self.task_ == "regression" else 0)
        if len(each) == 1:
            return Exact(each[0])
        value, stderr, ess = log_mean_exp(each, 0)
        return Estimate(
            value,
            stderr,
            shared_stderr=float(stderr.mean()),
            detail={"draws": len(each), "ess": float(ess.mean())},
        )

    def _sample(self, n: int, rng: torch.Generator, given: Tensor) -> Tensor:
        parts = []
        for part in given.split(self.chunk):
            s = torch.randint(len(self.draws_), (len(part),), generator=rng, device=rng.device)
            # a network for every row
            out = self._outputs(part)[s, torch.arange(len(part), device=rng.device)]
            if self.task_ == "classification":
                parts.append(torch.multinomial(out.softmax(1), 1, generator=rng).double())
            else:
                e = torch.randn(len(part), generator=rng, dtype=torch.float64, device=rng.device)
                parts.append(
                    self.y_mean_
                    + self.y_std_ * (out + (self.log_noise_draws_[s].exp() * e)[:, None])
                )
        return torch.cat(parts)


WARM_UP, THIN = 200, 3  # transitions of a chain before the first draw, and from one to the next


def rhat(draws: Tensor) -> float:
    """The largest √((W (T − 1)/T + B)/W) over the columns of (T, C, …).

    B between and W within C chains (Gelman & Rubin, 1992).
    """
    T, C = draws.shape[:2]
    if T < 2 or C < 2:
        return math.nan
    within, between = draws.var(0).mean(0), draws.mean(0).var(0)
    ratio = (within * (T - 1) / T + between) / within
    return float(ratio[within > 0].max().sqrt()) if bool((within > 0).any()) else math.nan


def _steps(net: nn.Module) -> list[nn.Module]:
    """The linear layers and activations of a plain sequence."""
    plain: tuple[type[nn.Module], ...] = (nn.Linear, *ACTIVATIONS.values())
    steps = (
        [m for m in net if not isinstance(m, nn.Flatten | nn.Unflatten | Dropout)]
        if isinstance(net, nn.Sequential)
        else [net]
    )
    for m in steps:
        if not isinstance(m, plain):
            raise ValueError(
                f"network: a {type(m).__name__} has no posterior here; use a sequence of linear "
                "layers and activations: MLP()"
            )
    return steps


def _cut(theta: Tensor, i: int, layer: nn.Linear) -> tuple[Tensor, Tensor | None, int]:
    """Weights (S, out, in), biases (S, out) of the layer that begins at i; the next one's i."""
    j = i + layer.weight.numel()
    W = theta[:, i:j].reshape(-1, *layer.weight.shape)
    if layer.bias is None:
        return W, None, j
    return W, theta[:, j : j + layer.out_features], j + layer.out_features


def _solve(L: Tensor, z: Tensor) -> Tensor:
    """L⁻ᵀ z of every row of z."""
    return torch.linalg.solve_triangular(L.T, z.T, upper=True).T


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column (of a constant one a millionth of it, or 1)."""
    mean = x.mean(0)
    std = (x - mean).square().mean(0).sqrt()
    return mean, torch.where(
        std > 1e-12 * mean.abs(), std, torch.where(mean == 0, 1.0, 1e-6 * mean.abs())
    )
