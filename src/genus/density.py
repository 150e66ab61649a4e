"""Models of real vectors, made to serve every kind of data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from genus.distributions.boxes import in_box
from genus.distributions.coordinates import MARGINALS, Coordinates
from genus.distributions.points import Averages, averaged, row_uniforms
from genus.learn.rows import Rows
from genus.likelihood import Exact, LogProb, LowerBound
from genus.model import Model
from genus.samplers.particles import pick_several
from genus.settings import OneOf, Rule
from genus.space import Space
from genus.typing import ArrayLike, GivenLike, RandomState, RowsLike, available_if

FIRST = 1 << 17  # rows from which columns are learned, at most
WIDE = 256  # cells of which the masses are those of boxes, at most
SPENT = 1 << 15  # points times cells of a row, at most
WAYS: Rule = OneOf(*MARGINALS) | None  # what the argument ``marginals`` of a family may be
AT_ONCE = 1 << 16  # rows that are settled at once, all their points together
TRIES = 50  # times a draw outside the box of the codes is repeated


class DensityModel(Model):
    """A model of real vectors, p(y) on R^d, made to serve every space.

    Rows become real coordinates y, cell by cell: by what each column does on its own ("learned"),
    in the units of the data ("affine"), or, of grey levels, by a logit ("logit"); see
    ``distributions/coordinates.py``. What a row hides, the place u inside a level or an atom, is
    noise, and

        P(x) = ∫ p(y(x, u)) |∂y/∂u| du

    The value reported is log (1/k) Σ over k points u, a ``LowerBound``. Rows that hide nothing get
    ``Exact`` densities. (Uria et al., 2013; Dinh et al., 2017.)

    A family writes ``log_density(y)``, ``draw(n, rng)`` and, to complete,
    ``log_density_observed(y)`` and ``draw_given(y, rng)`` with NaN where y is missing, all on
    float64 (n, d). One that knows E[missing | observed] writes ``mean_given(y)``. A mixture of
    Gaussians writes ``gaussians(x)``: log-weights (n, K), means, covariances, and the cells they
    are of; the mass of a row is then that of its Gaussians in the box of its cells. The argument
    ``marginals``, where it has one, says how cells become coordinates; None: as ``usual_marginals``
    says.

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

    # of tables, bits and numbers: "learned"; "plain", affine where all cells are real numbers
    # without atoms, and learned elsewhere; or "numbers", affine for arrays of whole numbers too
    usual_marginals: ClassVar[str] = "plain"
    fills_gaps: ClassVar[bool] = False  # are missing coordinates drawn, not integrated out?
    points = 16  # of the noise, a row; more where few of them count
    coordinates_: Coordinates

    if TYPE_CHECKING:  # the hooks that a family has or has not
        mean_given: Callable[[Tensor], Tensor]
        gaussians: Callable[[Tensor], tuple[Tensor, Tensor, Tensor, list[int]]]

    def _make(self, space: Space) -> None:
        self.coordinates_ = Coordinates(space, self._marginals_of(space))
        super()._make(space)

    def _marginals_of(self, space: Space) -> str:
        """How the cells of a space become coordinates."""
        stated = getattr(self, "marginals", None)
        if stated is not None:
            return str(stated)
        if self.is_part:  # its rows are another model's numbers
            return "logit"
        if space.kind == "ordinal" or (space.layout is not None and space.kind != "binary"):
            return "logit"
        counts = self.usual_marginals == "numbers" and space.kind == "integer"
        plain = space.measure == "density" or counts
        return "affine" if plain and self.usual_marginals != "learned" else "learned"

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Learn the columns' own distributions."""
        if self.coordinates_.marginals_ is not None:
            self.coordinates_.fit(rows.look(FIRST, self.rng)[0])

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
        """Codes (n, *shape) as real vectors y (n, d), and log |∂y/∂u| (n,).

        u: noise (n, d) in [0, 1), or where to draw it.
        """
        x = x.flatten(1)
        if isinstance(u, torch.Generator) and self.space_.measure == "density":
            u = torch.zeros(x.shape, dtype=torch.float64, device=x.device)  # nothing is hidden
        if isinstance(u, torch.Generator):
            u = torch.rand(x.shape, generator=u, dtype=torch.float64, device=x.device)
        y, log_det = self.coordinates_(x, u)
        return y, log_det

    def unreal(self, y: Tensor) -> Tensor:
        """Real vectors back to codes (n, *shape), a whole number where discrete."""
        return self.coordinates_.inverse(y).reshape(-1, *self.space_.cell_shape)

    def hides(self, x: Tensor) -> Tensor:
        """Where the cells of codes x (n, *shape) have mass, and so a place u inside; (n, d)."""
        return self.coordinates_.hides(x.flatten(1))

    def noise(self, x: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """u in [0, 1) drawn from q(u | x) by way of uniforms e (n, d), and log q(u | x).

        Here it is uniform noise, and log q = 0.
        """
        return e, e.new_zeros(len(e))

    def fill(self, y: Tensor, e: Tensor, copies: int = 1) -> tuple[Tensor, Tensor]:
        """y without gaps, filled by way of uniforms e (n, d), and log q of what fills them, (n,).

        ``copies`` rows stand beside one another that have the same gaps. Here nothing is filled:
        the density integrates missing coordinates out.
        """
        return y, y.new_zeros(len(y))

    def _log_prob(self, x: Tensor) -> LogProb:
        return self._scored(x)

    def _scored(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        """log p(x), or log p(x | given) where ``log_density`` takes conditions."""
        gaps = self.fills_gaps and bool(torch.isnan(x).any())
        if self.space_.measure == "density" and not gaps:
            nothing = torch.zeros(x.flatten(1).shape, dtype=torch.float64, device=x.device)
            y, log_det = self.real(x, nothing)
            return Exact(self.log_density(y, *_some(given)) + log_det)
        if self._has_boxes():
            return self._scored_by_boxes(x.flatten(1))
        d = self.space_.dim
        most = self.points * 4 ** min(2, int(math.log(max(1, SPENT // (self.points * d)), 4)))
        pieces = []
        for i in range(0, len(x), 256):  # few at a time: each has many copies
            batch, g = x[i : i + 256], None if given is None else given[i : i + 256]

            def log_w(rows: Tensor, begin: int, end: int, x: Tensor = batch, g: Any = g) -> Tensor:
                some, k = x[rows], end - begin
                many = some.repeat_interleave(k, 0)
                e = row_uniforms(some, end, d)[:, begin:].double().flatten(0, 1)
                u, log_q = self.noise(many, e)
                y, log_det = self.real(many, u)
                y, log_gaps = self.fill(y, e, k)
                conditions = () if g is None else (g[rows].repeat_interleave(k, 0),)
                log_p = self.log_density(y, *conditions)
                return (log_p + log_det - log_q - log_gaps).reshape(len(rows), k)

            pieces.append(averaged(log_w, len(batch), self.points, most, x.device))
        return _bound(pieces)

    def _has_boxes(self) -> bool:
        """Are masses of cells those of Gaussians in boxes? Of very many cells that is too much."""
        return hasattr(self, "gaussians") and self.space_.dim <= WIDE

    def _scored_by_boxes(self, x: Tensor) -> LogProb:
        """log Σ_k w_k P_k(the coordinates' box), by points that are drawn inside it."""
        _, _, cov, at = self.gaussians(x[:1])
        if bool(self.coordinates_.real[at].all()):  # masses are those of tables alone
            y, log_det = self.real(x, torch.full_like(x, 0.5, dtype=torch.float64))
            return Exact(self.log_density(y) + log_det)
        if not bool((cov - torch.diag_embed(cov.diagonal(dim1=1, dim2=2))).any()):
            # the mass of a box is a product
            one = x.new_full((len(x), 1, x.shape[1]), 0.5, dtype=torch.float64)
            return Exact(self._boxes(x, one)[0].logsumexp(1)[:, 0])
        most = max(self.points, min(64, 4 * self.points))
        pieces = []
        for batch in x.split(256):

            def log_w(rows: Tensor, begin: int, end: int, x: Tensor = batch) -> Tensor:
                u = row_uniforms(x[rows], end, x.shape[1])[:, begin:].double()
                return self._boxes(x[rows], u)[0].logsumexp(1)

            pieces.append(averaged(log_w, len(batch), self.points, most, x.device))
        return _bound(pieces)

    def _boxes(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """log w_k P_k (n, K, m) of rows x (n, d) by uniforms u (n, m, d), and y (n, K, m, d).

        Coordinates that are known come first, so that the others are drawn given them.
        """
        low, high, log_det = self.coordinates_.box(x)
        log_w, mean, cov, at = self.gaussians(x)
        real = self.coordinates_.real[at]
        order = torch.argsort((~real).int(), stable=True)
        there = torch.as_tensor(at, device=x.device)[order]
        L = torch.linalg.cholesky(cov[:, order][:, :, order])
        size = max(1, (1 << 22) // (len(mean) * u.shape[1] * max(len(at), 1)))
        ends, pieces = (low[:, there], high[:, there], u[:, :, there]), []
        for some in zip(*(t.split(size) for t in ends), strict=True):
            pieces.append(in_box(mean[:, order], L, *some))
        log_p, y = (torch.cat(piece) for piece in zip(*pieces, strict=True))
        return log_p + log_w[:, :, None] + log_det[:, None, None], y[..., order.argsort()]

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        return self._drawn(n, rng)

    def _drawn(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        y = self.draw(n, rng, *_some(given))
        for _ in range(0 if self._has_boxes() else TRIES):
            out = ~self.coordinates_.inside(y)
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

    def _complete_many(
        self, x: Tensor, n: int, rng: torch.Generator, given: Tensor | None = None
    ) -> Tensor:
        """What rows hide is settled once, n times over, and their gaps are drawn given that."""
        own = type(self)._complete is DensityModel._complete
        if not own or self.coordinates_.how == "logit" or not bool(self.hides(x).any()):
            return super()._complete_many(x, n, rng, given)
        y = self._settled(x, rng, n)
        filled = self.unreal(self.draw_given(y, rng)).reshape(n, *x.shape)
        return torch.where(torch.isnan(x), filled.to(x.dtype), x)

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        filled = self.draw_given(self._settled(x, rng), rng)
        for _ in range(0 if self._has_boxes() else TRIES):
            out = ~self.coordinates_.inside(filled)
            if not out.any():
                break
            filled[out] = self.draw_given(self._settled(x[out], rng), rng)
        return torch.where(torch.isnan(x), self.unreal(filled).to(x.dtype), x)

    def _complete_mean(self, x: Tensor, given: Tensor | None = None) -> Tensor | None:
        """E[y | observed], where y are the cells themselves: where all are continuous."""
        plain = self.space_.measure == "density" and self.coordinates_.how != "learned"
        if not plain or not hasattr(self, "mean_given"):
            return None
        return self.mean_given(x.flatten(1).double()).reshape(x.shape)

    def _settled(self, x: Tensor, rng: torch.Generator, n: int = 1) -> Tensor:
        """y(x, u), (n rows, d), with u drawn from p(u | observed x) by importance resampling."""
        observed = ~torch.isnan(x.flatten(1))
        if not (observed & self.hides(x)).any():
            return self.real(x, rng)[0].repeat(n, 1)
        k = max(self.points, 2 * n)
        pieces = []
        if self._has_boxes():
            return self._settled_in_boxes(x.flatten(1), rng, n, k)
        for some in x.split(max(1, AT_ONCE // k)):
            y, log_det = self.real(some.repeat_interleave(k, 0), rng)
            log_w = self.log_density_observed(y) + log_det
            pieces.append(y[pick_several(log_w.reshape(len(some), k), n, rng)])
        return torch.cat(pieces, 1).flatten(0, 1)

    def _settled_in_boxes(self, x: Tensor, rng: torch.Generator, n: int, k: int) -> Tensor:
        """The same, drawn by each Gaussian inside its box: weights are nearly even."""
        y = self.real(x, rng)[0].repeat(n, 1).reshape(n, *x.shape)
        at: list[int] = []
        pieces = []
        for some in x.split(max(1, AT_ONCE // k)):
            u = torch.rand(
                len(some), k, x.shape[1], generator=rng, dtype=torch.float64, device=x.device
            )
            log_w, inside = self._boxes(some, u)
            places = pick_several(log_w.flatten(1), n, rng)
            pieces.append(inside.flatten(0, 2)[places])
            at = self.gaussians(some)[3]
        settled = torch.cat(pieces, 1)
        places = torch.as_tensor(at, device=x.device)
        y[:, :, places] = torch.where(torch.isnan(y[:, :, places]), torch.nan, settled)
        return y.flatten(0, 1)


def _bound(pieces: list[Averages]) -> LogProb:
    """Averages of some rows after others as one bound."""
    names = [f.name for f in dataclasses.fields(Averages)]
    whole = Averages(*(torch.cat([getattr(p, name) for p in pieces]) for name in names))
    return LowerBound(whole.value, whole.stderr, detail=whole.detail)


def _some(given: Tensor | None) -> tuple[Tensor, ...]:
    """The conditions as arguments: none where there are none."""
    return () if given is None else (given,)
