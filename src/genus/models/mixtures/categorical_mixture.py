r"""Mixture of categorical distributions, alias latent class analysis (Lazarsfeld & Henry, 1968).

On bits it is the mixture of Bernoullis.

    p(x) = Σ_k π_k Π_j p_k(x_j)
    p_k(x_j) = θ_kjv at x_j = v where cell j is discrete, N(x_j | m_kj, s²_kj) where continuous
    E:  r_nk = π_k Π_j p_k(x_nj) / p(x_n), j over the observed cells of row n
    M:  θ_kjv = (Σ_n w_n r_nk [x_nj = v] + α/K) / (Σ_n w_n r_nk [x_nj observed] + α L_j/K)
        π_k = (Σ_n w_n r_nk + α/K) / (Σ_n w_n + α)
        m_kj, s²_kj: moments of column j under r, with α/K more rows of its own mean and variance

α, the pseudo-count, is a Dirichlet prior (a normal–inverse-gamma one for moments) that the classes
share out: of one class they make the independent histogram. EM climbs log p(X) + log prior
(Dempster et al., 1977; MAP). Rows enter as one-hot vectors F, so that both steps are matrix
products: F logθᵀ and rᵀ F.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genus.distributions.columns import check_observed
from genus.distributions.draws import choose
from genus.distributions.normals import variance_floor
from genus.distributions.points import LOG_2PI
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.starts import best_start, sample_rows, warn_unless_converged
from genus.learn.sums import solve
from genus.likelihood import Exact, LogProb
from genus.model import Model
from genus.models.mixtures.components import k_means, responsibilities_, row_weights
from genus.settings import Number, Rule, Whole
from genus.space import Space
from genus.typing import ArrayLike, GivenLike, RowsLike

HELD = 1 << 22  # numbers held at a time
SAMPLE = 500  # distinct rows a class from which a start is drawn
NARROW = 16  # mean number of levels up to which one-hot products beat look-ups
FLOOR = 1e-4  # least variance in a class, as a share of the column's


class CategoricalMixture(Model):
    r"""Latent classes: within a class all cells are independent; learned by EM.

        p(x) = Σ_k π_k Π_j p_k(x_j)

    Binary, ordinal and categorical cells have a table of probabilities in each class, continuous
    cells a normal, so that a table of both sorts is one model. Every probability is ``Exact``,
    whatever is missing (NaN).

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
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Attributes
    ----------
    weights_
        π, (K,).
    log_p_
        log θ, (K, Σ L_j), the levels of all discrete cells side by side;
        ``profiles()`` gives them by name.
    means_
        Of the continuous cells, (K, c).
    variances_
        Of the continuous cells, (K, c).
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
    }
    allow_nan = True
    learned_by = "EM"

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
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.pseudo_count = pseudo_count
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    # ------------------------------------------------------------------ cells

    def build(self, space: Space) -> None:
        K = self.n_components
        T, c = sum(space.cardinality), space.cardinality.count(0)
        kw: dict[str, Any] = {"dtype": torch.float64}
        self.register_buffer("weights_", torch.full((K,), 1 / K, **kw))
        self.register_buffer("log_p_", torch.zeros(K, T, **kw))
        self.register_buffer("means_", torch.zeros(K, c, **kw))
        self.register_buffer("variances_", torch.ones(K, c, **kw))
        for name in ("_centre", "_spread"):
            self.register_buffer(name, torch.ones(c, **kw))
        self.register_buffer("_count", torch.zeros(K, **kw))
        self.register_buffer("_levels", torch.zeros(K, T, **kw))
        self.register_buffer("_moments", torch.zeros(3, K, c, **kw))

    def _cells(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, *shape) codes → discrete cells (n, e), continuous ones (n, c); NaN where missing."""
        x = x.flatten(1)
        discrete = self.discrete_cells(x.device)
        return x[:, discrete], x[:, ~discrete].double()

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same, the discrete cells as one-hot vectors (n, T) where levels are few."""
        v, y = self._cells(x)
        return self._one_hot(v) if self._narrow() else v, y

    def _cards(self, x: Tensor) -> Tensor:
        """Number of levels of every discrete cell, (e,)."""
        return torch.tensor(
            [c for c in self.space_.cardinality if c], dtype=torch.long, device=x.device
        )

    def _narrow(self) -> bool:
        return self.log_p_.shape[1] <= NARROW * sum(self.space_.discrete)

    def _one_hot(self, v: Tensor) -> Tensor:
        """[v_j = level], (n, T); 0 at all levels of a missing cell."""
        cards = self._cards(v)
        column = torch.arange(len(cards), device=v.device).repeat_interleave(cards)
        level = torch.arange(len(column), device=v.device) - (cards.cumsum(0) - cards)[column]
        return (v.index_select(1, column) == level).double()

    def _places(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Each cell's place among all levels, (n, e), and whether the cell is observed, (n, e)."""
        cards = self._cards(v)
        return v.nan_to_num().long() + (cards.cumsum(0) - cards), ~torch.isnan(v)

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
        cards = self._cards(levels)
        column = torch.arange(len(cards), device=levels.device).repeat_interleave(cards)
        return levels.new_zeros(len(levels), len(cards)).index_add_(1, column, levels)[:, column]

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
        level = torch.cat(
            [torch.arange(c, dtype=torch.float64) for c in self.space_.cardinality if c]
            or [torch.zeros(0)]
        )
        out = self.log_p_.new_empty(len(self.weights_), self.space_.dim)
        discrete = self.discrete_cells(out.device)
        cards = torch.tensor(
            [c for c in self.space_.cardinality if c], dtype=torch.long, device=out.device
        )
        first = cards.cumsum(0) - cards
        out[:, discrete] = self._per_column(self.log_p_.exp() * level.to(out))[:, first]
        out[:, ~discrete] = self.means_
        return out

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
    ) -> Self:
        """Learn by EM from the rows of X; ``sample_weight`` (n,) ≥ 0 counts a row that many times.

        See ``Model.fit``.
        """
        return self._fit(X, given, space, validation, resume, row_weights(sample_weight))

    def partial_fit(self, X: RowsLike, y: Any = None) -> Self:
        """Stepwise EM: sums a row s ← (1 − γ) s + γ s(X), γ = (t + 2)^−0.6, then the M step.

        Cappé & Moulines (2009). The first call fits on X; later ones need rows of the same kind.
        """
        if not self.__sklearn_is_fitted__():
            self.fit(X)
            self.n_batches_ = 1
            return self
        x = self._encode_rows(X, missing=True)
        self.n_batches_ = getattr(self, "n_batches_", 1)
        with torch.no_grad():
            now = self.statistics(x if x.is_floating_point() else x.float())
            gamma = (self.n_batches_ + 2) ** -0.6
            seen = float(self._count.sum())
            old, new = (1 - gamma) * (seen + len(x)) / seen, gamma * (seen + len(x)) / len(x)
            before = {"count": self._count, "levels": self._levels, "moments": self._moments}
            self.maximise({k: old * v + new * now[k] for k, v in before.items()})
        self.n_batches_ += 1
        return self

    @torch.no_grad()
    def learn(self, fit: Fit) -> None:
        x = torch.cat([x for (x,) in fit.rows.chunks(8192, self.rng)])
        weight = fit.rows.weight
        if weight is not None and len(weight) != len(x):
            raise ValueError(f"sample_weight.shape == {tuple(weight.shape)}, expected {(len(x),)}!")
        w = torch.ones(len(x), dtype=torch.float64) if weight is None else weight.double()
        x, w = (x, w) if bool(w.all()) else (x[w > 0], w[w > 0])
        check_observed(self.space_, (~torch.isnan(x)).flatten(1).any(0))
        y = x.flatten(1)[:, ~self.discrete_cells(x.device)].double()
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

        inner = dataclasses.replace(fit, rows=Rows(x, weight=None if weight is None else w))

        def run() -> float:
            self.converged_ = solve(
                self,
                inner,
                max_iter=self.max_iter,
                tol=self.tol,
                start=self.n_iter_,
                chunk=len(x),
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
        known = (~torch.isnan(v)).double().repeat_interleave(self._cards(v), 1)
        mean = (hot * w[:, None]).sum(0) / (known * w[:, None]).sum(0).clamp_min(1e-200)
        features = torch.cat(
            [hot - known * mean, ((y - self._centre) / self._spread / math.sqrt(2)).nan_to_num()], 1
        )
        label, _ = k_means(features, w, K, self.rng)
        r = torch.zeros(K, len(w), dtype=torch.float64).scatter_(0, label[None], w[None])
        self.maximise(self._weighted(hot if self._narrow() else v, y, r))

    # ------------------------------------------------------------------ the verbs

    def _joint(self, x: Tensor) -> Tensor:
        size = max(64, HELD // max(1, self.log_p_.shape[1]))
        return torch.cat([self._log_joint(*self._features(c)) for c in x.split(size)], 1)

    def _draw(self, k: Tensor, rng: torch.Generator) -> Tensor:
        """One row of each class k (n,), (n, *shape)."""
        discrete = self.discrete_cells(k.device)
        out = torch.zeros(len(k), self.space_.dim, dtype=torch.float64, device=k.device)
        cards = [c for c in self.space_.cardinality if c]
        p = torch.zeros(
            len(self.weights_),
            len(cards),
            max(cards, default=1),
            dtype=torch.float64,
            device=k.device,
        )
        p[
            :,
            torch.arange(p.shape[2], device=k.device)
            < torch.tensor(cards, device=k.device)[:, None],
        ] = self.log_p_.exp()
        for j in range(len(self.weights_)):
            rows = (k == j).nonzero()[:, 0]
            if len(rows) and cards:
                out[rows[:, None], discrete.nonzero()[:, 0]] = torch.multinomial(
                    p[j], len(rows), True, generator=rng
                ).T.double()
        e = torch.randn(
            len(k), self.means_.shape[1], generator=rng, dtype=torch.float64, device=k.device
        )
        out[:, ~discrete] = self.means_[k] + self.variances_[k].sqrt() * e
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

        θ (K, levels) where discrete, else mean and standard deviation (K, 2).
        """
        self._check_fitted()
        theta = iter(self.log_p_.exp().cpu().split([c for c in self.space_.cardinality if c], 1))
        normal = iter(torch.stack([self.means_, self.variances_.sqrt()], 2).cpu().unbind(1))
        return {
            n: next(theta if c else normal).numpy()
            for n, c in zip(self.space_.names(), self.space_.cardinality, strict=True)
        }

    def n_parameters(self) -> int:
        """Free parameters: weights, probabilities, means and variances."""
        self._check_fitted()
        K = len(self.weights_)
        return K - 1 + K * sum(c - 1 if c else 2 for c in self.space_.cardinality)

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor) -> LogProb:
        return Exact(torch.logsumexp(self._joint(x), 0))

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        return self._draw(torch.multinomial(self.weights_, n, replacement=True, generator=rng), rng)

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """k ~ p(k | observed), then the missing cells from class k."""
        k = choose(torch.softmax(self._joint(x), 0).T, rng)
        return torch.where(torch.isnan(x), self._draw(k, rng).to(x.dtype), x)

    def _complete_mean(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """Numbers at Σ_k r_k E[x | k], labels at the largest Σ_k r_k θ_k; r_k = p(k | observed)."""
        r = torch.softmax(self._joint(x), 0).T
        out = x.flatten(1).double()
        discrete = [j for j, levels in enumerate(self.space_.cardinality) if levels]
        sizes = [self.space_.cardinality[j] for j in discrete]
        for j, log_theta in zip(discrete, self.log_p_.split(sizes, 1), strict=True):
            p = r @ log_theta.exp()
            if self.space_.kinds[j] in ("binary", "categorical"):
                filled = p.argmax(1).double()
            else:
                filled = p @ torch.arange(p.shape[1], dtype=p.dtype, device=p.device)
            out[:, j] = torch.where(torch.isnan(out[:, j]), filled, out[:, j])
        numbers = ~self.discrete_cells(x.device)
        here = out[:, numbers]
        out[:, numbers] = torch.where(torch.isnan(here), r @ self.means_, here)
        return out.reshape(x.shape)
