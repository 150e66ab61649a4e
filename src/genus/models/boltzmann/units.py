"""Visible units of every kind, as exponential families: their energy, and how they are drawn.

Numbers of a table enter by their normal scores z = Φ⁻¹(F(x)), F what the column does on its own
(``genus.distributions.marginals``). A value with mass is an interval of z, a missing cell the whole
line: what such cells hide is drawn where hidden units and the other cells expect it to be, and the
density of that draw is paid for.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.bijections import Logit, Standardise
from genus.distributions.columns import groups, log_shares, share_of_ones
from genus.distributions.draws import flip
from genus.distributions.levels import log_between
from genus.distributions.marginals import Marginals, between
from genus.distributions.points import LOG_2PI
from genus.learn.rows import generator
from genus.space import Space

MANY = 64  # more ordered levels than this are treated as real numbers
SHARPEST = 30.0  # precision of a score given hidden units, at most
SORTS = {
    "binary": "bernoulli",
    "categorical": "categorical",
    "ordinal": "ordinal",
    "integer": "gaussian",
    "continuous": "gaussian",
}


class Units(nn.Module):
    """The visible layer: cells of every kind, their statistics t and φ, and their draws.

    v is (n, d): codes where discrete, scores or standardised values where gaussian. b holds a
    number for each gaussian or binary cell and one for each value of the others; a = W(h − λ) has
    the length of φ. marginals: "learned", gaussian cells are normal scores; "logit", levels are
    spread by a logit and all are standardised.
    """

    rank = 4  # smooth functions of an ordered level
    marginals_: Marginals

    def __init__(self, space: Space, visible: str, marginals: str = "logit") -> None:
        super().__init__()
        self.space = space

        def sort_of(j: int, kind: str, levels: int) -> tuple[str, int]:
            sort = visible
            if visible == "auto":
                sort = SORTS[kind]
                sort = "gaussian" if sort == "ordinal" and levels > MANY else sort
            elif (visible == "bernoulli" and kind != "binary") or (
                visible == "categorical" and kind == "continuous"
            ):
                raise ValueError(
                    f"visible={visible!r} does not suit {space.names()[j]}, "
                    f"which is {kind}: use visible='auto'"
                )
            return sort, levels if sort in ("categorical", "ordinal") else 0

        self.groups = groups(space, sort_of)
        self.gaussian = any(sort == "gaussian" for sort, _, _ in self.groups)
        self.plain = len(self.groups) == 1 and self.groups[0][0] == "bernoulli"
        real = [j for sort, _, columns in self.groups if sort == "gaussian" for j in columns]
        cards = space.cardinality
        self.learned = self.gaussian and marginals == "learned"
        self.folded = [j for j in real if cards[j] and not self.learned]
        self.n_binary = space.dim if self.plain else None
        if self.learned:
            self.real = real
            self.marginals_ = Marginals(_of_columns(space, real))
            self.dequantises = any(cards[j] or space.atoms(j) for j in real)
        else:
            self.scale_ = Standardise(space.dim)
            self.dequantises = bool(self.folded)
        if self.gaussian:
            self.log_tau_ = nn.Parameter(torch.zeros(len(real)))
        self._tables: dict[Any, Tensor] = {}
        self.n_phi = self.n_bias = 0
        self.slices: list[tuple[slice, slice]] = []  # of φ and of b
        for sort, levels, columns in self.groups:
            wide = {"categorical": levels, "ordinal": min(self.rank, levels - 1) or 1}.get(
                sort, 1
            ) * len(columns)
            long = (levels if sort in ("categorical", "ordinal") else 1) * len(columns)
            self.slices.append(
                (slice(self.n_phi, self.n_phi + wide), slice(self.n_bias, self.n_bias + long))
            )
            self.n_phi, self.n_bias = self.n_phi + wide, self.n_bias + long

        self.waves = self._waves()

    def _waves(self) -> list[int]:
        """Which wave each φ of ordered levels is, 1 of others; empty where there are no levels."""
        if not any(sort == "ordinal" for sort, _, _ in self.groups):
            return []
        found = []
        for (sort, _, columns), (s, _) in zip(self.groups, self.slices, strict=True):
            times = (s.stop - s.start) // len(columns)
            found += len(columns) * [i + 1 if sort == "ordinal" else 1 for i in range(times)]
        return found

    def _table(self, sort: str, levels: int, like: Tensor) -> Tensor:
        """φ of every level, (levels, r): a one-hot code, or cosines of the level."""
        key = (sort, levels, like.dtype, like.device)
        if key not in self._tables:
            t = (torch.arange(levels, dtype=like.dtype, device=like.device) + 0.5) / levels
            waves = [
                torch.cos(math.pi * i * t) for i in range(1, (min(self.rank, levels - 1) or 1) + 1)
            ]
            self._tables[key] = (
                torch.eye(levels, dtype=like.dtype, device=like.device)
                if sort == "categorical"
                else torch.stack(waves, 1)
            )
        return self._tables[key]

    # ------------------------------------------------------------------ in and out

    def fit(self, x: Tensor) -> None:
        """Take the scale, or the distribution, of real-valued cells from the data."""
        if self.learned:
            self.marginals_.fit(x.flatten(1)[:, self.real])
        elif self.gaussian:
            y, _ = self._unfolded(x.flatten(1).double(), generator(0, x.device))
            real = torch.zeros(y.shape[1], dtype=torch.bool, device=y.device)
            real[[j for sort, _, columns in self.groups if sort == "gaussian" for j in columns]] = (
                True
            )
            self.scale_.fit(y * real)  # the others get scale 1

    def enter(self, x: Tensor, noise: Tensor | torch.Generator) -> tuple[Tensor, Tensor]:
        """Codes x (n, *shape) → (v (n, d), log |∂v/∂x| (n,)); v is NaN where x is.

        noise: (n, d) uniforms of dequantisation, or where to draw them.
        """
        x = x.flatten(1)
        if not self.gaussian:
            return x.to(torch.get_default_dtype()), x.new_zeros(len(x), dtype=torch.float64)
        if isinstance(noise, torch.Generator):
            noise = torch.rand(x.shape, generator=noise, dtype=torch.float64, device=x.device)
        if self.learned:
            v = x.double()
            u = noise.double().expand(x.shape)[:, self.real]
            z, each = self.marginals_.scores(v[:, self.real], u)
            v = v.clone()
            v[:, self.real] = z
            return v.to(torch.get_default_dtype()), each.sum(1)
        y, log_det = self._unfolded(x.double(), noise)
        v, more = self.scale_(y)
        return v.to(torch.get_default_dtype()), log_det + more

    def leave(self, v: Tensor, whole: bool = True) -> Tensor:
        """v → codes (n, *shape); whole numbers where discrete, unless they are means."""
        if self.learned:
            v = v.double()
            v[:, self.real] = self.marginals_.invert(v[:, self.real])
        elif self.gaussian:
            v = self.scale_.inverse(v)
            if self.folded:
                v[:, self.folded] = self._fold(v.device).inverse(v[:, self.folded], whole)
        return v.reshape(-1, *self.space.cell_shape)

    def _unfolded(self, y: Tensor, noise: Tensor | torch.Generator) -> tuple[Tensor, Tensor]:
        if not self.folded:
            return y, y.new_zeros(len(y))
        u = (
            torch.rand(y.shape, generator=noise, dtype=y.dtype, device=y.device)
            if isinstance(noise, torch.Generator)
            else noise.expand(y.shape)
        )
        y = y.clone()
        y[:, self.folded], log_det = self._fold(y.device)(
            y[:, self.folded], u[:, self.folded].double()
        )
        return y, log_det

    def _fold(self, device: torch.device) -> Fold:
        levels = [self.space.cardinality[j] for j in self.folded]
        return Fold(torch.tensor(levels, dtype=torch.float64, device=device))

    # ------------------------------------------------------------------ what a row hides

    def ends(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where v lies, given codes x (n, d): from low to high (n, d), and log |∂v/∂x| (n,).

        Both are one where nothing is hidden, and NaN where a discrete cell is missing. u: (n, d),
        the places of dequantised levels that are no intervals.
        """
        if self.learned:
            low = x.double().clone()
            high = low.clone()
            low[:, self.real], high[:, self.real], log_p = self.marginals_.look(x[:, self.real])
            z = high[:, self.real]
            whole = (low[:, self.real] < z) | torch.isnan(z)  # its mass is that of the interval
            each = torch.where(whole, 0.0, log_p + 0.5 * (z.square() + LOG_2PI))
            each = each.masked_fill(torch.isneginf(log_p), -math.inf)
            log_det = each.sum(1)
        else:
            low, log_det = self.enter(x, u)
            high = low.clone()
        for sort, _, columns in self.groups:
            if sort == "gaussian":
                gap = torch.isnan(low[:, columns])
                low[:, columns] = low[:, columns].masked_fill(gap, -math.inf)
                high[:, columns] = high[:, columns].masked_fill(gap, math.inf)
        return low, high, log_det

    def wide(self, cells: Tensor) -> Tensor:
        """What is said of cells (n, d), said of their φ (n, n_phi)."""
        parts = []
        for (_, _, columns), (s, _) in zip(self.groups, self.slices, strict=True):
            times = (s.stop - s.start) // len(columns)
            parts.append(cells[:, columns].repeat_interleave(times, 1))
        return torch.cat(parts, 1)

    def expected(self, b: Tensor, a: Tensor, spread: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The mean of φ given natural parameters and where v lies, (n, n_phi).

        spread: (n, n_phi), the variance of a. Of an interval it is the median.
        """
        parts = []
        for i, ((sort, levels, columns), (s, t)) in enumerate(
            zip(self.groups, self.slices, strict=True)
        ):
            c, gap = low[:, columns], torch.isnan(low[:, columns])
            if levels:
                table = self._table(sort, levels, a)
                mean = torch.softmax(self._levels(b, a, i), -1) @ table
                seen = table[c.nan_to_num().long()]
                parts.append(torch.where(gap[..., None], mean, seen).flatten(1))
            elif sort == "bernoulli":
                mean = torch.sigmoid(a[:, s] + b[t])
                parts.append(torch.where(gap, mean, c.to(a.dtype)))
            else:
                half = torch.full_like(c, 0.5, dtype=torch.float64)
                z, _ = self._within(b[t], a[:, s], spread[:, s], c, high[:, columns], half)
                parts.append(z.to(a.dtype))
        return torch.cat(parts, 1)

    def propose(
        self, b: Tensor, a: Tensor, spread: Tensor, low: Tensor, high: Tensor, u: Tensor
    ) -> tuple[Tensor, Tensor]:
        """v (n, d), what is hidden drawn by way of uniforms u (n, d), and log of its density (n,).

        Normal numbers of mean and variance as a has them, categories by their expected logits; a
        tenth of these is even, so that none is missed.
        """
        v = low.clone().to(torch.float64)
        log_q = v.new_zeros(len(v))
        for i, ((sort, levels, columns), (s, t)) in enumerate(
            zip(self.groups, self.slices, strict=True)
        ):
            gap = torch.isnan(low[:, columns])
            if sort == "gaussian":
                ends = low[:, columns], high[:, columns]
                z, each = self._within(b[t], a[:, s], spread[:, s], *ends, u[:, columns])
                v[:, columns] = z
                log_q += torch.where(ends[0] < ends[1], each, 0.0).sum(1)
                continue
            if not gap.any():
                continue
            logits = (
                self._levels(b, a, i)
                if levels
                else torch.stack([torch.zeros_like(a[:, s]), a[:, s] + b[t]], -1)
            )
            p = 0.9 * torch.softmax(logits.double(), -1) + 0.1 / logits.shape[-1]
            drawn = (p.cumsum(-1) <= u[:, columns, None]).sum(-1).clamp_max(p.shape[-1] - 1)
            v[:, columns] = torch.where(gap, drawn.double(), v[:, columns])
            each = p.gather(-1, drawn[..., None])[..., 0].log()
            log_q += torch.where(gap, each, 0.0).sum(1)
        return v.to(torch.get_default_dtype()), log_q

    def within(
        self, v: Tensor, b: Tensor, a: Tensor, low: Tensor, high: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Draws v (n, d), brought to where it lies: numbers drawn anew from low to high."""
        out = torch.where(torch.isnan(low), v, low.to(v.dtype))
        for (sort, _, columns), (s, t) in zip(self.groups, self.slices, strict=True):
            if sort == "gaussian":
                ends = low[:, columns].double(), high[:, columns].double()
                u = torch.rand(ends[0].shape, generator=rng, dtype=torch.float64, device=v.device)
                z, _ = self._within(b[t], a[:, s], torch.zeros_like(a[:, s]), *ends, u)
                out[:, columns] = z.to(v.dtype)
        return out

    def _within(
        self, b: Tensor, a: Tensor, spread: Tensor, low: Tensor, high: Tensor, u: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Normal numbers between low and high, at the places u of their mass; log density.

        Where low is high, that number, and any density.
        """
        tau = self.tau().double()
        mean = (a + b).double() / tau
        scale = (1 / tau + spread.double() / tau.square()).sqrt()
        known = low == high
        left = (low.double() - mean) / scale
        right = torch.where(known, left + 1, (high.double() - mean) / scale)
        z = between(left, right, u.double())
        log_q = -0.5 * (z.square() + LOG_2PI) - scale.log() - log_between(left, right)
        return torch.where(known, low.double(), mean + scale * z), log_q

    # ------------------------------------------------------------------ statistics

    def phi(self, v: Tensor) -> Tensor:
        """φ(v), (n, n_phi)."""
        if self.plain:
            return v
        parts = []
        for sort, levels, columns in self.groups:
            c = v[:, columns]
            parts.append(c if not levels else self._table(sort, levels, v)[c.long()].flatten(1))
        return torch.cat(parts, 1)

    def linear(self, v: Tensor, b: Tensor) -> Tensor:
        """bᵀt(v), (n,)."""
        if self.plain:
            return v @ b
        total = v.new_zeros(len(v))
        for (_, levels, columns), (_, s) in zip(self.groups, self.slices, strict=True):
            c, own = v[:, columns], b[s]
            if levels:
                index = c.long() + levels * torch.arange(len(columns), device=v.device)
                total = total + own[index].sum(1)
            else:
                total = total + c @ own
        return total

    def bias(self, v: Tensor, b: Tensor) -> Tensor:
        """log base(v) + bᵀt(v), (n,)."""
        total = self.linear(v, b)
        if self.gaussian:
            columns = next(columns for sort, _, columns in self.groups if sort == "gaussian")
            total = total - 0.5 * v[:, columns].square() @ self.tau()
        return total

    def tau(self) -> Tensor:
        """Precisions of the gaussian cells, from e^-4 to e^8; of scores, whose variance is 1, more.

        Given hidden units they lie from 1 to SHARPEST.
        """
        least, most = (0.0, math.log(SHARPEST)) if self.learned else (-4.0, 8.0)
        return torch.exp(self.log_tau_.clamp(least, most))

    @torch.no_grad()
    def project_(self) -> None:
        """Bring the precisions of scores back to where they may be."""
        if self.learned:
            self.log_tau_.clamp_(0.0, math.log(SHARPEST))

    def absorb_(self, b: Tensor, a: Tensor) -> None:
        """Add to b what aᵀφ(v) adds to the energy."""
        for (sort, levels, columns), (s, t) in zip(self.groups, self.slices, strict=True):
            own = a[s]
            b[t] += (
                (own.reshape(len(columns), -1) @ self._table(sort, levels, a).T).flatten()
                if levels
                else own
            )

    def independent(self, v: Tensor) -> Tensor:
        """b of the best model of independent cells: log-odds, log-frequencies, means.

        Of what is not missing; scores have mean 0.
        """
        out = v.new_zeros(self.n_bias)
        for (sort, levels, columns), (_, s) in zip(self.groups, self.slices, strict=True):
            c = v[:, columns]
            if sort == "bernoulli":
                out[s] = torch.logit(share_of_ones(c))
            elif levels:
                out[s] = log_shares(c, levels).flatten()
            else:
                out[s] = 0.0 if self.learned else c.mean(0)
        return out

    # ------------------------------------------------------------------ v given natural parameters

    def _levels(self, b: Tensor, a: Tensor, group: int) -> Tensor:
        """Logits of every level of the cells of a group, (n, d, levels)."""
        (sort, levels, columns), (s, t) = self.groups[group], self.slices[group]
        slope = a[..., s].reshape(*a.shape[:-1], len(columns), -1) @ self._table(sort, levels, a).T
        return b[..., t].reshape(*b.shape[:-1], len(columns), levels) + slope

    def draw(self, b: Tensor, a: Tensor, rng: torch.Generator) -> Tensor:
        """v ~ p(v | natural parameters b, a)."""
        if self.plain:
            return flip(torch.sigmoid(a + b), rng)
        out = a.new_empty(len(a), self.space.dim)
        for i, ((sort, levels, columns), (s, t)) in enumerate(
            zip(self.groups, self.slices, strict=True)
        ):
            if levels:  # by the inverse of the distribution function: one uniform a cell
                logits = self._levels(b, a, i)
                mass = torch.exp(logits - logits.amax(-1, keepdim=True))
                # quicker than cumsum
                cdf = mass @ torch.ones(levels, levels, dtype=a.dtype, device=a.device).triu()
                u = torch.rand(*cdf.shape[:-1], 1, generator=rng, device=a.device) * cdf[..., -1:]
                out[:, columns] = (cdf <= u).sum(-1).clamp_max(levels - 1).to(a.dtype)
            elif sort == "bernoulli":
                p = torch.sigmoid(a[:, s] + b[..., t])
                out[:, columns] = flip(p, rng)
            else:
                e = torch.randn(len(a), len(columns), generator=rng, dtype=a.dtype, device=a.device)
                out[:, columns] = (a[:, s] + b[..., t]) / self.tau() + e / self.tau().sqrt()
        return out

    def mean(self, b: Tensor, a: Tensor) -> Tensor:
        """E[v] (the likeliest value of a category)."""
        out = a.new_empty(len(a), self.space.dim)
        for i, ((sort, levels, columns), (s, t)) in enumerate(
            zip(self.groups, self.slices, strict=True)
        ):
            if sort == "categorical":
                out[:, columns] = self._levels(b, a, i).argmax(-1).to(a.dtype)
            elif sort == "ordinal":
                out[:, columns] = torch.softmax(self._levels(b, a, i), -1) @ torch.arange(
                    levels, dtype=a.dtype, device=a.device
                )
            elif sort == "bernoulli":
                out[:, columns] = torch.sigmoid(a[:, s] + b[..., t])
            else:
                out[:, columns] = (a[:, s] + b[..., t]) / self.tau()
        return out

    def log_partition(self, b: Tensor, a: Tensor) -> Tensor:
        """log Σ_v base(v) exp(bᵀt(v) + aᵀφ(v)), (n,), in float64."""
        b, a = b.double(), a.double()
        total = a.new_zeros(len(a))
        for i, ((sort, levels, _), (s, t)) in enumerate(zip(self.groups, self.slices, strict=True)):
            if levels:
                total = total + torch.logsumexp(self._levels(b, a, i), -1).sum(-1)
            elif sort == "bernoulli":
                total = total + F.softplus(a[:, s] + b[..., t]).sum(-1)
            else:
                tau = self.tau().double()
                total = total + (
                    0.5 * (a[:, s] + b[..., t]).square() / tau + 0.5 * torch.log(2 * math.pi / tau)
                ).sum(-1)
        return total


class Fold:
    """Levels 0 … L − 1 spread over the line: y = logit(α + (1 − 2α)(x + u)/L), u in (0, 1).

    The line beyond the outermost of these values belongs to the end levels, whose place u then has
    an exponential law, so that every y has a level, and the masses of all levels sum to 1.
    """

    alpha = 0.01

    def __init__(self, levels: Tensor) -> None:
        self.levels = levels
        self.map = Logit(torch.zeros_like(levels), levels, alpha=self.alpha)

    def __call__(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """y (n, d) of levels x with places u, and Σ log |∂y/∂u| (n,)."""
        inside = (x + u).clamp(1e-9).minimum(self.levels - 1e-9)
        y = self._logit(inside)
        p = self.alpha + (1 - 2 * self.alpha) * inside / self.levels
        each = torch.log((1 - 2 * self.alpha) / self.levels) - torch.log(p) - torch.log1p(-p)
        first, last = self._inner_ends()
        u = u.clamp(1e-9, 1 - 1e-9)
        low, high = x == 0, x == self.levels - 1
        scale = first[1] - first[0]
        y = torch.where(low, first[1] + scale * torch.log(u), y)
        each = torch.where(low, torch.log(scale / u), each)
        scale = last[1] - last[0]
        y = torch.where(high, last[0] - scale * torch.log1p(-u), y)
        each = torch.where(high, torch.log(scale / (1 - u)), each)
        return y, each.sum(1)

    def inverse(self, y: Tensor, whole: bool) -> Tensor:
        """The levels (n, d) of y; the place of a mean between them, unless ``whole``."""
        x = self.map.inverse(y).clamp_min(0).minimum(self.levels)
        return x.floor().minimum(self.levels - 1) if whole else (x - 0.5).clamp_min(0)

    def _logit(self, x: Tensor) -> Tensor:
        p = self.alpha + (1 - 2 * self.alpha) * x / self.levels
        return torch.log(p) - torch.log1p(-p)

    def _inner_ends(self) -> tuple[Tensor, Tensor]:
        """y at both ends of the first and of the last level, (2, d) each."""
        zero, one = torch.zeros_like(self.levels), torch.ones_like(self.levels)
        first = torch.stack([self._logit(zero), self._logit(one)])
        last = torch.stack([self._logit(self.levels - 1), self._logit(self.levels)])
        return first, last


def _of_columns(space: Space, columns: list[int]) -> Space:
    """The space of some columns of a table; all cells of other spaces are alike."""
    if space.columns:
        return Space((len(columns),), "table", columns=tuple(space.columns[j] for j in columns))
    return space
