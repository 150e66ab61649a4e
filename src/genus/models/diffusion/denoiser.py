r"""The base of score models, diffusion and flow matching: a network that tells data from noise.

    x_t = α(t) x_0 + σ(t) ε,    ε ~ N(0, I)

    loss = E ‖F(x_t, t) − (a(t) x_0 + b(t) ε)‖²

What the network F is to say, a x_0 + b ε, makes with x_t two equations in x_0 and ε, so that data,
noise, velocity and score are linear in one another:

    x_0 = (b x_t − σ F)/D,    ε = (α F − a x_t)/D,    D = α b − σ a,    score = −ε/σ

    noise       a = 0,   b = 1                data        a = 1,   b = 0
    v           a = −σ,  b = α                velocity    a = −1,  b = 1   of the straight line

Rows are seen by the normal scores of their cells (``distributions/coordinates.py``). Sources:
Sohl-Dickstein et al. (2015); Song & Ermon (2019); Ho et al. (2020); Salimans & Ho (2022); Lipman et
al. (2023); classifier-free guidance: Ho & Salimans (2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from genus.density import DensityModel
from genus.distributions.gaps import Conditionals, correlations
from genus.distributions.points import averaged, row_uniforms
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer, batch_of
from genus.likelihood import Estimate, LogProb, concatenate
from genus.missing import has_gaps
from genus.model import with_index
from genus.models.diffusion.completion import guided
from genus.models.diffusion.likelihood import log_density, transport
from genus.models.diffusion.samplers import SAMPLERS, Field
from genus.models.diffusion.schedules import Schedule
from genus.networks.blueprints import BLUEPRINT, MLP, Blueprint, ResNet
from genus.networks.conditions import Conditions
from genus.networks.unet import UNet
from genus.settings import Number, OneOf, Rule, Whole
from genus.space import Space
from genus.typing import GivenLike, RandomState, RowsLike

WAVES = 16  # of the angle, that a network sees beside its input
NULL = 0.1  # share of the rows that learn without their condition
NEAR = 0.01  # the angle below which the field is that at this angle
EXACT = 16  # coordinates up to which divergences are exact, and completions have particles
ODE_STEPS = 16  # of the likelihood, each of five looks, two of them with derivatives
MANY = 512  # held-out rows, each of which is then looked at once, and of fewer four times
SOME = 32  # rows from which errors are estimated
AT_ONCE = 1 << 18  # cells that a network sees together, and at most 4096 rows
GUIDED_STEPS = 100  # of a completion
PARTICLES = 4  # of a completion, a row
STEPS = {
    "heun": 10,
    "ddim": 50,
    "dpm-solver++": 20,
    "ancestral": 200,
    "predictor-corrector": 100,
    "langevin": 100,
}
SHARE = Number(0, most=1)


class Denoiser(DensityModel):
    """The base of ``ScoreModel``, ``Diffusion`` and ``FlowMatching``.

    Parameters
    ----------
    network : blueprint or None, default=None
        Called with a context of time and conditions. None: a U-Net of images, else a residual
        perceptron.
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
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "network": BLUEPRINT | None,
        "sampler": OneOf(*SAMPLERS),
        "steps": Whole(1) | None,
        "guidance": Number(0),
    }
    learned_by = "denoising"
    conditions = "optional"
    null_condition = True
    allow_nan = True
    fills_gaps = True
    may_use_bfloat16 = True

    network: Blueprint | None
    sampler: str
    steps: int | None
    guidance: float
    correlation_: Tensor
    network_: nn.Module
    context_: Conditions

    # ------------------------------------------------------------------ what a family says

    def path(self) -> Schedule:
        """α and σ."""
        raise NotImplementedError

    def target(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """a and b of what the network is to say, a x_0 + b ε."""
        raise NotImplementedError

    def learning_times(self, u: Tensor) -> Tensor:
        """The times at which it learns, of uniforms u (n, 1)."""
        return u

    # ------------------------------------------------------------------ construction

    def _marginals_of(self, space: Space) -> str:
        return "learned"

    def build(self, space: Space) -> None:
        d = space.dim
        self.register_buffer("correlation_", torch.eye(d, dtype=torch.float64))
        image = self.image_of(space)
        flat = image is None
        self._shape: tuple[int, ...] = image or (d,)
        size, channels = 2 * WAVES, 0
        if hasattr(self, "given_space_"):
            self.context_ = Conditions(self.given_space_, image)
            size += self.context_.width + 1
            channels = self.context_.n_channels
        seen = (self._shape[0] + channels, *self._shape[1:])
        usual: Blueprint = ResNet(256, 3) if flat else UNet()
        out = (self._shape[0] * self.outputs(), *self._shape[1:])
        self.network_ = self.make_network(self.network, seen, out, usual, size)

    def image_of(self, space: Space) -> tuple[int, int, int] | None:
        """(C, H, W) of rows that the network sees as images, else None."""
        return None if isinstance(self.network, MLP | ResNet) else space.image_shape

    def outputs(self) -> int:
        """Numbers that the network says of a cell."""
        return 1

    # ------------------------------------------------------------------ the field

    def look(self, x: Tensor, t: Tensor, given: Tensor | None, null: Tensor | None) -> Tensor:
        """F(x_t, t) of rows x (n, d) at times t (n, 1), (n, outputs · d).

        null: which rows (n, 1) do not see their condition.
        """
        path = self.path()
        dtype = self.network_dtype()
        angle = path.angle(t)
        waves = 2 * angle * torch.arange(1, WAVES + 1, dtype=angle.dtype, device=angle.device)
        context = [torch.cat([waves.cos(), waves.sin()], 1).to(dtype)]
        image = (x / path.radius(t)).to(dtype).reshape(-1, *self._shape)
        if hasattr(self, "context_"):
            hidden = torch.ones_like(t) if given is None else null
            hidden = torch.zeros_like(t) if hidden is None else hidden
            told = self.context_.width
            numbers = x.new_zeros(len(x), told, dtype=dtype)
            if given is not None and told:
                numbers = self.context_.context(given, dtype)
            shown = (1 - hidden).to(dtype)
            context += [numbers * shown, hidden.to(dtype)]
            if self.context_.n_channels:
                maps = image.new_zeros(len(x), self.context_.n_channels, *self._shape[1:])
                if given is not None:
                    maps = self.context_.channels(given, dtype) * shown[:, :, None, None]
                image = torch.cat([image, maps], 1)
        out: Tensor = self.network_(image, torch.cat(context, 1)).flatten(1)
        return out

    def network_dtype(self) -> torch.dtype:
        """The type in which the network computes."""
        return next(p.dtype for p in self.network_.parameters())

    def ends(self, x: Tensor, t: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The expected data and noise of x_t, (n, d) each, guided; t: one time, or (n, 1)."""
        path = self.path()
        least = path.time(torch.tensor(NEAR, dtype=torch.float64)).to(x.dtype)
        t = t.to(x.device, x.dtype).clamp_min(least.to(x.device)).expand(len(x), 1)
        said = self.look(x, t, given, None)[:, : x.shape[1]]
        if given is not None and self.guidance != 1:
            free = self.look(x, t, None, None)[:, : x.shape[1]]
            said = free + self.guidance * (said - free)
        alpha, sigma = path.alpha(t), path.sigma(t)
        return split(x, said.to(x.dtype), alpha, sigma, *self.target(alpha, sigma))

    def field(self, given: Tensor | None = None) -> Field:
        """``ends`` as a function of x and t."""
        return lambda x, t: self.ends(x, t, given)

    # ------------------------------------------------------------------ learning

    def losses(self, x: Tensor, given: Tensor | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        """The squared error of what the network says, at random times."""
        y, seen = self.coded(x)
        t = self.learning_times(self.uniforms(y))
        null = None if given is None else self.dropped(y)
        yield self, self.error(y, seen, self.noise_of(y), t, given, null)

    def uniforms(self, y: Tensor) -> Tensor:
        """One a row of y, (n, 1)."""
        return torch.rand(len(y), 1, generator=self.rng, dtype=y.dtype, device=y.device)

    def dropped(self, y: Tensor) -> Tensor:
        """1 for the rows of y that do not see their condition in this step, (n, 1)."""
        return (self.uniforms(y) < NULL).to(y.dtype)

    def noise_of(self, y: Tensor) -> Tensor:
        """Noise for rows y (n, d) to learn from."""
        return torch.randn(y.shape, generator=self.rng, dtype=y.dtype, device=y.device)

    def validate(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """The same of held-out rows, at fixed times, one in each of as many parts as rows."""
        y, seen = self.coded(x)
        places = torch.randperm(len(x), generator=self.rng, device=y.device)
        u = (places[:, None].to(y.dtype) + 0.5) / len(x)
        total = y.new_zeros(())
        looks = 4 if len(x) < MANY else 1
        for i in range(looks):
            t = self.learning_times((u + i / looks) % 1)
            total = total + self.error(y, seen, self.noise_of(y), t, given, None) / looks
        return total

    def coded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates of rows, gaps filled by draws of a Gaussian, and which were seen; (n, d)."""
        y, _ = self.real(x, self.rng)
        seen = ~torch.isnan(y)
        if not has_gaps(y):
            return y, seen
        return self.fill(y, torch.rand(y.shape, generator=self.rng, device=y.device))[0], seen

    def error(
        self,
        y: Tensor,
        seen: Tensor,
        e: Tensor,
        t: Tensor,
        given: Tensor | None,
        null: Tensor | None,
    ) -> Tensor:
        """The mean over rows of the mean square of what is wrong, over the cells that were seen."""
        path = self.path()
        alpha, sigma = path.alpha(t), path.sigma(t)
        a, b = self.target(alpha, sigma)
        said = self.look(alpha * y + sigma * e, t, given, null)[:, : y.shape[1]]
        wrong = (said - (a * y + b * e).to(said.dtype)).square()
        return (wrong * seen).mean()

    def fill(self, y: Tensor, e: Tensor, copies: int = 1) -> tuple[Tensor, Tensor]:
        """Missing coordinates drawn from a Gaussian of the rows, given the others."""
        gaps = torch.isnan(y)
        if not has_gaps(y):
            return y, y.new_zeros(len(y))
        draws = Conditionals(self.correlation_, gaps[::copies], copies, 1.0)
        normal = torch.where(gaps, torch.special.ndtri(e.double().clamp(1e-7, 1 - 1e-7)), 0.0)
        filled = torch.where(gaps, draws(y.nan_to_num(), normal), y)
        return filled, torch.where(gaps.any(1), draws.log_q(normal), 0.0)

    def defaults(self, n: int) -> Trainer:
        images = self.image_of(self.space_) is not None
        batch = batch_of(n, 16, 32, 64 if images else 256)
        steps = 3000 if images else 6000
        epochs = min(1000, max(20, steps * batch // max(n, 1)))
        share = 0.1 if n >= 100 else 0.0
        return Trainer(
            epochs=epochs,
            batch_size=batch,
            lr=3e-3 if images else 1e-3,
            optimizer="adamw",
            weight_decay=0.01,
            validation=share,
            patience=max(10, epochs // 4) if share else None,
            ema=0.995,
            warmup=50,
            grad_clip=1.0,
        )

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        """What the first rows say of correlations, and of the conditions."""
        x, *given = rows.look(65536, self.rng)
        self.correlation_.copy_(correlations(self.real(x, self.rng)[0]))
        if given:
            self.context_.fit(given[0].flatten(1))

    # ------------------------------------------------------------------ drawing

    def draw(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        """n draws of the coordinates, (n, d)."""
        shape = (n, self.space_.dim)
        x = torch.randn(shape, generator=rng, dtype=torch.float64, device=rng.device)
        return self.in_pieces(lambda x, g: self.denoised(x, self.times(), rng, g), x, given)

    def in_pieces(
        self, f: Callable[[Tensor, Tensor | None], Tensor], x: Tensor, given: Tensor | None
    ) -> Tensor:
        """f of as many rows and conditions at a time as a network should see together."""
        size = self.at_once()
        pieces = []
        for i in range(0, len(x), size):
            pieces.append(f(x[i : i + size], None if given is None else given[i : i + size]))
        return torch.cat(pieces)

    def at_once(self) -> int:
        """How many rows that is."""
        return max(1, min(4096, AT_ONCE // self.space_.dim))

    def denoised(
        self, x: Tensor, times: Tensor, rng: torch.Generator, given: Tensor | None = None
    ) -> Tensor:
        """y (n, d) from x̂ (n, d) at the first of the times, which fall to 0."""
        path = self.path()
        times = times.to(x.device)
        x = x * path.radius(times[0])
        return SAMPLERS[self.sampler](self.field(given), path, x, times, rng)

    def times(self, sampler: str | None = None) -> Tensor:
        """The times that a sampler goes through, the model's own by default, from 1 to 0."""
        return self.path().times(self.steps or STEPS[sampler or self.sampler])

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        return self._drawn(n, rng, given)

    def edit(
        self,
        X: RowsLike,
        noise: float = 0.5,
        *,
        given: GivenLike = None,
        random_state: RandomState = None,
    ) -> Any:
        """Rows near those of X: noise is added to them, and the model takes it off again.

        noise: how far on the way to noise they go, 0 to 1; at 1 nothing is left of X. given: the
        conditions under which they come back. (Meng et al., 2022.)
        """
        SHARE.check("noise", noise)
        x, conditions = self._enter(X, given)
        rng = self._stream(random_state)
        with torch.no_grad():
            y = self._filled_up(x, rng)
            path = self.path()
            angle = torch.tensor(noise * path.last, dtype=torch.float64)
            times = self.times()
            times = torch.cat([path.time(angle)[None], times[path.angle(times) < angle]])
            if noise == 0:
                return with_index(self.space_.decode(self.unreal(y)), X)
            e = torch.randn(y.shape, generator=rng, dtype=y.dtype, device=y.device)
            y = self.denoised(angle.cos() * y + angle.sin() * e, times, rng, *conditions)
            return with_index(self.space_.decode(self.unreal(y)), X)

    def _filled_up(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Coordinates (n, d) of rows, without gaps."""
        y, _ = self.real(x, rng)
        u = torch.rand(y.shape, generator=rng, dtype=y.dtype, device=y.device)
        return self.fill(y, u)[0]

    def _complete(self, x: Tensor, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        return self._complete_many(x, 1, rng, given)[0]

    def _complete_many(
        self, x: Tensor, n: int, rng: torch.Generator, given: Tensor | None = None
    ) -> Tensor:
        filled = x[None].repeat(n, *[1] * x.dim())
        rows = torch.isnan(x).flatten(1).any(1)
        if not rows.any():
            return filled
        short = self.space_.dim <= EXACT
        # short rows have n draws of one set of particles, long ones n chains of one particle
        keep, chains = (n, 1) if short else (1, n)
        K = max(PARTICLES, 2 * n if n > 1 else 1) if short else 1
        few = x[rows].repeat(chains, *[1] * (x.dim() - 1))
        conditions = None if given is None else given[rows].repeat(chains, *[1] * (given.dim() - 1))
        path = self.path()
        times = path.times(GUIDED_STEPS, x.device)
        low, high, _ = self.coordinates_.box(few.flatten(1))
        pieces = []
        size = max(1, self.at_once() // K)
        for i in range(0, len(few), size):
            some = slice(i, i + size)
            g = None if conditions is None else conditions[some].repeat_interleave(K, 0)
            pieces.append(guided(self.field(g), path, low[some], high[some], times, rng, K, keep))
        y = torch.cat(pieces, 1).flatten(0, 1)
        filled[:, rows] = self.unreal(y).to(x.dtype).reshape(n, -1, *x.shape[1:])
        return torch.where(torch.isnan(x), filled, x)

    # ------------------------------------------------------------------ likelihood

    def log_density(
        self,
        y: Tensor,
        given: Tensor | None = None,
        steps: int | None = None,
        which: int = 0,
    ) -> Tensor:
        """log p(y) of rows (n, d) by the ODE, in nats; float64. which: of a row's probes."""
        if len(y) > self.at_once():
            return self.in_pieces(lambda y, g: self.log_density(y, g, steps, which), y, given)
        path = self.path()
        probe = None
        if y.shape[1] > EXACT:
            u = row_uniforms(y + which, 1, y.shape[1])[:, 0]  # another row, another hash
            probe = (2 * (u > 0.5) - 1).to(y.dtype)
        times = path.times(steps or ODE_STEPS, y.device).flip(0)
        return log_density(self.field(given), path, y, times, probe)[0]

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        """An estimate by the ODE: of short rows over several places inside their cells."""
        few = torch.linspace(0, len(x) - 1, min(SOME, len(x)), device=x.device).long()
        off = self._error_of_steps(x[few], None if given is None else given[few])
        if self.space_.dim > EXACT:
            nats, stderr = once_and_again(self._scored_once, x, given)
            return Estimate(nats, stderr, shared_stderr=off)
        if not self.hides(x).any() and not torch.isnan(x).any():
            return Estimate(self._scored_once(x, given), 0.0, shared_stderr=off)
        pieces = []
        size = max(1, self.at_once() // self.points)
        for i in range(0, len(x), size):
            some = slice(i, i + size)
            pieces.append(self._scored_often(x[some], None if given is None else given[some]))
        p = concatenate(pieces)
        off = math.hypot(off, p.detail["moved"])
        nats, stderr = (torch.as_tensor(v, device=x.device) for v in (p.nats, p.stderr))
        return Estimate(nats, stderr, shared_stderr=off, detail=p.detail)

    def _scored_often(self, x: Tensor, given: Tensor | None) -> LogProb:
        """log of the mean over places inside the cells, and over what fills gaps."""
        k, d = self.points, self.space_.dim

        def log_w(rows: Tensor, begin: int, end: int) -> Tensor:
            many = x[rows].repeat_interleave(k, 0)
            e = row_uniforms(x[rows], k, d).double().flatten(0, 1)
            y, log_det = self.real(many, e)
            y, log_gaps = self.fill(y, e, k)
            g = None if given is None else given[rows].repeat_interleave(k, 0)
            return (self.log_density(y, g) + log_det - log_gaps).reshape(-1, k)

        found = averaged(log_w, len(x), k, k, x.device)
        return Estimate(found.value, found.stderr, detail=found.detail)

    def _scored_once(self, x: Tensor, given: Tensor | None, which: int = 0) -> Tensor:
        """log p of each row at one place inside its cells; its mean over places is a bound."""
        y, log_q = self._placed(x, which)
        return self.log_density(y, given, which=which) + log_q

    def _placed(self, x: Tensor, which: int = 0) -> tuple[Tensor, Tensor]:
        """Coordinates at a place inside the cells that the row decides, and what they cost."""
        e = row_uniforms(x, which + 1, self.space_.dim)[:, which].double()
        y, log_det = self.real(x, e)
        y, log_gaps = self.fill(y, e)
        return y, log_det - log_gaps

    def _error_of_steps(self, x: Tensor, given: Tensor | None = None) -> float:
        """How far the steps of the ODE are off, in nats: from half of them.

        At fourth order the difference would be 15 times the error. Fields of networks are not so
        smooth at steps of this size: of those tried it is 4 to 5 times the error, or more.
        """
        y, _ = self._placed(x)
        fine = self.log_density(y, given)
        coarse = self.log_density(y, given, ODE_STEPS // 2)
        return float((fine - coarse).square().mean().sqrt()) / 5

    # ------------------------------------------------------------------ the ODE as a bijection

    def _encode(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        y, _ = self.real(x, x.new_full((1, 1), 0.5, dtype=torch.float64))
        y, _ = self.fill(y, torch.full_like(y, 0.5))
        times = self.path().times(ODE_STEPS, x.device).flip(0)
        return self._moved(y, times, given)

    def _moved(self, x: Tensor, times: Tensor, given: Tensor | None) -> Tensor:
        """x̂ (n, d) of the first of the times as it is at the last."""
        path = self.path()
        return self.in_pieces(lambda x, g: transport(self.field(g), path, x, times), x, given)

    def _decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        times = self.path().times(ODE_STEPS, z.device)
        return self.unreal(self._moved(z.double(), times, given))


def once_and_again(
    scored: Callable[[Tensor, Tensor | None, int], Tensor], x: Tensor, given: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scores of rows by one noise each, and their error, from another noise of some of them."""
    nats = scored(x, given, 0)
    again = scored(x[:SOME], None if given is None else given[:SOME], 1)
    error = (again - nats[:SOME]).square().mean().sqrt() / math.sqrt(2)
    return nats, error.expand(len(x))


def split(
    x: Tensor, said: Tensor, alpha: Tensor, sigma: Tensor, a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """x_0 and ε with α x_0 + σ ε = x and a x_0 + b ε = what the network said."""
    D = alpha * b - sigma * a
    return (b * x - sigma * said) / D, (alpha * said - a * x) / D
