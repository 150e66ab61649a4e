r"""Flow matching: a velocity that carries noise to data along straight lines.

    x_t = (1 − t) x_0 + t ε,    loss = E ‖F(x_t, t) − (ε − x_0)‖²,    dx/dt = F(x, t)

Noise may be dealt to the rows of a batch so that the lines are short altogether, and so cross less
(Tong et al., 2024). A second fit on the ends of the first one's own paths makes these straight: a
rectified flow. Lipman et al. (2023); Albergo & Vanden-Eijnden (2023); Liu, Gong & Liu (2023).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from genus.learn.descent import descend
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer
from genus.models.diffusion.denoiser import Denoiser
from genus.models.diffusion.likelihood import transport
from genus.models.diffusion.schedules import Schedule, Straight
from genus.networks.blueprints import Blueprint
from genus.settings import OneOf, Rule, Whole

PAIR_STEPS = 16  # of the ODE that makes pairs


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
    coupling : {"independent", "optimal"}, default="independent"
        Which noise goes with which row: any, or in every batch that which makes the sum of the
        squared lengths of its lines least.
    reflow : int, default=0
        Fits that follow the first, each on pairs of noise and what the fit before made of it.
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

    arguments: ClassVar[dict[str, Rule]] = {
        "coupling": OneOf("independent", "optimal"),
        "reflow": Whole(0, 10),
    }

    def __init__(
        self,
        network: Blueprint | None = None,
        coupling: str = "independent",
        reflow: int = 0,
        sampler: str = "heun",
        steps: int | None = None,
        guidance: float = 1.0,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.coupling = coupling
        self.reflow = reflow
        self.sampler = sampler
        self.steps = steps
        self.guidance = guidance
        self.trainer = trainer
        self.random_state = random_state

    def path(self) -> Schedule:
        return Straight()

    def target(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity ε − x_0."""
        return -torch.ones_like(alpha), torch.ones_like(alpha)

    # ------------------------------------------------------------------ which noise for which row

    def noise_of(self, y: Tensor) -> Tensor:
        """Noise for rows y (n, d) to learn from."""
        e = super().noise_of(y)
        return e if self.coupling == "independent" else e[shortest(y, e)]

    def learn(self, fit: Fit) -> None:
        """Descend, then again for each ``reflow`` on pairs of the model's own."""
        super().learn(fit)
        for i in range(self.reflow):
            pairs = self._pairs(fit.rows)
            held = None if fit.held is None else self._pairs(fit.held)
            own = Fit(pairs, held, fit.trainer, fit.seed, fit.resume, fit.begun)
            stage = f"reflow {i + 1}"
            descend(self, own, losses=self._straighter, validate=self._validate_pairs, stage=stage)

    @torch.no_grad()
    def _pairs(self, rows: Rows) -> Rows:
        """As many pairs as rows, data beside noise, (n, 2, d), under the conditions of the rows."""
        times = self.path().times(PAIR_STEPS, rows.device)

        def pairs(x: Tensor, *given: Tensor) -> Tensor:
            like = self.correlation_.new_zeros(len(x), self.space_.dim)
            e = torch.randn(like.shape, generator=self.rng, dtype=like.dtype, device=like.device)
            field = self.field(*given)
            return torch.stack([transport(field, self.path(), e, times), e], 1)

        return Rows(rows.mapped(pairs, self.rng, 1024).x, rows.given)

    def _straighter(self, pairs: Tensor, given: Tensor | None = None) -> Iterator[Any]:
        """The squared error along the lines between the ends of pairs (n, 2, d)."""
        u = self.uniforms(pairs[:, 0])
        null = None if given is None else self.dropped(pairs[:, 0])
        yield self, self._pair_error(pairs, u, given, null)

    def _validate_pairs(self, pairs: Tensor, given: Tensor | None = None) -> Tensor:
        places = torch.randperm(len(pairs), generator=self.rng, device=pairs.device)
        u = (places[:, None].to(pairs.dtype) + 0.5) / len(pairs)
        return self._pair_error(pairs, u, given, None)

    def _pair_error(
        self, pairs: Tensor, t: Tensor, given: Tensor | None, null: Tensor | None
    ) -> Tensor:
        y, e = pairs[:, 0], pairs[:, 1]
        return self.error(y, torch.ones_like(y, dtype=torch.bool), e, t, given, null)


def shortest(y: Tensor, e: Tensor) -> Tensor:
    """The order of rows e (n, d) in which Σ ‖y_i − e_i‖² is least, (n,)."""
    cost = torch.cdist(y, e).square().cpu().numpy()
    return torch.from_numpy(linear_sum_assignment(cost)[1]).to(y.device)
