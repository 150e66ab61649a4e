"""The Gaussian, whole or partly observed, and one of them as a model.

With x = (x_o, x_m), o observed and m missing (Ghahramani & Jordan, 1994):

    log p(x_o) = log N(x_o | μ_o, Σ_oo)
    E[x_m | x_o] = μ_m + Σ_mo Σ_oo⁻¹ (x_o − μ_o)          C = Cov[x_m | x_o] = Σ_mm − Σ_mo Σ_oo⁻¹ Σ_om
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from genus.density import DensityModel
from genus.learn import Data, accumulate, solve
from genus.likelihood import LOG_2PI
from genus.rows import Rows
from genus.space import Space


def by_pattern(y: Tensor, cells: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows grouped by which entries are missing, many patterns at a time, without a loop over rows.

    Yields (index, real, o): index (P, R) of rows, real (P, R) False where a group is padded, o (P, d) the
    observed entries of each pattern. Patterns of like group size go together, at most ``cells`` rows·patterns.
    """
    patterns, group, counts = torch.unique(~torch.isnan(y), dim=0, return_inverse=True, return_counts=True)
    order = torch.argsort(group, stable=True)
    first = counts.cumsum(0) - counts
    size = torch.ceil(torch.log2(counts.double())).long()
    for s in size.unique().tolist():
        wide = 2**s
        for some in (size == s).nonzero().squeeze(1).split(max(1, cells // wide)):
            place = torch.arange(wide, device=y.device)[None] + torch.zeros_like(some)[:, None]
            real = place < counts[some][:, None]
            index = order[(first[some][:, None] + place).clamp_max(len(order) - 1)]
            yield index, real, patterns[some]


def conditional(y: Tensor, o: Tensor, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-density of the observed part, the rows with missing entries at their conditional mean, and C.

    y (P, R, d) rows of P patterns o (P, d); mean (K, d), cov (K, d, d). Returns (P, K, R), (P, K, R, d) and
    (P, K, d, d); rows and columns of C at observed entries are 0.
    """
    q, half_log_det, filled, C = observed_part(y, o, mean, cov)
    log_p = -0.5 * (q + o.to(y.dtype).sum(1)[:, None, None] * LOG_2PI) - half_log_det[..., None]
    return log_p, filled, C


def observed_part(y: Tensor, o: Tensor, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x_o − μ_o)ᵀ Σ_oo⁻¹ (x_o − μ_o) (P, K, R), ½ log |Σ_oo| (P, K), and the last two of :func:`conditional`."""
    f = o.to(y.dtype)
    both = f[:, None, :, None] * f[:, None, None, :]
    eye = torch.diag_embed(1 - f)[:, None]
    L = torch.linalg.cholesky(cov * both + eye)  # the missing block is the identity: it adds nothing
    y = torch.nan_to_num(y)  # padding too
    r = (y[:, None] - mean[:, None]) * f[:, None, None]
    t = torch.linalg.solve_triangular(L, r.mT, upper=False)
    across = cov * (1 - f)[:, None, :, None] * f[:, None, None, :]  # Σ_mo in place
    s = torch.linalg.solve_triangular(L, across.mT, upper=False)
    filled = torch.where(o[:, None, None], y[:, None], mean[:, None] + t.mT @ s)
    C = cov * (1 - f)[:, None, :, None] * (1 - f)[:, None, None, :] - s.mT @ s
    return t.square().sum(2), L.diagonal(dim1=2, dim2=3).log().sum(2), filled, C


def factor(C: Tensor) -> Tensor:
    """A with A Aᵀ = C for positive semi-definite C, zero rows and columns included."""
    values, vectors = torch.linalg.eigh(C)
    return vectors * values.clamp_min(0).sqrt()[..., None, :]


class Gaussian(DensityModel):
    r"""One full Gaussian, N(y | μ, Σ + ε diag Σ), by its closed form: the baseline every density must beat.

    μ = (1/n) Σ y, Σ = (1/n) Σ (y − μ)(y − μ)ᵀ. Where entries are missing, EM takes them and their products at their conditional
    expectations (Dempster et al., 1977). Discrete coordinates are dequantised (see :class:`genus.DensityModel`), which makes the
    log-likelihood a lower bound on a probability.

    Arguments
    ---------
    shrinkage: ε ≥ 0, added to each variance in proportion to it, so that Σ stays invertible.
    max_iter, tol: EM stops after max_iter iterations or when one gains less than tol nats a row.
    """

    allow_nan = True
    learned_by = "closed form, EM"

    mean_: Tensor
    covariance_: Tensor

    def __init__(self, shrinkage: float = 1e-3, max_iter: int = 100, tol: float = 1e-3, random_state: Any = None) -> None:
        self.shrinkage = shrinkage
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def build(self, space: Space) -> None:
        for name, least in (("max_iter", 1), ("tol", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)!r}: a number of at least {least} is needed")
        if not self.shrinkage >= 0:
            raise ValueError(f"shrinkage={self.shrinkage!r}: a number ≥ 0 is needed")
        self.register_buffer("mean_", torch.zeros(space.dim, dtype=torch.float64))
        self.register_buffer("covariance_", torch.eye(space.dim, dtype=torch.float64))

    def statistics(self, x: Tensor, u: Tensor | None = None) -> dict[str, Tensor]:
        """Sums of 1, y and y yᵀ about a fixed origin near the mean; of missing entries, their conditional expectations."""
        y = self.real(x, self.rng if u is None else u)[0]
        sums = {"weight": torch.tensor(float(len(y)), dtype=torch.float64)}
        if u is None:
            y = y - self._origin
            return {**sums, "y": y.sum(0), "yy": y.T @ y}
        sums |= {"log_likelihood": y.new_zeros(()), "y": torch.zeros_like(self.mean_), "yy": torch.zeros_like(self.covariance_)}
        for index, real, o in by_pattern(y, self._at_once):
            log_p, filled, C = conditional(y[index], o, self.mean_[None], self.covariance_[None])
            e = (filled[:, 0] - self._origin)[real]
            sums["log_likelihood"] += log_p[:, 0][real].sum()
            sums["y"] += e.sum(0)
            sums["yy"] += e.T @ e + (real.sum(1)[:, None, None] * C[:, 0]).sum(0)
        return sums

    def maximise(self, sums: dict[str, Tensor]) -> None:
        """The closed form."""
        mean = sums["y"] / sums["weight"]
        cov = sums["yy"] / sums["weight"] - torch.outer(mean, mean)
        self.mean_ = mean + self._origin
        self.covariance_ = (cov + cov.T) / 2 + torch.diag(variance_floor(cov.diagonal(), self.mean_, self.shrinkage))

    def learn(self, data: Data) -> None:
        self._origin = self.real(data.rows.take(slice(0, 1024))[0], self.rng)[0].nanmean(0).nan_to_num()
        if not any(bool(torch.isnan(x).any()) for (x,) in data.rows.chunks(8192)):
            self.maximise(accumulate(self, data.rows))
            self.n_iter_, self.converged_ = 1, True
            return
        x = data.rows.take(slice(None), self.rng)[0]
        u = torch.rand(len(x), len(self.mean_), generator=self.rng, dtype=torch.float64, device=x.device)
        start = getattr(self, "n_iter_", 0)  # of a fit that goes on
        if not start:
            y = self.real(x, u)[0] - self._origin
            seen = (~torch.isnan(y)).sum(0)
            if not seen.all():
                raise ValueError(f"{self.space_.names()[int(seen.argmin())]} has no observed value, only NaN: drop it")
            mean = y.nansum(0) / seen
            cov = torch.diag((y - mean).square().nansum(0) / seen)
            self.maximise({"weight": torch.ones_like(mean[0]), "y": mean, "yy": cov + torch.outer(mean, mean)})
        rows = Data(Rows(x, u), None, data.trainer, data.seed)
        self.converged_ = solve(self, rows, max_iter=self.max_iter, tol=self.tol, start=start)
        if not self.converged_ and self.tol > 0 and self.n_iter_ >= self.max_iter:
            text = f"EM stopped after max_iter={self.max_iter} iterations before tol={self.tol} was met"
            warnings.warn(text, ConvergenceWarning, stacklevel=4)

    def log_density(self, y: Tensor) -> Tensor:
        """log N(y | μ, Σ) of the entries that are not NaN."""
        if torch.isnan(y).any():
            out = y.new_empty(len(y))
            for index, real, o in by_pattern(y, self._at_once):
                log_p, _, _ = conditional(y[index], o, self.mean_[None], self.covariance_[None])
                out[index[real]] = log_p[:, 0][real]
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
        for index, real, o in by_pattern(y, self._at_once):
            _, filled, C = conditional(y[index], o, self.mean_[None], self.covariance_[None])
            e = torch.randn(filled[:, 0].shape, generator=rng, dtype=y.dtype, device=y.device)
            out[index[real]] = (filled[:, 0] + e @ factor(C[:, 0]).mT)[real]
        return out

    @property
    def _at_once(self) -> int:
        return 1 + 2_000_000 // len(self.mean_) ** 2

    def n_parameters(self) -> int:
        """d means and d(d + 1)/2 covariances."""
        self._check_fitted()
        d = len(self.mean_)
        return d + d * (d + 1) // 2


def variance_floor(variance: Tensor, mean: Tensor, share: float) -> Tensor:
    """What is added to each variance: a share of it, or, for a constant column, of what rounding can tell apart."""
    least = (1e-6 * mean.abs()).clamp_min(1e-3).square()
    constant = variance <= (1e-10 * mean.abs()).square().clamp_min(1e-200)
    return torch.where(constant, least, share * variance)
