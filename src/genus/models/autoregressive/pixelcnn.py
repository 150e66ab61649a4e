r"""The gated PixelCNN (van den Oord et al., 2016a, 2016b).

    log p(x) = Σ_i Σ_j Σ_c log p(x_cij | pixels before (i, j) in raster order, x_<c,ij)

Two stacks of convolutions see what comes before: v the rows above, h the pixels to the left in the
row itself. With gate(a, b) = tanh(a) ⊙ σ(b), weights W, and conditions g, or s that are images,

    a_v = W_v * v + V g + V' s,          v ← v + gate(a_v)
    a_h = W_h * h + W a_v + V g + V' s,  h ← h + W' gate(a_h)

W_v reaches over the row of v and those above, to both sides; W_h over the
pixel of h and those to its left.

v starts from the rows strictly above and h from the pixels strictly to the left, so nothing sees
itself and, as v grows to both sides, nothing before it is missed (no blind spot). A head gives the
parameters of each channel from h and the channels before it: t_c = relu(A_c relu(h) + B_c x_<c),
p(x_c | …) = observation(O_c t_c).

Draws are made pixel by pixel from kept activations: a new row costs one row of v, a new pixel one
column of h.
"""

from __future__ import annotations

from typing import Any

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
    matrix,
    told,
)
from genus.networks.layers import Conv2d, Dropout, Linear


class PixelCNN(PixelModel):
    r"""An image drawn pixel by pixel, given the pixels before by gated convolutions.

    For images of discrete cells, (H, W), (C, H, W) or (H, W, C); a row (d,) of discrete
    cells of one kind is taken as an image of 1 × d. Continuous cells and tables of
    several kinds are refused.

    ``log_prob`` is ``Exact``: a probability, in nats. ``complete`` is exact where all missing cells
    come after all observed ones in raster order (channels inside the pixel), such as the lower half
    given the upper. Any other mask is filled by a particle filter: missing cells are drawn in
    order, weighted by the observed cells that follow, and drawn anew at the end of a row where few
    carry the weight. That is p(missing | observed) as particles → ∞, and an approximation before.

    Parameters
    ----------
    channels : int, default=32
        Features of each stack.
    n_layers : int, default=7
        Gated layers.
    kernel : int, default=3
        Their width, an odd number.
    likelihood : {"auto", "bernoulli", "categorical", "logistic"}, default="auto"
        Of binary cells; a probability a level; a mixture of discretised logistics, for ordered
        levels. ``auto``: by the kind of the cells, ``logistic`` for more than 64 ordered levels.
    n_components : int, default=5
        Logistics in the mixture.
    dropout : float, default=0.0
        Share of gated features dropped while training.
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
    >>> model = genus.PixelCNN(4, 1, trainer=genus.Trainer(epochs=1), random_state=0).fit(X)
    >>> half = np.where(np.arange(16).reshape(4, 4) < 8, X[:3], np.nan)
    >>> model.complete(half, random_state=0).shape
    (3, 4, 4)
    """

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

    def _network(
        self, shape: tuple[int, int, int], each: int, per_cell: int, context: int, channels: int
    ) -> Causal:
        width, depth, kernel = self.channels, self.n_layers, self.kernel
        return Stacks(shape, each, per_cell, width, depth, kernel, context, channels, self.dropout)


# ---------------------------------------------------------------------- the network


class Gated(nn.Module):
    """One layer of both stacks: of h alone where images have one row, with nothing above."""

    def __init__(self, width: int, r: int, context: int, channels: int, tall: bool) -> None:
        super().__init__()
        self.above = Conv2d(width, 2 * width, (r + 1, 2 * r + 1)) if tall else None
        self.down = Conv2d(2 * width, 2 * width, 1, bias=False) if tall else None
        self.left = Conv2d(width, 2 * width, (1, r + 1))
        self.mix = Conv2d(width, width, 1, bias=False)
        self.given = Linear(context, 2 * width, bias=False) if context else None
        self.beside = Linear(width, 2 * width, bias=False) if channels else None

    def told(self, a: Tensor, seen: Seen) -> Tensor:
        """a + V g + V' s."""
        return a + told(self, seen).movedim(-1, 1) if seen else a


def gate(a: Tensor) -> Tensor:
    """tanh of the first half of the channels times σ of the second."""
    t, s = a.chunk(2, 1)
    return torch.tanh(t) * torch.sigmoid(s)


class Stacks(Causal):
    """The two stacks v and h."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        each: int,
        per_cell: int,
        width: int,
        depth: int,
        kernel: int,
        context: int,
        channels: int,
        dropout: float,
    ) -> None:
        super().__init__(shape, each, width, channels)
        self.width, self.r = width, kernel // 2
        self.layers = nn.ModuleList(
            Gated(width, self.r, context, channels, shape[1] > 1) for _ in range(depth)
        )
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        self.cells = Cells(shape[0], each, per_cell, width, 2 * width)

    def settle(self) -> None:
        super().settle()
        for layer in self.stack:  # start without correlations
            nn.init.zeros_(layer.mix.weight)

    @property
    def stack(self) -> list[Gated]:
        """The gated layers."""
        return list(self.layers)  # type: ignore[arg-type]

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """All pixels at once."""
        r, seen = self.r, self.seen(*context)
        v, h = self.first(x)
        for layer in self.stack:
            a = layer.told(layer.left(F.pad(h, (r, 0))), seen)
            if v is not None:
                a_v = layer.told(layer.above(F.pad(v, (r, r, r, 0))), seen)  # type: ignore[misc]
                a = a + layer.down(a_v)  # type: ignore[misc]
                v = v + gate(a_v)
            h = h + layer.mix(self.dropout(gate(a)))
        out: Tensor = self.cells(h, x)
        return out

    def keep(self, n: int, seen: Seen) -> Kept:
        return Lines(self, n, seen)


class Lines(Kept):
    """Of v the last r + 1 rows, of h the row that is drawn, in each layer."""

    def __init__(self, network: Stacks, n: int, seen: Seen) -> None:
        self.network, self.n, self.seen = network, n, seen
        self.drawn = 0  # rows
        f, r, width = network.width, network.r, network.shape[2]
        self.rows = [network.place.new_zeros(n, f, r + 1, width + 2 * r) for _ in network.stack]
        self.lefts = [matrix(layer.left) for layer in network.stack]
        self.mixes = [matrix(layer.mix) for layer in network.stack]

    def row(self, v: Tensor | None) -> None:
        n, f, r, width = self.n, self.network.width, self.network.r, self.network.shape[2]
        seen = in_row(self.seen, self.drawn)
        self.drawn += 1
        tops = [
            layer.told(layer.left.bias[None, :, None, None], seen)  # type: ignore[index]
            for layer in self.network.stack
        ]
        if v is not None:
            for k, layer in enumerate(self.network.stack):
                self.rows[k] = torch.cat([self.rows[k][:, :, 1:], F.pad(v, (r, r))], 2)
                a_v = layer.told(layer.above(self.rows[k]), seen)  # type: ignore[misc]
                tops[k] = tops[k] + layer.down(a_v)  # type: ignore[misc]
                v = v + gate(a_v)
        self.tops = [  # (W, n, 2f)
            t.expand(n, 2 * f, 1, width)[:, :, 0].permute(2, 0, 1).contiguous() for t in tops
        ]
        # of h, pixel after pixel
        self.lines = [self.network.place.new_zeros(n, (r + width) * f) for _ in tops]

    def pixel(self, j: int, h: Tensor) -> Tensor:
        f, r = self.network.width, self.network.r
        for top, past, left, mix in zip(self.tops, self.lines, self.lefts, self.mixes, strict=True):
            past[:, (r + j) * f : (r + j + 1) * f] = h
            h = torch.addmm(
                h, gate(torch.addmm(top[j], past[:, j * f : (j + r + 1) * f], left)), mix
            )
        return h

    def pick(self, index: Tensor) -> None:
        self.rows = [v[index] for v in self.rows]
