r"""Pixel recurrent neural networks (van den Oord, Kalchbrenner and Kavukcuoglu, 2016).

    log p(x) = Σ_i Σ_j Σ_c log p(x_cij | pixels before (i, j) in raster order, x_<c,ij)

A masked convolution makes features z of each pixel from those strictly before it;
layers of convolutional LSTMs pass states on from place to place, with weights K
and U, biases and conditions y, or s that are images:

    [o, f, i, g] = K_ss * h_before + K_is * z + V y + V' s
    c = σ(f) ⊙ c_before + σ(i) ⊙ tanh(g),   h = σ(o) ⊙ tanh(c),   z ← z + U h

Row LSTM: before is the row above, K_ss a convolution along it, (k), and K_is one along the row of z
up to the pixel itself. State (i, j) knows a triangle of the rows above.

Diagonal BiLSTM: before is the diagonal i + j = t − 1, on which K_ss (2 × 1) sees the
neighbours to the left and above; K_is sees the pixel alone. A second LSTM goes the same way
from right to left, and its h moves down a row, so that it knows nothing of the row of the
pixel itself: h = h_ij + h'_(i−1)j. Together they know all that is before. (For that the
features go one place beyond the end of each row: as z is strictly before its pixel, the last
pixel of a row is in no z of the row itself.)

c and h are 0 outside of the image. K_is * z + V y + V' s is computed for all places at
once; a step is one row, or one diagonal, of all images. Draws keep c and h: a pixel costs
one place of each layer.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.learn.trainer import Trainer
from genus.models.autoregressive.pixels import (
    Causal,
    Cells,
    Kept,
    PixelModel,
    Seen,
    in_row,
    told,
)
from genus.networks.layers import Dropout, Linear
from genus.settings import OneOf, Rule

VARIANTS = ("diagonal", "row")
OFF = -1e4  # before a gate: it is shut, and c and h are 0


class PixelRNN(PixelModel):
    r"""An image drawn pixel by pixel, given the pixels before by convolutional LSTMs.

    For images of discrete cells, (H, W), (C, H, W) or (H, W, C); a row (d,) of discrete
    cells of one kind is taken as an image of 1 × d. Continuous cells and tables of
    several kinds are refused.

    ``log_prob`` is ``Exact``: a probability, in nats. ``complete`` is exact where all missing cells
    come after all observed ones in raster order (channels inside the pixel), such as the lower half
    given the upper. Any other mask is filled by a particle filter, as in :class:`genus.PixelCNN`.

    Parameters
    ----------
    channels : int, default=32
        Units of each LSTM; the features between them are twice as many.
    n_layers : int, default=4
        LSTMs one upon the other.
    variant : {"diagonal", "row"}, default="diagonal"
        Two LSTMs along the diagonals of the image, which know all pixels before; or one along the
        rows, which knows a triangle above, in fewer steps.
    kernel : int, default=3
        Width of the convolutions of ``row``, an odd number.
    likelihood : {"auto", "bernoulli", "categorical", "logistic"}, default="auto"
        Of binary cells; a probability a level; a mixture of discretised logistics, for ordered
        levels. ``auto``: by the kind of the cells, ``logistic`` for more than 64 ordered levels.
    n_components : int, default=5
        Logistics in the mixture.
    dropout : float, default=0.0
        Share of an LSTM's output dropped while training.
    particles : int, default=64
        Of ``complete``, where an observed cell comes after a missing one.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).integers(0, 2, (50, 4, 4))
    >>> model = genus.PixelRNN(4, 1, trainer=genus.Trainer(epochs=1), random_state=0).fit(X)
    >>> model.sample(2, random_state=0).shape
    (2, 4, 4)
    """

    arguments: ClassVar[dict[str, Rule]] = {"variant": OneOf(*VARIANTS)}

    def __init__(
        self,
        channels: int = 32,
        n_layers: int = 4,
        variant: str = "diagonal",
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
        self.variant = variant
        self.kernel = kernel
        self.likelihood = likelihood
        self.n_components = n_components
        self.dropout = dropout
        self.particles = particles
        self.trainer = trainer
        self.random_state = random_state

    def defaults(self, n: int) -> Trainer:
        return super().defaults(n).replace(lr=6e-3)

    def _network(
        self, shape: tuple[int, int, int], each: int, per_cell: int, context: int, channels: int
    ) -> Causal:
        r = self.kernel // 2 if self.variant == "row" else None
        f, depth = int(self.channels), self.n_layers
        return Recurrent(shape, each, per_cell, f, depth, r, context, channels, self.dropout)


# ---------------------------------------------------------------------- the network


class LSTM(nn.Module):
    """The weights of one layer: 2f features → 4f gates a direction, f units → 2f features.

    reads: pixels to the left of its own that K_is sees; sees: how many places before and after its
    own K_ss sees on the row or diagonal before, None where there is none.
    """

    def __init__(
        self,
        f: int,
        reads: int,
        sees: tuple[int, int] | None,
        directions: int,
        context: int,
        channels: int,
    ) -> None:
        super().__init__()
        self.f, self.reads, self.sees, self.directions = f, reads, sees, directions
        self.input = Linear((reads + 1) * 2 * f, directions * 4 * f)
        neighbours = 1 + sum(sees or ())
        self.state = nn.ModuleList(
            Linear(neighbours * f, 4 * f, bias=False) for _ in range(directions if sees else 0)
        )
        self.given = Linear(context, directions * 4 * f, bias=False) if context else None
        self.up = Linear(f, 2 * f, bias=False)
        self.beside = Linear(2 * f, directions * 4 * f, bias=False) if channels else None

    def told(self, row: Seen) -> Tensor:
        """Bias, V y and V' s of the places of a row, (1 or n, 1 or W, directions · 4f)."""
        bias = self.input.bias
        return bias + told(self, row)[:, 0] if row else bias[None, None]

    def inputs(self, z: Tensor, seen: Seen) -> Tensor:
        """K_is * z + V y + V' s at all places, (n, H, W, 2f) → (n, H, W, directions · 4f)."""
        u: Tensor = self.input(near(z, self.reads, 0))
        return u + told(self, seen) if seen else u

    def K_is(self) -> Tensor:
        """(in, directions · 4f)."""
        return self.input.weight.T

    def K_ss(self) -> Tensor | None:
        """(directions, places · f, 4f)."""
        return torch.stack([s.weight.T for s in self.state]) if self.sees else None  # type: ignore[misc]


class Recurrent(Causal):
    """Layers of LSTMs: along rows with kernels of radius r, along diagonals where r is None."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        each: int,
        per_cell: int,
        f: int,
        depth: int,
        r: int | None,
        context: int,
        channels: int,
        dropout: float,
    ) -> None:
        tall, diagonal = shape[1] > 1, r is None
        super().__init__(shape, each, 2 * f, channels, beyond=int(tall and diagonal))
        self.f, self.diagonal, self.tall = f, diagonal, tall
        sees = (int(tall), 0) if r is None else (r, r) if tall else None
        self.layers = nn.ModuleList(
            LSTM(f, r or 0, sees, 1 + self.beyond, context, channels) for _ in range(depth)
        )
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        self.cells = Cells(shape[0], each, per_cell, 2 * f, 2 * f)

    @torch.no_grad()
    def settle(self) -> None:
        super().settle()
        for layer in self.stack:
            nn.init.zeros_(layer.up.weight)  # start without correlations
            layer.input.bias.unflatten(0, (-1, 4, self.f))[:, 1] = 1.0  # and remember

    @property
    def stack(self) -> list[LSTM]:
        """The layers."""
        return list(self.layers)  # type: ignore[arg-type]

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """All pixels at once."""
        seen = self.seen(*context)
        v, h = self.first(x)
        z = (h if v is None else h + v).permute(0, 2, 3, 1)  # (n, H, W, 2f)
        along = self.diagonals if self.diagonal else self.rows
        for layer in self.stack:
            z = z + layer.up(self.dropout(along(layer.inputs(z, seen), layer)))
        out: Tensor = self.cells(z[:, :, : self.shape[2]].permute(0, 3, 1, 2), x)
        return out

    def rows(self, u: Tensor, layer: LSTM) -> Tensor:
        """K_is * z + V y (n, H, W, 4f) → h (n, H, W, f), row after row."""
        return recur(u.transpose(0, 1)[:, None].contiguous(), layer)[:, 0].transpose(0, 1)

    def diagonals(self, u: Tensor, layer: LSTM) -> Tensor:
        """K_is * z + V y (n, H, W, directions · 4f) → h (n, H, W, f), diagonal after diagonal."""
        forth, *back = u.split(4 * self.f, -1)
        h = unskew(recur(skew(torch.stack([forth, *(b.flip(2) for b in back)])), layer), u.shape[2])
        return h[0] if not back else h[0] + F.pad(h[1, :, :-1].flip(2), (0, 0, 0, 0, 1, 0))

    def keep(self, n: int, seen: Seen) -> Kept:
        return (DiagonalWise if self.diagonal else RowWise)(self, n, seen)


def near(x: Tensor, before: int, after: int) -> Tensor:
    """(…, P, f) → (…, P, (before + 1 + after) · f): each place with its neighbours, or 0."""
    if not before and not after:
        return x
    p = F.pad(x, (0, 0, before, after))
    return torch.cat([p[..., k : k + x.shape[-2], :] for k in range(before + 1 + after)], -1)


def step(a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Gates before their functions (…, 4f) and c before → h, c."""
    f = a.shape[-1] // 4
    o, forget, i = torch.sigmoid(a[..., : 3 * f]).split(f, -1)
    c = forget * c + i * torch.tanh(a[..., 3 * f :])
    return o * torch.tanh(c), c


def recur(u: Tensor, layer: LSTM) -> Tensor:
    """(steps, directions, n, P, 4f) → h (steps, directions, n, P, f)."""
    K = layer.K_ss()
    h = c = u.new_zeros((*u.shape[1:4], layer.f), dtype=torch.promote_types(u.dtype, torch.float32))
    states = []
    for t, a in enumerate(u):
        if K is not None and layer.sees is not None and t:
            before = near(h, *layer.sees).flatten(1, 2)
            a = torch.baddbmm(a.flatten(1, 2), before, K).reshape(a.shape)
        h, c = step(a, c)
        states.append(h)
    return torch.stack(states)


def skew(u: Tensor) -> Tensor:
    """(D, n, H, W, f) → (W + H − 1, D, n, H, f): row i moved i places, a diagonal a step.

    Places off the image are shut.
    """
    H, W = u.shape[2:4]
    flat = F.pad(u, (0, 0, 0, H), value=OFF).flatten(2, 3)[:, :, : H * (W + H - 1)]
    return flat.unflatten(2, (H, W + H - 1)).permute(3, 0, 1, 2, 4).contiguous()


def unskew(h: Tensor, W: int) -> Tensor:
    """(W + H − 1, D, n, H, f) → (D, n, H, W, f)."""
    H = h.shape[3]
    flat = F.pad(h.permute(1, 2, 3, 0, 4).flatten(2, 3), (0, 0, 0, H))
    return flat.unflatten(2, (H, W + H))[:, :, :, :W]


# ---------------------------------------------------------------------- what draws keep


class RowWise(Kept):
    """Of each layer h and c of the row above and of the row that is drawn, and z of the latter."""

    def __init__(self, network: Recurrent, n: int, seen: Seen) -> None:
        self.network, self.n, self.seen = network, n, seen
        self.drawn = 0  # rows
        self.layers = [(layer.K_is(), layer.K_ss(), layer.up.weight.T) for layer in network.stack]
        self.h, self.c = (
            network.place.new_zeros(len(self.layers), n, network.shape[2], network.f)
            for _ in range(2)
        )

    def row(self, v: Tensor | None) -> None:
        net, (n, width) = self.network, (self.n, self.network.shape[2])
        self.v, self.above, self.tops = v, self.c, []
        seen = in_row(self.seen, self.drawn)
        self.drawn += 1
        for layer, h, (_, K, _) in zip(net.stack, self.h, self.layers, strict=True):
            top = layer.told(seen).expand(n, width, -1)
            self.tops.append(top if K is None else top + near(h, *layer.sees) @ K[0])  # type: ignore[misc]
        self.h, self.c = torch.empty_like(self.h), torch.empty_like(self.c)
        self.lines = [  # of z, pixel after pixel
            net.place.new_zeros(n, (layer.reads + width) * 2 * net.f) for layer in net.stack
        ]

    def pixel(self, j: int, h: Tensor) -> Tensor:
        z, m = h if self.v is None else h + self.v[:, :, 0, j], 2 * self.network.f
        for k, (layer, (K, _, up)) in enumerate(zip(self.network.stack, self.layers, strict=True)):
            line, r = self.lines[k], layer.reads
            line[:, (r + j) * m : (r + j + 1) * m] = z
            a = torch.addmm(self.tops[k][:, j], line[:, j * m : (j + r + 1) * m], K)
            self.h[k, :, j], self.c[k, :, j] = step(a, self.above[k, :, j])
            z = torch.addmm(z, self.h[k, :, j], up)
        return z

    def pick(self, index: Tensor) -> None:
        self.h, self.c = self.h[:, index], self.c[:, index]


class DiagonalWise(Kept):
    """h of each layer at the row above and at the drawn row, both ways, and z of the latter."""

    def __init__(self, network: Recurrent, n: int, seen: Seen) -> None:
        self.network, self.n, self.seen = network, n, seen
        f, width = network.f, network.shape[2] + network.beyond
        stack = network.stack
        # (directions, L, places · f, 4f)
        K = torch.stack([K for layer in stack if (K := layer.K_ss()) is not None], 1)
        # of the neighbour above, none in one row, and to the left
        self.up, self.left = K[:, :, : K.shape[2] - f], K[:, :, -f:]
        self.K_is = [  # (L, 2f, 4f) each
            torch.stack(k)
            for k in zip(*(layer.K_is().split(4 * f, 1) for layer in stack), strict=True)
        ]
        self.ups = [layer.up.weight.T for layer in stack]
        self.h, self.back = (network.place.new_zeros(len(stack), n, width, f) for _ in range(2))
        self.z = network.place.new_zeros(len(stack), n, width, 2 * f)
        self.drawn = 0  # rows

    def gates(self, d: int, h: Tensor, i: int) -> Tensor:
        """What the neighbours above, conditions and bias add to the gates of direction d in row i.

        h (L, n, W, f) → (L, n, W, 4f).
        """
        row, f = in_row(self.seen, i), self.network.f
        both = torch.stack([layer.told(row) for layer in self.network.stack])
        top = both[..., d * 4 * f : (d + 1) * 4 * f].expand(-1, self.n, h.shape[2], -1)
        return top + h @ self.up[d][:, None] if self.network.tall else top

    def row(self, v: Tensor | None) -> None:
        self.v = v
        if self.drawn:  # from right to left over the row before, all layers at once
            a = self.gates(1, self.back, self.drawn - 1) + self.z @ self.K_is[1][:, None]
            self.back = torch.empty_like(self.back)
            h = c = torch.zeros_like(self.back[:, :, 0])
            for j in reversed(range(self.back.shape[2])):
                h, c = step(torch.baddbmm(a[:, :, j], h, self.left[1]), c)
                self.back[:, :, j] = h
        self.tops = self.gates(0, self.h, self.drawn)
        self.h = torch.empty_like(self.h)
        # h and c to the left
        self.last = [(torch.zeros_like(h[:, 0]), torch.zeros_like(h[:, 0])) for h in self.h]
        self.drawn += 1

    def pixel(self, j: int, h: Tensor) -> Tensor:
        z = h if self.v is None else h + self.v[:, :, 0, j]
        for k, up in enumerate(self.ups):
            self.z[k, :, j] = z
            a = torch.addmm(self.tops[k, :, j], z, self.K_is[0][k])
            left, c = self.last[k]
            self.last[k] = h, c = step(torch.addmm(a, left, self.left[0, k]), c)
            self.h[k, :, j] = h
            z = torch.addmm(z, h + self.back[k, :, j], up)
        return z

    def pick(self, index: Tensor) -> None:
        self.h, self.back, self.z = self.h[:, index], self.back[:, index], self.z[:, index]
