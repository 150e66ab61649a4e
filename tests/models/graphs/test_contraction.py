"""The order of elimination: valid, small, and honest about what cannot be done."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.models.graphs import contraction
from genus.models.graphs.contraction import min_fill, plan_of
from genus.models.graphs.elimination import Factor, log_marginal


def grid(m: int) -> list[tuple[int, ...]]:
    """The pairs of neighbours on an m × m grid."""
    return [
        (i * m + j, i * m + j + s)
        for i in range(m)
        for j in range(m)
        for s, ok in ((1, j + 1 < m), (m, i + 1 < m))
        if ok
    ]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(st.integers(0, 6), unique=True, max_size=4).map(tuple), min_size=2, max_size=8
    ),
    st.sets(st.integers(0, 6), max_size=2),
)
def test_min_fill_multiplies_every_table_once(scopes: list[tuple[int, ...]], out: set[int]) -> None:
    path = min_fill(scopes, (2,) * 7, tuple(sorted(out)))
    assert sorted(k for pair in path for k in pair) == list(range(2 * len(scopes) - 2))
    assert all(max(pair) < len(scopes) + i for i, pair in enumerate(path))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_both_orders_give_the_same_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = 7
    cards = tuple(int(c) for c in rng.integers(1, 4, d))
    factors: list[Factor] = []
    for _ in range(9):
        scope = tuple(rng.choice(d, int(rng.integers(0, 4)), replace=False).tolist())
        factors.append((scope, torch.tensor(rng.random([cards[v] for v in scope]))))
    factors += [((v,), torch.ones(cards[v], dtype=torch.float64)) for v in range(d)]
    greedy = log_marginal(factors, cards, (3, 1), {5: torch.arange(cards[5])})
    with pytest.MonkeyPatch.context() as patch:
        plan_of.cache_clear()
        patch.setattr(contraction, "LARGE", -1)
        patch.setattr(
            contraction,
            "ssa_greedy_optimize",
            lambda s, *_: [(0, 1), *((k, len(s) + k - 2) for k in range(2, len(s)))],
        )
        other = log_marginal(factors, cards, (3, 1), {5: torch.arange(cards[5])})
        plan_of.cache_clear()
    torch.testing.assert_close(greedy, other, rtol=0, atol=1e-10)


def test_a_chain_needs_no_table_of_three() -> None:
    scopes = tuple((i, i + 1) for i in range(30))
    assert plan_of(scopes, (), (5,) * 31, (), frozenset()).largest == 25


def test_min_fill_steps_in_where_greed_needs_large_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """With tables as they come, pairs from all over the grid pile up; min-fill sweeps over it."""
    pairs = grid(8)
    scopes = tuple(
        pairs[k]
        for k in torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0)).tolist()
    )
    monkeypatch.setattr(
        contraction,
        "ssa_greedy_optimize",
        lambda s, *_: [(0, 1), *((k, len(s) + k - 2) for k in range(2, len(s)))],
    )
    monkeypatch.setattr(contraction, "LARGE", math.inf)
    with pytest.raises(MemoryError):
        plan_of.__wrapped__(scopes, (), (2,) * 64, (), frozenset())
    monkeypatch.setattr(contraction, "LARGE", 1 << 16)
    assert plan_of.__wrapped__(scopes, (), (2,) * 64, (), frozenset()).largest <= 2**9


def test_observed_variables_take_no_room() -> None:
    """Every third row of the grid observed: what is left is narrow."""
    scopes, cards = tuple(grid(12)), (2,) * 144
    seen = frozenset(v for v in range(144) if v // 12 % 3 == 0)
    assert plan_of(scopes, (), cards, (), seen).largest <= 8
    assert plan_of(scopes, tuple(seen), cards, (), frozenset()).largest >= 2**10


def test_an_impossible_query_says_what_to_do() -> None:
    d = 36
    factors: list[Factor] = [
        ((i, j), torch.ones(2, 2, dtype=torch.float64)) for i in range(d) for j in range(i)
    ]
    with pytest.raises(MemoryError, match=r"fewer targets|more evidence"):
        log_marginal(factors, (2,) * d, (), {})
    seen = {v: torch.tensor([0]) for v in range(20)}
    assert float(log_marginal(factors, (2,) * d, (), seen)) == pytest.approx(
        16 * math.log(2), rel=1e-12
    )
    with pytest.raises(MemoryError):  # the answer itself is too large
        log_marginal(
            [((v,), torch.ones(2, dtype=torch.float64)) for v in range(40)],
            (2,) * 40,
            tuple(range(40)),
            {},
        )
