"""Invertible maps with log-determinants: y = f(x), x = f⁻¹(y), log |det ∂y/∂x|.

Preprocessing and flows share them: a density model on y reports log p(x) = log p(y) + log |det
∂y/∂x|. Rows are vectors (n, d), or images (n, C, H, W) where a map says so. Maps of vectors whose
Jacobian is triangular are in ``couplings.py``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROUNDING = 1e-13  # spread beside the mean below which a column is constant but for rounding


class Bijection(nn.Module):
    """An invertible map of R^d, or of a box in it.

    ``forward`` returns (y, log_det) with log_det of shape (n,).

    given: conditions (n, g), for maps that depend on them; others take none.
    """

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """(y, log |det ∂y/∂x|)."""
        raise NotImplementedError

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """x with forward(x) = y."""
        raise NotImplementedError


class Standardise(Bijection):
    """y = (x − mean) / std, a column at a time.

    Missing entries stay missing and add nothing to the log-determinant. A column whose spread is
    nothing beside its size counts as constant and keeps scale 1.
    """

    mean_: Tensor
    std_: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("mean_", torch.zeros(d, dtype=torch.float64))
        self.register_buffer("std_", torch.ones(d, dtype=torch.float64))

    def fit(self, x: Tensor) -> Standardise:
        """Take mean and standard deviation from rows x of shape (n, d)."""
        mean, std = moments(x)
        self.mean_.copy_(mean)
        self.std_.copy_(
            torch.where(std > ROUNDING * mean.abs().clamp_min(1e-200), std, torch.ones_like(std))
        )
        return self

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        y = (x.double() - self.mean_) / self.std_
        log_det = -(torch.log(self.std_) * ~torch.isnan(y)).sum(1)
        return y, log_det

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        return torch.addcmul(self.mean_, y.double(), self.std_)


class Logit(Bijection):
    """y = logit(α + (1 − 2α)(x − low)/(high − low)), from a box to R^d (Dinh et al., 2017).

    low, high: (d,) the box; alpha in [0, ½) keeps its edges away from infinity.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor, alpha: float = 0.05) -> None:
        super().__init__()
        self.register_buffer("low", low.double())
        self.register_buffer("high", high.double())
        self.alpha = alpha

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        slope = (1 - 2 * self.alpha) / (self.high - self.low)
        p = self.alpha + slope * (x.double() - self.low)
        y = torch.log(p) - torch.log1p(-p)
        # dy/dp = 1/(p(1−p))
        log_det = (torch.log(slope) + F.softplus(y) + F.softplus(-y)).nan_to_num().sum(1)
        return y, log_det

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        p = torch.sigmoid(y.double())
        return (p - self.alpha) / (1 - 2 * self.alpha) * (self.high - self.low) + self.low


class Chain(Bijection):
    """f_m ∘ … ∘ f_1: the maps in the order given, log-determinants added."""

    def __init__(self, *maps: Bijection) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        total = None
        for f in self.maps:
            if isinstance(f, Permute):  # adds nothing
                x = f.taken(x, f.order_)
                continue
            x, log_det = f(x, *given)
            total = log_det if total is None else total + log_det
        return x, x.new_zeros(len(x)) if total is None else total

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        for f in reversed(self.maps):
            y = f.inverse(y, *given)  # type: ignore[operator]
        return y


class Inverse(Bijection):
    """A map turned round."""

    def __init__(self, f: Bijection) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        y = self.f.inverse(x, *given)
        return y, -self.f(y, *given)[1]

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        x: Tensor = self.f(y, *given)[0]
        return x


class Permute(Bijection):
    """The coordinates (or channels) in another order."""

    order_: Tensor
    back_: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order_", order)
        self.register_buffer("back_", order.argsort())

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        return self.taken(x, self.order_), x.new_zeros(len(x))

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        return self.taken(y, self.back_)

    def taken(self, x: Tensor, order: Tensor) -> Tensor:
        """x in that order."""
        return x.t().index_select(0, order).t() if x.dim() == 2 else x.index_select(1, order)


class ActNorm(Bijection):
    """y = (x + b) e^s with one b and s a coordinate (or channel).

    The first training rows set them to mean 0 and variance 1.

    Source: Kingma & Dhariwal (2018). The first rows are those that pass while ``starting`` is True,
    never those of an evaluation.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.b_, self.s_ = nn.Parameter(torch.zeros(c)), nn.Parameter(torch.zeros(c))
        self.starting = False

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        if self.starting:
            mean, std = moments(x.transpose(0, 1).flatten(1).T)
            with torch.no_grad():
                self.b_.copy_(-mean)
                self.s_.copy_(-std.clamp_min(1e-3).log())
        b, s = self._wide(x)
        return (x + b) * s.exp(), (self.s_.sum() * x[0, 0].numel()).expand(len(x))

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        b, s = self._wide(y)
        return y * (-s).exp() - b

    def _wide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        ones = [1] * (x.dim() - 2)
        return self.b_.to(x.dtype).reshape(-1, *ones), self.s_.to(x.dtype).reshape(-1, *ones)


class Mix(Bijection):
    """y = W x, one matrix for a vector, or for all places of an image (an invertible convolution).

    W = P L (U + diag(sign · e^s)): P a fixed permutation, L unit lower and U strictly
    upper triangular, so that log |det W| = Σ s. It starts as a random rotation.
    Source: Kingma & Dhariwal (2018).
    """

    P_: Tensor
    sign_: Tensor

    def __init__(self, c: int, rng: torch.Generator) -> None:
        super().__init__()
        Q = torch.linalg.qr(torch.randn(c, c, generator=rng, dtype=torch.float64))[0]
        P, L, U = torch.linalg.lu(Q)
        diagonal = U.diagonal()
        self.register_buffer("P_", P.float())
        self.register_buffer("sign_", diagonal.sign().float())
        self.L_, self.U_ = nn.Parameter(L.tril(-1).float()), nn.Parameter(U.triu(1).float())
        self.s_ = nn.Parameter(diagonal.abs().log().float())

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """P, L, U + diag."""
        eye = torch.eye(len(self.s_), dtype=dtype, device=self.s_.device)
        upper = self.U_.to(dtype).triu(1) + torch.diag(
            self.sign_.to(dtype) * self.s_.to(dtype).exp()
        )
        return self.P_.to(dtype), self.L_.to(dtype).tril(-1) + eye, upper

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        P, L, U = self.factors(x.dtype)
        W = P @ L @ U
        y = (W @ x.flatten(2)).reshape(x.shape) if x.dim() > 2 else (W @ x.T).T
        return y, (self.s_.sum() * x[0, 0].numel()).expand(len(x))

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        P, L, U = self.factors(y.dtype)
        v = y.flatten(2) if y.dim() > 2 else y.T
        x = torch.linalg.solve_triangular(
            U,
            torch.linalg.solve_triangular(L, P.T @ v, upper=False, unitriangular=True),
            upper=True,
        )
        return x.reshape(y.shape) if y.dim() > 2 else x.T


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (1/n) standard deviation of each column in float64, missing entries left out."""
    x = x.double()
    mean = torch.nan_to_num(torch.nanmean(x, 0))
    centred = x - mean
    # squares of 1e-300 vanish: scale first
    size = centred.abs().nan_to_num().amax(0).clamp_min(math.ulp(0.0))
    std = torch.nan_to_num(torch.nanmean((centred / size).square(), 0).sqrt() * size)
    return mean, torch.where(std < 1e-290, torch.zeros_like(std), std)
