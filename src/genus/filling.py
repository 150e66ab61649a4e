r"""One answer where a model gives many: the mean, the mode or quantiles of completions.

A row is completed n times, x⁽¹⁾ … x⁽ⁿ⁾ ~ p(missing | observed), and each cell is summed up alone:

    mean       (1/n) Σ x⁽ⁱ⁾ of a number; the most frequent value of a word or a bit
    mode       the most frequent value of a word, a bit, or a number of few levels;
               the median of any other number, whose draws are all different
    quantile   the q (n + 1)-th of the sorted draws of a number, between two of them in proportion,
               so that one more draw lies below it with chance q; of a word or a bit the mode
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genus.settings import Each, Number, OneOf, Rule
from genus.space import Space

FEW = 20  # levels of a number, at most, whose most frequent value is its mode
DRAWS = {"draw": 1, "mean": 32, "mode": 32, "quantile": 100}  # behind an answer, by default
HOW: Rule = OneOf(*DRAWS)
QUANTILE = Number(above=0, below=1)
Q: Rule = QUANTILE | Each(QUANTILE, says="a list of them")


def check(how: Any, q: Any) -> None:
    """Refuse an unknown ``how``, and a ``q`` that is missing, useless or out of its range."""
    HOW.check("how", how)
    if how == "quantile":
        Q.check("q", q)
    elif q is not None:
        raise ValueError(f"q={q!r} is for how='quantile', and how is {how!r}: leave q out")


def summary(draws: Tensor, how: str, q: Any, space: Space) -> Tensor:
    """One answer (rows, *cell_shape) for draws (n, rows, *cell_shape).

    With several quantiles there is one answer each, on a leading axis.
    """
    flat = draws.flatten(2)
    if how == "mean":
        answer = flat.mean(0)
    elif how == "mode":
        answer = flat.median(0).values
    else:
        answer = quantiles(flat, q)
    by_votes = torch.tensor(_voted(space, FEW if how == "mode" else 0), device=draws.device)
    if by_votes.any():
        answer[..., by_votes] = flat[:, :, by_votes].mode(0).values
    return answer.reshape(*answer.shape[:-1], *draws.shape[2:])


def quantiles(draws: Tensor, q: Any) -> Tensor:
    """The quantile q of draws (n, …), or several on a leading axis."""
    ordered = draws.sort(0).values
    many = torch.as_tensor(q, dtype=torch.float64, device=draws.device)
    place = (many * (len(draws) + 1) - 1).clamp(0, len(draws) - 1)
    below, above = place.floor().long(), place.ceil().long()
    share = (place - below).to(draws.dtype)
    share = share.reshape(*many.shape, *[1] * (draws.dim() - 1))
    return torch.lerp(ordered[below], ordered[above], share)


def _voted(space: Space, few: int) -> list[bool]:
    """Where the most frequent value is the answer: labels, and numbers of few levels."""
    cells = zip(space.kinds, space.cardinality, strict=True)
    return [kind in ("binary", "categorical") or 0 < levels <= few for kind, levels in cells]


def decoded(x: Tensor, how: str, space: Space) -> Any:
    """Answers in codes as the caller's rows.

    Means of grey images lie between levels. Other whole numbers are rounded and keep their type.
    """
    if space.parts:
        blocks = x.split([part.dim for _, part in space.parts], -1)
        return {
            name: decoded(block.reshape(*block.shape[:-1], *part.cell_shape), how, part)
            for (name, part), block in zip(space.parts, blocks, strict=True)
        }
    grey = space.kind == "ordinal" and space.image_shape is not None
    return space.means(x) if how == "mean" and grey else space.decode(x)
