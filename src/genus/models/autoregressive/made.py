r"""MADE: a masked autoencoder whose outputs are the factors of the chain rule.

Germain, Gregor, Murray & Larochelle (2015).

    log p(x) = Σ_t log p(x_{o(t)} | x_{o(<t)}),    o an order of the columns

    h¹ = φ(b¹ + (W¹ ∘ M¹) f(x)),    hˡ = φ(bˡ + (Wˡ ∘ Mˡ) hˡ⁻¹)
    θ  = c + (V ∘ M^V) h + (S ∘ M^S) f(x)

A hidden unit of degree m sees the first m columns of the order, and is seen by the parameters θ of
those after them; S is a skip connection. A column enters as numbers f and leaves as the parameters
of its conditional:

    binary                x ∈ {0, 1}                log-odds
    categories, levels    a 1 at the value          a logit each; thousands of words: one
                                                    for all that are rare
    numbers with mass     z in the middle of x      Σ_k π_k [Φ((z⁺ − μ_k)/σ_k) − Φ((z⁻ − μ_k)/σ_k)]
    numbers with density  z                         Σ_k π_k N(z | μ_k, σ_k²) f(x) / φ(z)

z is the normal score of a number by its own marginal, whose density is f; what has mass, as whole
numbers and atoms have, spans the scores from z⁻ to z⁺. One of the normals is the standard one, the
marginal itself, with a weight of a hundredth: no row is bottomless. ``marginals="affine"`` makes
z = (x − m)/s, without it.

A missing cell is seen as one, and is not scored: the other factors are a probability of what is
observed, whatever the gaps. So that it is learned what a gap means, one row in eight loses some of
its cells while training, where there are numbers, words that may be new, or gaps.

Conditions, p(x | g), are a context that stands beside f and comes before all columns: it is masked
nowhere. Several orders share the weights, one drawn for every step; log p(x) = log (1/O) Σ_o
p_o(x), which is a probability again. What is maximised is Σ log p(x) − a Σ|w|: a Laplace prior
keeps the weights of few rows few (Tibshirani, 1996).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.columns import check_observed, groups
from genus.distributions.dependence import spanning_order
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer, batch_of
from genus.likelihood import Exact, LogProb
from genus.missing import has_gaps
from genus.model import Model
from genus.models.autoregressive.columns import (
    Bits,
    Levels,
    Numbers,
    Part,
    Scored,
    Wide,
    loses,
    lost,
)
from genus.networks.activations import activation_of
from genus.networks.blueprints import MLP
from genus.networks.conditions import Conditions
from genus.networks.layers import Linear, initialise
from genus.samplers.particles import enough, pick_several, resample
from genus.settings import Each, Instance, Number, OneOf, Rule, Whole
from genus.space import Space

WORDS = 4096  # categories up to which each has a logit


class MADE(Model):
    """Columns one after another, each given those before it; one network for all of them.

    ``log_prob`` is ``Exact``, in nats. ``complete`` draws exactly where the missing columns come
    last in every order, else by sequential Monte Carlo of ``particles`` a row and order, whose
    error falls as 1/particles.

    Parameters
    ----------
    hidden : MLP or None, default=None
        The hidden layers, which are masked; its dropout drops whole columns. None: 512 units,
        without dropout, which costs up to ten nats on tables of numbers.
    n_orders : int, default=1
        Orders whose probabilities are averaged; the first is ``order``, the others are random.
    order : permutation, "learned" or None, default=None
        Of the columns. ``learned``: from the most dependent column along the strongest
        correlations; None: as they stand.
    n_components : int, default=5
        K, normals of the conditional of a column of numbers.
    max_logits : int, default=8
        Ordered levels between known ends up to which each has a logit; a column of more has the
        masses of K normals, as whole numbers without ends always have.
    prior : float, default=1.0
        a ≥ 0 of the density (a/2) e^{−a|w|} of every weight, in nats a unit; 0: none.
    marginals : {"learned", "affine", "logit"} or None, default=None
        The scale of numbers: normal scores by the marginal of each column, or standard units.
        None: learned. ``logit`` is that of files of earlier versions, and is affine here.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).integers(0, 2, (100, 6))
    >>> model = genus.MADE(genus.MLP(32, 1), trainer=genus.Trainer(epochs=1), random_state=0)
    >>> model.fit(X).complete(np.where(X, np.nan, 0.0), random_state=0).shape
    (100, 6)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "hidden": Instance(MLP, says="genus.MLP(...), whose weights can be masked,") | None,
        "n_orders": Whole(1),
        "order": OneOf("learned") | Each(Whole(0), "a permutation of the columns by number") | None,
        "n_components": Whole(1),
        "max_logits": Whole(1),
        "prior": Number(0),
        "marginals": OneOf("learned", "affine", "logit") | None,
    }
    allow_nan = True
    conditions = "optional"
    learned_by = "gradient of the likelihood"
    particles = 256

    made_: Masked
    parts_: Any
    back_: Tensor
    context_: Conditions

    def __init__(
        self,
        hidden: MLP | None = None,
        n_orders: int = 1,
        order: Any = None,
        n_components: int = 5,
        max_logits: int = 8,
        prior: float = 1.0,
        marginals: str | None = None,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.n_orders = n_orders
        self.order = order
        self.n_components = n_components
        self.max_logits = max_logits
        self.prior = prior
        self.marginals = marginals
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ the model

    def log_p(
        self, x: Tensor, o: int = 0, dtype: torch.dtype = torch.float64, given: Tensor | None = None
    ) -> Tensor:
        """log p(x_j | those before it in order o) of rows x (n, d), in nats; (n, d).

        0 where a cell is missing, which the others see as missing.
        """
        cells = self._cells(x)
        theta = self.made_(self._features(x, cells).to(dtype), o, *self._context(given, dtype))
        return self._terms(x, cells, theta)[:, self.back_]

    def log_p_orders(
        self, x: Tensor, dtype: torch.dtype = torch.float64, given: Tensor | None = None
    ) -> Tensor:
        """log p_o(x) of rows x (n, d) by every order, (n, O)."""
        cells = self._cells(x)
        f, context = self._features(x, cells).to(dtype), self._context(given, dtype)
        each = [
            self._terms(x, cells, self.made_(f, o, *context)).sum(1) for o in range(self.n_orders)
        ]
        return torch.stack(each, 1)

    def features(self, x: Tensor) -> Tensor:
        """f(x), part after part, 0 where a cell is missing, (n, d) → (n, F)."""
        return self._features(x, self._cells(x))

    def _cells(self, x: Tensor) -> list[Any]:
        """The columns of every part."""
        return [part.cells(part.of(x)) for part in self.parts_]

    def _features(self, x: Tensor, cells: list[Any]) -> Tensor:
        each = [part.features(c).flatten(1) for part, c in zip(self.parts_, cells, strict=True)]
        f, gap = torch.cat(each, 1), torch.isnan(x)
        return f.masked_fill(gap[:, self.made_.column_in[: f.shape[1]]], 0.0) if has_gaps(x) else f

    def _context(self, given: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """What the network sees of conditions, (n, g); () without."""
        return () if given is None else self.context_.seen(given, dtype)

    def _terms(self, x: Tensor, cells: list[Any], theta: Tensor) -> Tensor:
        """log p of each column, part after part."""
        pieces = theta.split([len(part.columns) * part.n_out for part in self.parts_], 1)
        each = [
            part.log_prob(t.unflatten(1, (-1, part.n_out)), c)
            for part, t, c in zip(self.parts_, pieces, cells, strict=True)
        ]
        gap = torch.isnan(torch.cat([part.of(x) for part in self.parts_], 1))
        return torch.cat(each, 1).masked_fill(gap, 0.0)

    def losses(self, x: Tensor, given: Tensor | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        """−log p_o(x) by an order drawn for the batch, and a row's share of the prior.

        Columns are dropped from what the network sees.
        """
        x = x.flatten(1)
        o = (
            int(self.n_orders * float(torch.rand(1, generator=self.rng, device=x.device)))
            if self.n_orders > 1
            else 0
        )
        cells = self._cells(x)
        f = self._features(x, cells).float()
        column = self.made_.column_in[: f.shape[1]]
        if p := self.made_.dropout:
            keep = (torch.rand(x.shape, generator=self.rng, device=x.device) >= p) / (1 - p)
            f = f * keep[:, column]
        elif self.loses_:
            f = f.masked_fill(lost(len(x), x.shape[1], self.rng)[:, column], 0.0)
        theta = self.made_(f, o, *self._context(given, f.dtype))
        loss = -self._terms(x, cells, theta).sum(1).mean()
        yield self, loss + self.share_ * self.made_.size() if self.share_ else loss

    def validate(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """−log p(x), the orders averaged."""
        return -_log_mean(self.log_p_orders(x.flatten(1), torch.float32, given)).mean()

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        d = space.dim
        others = [
            torch.randperm(d, generator=self.rng, device=self.rng.device).cpu()
            for _ in range(1, self.n_orders)
        ]

        def sort(j: int, kind: str, levels: int) -> tuple[str, int]:
            if kind == "binary":
                return "bits", 1
            if kind != "categorical" and (kind == "integer" or not 0 < levels <= self.max_logits):
                if self.marginals in (None, "learned"):
                    return "scores", 0
                return ("integers" if kind == "integer" else "numbers"), min(levels, 1)
            if levels > WORDS:
                return "wide", levels
            return "levels", levels

        self.parts_ = nn.ModuleList(self._part(*group) for group in groups(space, sort))
        parts: list[Part] = list(self.parts_)
        order = torch.cat([part.columns for part in parts])
        self.register_buffer("back_", order.argsort(), persistent=False)
        blueprint = self.hidden or MLP(512, 1)
        context = 0
        if hasattr(self, "given_space_"):
            self.context_ = Conditions(self.given_space_)
            context = self.context_.width
        column_in = torch.cat([part.columns.repeat_interleave(part.n_in) for part in parts])
        column_out = torch.cat([part.columns.repeat_interleave(part.n_out) for part in parts])
        self.made_ = Masked(
            torch.stack([self._first(d), *others]), column_in, column_out, blueprint, context
        )
        initialise(self.made_, self.rng)
        with torch.no_grad():
            # units that start near 0 overfit small tables less
            cast(Linear, self.made_.hidden[0]).weight.mul_(0.1)

    def _part(self, what: str, levels: int, columns: list[int]) -> Part:
        if what == "levels":
            return Levels(columns, levels)
        if what == "wide":
            return Wide(columns, levels)
        if what == "bits":
            return Bits(columns, self.n_orders > 1)
        K, several = self.n_components, self.n_orders > 1
        if what == "scores":
            return Scored(self.space_, columns, K)
        levels_of = [self.space_.cardinality[j] for j in columns]
        return Numbers(columns, levels_of, K, several, ends=what == "numbers")

    def _first(self, d: int) -> Tensor:
        """The order given; a learned one is filled in by ``start``."""
        if self.order is None or isinstance(self.order, str):
            return torch.arange(d, device="cpu")
        order = np.asarray(self.order)
        if order.shape != (d,) or not np.array_equal(np.sort(order), np.arange(d)):
            raise ValueError(
                f"order={self.order!r}: X has {d} columns, "
                f"so a permutation of 0 … {d - 1} is needed"
            )
        return torch.from_numpy(np.array([self.space_.cell_at(int(j)) for j in order]))

    def defaults(self, n: int) -> Trainer:
        batch = batch_of(n, 20, 16, 128)
        epochs = min(400, max(30, 6000 * batch // max(n, 1)))
        share = 0.1 if n >= 50 else 0.0
        return Trainer(
            epochs=epochs,
            batch_size=batch,
            lr=5e-3,
            optimizer="adamw",
            weight_decay=0.05,
            validation=share,
            patience=max(10, epochs // 8) if share else None,
        )

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """The columns' marginals, from the first rows."""
        x = rows.look(65536, self.rng)[0].flatten(1)
        check_observed(self.space_, (~torch.isnan(x)).any(0))
        self.loses_ = loses(self.space_, x)
        for part in self.parts_:
            part.prepare(part.of(x))

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        """Scales, marginals and, where it is learned, the order, from the first rows."""
        x, *given = (a.flatten(1) for a in rows.look(16384, self.rng))
        if given:
            self.context_.fit(given[0])
        self.share_ = float(self.prior) / len(rows)
        self.made_.c.copy_(torch.cat([part.fit(part.of(x)).flatten() for part in self.parts_]))
        if isinstance(self.order, str):
            f = self.features(x)
            self.made_.learn_order(correlated_order(f, self.made_.column_in[: f.shape[1]]))

    # ------------------------------------------------------------------ draws

    def _picked(
        self, x: Tensor, k: int, n: int, rng: torch.Generator, given: Tensor | None
    ) -> Tensor:
        """n of the k copies of every row in each order, by weight, (n, rows, d)."""
        drawn, log_w = zip(
            *(self._walk(x, o, k, rng, given) for o in range(self.n_orders)), strict=True
        )
        copies = torch.cat([y.unflatten(0, (len(x), k)) for y in drawn], 1)
        return copies.flatten(0, 1)[pick_several(torch.cat(log_w, 1), n, rng)]

    def _walk(
        self, x: Tensor, o: int, k: int, rng: torch.Generator, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """k copies of every row, filled column by column in order o.

        (n k, d), and log-weights (n, k): the mean weight of a row's copies is an unbiased estimate
        of p_o(observed). Copies are drawn afresh by weight where fewer than half of them count.
        """
        n, y = len(x), x.double().repeat_interleave(k, 0)
        log_w = y.new_zeros(n, k)
        made = self.made_
        parts = [(part, slice(i, i + 1)) for part in self.parts_ for i in range(len(part.columns))]
        f = y.new_zeros(len(y), made.n_in)
        if given is not None:
            f[:, made.column_in < 0] = self.context_.context(given, f.dtype).repeat_interleave(k, 0)
        units = [y.new_zeros(len(y), made.width) for _ in range(made.depth)]
        W, V, S = made.weights(o, torch.float64)
        begin = 0
        for t, j in enumerate(made.orders_[o].tolist()):
            end = made.ends[t]
            below, stop = f, made.n_in
            for i, (weight, bias) in enumerate(W):
                units[i][:, begin:end] = made.act(
                    F.linear(below[:, :stop], weight[begin:end, :stop], bias[begin:end])
                )
                below, stop = units[i], end
            begin = end
            out = made.column_out == j
            theta = (
                F.linear(below[:, :end], V[out, :end], made.c[out].double()) + F.linear(f, S[out])
            )[:, None]
            part, at = parts[int(self.back_[j])]
            gap = torch.isnan(y[:, j])
            if gap.any():
                y[:, j] = torch.where(gap, part.draw(theta, at, rng)[:, 0], y[:, j])
            cell = part.cells(y[:, j : j + 1], at)
            f[:, made.column_in == j] = part.features(cell, at)[:, 0].double()
            if gap.all():
                continue
            log_w = log_w + part.log_prob(theta, cell, at)[:, 0].double().masked_fill(
                gap, 0.0
            ).reshape(n, k)
            again = resample(log_w, rng)
            if again is not None:
                places, log_w = again
                y, f, *units = (a[places] for a in (y, f, *units))
        return y, log_w

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        return Exact(_log_mean(self.log_p_orders(x.flatten(1), given=given)))

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        o_of = torch.randint(self.n_orders, (n,), generator=rng, device=rng.device)
        x = torch.full((n, self.space_.dim), math.nan, dtype=torch.float64, device=rng.device)
        for o in range(self.n_orders):
            for index in torch.nonzero(o_of == o)[:, 0].split(4096):
                x[index] = self._walk(x[index], o, 1, rng, _at(given, index))[0]
        return x.reshape(n, *self.space_.cell_shape)

    def _complete(self, x: Tensor, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        """Each row's NaN drawn in each order; one draw is picked by the weight of the rest."""
        k = 1 if self._gaps_are_last(x) else self.particles
        return self._kept(x, k, 1, rng, given)[0]

    def _complete_many(
        self, x: Tensor, n: int, rng: torch.Generator, given: Tensor | None = None
    ) -> Tensor:
        """As in ``_complete``, but n of the draws are picked."""
        if self._gaps_are_last(x):  # the draws are independent
            return super()._complete_many(x, n, rng, given)
        return self._kept(x, enough(self.particles, n), n, rng, given)

    def _gaps_are_last(self, x: Tensor) -> bool:
        """Does nothing that is observed come after a gap, in any order?"""
        gap = torch.isnan(x.flatten(1))
        return all(bool((gap[:, o].int().diff(dim=1) >= 0).all()) for o in self.made_.orders_)

    def _kept(
        self, x: Tensor, k: int, n: int, rng: torch.Generator, given: Tensor | None
    ) -> Tensor:
        """n completions, (n, rows, …), of k copies of every row in each order."""
        flat = x.flatten(1)
        size = max(1, 2**24 // (k * (self.made_.n_in + self.made_.depth * self.made_.width)))
        some = [slice(i, i + size) for i in range(0, len(x), size)]
        kept = [self._picked(flat[at], k, n, rng, _at(given, at)) for at in some]
        return torch.cat(kept, 1).reshape(n, *x.shape)


class Masked(nn.Module):
    """The network: features f (n, F), an order and a context → parameters θ (n, P).

    The parameters of a column see the columns before it. column_in, column_out: the column of each
    feature and of each parameter. context: its size; in ``column_in`` that many times −1 follow,
    before all columns. Units have degrees 0 … d − 1 in rising order; another order of the columns
    moves the masks of what enters and leaves, the weights stay.
    """

    orders_: Tensor
    column_in: Tensor
    column_out: Tensor
    degree: Tensor

    def __init__(
        self,
        orders: Tensor,
        column_in: Tensor,
        column_out: Tensor,
        blueprint: MLP,
        context: int = 0,
    ) -> None:
        super().__init__()
        blueprint.check()
        Whole(1).check("depth", blueprint.depth, of="MLP")
        self.width, self.depth, self.dropout = (
            int(blueprint.width),
            int(blueprint.depth),
            blueprint.dropout,
        )
        column_in = F.pad(column_in, (0, context), value=-1)
        self.n_in = len(column_in)
        self.act: Any = activation_of(blueprint.activation)
        sizes = [self.n_in, *[self.width] * self.depth]
        self.hidden = nn.ModuleList(Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.V = Linear(self.width, len(column_out), bias=False, zero=True)
        self.S = Linear(self.n_in, len(column_out), bias=False, zero=True)
        self.c = nn.Parameter(torch.zeros(len(column_out)))
        d = orders.shape[1]
        degree = torch.arange(self.width) * d // self.width
        # units of degree ≤ t, known before that column
        self.ends = [-(-(t + 1) * self.width // d) for t in range(d)]
        for name, index in (
            ("column_in", column_in),
            ("column_out", column_out),
            ("degree", degree),
        ):
            self.register_buffer(name, index, persistent=False)
        self.register_buffer("orders_", orders)
        self._masks: dict[int, tuple[Mask, ...]] = {}

    def learn_order(self, order: Tensor) -> None:
        """Go by this order instead of the first."""
        self.orders_[0] = order
        self._masks.clear()

    def size(self) -> Tensor:
        """Σ|w| of all weights."""
        return torch.stack(
            [torch.linalg.vector_norm(w, 1) for w in self.parameters() if w.dim() == 2]
        ).sum()

    def masks(self, o: int) -> tuple[Mask, ...]:
        """Of the first layer, the others, V and S; made when they are first needed."""
        if o not in self._masks or self._masks[o][0].seen.device != self.degree.device:
            place = F.pad(self.orders_[o].argsort(), (0, 1), value=-1)  # that of column −1 is −1
            a, b, m = place[self.column_in], place[self.column_out], self.degree
            pairs = ((m, a + 1), (m, m), (b, m), (b, a + 1))
            self._masks[o] = tuple(Mask(row[:, None] >= column) for row, column in pairs)
        return self._masks[o]

    def weights(
        self, o: int, dtype: torch.dtype = torch.float32
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor]:
        """Masked: (W, b) of every hidden layer, V and S."""
        first, others, v, s = self.masks(o)
        hidden: Any = self.hidden
        W = [
            ((layer.weight * (others if i else first).seen).to(dtype), layer.bias.to(dtype))
            for i, layer in enumerate(hidden)
        ]
        return W, (self.V.weight * v.seen).to(dtype), (self.S.weight * s.seen).to(dtype)

    def forward(self, f: Tensor, o: int, *context: Tensor) -> Tensor:
        """(n, F), and a context (n, g) where there is one → (n, P)."""
        first, others, v, s = self.masks(o)
        f = torch.cat([f, *context], 1) if context else f
        h, hidden = f, cast("list[Linear]", self.hidden)
        for i, layer in enumerate(hidden):
            h = self.act((others if i else first).linear(h, layer.weight, layer.bias))
        return v.linear(h, self.V.weight, self.c) + s.linear(f, self.S.weight)


class Mask:
    """Which columns a row of a matrix sees.

    Slabs of rows go one by one, each over the columns that its rows see.
    """

    slabs = 4

    def __init__(self, seen: Tensor) -> None:
        self.seen, self.rows = seen.float(), -(-len(seen) // self.slabs)
        # 0 where nothing is seen
        last = (seen * torch.arange(1, seen.shape[1] + 1, device=seen.device)).amax(1)
        self.ends = [max(1, int(part.max())) for part in last.split(self.rows)]
        # too small, or in no order
        if seen.numel() < 1 << 16 or sum(self.ends) > 0.9 * seen.shape[1] * len(self.ends):
            self.rows, self.ends = len(seen), [seen.shape[1]]

    def linear(self, x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
        """x (W ∘ M)ᵀ + b."""
        slabs = zip(self.ends, W.split(self.rows), self.seen.split(self.rows), strict=True)
        y = torch.cat(
            [F.linear(x[:, :e], (w[:, :e] * m[:, :e]).to(x.dtype)) for e, w, m in slabs], 1
        )
        return y if b is None else y + b.to(x.dtype)


def _at(given: Tensor | None, index: Any) -> Tensor | None:
    return None if given is None else given[index]


def _log_mean(a: Tensor) -> Tensor:
    """log of the mean of e^a, over the last axis."""
    return torch.logsumexp(a, -1) - math.log(a.shape[-1])


def correlated_order(f: Tensor, column: Tensor) -> Tensor:
    """An order by squared correlations of features f (n, F), summed a column; column: (F,)."""
    z = f.double() - f.double().mean(0)
    z = z / z.square().sum(0).sqrt().clamp_min(1e-12)
    d = int(column.max()) + 1
    link = torch.zeros(d, d, dtype=torch.float64, device=f.device)
    link.index_put_((column[:, None], column[None]), (z.T @ z).square(), accumulate=True)
    return torch.tensor(spanning_order(link.cpu().numpy()), device=f.device)
