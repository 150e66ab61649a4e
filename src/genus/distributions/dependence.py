"""How much columns tell of one another, and orders and trees made of it.

    I(i, j) = Σ (N_ab / n) log(n N_ab / (N_a N_b))

Chow–Liu's tree is the one of largest Σ I (Chow & Liu, 1968).

Rows carry indicators of the levels 1, 2, …; level 0 is what they leave of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Indicators:
    """Rows of codes, x (n, d) long, as indicators of their levels; cards: levels of each column.

    one: (n, Σ (cards − 1)), owner: whose level each indicator is. Whole
    numbers, exact in their type.
    """

    def __init__(self, x: Tensor, cards: Sequence[int]) -> None:
        self.n, self.d = x.shape
        self.cards = torch.tensor(cards, dtype=torch.float64)
        self.sizes = list(cards)
        real = torch.float32 if self.n < 2**24 else torch.float64
        self.x = x
        self.owner = torch.repeat_interleave(torch.arange(self.d), torch.tensor(cards) - 1)
        if len(x) * len(self.owner) > 2**28:
            raise ValueError(
                f"X has {len(x)} different rows and {len(self.owner)} levels in all, "
                "too many to learn a structure from: "
                "pass max_levels=8, or a list of edges as structure="
            )
        if len(self.owner) == self.d == sum(r == 2 for r in cards):
            self.one = x.to(real)
        else:
            level = torch.cat([torch.arange(1, r) for r in cards])
            self.one = (x[:, self.owner] == level).to(real)
        self.whose = torch.zeros(len(self.owner), self.d, dtype=real)
        self.whose[torch.arange(len(self.owner)), self.owner] = 1.0

    def mutual_information(self) -> Tensor:
        """I(i, j) of every two columns in nats, (d, d), from one product of the indicators."""
        above = (self.one.T @ self.one).double()  # N(i = a, j = b) for a, b ≥ 1
        E = self.whose.double()
        one = above.diagonal()[:, None]
        rows = above @ E  # N(i = a, j ≥ 1)
        some = E.T @ one  # N(i ≥ 1)
        left = E.T @ phi(one - rows)  # N(i = a, j = 0)
        above = phi(above)
        above = above if len(self.owner) == self.d else E.T @ above @ E
        joint = above + left + left.T + phi(self.n - some - some.T + E.T @ rows)
        own = E.T @ phi(one) + phi(self.n - some)
        information = (joint - own - own.T + self.n * math.log(self.n)) / self.n
        return information.clamp_min(0)


def phi(N: Tensor) -> Tensor:
    """N log N."""
    N = N.double()
    return torch.special.xlogy(N, N)


def spanning_tree(weight: np.ndarray, root: int = 0, least: float = 1e-12) -> list[tuple[int, int]]:
    """The edges (parent, child) of the spanning tree of largest weight, away from the root.

    Prim (1957).

    weight: (d, d) symmetric. An edge of at most ``least`` is left out, so that what depends on
    nothing stands alone.
    """
    d = len(weight)
    best, by = weight[root].astype(np.float64).copy(), np.full(d, root)
    inside = np.zeros(d, dtype=bool)
    inside[root] = True
    edges = []
    for _ in range(d - 1):
        j = int(np.where(inside, -np.inf, best).argmax())
        if best[j] > least:
            edges.append((int(by[j]), j))
        inside[j] = True
        closer = weight[j] > best
        best, by = np.where(closer, weight[j], best), np.where(closer, j, by)
    return edges


def spanning_order(weight: np.ndarray) -> list[int]:
    """The columns as a largest spanning tree grows: first the one that tells most of all others.

    Each next one is that of which one of those before tells most. weight:
    (d, d) symmetric, at least 0.
    """
    weight = weight.copy()
    np.fill_diagonal(weight, 0.0)
    root = int(weight.sum(1).argmax())
    return [root, *(child for _, child in spanning_tree(weight, root, -1.0))]
