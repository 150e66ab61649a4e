"""Learning the graph of a Bayesian network from counts.

With N(x_j, pa) the rows that hold x_j and its parents' values, n rows in all, r_j levels and q_j =
Π r over the parents:

    I(i, j) = Σ (N_ab / n) log(n N_ab / (N_a N_b))
    BIC     = Σ_j [Σ N log(N / N_pa) − ½ log n · q_j (r_j − 1)]
    BDeu    = Σ_j [Σ log Γ(N + a/r_j)/Γ(a/r_j) − Σ log Γ(N_pa + a)/Γ(a)],    a = α / q_j

Chow–Liu is the tree of largest Σ I (Chow & Liu, 1968). The scores are those of Schwarz (1978) and
Heckerman et al. (1995). Both are sums over nodes, so that a change of an edge changes one term, and
a term is read off a table of counts. Rows carry indicators of the levels 1, 2, …; level 0 is what
they leave of the whole.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from genus.distributions.dependence import Indicators, phi
from genus.distributions.points import row_hash

SCORES = ("bic", "bdeu")
TABU = 10  # edges changed of late that are remembered, at most


class Counts(Indicators):
    """Rows of codes, ready to be counted: x (n, d) long, repeated rows merged into weights.

    cards: levels of each column.
    """

    def __init__(self, x: Tensor, cards: Sequence[int]) -> None:
        super().__init__(self._merged(x), cards)
        self.n = len(x)

    def _merged(self, x: Tensor) -> Tensor:
        """The distinct rows; how often each occurs goes to ``weight``."""
        real = torch.float32 if len(x) < 2**24 else torch.float64  # whole numbers, exact
        self.weight = torch.ones(len(x), dtype=real)
        _, index, times = torch.unique(row_hash(x), return_inverse=True, return_counts=True)
        first = torch.empty(len(times), dtype=torch.long).scatter_(0, index, torch.arange(len(x)))
        if not bool((x[first][index] == x).all()):
            return x  # two rows of one hash: leave them apart
        self.weight = times.to(self.weight.dtype)
        return x[first]

    @cached_property
    def columns(self) -> Tensor:
        """The codes, column by column."""
        return self.x.T.long().contiguous()

    @cached_property
    def level(self) -> Tensor:
        """The indicators, weighted."""
        return self.one * self.weight[:, None]

    def _cells(self, j: int, parents: Sequence[int]) -> tuple[Tensor, int, Tensor, int]:
        """Each row's cell (pa, x_j), how many there are, each cell's pa, and how many of those."""
        code, size = torch.zeros(len(self.weight), dtype=torch.long), 1
        for p in parents:
            code, size = code * self.sizes[p] + self.columns[p], size * self.sizes[p]
            if size > 4096:  # only what occurs
                found, code = torch.unique(code, return_inverse=True)
                size = len(found)
        r = self.sizes[j]
        cell = code * r + self.columns[j]
        if size * r <= 4096:
            return cell, size * r, torch.arange(size).repeat_interleave(r), size
        found, cell = torch.unique(cell, return_inverse=True)
        return cell, len(found), found // r, size

    def family(self, j: int, parents: Sequence[int], score: str, alpha: float) -> float:
        """The term of node j with these parents."""
        cell, cells, group, groups = self._cells(j, parents)
        N = torch.zeros(cells, dtype=self.weight.dtype).index_add_(0, cell, self.weight)
        M = torch.zeros(groups, dtype=self.weight.dtype).index_add_(0, group, N)
        q = math.prod(self.sizes[p] for p in parents)
        if score == "bic":
            return float(phi(N).sum() - phi(M).sum()) - 0.5 * math.log(self.n) * q * (
                self.sizes[j] - 1
            )
        a = torch.tensor(alpha / q, dtype=torch.float64)
        return float(_rising(N, a / self.sizes[j]).sum() - _rising(M, a).sum())

    def extended(self, j: int, parents: Sequence[int], score: str, alpha: float) -> Tensor:
        """The terms of node j with these parents and each column in turn as one more, (d,)."""
        cell, cells, group, groups = self._cells(j, parents)
        N = torch.zeros(cells, dtype=self.weight.dtype).index_add_(0, cell, self.weight)
        M = torch.zeros(groups, dtype=self.weight.dtype).index_add_(0, group, N)
        q = math.prod(self.sizes[p] for p in parents) * self.cards
        cost = 0.5 * math.log(self.n) * q * (self.sizes[j] - 1)
        if score == "bic" and bool((-cost < phi(N).sum() - phi(M).sum() - cost / self.cards).all()):
            return -cost  # no likelihood, 0 at best, could pay for a parent more
        above = torch.zeros(cells, len(self.owner), dtype=self.weight.dtype).index_add_(
            0, cell, self.level
        )
        above_pa = torch.zeros(groups, len(self.owner), dtype=self.weight.dtype).index_add_(
            0, group, above
        )
        small = len(self.owner) == self.d
        zero = N[:, None] - (above if small else above @ self.whose)
        zero_pa = M[:, None] - (above_pa if small else above_pa @ self.whose)
        if score == "bic":
            each = phi(above).sum(0) - phi(above_pa).sum(0)
            total = phi(zero).sum(0) - phi(zero_pa).sum(0) - cost
        else:
            a = alpha / q
            b = a / self.sizes[j]
            each = _rising(above, b[self.owner]).sum(0) - _rising(above_pa, a[self.owner]).sum(0)
            total = _rising(zero, b).sum(0) - _rising(zero_pa, a).sum(0)
        return total.index_add_(0, self.owner, each)


def _rising(N: Tensor, a: Tensor) -> Tensor:
    """log Γ(N + a) / Γ(a)."""
    return torch.lgamma(N.double() + a) - torch.lgamma(a)


def hill_climb(
    counts: Counts,
    score: str = "bic",
    alpha: float = 10.0,
    max_parents: int = 4,
    patience: int = 10,
    go_on: Callable[[], bool] = lambda: True,
) -> list[tuple[int, int]]:
    """The edges found by adding, deleting or reversing one edge at a time, the best change first.

    At a peak the least bad changes are tried, edges changed of late excepted (a tabu list; Glover,
    1989), until ``patience`` of them have found nothing better. go_on: asked before every change.
    """
    d = counts.d
    A = np.zeros((d, d), dtype=bool)  # A[p, c]: p → c
    reach = np.eye(d, dtype=bool)  # reach[a, b]: a path from a to b
    own = np.zeros(d)
    add, drop = np.full((d, d), -np.inf), np.full((d, d), -np.inf)

    def refresh(c: int) -> None:
        parents = np.flatnonzero(A[:, c]).tolist()
        own[c] = counts.family(c, parents, score, alpha)
        add[:, c] = drop[:, c] = -np.inf
        if len(parents) < max_parents:
            add[:, c] = counts.extended(c, parents, score, alpha).numpy() - own[c]
        for p in parents:
            drop[p, c] = counts.family(c, [k for k in parents if k != p], score, alpha) - own[c]

    for c in range(d):
        refresh(c)
    total = best_total = float(own.sum())
    best, stale = A.copy(), 0
    recent: deque[tuple[int, int]] = deque(maxlen=min(TABU, d // 2))
    while go_on():
        # how many children of p are, or lead to, c
        paths = A.astype(np.float32) @ reach.astype(np.float32)
        gains = np.stack(
            [
                np.where(A | reach.T, -np.inf, add),
                drop,
                np.where(A & (paths == 1), drop + add.T, -np.inf),
            ]
        )
        if stale:
            for p, c in recent:  # unless it leads to the best graph yet
                old = gains[:, [p, c], [c, p]]
                gains[:, [p, c], [c, p]] = np.where(
                    total + old > best_total + 1e-9 * counts.n, old, -np.inf
                )
        move, p, c = (int(v) for v in np.unravel_index(gains.argmax(), gains.shape))
        gain = float(gains[move, p, c])
        if gain <= 1e-9 * counts.n:
            stale += 1
            if stale > patience or gain == -np.inf:
                break
        A[p, c] = move == 0
        if move == 0:
            reach |= np.outer(reach[:, p], reach[c])
        else:
            # descendants before ancestors, also without the edge
            order = reach.sum(1).argsort(kind="stable")
            for v in order:
                reach[v] = reach[A[v]].any(0)
                reach[v, v] = True
            if move == 2:
                A[c, p] = True
                reach |= np.outer(reach[:, c], reach[p])
                refresh(p)
        refresh(c)
        recent.append((p, c))
        total = float(own.sum())
        if total > best_total + 1e-9 * counts.n:
            best, best_total, stale = A.copy(), total, 0
    return [(int(p), int(c)) for p, c in np.argwhere(best)]
