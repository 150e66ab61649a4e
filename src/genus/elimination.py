"""Exact inference in discrete graphical models by variable elimination (Zhang & Poole, 1994; Dechter, 1999).

A joint of d variables is a product of tables, p(x) = Π_f φ_f(x_f); x_E = e is observed, x_T asked for:

    sum-product       p(x_T, e) = Σ_{x_R} Π_f φ_f,  R the rest
    elimination       Σ_x Π_f φ_f = Π_{f ∌ x} φ_f · Σ_x Π_{f ∋ x} φ_f:  two tables at a time, A · B summed over the
                      variables that no other table holds, until one is left
    max-product       max_{x_R} Π_f φ_f: the same with max for Σ; the maximising codes, and likewise exact draws
                      from p(x_R | e), are read off A · B backwards, last step first
    expectations      p(x_f | e) = φ_f · ∂ log p(e) / ∂φ_f (Darwiche, 2003): one backward pass gives all families

The order in which tables meet is opt_einsum's greedy one (Smith & Gray, 2018), found once for each set of
observed variables. Evidence rows are an axis of the tables they reach; equal rows are computed once, and as many
at a time as memory allows. Every table is divided by its largest entry, whose logarithm is kept aside, and where an
entry could fall below what float64 holds, the whole is done again with logarithms: nothing underflows. A barren
variable (neither asked for, observed nor an ancestor of one that is) sums to one and is left out where the tables are
conditional distributions p(x_j | parents), x_j last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from opt_einsum.paths import ssa_greedy_optimize
from torch import Tensor

__all__ = ["Factor", "draw", "expected_counts", "explain", "log_marginal"]

Factor = tuple[tuple[int, ...], Tensor]
Scope = tuple[int, ...]

IMPOSSIBLE = 1 << 28  # elements of one row's largest table: 2 GB
HELD = 1 << 23  # elements of the rows' tables at a time: 64 MB
LEAST = -345.0  # log of the least entry beside 1: the product of two such is still a normal float64


# ---------------------------------------------------------------------- the queries


def log_marginal(factors: Sequence[Factor], cards: Scope, targets: Scope, evidence: dict[int, Tensor]) -> Tensor:
    """log p(targets, evidence row) in nats, shape (n, *cards of targets); n = 1 without evidence.

    factors: (variables, float64 table with one axis a variable). cards: states of each variable. evidence: observed
    variable → (n,) codes; a code −1 means not observed in that row. Impossible evidence gives −inf; ``targets=()``
    gives log p(evidence). Raises ValueError for codes out of range and observed targets, MemoryError where a table
    would be too large.
    """
    if bad := [t for t in targets if t in evidence]:
        raise ValueError(f"targets {bad} are observed: a variable is asked for or given, not both")
    if len(set(targets)) < len(targets):
        raise ValueError(f"targets {targets} name a variable twice")
    rows = _Rows(factors, cards, evidence)
    factors = _relevant(factors, targets, evidence)
    plan = _plan(tuple(s for s, _ in factors) + rows.soft_scopes, tuple(cards), targets, rows.observed)
    parts = []
    for codes in rows.chunks(plan):
        tables = _tables(factors, cards, codes, rows)
        value = _forward(plan, tables)[0] or _forward(plan, _logs(tables), log=True)[0]
        assert value is not None
        parts.append(value.log_values(len(codes)).reshape(len(codes), *(cards[t] for t in targets)))
    return rows.spread(torch.cat(parts))


def explain(factors: Sequence[Factor], cards: Scope, evidence: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    """The most probable explanation: codes (n, d) of all variables, the evidence's included, and their log joint (n,) in nats.

    Evidence as in :func:`log_marginal`. A row with impossible evidence gets −inf and any codes.
    """
    rows = _Rows(factors, cards, evidence)
    plan = _plan(tuple(s for s, _ in factors) + rows.soft_scopes, tuple(cards), (), rows.observed)
    best, value = [], []
    for codes in rows.chunks(plan, union=True):
        last, kept = _forward(plan, _logs(_tables(factors, cards, codes, rows)), log=True, reduce=torch.amax)
        assert last is not None
        value.append(last.log_values(len(codes)))
        best.append(_backward(plan, kept, rows, codes, torch.arange(len(codes), device=codes.device), cards, lambda w: w.argmax(1)))
    return rows.spread(torch.cat(best)), rows.spread(torch.cat(value))


def draw(factors: Sequence[Factor], cards: Scope, targets: Scope, evidence: dict[int, Tensor], rng: torch.Generator) -> Tensor:
    """One exact joint draw of the targets given each evidence row: codes (n, len(targets)).

    Evidence as in :func:`log_marginal`; a target that is observed keeps its code. Raises ValueError where a row's
    evidence is impossible.
    """
    rows = _Rows(factors, cards, evidence)
    factors = _relevant(factors, targets, evidence)
    plan = _plan(tuple(s for s, _ in factors) + rows.soft_scopes, tuple(cards), (), rows.observed)
    n = len(rows.inverse)
    out = torch.zeros(n, len(cards), dtype=torch.long, device=rows.codes.device)

    def choose(log_w: Tensor) -> Tensor:
        total = (log_w - log_w.amax(1, keepdim=True)).exp().cumsum(1)
        u = torch.rand(len(log_w), 1, generator=rng, dtype=torch.float64, device=log_w.device)
        return torch.searchsorted(total, u * total[:, -1:], right=True)[:, 0].clamp_max(log_w.shape[1] - 1)

    first = 0
    for codes in rows.chunks(plan, union=True):
        last, kept = _forward(plan, _tables(factors, cards, codes, rows))
        if last is None:
            last, kept = _forward(plan, _logs(_tables(factors, cards, codes, rows)), log=True)
        assert last is not None
        members = torch.nonzero((rows.inverse >= first) & (rows.inverse < first + len(codes)))[:, 0]
        which = rows.inverse[members] - first
        possible = last.log_values(len(codes)) > -math.inf
        if not bool(possible.all()):
            row = int(members[~possible[which]][0])
            raise ValueError(f"row {row} of the evidence has probability 0 under the model: nothing can be drawn given it")
        size = max(1, HELD // max(s.union for s in plan.steps)) if plan.steps else max(1, len(members))
        for i in range(0, len(members), size):
            m = slice(i, i + size)
            out[members[m]] = _backward(plan, kept, rows, codes, which[m], cards, choose)
        first += len(codes)
    return out[:, list(targets)]


def expected_counts(
    factors: Sequence[Factor], cards: Scope, families: Sequence[Scope], evidence: dict[int, Tensor], weight: Tensor | None = None
) -> list[Tensor]:
    """Σ_n w_n p(x_family | evidence row n): a tensor with an axis for each variable of the family, for every family.

    weight: (n,) ≥ 0, by default ones. Evidence as in :func:`log_marginal`. Rows with impossible evidence count nothing.
    A family need not be a factor, but one that is in none makes the computation as large as if it were.
    """
    factors = list(factors)
    homes = []
    for family in families:
        home = next((k for k, (s, _) in enumerate(factors) if set(family) <= set(s)), None)
        if home is None:  # a table of ones changes nothing and has the derivative
            home = len(factors)
            factors.append((tuple(family), torch.ones([cards[v] for v in family], dtype=torch.float64, device=factors[0][1].device)))
        homes.append(home)
    rows = _Rows(factors, cards, evidence)
    w = rows.total(weight)
    plan = _plan(tuple(s for s, _ in factors) + rows.soft_scopes, tuple(cards), (), rows.observed)
    counts = [torch.zeros_like(t, dtype=torch.float64) for _, t in factors]
    first = 0
    with torch.enable_grad():
        for codes in rows.chunks(plan, total=True):
            for log in (False, True):
                leaves = [(s, (t.detach().double().log() if log else t.detach().double()).requires_grad_()) for s, t in factors]
                last, _ = _forward(plan, _tables(leaves, cards, codes, rows, log), log=log)
                if last is not None:
                    break
            assert last is not None
            value = last.log_values(len(codes))
            here = (value > -math.inf) & (w[first : first + len(codes)] > 0)
            first += len(codes)
            if not bool(here.any()):
                continue
            goal = (value[here] * w[first - len(codes) : first][here]).sum()
            grads = torch.autograd.grad(goal, [t for _, t in leaves], allow_unused=True)
            for count, (_, t), g in zip(counts, leaves, grads, strict=True):
                if g is not None:
                    count += torch.where(t.detach() > (-math.inf if log else 0), g if log else g * t.detach(), 0)
    out = []
    for family, home in zip(families, homes, strict=True):
        scope = factors[home][0]
        rest = [a for a, v in enumerate(scope) if v not in family]
        table = counts[home].sum(rest) if rest else counts[home]
        kept = [v for v in scope if v in family]
        out.append(table.permute([kept.index(v) for v in family]))
    return out


# ---------------------------------------------------------------------- which tables meet, and when


@dataclass(frozen=True)
class Step:
    """Tables a and b become one over ``kept``; ``summed`` are eliminated; ``union``: elements of the product."""

    a: int
    b: int
    kept: Scope
    summed: Scope
    union: int


@dataclass(frozen=True)
class Plan:
    """The scopes of the tables once observed axes are gone, the steps, and elements a row: largest, product, sum."""

    scopes: tuple[Scope, ...]
    steps: tuple[Step, ...]
    targets: Scope
    largest: int
    union: int
    total: int


@lru_cache(maxsize=4096)
def _plan(scopes: tuple[Scope, ...], cards: Scope, targets: Scope, observed: frozenset[int]) -> Plan:
    """The order of elimination for tables of these scopes."""
    gone = observed | {v for v, c in enumerate(cards) if c == 1}  # axes of one state are taken off as well
    out = tuple(v for v in targets if cards[v] > 1)
    live = [tuple(v for v in s if v not in gone) for s in scopes]
    absent = [(v,) for v in out if not any(v in s for s in live)]
    if absent:
        raise ValueError(f"no factor holds the target {absent[0][0]}")
    sets: list[frozenset[int]] = [frozenset(s) for s in live]
    path = ssa_greedy_optimize(sets, frozenset(out), dict(enumerate(cards))) if len(sets) > 1 else [(0, 0)] * len(sets)
    size: Callable[[Sequence[int]], int] = lambda s: math.prod(cards[v] for v in s)  # noqa: E731
    holders: dict[int, int] = {}
    for s in sets:
        for v in s:
            holders[v] = holders.get(v, 0) + 1
    steps, all_scopes = [], list(live)
    for a, b in path:
        A, B = all_scopes[a], all_scopes[b] if b != a else ()
        union = tuple(dict.fromkeys(A + B))
        inside = {v: (v in A) + (v in B) for v in union}
        summed = tuple(v for v in union if v not in out and holders[v] == inside[v])
        kept = tuple(v for v in union if v not in summed)
        for v in union:
            holders[v] -= inside[v] - (v in kept)
        steps.append(Step(a, b, kept, summed, size(union)))
        all_scopes.append(kept)
    sizes = [size(s) for s in all_scopes] or [1]
    if max(sizes) > IMPOSSIBLE:
        raise MemoryError(
            f"exact inference needs a table of {max(sizes):.1e} entries for this query, more than {IMPOSSIBLE:.1e}: the variables are "
            "too entangled. Ask for fewer targets at once, give more evidence, or use a network with fewer parents"
        )
    return Plan(tuple(live), tuple(steps), out, max(sizes), max([s.union for s in steps] + [1]), sum(sizes))


@lru_cache(maxsize=4096)
def _barren(scopes: tuple[Scope, ...], needed: frozenset[int]) -> tuple[int, ...]:
    """The factors p(x_j | parents) that sum to one when none of ``needed`` descends from x_j; none unless all are such."""
    of = {s[-1]: k for k, s in enumerate(scopes) if s}
    if len(of) < len(scopes) or any(v not in of for s in scopes for v in s):
        return ()
    parents = {v: scopes[k][:-1] for v, k in of.items()}
    seen, stack = set(needed), list(needed)
    while stack:
        for p in parents.get(stack.pop(), ()):
            if p not in seen:
                seen.add(p)
                stack.append(p)
    rest = {v for v in of if v not in seen}
    inside = {v: sum(p in rest for p in parents[v]) for v in rest}
    order = [v for v in rest if not inside[v]]
    for v in order:  # a cycle is no network
        for child in rest:
            if v in parents[child]:
                inside[child] -= 1
                if not inside[child]:
                    order.append(child)
    return tuple(of[v] for v in rest) if len(order) == len(rest) else ()


def _relevant(factors: Sequence[Factor], targets: Scope, evidence: dict[int, Tensor]) -> Sequence[Factor]:
    barren = _barren(tuple(s for s, _ in factors), frozenset(targets) | frozenset(evidence))
    if not barren:
        return factors
    sums = torch.cat([factors[k][1].sum(-1).reshape(-1) for k in barren])
    if not bool(((sums - 1).abs() < 1e-9).all()):
        return factors
    drop = set(barren)
    return [f for k, f in enumerate(factors) if k not in drop]


# ---------------------------------------------------------------------- evidence


class _Rows:
    """The distinct evidence rows: ``codes`` (u, k) of the variables ``names``, and each row's place among them."""

    def __init__(self, factors: Sequence[Factor], cards: Scope, evidence: dict[int, Tensor]) -> None:
        device = factors[0][1].device if factors else torch.device("cpu")
        self.names = sorted(evidence)
        if not self.names:
            self.codes = torch.zeros(1, 0, dtype=torch.long, device=device)
            self.inverse = torch.zeros(1, dtype=torch.long, device=device)
        else:
            codes = torch.stack([torch.as_tensor(evidence[v], dtype=torch.long, device=device) for v in self.names], 1)
            self.codes, self.inverse = _distinct(codes, [cards[v] for v in self.names])
        self.soft: list[int] = []
        if len(self.codes) and self.names:
            low, high = self.codes.amin(0).tolist(), self.codes.amax(0).tolist()
            for v, l, h in zip(self.names, low, high, strict=True):
                if l < -1 or h >= cards[v]:
                    raise ValueError(
                        f"evidence of variable {v} has the code {l if l < -1 else h}; it has codes 0 … {cards[v] - 1}, or −1 for missing"
                    )
                if l < 0:
                    self.soft.append(v)
        self.soft_scopes = tuple((v,) for v in self.soft)
        self.observed = frozenset(v for v in self.names if v not in self.soft)

    def chunks(self, plan: Plan, union: bool = False, total: bool = False) -> Iterator[Tensor]:
        size = plan.total if total else plan.union if union else plan.largest
        yield from torch.split(self.codes, max(1, HELD // size))

    def spread(self, values: Tensor) -> Tensor:
        """From distinct rows to all rows."""
        return values if not self.names else values[self.inverse]

    def total(self, weight: Tensor | None) -> Tensor:
        """The weight of each distinct row."""
        w = torch.ones_like(self.inverse, dtype=torch.float64) if weight is None else weight.to(self.inverse.device, torch.float64)
        return torch.zeros(len(self.codes), dtype=torch.float64, device=w.device).index_add_(0, self.inverse, w)


def _distinct(codes: Tensor, cards: Sequence[int]) -> tuple[Tensor, Tensor]:
    if math.prod(c + 1 for c in cards) >= 1 << 62 or bool((codes < -1).any()):
        rows, inverse = torch.unique(codes, dim=0, return_inverse=True)
        return rows, inverse
    key = torch.zeros_like(codes[:, 0])
    for column, c in zip(codes.unbind(1), cards, strict=True):
        key = key * (c + 1) + column + 1
    _, inverse = torch.unique(key, return_inverse=True)
    first = torch.zeros(int(inverse.max()) + 1 if len(inverse) else 0, dtype=torch.long, device=codes.device)
    first[inverse] = torch.arange(len(codes), device=codes.device)
    return codes[first], inverse


# ---------------------------------------------------------------------- tables


@dataclass
class Table:
    """exp(scale) · values, or values are logs themselves; axes: rows (where ``batched``), then the scope.

    least: a lower bound of the log of the smallest entry that is not 0.
    """

    scope: Scope
    values: Tensor
    batched: bool
    scale: Tensor
    least: float
    log: bool = False

    def log_values(self, n: int) -> Tensor:
        v = self.values if self.log else _log(self.values)
        v = v + self.scale.reshape(-1, *[1] * len(self.scope))
        return v if self.batched else v.expand(n, *v.shape[1:])


def _tables(factors: Sequence[Factor], cards: Scope, codes: Tensor, rows: _Rows, log: bool = False) -> list[Table]:
    """The factors with their observed axes at the rows' codes, and a table of zeros and ones for each half-observed variable."""
    column = {v: codes[:, k] for k, v in enumerate(rows.names) if v in rows.observed}
    zero = codes.new_zeros((), dtype=torch.float64)
    out = []
    for scope, t in factors:
        t = t.double()
        seen = [v for v in scope if v in column]
        free = [v for v in scope if v not in column]
        if seen:
            t = t.permute([scope.index(v) for v in seen + free])[tuple(column[v] for v in seen)]
        kept = tuple(v for v in free if cards[v] > 1)
        shape = [cards[v] for v in kept]
        out.append(Table(kept, t.reshape(len(codes), *shape) if seen else t.reshape(1, *shape), bool(seen), zero, -math.inf, log))
    for v in rows.soft:
        c = codes[:, rows.names.index(v), None]
        one = (c < 0) | (c == torch.arange(cards[v], device=codes.device))
        values = one.double() if not log else torch.where(one, 0.0, -math.inf).double()
        kept = (v,) if cards[v] > 1 else ()
        out.append(Table(kept, values if kept else values[:, 0], True, zero, 0.0, log))
    return out


def _log(t: Tensor) -> Tensor:
    """Logarithm whose gradient is 0 where t is."""
    return torch.where(t > 0, torch.where(t > 0, t, 1.0).log(), -math.inf)


def _logs(tables: list[Table]) -> list[Table]:
    return [Table(t.scope, t.values.log(), t.batched, t.scale, t.least, True) for t in tables]


def _rescaled(t: Table) -> Table | None:
    """Divided by the largest entry of every row; None where an entry is too small for float64."""
    top = t.values.detach()
    top = top.amax(list(range(1, top.ndim)), keepdim=True) if top.ndim > 1 else top
    top = torch.where(top > 0, top, 1.0)
    values = t.values / top
    least = t.least
    if least < LEAST:
        v = values.detach()
        least = math.log(float(torch.where(v > 0, v, 1.0).min())) if v.numel() else 0.0
        if least < LEAST:
            return None
    return Table(t.scope, values, t.batched, t.scale + top.log().reshape(-1), least)


def _aligned(t: Table, axes: Scope) -> Tensor:
    """The values with an axis of each of ``axes``, of length 1 where it has none."""
    order = [0] + [1 + t.scope.index(v) for v in axes if v in t.scope]
    values = t.values.permute(order)
    shape = iter(values.shape)
    return values.reshape(next(shape), *[next(shape) if v in t.scope else 1 for v in axes])


def _forward(
    plan: Plan, tables: list[Table], log: bool = False, reduce: Callable[..., Tensor] | None = None
) -> tuple[Table | None, list[Table]]:
    """All steps: the last table with its axes as in the targets, and every table; None where float64 does not suffice."""
    zero = tables[0].scale if tables else torch.zeros((), dtype=torch.float64)
    done: list[Table] = []
    for t in tables:
        r = t if log else _rescaled(t)
        if r is None:
            return None, []
        done.append(r)
    for s in plan.steps:
        A = done[s.a]
        B = (
            done[s.b]
            if s.a != s.b
            else Table((), torch.full((1,), 0.0 if log else 1.0, dtype=torch.float64, device=zero.device), False, zero, 0.0)
        )
        scale, batched = A.scale + B.scale, A.batched or B.batched
        if log:
            axes = s.kept + s.summed
            product = _aligned(A, axes) + _aligned(B, axes)
            over = list(range(1 + len(s.kept), 1 + len(axes)))
            values = (reduce or _log_sum)(product, over) if over else product
            done.append(Table(s.kept, values, batched, scale, 0.0, True))
            continue
        number = {v: 1 + k for k, v in enumerate(dict.fromkeys(A.scope + B.scope))}
        a, b = ([0 if t.batched else 51, *(number[v] for v in t.scope)] for t in (A, B))
        values = torch.einsum(A.values, a, B.values, b, [0 if batched else 51, *(number[v] for v in s.kept)])
        summed = math.prod(_card(v, A, B) for v in s.summed)
        r = _rescaled(Table(s.kept, values, batched, scale, A.least + B.least - math.log(summed)))
        if r is None:
            return None, []
        done.append(r)
    last = done[-1] if done else Table((), torch.full((1,), 0.0 if log else 1.0, dtype=torch.float64), False, zero, 0.0, log)
    if last.scope != plan.targets:
        last = Table(
            plan.targets, last.values.permute([0] + [1 + last.scope.index(v) for v in plan.targets]), last.batched, last.scale, 0.0, log
        )
    return last, done


def _card(v: int, A: Table, B: Table) -> int:
    t = A if v in A.scope else B
    return t.values.shape[1 + t.scope.index(v)]


def _log_sum(x: Tensor, over: list[int]) -> Tensor:
    """logsumexp whose gradient is 0 where all is −inf."""
    top = x.detach().amax(over, keepdim=True)
    top = torch.where(top > -math.inf, top, 0.0)
    s = (x - top).exp().sum(over)
    return _log(s) + top.reshape(s.shape)


def _backward(
    plan: Plan, kept: list[Table], rows: _Rows, codes: Tensor, which: Tensor, cards: Scope, choose: Callable[[Tensor], Tensor]
) -> Tensor:
    """Codes (N, d) of all variables: the observed ones, and those eliminated as ``choose`` picks one of each row of log-weights.

    which: (N,) the evidence row of each. Variables in no table stay 0.
    """
    out = codes.new_zeros(len(which), len(cards))
    for k, v in enumerate(rows.names):
        if v in rows.observed:
            out[:, v] = codes[which, k]
    for s in reversed(plan.steps):
        if not s.summed:
            continue
        log_w: Tensor | None = None
        for t in (kept[s.a], kept[s.b])[: 1 if s.a == s.b else 2]:
            known = [v for v in t.scope if v not in s.summed]
            free = [v for v in s.summed if v in t.scope]
            values = t.values.permute([0] + [1 + t.scope.index(v) for v in known + free])
            values = values[(which if t.batched else torch.zeros_like(which), *(out[:, v] for v in known))]
            values = values.reshape(len(which), *[cards[v] if v in free else 1 for v in s.summed])
            values = values if t.log else values.log()
            log_w = values if log_w is None else log_w + values
        assert log_w is not None
        shape = [cards[v] for v in s.summed]
        pick = choose(log_w.expand(len(which), *shape).reshape(len(which), -1))
        for v, c in zip(s.summed, torch.unravel_index(pick, shape), strict=True):
            out[:, v] = c
    return out
