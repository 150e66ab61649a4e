"""What the critic sees of a row, and how the generator's numbers become one.

A row is seen as a tensor of numbers, and the generator puts out a tensor y of the same shape:

    cell                          seen                          drawn from y
    level 0 … L − 1 of an array   2x/(L − 1) − 1                tanh y, rounded to a level
    number of a table             its normal score z            the number whose score is y
    number of an image            (x − mean)/deviation          back, rounded where x is whole
    bit                           −1 or 1                       1 with probability σ(y)
    word, one of K                1 at its place among K        with probabilities softmax(y)
    gap                           1, and 0 for its value        1 with probability σ(y)

Scores are those of ``genus.distributions.marginals``, drawn anew within the mass of a value. Draws
of bits, words and gaps have no gradient of their own: they are given that of the probabilities
(straight-through, Bengio et al., 2013), or are relaxed to softmax((y + g)/τ) with Gumbel noise g
while learning (Jang et al., 2017; Maddison et al., 2017). Drawn rows have no gaps: the generator
draws a value for each cell, and which gaps would hide it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.columns import check_observed
from genus.distributions.draws import choose, flip
from genus.distributions.marginals import FAR, Numbers, between
from genus.space import Space

TEMPERATURE = 0.5  # τ of relaxed draws
SORTS = ("level", "score", "scale", "bit", "word")


class Sight(nn.Module):
    """Rows of a space as tensors (n, *shape), and back.

    gaps: the cells that may be missing. relaxed: are draws of bits and words relaxed?
    """

    top: Tensor
    shift_: Tensor
    scale_: Tensor

    def __init__(self, space: Space, gaps: list[int], relaxed: bool = False) -> None:
        super().__init__()
        self.space, self.gaps, self.relaxed = space, gaps, relaxed
        levels, kinds = space.cardinality, space.kinds
        sorts = [_sort(kind, space) for kind in kinds]
        self.cells = {s: [j for j in range(space.dim) if sorts[j] == s] for s in SORTS}
        self.words = [levels[j] for j in self.cells["word"]]
        # the cell of each number that is seen, but for gaps
        self.places = [j for s in SORTS[:-1] for j in self.cells[s]]
        for j, size in zip(self.cells["word"], self.words, strict=True):
            self.places += [j] * size
        width = len(self.places) + len(gaps)
        self.shape: tuple[int, ...] = (width,)
        if space.image_shape is not None and not self.words:
            _, h, w = space.image_shape
            self.shape = (width // (h * w), h, w)
        top = torch.tensor([float(levels[j] - 1) for j in self.cells["level"]])
        self.register_buffer("top", top, persistent=False)
        if self.cells["score"]:
            self.numbers_ = Numbers(space, self.cells["score"])
        if self.cells["scale"]:
            self.register_buffer("shift_", torch.zeros((), dtype=torch.float64))
            self.register_buffer("scale_", torch.ones((), dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Learn the columns of numbers from codes x (n, d)."""
        check_observed(self.space, (~torch.isnan(x)).any(0))
        if self.cells["score"]:
            self.numbers_.fit(x[:, self.cells["score"]].double())
        if self.cells["scale"]:
            seen = x[~torch.isnan(x)].double()
            self.shift_.copy_(seen.mean())
            std = seen.std(correction=0)
            self.scale_.copy_(torch.where(std > 0, std, 1.0))

    # ------------------------------------------------------------------ real rows

    def read(self, x: Tensor) -> Tensor:
        """Codes (n, d) with the scores of both ends of their numbers beside, (n, d + …)."""
        if not (at := self.cells["score"]):
            return x
        low, high, _ = self.numbers_.look(x[:, at].double())
        return torch.cat([x.double(), low, high], 1)

    def seen(self, x: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Codes x as they are seen, (n, *shape); without rng at the middle of their mass.

        x: (n, d), or what ``read`` makes of it.
        """
        if x.shape[1] == self.space.dim:
            x = self.read(x)
        x, ends = x[:, : self.space.dim], x[:, self.space.dim :]
        parts = []
        if at := self.cells["level"]:
            parts.append(2 * _some(x, at) / self.top.clamp_min(1) - 1)
        if self.cells["score"]:
            low, high = ends.chunk(2, 1)
            u = torch.full_like(low, 0.5)
            if rng is not None:
                u = torch.rand(low.shape, generator=rng, dtype=low.dtype, device=low.device)
            parts.append(between(low, high, u))
        if at := self.cells["scale"]:
            parts.append((x[:, at] - self.shift_) / self.scale_)
        if at := self.cells["bit"]:
            parts.append(2 * _some(x, at) - 1)
        for j, size in zip(self.cells["word"], self.words, strict=True):
            levels = torch.arange(size, device=x.device)
            parts.append((x[:, j : j + 1] == levels).to(x.dtype))
        if self.gaps:
            parts.append(torch.isnan(x[:, self.gaps]))
        dtype = x.dtype if x.dtype == torch.get_default_dtype() else torch.get_default_dtype()
        flat = torch.cat([p.nan_to_num().to(dtype) for p in parts], 1)
        return flat.reshape(-1, *self.shape)

    def known(self, x: Tensor) -> Tensor:
        """1 for each number that is seen of a cell which is there, gaps left out; (n, *shape).

        x: (n, d), or what ``read`` makes of it.
        """
        there = (~torch.isnan(x))[:, self.places]
        return F.pad(there, (0, len(self.gaps))).reshape(-1, *self.shape)

    # ------------------------------------------------------------------ drawn rows

    def drawn(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """What the critic sees of a generator's numbers y, with a gradient; (n, *shape)."""
        levels, numbers, bits, words, gaps = self._parts(y)
        parts = [torch.tanh(levels), numbers, 2 * self._coin(bits, rng) - 1]
        parts += [self._word(logits, rng) for logits in words]
        flat = torch.cat(parts, 1)
        if self.gaps:
            hidden = self._coin(gaps, rng)
            all_cells = hidden.new_zeros(len(y), self.space.dim)
            all_cells = all_cells.index_add(1, torch.tensor(self.gaps, device=y.device), hidden)
            flat = torch.cat([flat * (1 - all_cells[:, self.places]), hidden], 1)
        return flat.reshape(-1, *self.shape)

    def _coin(self, logits: Tensor, rng: torch.Generator) -> Tensor:
        """1 with probability σ(logits), with the gradient of that, or relaxed."""
        if self.relaxed:
            u = torch.rand(logits.shape, generator=rng, device=logits.device)
            return torch.sigmoid((logits + torch.logit(u, 1e-6)) / TEMPERATURE)
        p = torch.sigmoid(logits)
        return flip(p.detach(), rng) + p - p.detach()

    def _word(self, logits: Tensor, rng: torch.Generator) -> Tensor:
        """A 1 at a word drawn by its probability, with the gradient of that, or relaxed."""
        if self.relaxed:
            u = torch.rand(logits.shape, generator=rng, device=logits.device).clamp_min(1e-30)
            return torch.softmax((logits - torch.log(-torch.log(u))) / TEMPERATURE, 1)
        p = torch.softmax(logits, 1)
        word = F.one_hot(choose(p.detach(), rng), logits.shape[1]).to(p.dtype)
        return word + p - p.detach()

    def codes(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """Rows drawn from a generator's numbers y, (n, d)."""
        levels, numbers, bits, words, _ = self._parts(y)
        parts = [((torch.tanh(levels) + 1) / 2 * self.top).round(), self._numbers(numbers)]
        parts.append(flip(torch.sigmoid(bits), rng))
        parts += [choose(torch.softmax(logits, 1), rng)[:, None] for logits in words]
        return self._in_place(parts)

    # ------------------------------------------------------------------ expected rows

    def expected(self, y: Tensor) -> Tensor:
        """What is seen of a generator's numbers y on average, of rows without gaps; (n, *shape)."""
        levels, numbers, bits, words, gaps = self._parts(y)
        parts = [torch.tanh(levels), numbers, torch.tanh(bits / 2)]
        parts += [torch.softmax(logits, 1) for logits in words]
        return torch.cat([*parts, torch.zeros_like(gaps)], 1).reshape(-1, *self.shape)

    def means(self, y: Tensor) -> Tensor:
        """Codes at the expected levels and bits, and at the likeliest words; (n, d)."""
        levels, numbers, bits, words, _ = self._parts(y)
        parts = [(torch.tanh(levels) + 1) / 2 * self.top, self._numbers(numbers)]
        parts.append(torch.sigmoid(bits))
        parts += [logits.argmax(1)[:, None] for logits in words]
        return self._in_place(parts)

    def _parts(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...], Tensor]:
        """A generator's numbers of levels, of numbers, of bits, of each word, and of gaps."""
        flat = y.flatten(1)
        flat = flat if flat.dtype == torch.float64 else flat.float()
        n = {s: len(at) for s, at in self.cells.items()}
        sizes = [n["level"], n["score"] + n["scale"], n["bit"], sum(self.words), len(self.gaps)]
        levels, numbers, bits, words, gaps = flat.split(sizes, 1)
        return levels, numbers, bits, words.split(self.words, 1) if self.words else (), gaps

    def _numbers(self, v: Tensor) -> Tensor:
        """The codes of numbers as they are seen."""
        if self.cells["score"]:
            return self.numbers_.invert(v.double().clamp(-FAR, FAR))
        if not self.cells["scale"]:
            return v
        x = v * self.scale_ + self.shift_
        return x.round() if self.space.kind == "integer" else x

    def _in_place(self, parts: list[Tensor]) -> Tensor:
        """Codes by sort as rows, (n, *cell_shape)."""
        order = [j for s in SORTS for j in self.cells[s]]
        together = torch.cat([p.double() for p in parts], 1)
        codes = torch.empty_like(together)
        codes[:, order] = together
        return codes.reshape(-1, *self.space.cell_shape)


def _sort(kind: str, space: Space) -> str:
    """How a cell of a kind is seen."""
    if kind in ("binary", "categorical"):
        return "bit" if kind == "binary" else "word"
    if kind == "ordinal" and not space.columns:
        return "level"
    return "scale" if space.image_shape is not None else "score"


def _some(x: Tensor, at: list[int]) -> Tensor:
    """Columns of x (n, d); all of them are x, with no list of columns to carry to a device."""
    return x if len(at) == x.shape[1] else x[:, at]
