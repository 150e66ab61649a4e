"""Conditions y of a model p(x | y), as the numbers that its network sees."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.distributions.bijections import Standardise
from genus.space import Space

LABELS = 64  # ordered levels up to which each has a weight of its own


class Picture(NamedTuple):
    """A condition that is an image: its cells, their shape (C, H, W), and its categories or 0.

    It is seen ``enlarged`` times as large as it is, or ``folded`` times as small, squares of pixels
    becoming channels.
    """

    cells: slice
    shape: tuple[int, int, int]
    categories: int
    enlarged: int
    folded: int

    @property
    def n_channels(self) -> int:
        """How many channels it is seen in."""
        return self.shape[0] * max(self.categories, 1) * self.folded**2


class Conditions(Standardise):
    """Codes of conditions as a context, one vector a row, and as channels of an image.

    The context has a 1 at the category or level, and standard units of real numbers and of many
    ordered levels. Networks of convolutions see an image of the height and width of the rows as
    channels instead, each pixel beside their own: a 1 in the channel of its category, and standard
    units of what is no category. An image k times as small counts as well, each pixel beside the
    k × k that it covers, and one k times as large, its k × k pixels as so many channels.

    ``fit`` takes means and scales from rows. Codes are centred and scaled in float64 before they
    are cast to the precision of a network, so that a large offset costs nothing.

    space: of the conditions. image: (C, H, W) of the rows, where convolutions take them; None: all
    conditions are context. ``width``: numbers of the context. ``n_channels``: channels of the
    image; 0: there is none.
    """

    def __init__(self, space: Space, image: tuple[int, int, int] | None = None) -> None:
        super().__init__(space.dim)
        self.columns: list[tuple[slice, int]] = []  # of the context: cells, levels of each or 0
        self.images: list[Picture] = []
        begin = 0
        for part in [p for _, p in space.parts] or [space]:
            shape = part.image_shape if part.planes else None
            times = _times(shape, image) if image and shape else None
            if shape and times:
                categories = int(part.levels or 0) if part.kind == "categorical" else 0
                cells = slice(begin, begin + part.dim)
                self.images.append(Picture(cells, shape, categories, *times))
            else:
                self.columns += _runs(part, begin)
            begin += part.dim
        self.width = sum((cells.stop - cells.start) * max(c, 1) for cells, c in self.columns)
        self.n_channels = sum(picture.n_channels for picture in self.images)

    def fit(self, x: Tensor) -> Conditions:
        """Take means and scales from codes (n, …): of each column, and of each channel."""
        g = x.flatten(1)
        super().fit(g)
        for cells, (c, h, w), *_ in self.images:
            pixels = g[:, cells].reshape(-1, c, h * w).transpose(1, 2).flatten(0, 1)
            scale = Standardise(c).to(g.device).fit(pixels)
            self.mean_[cells] = scale.mean_.repeat_interleave(h * w)
            self.std_[cells] = scale.std_.repeat_interleave(h * w)
        return self

    def seen(self, given: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """What a network sees of codes (n, …): the context, the channels, or both."""
        parts = []
        if self.width:
            parts.append(self.context(given, dtype))
        if self.n_channels:
            parts.append(self.channels(given, dtype))
        return tuple(parts)

    def context(self, given: Tensor, dtype: torch.dtype) -> Tensor:
        """Codes (n, …) → (n, width)."""
        g = given.flatten(1)
        parts = []
        for cells, levels in self.columns:
            if levels:
                parts.append(F.one_hot(g[:, cells].long(), levels).flatten(1))
            else:
                parts.append(self._standard(g, cells))
        return torch.cat([p.to(dtype) for p in parts], 1)

    def channels(self, given: Tensor, dtype: torch.dtype) -> Tensor:
        """Codes (n, …) → (n, n_channels, H, W)."""
        g = given.flatten(1)
        parts = []
        for cells, shape, categories, enlarged, folded in self.images:
            if categories:
                ones = F.one_hot(g[:, cells].long(), categories).unflatten(1, shape)
                seen = ones.movedim(-1, 2).flatten(1, 2)
            else:
                seen = self._standard(g, cells).reshape(-1, *shape)
            if enlarged > 1:
                seen = seen.repeat_interleave(enlarged, 2).repeat_interleave(enlarged, 3)
            parts.append(F.pixel_unshuffle(seen, folded) if folded > 1 else seen)
        return torch.cat([p.to(dtype) for p in parts], 1)

    def _standard(self, g: Tensor, cells: slice) -> Tensor:
        return (g[:, cells].double() - self.mean_[cells]) / self.std_[cells]


def _times(shape: tuple[int, ...], image: tuple[int, ...]) -> tuple[int, int] | None:
    """How many times an image is to be enlarged, and folded, to be of the size of the rows.

    None where it is neither k times as small nor k times as large.
    """
    (h, w), (H, W) = shape[1:], image[1:]
    if H % h == 0 and H // h * w == W:
        return H // h, 1
    return (1, h // H) if h % H == 0 and h // H * W == w else None


def _runs(space: Space, begin: int) -> list[tuple[slice, int]]:
    """Neighbouring cells that have the same number of levels, 0 where they are numbers."""
    levels = [
        c if kind == "categorical" or c <= LABELS else 0
        for kind, c in zip(space.kinds, space.cardinality, strict=True)
    ]
    runs = []
    for c, run in itertools.groupby(levels):
        end = begin + len(list(run))
        runs.append((slice(begin, end), c))
        begin = end
    return runs
