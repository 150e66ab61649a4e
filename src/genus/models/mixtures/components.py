"""What mixtures of Gaussians share: log-densities, responsibilities and weighted sums.

    log ρ_nk = log w_k + log N(y_n | μ_k, Σ_k)
    r_nk = ρ_nk / Σ_j ρ_nj
    Σ_n r_nk (1, y_n, y_n y_nᵀ)

Expectation–maximisation takes w_k = π_k; variational inference takes expected parameters and
another w_k. Rows come as x1 = (1, y − shift), so that counts, sums and scatter come out of one
matrix product. Missing entries enter by their conditional moments (Ghahramani & Jordan, 1994).

Words and bits have a table a component (the location model, Olkin & Tate, 1961): a row then goes on
with h, a 1 at each of its words, and log ρ_nk gains h_n · log p_k.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genus.distributions.normals import Conditionals, by_pattern, precision_factor
from genus.distributions.points import LOG_2PI
from genus.learn.rows import Rows
from genus.typing import RowsLike

MOST = 4.0**6  # of a prior that is tried, as a share of the usual
HELD = 1 << 20  # responsibilities kept at a time: about 4 MB


def row_weights(sample_weight: Any) -> Tensor | None:
    """``sample_weight`` of fit as float64 (n,), or None.

    Raises ValueError for what cannot be counts.
    """
    if sample_weight is None:
        return None
    weight = torch.as_tensor(np.asarray(sample_weight, dtype=np.float64))
    if weight.dim() != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got {weight.dim()}D array")
    if not bool(torch.isfinite(weight).all()) or bool((weight < 0).any()):
        raise ValueError(
            "sample_weight holds negative or infinite values or NaN: weights are counts, at least 0"
        )
    if not bool(weight.any()):
        raise ValueError(
            "sample_weight is zero for every row: at least one positive weight is needed"
        )
    return weight


def weighted(rows: Rows) -> Rows:
    """The rows that count: those of weight 0 are left out."""
    w = rows.weight
    if w is None:
        return rows
    if len(w) != len(rows):
        raise ValueError(f"sample_weight.shape == {tuple(w.shape)}, expected {(len(rows),)}!")
    return rows if bool((w > 0).all()) else rows.subset((w > 0).nonzero()[:, 0])


class Clusters:
    """What every mixture has besides ``predict``, which tells the likeliest component."""

    if TYPE_CHECKING:
        fit: Callable[..., Any]

    def fit_predict(self, X: RowsLike, y: Any = None, **options: Any) -> np.ndarray:
        """The likeliest component of each row of fit, (n,). ``options`` are those of ``fit``."""
        labels: np.ndarray = self.fit(X, y, **options).predict(X)
        return labels


class LogJoint:
    """log w_k + log N(y | μ_k, Σ_k) of every row and component by wide matrix products.

    Full: with Σ_k⁻¹ = U_k U_kᵀ, U_k upper triangular, the form is |(y − μ_k) U_k|². Column j
    reads the first j entries only, so the columns go in three blocks, each one product for
    all components: ⅔ of the work.
    """

    def __init__(
        self,
        log_weights: Tensor,
        means: Tensor,
        cov: Tensor,
        kind: str,
        dtype: torch.dtype,
        log_words: Tensor | None = None,
    ) -> None:
        K, d = means.shape
        self.log_words = log_words  # (K, L): log p_k of every word of every column
        self.log_weights, self.means, self.cov = log_weights, means, cov
        self.dtype, self.kind = dtype, kind
        log_w = log_weights - 0.5 * d * LOG_2PI
        if kind == "full":
            U = precision_factor(cov)
            self.constant = (log_w + U.diagonal(dim1=1, dim2=2).log().sum(1))[:, None]
            whole = torch.cat([-(means[:, None] @ U), U], 1)  # (K, 1 + d, d)
            # rounding grows with the distance of the means in standard deviations: where it would
            # show, use float64
            reach = float(whole[:, 0].norm(dim=1).max())
            self.work = (
                dtype if torch.finfo(dtype).eps * reach * math.sqrt(d) < 1e-4 else torch.float64
            )
            width = max(4, -(-d // 3))
            self.blocks = []
            for s in range(0, d, width):
                e = min(d, s + width)
                W = whole[:, : 1 + e, s:e].permute(0, 2, 1).reshape(K * (e - s), 1 + e)
                self.blocks.append((e - s, W.to(self.work).contiguous()))
            self.constant = self.constant.to(self.work)
            self.rows = max(64, min(4096, (1 << 19) // (K * min(width, d))))
            return
        self.work = torch.float64  # |y|² − 2 y·m + |m|² cancels
        if kind == "tied":  # z = y U: |z − mU|²
            U = precision_factor(cov)
            self.U, self.mU = U, means @ U
            self.constant = (log_w + U.diagonal().log().sum())[:, None]
            return
        P = 1 / (cov[:, None].expand(K, d) if kind == "spherical" else cov)
        constant = log_w - 0.5 * (means.square() * P).sum(1) + 0.5 * P.log().sum(1)
        self.A = torch.cat([constant[:, None], means * P, -0.5 * P], 1)

    def of_numbers(self) -> LogJoint:
        """The same without tables of words."""
        out = copy.copy(self)
        out.log_words = None
        return out

    def log_joint(self, x1: Tensor) -> Tensor:
        """(n, 1 + d) rows → (K, n)."""
        if self.kind == "full":
            out = self.squares(x1)
            return torch.add(self.constant, out, alpha=-0.5, out=out)
        return self.of_features(self.features(x1))

    def features(self, x1: Tensor, out: Tensor | None = None) -> Tensor:
        """(1, y) in double precision for tied, (1, y, y²) for diag and spherical.

        ``out``: where to write them.
        """
        d1 = x1.shape[1]
        if out is None:
            out = x1.new_empty(
                len(x1), d1 if self.kind == "tied" else 2 * d1 - 1, dtype=torch.float64
            )
        out[:, :d1] = x1
        if self.kind != "tied":
            torch.square(out[:, 1:d1], out=out[:, d1:])
        return out

    def of_features(self, f: Tensor) -> Tensor:
        """log ρ (K, n) of those features."""
        if self.kind == "tied":
            z = f[:, 1:] @ self.U
            return self.constant - 0.5 * torch.stack([(z - m).square().sum(1) for m in self.mU])
        return self.A @ f.T

    def squares(self, x1: Tensor) -> Tensor:
        """(y − μ_k)ᵀ Σ_k⁻¹ (y − μ_k) of every row, (K, n), for full covariances."""
        out = x1.new_empty(len(self.constant), len(x1), dtype=self.work)
        for i in range(0, len(x1), self.rows):
            x = x1[i : i + self.rows].to(self.work).T
            q = out[:, i : i + self.rows]
            for j, (w, W) in enumerate(self.blocks):
                y = torch.mm(W, x[: W.shape[1]]).square_().view(-1, w, x.shape[1])
                if j:
                    q += y.sum(1)
                else:
                    torch.sum(y, 1, out=q)
        return out


def full_covariances(cov: Tensor, kind: str, K: int, d: int) -> Tensor:
    """Σ_k as (K, d, d) whatever the kind."""
    if kind == "tied":
        return cov.expand(K, d, d)
    if kind == "spherical":
        cov = cov[:, None].expand(K, d)
    return torch.diag_embed(cov) if kind != "full" else cov


def log_joint(plan: LogJoint, x1: Tensor) -> Tensor:
    """log ρ of every row x1 = (1, y − shift, h) and component, (K, n); NaN integrated out."""
    K, d = plan.means.shape
    if plan.log_words is not None:
        x1, h = x1[:, : 1 + d], x1[:, 1 + d :]
        of_numbers = log_joint(plan.of_numbers(), x1)
        return of_numbers + plan.log_words.to(of_numbers.dtype) @ h.T.to(of_numbers.dtype)
    missing = torch.isnan(x1).any(1)
    if not missing.any():
        return plan.log_joint(x1)
    part, cov = x1[missing][:, 1:].double(), full_covariances(plan.cov, plan.kind, K, d)
    values = part.new_empty(K, len(part))
    normals = Conditionals(plan.means, cov)
    for index, real, o in by_pattern(part, patterns_at_once(K, d)):
        log_p = normals.given(part[index], o).log_p
        values[:, index[real]] = (log_p + plan.log_weights[:, None]).permute(1, 0, 2)[:, real]
    out = part.new_empty(K, len(x1))
    out[:, missing] = values
    if not missing.all():
        out[:, ~missing] = plan.log_joint(x1[~missing]).double()
    return out


def responsibilities_(log_joint: Tensor) -> tuple[Tensor, Tensor]:
    """(K, n) log ρ → (r, log Σ_k ρ), in place.

    exp is kept from underflow, where it is ten times slower.
    """
    top = log_joint.amax(0)
    r = log_joint.sub_(top).clamp_(min=-80.0 if log_joint.dtype == torch.float32 else -700.0).exp_()
    total = r.sum(0)
    r.mul_(total.reciprocal())
    return r, top + total.log()


def statistics(plan: LogJoint, x1: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
    """Sums over rows x1 = (1, y − shift): log Σ_k ρ, weight, and Σ w r (1, y, y yᵀ) a component.

    ``first`` is about the plan's means for full, about the shift otherwise; so is ``second``, (K,
    d, d) for full, (d, d) of all rows for tied, (K, d) otherwise.
    """
    missing = torch.isnan(x1).any(1)
    if not missing.any():
        return _complete(plan, x1, weight)
    some = x1[missing]
    h = some[:, 1 + plan.means.shape[1] :].double()
    y = some[:, 1 : 1 + plan.means.shape[1]].double()
    parts = [_with_gaps(plan, y, h, None if weight is None else weight[missing])]
    if not missing.all():
        parts.append(_complete(plan, x1[~missing], None if weight is None else weight[~missing]))
    return {k: sum(p[k] for p in parts) for k in parts[0]}  # type: ignore[misc]


def _complete(plan: LogJoint, x1: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
    K, d = plan.means.shape
    kind, means = plan.kind, plan.means
    kw: dict[str, Any] = {"dtype": torch.float64, "device": x1.device}
    sums = {
        "log_likelihood": torch.zeros((), **kw),
        "weight": torch.zeros((), **kw),
        "count": torch.zeros(K, **kw),
    }
    sums["first"] = torch.zeros(K, d, **kw)
    sums["second"] = torch.zeros({"full": (K, d, d), "tied": (d, d)}.get(kind, (K, d)), **kw)
    centre = torch.cat([means.new_zeros(K, 1), means], 1).to(x1.dtype)
    words = plan.log_words
    if words is not None:
        sums["words"] = torch.zeros(words.shape, **kw)
    x1, hot = x1[:, : 1 + d], x1[:, 1 + d :]
    # rows whose share of a component is below the rounding of its sums are left out: most of them
    least = (torch.finfo(x1.dtype).eps * plan.log_weights.exp()).clamp_min(1e-30).tolist()
    full = kind == "full"
    size = max(4096, min(65536, HELD // K)) if full else 2048
    held = plan.features(x1[:size]) if not full else x1
    for i in range(0, len(x1), size):
        x = x1[i : i + size]
        f = x if full else plan.features(x, held[: len(x)])
        joint = plan.log_joint(x) if full else plan.of_features(f)
        h = hot[i : i + size]
        if words is not None:
            joint += words.to(joint.dtype) @ h.T.to(joint.dtype)
        r, log_p = responsibilities_(joint)
        r = r.to(f.dtype)
        w = None if weight is None else weight[i : i + size].to(f.dtype)
        if w is not None:
            r *= w
            log_p = log_p * w
        sums["log_likelihood"] += log_p.sum(dtype=torch.float64)
        sums["weight"] += len(x) if w is None else w.sum(dtype=torch.float64)
        if words is not None:
            sums["words"] += (r @ h.to(r.dtype)).double()
        if full:
            for k in range(K):
                rows = (r[k] > least[k]).nonzero().squeeze(1)
                if len(rows) == 0:
                    continue
                z = x.index_select(0, rows).sub_(centre[k])
                z.mul_(r[k].index_select(0, rows).sqrt_()[:, None])
                G = (z.T @ z).double()  # [[N, first], [firstᵀ, second]]
                sums["count"][k] += G[0, 0]
                sums["first"][k] += G[0, 1:]
                sums["second"][k] += G[1:, 1:]
        else:  # thin products: in float64 they cost less than moving the rows
            G = r @ f
            sums["count"] += G[:, 0]
            sums["first"] += G[:, 1 : 1 + d]
            if kind == "tied":
                y = f[:, 1:]
                sums["second"] += y.T @ (y if w is None else y * w[:, None])
            else:
                sums["second"] += G[:, 1 + d :]
    return sums


def _with_gaps(plan: LogJoint, y: Tensor, h: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
    """The same sums where entries are missing: E[y] and E[y yᵀ] given what is observed."""
    K, d = plan.means.shape
    means, cov, kind = plan.means, full_covariances(plan.cov, plan.kind, K, d), plan.kind
    kw: dict[str, Any] = {"dtype": torch.float64, "device": y.device}
    about = means if kind == "full" else torch.zeros_like(means)
    log_likelihood, total, count = (
        torch.zeros((), **kw),
        torch.zeros((), **kw),
        torch.zeros(K, **kw),
    )
    first, second = torch.zeros(K, d, **kw), torch.zeros(K, d, d, **kw)
    words = torch.zeros(K, h.shape[1], **kw)
    normals = Conditionals(means, cov)
    for index, real, o in by_pattern(y, patterns_at_once(K, d)):
        given = normals.given(y[index], o)
        log_joint = given.log_p + plan.log_weights[:, None]
        if plan.log_words is not None:
            log_joint = log_joint + (h[index] @ plan.log_words.T).transpose(1, 2)
        log_x = torch.logsumexp(log_joint, 1)
        w = real.double() if weight is None else real * weight[index].double()
        r = torch.exp(log_joint - log_x[:, None]) * w[:, None]
        log_likelihood += (log_x * w).sum()
        total += w.sum()
        count += r.sum((0, 2))
        words += torch.einsum("pkr,prl->kl", r, h[index])
        z = given.filled - about[:, None]
        first += torch.einsum("pkr,pkrd->kd", r, z)
        second += torch.einsum("pkrd,pkre->kde", r[..., None] * z, z)
        second += given.covariance(r.sum(2))
    if kind == "tied":
        second = second.sum(0)
    elif kind != "full":
        second = second.diagonal(dim1=1, dim2=2).clone()
    tables = {} if plan.log_words is None else {"words": words}
    return {
        "log_likelihood": log_likelihood,
        "weight": total,
        "count": count,
        "first": first,
        "second": second,
        **tables,
    }


def patterns_at_once(K: int, d: int) -> int:
    """How many rows of (K, d, d) matrices fit in a moderate amount of memory."""
    return 1 + 4_000_000 // (K * d * d)


def by_factors(value: Callable[[float], float], usual: float, least: float) -> tuple[float, float]:
    """The argument of the highest value, found from the usual one by factors of 4, and the value.

    First down to the share ``least`` of the usual, and if that gains nothing, up.
    """
    best, highest = usual, value(usual)
    for factor in (0.25, 4.0):
        x = usual * factor
        while least <= x / usual <= MOST and (now := value(x)) > highest:
            best, highest = x, now
            x = x * factor
        if best != usual:
            break
    return best, highest


def k_means(
    z: Tensor, w: Tensor, K: int, rng: torch.Generator, steps: int = 10, spread: bool = True
) -> tuple[Tensor, Tensor]:
    """(label of each row, centres) of rows z with weights w: k-means++ seeds and Lloyd steps.

    Arthur & Vassilvitskii (2007), seeds by the greedy variant of the same.
    """
    centres = _seeds(z, w, K, rng) if spread else z[_by_mass(w, K, rng)]
    label = _nearest(z, centres)
    for _ in range(steps):
        mass = z.new_zeros(K).index_add_(0, label, w)
        total = torch.zeros_like(centres).index_add_(0, label, z * w[:, None])
        centres = torch.where(mass[:, None] > 0, total / mass.clamp_min(1e-200)[:, None], centres)
        label = _nearest(z, centres)
    return label, centres


def _nearest(z: Tensor, centres: Tensor) -> Tensor:
    return (0.5 * centres.square().sum(1) - z @ centres.T).argmin(1)


def _by_mass(mass: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """n rows drawn in proportion to their mass, with replacement."""
    total = mass.cumsum(0)
    u = torch.rand(n, generator=rng, dtype=mass.dtype, device=mass.device) * total[-1]
    return torch.searchsorted(total, u).clamp_max(len(mass) - 1)


def _seeds(z: Tensor, w: Tensor, K: int, rng: torch.Generator) -> Tensor:
    """K rows, each the best of 2 + ⌊log K⌋ drawn by squared distance to the nearest already taken.

    The best is the one that leaves the least sum of squared distances.
    """
    chosen = [_by_mass(w, 1, rng)[0]]
    distance = (z - z[chosen[0]]).square().sum(1)
    square = z.square().sum(1)
    for _ in range(K - 1):
        mass = w * distance
        if not mass.sum() > 0:  # fewer distinct rows than components
            mass = w
        some = _by_mass(mass, 2 + int(math.log(K)), rng)
        left = square[:, None] - 2 * z @ z[some].T + square[some]
        left = torch.minimum(distance[:, None], left.clamp_min(0))
        best = (w @ left).argmin()
        chosen.append(some[best])
        distance = left[:, best]
    return z[torch.stack(chosen)]
