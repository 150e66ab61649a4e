"""Mixture of Gaussians by expectation–maximisation (Dempster et al., 1977).

    p(y) = Σ_k π_k N(y | μ_k, Σ_k)
    E:  r_nk = π_k N(y_n | μ_k, Σ_k) / p(y_n)
    M:  N_k = Σ_n w_n r_nk,  π_k = N_k / Σ N,  μ_k = Σ_n w_n r_nk y_n / N_k,
        Σ_k = [Σ_n w_n r_nk (y_n − μ_k)(y_n − μ_k)ᵀ + ν S_0] / (N_k + ν)

ν S_0 is a weak prior towards a share of the data's own covariance (Fraley & Raftery,
2007). Missing entries enter by their conditional moments (Ghahramani & Jordan, 1994). The
sums are in ``components.py``.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from genus.density import WAYS, DensityModel
from genus.distributions.columns import check_observed
from genus.distributions.draws import choose
from genus.distributions.normals import (
    Conditionals,
    Given,
    LeaveOneOut,
    by_pattern,
    towards_diagonal,
    variance_floor,
)
from genus.learn.fit import Fit
from genus.learn.rows import Rows, generator
from genus.learn.starts import STEPS, best_start, sample_rows, warn_unless_converged
from genus.learn.sums import solve
from genus.memory import check_fits
from genus.model import seed_of
from genus.models.mixtures.components import (
    Clusters,
    LogJoint,
    by_factors,
    full_covariances,
    k_means,
    log_joint,
    patterns_at_once,
    row_weights,
    statistics,
    weighted,
)
from genus.models.mixtures.words import WordCells
from genus.settings import Array, Number, OneOf, Rule, Several, Whole
from genus.space import Space
from genus.typing import ArrayLike, GivenLike, RowsLike

COVARIANCES = ("full", "tied", "diag", "spherical")
SAMPLE = 500  # distinct rows a component from which a start is drawn
LEAST = 4.0**-10  # shrinkage that is tried, as a share of (d + 2)/4
FOLDS = 5  # of the rows, by which shrinkage is chosen
PARAMETERS = Several(Array(), Array(), Array(), says="a tuple (weights, means, covariances)")


class GaussianMixture(Clusters, DensityModel):
    r"""A weighted sum of K Gaussians, p(y) = Σ_k π_k N(y | μ_k, Σ_k), learned by EM.

    NaN marks missing entries, in fit and in every verb. Discrete cells are dequantised, which makes
    ``log_prob`` a ``LowerBound``.

    Parameters
    ----------
    n_components : int, default=10
        K ≥ 1.
    covariance : {"full", "tied", "diag", "spherical"}, default="full"
        Shapes (K, d, d), (d, d), (K, d) and (K,).
    init : str or tuple, default="k-means++"
        ``k-means++`` (Arthur & Vassilvitskii, 2007, then a few Lloyd steps), ``random`` rows as
        means, or (weights, means, covariances) in the units of the data.
    n_init : int, default=1
        Starts; the one with the best likelihood is kept.
    max_iter : int, default=200
        Iterations of EM, at most.
    tol : float, default=0.001
        EM stops when an iteration gains less than ``tol`` nats a row.
    reg_covar : float, default=1e-06
        Added to each variance, as a share of the column's own.
    shrinkage : float or None, default=None
        ν ≥ 0, rows' worth of prior towards S_0 = the data's covariance / K^(2/d). 0: plain maximum
        likelihood; None: what makes held-out fifths of the rows likeliest, after a few steps of EM,
        and S_0 has its correlations shrunk as in :class:`genus.Gaussian`.
    marginals : {"learned", "affine", "logit"} or None, default=None
        How cells become real coordinates: by each column's own distribution, in the units of the
        data, or, of levels, by a logit. None: affine where all cells are real numbers
        without atoms or an array of whole numbers, logit of grey images, learned elsewhere.
        Words and bits beside numbers have a table a component.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Attributes
    ----------
    weights_
        (K,).
    means_
        (K, d), of the columns of numbers: in the units of the data where coordinates are affine,
        scores where they are learned.
    covariances_
        In the shape that ``covariance`` says.
    converged_
        Whether EM stopped because of ``tol``.
    n_iter_
        Iterations made.

    Examples
    --------
    >>> import genus
    >>> data = genus.data.load("digits")
    >>> model = genus.GaussianMixture(5, "diag", random_state=0).fit(data.train)
    >>> model.sample(3, random_state=0).shape
    (3, 8, 8)
    >>> model.log_prob(data.test)
    Exact(mean = -... nats, ... bits/dim, n=359, probability)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "n_components": Whole(1),
        "covariance": OneOf(*COVARIANCES),
        "init": OneOf("k-means++", "random") | PARAMETERS,
        "n_init": Whole(1),
        "max_iter": Whole(1),
        "tol": Number(0),
        "reg_covar": Number(0),
        "shrinkage": Number(0) | None,
        "marginals": WAYS,
    }
    allow_nan = True
    learned_by = "EM"
    usual_marginals = "numbers"
    # fewer components where there are fewer distinct rows
    learned_shapes = ("weights_", "means_", "covariances_", "log_words_")

    weights_: Tensor
    means_: Tensor
    covariances_: Tensor
    log_words_: Tensor  # (K, L): log p_k of every word of every column of words and bits
    _shift: Tensor  # the data's mean: everything is computed about it
    _floor: Tensor
    _S0: Tensor
    _nu: Tensor
    _words: WordCells  # the columns that have a table a component
    _share = 0.0  # ρ of the prior, (1 − ρ) S + ρ diag S

    def __init__(
        self,
        n_components: int = 10,
        covariance: str = "full",
        init: Any = "k-means++",
        n_init: int = 1,
        max_iter: int = 200,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        shrinkage: float | None = None,
        marginals: str | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.covariance = covariance
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.reg_covar = reg_covar
        self.shrinkage = shrinkage
        self.marginals = marginals
        self.random_state = random_state

    # ------------------------------------------------------------------ EM

    def statistics(self, x1: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        """Sums over rows x1 = (1, y − shift): log-likelihood, weight, and Σ w r (1, y, y yᵀ).

        ``second`` is (K, d, d) about the current means for full, (d, d) of all rows
        for tied, (K, d) otherwise.
        """
        return statistics(self._plan(x1.dtype), x1, weight)

    def maximise(self, sums: dict[str, Tensor]) -> None:
        """The M step from those sums."""
        N = sums["count"]
        safe = N.clamp_min(1e-200)
        first = sums["first"] / safe[:, None]
        nu, S0 = self._nu, self._S0
        old = self.means_ - self._shift
        if self.covariance == "full":  # moments about the old means: a small, safe correction
            means = old + first
            scatter = sums["second"] - safe[:, None, None] * first[:, :, None] * first[:, None, :]
            cov = ((scatter + scatter.mT) / 2 + nu * S0) / (safe + nu)[:, None, None]
            cov = cov + torch.diag(self._floor)
        elif self.covariance == "tied":
            means = first
            scatter = sums["second"] - (safe[:, None] * means).T @ means
            cov = ((scatter + scatter.T) / 2 + nu * S0) / (N.sum() + nu) + torch.diag(self._floor)
        else:
            means = first
            scatter = (sums["second"] - safe[:, None] * means.square()).clamp_min(0)
            cov = (scatter + nu * S0.diagonal()) / (safe + nu)[:, None] + self._floor
            cov = cov.mean(1) if self.covariance == "spherical" else cov
        self.weights_ = N / N.sum()
        empty = self.weights_ < 1e-8  # a component nobody wants keeps its place
        means = torch.where(empty[:, None], old, means)
        self.means_ = means + self._shift
        self.covariances_ = cov
        if self._words:
            tables = sums["words"] + self._words.shares()  # a prior worth one row
            self.log_words_ = (tables / self._words.of_columns(tables)).log()

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

        ``resume``: True goes on from the present parameters, a path from a saved
        model. See ``Model.fit``.
        """
        weight = row_weights(sample_weight)
        return self._fit(X, given, space, validation, resume, device, weight)

    def partial_fit(self, X: RowsLike, y: Any = None) -> Self:
        """Stepwise EM: s ← (1 − γ) s + γ s(X), γ = (t + 2)^−0.6, then the M step.

        Cappé & Moulines (2009). The first call fits on X; later ones need rows of the same kind.
        """
        if not self.__sklearn_is_fitted__():
            self.fit(X)
            self.n_batches_ = 1
            return self
        x = self._codes(X)
        self.n_batches_ = getattr(self, "n_batches_", 1)
        rng = generator(seed_of(self.random_state) + self.n_batches_, x.device)
        before = self._sums_of_parameters()
        with torch.no_grad():
            now = self.statistics(self._with_ones(self.real(x, rng)[0]))
        gamma = (self.n_batches_ + 2) ** -0.6
        self.n_seen_ += float(now["weight"])
        old, new = (1 - gamma) / before["weight"], gamma / now["weight"]  # s is a mean a row
        self.maximise({k: self.n_seen_ * (old * before[k] + new * now[k]) for k in before})
        self.n_batches_ += 1
        return self

    def _sums_of_parameters(self) -> dict[str, Tensor]:
        """The sums over ``n_seen_`` rows of which the present parameters are the M step."""
        N, m, nu = self.weights_ * self.n_seen_, self.means_ - self._shift, self._nu
        if self.covariance == "full":
            second = (N + nu)[:, None, None] * (
                self.covariances_ - torch.diag(self._floor)
            ) - nu * self._S0
            first = torch.zeros_like(m)
        elif self.covariance == "tied":
            second = (
                (self.n_seen_ + nu) * (self.covariances_ - torch.diag(self._floor))
                - nu * self._S0
                + (N[:, None] * m).T @ m
            )
            first = N[:, None] * m
        else:
            v = (
                self.covariances_[:, None].expand_as(m)
                if self.covariance == "spherical"
                else self.covariances_
            )
            second = (
                (N + nu)[:, None] * (v - self._floor)
                - nu * self._S0.diagonal()
                + N[:, None] * m.square()
            )
            first = N[:, None] * m
        total = N.sum()
        tables = {}
        if self._words:
            tables["words"] = (N + 1)[:, None] * self.log_words_.exp() - self._words.shares()
        return {
            "weight": total,
            "log_likelihood": torch.zeros_like(total),
            "count": N,
            "first": first,
            "second": second,
            **tables,
        }

    def build(self, space: Space) -> None:
        self._words = WordCells(space, self.coordinates_)
        K, d = self.n_components, len(self._words.numbers)
        self._allocate(int(K), d)
        kw: dict[str, Any] = {"dtype": torch.float64}
        self.register_buffer("_shift", torch.zeros(d, **kw))
        self.register_buffer("_floor", torch.zeros(d, **kw))
        self.register_buffer("_S0", torch.zeros(d, d, **kw))
        self.register_buffer("_nu", torch.zeros((), **kw))

    def _allocate(self, K: int, d: int) -> None:
        full = {"full": K, "tied": 1}.get(self.covariance, 0)
        what = f"n_components={K} with covariance={self.covariance!r} over {d:,} columns"
        check_fits(5 * full * d * d, what, "pass covariance='diag', or fewer components or columns")
        kw: dict[str, Any] = {"dtype": torch.float64}
        shape = {"full": (K, d, d), "tied": (d, d), "diag": (K, d), "spherical": (K,)}[
            self.covariance
        ]
        self.register_buffer("weights_", torch.full((K,), 1 / K, **kw))
        self.register_buffer("means_", torch.zeros(K, d, **kw))
        self.register_buffer("covariances_", torch.ones(shape, **kw))
        if self._words:
            self.register_buffer("log_words_", torch.zeros(K, sum(self._words.levels), **kw))

    @torch.no_grad()
    def learn(self, fit: Fit) -> None:
        rows = weighted(fit.rows)
        y = torch.cat([self.real(x, self.rng)[0] for x in rows.look(rng=self.rng)[0].split(8192)])
        check_observed(self.space_, (~torch.isnan(y)).any(0))
        y, hot = self._words.split(y)
        weight = None if rows.weight is None else rows.weight[rows.places()]
        w = y.new_ones(len(y)) if weight is None else weight.double()
        some, some_weight, rank = sample_rows(y, w, SAMPLE * self.n_components)
        if (distinct := len(rank.unique())) < self.n_components:
            warnings.warn(
                f"n_components={self.n_components}, "
                f"but X has only {distinct} distinct rows: that many are fitted",
                stacklevel=4,
            )
            self._allocate(distinct, y.shape[1])
        seen = ~torch.isnan(y)
        mass = (seen * w[:, None]).sum(0)
        self.n_seen_ = float(len(rows) if rows.weight is None else rows.weight.sum())
        self._shift = (y.nan_to_num() * w[:, None]).sum(0) / mass
        centred = torch.where(seen, y - self._shift, 0.0)
        variance = (centred.square() * w[:, None]).sum(0) / mass
        self._floor = variance_floor(variance, self._shift, self.reg_covar)
        cov = self._covariance(centred, seen, w)
        if self.shrinkage is None:
            left_out = LeaveOneOut(cov, self.n_seen_)
            left_out.add(centred[some], some_weight)
            self._share = left_out.best()
        self._S0 = self._prior(cov)
        # single precision is faster, and enough where every component has rows to spare
        single = (
            rows.take(slice(0, 1))[0].dtype == torch.float32
            and len(rows) > 10 * self.n_components * y.shape[1]
        )
        dtype = torch.float32 if single and not self._needs_double(variance) else torch.float64
        x1 = torch.cat([y.new_ones(len(y), 1), y - self._shift, hot], 1).to(dtype)
        if len(y) == len(rows):
            work = Rows(x1, weight=weight)
        else:
            work = rows.mapped(lambda x: self._with_ones(self.real(x, self.rng)[0]).to(dtype))
        inner = dataclasses.replace(fit, rows=work)

        def run() -> float:
            self.converged_ = solve(
                self,
                inner,
                max_iter=self.max_iter,
                tol=self.tol,
                start=self.n_iter_,
                chunk=work.at_once,
            )
            return -self.history_[-1]["objective"] if self.history_ else -math.inf

        z, x1, seen, hot = centred[some], x1[some], seen[some], hot[some]

        def begin() -> None:
            self._first_guess(z, hot, some_weight)

        def step() -> float:
            sums = self.statistics(x1, some_weight)
            self.maximise(sums)
            return float(sums["log_likelihood"])

        def held_out() -> float:
            """Choose ν after a few steps from one start; how likely it makes rows held out."""
            self._S0 = self._prior(cov)
            self._nu.fill_((y.shape[1] + 2) / 4)
            begin()
            for _ in range(STEPS):
                step()
            return self._choose_shrinkage(z, seen, x1, some_weight, rank % FOLDS)

        K, d = self.means_.shape
        if self.shrinkage is not None:
            self._nu.fill_(self.shrinkage)
        elif not hasattr(self, "n_iter_"):  # of a fit that goes on
            many = self.covariance == "full" and self.n_seen_ < K * d
            if many and isinstance(self.init, str):
                self._fewer_components(held_out)
            else:
                held_out()
        several = self.init == "k-means++" and len(self.means_) > 1
        best_start(self, fit, self.n_init, begin, run, step if several else None)
        warn_unless_converged(self)

    def _covariance(self, z: Tensor, seen: Tensor, w: Tensor) -> Tensor:
        """Of rows z about the shift, 0 where missing; the floor is added."""
        mass = (seen * w[:, None]).sum(0).clamp_min(1e-200)
        cov = (z * w[:, None]).T @ z / w.sum()
        cov.diagonal().copy_((z.square() * w[:, None]).sum(0) / mass)
        return cov + torch.diag(self._floor)

    def _prior(self, cov: Tensor) -> Tensor:
        """S_0 of rows with that covariance."""
        return towards_diagonal(cov, self._share) / len(self.means_) ** (2 / len(cov))

    def _choose_shrinkage(
        self, z: Tensor, seen: Tensor, x1: Tensor, weight: Tensor, fold: Tensor
    ) -> float:
        """Set ν to what makes held-out folds likeliest, and say how likely, in nats a row.

        Each fold is scored by the M step from the sums of the others.
        """
        folds = [fold == f for f in fold.unique()]
        if len(folds) < FOLDS:
            return -math.inf
        sums = [self.statistics(x1[f], weight[f]) for f in folds]
        priors = [self._prior(self._covariance(z[~f], seen[~f], weight[~f])) for f in folds]
        total = {name: sum(s[name] for s in sums) for name in sums[0]}
        names = ["weights_", "means_", "covariances_", "_S0"]
        names += ["log_words_"] if self._words else []
        here = {name: getattr(self, name) for name in names}

        def value(nu: float) -> float:
            self._nu.fill_(nu)
            log_p = 0.0
            for f, own, prior in zip(folds, sums, priors, strict=True):
                self._S0 = prior
                self.maximise({name: total[name] - own[name] for name in own})
                joint = log_joint(self._plan(x1.dtype), x1[f])
                log_p += float(torch.logsumexp(joint.double(), 0) @ weight[f])
                for name, t in here.items():
                    setattr(self, name, t)
            return log_p / float(weight.sum())

        best, nats = by_factors(value, float(self._nu), LEAST)
        self._nu.fill_(best)
        return nats

    def _fewer_components(self, held_out: Callable[[], float]) -> None:
        """Where rows are fewer than K d: 1, 2, 4, … components as long as held-out rows gain."""
        K, d = self.means_.shape
        self._allocate(1, d)
        nats = held_out()
        while (k := len(self.means_)) < K:
            S0, nu = self._S0, float(self._nu)
            self._allocate(min(2 * k, K), d)
            now = held_out()
            if now <= nats:
                self._allocate(k, d)
                self._S0 = S0
                self._nu.fill_(nu)
                break
            nats = now
        if k < K:
            warnings.warn(
                f"n_components={K}, but {self.n_seen_:.0f} rows of {d} columns carry no more "
                f"than {k}: that many are fitted; covariance='diag' asks for less",
                stacklevel=5,
            )

    def _needs_double(self, variance: Tensor) -> bool:
        """float32 holds about 7 digits: too few where scales differ that much between columns."""
        v = variance[variance > 0]
        return len(v) > 0 and bool(v.max() > 1e30 or v.min() < 1e-30)

    def _with_ones(self, y: Tensor) -> Tensor:
        """Rows (1, y − shift, h) of coordinates (n, d)."""
        numbers, hot = self._words.split(y)
        return torch.cat([y.new_ones(len(y), 1), numbers - self._shift, hot], 1)

    def _first_guess(self, y: Tensor, hot: Tensor, w: Tensor) -> None:
        """Parameters to start EM from, by rows y about the shift, and h, with weights w."""
        K = len(self.means_)
        if isinstance(self.init, tuple | list):
            self._take_guess(*self.init)
            if self._words:
                self.log_words_ = self._words.shares().log().repeat(K, 1)
            return
        scale = (y.square() * w[:, None]).sum(0) / w.sum()
        z = y / scale.sqrt().clamp_min(1e-150)
        clever = self.init == "k-means++"
        label, centres = k_means(z, w, K, self.rng, steps=10 if clever else 0, spread=clever)
        if self.init == "random":
            self.weights_ = torch.full_like(self.weights_, 1 / K)
            self.means_ = centres * scale.sqrt() + self._shift
            shared = self._S0 * K ** (2 / len(scale)) + torch.diag(self._floor)
            v = shared.diagonal()
            start = {
                "full": shared.repeat(K, 1, 1),
                "tied": shared,
                "diag": v.repeat(K, 1),
                "spherical": v.mean().repeat(K),
            }
            self.covariances_ = start[self.covariance]
            if self._words:
                self.log_words_ = self._words.shares().log().repeat(K, 1)
            return
        r = y.new_zeros(K, len(y)).scatter_(0, label[None], w[None])
        N = r.sum(1)
        self.means_ = (r @ y) / N.clamp_min(1e-200)[:, None] + self._shift
        m = self.means_ - self._shift
        if self.covariance == "full":
            first = torch.zeros_like(m)
            second = torch.stack([((y - m[k]) * r[k][:, None]).T @ (y - m[k]) for k in range(K)])
        else:
            first = r @ y
            second = (y * w[:, None]).T @ y if self.covariance == "tied" else r @ y.square()
        self.maximise({"count": N, "first": first, "second": second, "words": r @ hot})

    def _take_guess(self, weights: Any, means: Any, covariances: Any) -> None:
        for name, value in (
            ("weights_", weights),
            ("means_", means),
            ("covariances_", covariances),
        ):
            t = torch.as_tensor(np.asarray(value, dtype=np.float64))
            expected = getattr(self, name).shape
            if t.shape != expected:
                raise ValueError(
                    f"init: {name.rstrip('_')} of shape {tuple(t.shape)}, "
                    f"expected {tuple(expected)}"
                )
            setattr(self, name, t.to(self._device(), copy=True))

    # ------------------------------------------------------------------ densities

    def _full_covariances(self) -> Tensor:
        return full_covariances(self.covariances_, self.covariance, *self.means_.shape)

    def _plan(self, dtype: torch.dtype) -> LogJoint:
        log_w = torch.log(self.weights_.clamp_min(1e-300))
        words = self.log_words_ if self._words else None
        means = self.means_ - self._shift
        return LogJoint(log_w, means, self.covariances_, self.covariance, dtype, words)

    def _joint(self, y: Tensor) -> Tensor:
        """log π_k + log N(y | k), (K, n); NaN entries integrated out."""
        return log_joint(self._plan(torch.float64), self._with_ones(y))

    def log_density(self, y: Tensor) -> Tensor:
        """log Σ_k π_k N(y | μ_k, Σ_k), times p_k(v) for words v.

        A word is p_k(v) φ(z)/P(v) on its coordinate z, whatever its place in the cell of the word.
        """
        log_p = torch.logsumexp(self._joint(y), 0)
        return log_p - self._words.log_base(y) if self._words else log_p

    log_density_observed = log_density

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """k ~ π, then y ~ N(μ_k, Σ_k)."""
        k = torch.multinomial(self.weights_, n, replacement=True, generator=rng)
        L = torch.linalg.cholesky(self._full_covariances())
        e = torch.randn(
            n, self.means_.shape[1], generator=rng, dtype=torch.float64, device=k.device
        )
        numbers = torch.empty_like(e)
        for j in range(len(self.means_)):
            numbers[k == j] = self.means_[j] + e[k == j] @ L[j].T
        return self._beside_words(numbers, k, rng)

    def _beside_words(self, numbers: Tensor, k: Tensor, rng: torch.Generator) -> Tensor:
        """Coordinates (n, d) of numbers, and of words drawn from the tables of components k."""
        if not self._words:
            return numbers
        out = numbers.new_empty(len(numbers), self.space_.dim)
        out[:, self._words.numbers] = numbers
        out[:, self._words.at] = self._words.draw(self.log_words_.exp()[k], rng)
        return out

    def draw_given(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """k ~ p(k | observed), then the missing entries from N(· | observed, k) and tables."""
        numbers, hot = self._words.split(y)
        filled, which = numbers.clone(), torch.zeros(len(y), dtype=torch.long, device=y.device)
        for index, real, given, log_p in self._given(numbers, hot):
            k = choose(torch.softmax(log_p, 1).transpose(1, 2), rng)
            rows = numbers[index]
            e = torch.randn(rows.shape, generator=rng, dtype=y.dtype, device=y.device)
            drawn = given.filled + given.noise(e)
            pick = k[:, None, :, None].expand(-1, 1, -1, rows.shape[2])
            filled[index[real]] = drawn.gather(1, pick)[:, 0][real]
            which[index[real]] = k[real]
        return torch.where(torch.isnan(y), self._beside_words(filled, which, rng), y)

    def _given(self, y: Tensor, hot: Tensor) -> Iterator[tuple[Tensor, Tensor, Given, Tensor]]:
        """Rows by pattern: (index, real, what each component is told, log π_k p_k(observed))."""
        normals = Conditionals(self.means_, self._full_covariances())
        log_w = torch.log(self.weights_.clamp_min(1e-300))[:, None]
        for index, real, o in by_pattern(y, patterns_at_once(*self.means_.shape)):
            given = normals.given(y[index], o)
            log_p = given.log_p + log_w
            if self._words:
                log_p = log_p + (hot[index] @ self.log_words_.T).transpose(1, 2)
            yield index, real, given, log_p

    # ------------------------------------------------------------------ clusters

    def predict_proba(self, X: RowsLike) -> np.ndarray:
        """p(k | y) of each row, (n, K). Discrete cells are taken at their centre."""
        x, _ = self._enter(X)
        half = torch.full((), 0.5, dtype=torch.float64, device=x.device)
        return self._chunked(
            lambda c: torch.softmax(self._joint(self.real(c, half)[0]), 0).T, x
        ).numpy()

    def predict(self, X: RowsLike) -> np.ndarray:
        """The likeliest component of each row, (n,)."""
        return self.predict_proba(X).argmax(1)

    def n_parameters(self) -> int:
        """Free parameters: weights, means and covariances."""
        self._check_fitted()
        K, d = self.means_.shape
        cov = {
            "full": K * d * (d + 1) // 2,
            "tied": d * (d + 1) // 2,
            "diag": K * d,
            "spherical": K,
        }[self.covariance]
        return K - 1 + K * d + cov + K * sum(levels - 1 for levels in self._words.levels)

    def bic(self, X: Any) -> float:
        """Bayesian information criterion, −2 log L + p log n (Schwarz, 1978); lower is better."""
        value = self.log_prob(X)
        return -2 * float(np.sum(value.nats)) + self.n_parameters() * math.log(len(value))

    def aic(self, X: Any) -> float:
        """Akaike information criterion, −2 log L + 2p (Akaike, 1974); lower is better."""
        return -2 * float(np.sum(self.log_prob(X).nats)) + 2 * self.n_parameters()

    def gaussians(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, list[int]]:
        """The components, of the cells of numbers; their weights take the row's words."""
        log_w = torch.log(self.weights_.clamp_min(1e-300)).expand(len(x), -1)
        if self._words:
            log_w = log_w + self._words.hot(x[:, self._words.at]) @ self.log_words_.T
        return log_w, self.means_, self._full_covariances(), self._words.numbers

    def mean_given(self, y: Tensor) -> Tensor:
        """y with its NaN entries at Σ_k p(k | y_o) E[y_m | y_o, k]."""
        out = y.clone()
        for index, real, given, log_p in self._given(*self._words.split(y)):
            p = torch.softmax(log_p, 1)
            out[index[real]] = (p[..., None] * given.filled).sum(1)[real]
        return out
