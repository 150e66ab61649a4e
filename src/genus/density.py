"""Models of real vectors, made to serve every kind of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genus.distributions.bijections import Logit
from genus.distributions.points import log_mean_exp, row_uniforms
from genus.likelihood import Exact, LogProb, LowerBound
from genus.model import Model
from genus.samplers.particles import pick
from genus.typing import ArrayLike, GivenLike, RandomState, RowsLike, available_if

TRIES = 50  # times a draw outside the box of the codes is repeated


class DensityModel(Model):
    """A model of real vectors, p(y) on R^d, made to serve every space.

    Continuous cells are themselves. Discrete cells are dequantised and unfolded from their box of
    levels, y = logit(α + (1 − 2α)(x + u)/L) with u ~ U[0, 1), so that

        P(x) = ∫ p(y(x + u)) |∂y/∂u| du

    The value reported is log (1/k) Σ over k points u, a ``LowerBound`` on a probability. Purely
    continuous rows get ``Exact`` densities. (Uria et al., 2013; Dinh et al., 2017.)

    A family writes ``log_density(y)``, ``draw(n, rng)`` and, to complete,
    ``log_density_observed(y)`` and ``draw_given(y, rng)`` with NaN where y is missing, all on
    float64 (n, d). One that knows E[missing | observed] writes ``mean_given(y)``.

    Examples
    --------
    Continuous rows have exact densities, discrete ones bounded probabilities:

    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> model = genus.Gaussian()
    >>> isinstance(model, genus.DensityModel), model.fit(X).log_prob(X).kind
    (True, 'exact')
    >>> X = X.round().astype(int)
    >>> model.fit(X).log_prob(X).kind
    'lower bound'
    """

    points = 16  # dequantisation points a row

    if TYPE_CHECKING:  # the hook that a family has or has not
        mean_given: Callable[[Tensor], Tensor]

    def log_density(self, y: Tensor) -> Tensor:
        """log p(y), (n, d) → (n,); missing entries are integrated out where the family can."""
        raise NotImplementedError

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """n draws of y, (n, d)."""
        raise NotImplementedError

    def draw_given(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """y with its NaN entries drawn from p(missing | observed)."""
        raise NotImplementedError

    def log_density_observed(self, y: Tensor) -> Tensor:
        """log p of the entries of y that are not NaN, (n,)."""
        raise NotImplementedError

    def real(self, x: Tensor, u: Tensor | torch.Generator) -> tuple[Tensor, Tensor]:
        """Codes (n, *shape) as real vectors y (n, d), and log |∂y/∂x| (n,).

        u: noise (n, d) in [0, 1), or where to draw it.
        """
        y = x.flatten(1).double()
        log_det = y.new_zeros(len(y))
        discrete = self.discrete_cells(y.device)
        if discrete.any():
            if isinstance(u, torch.Generator):
                u = torch.rand(y.shape, generator=u, dtype=y.dtype, device=y.device)
            unfold = self._unfold(y.device)
            y = y.clone()  # x may be the caller's own rows
            y[:, discrete], log_det = unfold((y + u)[:, discrete])
        return y, log_det

    def unreal(self, y: Tensor) -> Tensor:
        """Real vectors back to codes (n, *shape), a whole number where discrete."""
        y = y.clone()
        discrete = self.discrete_cells(y.device)
        if discrete.any():
            unfold = self._unfold(y.device)
            level = unfold.inverse(y[:, discrete]).floor()
            y[:, discrete] = level.clamp_min(0).minimum(unfold.high - 1)
        return y.reshape(-1, *self.space_.cell_shape)

    def _unfold(self, device: torch.device) -> Logit:
        """The map of dequantised levels, x + u in [0, L), to the real line."""
        counts = [c for c in self.space_.cardinality if c]
        levels = torch.tensor(counts, dtype=torch.float64, device=device)
        return Logit(torch.zeros_like(levels), levels, alpha=0.01)

    def _inside(self, y: Tensor) -> Tensor:
        """Which rows y are images of some code, (n,): with α > 0 a little of R^d is not."""
        discrete = self.discrete_cells(y.device)
        if not discrete.any():
            return torch.ones(len(y), dtype=torch.bool, device=y.device)
        unfold = self._unfold(y.device)
        x = unfold.inverse(y[:, discrete])
        return ((x >= 0) & (x < unfold.high)).all(1)

    def noise(self, x: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """u in [0, 1) drawn from q(u | x) by way of uniforms e (n, d), and log q(u | x).

        Here it is uniform noise, and log q = 0.
        """
        return e, e.new_zeros(len(e))

    def _log_prob(self, x: Tensor) -> LogProb:
        return self._scored(x)

    def _scored(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        """log p(x), or log p(x | given) where ``log_density`` takes conditions."""
        if not any(self.space_.discrete):
            return Exact(self.log_density(x.flatten(1).double(), *_some(given)))
        parts = []
        for i in range(0, len(x), 256):  # few at a time: each has ``points`` copies
            batch = x[i : i + 256]
            many = batch.repeat_interleave(self.points, 0)
            e = row_uniforms(batch, self.points, self.space_.dim).double()
            u, log_q = self.noise(many, e.flatten(0, 1))
            y, log_det = self.real(many, u)
            g = None
            if given is not None:
                g = given[i : i + 256].repeat_interleave(self.points, 0)
            log_w = self.log_density(y, *_some(g)) + log_det - log_q
            parts.append(log_w.reshape(len(batch), self.points))
        value, stderr, ess = log_mean_exp(torch.cat(parts), 1)
        return LowerBound(value, stderr, detail={"k": self.points, "ess": float(ess.mean())})

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        return self._drawn(n, rng)

    def _drawn(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        y = self.draw(n, rng, *_some(given))
        for _ in range(TRIES):
            out = ~self._inside(y)
            if not out.any():
                break
            g = None if given is None else given[out]
            y[out] = self.draw(int(out.sum()), rng, *_some(g))
        return self.unreal(y)

    def _completes(self) -> bool:
        """Does the family say how missing entries are drawn?"""
        own = type(self)
        given = own.draw_given is not DensityModel.draw_given
        return given or own._complete is not DensityModel._complete

    @available_if(_completes)
    def complete(
        self,
        X: RowsLike,
        n: int | None = None,
        *,
        how: str = "draw",
        q: float | Sequence[float] | None = None,
        mask: ArrayLike | None = None,
        given: GivenLike = None,
        random_state: RandomState = None,
    ) -> Any:
        """``Model.complete``, for families that write ``draw_given``."""
        return super().complete(
            X, n, how=how, q=q, mask=mask, given=given, random_state=random_state
        )

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        filled = self.draw_given(self._settled(x, rng), rng)
        for _ in range(TRIES):
            out = ~self._inside(filled)
            if not out.any():
                break
            filled[out] = self.draw_given(self._settled(x[out], rng), rng)
        return torch.where(torch.isnan(x), self.unreal(filled).to(x.dtype), x)

    def _complete_mean(self, x: Tensor, given: Tensor | None = None) -> Tensor | None:
        """E[y | observed], where y are the cells themselves: where all are continuous."""
        if any(self.space_.discrete) or not hasattr(self, "mean_given"):
            return None
        return self.mean_given(x.flatten(1).double()).reshape(x.shape)

    def _settled(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """y(x + u) with u drawn from p(u | observed x) by importance resampling."""
        observed = ~torch.isnan(x.flatten(1))
        if not (observed & self.discrete_cells(x.device)).any():
            return self.real(x, rng)[0]
        y, log_det = self.real(x.repeat_interleave(self.points, 0), rng)
        log_w = self.log_density_observed(y) + log_det
        return y[pick(log_w.reshape(len(x), self.points), rng)]


def _some(given: Tensor | None) -> tuple[Tensor, ...]:
    """The conditions as arguments: none where there are none."""
    return () if given is None else (given,)
