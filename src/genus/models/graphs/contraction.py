"""The order in which the tables of a product are multiplied and summed, two at a time.

Σ_x Π_f φ_f costs as much as its largest intermediate table, and which one that is depends on the
order. Greedy: the pair whose product is smallest beside the two themselves comes next (opt_einsum;
Smith & Gray, 2018): quick, and good for most. Where it needs large tables, min-fill is tried as
well: of the variables, the one whose elimination joins the fewest pairs of neighbours that were not
joined before goes first (Kjærulff, 1990). The better of the two is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from opt_einsum import get_symbol
from opt_einsum.paths import ssa_greedy_optimize

__all__ = ["Plan", "Scope", "Step", "check_columns", "min_fill", "plan_of", "possible"]

Scope = tuple[int, ...]
Path = Sequence[tuple[int, ...]]  # pairs of tables; a product gets the next number

IMPOSSIBLE = 1 << 28  # elements of one row's largest table: 2 GB
WRITTEN = 1 << 24  # values of a joint distribution that is given to the caller
LARGE = 1 << 16  # elements from which on a better order is looked for


@dataclass(frozen=True)
class Step:
    """Tables a and b become one over ``kept``.

    ``summed`` are eliminated, which adds up ``terms`` products.
    """

    a: int
    b: int
    kept: Scope
    summed: Scope
    terms: int
    equation: str
    batched: bool


@dataclass(frozen=True)
class Plan:
    """The scopes of the tables once observed axes are gone, the steps, and elements a row.

    The elements are those of the largest table, the largest product, and all tables.
    """

    scopes: tuple[Scope, ...]
    soft: Scope
    observed: frozenset[int]
    steps: tuple[Step, ...]
    largest: int
    union: int
    total: int


@lru_cache(maxsize=4096)
def plan_of(
    scopes: tuple[Scope, ...], soft: Scope, cards: Scope, targets: Scope, observed: frozenset[int]
) -> Plan:
    """The steps for tables of these scopes, and one more for each variable of ``soft``.

    Variables of ``soft`` are observed in some rows. Tables that hold an observed variable, and
    those of ``soft``, get an axis of rows. Raises MemoryError where every order that was tried
    needs too large a table.
    """
    # axes of one state are taken off as well
    gone = observed | {v for v, c in enumerate(cards) if c == 1}
    out = tuple(v for v in targets if cards[v] > 1)
    live = [tuple(v for v in s if v not in gone) for s in (*scopes, *((v,) for v in soft))]
    batched = [any(v in observed for v in s) for s in scopes] + [True] * len(soft)
    if len(live) < 2:  # a table of one entry, so that there is a last step
        live, batched = [*live, ()], [*batched, False]
    if absent := set(out).difference(*live):
        raise ValueError(f"no factor holds the target {min(absent)}")
    path: Path = (
        ssa_greedy_optimize([frozenset(s) for s in live], frozenset(out), dict(enumerate(cards)))
        if len(live) > 1
        else []
    )
    plan = _followed(path, live, soft, cards, out, observed, batched)
    if plan.largest > LARGE:
        other = _followed(min_fill(live, cards, out), live, soft, cards, out, observed, batched)
        plan = min(plan, other, key=lambda p: (p.largest, p.total))
    possible(plan.largest)
    return plan


def _followed(
    path: Path,
    live: list[Scope],
    soft: Scope,
    cards: Scope,
    out: Scope,
    observed: frozenset[int],
    rows: list[bool],
) -> Plan:
    """The steps of a path: a variable is summed as soon as no other table holds it."""
    held: dict[int, int] = {}
    for s in live:
        for v in s:
            held[v] = held.get(v, 0) + 1
    scopes, batched = list(live), list(rows)
    steps, sizes, union = [], [math.prod(cards[v] for v in s) for s in live], 1
    for i, (a, b) in enumerate(path):
        A, B = scopes[a], scopes[b]
        axes = tuple(dict.fromkeys(A + B))
        for v in axes:
            held[v] -= (v in A) + (v in B)
        kept = out if i == len(path) - 1 else tuple(v for v in axes if held[v] or v in out)
        for v in kept:
            held[v] += 1
        summed = tuple(v for v in axes if v not in kept)
        both = batched[a] or batched[b]
        # the axis of rows is get_symbol(0)
        letter = {v: get_symbol(k + 1) for k, v in enumerate(axes)}
        parts = [
            get_symbol(0) * r + "".join(letter[v] for v in s)
            for s, r in ((A, batched[a]), (B, batched[b]), (kept, both))
        ]
        steps.append(
            Step(
                a,
                b,
                kept,
                summed,
                math.prod(cards[v] for v in summed),
                f"{parts[0]},{parts[1]}->{parts[2]}",
                both,
            )
        )
        scopes.append(kept)
        batched.append(both)
        sizes.append(math.prod(cards[v] for v in kept))
        union = max(union, sizes[-1] * steps[-1].terms)
    return Plan(tuple(live), soft, observed, tuple(steps), max(sizes), union, sum(sizes))


def check_columns(cards: Sequence[int], rows: int) -> None:
    """Raise ValueError where a joint distribution has too many values to be written down."""
    entries = math.prod(cards) * max(rows, 1)
    if entries > WRITTEN:
        raise ValueError(
            f"targets: the joint distribution of {len(cards)} columns has {entries:.1e} values, "
            f"more than {WRITTEN:.1e}: ask for fewer targets at once, or for marginals()"
        )


def possible(size: int) -> None:
    """Raise MemoryError where a table of so many entries would be needed."""
    if size > IMPOSSIBLE:
        raise MemoryError(
            f"exact inference needs a table of {size:.1e} entries for this query, "
            f"more than {IMPOSSIBLE:.1e}: the variables are too entangled. "
            "Ask for fewer targets at once, give more evidence, "
            "or use a network with fewer parents"
        )


def min_fill(scopes: Sequence[Scope], cards: Scope, out: Scope) -> list[tuple[int, int]]:
    """The path that eliminates the variable with the fewest missing edges between neighbours first.

    ``out`` stay. The tables that hold it are multiplied smallest first.
    """
    near: dict[int, set[int]] = {}
    for s in scopes:
        for v in s:
            near.setdefault(v, set()).update(s)
    for v, others in near.items():
        others.discard(v)

    def size(s: set[int]) -> int:
        return math.prod(cards[v] for v in s)

    def fill(v: int) -> tuple[int, int, int]:
        return sum(len(near[v] - near[u]) - 1 for u in near[v]), size(near[v]), v

    tables = {k: set(s) for k, s in enumerate(scopes)}
    path: list[tuple[int, int]] = []

    def multiply(ids: list[int]) -> int:
        while len(ids) > 1:
            a, b, *rest = sorted(ids, key=lambda k: (size(tables[k]), k))
            product = len(scopes) + len(path)
            path.append((a, b))
            tables[product] = tables.pop(a) | tables.pop(b)
            ids = [*rest, product]
        return ids[0]

    cost = {v: fill(v) for v in near if v not in out}
    while cost:
        v = min(cost, key=cost.__getitem__)
        del cost[v]
        neighbours = near.pop(v)
        for u in neighbours:
            near[u] |= neighbours
            near[u] -= {u, v}
        for u in neighbours.union(*(near[u] for u in neighbours)):
            if u in cost:
                cost[u] = fill(u)
        tables[multiply([k for k, t in tables.items() if v in t])].discard(v)
    multiply(list(tables))
    return path
