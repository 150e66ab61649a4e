r"""The gated PixelCNN (van den Oord et al., 2016a, 2016b).

    log p(x) = Σ_i Σ_j Σ_c log p(x_cij | pixels before (i, j) in raster order, x_<c,ij)

Two stacks of convolutions see what comes before: v the rows above, h the pixels to the left in the row itself. With
gate(a, b) = tanh(a) ⊙ σ(b), weights W, and conditions g,

    a_v = W_v * v + V g,          v ← v + gate(a_v)                  (* over the row of v and those above, both sides)
    a_h = W_h * h + W a_v + V g,  h ← h + W' gate(a_h)               (* over the pixel of h and those to its left)

v starts from the rows strictly above and h from the pixels strictly to the left, so nothing sees itself and, as v grows to
both sides, nothing before it is missed (no blind spot). A head gives the parameters of each channel from h and the
channels before it: t_c = relu(A_c relu(h) + B_c x_<c), p(x_c | …) = observation(O_c t_c).

Draws are made pixel by pixel from kept activations: a new row costs one row of v, a new pixel one column of h.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.bijections import Standardise
from genus.likelihood import Exact, LogProb
from genus.model import Model
from genus.models.observation import Bernoulli, Categorical, Logistic, Observation
from genus.networks import Conv2d, Dropout, Linear, initialise
from genus.rows import Rows
from genus.space import Space
from genus.trainer import Trainer

FIRST = 3  # rows above, and pixels to each side, that the first convolutions see
LABELS = 64  # levels of a condition up to which each has a weight of its own
FEW = 64  # ordered levels up to which each has a probability of its own
CELLS = 1 << 18  # pixels whose activations are in memory at once

Value = Callable[[int, int, int, Tensor], Tensor]


class PixelCNN(Model):
    r"""An image drawn pixel by pixel, each conditional given by gated convolutions over the pixels before it.

    For images of discrete cells, (H, W), (C, H, W) or (H, W, C); a row (d,) of discrete cells of one kind is taken as an
    image of 1 × d. Continuous cells and tables of several kinds are refused.

    Arguments
    ---------
    channels: features of each stack; n_layers: gated layers; kernel: their width, an odd number.
    likelihood: ``bernoulli`` (binary cells), ``categorical`` (a probability a level), ``logistic`` (a mixture of discretised
        logistics, for ordered levels), or ``auto``: by the kind of the cells, ``logistic`` for more than 64 ordered levels.
    n_components: logistics in the mixture.
    dropout: share of gated features dropped while training.
    particles: of ``complete``, where an observed cell comes after a missing one.
    trainer: how to descend, see :class:`genus.Trainer`.

    ``log_prob`` is ``Exact``: a probability, in nats. ``complete`` is exact where all missing cells come after all observed
    ones in raster order (channels inside the pixel), such as the lower half given the upper. Any other mask is filled by a
    particle filter: missing cells are drawn in order, weighted by the observed cells that follow, and drawn anew at the end
    of a row where few carry the weight. That is p(missing | observed) as particles → ∞, and an approximation before.
    """

    learned_by = "gradient of the likelihood"
    network_bound = True

    observation_: Observation
    network_: Causal
    context_: Standardise

    def __init__(
        self,
        channels: int = 32,
        n_layers: int = 7,
        kernel: int = 3,
        likelihood: str = "auto",
        n_components: int = 5,
        dropout: float = 0.0,
        particles: int = 64,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.channels = channels
        self.n_layers = n_layers
        self.kernel = kernel
        self.likelihood = likelihood
        self.n_components = n_components
        self.dropout = dropout
        self.particles = particles
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ the likelihood

    def log_likelihood(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """log p(x), or log p(x | given), of codes (n, *shape); (n,) nats."""
        image = self._image(x)
        p = self.network_(self._features(image), self._context(given)).permute(0, 2, 3, 1)
        return self.observation_.log_prob(p, image.permute(0, 2, 3, 1)).flatten(1).sum(1)

    def losses(self, x: Tensor, given: Tensor | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        """−log p of the batch."""
        yield self, -self.log_likelihood(x, given).mean()

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        size = max(1, CELLS // math.prod(self._shape[1:]))
        pieces = [x[i : i + size] for i in range(0, len(x), size)]
        parts = [self.log_likelihood(p, None if given is None else given[i * size : i * size + len(p)]) for i, p in enumerate(pieces)]
        return Exact(torch.cat(parts).double())

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        for name in ("channels", "n_layers", "n_components", "particles"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: a positive whole number is needed")
        if isinstance(self.kernel, bool) or not isinstance(self.kernel, int) or self.kernel < 3 or self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel!r}: an odd number of at least 3 is needed")
        if space.kind not in ("binary", "ordinal", "categorical") or (space.image_shape is None and len(space.shape) > 1):
            what = f"PixelCNN needs images of discrete cells, or rows of discrete cells of one kind: X is {space}"
            raise ValueError(f"{what}; use MADE, or round grey values and pass space='ordinal'")
        self._shape = space.image_shape or (1, 1, space.dim)
        self.reuse = self._shape[1] * self._shape[2]
        self.observation_ = self._observe(space, self._shape[0])
        self._each = int(space.levels or 1) if space.kind == "categorical" else 1  # features a cell
        n_given = 0
        if hasattr(self, "given_space_"):
            levels = self.given_space_.cardinality
            n_given = sum(c if 0 < c <= LABELS else 1 for c in levels)
            self.context_ = Standardise(len(levels))
        per_cell = self.observation_.per_cell
        self.network_ = Causal(self._shape, self._each, per_cell, self.channels, self.n_layers, self.kernel, n_given, self.dropout)
        initialise(self.network_, self.rng)
        for layer in (*(g.mix for g in self.network_.stack), self.network_.out):  # start without correlations
            nn.init.zeros_(layer.weight)

    def _observe(self, space: Space, d: int) -> Observation:
        """p(x | parameters) of d cells."""
        levels = int(space.levels or 1)
        auto = {"binary": "bernoulli", "categorical": "categorical", "ordinal": "categorical" if levels <= FEW else "logistic"}
        suits = {
            "binary": ("bernoulli", "categorical", "logistic"),
            "ordinal": ("categorical", "logistic"),
            "categorical": ("categorical",),
        }
        name = auto[space.kind] if self.likelihood == "auto" else self.likelihood
        if name not in ("bernoulli", "categorical", "logistic"):
            raise ValueError(f"likelihood={name!r} is unknown: choose auto, bernoulli, categorical or logistic")
        if name not in suits[space.kind]:
            raise ValueError(f"likelihood={name!r} does not suit X, which is {space.kind}: use {' or '.join(suits[space.kind])}")
        if name == "categorical" and levels > 4096:
            raise ValueError(f"X has {levels} levels, too many for a probability each: use likelihood='logistic', or rescale X")
        if name == "bernoulli":
            return Bernoulli(d)
        return Categorical(d, levels) if name == "categorical" else LogisticMixture(d, levels, self.n_components)

    def defaults(self, n: int) -> Trainer:
        batch = 2 ** round(math.log2(min(64, max(16, n / 40))))
        epochs = min(100, max(10, 450 * batch // max(n, 1)))  # about 450 steps, of a few rows: more are learned by heart
        share = 0.1 if n >= 50 else 0.0
        return Trainer(
            epochs=epochs, batch_size=batch, lr=2e-3, optimizer="adamw", weight_decay=0.01, validation=share, ema=0.99, grad_clip=50.0
        )

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        """The head's biases start at the shares of each level among all pixels."""
        x, *given = rows.take(slice(0, 65536), self.rng)
        image = self._image(x[:4096])
        self.network_.out.bias.copy_(self.observation_.offset(image.permute(0, 2, 3, 1).flatten(0, 2)))  # type: ignore[union-attr]
        if given:
            self.context_.fit(given[0].flatten(1))

    # ------------------------------------------------------------------ rows as images

    def _image(self, x: Tensor) -> Tensor:
        """(n, *shape) → (n, C, H, W)."""
        return x.permute(0, 3, 1, 2) if self.space_.layout == "HWC" else x.reshape(-1, *self._shape)

    def _rows_of(self, image: Tensor) -> Tensor:
        """(n, C, H, W) → (n, *shape)."""
        return image.permute(0, 2, 3, 1) if self.space_.layout == "HWC" else image.reshape(-1, *self.space_.shape)

    def _features(self, x: Tensor) -> Tensor:
        """What the network sees of codes (n, C, …): (n, C · each, …), from −1 to 1, or an indicator a category."""
        levels = int(self.space_.levels or 1)
        if self.space_.kind != "categorical":
            return (2 * x / max(levels - 1, 1) - 1).to(self.network_.place.dtype)
        return F.one_hot(x.long(), levels).movedim(-1, 2).flatten(1, 2).to(self.network_.place.dtype)

    def _context(self, given: Tensor | None) -> Tensor | None:
        """(n, g): a number for each level of few, standard units of what has many or none."""
        if given is None:
            return None
        g = given.flatten(1)
        scaled = self.context_(g)[0]
        levels = enumerate(self.given_space_.cardinality)
        parts = [F.one_hot(g[:, j].long(), c) if 0 < c <= LABELS else scaled[:, j, None] for j, c in levels]
        return torch.cat([p.to(self.network_.place.dtype) for p in parts], 1)

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        if given is None and hasattr(self, "given_space_"):
            raise ValueError("this PixelCNN models p(x | given): pass given=")
        cell = self._observe(self.space_, 1)
        size = min(n, 1024)
        _, h, w = self._shape
        with pixels(self._trainer().progress, type(self).__name__, -(-n // size) * h * w) as advance:

            def value(i: int, j: int, c: int, p: Tensor) -> Tensor:
                if c == 0:
                    advance()
                return cell.sample(p, rng)[:, 0]

            parts = []
            for i in range(0, n, size):
                g = self._context(None if given is None else given[i : i + size])
                parts.append(self.network_.in_order(min(size, n - i), self._features, value, g))
        return self._rows_of(torch.cat(parts))

    def _complete(self, x: Tensor, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        image = self._image(x)
        gap = torch.isnan(image).permute(0, 2, 3, 1).flatten(1)
        exact = (gap.cummax(1).values == gap).all(1) if gap.numel() else gap.new_ones(len(gap))
        out = image.clone()
        for rows, k in ((exact, 1), (~exact, self.particles)):
            index = rows.nonzero()[:, 0]
            for some in index.split(max(1, 4096 // k)):
                out[some] = self._filled(image[some], k, rng, None if given is None else given[some]).to(out.dtype)
        return self._rows_of(out)

    def _filled(self, image: Tensor, k: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        """Images (n, C, H, W) with their NaN drawn in raster order by k weighted particles."""
        n, cell = len(image), self._observe(self.space_, 1)
        known = image.repeat_interleave(k, 0)
        log_w = torch.zeros(n, k, dtype=torch.float64, device=image.device)
        base = torch.arange(n, device=image.device)[:, None] * k

        def value(i: int, j: int, c: int, p: Tensor) -> Tensor:
            x = known[:, c, i, j]
            gap = torch.isnan(x)
            if k > 1:
                log_p = cell.log_prob(p, x.nan_to_num()[:, None])[:, 0]
                log_w.add_(torch.where(gap, 0.0, log_p).double().reshape(n, k))
            return torch.where(gap, cell.sample(p, rng)[:, 0].to(x.dtype), x)

        def reorder(i: int) -> Tensor | None:
            weights = torch.softmax(log_w, 1)
            low = weights.square().sum(1) > 2 / k  # the effective number is below k/2
            if k == 1 or not low.any():
                return None
            pick = torch.multinomial(weights, k, replacement=True, generator=rng)
            log_w[low] = 0.0
            return (base + torch.where(low[:, None], pick, torch.arange(k, device=pick.device))).flatten()

        g = self._context(None if given is None else given.repeat_interleave(k, 0))
        drawn = self.network_.in_order(n * k, self._features, value, g, reorder)
        return drawn[(base + torch.multinomial(torch.softmax(log_w, 1), 1, generator=rng))[:, 0]]


# ---------------------------------------------------------------------- the network


class Gated(nn.Module):
    """One layer of both stacks: of h alone where images have one row, with nothing above."""

    def __init__(self, width: int, r: int, given: int, tall: bool) -> None:
        super().__init__()
        self.above = Conv2d(width, 2 * width, (r + 1, 2 * r + 1)) if tall else None
        self.down = Conv2d(2 * width, 2 * width, 1, bias=False) if tall else None
        self.left = Conv2d(width, 2 * width, (1, r + 1))
        self.mix = Conv2d(width, width, 1, bias=False)
        self.given = Linear(given, 2 * width, bias=False) if given else None

    def told(self, a: Tensor, g: Tensor | None) -> Tensor:
        """a + V g, the same at every pixel."""
        return a if g is None or self.given is None else a + self.given(g)[:, :, None, None]


def gate(a: Tensor) -> Tensor:
    """tanh of the first half of the channels times σ of the second."""
    t, s = a.chunk(2, 1)
    return torch.tanh(t) * torch.sigmoid(s)


class Causal(nn.Module):
    """Features (n, C · each, H, W) → parameters (n, C · per_cell, H, W) of every cell, from the cells before it alone."""

    before: Tensor

    def __init__(
        self, shape: tuple[int, int, int], each: int, per_cell: int, width: int, depth: int, kernel: int, given: int, dropout: float
    ) -> None:
        super().__init__()
        c, h, w = shape
        self.shape, self.each, self.per_cell, self.width, self.r = shape, each, per_cell, width, kernel // 2
        self.above = Conv2d(c * each, width, (FIRST, 2 * FIRST + 1)) if h > 1 else None
        self.left = Conv2d(c * each, width, (1, FIRST))
        self.place = nn.Parameter(torch.zeros(width, h, w))  # where in the image a pixel is
        self.layers = nn.ModuleList(Gated(width, self.r, given, h > 1) for _ in range(depth))
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        self.head = Conv2d(width, c * 2 * width, 1)
        self.colours = Conv2d(c * each, c * 2 * width, 1, bias=False) if c > 1 else None
        self.out = Conv2d(c * 2 * width, c * per_cell, 1, groups=c)
        before = torch.arange(c).repeat_interleave(each) < torch.arange(c).repeat_interleave(2 * width)[:, None]
        self.register_buffer("before", before[:, :, None, None].float(), persistent=False)

    @property
    def stack(self) -> list[Gated]:
        """The gated layers."""
        return list(self.layers)  # type: ignore[arg-type]

    def forward(self, x: Tensor, g: Tensor | None = None) -> Tensor:
        """All pixels at once."""
        R, r = FIRST, self.r
        v = None if self.above is None else self.above(F.pad(x[:, :, :-1], (R, R, R, 0))) + self.place
        h = self.left(F.pad(x[..., :-1], (R, 0))) + self.place
        for layer in self.stack:
            a = layer.told(layer.left(F.pad(h, (r, 0))), g)
            if v is not None:
                a_v = layer.told(layer.above(F.pad(v, (r, r, r, 0))), g)  # type: ignore[misc]
                a = a + layer.down(a_v)  # type: ignore[misc]
                v = v + gate(a_v)
            h = h + layer.mix(self.dropout(gate(a)))
        t = self.head(torch.relu(h))
        if self.colours is not None:
            t = t + F.conv2d(x, self.colours.weight * self.before)
        out: Tensor = self.out(torch.relu(t))
        return out

    def in_order(
        self,
        n: int,
        features: Callable[[Tensor], Tensor],
        value: Value,
        g: Tensor | None = None,
        reorder: Callable[[int], Tensor | None] | None = None,
    ) -> Tensor:
        """Codes (n, C, H, W), cell (c, i, j) being ``value(i, j, c, parameters (n, per_cell))`` → (n,).

        Each activation is computed once, when it is known. reorder(i): after row i, which of the n images go on; None: all.
        """
        (c, height, width), R, r, f = self.shape, FIRST, self.r, self.width
        e = c * self.each
        m = 2 * f
        new = self.place.new_zeros
        x = new(n, c, height, width)
        seen = new(n, e, R + height, width + 2 * R)
        rows = [new(n, f, r + 1, width + 2 * r) for _ in self.layers]  # of v, the last r + 1
        first = _taps(self.left)
        lefts = [_taps(layer.left) for layer in self.stack]
        mixes = [_taps(layer.mix) for layer in self.stack]
        head = _taps(self.head)
        starts = self.place.permute(1, 2, 0) + self.left.bias  # type: ignore[operator]  # (H, W, f)
        colours = None if self.colours is None else (self.colours.weight * self.before)[:, :, 0, 0].T
        outs = [(w[:, :, 0, 0].T, b) for w, b in zip(self.out.weight.chunk(c), self.out.bias.chunk(c), strict=True)]  # type: ignore[union-attr]
        for i in range(height):
            tops = [layer.told(layer.left.bias[None, :, None, None], g) for layer in self.stack]  # type: ignore[index]
            if self.above is not None:
                v = self.above(seen[:, :, i : i + R]) + self.place[:, i : i + 1]
                for k, layer in enumerate(self.stack):
                    rows[k] = torch.cat([rows[k][:, :, 1:], F.pad(v, (r, r))], 2)
                    a_v = layer.told(layer.above(rows[k]), g)  # type: ignore[misc]
                    tops[k] = tops[k] + layer.down(a_v)  # type: ignore[misc]
                    v = v + gate(a_v)
            tops = [t.expand(n, m, 1, width)[:, :, 0].permute(2, 0, 1).contiguous() for t in tops]  # (W, n, 2f)
            lines = [new(n, (r + width) * f) for _ in self.layers]  # of h, pixel after pixel
            line = new(n, (R + width) * e)
            for j in range(width):
                h = torch.addmm(starts[i, j], line[:, j * e : (j + R) * e], first)
                for top, past, left, mix in zip(tops, lines, lefts, mixes, strict=True):
                    past[:, (r + j) * f : (r + j + 1) * f] = h
                    h = torch.addmm(h, gate(torch.addmm(top[j], past[:, j * f : (j + r + 1) * f], left)), mix)
                t = torch.addmm(self.head.bias, torch.relu(h), head)  # type: ignore[arg-type]
                here = line[:, (R + j) * e : (R + j + 1) * e]
                for k, (weight, bias) in enumerate(outs):
                    t_k = t[:, k * m : (k + 1) * m]
                    if k and colours is not None:
                        end = k * self.each
                        t_k = torch.addmm(t_k, here[:, :end], colours[:end, k * m : (k + 1) * m])
                    x[:, k, i, j] = value(i, j, k, torch.addmm(bias, torch.relu(t_k), weight)).to(x.dtype)
                    here[:, k * self.each : (k + 1) * self.each] = features(x[:, k, i, j][:, None])
                seen[:, :, R + i, R + j] = here
            index = None if reorder is None else reorder(i)
            if index is not None:
                x, seen, rows = x[index], seen[index], [v[index] for v in rows]
        return x


def _taps(conv: nn.Conv2d) -> Tensor:
    """The weights (out, in, 1, k) of a convolution along a row as a matrix (k · in, out)."""
    return conv.weight[:, :, 0].permute(2, 1, 0).flatten(0, 1).contiguous()


# ---------------------------------------------------------------------- what a cell says


class LogisticMixture(Observation):
    r"""x ∈ {0 … L−1}, ordered: P(x) = Σ_k π_k P_k(x), each P_k a discretised logistic (Salimans et al., 2017).

    A cell has K log-weights, then K pairs (μ, log s). Channels are tied by the network, not by their component.
    """

    def __init__(self, d: int, levels: int, components: int) -> None:
        super().__init__(d)
        self.each = Logistic(d, levels)
        self.components = components
        self.per_cell = 3 * components

    def _split(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """log π, (..., d, K), and the logistics' own parameters, (..., K, 2d)."""
        cells = self.cells(p)
        own = cells[..., self.components :].unflatten(-1, (self.components, 2))
        return torch.log_softmax(cells[..., : self.components], -1), own.transpose(-3, -2).flatten(-2)

    def offset(self, x: Tensor) -> Tensor:
        mu, log_s = self.each.offset(x).reshape(self.d, 2, 1).expand(-1, -1, self.components).unbind(1)
        spread = torch.linspace(-1, 1, self.components, device=mu.device) if self.components > 1 else torch.zeros_like(mu)
        pairs = torch.stack([mu + 2 * torch.exp(log_s) * spread, log_s], -1)
        return torch.cat([torch.zeros_like(mu), pairs.flatten(1)], 1).flatten()

    def log_prob(self, p: Tensor, x: Tensor) -> Tensor:
        log_pi, own = self._split(p)
        return torch.logsumexp(log_pi + self.each.log_prob(own, x[..., None, :]).transpose(-1, -2), -1)

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        log_pi, own = self._split(p)
        k = torch.multinomial(log_pi.exp().flatten(0, -2), 1, generator=rng).reshape(log_pi.shape[:-1])
        pairs = own.unflatten(-1, (self.d, 2)).transpose(-3, -2)  # (..., d, K, 2)
        chosen = pairs.gather(-2, k[..., None, None].expand(*k.shape, 1, 2))
        return self.each.sample(chosen.flatten(-3), rng)


# ---------------------------------------------------------------------- what the caller sees


@contextmanager
def pixels(progress: bool | None, name: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar of pixels on stderr while they are drawn. progress None: where stderr is a terminal."""
    if not (sys.stderr.isatty() if progress is None else progress):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("pixels"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total)
        yield lambda: bar.advance(task)
