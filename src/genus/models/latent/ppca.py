r"""Linear latent variables: probabilistic PCA and factor analysis.

Tipping & Bishop (1999); Rubin & Thayer (1982).

    z ~ N(0, I_K),  y | z ~ N(μ + W z, Ψ)        so that        y ~ N(μ, W Wᵀ + Ψ)

Ψ is diagonal: σ² I in probabilistic PCA, free in factor analysis. Everything is written in whitened
columns, V = Ψ^-½ W and t = Ψ^-½ (y − μ); only the observed entries o of a row enter, V_o and t_o:

    M = I + V_oᵀ V_o,  m = M⁻¹ V_oᵀ t_o,  z | y_o ~ N(m, M⁻¹)
    log p(y_o) = −½ [ |t_o − V_o m|² + |m|² + log det M + Σ_{j∈o} log 2πψ_j ]

No matrix of d × d is formed, and nothing cancels.

Complete rows. λ_i, u_i are the leading eigenvalues and eigenvectors of the covariance Ψ^-½ S Ψ^-½
(of the smaller Gram matrix); in PCA Ψ = I there:

    PCA:  σ² = (tr S − Σ_{i≤K} λ_i)/(d − K),    W = U (Λ − σ² I)^½
    FA:   W = Ψ^½ U (Λ − I)_+^½, the best for this Ψ, then ψ_j = S_jj − Σ_k W_jk²

The second is an EM step, so that the likelihood cannot fall.

Incomplete rows, by EM with z alone as what is missing. With a = (1, z), for every column j over the
rows that show it:

    (δ_j, w_j) = (Σ_n E[a aᵀ])⁻¹ Σ_n E[a] t_nj
    ψ_j ← ψ_j mean(t_nj² − (δ_j, w_j)·E[a] t_nj)

and then N(0, I) is restored to the z: with a_0 and R R ᵀ their mean and covariance, μ ← μ + W a_0,
W ← W R (parameter expansion, Liu, Rubin & Wu, 1998; far fewer iterations).
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from genus.density import WAYS, DensityModel
from genus.distributions.columns import check_observed
from genus.distributions.normals import by_pattern, variance_floor
from genus.distributions.points import LOG_2PI
from genus.encoder import Encoder
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.starts import warn_unless_converged
from genus.learn.sums import solve
from genus.settings import Flag, Number, Rule, Whole
from genus.space import Space

DENSE = 2048  # the largest Gram matrix that is decomposed whole
FLOOR = 1e-6  # least noise, as a share of the variance
CELLS = 4_000_000  # numbers held at a time
ENOUGH = 0.01  # noise, as a share of the variance, below which no more components are asked for
QUANTILES = 32  # of the noise, for expected levels of discrete cells


class LinearGaussian(Encoder, DensityModel):
    """What both models share: N(μ, W Wᵀ + Ψ), whole or partly observed."""

    arguments: ClassVar[dict[str, Rule]] = {
        "n_components": Whole(1) | None,
        "max_iter": Whole(1),
        "tol": Number(0),
        "marginals": WAYS,
    }
    allow_nan = True
    learned_by = "closed form, EM"
    learned_shapes = ("loadings_",)  # as many columns as the data tell

    mean_: Tensor
    loadings_: Tensor
    noise_: Tensor
    _scale: Tensor  # s: the units in which a component is chosen, and in PPCA the noise is equal
    _floor: Tensor
    # while learning: complete rows as n, a root of S, its diagonal
    _scatter: tuple[float, Tensor, Tensor] | None
    _known: list[tuple[Tensor, Tensor, Tensor]] | None  # while learning: the patterns of the rows
    one_noise: ClassVar[bool]

    n_components: int | None
    max_iter: int
    tol: float

    # ------------------------------------------------------------------ the posterior

    def _patterns(self, y: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows by what they show: index (P, R), real (P, R) False where padded, o (P, d).

        Complete rows need no search.
        """
        d, K = self.loadings_.shape
        whole = ~torch.isnan(y).any(1)
        for index in whole.nonzero()[:, 0].split(8192):
            if len(index):
                yield (
                    index[None],
                    torch.ones_like(index[None], dtype=torch.bool),
                    whole.new_ones(1, d),
                )
        if not whole.all():
            part = (~whole).nonzero()[:, 0]
            for index, real, o in by_pattern(y[part], 1 + CELLS // (d + K * K)):
                yield part[index], real, o

    def _groups(self, y: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Patterns with t (P, R, d), 0 where missing, m (P, R, K), J (P, K, K).

        J is lower triangular, with M⁻¹ = Jᵀ J.
        """
        V = self.loadings_ / self.noise_.sqrt()[:, None]
        d, K = V.shape
        VV = (V[:, :, None] * V[:, None, :]).reshape(d, K * K)
        eye = torch.eye(K, dtype=y.dtype, device=y.device)
        for index, real, o in self._known or self._patterns(y):
            f = o.to(y.dtype)
            t = ((y[index] - self.mean_) / self.noise_.sqrt()).nan_to_num() * f[:, None]
            M = (f @ VV).reshape(len(f), K, K) + eye
            J = torch.linalg.solve_triangular(
                torch.linalg.cholesky(M), eye.expand_as(M), upper=False
            )
            yield index, real, o, t, t @ V @ J.mT @ J, J

    def log_density(self, y: Tensor) -> Tensor:
        """log N(y | μ, W Wᵀ + Ψ) of the entries that are not NaN."""
        V = self.loadings_ / self.noise_.sqrt()[:, None]
        out = y.new_empty(len(y))
        for index, real, o, t, m, J in self._groups(y):
            out[index[real]] = self._log_p(V, o, t, m, J)[real]
        return out

    log_density_observed = log_density

    def _log_p(self, V: Tensor, o: Tensor, t: Tensor, m: Tensor, J: Tensor) -> Tensor:
        rest = t - (m @ V.T) * o[:, None]
        constant = o.to(t.dtype) @ (self.noise_.log() + LOG_2PI) - 2 * J.diagonal(
            dim1=1, dim2=2
        ).log().sum(1)
        return -0.5 * (rest.square().sum(2) + m.square().sum(2) + constant[:, None])

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """μ + W z + Ψ^½ ε."""
        kw: dict[str, Any] = {"generator": rng, "dtype": torch.float64, "device": self.mean_.device}
        d, K = self.loadings_.shape
        return (
            self.mean_
            + torch.randn(n, K, **kw) @ self.loadings_.T
            + torch.randn(n, d, **kw) * self.noise_.sqrt()
        )

    def draw_given(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """z ~ N(m, M⁻¹), then the missing entries as from any z."""
        out = y.clone()
        for index, real, o, t, m, J in self._groups(y):
            e = torch.randn(m.shape, generator=rng, dtype=y.dtype, device=y.device)
            z = m + e @ J
            noise = (
                torch.randn(t.shape, generator=rng, dtype=y.dtype, device=y.device)
                * self.noise_.sqrt()
            )
            drawn = torch.where(o[:, None], y[index], self.mean_ + z @ self.loadings_.T + noise)
            out[index[real]] = drawn[real]
        return out

    def gaussians(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, list[int]]:
        """N(μ, W Wᵀ + Ψ), of all cells."""
        cov = self.loadings_ @ self.loadings_.T + torch.diag(self.noise_)
        one = self.mean_.new_zeros(len(x), 1)
        return one, self.mean_[None], cov[None], list(range(len(self.mean_)))

    def mean_given(self, y: Tensor) -> Tensor:
        """y with its NaN entries at μ + W E[z | observed]."""
        out = y.clone()
        for index, real, o, _, m, _ in self._groups(y):
            expected = self.mean_ + m @ self.loadings_.T
            out[index[real]] = torch.where(o[:, None], y[index], expected)[real]
        return out

    # ------------------------------------------------------------------ the latent space

    def posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n, K) and covariance (n, K, K) of z given each row; NaN entries are integrated out.

        Discrete cells are taken at their centre. The covariance depends only
        on which entries are observed.
        """
        x, _ = self._enter(X)
        K = self.loadings_.shape[1]
        with torch.no_grad():
            y = self._centres(x)
            mean, cov = y.new_empty(len(y), K), y.new_empty(len(y), K, K)
            for index, real, _, _, m, J in self._groups(y):
                mean[index[real]] = m[real]
                cov[index[real]] = (J.mT @ J)[:, None].expand(*index.shape, K, K)[real]
        return mean.cpu().numpy(), cov.cpu().numpy()

    def _centres(self, x: Tensor) -> Tensor:
        return self.real(x, torch.full((), 0.5, dtype=torch.float64, device=x.device))[0]

    # ------------------------------------------------------------------ learning

    def build(self, space: Space) -> None:
        K, d = self.n_components, space.dim
        kw: dict[str, Any] = {"dtype": torch.float64}
        self.register_buffer("mean_", torch.zeros(d, **kw))
        self.register_buffer("loadings_", torch.zeros(d, min(K or 1, d - 1), **kw))
        for name in ("noise_", "_scale", "_floor"):
            self.register_buffer(name, torch.ones(d, **kw))
        self._scatter = self._known = None

    @torch.no_grad()
    def learn(self, fit: Fit) -> None:
        resumed = hasattr(self, "n_iter_")
        rows = fit.rows
        y = torch.cat([self.real(x, self.rng)[0] for x in rows.look(rng=self.rng)[0].split(8192)])
        n, d = len(rows), y.shape[1]
        few = len(y) == n
        if few:
            seen = ~torch.isnan(y)
            share = seen.double().mean(0)
            check_observed(self.space_, share)
            mean = y.nan_to_num().mean(0) / share
            A = torch.where(seen, y - mean, 0.0)
            variance = A.square().mean(0) / share
        else:
            share, mean, G = self._second_moments(rows, torch.nanmean(y, 0).nan_to_num())
            check_observed(self.space_, share)
            variance = G.diagonal() / n / share
        own = variance_floor(variance, mean, FLOOR)
        constant = own > FLOOR * variance
        self._prepare(variance, own, constant)
        whole = bool((share == 1).all())
        # AᵀA = S in units of s, its diagonal right where entries are missing
        unit = self._scale * share.sqrt() * math.sqrt(n)
        if few:
            A = A / unit
        dense = d <= DENSE or not self.one_noise
        if not few or (n > d and dense):  # a root of S serves as well as the rows
            values, Q = torch.linalg.eigh(A.T @ A if few else G / unit / unit[:, None])
            A = values.clamp_min(0).sqrt()[:, None] * Q.T
        total = (variance / self._scale.square()).sum()
        if not resumed:
            self.mean_ = mean
            K = self._how_many(
                *self._equal_noise(A, total), n, float(share.mean()), max(1, int((~constant).sum()))
            )
            values, U = leading(A, K, self.rng)
            noise = ((total - values.sum()) / max(d - K, 1)).clamp_min(
                float((self._floor / self._scale.square()).min())
            )
            W = self._scale[:, None] * U * (values - noise).clamp_min(0).sqrt()
            self._take(
                W,
                noise.expand(d) * self._scale.square()
                if self.one_noise
                else variance - W.square().sum(1),
            )
            self.history_, self.n_iter_, self.converged_ = [], 0, True
        if whole and self.one_noise:  # that was the answer
            self.n_iter_ = 1
            self.history_ = [
                {"stage": "", "epoch": 1, "objective": -float(self.log_density(y).mean())}
            ]
            return
        if whole:
            self._scatter = n, A * self._scale, variance
            work = Rows(y[:1])  # of complete rows the covariance is all there is to know
        elif few:
            self._known = list(self._patterns(y))
            work = Rows(y)
        else:
            work = rows.mapped(lambda x: self.real(x, self.rng)[0])
        self.converged_ = solve(
            self,
            dataclasses.replace(fit, rows=work),
            max_iter=self.max_iter,
            tol=self.tol,
            start=self.n_iter_,
            chunk=len(work) if few else 8192,
        )
        self._scatter = self._known = None
        warn_unless_converged(self)

    def _second_moments(self, rows: Rows, origin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Share that is seen and mean of each column, and Σ (y − mean)(y − mean)ᵀ, 0 where missing.

        In one pass over the rows, about an origin: with w = 1 where y is seen, z = w (y − origin)
        and m the mean of z, Σ z zᵀ − m_k Σ z_j w_k − m_j Σ w_j z_k + m_j m_k Σ w_j w_k.
        """
        d = len(origin)
        S = origin.new_zeros(d, 3 * d)
        for x, *_ in rows.chunks(8192, self.rng):
            y = self.real(x, self.rng)[0]
            w = (~torch.isnan(y)).double()
            z = torch.nan_to_num(y - origin)
            S[:, :d] += z.T @ z
            S[:, d : 2 * d] += z.T @ w
            S[:, 2 * d :] += w.T @ w
        zz, zw, ww = S.split(d, 1)
        m = zw.diagonal() / ww.diagonal()
        cross = zw * m
        G = zz - cross - cross.T + ww * torch.outer(m, m)
        return ww.diagonal() / len(rows), origin + m, G

    def _prepare(self, variance: Tensor, own: Tensor, constant: Tensor) -> None:
        """The units s of the columns, and the least noise."""
        raise NotImplementedError

    def _equal_noise(self, A: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """A and its total variance in units in which all columns are about equally noisy."""
        return A, total

    def _how_many(self, A: Tensor, total: Tensor, rows: int, share: float, d: int) -> int:
        """K as given, or where the Bayesian information criterion is best (Schwarz, 1978).

        Noise below 1 % of the mean variance earns nothing: who has explained 99 % has enough. Nor
        does noise below the share of missing cells, for AᵀA, zero where one is missing, is off its
        diagonal too small by that share.
        """
        n = rows * share
        most = A.shape[1] - 1
        if self.n_components is not None:
            if self.n_components > max(most, 1):
                warnings.warn(
                    f"n_components={self.n_components}, "
                    f"but X has {most + 1} columns: {most} are fitted",
                    stacklevel=5,
                )
            return min(int(self.n_components), most)
        limit = int(max(1, min(most, d - 1, n / 2, 200)))
        values = leading(A, limit, self.rng)[0]
        k = torch.arange(1, limit + 1, dtype=torch.float64, device=values.device)
        least = max(ENOUGH, 1 - share) * float(total) / d
        noise = ((total - values.cumsum(0)) / (d - k).clamp_min(1)).clamp_min(least)
        fit = values.clamp_min(least).log().cumsum(0) + (d - k) * noise.log()
        return min(most, int((fit + (d * k - k * (k - 1) / 2) * math.log(n) / n).argmin()) + 1)

    def _take(self, W: Tensor, noise: Tensor) -> None:
        """Keep W and Ψ, the components turned into the order and signs that are theirs alone.

        Wᵀ Ψ⁻¹ W is diagonal and falling, and each component's largest loading is positive.
        """
        self.noise_ = torch.maximum(noise, self._floor)
        V = W / self.noise_.sqrt()[:, None]
        W = W @ torch.linalg.eigh(V.T @ V)[1].flip(1)
        if W.shape[1]:
            top = V.new_ones(1) * W.gather(0, (W / self._scale[:, None]).abs().argmax(0)[None])
            W = W * torch.where(top < 0, -1.0, 1.0)
        self.loadings_ = W.contiguous()

    def statistics(self, y: Tensor) -> dict[str, Tensor]:
        """Sums over rows y: log-likelihood, weight, and what the M step needs.

        Of complete rows the covariance stands for all.
        """
        if self._scatter is not None:
            return self._best_loadings(*self._scatter)
        d, K = self.loadings_.shape
        V = self.loadings_ / self.noise_.sqrt()[:, None]
        kw: dict[str, Any] = {"dtype": y.dtype, "device": y.device}
        log_likelihood, aa, latent = (
            torch.zeros((), **kw),
            torch.zeros(d, (K + 1) ** 2, **kw),
            torch.zeros((K + 1) ** 2, **kw),
        )
        at, tt = torch.zeros(K + 1, d, **kw), torch.zeros(d, **kw)
        for _, real, o, t, m, J in self._groups(y):
            w = real.to(y.dtype)
            log_likelihood += (self._log_p(V, o, t, m, J) * w).sum()
            t = t * w[..., None]
            a = torch.cat([w[..., None], m * w[..., None]], 2)
            each = a.mT @ a
            each[:, 1:, 1:] += (J.mT @ J).mul_(w.sum(1)[:, None, None])
            aa += o.to(y.dtype).T @ each.flatten(1)
            latent += each.flatten(1).sum(0)
            at += a.flatten(0, 1).T @ t.flatten(0, 1)
            tt += t.square().sum((0, 1))
        n = torch.tensor(float(len(y)), **kw)
        return {
            "log_likelihood": log_likelihood,
            "weight": n,
            "aa": aa,
            "at": at,
            "tt": tt,
            "latent": latent,
        }

    def _best_loadings(self, n: float, root: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """The best W for this Ψ, from a root of the covariance."""
        A = root / self.noise_.sqrt()
        values, U = leading(A, self.loadings_.shape[1], self.rng)
        big = values.clamp_min(1)
        rest = (variance / self.noise_).sum() - values.sum() + (values / big + big.log()).sum()
        log_likelihood = -0.5 * n * (rest + self.noise_.log().sum() + len(variance) * LOG_2PI)
        W = self.noise_.sqrt()[:, None] * U * (big - 1).sqrt()
        return {
            "log_likelihood": log_likelihood,
            "weight": torch.tensor(float(n), device=self.noise_.device),
            "W": W,
            "noise": variance - W.square().sum(1),
        }

    def maximise(self, sums: dict[str, Tensor]) -> None:
        """The M step."""
        if "W" in sums:
            self._take(sums["W"], sums["noise"])
            return
        d, K = self.loadings_.shape
        aa, at = sums["aa"].reshape(d, K + 1, K + 1), sums["at"].T
        count = aa[:, 0, 0]
        new = torch.cholesky_solve(at[..., None], torch.linalg.cholesky(aa))[..., 0]
        rest = (sums["tt"] - (new * at).sum(1)).clamp_min(0)
        psi = self.noise_
        if self.one_noise:
            s = self._scale.square()
            noise = (rest * psi / s).sum() / count.sum() * s
        else:
            noise = rest / count * psi
        latent = sums["latent"].reshape(K + 1, K + 1) / sums["weight"]
        mean = latent[0, 1:]
        R = torch.linalg.cholesky(latent[1:, 1:] - torch.outer(mean, mean))
        new = new * psi.sqrt()[:, None]
        self.mean_ = self.mean_ + new[:, 0] + new[:, 1:] @ mean
        self._take(new[:, 1:] @ R, noise)

    @property
    def _n_features_out(self) -> int:
        return self.loadings_.shape[1]

    def n_parameters(self) -> int:
        """Free parameters: means, noise, and loadings up to a rotation."""
        self._check_fitted()
        d, K = self.loadings_.shape
        return d + (1 if self.one_noise else d) + d * K - K * (K - 1) // 2

    # ------------------------------------------------------------------ hooks

    def _encode(self, x: Tensor) -> Tensor:
        y = self._centres(x)
        out = y.new_empty(len(y), self.loadings_.shape[1])
        for index, real, _, _, m, _ in self._groups(y):
            out[index[real]] = m[real]
        return out

    def _decode(self, z: Tensor) -> Tensor:
        """E[x | z]: μ + W z, or, where that is no value, the mean over quantiles of the noise.

        Words have no mean: theirs is the middle one.
        """
        y = self.mean_ + z.double() @ self.loadings_.T
        middle = self.unreal(y)
        if self.space_.measure == "density" and self.coordinates_.how != "learned":
            return middle
        q = (torch.arange(QUANTILES, dtype=torch.float64, device=y.device) + 0.5) / QUANTILES
        noise = torch.special.ndtri(q)[:, None] * self.noise_.sqrt()
        mean = torch.stack([self.unreal(y + e) for e in noise]).mean(0)
        words = torch.tensor([kind == "categorical" for kind in self.space_.kinds])
        return torch.where(words.to(y.device).reshape(self.space_.cell_shape), middle, mean)


def leading(A: Tensor, K: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The K largest eigenvalues of AᵀA, falling, and their eigenvectors: (K,) and (d, K).

    Zeros where A has no such rank. By the smaller Gram matrix; where that is large, in a random
    subspace sharpened by powers (Halko et al., 2011).
    """
    n, d = A.shape
    if min(n, d) > max(DENSE, 2 * K):
        Q = torch.randn(d, K + 10, generator=rng, dtype=A.dtype, device=A.device)
        for _ in range(8):
            Q = torch.linalg.qr(A.T @ (A @ Q))[0]
        B = A @ Q
        values, U = torch.linalg.eigh(B.T @ B)
        U = Q @ U
    elif d <= n:
        values, U = torch.linalg.eigh(A.T @ A)
    else:
        values, U = torch.linalg.eigh(A @ A.T)
        U = A.T @ (U / values.clamp_min(torch.finfo(A.dtype).tiny).sqrt())
    values, U = values.flip(0)[:K].clamp_min(0), U.flip(1)[:, :K]
    if len(values) < K:
        values, U = (
            torch.cat([values, values.new_zeros(K - len(values))]),
            torch.cat([U, U.new_zeros(d, K - U.shape[1])], 1),
        )
    return values, U


class ProbabilisticPCA(LinearGaussian):
    r"""Principal components as a density, by closed form, or by EM where entries are missing.

        y ~ N(μ, W Wᵀ + σ² I)

    NaN marks missing entries, in fit and in every verb. Discrete cells are dequantised (a
    ``LowerBound``). ``posterior(X)`` gives mean and covariance of z. scikit-learn's ``PCA`` divides
    the covariance by n − 1 where maximum likelihood, and so this class, divides by n.

    Source: Tipping & Bishop (1999), Probabilistic principal component analysis.

    Parameters
    ----------
    n_components : int or None, default=None
        K, from 1 to d − 1; None: where the Bayesian information criterion
        of the closed form is best.
    standardise : bool or None, default=None
        Give every column unit variance first, so that σ² is a share of each column's own. None: for
        tables, whose columns have units of their own, and not for arrays. The log-likelihood is in
        the units of the data either way.
    max_iter : int, default=500
        Iterations of EM, at most.
    tol : float, default=0.0001
        EM stops when an iteration gains less than ``tol`` nats a row.
    marginals : {"learned", "affine", "logit"} or None, default=None
        How cells become real coordinates: by each column's own distribution, in the units of the
        data, or, of levels, by a logit. None: affine where all cells are real numbers
        without atoms, logit of grey images, and learned elsewhere.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Attributes
    ----------
    mean_
        (d,).
    loadings_
        W, (d, K): principal axes times their spread beyond the noise, largest
        first, defined up to a sign.
    noise_
        (d,), all σ² unless standardised.

    Examples
    --------
    >>> import genus
    >>> data = genus.data.load("digits")
    >>> model = genus.ProbabilisticPCA(10, random_state=0).fit(data.train)
    >>> model.encode(data.test).shape
    (359, 10)
    >>> model.reconstruct(data.test).shape
    (359, 8, 8)
    """

    arguments: ClassVar[dict[str, Rule]] = {"standardise": Flag() | None}
    one_noise = True

    def __init__(
        self,
        n_components: int | None = None,
        standardise: bool | None = None,
        max_iter: int = 500,
        tol: float = 1e-4,
        marginals: str | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.standardise = standardise
        self.max_iter = max_iter
        self.tol = tol
        self.marginals = marginals
        self.random_state = random_state

    def _prepare(self, variance: Tensor, own: Tensor, constant: Tensor) -> None:
        scaled = self.space_.kind == "table" if self.standardise is None else self.standardise
        s = torch.where(constant, own, variance).sqrt() if scaled else torch.ones_like(variance)
        self._scale = s
        some = constant if bool(constant.all()) else ~constant
        self._floor = (own / s.square())[some].mean() * s.square()


class FactorAnalysis(LinearGaussian):
    r"""Common factors and noise of each column's own, by EM.

        y ~ N(μ, W Wᵀ + Ψ),    Ψ diagonal

    Unlike :class:`genus.ProbabilisticPCA` it does not depend on the units of the columns. NaN marks
    missing entries, in fit and in every verb. Discrete cells are dequantised (a ``LowerBound``).
    ``posterior(X)`` gives mean and covariance of z. No noise falls below 10⁻⁶ of its column's
    variance (a Heywood case has none).

    Sources: Rubin & Thayer (1982), EM algorithms for ML factor analysis;
    Barber (2012), section 21.2.

    Parameters
    ----------
    n_components : int or None, default=None
        K, from 1 to d − 1; None: where the Bayesian information criterion of the standardised
        principal components is best.
    max_iter : int, default=1000
        Iterations of EM, at most.
    tol : float, default=1e-05
        EM stops when an iteration gains less than ``tol`` nats a row.
    marginals : {"learned", "affine", "logit"} or None, default=None
        How cells become real coordinates: by each column's own distribution, in the units of the
        data, or, of levels, by a logit. None: affine where all cells are real numbers
        without atoms, logit of grey images, and learned elsewhere.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Attributes
    ----------
    mean_
        (d,).
    loadings_
        W, (d, K), turned so that Wᵀ Ψ⁻¹ W is diagonal, largest first, defined up to signs.
    noise_
        Ψ, (d,).

    Examples
    --------
    >>> import numpy as np, genus
    >>> z = np.random.default_rng(0).normal(size=(300, 1))
    >>> X = z @ np.ones((1, 4)) + np.random.default_rng(1).normal(size=(300, 4))
    >>> genus.FactorAnalysis(1, random_state=0).fit(X).noise_.numpy().round()
    array([1., 1., 1., 1.])
    """

    one_noise = False

    def __init__(
        self,
        n_components: int | None = None,
        max_iter: int = 1000,
        tol: float = 1e-5,
        marginals: str | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.max_iter = max_iter
        self.tol = tol
        self.marginals = marginals
        self.random_state = random_state

    def _prepare(self, variance: Tensor, own: Tensor, constant: Tensor) -> None:
        self._scale, self._floor = torch.where(constant, own, variance).sqrt(), own

    def _equal_noise(self, A: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """A column's variance given the others, 1/(S⁻¹)_jj, as the unit (Guttman, 1953).

        S is drawn a little towards its diagonal.
        """
        if A.shape[1] > DENSE:
            return A, total
        S = 0.99 * A.T @ A
        left = (
            torch.linalg.inv(
                S + torch.eye(len(S), dtype=S.dtype, device=S.device) - torch.diag(S.diagonal())
            )
            .diagonal()
            .reciprocal()
        )
        A = A / left.clamp_min(0.01).sqrt()
        return A, A.square().sum()
