r"""MADE: a masked autoencoder whose outputs are the factors of the chain rule (Germain, Gregor, Murray & Larochelle, 2015).

    log p(x) = Σ_t log p(x_{o(t)} | x_{o(<t)}),    o an order of the columns

    h¹ = φ(b¹ + (W¹ ∘ M¹) f(x)),    hˡ = φ(bˡ + (Wˡ ∘ Mˡ) hˡ⁻¹),    θ = c + (V ∘ M^V) h + (S ∘ M^S) f(x)

A hidden unit of degree m sees the first m columns of the order, and is seen by the parameters θ of those after them; S is
a skip connection. A column enters as numbers f and leaves as the parameters of its conditional:

    binary                x ∈ {0, 1}                log-odds
    categories, levels    a 1 at the value          a logit each
    real                  y = (x − m)/s             Σ_k π_k N(y | μ_k, σ_k²) / s
    many ordered levels   y = (x − m)/s             Σ_k π_k [Φ((y + 1/2s − μ_k)/σ_k) − Φ((y − 1/2s − μ_k)/σ_k)]

Conditions, p(x | g), are features that come before all columns: they are masked nowhere. Several orders share the weights, one
drawn for every step; log p(x) = log (1/O) Σ_o p_o(x), which is a probability again.
"""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.bijections import Standardise
from genus.learn import Trainer
from genus.likelihood import Exact, LogProb
from genus.model import Model
from genus.models.observation import _FAR, log_mass
from genus.networks import MLP, Linear, _activation, _within, initialise
from genus.rows import Rows
from genus.space import Space

ALL = slice(None)
LABELS = 64  # levels of a condition up to which each has a weight of its own
FEW = 10_000  # rows below which columns are dropped while training, where nothing is said


class MADE(Model):
    """Columns one after another, each given those before it; one network for all of them.

    Arguments
    ---------
    hidden: genus.MLP(...), the hidden layers, which are masked; its dropout drops whole columns. None: 512 units, and
        dropout 0.2 where there are fewer than 10,000 rows.
    n_orders: orders whose probabilities are averaged; the first is ``order``, the others are random.
    order: a permutation of the columns; ``learned``: from the most dependent column along the strongest correlations;
        None: as they stand.
    n_components: K, normals of a real column's conditional.
    max_logits: ordered levels up to which each has a logit; a column of more has the masses of K normals.
    trainer: how to descend, see :class:`genus.Trainer`.

    ``log_prob``: ``Exact``, in nats. ``complete``: exact draws where the missing columns come last in every order, else by
    sequential Monte Carlo of ``particles`` a row and order, whose error falls as 1/particles.
    """

    learned_by = "gradient of the likelihood"
    particles = 64

    made_: Masked
    parts_: Any
    back_: Tensor
    context_: Standardise

    def __init__(
        self,
        hidden: MLP | None = None,
        n_orders: int = 1,
        order: Any = None,
        n_components: int = 5,
        max_logits: int = 8,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.n_orders = n_orders
        self.order = order
        self.n_components = n_components
        self.max_logits = max_logits
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ the model

    def log_p(self, x: Tensor, o: int = 0, dtype: torch.dtype = torch.float64, given: Tensor | None = None) -> Tensor:
        """log p(x_j | those before it in order o) of rows x (n, d), in nats; (n, d)."""
        return self._terms(x, self.made_(self.features(x, given).to(dtype), o))

    def log_p_orders(self, x: Tensor, dtype: torch.dtype = torch.float64, given: Tensor | None = None) -> Tensor:
        """log p_o(x) of rows x (n, d) by every order, (n, O)."""
        f = self.features(x, given).to(dtype)
        return torch.stack([self._terms(x, self.made_(f, o)).sum(1) for o in range(self.n_orders)], 1)

    def features(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """f(x), part after part, then those of the conditions, (n, d) → (n, F)."""
        return torch.cat([*(part.features(x[:, part.columns]).flatten(1) for part in self.parts_), *self._context(given)], 1)

    def _context(self, given: Tensor | None) -> list[Tensor]:
        """A number for each level of a condition of few, standard units of one that has many or none."""
        if given is None:
            return []
        g = given.flatten(1)
        scaled = self.context_(g)[0]
        levels = enumerate(self.given_space_.cardinality)
        return [F.one_hot(g[:, j].long(), c).double() if 0 < c <= LABELS else scaled[:, j, None] for j, c in levels]

    def _terms(self, x: Tensor, theta: Tensor) -> Tensor:
        pieces = theta.split([len(part.columns) * part.n_out for part in self.parts_], 1)
        cells = [part.log_prob(t.unflatten(1, (-1, part.n_out)), x[:, part.columns]) for part, t in zip(self.parts_, pieces, strict=True)]
        return torch.cat(cells, 1)[:, self.back_]

    def losses(self, x: Tensor, given: Tensor | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        """−log p_o(x) by an order drawn for the batch, columns dropped from what the network sees."""
        x = x.flatten(1)
        o = int(self.n_orders * float(torch.rand(1, generator=self.rng, device=x.device))) if self.n_orders > 1 else 0
        f = self.features(x, given).float()
        if p := self.made_.dropout:
            keep = (torch.rand(x.shape, generator=self.rng, device=x.device) >= p) / (1 - p)
            f = f * F.pad(keep, (0, 1), value=1.0)[:, self.made_.column_in]
        yield self, -self._terms(x, self.made_(f, o)).sum(1).mean()

    def validate(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """−log p(x), the orders averaged."""
        return -_log_mean(self.log_p_orders(x.flatten(1), torch.float32, given)).mean()

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        return Exact(_log_mean(self.log_p_orders(x.flatten(1), given=given)))

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        for name in ("n_orders", "n_components", "max_logits"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
                raise ValueError(f"{name}={value!r}: a whole number of at least 1 is needed")
        d = space.dim
        others = [torch.randperm(d, generator=self.rng, device=self.rng.device).cpu() for _ in range(1, self.n_orders)]
        groups: dict[tuple[str, int], list[int]] = {}
        for j, (kind, levels) in enumerate(zip(space.kinds, space.cardinality, strict=True)):
            what = "bits" if kind == "binary" else "levels" if kind == "categorical" or 0 < levels <= self.max_logits else "numbers"
            if what == "levels" and levels > 4096:
                raise ValueError(f"{space.names()[j]} has {levels} categories, too many for a logit each: drop it, or merge the rare ones")
            groups.setdefault((what, levels if what == "levels" else min(levels, 1)), []).append(j)
        self.parts_ = nn.ModuleList(self._part(what, levels, columns) for (what, levels), columns in groups.items())
        parts: list[Part] = list(self.parts_)
        order = torch.cat([part.columns for part in parts])
        self.register_buffer("back_", order.argsort(), persistent=False)
        blueprint = self.hidden or MLP(512, 1)
        if not isinstance(blueprint, MLP):
            raise ValueError(f"hidden={blueprint!r}: MADE needs genus.MLP(...), whose weights it can mask")
        before = 0
        if hasattr(self, "given_space_"):
            levels_given = self.given_space_.cardinality
            before = sum(c if 0 < c <= LABELS else 1 for c in levels_given)
            self.context_ = Standardise(len(levels_given))
        column_in = torch.cat([*(part.columns.repeat_interleave(part.n_in) for part in parts), torch.full((before,), -1)])
        column_out = torch.cat([part.columns.repeat_interleave(part.n_out) for part in parts])
        self.made_ = Masked(torch.stack([self._first(d), *others]), column_in, column_out, blueprint)
        initialise(self.made_, self.rng)
        with torch.no_grad():
            cast(Linear, self.made_.hidden[0]).weight.mul_(0.1)  # units that start near 0 overfit small tables less

    def _part(self, what: str, levels: int, columns: list[int]) -> Part:
        if what == "levels":
            return Levels(columns, levels)
        if what == "bits":
            return Bits(columns, self.n_orders > 1)
        return Numbers(columns, [self.space_.cardinality[j] for j in columns], self.n_components, self.n_orders > 1)

    def _first(self, d: int) -> Tensor:
        """The order given; a learned one is filled in by ``start``."""
        if self.order is None or isinstance(self.order, str):
            if self.order not in (None, "learned"):
                raise ValueError(f"order={self.order!r}: pass a permutation of the columns, 'learned', or None")
            return torch.arange(d, device="cpu")
        order = np.asarray(self.order)
        if order.shape != (d,) or not np.array_equal(np.sort(order), np.arange(d)):
            raise ValueError(f"order={self.order!r}: X has {d} columns, so a permutation of 0 … {d - 1} is needed")
        return torch.from_numpy(order.astype(np.int64))

    def defaults(self, n: int) -> Trainer:
        batch = 2 ** round(math.log2(min(128, max(16, n / 20))))
        epochs = min(400, max(30, 6000 * batch // max(n, 1)))
        share = 0.1 if n >= 50 else 0.0
        return Trainer(
            epochs=epochs,
            batch_size=batch,
            lr=2e-3,
            optimizer="adamw",
            weight_decay=0.05,
            validation=share,
            patience=max(10, epochs // 8) if share else None,
        )

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        """Scales, marginals and, where it is learned, the order, from the first rows."""
        x, *given = (a.flatten(1) for a in rows.take(slice(0, 16384), self.rng))
        if given:
            self.context_.fit(given[0])
        if self.hidden is None and len(rows) < FEW:
            self.made_.dropout = 0.2
        self.made_.c.copy_(torch.cat([part.fit(x[:, part.columns]).flatten() for part in self.parts_]))
        if isinstance(self.order, str):
            self.made_.learn_order(spanning(f := self.features(x), self.made_.column_in[: f.shape[1]]))

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        if given is None and hasattr(self, "given_space_"):
            raise ValueError("this MADE models p(x | given): pass given=")
        o_of = torch.randint(self.n_orders, (n,), generator=rng, device=rng.device)
        x = torch.full((n, self.space_.dim), math.nan, dtype=torch.float64, device=rng.device)
        for o in range(self.n_orders):
            for index in torch.nonzero(o_of == o)[:, 0].split(4096):
                x[index] = self._walk(x[index], o, 1, rng, _at(given, index))[0]
        return x.reshape(n, *self.space_.shape)

    def _complete(self, x: Tensor, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        """Copies of each row go through each order, are drawn where x is NaN and weighed where it is not; one is picked by weight."""
        flat = x.flatten(1)
        gap = torch.isnan(flat)
        last = all(bool((gap[:, o].int().diff(dim=1) >= 0).all()) for o in self.made_.orders_)
        k = 1 if last else self.particles
        size = max(1, 2**24 // (k * (self.made_.n_in + self.made_.depth * self.made_.width)))
        some = [slice(i, i + size) for i in range(0, len(x), size)]
        return torch.cat([self._picked(flat[at], k, rng, _at(given, at)) for at in some]).reshape(x.shape)

    def _picked(self, x: Tensor, k: int, rng: torch.Generator, given: Tensor | None) -> Tensor:
        drawn, log_w = zip(*(self._walk(x, o, k, rng, given) for o in range(self.n_orders)), strict=True)
        weights = torch.cat(log_w, 1).softmax(1).nan_to_num(1.0)
        pick = torch.multinomial(weights, 1, generator=rng)[:, 0]
        copies = torch.cat([y.unflatten(0, (len(x), k)) for y in drawn], 1)
        return copies[torch.arange(len(x), device=x.device), pick]

    def _walk(self, x: Tensor, o: int, k: int, rng: torch.Generator, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """k copies of every row, filled column by column in order o, each hidden unit computed once.

        (n k, d), and log-weights (n, k): the mean weight of a row's copies is an unbiased estimate of p_o(observed).
        Copies are drawn afresh by weight where fewer than half of them count (Gordon, Salmond & Smith, 1993).
        """
        n, y = len(x), x.double().repeat_interleave(k, 0)
        log_w = y.new_zeros(n, k)
        made = self.made_
        parts = [(part, slice(i, i + 1)) for part in self.parts_ for i in range(len(part.columns))]
        f = y.new_zeros(len(y), made.n_in)
        if given is not None:
            f[:, made.column_in < 0] = torch.cat(self._context(given), 1).repeat_interleave(k, 0)
        units = [y.new_zeros(len(y), made.width) for _ in range(made.depth)]
        W, V, S = made.weights(o, torch.float64)
        begin = 0
        for t, j in enumerate(made.orders_[o].tolist()):
            end = made.ends[t]
            below, stop = f, made.n_in
            for i, (weight, bias) in enumerate(W):
                units[i][:, begin:end] = made.act(F.linear(below[:, :stop], weight[begin:end, :stop], bias[begin:end]))
                below, stop = units[i], end
            begin = end
            out = made.column_out == j
            theta = (F.linear(below[:, :end], V[out, :end], made.c[out].double()) + F.linear(f, S[out]))[:, None]
            part, at = parts[int(self.back_[j])]
            gap = torch.isnan(y[:, j])
            if gap.any():
                y[:, j] = torch.where(gap, part.draw(theta, at, rng)[:, 0], y[:, j])
            cell = y[:, j : j + 1]
            f[:, made.column_in == j] = part.features(cell, at)[:, 0].double()
            if gap.all():
                continue
            log_w = log_w + part.log_prob(theta, cell, at)[:, 0].double().masked_fill(gap, 0.0).reshape(n, k)
            share = log_w.softmax(1)
            few = 1 / share.square().sum(1) < k / 2
            if few.any():
                index = torch.arange(n * k, device=x.device).reshape(n, k)
                index[few] = index[few].gather(1, torch.multinomial(share[few], k, True, generator=rng))
                log_w[few] = _log_mean(log_w[few])[:, None]
                y, f, *units = (a[index.flatten()] for a in (y, f, *units))
        return y, log_w


class Masked(nn.Module):
    """The network: features f (n, F) and an order → parameters θ (n, P), those of a column seeing the columns before it.

    column_in, column_out: the column of each feature (−1: before all) and of each parameter. Units have degrees 0 … d − 1 in rising order;
    another order of the columns moves the masks of what enters and leaves, the weights stay.
    """

    orders_: Tensor
    column_in: Tensor
    column_out: Tensor
    degree: Tensor

    def __init__(self, orders: Tensor, column_in: Tensor, column_out: Tensor, blueprint: MLP) -> None:
        super().__init__()
        _within("MLP(width)", blueprint.width, 1, 1 << 20)
        _within("MLP(depth)", blueprint.depth, 1, 1000)
        if not 0 <= blueprint.dropout < 1:
            raise ValueError(f"dropout={blueprint.dropout!r}: a number from 0 up to 1 is needed")
        self.width, self.depth, self.dropout = int(blueprint.width), int(blueprint.depth), blueprint.dropout
        self.n_in = len(column_in)
        self.act: Any = _activation(blueprint.activation)
        sizes = [self.n_in, *[self.width] * self.depth]
        self.hidden = nn.ModuleList(Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.V = Linear(self.width, len(column_out), bias=False, zero=True)
        self.S = Linear(self.n_in, len(column_out), bias=False, zero=True)
        self.c = nn.Parameter(torch.zeros(len(column_out)))
        d = orders.shape[1]
        degree = torch.arange(self.width) * d // self.width
        self.ends = [-(-(t + 1) * self.width // d) for t in range(d)]  # units of degree ≤ t, known before that column
        for name, index in (("column_in", column_in), ("column_out", column_out), ("degree", degree)):
            self.register_buffer(name, index, persistent=False)
        self.register_buffer("orders_", orders)
        self._masks: dict[int, tuple[Tensor, ...]] = {}

    def learn_order(self, order: Tensor) -> None:
        """Go by this order instead of the first."""
        self.orders_[0] = order
        self._masks.clear()

    def masks(self, o: int) -> tuple[Tensor, ...]:
        """Of the first layer, the others, V and S; made when they are first needed."""
        if o not in self._masks or self._masks[o][0].device != self.degree.device:
            place = F.pad(self.orders_[o].argsort(), (0, 1), value=-1)  # that of column −1 is −1
            a, b, m = place[self.column_in], place[self.column_out], self.degree
            pairs = ((m, a + 1), (m, m), (b, m), (b, a + 1))
            self._masks[o] = tuple((row[:, None] >= column).float() for row, column in pairs)
        return self._masks[o]

    def weights(self, o: int, dtype: torch.dtype = torch.float32) -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor]:
        """Masked: (W, b) of every hidden layer, V and S."""
        first, others, v, s = self.masks(o)
        hidden: Any = self.hidden
        W = [((layer.weight * (others if i else first)).to(dtype), layer.bias.to(dtype)) for i, layer in enumerate(hidden)]
        return W, (self.V.weight * v).to(dtype), (self.S.weight * s).to(dtype)

    def forward(self, f: Tensor, o: int) -> Tensor:
        """(n, F) → (n, P)."""
        W, V, S = self.weights(o, f.dtype)
        h = f
        for weight, bias in W:
            h = self.act(F.linear(h, weight, bias))
        return F.linear(h, V, self.c.to(f.dtype)) + F.linear(f, S)


# ---------------------------------------------------------------------- how columns enter and leave


class Part(nn.Module):
    """Columns of one kind, n_in features and n_out parameters each; ``at`` picks some of them."""

    columns: Tensor

    def __init__(self, columns: list[int], n_in: int, n_out: int) -> None:
        super().__init__()
        self.n_in, self.n_out = n_in, n_out
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def fit(self, x: Tensor) -> Tensor:
        """Take scales from rows x (n, m); the parameters of the columns' marginals, (m, n_out)."""
        raise NotImplementedError

    def features(self, x: Tensor, at: slice = ALL) -> Tensor:
        """(n, m) → (n, m, n_in)."""
        raise NotImplementedError

    def log_prob(self, theta: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        """(n, m, n_out), (n, m) → (n, m), nats."""
        raise NotImplementedError

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        """(n, m, n_out) → (n, m)."""
        raise NotImplementedError


class Bits(Part):
    """log p = log σ((2x − 1) ℓ). The feature is x less its mean; ``several`` orders get a 1 as well, which says that x is seen."""

    mean_: Tensor

    def __init__(self, columns: list[int], several: bool) -> None:
        super().__init__(columns, 1 + several, 1)
        self.register_buffer("mean_", torch.full((len(columns),), 0.5, dtype=torch.float64))

    def fit(self, x: Tensor) -> Tensor:
        p = (x.double().sum(0) + 0.5) / (len(x) + 1)
        self.mean_.copy_(p)
        return torch.logit(p)[:, None]

    def features(self, x: Tensor, at: slice = ALL) -> Tensor:
        return _and_one((x - self.mean_[at])[..., None], self.n_in)

    def log_prob(self, theta: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        return F.logsigmoid((2 * x - 1) * theta[..., 0])

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        p = torch.sigmoid(theta[..., 0])
        return (torch.rand(p.shape, generator=rng, dtype=p.dtype, device=p.device) < p).to(p.dtype)


class Levels(Part):
    """log p = ℓ_x − log Σ_v e^{ℓ_v}. A feature a level, 1 at x."""

    def __init__(self, columns: list[int], levels: int) -> None:
        super().__init__(columns, levels, levels)

    def fit(self, x: Tensor) -> Tensor:
        counts = torch.stack([(x == v).sum(0) for v in range(self.n_out)], 1) + 0.5
        return torch.log(counts / counts.sum(1, keepdim=True))

    def features(self, x: Tensor, at: slice = ALL) -> Tensor:
        return F.one_hot(x.long(), self.n_in).to(x.dtype)

    def log_prob(self, theta: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        return theta.gather(-1, x.long()[..., None])[..., 0] - theta.logsumexp(-1)

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        picked = torch.multinomial(theta.softmax(-1).flatten(0, 1), 1, generator=rng)
        return picked.reshape(theta.shape[:2]).to(theta.dtype)


class Numbers(Part):
    """A mixture of K normals of y = (x − m)/s: its density, over s, or (``levels``) its mass within ½ of the level, ends with tails."""

    floor = 0.01  # of σ, in standard units
    shift_: Tensor
    scale_: Tensor
    levels: Tensor

    def __init__(self, columns: list[int], levels: list[int], K: int, several: bool) -> None:
        super().__init__(columns, 1 + several, 3 * K)
        self.K, self.whole = K, any(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("shift_", torch.zeros(len(columns), dtype=torch.float64))
        self.register_buffer("scale_", torch.ones(len(columns), dtype=torch.float64))

    def fit(self, x: Tensor) -> Tensor:
        f = Standardise(x.shape[1]).to(x.device).fit(x)
        self.shift_.copy_(f.mean_)
        self.scale_.copy_(f.std_)
        q = (torch.arange(self.K, device=x.device).double() + 0.5) / self.K
        mu = torch.quantile(self._standard(x), q, 0).T
        return torch.cat([torch.zeros_like(mu), mu, torch.full_like(mu, math.log(0.5))], 1)

    def features(self, x: Tensor, at: slice = ALL) -> Tensor:
        return _and_one(self._standard(x, at).clamp(-10, 10)[..., None], self.n_in)

    def log_prob(self, theta: Tensor, x: Tensor, at: slice = ALL) -> Tensor:
        log_pi, mu, sigma = self._mixture(theta)
        r = self._standard(x, at)[..., None] - mu
        if not self.whole:
            log_n = -0.5 * (r / sigma).square() - torch.log(sigma) - 0.5 * math.log(2 * math.pi)
            return torch.logsumexp(log_pi + log_n, -1) - torch.log(self.scale_[at])
        half = (0.5 / self.scale_[at])[:, None]
        above = torch.where((x > self.levels[at] - 1.5)[..., None], _FAR, (r + half) / sigma)
        below = torch.where((x < 0.5)[..., None], -_FAR, (r - half) / sigma)
        return torch.logsumexp(log_pi + log_mass(below, above), -1)

    def draw(self, theta: Tensor, at: slice, rng: torch.Generator) -> Tensor:
        log_pi, mu, sigma = self._mixture(theta)
        k = torch.multinomial(log_pi.exp().flatten(0, 1), 1, generator=rng).reshape(*mu.shape[:2], 1)
        mu, sigma = mu.gather(-1, k)[..., 0], sigma.gather(-1, k)[..., 0]
        e = torch.randn(mu.shape, generator=rng, dtype=mu.dtype, device=mu.device)
        x = (mu + sigma * e) * self.scale_[at] + self.shift_[at]
        return x.round().clamp_min(0).minimum(self.levels[at] - 1.0) if self.whole else x

    def _standard(self, x: Tensor, at: slice = ALL) -> Tensor:
        return (x.double() - self.shift_[at]) / self.scale_[at]

    def _mixture(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log π, μ and σ, (n, m, K) each."""
        logits, mu, log_s = theta.double().split(self.K, -1)
        return logits.log_softmax(-1), mu, self.floor + log_s.clamp_max(20).exp()


def _at(given: Tensor | None, index: Any) -> Tensor | None:
    return None if given is None else given[index]


def _and_one(f: Tensor, n_in: int) -> Tensor:
    return f if n_in == 1 else torch.cat([f, torch.ones_like(f)], -1)


def _log_mean(a: Tensor) -> Tensor:
    """log of the mean of e^a, over the last axis."""
    return torch.logsumexp(a, -1) - math.log(a.shape[-1])


def spanning(f: Tensor, column: Tensor) -> Tensor:
    """An order: the column most correlated with all others, then again and again the one most correlated with one that is in.

    f: features (n, F); column: of each. (The order in which a largest spanning tree grows: Prim, 1957.)
    """
    z = f.double() - f.double().mean(0)
    z = z / z.square().sum(0).sqrt().clamp_min(1e-12)
    d = int(column.max()) + 1
    link = torch.zeros(d, d, dtype=torch.float64, device=f.device)
    link.index_put_((column[:, None], column[None]), (z.T @ z).square(), accumulate=True)
    link.fill_diagonal_(0)
    order = [int(link.sum(1).argmax())]
    best = link[order[0]].clone()
    for _ in range(d - 1):
        best[order] = -1.0
        order.append(int(best.argmax()))
        best = torch.maximum(best, link[order[-1]])
    return torch.tensor(order, device=f.device)
