"""The baseline that keeps everyone honest: every coordinate on its own."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from genus.distributions.columns import check_observed
from genus.learn.fit import Fit
from genus.likelihood import Exact, LogProb
from genus.model import Model
from genus.settings import Number, Rule, Whole
from genus.space import Space

LARGEST = 2**26  # counts of a table of cells × levels


class IndependentHistogram(Model):
    r"""Every coordinate on its own: p(x) = Π_j p_j(x_j), each a histogram.

    Discrete coordinates: P_j(v) = (n_jv + α) / (n_j + α L). Continuous ones: ``bins`` equal
    bins over the observed range, mass (n_jb + α) / (n_j + αB) spread evenly over the bin, and a
    Gaussian of the column's own moments (weight 1/(n+1)) beyond and beneath them, so that the
    density is nowhere 0. A model that does not beat it has learned nothing about how
    coordinates depend on each other.

    Parameters
    ----------
    pseudo_count : float, default=1.0
        α > 0, added to every count.
    bins : int or None, default=None
        Bins of a continuous coordinate; None: n^(1/3), between 5 and 100.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import genus
    >>> data = genus.data.load("digits")
    >>> genus.IndependentHistogram(random_state=0).fit(data.train).log_prob(data.test)
    Exact(mean = -... nats, ... bits/dim, n=359, probability)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "pseudo_count": Number(above=0, why=", or unseen values get probability 0"),
        "bins": Whole(1) | None,
    }
    allow_nan = True
    learned_by = "counting"

    log_p_: Tensor
    low_: Tensor
    width_: Tensor
    mean_: Tensor
    std_: Tensor
    tail_: Tensor

    def __init__(
        self, pseudo_count: float = 1.0, bins: int | None = None, random_state: Any = None
    ) -> None:
        self.pseudo_count = pseudo_count
        self.bins = bins
        self.random_state = random_state

    learned_shapes = ("log_p_",)

    def build(self, space: Space) -> None:
        d = space.dim
        self.register_buffer("log_p_", torch.zeros(d, 1, dtype=torch.float64))
        for name in ("low_", "width_", "mean_", "std_"):
            self.register_buffer(name, torch.ones(d, dtype=torch.float64))
        self.register_buffer("tail_", torch.zeros((), dtype=torch.float64))

    def learn(self, fit: Fit) -> None:
        n, d = len(fit.rows), self.space_.dim
        cards = torch.tensor(self.space_.cardinality)
        continuous = cards == 0
        bins = self.bins or int(min(100, max(5, round(n ** (1 / 3)))))
        size = torch.where(continuous, torch.full_like(cards, bins), cards)
        if d * int(size.max()) > LARGEST:
            wide = self.space_.names()[int(size.argmax())]
            raise ValueError(
                f"{wide} has {int(size.max())} levels, too many to count one by one: use "
                "space='continuous', or bin the column"
            )
        low, high = (
            torch.full((d,), math.inf, dtype=torch.float64),
            torch.full((d,), -math.inf, dtype=torch.float64),
        )
        first = torch.zeros(d, dtype=torch.float64)
        seen = torch.zeros(d, dtype=torch.float64)
        for (x,) in fit.rows.chunks(8192, self.rng):
            x = x.flatten(1).double()
            low = torch.minimum(low, torch.where(torch.isnan(x), math.inf, x).amin(0))
            high = torch.maximum(high, torch.where(torch.isnan(x), -math.inf, x).amax(0))
            first += x.nan_to_num().sum(0)
            seen += (~torch.isnan(x)).sum(0)
        check_observed(self.space_, seen)
        mean = first / seen
        width = torch.where(continuous, (high - low) / bins, torch.ones_like(low))
        flat = width <= 1e-12 * high.abs().clamp_min(1e-200)
        width = torch.where(flat, 1e-6 * high.abs().clamp_min(1.0), width)
        low = torch.where(
            continuous, torch.where(flat, low - bins * width / 2, low), torch.full_like(low, -0.5)
        )
        counts = torch.zeros(d, int(size.max()), dtype=torch.float64)
        spread = torch.zeros(d, dtype=torch.float64)
        for (x,) in fit.rows.chunks(8192, self.rng):
            x = x.flatten(1).double()
            ok = ~torch.isnan(x)
            cell = ((x.nan_to_num() - low) / width).floor().clamp_min(0).minimum(size - 1.0).long()
            counts.scatter_add_(1, cell.T, ok.T.double())
            spread += ((x - mean) / width).square().nan_to_num().sum(0)
        std = (spread / seen).sqrt().clamp_min(1e-3) * width
        used = torch.arange(counts.shape[1]) < size[:, None]
        a = self.pseudo_count
        log_p = torch.log((counts + a) / (seen + a * size)[:, None])
        self.log_p_ = torch.where(used, log_p, -math.inf)
        self.low_, self.width_, self.mean_, self.std_ = low, width, mean, std
        self.tail_.fill_(1 / (n + 1))

    def n_parameters(self) -> int:
        """Free probabilities, and four numbers for each continuous coordinate."""
        self._check_fitted()
        cards = self.space_.cardinality
        bins = int(torch.isfinite(self.log_p_).sum(1).max())
        return sum(c - 1 if c else bins + 3 for c in cards)

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor) -> LogProb:
        x = x.flatten(1).double()
        continuous = ~self.discrete_cells(x.device)
        t = (x.nan_to_num() - self.low_) / self.width_
        top = torch.isfinite(self.log_p_).sum(1)
        inside = (t >= 0) & (t <= top)
        cell = t.floor().clamp_min(0).minimum(top - 1.0).long()
        log_p = self.log_p_.T.gather(0, cell)
        density = torch.where(inside, log_p - torch.log(self.width_), -math.inf)
        z = (x.nan_to_num() - self.mean_) / self.std_
        normal = -0.5 * z.square() - torch.log(self.std_) - 0.5 * math.log(2 * math.pi)
        mixed = torch.logaddexp(density + torch.log1p(-self.tail_), normal + torch.log(self.tail_))
        each = torch.where(continuous, mixed, log_p)
        return Exact(torch.where(torch.isnan(x), 0.0, each).sum(1))

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        d = self.space_.dim
        device = self.log_p_.device
        kw: dict[str, Any] = {"generator": rng, "device": device, "dtype": torch.float64}
        cell = torch.multinomial(self.log_p_.exp(), n, replacement=True, generator=rng).T.double()
        value = self.low_ + (cell + torch.rand(n, d, **kw)) * self.width_
        normal = self.mean_ + self.std_ * torch.randn(n, d, **kw)
        value = torch.where(torch.rand(n, d, **kw) < self.tail_, normal, value)
        return torch.where(self.discrete_cells(device), cell, value).reshape(
            n, *self.space_.cell_shape
        )

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return torch.where(torch.isnan(x), self._sample(len(x), rng).to(x.dtype), x)
