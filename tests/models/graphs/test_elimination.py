"""Exact inference against enumeration of the joint."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genus.models.graphs import elimination
from genus.models.graphs.elimination import (
    Factor,
    draw,
    expected_counts,
    explain,
    log_marginal,
    posteriors,
)

Net = tuple[list[Factor], tuple[int, ...]]
SEEDS = st.integers(0, 2**32 - 1)


def network(
    rng: np.random.Generator, d: int, zeros: float = 0.0, max_card: int = 3, parents: int = 3
) -> Net:
    """A random Bayesian network with variables numbered, and factors standing, in any order."""
    cards = tuple(int(c) for c in rng.integers(1, max_card + 1, d))
    order, factors = rng.permutation(d).tolist(), []
    for k, j in enumerate(order):
        up = (
            rng.choice(order[:k], min(k, int(rng.integers(parents + 1))), replace=False).tolist()
            if k
            else []
        )
        t = rng.dirichlet(np.ones(cards[j]), [cards[u] for u in up])
        t = np.where(rng.random(t.shape) < zeros, 0.0, t)
        t = np.where(t.sum(-1, keepdims=True) > 0, t, 1.0)
        factors.append(((*up, j), torch.tensor(t / t.sum(-1, keepdims=True))))
    return [factors[i] for i in rng.permutation(d)], cards


def log_joint(factors: list[Factor], cards: tuple[int, ...]) -> Tensor:
    """log p(x) of every x, by enumeration."""
    out = torch.zeros(cards, dtype=torch.float64)
    for scope, t in factors:
        order = sorted(range(len(scope)), key=lambda k: scope[k])
        out = out + t.permute(order).log().reshape(
            [c if v in scope else 1 for v, c in enumerate(cards)]
        )
    return out


def restricted(joint: Tensor, row: dict[int, int]) -> Tensor:
    """The joint where the row's evidence holds, −inf elsewhere; −1 is no evidence."""
    at = tuple(
        slice(None) if row.get(v, -1) < 0 else slice(row[v], row[v] + 1) for v in range(joint.ndim)
    )
    out = torch.full_like(joint, -math.inf)
    out[at] = joint[at]
    return out


def summed(log_p: Tensor, kept: tuple[int, ...]) -> Tensor:
    """Logarithm of the sum over all other variables, with the axes in the order of ``kept``."""
    rest = [v for v in range(log_p.ndim) if v not in kept]
    out = torch.logsumexp(log_p, rest) if rest else log_p
    return out.permute([sorted(kept).index(v) for v in kept])


def problem(
    seed: int, missing: bool = False, zeros: float = 0.0
) -> tuple[Net, tuple[int, ...], dict[int, Tensor], list[dict[int, int]]]:
    """A network, targets, evidence, and the evidence row by row."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 8))
    factors, cards = network(rng, d, zeros)
    order = rng.permutation(d).tolist()
    a = int(rng.integers(0, d + 1))
    b = int(rng.integers(0, d - a + 1))
    evidence = {
        v: torch.tensor(rng.integers(-1 if missing else 0, cards[v], 5)) for v in order[a : a + b]
    }
    rows = [{v: int(c[r]) for v, c in evidence.items()} for r in range(5 if evidence else 1)]
    return (factors, cards), tuple(order[:a]), evidence, rows


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10, equal_nan=True)


# ------------------------------------------------------------- every query is what enumeration says


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=SEEDS, missing=st.booleans(), zeros=st.sampled_from([0.0, 0.4]))
def test_marginals_are_enumerations(seed: int, missing: bool, zeros: float) -> None:
    (factors, cards), targets, evidence, rows = problem(seed, missing, zeros)
    joint = log_joint(factors, cards)
    got = log_marginal(factors, cards, targets, evidence)
    assert got.shape == (len(rows), *(cards[t] for t in targets))
    for value, row in zip(got, rows, strict=True):
        close(value, summed(restricted(joint, row), targets))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=SEEDS, missing=st.booleans(), zeros=st.sampled_from([0.0, 0.4]))
def test_posteriors_of_all_variables_at_once(seed: int, missing: bool, zeros: float) -> None:
    (factors, cards), targets, evidence, rows = problem(seed, missing, zeros)
    targets = (*targets, *list(evidence)[:1])  # observed ones too
    joint = log_joint(factors, cards)
    for t, p in zip(targets, posteriors(factors, cards, targets, evidence), strict=True):
        assert p.shape == (len(rows), cards[t])
        for value, row in zip(p, rows, strict=True):
            log_p = summed(restricted(joint, row), (t,))
            # NaN where the evidence is impossible
            close(value, (log_p - torch.logsumexp(log_p, 0)).exp())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=SEEDS, missing=st.booleans(), zeros=st.sampled_from([0.0, 0.4]))
def test_explanations_are_the_best(seed: int, missing: bool, zeros: float) -> None:
    (factors, cards), _, evidence, rows = problem(seed, missing, zeros)
    joint = log_joint(factors, cards)
    codes, value = explain(factors, cards, evidence)
    assert codes.shape == (len(rows), len(cards))
    for x, v, row in zip(codes, value, rows, strict=True):
        best = restricted(joint, row).max()
        close(v, best)
        if best > -math.inf:  # the codes agree with the evidence and attain it
            close(restricted(joint, row)[tuple(x)], best)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=SEEDS, missing=st.booleans(), zeros=st.sampled_from([0.0, 0.4]))
def test_expected_counts_are_sums_of_posteriors(seed: int, missing: bool, zeros: float) -> None:
    (factors, cards), targets, evidence, rows = problem(seed, missing, zeros)
    families = [scope for scope, _ in factors] + [targets[:3], targets[:1]]  # in a factor or not
    weight = torch.rand(
        len(rows), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    expected = [torch.zeros([cards[v] for v in f], dtype=torch.float64) for f in families]
    joint = log_joint(factors, cards)
    for w, row in zip(weight, rows, strict=True):
        log_p = restricted(joint, row)
        total = torch.logsumexp(log_p.reshape(-1), 0)
        if total > -math.inf:
            for table, f in zip(expected, families, strict=True):
                table += w * summed(log_p - total, f).exp()
    for got, table in zip(
        expected_counts(factors, cards, families, evidence, weight), expected, strict=True
    ):
        close(got, table)


@pytest.mark.parametrize("missing", [False, True])
def test_draws_follow_the_posterior(missing: bool) -> None:
    factors, cards = network(np.random.default_rng(3), 6, zeros=0.2, max_card=3)
    joint = log_joint(factors, cards)
    seen = max(range(6), key=lambda v: cards[v])
    rows = [c for c in range(cards[seen]) if summed(joint, (seen,))[c] > -math.inf] + [-1] * missing
    assert len(rows) > 1
    targets = tuple(v for v in (5, 0, 3, 1) if v != seen)
    n = 6000
    evidence = {seen: torch.tensor(rows).repeat_interleave(n)}
    x = draw(factors, cards, targets, evidence, torch.Generator().manual_seed(0))
    assert x.shape == (n * len(rows), len(targets))
    size = [cards[t] for t in targets]
    for part, code in zip(x.split(n), rows, strict=True):
        p = summed(restricted(joint, {seen: code}), targets)
        p = (p - torch.logsumexp(p.reshape(-1), 0)).exp().reshape(-1)
        place = (part * torch.tensor([math.prod(size[k + 1 :]) for k in range(len(size))])).sum(1)
        freq = torch.bincount(place, minlength=len(p)) / n
        assert (freq[p == 0] == 0).all()
        assert ((freq - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-9).all()


def test_the_same_generator_draws_the_same() -> None:
    factors, cards = network(np.random.default_rng(4), 7)
    evidence = {2: torch.zeros(50, dtype=torch.long)}
    a, b, c = (
        draw(factors, cards, (0, 1, 2), evidence, torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    )
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert (a[:, 2] == 0).all()  # an observed target keeps its code


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_factors_need_not_be_conditionals(seed: int) -> None:
    """Unnormalised tables, as of a Markov random field: nothing may be taken for barren."""
    (factors, cards), targets, evidence, rows = problem(seed)
    rng = np.random.default_rng(seed)
    factors = [(s, t * torch.tensor(10.0 ** rng.uniform(-2, 2, t.shape))) for s, t in factors]
    got = log_marginal(factors, cards, targets, evidence)
    for value, row in zip(got, rows, strict=True):
        close(value, summed(restricted(log_joint(factors, cards), row), targets))


def test_a_loop_of_normalised_tables_is_not_barren() -> None:
    t = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    factors, cards = [((0, 1), t), ((1, 0), t.T.contiguous().T)], (2, 2)
    close(
        log_marginal(factors, cards, (), {})[0],
        torch.logsumexp(log_joint(factors, cards).reshape(-1), 0),
    )


# --------------------------------------------------------------------- rare and impossible evidence


def chain(n: int, p: float) -> Net:
    """x_0 → x_1 → …, x_i observed through y_i: variables 0 … n−1 and n … 2n−1."""
    t = torch.tensor([[1 - p, p], [p, 1 - p]], dtype=torch.float64)
    factors: list[Factor] = [((0,), torch.tensor([0.5, 0.5], dtype=torch.float64))]
    factors += [((i, i + 1), t) for i in range(n - 1)] + [((i, n + i), t) for i in range(n)]
    return factors, (2,) * (2 * n)


def forward(n: int, p: float, y: list[int]) -> float:
    """log p(y) of the chain by the forward algorithm in logarithms."""
    t = torch.tensor([[1 - p, p], [p, 1 - p]], dtype=torch.float64).log()
    a = torch.full((2,), -math.log(2), dtype=torch.float64)
    for i, c in enumerate(y):
        a = (a if i == 0 else torch.logsumexp(a[:, None] + t, 0)) + t[:, c]
    return float(torch.logsumexp(a, 0))


@pytest.mark.parametrize("p", [1e-3, 1e-9, 1e-40])
def test_rare_evidence_does_not_underflow(p: float) -> None:
    n = 400
    factors, cards = chain(n, p)
    y = torch.randint(2, (n,), generator=torch.Generator().manual_seed(0))
    evidence = {n + i: y[i : i + 1] for i in range(n)}
    truth = forward(n, p, y.tolist())
    assert truth < math.log(1e-300)
    assert float(log_marginal(factors, cards, (), evidence)) == pytest.approx(truth, rel=1e-12)
    codes, best = explain(factors, cards, evidence)
    assert float(best) <= truth and torch.equal(codes[0, n:], y)
    assert float(posteriors(factors, cards, (7,), evidence)[0].sum()) == pytest.approx(1, abs=1e-9)
    counts = expected_counts(factors, cards, [(0,), (5, 6)], evidence)
    assert all(float(c.sum()) == pytest.approx(1, abs=1e-9) for c in counts)


@pytest.mark.parametrize("p", [1e-200, 1e-140])
def test_what_is_lost_beside_another_is_found_again(p: float) -> None:
    """p⁴ beside 1 is nothing in float64, and all there is once the other is impossible."""
    tiny, only = (
        torch.tensor([1, p], dtype=torch.float64),
        torch.tensor([0, 1], dtype=torch.float64),
    )
    factors = [((0,), tiny)] * 4 + [((0,), only)]
    assert float(log_marginal(factors, (2,), (), {})) == pytest.approx(4 * math.log(p), rel=1e-12)
    close(expected_counts(factors, (2,), [(0,)], {})[0], only)
    close(posteriors(factors, (2,), (0,), {})[0][0], only)
    close(
        log_marginal(factors[:4], (2,), (0,), {})[0],
        torch.tensor([0, 4 * math.log(p)], dtype=torch.float64),
    )
    assert draw(factors, (2,), (0,), {}, torch.Generator().manual_seed(0)).tolist() == [[1]]


@pytest.mark.parametrize("value", [1e200, 1e140])
def test_large_entries_do_not_overflow(value: float) -> None:
    factors = [((0, 1), torch.full((2, 2), value, dtype=torch.float64))] * 5
    assert float(log_marginal(factors, (2, 2), (), {})) == pytest.approx(
        5 * math.log(value) + math.log(4), rel=1e-12
    )


def test_impossible_evidence() -> None:
    factors, cards = (
        [((0,), torch.tensor([0.5, 0.5])), ((0, 1), torch.tensor([[1.0, 0.0], [0.5, 0.5]]))],
        (2, 2),
    )
    evidence = {0: torch.tensor([1, 0, 0]), 1: torch.tensor([1, 1, 0])}
    close(
        log_marginal(factors, cards, (), evidence),
        torch.tensor([0.25, 0.0, 0.5], dtype=torch.float64).log(),
    )
    assert explain(factors, cards, evidence)[1][1] == -math.inf
    counts = expected_counts(factors, cards, [(1,)], evidence)[0]
    close(counts, torch.tensor([1, 1], dtype=torch.float64))  # that row counts nothing
    with pytest.raises(ValueError, match="row 1 .* probability 0"):
        draw(factors, cards, (0,), evidence, torch.Generator())


# ---------------------------------------------------------------------- size and shape


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    factors, cards = network(rng, 8)
    evidence = {v: torch.tensor(rng.integers(-1, cards[v], 40)) for v in (0, 3, 6)}
    weight = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def answers() -> list[Tensor]:
        rng = torch.Generator().manual_seed(0)
        families = [s for s, _ in factors]
        queries = [
            log_marginal(factors, cards, (1, 4), evidence),
            *explain(factors, cards, evidence),
        ]
        queries += posteriors(factors, cards, (1, 4, 7), evidence)
        return [
            *queries,
            *expected_counts(factors, cards, families, evidence, weight),
            draw(factors, cards, (0, 3), evidence, rng)[:, :0],
        ]

    whole, held, original = answers(), [], elimination._tables

    def spy(plan, factors, cards, codes, *rest, **kw):  # type: ignore[no-untyped-def]
        held.append(len(codes))
        return original(plan, factors, cards, codes, *rest, **kw)

    monkeypatch.setattr(elimination, "_tables", spy)
    monkeypatch.setattr(elimination, "HELD", 1)
    for a, b in zip(whole, answers(), strict=True):
        close(a, b)
    assert max(held) == 1  # one row at a time


def test_barren_variables_are_left_out() -> None:
    """A clique of 40 children of one root is too large; asking for the root needs none of it."""
    rng = np.random.default_rng(0)
    cards = (2,) + (2,) * 40
    factors: list[Factor] = [((0,), torch.tensor([0.3, 0.7], dtype=torch.float64))]
    for j in range(1, 41):
        up = tuple(range(max(0, j - 12), j))
        factors.append(((*up, j), torch.tensor(rng.dirichlet(np.ones(2), [2] * len(up)))))
    rows = elimination._Rows(factors, cards, {})
    assert len(elimination._relevant(factors, (0,), {})) == 1
    assert len(elimination._relevant(factors, (), {3: torch.tensor([0])})) == 4
    assert rows.observed == frozenset()
    close(log_marginal(factors, cards, (0,), {})[0].exp(), factors[0][1])


def test_more_variables_than_letters() -> None:
    d = 150
    t = torch.tensor(np.random.default_rng(0).dirichlet(np.ones(3), (3,)))
    factors: list[Factor] = [((0,), t[0])] + [((i - 1, i), t) for i in range(1, d)]
    got = log_marginal(factors, (3,) * d, (d - 1,), {0: torch.tensor([0, 1, 2, 1])})
    expected = torch.linalg.matrix_power(t, d - 1) * t[0][:, None]
    close(got.exp(), expected[[0, 1, 2, 1]])


def test_bad_queries_say_so() -> None:
    factors, cards = network(np.random.default_rng(0), 4, max_card=2)
    with pytest.raises(ValueError, match=r"targets \[1\] are observed"):
        log_marginal(factors, cards, (1,), {1: torch.tensor([0])})
    with pytest.raises(ValueError, match="twice"):
        log_marginal(factors, cards, (1, 1), {})
    for code in (-2, cards[2]):
        with pytest.raises(ValueError, match=f"variable 2 has the code {code}"):
            log_marginal(factors, cards, (), {2: torch.tensor([0, code])})


def test_no_rows_and_one_state() -> None:
    factors, cards = network(np.random.default_rng(0), 5, max_card=2)
    none = {0: torch.zeros(0, dtype=torch.long)}
    assert log_marginal(factors, cards, (1, 2), none).shape == (0, cards[1], cards[2])
    assert explain(factors, cards, none)[0].shape == (0, 5)
    assert draw(factors, cards, (1,), none, torch.Generator()).shape == (0, 1)
    assert all((c == 0).all() for c in expected_counts(factors, cards, [(1, 2)], none))
    one = [
        ((0,), torch.ones(1, dtype=torch.float64)),
        ((0, 1), torch.ones(1, 1, dtype=torch.float64)),
    ]
    assert log_marginal(one, (1, 1), (0, 1), {}).shape == (1, 1, 1)


def test_equal_rows_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    factors, cards = network(np.random.default_rng(2), 6, max_card=2)
    seen: list[int] = []
    original = elimination._tables

    def spy(plan, factors, cards, codes, *rest, **kw):  # type: ignore[no-untyped-def]
        seen.append(len(codes))
        return original(plan, factors, cards, codes, *rest, **kw)

    monkeypatch.setattr(elimination, "_tables", spy)
    log_marginal(factors, cards, (), {v: torch.arange(1000) % cards[v] for v in (0, 1)})
    assert sum(seen) <= cards[0] * cards[1]
