"""A Bayesian network as tables: rows scored, drawn, completed, counted, whatever is missing.

Missing cells are dealt with set by set: two of a row belong together when a table holds both, and
sets that no table joins are independent given what is observed. So one small elimination serves all
rows in which the same set is missing, and nothing larger is ever summed. A missing cell with no
observed descendant (barren) sums to one and is left out. Where rows lack cells in many ways and the
whole network is a small matter, all cells enter at once, the missing ones as what they may be.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from genus.distributions.points import row_hash
from genus.learn.rows import generator
from genus.models.graphs import elimination

LARGEST = 1 << 27  # table entries in all: 1 GB
SMALL = 1 << 14  # table entries a row that are computed at once rather than set by set

Gap = tuple[Tensor, tuple[int, ...], list[int], dict[int, Tensor]]


@dataclass(frozen=True)
class Net:
    """A graph and its tables.

    Entry (pa, v) of node j is at offset_j + Σ_k pa_k stride_jk + v of one long vector.
    """

    cards: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]  # parents before children
    children: tuple[tuple[int, ...], ...]
    slots: Tensor  # (d, most parents), padded with strides of 0
    strides: Tensor
    offsets: Tensor
    group: Tensor  # of every entry: which (j, pa) it belongs to
    log_theta: Tensor = field(default_factory=lambda: torch.zeros(0))  # log θ of every entry

    @classmethod
    def of(cls, adjacency: Tensor, cards: tuple[int, ...]) -> Net:
        """The graph of a matrix (d, d), True at [i, j] where i → j.

        It lies on the matrix's device. Raises ValueError where its tables are too large.
        """
        d = len(cards)
        a = adjacency.cpu().numpy()
        parents = tuple(tuple(np.flatnonzero(a[:, j]).tolist()) for j in range(d))
        width = max((len(p) for p in parents), default=0)
        slots, strides = np.zeros((d, width), dtype=np.int64), np.zeros((d, width), dtype=np.int64)
        sizes = []
        for j, pa in enumerate(parents):
            size = cards[j]
            for k in reversed(range(len(pa))):
                slots[j, k], strides[j, k] = pa[k], min(size, 2**62)
                size *= cards[pa[k]]
            sizes.append(size)
        if sum(sizes) > LARGEST:
            raise ValueError(
                f"the tables of this structure have {sum(sizes):,} entries, more than "
                f"{LARGEST:,}: pass max_levels=8, "
                "a smaller max_parents=, or a structure= with fewer edges"
            )
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        groups = np.repeat(cards, [s // r for s, r in zip(sizes, cards, strict=True)])
        group = torch.repeat_interleave(torch.arange(len(groups)), torch.from_numpy(groups))
        children = tuple(tuple(np.flatnonzero(a[j]).tolist()) for j in range(d))
        order = tuple(ordered(parents) or ())
        return cls(
            cards,
            parents,
            order,
            children,
            torch.from_numpy(slots).to(adjacency.device),
            torch.from_numpy(strides).to(adjacency.device),
            torch.from_numpy(starts).to(adjacency.device),
            group.to(adjacency.device),
        )

    def cells(self, codes: Tensor) -> Tensor:
        """The entry of every node's table that a row (n, d) falls in, (d, n)."""
        codes = codes.T.contiguous().long()
        out = codes + self.offsets[:, None]
        for k in range(self.slots.shape[1]):
            out += codes.index_select(0, self.slots[:, k]).mul_(self.strides[:, k, None])
        return out

    def scope(self, j: int) -> tuple[int, ...]:
        """The variables of node j's table, j last."""
        return (*self.parents[j], j)

    def learned(self, counts: Tensor, alpha: float) -> Net:
        """With the tables θ = (N + α) / (N_pa + α r); even where nothing was counted and α = 0."""
        n = counts + alpha
        total = self.sums(n)[self.group]
        even = 1.0 / torch.bincount(self.group)[self.group]
        return dataclasses.replace(self, log_theta=torch.where(total > 0, n / total, even).log())

    def sums(self, n: Tensor) -> Tensor:
        """Σ_v of n(pa, v), for every (j, pa)."""
        return n.new_zeros(int(self.group[-1]) + 1).index_add_(0, self.group, n)

    def tables(self, flat: Tensor) -> list[Tensor]:
        """Views of the long vector: a table a node, an axis a variable."""
        shapes = [[self.cards[v] for v in self.scope(j)] for j in range(len(self.cards))]
        parts = flat.split([math.prod(s) for s in shapes])
        return [t.view(s) for t, s in zip(parts, shapes, strict=True)]

    def factors(self, which: Sequence[int] | None = None) -> list[elimination.Factor]:
        """The tables of all nodes, or of some."""
        return self._factors if which is None else [self._factors[j] for j in which]

    @cached_property
    def _factors(self) -> list[elimination.Factor]:
        return [(self.scope(j), t) for j, t in enumerate(self.tables(self.log_theta.exp()))]

    def gaps(self, codes: Tensor, barren_too: bool = False) -> tuple[Tensor, list[Gap]]:
        """The sets of missing cells that tables join, each with the rows in which it is missing.

        Returns ``whole`` (n, d), the nodes whose table's cells are all observed, and for each
        set: the rows' numbers, its variables, the nodes whose tables hold one of them, and
        what those tables hold besides, as evidence. Barren cells (no observed descendant) are
        in no set, unless ``barren_too``.
        """
        gap = (codes < 0).T.contiguous()  # (d, n)
        d, n = gap.shape
        if (
            n > 64
            and len(row_hash(gap.T).unique()) > 64
            and elimination.size([self.scope(j) for j in range(d)], self.cards) <= SMALL
        ):  # too many sets: all cells, −1 for missing, at once
            everything = {j: codes[:, j] for j in range(d)}
            return torch.zeros_like(gap.T), [
                (torch.arange(n, device=codes.device), tuple(range(d)), list(range(d)), everything)
            ]
        barren = torch.zeros_like(gap)
        for j in reversed(self.order if not barren_too else ()):
            barren[j] = gap[j] & barren[list(self.children[j])].all(0)
        if torch.equal(gap, barren):
            return ~barren.T, []
        node = torch.arange(d, device=codes.device)[:, None]
        nobody = torch.full((n,), d, device=codes.device)
        # the smallest number of a cell's set
        label = torch.where(gap & ~barren, node, d)
        home = torch.empty_like(label)  # the set that a node's table belongs to
        scopes = [list(self.scope(j)) for j in range(d)]
        while True:
            before = label.clone()
            for j, scope in enumerate(scopes):
                some = label[scope]
                home[j] = torch.where(barren[j], nobody, some.amin(0))
                label[scope] = torch.where((some < d) & ~barren[j], home[j], some)
            if torch.equal(before, label):
                break
        # a set is known by a hash, the sum of its keys
        keys = torch.randint(-(2**62), 2**62, (2, d, 1), generator=generator(0)).to(codes.device)
        name = label.new_zeros(d + 1, n)
        name.scatter_add_(0, label, keys[0].expand(d, n)).scatter_add_(
            0, home, keys[1].expand(d, n)
        )
        first, row = (label == node).nonzero(as_tuple=True)
        _, which, times = torch.unique(name[first, row], return_inverse=True, return_counts=True)
        groups = []
        for pairs in torch.argsort(which, stable=True).split(times.tolist()):
            l, r = first[pairs[0]], row[pairs[0]]
            variables = tuple((label[:, r] == l).nonzero()[:, 0].tolist())
            families = (home[:, r] == l).nonzero()[:, 0].tolist()
            rest = sorted({v for j in families for v in scopes[j]} - set(variables))
            index = row[pairs]
            groups.append((index, variables, families, {v: codes[index, v] for v in rest}))
        return ((home == d) & ~barren).T, groups

    def log_joint(self, codes: Tensor) -> Tensor:
        """log p of the codes that are not −1, (n,)."""
        some = (codes < 0).any(1)
        each = self.log_theta[self.cells(codes.clamp_min(0))].T
        if some.any():
            whole, groups = self.gaps(codes[some])
            each[some] = torch.where(whole, each[some], 0.0)
        out = each.sum(1)
        if some.any():
            extra = out.new_zeros(int(some.sum()))
            for index, _, families, evidence in groups:
                value = elimination.log_marginal(self.factors(families), self.cards, (), evidence)
                extra.index_add_(0, index, value.expand(len(index)))
            out[some] += extra
        return out

    def filled(self, codes: Tensor, rng: torch.Generator) -> Tensor:
        """The codes with −1 replaced, in place, by a draw from p(missing | observed)."""
        some = (codes < 0).any(1).nonzero().squeeze(1)
        for index, variables, families, evidence in self.gaps(codes[some])[1] if len(some) else ():
            # for the number of rows
            evidence = evidence or {variables[0]: torch.full_like(index, -1)}
            drawn = elimination.draw(self.factors(families), self.cards, variables, evidence, rng)
            v = torch.tensor(variables, device=codes.device)
            codes[some[index][:, None], v] = drawn
        theta, columns = self.log_theta.exp(), codes.T.contiguous()
        for j in self.order:  # the barren rest, parents first
            rows = (columns[j] < 0).nonzero().squeeze(1)
            if len(rows) == 0:
                continue
            start = torch.full_like(rows, int(self.offsets[j]))
            for p, stride in zip(self.parents[j], self.strides[j].tolist(), strict=False):
                start += columns[p].index_select(0, rows) * stride
            level = torch.arange(self.cards[j] - 1, device=rows.device)[:, None]
            u = torch.rand(len(rows), generator=rng, dtype=theta.dtype, device=rows.device)
            columns[j, rows] = (theta[start + level].cumsum(0) <= u).sum(0)
        return columns.T

    def explained(self, codes: Tensor) -> Tensor:
        """The codes, −1 replaced in place by what is most probable together with the others."""
        for index, variables, families, evidence in self.gaps(codes, barren_too=True)[1]:
            best, _ = elimination.explain(self.factors(families), self.cards, evidence)
            v = torch.tensor(variables, device=codes.device)
            codes[index[:, None], v] = best[:, v].expand(len(index), -1)
        return codes

    def counts(self, codes: Tensor) -> Tensor:
        """Σ over rows of the expected N of every entry; tables of barren cells count nothing."""
        some = (codes < 0).any(1)
        whole, n = (
            codes[~some] if some.any() else codes,
            torch.zeros_like(self.group),
        )
        for c in whole.split(max(1024, len(n) // len(self.cards))):  # few at a time stay in cache
            n += torch.bincount(self.cells(c).reshape(-1), minlength=len(n))
        out = n.double()
        if some.any():
            rows = codes[some]
            seen, groups = self.gaps(rows)
            out += torch.bincount(self.cells(rows.clamp_min(0)).T[seen], minlength=len(out))
            tables = self.tables(out)
            for index, _, families, evidence in groups:
                weight = None if evidence else torch.tensor([float(len(index))])
                scopes = [self.scope(j) for j in families]
                for j, e in zip(
                    families,
                    elimination.expected_counts(
                        self.factors(families), self.cards, scopes, evidence, weight
                    ),
                    strict=True,
                ):
                    tables[j] += e
        return out

    def posterior(self, targets: tuple[int, ...], codes: Tensor) -> Tensor:
        """p(targets | codes that are not −1), (n, *cards of targets).

        Raises ValueError for a row of probability 0.
        """
        factors = self.factors()
        shape = (len(codes), *(self.cards[t] for t in targets))
        out = torch.empty(shape, dtype=torch.float64, device=codes.device)
        for rows, known in _patterns(codes):
            out[rows] = elimination.log_marginal(factors, self.cards, targets, known).expand(
                len(rows), *out.shape[1:]
            )
        total = out.flatten(1).logsumexp(1)
        _possible(total > -math.inf)
        return (out - total.reshape(-1, *[1] * len(targets))).exp()

    def marginals(self, codes: Tensor) -> list[Tensor]:
        """p(x_j | codes that are not −1) of every j by itself, (n, states) each.

        Raises ValueError for a row of probability 0.
        """
        factors = self.factors()
        out = [
            torch.nn.functional.one_hot(c.clamp_min(0), r).double()
            for c, r in zip(codes.T, self.cards, strict=True)
        ]
        for rows, known in _patterns(codes):
            # one at least tells whether a row is possible
            free = tuple(j for j in range(len(out)) if j not in known) or (0,)
            for j, p in zip(
                free, elimination.posteriors(factors, self.cards, free, known), strict=True
            ):
                out[j][rows] = p.expand(len(rows), -1)
        _possible(~torch.stack([torch.isnan(p).any(1) for p in out]).any(0))
        return out


def _patterns(codes: Tensor) -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
    """The rows in which the same variables are observed, which one order of elimination serves."""
    seen = codes >= 0
    same = bool((seen == seen[:1]).all())
    which = (
        torch.zeros(len(seen), dtype=torch.long, device=codes.device)
        if same
        else torch.unique(row_hash(seen), return_inverse=True)[1]
    )
    for k in range(int(which.max()) + 1 if len(which) else 0):
        rows = (which == k).nonzero().squeeze(1)
        yield rows, {v: codes[rows, v] for v in seen[rows[0]].nonzero()[:, 0].tolist()}


def _possible(rows: Tensor) -> None:
    """Raise ValueError that names the first row that is False."""
    if not bool(rows.all()):
        row = int((~rows).nonzero()[0])
        raise ValueError(
            f"the evidence of row {row} has probability 0 under the model: "
            "nothing can be said given it; drop it"
        )


def ordered(parents: Sequence[Sequence[int]]) -> list[int] | None:
    """The nodes, parents before children; None where there is a cycle."""
    waiting = [len(p) for p in parents]
    children: list[list[int]] = [[] for _ in parents]
    for j, pa in enumerate(parents):
        for p in pa:
            children[p].append(j)
    out = [j for j, w in enumerate(waiting) if w == 0]
    for j in out:
        for c in children[j]:
            waiting[c] -= 1
            if waiting[c] == 0:
                out.append(c)
    return out if len(out) == len(waiting) else None
