r"""Diffusion: data drown in noise step by step, and a network learns the way back.

    q(x_t | x_0) = N(α_t x_0, σ_t² I),  α² + σ² = 1,    loss = E ‖F(x_t, t) − (a x_0 + b ε)‖²
    p(x_s | x_t) = N(posterior mean of x_s given x_t and the data seen, w I)

    w = β, β̃, or between them, log w = v log β + (1 − v) log β̃, with v learned by the bound

Sohl-Dickstein et al. (2015); Ho, Jain & Abbeel (2020); Nichol & Dhariwal (2021); Salimans & Ho
(2022); Karras et al. (2022).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from genus.distributions.points import row_normals
from genus.learn.trainer import Trainer
from genus.likelihood import LogProb, LowerBound
from genus.models.diffusion.bound import variational_bound
from genus.models.diffusion.denoiser import Denoiser, once_and_again, split
from genus.models.diffusion.samplers import Variance, ancestral, posterior
from genus.models.diffusion.schedules import Cosine, LinearBeta, Schedule
from genus.networks.blueprints import Blueprint
from genus.settings import OneOf, Rule, Whole

SCHEDULES: dict[str, type[Schedule]] = {"cosine": Cosine, "linear": LinearBeta}
TIMES = 1000  # of the bound by which variances are learned, where times are continuous


class Diffusion(Denoiser):
    r"""Data that drown in noise at constant variance, and a network that takes the noise off.

        x_t = α x_0 + σ ε,  α² + σ² = 1,    score = −E[ε | x_t]/σ

    ``log_prob`` is an ``Estimate`` by the ODE, or the ``LowerBound`` of the chain of ancestral
    steps. Rows with more than 16 cells are scored at one place inside their cells, and by the ODE
    with one random probe of the divergence.

    Parameters
    ----------
    network : blueprint or None, default=None
        Called with a context of time and conditions. None: a U-Net of images, else a residual
        perceptron.
    schedule : {"cosine", "linear"}, default="cosine"
        α and σ; "linear" adds noise at a rate β that grows linearly from .1 to 20.
    prediction : {"v", "noise", "data", "edm"}, default="v"
        What the network says: α ε − σ x_0, ε or x_0; "edm" is c_skip x + c_out F for standard
        normal data, which here is −v.
    n_times : int or None, default=1000
        Times at which it learns, evenly spaced; None: all.
    variance : {"beta", "beta-tilde", "learned"}, default="beta-tilde"
        Of an ancestral step.
    likelihood : {"ode", "bound"}, default="ode"
        What ``log_prob`` is; the bound is that of the chain of ``steps`` ancestral steps, 200 where
        none are stated.
    sampler : str, default="heun"
        How noise becomes data: ``heun``, ``ddim``, ``dpm-solver++``, ``ancestral``,
        ``predictor-corrector`` or ``langevin``.
    steps : int or None, default=None
        Of the sampler, from noise to data. None: 10 of Heun, and as many of others as they need.
    guidance : float, default=1.0
        w of classifier-free guidance, ε_u + w (ε_c − ε_u), where rows have conditions; 1 is the
        model itself, 0 leaves conditions out.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> quick = genus.Trainer(epochs=2)
    >>> model = genus.Diffusion(genus.ResNet(16, 1), trainer=quick, random_state=0).fit(X)
    >>> model.sample(3).shape, model.log_prob(X).kind
    ((3, 2), 'estimate')
    """

    by_default = False  # FlowMatching learns the same field

    arguments: ClassVar[dict[str, Rule]] = {
        "schedule": OneOf(*SCHEDULES),
        "prediction": OneOf("v", "noise", "data", "edm"),
        "n_times": Whole(2) | None,
        "variance": OneOf("beta", "beta-tilde", "learned"),
        "likelihood": OneOf("ode", "bound"),
    }

    def __init__(
        self,
        network: Blueprint | None = None,
        schedule: str = "cosine",
        prediction: str = "v",
        n_times: int | None = 1000,
        variance: str = "beta-tilde",
        likelihood: str = "ode",
        sampler: str = "heun",
        steps: int | None = None,
        guidance: float = 1.0,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.n_times = n_times
        self.variance = variance
        self.likelihood = likelihood
        self.sampler = sampler
        self.steps = steps
        self.guidance = guidance
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ the path and the target

    def path(self) -> Schedule:
        return SCHEDULES[self.schedule]()

    def target(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """a and b of what the network says, a x_0 + b ε."""
        zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
        return {
            "v": (-sigma, alpha),
            "noise": (zero, one),
            "data": (one, zero),
            "edm": (sigma, -alpha),
        }[self.prediction]

    def learning_times(self, u: Tensor) -> Tensor:
        """1/T, 2/T, … 1, or all times."""
        if self.n_times is None:
            return u
        return (u * self.n_times).floor().add(1).clamp_max(self.n_times) / self.n_times

    def times(self, sampler: str | None = None) -> Tensor:
        """Those of a sampler, among those at which it learned."""
        times = super().times(sampler)
        if self.n_times is None:
            return times
        return ((times * self.n_times).round() / self.n_times).unique().flip(0)

    # ------------------------------------------------------------------ learned variances

    def outputs(self) -> int:
        """Of learned variances, v besides."""
        return 2 if self.variance == "learned" else 1

    def error(
        self,
        y: Tensor,
        seen: Tensor,
        e: Tensor,
        t: Tensor,
        given: Tensor | None,
        null: Tensor | None,
    ) -> Tensor:
        """The squared error, and of learned variances the term of the bound at this time."""
        if self.variance != "learned":
            return super().error(y, seen, e, t, given, null)
        path, d = self.path(), y.shape[1]
        alpha, sigma = path.alpha(t), path.sigma(t)
        a, b = self.target(alpha, sigma)
        x = alpha * y + sigma * e
        out = self.look(x, t, given, null)
        wrong = (out[:, :d] - (a * y + b * e).to(out.dtype)).square()
        # the means do not learn by the bound
        x0, _ = split(x, out[:, :d].detach().to(x.dtype), alpha, sigma, a, b)
        s = (t - 1 / (self.n_times or TIMES)).clamp_min(0)
        true, small, beta = posterior(path, x, y, t, s)
        mean, _, _ = posterior(path, x, x0, t, s)
        w = between(out[:, d:].to(x.dtype), small, beta)
        first = s <= 0
        ratio = torch.where(first, torch.ones_like(small), small) / w
        gap = ((true - mean).square() / w + torch.where(first, 0.0, ratio) - ratio.log()) / 2
        return ((wrong + gap.to(wrong.dtype)) * seen).mean()

    def spread(self, given: Tensor | None = None) -> Variance | str:
        """The variance of an ancestral step."""
        if self.variance != "learned":
            return self.variance

        def learned(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
            said = self.look(x, t.expand(len(x), 1), given, None)[:, x.shape[1] :]
            _, small, beta = posterior(self.path(), x, x, t, s)
            return between(said.to(x.dtype), small, beta)

        return learned

    def denoised(
        self, x: Tensor, times: Tensor, rng: torch.Generator, given: Tensor | None = None
    ) -> Tensor:
        """y (n, d) from x̂ (n, d) at the first of the times, which fall to 0."""
        if self.sampler != "ancestral":
            return super().denoised(x, times, rng, given)
        path = self.path()
        times = times.to(x.device)
        x = x * path.radius(times[0])
        return ancestral(self.field(given), path, x, times, rng, self.spread(given))

    # ------------------------------------------------------------------ the bound

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        if self.likelihood == "ode":
            return super()._log_prob(x, given)
        nats, stderr = once_and_again(self._bounded, x, given)
        return LowerBound(nats, stderr)

    def _bounded(self, x: Tensor, given: Tensor | None, which: int = 0) -> Tensor:
        """The bound of the chain at one place inside the cells, by one noise a step."""
        times = self.times("ancestral").to(x.device)
        n_steps, d = len(times) - 1, x.shape[1:].numel()
        pieces = []
        for i in range(0, len(x), 64):
            some, g = x[i : i + 64], None if given is None else given[i : i + 64]
            y, log_q = self._placed(some, which)
            noise = row_normals(y, (which + 1) * n_steps, d)[:, which * n_steps :].double()
            bound = variational_bound(self.field(g), self.path(), y, times, noise, self.spread(g))
            pieces.append(bound + log_q)
        return torch.cat(pieces)


def between(v: Tensor, small: Tensor, beta: Tensor) -> Tensor:
    """The variance between β̃ and β that v decides; β where β̃ is 0, at the last step."""
    share = torch.sigmoid(v)
    low = torch.where(small > 0, small, beta)
    return (share * beta.log() + (1 - share) * low.log()).exp()
