r"""Mixture of categorical distributions, alias latent class analysis (Lazarsfeld & Henry, 1968).

On bits it is the mixture of Bernoullis.

    p(x) = Σ_k π_k Π_j p_k(x_j)
    p_k(x_j) = θ_kjv at x_j = v, of words, bits and levels
    p_k(x_j) = θ_kjv f_j(x_j) / F_j(bin v) at x_j in bin v, of numbers
    E:  r_nk = π_k Π_j p_k(x_nj) / p(x_n), j over the observed cells of row n
    M:  θ_kjv = (Σ_n w_n r_nk [x_nj = v] + α/K) / (Σ_n w_n r_nk [x_nj observed] + α L_j/K)
        π_k = (Σ_n w_n r_nk + α/K) / (Σ_n w_n + α)

Numbers are cut into bins, inside which every class has the column's own mass or density f_j
(``genus.distributions.bins``): atoms, bounds, tails and values that fit did not see come out as in
the product of the columns, and EM sees bins alone. α, the pseudo-count, is a Dirichlet prior that
the classes share out. EM climbs log p(X) + log prior (Dempster et al., 1977; MAP). Rows enter as
one-hot vectors F, so that both steps are matrix products: F logθᵀ and rᵀ F.

Arrays of real numbers have a normal in each class instead, p_k(x_j) = N(x_j | m_kj, s²_kj), whose M
step is the moments of column j under r, with α/K more rows of its own mean and variance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genus.distributions.bins import Bins
from genus.distributions.columns import check_observed
from genus.distributions.coordinates import MARGINALS
from genus.distributions.draws import choose
from genus.distributions.normals import variance_floor
from genus.distributions.points import LOG_2PI
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.starts import best_start, sample_rows, warn_unless_converged
from genus.learn.sums import solve
from genus.likelihood import Exact, LogProb
from genus.memory import check_fits
from genus.model import Model
from genus.models.mixtures.components import (
    Clusters,
    k_means,
    responsibilities_,
    row_weights,
    weighted,
)
from genus.settings import Number, OneOf, Rule, Whole
from genus.space import Space
from genus.typing import ArrayLike, GivenLike, RowsLike

HELD = 1 << 22  # numbers held at a time
SAMPLE = 500  # distinct rows a class from which a start is drawn
NARROW = 16  # mean number of levels up to which one-hot products beat look-ups
FLOOR = 1e-4  # least variance in a class, as a share of the column's
MOST = 30  # bins of whole numbers and levels that have a table, at most
PLACES = 64  # inside a bin, by which its mean is found


class CategoricalMixture(Clusters, Model):
    r"""Latent classes: within a class all cells are independent; learned by EM.

        p(x) = Σ_k π_k Π_j p_k(x_j)

    Words, bits and levels have a table of probabilities in each class; numbers have one of bins,
    inside which they keep the column's own distribution, or, in arrays of real numbers, a normal.
    Every probability is ``Exact``, whatever
    is missing (NaN).

    Sources: Lazarsfeld & Henry (1968), Latent structure analysis; Dempster, Laird & Rubin (1977).

    Parameters
    ----------
    n_components : int, default=10
        K ≥ 1 classes.
    pseudo_count : float, default=1.0
        α > 0, rows' worth of prior on every level, shared out among the classes.
    n_init : int, default=1
        Starts (k-means++ on the one-hot rows); the one with the best likelihood is kept.
    max_iter : int, default=500
        Iterations of EM, at most.
    tol : float, default=0.0001
        EM stops when an iteration gains less than ``tol`` nats a row.
    marginals : {"learned", "affine", "logit"} or None, default=None
        How numbers are held: ``learned``, in bins; ``affine`` or ``logit``, which are one here, in
        the units of the data: real numbers by a normal in each class, whole numbers by a table of
        all levels, beside which no other can be. None: affine for arrays of real numbers, else
        learned.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Attributes
    ----------
    weights_
        π, (K,).
    log_p_
        log θ, (K, Σ L_j), the levels or bins of all cells side by side;
        ``profiles()`` says by name what a class expects.
    means_
        Of cells that have a normal, (K, c).
    variances_
        Of the same, (K, c).
    converged_
        Whether EM stopped because of ``tol``.
    n_iter_
        Iterations made.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.repeat([[0, 0, 1], [1, 1, 0]], 50, axis=0)
    >>> model = genus.CategoricalMixture(2, random_state=0).fit(X)
    >>> model.complete([[1, np.nan, np.nan]], random_state=0).tolist()
    [[1, 1, 0]]
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "n_components": Whole(1),
        "pseudo_count": Number(above=0, why=", or unseen values get probability 0"),
        "n_init": Whole(1),
        "max_iter": Whole(1),
        "tol": Number(0),
        "marginals": OneOf(*MARGINALS) | None,
    }
    allow_nan = True
    learned_by = "EM"
    learned_shapes = ("log_p_", "_levels")

    bins_: Bins
    weights_: Tensor
    log_p_: Tensor
    means_: Tensor
    variances_: Tensor
    _centre: Tensor  # mean and spread of the continuous columns, the units of the sums
    _spread: Tensor
    _count: Tensor  # the sums of the last M step: a stream goes on from them
    _levels: Tensor
    _moments: Tensor

    def __init__(
        self,
        n_components: int = 10,
        pseudo_count: float = 1.0,
        n_init: int = 1,
        max_iter: int = 500,
        tol: float = 1e-4,
        marginals: str | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.pseudo_count = pseudo_count
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.marginals = marginals
        self.random_state = random_state

    # ------------------------------------------------------------------ cells

    def build(self, space: Space) -> None:
        K = self.n_components
        if self._in_bins():
            self.bins_ = Bins(space, MOST, MOST)
        levels = () if self._in_bins() else space.cardinality
        c = levels.count(0)
        kw: dict[str, Any] = {"dtype": torch.float64}
        self.register_buffer("weights_", torch.full((K,), 1 / K, **kw))
        self.register_buffer("means_", torch.zeros(K, c, **kw))
        self.register_buffer("variances_", torch.ones(K, c, **kw))
        for name in ("_centre", "_spread"):
            self.register_buffer(name, torch.ones(c, **kw))
        self.register_buffer("_count", torch.zeros(K, **kw))
        self.register_buffer("_moments", torch.zeros(3, K, c, **kw))
        self._allocate(sum(levels))

    def _in_bins(self) -> bool:
        """Are numbers held in bins?"""
        usual = "affine" if self.space_.kind == "continuous" else "learned"
        return (self.marginals or usual) == "learned"

    def _allocate(self, levels: int) -> None:
        """Tables of so many levels and bins, side by side."""
        shape = len(self.weights_), levels
        what = f"n_components={shape[0]} over columns of {levels:,} levels"
        check_fits(4 * math.prod(shape), what, "pass marginals='learned', or merge rare words")
        self.register_buffer("log_p_", self.weights_.new_zeros(shape))
        self.register_buffer("_levels", self.weights_.new_zeros(shape))

    def _cut(self, x: Tensor, w: Tensor) -> None:
        """Learn the bins of numbers from rows x (n, d) with weights w, which are repetitions."""
        total = float(w.sum())
        if not bool((w == 1).all()):
            n = int(min(max(total, len(x) / 10), 1 << 20))
            places = (torch.arange(n, dtype=w.dtype, device=w.device) + 0.5) * (total / n)
            x = x[torch.searchsorted(w.cumsum(0), places).clamp_max(len(x) - 1)]
        bins = round(min(max(1.2 * len(x) ** (1 / 3), 4), MOST))  # of real numbers
        self.bins_ = Bins(self.space_, bins, MOST).to(x.device).fit(x)
        self._allocate(sum(self._cards()))

    def _cards(self) -> tuple[int, ...]:
        """Number of levels or bins of every cell; 0 where it has a normal."""
        return self.bins_.cards if self._in_bins() else self.space_.cardinality

    def _tabled(self, device: torch.device) -> Tensor:
        """Whether a cell has a table, (d,)."""
        return torch.tensor([levels > 0 for levels in self._cards()], device=device)

    def _sizes(self, device: torch.device) -> Tensor:
        """Number of levels or bins of every cell that has a table, (e,)."""
        return torch.tensor([c for c in self._cards() if c], dtype=torch.long, device=device)

    def _cells(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, *shape) codes → levels and bins (n, e), numbers (n, c) of normals; NaN if missing."""
        x = x.flatten(1)
        if self._in_bins():
            return self._coded(x), x.new_zeros(len(x), 0, dtype=torch.float64)
        tabled = self._tabled(x.device)
        return x[:, tabled], x[:, ~tabled].double()

    def _coded(self, x: Tensor) -> Tensor:
        """Levels and bins (n, d) of codes x (n, d), NaN where missing."""
        if len(self.bins_.at) == 0:
            return x
        codes = self.bins_.encode(x)
        return torch.where(codes < 0, math.nan, codes)

    def _inside(self, x: Tensor) -> Tensor:
        """Log of the share of its bin that each number has, summed over the cells of a row, (n,).

        Without bins, −inf where a whole number has no level.
        """
        x = x.flatten(1)
        if self._in_bins():
            return self.bins_.log_density(x, self.bins_.encode(x))
        v = x[:, self._tabled(x.device)]
        beyond = ((v < 0) | (v >= self._sizes(x.device))).any(1)
        return torch.zeros(len(x), dtype=torch.float64, device=x.device).masked_fill(
            beyond, -math.inf
        )

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same cells, those of tables as one-hot vectors (n, T) where levels are few."""
        v, y = self._cells(x)
        return self._one_hot(v) if self._narrow() else v, y

    def _narrow(self) -> bool:
        return self.log_p_.shape[1] <= NARROW * sum(levels > 0 for levels in self._cards())

    def _one_hot(self, v: Tensor) -> Tensor:
        """[v_j = level], (n, T); 0 at all levels of a missing cell."""
        sizes = self._sizes(v.device)
        column = torch.arange(len(sizes), device=v.device).repeat_interleave(sizes)
        level = torch.arange(len(column), device=v.device) - (sizes.cumsum(0) - sizes)[column]
        return (v.index_select(1, column) == level).double()

    def _places(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Each cell's place among all levels, (n, e), and whether the cell is observed, (n, e)."""
        sizes = self._sizes(v.device)
        level = v.nan_to_num().long().clamp_min(0).minimum(sizes - 1)
        return level + (sizes.cumsum(0) - sizes), ~torch.isnan(v)

    def _log_joint(self, f: Tensor, y: Tensor) -> Tensor:
        """log π_k + Σ_j log p_k(x_j) over observed cells, (K, n)."""
        out = self.weights_.log()[:, None].expand(-1, len(f)).clone()
        if f.shape[1] and self._narrow():
            out += self.log_p_ @ f.T
        elif f.shape[1]:
            place, seen = self._places(f)
            out += F.embedding_bag(
                place, self.log_p_.T.contiguous(), mode="sum", per_sample_weights=seen.double()
            ).T
        for j in range(y.shape[1]):  # columns are few
            m, var = self.means_[:, j, None], self.variances_[:, j, None]
            out += (-0.5 * ((y[:, j] - m).square() / var + var.log() + LOG_2PI)).nan_to_num()
        return out

    # ------------------------------------------------------------------ EM

    def statistics(self, x: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        """Sums over rows: log-likelihood, weight, and those of an M step.

        Σ w r of rows, of levels, and of 1, z, z² of continuous cells in standard units.
        """
        sums: dict[str, Tensor] = {}
        size = max(
            64,
            HELD
            // max(
                1, self.log_p_.shape[1] if self._narrow() else len(self.weights_) * x[0].numel()
            ),
        )
        for i in range(0, len(x), size):
            cells = self._features(x[i : i + size])
            r, log_p = responsibilities_(self._log_joint(*cells))
            w = torch.ones_like(log_p) if weight is None else weight[i : i + size].double()
            part = self._weighted(*cells, r * w) | {
                "log_likelihood": (log_p * w).sum(),
                "weight": w.sum(),
            }
            sums = {k: sums[k] + v for k, v in part.items()} if sums else part
        return sums

    def _weighted(self, f: Tensor, y: Tensor, r: Tensor) -> dict[str, Tensor]:
        """Σ_n r_kn of rows (K,), of levels (K, T), and of (1, z, z²), (3, K, c).

        The last of the continuous cells that are observed.
        """
        if self._narrow():
            levels = r @ f
        else:
            place, seen = self._places(f)
            each = r.T[:, None] * seen[..., None]
            levels = (
                torch.zeros_like(self.log_p_.T)
                .index_add_(0, place.flatten(), each.flatten(0, 1))
                .T.contiguous()
            )
        z = (y - self._centre) / self._spread
        z, o = z.nan_to_num(), (~torch.isnan(y)).double()
        return {
            "count": r.sum(1),
            "levels": levels,
            "moments": torch.stack([r @ o, r @ z, r @ z.square()]),
        }

    def maximise(self, sums: dict[str, Tensor]) -> None:
        """The M step from those sums."""
        self._count, self._levels, self._moments = sums["count"], sums["levels"], sums["moments"]
        K = len(self.weights_)
        a = self.pseudo_count / K
        self.weights_ = (sums["count"] + a) / (sums["count"].sum() + K * a)
        counts = sums["levels"] + a
        self.log_p_ = counts.log() - self._per_column(counts).log()
        one, z, zz = sums["moments"]
        mean = z / (one + a)
        self.means_ = self._centre + self._spread * mean
        self.variances_ = ((zz - (one + a) * mean.square() + a) / (one + a)).clamp_min(
            FLOOR
        ) * self._spread.square()

    def _per_column(self, levels: Tensor) -> Tensor:
        """Sums over the levels of each cell, (K, T) → (K, T)."""
        sizes = self._sizes(levels.device)
        column = torch.arange(len(sizes), device=levels.device).repeat_interleave(sizes)
        return levels.new_zeros(len(levels), len(sizes)).index_add_(1, column, levels)[:, column]

    def log_prior(self) -> float:
        """log p(θ, π, m, s²) up to a constant, which EM climbs beside the likelihood, in nats."""
        a = self.pseudo_count / len(self.weights_)
        m, v = (self.means_ - self._centre) / self._spread, self.variances_ / self._spread.square()
        return a * float(
            self.weights_.log().sum()
            + self.log_p_.sum()
            - 0.5 * (v.log() + (1 + m.square()) / v).sum()
        )

    @property
    def cell_means(self) -> Tensor:
        """Mean of every cell under each component, (K, d): of discrete cells the expected code.

        Which is a probability where the cell is binary.
        """
        self._check_fitted()
        return self._moments_of_cells()[0]

    def _moments_of_cells(self) -> tuple[Tensor, Tensor]:
        """E[x_j | k] and E[x_j² | k] of every cell and component, (K, d) each."""
        first = self.log_p_.new_empty(len(self.weights_), self.space_.dim)
        second = torch.empty_like(first)
        tabled, sizes = self._tabled(first.device), self._sizes(first.device)
        begins = sizes.cumsum(0) - sizes
        of_levels = self._moments_of_levels()
        for out, each in zip((first, second), of_levels, strict=True):
            out[:, tabled] = self._per_column(self.log_p_.exp() * each)[:, begins]
        first[:, ~tabled] = self.means_
        second[:, ~tabled] = self.means_.square() + self.variances_
        return first, second

    def _moments_of_levels(self) -> tuple[Tensor, Tensor]:
        """E[x | level] and E[x² | level] of all levels and bins, side by side, (T,) each."""
        device = self.log_p_.device
        sizes = self._sizes(device)
        most = int(sizes.max()) if len(sizes) else 0
        level = torch.arange(most, device=device)[:, None].expand(-1, len(sizes))
        if not self._in_bins() or len(self.bins_.at) == 0:
            x = level.double()[None]
        else:  # a bin is known by places in it
            codes = level.minimum(sizes - 1).repeat(PLACES, 1)
            u = (torch.arange(PLACES, dtype=torch.float64, device=device) + 0.5) / PLACES
            u = u.repeat_interleave(most)[:, None]
            x = self.bins_.decode(codes, lambda n, columns: u.expand(n, columns))
            x = x.reshape(PLACES, most, -1)
        real = sizes[:, None] > level.T
        return x.mean(0).T[real], x.square().mean(0).T[real]

    # ------------------------------------------------------------------ fit

    def fit(
        self,
        X: RowsLike,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        given: GivenLike = None,
        space: Space | str | None = None,
        validation: float | RowsLike | None = None,
        resume: bool | str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> Self:
        """Learn by EM from the rows of X; ``sample_weight`` (n,) ≥ 0 counts a row that many times.

        See ``Model.fit``.
        """
        weight = row_weights(sample_weight)
        return self._fit(X, given, space, validation, resume, device, weight)

    def partial_fit(self, X: RowsLike, y: Any = None) -> Self:
        """Stepwise EM: sums a row s ← (1 − γ) s + γ s(X), γ = (t + 2)^−0.6, then the M step.

        Cappé & Moulines (2009). The first call fits on X; later ones need rows of the same kind.
        """
        if not self.__sklearn_is_fitted__():
            self.fit(X)
            self.n_batches_ = 1
            return self
        x = self._codes(X)
        self.n_batches_ = getattr(self, "n_batches_", 1)
        with torch.no_grad():
            now = self.statistics(x)
            gamma = (self.n_batches_ + 2) ** -0.6
            seen = float(self._count.sum())
            old, new = (1 - gamma) * (seen + len(x)) / seen, gamma * (seen + len(x)) / len(x)
            before = {"count": self._count, "levels": self._levels, "moments": self._moments}
            self.maximise({k: old * v + new * now[k] for k, v in before.items()})
        self.n_batches_ += 1
        return self

    @torch.no_grad()
    def learn(self, fit: Fit) -> None:
        rows = weighted(fit.rows)
        x = rows.look(rng=self.rng)[0]
        weight = None if rows.weight is None else rows.weight[rows.places()]
        every = torch.ones(len(x), dtype=torch.float64, device=x.device)
        w = every if weight is None else weight.double()
        check_observed(self.space_, (~torch.isnan(x)).flatten(1).any(0))
        if self._in_bins() and not hasattr(self, "n_iter_"):
            self._cut(x.flatten(1), w)
        y = self._cells(x)[1]
        mass = ((~torch.isnan(y)) * w[:, None]).sum(0)
        self._centre = (y.nan_to_num() * w[:, None]).sum(0) / mass
        variance = ((y - self._centre).nan_to_num().square() * w[:, None]).sum(0) / mass
        self._spread = torch.maximum(variance, variance_floor(variance, self._centre, 1.0)).sqrt()
        some, some_weight, _ = sample_rows(x.flatten(1), w, SAMPLE * self.n_components)
        z = x[some]

        def step() -> float:
            sums = self.statistics(z, some_weight)
            self.maximise(sums)
            return float(sums["log_likelihood"])

        if len(x) == len(rows):
            rows = Rows(x, weight=weight)
        inner = dataclasses.replace(fit, rows=rows)

        def run() -> float:
            self.converged_ = solve(
                self,
                inner,
                max_iter=self.max_iter,
                tol=self.tol,
                start=self.n_iter_,
                chunk=rows.at_once,
            )
            return -self.history_[-1]["objective"] if self.history_ else -math.inf

        best_start(
            self,
            fit,
            self.n_init,
            lambda: self._first_guess(z, some_weight),
            run,
            step if len(self.weights_) > 1 else None,
        )
        warn_unless_converged(self)

    def _first_guess(self, x: Tensor, w: Tensor) -> None:
        """The M step from the clusters of k-means on one-hot rows, missing cells at their mean."""
        K = len(self.weights_)
        v, y = self._cells(x)
        hot = self._one_hot(v)
        known = (~torch.isnan(v)).double().repeat_interleave(self._sizes(v.device), 1)
        mean = (hot * w[:, None]).sum(0) / (known * w[:, None]).sum(0).clamp_min(1e-200)
        features = torch.cat(
            [hot - known * mean, ((y - self._centre) / self._spread / math.sqrt(2)).nan_to_num()], 1
        )
        label, _ = k_means(features, w, K, self.rng)
        r = w.new_zeros(K, len(w)).scatter_(0, label[None], w[None])
        self.maximise(self._weighted(hot if self._narrow() else v, y, r))

    # ------------------------------------------------------------------ the verbs

    def _joint(self, x: Tensor) -> Tensor:
        size = max(64, HELD // max(1, self.log_p_.shape[1]))
        return torch.cat([self._log_joint(*self._features(c)) for c in x.split(size)], 1)

    def _draw(self, k: Tensor, rng: torch.Generator) -> Tensor:
        """One row of each class k (n,), (n, *shape)."""
        device = k.device
        tabled, sizes = self._tabled(device), self._sizes(device)
        out = torch.zeros(len(k), self.space_.dim, dtype=torch.float64, device=device)
        most = int(sizes.max()) if len(sizes) else 1
        p = out.new_zeros(len(self.weights_), len(sizes), most)
        p[:, torch.arange(most, device=device) < sizes[:, None]] = self.log_p_.exp()
        for j in range(len(self.weights_)):
            rows = (k == j).nonzero()[:, 0]
            if len(rows) and len(sizes):
                drawn = torch.multinomial(p[j], len(rows), True, generator=rng).T
                out[rows[:, None], tabled.nonzero()[:, 0]] = drawn.double()
        if self._in_bins():
            out = self.bins_.decode(out.long(), _uniform(rng))
        kw: dict[str, Any] = {"dtype": torch.float64, "device": device}
        e = torch.randn(len(k), self.means_.shape[1], generator=rng, **kw)
        out[:, ~tabled] = self.means_[k] + self.variances_[k].sqrt() * e
        return out.reshape(-1, *self.space_.cell_shape)

    def predict_proba(self, X: RowsLike) -> np.ndarray:
        """p(k | observed cells) of each row, (n, K)."""
        x, _ = self._enter(X)
        return self._chunked(lambda c: torch.softmax(self._joint(c), 0).T, x).numpy()

    def predict(self, X: RowsLike) -> np.ndarray:
        """The likeliest class of each row, (n,)."""
        return self.predict_proba(X).argmax(1)

    def profiles(self) -> dict[str, np.ndarray]:
        """What each class expects of each cell, by its name.

        Of numbers the mean and the standard deviation (K, 2), of all others θ (K, levels).
        """
        self._check_fitted()
        first, second = self._moments_of_cells()
        spread = (second - first.square()).clamp_min(0).sqrt()
        normal = torch.stack([first, spread], 2).cpu()
        cut = self.bins_.at.tolist() if self._in_bins() else []
        theta = iter(self.log_p_.exp().cpu().split([c for c in self._cards() if c], 1))
        out = {}
        for j, (name, levels) in enumerate(zip(self.space_.names(), self._cards(), strict=True)):
            table = next(theta) if levels else None
            out[name] = (normal[:, j] if table is None or j in cut else table).numpy()
        return out

    def n_parameters(self) -> int:
        """Free parameters: weights, probabilities, means and variances, and those of columns."""
        self._check_fitted()
        K = len(self.weights_)
        own = K - 1 + K * sum(c - 1 if c else 2 for c in self._cards())
        if not self._in_bins() or self.bins_.numbers_ is None:
            return own
        return own + self.bins_.numbers_.n_parameters()

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor) -> LogProb:
        return Exact(torch.logsumexp(self._joint(x), 0) + self._inside(x))

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        return self._draw(torch.multinomial(self.weights_, n, replacement=True, generator=rng), rng)

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """k ~ p(k | observed), then the missing cells from class k."""
        k = choose(torch.softmax(self._joint(x), 0).T, rng)
        return torch.where(torch.isnan(x), self._draw(k, rng).to(x.dtype), x)

    def _complete_mean(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """Numbers at Σ_k r_k E[x | k], labels at the largest Σ_k r_k θ_k; r_k = p(k | observed)."""
        r = torch.softmax(self._joint(x), 0).T
        filled = r @ self._moments_of_cells()[0]
        sizes = [levels for levels in self._cards() if levels]
        tables = iter(self.log_p_.split(sizes, 1))
        for j, (levels, kind) in enumerate(zip(self._cards(), self.space_.kinds, strict=True)):
            log_theta = next(tables) if levels else None
            if log_theta is not None and kind in ("binary", "categorical"):
                filled[:, j] = (r @ log_theta.exp()).argmax(1).double()
        out = x.flatten(1).double()
        return torch.where(torch.isnan(out), filled, out).reshape(x.shape)


def _uniform(rng: torch.Generator) -> Callable[[int, int], Tensor]:
    """Draws of places inside bins."""

    def draw(n: int, columns: int) -> Tensor:
        return torch.rand(n, columns, generator=rng, dtype=torch.float64, device=rng.device)

    return draw
