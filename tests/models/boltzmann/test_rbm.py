"""The restricted Boltzmann machine against enumeration of everything."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from torch import Tensor

from genus import RBM, Independent, Space, Trainer, load
from genus.evaluate import memorisation
from genus.learn.rows import generator

QUICK = Trainer(epochs=2, batch_size=20)
H = 4
SPACES = {
    "binary": Space((5,), "binary"),
    "ordinal": Space((3,), "ordinal", levels=5),
    "categorical": Space((3,), "categorical", levels=3),
}


def every(space: Space) -> Tensor:
    """All codes of a discrete space."""
    return torch.tensor(
        list(itertools.product(*map(range, space.cardinality))), dtype=torch.float32
    ).reshape(-1, *space.shape)


def all_h(n: int = H) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)))


def shaken(model: RBM, seed: int = 0, size: float = 0.7) -> RBM:
    """The model at random parameters, far from the independent one."""
    rng = generator(seed)
    with torch.no_grad():
        for p in (model.W_, model.b_, model.c_):
            p.add_(size * torch.randn(p.shape, generator=rng))
        model.lambda_.copy_(torch.rand(model.lambda_.shape, generator=rng))
        if hasattr(model.units_, "log_tau_"):
            model.units_.log_tau_.add_(0.2)
    model.__dict__.pop("log_partition_", None)
    return model


def discrete(kind: str, centred: bool = True, **more: Any) -> RBM:
    space = SPACES[kind]
    x = every(space)[torch.randint(len(every(space)), (40,), generator=generator(3))].numpy()
    m = RBM(H, centred=centred, trainer=QUICK, random_state=0, **more).fit(x, space=space)
    if not centred:
        assert not m.mu_.any() and not m.lambda_.any()
    keep = m.lambda_.clone()
    m = shaken(m)
    if not centred:
        m.lambda_.copy_(keep)
    return m


def mixed(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {"x": rng.normal(3, 2, n), "c": rng.choice(list("abc"), n), "b": rng.integers(0, 2, n)}
    )


# ---------------------------------------------------------------------- energies and Z


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("kind", SPACES)
def test_free_energy_and_partition_function_by_enumeration(kind: str, centred: bool) -> None:
    m, v, h = discrete(kind, centred), every(SPACES[kind]), all_h()
    pairs = torch.stack([m.energy(v, row.expand(len(v), -1)) for row in h]).double()
    torch.testing.assert_close(
        m.free_energy(v).double(), -torch.logsumexp(-pairs, 0), atol=1e-5, rtol=0
    )
    truth = float(torch.logsumexp(-pairs, (0, 1)).detach())
    z = m.log_partition("exact")
    assert z.exact and z.value == pytest.approx(truth, abs=1e-5)
    lp = m.log_prob(v.numpy())
    assert lp.kind == "exact" and np.exp(lp.nats).sum() == pytest.approx(1, abs=1e-5)


def test_summing_over_the_visible_or_the_hidden_units_is_one_number() -> None:
    rng = np.random.default_rng(0)
    # sums over v
    wide = shaken(RBM(22, trainer=QUICK, random_state=0).fit(rng.integers(0, 2, (40, 8))), size=0.3)
    v, b, c = every(Space((8,), "binary")).double(), *(t.detach().double() for t in wide._plain())
    by_hidden = sum(
        torch.logsumexp(
            torch.stack([torch.zeros(256), (v @ wide.W_.detach().double() + c)[:, j]]), 0
        )
        for j in range(22)
    )
    truth = float(torch.logsumexp(v @ b + by_hidden, 0)) + float(
        wide.mu_ @ wide.W_.detach() @ wide.lambda_
    )
    assert wide.log_partition("exact").value == pytest.approx(truth, abs=1e-5)
    small = shaken(RBM(6, trainer=QUICK, random_state=0).fit(rng.integers(0, 2, (40, 8))))
    with torch.no_grad():
        by_visible = float(torch.logsumexp(-small._free_energy(v.float()).double(), 0))
    assert small.log_partition("exact").value == pytest.approx(by_visible, rel=1e-6)  # sums over h


@pytest.mark.parametrize("d", [1, 2])
def test_gaussian_units_integrate_to_one(d: int) -> None:
    x = np.random.default_rng(2).normal(5, 3, size=(60, d))
    m = shaken(RBM(3, marginals="logit", trainer=QUICK, random_state=0).fit(x))
    axis = np.linspace(-80, 90, 3001 if d == 1 else 501)
    grid = np.stack(np.meshgrid(*[axis] * d), -1).reshape(-1, d)
    lp = m.log_prob(grid)
    assert lp.kind == "exact" and lp.measure == "density"
    assert np.exp(lp.nats.astype(float)).sum() * (axis[1] - axis[0]) ** d == pytest.approx(
        1, abs=2e-4
    )
    v = torch.tensor(grid[::97], dtype=torch.float32)
    inner, _ = m.units_.enter(v, generator(0))
    pairs = torch.stack([m.energy(inner, row.expand(len(v), -1)) for row in all_h(3)]).double()
    torch.testing.assert_close(
        m.free_energy(v).double(), -torch.logsumexp(-pairs, 0), atol=1e-3, rtol=1e-5
    )


def test_a_table_of_all_kinds_integrates_to_one() -> None:
    m = shaken(RBM(3, trainer=QUICK, random_state=0).fit(mixed()))
    axis = np.linspace(-60, 60, 40_001)
    parts = [pd.DataFrame({"x": axis, "c": c, "b": b}) for c in "abc" for b in (0, 1)]
    lp = m.log_prob(pd.concat(parts))
    assert lp.kind == "exact" and lp.measure == "mixed"
    share = 1 - 0.5 / 61  # of words that were seen
    total = np.exp(lp.nats.astype(float)).sum() * (axis[1] - axis[0])
    assert total == pytest.approx(share, abs=5e-3)


@pytest.mark.parametrize("kind", [*SPACES, "gaussian", "mixed"])
@pytest.mark.parametrize("centred", [True, False])
def test_annealed_importance_sampling_both_ways(kind: str, centred: bool) -> None:
    if kind in SPACES:
        m = discrete(kind, centred)
    else:
        X: Any = (
            np.random.default_rng(4).normal(5, 3, size=(60, 3)) if kind == "gaussian" else mixed()
        )
        m = shaken(RBM(H, centred=centred, trainer=QUICK, random_state=0).fit(X), size=0.4)
    truth = m.log_partition("exact").value
    z = m.log_partition("ais", n_chains=400, n_annealing=300, random_state=1)
    assert not z.exact and z.chains == 400 and 0 < z.stderr < 0.1 and 100 < z.ess <= 400
    assert abs(z.value - truth) < 3 * z.stderr
    assert abs(z.reverse - truth) < 5 * z.stderr  # its chains start where the others ended
    assert abs(z.moved) < 6 * z.stderr
    rough = m.log_partition("ais", n_chains=400, n_annealing=4, reverse=False)
    assert rough.stderr > z.stderr and math.isnan(rough.reverse)


def test_large_layers_are_estimated_and_say_so() -> None:
    m = shaken(
        RBM(25, trainer=QUICK, n_annealing=200, random_state=0).fit(
            np.random.default_rng(5).integers(0, 2, (60, 30))
        ),
        size=0.1,
    )
    with pytest.raises(ValueError, match="ais"):
        m.log_partition("exact")
    with pytest.raises(ValueError, match="method"):
        m.log_partition("guess")
    lp = m.log_prob(np.zeros((3, 30), dtype=int))
    assert lp.kind == "estimate" and lp.shared_stderr > 0 and set(lp.detail) >= {"ess", "moved"}
    # one log Z for all
    assert np.array_equal(lp.nats, m.log_prob(np.zeros((3, 30), dtype=int)).nats)


# ---------------------------------------------------------------------- what rows hide


def counted(n: int = 300) -> pd.DataFrame:
    """Counts, bits and words that depend on one another."""
    r = np.random.default_rng(0)
    a = r.random(n) < 0.5
    words = np.where(a ^ (r.random(n) < 0.1), "u", "v")
    return pd.DataFrame({"k": r.poisson(np.where(a, 1.0, 4.0)), "b": a, "w": words})


@pytest.fixture(scope="module")
def table() -> tuple[RBM, pd.Series]:
    """An RBM of counted(), and its probability of every state by the bound, nearly tight."""
    m = shaken(RBM(3, trainer=QUICK, random_state=0).fit(counted()), size=0.5)
    rows = itertools.product(range(60), (False, True), "uv")
    states = pd.DataFrame(rows, columns=["k", "b", "w"])
    p = np.exp(m.log_prob(states).nats.astype(float))
    return m, pd.Series(p, index=pd.MultiIndex.from_frame(states))


def test_counts_are_masses_that_sum_to_one_and_are_drawn(table: tuple[RBM, pd.Series]) -> None:
    m, p = table
    share = 1 - 0.5 / 301  # of words that were seen
    assert m.log_prob(counted()).kind == "lower bound"
    assert p.sum() == pytest.approx(share, abs=0.02)
    drawn = m.sample(20_000, random_state=1).value_counts(normalize=True)
    assert 0.5 * p.sub(drawn, fill_value=0).abs().sum() < 0.03
    assert np.isfinite(m.score_samples(counted(5).assign(k=1000))).all()


def test_missing_cells_are_summed_over(table: tuple[RBM, pd.Series]) -> None:
    m, p = table
    r = np.random.default_rng(2)
    X = counted(30)
    X = X.assign(k=X["k"].astype(float), b=X["b"].astype("boolean"))
    X = X.mask(r.random(X.shape) < 0.4)
    found = m.log_prob(X)
    for i, (_, row) in enumerate(X.iterrows()):
        some = [
            all(pd.isna(row[c]) or row[c] == v for c, v in zip("kbw", state, strict=True))
            for state in p.index
        ]
        seen = 0.0 if pd.notna(row["w"]) else -math.log(1 - 0.5 / 301)
        want = math.log(p[some].sum()) + seen
        assert abs(found.nats[i] - want) < 4 * found.stderr[i] + 0.03
    alone = m.log_prob(X.iloc[3:5]).nats  # nothing of a row's neighbours
    np.testing.assert_allclose(alone, found.nats[3:5], rtol=1e-5)


@pytest.mark.parametrize("gap", ["k", "b"])
def test_completions_hold_the_mass_of_counts(table: tuple[RBM, pd.Series], gap: str) -> None:
    m, p = table
    n = 10_000
    X = pd.DataFrame({"k": [3.0] * n, "b": pd.array([True] * n, dtype="boolean"), "w": ["u"] * n})
    X[gap] = pd.NA if gap == "b" else np.nan
    found = m.complete(X, random_state=0)[gap].value_counts(normalize=True)
    given = p.xs("u", level="w").xs(3 if gap == "b" else True, level="b" if gap == "k" else "k")
    assert 0.5 * (given / given.sum()).sub(found, fill_value=0).abs().sum() < 0.03


def test_rows_with_gaps_are_learned_from() -> None:
    """Bits in pairs of equals: what the seen half of the cells says is found."""
    r = np.random.default_rng(0)
    X = np.repeat(r.integers(0, 2, (1500, 3)), 2, axis=1).astype(float)
    X[r.random(X.shape) < 0.3] = np.nan
    m = RBM(8, random_state=0, trainer=Trainer(epochs=100, batch_size=50, lr=0.3)).fit(X)
    pairs = np.array([[1.0, 1, 0, 0, 1, 1], [1.0, 0, 0, 1, 1, 0]])
    good, bad = m.score_samples(pairs)
    assert good > -3.55 and bad < good - 2  # without Gibbs sweeps −3.66, and 1.5
    filled = m.complete(np.array([[1.0, np.nan] * 3] * 500), random_state=0)
    assert filled.mean() > 0.85
    with pytest.raises(ValueError, match="fill them"):
        m.free_energy(X)
    assert np.isfinite(m.encode(X)).all()


def test_numbers_start_at_their_own_distributions_and_stay_above() -> None:
    """Without weights an RBM is the product of the marginals, and no far row is bottomless."""
    r = np.random.default_rng(1)
    rain = np.where(r.random(400) < 0.8, 0.0, r.exponential(2, 400).round(1))
    X = pd.DataFrame({"t": r.standard_t(2, 400), "rain": rain, "n": r.poisson(2, 400)})
    start = RBM(3, random_state=0, trainer=Trainer(epochs=1, lr=1e-12)).fit(X)
    with torch.no_grad():
        start.W_.zero_()
    start.__dict__.pop("log_partition_", None)
    alone = Independent().fit(X)
    np.testing.assert_allclose(
        start.score_samples(X), alone.score_samples(X), atol=0.02 * X.shape[1]
    )
    learned = RBM(16, random_state=0, trainer=Trainer(epochs=20)).fit(X)
    assert learned.score(X) > alone.score(X) - 0.3
    far = X.iloc[:1].assign(t=1e3)
    assert learned.score(far) > alone.score(far) - 30
    drawn = learned.sample(4000, random_state=0)["rain"]
    assert (drawn == 0).mean() == pytest.approx((rain == 0).mean(), abs=0.05)
    assert (drawn >= 0).all() and np.allclose(drawn, drawn.round(1))


def test_many_levels_are_drawn_as_they_are_scored() -> None:
    """The end levels take what lies beyond them, in both verbs."""
    x = np.minimum(np.random.default_rng(0).poisson(1, (300, 1)) * 10, 79)
    m = RBM(3, trainer=QUICK, random_state=0).fit(x, space=Space((1,), "ordinal", levels=80))
    p = np.exp(shaken(m, size=0.5).log_prob(np.arange(80)[:, None]).nats.astype(float))
    assert p.sum() == pytest.approx(1, abs=5e-3)
    shares = np.bincount(m.sample(20_000, random_state=1)[:, 0], minlength=80) / 20_000
    assert shares[0] == pytest.approx(p[0], abs=0.02) and 0.5 * np.abs(shares - p).sum() < 0.04


# ---------------------------------------------------------------------- Gibbs


@pytest.mark.parametrize("kind", [*SPACES, "mixed"])
def test_conditional_draws_against_enumeration(kind: str) -> None:
    m = (
        discrete(kind)
        if kind in SPACES
        else shaken(RBM(H, trainer=QUICK, random_state=0).fit(mixed()))
    )
    h = torch.tensor([1.0, 0.0, 1.0, 1.0])
    n = 20_000
    m.rng = generator(1)
    draws = m.units_.draw(m.b_, ((h - m.lambda_) @ m.W_.T).expand(n, -1), m.rng).detach()
    if kind in SPACES:
        v = every(SPACES[kind])
        p = torch.softmax(-m.energy(v, h.expand(len(v), -1)), 0)
        index = torch.zeros(n, dtype=torch.long)
        for j, levels in enumerate(SPACES[kind].cardinality):
            index = index * levels + draws[:, j].long()
        assert 0.5 * float((torch.bincount(index, minlength=len(v)) / n - p).abs().sum()) < 0.03
    else:  # the real cell: p(v₀ | h) ∝ e^{−E} on a grid, the others held
        axis = torch.linspace(-8, 8, 4001)
        v = torch.zeros(len(axis), 3)
        v[:, 0] = axis
        p = torch.softmax(-m.energy(v, h.expand(len(v), -1)), 0)
        mean = float((p * axis).sum())
        assert float(draws[:, 0].mean()) == pytest.approx(mean, abs=0.03)
        assert float(draws[:, 0].var()) == pytest.approx(
            float((p * (axis - mean) ** 2).sum()), rel=0.05
        )


@pytest.mark.parametrize("kind", SPACES)
def test_hidden_probabilities_against_enumeration(kind: str) -> None:
    m, v, h = discrete(kind), every(SPACES[kind]), all_h()
    joint = torch.softmax(-torch.stack([m.energy(v, row.expand(len(v), -1)) for row in h]), 0)
    np.testing.assert_allclose(m.encode(v.numpy()), (joint.T @ h).detach(), atol=1e-5)


@pytest.mark.parametrize("kind", SPACES)
def test_draws_chains_and_completions_follow_the_distribution(kind: str) -> None:
    m = discrete(kind, burn_in=30)
    v = every(SPACES[kind])
    p = np.exp(m.score_samples(v.numpy()).astype(float))

    def distance(x: np.ndarray, p: np.ndarray) -> float:
        index = np.zeros(len(x), dtype=int)
        for j, levels in enumerate(SPACES[kind].cardinality):
            index = index * levels + np.asarray(x)[:, j].astype(int)
        return 0.5 * float(np.abs(np.bincount(index, minlength=len(p)) / len(x) - p).sum())

    assert distance(m.sample(8000, random_state=1), p) < 0.06
    assert distance(m.gibbs(8000, 30, random_state=1), p) < 0.06
    assert distance(m.gibbs(8000, 1, random_state=1), p) > 0.06  # a chain needs its steps
    row = v[7].numpy().copy()
    row[1:] = np.nan
    given = p * (v[:, 0] == v[7, 0]).numpy()
    assert distance(m.complete(np.tile(row, (8000, 1)), random_state=2), given / given.sum()) < 0.05


def test_decode_is_the_conditional_mean() -> None:
    m, h = discrete("ordinal"), all_h()
    v = every(SPACES["ordinal"])
    z = h[[3, 9]]
    p = torch.stack([torch.softmax(-m.energy(v, row.expand(len(v), -1)), 0) for row in z])
    np.testing.assert_allclose(
        m.units_.mean(m.b_, (z - m.lambda_) @ m.W_.T).detach(), (p @ v).detach(), atol=1e-4
    )
    assert m.decode(z.numpy()).shape == (2, 3) and m.reconstruct(v.numpy()).shape == v.shape


def test_encoding_does_not_depend_on_the_neighbours() -> None:
    """More levels than a softmax holds are dequantised: at their centre, not at random."""
    X = np.random.default_rng(6).integers(0, 256, size=(40, 6)).astype(np.uint8)
    m = RBM(5, trainer=QUICK, random_state=0).fit(X)
    assert m.units_.dequantises and m.log_prob(X).kind == "lower bound"
    np.testing.assert_allclose(m.encode(X)[7:9], m.encode(X[7:9]), rtol=1e-5)
    np.testing.assert_allclose(m.log_prob(X).nats[::-1], m.log_prob(X[::-1]).nats, rtol=1e-6)
    assert m.sample(5).dtype == np.uint8


# ---------------------------------------------------------------------- learning


def test_a_pair_of_k_grows_from_the_first_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, taken = RBM._sweep, []
    monkeypatch.setattr(RBM, "_sweep", lambda self, p, k: taken.append(k) or sweep(self, p, k))
    m = RBM(3, k=(1, 5), trainer=Trainer(epochs=4, batch_size=50), random_state=0).fit(
        patterns(100)
    )
    assert taken == [1, 2, 2, 2, 3, 4, 4, 4]  # round(1 + 4 i/8)
    assert m.spent == 1  # as before it learned
    twice = RBM(3, k=(3, 3), trainer=Trainer(epochs=2), random_state=0).fit(patterns(100))
    assert torch.equal(
        twice.W_, RBM(3, k=3, trainer=Trainer(epochs=2), random_state=0).fit(patterns(100)).W_
    )


@pytest.mark.parametrize("method", ["pcd", "cd", "fpcd"])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("kind", SPACES)
def test_the_gradient_with_its_expectation_enumerated_is_exact(
    kind: str, centred: bool, method: str
) -> None:
    """Σ_v p(v) ∇ losses(data; fantasy v) = −∇ log-likelihood, by the enumerated log Z."""
    m, v = discrete(kind, centred, method=method, tracking=0.0), every(SPACES[kind])
    data = v[torch.randint(len(v), (15,), generator=generator(8))]
    names = [n for n, _ in m.named_parameters()]
    parameters = [p for _, p in m.named_parameters()]
    exact = torch.autograd.grad(
        m.free_energy(data).mean() + torch.logsumexp(-m.free_energy(v), 0), parameters
    )
    p = torch.softmax(-m.free_energy(v).detach(), 0)
    m.rng, m._batch, m._chain = generator(0), 15, torch.zeros(15, H)
    m._decay = 0.0
    total = [torch.zeros_like(g) for g in exact]
    for state, share in zip(v, p, strict=True):
        m._fantasy = lambda _, state=state: state[None]  # type: ignore[method-assign]
        _, loss = next(iter(m.losses(data)))
        for t, g in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            t += share * g
    for name, a, b in zip(names, total, exact, strict=True):
        torch.testing.assert_close(
            a, b, atol=1e-5, rtol=1e-4, msg=lambda s, name=name: f"{name}: {s}"
        )


def test_the_gradient_of_gaussian_precisions() -> None:
    m = shaken(
        RBM(3, trainer=QUICK, random_state=0).fit(np.random.default_rng(9).normal(size=(60, 2))),
        size=0.4,
    )
    data = m.units_.enter(torch.randn(10, 2, generator=generator(1)), generator(0))[0]
    h = all_h(3)
    log_z = torch.logsumexp(
        m.units_.log_partition(m.b_, (h - m.lambda_) @ m.W_.T)
        - (h - m.lambda_) @ m.W_.T @ m.mu_
        + h @ m.c_,
        0,
    )
    parameters = [m.W_, m.b_, m.c_, m.units_.log_tau_]
    exact = torch.autograd.grad(m._free_energy(data).mean() + log_z, parameters)
    axis = torch.linspace(-12, 12, 301)
    v = torch.cartesian_prod(axis, axis)
    p = torch.softmax(-m._free_energy(v).detach().double(), 0)
    grid = torch.autograd.grad(
        m._free_energy(data).mean() - (p.float() * m._free_energy(v)).sum(), parameters
    )
    for a, b in zip(grid, exact, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", SPACES)
def test_moving_the_centre_leaves_the_distribution(kind: str) -> None:
    m, v = discrete(kind, tracking=0.5), every(SPACES[kind])
    before = torch.log_softmax(-m.free_energy(v).detach(), 0)
    m.rng, m._batch, m._chain = generator(0), 15, torch.zeros(15, H)
    then = m.lambda_.clone()
    list(m.losses(v[:15]))  # no step is taken between
    assert float((m.lambda_ - then).abs().max()) > 0.01
    torch.testing.assert_close(
        torch.log_softmax(-m.free_energy(v).detach(), 0), before, atol=1e-5, rtol=0
    )


def test_fit_starts_at_the_log_odds_of_the_data() -> None:
    X = (np.random.default_rng(10).random((500, 6)) < [0.1, 0.3, 0.5, 0.7, 0.9, 0.95]).astype(int)
    m = RBM(3, random_state=0, trainer=Trainer(epochs=1, lr=1e-9)).fit(X)
    np.testing.assert_allclose(torch.sigmoid(m.base_), (X.sum(0) + 0.5) / 501, rtol=1e-4)
    assert m.score(X) == pytest.approx(Independent().fit(X).score(X), abs=0.02)


def patterns(n: int, seed: int = 0) -> np.ndarray:
    """One of four vectors of 8 bits, each bit turned over with chance 1/20.

    Every bit is fair, pairs are not.
    """
    rng = np.random.default_rng(seed)
    four = np.array(
        [
            [1, 1, 1, 1, 0, 0, 0, 0],
            [0, 0, 0, 0, 1, 1, 1, 1],
            [1, 1, 0, 0, 1, 1, 0, 0],
            [0, 0, 1, 1, 0, 0, 1, 1],
        ]
    )
    return four[rng.integers(0, 4, n)] ^ (rng.random((n, 8)) < 0.05)


@pytest.mark.parametrize(
    "more",
    [
        {"method": "pcd"},
        {"method": "cd"},
        {"method": "cd", "k": 5},
        {"centred": False},
        {"n_chains": 200},
        {"method": "fpcd"},
        {"method": "tempering", "n_temperatures": 4},
    ],
)
def test_training_finds_the_structure(more: dict[str, Any]) -> None:
    """The exact likelihood of held-out rows rises well above the independent model's."""
    X, held = patterns(2000), patterns(1000, seed=1)
    m = RBM(6, random_state=0, trainer=Trainer(epochs=20, batch_size=50, lr=0.3), **more).fit(X)
    lp = m.log_prob(held)
    assert lp.kind == "exact"
    assert lp.mean() > Independent().fit(X).score(held) + 1.5


def test_k_steps_of_a_chain_come_nearer_to_the_model() -> None:
    m, v = discrete("binary"), every(SPACES["binary"])
    p = torch.softmax(-m.free_energy(v).detach(), 0)

    def distance(k: int) -> float:
        m.rng = generator(1)
        with torch.no_grad():
            draws = m._sweep(torch.tensor([0.0, 1.0, 1.0, 0.0]).repeat(20_000, 1), k)
        index = (draws.long() * 2 ** torch.arange(4, -1, -1)).sum(1)
        return 0.5 * float((torch.bincount(index, minlength=32) / 20_000 - p).abs().sum())

    assert distance(1) > 0.1 > 2 * distance(30)


@pytest.mark.parametrize("method", ["pcd", "cd"])
def test_the_chain_starts_where_the_method_says(method: str) -> None:
    """k sweeps a loss: of cd from the data, of pcd from where the last loss left the chain."""
    m, v = discrete("binary", method=method, k=3), every(SPACES["binary"])
    starts: list[Tensor] = []

    def sweep(p: Tensor, sweeps: int) -> Tensor:
        starts.append(p)
        assert sweeps == 3
        return 1 - v[: len(p)]

    m.rng, m._batch, m._chain, m._sweep = generator(0), 8, torch.zeros(0, H), sweep  # type: ignore[method-assign]
    for _ in range(2):
        list(m.losses(v[8:16]))
    expected = m.encode(v[8:16].numpy()) if method == "cd" else m.encode(1 - v[:8].numpy())
    np.testing.assert_allclose(starts[1], expected, atol=1e-4)


def test_hidden_units_are_as_many_as_rows_can_teach(tmp_path: Any) -> None:
    hasty = Trainer(epochs=1)
    few, more = (RBM(trainer=hasty, random_state=0).fit(patterns(n)) for n in (60, 500))
    assert (few.n_hidden_, more.n_hidden_) == (32, 50) and more.encode(patterns(3)).shape == (3, 50)
    assert RBM(7, trainer=hasty).fit(patterns(60)).n_hidden_ == 7
    more.save(tmp_path / "m")
    assert np.array_equal(load(tmp_path / "m").encode(patterns(9)), more.encode(patterns(9)))


def test_rough_functions_of_grey_levels_are_held_back_more() -> None:
    """A weight of wave i decays by i² as much as that of the first."""
    m = discrete("ordinal")
    m.rng, m._batch, m._decay = generator(0), 20, 0.1
    x = every(SPACES["ordinal"])[:20]
    m._fantasy = lambda v: v  # type: ignore[method-assign]
    _, loss = next(iter(m.losses(x)))
    (grad,) = torch.autograd.grad(loss, m.W_)
    wave = torch.tensor([1.0, 2, 3, 4]).repeat(3)[:, None]
    torch.testing.assert_close(grad, 0.1 * (wave**2 - 1) * m.W_.detach(), atol=1e-5, rtol=1e-4)
    assert not discrete("binary").units_.waves


def two_valleys(**more: Any) -> RBM:
    """A machine of 6 bits that are all alike, and whose chains seldom leave a valley."""
    X = np.repeat(np.random.default_rng(0).integers(0, 2, (100, 1)), 6, axis=1)
    m = RBM(2, trainer=QUICK, n_chains=400, tracking=0.0, random_state=0, **more).fit(X)
    with torch.no_grad():
        m.W_.fill_(3.0)
        m.mu_.fill_(0.5)
        m.lambda_.fill_(0.5)
        m.b_.fill_(0.2)  # one valley is deeper
        m.c_.zero_()
        m.base_.zero_()
    m.rng, m._batch = generator(1), 400
    return m


def walk(m: RBM, steps: int) -> Tensor:
    """Where chains that begin in the valley of ones stand after some steps without learning."""
    ones = torch.ones(400, 6)
    if m.method == "tempering":
        m._chain = ones.repeat(int(m.n_temperatures), 1)
    else:
        m._chain = torch.ones(400, 2)
    data = torch.cat([ones[:200], 0 * ones[:200]])
    for _ in range(steps):
        for _, loss in m.losses(data):
            for p in m.parameters():
                p.grad = None
            loss.backward()
    with torch.no_grad():
        return m._fantasy(data)


@pytest.mark.parametrize("method", ["pcd", "fpcd", "tempering"])
def test_fast_weights_and_hot_chains_leave_a_valley(method: str) -> None:
    ones = float((walk(two_valleys(method=method), 60).mean(1) > 0.5).float().mean())
    if method == "pcd":
        assert ones > 0.9
    else:
        assert 0.2 < ones < 0.85


def test_swapped_chains_keep_the_distribution_and_say_how_often() -> None:
    m = two_valleys(method="tempering", n_temperatures=6)
    v = walk(m, 80)
    states = every(Space((6,), "binary"))
    p = torch.softmax(-m.free_energy(states).detach(), 0)
    shares = torch.bincount((v @ 2.0 ** torch.arange(5, -1, -1)).long(), minlength=64) / len(v)
    assert 0.5 * float((shares - p).abs().sum()) < 0.12
    assert m.swap_rates_.shape == (5,)
    assert 0.05 < float(m.swap_rates_.min()) and float(m.swap_rates_.max()) < 0.999


def test_fast_weights_are_forgotten_and_leave_no_trace() -> None:
    m = two_valleys(method="fpcd")
    walk(m, 5)
    assert float(m._fast_W.abs().max()) > 0
    before, m.W_.grad = m._fast_W.clone(), torch.zeros_like(m.W_)
    m._quicken()
    torch.testing.assert_close(m._fast_W, 0.95 * before)
    assert not any("fast" in name for name in m.state_dict())


def test_hidden_units_are_as_active_as_is_wanted() -> None:
    X = patterns(600)
    trainer = Trainer(epochs=20, batch_size=50, lr=0.3)
    free = RBM(8, trainer=trainer, random_state=0).fit(X).encode(X).mean(0)
    sparse = RBM(8, sparsity=0.1, sparsity_cost=1.0, trainer=trainer, random_state=0).fit(X)
    q = sparse.encode(X).mean(0)
    assert np.abs(q - 0.1).max() < 0.1 < np.abs(free - 0.1).max()
    x = torch.tensor(X[:50]).float()
    a = sparse._inputs(x)
    mean = torch.sigmoid(a).mean(0)
    want = -(0.1 * mean.log() + 0.9 * (1 - mean).log()).sum()
    assert float(sparse._too_active(a)) == pytest.approx(float(want.detach()), rel=1e-5)


@pytest.mark.parametrize("method", ["fpcd", "tempering"])
def test_fast_and_tempered_chains_go_on_after_a_break(method: str, tmp_path: Any) -> None:
    X, path = patterns(300), tmp_path / "run.ckpt"
    trainer = Trainer(epochs=4, schedule="constant")
    whole = RBM(4, method=method, n_temperatures=3, trainer=trainer, random_state=0).fit(X)
    cut = whole.set_params(trainer__checkpoint=path)
    clone(cut).set_params(trainer__max_steps=13).fit(X)
    again = clone(cut).fit(X, resume=True)
    assert torch.equal(again.W_, whole.W_) and torch.equal(again._chain, whole._chain)
    again.save(tmp_path / "m")
    assert np.array_equal(load(tmp_path / "m").score_samples(X), again.score_samples(X))


def test_draws_near_training_rows_are_those_of_a_machine_that_over_fits() -> None:
    """Not of chains too short: the exact distribution of rows is as near, and decay mends it."""
    r = np.random.default_rng(0)
    train, held = r.integers(0, 2, (2, 60, 12))
    trainer = Trainer(epochs=300, batch_size=10, lr=0.5)
    words = {}
    for decay in (0.0, 0.1):
        m = RBM(40, trainer=trainer.replace(weight_decay=decay), random_state=0).fit(train)
        states = every(Space((12,), "binary"))
        p = torch.softmax(-m.free_energy(states).detach().double(), 0)
        exact = states[torch.multinomial(p, 500, replacement=True, generator=generator(1))]
        for name, draws in (("chains", m.sample(500, random_state=1)), ("exact", exact.numpy())):
            views = (x.astype(np.float64) for x in (train, held, draws))
            words[decay, name] = memorisation(*views).word
        over = m.score(train) - m.score(held)
        assert over > 1.2 if decay == 0 else over < 0.5
    assert words[0.0, "chains"] == words[0.0, "exact"] != "no copying"
    assert words[0.1, "chains"] == words[0.1, "exact"] == "no copying"


def test_decay_shrinks_the_weights_and_the_rate_falls_to_nothing() -> None:
    X = patterns(500)
    sizes = [
        float(RBM(8, random_state=0, trainer=Trainer(epochs=10, weight_decay=d)).fit(X).W_.norm())
        for d in (0.0, 0.1)
    ]
    assert sizes[1] < 0.7 * sizes[0]
    m = RBM(8, random_state=0, trainer=Trainer(epochs=10)).fit(X)
    rates = [line["lr"] for line in m.history_]
    assert rates[0] > rates[-1] and rates[-1] < 0.02


def test_a_persistent_chain_goes_on_after_a_break(tmp_path: Any) -> None:
    X = patterns(300)
    path = tmp_path / "run.ckpt"
    whole = RBM(6, random_state=0, trainer=Trainer(epochs=6, schedule="constant")).fit(X)
    RBM(
        6,
        random_state=0,
        trainer=Trainer(epochs=6, max_steps=17, schedule="constant", checkpoint=path),
    ).fit(X)
    again = RBM(
        6, random_state=0, trainer=Trainer(epochs=6, schedule="constant", checkpoint=path)
    ).fit(X, resume=True)
    assert torch.equal(again.W_, whole.W_) and torch.equal(again._chain, whole._chain)


@pytest.mark.parametrize(
    "argument",
    [
        {"n_hidden": 0},
        {"k": 0},
        {"k": (1, 0)},
        {"k": (1, 2, 3)},
        {"method": "sm"},
        {"tracking": 2.0},
        {"visible": "poisson"},
        {"burn_in": 0},
    ],
)
def test_arguments_that_make_no_sense(argument: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(argument))):
        RBM(trainer=QUICK, **argument).fit(patterns(30))


def test_units_that_do_not_suit_the_data_are_named() -> None:
    with pytest.raises(ValueError, match="column 0"):
        RBM(trainer=QUICK, visible="bernoulli").fit(np.random.default_rng(0).normal(size=(30, 2)))
    assert (
        RBM(3, trainer=QUICK, visible="categorical").fit(patterns(30)).log_prob(patterns(5)).kind
        == "exact"
    )
    assert (
        RBM(3, trainer=QUICK, visible="gaussian").fit(patterns(30)).log_prob(patterns(5)).kind
        == "lower bound"
    )
