r"""Normalizing flows: a density bent, step by step, into a simple one.

Tabak & Turner (2013); Rezende & Mohamed (2015).

    z = f(y) = f_m ∘ … ∘ f_1(y),    log p(y) = log p_0(z) + Σ_i log |det ∂f_i/∂y_{i−1}|

    NICE         z_B = y_B + t(y_A), one scale a coordinate at the end  (Dinh et al., 2015)
    RealNVP      z_B = y_B e^{s(y_A)} + t(y_A)                          (Dinh et al., 2017)
    Glow         actnorm, an invertible matrix, then as RealNVP         (Kingma & Dhariwal, 2018)
    MAF          z_j = y_j e^{s(y_<j)} + t(y_<j)                        (Papamakarios et al., 2017)
    IAF          y_j = z_j e^{s(z_<j)} + t(z_<j)                        (Kingma et al., 2016)
    SplineFlow   z_B = g(y_B; θ(y_A)), g a monotone spline              (Durkan et al., 2019)

Large images are bent scale by scale, by convolutions. Discrete cells x are dequantised, y = y(x +
u) with noise u in [0, 1), uniform or itself drawn from a flow q(u | x) (Ho et al., 2019), which
gives log P(x) ≥ E[log p(y) + log |∂y/∂x| − log q(u | x)].
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.density import WAYS, DensityModel
from genus.distributions.bijections import ActNorm, Bijection, Chain, Permute, Standardise
from genus.distributions.gaps import Conditionals, correlations
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer, batch_of
from genus.likelihood import LogProb
from genus.missing import has_gaps
from genus.models.flows.couplings import Affine, Autoregressive, Coupling, Level, Shift, Spline
from genus.networks.blueprints import BLUEPRINT, MLP, Blueprint, SameConv
from genus.networks.conditions import Conditions
from genus.networks.construct import construct
from genus.networks.layers import Linear, initialise, output_layer
from genus.networks.masked import MaskedMLP
from genus.samplers import completion as conditional
from genus.settings import Number, OneOf, Rule, Whole
from genus.space import Space

# batches are padded to this multiple, so that a row's score does not depend on the batch size:
# vector instructions, which add in another order than what they leave over, then leave nothing
LANES = 16


WIDE = 1.2  # standard deviations of the Gaussian that fills gaps, times those of the rows
START = 2**18  # cells of rows that actnorms take their first scales from, about
LARGE = 16  # least side of images that are bent scale by scale


class Flow(DensityModel):
    """The base of all flows: standardised coordinates, steps with shuffles, a base density.

    ``log_prob`` is ``Exact`` (a density, nats) for continuous rows, a ``LowerBound`` (on a
    probability) for discrete ones.

    Parameters
    ----------
    n_transforms : int, default=6
        Steps; of an image that is bent scale by scale, steps a scale.
    conditioner : blueprint or None, default=None
        The network that gives the parameters of a step; None: an MLP of 2 ×
        128 units, or convolutions.
    levels : int or None, default=None
        Scales of an image, each half the size of the one before; 0: rows are vectors. None: up to 3
        where both sides are at least 16 and even.
    base : int, default=0
        p_0(z): 0, a standard normal; K ≥ 1, a mixture of K normals with means, scales and weights
        that are learned.
    dequantisation : {"uniform", "variational"}, default="uniform"
        Of discrete cells.
    marginals : {"learned", "affine", "logit"} or None, default=None
        How cells become real coordinates: by each column's own distribution, in the units of the
        data, or, of levels, by a logit. None: learned, and logit of grey images.
    temperature : float, default=1.0
        Scale of the base in ``sample``; 1 is the model itself.
    dtype : {"float32", "float64"}, default="float32"
        Of networks; coordinates are float64 outside training.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "n_transforms": Whole(1),
        "conditioner": BLUEPRINT | None,
        "levels": Whole(0) | None,
        "base": Whole(0),
        "dequantisation": OneOf("uniform", "variational"),
        "temperature": Number(above=0),
        "marginals": WAYS,
        "dtype": OneOf("float32", "float64"),
    }
    learned_by = "gradient of the likelihood"
    conditions = "optional"
    usual_marginals = "learned"
    allow_nan = True
    fills_gaps = True

    scale_: Standardise
    correlation_: Tensor
    flow_: Bijection
    base_: Base
    noise_: Chain | None
    context_: Conditions

    def __init__(
        self,
        n_transforms: int = 6,
        conditioner: Blueprint | None = None,
        levels: int | None = None,
        base: int = 0,
        dequantisation: str = "uniform",
        marginals: str | None = None,
        temperature: float = 1.0,
        dtype: str = "float32",
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_transforms = n_transforms
        self.conditioner = conditioner
        self.levels = levels
        self.base = base
        self.dequantisation = dequantisation
        self.marginals = marginals
        self.temperature = temperature
        self.dtype = dtype
        self.trainer = trainer
        self.random_state = random_state

    def step(self, shape: tuple[int, ...], i: int) -> list[Bijection]:
        """The maps of step i on rows of that shape, (d,) or (C, H, W), at first the identity."""
        raise NotImplementedError

    def last(self, d: int) -> list[Bijection]:
        """What follows the steps."""
        return []

    # ------------------------------------------------------------------ density

    def log_density(self, y: Tensor, given: Tensor | None = None) -> Tensor:
        """log p(y) of rows (n, d), in nats; float64."""
        n = len(y)
        if n % LANES and not torch.is_grad_enabled():
            whole = torch.arange(n + -n % LANES, device=y.device).clamp_max(n - 1)
            return self.log_density(y[whole], None if given is None else given[whole])[:n]
        u = (y - self.scale_.mean_) / self.scale_.std_
        z, log_det = self._bend(u.to(self._dtype()), *self._context(given))
        return (self.base_.log_prob(z) + log_det).double() - self.scale_.std_.log().sum()

    def to_base(self, y: Tensor, given: Tensor | None = None) -> Tensor:
        """z = f(y), (n, d).

        Coordinates keep float64 here and back, so that nothing is lost where f is flat.
        """
        return self._bend(self.scale_(y)[0], *self._context(given))[0]

    def from_base(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """y with f(y) = z, (n, d)."""
        v = self.flow_.inverse(z, *self._context(given))
        return self.scale_.inverse(v.flatten(1))

    def _bend(self, u: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = self.flow_(u.reshape(-1, *self._shape), *context)
        return out

    def noise(self, x: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """u in (0, 1) drawn from q(u | x) by way of uniforms e (n, d), and log q(u | x).

        Rows with missing cells have uniform noise, for q is told of all cells.
        """
        if self.noise_ is None:
            return e, e.new_zeros(len(e))
        e = e.clamp(1e-7, 1 - 1e-7)
        normal = torch.special.ndtri(e)
        discrete = self.discrete_cells(e.device)
        codes = (
            x.flatten(1)
            / torch.tensor([max(c, 1) for c in self.space_.cardinality], device=x.device)
            - 0.5
        )
        gaps = torch.isnan(codes).any(1)
        codes = codes.nan_to_num()
        v, log_det = self.noise_(normal[:, discrete].to(self._dtype()), codes.to(self._dtype()))
        u = e.clone()
        u[:, discrete] = torch.sigmoid(v.double()).to(e.dtype)
        log_normal = -0.5 * (normal[:, discrete].square() + math.log(2 * math.pi)).sum(1)
        log_q = log_normal - log_det.double() + (F.softplus(v) + F.softplus(-v)).double().sum(1)
        return torch.where(gaps[:, None], e, u), torch.where(gaps, 0.0, log_q)

    # ------------------------------------------------------------------ learning

    def _objective(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """−log p of rows whose discrete cells are dequantised afresh, in nats of the data."""
        e = torch.rand(
            len(x), self.space_.dim, generator=self.rng, dtype=torch.float64, device=x.device
        )
        u, log_q = self.noise(x, e)
        y, log_det = self.real(x, u)
        y, log_gaps = self.fill(y, e)
        return -(self.log_density(y, given) + log_det - log_q - log_gaps).mean()

    def fill(self, y: Tensor, e: Tensor, copies: int = 1) -> tuple[Tensor, Tensor]:
        """Missing coordinates drawn from a Gaussian of the rows, given the others."""
        gaps = torch.isnan(y)
        if not has_gaps(y):
            return y, y.new_zeros(len(y))
        draws = Conditionals(self.correlation_.double(), gaps[::copies], copies, WIDE)
        mean, scale = self.scale_.mean_, self.scale_.std_
        known = torch.where(gaps, 0.0, (y - mean) / scale)
        normal = torch.where(gaps, torch.special.ndtri(e.double().clamp(1e-7, 1 - 1e-7)), 0.0)
        filled = torch.where(gaps, mean + scale * draws(known, normal), y)
        log_q = draws.log_q(normal) - (gaps * scale.log()).sum(1)
        return filled, torch.where(gaps.any(1), log_q, 0.0)

    def losses(self, x: Tensor, given: Tensor | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        """The objective."""
        yield self, self._objective(x, given)

    def validate(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """The objective on held-out rows."""
        return self._objective(x, given)

    def defaults(self, n: int) -> Trainer:
        images = self._levels(self.space_) > 0  # whose steps take long
        batch = batch_of(n, 16, 32, 64 if images else 512)
        epochs = min(400, max(30, 6000 * batch // max(n, 1)))  # about 6,000 steps at most
        share = 0.1 if n >= 100 else 0.0
        return Trainer(
            epochs=epochs,
            batch_size=batch,
            lr=1e-3,
            optimizer="adamw",
            weight_decay=0.05,
            validation=share,
            patience=max(10, epochs // 8) if share else None,
            ema=0.99,
            grad_clip=5.0,
        )

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        """Scales from the first rows, of the data, the conditions and every actnorm."""
        x, *given = rows.look(65536, self.rng)
        y = self.real(x, self.rng)[0]
        self.scale_.fit(y)
        v = self.scale_(y)[0]
        self.correlation_.copy_(correlations(v))
        self._warn(y)
        if given:
            self.context_.fit(given[0].flatten(1))
        norms = [m for m in self.modules() if isinstance(m, ActNorm)]
        for m in norms:
            m.starting = True
        if norms:
            few = min(4096, max(64, START // y.shape[1]))
            self._bend(
                self.scale_(y)[0].to(self._dtype())[:few],
                *self._context(*(g[:few] for g in given)),
            )
        for m in norms:
            m.starting = False

    def _warn(self, y: Tensor) -> None:
        """Say where a density grows without bound."""
        for j, name in enumerate(self.space_.names()):
            if not self.space_.cardinality[j]:
                count = int(y[:, j].unique(return_counts=True)[1].max())
                if count > max(2, 0.05 * len(y)):
                    text = (
                        f"{name} has one value in {count} of {len(y)} rows: its density grows "
                        "without bound; round it, or drop the column"
                    )
                    warnings.warn(text, stacklevel=4)
                    return

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        d = space.dim
        self.scale_ = Standardise(d)
        self.register_buffer("correlation_", torch.eye(d))
        depth = self._levels(space)
        if hasattr(self, "given_space_"):
            self.context_ = Conditions(self.given_space_, space.image_shape if depth else None)
        if depth:
            c, h, w = space.image_shape  # type: ignore[misc]
            self._shape: tuple[int, ...] = (c, h, w)
            self.flow_ = Chain(self._level((c, h, w), depth), *self.last(d))
        else:
            self._shape = (d,)
            steps = [f for i in range(self.n_transforms) for f in self.step((d,), i)]
            self.flow_ = Chain(*steps, *self.last(d))
        self.base_ = Base(d, self.base, self.rng)
        self.noise_ = None
        if self.dequantisation == "variational" and (e := sum(c > 0 for c in space.cardinality)):
            self.noise_ = Chain(*(self._coupling((e,), Affine(), True, d) for _ in range(2)))
        if self.dtype == "float64":
            for part in (self.flow_, self.base_, self.noise_):
                if part is not None:
                    part.double()

    def _levels(self, space: Space) -> int:
        """How many scales."""
        shape = space.image_shape
        if shape is None:
            if self.levels:
                raise ValueError(
                    f"levels={self.levels!r}: the rows are no images; "
                    "leave levels out, or name a space with a layout"
                )
            return 0
        sides, fit = list(shape[1:]), 0
        while all(s % 2 == 0 for s in sides):
            sides, fit = [s // 2 for s in sides], fit + 1
        if self.levels is None:
            return min(fit, 3) if min(shape[1:]) >= LARGE else 0
        if not self.levels <= fit:
            raise ValueError(
                f"levels={self.levels!r}: a whole number from 0 to {fit} is "
                f"needed for images of {shape[1]} × {shape[2]}"
            )
        return self.levels

    def _level(self, shape: tuple[int, int, int], depth: int) -> Level:
        c, h, w = shape
        inner = (4 * c, h // 2, w // 2)
        steps = [f for i in range(self.n_transforms) for f in self.step(inner, i)]
        if depth == 1:
            return Level(shape, Chain(*steps))
        return Level(
            shape, Chain(*steps), self._level((2 * c, h // 2, w // 2), depth - 1), self.leave(inner)
        )

    def leave(self, shape: tuple[int, int, int]) -> Coupling | None:
        """What bends the channels that leave a scale by those that stay; None: nothing."""
        return None

    def _coupling(
        self,
        shape: tuple[int, ...],
        g: Shift | Affine | Spline,
        swap: bool = False,
        context: int | None = None,
    ) -> Coupling:
        """A coupling on rows of that shape that starts as the identity.

        context: the size of what it sees besides; None: the conditions.
        """
        d, *sides = shape
        h = d // 2
        if sides:
            seen = (h + self._condition_channels(*sides), *sides)
            network = construct(
                self.conditioner or SameConv(64), seen, (g.each * (d - h), *sides), self.rng
            )
        else:
            network = construct(
                self.conditioner or MLP(128, 2, "silu"),
                (h,),
                (g.each * (d - h),),
                self.rng,
                self._context_size() if context is None else context,
            )
        if (last := output_layer(network)) is not None:
            nn.init.zeros_(last.weight)
        self._spread(network)
        return Coupling(h, g, network, swap)

    def _autoregressive(self, d: int, i: int, g: Affine | Spline) -> Autoregressive:
        """Autoregressive step i, from the blueprint of a plain MLP, which it masks.

        Every second one starts from the last coordinate.
        """
        blueprint = self.conditioner or MLP(128, 2, "silu")
        if not isinstance(blueprint, MLP):
            raise ValueError(
                f"conditioner={blueprint!r}: an autoregressive step needs genus.MLP(...), "
                "whose weights it can mask"
            )
        made = MaskedMLP(
            d,
            g.each,
            blueprint.width,
            blueprint.depth,
            blueprint.activation,
            self._context_size(),
            backwards=i % 2 == 1,
        )
        initialise(made, self.rng)
        self._spread(made)
        return Autoregressive(g, made)

    @torch.no_grad()
    def _spread(self, network: nn.Module) -> None:
        """Units of the first layer bend at places of their own, spread as standardised rows are.

        They start with half of He's weights.
        """
        layers = [
            m
            for m in network.modules()
            if isinstance(m, Linear) and m.bias is not None and not m.weight.is_meta
        ]
        for layer in layers[:-1]:
            layer.weight *= 0.5
        if len(layers) > 1:
            layers[0].bias.normal_(generator=self.rng)

    def _shuffle(self, d: int, i: int) -> list[Bijection]:
        """After every second step, once each coordinate has been bent, all are shuffled."""
        if i % 2 == 0 or d < 3 or i == self.n_transforms - 1:
            return []
        return [Permute(torch.randperm(d, generator=self.rng, device=self.rng.device).cpu())]

    def _dtype(self) -> torch.dtype:
        return torch.float64 if self.dtype == "float64" else torch.float32

    def _context(self, given: Tensor | None = None) -> tuple[Tensor, ...]:
        """What networks see of conditions; () without."""
        return () if given is None else self.context_.seen(given, self._dtype())

    def _context_size(self) -> int:
        """Numbers of the conditions' context."""
        return self.context_.width if hasattr(self, "context_") else 0

    def _condition_channels(self, h: int, w: int) -> int:
        """Channels that a network of images (h, w), a scale of the rows, has for conditions."""
        if not hasattr(self, "context_"):
            return 0
        squares = self._shape[1] * self._shape[2] // (h * w)  # pixels that are one at this scale
        return self.context_.width + self.context_.n_channels * squares

    # ------------------------------------------------------------------ verbs

    def draw(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        """f⁻¹ of draws from the base, (n, d)."""
        z = self.base_.draw(n, rng, self.temperature, self._dtype())
        if n <= 8192:
            return self.from_base(z, given)
        return torch.cat(
            [
                self.from_base(z[i : i + 8192], None if given is None else given[i : i + 8192])
                for i in range(0, n, 8192)
            ]
        )

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        return self._scored(x, given)

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        return self._drawn(n, rng, given)

    def _complete(self, x: Tensor, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        return self._complete_many(x, 1, rng, given)[0]

    def _complete_many(
        self, x: Tensor, n: int, rng: torch.Generator, given: Tensor | None = None
    ) -> Tensor:
        filled = x[None].repeat(n, *[1] * x.dim())
        rows = torch.isnan(x).flatten(1).any(1)
        if not rows.any():
            return filled
        start = (self.scale_.mean_, self.scale_.std_, self.correlation_)
        g = None if given is None else given[rows]
        y = conditional.complete_many(self, x[rows], n, start, rng, g)
        drawn = self.unreal(y.flatten(0, 1)).to(x.dtype)
        filled[:, rows] = drawn.reshape(n, -1, *x.shape[1:])
        return torch.where(torch.isnan(x), filled, x)

    def _encode(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        y, _ = self.real(x, x.new_full((1, 1), 0.5, dtype=torch.float64))
        y, _ = self.fill(y, torch.full_like(y, 0.5))
        return self.to_base(y, given)

    def _decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        return self.unreal(self.from_base(z.double(), given))


class Base(nn.Module):
    """p_0: N(0, I), or Σ_k π_k N(m_k, diag e^{2 r_k}) with learned π, m and r."""

    def __init__(self, d: int, K: int, rng: torch.Generator) -> None:
        super().__init__()
        self.d, self.K = d, K
        if K:
            self.logits_ = nn.Parameter(torch.zeros(K))
            self.means_ = nn.Parameter(
                torch.randn(K, d, generator=rng) if K > 1 else torch.zeros(K, d)
            )
            self.log_scales_ = nn.Parameter(torch.zeros(K, d))

    def log_prob(self, z: Tensor) -> Tensor:
        """log p_0 of rows (n, d)."""
        if not self.K:
            # one small operation fewer
            return torch.rsub(z.square().sum(1), -0.5 * self.d * math.log(2 * math.pi), alpha=0.5)
        P = (-2 * self.log_scales_).exp()
        square = z.square() @ P.T - 2 * z @ (P * self.means_).T + (P * self.means_.square()).sum(1)
        log_p = -0.5 * (square + self.d * math.log(2 * math.pi)) - self.log_scales_.sum(1)
        return torch.logsumexp(log_p + torch.log_softmax(self.logits_, 0), 1)

    def draw(self, n: int, rng: torch.Generator, temperature: float, dtype: torch.dtype) -> Tensor:
        """n draws, (n, d); the scales of all normals times the temperature."""
        # as rows lie in memory
        e = torch.randn(self.d, n, generator=rng, dtype=dtype, device=rng.device).t()
        if temperature != 1:
            e = e * temperature
        if not self.K:
            return e
        k = torch.multinomial(self.logits_.detach().softmax(0), n, True, generator=rng)
        return (self.means_.detach()[k] + e * self.log_scales_.detach()[k].exp()).to(dtype)
