r"""Flow matching: a velocity that carries noise to data along straight lines.

    x_t = (1 − t) x_0 + t ε,    loss = E ‖F(x_t, t) − (ε − x_0)‖²,    dx/dt = F(x, t)

Lipman et al. (2023); Albergo & Vanden-Eijnden (2023); Liu, Gong & Liu (2023).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genus.learn.trainer import Trainer
from genus.models.diffusion.denoiser import Denoiser
from genus.models.diffusion.schedules import Schedule, Straight
from genus.networks.blueprints import Blueprint


class FlowMatching(Denoiser):
    r"""A velocity learned along straight lines from data to noise.

        x_t = (1 − t) x_0 + t ε,    dx/dt = E[ε − x_0 | x_t]

    ``log_prob`` is an ``Estimate`` by the ODE. Rows with more than 16 cells are scored at one place
    inside their cells by one random probe of the divergence.

    Parameters
    ----------
    network : blueprint or None, default=None
        Called with a context of time and conditions. None: a U-Net of images, else a residual
        perceptron.
    sampler : str, default="heun"
        How noise becomes data: ``heun``, ``ddim`` (Euler's steps along the lines),
        ``dpm-solver++``, ``ancestral``, ``predictor-corrector`` or ``langevin``.
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
    >>> model = genus.FlowMatching(genus.ResNet(16, 1), trainer=quick, random_state=0).fit(X)
    >>> model.sample(3).shape, model.log_prob(X).kind
    ((3, 2), 'estimate')
    """

    def __init__(
        self,
        network: Blueprint | None = None,
        sampler: str = "heun",
        steps: int | None = None,
        guidance: float = 1.0,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.sampler = sampler
        self.steps = steps
        self.guidance = guidance
        self.trainer = trainer
        self.random_state = random_state

    def schedule(self) -> Schedule:
        return Straight()

    def target(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity ε − x_0."""
        return -torch.ones_like(alpha), torch.ones_like(alpha)
