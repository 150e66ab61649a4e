r"""What models of energies share: chains, their starts, and numbers where these can be had.

    p(x) = ∫ p(y) |∂y/∂x| du,     p(y) = p₀(y)^t e^{−E(y)/T} / Z
    ∇ log p(y) = E_p[∇E]/T − ∇E(y)/T

y are the coordinates of a row, in one of two ways:

    scores    the normal scores of its columns, what is discrete at a place u inside its mass.
              Chains have T = 1 and leave p alone (MALA, HMC), or nearly (Langevin), and the energy
              tilts p₀, a Gaussian of the rows (t = 1). Z comes from annealing p₀ into p.
    pixels    an image in the box [−1, 1], onto which every step is projected. Chains are short,
              y ← y − a ∇E + σ ξ with σ = √(2aT) and T far below 1, and begin at draws of p₀.

A short chain ends where it ends, not at p: such an energy is one that takes draws of p₀ to rows of
the data in so many steps (Nijkamp et al., 2019). It has no log-probability, and ``sample`` runs as
many steps as training did.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from genus.density import DensityModel
from genus.distributions.coordinates import Coordinates
from genus.learn import processes
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer, batch_of
from genus.likelihood import LogProb
from genus.missing import has_gaps
from genus.model import CapabilityError, Model
from genus.models.energy.base import Base
from genus.models.energy.pixels import BOX, Pixels
from genus.networks.blueprints import MLP, Blueprint
from genus.networks.layers import output_layer
from genus.samplers import completion
from genus.samplers.annealing import anneal
from genus.samplers.chains import gradient, hmc, langevin, mala
from genus.settings import Settings
from genus.space import Space
from genus.typing import RandomState, RowsLike, available_if
from genus.unnormalised import SMALL, Unnormalised

FIRST = 1 << 16  # rows from which columns and p₀ are learned, at most
LEAPFROG = 5  # of HMC
SMALL_START = 0.1  # of the last layer's weights, so that energies begin nearly flat
LARGEST_GAP = 1e3  # between the mean energies of data and chains
SATURATED = 0.9  # share of the cells of chains that are at an end of the box
AIM = {"mala": 0.57, "hmc": 0.8}  # share of proposals accepted (Roberts & Rosenthal, 1998)


class EnergyModel(Unnormalised, DensityModel):
    """The base of ``EBM`` and ``JEM``: a network on coordinates y, and chains that it drives.

    A family writes ``_energy(y)``, (n, d) → (n,), in the precision of its network, and how it
    learns. The settings that both have: ``network``, ``steps``, ``step_size``, ``temperature``,
    ``data_noise``, ``n_chains``, ``restart``, ``marginals``, ``n_annealing`` and ``burn_in``.

    Examples
    --------
    >>> import genus
    >>> from genus.models.energy.energies import EnergyModel
    >>> issubclass(genus.EBM, EnergyModel), issubclass(genus.JEM, EnergyModel)
    (True, True)
    """

    methods: ClassVar[tuple[str, ...]] = ("auto", "ais")
    allow_nan = True
    fills_gaps = True
    network: Blueprint | None
    steps: int | None
    step_size: float | None
    temperature: float | None
    data_noise: float | None
    n_chains: int
    restart: float
    marginals: str | None
    burn_in: int

    network_: nn.Module
    base_: Base
    scores_: Coordinates | None
    step_: Tensor  # of chains, as it adapts
    _chains: Tensor  # the buffer: where chains stand, of a checkpoint but not of a saved file
    _health: Tensor | None = None  # of the last step with chains
    retries_: int  # times that training diverged and chains went on with half the step

    # ------------------------------------------------------------------ what a family writes

    def _energy(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def _method(self) -> str:
        """How it learns, by name."""
        raise NotImplementedError

    def _tilts(self) -> bool:
        """Does the energy tilt p₀?"""
        return not self._short()

    # ------------------------------------------------------------------ settings, resolved

    def _takes_pixels(self) -> bool:
        """Does the way to learn serve images in a box?"""
        return True

    def _short(self) -> bool:
        """Are rows images in a box, and chains short?"""
        return isinstance(self.coordinates_, Pixels)

    def _temperature(self) -> float:
        return float(self.temperature or (5e-4 if self._short() else 1.0))

    def _sampler(self) -> str:
        stated = getattr(self, "sampler", "auto")
        if stated != "auto":
            return str(stated)
        return "mala" if self._temperature() == 1 else "langevin"

    def _steps(self) -> int:
        return int(self.steps or (20 if self._short() else 10))

    def _noise_of_rows(self) -> float:
        """The standard deviation of what is added to rows of the data."""
        if self.data_noise is not None:
            return float(self.data_noise)
        return 0.02 if self._short() else 0.0

    def _converges(self) -> bool:
        """Do chains sample p, so that the energy is that of a density?"""
        return not self._short() and self._temperature() == 1 and self._method() != "short-run"

    # ------------------------------------------------------------------ construction

    def _make(self, space: Space) -> None:
        """Coordinates, then what every model has."""
        images = space.layout is not None and space.image_shape is not None
        pixels = self.marginals == "pixels" or (
            self.marginals is None and images and self._takes_pixels()
        )
        if pixels and not self._takes_pixels():
            raise ValueError("marginals='pixels' serves chains alone: leave it out")
        if self.marginals == "pixels" and "categorical" in space.kinds:
            raise ValueError("marginals='pixels' does not suit words: leave it out")
        scores = Coordinates(space, "learned")
        self.coordinates_: Any = Pixels(space) if pixels else scores
        self.scores_ = scores if pixels else None  # where p₀ lives
        Model._make(self, space)

    def _build(self, space: Space, out: int) -> None:
        """The network, p₀ and the chains."""
        self.base_ = Base(space.dim)
        shape = space.image_shape or (space.dim,)
        usual = MLP(256, 2, "silu")
        self._shape = tuple(map(int, shape))
        self.network_ = self.make_network(self.network, self._shape, (out,), usual)
        _refuse_batch_norm(self.network_)
        last = output_layer(self.network_)
        if last is not None and (self.network is None or isinstance(self.network, Settings)):
            with torch.no_grad():
                last.weight.mul_(SMALL_START)
            if out == 1:  # a constant of the energy, which Z takes up
                last.register_parameter("bias", None)
        self.register_buffer("step_", torch.tensor(0.1, dtype=torch.float64))
        self.register_buffer("_chains", torch.zeros(0, space.dim), persistent=False)
        self.retries_ = 0

    def _outputs(self, y: Tensor) -> Tensor:
        """What the network says of coordinates y (n, d), (n, K)."""
        like = next(self.network_.parameters())
        out: Tensor = self.network_(y.to(like.dtype).reshape(-1, *self._shape))
        return out

    def defaults(self, n: int) -> Trainer:
        """About 1,500 steps, more where there are many rows."""
        batch = batch_of(n, 15, 32, 128)
        epochs = min(200, max(10, 1500 * batch // max(n, 1)))
        return Trainer(epochs=epochs, batch_size=batch, lr=1e-3, schedule="linear", grad_clip=10.0)

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Learn the columns' own distributions and p₀."""
        x = rows.look(FIRST, self.rng)[0]
        scores = self.coordinates_ if self.scores_ is None else self.scores_
        if self.scores_ is not None:
            self.coordinates_.fit(x)
        scores.fit(x)
        self.base_.fit(self._scores_of(x, self.rng))

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        """The first step size, and a buffer of chains at draws of p₀."""
        usual = 0.1 if self._short() else 0.3 / self.space_.dim ** (1 / 3)
        self.step_.fill_(float(self.step_size or usual))
        if self._method() == "pcd":
            self._chains = self._begin(int(self.n_chains), self.rng)

    # ------------------------------------------------------------------ rows as coordinates

    def _scores_of(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Normal scores of codes x (n, *shape), NaN where a cell is missing."""
        scores = self.coordinates_ if self.scores_ is None else self.scores_
        x = x.flatten(1)
        u = torch.rand(x.shape, generator=rng, dtype=torch.float64, device=x.device)
        z: Tensor = scores(x, u)[0]
        return z

    def _entered(self, x: Tensor, rng: torch.Generator, wide: float = 1.0) -> Tensor:
        """Coordinates of codes x, what they hide drawn, gaps filled by p₀; (n, d)."""
        gaps = torch.isnan(x.flatten(1))
        if self.scores_ is None or has_gaps(x):
            z = self._scores_of(x, rng)
            e = torch.rand(z.shape, generator=rng, dtype=torch.float64, device=z.device)
            z = self.base_.fill(z, e, 1, wide)[0]
            if self.scores_ is None:
                return z.to(self._dtype())
            x = torch.where(gaps, self.scores_.inverse(z).to(x.dtype), x.flatten(1))
        return self._centre(x)

    def _in_the_middle(self, x: Tensor) -> Tensor:
        """Coordinates of codes x whose gaps are at their mean under p₀ given the others."""
        scores = self.coordinates_ if self.scores_ is None else self.scores_
        x = x.flatten(1)
        gaps, half = torch.isnan(x), torch.full(x.shape, 0.5, dtype=torch.float64, device=x.device)
        z = self.base_.fill(scores(x, half)[0], half, 1, 1.0)[0]
        if self.scores_ is None:
            return z.to(self._dtype())
        return self._centre(torch.where(gaps, scores.inverse(z).to(x.dtype), x))

    def _centre(self, x: Tensor) -> Tensor:
        """Coordinates of codes x with discrete cells in their middle."""
        x = x.flatten(1)
        middle = torch.full(x.shape, 0.5, dtype=torch.float64, device=x.device)
        y: Tensor = self.coordinates_(x, middle)[0]
        return y.to(self._dtype())

    def _dtype(self) -> torch.dtype:
        return next(self.network_.parameters()).dtype

    def fill(self, y: Tensor, e: Tensor, copies: int = 1) -> tuple[Tensor, Tensor]:
        """Missing coordinates drawn from p₀ given the others, somewhat wider."""
        return self.base_.fill(y, e, copies, completion.WIDE)

    # ------------------------------------------------------------------ chains

    def _log_f(self, y: Tensor) -> Tensor:
        """log p(y) + log Z, (n,)."""
        value = -self._energy(y) / self._temperature()
        return value + self.base_.log_prob(y.to(value.dtype)) if self._tilts() else value

    def _log_f_of(self, labels: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The same as a function; a classifier's of one label a row."""
        return self._log_f

    def _begin(self, n: int, rng: torch.Generator) -> Tensor:
        """n draws of p₀ as coordinates."""
        return self._from_scores(self.base_.draw(n, rng))

    def _from_scores(self, z: Tensor) -> Tensor:
        if self.scores_ is None:
            return z.to(self._dtype())
        return self._centre(self.scores_.inverse(z))

    def _moved(
        self,
        y: Tensor,
        steps: int,
        rng: torch.Generator,
        log_f: Callable[[Tensor], Tensor] | None = None,
        adapt: bool = False,
    ) -> Tensor:
        """Chains after some steps. adapt: let the step size follow the share accepted."""
        log_f = log_f or self._log_f
        T, step = self._temperature(), self.step_ * 0.5**self.retries_
        how = self._sampler()
        if how == "langevin":
            box = BOX if self._short() else None
            return langevin(lambda v: -T * log_f(v), y, steps, step, rng, T, box)

        def energy(v: Tensor) -> Tensor:
            e = -log_f(v)
            if self._short():  # no proposal outside the box is accepted
                e = e + torch.where((v.abs() > 1).any(1), math.inf, 0.0)
            return e

        if how == "mala":
            y, share = mala(energy, y, steps, step * T, rng)
        else:
            y, share = hmc(energy, y, steps, (2 * step * T).sqrt(), LEAPFROG, rng)
        if adapt:
            self.step_.mul_(torch.exp(0.1 * (processes.over_batch(share) - AIM[how])))
        return y

    def _negatives(self, y: Tensor) -> Tensor:
        """Where chains end, as many as there are rows y of the data; the buffer is written."""
        method, rng = self._method(), self.rng
        if method == "cd":
            begin = y
        elif method == "short-run":
            begin = self._begin(len(y), rng)
        else:
            n = len(self._chains)
            index = torch.randperm(n, generator=rng, device=y.device)
            index = index[: processes.rows_of_batch(len(y))]
            begin = self._chains[processes.own_rows(index)]
            fresh = torch.rand(len(begin), generator=rng, device=y.device) < self.restart
            begin = torch.where(fresh[:, None], self._begin(len(begin), rng), begin)
        end = self._moved(begin, self._steps(), rng, adapt=True).detach()
        if method == "pcd":
            self._chains[index] = processes.all_rows(end)
        return end

    def _note_health(self, gap: Tensor, y: Tensor, end: Tensor) -> None:
        """Keep what ``trouble`` asks of a step: the gap of energies, cells at ends of the box."""
        with torch.no_grad():
            there = [(v.abs() >= 1).double().mean() for v in (y, end)]
            finite = end.isfinite().all().double()
            self._health = processes.over_batch(torch.stack([gap.double(), finite, *there]))

    def trouble(self, loss: float, first: float) -> str:
        """What is wrong with a loss or the chains behind it; they then go on with half the step."""
        if self._health is None:
            return super().trouble(loss, first)
        gap, finite, own, at_ends = self._health.tolist()
        if not math.isfinite(gap) or finite < 1:
            why = "an energy is not finite"
        elif abs(gap) > LARGEST_GAP:
            why = f"the energies of data and chains are {gap:.3g} apart"
        elif self._short() and at_ends > max(SATURATED, own + 0.3):
            why = f"{at_ends:.0%} of the cells of chains are at an end of the box"
        else:
            why = super().trouble(loss, first)
        if why:
            self.retries_ += 1
            why = f"{why}; chains go on with half the step"
        return why

    # ------------------------------------------------------------------ what Unnormalised asks

    def _states(self, x: Tensor) -> Tensor:
        return self._centre(x)

    def _codes_of(self, v: Tensor) -> Tensor:
        return self.unreal(v)

    def _free_energy(self, v: Tensor) -> Tensor:
        return -self._log_f(v)

    def _swept(self, v: Tensor, sweeps: int, rng: torch.Generator) -> Tensor:
        return self._moved(v, sweeps, rng)

    def _log_z_base(self) -> float:
        return 0.0

    def _n_enumerated(self) -> int:
        return SMALL + 1  # never

    def validate(self, x: Tensor) -> Tensor | None:
        """None: chains have no objective on held-out rows."""
        return None

    def _annealed(
        self,
        n: int,
        steps: int,
        rng: torch.Generator,
        start: Any = None,
        log_f: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Any]:
        """Log-weights of n runs from p₀ to p and where they end; backwards from ``start``."""
        target = log_f or self._log_f

        def between(y: Tensor, b: float) -> Tensor:
            return (1 - b) * self.base_.log_prob(y) + b * target(y)

        def step(state: tuple[Tensor, float], now: float, then: float) -> Any:
            y, size = state
            gain = (then - now) * (target(y) - self.base_.log_prob(y))
            y, share = mala(lambda v: -between(v, then), y, 1, size, rng)
            return (y, size * math.exp(0.1 * (share - AIM["mala"]))), gain.double()

        grid = [(i / steps) ** 2 for i in range(steps + 1)]
        y = self._begin(n, rng) if start is None else start
        grid = grid if start is None else grid[::-1]
        (y, _), log_w = anneal(step, (y, 0.3 / y.shape[1] ** (1 / 3)), grid)
        return log_w, y

    # ------------------------------------------------------------------ verbs

    def log_partition(self, *args: Any, **kwargs: Any) -> Any:
        """log Z in nats by annealing p₀ into p, see ``Unnormalised.log_partition``.

        Raises CapabilityError where chains are short or their temperature is not 1.
        """
        self._check_fitted()
        self._refuse_unless_convergent()
        return super().log_partition(*args, **kwargs)

    def _refuse_unless_convergent(self) -> None:
        if self._converges():
            return
        T = self._temperature()
        raise CapabilityError(
            f"this {type(self).__name__} learned by short chains at a temperature of {T:g}: its "
            "energy is no density's and has no log-probability; energy(X) ranks rows, and "
            "marginals='learned' with method='pcd' learns a density"
        )

    def log_density(self, y: Tensor) -> Tensor:
        """log p(y) + log Z of coordinates, in float64."""
        return self._log_f(y).double()

    def _log_prob(self, x: Tensor) -> LogProb:
        self._refuse_unless_convergent()
        p = self._scored(x)
        value, stderr = torch.as_tensor(p.nats), torch.as_tensor(p.stderr)
        return self._normalised(value, stderr, **p.detail)

    def energy(self, X: RowsLike) -> np.ndarray:
        """E of each row, (n,), discrete cells in their middle: the lower, the likelier.

        Where the energy tilts p₀, log p(x) also has log p₀: ``free_energy`` is that of both.
        Raises ValueError where a cell is missing.
        """
        return self._of_rows(self._energy, X)

    def score_function(self, X: RowsLike) -> np.ndarray:
        """∇ log p(y) at each row, (n, d), in the model's coordinates y."""

        def slope(y: Tensor) -> Tensor:
            return -gradient(lambda v: -self._log_f(v), y)[1]

        return self._of_rows(slope, X)

    def _of_rows(self, f: Callable[[Tensor], Tensor], X: Any) -> np.ndarray:
        self._check_fitted()
        x = self._codes(X)
        if bool(torch.isnan(x).any()):
            raise ValueError("X has missing cells, which have no energy: fill them, complete(X)")
        out: np.ndarray = self._chunked(lambda some: f(self._centre(some)), x).numpy()
        return out

    @available_if(lambda self: False)
    def gibbs(self, *args: Any, **kwargs: Any) -> Any:
        """Not here: ``chains`` runs those of this model."""
        raise NotImplementedError

    def chains(
        self,
        n: int | None = None,
        steps: int = 100,
        *,
        start: RowsLike | None = None,
        every: int | None = None,
        random_state: RandomState = None,
    ) -> Any:
        """Chains of ``steps`` steps of the model's sampler, in the caller's type.

        start: rows to start from, one a chain, or each n times over; None: n draws (100) of p₀.
        every: with it, a leading axis of the start and the states after every so many steps (of
        tables, a list).
        """
        return Unnormalised.gibbs(
            self, n, steps, start=start, every=every, random_state=random_state
        )

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        parts = [self._run(self._begin(len(c), rng), rng) for c in torch.arange(n).split(1024)]
        return self.unreal(torch.cat(parts))

    def _run(
        self,
        begin: Tensor,
        rng: torch.Generator,
        log_f: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Where chains of ``sample`` end: as many steps from ``begin`` as training made.

        At T = 1 they are annealed from p₀ instead, and make some steps more.
        """
        if not self._converges():
            return self._moved(begin, self._length(), rng, log_f)
        y = self._annealed(len(begin), int(self.burn_in), rng, log_f=log_f)[1]
        return self._moved(y, int(self.burn_in) // 5 + 1, rng, log_f)

    def _length(self) -> int:
        """The steps that a chain makes in training from a fresh start on, on average."""
        if self._method() != "pcd":
            return self._steps()
        return min(1000, round(self._steps() / max(self.restart, 1e-3)))

    def _refined(self, x: Tensor, steps: int, rng: torch.Generator) -> Tensor:
        """Codes x after some steps of the model's chain, not rounded to levels."""
        y = self._moved(self._centre(x), steps, rng).detach()
        moved = self.coordinates_.between(y) if self._short() else self.coordinates_.inverse(y)
        return moved.reshape(x.shape).to(x.dtype)

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return self._complete_many(x, 1, rng)[0]

    def _complete_many(
        self, x: Tensor, n: int, rng: torch.Generator, given: Tensor | None = None
    ) -> Tensor:
        filled = x[None].repeat(n, *[1] * x.dim())
        rows = torch.isnan(x).flatten(1).any(1)
        if not rows.any():
            return filled
        g = None if given is None else given[rows]
        if self._converges():
            start = (self.base_.scale_.mean_, self.base_.scale_.std_, self.base_.correlation)
            y = completion.complete_many(self, x[rows], n, start, rng, g).flatten(0, 1)
        else:
            labels = None if g is None else g[:, 0].long().repeat(n)
            many = x[rows].repeat(n, *[1] * (x.dim() - 1))
            y = self._held(many, rng, self._log_f_of(labels))
        drawn = self.unreal(y).to(x.dtype)
        filled[:, rows] = drawn.reshape(n, -1, *x.shape[1:])
        return torch.where(torch.isnan(x), filled, x)

    def _held(self, x: Tensor, rng: torch.Generator, log_f: Callable[[Tensor], Tensor]) -> Tensor:
        """Chains of missing cells from draws of p₀ given the others, which stay where they are."""
        gaps = torch.isnan(x.flatten(1))
        known = self._entered(x, rng)
        y = known
        for _ in range(self._length()):
            y = torch.where(gaps, self._moved(y, 1, rng, log_f), known)
        return y


def _refuse_batch_norm(network: nn.Module) -> None:
    """ValueError where a row's energy would depend on the rows beside it."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                "network has batch norm, with which the energy of a row depends on the rows beside "
                "it, and chains move as a batch: use another norm, or none"
            )
