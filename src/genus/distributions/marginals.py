r"""What a column does on its own: its distribution function F, and the normal scores behind it.

Numbers, with atoms a of mass w_a and a smooth rest G:

    F(x) = Σ_{a ≤ x} w_a + w G(x),    w = 1 − Σ w_a
    G(x) = Φ(h(x)) between the outer knots, h a monotone rational-quadratic spline
    1 − G(t + e) = (1 − G(t)) (1 + ξ e/σ)^{−1/ξ} beyond the last knot t, and likewise below

(Gregory & Delbourgo, 1982; Pickands, 1975.) Whole numbers have the mass of G within ½ of them. A
tail with ξ < 0 ends at a bound. Words are a table of shares.

With z = Φ⁻¹(u), u = F(x) where F is continuous and uniform between F(x−) and F(x) where x has mass,
every column is standard normal (the distributional transform, Rüschendorf, 2009), and

    log p(x) = log p(z) − log φ(z) + log (mass or density of x)

for a given u. Independent normals z are the product of the columns' own distributions, exactly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.special import log_ndtr, ndtri
from torch import Tensor, nn

from genus.coding import MOST, spikes
from genus.distributions.columns import check_observed
from genus.distributions.points import LOG_2PI
from genus.space import Space

KNOTS = 48  # of the smooth part, at most
FAR = 37.0  # scores go no further from 0: float64 ends there
KEPT = 1 << 22  # cells times levels up to which what is looked up of each is kept
AT_ONCE = 8192  # rows that are looked at in one piece: there are many numbers to each
NEAR = 0.02  # share of the room before a bound that is taken as one
STILL = 1e-3  # share of that before which a real number is not told from its bound
CUT_OFF = 1e-9  # relative differences of F below this are taken from the density


class Marginals(nn.Module):
    """The distributions of all columns of a space, and the way to normal scores and back.

    Rows of codes x and scores z are (n, d), float64; NaN stays NaN, with log-probability 0.
    """

    at_numbers: Tensor
    at_words: Tensor
    numbers_: Numbers | None
    words_: Words | None

    def __init__(self, space: Space) -> None:
        super().__init__()
        kinds = space.kinds
        numbers = [j for j, kind in enumerate(kinds) if kind not in ("binary", "categorical")]
        words = [j for j, kind in enumerate(kinds) if kind in ("binary", "categorical")]
        self.space = space
        self.register_buffer("at_numbers", torch.tensor(numbers, dtype=torch.long), False)
        self.register_buffer("at_words", torch.tensor(words, dtype=torch.long), False)
        self.numbers_ = Numbers(space, numbers) if numbers else None
        self.words_ = Words([space.cardinality[j] for j in words]) if words else None

    def fit(self, x: Tensor) -> Marginals:
        """Learn every column from rows x (n, d). Raises ValueError that names an empty column."""
        x = x.flatten(1).double()
        check_observed(self.space, (~torch.isnan(x)).any(0))
        if self.numbers_ is not None:
            self.numbers_.fit(x[:, self.at_numbers])
        if self.words_ is not None:
            self.words_.fit(x[:, self.at_words], _main_direction(x, self))
        return self

    def log_prob(self, x: Tensor) -> Tensor:
        """Log of the mass, or density, of every cell in nats, (n, d)."""
        return self.look(x)[2]

    def edges(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Φ⁻¹ of F(x−) and of F(x), which are one where x has no mass; (n, d) each."""
        return self.look(x)[:2]

    def look(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both edges and the log-probability of every cell, (n, d) each."""
        parts = self._parts()
        if len(parts) == 1:  # no columns to gather
            return parts[0][0].look(x.double())
        out = x.new_empty((3, *x.shape), dtype=torch.float64)
        for part, at in parts:
            for whole, piece in zip(out, part.look(x[:, at].double()), strict=True):
                whole[:, at] = piece
        return out[0], out[1], out[2]

    def scores(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """z, and log (mass or density of x) − log φ(z), which is log |∂z/∂x| where x has a density.

        u: (n, d) in [0, 1], the place inside the mass of x.
        """
        low, high, log_p = self.look(x)
        z = between(low, high, u)
        log_det = log_p + 0.5 * (z.square() + LOG_2PI)
        return z, torch.where(torch.isnan(x), 0.0, log_det)

    def invert(self, z: Tensor) -> Tensor:
        """Codes x (n, d) whose cell holds z."""
        out = torch.full_like(z, math.nan, dtype=torch.float64)
        for part, at in self._parts():
            out[:, at] = part.invert(z[:, at].double())
        return out

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """n rows of independent columns, (n, d)."""
        d = len(self.at_numbers) + len(self.at_words)
        z = torch.randn(n, d, generator=rng, dtype=torch.float64, device=self.at_words.device)
        return self.invert(z)

    def ends(self) -> tuple[Tensor, Tensor]:
        """The least and the largest code that is drawn, (d,) each; infinite where there is none."""
        d = len(self.at_numbers) + len(self.at_words)
        out = torch.full((2, d), math.inf, dtype=torch.float64, device=self.at_words.device)
        out[0] = -math.inf
        if self.numbers_ is not None:
            out[:, self.at_numbers] = self.numbers_.ends_.T
        return out[0], out[1]

    def n_parameters(self) -> int:
        """Free numbers: shares, knots with their scores, atoms and tails."""
        return sum(part.n_parameters() for part, _ in self._parts())

    def _parts(self) -> list[tuple[Numbers | Words, Tensor]]:
        both = ((self.numbers_, self.at_numbers), (self.words_, self.at_words))
        return [(part, at) for part, at in both if part is not None]


def between(low: Tensor, high: Tensor, u: Tensor) -> Tensor:
    """Φ⁻¹((1 − u) Φ(low) + u Φ(high)), by the tail in which nothing cancels."""
    # a look at numbers makes the processor wait for another device
    if low is high or (low.device.type == "cpu" and torch.equal(low, high)):
        return low
    flip = low + high > 0
    a, b = torch.where(flip, -high, low), torch.where(flip, -low, high)
    share = torch.where(flip, 1 - u, u)
    log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    # log((1 − s) e^a + s e^b) with a ≤ b
    log_p = log_b + torch.log(share + (1 - share) * torch.exp(log_a - log_b))
    z = quantile_of(log_p)
    z = torch.where(low == high, a, z.clamp(min=a, max=b))
    return torch.where(flip, -z, z)


def quantile_of(log_p: Tensor) -> Tensor:
    """Φ⁻¹(e^log_p), no further from 0 than FAR."""
    return torch.special.ndtri(torch.exp(log_p)).clamp(-FAR, FAR)


def score_of(log_F: Tensor, log_S: Tensor) -> Tensor:
    """Φ⁻¹(F) of log F and log (1 − F), by the smaller of both, which is the precise one."""
    z = quantile_of(torch.minimum(log_F, log_S))
    return torch.where(log_F < log_S, z, -z)


def log_minus(a: Tensor, b: Tensor) -> Tensor:
    """log(e^a − e^b) for a ≥ b."""
    gap = (b - a).clamp_max(0)
    value = a + torch.where(gap > -0.7, torch.log(-torch.expm1(gap)), torch.log1p(-gap.exp()))
    return torch.where(torch.isinf(a) & (a < 0), a, value)


class Numbers(nn.Module):
    """Columns of numbers: atoms, a smooth part, tails as heavy as the data's, bounds, decimals."""

    learned_shapes = ("knots_", "scores_", "slopes_", "atoms_", "log_weights_")

    knots_: Tensor  # (m, K), inf where a column has fewer
    scores_: Tensor  # (m, K): Φ⁻¹(G) at the knots
    slopes_: Tensor  # (m, K): ∂h/∂x there
    last_: Tensor  # (m,): the place of the last knot
    tails_: Tensor  # (m, 2, 2): σ and ξ below and above
    atoms_: Tensor  # (m, A) rising, inf where a column has fewer
    log_weights_: Tensor  # (m, A), −inf there
    log_smooth_: Tensor  # (m,): log w
    ends_: Tensor  # (m, 2): draws stay between them
    whole: Tensor
    width: Tensor
    step: Tensor
    least: Tensor
    most: Tensor

    def __init__(self, space: Space, columns: list[int]) -> None:
        super().__init__()
        m = len(columns)
        every = space.kinds  # counted once: rows may be wide
        kinds = [every[j] for j in columns]
        whole = torch.tensor([kind != "continuous" for kind in kinds])
        self.bounds = [space.bounds(j) for j in columns]
        least = [-math.inf if low is None else low for low, _ in self.bounds]
        most = [math.inf if high is None else high for _, high in self.bounds]
        self.given_atoms = [space.atoms(j) for j in columns]
        step = [
            10.0**-places if (places := space.decimals(j)) is not None else 0.0 for j in columns
        ]
        kw: dict[str, Any] = {"dtype": torch.float64}
        self.some_whole = any(kind != "continuous" for kind in kinds)
        ordinal = all(kind == "ordinal" for kind in kinds) and m * (max(most) + 1) <= KEPT
        self.levels = int(max(most)) + 1 if ordinal else 0  # 0: too many, or others as well
        self._kept: tuple[list[Tensor], Tensor] | None = None
        self.register_buffer("whole", whole, False)
        self.register_buffer("width", 0.5 * whole, False)
        self.register_buffer("least", torch.tensor(least, **kw), False)
        self.register_buffer("most", torch.tensor(most, **kw), False)
        self.register_buffer("step", torch.tensor(step, **kw), False)
        self.register_buffer("knots_", torch.zeros(m, 2, **kw))
        self.register_buffer("scores_", torch.zeros(m, 2, **kw))
        self.register_buffer("slopes_", torch.ones(m, 2, **kw))
        self.register_buffer("last_", torch.ones(m, dtype=torch.long))
        self.register_buffer("tails_", torch.zeros(m, 2, 2, **kw))
        self.register_buffer("atoms_", torch.zeros(m, 0, **kw))
        self.register_buffer("log_weights_", torch.zeros(m, 0, **kw))
        self.register_buffer("log_smooth_", torch.zeros(m, **kw))
        self.register_buffer("ends_", torch.zeros(m, 2, **kw))

    def some(self, at: slice | Tensor) -> Numbers:
        """Some of the columns, with the numbers that were learned."""
        if isinstance(at, slice) and at == slice(None):
            return self
        view = object.__new__(type(self))
        nn.Module.__init__(view)
        for name, values in self.named_buffers():
            view.register_buffer(name, values[at])
        view.some_whole = bool(view.whole.any())
        view.levels = self.levels
        table = self._table()
        view._kept = None if table is None else (list(view.buffers()), table[:, at])
        return view

    # ------------------------------------------------------------------ learning

    def fit(self, x: Tensor) -> None:
        """Learn from columns x (n, m), each with a value."""
        found = []
        for j, column in enumerate(x.cpu().numpy().T):
            v = np.sort(column[~np.isnan(column)])
            whole = bool(self.whole[j])
            found.append(_Fitted(v, whole, self.bounds[j], self.given_atoms[j]))
        K, A = max(len(f.knots) for f in found), max(len(f.atoms) for f in found)

        def stack(name: str, width: int, fill: float) -> Tensor:
            rows = np.full((len(found), width), fill)
            for j, f in enumerate(found):
                values = getattr(f, name)
                rows[j, : len(values)] = values
            return torch.from_numpy(rows).to(x.device)

        self.knots_ = stack("knots", K, math.inf)
        self.scores_, self.slopes_ = stack("scores", K, 0.0), stack("slopes", K, 1.0)
        self.last_ = torch.tensor([len(f.knots) - 1 for f in found], device=x.device)
        self.tails_ = torch.tensor([f.tails for f in found], dtype=x.dtype, device=x.device)
        self.atoms_, self.log_weights_ = stack("atoms", A, math.inf), stack("weights", A, 0.0).log()
        smooth = [f.smooth for f in found]
        self.log_smooth_ = torch.tensor(smooth, dtype=x.dtype, device=x.device).log()
        self.ends_ = torch.tensor([f.ends for f in found], dtype=x.dtype, device=x.device)

    # ------------------------------------------------------------------ the smooth part

    def _smooth(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log G, log (1 − G) and log g at x (n, m)."""
        t = x.T.contiguous()
        at = torch.searchsorted(self.knots_, t).clamp_min(1).minimum(self.last_[:, None])
        x0, x1 = self.knots_.gather(1, at - 1), self.knots_.gather(1, at)
        z0, z1 = self.scores_.gather(1, at - 1), self.scores_.gather(1, at)
        d0, d1 = self.slopes_.gather(1, at - 1), self.slopes_.gather(1, at)
        s = (z1 - z0) / (x1 - x0)
        d0, d1 = d0 / s, d1 / s  # in units of the secant, so that no scale of x overflows
        r = ((t - x0) / (x1 - x0)).clamp(0, 1)
        q = r * (1 - r)
        below = 1 + (d1 + d0 - 2) * q
        z = z0 + (z1 - z0) * (r.square() + d0 * q) / below
        bent = (d1 * r.square() + 2 * q + d0 * (1 - r).square()) / below.square()
        log_g = -0.5 * (z.square() + LOG_2PI) + bent.log() + s.log()
        log_F, log_S = torch.special.log_ndtr(z), torch.special.log_ndtr(-z)
        first, last = self.knots_[:, :1], self.knots_.gather(1, self.last_[:, None])
        for side, beyond in ((0, first - t), (1, t - last)):
            out = beyond > 0
            log_mass, log_density = self._tail(side, beyond.clamp_min(0))
            rest = log_minus(torch.zeros_like(log_mass), log_mass)
            near, other = (log_F, log_S) if side == 0 else (log_S, log_F)
            near, other = torch.where(out, log_mass, near), torch.where(out, rest, other)
            log_F, log_S = (near, other) if side == 0 else (other, near)
            log_g = torch.where(out, log_density, log_g)
        return log_F.T, log_S.T, log_g.T

    def _tail(self, side: int, e: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the mass beyond a distance e (m, n) from the outer knot, and of the density."""
        scale, shape = self.tails_[:, side, :1], self.tails_[:, side, 1:]
        start = self._at_end(side)
        curved = shape.abs() > 1e-9
        safe = torch.where(curved, shape, torch.ones_like(shape))
        left = (1 + shape * e / scale).clamp_min(0)  # the share of the room, where a bound is
        before = left.clamp_min(NEAR)
        log_mass = start - torch.where(curved, before.log() / safe, e / scale)
        log_density = log_mass - scale.log() - before.log()
        # just before a bound the density may go to 0: there it is even instead
        even = left < NEAR
        least = torch.where(self.whole, 0.0, STILL)[:, None]
        log_even = log_mass - scale.log() - math.log(NEAR) + (-safe).clamp_min(1e-300).log()
        log_mass = torch.where(even, log_mass + (left / NEAR).maximum(least).log(), log_mass)
        return log_mass, torch.where(even, log_even, log_density)

    def _at_end(self, side: int) -> Tensor:
        """Log of the mass beyond the outer knot, (m, 1)."""
        end = self.scores_[:, :1] if side == 0 else self.scores_.gather(1, self.last_[:, None])
        return torch.special.log_ndtr(end if side == 0 else -end)

    def _smooth_quantile(self, log_F: Tensor, log_S: Tensor) -> Tensor:
        """x (n, m) with G(x) = F, from both logs."""
        z = score_of(log_F, log_S).T.contiguous()
        padded = torch.arange(self.scores_.shape[1], device=z.device) > self.last_[:, None]
        scores = self.scores_.masked_fill(padded, math.inf)
        at = torch.searchsorted(scores, z).clamp_min(1).minimum(self.last_[:, None])
        x0, x1 = self.knots_.gather(1, at - 1), self.knots_.gather(1, at)
        z0, z1 = self.scores_.gather(1, at - 1), self.scores_.gather(1, at)
        d0, d1 = self.slopes_.gather(1, at - 1), self.slopes_.gather(1, at)
        s = (z1 - z0) / (x1 - x0)
        d0, d1 = d0 / s, d1 / s
        v = ((z - z0) / (z1 - z0)).clamp(0, 1)
        # the root of the quadratic, in the form that does not cancel
        bend = d1 + d0 - 2
        a = 1 - d0 + v * bend
        b = d0 - v * bend
        c = -v
        r = (2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0).sqrt())).nan_to_num().clamp(0, 1)
        x = x0 + r * (x1 - x0)
        first, last = self.knots_[:, :1], self.knots_.gather(1, self.last_[:, None])
        for side, log_mass, end in ((0, log_F.T, first), (1, log_S.T, last)):
            decay = (self._at_end(side) - log_mass).clamp_min(0)
            scale, shape = self.tails_[:, side, :1], self.tails_[:, side, 1:]
            curved = shape.abs() > 1e-9
            safe = torch.where(curved, shape, torch.ones_like(shape))
            e = scale * torch.where(
                curved, torch.expm1((shape * decay).clamp_max(700)) / safe, decay
            )
            e = torch.where(
                (shape < 0) & (decay > math.log(NEAR) / safe),
                -scale / safe * (1 - NEAR * torch.exp(math.log(NEAR) / safe - decay)),
                e,
            )
            x = torch.where(decay > 0, end - e if side == 0 else end + e, x)
        return x.T

    # ------------------------------------------------------------------ with atoms

    def look(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Φ⁻¹(F(x−)), Φ⁻¹(F(x)) and log of the mass or density at x, (n, m) each."""
        if len(x) > AT_ONCE:
            each = zip(*map(self.look, x.split(AT_ONCE)), strict=True)
            parts = [torch.cat(part) for part in each]
            return parts[0], parts[1], parts[2]
        table = self._table()
        return self._look(x) if table is None else self._looked_up(table, x)

    def _table(self) -> Tensor | None:
        """What there is to see at each level, (3, m, levels); None where there are no levels.

        It is made anew when the numbers were learned or loaded anew: nothing else changes them.
        """
        of = list(self.buffers())
        if self._kept is not None and all(a is b for a, b in zip(self._kept[0], of, strict=True)):
            return self._kept[1]
        if not self.levels:
            return None
        levels = torch.arange(self.levels, dtype=torch.float64, device=self.knots_.device)
        seen = [self._look(some) for some in levels[:, None].expand(-1, len(self.last_)).split(64)]
        table = torch.stack([torch.cat(part).T for part in zip(*seen, strict=True)])
        self._kept = of, table
        return table

    def _load_from_state_dict(self, *args: Any, **named: Any) -> None:
        self._kept = None  # numbers are copied into the same tensors
        super()._load_from_state_dict(*args, **named)

    def _looked_up(self, table: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of levels x (n, m), by a table of it."""
        gap = torch.isnan(x)
        m, levels = table.shape[1:]
        code = x.nan_to_num().clamp(0, levels - 1).long()
        at = code + levels * torch.arange(m, device=x.device)
        low, high, log_p = (part.take(at) for part in table.flatten(1))
        out = (x < 0) | (x > levels - 1)
        return (
            low.masked_fill(gap, math.nan),
            high.masked_fill(gap, math.nan),
            log_p.masked_fill(out, -math.inf).masked_fill(gap, 0.0),
        )

    def _look(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same, cell by cell."""
        gap = torch.isnan(x)
        filled = x.nan_to_num()
        heavy = torch.full_like(filled, -math.inf)
        if self.some_atoms:
            same = self.atoms_[None] == filled[..., None]
            heavy = torch.where(same, self.log_weights_, -math.inf).amax(-1)
        if self.some_whole:
            below, above = self._smooth(filled - self.width), self._smooth(filled + self.width)
        else:
            below = above = self._smooth(filled)
        log_p = self._cell(filled, heavy, below, above)
        if self.some_atoms:
            edges = [
                self._with_atoms(smooth, before)
                for smooth, before in (
                    (below, self.atoms_[None] < filled[..., None]),
                    (above, self.atoms_[None] <= filled[..., None]),
                )
            ]
        else:
            edges = [below[:2], above[:2]] if self.some_whole else [below[:2]]
        low, *rest = (score_of(*logs) for logs in edges)
        high = rest[0] if rest else low
        mass = torch.isfinite(heavy)
        low = torch.where(self.whole | mass, low, high)
        # beyond an atom at a bound there is nothing
        low = low.masked_fill(mass & (filled <= self.least), -FAR)
        high = high.masked_fill(mass & (filled >= self.most), FAR)
        return (
            low.masked_fill(gap, math.nan),
            high.masked_fill(gap, math.nan),
            log_p.masked_fill(gap, 0.0),
        )

    def _cell(
        self, x: Tensor, heavy: Tensor, below: tuple[Tensor, ...], above: tuple[Tensor, ...]
    ) -> Tensor:
        """Log of the mass of whole numbers and atoms, and of the density elsewhere."""
        log_p = self.log_smooth_ + below[2]
        log_p = torch.where(torch.isfinite(heavy), heavy, log_p)
        if self.some_whole:
            upper = below[1] < below[0]
            a = torch.where(upper, below[1], above[0])
            b = torch.where(upper, above[1], below[0])
            mass = torch.where(b - a > -CUT_OFF, below[2], log_minus(a, b))
            cell = torch.logaddexp(heavy, self.log_smooth_ + mass)
            log_p = torch.where(self.whole, cell, log_p)
        return log_p.masked_fill((x < self.least) | (x > self.most), -math.inf)

    def _with_atoms(self, smooth: tuple[Tensor, ...], before: Tensor) -> tuple[Tensor, Tensor]:
        """log F and log (1 − F), of the smooth part and of the atoms, ``before`` or not."""
        w = self.log_weights_[None].expand(before.shape)
        below = torch.where(before, w, -math.inf).logsumexp(-1)
        above = torch.where(before, -math.inf, w).logsumexp(-1)
        return (
            torch.logaddexp(below, self.log_smooth_ + smooth[0]),
            torch.logaddexp(above, self.log_smooth_ + smooth[1]),
        )

    @property
    def some_atoms(self) -> bool:
        """Has any column mass at a value?"""
        return self.atoms_.shape[1] > 0

    def invert(self, z: Tensor) -> Tensor:
        """The values (n, m) whose cells hold the scores z."""
        if not self.some_atoms:
            logs = torch.special.log_ndtr(z), torch.special.log_ndtr(-z)
            return self.tidied(self._smooth_quantile(*logs)).masked_fill(torch.isnan(z), math.nan)
        F, S = torch.special.ndtr(z), torch.special.ndtr(-z)
        # F before each atom, of the smooth part and of the atoms that come first
        w = self.log_weights_.exp()
        first = w.cumsum(1) - w
        G = torch.stack([self._smooth(a[None])[0][0] for a in self._atoms_in_reach()], 1).exp()
        before = first + self.log_smooth_.exp()[:, None] * G
        before = torch.where(torch.isfinite(self.atoms_), before, math.inf)
        k = (before[None] <= F[..., None]).sum(-1) - 1  # the last atom that begins before z
        at = k.clamp_min(0).T
        start, weight = before.gather(1, at).T, w.gather(1, at).T
        hit = (k >= 0) & (start + weight > F)
        taken = torch.where(k >= 0, first.gather(1, at).T + weight, 0.0)
        after = w.flip(1).cumsum(1).flip(1) - w  # of the atoms above, exactly 0 above the last
        left = torch.where(k >= 0, after.gather(1, at).T, w.sum(1))
        smooth = self.log_smooth_
        log_F = (F - taken).clamp_min(0).log() - smooth
        log_S = (S - left).clamp_min(0).log() - smooth
        none = ~torch.isfinite(self.atoms_).any(1)
        log_F = torch.where(none, torch.special.log_ndtr(z), log_F).clamp_max(0)
        log_S = torch.where(none, torch.special.log_ndtr(-z), log_S).clamp_max(0)
        # the smaller of both is the one that is precise
        x = torch.where(hit, self.atoms_.gather(1, at).T, self._smooth_quantile(log_F, log_S))
        return self.tidied(x).masked_fill(torch.isnan(z), math.nan)

    def tidied(self, x: Tensor) -> Tensor:
        """Numbers (n, m) brought between the ends, to whole numbers, and to the data's decimals."""
        x = torch.where(self.whole, x.round(), x)
        places = torch.where(self.step > 0, (1 / self.step).round(), 1.0)
        x = torch.where(self.step > 0, (x * places).round() / places, x)
        return torch.maximum(torch.minimum(x, self.ends_[:, 1]), self.ends_[:, 0])

    def n_parameters(self) -> int:
        """Knots with their scores, four numbers of tails, and atoms."""
        knots = int((self.last_ + 1).sum())
        return 2 * knots + 4 * len(self.last_) + 2 * int(torch.isfinite(self.atoms_).sum())

    def _atoms_in_reach(self) -> list[Tensor]:
        """The atoms, place by place, (m,) each, padding brought to where G is 1."""
        top = self.knots_.gather(1, self.last_[:, None])
        return list(torch.where(torch.isfinite(self.atoms_), self.atoms_, top).T)


class _Fitted:
    """What is learned of one column: sorted values v, in the order of the class above."""

    def __init__(
        self,
        v: np.ndarray,
        whole: bool,
        bounds: tuple[float | None, float | None],
        atoms: tuple[float, ...],
    ) -> None:
        n = len(v)
        value, count = np.unique(v, return_counts=True)
        self.ends = [
            -math.inf if bounds[0] is None else bounds[0],
            math.inf if bounds[1] is None else bounds[1],
        ]
        once = (np.sum(count == 1) + 0.5) / (n + 1)  # the share of new values (Good & Turing)
        few = whole and len(value) <= MOST
        if few or len(value) == 1:
            self.atoms, weight = value, count / n * (1 - once)
            self.ends = [max(self.ends[0], value[0]), min(self.ends[1], value[-1])]
            rest = v
        else:
            heavy = spikes(value, count) if whole else np.isin(value, atoms)
            self.atoms, weight = value[heavy], count[heavy] / (n + 0.5)
            rest = v[~np.isin(v, self.atoms)]
            if len(rest) < 3:
                rest = v
        self.weights, self.smooth = weight, 1 - weight.sum()
        half = 0.5 if whole else 0.0
        low = None if bounds[0] is None else bounds[0] - half
        high = None if bounds[1] is None else bounds[1] + half
        self.knots, self.scores = _knots(rest, whole, low, high)
        rise = np.diff(self.scores) / np.diff(self.knots)
        width = np.diff(self.knots)
        inner = (width[:-1] * rise[1:] + width[1:] * rise[:-1]) / (width[:-1] + width[1:])
        self.slopes = np.concatenate([rise[:1], inner, rise[-1:]])
        k, z = self.knots, self.scores
        self.tails = [
            _tail(k[0] - rest[rest < k[0]], None if low is None else k[0] - low, -z[0], rise[0]),
            _tail(
                rest[rest > k[-1]] - k[-1], None if high is None else high - k[-1], z[-1], rise[-1]
            ),
        ]


def _knots(
    v: np.ndarray, whole: bool, low: float | None, high: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Places where G is known, and Φ⁻¹(G) there; v: sorted values, half-open cells if whole."""
    n = len(v)
    if v[0] == v[-1]:  # nothing is known of the scale
        wide = 1.0 if whole else max(abs(v[0]), 1.0)
        a, b = v[0] - wide, v[0] + wide
        a = a if low is None or a > low else (v[0] + low) / 2
        b = b if high is None or b < high else (v[0] + high) / 2
        if a < b:
            return np.array([a, b]), ndtri(np.array([0.25, 0.75]))
        return np.array([v[0] - 0.25, v[0] + 0.25]), ndtri(np.array([0.25, 0.75]))
    most = int(np.clip(round(1.2 * n ** (1 / 3)), 2, KNOTS))
    tail = min(0.25, max(0.02, 8 / n))
    p = np.linspace(tail, 1 - tail, most)
    x = np.quantile(v, p, method="hazen")
    x = np.unique(np.floor(x) + 0.5 if whole else x)
    if whole:
        inside = (x > v[0]) & (x < v[-1])
        x = x[inside] if inside.any() else np.array([v[0] + 0.5])
        if len(x) == 1:
            x = (
                np.array([x[0] - 0.5, x[0] + 0.5])
                if v[-1] - v[0] < 2
                else np.unique([v[0] + 0.5, x[0], v[-1] - 0.5])
            )
    below, to = np.searchsorted(v, x, "left"), np.searchsorted(v, x, "right")
    p = (below + to) / (2 * n)
    p = np.clip(p, 0.5 / (n + 1), 1 - 0.5 / (n + 1))
    keep = np.concatenate([[True], np.diff(p) > 0])
    x, p = x[keep], p[keep]
    if len(x) == 1:
        wide = (v[-1] - v[0]) / 2
        x, p = np.array([x[0], x[0] + wide]), np.array([p[0], (1 + p[0]) / 2])
    return x, ndtri(p)


def _tail(e: np.ndarray, room: float | None, z: float, rise: float) -> list[float]:
    """σ and ξ of a generalised Pareto tail with exceedances e, that ends where the room does.

    By probability-weighted moments (Hosking & Wallis, 1987), drawn towards 0, the exponential,
    where few are seen. z and rise: the score at its start, from its own side, and |∂z/∂x| there.
    """
    n = len(e)
    hazard = math.exp(-0.5 * (z * z + LOG_2PI) - log_ndtr(-z))
    plain = 1 / (hazard * rise)
    if room is not None:
        if room <= 0:
            return [1e-12, 0.0]
        inside = np.minimum(e, room * (1 - 1e-3))
        power = (n + 1) / (1 / max(room / plain, 1e-3) + np.sum(-np.log1p(-inside / room)))
        power = min(max(power, 0.2), 1e3)
        return [room / power, -1 / power]
    if n < 3:
        return [(plain + e.sum()) / (1 + n), 0.0]
    e = np.sort(e)
    mean, weighted = e.mean(), np.mean(e * (1 - (np.arange(n) + 0.65) / n))
    if mean <= 0 or mean - 2 * weighted <= 0:
        return [plain, 0.0]
    shape = float(np.clip((2 - mean / (mean - 2 * weighted)) * n / (n + 10), 0.0, 0.9))
    return [mean * (1 - shape), shape]


class Words(nn.Module):
    """Columns of bits or categories: a share each, in an order that puts like beside like."""

    log_shares_: Tensor  # (m, L), −inf where a column has fewer
    order_: Tensor  # (m, L): the category at each rank
    counts: Tensor

    def __init__(self, levels: list[int]) -> None:
        super().__init__()
        self.levels = levels
        m, most = len(levels), max(levels)
        self.register_buffer("counts", torch.tensor(levels, dtype=torch.long), False)
        self.register_buffer("log_shares_", torch.zeros(m, most, dtype=torch.float64))
        self.register_buffer("order_", torch.arange(most).repeat(m, 1))

    def fit(self, x: Tensor, direction: Tensor | None = None) -> None:
        """Shares of columns x (n, m), and their order by the mean of ``direction`` (n, m)."""
        for j, levels in enumerate(self.levels):
            seen = ~torch.isnan(x[:, j])
            codes = x[seen, j].long()
            count = torch.bincount(codes, minlength=levels).double()
            few = 0.5 if levels <= 20 else 10 / levels
            shares = (count + few) / (len(codes) + few * levels)
            self.log_shares_[j] = -math.inf
            self.log_shares_[j, :levels] = shares.log()
            if direction is not None and levels > 2:
                total = torch.zeros(levels, dtype=x.dtype, device=x.device)
                total.index_add_(0, codes, direction[seen, j])
                rank = torch.argsort(total / count.clamp_min(1), stable=True)
                self.order_[j, :levels] = rank

    def n_parameters(self) -> int:
        """One less than the categories of each column."""
        return sum(levels - 1 for levels in self.levels)

    def _cumulative(self) -> tuple[Tensor, Tensor]:
        """F before each rank, and the shares in rank order, (m, L) each."""
        shares = self.log_shares_.gather(1, self.order_).exp()
        return shares.cumsum(1) - shares, shares

    def look(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Φ⁻¹ of F before and after each cell, and log of its share, (n, m) each.

        A code without a share has log-probability −inf.
        """
        gap = torch.isnan(x)
        before, shares = self._cumulative()
        rank = self.order_.argsort(1)
        codes = x.nan_to_num().long().T
        known = codes < self.counts[:, None]
        codes = codes.clamp_max(rank.shape[1] - 1)
        at = rank.gather(1, codes)
        low = before.gather(1, at)
        high = (low + shares.gather(1, at)).clamp_max(1)
        log_p = torch.where(known, self.log_shares_.gather(1, codes), -math.inf).T
        low = torch.special.ndtri(low).clamp_min(-FAR).T
        high = torch.special.ndtri(high).clamp_max(FAR).T
        return (
            low.masked_fill(gap, math.nan),
            high.masked_fill(gap, math.nan),
            log_p.masked_fill(gap, 0.0),
        )

    def invert(self, z: Tensor) -> Tensor:
        """The codes (n, m) whose cells hold the scores z."""
        before, _ = self._cumulative()
        u = torch.special.ndtr(z).T.contiguous()
        last = self.counts[:, None] - 1
        at = (torch.searchsorted(before, u, right=True) - 1).clamp_min(0).minimum(last)
        return self.order_.gather(1, at).T.double().masked_fill(torch.isnan(z), math.nan)


def _main_direction(x: Tensor, marginals: Marginals) -> Tensor | None:
    """For each column of words, the first principal score of all other columns, (n, m).

    None where no column has more than two words. Numbers enter by their scores, words by a 1 at
    the value over the root of its share, as in correspondence analysis.
    """
    words = marginals.words_
    assert words is not None
    if max(words.levels) <= 2 or x.shape[1] < 2:
        return None
    pieces, column = [], []
    if marginals.numbers_ is not None:
        cells = x[:, marginals.at_numbers]
        low, high, _ = marginals.numbers_.look(cells)
        pieces.append(between(low, high, torch.full_like(low, 0.5)).nan_to_num())
        column += marginals.at_numbers.tolist()
    for j, levels in zip(marginals.at_words.tolist(), words.levels, strict=True):
        if levels > 200:
            continue
        hot = torch.nn.functional.one_hot(x[:, j].nan_to_num().long(), levels).double()
        hot = hot * ~torch.isnan(x[:, j : j + 1])
        share = hot.mean(0).clamp_min(1 / len(x))
        pieces.append((hot - share) / share.sqrt())
        column += [j] * levels
    y = torch.cat(pieces, 1)
    if y.shape[1] > 2000:
        return None
    of = torch.tensor(column, device=x.device)
    C = y.T @ y / len(y)
    out = torch.zeros(len(x), len(words.levels), dtype=torch.float64, device=x.device)
    for i, (j, levels) in enumerate(zip(marginals.at_words.tolist(), words.levels, strict=True)):
        if levels <= 2:
            continue
        others = of != j
        if others.any():
            some = others.nonzero().squeeze(1)
            v = torch.linalg.eigh(C[some][:, some])[1][:, -1]
            out[:, i] = y[:, some] @ v
    return out
