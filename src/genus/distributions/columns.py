"""The columns of a table, by sort: which go together, and what each does on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genus.space import Space

Group = tuple[str, int, list[int]]  # a sort, the levels of each column, and the columns


def groups(space: Space, sort: Callable[[int, str, int], tuple[str, int]]) -> list[Group]:
    """The columns that go together, in the order in which their sorts come first.

    sort(j, kind, levels): what column j, of a kind and so many levels (0: continuous), is taken
    for, and the number of levels that all columns of its group have.
    """
    found: dict[tuple[str, int], list[int]] = {}
    for j, (kind, levels) in enumerate(zip(space.kinds, space.cardinality, strict=True)):
        found.setdefault(sort(j, kind, levels), []).append(j)
    return [(name, levels, columns) for (name, levels), columns in found.items()]


def check_observed(space: Space, seen: Tensor) -> None:
    """Raises ValueError that names a column without any value. seen: (d,), 0 for such columns."""
    if not bool(seen.all()):
        name = space.names()[int((seen == 0).nonzero()[0])]
        raise ValueError(f"{name} has no observed value, only NaN: drop it")


def share_of_ones(x: Tensor) -> Tensor:
    """That of each column of bits x (n, d), half a row of either bit added; NaN is left out."""
    seen = (~torch.isnan(x)).sum(0)
    return (x.nan_to_num().sum(0) + 0.5) / (seen + 1)


def log_shares(x: Tensor, levels: int) -> Tensor:
    """Log of each level's share of columns x (n, d), half a row of each added; (d, levels)."""
    counts = torch.stack([(x == v).sum(0) for v in range(levels)], 1) + 0.5
    return torch.log(counts / counts.sum(1, keepdim=True))
