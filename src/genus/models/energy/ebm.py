r"""A network as the energy of a density: p(x) ∝ e^{−E(x)/T} (LeCun et al., 2006).

    −∂ log p(x)/∂θ = (∂E(x)/∂θ − E_p[∂E/∂θ]) / T        rows of the data against chains

Ways to learn: ``pcd``, chains that persist in a buffer (Tieleman, 2008; Du & Mordatch, 2019);
``cd``, chains from the rows (Hinton, 2002); ``short-run``, chains that always begin afresh
(Nijkamp et al., 2019); and without chains, score matching, denoising and noise contrast, see
``objectives.py``. Coordinates, chains and p₀ are those of ``energies.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer
from genus.models.energy import objectives
from genus.models.energy.energies import EnergyModel
from genus.networks.blueprints import BLUEPRINT, Blueprint
from genus.settings import Flag, Number, OneOf, Rule, Whole
from genus.space import Space

CHAINS = ("pcd", "cd", "short-run")
METHODS = ("auto", *CHAINS, "score-matching", "sliced", "denoising", "nce")


class EBM(EnergyModel):
    r"""Any network as an energy, p(x) ∝ e^{−E(x)/T}.

    Tables, and images with ``marginals="learned"``, get a density at T = 1, and ``log_prob`` is an
    ``Estimate`` by annealed importance sampling, which errs either way. Images get short chains at
    a low temperature: ``sample`` and ``energy`` serve, and ``log_prob`` raises CapabilityError.

    Parameters
    ----------
    network : blueprint or None, default=None
        From rows to one number; None: ``MLP(256, 2, "silu")``. Batch norm is refused.
    method : str, default="auto"
        ``pcd``, ``cd``, ``short-run``, ``score-matching``, ``sliced``, ``denoising`` or ``nce``.
        ``auto``: ``short-run`` for images, else ``pcd``.
    sampler : {"auto", "langevin", "mala", "hmc"}, default="auto"
        ``auto``: ``mala`` at T = 1, else ``langevin``.
    steps : int or None, default=None
        Of a chain, a gradient. None: 20 for images, else 10.
    step_size : float or None, default=None
        a > 0, in the coordinates; of MALA and HMC only the first, for it adapts. None: 0.1 for
        images, else 0.3 / d^(1/3).
    temperature : float or None, default=None
        T > 0. None: 5e-4 for images, else 1. The noise of a step is √(2aT).
    data_noise : float or None, default=None
        Standard deviation of noise added to rows, in the coordinates: σ of ``denoising`` (None:
        0.3). Else None: 0.02 for images; in score matching 0.05 where rows share values, without
        which it has no minimum; and 0.
    n_chains : int, default=1000
        The buffer of ``pcd``.
    restart : float, default=0.05
        Share of its chains that begin afresh, a gradient.
    tilt : bool or None, default=None
        Whether E tilts a Gaussian of the rows, p ∝ p₀ e^{−E/T}. None: all but images.
    energy_penalty : float, default=0.0
        α ≥ 0 of α (E(data)² + E(chains)²), which keeps energies near 0.
    spectral_norm : bool, default=False
        Keep the largest singular value of every layer's weights at most 1.
    marginals : {"learned", "pixels"} or None, default=None
        Coordinates: normal scores of the columns, or the box [−1, 1]. None: ``pixels`` for images
        where chains learn.
    n_annealing : int, default=500
        Temperatures of annealed importance sampling.
    burn_in : int, default=200
        Temperatures through which ``sample`` anneals at T = 1.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Attributes
    ----------
    retries_
        Times that training diverged, was rolled back, and went on with half the step.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> quick = genus.Trainer(epochs=2, batch_size=50)
    >>> model = genus.EBM(genus.MLP(16, 1), trainer=quick, random_state=0).fit(X)
    >>> model.log_prob(X).kind, model.energy(X).shape
    ('estimate', (200,))
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "network": BLUEPRINT | None,
        "method": OneOf(*METHODS),
        "sampler": OneOf("auto", "langevin", "mala", "hmc"),
        "steps": Whole(1) | None,
        "step_size": Number(above=0) | None,
        "temperature": Number(above=0) | None,
        "data_noise": Number(0) | None,
        "n_chains": Whole(1),
        "restart": Number(0, 1),
        "tilt": Flag() | None,
        "energy_penalty": Number(0),
        "spectral_norm": Flag(),
        "marginals": OneOf("learned", "pixels") | None,
        "n_annealing": Whole(1),
        "burn_in": Whole(1),
    }
    learned_by = "contrastive divergence by Langevin chains"
    with_labels = "JEM"
    constant_: nn.Parameter  # c of noise contrast

    def __init__(
        self,
        network: Blueprint | None = None,
        method: str = "auto",
        sampler: str = "auto",
        steps: int | None = None,
        step_size: float | None = None,
        temperature: float | None = None,
        data_noise: float | None = None,
        n_chains: int = 1000,
        restart: float = 0.05,
        tilt: bool | None = None,
        energy_penalty: float = 0.0,
        spectral_norm: bool = False,
        marginals: str | None = None,
        n_annealing: int = 500,
        burn_in: int = 200,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.method = method
        self.sampler = sampler
        self.steps = steps
        self.step_size = step_size
        self.temperature = temperature
        self.data_noise = data_noise
        self.n_chains = n_chains
        self.restart = restart
        self.tilt = tilt
        self.energy_penalty = energy_penalty
        self.spectral_norm = spectral_norm
        self.marginals = marginals
        self.n_annealing = n_annealing
        self.burn_in = burn_in
        self.trainer = trainer
        self.random_state = random_state

    def build(self, space: Space) -> None:
        if self._short() and self.tilt:
            raise ValueError(
                "tilt=True needs the coordinates of p₀, normal scores: pass marginals='learned'"
            )
        self._build(space, 1)
        if self._method() == "nce":
            self.constant_ = nn.Parameter(torch.zeros(()))

    def _takes_pixels(self) -> bool:
        return self.method in ("auto", *CHAINS)

    def _method(self) -> str:
        if self.method != "auto":
            return self.method
        return "short-run" if self._short() else "pcd"

    def _tilts(self) -> bool:
        return not self._short() if self.tilt is None else self.tilt

    def _energy(self, y: Tensor) -> Tensor:
        return self._outputs(y)[:, 0]

    # ------------------------------------------------------------------ learning

    def start(self, rows: Rows) -> None:
        super().start(rows)
        x = rows.look(4096, self.rng)[0].flatten(1)
        real = ~self.coordinates_.hides(x).any(0)
        shared = [len(c.unique()) < 0.9 * len(c) for c in x.T[real]]
        self.shares_values_ = any(shared)

    def learn(self, fit: Fit) -> None:
        super().learn(fit)
        if self.spectral_norm:
            self._limit(exact=True)

    def losses(self, x: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        """E(data) − E(chains), means over rows, or the objective of the method."""
        if self.spectral_norm:
            self._limit()
        with torch.no_grad():
            y = self._entered(x, self.rng)
        if self._method() not in CHAINS:
            yield self, self._objective(y, self.rng).mean()
            return
        with torch.no_grad():
            end = self._negatives(y)
            e = torch.randn(y.shape, generator=self.rng, dtype=y.dtype, device=y.device)
        own, other = self._energy(torch.cat([y + self._noise_of_rows() * e, end])).split(len(y))
        gap = own.mean() - other.mean()
        penalty = self.energy_penalty * (own.square().mean() + other.square().mean())
        self._note_health(gap, y, end)
        yield self, gap + penalty

    def _objective(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """What the methods without chains minimise, (n,)."""
        method = self._method()
        if method == "denoising":
            sigma = 0.3 if self.data_noise is None else float(self.data_noise)
            return objectives.denoising(self._log_f, y, sigma, rng)
        if method == "nce":
            return objectives.contrastive(self._log_ratio, y, self._begin(len(y), rng))
        noise = self._noise_of_rows()
        if self.data_noise is None and self.shares_values_:
            noise = 0.05
        y = y + noise * torch.randn(y.shape, generator=rng, dtype=y.dtype, device=y.device)
        if method == "sliced":
            return objectives.sliced(self._log_f, y, rng)
        return objectives.score_matching(self._log_f, y)

    def _log_ratio(self, y: Tensor) -> Tensor:
        """log f + c − log p₀."""
        ratio = self._log_f(y) + self.constant_
        return ratio - self.base_.log_prob(y.to(ratio.dtype))

    def validate(self, x: Tensor) -> Tensor | None:
        """The objective of methods without chains; None with them."""
        if self._method() in CHAINS:
            return None
        with torch.enable_grad():
            return self._objective(self._entered(x, self.rng), self.rng).mean().detach()

    @torch.no_grad()
    def _limit(self, exact: bool = False) -> None:
        """Divide the weights of each layer by what their largest singular value is above 1.

        It is found by power iteration, or exactly.
        """
        for module in self.network_.modules():
            weight = getattr(module, "weight", None)
            if not isinstance(module, nn.Linear | nn.Conv2d) or weight is None:
                continue
            W = weight.flatten(1)
            if exact:
                largest = torch.linalg.matrix_norm(W, 2)
            else:
                v = W.sum(0)
                for _ in range(5):
                    v = W.T @ (W @ v)
                    v = v / v.norm().clamp_min(1e-30)
                largest = (W @ v).norm()
            weight.div_(largest.clamp_min(1.0))
