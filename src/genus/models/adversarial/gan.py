"""Generative adversarial networks (Goodfellow et al., 2014).

    z ~ N(0, I),    x = G(z),    D(x): a number that is high for real rows

The critic D and the generator G step in turn, each on its own loss: see ``losses.py``. Under
conditions y the generator is G(z, y), and the critic f₀(x) + ⟨f(x), y⟩ (Miyato & Koyama, 2018).
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from genus.distributions.points import row_normals
from genus.encoder import Encoder
from genus.evaluate.manifolds import overlap
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer
from genus.model import CapabilityError, Model
from genus.models.adversarial.losses import LOSSES, one_slope, slope
from genus.models.adversarial.sight import Sight
from genus.networks.blueprints import BLUEPRINT, MLP, Blueprint
from genus.networks.conditions import Conditions
from genus.networks.spectral import SpectralNorm, with_spectral_norm
from genus.settings import Flag, Number, OneOf, Rule, Whole
from genus.space import Space
from genus.typing import GivenLike, RandomState, RowsLike

FIRST = 1 << 18  # rows from which columns are learned, at most
STARTS = 64  # latent vectors that ``encode`` begins with
KEPT = 4  # of which it follows the best
STEPS = 100  # of its descent
LOOK = 500  # training rows that are looked at for collapse
MOST = 4_000_000  # numbers that are looked at before learning starts
FEW = 50  # below which nothing is said of it
COLLAPSED = 0.1  # coverage below which a warning comes
PENALTY = {"minimax": 1.0, "non-saturating": 1.0, "wasserstein-gp": 10.0, "hinge": 0.0}
NO_LIKELIHOOD = ("log_prob", "score_samples", "score")


class NoLikelihood(CapabilityError, AttributeError):
    """A verb that a model without a likelihood has not: ``hasattr`` is False, a call says why."""


class GAN(Encoder, Model):
    r"""A generator that draws rows, against a critic that tells them from real ones.

        critic      max_D  E_p log σ(D(x)) + E_z log(1 − σ(D(G(z))))
        generator   max_G  E_z log σ(D(G(z)))

    It has no likelihood: ``log_prob`` says so. ``encode`` looks for the z whose G(z) is nearest to
    a row. After ``fit``, ``coverage_`` is the share of training rows near which it draws, and
    ``precision_`` that of draws near training rows; a warning says when it draws near few.

    Parameters
    ----------
    generator : blueprint or None, default=None
        Or a callable (in_shape, out_shape) -> nn.Module, with a context where there are
        conditions; None: an MLP of 3 × 256 units.
    critic : blueprint or None, default=None
        As ``generator``.
    loss : {"non-saturating", "minimax", "wasserstein-gp", "hinge"}, default="non-saturating"
        What the two players lose.
    latent_dim : int, default=32
        Size of z.
    penalty : float or None, default=None
        Weight of the penalty on the slope of the critic, 0 for none: of R1, γ/2 E |∇D(x)|² on real
        rows, and with ``wasserstein-gp`` of λ E (|∇D(x)| − 1)². None: 10 there, 0 with ``hinge``,
        else 1.
    spectral_norm : bool or None, default=None
        Are the critic's weights divided by their largest singular values? None: with ``hinge``.
    critic_steps : int, default=1
        Of the critic before a step of the generator; they share a batch of rows.
    critic_rate : float, default=1.0
        The critic's learning rate, as a share of the trainer's.
    words : {"straight-through", "gumbel"}, default="straight-through"
        Draws of words and bits while learning: drawn, with the gradient of their probabilities, or
        relaxed to numbers between.
    shifts : int, default=0
        Images are seen by the critic shifted by up to so many pixels each way, real and drawn
        alike: for sets of few rows.
    l1 : float, default=0.0
        Weight of λ E |x − G(z, y)|, a mean over what is seen of x, in the generator's loss: for
        conditions y that tell much of the row, as images do (Isola et al., 2017).
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import genus
    >>> data = genus.data.load("digits")
    >>> few = genus.Trainer(epochs=1)
    >>> model = genus.GAN(trainer=few, random_state=0).fit(data.train)
    >>> model.sample(3).shape, model.sample(3, truncation=1.0).shape
    ((3, 8, 8), (3, 8, 8))
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "generator": BLUEPRINT | None,
        "critic": BLUEPRINT | None,
        "loss": OneOf(*LOSSES),
        "latent_dim": Whole(1),
        "penalty": Number(0) | None,
        "spectral_norm": Flag() | None,
        "critic_steps": Whole(1),
        "critic_rate": Number(above=0),
        "words": OneOf("straight-through", "gumbel"),
        "shifts": Whole(0),
        "l1": Number(0),
    }
    allow_nan = True
    conditions = "optional"
    learned_by = "two players"

    coverage_: float
    precision_: float
    gaps_: list[int]
    sight_: Sight
    generator_: nn.Module
    critic_: nn.Module
    context_: Conditions

    def __init__(
        self,
        generator: Blueprint | None = None,
        critic: Blueprint | None = None,
        loss: str = "non-saturating",
        latent_dim: int = 32,
        penalty: float | None = None,
        spectral_norm: bool | None = None,
        critic_steps: int = 1,
        critic_rate: float = 1.0,
        words: str = "straight-through",
        shifts: int = 0,
        l1: float = 0.0,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.generator = generator
        self.critic = critic
        self.loss = loss
        self.latent_dim = latent_dim
        self.penalty = penalty
        self.spectral_norm = spectral_norm
        self.critic_steps = critic_steps
        self.critic_rate = critic_rate
        self.words = words
        self.shifts = shifts
        self.l1 = l1
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ the two players

    def losses(self, x: Tensor, given: Tensor | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        """The critic's on each part of the batch, then the generator's.

        x: codes, or what ``Sight.read`` made of them before learning.
        """
        context = self._context(given)
        parts = zip(*(t.chunk(self.critic_steps) for t in (x, *context)), strict=True)
        for some, *seen in parts:
            yield self.critic_, self.critic_loss(some, *seen)
        yield self.generator_, self.generator_loss(x, *context)

    def critic_loss(self, x: Tensor, *context: Tensor) -> Tensor:
        """On real rows x (n, *cell_shape) and as many drawn ones."""
        of_critic, _ = LOSSES[self.loss]
        weight = self._penalty
        real = self._shifted(self.sight_.seen(x.flatten(1), self.rng))
        with torch.no_grad():
            drawn = self._shifted(self.generate(len(x), *context))
        b = self.criticise(drawn, *context)
        if not weight:
            return of_critic(self.criticise(real, *context), b)
        # a gradient of a gradient wants all its digits
        with torch.autocast(real.device.type, enabled=False):
            if self.loss == "wasserstein-gp":
                a = self.criticise(real, *context)
                u = torch.rand(len(x), *[1] * (real.dim() - 1), **self._drawing())
                penalty = one_slope(self.criticise, real, drawn, u, *context)
            else:
                a, square = slope(self.criticise, real, *context)
                penalty = square.mean() / 2
        return of_critic(a, b.float()) + weight * penalty

    def generator_loss(self, x: Tensor, *context: Tensor) -> Tensor:
        """On as many drawn rows as there are rows x, which they may have to be near."""
        _, of_generator = LOSSES[self.loss]
        drawn = self.generate(len(x), *context)
        loss = of_generator(self.criticise(self._shifted(drawn), *context))
        if not self.l1:
            return loss
        seen, known = self.sight_.seen(x.flatten(1), self.rng), self.sight_.known(x.flatten(1))
        return loss + self.l1 * ((drawn - seen).abs() * known).mean()

    def generate(self, n: int, *context: Tensor) -> Tensor:
        """n rows as the critic sees them, with a gradient; (n, *sight.shape)."""
        z = torch.randn(n, self.latent_dim, **self._drawing())
        return self.sight_.drawn(self.generator_(z, *context), self.rng)

    def criticise(self, seen: Tensor, *context: Tensor) -> Tensor:
        """D of rows as they are seen, f₀(x) + ⟨f(x), y⟩ with y the context; (n,)."""
        out = self.critic_(seen)
        value = out[:, 0]
        return value + (out[:, 1:] * context[0]).sum(1) if context else value

    def _shifted(self, seen: Tensor) -> Tensor:
        """Images moved by up to ``shifts`` pixels each way, each by its own step."""
        if not self.shifts or seen.dim() != 4:
            return seen
        s, (n, _, h, w) = self.shifts, seen.shape
        padded = nn.functional.pad(seen, (s, s, s, s), mode="replicate")
        move = torch.randint(0, 2 * s + 1, (2, n, 1), generator=self.rng, device=seen.device)
        rows = move[0] + torch.arange(h, device=seen.device)
        columns = move[1] + torch.arange(w, device=seen.device)
        at = torch.arange(n, device=seen.device)[:, None, None]
        moved: Tensor = padded[at, :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
        return moved.permute(0, 3, 1, 2)

    def _drawing(self) -> dict[str, Any]:
        """Where and of what type noise is drawn while learning."""
        p = next(self.generator_.parameters())
        return {"generator": self.rng, "device": p.device, "dtype": p.dtype}

    def _context(self, given: Tensor | None) -> tuple[Tensor, ...]:
        """What the networks see of conditions, (n, g); () without."""
        dtype = next(self.generator_.parameters()).dtype
        return () if given is None else self.context_.seen(given, dtype)

    @property
    def _penalty(self) -> float:
        return PENALTY[self.loss] if self.penalty is None else self.penalty

    @property
    def _spectral(self) -> bool:
        return self.loss == "hinge" if self.spectral_norm is None else self.spectral_norm

    # ------------------------------------------------------------------ construction

    def _rows(self, X: Any, given: Any = None, weight: Any = None) -> Rows:
        """The rows; the first of a fit say which cells may be missing."""
        rows = super()._rows(X, given, weight)
        if not hasattr(self, "gaps_"):
            self.gaps_ = self._gaps(rows.x) if isinstance(rows.x, Tensor) else []
        return rows

    def _gaps(self, x: Tensor) -> list[int]:
        gaps = torch.isnan(x.flatten(1)).any(0)
        if self.space_.image_shape is not None and gaps.any():
            gaps = torch.ones_like(gaps)  # a map of them beside each channel
        return [int(j) for j in gaps.nonzero().flatten()]

    def build(self, space: Space) -> None:
        self.sight_ = Sight(space, getattr(self, "gaps_", []), self.words == "gumbel")
        context = 0
        if hasattr(self, "given_space_"):
            self.context_ = Conditions(self.given_space_)
            context = self.context_.width
        shape = self.sight_.shape
        default, z = MLP(256, 3, "leaky_relu"), (self.latent_dim,)
        self.generator_ = self.make_network(self.generator, z, shape, default, context)
        self.critic_ = self.make_network(self.critic, shape, (1 + context,), default)
        if self._spectral:
            self.critic_ = with_spectral_norm(self.critic_, self.rng)
        self.critic_.learning_rate = self.critic_rate  # type: ignore[assignment]
        self.critic_.averaged = False  # type: ignore[assignment]

    def defaults(self, n: int) -> Trainer:
        return Trainer(
            epochs=min(2000, max(20, 200_000 // max(n, 1))),  # about 3,000 steps
            batch_size=64 * self.critic_steps,
            lr=4e-4,
            betas=(0.0, 0.99),
            ema=0.999,
            schedule="constant",
        )

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Learn the columns of numbers, and the scales of conditions."""
        x, *given = rows.look(FIRST, self.rng)
        self.sight_.fit(x.flatten(1))
        if given:
            self.context_.fit(given[0])

    def learn(self, fit: Fit) -> None:
        """Descend; spectral norms are those of the weights that are kept; say what is covered.

        Where they are not too many, all numbers are looked at once before.
        """
        rows, numbers = fit.rows, len(self.sight_.cells["score"])
        width = self.space_.dim + 2 * numbers
        if numbers and isinstance(rows.x, Tensor) and width * len(rows) <= MOST:
            fit.rows = copy.copy(rows)
            fit.rows.x = rows.mapped(lambda x, *_: self.sight_.read(x.flatten(1)), self.rng).x
        super().learn(fit)
        for module in self.modules():
            if isinstance(module, SpectralNorm):
                module.settle()
        if not self.is_part:
            self._look_for_collapse(rows)

    @torch.no_grad()
    def _look_for_collapse(self, rows: Rows) -> None:
        """Note the share of training rows near which it draws, and warn where that is small."""
        x, *given = rows.look(LOOK, self.rng)
        if len(x) < FEW:
            return
        x = x.flatten(1)
        drawn = self._sample(len(x), self.rng, given[0] if given else None).flatten(1)
        drawn = torch.where(torch.isnan(x), math.nan, drawn.to(x.dtype))  # with the same gaps
        seen = (self.sight_.seen(v, self.rng).flatten(1).cpu().numpy() for v in (x, drawn))
        found = overlap(*seen)
        self.coverage_, self.precision_ = found.coverage, found.precision
        if self.coverage_ < COLLAPSED:
            warnings.warn(
                f"the draws come near only {self.coverage_:.0%} of the training rows, where as "
                "many real rows come near 97%: train longer, or hold the critic less or more by "
                "penalty",
                stacklevel=2,
            )

    def trouble(self, loss: float, first: float) -> str:
        """A loss that is no number; its size says nothing, for it starts near 0."""
        return "" if math.isfinite(loss) else "the loss is not finite"

    # ------------------------------------------------------------------ verbs of its own

    def __getattr__(self, name: str) -> Any:
        if name in NO_LIKELIHOOD:
            raise NoLikelihood(
                f"{type(self).__name__} has no {name}: it draws rows and has no density of them. "
                "log_ratio(X) compares the density of real rows with that of its draws, where its "
                "loss allows it; for a log-likelihood fit a VAE or a flow"
            )
        return super().__getattr__(name)

    def sample(
        self,
        n: int = 1,
        *,
        given: GivenLike = None,
        truncation: float | None = None,
        random_state: RandomState = None,
    ) -> Any:
        """n draws, in the type of the data it was fitted on.

        given: one condition, or n of them. truncation: each |z_k| stays below it, which gives more
        usual rows and fewer sorts of them (Brock et al., 2019). A generator whose layers are
        normalised hardly sees how large z is.
        """
        (Number(above=0) | None).check("truncation", truncation)
        return self._draws(n, given, random_state, truncation=truncation)

    def decision_function(self, X: RowsLike, *, given: GivenLike = None) -> np.ndarray:
        """The critic's number D(x) of each row, shape (n,): high for rows that look real."""
        x, conditions = self._enter(X, given)
        return self._chunked(self._decide, x, *conditions).numpy()

    def _decide(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        return self.criticise(self.sight_.seen(x.flatten(1)), *self._context(given))

    def log_ratio(self, X: RowsLike, *, given: GivenLike = None) -> np.ndarray:
        """The critic's estimate of log p(x)/q(x), real rows over draws of the last generator.

        In nats, shape (n,). Raises CapabilityError where the critic is no ratio: with hinge or
        wasserstein-gp, or under a penalty.
        """
        name = type(self).__name__
        if self.loss == "hinge":
            raise CapabilityError(
                f"the critic of {name}(loss='hinge') is no density ratio: only its sign says which "
                "of p and q is larger, see decision_function(X); use loss='non-saturating'"
            )
        if self.loss == "wasserstein-gp":
            raise CapabilityError(
                f"the critic of {name}(loss='wasserstein-gp') is no density ratio: it is known but "
                "for a constant, and its slope is bounded; use loss='non-saturating'"
            )
        if self._penalty or self._spectral:
            held = f"penalty={self._penalty:g}" if self._penalty else "spectral_norm=True"
            raise CapabilityError(
                f"{held} holds the critic of {name} flatter than a density ratio: pass "
                "penalty=0, spectral_norm=False to learn one"
            )
        return self.decision_function(X, given=given)

    # ------------------------------------------------------------------ hooks

    def _sample(
        self,
        n: int,
        rng: torch.Generator,
        given: Tensor | None = None,
        truncation: float | None = None,
    ) -> Tensor:
        p = next(self.generator_.parameters())
        z = torch.randn(n, self.latent_dim, generator=rng, device=p.device, dtype=p.dtype)
        z = z if truncation is None else _within(z, truncation)
        context = self._context(given)
        drawn = []
        for some, *seen in zip(*(t.split(1024) for t in (z, *context)), strict=True):
            drawn.append(self.sight_.codes(self.generator_(some, *seen), rng))
        return torch.cat(drawn)

    def _encode(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        context = self._context(given)
        pieces = zip(*(t.split(256) for t in (x.flatten(1), *context)), strict=True)
        return torch.cat([self._nearest(some, *seen) for some, *seen in pieces])

    def _nearest(self, x: Tensor, *context: Tensor) -> Tensor:
        """z of least |x − G(z)|² + |z|²/100, the best of several descents; (n, latent_dim).

        In float64, in which a row's answer does not depend on its neighbours.
        """
        generator = copy.deepcopy(self.generator_).double()
        seen, known = self.sight_.seen(x).double(), self.sight_.known(x)
        context = tuple(c.double() for c in context)

        def away(z: Tensor) -> Tensor:
            """(n, k, latent_dim) → (n, k)."""
            again = [c.repeat_interleave(z.shape[1], 0) for c in context]
            made = self.sight_.expected(generator(z.flatten(0, 1), *again))
            made = made.reshape(*z.shape[:2], *seen.shape[1:])
            gap = (made - seen[:, None]) * known[:, None]
            return gap.square().flatten(2).sum(2) + z.square().sum(2) / 100

        z = row_normals(x, STARTS, self.latent_dim).double()
        best = away(z).topk(KEPT, 1, largest=False).indices
        z = z.gather(1, best[..., None].expand(-1, -1, self.latent_dim))
        with torch.enable_grad():
            z = z.requires_grad_()
            adam = torch.optim.Adam([z], lr=0.1)
            for _ in range(STEPS):
                (z.grad,) = torch.autograd.grad(away(z).sum(), z)
                adam.step()
        z = z.detach()
        nearest = z[torch.arange(len(z), device=z.device), away(z).argmin(1)]
        return nearest.to(torch.get_default_dtype())

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim

    def _decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        return self.sight_.means(self.generator_(z, *self._context(given)))


def _within(z: Tensor, bound: float) -> Tensor:
    """Standard normals z as normals cut off at ± bound, by their distribution functions."""
    share = math.erf(bound / math.sqrt(2))
    u = torch.special.ndtr(z.double())
    return torch.special.ndtri((1 - share) / 2 + share * u).clamp(-bound, bound).to(z.dtype)
