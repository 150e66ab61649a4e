"""p(x | parameters): the last step of a decoder, for every kind of cell.

A decoder puts out ``n_out`` numbers a row, ``per_cell`` for each of d cells, cell after cell.
``offset`` gives those of the best model without a latent variable, so that the network has only to
learn departures from it. ``log_prob`` returns nats of each cell, (..., d); missing cells are the
caller's to leave out. All are computed in float32 or better, whatever the network's precision.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.bijections import Standardise
from genus.distributions.columns import groups, log_shares, share_of_ones
from genus.distributions.draws import choose, flip
from genus.distributions.levels import log_between, log_logistic_mass, log_normal_mass
from genus.distributions.marginals import Numbers, between
from genus.distributions.points import LOG_2PI
from genus.space import Space


class Observation(nn.Module):
    """A distribution of d cells given per_cell parameters each."""

    per_cell = 1
    reads_per_cell = 0  # numbers that ``read`` finds
    # of a feature's variance, the share that no latent vector tells: of bits and words, whose
    # odds are never so clear as a line would have them
    least_noise = 0.3

    def __init__(self, d: int) -> None:
        super().__init__()
        self.d = d

    @property
    def n_out(self) -> int:
        """Parameters a row."""
        return self.d * self.per_cell

    @property
    def n_read(self) -> int:
        """Numbers that ``read`` finds in a row."""
        return self.d * self.reads_per_cell

    @property
    def places(self) -> list[int]:
        """The cell of each feature, from 0 to d − 1."""
        return list(range(self.d))

    @property
    def least(self) -> list[float]:
        """``least_noise`` of each feature."""
        return [self.least_noise] * len(self.places)

    def fit(self, x: Tensor) -> None:
        """Learn from rows x (n, d) what the columns do on their own. Nothing by default."""

    def read(self, x: Tensor) -> Tensor:
        """What ``log_prob`` and ``features`` need of rows x (n, d) besides, worth finding once."""
        return x[..., :0]

    def features(self, x: Tensor, read: Tensor | None = None) -> Tensor:
        """What a network sees of rows x (n, d), NaN where it is missing; (n, len(places))."""
        return x

    def start_at(self, W: Tensor, noise: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Weights (n_out, K) of a decoder with E[features | z] ≈ mean + std · W z.

        W (F, K) and noise (F,) are loadings and variances of standardised features.
        """
        raise NotImplementedError

    def cells(self, p: Tensor) -> Tensor:
        """(..., n_out) → (..., d, per_cell)."""
        p = p if p.dtype == torch.float64 else p.float()
        return p.reshape(*p.shape[:-1], self.d, self.per_cell)

    def offset(self, x: Tensor) -> Tensor:
        """Parameters of the best independent cells for rows x (n, d), NaN left out; (n_out,)."""
        raise NotImplementedError

    def log_prob(self, p: Tensor, x: Tensor, read: Tensor | None = None) -> Tensor:
        """log p(x_j | p_j) of every cell, in nats; ``read``: that of x, if it was found before."""
        raise NotImplementedError

    def mean(self, p: Tensor) -> Tensor:
        """The expected code of every cell (its likeliest one where the codes have no order)."""
        raise NotImplementedError

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        """One draw of every cell."""
        raise NotImplementedError


class Bernoulli(Observation):
    r"""x ∈ {0, 1}: log p = log σ((2x − 1) ℓ), ℓ the log-odds."""

    def offset(self, x: Tensor) -> Tensor:
        return torch.logit(share_of_ones(x)).float()

    def start_at(self, W: Tensor, noise: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        # ∂E[x]/∂ℓ is the variance of x
        return W / std[:, None]

    def log_prob(self, p: Tensor, x: Tensor, read: Tensor | None = None) -> Tensor:
        logit = self.cells(p)[..., 0]
        return F.logsigmoid((2 * x.to(logit.dtype) - 1) * logit)

    def mean(self, p: Tensor) -> Tensor:
        return torch.sigmoid(self.cells(p)[..., 0])

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        return flip(self.mean(p), rng)


class ContinuousBernoulli(Observation):
    r"""x ∈ [0, 1] of density e^{ℓx}/Z, or x ∈ {0 … L−1}: the mass of [x/L, (x + 1)/L].

        log p(x) = ℓ x − g(ℓ),    log P(x) = ℓ x/L − g(ℓ) + g(ℓ/L) − log L,    g(t) = log (eᵗ − 1)/t

    ``levels``: L; 0: real numbers. The Bernoulli's own formula on grey values, without g, is no
    probability (Loaiza-Ganem & Cunningham, 2019).
    """

    def __init__(self, d: int, levels: int = 0) -> None:
        super().__init__(d)
        self.levels = levels

    def offset(self, x: Tensor) -> Tensor:
        if not self.levels and bool((x < 0).logical_or(x > 1).any()):
            raise ValueError(
                "likelihood='continuous-bernoulli' needs numbers from 0 to 1, and X has others: "
                "rescale them, or use likelihood='gaussian'"
            )
        mean = torch.nanmean(x.double(), 0).nan_to_num(0.5)
        low, high = torch.full_like(mean, -60.0), torch.full_like(mean, 60.0)
        for _ in range(50):  # the mean rises with ℓ
            middle = (low + high) / 2
            below = self._mean(middle) < mean
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return ((low + high) / 2).float()

    def start_at(self, W: Tensor, noise: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        return W / std[:, None]

    def log_prob(self, p: Tensor, x: Tensor, read: Tensor | None = None) -> Tensor:
        t = self.cells(p)[..., 0]
        x = x.to(t.dtype)
        if self.levels:
            L = self.levels
            return t * x / L - log_mean_growth(t) + log_mean_growth(t / L) - math.log(L)
        inside = (x >= 0) & (x <= 1)
        return torch.where(inside, t * x - log_mean_growth(t), -math.inf)

    def _mean(self, t: Tensor) -> Tensor:
        # g′(t) = 1/(1 − e^{−t}) − 1/t
        def slope(t: Tensor) -> Tensor:
            near = t.abs() < 1e-2
            safe = torch.where(near, torch.ones_like(t), t)
            return torch.where(near, 0.5 + t / 12, -1 / torch.expm1(-safe) - 1 / safe)

        L = self.levels
        return L * slope(t) - slope(t / L) if L else slope(t)

    def mean(self, p: Tensor) -> Tensor:
        return self._mean(self.cells(p)[..., 0])

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        t = self.cells(p)[..., 0]
        u = torch.rand(t.shape, generator=rng, device=t.device, dtype=t.dtype)
        a = t.abs().clamp_min(1e-4)
        x = (1 + torch.log(u + (1 - u) * torch.exp(-a)) / a).clamp(0, 1)
        x = torch.where(t < 0, 1 - x, x)
        return (x * self.levels).floor().clamp_max(self.levels - 1) if self.levels else x


def log_mean_growth(t: Tensor) -> Tensor:
    """log (eᵗ − 1)/t, which is log ∫ e^{tx} dx over [0, 1]."""
    a = t.abs() / 2
    near = a < 1e-2
    safe = torch.where(near, torch.ones_like(a), a)
    far = safe + torch.log(-torch.expm1(-2 * safe) / (2 * safe))
    return t / 2 + torch.where(near, a.square() / 6, far)


class Categorical(Observation):
    r"""x ∈ {0 … L−1}: log p = ℓ_x − log Σ_v e^{ℓ_v}, a softmax over the levels of each cell."""

    def __init__(self, d: int, levels: int) -> None:
        super().__init__(d)
        self.per_cell = levels

    def offset(self, x: Tensor) -> Tensor:
        return log_shares(x, self.per_cell).float().reshape(-1)

    @property
    def places(self) -> list[int]:
        return [j for j in range(self.d) for _ in range(self.per_cell)]

    def features(self, x: Tensor, read: Tensor | None = None) -> Tensor:
        """A 1 at the level of each cell."""
        hot = F.one_hot(x.nan_to_num().long(), self.per_cell).to(x.dtype)
        return hot.masked_fill(torch.isnan(x)[..., None], math.nan).flatten(-2)

    def start_at(self, W: Tensor, noise: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        # ∂E[x = v]/∂ℓ_v is the share of v, where the logits' mean stays where it is
        return W * (std / mean.clamp_min(0.01))[:, None]

    def log_prob(self, p: Tensor, x: Tensor, read: Tensor | None = None) -> Tensor:
        logits = self.cells(p)
        index = x.nan_to_num().long().expand(logits.shape[:-1])[..., None]
        return logits.gather(-1, index)[..., 0] - logits.logsumexp(-1)

    def mean(self, p: Tensor) -> Tensor:
        return self.cells(p).argmax(-1).float()

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        return choose(torch.softmax(self.cells(p), -1), rng).float()


class Logistic(Observation):
    r"""x ∈ {0 … L−1}, ordered: the mass a logistic density puts on the level's cell.

    The end levels take the tails. P(x) = σ((c + h − μ)/s) − σ((c − h − μ)/s), c = 2x/(L−1) − 1, h =
    1/(L−1), with (μ, log s) per cell (Salimans et al., 2017, with one component).
    """

    per_cell = 2
    floor = -7.0  # of log s

    def __init__(self, d: int, levels: int) -> None:
        super().__init__(d)
        self.levels = max(levels, 2)

    def offset(self, x: Tensor) -> Tensor:
        c = x / (self.levels - 1) * 2 - 1
        mean = torch.nanmean(c, 0).nan_to_num()
        std = torch.nanmean((c - mean).square(), 0).nan_to_num().sqrt().clamp_min(0.05)
        # a logistic's std is 1.8 s
        return torch.stack([mean, torch.log(std / 1.8)], 1).float().reshape(-1)

    def log_prob(self, p: Tensor, x: Tensor, read: Tensor | None = None) -> Tensor:
        mu, log_s = self.cells(p).unbind(-1)
        log_s = log_s.clamp_min(self.floor)
        c, half = x / (self.levels - 1) * 2 - 1, 1 / (self.levels - 1)
        return log_logistic_mass(x, self.levels, c - mu, half, torch.exp(log_s))

    def mean(self, p: Tensor) -> Tensor:
        mu, log_s = self.cells(p).unbind(-1)
        # E[clamp(c)] = −1 + ∫ σ((μ − c)/s) dc over [−1, 1]
        s = torch.exp(log_s.clamp_min(self.floor))
        c = s * (F.softplus((mu + 1) / s) - F.softplus((mu - 1) / s)) - 1
        return ((c + 1) / 2 * (self.levels - 1)).clamp(0, self.levels - 1)

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        mu, log_s = self.cells(p).unbind(-1)
        u = torch.rand(mu.shape, generator=rng, device=mu.device, dtype=mu.dtype).clamp(
            1e-6, 1 - 1e-6
        )
        c = mu + torch.exp(log_s.clamp_min(self.floor)) * torch.logit(u)
        return ((c + 1) / 2 * (self.levels - 1)).round().clamp(0, self.levels - 1)


class BetaBinomial(Observation):
    r"""x ∈ {0 … n}, ordered, n = L − 1: x of n coins that share a chance drawn from a Beta.

        P(x) = C(n, x) B(x + α, n − x + β) / B(α, β),    α = c σ(ℓ),  β = c σ(−ℓ)

    A cell has ℓ and log c. In float64: by lgamma in float32 the masses are 1e-2 off.
    """

    per_cell = 2
    ends = (-6.0, 12.0)  # of log c: two masses at the ends, and a binomial

    def __init__(self, d: int, levels: int) -> None:
        super().__init__(d)
        self.n = max(levels, 2) - 1

    def offset(self, x: Tensor) -> Tensor:
        share = x.double() / self.n
        mean = torch.nanmean(share, 0).nan_to_num(0.5).clamp(0.01, 0.99)
        spread = torch.nanmean((share - mean).square(), 0).nan_to_num() / (mean * (1 - mean))
        # the variance of x/n is mean (1 − mean) (1 + (n − 1) ρ)/n, ρ = 1/(c + 1)
        rho = ((spread * self.n - 1) / max(self.n - 1, 1)).clamp(0.01, 0.95)
        return torch.stack([torch.logit(mean), torch.log(1 / rho - 1)], 1).float().reshape(-1)

    def _alpha_beta(self, p: Tensor) -> tuple[Tensor, Tensor]:
        logit, log_c = self.cells(p).double().unbind(-1)
        c = torch.exp(log_c.clamp(*self.ends))
        return c * torch.sigmoid(logit), c * torch.sigmoid(-logit)

    def log_prob(self, p: Tensor, x: Tensor, read: Tensor | None = None) -> Tensor:
        a, b = (v.clamp_min(1e-6) for v in self._alpha_beta(p))
        x, rest = x.double(), self.n - x.double()
        ways = math.lgamma(self.n + 1) - torch.lgamma(x + 1) - torch.lgamma(rest + 1)
        drawn = torch.lgamma(x + a) + torch.lgamma(rest + b) - torch.lgamma(self.n + a + b)
        own = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
        return (ways + drawn - own).to(self.cells(p).dtype)

    def mean(self, p: Tensor) -> Tensor:
        return self.n * torch.sigmoid(self.cells(p)[..., 0])

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        a, b = (torch._standard_gamma(v.clamp_min(1e-6), rng) for v in self._alpha_beta(p))
        chance = a / (a + b).clamp_min(1e-300)
        return torch.binomial(torch.full_like(chance, self.n), chance, rng).float()


class Normal(Observation):
    r"""x real: log p = −½ [(x − μ)²/v + log 2πv], one v a cell.

    v is fixed, or learned and floored at ``floor``². Works on standardised cells: y = (x − m)/s,
    with −log s added, so that nats are those of the data. ``variance``: v in the units of the data;
    None: learned, one a cell; "shared": learned, one for all cells in the units of the data.
    ``levels``: (d,) of discrete cells, 0 elsewhere; a level's probability is the mass on
    [x − ½, x + ½), the end levels taking the tails, but not those of whole numbers without ends
    (``endless``).
    """

    # of the standard deviation, as a share of the column's own: less, and a
    # near-constant column rules all
    floor = 0.1
    shift: Tensor
    scale: Tensor
    levels: Tensor
    endless: Tensor

    def __init__(
        self,
        d: int,
        variance: float | str | None = None,
        levels: list[int] | None = None,
        endless: list[bool] | None = None,
    ) -> None:
        super().__init__(d)
        self.variance = variance
        self.register_buffer("levels", torch.tensor(levels or [0] * d), persistent=False)
        self.register_buffer("endless", torch.tensor(endless or [False] * d), persistent=False)
        self.whole = any(levels or [])
        if not isinstance(variance, float | int):
            self.log_v_ = nn.Parameter(torch.zeros(1 if variance == "shared" else d))
        self.register_buffer("shift", torch.zeros(d, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(d, dtype=torch.float64))

    def standardised(self, x: Tensor) -> Tensor:
        """(x − m)/s in float32."""
        return ((x.double() - self.shift) / self.scale).float()

    def offset(self, x: Tensor) -> Tensor:
        f = Standardise(self.d).fit(x)
        self.shift.copy_(f.mean_)
        self.scale.copy_(f.std_)
        if isinstance(self.variance, float | int):
            ratio = self.variance / self.scale.square()
            if not bool(((ratio > 1e-30) & (ratio < 1e30)).all()):
                size = (
                    f"its columns' standard deviations go from {float(self.scale.min()):.3g} to "
                    f"{float(self.scale.max()):.3g}"
                )
                raise ValueError(
                    f"variance={self.variance!r} is lost beside X, {size}: "
                    "pass variance=None to learn it, or rescale"
                )
        return x.new_zeros(self.n_out, dtype=torch.get_default_dtype())

    def log_prob(self, p: Tensor, x: Tensor, read: Tensor | None = None) -> Tensor:
        cells = self.cells(p)
        v = self._variance()
        r = self.standardised(x) - cells[..., 0]
        t = (r / v.sqrt()).clamp(-LARGE, LARGE)
        density = -0.5 * (t.square() + torch.log(2 * math.pi * v)) - torch.log(self.scale).float()
        if not self.whole:
            return density
        half, s = (0.5 / self.scale).float(), v.sqrt()
        # a level between two others has no tail
        x, levels = (torch.where(self.endless, v, t) for v, t in ((1, x), (3, self.levels)))
        mass = log_normal_mass(x, levels, r, half, s)
        return torch.where(self.levels > 0, mass, density)

    def _variance(self) -> Tensor:
        """v of each cell, (d,), in standardised units."""
        if isinstance(self.variance, float | int):
            return (self.variance / self.scale.square()).float()
        v = self.floor**2 + torch.exp(self.log_v_.clamp(-20, 20))
        if self.variance == "shared":  # v is a share of the cells' mean variance
            return v * (self.scale.square().mean() / self.scale.square()).float()
        return v

    def start_at_noise(self, v: Tensor) -> None:
        """Set a variance that is learned, in standardised units."""
        if not isinstance(self.variance, float | int):
            self.log_v_.fill_(torch.log(v - self.floor**2))

    def mean(self, p: Tensor) -> Tensor:
        return self._onto_levels(self.cells(p)[..., 0].double() * self.scale + self.shift)

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        cells = self.cells(p)
        e = torch.randn(cells.shape[:-1], generator=rng, device=cells.device, dtype=cells.dtype)
        x = (cells[..., 0] + self._variance().sqrt() * e).double() * self.scale + self.shift
        return self._onto_levels(x, whole=True)

    def _onto_levels(self, x: Tensor, whole: bool = False) -> Tensor:
        """Discrete cells brought between their end levels, and to the nearest one."""
        if not self.whole:
            return x
        near = x.round() if whole else x
        inside = near.clamp_min(0).minimum(self.levels - 1.0)
        return torch.where(self.endless, near, torch.where(self.levels > 0, inside, x))


class Scores(Observation):
    r"""A number by its normal score z = Φ⁻¹(F(x)), F the column's own distribution function.

        P(x) = ε P_F(x) + (1 − ε) [Φ((z⁺ − μ)/s) − Φ((z⁻ − μ)/s)]    where x has mass
        p(x) = f(x) [ε + (1 − ε) N(z; μ, s²)/φ(z)]                    elsewhere

    z⁻ and z⁺ are the scores of F(x−) and F(x). With μ = 0 and s = 1 this is F itself, whatever ε.
    μ and s come from the decoder, ε is learned, one a cell: no value is less likely than ε times
    what its column says. Draws have the column's atoms, bounds, decimals and tails.
    """

    reads_per_cell = 4
    per_cell = 2  # μ, and what log s² departs from its cell's own by
    floor = 0.02  # of s
    least_noise = floor**2
    narrow = 0.05  # width of a cell, in s, below which its mass is that of a density

    def __init__(self, space: Space, columns: list[int]) -> None:
        super().__init__(len(columns))
        self.numbers_ = Numbers(space, columns)
        self.log_v_ = nn.Parameter(torch.zeros(self.d))
        self.share_ = nn.Parameter(torch.full((self.d,), -5.0))  # log-odds of ε

    def fit(self, x: Tensor) -> None:
        self.numbers_.fit(x.double())

    def read(self, x: Tensor) -> Tensor:
        """z⁻, the score of the middle of the mass between, z⁺, and log P_F or log f; (n, 4d)."""
        low, high, own = self.numbers_.look(x.double())
        middle = between(low, high, torch.full_like(low, 0.5))
        return torch.cat([low, middle, high, own], -1).float()

    def features(self, x: Tensor, read: Tensor | None = None) -> Tensor:
        """The score of the middle of each cell's mass."""
        middle = (self.read(x) if read is None else read).chunk(4, -1)[1]
        return middle.clamp(-8, 8)

    def start_at(self, W: Tensor, noise: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        # what the middle of a cell leaves out of the variance 1 of a score is noise as well
        v = noise * std.square() + (1 - std.square()).clamp_min(0)
        self.log_v_.copy_(torch.log((v - self.floor**2).clamp_min(self.floor**2)))
        weights = W.new_zeros(self.d, self.per_cell, W.shape[1])
        weights[:, 0] = W * std[:, None]
        return weights.flatten(0, 1)

    def offset(self, x: Tensor) -> Tensor:
        return x.new_zeros(self.n_out, dtype=torch.get_default_dtype())

    def log_prob(self, p: Tensor, x: Tensor, read: Tensor | None = None) -> Tensor:
        mu, s = self._mean_and_scale(p)
        low, z, high, own = (self.read(x) if read is None else read).chunk(4, -1)
        log_phi = -0.5 * (z.square() + LOG_2PI)
        density = -0.5 * (((z - mu) / s).square() + LOG_2PI) - torch.log(s) - log_phi
        known = torch.where(torch.isfinite(own), own, 0.0)
        wide = (high - low) > self.narrow * s
        ratio = torch.where(wide, log_between((low - mu) / s, (high - mu) / s) - known, density)
        share = F.logsigmoid(self.share_)
        rest = F.logsigmoid(-self.share_)
        return own + torch.logaddexp(share, rest + ratio)

    def _mean_and_scale(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """μ and s, (..., d) each."""
        mu, change = self.cells(p).unbind(-1)
        v = self.floor**2 + (self.log_v_ + change).clamp(-20, 5).exp()
        return mu, v.sqrt()

    def mean(self, p: Tensor) -> Tensor:
        mu, s = self._mean_and_scale(p)
        q = (torch.arange(QUANTILES, dtype=torch.float64, device=mu.device) + 0.5) / QUANTILES
        return torch.stack([self._values(mu + s * e) for e in torch.special.ndtri(q)]).mean(0)

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        mu, s = self._mean_and_scale(p)
        kw: dict[str, Any] = {"generator": rng, "device": mu.device, "dtype": mu.dtype}
        e = torch.randn(mu.shape, **kw)
        alone = torch.rand(mu.shape, **kw) < torch.sigmoid(self.share_)
        return self._values(torch.where(alone, e, mu + s * e))

    def _values(self, z: Tensor) -> Tensor:
        """Codes (..., d) whose cells hold the scores z."""
        return self.numbers_.invert(z.double().reshape(-1, self.d)).reshape(z.shape)


LARGE = 1e18  # the square of what is larger is no number in float32
QUANTILES = 32  # of a score, for its expected value


class Mixed(Observation):
    """A table: every column by its own kind, columns of one kind and number of levels together."""

    order: Tensor  # the columns, part after part
    back: Tensor

    def __init__(self, parts: list[tuple[list[int], Observation]]) -> None:
        super().__init__(sum(len(columns) for columns, _ in parts))
        self.parts = nn.ModuleList(part for _, part in parts)
        self.widths = [part.d for _, part in parts]
        self.sizes = [part.n_out for _, part in parts]
        self.reads = [part.n_read for _, part in parts]
        self._places = [columns[j] for columns, part in parts for j in part.places]
        order = torch.tensor([j for columns, _ in parts for j in columns])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)

    @property
    def n_out(self) -> int:
        return sum(self.sizes)

    @property
    def n_read(self) -> int:
        return sum(self.reads)

    def _columns(self, x: Tensor) -> tuple[Tensor, ...]:
        """The columns (…, d) of each part."""
        return x[..., self.order].split(self.widths, -1)

    def _together(self, pieces: list[Tensor]) -> Tensor:
        """The columns of all parts, in the order of the table."""
        dtype = max((t.dtype for t in pieces), key=lambda t: torch.finfo(t).bits)
        return torch.cat([t.to(dtype) for t in pieces], -1)[..., self.back]

    @property
    def places(self) -> list[int]:
        return self._places

    @property
    def least(self) -> list[float]:
        return [v for part in self.parts for v in part.least]  # type: ignore[union-attr]

    def fit(self, x: Tensor) -> None:
        for part, columns in zip(self.parts, self._columns(x), strict=True):
            part.fit(columns)  # type: ignore[operator]

    def read(self, x: Tensor) -> Tensor:
        each: Any = zip(self.parts, self._columns(x), strict=True)
        return torch.cat([part.read(c) for part, c in each], -1)

    def features(self, x: Tensor, read: Tensor | None = None) -> Tensor:
        read = self.read(x) if read is None else read
        each: Any = zip(self.parts, self._columns(x), read.split(self.reads, -1), strict=True)
        return torch.cat([part.features(c, r).double() for part, c, r in each], -1)

    def start_at(self, W: Tensor, noise: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        sizes = [len(part.places) for part in self.parts]  # type: ignore[arg-type]
        pieces: Any = zip(self.parts, *(t.split(sizes) for t in (W, noise, mean, std)), strict=True)
        return torch.cat([part.start_at(*piece) for part, *piece in pieces])

    def offset(self, x: Tensor) -> Tensor:
        each: Any = zip(self.parts, self._columns(x), strict=True)
        return torch.cat([part.offset(c) for part, c in each])

    def log_prob(self, p: Tensor, x: Tensor, read: Tensor | None = None) -> Tensor:
        read = self.read(x) if read is None else read
        pieces = p.split(self.sizes, -1), self._columns(x), read.split(self.reads, -1)
        each: Any = zip(self.parts, *pieces, strict=True)
        return self._together([part.log_prob(q, c, r) for part, q, c, r in each])

    def mean(self, p: Tensor) -> Tensor:
        each: Any = zip(self.parts, p.split(self.sizes, -1), strict=True)
        return self._together([part.mean(q) for part, q in each])

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        each: Any = zip(self.parts, p.split(self.sizes, -1), strict=True)
        return self._together([part.sample(q, rng) for part, q in each])


LIKELIHOODS = (
    "bernoulli",
    "continuous-bernoulli",
    "categorical",
    "gaussian",
    "logistic",
    "logistic-mixture",
    "beta-binomial",
)
# those whose cells go together by their number of levels
WITH_LEVELS = (
    "continuous-bernoulli",
    "categorical",
    "logistic",
    "logistic-mixture",
    "beta-binomial",
)


def observe(
    space: Space,
    likelihood: str = "auto",
    variance: float | str | None = None,
    learned: bool = False,
    n_logistics: int = 5,
) -> Observation:
    """The observation model of a space: cell by cell from the kinds (``auto``), or by name for all.

    bernoulli for binary cells, categorical for categories, logistic for ordered levels, gaussian
    for other numbers. ``learned``: all numbers by their scores, where ``likelihood`` is ``auto``.
    ``n_logistics``: components of ``logistic-mixture``. Raises ValueError where a name does not
    suit the data.
    """
    suits = {
        "bernoulli": ("binary",),
        "continuous-bernoulli": ("binary", "ordinal", "continuous"),
        "categorical": ("binary", "ordinal", "categorical"),
        "logistic": ("binary", "ordinal"),
        "logistic-mixture": ("binary", "ordinal"),
        "beta-binomial": ("binary", "ordinal"),
        "gaussian": ("binary", "ordinal", "integer", "continuous"),
        "scores": ("ordinal", "integer", "continuous"),
    }
    auto = {
        "binary": "bernoulli",
        "categorical": "categorical",
        "ordinal": "logistic",
        "integer": "gaussian",
        "continuous": "gaussian",
    }
    if learned:
        auto |= dict.fromkeys(suits["scores"], "scores")

    def sort(j: int, kind: str, levels: int) -> tuple[str, int]:
        name = auto[kind] if likelihood == "auto" else likelihood
        if name not in suits:
            known = ", ".join(repr(each) for each in ("auto", *suits))
            raise ValueError(f"likelihood={likelihood!r} is not known: use one of {known}")
        if kind not in suits[name]:
            what = f"likelihood={likelihood!r} does not suit {space.names()[j]}, which is {kind}"
            other = "" if auto[kind] == "scores" else f" or {auto[kind]!r}"
            raise ValueError(f"{what}: use likelihood='auto'{other}")
        if name == "categorical" and kind != "categorical" and levels > 4096:
            what = f"{space.names()[j]} has {levels} levels, too many for a categorical likelihood"
            raise ValueError(f"{what}: use likelihood='gaussian' or 'logistic'")
        return name, levels if name in WITH_LEVELS else 0

    def part(name: str, levels: int, columns: list[int]) -> Observation:
        d = len(columns)
        if name == "bernoulli":
            return Bernoulli(d)
        if name == "categorical":
            return Categorical(d, levels)
        if name == "continuous-bernoulli":
            return ContinuousBernoulli(d, levels)
        if name == "logistic":
            return Logistic(d, levels)
        if name == "logistic-mixture":
            return LogisticMixture(d, levels, n_logistics)
        if name == "beta-binomial":
            return BetaBinomial(d, levels)
        if name == "scores":
            return Scores(space, columns)
        kinds, cards = space.kinds, space.cardinality
        endless = [kinds[j] == "integer" for j in columns]
        return Normal(d, variance, [cards[j] for j in columns], endless)

    parts = [
        (columns, part(name, levels, columns)) for name, levels, columns in groups(space, sort)
    ]
    return parts[0][1] if len(parts) == 1 else Mixed(parts)


# ---------------------------------------------------------------------- what a cell says


class LogisticMixture(Observation):
    r"""x ∈ {0 … L−1}, ordered: P(x) = Σ_k π_k P_k(x), each P_k a discretised logistic.

    Salimans et al. (2017). A cell has K log-weights, then K pairs (μ, log s). Channels are tied by
    the network, not by their component.
    """

    def __init__(self, d: int, levels: int, components: int) -> None:
        super().__init__(d)
        self.each = Logistic(d, levels)
        self.components = components
        self.per_cell = 3 * components

    def _split(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """log π, (..., d, K), and the logistics' own parameters, (..., K, 2d)."""
        cells = self.cells(p)
        own = cells[..., self.components :].unflatten(-1, (self.components, 2))
        return torch.log_softmax(cells[..., : self.components], -1), own.transpose(-3, -2).flatten(
            -2
        )

    def offset(self, x: Tensor) -> Tensor:
        mu, log_s = (
            self.each.offset(x).reshape(self.d, 2, 1).expand(-1, -1, self.components).unbind(1)
        )
        spread = (
            torch.linspace(-1, 1, self.components, device=mu.device)
            if self.components > 1
            else torch.zeros_like(mu)
        )
        pairs = torch.stack([mu + 2 * torch.exp(log_s) * spread, log_s], -1)
        return torch.cat([torch.zeros_like(mu), pairs.flatten(1)], 1).flatten()

    def log_prob(self, p: Tensor, x: Tensor, read: Tensor | None = None) -> Tensor:
        log_pi, own = self._split(p)
        return torch.logsumexp(
            log_pi + self.each.log_prob(own, x[..., None, :]).transpose(-1, -2), -1
        )

    def mean(self, p: Tensor) -> Tensor:
        log_pi, own = self._split(p)
        return (log_pi.exp() * self.each.mean(own).transpose(-1, -2)).sum(-1)

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        log_pi, own = self._split(p)
        k = choose(log_pi.exp(), rng)
        pairs = own.unflatten(-1, (self.d, 2)).transpose(-3, -2)  # (..., d, K, 2)
        chosen = pairs.gather(-2, k[..., None, None].expand(*k.shape, 1, 2))
        return self.each.sample(chosen.flatten(-3), rng)
