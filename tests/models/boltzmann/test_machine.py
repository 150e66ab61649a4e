"""The Boltzmann machine against enumeration of everything."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genus import BoltzmannMachine, Independent, Space, Trainer
from genus.learn.rows import generator

QUICK = Trainer(epochs=2, batch_size=20)
VALUES = {"bits": (0.0, 1.0), "spins": (-1.0, 1.0)}
states = pytest.mark.parametrize("states", VALUES)


def every(n: int, states: str = "bits") -> Tensor:
    """All states of n units."""
    return torch.tensor(list(itertools.product(VALUES[states], repeat=n)), dtype=torch.float64)


def machine(d: int, size: float = 0.7, seed: int = 0, **more: Any) -> BoltzmannMachine:
    """A machine of float64 at random parameters."""
    X = np.random.default_rng(3).integers(0, 2, (40, d))
    m = BoltzmannMachine(trainer=QUICK, random_state=0, **more).fit(X).double()
    rng = generator(seed)
    with torch.no_grad():
        for p in (m.W_, m.b_):
            p.copy_(size * torch.randn(p.shape, generator=rng))
        m.W_.tril_()  # as a mistake: nothing on or below the diagonal may count
        m.W_.add_(size * torch.randn(m.W_.shape, generator=rng).triu(1))
    m.__dict__.pop("log_partition_", None)
    return m


def by_loops(m: BoltzmannMachine, s: Tensor) -> Tensor:
    """E of every row, written out."""
    W, b = m.W_.detach().numpy(), m.b_.detach().numpy()
    out = []
    for row in s.numpy():
        e = -sum(b[i] * row[i] for i in range(len(row)))
        e -= sum(W[i, j] * row[i] * row[j] for i, j in itertools.combinations(range(len(row)), 2))
        out.append(e)
    return torch.tensor(out)


# ---------------------------------------------------------------------- energies and Z


@states
def test_energy_and_partition_function_by_loops(states: str) -> None:
    m, s = machine(5, states=states), every(5, states)
    e = by_loops(m, s)
    codes = every(5)
    np.testing.assert_allclose(m.energy(codes).detach(), e, atol=1e-10)
    np.testing.assert_allclose(m.energy(codes.numpy().astype(int)), e, atol=1e-5)
    assert m.log_partition("exact").value == pytest.approx(float(torch.logsumexp(-e, 0)))
    p = m.log_prob(codes.numpy().astype(int))
    assert p.kind == "exact" and np.exp(p.nats).sum() == pytest.approx(1, abs=1e-5)
    assert m.n_parameters() == 15


@states
def test_hidden_units_are_summed_over(states: str) -> None:
    m = machine(3, n_hidden=2, states=states)
    e = by_loops(m, every(5, states)).reshape(8, 4)
    np.testing.assert_allclose(
        m.free_energy(every(3)).detach(), -torch.logsumexp(-e, 1), atol=1e-10
    )
    h = every(2)[1].expand(8, -1)
    np.testing.assert_allclose(m.energy(every(3), h).detach(), e[:, 1], atol=1e-10)
    with pytest.raises(ValueError, match="^h: pass"):
        m.energy(every(3))


def test_spins_and_bits_are_one_family() -> None:
    """s = 2x − 1: W = 4 J and b = 2 f − 2 Σ_j J_ij, but for a constant."""
    spins, bits = machine(4, states="spins"), machine(4)
    with torch.no_grad():
        J = spins.W_.triu(1)
        bits.W_.copy_(4 * J)
        bits.b_.copy_(2 * spins.b_ - 2 * (J + J.T).sum(1))
    X = every(4).numpy().astype(int)
    np.testing.assert_allclose(spins.score_samples(X), bits.score_samples(X), atol=1e-6)


@states
@pytest.mark.parametrize("size", [0.5, 3.0])
def test_annealing_agrees_with_enumeration(states: str, size: float) -> None:
    for seed in range(2):
        m = machine(8, size, seed, states=states)
        ais = m.log_partition("ais", n_chains=200, n_annealing=300, reverse=False)
        assert abs(ais.value - m.log_partition("exact").value) < 3 * ais.stderr + 2e-3


@states
def test_without_weights_log_z_has_a_closed_form(states: str) -> None:
    m = machine(30, states=states)
    with torch.no_grad():
        m.W_.zero_()
    low, high = VALUES[states]
    want = float(torch.logaddexp(low * m.b_, high * m.b_).sum().detach())
    for method in ("mean-field", "tap"):
        assert m.log_partition(method).value == pytest.approx(want, abs=1e-8)
    with torch.no_grad():
        m.base_.copy_(m.b_)
    assert m.log_partition("ais", n_annealing=2).value == pytest.approx(want, abs=1e-8)


@states
def test_mean_field_is_a_bound_and_tap_is_nearer(states: str) -> None:
    gaps = []
    for seed in range(8):
        m = machine(8, 0.25, seed, states=states)
        truth = m.log_partition("exact").value
        naive, tap = m.log_partition("mean-field"), m.log_partition("tap")
        assert naive.value <= truth + 1e-9 and not naive.exact
        assert naive.detail["last_move"] < 1e-10
        gaps.append((truth - naive.value, abs(truth - tap.value)))
    naive_gap, tap_gap = np.mean(gaps, 0)
    assert tap_gap < 0.3 * naive_gap


def test_an_ising_model_of_nine_spins_at_three_temperatures() -> None:
    """3 × 3 with free edges: ⟨|m|⟩ of chains is that of an enumeration without the model."""
    edges = [(i, i + 1) for i in range(9) if i % 3 < 2] + [(i, i + 3) for i in range(6)]
    assert len(edges) == 12
    s = every(9, "spins")
    bonds = sum(s[:, i] * s[:, j] for i, j in edges)
    size = s.mean(1).abs()
    found = []
    for T in (1.0, 2.27, 5.0):
        m = machine(9, states="spins")
        with torch.no_grad():
            m.W_.zero_(), m.b_.zero_(), m.base_.zero_()
            for i, j in edges:
                m.W_[i, j] = 1 / T
        assert m.log_partition("exact").value == pytest.approx(
            float(torch.logsumexp(bonds / T, 0)), abs=1e-9
        )
        p = torch.softmax(bonds / T, 0)
        x = 2 * m.sample(4000, random_state=0) - 1
        assert abs(x.mean()) < 0.08  # without a field the sign is fair
        assert np.abs(x.mean(1)).mean() == pytest.approx(float(p @ size), abs=0.02)
        assert (x.mean(1) ** 2).mean() == pytest.approx(float(p @ size**2), abs=0.02)
        found.append(float(p @ size))
    assert found[0] > found[1] > found[2]


# ---------------------------------------------------------------------- gradients


def exact_gradient(m: BoltzmannMachine, x: Tensor) -> list[Tensor]:
    """Of the mean −log p of codes x, by autograd of an enumerated log Z."""
    d = m.space_.dim
    nll = m._free_energy(m._states(x)).mean() + torch.logsumexp(
        -m._free_energy(m._states(every(d))), 0
    )
    return list(torch.autograd.grad(nll, [m.W_, m.b_]))


def probabilities(m: BoltzmannMachine) -> Tensor:
    return torch.softmax(-m._free_energy(m._states(every(m.space_.dim))).detach(), 0)


@states
@pytest.mark.parametrize("n_hidden", [0, 2])
def test_data_less_the_enumerated_model_is_the_exact_gradient(states: str, n_hidden: int) -> None:
    m = machine(4, states=states, n_hidden=n_hidden, method="pcd")
    x = every(4)[torch.randint(16, (12,), generator=generator(0))]
    total = [torch.zeros_like(p) for p in (m.W_, m.b_)]
    m.rng = generator(0)
    for v, share in zip(m._states(every(4)), probabilities(m), strict=True):
        whole = torch.cat([v, v.new_zeros(n_hidden)])
        m._swept = lambda *_, whole=whole: whole[None]  # type: ignore[method-assign]
        ((_, loss),) = m.losses(x)
        for t, g in zip(total, torch.autograd.grad(loss, [m.W_, m.b_]), strict=True):
            t += share * g
    for a, b in zip(total, exact_gradient(m, x), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    exact = machine(4, states=states, n_hidden=n_hidden, method="exact")
    ((_, loss),) = exact.losses(x)
    for a, b in zip(
        torch.autograd.grad(loss, [exact.W_, exact.b_]), exact_gradient(exact, x), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def sweep_matrix(m: BoltzmannMachine) -> Tensor:
    """P(after a sweep | before) of all states, from the table of probabilities alone."""
    p, d = probabilities(m), m.space_.dim
    whole = torch.eye(2**d, dtype=torch.float64)
    for i in range(d):
        step = torch.zeros_like(whole)
        bit = 2 ** (d - 1 - i)
        for s in range(2**d):
            up, down = s | bit, s & ~bit
            step[s, up] = p[up] / (p[up] + p[down])
            step[s, down] = p[down] / (p[up] + p[down])
        whole = whole @ step
    return whole


@states
def test_a_sweep_is_what_the_conditionals_say(states: str) -> None:
    m = machine(4, states=states)
    P = sweep_matrix(m)
    for s in (0, 6, 15):
        end = m.gibbs(8000, 1, start=every(4)[s : s + 1].numpy().astype(int), random_state=s)
        shares = np.bincount(end @ (8, 4, 2, 1), minlength=16) / 8000
        assert 0.5 * np.abs(shares - P[s].numpy()).sum() < 0.03


def test_expected_contrastive_divergence_tends_to_the_gradient_as_k_grows() -> None:
    m = machine(4)
    x = every(4)[torch.randint(16, (12,), generator=generator(0))]
    P = sweep_matrix(m)
    start = torch.zeros(16, dtype=torch.float64)
    for row in x:
        start[int(row @ torch.tensor([8.0, 4, 2, 1], dtype=torch.float64))] += 1 / len(x)
    exact = torch.cat([g.flatten() for g in exact_gradient(m, x)])
    far = []
    for k in (1, 3, 10, 30):
        ends = start @ torch.linalg.matrix_power(P, k)
        f = m._free_energy(m._states(every(4)))
        loss = m._free_energy(m._states(x)).mean() - ends @ f
        grad = torch.cat([g.flatten() for g in torch.autograd.grad(loss, [m.W_, m.b_])])
        far.append(float((grad - exact).norm()))
    assert far[0] > far[1] > far[2] > far[3] and far[3] < 1e-6 < 1e-3 < far[0]


@states
def test_the_pseudo_likelihood_is_a_product_of_conditionals(states: str) -> None:
    m = machine(4, states=states)
    p, x = probabilities(m), every(4)
    want = torch.zeros(16, dtype=torch.float64)
    for s in range(16):
        for bit in (1, 2, 4, 8):
            want[s] += torch.log(p[s] / (p[s] + p[s ^ bit]))
    torch.testing.assert_close(m.pseudo_log_likelihood(x).detach(), want, atol=1e-9, rtol=0)
    m = machine(3, n_hidden=2, states=states)
    x = every(3)
    p = torch.softmax(-m._free_energy(m._states(x)).detach(), 0)
    want = torch.zeros(8, dtype=torch.float64)
    for s in range(8):
        for bit in (1, 2, 4):
            want[s] += torch.log(p[s] / (p[s] + p[s ^ bit]))
    torch.testing.assert_close(m.pseudo_log_likelihood(x).detach(), want, atol=1e-9, rtol=0)


# ---------------------------------------------------------------------- missing cells


@states
@pytest.mark.parametrize("n_hidden", [0, 2])
def test_missing_cells_are_summed_over(
    states: str, n_hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = machine(4, states=states, n_hidden=n_hidden)
    p = m.log_prob(every(4).numpy().astype(int))
    rows = np.array([[0, 1, 1, 0], [0, np.nan, 1, np.nan], [np.nan] * 4, [np.nan, 1, 0, 0]])
    fits = (rows[:, None] == every(4).numpy()) | np.isnan(rows[:, None])
    want = np.log(fits.all(2) @ np.exp(p.nats))
    found = m.log_prob(rows)
    assert found.kind == "exact"
    np.testing.assert_allclose(found.nats, want, atol=1e-6)
    monkeypatch.setattr("genus.models.boltzmann.machine.SUMMED", 0)
    annealed = m.log_prob(rows)
    assert annealed.kind == "lower bound" and annealed.stderr[0] == 0 < annealed.stderr[1]
    np.testing.assert_allclose(annealed.nats, want, atol=0.3)
    np.testing.assert_allclose(m.log_prob(rows[2:]).nats, annealed.nats[2:], atol=1e-6)


@states
@pytest.mark.parametrize("n_hidden", [0, 2])
def test_the_exact_loss_of_rows_with_gaps_is_their_likelihood(states: str, n_hidden: int) -> None:
    m = machine(4, states=states, n_hidden=n_hidden)
    rows = torch.tensor([[0, 1, 1, 0], [0, math.nan, 1, math.nan], [math.nan, 1, 0, 0]]).double()
    (_, loss), *_ = m.losses(rows)
    assert float(loss.detach()) == pytest.approx(-m.score(rows.numpy()), abs=1e-6)


@pytest.mark.parametrize("method", ["exact", "pseudo", "pcd", "cd"])
def test_rows_with_gaps_are_learned_from(method: str) -> None:
    """A third of the cells is missing: what is drawn in their place keeps pairs together."""
    X, held = patterns(600), patterns(500, seed=1)
    r = np.random.default_rng(0)
    gaps = np.where(r.random(X.shape) < 0.3, np.nan, X)
    trainer = Trainer(epochs=15, batch_size=50, lr=0.05)
    m = BoltzmannMachine(method=method, trainer=trainer, random_state=0).fit(gaps)
    assert m.score(held) > exact_score() - 0.15
    filled = np.where(np.isnan(gaps), np.nanmean(gaps, 0).round(), gaps).astype(int)
    naive = BoltzmannMachine(method=method, trainer=trainer, random_state=0).fit(filled)
    assert m.score(held) > naive.score(held) + 0.05


# ---------------------------------------------------------------------- learning


def patterns(n: int, seed: int = 0) -> np.ndarray:
    """Bits in pairs of near equals."""
    r = np.random.default_rng(seed)
    return np.repeat(r.integers(0, 2, (n, 3)), 2, axis=1) ^ (r.random((n, 6)) < 0.1)


@states
def test_at_the_maximum_moments_are_those_of_the_data(states: str) -> None:
    X = patterns(400)
    trainer = Trainer(epochs=600, batch_size=400, lr=0.05, weight_decay=0.0, schedule="cosine")
    m = BoltzmannMachine(states=states, trainer=trainer, random_state=0).fit(X)
    p = np.exp(m.score_samples(every(6).numpy().astype(int)).astype(float))
    s, data = every(6).numpy(), X
    np.testing.assert_allclose(p @ s, data.mean(0), atol=1e-4)
    pairs = np.einsum("s,si,sj->ij", p, s, s)
    np.testing.assert_allclose(pairs, data.T @ data / len(data), atol=1e-4)


@cache
def exact_score() -> float:
    """Of the held-out rows, by exact learning."""
    X, held = patterns(1000), patterns(500, seed=1)
    return BoltzmannMachine(trainer=Trainer(epochs=60), random_state=0).fit(X).score(held)


@pytest.mark.parametrize(
    "more", [{"method": "pseudo"}, {"method": "pcd"}, {"method": "cd"}, {"n_hidden": 2}]
)
def test_training_finds_the_structure(more: dict[str, Any]) -> None:
    X, held = patterns(1000), patterns(500, seed=1)
    trainer = Trainer(epochs=15, batch_size=50, lr=0.05)
    m = BoltzmannMachine(trainer=trainer, random_state=0, **more).fit(X)
    assert m.score(held) > Independent().fit(X).score(held) + 0.5
    assert m.score(held) > exact_score() - 0.1


def test_how_it_learns_follows_the_number_of_units() -> None:
    small, large = machine(4), machine(17)
    assert small._way() == "exact" and large._way() == "pseudo"
    assert machine(15, n_hidden=2)._way() == "pcd"
    assert machine(21).log_prob(np.zeros((2, 21), dtype=int)).kind == "estimate"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"n_hidden": 13}, "n_hidden"),
        ({"states": "up"}, "states"),
        ({"method": "guess"}, "method"),
        ({"method": "pseudo", "n_hidden": 1}, "method='pseudo'"),
    ],
)
def test_arguments_that_make_no_sense(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BoltzmannMachine(trainer=QUICK, **more).fit(patterns(30))


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="every two of 4,000,000 units.*use fewer cells"):
        BoltzmannMachine().build(Space((4_000_000,), "binary"))
    with pytest.raises(ValueError, match=r"2\^20 states"):
        BoltzmannMachine(method="exact").fit(np.tile(patterns(30), 4)[:, :20])
    with pytest.raises(ValueError, match="column 0 is continuous"):
        BoltzmannMachine().fit(np.random.default_rng(0).normal(size=(30, 2)))
    with pytest.raises(ValueError, match="use method='ais'"):
        machine(21).log_partition("exact")
    with pytest.raises(ValueError, match="missing cells"):
        machine(2).energy(np.array([[1, np.nan]]))
    with pytest.raises(ValueError, match="missing cells"):
        machine(2).pseudo_log_likelihood(torch.full((1, 2), math.nan))
    assert math.isnan(machine(4).log_partition("mean-field").stderr)
