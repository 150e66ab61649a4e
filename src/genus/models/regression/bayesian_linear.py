"""Bayesian linear regression, in closed form.

    y = wᵀφ(x) + ε,   ε ~ N(0, 1/β),   w ~ N(0, I/α)                        the model
    Λ = αI + β Φᵀ Φ,   m = β Λ⁻¹ Φᵀ y                                       p(w | y) = N(m, Λ⁻¹)
    p(y* | x*) = N(mᵀφ*, 1/β + φ*ᵀ Λ⁻¹ φ*)                                  the prediction
    log p(y) = ½ (P log α − log |Λ| + N log β/2π − β |y − Φm|² − α |m|²)    the evidence

All that the data say is one matrix of sums, G = Σ z zᵀ with z = (1, φ, y). Sums add, so that order
and batches never matter.

The intercept. ``"flat"``: w₀ ~ N(0, ∞), which is the same as taking the mean off φ and y; then N =
n − 1, and the evidence is the density of the n − 1 differences that w₀ leaves alone. ``True``: φ₀ =
1 with a prior like the others'. ``False``: none.

With β unknown, β ~ Gamma(a, b) and w | β ~ N(0, I/(αβ)): then Λ = αI + ΦᵀΦ, β | y ~ Gamma(a', b')
with a' = a + N/2 and b' = b + ½ (|y − Φm|² + α|m|²), and predictions are Student's t with 2a'
degrees of freedom.

The evidence is maximised by α = γ/|m|², β = (N − γ)/|y − Φm|², γ = P − α tr Λ⁻¹ (MacKay, 1992);
where such a step would lower it, by EM's, α = P/(|m|² + tr Λ⁻¹) and 1/β = (|y − Φm|² + tr Φ Λ⁻¹
Φᵀ)/N, which cannot. (Bishop, 2006, chapter 3; Murphy, 2012, chapter 7.)
"""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from genus.distributions.points import LOG_2PI
from genus.learn.fit import Fit
from genus.learn.sums import accumulate
from genus.likelihood import Exact, LogProb
from genus.predictor import Predictor
from genus.settings import Flag, Function, Number, OneOf, Rule, Settings, Several, Whole
from genus.space import Space
from genus.typing import ArrayLike, RowsLike

MOST = 20_000  # functions of a basis: Λ would take 3 GB
# the evidence's β is at most so many times 1/variance of y: rounding hides less noise than that
FAR = 100.0  # times the variance that β says, from which a word is said
TRUST = 1e12

GAMMA = Several(Number(above=0), Number(above=0), says="a pair (a, b) of positive numbers")

Basis = Callable[[Tensor, Tensor, Tensor], Tensor]


# ---------------------------------------------------------------------- bases
# φ(x) from x (n, d), and each column's low and high, (d,)


@dataclass(frozen=True)
class Identity(Settings):
    """φ(x) = x.

    Examples
    --------
    >>> import genus
    >>> genus.BayesianLinearRegression(genus.Identity()).fit([[0.0], [1.0]], [0.0, 1.0]).coef_.shape
    (1,)
    """

    def __call__(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class Polynomial(Settings):
    """Every product of at most ``degree`` columns of x, itself with itself too.

    For one column: x, x², …, x^degree.

    Parameters
    ----------
    degree : int, default=3
        At least 1.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> genus.BayesianLinearRegression(genus.Polynomial(3)).fit(X, X[:, 0] ** 3).coef_.shape
    (3,)
    """

    arguments: ClassVar[dict[str, Rule]] = {"degree": Whole(1)}

    degree: int = 3

    def __call__(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        d = x.shape[1]
        self.check()
        count = math.comb(d + int(self.degree), d) - 1
        if count > MOST:
            raise ValueError(
                f"Polynomial(degree={self.degree}) of {d} columns has {count} products: "
                f"lower the degree (at most {MOST})"
            )
        # a product of k < degree columns is one of degree with ones
        one = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        index = torch.tensor(
            sorted(
                itertools.combinations_with_replacement(range(d + 1), self.degree),
                key=_by_degree(d),
            )[1:]
        )
        phi = one[:, index[:, 0]]
        for j in range(1, self.degree):
            phi = phi * one[:, index[:, j]]
        return phi


@dataclass(frozen=True)
class GaussianBasis(Settings):
    """n bumps for every column of x, exp(−(x_j − c)²/2s²).

    Centres c are spread evenly from low to high, both included. Several columns give a sum of
    functions of one column each.

    Parameters
    ----------
    n : int, default=9
        Bumps a column, at least 1.
    width : float or None, default=None
        s > 0 in x's units; None: the distance between centres.
    low : float or None, default=None
        Where the first centre is; None: the smallest value of each column in ``fit``.
    high : float or None, default=None
        Where the last centre is; None: the largest value of each column in ``fit``.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.linspace(0, 1, 30)[:, None]
    >>> model = genus.BayesianLinearRegression(genus.GaussianBasis(5)).fit(X, np.sin(6 * X[:, 0]))
    >>> model.coef_.shape
    (5,)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "n": Whole(1),
        "width": Number(above=0) | None,
        "low": Number() | None,
        "high": Number() | None,
    }

    n: int = 9
    width: float | None = None
    low: float | None = None
    high: float | None = None

    def __call__(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        self.check()
        if self.n * x.shape[1] > MOST:
            raise ValueError(
                f"GaussianBasis(n={self.n}) of {x.shape[1]} columns has "
                f"{self.n * x.shape[1]} bumps: at most {MOST}"
            )
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(
                f"GaussianBasis(low={self.low!r}, high={self.high!r}): low must be below high"
            )
        low = low if self.low is None else torch.full_like(low, self.low)
        high = high if self.high is None else torch.full_like(high, self.high)
        length = high - low
        # a constant column
        length = torch.where(length > 0, length, 1e-6 * high.abs().clamp_min(1e-6))
        step = length / (self.n - 1) if self.n > 1 else length
        share = (
            torch.linspace(0, 1, self.n, dtype=x.dtype, device=x.device)
            if self.n > 1
            else x.new_full((1,), 0.5)
        )
        s = step if self.width is None else torch.full_like(step, self.width)
        z = ((x - low)[:, :, None] - length[:, None] * share) / s[:, None]
        return torch.exp(-0.5 * z.square()).flatten(1)


def _by_degree(d: int) -> Callable[[tuple[int, ...]], tuple[int, tuple[int, ...]]]:
    return lambda index: (sum(j < d for j in index), index)


# ---------------------------------------------------------------------- the model


class BayesianLinearRegression(Predictor):
    r"""Linear regression with a posterior over its weights: N(w | m, Λ⁻¹).

    Parameters
    ----------
    basis : {Identity(), Polynomial(degree), GaussianBasis(n, width)}, default=Identity()
        φ, the functions of x that y is linear in.
    alpha : float or "evidence", default=1.0
        α > 0, the prior precision of every weight; ``"evidence"`` maximises the evidence. It is in
        the units of 1/w², and with ``beta=(a, b)`` relative to β.
    beta : float, "evidence" or pair of floats, default=1.0
        β > 0, the precision of the noise, 1/σ² in the units of y; ``"evidence"``; or (a, b), the
        prior Gamma(a, b) (shape, rate) of an unknown β.
    intercept : bool or "flat", default="flat"
        ``"flat"``: no prior, columns are centred, and the level of y does not matter. True: φ₀ = 1,
        with the prior of the other weights, which pulls it to 0. False: none.
    max_iter : int, default=300
        Steps of the evidence's maximisation, at most.
    tol : float, default=1e-06
        The maximisation stops when a step gains less than ``tol`` nats.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Attributes
    ----------
    alpha_
        The prior precision.
    beta_
        The noise's precision; with an unknown β its posterior mean.
    log_evidence_
        In nats, of all y seen.
    coef_
        The weights' posterior mean.
    intercept_
        The intercept's.
    covariance_
        The weights' posterior covariance.
    history_
        Of the evidence's maximisation.

    Raises
    ------
    ValueError
        Where Λ is singular to rounding.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.linspace(0, 1, 50)[:, None]
    >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(0, 0.1, 50)
    >>> model = genus.BayesianLinearRegression(alpha="evidence", beta="evidence").fit(X, y)
    >>> mean, std = model.predict([[0.5]], return_std=True)
    >>> mean.round(1), std.round(1)
    (array([1.]), array([0.1]))
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "basis": Function("Identity(), Polynomial(degree) or GaussianBasis(n, width)"),
        "alpha": Number(above=0) | OneOf("evidence"),
        "beta": Number(above=0) | OneOf("evidence") | GAMMA,
        "intercept": OneOf("flat") | Flag(),
        "max_iter": Whole(1),
        "tol": Number(0),
    }
    learned_by = "closed form"

    gram_: Tensor  # (P + 2, P + 2): Σ z zᵀ, z = (1, φ, y) less the origin
    origin_: Tensor  # (P + 1,) of φ and y: where sums begin, so that they keep their digits
    low_: Tensor
    high_: Tensor
    mean_: Tensor  # m
    factor_: Tensor  # L, L Lᵀ = Λ
    centre_: Tensor  # (P + 1,) what is taken off φ and y
    alpha_: float
    beta_: float
    log_evidence_: float

    def __init__(
        self,
        basis: Basis = Identity(),
        alpha: float | str = 1.0,
        beta: float | str | tuple[float, float] = 1.0,
        intercept: bool | str = "flat",
        max_iter: int = 300,
        tol: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.basis = basis
        self.alpha = alpha
        self.beta = beta
        self.intercept = intercept
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def build(self, space: Space) -> None:
        d = self.given_space_.dim
        for name in ("low_", "high_"):
            self.register_buffer(name, torch.zeros(d, dtype=torch.float64))
        p = self._phi(torch.zeros(1, d, dtype=torch.float64)).shape[1]
        k = p + self._with_ones
        for name, shape in {
            "origin_": (p + 1,),
            "gram_": (p + 2, p + 2),
            "mean_": (k,),
            "factor_": (k, k),
            "centre_": (k + 1,),
        }.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    @property
    def _with_ones(self) -> bool:
        """Is φ₀ = 1 a function like the others?"""
        return self.intercept != "flat" and bool(self.intercept)

    def _phi(self, x: Tensor) -> Tensor:
        return self.basis(x.flatten(1), self.low_, self.high_)

    # ------------------------------------------------------------------ learning

    def learn(self, fit: Fit) -> None:
        x = fit.rows.given
        assert x is not None
        if not isinstance(self.basis, Identity | Polynomial):  # which ask for no range
            self.low_, self.high_ = torch.aminmax(x.flatten(1), dim=0)
        self._set_origin(*fit.rows.take(slice(0, 1024)))
        self.maximise(accumulate(self, fit.rows, chunk=2048))

    def _set_origin(self, y: Tensor, x: Tensor) -> None:
        if self.intercept == "flat":  # elsewhere 0 is a place like no other
            self.origin_ = torch.cat([self._phi(x), y], 1).mean(0)

    def statistics(self, y: Tensor, given: Tensor) -> dict[str, Tensor]:
        """Σ z zᵀ about the origin."""
        phi = self._phi(given)
        z = phi.new_ones(len(y), phi.shape[1] + 2)
        torch.sub(phi, self.origin_[:-1], out=z[:, 1:-1])
        torch.sub(y, self.origin_[-1:], out=z[:, -1:])
        a = z.numpy() if z.device.type == "cpu" else z
        # numpy sees that the product is symmetric, and does half of it
        return {"gram": torch.as_tensor(a.T @ a)}

    def _warn_of_noise(self, ratio: float) -> None:
        """Say where rows lie much further from the line than β says; ratio: of the variances."""
        if ratio > FAR:
            warnings.warn(
                f"the targets lie {math.sqrt(ratio):.3g} times further from the fit than "
                f"beta={self.beta!r} says: pass beta='evidence' to learn the noise, or scale y",
                stacklevel=6,
            )

    def partial_fit(self, X: RowsLike, y: ArrayLike) -> Self:
        """Add rows (X, y) to those seen: the posterior is that of ``fit`` on all of them."""
        if not self.__sklearn_is_fitted__():
            if isinstance(self.basis, GaussianBasis) and (
                self.basis.low is None or self.basis.high is None
            ):
                raise ValueError(
                    "the centres of GaussianBasis() "
                    "would follow the range of the first batch: "
                    "pass GaussianBasis(n, low=..., high=...), or call fit first"
                )
            return self.fit(X, y)
        given = self._given(X)
        rows = self._encode_rows(y, missing=False).to(given.device)
        if len(rows) != len(given):
            raise ValueError(f"y has {len(rows)} rows, X has {len(given)}: one y a row is needed")
        self.maximise({"gram": self.gram_ + self.statistics(rows, given)["gram"]})
        return self

    def maximise(self, sums: dict[str, Tensor]) -> None:
        """The posterior at the given α and β, or at those of the highest evidence.

        An error leaves the model as it was.
        """
        data = _Sums.of(sums["gram"], self.origin_, self.intercept)
        unknown = self.beta if isinstance(self.beta, tuple | list) else None
        if "evidence" in (self.alpha, self.beta):
            post, self.history_ = self._highest(data, unknown)
            self.n_iter_ = max(1, len(self.history_))
        else:
            self.n_iter_ = 1
            beta = 1.0 if isinstance(self.beta, tuple) else float(self.beta)
            post = _Posterior(data, float(self.alpha), beta, unknown)
            if unknown is None and len(data.S) < data.N:
                self._warn_of_noise(beta * post.residual / data.N)
        self.gram_, self.centre_, self.mean_, self.factor_ = (
            sums["gram"],
            data.centre,
            post.m,
            post.L,
        )
        self.alpha_, self.beta_, self.log_evidence_ = post.alpha, post.beta, post.log_evidence
        if unknown:
            self.a_, self.b_ = post.a, post.b

    def _highest(
        self, data: _Sums, unknown: tuple[float, float] | None
    ) -> tuple[_Posterior, list[dict[str, Any]]]:
        """The posterior at the fixed point of the evidence, and the way there, only upwards."""
        P, N = len(data.S), max(data.N, 1)
        variance = max(data.yy / N, 1e-12 * float(data.centre[-1]) ** 2, 1e-200)
        signal = float(data.S.diagonal().sum()) / N
        free_alpha, free_beta = (
            self.alpha == "evidence" and signal > 0,
            self.beta == "evidence" and data.N > 0,
        )
        # begin where half of the variance of y is noise
        beta = 1.0 if unknown else 2 / variance if self.beta == "evidence" else float(self.beta)  # type: ignore[arg-type]
        alpha = (
            float(self.alpha)
            if self.alpha != "evidence"
            else (signal or 1.0) * (1.0 if unknown else 1 / variance)
        )
        top_alpha, top_beta = TRUST * alpha, TRUST / variance
        post = _Posterior(data, alpha, beta, unknown)
        history: list[dict[str, Any]] = []
        for i in range(self.max_iter):
            C = torch.cholesky_inverse(post.L)
            tr, m2, tiny = float(C.diagonal().sum()), float(post.m.square().sum()), 1e-300
            gamma = P - post.alpha * tr
            b = post.beta if unknown else 1.0
            mackay = gamma / (b * m2 + tiny), (N - gamma) / (post.residual + tiny)
            em = P / (b * m2 + tr), N / (post.residual + float((data.S * C).sum()) + tiny)
            now = post
            for alpha, beta in (mackay, em):
                alpha = min(alpha, top_alpha) if free_alpha else post.alpha
                beta = min(beta, top_beta) if free_beta else 1.0 if unknown else post.beta
                if alpha > 0 and beta > 0:
                    # so small an α that it is lost in rounding
                    with contextlib.suppress(ValueError):
                        now = _Posterior(data, alpha, beta, unknown)
                        if now.log_evidence > post.log_evidence:
                            break
            gain = now.log_evidence - post.log_evidence
            if gain <= 0:  # as high as rounding lets it be
                break
            post = now
            history.append({"stage": "", "epoch": i + 1, "objective": -post.log_evidence})
            if gain < self.tol:
                break
        else:
            warnings.warn(
                f"the evidence still gains after {self.max_iter} iterations: raise max_iter",
                ConvergenceWarning,
                stacklevel=2,
            )
        return post, history

    # ------------------------------------------------------------------ predicting

    def _moments(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (n,) of y, and its squared scale: the variance, where β is known."""
        phi = self._phi(given)
        phi = torch.cat([torch.ones_like(phi[:, :1]), phi], 1) if self._with_ones else phi
        phi = phi - self.centre_[:-1]
        v = torch.linalg.solve_triangular(self.factor_, phi.T, upper=False).square().sum(0)
        # of the flat intercept
        level = 1 / float(self.gram_[0, 0]) if self.intercept == "flat" else 0.0
        if isinstance(self.beta, tuple | list):
            return self.centre_[-1] + phi @ self.mean_, self.b_ / self.a_ * (1 + level + v)
        return self.centre_[-1] + phi @ self.mean_, (1 + level) / self.beta_ + v

    def predict(self, X: RowsLike, return_std: bool = False) -> Any:
        """E[y | x] of each row, (n,).

        With ``return_std`` also the standard deviation of y, noise
        included (inf where it has none).
        """
        x = self._given(X)
        with torch.no_grad():
            mean, scale2 = (
                torch.cat(parts)
                for parts in zip(*map(self._moments, x.split(self.chunk)), strict=True)
            )
        if isinstance(self.beta, tuple | list):  # Student's t
            scale2 = (
                scale2 * self.a_ / (self.a_ - 1)
                if self.a_ > 1
                else torch.full_like(scale2, math.inf)
            )
        return (
            (mean.cpu().numpy(), scale2.sqrt().cpu().numpy()) if return_std else mean.cpu().numpy()
        )

    def _noise(self, n: int, rng: torch.Generator) -> Tensor:
        """n draws of β/(a'/b') where β is unknown, else 1."""
        if not isinstance(self.beta, tuple | list):
            return torch.ones(n, dtype=torch.float64, device=rng.device)
        return (
            torch._standard_gamma(
                torch.full((n,), self.a_, dtype=torch.float64, device=rng.device), generator=rng
            )
            / self.a_
        )

    def sample_weights(self, n: int = 1, *, random_state: Any = None) -> np.ndarray:
        """n draws of the weights from their posterior, (n, P), an intercept first."""
        self._check_fitted()
        Whole(1).check("n", n)
        rng = self._stream(random_state)
        # then L and the flat intercept's variance are relative to 1/β
        relative = isinstance(self.beta, tuple | list)
        sd = (self._noise(n, rng) * (self.a_ / self.b_ if relative else 1.0)).rsqrt()[:, None]
        e = _normal((n, len(self.mean_)), rng)
        w = self.mean_ + sd * torch.linalg.solve_triangular(self.factor_.T, e.T, upper=True).T
        if self.intercept == "flat":
            level = 1 / (float(self.gram_[0, 0]) * (1.0 if relative else self.beta_))
            w0 = (
                self.centre_[-1]
                - w @ self.centre_[:-1]
                + sd[:, 0] * math.sqrt(level) * _normal((n,), rng)
            )
            w = torch.cat([w0[:, None], w], 1)
        return w.cpu().numpy()

    # ------------------------------------------------------------------ the posterior, for reading

    @property
    def coef_(self) -> np.ndarray:
        """Posterior mean of the weights, the intercept apart."""
        return self.mean_[1 if self._with_ones else 0 :].cpu().numpy()

    @property
    def intercept_(self) -> float:
        """Posterior mean of the intercept; 0 where there is none."""
        if self._with_ones:
            return float(self.mean_[0])
        return float(self.centre_[-1] - self.mean_ @ self.centre_[:-1])

    @property
    def covariance_(self) -> np.ndarray:
        """Posterior covariance of the weights (of a flat intercept apart).

        With β unknown, Λ⁻¹ b'/(a' − 1).
        """
        c = torch.cholesky_inverse(self.factor_)
        if isinstance(self.beta, tuple | list):
            c = c * (self.b_ / (self.a_ - 1) if self.a_ > 1 else math.inf)
        return c.cpu().numpy()

    def n_parameters(self) -> int:
        """Number of weights, the intercept among them."""
        self._check_fitted()
        return len(self.mean_) + (self.intercept == "flat")

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, y: Tensor, given: Tensor) -> LogProb:
        mean, scale2 = self._moments(given)
        z2 = (y[:, 0] - mean).square() / scale2
        if isinstance(self.beta, tuple | list):
            a = self.a_
            norm = math.lgamma(a + 0.5) - math.lgamma(a) - 0.5 * math.log(2 * math.pi * a)
            return Exact(norm - 0.5 * scale2.log() - (a + 0.5) * torch.log1p(z2 / (2 * a)))
        return Exact(-0.5 * (z2 + scale2.log() + LOG_2PI))

    def _sample(self, n: int, rng: torch.Generator, given: Tensor) -> Tensor:
        mean, scale2 = self._moments(given)
        return (mean + scale2.sqrt() * _normal((n,), rng) / self._noise(n, rng).sqrt())[:, None]


@dataclass
class _Sums:
    """ΦᵀΦ, Φᵀy and |y|² about the centre, and how many rows speak of w."""

    S: Tensor
    r: Tensor
    yy: float
    N: float
    centre: Tensor

    @classmethod
    def of(cls, gram: Tensor, origin: Tensor, intercept: bool | str) -> _Sums:
        n = float(gram[0, 0])
        if intercept == "flat":
            mean = gram[0, 1:] / n
            G, centre, N = gram[1:, 1:] - n * torch.outer(mean, mean), origin + mean, n - 1
        else:
            first = 0 if intercept else 1
            G, N = gram[first:, first:], n
            centre = G.new_zeros(len(G))
        return cls(G[:-1, :-1], G[:-1, -1], max(float(G[-1, -1]), 0.0), N, centre)


class _Posterior:
    """N(w | m, (L Lᵀ)⁻¹) at α and β, and the log-evidence there.

    With β unknown, β = 1 in Λ and ``beta`` is its posterior mean.
    """

    def __init__(
        self, data: _Sums, alpha: float, beta: float, unknown: tuple[float, float] | None
    ) -> None:
        P, N, self.alpha, self.beta = len(data.S), data.N, alpha, beta
        A = beta * data.S
        A.diagonal().add_(alpha)
        self.L, info = torch.linalg.cholesky_ex(A)
        if int(info) or not bool(torch.isfinite(self.L).all()):
            raise ValueError(
                f"alpha={alpha:.3g} is lost in rounding beside X, "
                "some of whose columns depend on each other: "
                "raise alpha, or drop or rescale those columns"
            )
        self.m = torch.cholesky_solve((beta * data.r)[:, None], self.L)[:, 0]
        self.residual = max(  # |y − Φm|²
            data.yy - 2 * float(self.m @ data.r) + float(self.m @ data.S @ self.m), 0.0
        )
        log_det = 2 * float(self.L.diagonal().log().sum())
        energy = 0.5 * (beta * self.residual + alpha * float(self.m.square().sum()))
        self.log_evidence = 0.5 * (P * math.log(alpha) - log_det - N * LOG_2PI)
        if unknown is None:
            self.log_evidence += 0.5 * N * math.log(beta) - energy
        else:
            a, b = unknown
            self.a, self.b = a + N / 2, b + energy
            self.beta = self.a / self.b
            self.log_evidence += (
                a * math.log(b) - self.a * math.log(self.b) + math.lgamma(self.a) - math.lgamma(a)
            )


def _normal(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=torch.float64, device=rng.device)
