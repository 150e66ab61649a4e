"""Visible units of every kind, as exponential families: their energy, and how they are drawn."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.bijections import Logit, Standardise
from genus.distributions.columns import groups, log_shares, share_of_ones
from genus.distributions.draws import flip
from genus.learn.rows import generator
from genus.space import Space

MANY = 64  # more ordered levels than this are treated as real numbers


class Units(nn.Module):
    """The visible layer: cells of every kind, their statistics t and φ, and their draws.

    v is (n, d): codes where discrete, standardised values where gaussian. b holds a number for each
    gaussian or binary cell and one for each value of the others; a = W(h − λ) has the length of φ.
    """

    rank = 4  # smooth functions of an ordered level

    def __init__(self, space: Space, visible: str) -> None:
        super().__init__()
        self.space = space

        def sort_of(j: int, kind: str, levels: int) -> tuple[str, int]:
            sort = visible
            if visible == "auto":
                sort = {"binary": "bernoulli", "continuous": "gaussian"}.get(kind, kind)
                sort = "gaussian" if sort == "ordinal" and levels > MANY else sort
            elif (visible == "bernoulli" and kind != "binary") or (
                visible == "categorical" and kind == "continuous"
            ):
                raise ValueError(
                    f"visible={visible!r} does not suit {space.names()[j]}, "
                    f"which is {kind}: use visible='auto'"
                )
            return sort, levels if sort in ("categorical", "ordinal") else 0

        self.groups = groups(space, sort_of)
        self.gaussian = any(sort == "gaussian" for sort, _, _ in self.groups)
        self.plain = len(self.groups) == 1 and self.groups[0][0] == "bernoulli"
        real = [j for sort, _, columns in self.groups if sort == "gaussian" for j in columns]
        self.folded = [j for j in real if space.cardinality[j]]
        self.dequantises = bool(self.folded)
        self.n_binary = space.dim if self.plain else None
        self.scale_ = Standardise(space.dim)
        if self.gaussian:
            self.log_tau_ = nn.Parameter(torch.zeros(len(real)))
        self._tables: dict[Any, Tensor] = {}
        self.n_phi = self.n_bias = 0
        self.slices: list[tuple[slice, slice]] = []  # of φ and of b
        for sort, levels, columns in self.groups:
            wide = {"categorical": levels, "ordinal": min(self.rank, levels - 1) or 1}.get(
                sort, 1
            ) * len(columns)
            long = (levels if sort in ("categorical", "ordinal") else 1) * len(columns)
            self.slices.append(
                (slice(self.n_phi, self.n_phi + wide), slice(self.n_bias, self.n_bias + long))
            )
            self.n_phi, self.n_bias = self.n_phi + wide, self.n_bias + long

    def _table(self, sort: str, levels: int, like: Tensor) -> Tensor:
        """φ of every level, (levels, r): a one-hot code, or cosines of the level."""
        key = (sort, levels, like.dtype, like.device)
        if key not in self._tables:
            t = (torch.arange(levels, dtype=like.dtype, device=like.device) + 0.5) / levels
            waves = [
                torch.cos(math.pi * i * t) for i in range(1, (min(self.rank, levels - 1) or 1) + 1)
            ]
            self._tables[key] = (
                torch.eye(levels, dtype=like.dtype, device=like.device)
                if sort == "categorical"
                else torch.stack(waves, 1)
            )
        return self._tables[key]

    # ------------------------------------------------------------------ in and out

    def fit(self, x: Tensor) -> None:
        """Take the scale of real-valued cells from the data."""
        if self.gaussian:
            y, _ = self._unfolded(x.flatten(1).double(), generator(0, x.device))
            real = torch.zeros(y.shape[1], dtype=torch.bool, device=y.device)
            real[[j for sort, _, columns in self.groups if sort == "gaussian" for j in columns]] = (
                True
            )
            self.scale_.fit(y * real)  # the others get scale 1

    def enter(self, x: Tensor, noise: Tensor | torch.Generator) -> tuple[Tensor, Tensor]:
        """Codes x (n, *shape) → (v (n, d), log |∂v/∂x| (n,)).

        noise: (n, d) uniforms of dequantisation, or where to draw them.
        """
        x = x.flatten(1)
        if not self.gaussian:
            return x.to(torch.get_default_dtype()), x.new_zeros(len(x), dtype=torch.float64)
        y, log_det = self._unfolded(x.double(), noise)
        v, more = self.scale_(y)
        return v.to(torch.get_default_dtype()), log_det + more

    def leave(self, v: Tensor, whole: bool = True) -> Tensor:
        """v → codes (n, *shape); whole numbers where discrete, unless they are means."""
        if self.gaussian:
            v = self.scale_.inverse(v)
            if self.folded:
                unfold = self._unfold(v.device)
                x = unfold.inverse(v[:, self.folded]).clamp_min(0).minimum(unfold.high)
                v[:, self.folded] = (
                    x.floor().minimum(unfold.high - 1) if whole else (x - 0.5).clamp_min(0)
                )
        return v.reshape(-1, *self.space.cell_shape)

    def _unfolded(self, y: Tensor, noise: Tensor | torch.Generator) -> tuple[Tensor, Tensor]:
        if not self.folded:
            return y, y.new_zeros(len(y))
        u = (
            torch.rand(y.shape, generator=noise, dtype=y.dtype, device=y.device)
            if isinstance(noise, torch.Generator)
            else noise
        )
        y = y.clone()
        y[:, self.folded], log_det = self._unfold(y.device)((y + u)[:, self.folded])
        return y, log_det

    def _unfold(self, device: torch.device) -> Logit:
        levels = torch.tensor(
            [self.space.cardinality[j] for j in self.folded], dtype=torch.float64, device=device
        )
        return Logit(torch.zeros_like(levels), levels, alpha=0.01)

    # ------------------------------------------------------------------ statistics

    def phi(self, v: Tensor) -> Tensor:
        """φ(v), (n, n_phi)."""
        if self.plain:
            return v
        parts = []
        for sort, levels, columns in self.groups:
            c = v[:, columns]
            parts.append(c if not levels else self._table(sort, levels, v)[c.long()].flatten(1))
        return torch.cat(parts, 1)

    def linear(self, v: Tensor, b: Tensor) -> Tensor:
        """bᵀt(v), (n,)."""
        if self.plain:
            return v @ b
        total = v.new_zeros(len(v))
        for (_, levels, columns), (_, s) in zip(self.groups, self.slices, strict=True):
            c, own = v[:, columns], b[s]
            if levels:
                index = c.long() + levels * torch.arange(len(columns), device=v.device)
                total = total + own[index].sum(1)
            else:
                total = total + c @ own
        return total

    def bias(self, v: Tensor, b: Tensor) -> Tensor:
        """log base(v) + bᵀt(v), (n,)."""
        total = self.linear(v, b)
        if self.gaussian:
            columns = next(columns for sort, _, columns in self.groups if sort == "gaussian")
            total = total - 0.5 * v[:, columns].square() @ self.tau()
        return total

    def tau(self) -> Tensor:
        """Precisions of the gaussian cells, from e^-4 to e^8."""
        return torch.exp(self.log_tau_.clamp(-4, 8))

    def absorb_(self, b: Tensor, a: Tensor) -> None:
        """Add to b what aᵀφ(v) adds to the energy."""
        for (sort, levels, columns), (s, t) in zip(self.groups, self.slices, strict=True):
            own = a[s]
            b[t] += (
                (own.reshape(len(columns), -1) @ self._table(sort, levels, a).T).flatten()
                if levels
                else own
            )

    def independent(self, v: Tensor) -> Tensor:
        """b of the best model of independent cells: log-odds, log-frequencies, means."""
        out = v.new_zeros(self.n_bias)
        for (sort, levels, columns), (_, s) in zip(self.groups, self.slices, strict=True):
            c = v[:, columns]
            if sort == "bernoulli":
                out[s] = torch.logit(share_of_ones(c))
            elif levels:
                out[s] = log_shares(c, levels).flatten()
            else:
                out[s] = c.mean(0)
        return out

    # ------------------------------------------------------------------ v given natural parameters

    def _levels(self, b: Tensor, a: Tensor, group: int) -> Tensor:
        """Logits of every level of the cells of a group, (n, d, levels)."""
        (sort, levels, columns), (s, t) = self.groups[group], self.slices[group]
        slope = a[..., s].reshape(*a.shape[:-1], len(columns), -1) @ self._table(sort, levels, a).T
        return b[..., t].reshape(*b.shape[:-1], len(columns), levels) + slope

    def draw(self, b: Tensor, a: Tensor, rng: torch.Generator) -> Tensor:
        """v ~ p(v | natural parameters b, a)."""
        if self.plain:
            return flip(torch.sigmoid(a + b), rng)
        out = a.new_empty(len(a), self.space.dim)
        for i, ((sort, levels, columns), (s, t)) in enumerate(
            zip(self.groups, self.slices, strict=True)
        ):
            if levels:  # by the inverse of the distribution function: one uniform a cell
                logits = self._levels(b, a, i)
                mass = torch.exp(logits - logits.amax(-1, keepdim=True))
                # quicker than cumsum
                cdf = mass @ torch.ones(levels, levels, dtype=a.dtype, device=a.device).triu()
                u = torch.rand(*cdf.shape[:-1], 1, generator=rng, device=a.device) * cdf[..., -1:]
                out[:, columns] = (cdf <= u).sum(-1).clamp_max(levels - 1).to(a.dtype)
            elif sort == "bernoulli":
                p = torch.sigmoid(a[:, s] + b[..., t])
                out[:, columns] = flip(p, rng)
            else:
                e = torch.randn(len(a), len(columns), generator=rng, dtype=a.dtype, device=a.device)
                out[:, columns] = (a[:, s] + b[..., t]) / self.tau() + e / self.tau().sqrt()
        return out

    def mean(self, b: Tensor, a: Tensor) -> Tensor:
        """E[v] (the likeliest value of a category)."""
        out = a.new_empty(len(a), self.space.dim)
        for i, ((sort, levels, columns), (s, t)) in enumerate(
            zip(self.groups, self.slices, strict=True)
        ):
            if sort == "categorical":
                out[:, columns] = self._levels(b, a, i).argmax(-1).to(a.dtype)
            elif sort == "ordinal":
                out[:, columns] = torch.softmax(self._levels(b, a, i), -1) @ torch.arange(
                    levels, dtype=a.dtype, device=a.device
                )
            elif sort == "bernoulli":
                out[:, columns] = torch.sigmoid(a[:, s] + b[..., t])
            else:
                out[:, columns] = (a[:, s] + b[..., t]) / self.tau()
        return out

    def log_partition(self, b: Tensor, a: Tensor) -> Tensor:
        """log Σ_v base(v) exp(bᵀt(v) + aᵀφ(v)), (n,), in float64."""
        b, a = b.double(), a.double()
        total = a.new_zeros(len(a))
        for i, ((sort, levels, _), (s, t)) in enumerate(zip(self.groups, self.slices, strict=True)):
            if levels:
                total = total + torch.logsumexp(self._levels(b, a, i), -1).sum(-1)
            elif sort == "bernoulli":
                total = total + F.softplus(a[:, s] + b[..., t]).sum(-1)
            else:
                tau = self.tau().double()
                total = total + (
                    0.5 * (a[:, s] + b[..., t]).square() / tau + 0.5 * torch.log(2 * math.pi / tau)
                ).sum(-1)
        return total
