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

from genus.distributions.columns import groups, log_shares, share_of_ones
from genus.distributions.draws import choose, flip
from genus.distributions.levels import log_logistic_mass, log_normal_mass
from genus.space import Space


class Observation(nn.Module):
    """A distribution of d cells given per_cell parameters each."""

    per_cell = 1

    def __init__(self, d: int) -> None:
        super().__init__()
        self.d = d

    @property
    def n_out(self) -> int:
        """Parameters a row."""
        return self.d * self.per_cell

    def cells(self, p: Tensor) -> Tensor:
        """(..., n_out) → (..., d, per_cell)."""
        p = p if p.dtype == torch.float64 else p.float()
        return p.reshape(*p.shape[:-1], self.d, self.per_cell)

    def offset(self, x: Tensor) -> Tensor:
        """Parameters of the best independent cells for rows x (n, d), NaN left out; (n_out,)."""
        raise NotImplementedError

    def log_prob(self, p: Tensor, x: Tensor) -> Tensor:
        """log p(x_j | p_j) of every cell, in nats."""
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

    def log_prob(self, p: Tensor, x: Tensor) -> Tensor:
        logit = self.cells(p)[..., 0]
        return F.logsigmoid((2 * x.to(logit.dtype) - 1) * logit)

    def mean(self, p: Tensor) -> Tensor:
        return torch.sigmoid(self.cells(p)[..., 0])

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        return flip(self.mean(p), rng)


class Categorical(Observation):
    r"""x ∈ {0 … L−1}: log p = ℓ_x − log Σ_v e^{ℓ_v}, a softmax over the levels of each cell."""

    def __init__(self, d: int, levels: int) -> None:
        super().__init__(d)
        self.per_cell = levels

    def offset(self, x: Tensor) -> Tensor:
        return log_shares(x, self.per_cell).float().reshape(-1)

    def log_prob(self, p: Tensor, x: Tensor) -> Tensor:
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

    def log_prob(self, p: Tensor, x: Tensor) -> Tensor:
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


class Normal(Observation):
    r"""x real: log p = −½ [(x − μ)²/v + log 2πv], one v a cell.

    v is fixed, or learned and floored at ``floor``². Works on standardised cells: y = (x − m)/s,
    with −log s added, so that nats are those of the data. ``variance``: v in the units of the data;
    None: learned, one a cell. ``levels``: (d,) of discrete cells, 0 elsewhere; a level's
    probability is the mass on [x − ½, x + ½), the end levels taking the tails.
    """

    # of the standard deviation, as a share of the column's own: less, and a
    # near-constant column rules all
    floor = 0.1
    shift: Tensor
    scale: Tensor
    levels: Tensor

    def __init__(
        self, d: int, variance: float | None = None, levels: list[int] | None = None
    ) -> None:
        super().__init__(d)
        self.variance = variance
        self.register_buffer("levels", torch.tensor(levels or [0] * d), persistent=False)
        self.whole = any(levels or [])
        if variance is None:
            self.log_v_ = nn.Parameter(torch.zeros(d))
        self.register_buffer("shift", torch.zeros(d, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(d, dtype=torch.float64))

    def standardised(self, x: Tensor) -> Tensor:
        """(x − m)/s in float32."""
        return ((x.double() - self.shift) / self.scale).float()

    def offset(self, x: Tensor) -> Tensor:
        from genus.distributions.bijections import Standardise

        f = Standardise(self.d).fit(x)
        self.shift.copy_(f.mean_)
        self.scale.copy_(f.std_)
        if self.variance is not None:
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

    def log_prob(self, p: Tensor, x: Tensor) -> Tensor:
        cells = self.cells(p)
        v = self._variance()
        r = self.standardised(x) - cells[..., 0]
        density = (
            -0.5 * (r.square() / v + torch.log(2 * math.pi * v)) - torch.log(self.scale).float()
        )
        if not self.whole:
            return density
        half, s = (0.5 / self.scale).float(), v.sqrt()
        mass = log_normal_mass(x, self.levels, r, half, s)
        return torch.where(self.levels > 0, mass, density)

    def _variance(self) -> Tensor:
        """v of each cell, (d,), in standardised units."""
        if self.variance is not None:
            return (self.variance / self.scale.square()).float()
        return self.floor**2 + torch.exp(self.log_v_.clamp(-20, 20))

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
        inside = (x.round() if whole else x).clamp_min(0).minimum(self.levels - 1.0)
        return torch.where(self.levels > 0, inside, x)


class Mixed(Observation):
    """A table: every column by its own kind, columns of one kind and number of levels together."""

    order: Tensor  # the columns, part after part
    back: Tensor

    def __init__(self, parts: list[tuple[list[int], Observation]]) -> None:
        super().__init__(sum(len(columns) for columns, _ in parts))
        self.parts = nn.ModuleList(part for _, part in parts)
        self.widths = [part.d for _, part in parts]
        self.sizes = [part.n_out for _, part in parts]
        order = torch.tensor([j for columns, _ in parts for j in columns])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)

    @property
    def n_out(self) -> int:
        return sum(self.sizes)

    def _columns(self, x: Tensor) -> tuple[Tensor, ...]:
        """The columns (…, d) of each part."""
        return x[..., self.order].split(self.widths, -1)

    def _together(self, pieces: list[Tensor]) -> Tensor:
        """The columns of all parts, in the order of the table."""
        dtype = max((t.dtype for t in pieces), key=lambda t: torch.finfo(t).bits)
        return torch.cat([t.to(dtype) for t in pieces], -1)[..., self.back]

    def offset(self, x: Tensor) -> Tensor:
        each: Any = zip(self.parts, self._columns(x), strict=True)
        return torch.cat([part.offset(c) for part, c in each])

    def log_prob(self, p: Tensor, x: Tensor) -> Tensor:
        each: Any = zip(self.parts, p.split(self.sizes, -1), self._columns(x), strict=True)
        return self._together([part.log_prob(q, c) for part, q, c in each])

    def mean(self, p: Tensor) -> Tensor:
        each: Any = zip(self.parts, p.split(self.sizes, -1), strict=True)
        return self._together([part.mean(q) for part, q in each])

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        each: Any = zip(self.parts, p.split(self.sizes, -1), strict=True)
        return self._together([part.sample(q, rng) for part, q in each])


def observe(space: Space, likelihood: str = "auto", variance: float | None = None) -> Observation:
    """The observation model of a space: cell by cell from the kinds (``auto``), or by name for all.

    bernoulli for binary cells, categorical for categories, logistic for ordered levels, gaussian
    for real numbers. Raises ValueError where a name does not suit the data.
    """
    suits = {
        "bernoulli": ("binary",),
        "categorical": ("binary", "ordinal", "categorical"),
        "logistic": ("binary", "ordinal"),
        "gaussian": ("binary", "ordinal", "continuous"),
    }
    auto = {
        "binary": "bernoulli",
        "categorical": "categorical",
        "ordinal": "logistic",
        "continuous": "gaussian",
    }

    def sort(j: int, kind: str, levels: int) -> tuple[str, int]:
        name = auto[kind] if likelihood == "auto" else likelihood
        if kind not in suits[name]:
            what = f"likelihood={likelihood!r} does not suit {space.names()[j]}, which is {kind}"
            raise ValueError(f"{what}: use likelihood='auto' or {auto[kind]!r}")
        if name == "categorical" and levels > 4096:
            what = f"{space.names()[j]} has {levels} levels, too many for a categorical likelihood"
            raise ValueError(f"{what}: use likelihood='gaussian' or 'logistic'")
        return name, levels if name in ("categorical", "logistic") else 0

    def part(name: str, levels: int, columns: list[int]) -> Observation:
        d = len(columns)
        if name == "bernoulli":
            return Bernoulli(d)
        if name == "categorical":
            return Categorical(d, levels)
        return (
            Logistic(d, levels)
            if name == "logistic"
            else Normal(d, variance, [space.cardinality[j] for j in columns])
        )

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

    def log_prob(self, p: Tensor, x: Tensor) -> Tensor:
        log_pi, own = self._split(p)
        return torch.logsumexp(
            log_pi + self.each.log_prob(own, x[..., None, :]).transpose(-1, -2), -1
        )

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        log_pi, own = self._split(p)
        k = choose(log_pi.exp(), rng)
        pairs = own.unflatten(-1, (self.d, 2)).transpose(-3, -2)  # (..., d, K, 2)
        chosen = pairs.gather(-2, k[..., None, None].expand(*k.shape, 1, 2))
        return self.each.sample(chosen.flatten(-3), rng)
