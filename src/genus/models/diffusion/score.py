r"""Score models: the gradient of the log-density of data under noise of many sizes.

    x_t = x_0 + σ(t) ε,    σ from 0 to 50, growing geometrically
    ∇ log p_t(x) = −E[ε | x_t = x]/σ

Denoising score matching: the score at σ that fits best in squares weighted by σ² is −F/σ with F the
best guess of the noise (Vincent, 2011; Song & Ermon, 2019; Song et al., 2021).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from genus.learn.trainer import Trainer
from genus.model import on_rows
from genus.models.diffusion.denoiser import Denoiser
from genus.models.diffusion.schedules import Exploding, Schedule
from genus.networks.blueprints import Blueprint
from genus.settings import Number, OneOf, Rule

SMALL = 0.1  # the angle at which the score of the data is taken


class ScoreModel(Denoiser):
    r"""The score ∇ log p of data under noise of many sizes, learned by denoising.

        x_t = x_0 + σ ε,    ∇ log p_t(x) = −E[ε | x_t = x]/σ

    ``log_prob`` is an ``Estimate`` by the ODE. Rows with more than 16 cells are scored at one place
    inside their cells by one random probe of the divergence.

    Parameters
    ----------
    network : blueprint or None, default=None
        Called with a context of time and conditions. None: a U-Net of images, else a residual
        perceptron.
    sigma_min : float, default=0.01
        Where σ begins to grow geometrically, in standard deviations of the normal scores.
    sigma_max : float, default=50.0
        The largest σ, at which nothing is left of the data.
    prediction : {"noise", "edm"}, default="edm"
        What the network says: ε, or what c_skip x + c_out F needs of it for standard normal data.
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
    >>> model = genus.ScoreModel(genus.ResNet(16, 1), trainer=quick, random_state=0).fit(X)
    >>> model.sample(3).shape, model.score_function(X).shape
    ((3, 2), (200, 2))
    """

    by_default = False  # FlowMatching learns the same field
    arguments: ClassVar[dict[str, Rule]] = {
        "sigma_min": Number(1e-4, 1.0),
        "sigma_max": Number(2.0, 1e6),
        "prediction": OneOf("noise", "edm"),
    }

    def __init__(
        self,
        network: Blueprint | None = None,
        sigma_min: float = 0.01,
        sigma_max: float = 50.0,
        prediction: str = "edm",
        sampler: str = "heun",
        steps: int | None = None,
        guidance: float = 1.0,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.prediction = prediction
        self.sampler = sampler
        self.steps = steps
        self.guidance = guidance
        self.trainer = trainer
        self.random_state = random_state

    def path(self) -> Schedule:
        return Exploding(self.sigma_min, self.sigma_max)

    def target(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """a and b of what the network says, a x_0 + b ε."""
        if self.prediction == "noise":
            return torch.zeros_like(alpha), torch.ones_like(alpha)
        r = torch.hypot(alpha, sigma)
        return sigma / r, -alpha / r

    def learning_times(self, u: Tensor) -> Tensor:
        """Times of angles that are as likely as one another: at the ends is little to learn."""
        return self.path().time(self.path().last * u)

    @on_rows
    def score_function(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """∇ log p of the normal scores of rows under a little noise, (n, d)."""
        y, _ = self.real(x, x.new_full((1, 1), 0.5, dtype=torch.float64))
        y, _ = self.fill(y, torch.full_like(y, 0.5))
        t = self.path().time(torch.tensor(SMALL, dtype=torch.float64))
        _, e = self.ends(y, t, given)
        return -e / self.path().sigma(t)
