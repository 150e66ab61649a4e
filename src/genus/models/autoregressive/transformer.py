r"""The autoregressive transformer: each cell given the cells before it, by causal attention.

Vaswani et al. (2017).

    log p(x) = Σ_t log p(x_{o(t)} | x_{o(1)} … x_{o(t−1)}),        o an order of the d cells

Step t sees the value of the cell before it and, by its position, the cell that comes next:

    h_t = value(x_{o(t−1)}) + position(o(t)),    t = 1: a learned start in place of a value
    h   ← h + W softmax(mask(q kᵀ/√m)) v,        q, k, v linear in norm(h); t attends to steps ≤ t
    h   ← h + W₂ gelu(W₁ norm(h)),               ``depth`` times both
    p(x_{o(t)} | …) = head_{o(t)}(norm(h_t))

A discrete cell has a logit for each level; of thousands of words the rare ones share one. A number
has a mixture of K normals of its normal score z by the cell's own marginal, as in MADE: a density,
or the mass between the scores of the ends of a whole number or of an atom; one more normal is the
marginal itself, with a weight of a hundredth.

A missing cell is a step without a value, and is not scored: what is left is a probability of what
is observed. One row in eight loses some of its cells while training, where there are numbers, words
that may be new, or gaps. With ``any_order`` missing cells come last instead.

Rotary positions (Su et al., 2021) turn pairs of coordinates of q by the place of the cell to come
and of k by that of the cell seen, so that q kᵀ knows how far apart they are. With ``any_order`` the
orders are random in training, and each value comes with its own position as well (Uria et al.,
2014; Yang et al., 2019). The orders then agree about p(x) only as far as they are learned, so that
the model is the average of a few of them, log p(x) = log (1/O) Σ_o p_o(x), which is a probability
again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.bijections import Standardise
from genus.distributions.bins import Bins
from genus.distributions.columns import check_observed, log_shares
from genus.distributions.dependence import Indicators, spanning_order
from genus.distributions.levels import log_normal_mass
from genus.distributions.marginals import Numbers as Marginal
from genus.learn.progress import drawing
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer, batch_of
from genus.likelihood import Exact, LogProb
from genus.missing import has_gaps
from genus.model import Model
from genus.models.autoregressive.columns import (
    Merged,
    log_mass,
    loses,
    lost,
    middle,
    mixture_of_scores,
    start_of_scores,
)
from genus.networks.attention import Block
from genus.networks.conditions import Conditions
from genus.networks.layers import Linear, initialise
from genus.networks.positions import NEAR, angles_of, at, places
from genus.samplers.particles import enough, pick_several, resample
from genus.settings import Each, Flag, Label, Number, OneOf, Rule, Whole
from genus.space import Space

LEVELS = 256  # of an ordered pixel or token, above which it is read as a number

# the same of a column of a table or a short row, which has fewer values to
# learn a logit for each level from
COLUMN = 32


SHORT = 64  # cells of a row up to which they are columns


WORDS = 4096  # categories up to which each has a logit; of more, the rare ones share one


FLOOR = 0.01  # of s_k, in standard units


FAR = 10.0  # standard units beyond which a number is read as this


CACHE = 2**28  # bytes of keys and values at a time


TOKENS = 2**15  # cells scored at a time


class AutoregressiveTransformer(Model):
    """Causal attention over the cells of a row: pixels, columns of a table of any kinds, or tokens.

    ``log_prob`` is ``Exact``, in nats. ``complete`` is exact where the missing cells come last in
    the order. Other masks are filled by particles, which is p(missing | observed) as their number
    grows: drawn in the order, weighed by what is observed after a draw and drawn anew where few
    carry the weight. With ``any_order`` they are drawn after all that is observed, and one of them
    is picked by p(x) over the probability that it was drawn with, which differ little
    (``particles=1`` leaves that out, and takes the time of a draw).

    Sources: Vaswani et al. (2017); Su et al. (2021); Uria, Murray & Larochelle (2014).

    Parameters
    ----------
    width : int, default=64
        Of h.
    depth : int, default=3
        Pairs of attention and perceptron.
    heads : int, default=4
        Of attention, a divisor of the width.
    positions : {"learned", "rotary"}, default="learned"
        A vector for each cell, or turns by the row and column in images.
    any_order : bool, default=False
        Learn all orders, so that what is missing can be drawn after what is
        observed, whatever the mask.
    order : sequence, "learned" or None, default=None
        Of the cells: names of columns, or numbers of the cells of a flattened row. ``learned``:
        from the column that tells most of the others on, each next the one that those before it
        tell most of (mutual information). None: as they come, in images pixel by pixel.
    n_orders : int, default=4
        O, of ``any_order``: orders whose probabilities are averaged, ``order``
        first, the others random.
    n_components : int, default=8
        K, normals of a number, and of levels between known ends that are more than 32 (in
        images and long rows 256).
    dropout : float, default=0.2
        Share of each residual that is dropped in training.
    particles : int or None, default=None
        Of ``complete``, where one draw would not be exact. None: 64 to 256, more where rows are
        short, a fourth with ``any_order``.
    marginals : {"learned", "affine", "logit"} or None, default=None
        The scale of numbers: normal scores by the marginal of each cell, or standard units. None:
        learned. ``logit`` is that of files of earlier versions, and is affine here.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import pandas as pd, genus
    >>> X = pd.DataFrame({"a": [0.1, 1.2, 0.3, 1.1] * 20, "b": ["x", "y", "x", "y"] * 20})
    >>> few = genus.Trainer(epochs=1)
    >>> model = genus.AutoregressiveTransformer(8, 1, 2, trainer=few, random_state=0).fit(X)
    >>> list(model.sample(2, random_state=0).columns)
    ['a', 'b']
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "width": Whole(1),
        "depth": Whole(1),
        "heads": Whole(1),
        "positions": OneOf("learned", "rotary"),
        "any_order": Flag(),
        "order": OneOf("learned")
        | Each(Label(), "a list of all columns, by name or number,")
        | None,
        "n_orders": Whole(1),
        "n_components": Whole(1),
        "dropout": Number(0, below=1),
        "particles": Whole(1) | None,
        "marginals": OneOf("learned", "affine", "logit") | None,
    }
    allow_nan = True
    learned_by = "maximum likelihood"
    conditions = "optional"
    may_use_bfloat16 = True

    levels: Tensor  # of each cell, 0 where continuous
    loses_: bool  # do rows lose cells while it trains?
    real: Tensor  # cells read as numbers: continuous ones, and
    many: Tensor  # ordered ones of many levels
    numbers: Tensor  # the same by number, and
    place: Tensor  # the place of each cell among them
    ends: Tensor  # cells whose outermost levels have the tails
    marginal_: Marginal
    merged_: Any  # columns of very many words, by number
    first: Tensor  # row of ``value_`` of each cell's first level
    angles: Tensor
    orders_: Tensor
    scale_: Standardise
    context_: Conditions
    blocks_: nn.ModuleList

    def __init__(
        self,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
        positions: str = "learned",
        any_order: bool = False,
        order: Sequence[int | str] | str | None = None,
        n_orders: int = 4,
        n_components: int = 8,
        dropout: float = 0.2,
        particles: int | None = None,
        marginals: str | None = None,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.width = width
        self.depth = depth
        self.heads = heads
        self.positions = positions
        self.any_order = any_order
        self.order = order
        self.n_orders = n_orders
        self.n_components = n_components
        self.dropout = dropout
        self.particles = particles
        self.marginals = marginals
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ the model

    def parameters_of(
        self, x: Tensor, order: Tensor | None = None, given: Tensor | None = None
    ) -> Tensor:
        """What p(x_j | cells before j in the order) is made of, cell after cell.

        (n, d), order (1 or n, d) → (n, d, most).
        """
        order = self.order_[None] if order is None else order
        h = at(self._attend(self._seen(x), order, self._context(given)), order.argsort(1))
        n, d, w = h.shape
        heads = len(self.head_)  # cells of one head stand together
        return (
            torch.einsum("ncpw,cmw->ncpm", h.reshape(n, heads, d // heads, w), self.head_).reshape(
                n, d, -1
            )
            + self.bias_
        )

    @property
    def order_(self) -> Tensor:
        """The first of the orders, (d,): cells by number, channel-first."""
        return self.orders_[0]

    def log_average(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """log (1/O) Σ_o p_o(x) of rows of cells (n, d), (n,) nats."""
        each = torch.stack(
            [self.log_likelihood(x, self._gaps_last(x, o[None]), given) for o in self.orders_]
        )
        return torch.logsumexp(each, 0) - math.log(len(each))

    def log_likelihood(
        self, x: Tensor, order: Tensor | None = None, given: Tensor | None = None
    ) -> Tensor:
        """log p_o(x) of rows of cells (n, d) in an order, (n,) nats."""
        cells = torch.arange(x.shape[1], device=x.device)[None]
        each = self._log_cells(self.parameters_of(x, order, given), x, cells).double()
        return each.masked_fill(torch.isnan(x), 0.0).sum(1)

    def _gaps_last(self, x: Tensor, order: Tensor) -> Tensor:
        """An order (1, d) where nothing is missing or orders are fixed, else each row's own."""
        gap = torch.isnan(x)
        if not self.any_order or not has_gaps(x):
            return order
        order = order.expand(len(x), -1)
        return order.gather(1, at(gap, order).long().argsort(dim=1, stable=True))

    def losses(self, x: Tensor, given: Tensor | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        """−log p, with ``any_order`` in a random order a row."""
        order, x = None, x.flatten(1)
        if self.any_order:
            u = torch.rand(len(x), len(self.order_), generator=self.rng, device=x.device)
            order = (u + torch.isnan(x)).argsort(1)
        elif self.loses_:
            x = x.masked_fill(lost(len(x), x.shape[1], self.rng), math.nan)
        yield self, -self.log_likelihood(x, order, given).mean()

    def validate(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """Mean −log p of rows."""
        return -self.log_average(x.flatten(1), given).mean()

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        if self.width % self.heads or (
            self.positions == "rotary" and self.width % (2 * self.heads)
        ):
            pairs = " of even size, for rotary positions" if self.width % self.heads == 0 else ""
            raise ValueError(
                f"width={self.width!r} does not fall into heads={self.heads!r} equal "
                f"parts{pairs}: use a multiple"
            )
        d, w, image = space.dim, self.width, space.image_shape
        levels, ordinal = (
            np.array(space.cardinality),
            np.array([k == "ordinal" for k in space.kinds]),
        )
        short = bool(space.columns) or (image is None and d <= SHORT)
        most_logits = COLUMN if short else LEVELS
        integer = np.array([k == "integer" for k in space.kinds])
        wide = (levels > WORDS) & np.array([k == "categorical" for k in space.kinds])
        self.merged_ = nn.ModuleDict({str(j): Merged(int(levels[j])) for j in wide.nonzero()[0]})
        levels = np.where(wide, Merged.kept + 1, levels)
        many = integer | (ordinal & (levels > most_logits))
        real = many | (levels == 0)
        codes = np.where(real, 1 + self._scored_by_marginals(), levels)
        most = int(np.where(real, 3 * self.n_components, levels).max())
        # images share values and heads by channel, long rows of one kind altogether; tables have
        # those of each column
        own = bool(space.columns) or d * most <= 8192
        heads = image[0] if image else d if own else 1
        first = (
            codes.cumsum() - codes
            if space.columns
            else np.repeat(np.arange(heads), d // heads) * codes.max()
        )
        self._some_real = bool(real.any())
        for name, buffer in (("levels", levels), ("real", real), ("many", many), ("first", first)):
            self.register_buffer(name, torch.tensor(buffer.tolist()), persistent=False)
        if not self._scored_by_marginals():
            self.scale_ = Standardise(d)
            self.register_buffer("ends", torch.tensor((~integer).tolist()), persistent=False)
        elif real.any():
            numbers, place = real.nonzero()[0], real.cumsum() - 1
            self.marginal_ = Marginal(space, numbers.tolist())
            self.register_buffer("numbers", torch.tensor(numbers.tolist()), persistent=False)
            self.register_buffer("place", torch.tensor(place.tolist()), persistent=False)
        rng, others = self.rng, range(1, self.n_orders if self.any_order else 1)
        with torch.device("cpu"):  # also where a saved model is built on shapes alone
            declared = self._declared(space)
        orders = [
            declared,
            *(torch.randperm(d, generator=rng, device=rng.device).cpu() for _ in others),
        ]
        self.register_buffer("orders_", torch.stack(orders))
        self.value_ = nn.Parameter(torch.randn(int((first + codes).max()), w, generator=rng))
        with torch.no_grad():  # levels that have an order begin near a line
            line = torch.randn(w, generator=rng)
            for a, count in sorted(
                {(int(first[j]), int(levels[j])) for j in (ordinal & ~real).nonzero()[0]}
            ):
                self.value_[a : a + count].mul_(NEAR).add_(
                    torch.linspace(-1.7, 1.7, count)[:, None] * line
                )
        self.start_ = nn.Parameter(torch.randn(w, generator=rng))
        if self.positions == "learned" or self.any_order:
            self.target_ = nn.Parameter(places(image, d, w, rng))
        if self.any_order:
            self.source_ = nn.Parameter(places(image, d, w, rng))
        if hasattr(self, "given_space_"):
            self.context_ = Conditions(self.given_space_)
            self.given_ = Linear(self.context_.width, w, bias=False)
        self.blocks_ = nn.ModuleList(Block(w, self.heads, self.dropout) for _ in range(self.depth))
        self.norm_ = nn.LayerNorm(w)
        initialise(self, rng)
        self.head_ = nn.Parameter(torch.zeros(heads, most, w))
        self.bias_ = nn.Parameter(torch.zeros(d, most))
        if self.positions == "rotary":
            self.register_buffer(
                "angles", angles_of(image, d, w // self.heads // 2), persistent=False
            )

    def _scored_by_marginals(self) -> bool:
        """Are numbers on the scale of their own marginals?"""
        return self.marginals in (None, "learned")

    def _declared(self, space: Space) -> Tensor:
        """The order by numbers of cells, channel-first."""
        d, image = space.dim, space.image_shape
        if self.order is None or (isinstance(self.order, str) and self.order == "learned"):
            return (
                torch.arange(d).reshape(image).permute(1, 2, 0).flatten()
                if image
                else torch.arange(d)
            )
        names = {c.name: j for j, c in enumerate(space.columns)}
        listed = () if isinstance(self.order, str) else self.order
        plain = [c.item() if isinstance(c, np.generic) else c for c in listed]
        places = [names.get(c, c) for c in plain]
        order = [j for j in places if isinstance(j, int)]
        if len(order) != len(places) or sorted(order) != list(range(d)):
            raise ValueError(
                f"order={self.order!r}: every one of the {d} cells is needed once, by name or "
                "number, or 'learned', or None"
            )
        return torch.tensor([space.cell_at(j) for j in order])

    def defaults(self, n: int) -> Trainer:
        d = max(self.space_.dim, 1)
        batch = batch_of(n, 32, 16, 128)
        steps = min(3000, max(500, 2_500_000 // (batch * d)))
        epochs = max(steps * batch // max(n, 1), min(10, 200_000 // max(n, 1)), 1)
        share = 0.1 if n >= 100 else 0.0
        return Trainer(
            epochs=epochs,
            batch_size=batch,
            lr=2e-3,
            warmup=50,
            optimizer="adamw",
            weight_decay=0.05,
            validation=share,
            patience=max(10, epochs // 6) if share else None,
            ema=0.99,
            grad_clip=1.0,
        )

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """The marginals of numbers, from the first rows."""
        x = rows.look(65536, self.rng)[0].flatten(1)
        check_observed(self.space_, (~torch.isnan(x)).any(0))
        self.loses_ = loses(self.space_, x)
        for j, merged in self.merged_.items():
            merged.fit(x[:, int(j)])
        if hasattr(self, "marginal_"):
            self.marginal_.fit(x[:, self.numbers].double())

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        """Set standard units, a learned order, and heads at the best independent cells."""
        x, *given = rows.look(65536, self.rng)
        x = x.flatten(1)
        if hasattr(self, "scale_"):
            self.scale_.fit(x)
        if given:
            self.context_.fit(given[0].flatten(1))
        if isinstance(self.order, str):
            self.order_.copy_(self._told(x))
        K, x = self.n_components, self._classes(x)
        for part in torch.arange(x.shape[1], device=x.device).split(64):
            shares = log_shares(x[:8192, part], self.bias_.shape[1])
            self.bias_[part] = shares.to(self.bias_.dtype)
        real = self.real.nonzero()[:, 0]
        if len(real) and self._scored_by_marginals():
            self.bias_[real] = 0.0
            self.bias_[real, : 3 * K] = start_of_scores(K).to(self.bias_)
        elif len(real):
            z = self.scale_(x[:4096])[0][:, real]
            at = (torch.arange(K, dtype=z.dtype, device=z.device) + 0.5) / K
            self.bias_[real] = 0.0
            self.bias_[real, K : 2 * K] = (
                torch.nanquantile(z, at, 0).T.clamp(-FAR, FAR).to(self.bias_.dtype)
            )
            self.bias_[real, 2 * K : 3 * K] = math.log(0.5)

    def _told(self, x: Tensor) -> Tensor:
        """An order: the column of most mutual information, then what those before tell most."""
        if self.space_.image_shape:
            return self.order_
        x = x[:4096].cpu().double()
        x = torch.where(torch.isnan(x), x.nanmedian(0).values, x)
        bins = Bins(self.space_, 8, 8).fit(x)
        told = Indicators(bins.encode(x), bins.cards).mutual_information()
        return torch.tensor(spanning_order(told.numpy()), device=self.order_.device)

    # ------------------------------------------------------------------ cells

    def _context(self, given: Tensor | None) -> Tensor | None:
        """What is added to h for conditions, (n, width)."""
        if given is None:
            return None
        out: Tensor = self.given_(self.context_.context(given, self.value_.dtype))
        return out

    def _standard(self, x: Tensor, cells: Tensor | int) -> Tensor:
        return (x.double() - self.scale_.mean_[cells]) / self.scale_.std_[cells]

    def _seen(self, x: Tensor) -> Tensor:
        """What steps see of rows x (n, d): a level, or a number in standard units; NaN stays."""
        x = self._classes(x)
        if hasattr(self, "scale_"):
            cells = torch.arange(x.shape[1], device=x.device)[None]
            return torch.where(self.real, self._standard(x, cells).clamp(-FAR, FAR), x)
        if not hasattr(self, "marginal_"):
            return x
        z = middle(self.marginal_.look(x[:, self.numbers].double()))
        return x.double().index_copy(1, self.numbers, z)

    def _classes(self, x: Tensor) -> Tensor:
        """Rows (n, d) with rare words as one class, where there are very many."""
        for j, merged in self.merged_.items():
            x = x.index_copy(1, self._column(j), merged.classes(x[:, [int(j)]]))
        return x

    def _column(self, j: str) -> Tensor:
        return torch.tensor([int(j)], device=self.levels.device)

    def _seen_at(self, x: Tensor, cells: Tensor) -> Tensor:
        """What steps see of the values x (n,) of one cell (1,), or of one a row (n,)."""
        out = x.clone()
        for j, rows in _cells_of(cells, len(x)):
            if self.real[j] and hasattr(self, "scale_"):
                out[rows] = self._standard(x[rows], j).clamp(-FAR, FAR)
            elif self.real[j]:
                out[rows] = middle(self._own(j).look(x[rows, None].double()))[:, 0]
            elif str(j) in self.merged_:
                out[rows] = self.merged_[str(j)].classes(x[rows])
        return out

    def _values(self, s: Tensor, cells: Tensor) -> Tensor:
        """What is seen of cells (1 or n, T) as vectors, (n, T) → (n, T, width)."""
        real, gap = self.real[cells], torch.isnan(s)
        s = s.nan_to_num()
        first = self.first[cells]
        v = F.embedding(first + torch.where(real, 0.0, s).long(), self.value_)
        if self._some_real:
            v = v * torch.where(real, s, 1.0).to(v.dtype)[..., None]
            if self._scored_by_marginals():
                v = v + F.embedding(first + 1, self.value_) * real[..., None]
        if (self.training and self.loses_) or has_gaps(s):
            v = v.masked_fill(gap[..., None], 0.0)
        return v + self.source_[cells] if self.any_order else v

    def _attend(
        self,
        s: Tensor,
        order: Tensor,
        context: Tensor | None,
        t: int = 0,
        end: int | None = None,
        cache: Any = None,
    ) -> Tensor:
        """norm(h) of the steps t … end − 1, (n, end − t, width).

        cache: keys and values of the steps before t, and then of these.
        """
        target, source = order[:, t:end], order[:, max(t - 1, 0) : (end or order.shape[1]) - 1]
        h = self._values(at(s, source), source)
        if t == 0:
            h = torch.cat([self.start_.expand(len(s), 1, -1), h], 1)
        if hasattr(self, "target_"):
            h = h + self.target_[target]
        if context is not None:
            h = h + context[:, None]
        turns: tuple[Tensor, ...] = ()
        if self.positions == "rotary":
            seen = source if t else F.pad(source, (1, 0), value=order.shape[1])
            turns = (self.angles[target], self.angles[seen])
        for i, block in enumerate(self.blocks_):
            h = block(h, turns, None if cache is None else (cache[i], t))
        out: Tensor = self.norm_(h)
        return out

    # ------------------------------------------------------------------ conditionals

    def _logits(self, p: Tensor, cells: Tensor) -> Tensor:
        """p (…, most) of discrete cells with −inf beyond their levels."""
        levels = torch.where(self.real, p.shape[-1], self.levels)[cells]
        return p.masked_fill(
            torch.arange(p.shape[-1], device=p.device) >= levels[..., None], -torch.inf
        )

    def _mixture(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log π, m, s of every component, (…, K), float64."""
        p = p[..., : 3 * self.n_components]
        if self._scored_by_marginals():
            return mixture_of_scores(p, self.n_components)
        a, m, r = p.double().chunk(3, -1)
        return torch.log_softmax(a, -1), m, FLOOR + torch.exp(r.clamp(-20, 5))

    def _log_cells(self, p: Tensor, x: Tensor, cells: Tensor) -> Tensor:
        """log p of values x (n, T) of cells (1, T) given p (n, T, most), (n, T) nats."""
        real = self.real[cells]
        log_p = x.new_zeros(x.shape, dtype=torch.float64)
        if not self._some_real or not bool(real.all()):
            log_levels = torch.log_softmax(
                self._logits(p if p.dtype == torch.float64 else p.float(), cells), -1
            )
            code, within = torch.where(real, 0.0, x.nan_to_num()), torch.zeros_like(log_p)
            for t, j in enumerate(cells[0].tolist()) if len(self.merged_) else ():
                if str(j) in self.merged_:
                    within[:, t] = self.merged_[str(j)].log_within(x[:, t])
                    code[:, t] = self.merged_[str(j)].classes(code[:, t])
            log_p = log_levels.gather(-1, code.long()[..., None])[..., 0].double() + within
        numbers = self._some_real and bool(real.any())
        if numbers and self._scored_by_marginals():
            some = real[0].nonzero()[:, 0]
            own = self.marginal_.some(self.place[cells[0, some]])
            mass = log_mass(self._mixture(p[:, some]), own.look(x[:, some].double()))
            log_p = log_p.double().index_copy(1, some, mass)
        elif numbers:
            log_pi, m, s = self._mixture(p)
            x = x.nan_to_num()
            r, scale = self._standard(x, cells)[..., None] - m, self.scale_.std_[cells][..., None]
            each = (
                -0.5 * ((r / s).square() + math.log(2 * math.pi)) - torch.log(s) - torch.log(scale)
            )
            if bool(self.many.any()):
                levels, half = self.levels[cells][..., None], 0.5 / scale
                place = torch.where(self.ends[cells], x, 1.0)[..., None]
                levels = torch.where(self.ends[cells][..., None], levels, 4)
                mass = log_normal_mass(place, levels, r, half, s)
                each = torch.where(self.many[cells][..., None], mass, each)
            log_p = torch.where(real, torch.logsumexp(log_pi + each, -1), log_p.double())
        return log_p

    def _draw(self, p: Tensor, cells: Tensor, u: Tensor) -> Tensor:
        """A value of the cell (1 or n,) of each row from p (n, most), by uniforms u (n, 2)."""
        real = self.real[cells]
        x = u.new_zeros(len(u))
        if not bool(real.all()):
            x = _inverse(torch.softmax(self._logits(p, cells).double(), -1), u[:, 0]).double()
            for j, rows in _cells_of(cells, len(u)) if len(self.merged_) else ():
                if str(j) in self.merged_:
                    x[rows] = self.merged_[str(j)].words(x[rows], u[rows, 1])
        if bool(real.any()):
            log_pi, m, s = self._mixture(p)
            k = _inverse(log_pi.exp(), u[:, 0])[:, None]
            z = m.gather(1, k)[:, 0] + s.gather(1, k)[:, 0] * torch.special.ndtri(
                u[:, 1].clamp(1e-12, 1 - 1e-12)
            )
            x = torch.where(real, self._inverted(z, cells), x)
        return x

    def _inverted(self, z: Tensor, cells: Tensor) -> Tensor:
        """Numbers of the cell (1 or n,) of each row from standard units z (n,)."""
        if hasattr(self, "scale_"):
            y = z * self.scale_.std_[cells] + self.scale_.mean_[cells]
            low = torch.where(self.ends[cells], 0.0, -math.inf)
            high = torch.where(self.ends[cells], self.levels[cells] - 1.0, math.inf)
            whole = y.round().maximum(low).minimum(high)
            return torch.where(self.many[cells], whole, y)
        out = z.clone()
        for j, rows in _cells_of(cells, len(z)):
            if self.real[j]:
                out[rows] = self._own(j).invert(z[rows, None])[:, 0]
        return out

    def _own(self, j: int) -> Marginal:
        """The marginal of cell j."""
        i = int(self.place[j])
        return self.marginal_.some(slice(i, i + 1))

    # ------------------------------------------------------------------ verbs

    def _scored(
        self, x: Tensor, given: Tensor | None = None, order: Tensor | None = None
    ) -> Tensor:
        """log p(x), or log p_o(x) in the rows' own orders, few rows at a time; (n,)."""
        parts = []
        for i in torch.arange(len(x), device=x.device).split(max(1, TOKENS // x.shape[1])):
            g = None if given is None else given[i]
            parts.append(
                self.log_average(x[i], g)
                if order is None
                else self.log_likelihood(x[i], order[i], g)
            )
        return torch.cat(parts)

    def _weighed(
        self, x: Tensor, rng: torch.Generator, given: Tensor | None, k: int, keep: int = 1
    ) -> Tensor:
        """Rows drawn k times in orders o of their own, of which p(x) / p_o(x) picks ``keep``.

        Their NaN come after all that is observed. The result is (keep rows, d).
        """
        order = self.order_[torch.isnan(x)[:, self.order_].long().argsort(dim=1, stable=True)]
        x, order = x.repeat_interleave(k, 0), order.repeat_interleave(k, 0)
        given = None if given is None else given.repeat_interleave(k, 0)
        x = self._fill(x, order, rng, given)
        if k == 1:
            return x
        log_w = self._scored(x, given) - self._scored(x, given, order)
        return x[pick_several(log_w.reshape(-1, k), keep, rng).flatten()]

    def _at_a_time(self) -> int:
        return max(1, CACHE // (8 * self.depth * self.width * self.space_.dim))

    def _fill(
        self,
        x: Tensor,
        order: Tensor,
        rng: torch.Generator,
        given: Tensor | None = None,
        k: int = 1,
        cached: bool = True,
        keep: int = 1,
    ) -> Tensor:
        """Rows of cells (n, d) with their NaN drawn in order.

        k: particles a row, resampled by what is observed after a draw; ``keep`` of them are
        returned, (keep rows, d). ``cached=False`` computes every step anew.
        """
        rows, d = x.shape
        seen = self._seen(x).repeat_interleave(k, 0)
        x = x.clone().repeat_interleave(k, 0)
        order = order.repeat_interleave(k, 0) if len(order) > 1 else order
        n, context = len(x), self._context(None if given is None else given.repeat_interleave(k, 0))
        known = ~torch.isnan(at(x, order))
        begin = int(known.all(0).long().cumprod(0).sum())  # steps that all rows have behind them
        if begin == d:
            return x[::k].repeat(keep, 1)
        shape = (2, n, self.heads, d, self.width // self.heads)
        cache = [self.value_.new_zeros(shape) for _ in self.blocks_] if cached else None
        head = torch.arange(d, device=x.device) * len(self.head_) // d
        log_w = x.new_zeros(rows, k)
        for t in self._shown(range(begin, d)):
            h = self._attend(seen, order, context, t if cached and t > begin else 0, t + 1, cache)[
                :, -1
            ]
            j = order[:, t]
            p = (
                h @ self.head_[head[j[0]]].T
                if len(j) == 1
                else torch.einsum("nw,nmw->nm", h, self.head_[head[j]])
            )
            p = p + self.bias_[j]
            here = x.gather(1, j[:, None].expand(n, 1))
            new = self._draw(
                p, j, torch.rand(n, 2, generator=rng, dtype=torch.float64, device=x.device)
            )[:, None]
            here_seen = self._seen_at(new[:, 0], j)[:, None].to(seen.dtype)
            place = j[:, None].expand(n, 1)
            seen.scatter_(
                1, place, torch.where(torch.isnan(here), here_seen, seen.gather(1, place))
            )
            x.scatter_(1, place, torch.where(torch.isnan(here), new, here))
            if k > 1:
                told = self._log_cells(p[:, None], here, j[:, None])[:, 0]
                log_w = log_w + torch.where(torch.isnan(here[:, 0]), 0.0, told.double()).reshape(
                    rows, k
                )
                again = resample(log_w, rng) if t < d - 1 else None
                if again is not None:
                    places, log_w = again
                    x, seen = x[places], seen[places]
                    for c in cache or ():
                        c[..., : t + 1, :] = c[:, places, :, : t + 1]
        return x if k == 1 else x[pick_several(log_w, keep, rng).flatten()]

    def _shown(self, steps: range) -> Iterator[int]:
        """The steps, counted by a bar on stderr where there are many."""
        wanted = self.trainer.progress if self.trainer is not None else None
        if wanted is None and len(steps) < 64:
            wanted = False
        with drawing(
            wanted,
            type(self).__name__,
            len(steps),
            "pixels" if self.space_.image_shape else "cells",
        ) as advance:
            for t in steps:
                yield t
                advance()

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        return Exact(self._scored(x.flatten(1), given))

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        x = torch.full(
            (n, self.space_.dim), math.nan, dtype=torch.float64, device=self.value_.device
        )
        order = self.orders_
        if len(order) > 1:
            order = order[torch.randint(len(order), (n,), generator=rng, device=rng.device)]
        out = [
            self._fill(
                x[i],
                order if len(order) == 1 else order[i],
                rng,
                None if given is None else given[i],
            )
            for i in torch.arange(n, device=x.device).split(self._at_a_time())
        ]
        return torch.cat(out).reshape(-1, *self.space_.cell_shape)

    def _complete(self, x: Tensor, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        return self._complete_many(x, 1, rng, given)[0]

    def _complete_many(
        self, x: Tensor, n: int, rng: torch.Generator, given: Tensor | None = None
    ) -> Tensor:
        out = x.flatten(1).double()[None].repeat(n, 1, 1)  # x is the caller's own
        gap = torch.isnan(out[0])
        late = (  # observed after missing
            gap.any(1) if self.any_order else (gap[:, self.order_].long().diff(dim=1) < 0).any(1)
        )
        many = self.particles or min(256, max(64, 2**14 // gap.shape[1])) // (
            4 if self.any_order else 1
        )
        for rows, k in ((~late & gap.any(1), 1), (late, many)):
            if not rows.any():
                continue
            size = max(1, self._at_a_time() // (n if k == 1 else enough(k, n)))
            for i in rows.nonzero()[:, 0].split(size):
                g = None if given is None else given[i]
                out[:, i] = self._kept(out[0, i], n, k, rng, g)
        return out.reshape(n, -1, *self.space_.cell_shape)

    def _kept(
        self, x: Tensor, n: int, k: int, rng: torch.Generator, given: Tensor | None
    ) -> Tensor:
        """n completions of rows, (n, rows, d): of k particles each, or drawn apart where k is 1."""
        rows, keep = len(x), n
        if k == 1:
            x, given = x.repeat(n, 1), _repeated(given, n)
            keep = 1
        else:
            k = enough(k, n)
        if self.any_order:
            drawn = self._weighed(x, rng, given, k, keep)
        else:
            drawn = self._fill(x, self.order_[None], rng, given, k, keep=keep)
        return drawn.reshape(n, rows, -1)


def _repeated(given: Tensor | None, n: int) -> Tensor | None:
    """Conditions n times over."""
    return None if given is None else given.repeat(n, *[1] * (given.dim() - 1))


def _inverse(p: Tensor, u: Tensor) -> Tensor:
    """The level v with P(< v) ≤ u < P(≤ v), (n, L), (n,) → (n,); never one of probability 0."""
    c = p.cumsum(1)
    return (c <= u[:, None] * c[:, -1:]).sum(1).clamp_max(p.shape[1] - 1)


def _cells_of(cells: Tensor, n: int) -> list[tuple[int, Any]]:
    """Each cell among cells (1 or n,), with its rows."""
    if len(cells) == 1:
        return [(int(cells), slice(None))]
    return [(j, (cells == j).nonzero()[:, 0]) for j in cells.unique().tolist()]
