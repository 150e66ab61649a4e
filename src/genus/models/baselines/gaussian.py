"""One Gaussian as a model: the baseline that every density must beat."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from genus.density import WAYS, DensityModel
from genus.distributions.columns import check_observed
from genus.distributions.normals import (
    Conditionals,
    LeaveOneOut,
    by_pattern,
    towards_diagonal,
    variance_floor,
)
from genus.distributions.points import LOG_2PI
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.starts import warn_unless_converged
from genus.learn.sums import accumulate, solve
from genus.memory import check_fits
from genus.settings import Number, Rule, Whole
from genus.space import Space

GUESS = 0.1  # ρ before it is chosen


class Gaussian(DensityModel):
    r"""One full Gaussian by its closed form: the baseline every density must beat.

        y ~ N(μ, Σ),    μ = (1/n) Σ y,    S = (1/n) Σ (y − μ)(y − μ)ᵀ
        Σ = (1 − ρ) S + ρ diag S

    ρ is the share under which rows that are left out one by one are likeliest (Hoffbeck &
    Landgrebe, 1996): next to nothing where rows are many, and what the rows can carry where they
    are fewer than the columns. Where entries are missing, EM takes them and their products at their
    conditional expectations (Dempster et al., 1977). Discrete coordinates are dequantised (see
    :class:`genus.DensityModel`), which makes the log-likelihood a lower bound on a probability.

    Parameters
    ----------
    shrinkage : float or None, default=None
        None: ρ is chosen as said. ε ≥ 0: Σ = S + ε diag S instead.
    max_iter : int, default=100
        Iterations of EM, at most.
    tol : float, default=0.001
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
        μ, (d,).
    covariance_
        Σ, (d, d).
    shrinkage_
        ρ, or the ε that was given.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> X[0, 0] = np.nan
    >>> model = genus.Gaussian(random_state=0).fit(X)
    >>> model.complete(X, random_state=0).shape
    (200, 3)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "shrinkage": Number(0) | None,
        "max_iter": Whole(1),
        "tol": Number(0),
        "marginals": WAYS,
    }
    allow_nan = True
    learned_by = "closed form, EM"

    mean_: Tensor
    covariance_: Tensor
    shrinkage_: float

    def __init__(
        self,
        shrinkage: float | None = None,
        max_iter: int = 100,
        tol: float = 1e-3,
        marginals: str | None = None,
        random_state: Any = None,
    ) -> None:
        self.shrinkage = shrinkage
        self.max_iter = max_iter
        self.tol = tol
        self.marginals = marginals
        self.random_state = random_state

    def build(self, space: Space) -> None:
        cure = "use fewer columns, or FactorAnalysis"
        check_fits(3 * space.dim**2, f"a covariance of {space.dim:,} columns", cure)
        self.register_buffer("mean_", torch.zeros(space.dim, dtype=torch.float64))
        self.register_buffer("covariance_", torch.eye(space.dim, dtype=torch.float64))

    def statistics(self, x: Tensor, u: Tensor | None = None) -> dict[str, Tensor]:
        """Sums of 1, y and y yᵀ about a fixed origin near the mean.

        Missing entries enter by their conditional expectations.
        """
        y = self.real(x, self.rng if u is None else u)[0]
        if u is None:
            return self._sums(y)
        sums = {
            "weight": torch.tensor(float(len(y)), dtype=torch.float64),
            "log_likelihood": y.new_zeros(()),
            "y": torch.zeros_like(self.mean_),
            "yy": torch.zeros_like(self.covariance_),
        }
        normal = self._conditionals()
        for index, real, o in by_pattern(y, self._at_once):
            given = normal.given(y[index], o)
            e = (given.filled[:, 0] - self._origin)[real]
            sums["log_likelihood"] += given.log_p[:, 0][real].sum()
            sums["y"] += e.sum(0)
            sums["yy"] += e.T @ e + given.covariance(real.sum(1, keepdim=True))[0]
        return sums

    def _sums(self, y: Tensor) -> dict[str, Tensor]:
        """The same of complete rows y."""
        y = y - self._origin
        weight = torch.tensor(float(len(y)), dtype=torch.float64)
        return {"weight": weight, "y": y.sum(0), "yy": y.T @ y}

    def maximise(self, sums: dict[str, Tensor]) -> None:
        """The closed form."""
        mean = sums["y"] / sums["weight"]
        cov = sums["yy"] / sums["weight"] - torch.outer(mean, mean)
        self.mean_ = mean + self._origin
        cov = (cov + cov.T) / 2
        if self.shrinkage is not None:
            floor = variance_floor(cov.diagonal(), self.mean_, self.shrinkage)
            self.covariance_ = cov + torch.diag(floor)
            return
        cov = cov + torch.diag(variance_floor(cov.diagonal(), self.mean_, 0.0))
        self.covariance_ = towards_diagonal(cov, self.shrinkage_)

    def learn(self, fit: Fit) -> None:
        self._origin = (
            self.real(fit.rows.take(slice(0, 1024))[0], self.rng)[0].nanmean(0).nan_to_num()
        )
        if not any(bool(torch.isnan(x).any()) for (x,) in fit.rows.chunks(8192)):
            self.shrinkage_ = 0.0 if self.shrinkage is None else self.shrinkage
            rows = fit.rows
            if self.space_.measure != "density":  # what cells hide is drawn once
                rows = rows.mapped(lambda x: self.real(x, self.rng)[0], self.rng)
                self.maximise(accumulate(self, rows, statistics=self._sums))
            else:
                self.maximise(accumulate(self, rows))
            if self.shrinkage is None:
                known = rows is not fit.rows
                chunks = (y if known else self.real(y, self.rng)[0] for (y,) in rows.chunks(8192))
                self._choose(chunks, len(rows))
                self.covariance_ = towards_diagonal(self.covariance_, self.shrinkage_)
            self.n_iter_, self.converged_ = 1, True
            return
        rows = fit.rows
        if not rows.streams:
            rows = Rows(rows.take(slice(None), self.rng)[0])  # grey pixels are drawn once
        noise = rows.mapped(self._noise_of, size=len(rows) if not rows.streams else 8192)
        rows = Rows(rows.x, noise.x)
        start = getattr(self, "n_iter_", 0)  # of a fit that goes on
        if not start:
            y = self.real(*rows.look())[0] - self._origin
            seen = (~torch.isnan(y)).sum(0)
            check_observed(self.space_, seen)
            mean = y.nansum(0) / seen
            cov = torch.diag((y - mean).square().nansum(0) / seen)
            self.shrinkage_ = GUESS if self.shrinkage is None else self.shrinkage
            self.maximise(
                {"weight": torch.ones_like(mean[0]), "y": mean, "yy": cov + torch.outer(mean, mean)}
            )
        inner = dataclasses.replace(fit, rows=rows)
        if not start and self.shrinkage is None:
            self._choose_with_gaps(inner.rows)
        self.converged_ = solve(self, inner, max_iter=self.max_iter, tol=self.tol, start=start)
        warn_unless_converged(self)

    def _choose(self, chunks: Iterable[Tensor], n: int) -> None:
        """ρ from n complete rows, a chunk after the other, about the mean and covariance there."""
        left_out = LeaveOneOut(self.covariance_, n)
        for y in chunks:
            left_out.add(y - self.mean_)
        self.shrinkage_ = left_out.best()

    def _choose_with_gaps(self, rows: Rows) -> None:
        """ρ from rows whose missing entries are drawn, after a few iterations of EM."""
        for _ in range(3):
            self.maximise(accumulate(self, rows))
        y = self.draw_given(self.real(*rows.look())[0], self.rng)
        keep = self.covariance_
        z = y - y.mean(0)
        cov = z.T @ z / len(z)
        self.covariance_ = cov + torch.diag(variance_floor(cov.diagonal(), self.mean_, 0.0))
        self._choose([y], len(rows))
        self.covariance_ = keep

    def _noise_of(self, x: Tensor) -> Tensor:
        """Where the cells of rows x (n, *shape) lie inside their levels, (n, d)."""
        shape = len(x), len(self.mean_)
        return torch.rand(shape, generator=self.rng, dtype=torch.float64, device=x.device)

    def log_density(self, y: Tensor) -> Tensor:
        """log N(y | μ, Σ) of the entries that are not NaN."""
        if torch.isnan(y).any():
            out = y.new_empty(len(y))
            normal = self._conditionals()
            for index, real, o in by_pattern(y, self._at_once):
                out[index[real]] = normal.given(y[index], o).log_p[:, 0][real]
            return out
        L = torch.linalg.cholesky(self.covariance_)
        z = torch.linalg.solve_triangular(L, (y - self.mean_).T, upper=False)
        return -0.5 * z.square().sum(0) - L.diagonal().log().sum() - 0.5 * len(self.mean_) * LOG_2PI

    log_density_observed = log_density

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """μ + L ε."""
        L = torch.linalg.cholesky(self.covariance_)
        e = torch.randn(n, len(self.mean_), generator=rng, dtype=torch.float64, device=L.device)
        return self.mean_ + e @ L.T

    def draw_given(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """y with its NaN entries drawn from the conditional Gaussian."""
        out = y.clone()
        normal = self._conditionals()
        for index, real, o in by_pattern(y, self._at_once):
            given = normal.given(y[index], o)
            e = torch.randn(y[index].shape, generator=rng, dtype=y.dtype, device=y.device)
            out[index[real]] = (given.filled + given.noise(e))[:, 0][real]
        return out

    def _conditionals(self) -> Conditionals:
        return Conditionals(self.mean_[None], self.covariance_[None])

    @property
    def _at_once(self) -> int:
        return 1 + 2_000_000 // len(self.mean_) ** 2

    def n_parameters(self) -> int:
        """d means and d(d + 1)/2 covariances."""
        self._check_fitted()
        d = len(self.mean_)
        return d + d * (d + 1) // 2

    def gaussians(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, list[int]]:
        """The one Gaussian, of all cells."""
        one = self.mean_.new_zeros(len(x), 1)
        return one, self.mean_[None], self.covariance_[None], list(range(len(self.mean_)))

    def mean_given(self, y: Tensor) -> Tensor:
        """y with its NaN entries at μ_m + Σ_mo Σ_oo⁻¹ (y_o − μ_o)."""
        out = y.clone()
        normal = self._conditionals()
        for index, real, o in by_pattern(y, self._at_once):
            out[index[real]] = normal.given(y[index], o).filled[:, 0][real]
        return out
