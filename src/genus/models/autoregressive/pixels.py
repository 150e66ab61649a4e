"""What models that draw an image pixel by pixel share: likelihood, draws, completions, cells.

    log p(x) = Σ_i Σ_j Σ_c log p(x_cij | pixels before (i, j) in raster order, x_<c,ij)

A family writes a :class:`Causal` network, from the pixels before to features h of
each pixel; :class:`Cells` goes on from there, t_c = relu(A_c relu(h) + B_c x_<c),
p(x_c | …) = observation(O_c t_c).

Conditions are known before the first pixel. To what it makes of the pixels before, each layer adds
V g for a context g, and V' s for an image y of the size of the rows: s = relu(U * y), where U is a
convolution to all sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.observation import Bernoulli, Categorical, LogisticMixture, Observation
from genus.learn.progress import drawing
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer, batch_of
from genus.likelihood import Exact, LogProb
from genus.model import Model, on_rows
from genus.networks.conditions import Conditions
from genus.networks.layers import Conv2d, Linear, initialise
from genus.samplers.particles import enough, pick_several, resample
from genus.settings import Number, Odd, OneOf, Rule, Whole
from genus.space import Space

FIRST = 3  # rows above, and pixels to each side, that the first convolutions see


FEW = 64  # ordered levels up to which each has a probability of its own


CELLS = 1 << 18  # pixels whose activations are in memory at once


FeatureMap = Callable[[Tensor], Tensor]


# what layers see of conditions: the context (n, g, 1, 1), the image s (n, f, H, W), or both
Seen = tuple[Tensor, ...]


Value = Callable[[int, int, int, Tensor], Tensor]


class PixelModel(Model):
    """A model of images drawn pixel by pixel; a family adds its arguments and ``_network``."""

    arguments: ClassVar[dict[str, Rule]] = {
        "channels": Whole(1),
        "n_layers": Whole(1),
        "kernel": Odd(3),
        "likelihood": OneOf("auto", "bernoulli", "categorical", "logistic"),
        "n_components": Whole(1),
        "dropout": Number(0, below=1),
        "particles": Whole(1),
    }
    learned_by = "gradient of the likelihood"
    conditions = "optional"
    may_use_bfloat16 = True

    channels: int
    n_layers: int
    kernel: int
    likelihood: str
    n_components: int
    particles: int
    observation_: Observation
    network_: Causal
    context_: Conditions

    # ------------------------------------------------------------------ the likelihood

    @on_rows
    def log_likelihood(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """log p(x), or log p(x | given), of codes (n, *shape); (n,) nats."""
        image = self._image(x)
        p = self.network_(self._features(image), *self._context(given)).permute(0, 2, 3, 1)
        return self.observation_.log_prob(p, image.permute(0, 2, 3, 1)).flatten(1).sum(1)

    def losses(self, x: Tensor, given: Tensor | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        """−log p of the batch."""
        yield self, -self.log_likelihood(x, given).mean()

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        if space.kind not in ("binary", "ordinal", "categorical") or (
            space.image_shape is None and len(space.shape) > 1
        ):
            what = (
                f"{type(self).__name__} needs images of discrete cells, or rows of discrete cells "
                f"of one kind: X is {space}"
            )
            raise ValueError(f"{what}; use MADE, or round grey values and pass space='ordinal'")
        self._shape = space.image_shape or (1, 1, space.dim)
        self.observation_ = self._observe(space, self._shape[0])
        self._each = int(space.levels or 1) if space.kind == "categorical" else 1  # features a cell
        context, channels = 0, 0
        if hasattr(self, "given_space_"):
            self.context_ = Conditions(self.given_space_, space.image_shape)
            context, channels = self.context_.width, self.context_.n_channels
        per_cell = self.observation_.per_cell
        self.network_ = self._network(self._shape, self._each, per_cell, context, channels)
        initialise(self.network_, self.rng)
        self.network_.settle()

    def _network(
        self, shape: tuple[int, int, int], each: int, per_cell: int, context: int, channels: int
    ) -> Causal:
        """The network of images (C, H, W): ``each`` features and ``per_cell`` parameters a cell.

        context, channels: how many numbers and channels it sees of conditions.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define _network")

    def _observe(self, space: Space, d: int) -> Observation:
        """p(x | parameters) of d cells."""
        levels = int(space.levels or 1)
        auto = {
            "binary": "bernoulli",
            "categorical": "categorical",
            "ordinal": "categorical" if levels <= FEW else "logistic",
        }
        suits = {
            "binary": ("bernoulli", "categorical", "logistic"),
            "ordinal": ("categorical", "logistic"),
            "categorical": ("categorical",),
        }
        name = auto[space.kind] if self.likelihood == "auto" else self.likelihood
        if name not in suits[space.kind]:
            raise ValueError(
                f"likelihood={name!r} does not suit X, which is {space.kind}: use "
                f"{' or '.join(suits[space.kind])}"
            )
        if name == "categorical" and levels > 4096:
            raise ValueError(
                f"X has {levels} levels, too many for a probability each: use "
                "likelihood='logistic', or rescale X"
            )
        if name == "bernoulli":
            return Bernoulli(d)
        return (
            Categorical(d, levels)
            if name == "categorical"
            else LogisticMixture(d, levels, self.n_components)
        )

    def defaults(self, n: int) -> Trainer:
        batch = batch_of(n, 40, 16, 64)
        few = 450 * batch // max(n, 1)  # about 450 steps of a few rows: more are learned by heart
        epochs = min(100, max(few, min(10, 200_000 // max(n, 1)), 1))
        share = 0.1 if n >= 50 else 0.0
        return Trainer(
            epochs=epochs,
            batch_size=batch,
            lr=2e-3,
            optimizer="adamw",
            weight_decay=0.01,
            validation=share,
            ema=0.99,
            grad_clip=50.0,
        )

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        """The head's biases start at the shares of each level among all pixels."""
        x, *given = rows.look(65536, self.rng)
        image = self._image(x[:4096])
        pixels = image.permute(0, 2, 3, 1).flatten(0, 2)
        bias = self.network_.cells.out.bias
        bias.copy_(self.observation_.offset(pixels))  # type: ignore[union-attr]
        if given:
            self.context_.fit(given[0].flatten(1))

    # ------------------------------------------------------------------ what the network sees

    def _image(self, x: Tensor) -> Tensor:
        """(n, *cell_shape) → (n, C, H, W)."""
        return x.reshape(-1, *self._shape)

    def _features(self, x: Tensor) -> Tensor:
        """What the network sees of codes (n, C, …): (n, C · each, …).

        Numbers from −1 to 1, or an indicator a category.
        """
        levels = int(self.space_.levels or 1)
        if self.space_.kind != "categorical":
            return (2 * x / max(levels - 1, 1) - 1).to(self.network_.place.dtype)
        return (
            F.one_hot(x.long(), levels).movedim(-1, 2).flatten(1, 2).to(self.network_.place.dtype)
        )

    def _context(self, given: Tensor | None) -> tuple[Tensor, ...]:
        """What the network sees of conditions; () without."""
        return () if given is None else self.context_.seen(given, self.network_.place.dtype)

    # ------------------------------------------------------------------ draws

    def _drawn(
        self, image: Tensor, k: int, keep: int, rng: torch.Generator, given: Tensor | None = None
    ) -> Tensor:
        """Images (n, C, H, W) with their NaN drawn in raster order by k weighted particles.

        ``keep`` of them are returned, (keep, n, C, H, W).
        """
        n, cell = len(image), self._observe(self.space_, 1)
        known = image.repeat_interleave(k, 0)
        log_w = torch.zeros(n, k, dtype=torch.float64, device=image.device)

        def value(i: int, j: int, c: int, p: Tensor) -> Tensor:
            nonlocal log_w
            x = known[:, c, i, j]
            gap = torch.isnan(x)
            if k > 1:
                log_p = cell.log_prob(p, x.nan_to_num()[:, None])[:, 0]
                log_w = log_w + torch.where(gap, 0.0, log_p).double().reshape(n, k)
            return torch.where(gap, cell.sample(p, rng)[:, 0].to(x.dtype), x)

        def reorder(i: int) -> Tensor | None:
            nonlocal log_w
            again = resample(log_w, rng)
            if again is None:
                return None
            places, log_w = again
            return places

        context = self._context(None if given is None else given.repeat_interleave(k, 0))
        drawn = self.network_.in_order(n * k, self._features, value, context, reorder)
        return drawn[pick_several(log_w, keep, rng)]

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        size = max(1, CELLS // math.prod(self._shape[1:]))
        pieces = [x[i : i + size] for i in range(0, len(x), size)]
        parts = [
            self.log_likelihood(p, None if given is None else given[i * size : i * size + len(p)])
            for i, p in enumerate(pieces)
        ]
        return Exact(torch.cat(parts).double())

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        cell = self._observe(self.space_, 1)
        size = min(n, 1024)
        _, h, w = self._shape
        with drawing(
            self._trainer().progress, type(self).__name__, -(-n // size) * h * w
        ) as advance:

            def value(i: int, j: int, c: int, p: Tensor) -> Tensor:
                if c == 0:
                    advance()
                return cell.sample(p, rng)[:, 0]

            parts = []
            for i in range(0, n, size):
                context = self._context(None if given is None else given[i : i + size])
                drawn = self.network_.in_order(min(size, n - i), self._features, value, context)
                parts.append(drawn)
        return torch.cat(parts).reshape(-1, *self.space_.cell_shape)

    def _complete(self, x: Tensor, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        return self._complete_many(x, 1, rng, given)[0]

    def _complete_many(
        self, x: Tensor, n: int, rng: torch.Generator, given: Tensor | None = None
    ) -> Tensor:
        """n of the particles of every image; where its gaps come last, n draws apart."""
        image = self._image(x)
        gap = torch.isnan(image).permute(0, 2, 3, 1).flatten(1)
        exact = (gap.cummax(1).values == gap).all(1) if gap.numel() else gap.new_ones(len(gap))
        out = image[None].repeat(n, 1, 1, 1, 1)
        for rows, k in ((exact, n), (~exact, enough(self.particles, n))):
            index = rows.nonzero()[:, 0]
            for some in index.split(max(1, 4096 // k)):
                g = None if given is None else given[some]
                out[:, some] = self._drawn(image[some], k, n, rng, g).to(out.dtype)
        return out.reshape(n, -1, *self.space_.cell_shape)


# ----------------------------------------------------------------- networks that see what is before


class Causal(nn.Module):
    """Features (n, C · each, H, W) → parameters (n, C · per_cell, H, W) from the cells before.

    The first convolutions see the rows above, v, and the pixels to the left, h; a family
    writes what follows, all pixels at once in ``forward`` and pixel by pixel in ``keep``.
    ``channels``: of the images that are conditions. ``beyond``: pixels after the end of
    each row that have features too.
    """

    cells: Cells

    def __init__(
        self,
        shape: tuple[int, int, int],
        each: int,
        width: int,
        channels: int = 0,
        beyond: int = 0,
    ) -> None:
        super().__init__()
        c, h, w = shape
        self.shape, self.each, self.beyond = shape, each, beyond
        self.above = Conv2d(c * each, width, (FIRST, 2 * FIRST + 1)) if h > 1 else None
        self.left = Conv2d(c * each, width, (1, FIRST))
        # where in the image a pixel is
        self.place = nn.Parameter(torch.zeros(width, h, w + beyond))
        # of images that are conditions: what is around a pixel, and the whole
        self.around = Conv2d(channels, width, 2 * FIRST + 1, padding=FIRST) if channels else None
        self.whole = Linear(channels * h * w, width, zero=True) if channels else None

    def settle(self) -> None:
        """What does not start at random: the parameters of the cells start where their bias is."""
        nn.init.zeros_(self.cells.out.weight)

    def first(self, x: Tensor) -> tuple[Tensor | None, Tensor]:
        """What the first convolutions make of the rows above and of the pixels to the left.

        The first is None where there is one row.
        """
        R, b = FIRST, self.beyond
        v = (
            None
            if self.above is None
            else self.above(F.pad(x[:, :, :-1], (R, R + b, R, 0))) + self.place
        )
        return v, self.left(F.pad(x[..., : x.shape[3] - 1 + b], (R, 0))) + self.place

    def seen(self, *context: Tensor) -> Seen:
        """What layers see of a context (n, g) and of images (n, channels, H, W)."""
        out = []
        for v in context:
            if v.dim() == 2:
                out.append(v[:, :, None, None])
            elif self.around is not None and self.whole is not None:
                all_of_it = self.whole(v.flatten(1))[:, :, None, None]
                out.append(F.pad(torch.relu(self.around(v) + all_of_it), (0, self.beyond)))
        return tuple(out)

    def keep(self, n: int, seen: Seen) -> Kept:
        """What draws of n images keep, under conditions."""
        raise NotImplementedError(f"{type(self).__name__} does not define keep")

    def in_order(
        self,
        n: int,
        features: FeatureMap,
        value: Value,
        context: tuple[Tensor, ...] = (),
        reorder: Callable[[int], Tensor | None] | None = None,
    ) -> Tensor:
        """Codes (n, C, H, W), cell (c, i, j) = ``value(i, j, c, parameters (n, per_cell))`` → (n,).

        Each activation is computed once, when it is known. reorder(i): after row i, which of the n
        images go on; None: all.
        """
        (c, height, width), R, b = self.shape, FIRST, self.beyond
        e = c * self.each
        new = self.place.new_zeros
        x = new(n, c, height, width)
        seen = new(n, e, R + height, width + b + 2 * R)
        weight = matrix(self.left)
        starts = self.place.permute(1, 2, 0) + self.left.bias  # type: ignore[operator]  # (H, W, f)
        kept = self.keep(n, self.seen(*context))
        draw = self.cells.in_order(features, value)
        for i in range(height):
            kept.row(
                None
                if self.above is None
                else self.above(seen[:, :, i : i + R]) + self.place[:, i : i + 1]
            )
            line = new(n, (R + width) * e)
            for j in range(width + b):
                h = kept.pixel(j, torch.addmm(starts[i, j], line[:, j * e : (j + R) * e], weight))
                if j < width:
                    x[:, :, i, j], here = draw(i, j, h)
                    line[:, (R + j) * e : (R + j + 1) * e] = here
                    seen[:, :, R + i, R + j] = here
            index = None if reorder is None else reorder(i)
            if index is not None:
                x, seen = x[index], seen[index]
                kept.pick(index)
        return x


class Kept:
    """Activations of the pixels that are drawn already."""

    def row(self, v: Tensor | None) -> None:
        """A new row begins, of which the first convolution sees v (n, f, 1, W) above."""
        raise NotImplementedError

    def pixel(self, j: int, h: Tensor) -> Tensor:
        """What the first convolution sees to the left, (n, f) → the features of pixel j, (n, f)."""
        raise NotImplementedError

    def pick(self, index: Tensor) -> None:
        """The images that go on."""
        raise NotImplementedError


def told(layer: Any, seen: Seen) -> Tensor:
    """V g + V' s, what conditions add to the features of a layer: (n, H or 1, W or 1, features)."""
    weights = [v for v in (layer.given, layer.beside) if v is not None]
    first, *others = (v(c.movedim(1, -1)) for v, c in zip(weights, seen, strict=True))
    for more in others:
        first = first + more
    return first


def in_row(seen: Seen, i: int) -> Seen:
    """What layers see of conditions in row i."""
    return tuple(c[:, :, i : i + 1] if c.shape[2] > 1 else c for c in seen)


class Cells(nn.Module):
    """Parameters of every cell, from its pixel's features and the cells before it in the pixel.

    (n, f, H, W) → (n, C · per_cell, H, W).
    """

    before: Tensor

    def __init__(self, c: int, each: int, per_cell: int, n_features: int, width: int) -> None:
        super().__init__()
        self.c, self.each, self.width = c, each, width
        self.head = Conv2d(n_features, c * width, 1)
        self.colours = Conv2d(c * each, c * width, 1, bias=False) if c > 1 else None
        self.out = Conv2d(c * width, c * per_cell, 1, groups=c)
        before = (
            torch.arange(c).repeat_interleave(each)
            < torch.arange(c).repeat_interleave(width)[:, None]
        )
        self.register_buffer("before", before[:, :, None, None].float(), persistent=False)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """All pixels at once, x being the features (n, C · each, H, W) of the cells."""
        t = self.head(torch.relu(h))
        if self.colours is not None:
            t = t + F.conv2d(x, self.colours.weight * self.before)
        out: Tensor = self.out(torch.relu(t))
        return out

    def in_order(
        self, features: FeatureMap, value: Value
    ) -> Callable[[int, int, Tensor], tuple[Tensor, Tensor]]:
        """(i, j, features (n, f)) → the pixel's codes (n, C), drawn in turn, and their features."""
        m, e = self.width, self.each
        head = matrix(self.head)
        colours = (
            None if self.colours is None else (self.colours.weight * self.before)[:, :, 0, 0].T
        )
        weights = [w[:, :, 0, 0].T for w in self.out.weight.chunk(self.c)]
        biases = self.out.bias.chunk(self.c)  # type: ignore[union-attr]
        outs = list(zip(weights, biases, strict=True))

        def draw(i: int, j: int, h: Tensor) -> tuple[Tensor, Tensor]:
            t = torch.addmm(self.head.bias, torch.relu(h), head)  # type: ignore[arg-type]
            x, here = h.new_zeros(len(h), self.c), h.new_zeros(len(h), self.c * e)
            for k, (weight, bias) in enumerate(outs):
                t_k = t[:, k * m : (k + 1) * m]
                if k and colours is not None:
                    t_k = torch.addmm(t_k, here[:, : k * e], colours[: k * e, k * m : (k + 1) * m])
                x[:, k] = value(i, j, k, torch.addmm(bias, torch.relu(t_k), weight)).to(x.dtype)
                here[:, k * e : (k + 1) * e] = features(x[:, k, None])
            return x, here

        return draw


def matrix(conv: nn.Conv2d) -> Tensor:
    """The weights (out, in, 1, k) of a convolution along a row as a matrix (k · in, out)."""
    return conv.weight[:, :, 0].permute(2, 1, 0).flatten(0, 1).contiguous()
