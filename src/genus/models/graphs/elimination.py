"""Exact inference in discrete graphical models by variable elimination.

Zhang & Poole (1994); Dechter (1999).

A joint of d variables is a product of tables, p(x) = Π_f φ_f(x_f); x_E = e
is observed, x_T asked for:

    sum-product       p(x_T, e) = Σ_{x_R} Π_f φ_f,  R the rest
    elimination       Σ_x Π_f φ_f = Π_{f ∌ x} φ_f · Σ_x Π_{f ∋ x} φ_f:  two tables at a time,
                      A · B summed over the variables that no other table holds, until one is left
    max-product       max_{x_R} Π_f φ_f: the same with max for Σ; the maximising codes, and likewise
                      exact draws from p(x_R | e), are read off A · B backwards, last step first
    expectations      p(x_f | e) = φ_f · ∂ log p(e) / ∂φ_f: one backward pass gives all families
                      (Darwiche, 2003)

The order in which tables meet (``contraction``) is found once for each set of observed variables.
Evidence rows are an axis of the tables they reach; equal rows are computed once, and as many at a
time as memory allows. The range of the entries of every table is kept account of; before it nears
the ends of float64 every row is divided by its largest entry, whose logarithm is kept aside, and
where that is not enough the whole is done again with logarithms: nothing underflows. A barren
variable (neither asked for, observed nor an ancestor of one that is) sums to one and is left out
where the tables are conditional distributions p(x_j | parents), x_j last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from genus.models.graphs.contraction import Plan, Scope, plan_of, possible

__all__ = ["Factor", "draw", "expected_counts", "explain", "log_marginal", "posteriors", "size"]

Factor = tuple[tuple[int, ...], Tensor]

HELD = 1 << 23  # elements of the rows' tables at a time: 64 MB
LIMIT = 345.0  # logs of entries within ± this: the product of two is a normal float64


def log_marginal(
    factors: Sequence[Factor], cards: Scope, targets: Scope, evidence: dict[int, Tensor]
) -> Tensor:
    """log p(targets, evidence row) in nats, shape (n, *cards of targets); n = 1 without evidence.

    factors: (variables, float64 table with one axis a variable). cards: states of each variable.
    evidence: observed variable → (n,) codes; a code −1 means not observed in that row. Impossible
    evidence gives −inf; ``targets=()`` gives log p(evidence). Raises ValueError for codes out of
    range and observed targets, MemoryError where a table would be too large.
    """
    if bad := [t for t in targets if t in evidence]:
        raise ValueError(f"targets {bad} are observed: a variable is asked for or given, not both")
    if len(set(targets)) < len(targets):
        raise ValueError(f"targets {targets} name a variable twice")
    rows = _Rows(factors, cards, evidence)
    factors = _relevant(factors, targets, evidence)
    plan = plan_of(tuple(s for s, _ in factors), rows.soft, cards, targets, rows.observed)
    parts = [
        done[-1].log_values(len(codes)) for codes, done in _eliminated(plan, factors, cards, rows)
    ]
    return rows.spread(torch.cat(parts).reshape(-1, *(cards[t] for t in targets)))


def posteriors(
    factors: Sequence[Factor], cards: Scope, targets: Scope, evidence: dict[int, Tensor]
) -> list[Tensor]:
    """p(x_t | evidence row) of each target by itself, (n, states) each, from one backward pass.

    Evidence as in :func:`log_marginal`; a target may be observed. Rows with impossible
    evidence get NaN. For a single target :func:`log_marginal` is quicker, and tells
    probabilities below 1e-300 apart.
    """
    rows = _Rows(factors, cards, evidence)
    factors = _relevant([(s, t.detach()) for s, t in factors], targets, evidence)
    soft = tuple(sorted({*rows.soft, *targets}))
    plan = plan_of(tuple(s for s, _ in factors), soft, cards, (), rows.observed.difference(targets))
    parts: list[list[Tensor]] = []
    with torch.enable_grad():
        for codes, done in _eliminated(plan, factors, cards, rows, plan.total):
            value = done[-1].log_values(len(codes))
            open_ = [done[len(factors) + soft.index(t)] for t in targets]
            grads = torch.autograd.grad(value.sum(), [t.values for t in open_]) if targets else ()
            p = [g if t.log else g * t.values.detach() for t, g in zip(open_, grads, strict=True)]
            parts.append(
                [
                    q.reshape(len(codes), -1).masked_fill((value == -math.inf)[:, None], math.nan)
                    for q in p
                ]
            )
    return [rows.spread(torch.cat(p)) for p in zip(*parts, strict=True)]


def explain(
    factors: Sequence[Factor], cards: Scope, evidence: dict[int, Tensor]
) -> tuple[Tensor, Tensor]:
    """The most probable explanation: codes (n, d) of all variables, and their log joint (n,).

    The codes include those of the evidence. Evidence as in :func:`log_marginal`. A row with
    impossible evidence gets −inf and any codes.
    """
    rows = _Rows(factors, cards, evidence)
    plan = plan_of(tuple(s for s, _ in factors), rows.soft, cards, (), rows.observed)
    best, value = [], []
    for codes in rows.chunks(plan.union):
        done = _forward(plan, _tables(plan, factors, cards, codes, rows, log=True), torch.amax)
        value.append(done[-1].log_values(len(codes)))
        best.append(
            _backward(
                plan,
                done,
                rows,
                codes,
                torch.arange(len(codes), device=codes.device),
                cards,
                lambda w: w.argmax(1),
            )
        )
    return rows.spread(torch.cat(best)), rows.spread(torch.cat(value))


def draw(
    factors: Sequence[Factor],
    cards: Scope,
    targets: Scope,
    evidence: dict[int, Tensor],
    rng: torch.Generator,
) -> Tensor:
    """One exact joint draw of the targets given each evidence row: codes (n, len(targets)).

    Evidence as in :func:`log_marginal`; a target that is observed keeps its code. Raises ValueError
    where a row's evidence is impossible.
    """
    rows = _Rows(factors, cards, evidence)
    factors = _relevant(factors, targets, evidence)
    plan = plan_of(tuple(s for s, _ in factors), rows.soft, cards, (), rows.observed)
    out = rows.codes.new_zeros(len(rows.inverse), len(cards))

    def choose(log_w: Tensor) -> Tensor:
        total = (log_w - log_w.amax(1, keepdim=True)).exp().cumsum(1)
        u = torch.rand(len(log_w), 1, generator=rng, dtype=torch.float64, device=log_w.device)
        return (total <= u * total[:, -1:]).sum(1).clamp_max(log_w.shape[1] - 1)

    first = 0
    for codes, done in _eliminated(plan, factors, cards, rows):
        members = torch.nonzero((rows.inverse >= first) & (rows.inverse < first + len(codes)))[:, 0]
        which = rows.inverse[members] - first
        possible = done[-1].log_values(len(codes)) > -math.inf
        if not bool(possible.all()):
            row = int(members[~possible[which]][0])
            raise ValueError(
                f"row {row} of the evidence has probability 0 under the model: "
                "nothing can be drawn given it"
            )
        for m in torch.split(
            torch.arange(len(members), device=codes.device), max(1, HELD // plan.union)
        ):
            out[members[m]] = _backward(plan, done, rows, codes, which[m], cards, choose)
        first += len(codes)
    return out[:, list(targets)]


def expected_counts(
    factors: Sequence[Factor],
    cards: Scope,
    families: Sequence[Scope],
    evidence: dict[int, Tensor],
    weight: Tensor | None = None,
) -> list[Tensor]:
    """Σ_n w_n p(x_family | evidence row n), for every family.

    A tensor with an axis for each variable of the family.

    weight: (n,) ≥ 0, by default ones. Evidence as in :func:`log_marginal`. Rows with
    impossible evidence count nothing. A family that is in no factor makes the
    computation as large as if it were one.
    """
    factors = [(s, t.detach().double()) for s, t in factors]
    homes = []
    for family in families:
        home = next((k for k, (s, _) in enumerate(factors) if set(family) <= set(s)), len(factors))
        if home == len(factors):  # a table of ones changes nothing and has the derivative
            factors.append((tuple(family), factors[0][1].new_ones([cards[v] for v in family])))
        homes.append(home)
    rows = _Rows(factors, cards, evidence)
    w = rows.total(weight)
    plan = plan_of(tuple(s for s, _ in factors), rows.soft, cards, (), rows.observed)
    counts = [torch.zeros_like(t) for _, t in factors]
    first = 0
    leaves = [t.requires_grad_() for _, t in factors]
    with torch.enable_grad():
        for codes, done in _eliminated(plan, factors, cards, rows, plan.total):
            value = done[-1].log_values(len(codes))
            here = (value > -math.inf) & (w[first : first + len(codes)] > 0)
            goal = (value[here] * w[first : first + len(codes)][here]).sum()
            first += len(codes)
            for count, t, g in zip(
                counts, leaves, torch.autograd.grad(goal, leaves, allow_unused=True), strict=True
            ):
                if g is not None:
                    count += g * t.detach()
    out = []
    for family, home in zip(families, homes, strict=True):
        scope = factors[home][0]
        rest = [a for a, v in enumerate(scope) if v not in family]
        table = counts[home].sum(rest) if rest else counts[home]
        kept = [v for v in scope if v in family]
        out.append(table.permute([kept.index(v) for v in family]))
    return out


def size(scopes: Sequence[Scope], cards: Scope) -> float:
    """Entries of all tables that a row needs when any of its variables may be missing.

    inf where there are too many.
    """
    try:
        return plan_of(tuple(scopes), tuple(range(len(cards))), tuple(cards), (), frozenset()).total
    except MemoryError:
        return math.inf


# ---------------------------------------------------------------------- which tables are left out


@lru_cache(maxsize=4096)
def _barren(scopes: tuple[Scope, ...], needed: frozenset[int]) -> tuple[int, ...]:
    """The factors p(x_j | parents) that sum to one when none of ``needed`` descends from x_j.

    None of them unless all factors are such.
    """
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


def _relevant(
    factors: Sequence[Factor], targets: Scope, evidence: dict[int, Tensor]
) -> Sequence[Factor]:
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
    """The distinct evidence rows, and each row's place among them.

    ``codes`` (u, k) are those of the variables ``names``.
    """

    def __init__(
        self, factors: Sequence[Factor], cards: Scope, evidence: dict[int, Tensor]
    ) -> None:
        device = factors[0][1].device if factors else torch.device("cpu")
        self.names = sorted(evidence)
        if not self.names:
            self.codes = torch.zeros(1, 0, dtype=torch.long, device=device)
            self.inverse = torch.zeros(1, dtype=torch.long, device=device)
        else:
            codes = torch.stack(
                [torch.as_tensor(evidence[v], dtype=torch.long, device=device) for v in self.names],
                1,
            )
            self.codes, self.inverse = _distinct(codes, [cards[v] for v in self.names])
        soft: list[int] = []
        never: list[int] = []
        if len(self.codes) and self.names:
            low, high = self.codes.amin(0).tolist(), self.codes.amax(0).tolist()
            for v, l, h in zip(self.names, low, high, strict=True):
                if l < -1 or h >= cards[v]:
                    raise ValueError(
                        f"evidence of variable {v} has the code {l if l < -1 else h}; it has "
                        f"codes 0 … {cards[v] - 1}, or −1 for missing"
                    )
                if l < 0:
                    (soft if h >= 0 else never).append(v)
        self.soft = tuple(soft)
        self.observed = frozenset(self.names).difference(soft, never)

    def chunks(self, size: int) -> tuple[Tensor, ...]:
        """The distinct rows, as many at a time as can be held when each takes ``size`` elements."""
        possible(size)
        return torch.split(self.codes, max(1, HELD // size))

    def spread(self, values: Tensor) -> Tensor:
        """From distinct rows to all rows."""
        return values if not self.names else values[self.inverse]

    def total(self, weight: Tensor | None) -> Tensor:
        """The weight of each distinct row."""
        w = (
            torch.ones_like(self.inverse, dtype=torch.float64)
            if weight is None
            else weight.to(self.inverse.device, torch.float64)
        )
        return torch.zeros(len(self.codes), dtype=torch.float64, device=w.device).index_add_(
            0, self.inverse, w
        )


def _distinct(codes: Tensor, cards: Sequence[int]) -> tuple[Tensor, Tensor]:
    if math.prod(c + 1 for c in cards) >= 1 << 62 or bool((codes < -1).any()):
        rows, inverse = torch.unique(codes, dim=0, return_inverse=True)
        return rows, inverse
    key = torch.zeros_like(codes[:, 0])
    for column, c in zip(codes.unbind(1), cards, strict=True):
        key = key * (c + 1) + column + 1
    _, inverse = torch.unique(key, return_inverse=True)
    first = torch.zeros(
        int(inverse.max()) + 1 if len(inverse) else 0, dtype=torch.long, device=codes.device
    )
    first[inverse] = torch.arange(len(codes), device=codes.device)
    return codes[first], inverse


# ---------------------------------------------------------------------- tables


@dataclass
class Table:
    """exp(scale) · values, or values are logarithms.

    axes: rows (where the step is ``batched``), then the scope. Entries other than 0 lie in
    exp(least) … exp(most).
    """

    scope: Scope
    values: Tensor
    batched: bool
    least: float = 0.0
    most: float = 0.0
    scale: Tensor | float = 0.0
    log: bool = False

    def log_values(self, n: int) -> Tensor:
        v = self.values if self.log else _log(self.values)
        v = v if self.batched else v[None].expand(n, *v.shape)
        return (
            v + self.scale.reshape(-1, *[1] * len(self.scope))
            if isinstance(self.scale, Tensor)
            else v
        )


def _tables(
    plan: Plan, factors: Sequence[Factor], cards: Scope, codes: Tensor, rows: _Rows, log: bool
) -> list[Table]:
    """The factors at the rows' codes, and λ of each variable of ``soft``: 1 where allowed."""
    column = {v: codes[:, k] for k, v in enumerate(rows.names)}
    out = []
    for (scope, t), live in zip(factors, plan.scopes, strict=False):
        t = t.double()
        seen = [v for v in scope if v in plan.observed]
        if seen:
            t = t.permute(
                [scope.index(v) for v in seen]
                + [a for a, v in enumerate(scope) if v not in plan.observed]
            )
            t = t[tuple(column[v] for v in seen)]
        if t.ndim > len(live) + bool(seen):  # axes of one state
            t = t.reshape(([len(codes)] if seen else []) + [cards[v] for v in live])
        out.append(Table(live, _log(t) if log else t, bool(seen), log=log))
    for v, live in zip(plan.soft, plan.scopes[len(out) :], strict=False):
        c = column[v][:, None] if v in column else codes.new_full((len(codes), 1), -1)
        one = ((c < 0) | (c == torch.arange(cards[v], device=codes.device))).double()
        values = (one.log() if log else one)[:, slice(None) if live else 0]
        out.append(Table(live, values.requires_grad_(torch.is_grad_enabled()), True, log=log))
    if len(out) < len(plan.scopes):
        out.append(
            Table((), codes.new_full((), 0.0 if log else 1.0, dtype=torch.float64), False, log=log)
        )
    return out


def _eliminated(
    plan: Plan, factors: Sequence[Factor], cards: Scope, rows: _Rows, size: int | None = None
) -> Iterator[tuple[Tensor, list[Table]]]:
    """(codes, all tables) for as many rows at a time as can be held.

    With logarithms where float64 would not suffice.
    """
    flat = torch.cat(
        [t.detach().reshape(-1) for _, t in factors] or [torch.ones(1, device=rows.codes.device)]
    )
    least, most = (float(b) for b in torch.aminmax(torch.where(flat > 0, flat, flat.amax())))
    bounds = (math.log(least), math.log(most)) if most > 0 else (0.0, 0.0)
    for codes in rows.chunks(size or plan.largest):
        try:
            if bounds[0] < -LIMIT or bounds[1] > LIMIT:
                raise _TooSmall
            tables = _tables(plan, factors, cards, codes, rows, log=False)
            for t in tables:
                t.least, t.most = bounds
            yield codes, _forward(plan, tables)
        except _TooSmall:
            possible(plan.union)
            for part in torch.split(codes, max(1, HELD // max(plan.union, size or 1))):
                yield part, _forward(plan, _tables(plan, factors, cards, part, rows, log=True))


class _TooSmall(ArithmeticError):
    """An entry beside which another is lost in float64."""


def _forward(
    plan: Plan, tables: list[Table], log_reduce: Callable[..., Tensor] | None = None
) -> list[Table]:
    """The tables and those that come of all steps; the last has its axes as in the targets."""
    done = list(tables)
    for s in plan.steps:
        A, B = done[s.a], done[s.b]
        scale = A.scale + B.scale
        if A.log:
            axes = s.kept + s.summed
            values = _aligned(A, axes, s.batched) + _aligned(B, axes, s.batched)
            if s.summed:
                values = (log_reduce or _log_sum)(values, list(range(-len(s.summed), 0)))
            done.append(Table(s.kept, values, s.batched, log=True))
        else:
            values = torch.einsum(s.equation, A.values, B.values)
            done.append(
                _rescaled(
                    Table(
                        s.kept,
                        values,
                        s.batched,
                        A.least + B.least,
                        A.most + B.most + math.log(s.terms),
                        scale,
                    )
                )
            )
    return done


def _rescaled(t: Table) -> Table:
    """Divided by every row's largest entry, where entries may be near the ends of float64."""
    if t.least >= -LIMIT and t.most <= LIMIT:
        return t
    v = t.values.detach()
    over = list(range(int(t.batched), v.ndim))
    top = v.amax(over, keepdim=True) if over else v
    top = torch.where(top > 0, top, 1.0)
    v = v / top
    least = math.log(float(torch.where(v > 0, v, 1.0).min())) if v.numel() else 0.0
    if least < -LIMIT:
        raise _TooSmall
    return Table(t.scope, t.values / top, t.batched, least, 0.0, t.scale + top.log().reshape(-1))


def _aligned(t: Table, axes: Scope, batched: bool) -> Tensor:
    """The values with an axis of each of ``axes``, 1 long where absent, and one of rows."""
    values = t.values.permute(
        [0] * t.batched + [t.batched + t.scope.index(v) for v in axes if v in t.scope]
    )
    shape = iter(values.shape)
    rows = [next(shape) if t.batched else 1] if batched else []
    return values.reshape(rows + [next(shape) if v in t.scope else 1 for v in axes])


def _log(t: Tensor) -> Tensor:
    """Logarithm whose gradient is 0 where t is."""
    return torch.where(t > 0, torch.where(t > 0, t, 1.0).log(), -math.inf)


def _log_sum(x: Tensor, over: list[int]) -> Tensor:
    """logsumexp whose gradient is 0 where all is −inf."""
    top = x.detach().amax(over, keepdim=True)
    top = torch.where(top > -math.inf, top, 0.0)
    s = (x - top).exp().sum(over)
    return _log(s) + top.reshape(s.shape)


def _backward(
    plan: Plan,
    kept: list[Table],
    rows: _Rows,
    codes: Tensor,
    which: Tensor,
    cards: Scope,
    choose: Callable[[Tensor], Tensor],
) -> Tensor:
    """Codes (N, d) of all variables: the observed, and those that ``choose`` picks by log-weights.

    It picks one for each row of log-weights of an eliminated variable.

    which: (N,) the evidence row of each. Variables in no table stay 0.
    """
    out = codes.new_zeros(len(which), len(cards))
    for k, v in enumerate(rows.names):
        if v in plan.observed:
            out[:, v] = codes[which, k]
    for s in reversed(plan.steps):
        if not s.summed:
            continue
        log_w: Tensor | None = None
        for t in (kept[s.a], kept[s.b]):
            known = [v for v in t.scope if v not in s.summed]
            free = [v for v in s.summed if v in t.scope]
            values = t.values.permute(
                [0] * t.batched + [t.batched + t.scope.index(v) for v in known + free]
            )
            if t.batched or known:
                values = values[(*[which] * t.batched, *(out[:, v] for v in known))]
            values = values.reshape(
                len(which) if t.batched or known else 1,
                *[cards[v] if v in free else 1 for v in s.summed],
            )
            values = values if t.log else values.log()
            log_w = values if log_w is None else log_w + values
        assert log_w is not None
        shape = [cards[v] for v in s.summed]
        pick = choose(log_w.expand(len(which), *shape).reshape(len(which), s.terms))
        for v, c in zip(s.summed, torch.unravel_index(pick, shape), strict=True):
            out[:, v] = c
    return out
