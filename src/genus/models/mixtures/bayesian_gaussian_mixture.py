r"""Bayesian mixture of Gaussians by mean-field variational inference.

Attias (2000); Bishop (2006), section 10.2.

    p(x, z, π, μ, Λ) = p(π) Π_k N(μ_k | m_0, (β_0 Λ_k)⁻¹) W(Λ_k | S_0⁻¹, ν_0)
                       · Π_n π_{z_n} N(x_n | μ_{z_n}, Λ_{z_n}⁻¹)
    q = q(z) q(π) Π_k q(μ_k, Λ_k),   log q_j* = E_{−j}[log p] + constant

    q(z):  log ρ_nk = E log π_k + ½ E log |Λ_k| − (d/2) log 2π − d/(2β_k)
                      − (ν_k/2) (x_n − m_k)ᵀ S_k⁻¹ (x_n − m_k),    r_nk = ρ_nk / Σ_j ρ_nj
    q(μ_k, Λ_k):  N_k = Σ_n r_nk,   β_k = β_0 + N_k,   ν_k = ν_0 + N_k
           m_k = (β_0 m_0 + Σ_n r_nk x_n) / β_k
           S_k = S_0 + Σ_n r_nk (x_n − m_k)(x_n − m_k)ᵀ + β_0 (m_0 − m_k)(m_0 − m_k)ᵀ
    q(π):  π_k = v_k Π_{j<k} (1 − v_j),   v_k ~ Beta(a_k + N_k, b_k + Σ_{j>k} N_j),   v_K = 1
           Dirichlet(α, …, α): a_k = α, b_k = (K − k) α (Connor & Mosimann, 1969)
           Dirichlet process:  a_k = 1, b_k = α
    log p(X) ≥ ELBO = E log p(X | z, μ, Λ) + E log p(z | π) + E log p(π) + E log p(μ, Λ)
                      − E log q(z) − E log q(π) − E log q(μ, Λ)
    p(x | X) ≈ Σ_k E[π_k] St(x | m_k, (1 + β_k) S_k / (β_k f_k), f_k),   f_k = ν_k + 1 − d

Words and bits beside numbers have a table a component (``words.py``), θ_kj ~ Dirichlet(γ_j),
γ_j the column's own shares, worth one row:

    log ρ_nk gains Σ_j E log θ_kj,x_nj = Σ_j [ψ(γ_kjv) − ψ(Σ_u γ_kju)] at v = x_nj
    q(θ_kj) = Dirichlet(γ_kj),  γ_kjv = γ_jv + Σ_n r_nk [x_nj = v]
    p(v | X) ≈ Σ_k E[π_k] γ_kjv / Σ_u γ_kju

S is the inverse of the Wishart's W. ``diag``: every column has a Wishart of its own in one
dimension, a gamma. Each update is the maximum of the ELBO in one factor, so no sweep lowers it.
Missing entries x_m get the factor q(z_n, x_m).

With a known variance, Λ = I/σ² and β_0 = σ²/σ_0², what is left is the simplest case (Blei et al.,
2017), x_n ~ N(μ_{z_n}, σ²), μ_k ~ N(0, σ_0²), z_n ~ Cat(π), and the lines above read

    r_nk ∝ exp{log π_k + E[μ_k] x_n/σ² − E[μ_k²]/(2σ²)},   E[μ_k] = m_k,  E[μ_k²] = m_k² + s_k²
    m_k = (Σ_n r_nk x_n/σ²) / (1/σ_0² + Σ_n r_nk/σ²),   s_k² = 1 / (1/σ_0² + Σ_n r_nk/σ²)

Stochastic inference (Hoffman et al., 2013): the natural parameters of q are prior + sums,

    s = Σ_n r_n· t(x_n)

and a natural-gradient step on a batch B is

    s ← (1 − ρ_t) s + ρ_t (n/|B|) s_B,    ρ_t = (t + τ)^−κ
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
import warnings
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from genus.density import WAYS, DensityModel
from genus.distributions.columns import check_observed
from genus.distributions.draws import choose
from genus.distributions.normals import LeaveOneOut, towards_diagonal, variance_floor
from genus.distributions.points import LOG_2PI
from genus.learn.fit import DivergenceError, Fit
from genus.learn.progress import Bar, CtrlC
from genus.learn.rows import Rows, generator
from genus.learn.starts import STEPS, best_start, sample_rows, warn_unless_converged
from genus.learn.sums import solve
from genus.memory import check_fits
from genus.model import seed_of
from genus.models.mixtures.components import (
    Clusters,
    LogJoint,
    by_factors,
    k_means,
    log_joint,
    statistics,
)
from genus.models.mixtures.student import draw_students, log_students
from genus.models.mixtures.words import WordCells
from genus.settings import Array, Number, OneOf, Rule, Whole
from genus.space import Space
from genus.typing import RowsLike

LOG_2 = math.log(2)
FAR = 1e8  # standard deviations that a prior mean may lie off, and X still has digits beside it
SAMPLE = 500  # distinct rows a component from which a start is drawn
LEAST = 4.0**-4  # worth of the prior that is tried, as a share of (d + 2)/4
FIRST_LOOK = 10_000  # rows from which stochastic inference takes its priors and its start


class BayesianGaussianMixture(Clusters, DensityModel):
    r"""A mixture of Gaussians with priors on weights, means and precisions.

    Its posterior is approximated by a mean field. NaN marks missing entries, in fit and in every
    verb. Discrete cells are dequantised: their ``log_prob`` is a ``LowerBound``, and the ELBO is
    that of the dequantised rows.

    Parameters
    ----------
    n_components : int, default=10
        K ≥ 1, an upper limit: components that the data do not need stay at their prior.
    covariance : {"full", "diag"}, default="full"
        Normal-Wishart, or normal-gamma, each column its own.
    inference : {"cavi", "svi"}, default="cavi"
        Coordinate ascent over all rows, or steps on batches.
    weights : str or array, default="dirichlet"
        ``dirichlet``, ``dirichlet-process`` (stick-breaking, cut at K), or K
        given weights that sum to 1.
    concentration : float or None, default=None
        α > 0 of the Dirichlet or of the process; None: 1.
    mean_prior : float, array or None, default=None
        m_0, a number or one a column; None: the data's mean.
    mean_precision : float, default=0.1
        β_0 > 0, how many rows m_0 is worth.
    degrees : float or None, default=None
        ν_0 > d − 1 (full) or > 0 (diag); None: d − 1 + c (d + 2)/4, with d = 1 for diag.
    scale_prior : array or None, default=None
        S_0, (d, d) for full, (d,) for diag; None: c (d + 2)/4 · (the data's covariance) / K^(2/d),
        correlations shrunk as in :class:`genus.Gaussian`. c is a power of 4: of highest ELBO after
        a few sweeps where both are None, else 1.
    known_variance : float or None, default=None
        σ² > 0; then only means are learned, and ``covariance``, ``degrees`` and
        ``scale_prior`` say nothing.
    mean_scale : float or None, default=None
        σ_0 > 0, with ``known_variance``: the prior spread of the means, β_0 = σ²/σ_0².
    init : str or array, default="k-means++"
        ``k-means++`` (Arthur & Vassilvitskii, 2007, then a few Lloyd steps), ``random`` rows as
        centres, or q(z) itself: (n, K) responsibilities.
    n_init : int, default=1
        Starts; the one with the highest ELBO is kept.
    max_iter : int, default=200
        Sweeps, at most; of ``svi`` passes over the rows.
    tol : float, default=0.0001
        Inference stops when a sweep gains less than ``tol`` nats a row.
    batch_size : int, default=512
        |B|, rows a step of ``svi``.
    delay : float, default=10.0
        τ ≥ 0 of ``svi``.
    forgetting : float, default=0.7
        κ in (0.5, 1] of ``svi``.
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
        E[π], (K,).
    counts_
        N_k, (K,).
    means_
        m_k, (K, d), of the columns of numbers: in the units of the data where coordinates are
        affine, scores where they are learned.
    words_
        γ_k, (K, L), of the words of all columns side by side, where there are tables.
    scales_
        S_k.
    sticks_
        The two parameters of each v_k, (K − 1, 2).
    elbo_
        After the last sweep, in nats, of all rows.
    elbo_terms_
        Its seven terms by name.
    elbo_history_
        A value a sweep; for ``svi`` an estimate a pass.
    converged_
        Whether it stopped because of ``tol``.
    n_iter_
        Sweeps made.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.concatenate([np.random.default_rng(0).normal(m, 1, (100, 2)) for m in (-4, 0, 4)])
    >>> model = genus.BayesianGaussianMixture(6, concentration=0.01, random_state=0).fit(X)
    >>> int((model.counts_ > 5).sum())  # of six components
    3
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "n_components": Whole(1),
        "covariance": OneOf("full", "diag"),
        "inference": OneOf("cavi", "svi"),
        "weights": OneOf("dirichlet", "dirichlet-process") | Array("an array of K numbers"),
        "concentration": Number(above=0) | None,
        "mean_prior": Number() | Array("one a column") | None,
        "mean_precision": Number(above=0),
        "degrees": Number(above=0) | None,
        "scale_prior": Number(above=0) | Array("one a column, a matrix") | None,
        "known_variance": Number(above=0) | None,
        "mean_scale": Number(above=0) | None,
        "init": OneOf("k-means++", "random") | Array("an array of responsibilities (n, K)"),
        "n_init": Whole(1),
        "max_iter": Whole(1),
        "tol": Number(0),
        "batch_size": Whole(1),
        "delay": Number(0),
        "forgetting": Number(above=0.5, most=1, why=", so that the steps converge"),
        "marginals": WAYS,
    }
    allow_nan = True
    usual_marginals = "numbers"
    learned_by = "variational inference"

    counts_: Tensor
    weights_: Tensor
    sticks_: Tensor
    means_: Tensor
    scales_: Tensor
    words_: Tensor
    elbo_: float
    elbo_terms_: dict[str, float]
    elbo_history_: list[float]
    n_batches_: int
    _shift: Tensor  # the data's mean: everything is computed about it
    _sticks0: Tensor
    _m0: Tensor  # about the shift
    _beta0: Tensor
    _nu0: Tensor
    _S0: Tensor
    _words0: Tensor
    _tables: WordCells
    _spread: Tensor  # the data's covariance, from which S_0 comes

    def __init__(
        self,
        n_components: int = 10,
        covariance: str = "full",
        inference: str = "cavi",
        weights: Any = "dirichlet",
        concentration: float | None = None,
        mean_prior: Any = None,
        mean_precision: float = 0.1,
        degrees: float | None = None,
        scale_prior: Any = None,
        known_variance: float | None = None,
        mean_scale: float | None = None,
        init: Any = "k-means++",
        n_init: int = 1,
        max_iter: int = 200,
        tol: float = 1e-4,
        batch_size: int = 512,
        delay: float = 10.0,
        forgetting: float = 0.7,
        marginals: str | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.covariance = covariance
        self.inference = inference
        self.weights = weights
        self.concentration = concentration
        self.mean_prior = mean_prior
        self.mean_precision = mean_precision
        self.degrees = degrees
        self.scale_prior = scale_prior
        self.known_variance = known_variance
        self.mean_scale = mean_scale
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.delay = delay
        self.forgetting = forgetting
        self.marginals = marginals
        self.random_state = random_state

    # ------------------------------------------------------------------ the factors of q

    @property
    def _full(self) -> bool:
        return self.covariance == "full" and self.known_variance is None

    @property
    def _p(self) -> int:
        """The dimension of each Wishart: one for all columns, or one a column."""
        return self.means_.shape[1] if self._full else 1

    def _outer(self, a: Tensor, b: Tensor) -> Tensor:
        """a bᵀ of each component, or its diagonal."""
        return a[:, :, None] * b[:, None, :] if self._full else a * b

    def _beta_nu(self) -> tuple[Tensor, Tensor]:
        """β_k and ν_k; where the variance is known, ν = 1, so that ν S⁻¹ = I/σ²."""
        return self._beta0 + self.counts_, torch.ones_like(
            self.counts_
        ) if self.known_variance is not None else self._nu0 + self.counts_

    def _log_det_gap(self, nu: Tensor) -> Tensor:
        """E log |Λ| + log |S|, Λ ~ Wishart (full) or d gammas (diag); 0 where Λ is known."""
        d = self.means_.shape[1]
        if self.known_variance is not None:
            return torch.zeros_like(nu)
        if not self._full:
            return d * (torch.digamma(nu / 2) + LOG_2)
        return (
            torch.digamma((nu[:, None] - torch.arange(d, device=nu.device)) / 2).sum(1) + d * LOG_2
        )

    def _log_det(self, S: Tensor) -> Tensor:
        return (
            2 * torch.linalg.cholesky(S).diagonal(dim1=-2, dim2=-1).log().sum(-1)
            if self._full
            else S.log().sum(-1)
        )

    def _trace(self, S: Tensor, Q: Tensor) -> Tensor:
        """tr(S⁻¹ Q) of each component."""
        return (
            torch.cholesky_solve(Q, torch.linalg.cholesky(S)).diagonal(dim1=-2, dim2=-1).sum(-1)
            if self._full
            else (Q / S).sum(-1)
        )

    def _log_sticks(self) -> tuple[Tensor, Tensor]:
        """E log v_k and E log(1 − v_k)."""
        return tuple(
            torch.digamma(self.sticks_)
            .sub(torch.digamma(self.sticks_.sum(1, keepdim=True)))
            .unbind(1)
        )  # type: ignore[return-value]

    def _log_weights(self) -> Tensor:
        """E log π_k."""
        if not isinstance(self.weights, str):
            return torch.log(self.weights_)
        log_v, log_rest = self._log_sticks()
        zero = log_v.new_zeros(1)
        return torch.cat([log_v, zero]) + torch.cat([zero, log_rest.cumsum(0)])

    def _plan(self, dtype: torch.dtype) -> LogJoint:
        """log ρ_nk as log w_k + log N(x | m_k, S_k/ν_k)."""
        beta, nu = self._beta_nu()
        d = self.means_.shape[1]
        log_w = self._log_weights() + 0.5 * (self._log_det_gap(nu) - d * torch.log(nu) - d / beta)
        return LogJoint(
            log_w,
            self.means_ - self._shift,
            self.covariances_,
            "full" if self._full else "diag",
            dtype,
            self._log_words() if self._tables else None,
        )

    def _log_words(self) -> Tensor:
        """E log θ, (K, L)."""
        return torch.digamma(self.words_) - torch.digamma(self._tables.of_columns(self.words_))

    # ------------------------------------------------------------------ the bound, term by term

    def _terms(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the ELBO but the entropy of q(z), from sums about the present means."""
        d, N, (beta, nu) = self.means_.shape[1], sums["count"], self._beta_nu()
        gap, log_S = self._log_det_gap(nu), self._log_det(self.scales_)
        log_det = gap - log_S  # E log |Λ_k|
        off = self.means_ - self._shift - self._m0
        trace = nu * self._trace(self.scales_, sums["second"])
        terms = {
            "log_p_x": 0.5 * (N * (log_det - d * LOG_2PI - d / beta) - trace).sum(),
            "log_p_z": (N * self._log_weights()).nan_to_num().sum(),
        }
        # μ_k | Λ_k, then Λ_k
        pull = self._beta0 * (d / beta + nu * self._trace(self.scales_, self._outer(off, off)))
        log_p = 0.5 * (d * (torch.log(self._beta0) - LOG_2PI) + log_det - pull)
        entropy = 0.5 * (d * (1 + LOG_2PI - torch.log(beta)) - log_det)
        if self.known_variance is None:
            p = self._p
            log_B0, log_B = self._log_B(self._nu0, self._log_det(self._S0)), self._log_B(nu, log_S)
            S0 = self._S0.expand_as(self.scales_)
            log_p = (
                log_p
                + log_B0
                + 0.5 * ((self._nu0 - p - 1) * log_det - nu * self._trace(self.scales_, S0))
            )
            entropy = entropy - log_B - 0.5 * ((nu - p - 1) * log_det - nu * d)
        terms["log_p_components"], terms["entropy_components"] = log_p.sum(), entropy.sum()
        if self._tables:
            log_words = self._log_words()
            terms["log_p_x"] = terms["log_p_x"] + (sums["words"] * log_words).sum()
            for name, sign, a in (
                ("log_p_components", 1, self._words0.expand_as(self.words_)),
                ("entropy_components", -1, self.words_),
            ):
                log_norm = torch.lgamma(a).sum() - self._log_gammas_of_columns(a)
                terms[name] = terms[name] + sign * (((a - 1) * log_words).sum() - log_norm)
        log_v, log_rest = self._log_sticks()
        for name, sign, (a, b) in (
            ("log_p_weights", 1, self._sticks0.unbind(1)),
            ("entropy_weights", -1, self.sticks_.unbind(1)),
        ):
            log_norm = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
            terms[name] = sign * (log_norm + (a - 1) * log_v + (b - 1) * log_rest).sum()
        return terms

    def _log_gammas_of_columns(self, a: Tensor) -> Tensor:
        """Σ log Γ(Σ_v a_kjv) over components and columns of words."""
        each = [torch.lgamma(part.sum(1)).sum() for part in a.split(self._tables.levels, 1)]
        return torch.stack(each).sum()

    def _log_B(self, nu: Tensor, log_S: Tensor) -> Tensor:
        """log of the Wishart's normaliser, |S|^(ν/2) / (2^(νp/2) Γ_p(ν/2)), over all blocks."""
        d = self.means_.shape[1]
        gammas = torch.mvlgamma(nu / 2, d) if self._full else d * torch.lgamma(nu / 2)
        return 0.5 * nu * (log_S - d * LOG_2) - gammas

    # ------------------------------------------------------------------ the updates

    def statistics(self, x1: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        """q(z) of rows x1 = (1, x − shift), and its sums, times ``scale``.

        The sums: N_k, Σ r (x − m_k), Σ r (x − m_k)(x − m_k)ᵀ, and of the log-norms of q(z).
        """
        sums = {k: v * scale for k, v in statistics(self._plan(x1.dtype), x1).items()}
        if not self._full:  # those came about the shift
            sums |= self._moved(sums, self.means_ - self._shift)
        return sums

    def summed(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is no sum over rows, beside the sums over all of them.

        ``log_likelihood`` becomes the ELBO with q(z) at its best; ``entropy_z`` is that of q(z)
        (and of missing entries).
        """
        terms, log_norm = self._terms(sums), sums["log_likelihood"]
        entropy = log_norm - terms["log_p_x"] - terms["log_p_z"]
        elbo = log_norm + sum(terms.values()) - terms["log_p_x"] - terms["log_p_z"]
        return {**sums, "log_likelihood": elbo, "entropy_z": entropy}

    def _moved(self, sums: dict[str, Tensor], by: Tensor) -> dict[str, Tensor]:
        """First and second moments about a point that lies ``by`` further."""
        N = sums["count"][:, None]
        cross = self._outer(sums["first"], by)
        cross = cross + cross.mT if self._full else 2 * cross
        return {
            "first": sums["first"] - N * by,
            "second": sums["second"] - cross + self._outer(N * by, by),
        }

    def maximise(self, sums: dict[str, Tensor]) -> None:
        """q(μ, Λ) and q(π) given the sums of q(z), and the ELBO after it."""
        step = self._update(sums)
        self._note({**sums, **self._moved(sums, step)})
        self.elbo_history_ = [*self.elbo_history_, self.elbo_]

    def _update(self, sums: dict[str, Tensor]) -> Tensor:
        """Prior + sums, about the old means; returns how far the means went."""
        N, old = sums["count"], self.means_ - self._shift
        back = self._m0 - old
        beta = (self._beta0 + N)[:, None]
        step = (self._beta0 * back + sums["first"]) / beta
        if self.known_variance is None:
            S = (
                self._S0
                + sums["second"]
                + self._beta0 * self._outer(back, back)
                - self._outer(beta * step, step)
            )
            self.scales_ = (S + S.mT) / 2 if self._full else torch.maximum(S, self._S0)
        self.counts_, self.means_ = N.clone(), old + step + self._shift
        if self._tables:
            self.words_ = self._words0 + sums["words"]
        if isinstance(self.weights, str):
            after = N.flip(0).cumsum(0).flip(0)[1:]
            self.sticks_ = self._sticks0 + torch.stack([N[:-1], after], 1)
            v = self.sticks_[:, 0] / self.sticks_.sum(1)
            one = v.new_ones(1)
            self.weights_ = torch.cat([v, one]) * torch.cat([one, (1 - v).cumprod(0)])
        return step

    def _note(self, sums: dict[str, Tensor]) -> None:
        terms = self._terms(sums) | {"entropy_z": sums["entropy_z"]}
        self.elbo_terms_ = {name: float(terms[name]) for name in sorted(terms)}
        self.elbo_ = sum(self.elbo_terms_.values())

    def _step(self, sums: dict[str, Tensor], rate: float, growth: float = 1.0) -> None:
        """The natural-gradient step s ← (1 − ρ) s + ρ ŝ, about the present means.

        ``growth``: of the number of rows.
        """
        back = self._m0 - (self.means_ - self._shift)
        now = {"count": self.counts_, "first": -self._beta0 * back}
        now["second"] = self.scales_ - self._S0 - self._beta0 * self._outer(back, back)
        if self._tables:
            now["words"] = self.words_ - self._words0
        self._update({k: (1 - rate) * growth * v + rate * sums[k] for k, v in now.items()})

    # ------------------------------------------------------------------ fit

    def build(self, space: Space) -> None:
        self._tables = WordCells(space, self.coordinates_)
        K, d = self.n_components, len(self._tables.numbers)
        if self.mean_scale is not None and self.known_variance is None:
            raise ValueError(
                "mean_scale needs known_variance; with an unknown one, "
                "mean_precision says how far means may lie apart"
            )
        p = d if self._full else 1
        if self.degrees is not None and self.degrees <= p - 1:
            raise ValueError(
                f"degrees={self.degrees!r}: more than {p - 1} are needed for {d} columns"
            )
        what = f"n_components={K} with covariance={self.covariance!r} over {d:,} columns"
        cure = "pass covariance='diag', or fewer components or columns"
        check_fits(5 * K * d * p, what, cure)
        kw: dict[str, Any] = {"dtype": torch.float64}
        if self._tables:
            self.register_buffer("words_", torch.ones(K, sum(self._tables.levels), **kw))
            self.register_buffer("_words0", torch.ones(sum(self._tables.levels), **kw))
        shape = (d, d) if self._full else (d,)
        given = None
        if not isinstance(self.weights, str):
            given = torch.as_tensor(np.asarray(self.weights, dtype=np.float64))
            if (
                given.shape != (K,)
                or not bool((given > 0).all())
                or abs(float(given.sum()) - 1) > 1e-6
            ):
                raise ValueError(
                    f"weights={self.weights!r}: "
                    f"{K} positive numbers that sum to 1 are needed, one for each component"
                )
        alpha = 1.0 if self.concentration is None else float(self.concentration)
        rest = torch.arange(K - 1, 0, -1, **kw)
        if given is not None:
            rest = rest[:0]
        process = torch.stack([torch.ones_like(rest), torch.full_like(rest, alpha)], 1)
        dirichlet = torch.stack([torch.full_like(rest, alpha), alpha * rest], 1)
        self.register_buffer(
            "_sticks0", dirichlet if given is not None or self.weights == "dirichlet" else process
        )
        self.register_buffer("sticks_", self._sticks0.clone())
        self.register_buffer("weights_", torch.full((K,), 1 / K, **kw) if given is None else given)
        self.register_buffer("counts_", torch.zeros(K, **kw))
        self.register_buffer("means_", torch.zeros(K, d, **kw))
        self.register_buffer(
            "scales_",
            torch.diag(torch.ones(d, **kw)).repeat(K, 1, 1)
            if self._full
            else torch.ones(K, d, **kw),
        )
        self.register_buffer("_shift", torch.zeros(d, **kw))
        self.register_buffer("_m0", torch.zeros(d, **kw))
        self.register_buffer("_beta0", torch.ones((), **kw))
        self.register_buffer("_nu0", torch.ones((), **kw))
        self.register_buffer("_S0", torch.zeros(shape, **kw))

    def _priors(self, y: Tensor) -> Tensor:
        """Set m_0, β_0, ν_0, S_0 where they are left to the data; returns the centred rows.

        Missing entries are put there at the mean.
        """
        d = self.means_.shape[1]
        check_observed(self.space_, (~torch.isnan(y)).any(0))
        y, _ = self._tables.split(y)
        seen = ~torch.isnan(y)
        if self._tables:  # worth one row
            self._words0 = self._tables.shares()
        self._shift = torch.nanmean(y, 0)
        centred = torch.where(seen, y - self._shift, 0.0)
        variance = centred.square().sum(0) / seen.sum(0)
        floor = variance_floor(variance, self._shift, 1e-6)
        self._m0 = (
            torch.zeros_like(self._shift)
            if self.mean_prior is None
            else self._taken("mean_prior", (d,)) - self._shift
        )
        off = self._m0.abs() / torch.maximum(variance, floor).sqrt()
        if bool((off > FAR).any()):
            name = self.space_.names()[self._tables.numbers[int(off.argmax())]]
            raise ValueError(
                f"mean_prior lies {float(off.max()):.1g} standard deviations off the mean of "
                f"{name}: at most {FAR:.0g} leave digits to X"
            )
        self._beta0.fill_(self.mean_precision)
        self._nu0.fill_(1.0 if self.degrees is None else self.degrees)
        if self.known_variance is not None:
            if self.mean_scale is not None:
                self._beta0.fill_(self.known_variance / self.mean_scale**2)
            return centred
        if self.scale_prior is not None:
            self._S0 = self._taken("scale_prior", tuple(self._S0.shape))
            bad = torch.linalg.cholesky_ex(self._S0)[1] > 0 if self._full else (self._S0 <= 0).any()
            if bool(bad):
                raise ValueError(
                    "scale_prior: a positive definite matrix is needed"
                    if self._full
                    else "scale_prior: positive numbers"
                )
        else:
            if self._full:
                cov = centred.T @ centred / len(y)
                cov.diagonal().copy_(variance)
                cov = cov + torch.diag(floor)
                left_out = LeaveOneOut(cov, len(y))
                left_out.add(centred)
                self._spread = towards_diagonal(cov, left_out.best())
            else:
                self._spread = variance + floor
        self._worth((self._p + 2) / 4)
        return centred

    def _worth(self, rows: float) -> None:
        """Set ν_0 and S_0 where they are left to the data, worth that many rows."""
        K, d = self.means_.shape
        if self.degrees is None:
            self._nu0.fill_(self._p - 1 + rows)
        if self.scale_prior is None:
            self._S0 = rows * self._spread / K ** (2 / d)

    def _taken(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """An argument in the units of the data as a tensor of that shape."""
        value = torch.as_tensor(
            np.asarray(getattr(self, name), dtype=np.float64), device=self._device()
        )
        if tuple(value.shape) != shape and (value.dim() or len(shape) > 1):
            raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {shape}")
        return value.expand(shape).clone()

    @torch.no_grad()
    def learn(self, fit: Fit) -> None:
        cavi = self.inference == "cavi"
        rows = fit.rows
        if cavi or len(rows) <= FIRST_LOOK:
            first = rows.look(rng=self.rng)[0]
            y = torch.cat([self.real(x, self.rng)[0] for x in first.split(8192)])
        else:
            y = self.real(
                rows.take(rows.order(self.rng)[:FIRST_LOOK], self.rng)[0],
                self.rng,
            )[0]
        resumed = hasattr(self, "n_iter_")
        earlier = self._nu0.clone(), self._S0.clone()
        centred = self._priors(y)
        if resumed:
            self._nu0, self._S0 = earlier
        if cavi:
            single = (
                rows.take(slice(0, 1))[0].dtype == torch.float32
                and len(rows) > 10 * self.n_components * y.shape[1]
            )
            scales = centred.square().mean(0)
            single = single and not bool(
                (scales > 1e30).any() or ((scales > 0) & (scales < 1e-30)).any()
            )
            dtype = torch.float32 if single else torch.float64
            if len(y) == len(rows):
                work = Rows(self._with_ones(y).to(dtype))
            else:
                work = rows.mapped(lambda x: self._with_ones(self.real(x, self.rng)[0]).to(dtype))
            inner = dataclasses.replace(fit, rows=work)

        every = torch.ones(len(y), dtype=y.dtype, device=y.device)
        if drawn := isinstance(self.init, str):
            some, weight, _ = sample_rows(y, every, SAMPLE * self.n_components)
        else:
            some, weight = torch.arange(len(y), device=y.device), every
        z, x1 = centred[some], self._with_ones(y[some])
        scale = len(rows) / float(weight.sum())

        shares = itertools.cycle((4, 4, 3, 4, 2, 4, 1, 4))  # quarters of K that begin with rows

        def begin() -> None:
            self.elbo_history_, self.n_batches_ = [], 0
            clusters = -(-len(self.means_) * next(shares) // 4) if several else len(self.means_)
            self._start(z, x1[:, 1 + z.shape[1] :].to(z.dtype), scale, clusters)

        def step() -> float:
            sums = self.summed(self.statistics(x1, scale))
            self._update(sums)
            return float(sums["log_likelihood"])

        def run() -> float:
            if not cavi:
                self._stochastic(fit)
                return self.elbo_
            self.converged_ = solve(
                self,
                inner,
                max_iter=self.max_iter,
                tol=self.tol,
                start=self.n_iter_,
                chunk=work.at_once,
            )
            return self.elbo_

        several = drawn and self.init != "random" and len(self.means_) > 1

        def elbo(rows: float) -> float:
            """With a prior worth that many rows, the same q(z) before, the best one after."""
            self.load_state_dict(state)
            self._worth(rows)
            self._update(sums)
            return float(self.summed(self.statistics(x1, scale))["log_likelihood"])

        free = self.scale_prior is None and self.degrees is None and self.known_variance is None
        if free and not resumed:
            begin()
            worth = usual = (self._p + 2) / 4
            for _ in range(2):  # another prior, other clusters
                for _ in range(STEPS):
                    step()
                sums = self.summed(self.statistics(x1, scale))
                state = {name: value.clone() for name, value in self.state_dict().items()}
                worth, _ = by_factors(elbo, worth, usual * LEAST / worth)
                elbo(worth)
        best_start(self, fit, self.n_init, begin, run, step if several else None)
        self.n_seen_ = float(len(rows))
        warn_unless_converged(self, "inference", unit="sweeps")

    def _stochastic(self, fit: Fit) -> None:
        """Passes over the rows in another order each, a natural-gradient step a batch."""
        rows, n, begun, limit = fit.rows, len(fit.rows), time.perf_counter(), fit.time_left()
        previous, self.converged_ = -math.inf, False
        with (
            CtrlC() as ctrl_c,
            Bar(fit.trainer.progress, type(self).__name__, self.max_iter, limit) as bar,
        ):
            try:
                for i in range(self.n_iter_, self.max_iter):
                    rng = generator(fit.seed * 1_000_003 + i, rows.device)
                    now = 0.0
                    for index in rows.order(rng).split(self.batch_size):
                        x1 = self._with_ones(self.real(rows.take(index, rng)[0], rng)[0])
                        sums = self.summed(self.statistics(x1, n / len(index)))
                        now += float(sums["log_likelihood"]) * len(index) / n
                        self.n_batches_ += 1
                        self._step(sums, (self.n_batches_ + self.delay) ** -self.forgetting)
                        ctrl_c.check()
                    if not math.isfinite(now):
                        raise DivergenceError(
                            f"the ELBO is not finite at pass {i + 1}: "
                            "rescale the data or raise mean_precision"
                        )
                    self.n_iter_ = i + 1
                    self.elbo_history_ = [*self.elbo_history_, now]
                    line = {
                        "stage": "",
                        "epoch": i + 1,
                        "objective": -now / n,
                        "seconds": time.perf_counter() - begun,
                    }
                    self.history_ = [*self.history_, line]
                    bar.update(i + 1, i, -now / n, n)
                    self.converged_ = abs(now - previous) < self.tol * n
                    previous = now
                    if self.converged_ or time.perf_counter() - begun > limit:
                        break
            except KeyboardInterrupt:
                warnings.warn(
                    f"interrupted in pass {self.n_iter_ + 1}: the model is usable as it is",
                    stacklevel=2,
                )
                self.interrupted_ = True
        rng = generator(fit.seed, rows.device)
        parts = [
            self.statistics(self._with_ones(self.real(x, rng)[0]))
            for (x,) in rows.chunks(8192, rng)
        ]
        self._note(self.summed({k: torch.stack([p[k] for p in parts]).sum(0) for k in parts[0]}))

    def partial_fit(self, X: RowsLike, y: Any = None) -> Self:
        """One natural-gradient step on the rows of X, scaled to all rows seen so far.

        ρ_t = (t + 1)^−κ; the first call fits. Later calls need rows of the same kind. ``elbo_`` and
        ``elbo_terms_`` become estimates from X.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X)
        x = self._codes(X)
        self.n_partial_ = getattr(self, "n_partial_", 0) + 1
        rng = generator(seed_of(self.random_state) + self.n_partial_, x.device)
        with torch.no_grad():
            n = self.n_seen_ + len(x)
            sums = self.summed(self.statistics(self._with_ones(self.real(x, rng)[0]), n / len(x)))
            self._note(sums)
            self._step(sums, (self.n_partial_ + 1) ** -self.forgetting, n / self.n_seen_)
            self.n_seen_ = n
        return self

    def _go_on_from(self, source: Any) -> None:
        super()._go_on_from(source)
        for name in ("elbo_history_", "n_batches_", "elbo_", "elbo_terms_"):
            if hasattr(source, name):
                setattr(self, name, getattr(source, name))

    def _with_ones(self, y: Tensor) -> Tensor:
        """Rows (1, y − shift, h) of coordinates (n, d)."""
        numbers, hot = self._tables.split(y)
        return torch.cat([y.new_ones(len(y), 1), numbers - self._shift, hot], 1)

    def _start(self, centred: Tensor, hot: Tensor, scale: float, clusters: int) -> None:
        """q(μ, Λ), q(θ) and q(π) from a first q(z), in which so many components have rows."""
        K = len(self.means_)
        if isinstance(self.init, str):
            z = centred / centred.square().mean(0).sqrt().clamp_min(1e-150)
            clever = self.init == "k-means++"
            label, _ = k_means(
                z,
                torch.ones_like(z[:, 0]),
                clusters,
                self.rng,
                steps=10 if clever else 0,
                spread=clever,
            )
            r = z.new_zeros(K, len(z)).scatter_(0, label[None], 1.0)
        else:
            r = torch.as_tensor(np.asarray(self.init, dtype=np.float64), device=centred.device).T
            if (
                r.shape != (K, len(centred))
                or not bool((r >= 0).all())
                or not torch.allclose(r.sum(0), r.new_ones(()))
            ):
                raise ValueError(
                    f"init: responsibilities ({len(centred)}, {K}) "
                    "that sum to 1 in every row are needed"
                )
        r = r * scale
        self.means_ = self._shift.repeat(K, 1)
        if self.known_variance is not None:
            self.scales_ = torch.full_like(self.scales_, self.known_variance)
        second = (
            torch.stack([(centred * w[:, None]).T @ centred for w in r])
            if self._full
            else r @ centred.square()
        )
        sums = {"count": r.sum(1), "first": r @ centred, "second": second, "words": r @ hot}
        self._update(sums)

    # ------------------------------------------------------------------ the predictive density

    def _students(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """m_k, (1 + β_k) S_k / (β_k f_k) and f_k.

        Where the variance is known, Gaussians of variance σ² (1 + β_k)/β_k.
        """
        beta, nu = self._beta_nu()
        f = None if self.known_variance is not None else nu + 1 - self._p
        wide = (1 + beta) / (beta if f is None else beta * f)
        return self.means_, self.scales_ * wide.reshape(-1, *[1] * (self.scales_.dim() - 1)), f

    def _weights_of(self, hot: Tensor) -> Tensor:
        """log E[π_k] + Σ log E[θ_kj] at the words of rows, (K, n)."""
        log_w = torch.log(self.weights_)[:, None].expand(-1, len(hot))
        return log_w + self._table().log() @ hot.T if self._tables else log_w

    def _table(self) -> Tensor:
        """E[θ], (K, L)."""
        return self.words_ / self._tables.of_columns(self.words_)

    def _joint(self, y: Tensor) -> Tensor:
        """log E[π_k] + log St(y | k) + log E[θ_k] of words, (K, n); NaN entries integrated out."""
        numbers, hot = self._tables.split(y)
        return self._weights_of(hot) + log_students(numbers, *self._students())

    def log_density(self, y: Tensor) -> Tensor:
        """log p(y | X) under q: a mixture of Student's t, times tables of words."""
        log_p = torch.logsumexp(self._joint(y), 0)
        return log_p - self._tables.log_base(y) if self._tables else log_p

    log_density_observed = log_density

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """k ~ E[π], then y from that Student's t, and words from their tables."""
        kw: dict[str, Any] = {"dtype": torch.float64, "device": self.means_.device}
        return self.draw_given(torch.full((n, self.space_.dim), math.nan, **kw), rng)

    def draw_given(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """The missing entries given those observed: numbers, then k given all of them, then words.

        k ~ p(k | observed), then numbers from Student's t.
        """
        numbers, hot = self._tables.split(y)
        log_w = self._weights_of(hot)
        drawn = draw_students(numbers, log_w, *self._students(), rng)
        if not self._tables:
            return drawn
        log_p = log_w + log_students(drawn, *self._students())
        k = choose(torch.softmax(log_p, 0).T, rng)
        out = torch.empty_like(y)
        out[:, self._tables.numbers] = drawn
        out[:, self._tables.at] = self._tables.draw(self._table()[k], rng)
        return torch.where(torch.isnan(y), out, y)

    @property
    def covariances_(self) -> Tensor:
        """1 / E[Λ_k] = S_k/ν_k, (K, d, d) or (K, d)."""
        return self.scales_ / self._beta_nu()[1].reshape(-1, *[1] * (self.scales_.dim() - 1))

    # ------------------------------------------------------------------ clusters

    def _by_row(self, X: Any, hook: Any) -> np.ndarray:
        x, _ = self._enter(X)
        half = torch.full((), 0.5, dtype=torch.float64, device=x.device)
        return self._chunked(lambda c: torch.softmax(hook(self.real(c, half)[0]), 0).T, x).numpy()

    def responsibilities(self, X: Any) -> np.ndarray:
        """q(z) of each row as the sweeps use it: r_nk ∝ exp E[log π_k N(x_n | μ_k, Λ_k⁻¹)]."""
        return self._by_row(X, lambda y: log_joint(self._plan(torch.float64), self._with_ones(y)))

    def predict_proba(self, X: RowsLike) -> np.ndarray:
        """p(k | x) of each row under the predictive mixture, (n, K).

        Discrete cells are taken at their centre.
        """
        return self._by_row(X, self._joint)

    def predict(self, X: RowsLike) -> np.ndarray:
        """The likeliest component of each row, (n,)."""
        return self.predict_proba(X).argmax(1)

    def n_parameters(self) -> int:
        """What a point estimate would have: weights, means and covariances."""
        self._check_fitted()
        K, d = self.means_.shape
        scales = (
            0 if self.known_variance is not None else K * d * (d + 1) // 2 if self._full else K * d
        )
        tables = K * sum(levels - 1 for levels in self._tables.levels)
        return len(self.sticks_) + K * d + scales + tables
