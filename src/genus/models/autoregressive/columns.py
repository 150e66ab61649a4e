"""How a column of each kind enters a network as numbers and leaves it as parameters."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions import marginals
from genus.distributions.bijections import Standardise
from genus.distributions.columns import log_shares, share_of_ones
from genus.distributions.draws import choose, flip
from genus.distributions.levels import log_between, log_normal_mass
from genus.space import Space

Mixture = tuple[Tensor, Tensor, Tensor]
Cells = tuple[Tensor, Tensor, Tensor]  # scores of both ends, log of the marginal

ALL = slice(None)
SHARE = 0.01  # of every conditional that is the column's marginal
THIN = 1e-3  # a cell as narrow as this on the scale of scores has the mass of its middle
NARROWEST, WIDEST = 0.01, 1.0  # least σ of scores, and largest log σ
EDGE = 7.0  # scores from which on densities are as thick as the marginal's
FAR = 5.0  # scores further from 0 are seen as this
LOSE = 1 / 8  # rows that lose some of their cells while a model trains


class Part(nn.Module):
    """Columns of one kind, n_in features and n_out parameters each; ``at`` picks some of them."""

    columns: Tensor

    def __init__(self, columns: list[int], n_in: int, n_out: int) -> None:
        super().__init__()
        self.n_in, self.n_out = n_in, n_out
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def of(self, x: Tensor) -> Tensor:
        """Its columns of rows (n, d)."""
        return x if x.shape[1] == len(self.columns) else x[:, self.columns]

    def prepare(self, x: Tensor) -> None:
        """Learn marginals from rows x (n, m), where the part has them."""

    def fit(self, x: Tensor) -> Tensor:
        """Take scales from rows x (n, m); the parameters of the columns' marginals, (m, n_out)."""
        raise NotImplementedError

    def cells(self, x: Tensor, at: slice = ALL) -> Any:
        """What ``features`` and ``log_prob`` take of rows (n, m), where gaps hold any value."""
        return x.nan_to_num()

    def features(self, x: Any, at: slice = ALL) -> Tensor:
        """(n, m) → (n, m, n_in)."""
        raise NotImplementedError

    def log_prob(self, theta: Tensor, x: Any, at: slice = ALL) -> Tensor:
        """(n, m, n_out), (n, m) → (n, m), nats."""
        raise NotImplementedError

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        """(n, m, n_out) → (n, m)."""
        raise NotImplementedError


class Bits(Part):
    """log p = log σ((2x − 1) ℓ).

    The feature is x less its mean; ``several`` orders get a 1 as well, which says that x is seen.
    """

    mean_: Tensor

    def __init__(self, columns: list[int], several: bool) -> None:
        super().__init__(columns, 1 + several, 1)
        self.register_buffer("mean_", torch.full((len(columns),), 0.5, dtype=torch.float64))

    def fit(self, x: Tensor) -> Tensor:
        self.mean_.copy_(share_of_ones(x.double()))
        return torch.logit(self.mean_)[:, None]

    def features(self, x: Tensor, at: slice = ALL) -> Tensor:
        return _and_one((x - self.mean_[at])[..., None], self.n_in)

    def log_prob(self, theta: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        return F.logsigmoid((2 * x - 1) * theta[..., 0])

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        return flip(torch.sigmoid(theta[..., 0]), rng)


class Levels(Part):
    """log p = ℓ_x − log Σ_v e^{ℓ_v}. A feature a level, 1 at x."""

    def __init__(self, columns: list[int], levels: int) -> None:
        super().__init__(columns, levels, levels)

    def fit(self, x: Tensor) -> Tensor:
        return log_shares(x, self.n_out)

    def features(self, x: Tensor, at: slice = ALL) -> Tensor:
        return F.one_hot(x.long(), self.n_in).to(x.dtype)

    def log_prob(self, theta: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        return theta.gather(-1, x.long()[..., None])[..., 0] - theta.logsumexp(-1)

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        return choose(theta.softmax(-1), rng).to(theta.dtype)


class Merged(nn.Module):
    """A column of very many words: the commonest are classes of their own, the others are one.

    p(x) = p(class of x) p(x | class), the last by the shares of the words in it.
    """

    kept = 1023  # words with a class of their own
    class_: Tensor  # (levels,) of each word
    word_: Tensor  # (kept,) of each class of its own
    log_within_: Tensor  # (levels,) log p(x | class)

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.register_buffer("class_", torch.zeros(levels, dtype=torch.long))
        self.register_buffer("word_", torch.zeros(self.kept, dtype=torch.long))
        self.register_buffer("log_within_", torch.zeros(levels, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Count the words x (n,), half a row of each added; NaN is left out."""
        codes = x[~torch.isnan(x)].long()
        count = torch.bincount(codes, minlength=len(self.class_)).double() + 0.5
        rank = count.argsort(descending=True, stable=True)
        common, rare = rank[: self.kept], rank[self.kept :]
        self.word_.copy_(common)
        self.class_.fill_(self.kept)
        self.class_[common] = torch.arange(self.kept, device=x.device)
        self.log_within_.zero_()
        self.log_within_[rare] = (count[rare] / count[rare].sum()).log()

    def classes(self, x: Tensor) -> Tensor:
        """The class of each word, in the type of x; NaN stays."""
        known = self.class_[x.nan_to_num().long()].to(x.dtype)
        return torch.where(torch.isnan(x), math.nan, known)

    def log_within(self, x: Tensor) -> Tensor:
        """log p(x | class of x); 0 of NaN."""
        log_p = self.log_within_[x.nan_to_num().long()]
        return log_p.masked_fill(torch.isnan(x), 0.0)

    def words(self, c: Tensor, u: Tensor) -> Tensor:
        """A word of each class c, by uniforms u."""
        rare = self.class_ == self.kept
        share = torch.where(rare, self.log_within_.exp(), 0.0).cumsum(0)
        drawn = torch.searchsorted(share, u.double() * share[-1], right=True)
        own = self.word_[c.long().clamp_max(self.kept - 1)]
        return torch.where(c < self.kept, own, drawn.clamp_max(len(share) - 1)).double()


class Wide(Levels):
    """Very many words: a logit for each of the commonest and one for the others together."""

    merged_: Any

    def __init__(self, columns: list[int], levels: int) -> None:
        super().__init__(columns, Merged.kept + 1)
        self.merged_ = nn.ModuleList(Merged(levels) for _ in columns)

    def prepare(self, x: Tensor) -> None:
        for merged, column in zip(self.merged_, x.T, strict=True):
            merged.fit(column)

    def fit(self, x: Tensor) -> Tensor:
        return super().fit(self._each("classes", x, ALL))

    def cells(self, x: Tensor, at: slice = ALL) -> Any:
        """The classes of words, 0 in gaps, and the log of their shares within these."""
        classes = self._each("classes", x, at).nan_to_num()
        return classes, self._each("log_within", x, at)

    def features(self, x: Any, at: slice = ALL) -> Tensor:
        return super().features(x[0], at)

    def log_prob(self, theta: Tensor, x: Any, at: slice = ALL) -> Tensor:
        return super().log_prob(theta, x[0], at) + x[1]

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        c = super().draw(theta, at, rng)
        u = torch.rand(c.shape, generator=rng, dtype=torch.float64, device=c.device)
        columns = zip(list(self.merged_)[at], c.T, u.T, strict=True)
        return torch.stack([merged.words(*column) for merged, *column in columns], 1)

    def _each(self, what: str, x: Tensor, at: slice) -> Tensor:
        columns = zip(list(self.merged_)[at], x.T, strict=True)
        return torch.stack([getattr(merged, what)(column) for merged, column in columns], 1)


class Numbers(Part):
    """A mixture of K normals of y = (x − m)/s: its density, or its mass at a level.

    The density is that over s. With ``levels`` it is the mass within ½ of the
    level; the ends take the tails.
    """

    floor = 0.01  # of σ, in standard units
    shift_: Tensor
    scale_: Tensor
    levels: Tensor

    def __init__(
        self, columns: list[int], levels: list[int], K: int, several: bool, ends: bool = True
    ) -> None:
        super().__init__(columns, 1 + several, 3 * K)
        self.K, self.whole, self.ends = K, any(levels), ends
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("shift_", torch.zeros(len(columns), dtype=torch.float64))
        self.register_buffer("scale_", torch.ones(len(columns), dtype=torch.float64))

    def fit(self, x: Tensor) -> Tensor:
        f = Standardise(x.shape[1]).to(x.device).fit(x)
        self.shift_.copy_(f.mean_)
        self.scale_.copy_(f.std_)
        q = (torch.arange(self.K, device=x.device).double() + 0.5) / self.K
        mu = torch.nanquantile(self._standard(x), q, 0).T
        return torch.cat([torch.zeros_like(mu), mu, torch.full_like(mu, math.log(0.5))], 1)

    def cells(self, x: Tensor, at: slice = ALL) -> Tensor:
        return torch.where(torch.isnan(x), self.shift_[at], x.double())

    def features(self, x: Tensor, at: slice = ALL) -> Tensor:
        return _and_one(self._standard(x, at).clamp(-10, 10)[..., None], self.n_in)

    def log_prob(self, theta: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        log_pi, mu, sigma = self._mixture(theta)
        r = self._standard(x, at)[..., None] - mu
        if not self.whole:
            log_n = -0.5 * (r / sigma).square() - torch.log(sigma) - 0.5 * math.log(2 * math.pi)
            return torch.logsumexp(log_pi + log_n, -1) - torch.log(self.scale_[at])
        half, levels = (0.5 / self.scale_[at])[:, None], self.levels[at][:, None]
        inside = (1.0, 4)  # a level that has a neighbour on either side
        place, levels = (x[..., None], levels) if self.ends else map(torch.tensor, inside)
        log_p = log_normal_mass(place, levels, r, half, sigma)
        return torch.logsumexp(log_pi + log_p, -1)

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        log_pi, mu, sigma = self._mixture(theta)
        k = choose(log_pi.exp(), rng)[..., None]
        mu, sigma = mu.gather(-1, k)[..., 0], sigma.gather(-1, k)[..., 0]
        e = torch.randn(mu.shape, generator=rng, dtype=mu.dtype, device=mu.device)
        x = (mu + sigma * e) * self.scale_[at] + self.shift_[at]
        if self.whole and self.ends:
            return x.round().clamp_min(0).minimum(self.levels[at] - 1.0)
        return x.round() if self.whole else x

    def _standard(self, x: Tensor, at: slice = ALL) -> Tensor:
        return (x.double() - self.shift_[at]) / self.scale_[at]

    def _mixture(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log π, μ and σ, (n, m, K) each."""
        logits, mu, log_s = theta.double().split(self.K, -1)
        return logits.log_softmax(-1), mu, self.floor + log_s.clamp_max(20).exp()


class Scored(Part):
    """Numbers on the scale of their own marginal: a mixture of K normals of its scores z.

    A value with mass has that between the scores of the ends of its cell, (z⁻, z⁺); any other the
    density of z times f(x)/φ(z), f that of the marginal. A share ε of the mixture is the standard
    normal, which is the marginal itself. Features: the middle of the cell, and a 1, which says that
    it is seen.
    """

    def __init__(self, space: Space, columns: list[int], K: int) -> None:
        super().__init__(columns, 2, 3 * K)
        self.K = K
        self.marginal_ = marginals.Numbers(space, columns)

    def prepare(self, x: Tensor) -> None:
        self.marginal_.fit(x.double())

    def fit(self, x: Tensor) -> Tensor:
        return start_of_scores(self.K).to(x.device).expand(x.shape[1], -1)

    def cells(self, x: Tensor, at: slice = ALL) -> Cells:
        return self.marginal_.some(at).look(x.double())

    def features(self, x: Cells, at: slice = ALL) -> Tensor:
        z = middle(x)
        return torch.stack([z, torch.ones_like(z)], -1)

    def log_prob(self, theta: Tensor, x: Cells, at: slice = ALL) -> Tensor:
        return log_mass(mixture_of_scores(theta, self.K), x)

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        log_pi, mu, sigma = mixture_of_scores(theta, self.K)
        k = choose(log_pi.exp(), rng)[..., None]
        e = torch.randn(k.shape[:-1], generator=rng, dtype=mu.dtype, device=mu.device)
        z = mu.gather(-1, k)[..., 0] + sigma.gather(-1, k)[..., 0] * e
        return self.marginal_.some(at).invert(z)


def mixture_of_scores(theta: Tensor, K: int) -> Mixture:
    """log π, μ and σ of K normals and of the standard one, (…, K + 1) each, float64."""
    logits, mu, log_s = theta.double().split(K, -1)
    log_pi = logits.log_softmax(-1) + math.log1p(-SHARE)
    sigma = NARROWEST + log_s.clamp_max(WIDEST).exp()
    return (
        F.pad(log_pi, (0, 1), value=math.log(SHARE)),
        F.pad(mu, (0, 1), value=0.0),
        F.pad(sigma, (0, 1), value=1.0),
    )


def start_of_scores(K: int) -> Tensor:
    """Parameters (3 K,) of normals that cover the standard one."""
    mu = torch.special.ndtri((torch.arange(K).double() + 0.5) / K)
    return torch.cat([torch.zeros_like(mu), mu, torch.full_like(mu, math.log(0.5))])


def log_mass(mixture: Mixture, cells: Cells) -> Tensor:
    """log p of cells (n, m) whose scores have a mixture (n, m, K + 1); of gaps any number."""
    log_pi, mu, sigma = mixture
    low, high, log_m = cells
    low, high = low.nan_to_num(-1.0), high.nan_to_num(1.0)
    thin = high - low < THIN
    # beyond, and at bounds, a marginal's density and scores need not agree to the last digit
    z = ((low + high) / 2).clamp(-EDGE, EDGE)
    log_n = -0.5 * ((z[..., None] - mu) / sigma).square() - sigma.log()
    density = log_n + (log_m + 0.5 * z.square())[..., None]
    # a cell of some width where it is not looked at, so that gradients are finite
    high = torch.where(thin, low + THIN, high)
    mass = log_between((low[..., None] - mu) / sigma, (high[..., None] - mu) / sigma)
    each = torch.where(thin[..., None], density, mass)
    return torch.logsumexp(log_pi + each, -1)


def middle(cells: Cells) -> Tensor:
    """The scores of the middles of cells, which networks see; NaN stays."""
    low, high, _ = cells
    return marginals.between(low, high, torch.full_like(low, 0.5)).clamp(-FAR, FAR)


def loses(space: Space, x: Tensor) -> bool:
    """Should rows lose cells while a model trains, so that it knows what to do with gaps?

    Where rows x have some, and where numbers or words say that this is no set of bits or pixels.
    """
    numbers = any(kind in ("integer", "continuous") for kind in space.kinds)
    return numbers or any(space.open) or bool(torch.isnan(x).any())


def lost(n: int, d: int, rng: torch.Generator) -> Tensor:
    """Cells (n, d) that are lost: a share, drawn a row, in one row of eight."""
    u = torch.rand(n, 2 + d, generator=rng, device=rng.device)
    return (u[:, :1] < LOSE) & (u[:, 2:] < u[:, 1:2])


def _and_one(f: Tensor, n_in: int) -> Tensor:
    return f if n_in == 1 else torch.cat([f, torch.ones_like(f)], -1)
