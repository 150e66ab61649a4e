r"""Mixtures of Student's t, whole or partly observed: what Bayesian mixtures of Gaussians predict.

    St(x | m, Σ, f) = Γ((f + d)/2) / Γ(f/2) |f π Σ|^(−1/2) (1 + q/f)^(−(f + d)/2)
                    = ∫ N(x | m, Σ/u) Gamma(u | f/2, f/2) du,    q = (x − m)ᵀ Σ⁻¹ (x − m)

Observed entries x_o have the marginal St(m_o, Σ_oo, f). Given them, u ~ Gamma((f + d_o)/2, (f +
q_o)/2) and x_m is Gaussian with the conditional mean of m, Σ and its covariance divided by u. (Kotz
& Nadarajah, 2004.) ``full``: one t in d dimensions with Σ (K, d, d); otherwise a product of d of
them in one, Σ (K, d). f (K,); None: the Gaussian, f → ∞.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genus.distributions.draws import choose
from genus.distributions.normals import Conditionals, by_pattern
from genus.distributions.points import LOG_2PI
from genus.models.mixtures.components import LogJoint, patterns_at_once


def log_student(q: Tensor, half_log_det: Tensor, f: Tensor | None, d: Tensor | int) -> Tensor:
    """log St in d dimensions from q and ½ log |Σ|."""
    if f is None:
        return -0.5 * (q + d * LOG_2PI) - half_log_det
    log_norm = (
        torch.lgamma((f + d) / 2)
        - torch.lgamma(f / 2)
        - 0.5 * d * torch.log(f * math.pi)
        - half_log_det
    )
    return log_norm - 0.5 * (f + d) * torch.log1p(q / f)


def log_students(y: Tensor, means: Tensor, shapes: Tensor, f: Tensor | None) -> Tensor:
    """log St of every row y (n, d) and component, (K, n); NaN entries integrated out."""
    (K, d), missing = means.shape, torch.isnan(y).any(1)
    if shapes.dim() == 2:
        out = []  # a component at a time, or (K, n, d) would have to fit in memory
        for k, (m, s) in enumerate(zip(means, shapes, strict=True)):
            log_p = log_student((y - m).square() / s, 0.5 * s.log(), None if f is None else f[k], 1)
            out.append(torch.where(torch.isnan(y), 0.0, log_p).sum(1))
        return torch.stack(out)
    assert f is not None
    values = y.new_empty(K, len(y))
    if not missing.all():
        origin = means.mean(0)
        plan = LogJoint(means.new_zeros(K), means - origin, shapes, "full", torch.float64)
        x = y[~missing]
        q = plan.squares(torch.cat([x.new_ones(len(x), 1), x - origin], 1))
        values[:, ~missing] = log_student(q, -plan.constant - 0.5 * d * LOG_2PI, f[:, None], d)
    if missing.any():
        part = y[missing]
        some = part.new_empty(K, len(part))
        normals = Conditionals(means, shapes)
        for index, real, o in by_pattern(part, patterns_at_once(K, d)):
            given = normals.given(part[index], o)
            d_o = o.sum(1)[:, None, None]
            log_p = log_student(given.q, given.half_log_det[..., None], f[:, None], d_o)
            some[:, index[real]] = log_p.permute(1, 0, 2)[:, real]
        values[:, missing] = some
    return values


def draw_students(
    y: Tensor, log_w: Tensor, means: Tensor, shapes: Tensor, f: Tensor | None, rng: torch.Generator
) -> Tensor:
    """y with its NaN drawn from Σ_k w_k St(· | k) given the others: k first, then the entries.

    log_w: (K,), or (K, n), one for each row.
    """
    log_w = log_w[:, None].expand(-1, len(y)) if log_w.dim() == 1 else log_w
    if shapes.dim() == 2:
        log_joint = log_w + log_students(y, means, shapes, f)
        k = choose(torch.softmax(log_joint, 0).T, rng)
        e = torch.randn(y.shape, generator=rng, dtype=y.dtype, device=y.device)
        if f is not None:
            half = (f[k] / 2)[:, None].expand_as(e).contiguous()
            e = e * torch.sqrt(half / torch._standard_gamma(half, generator=rng))
        return torch.where(torch.isnan(y), means[k] + shapes[k].sqrt() * e, y)
    assert f is not None
    out = y.clone()
    normals = Conditionals(means, shapes)
    for index, real, o in by_pattern(y, patterns_at_once(*means.shape)):
        given = normals.given(y[index], o)
        d_o = o.sum(1)[:, None, None]
        log_p = log_student(given.q, given.half_log_det[..., None], f[:, None], d_o)
        k = choose(torch.softmax(log_w[:, index].transpose(0, 1) + log_p, 1).transpose(1, 2), rng)
        e = torch.randn(y[index].shape, generator=rng, dtype=y.dtype, device=y.device)
        pick = k[:, None, :, None].expand(-1, 1, -1, y.shape[1])
        u = torch._standard_gamma((f[k] + d_o[:, 0]) / 2, generator=rng) / (
            (f[k] + given.q.gather(1, k[:, None])[:, 0]) / 2
        )
        noise = given.noise(e).gather(1, pick)[:, 0] / u.sqrt()[..., None]
        out[index[real]] = (given.filled.gather(1, pick)[:, 0] + noise)[real]
    return out
