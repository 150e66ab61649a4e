"""The deep Boltzmann machine against enumeration of everything."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genus import DBM, Independent, Space, Trainer
from genus.learn.rows import generator
from genus.models.boltzmann import dbm

QUICK = Trainer(epochs=2, batch_size=20)
SPACES = {
    "binary": Space((4,), "binary"),
    "categorical": Space((2,), "categorical", levels=3),
    "ordinal": Space((2,), "ordinal", levels=4),
}
TWO, THREE = (3, 4), (4, 3, 2)
shapes = pytest.mark.parametrize("sizes", [TWO, THREE])
kinds = pytest.mark.parametrize("kind", SPACES)


def every(space: Space) -> Tensor:
    """All codes of a discrete space."""
    rows = list(itertools.product(*map(range, space.cardinality)))
    return torch.tensor(rows, dtype=torch.float64)


def deep(sizes: tuple[int, ...], kind: str = "binary", size: float = 0.7, **more: Any) -> DBM:
    """A machine of float64 at random parameters and centres."""
    space = SPACES[kind]
    x = every(space)[torch.randint(len(every(space)), (40,), generator=generator(3))].numpy()
    m = DBM(sizes, trainer=QUICK, random_state=0, **more).fit(x, space=space).double()
    rng = generator(0)
    with torch.no_grad():
        for p in m.parameters():
            p.add_(size * torch.randn(p.shape, generator=rng, dtype=torch.float64))
        for l in range(len(sizes)):
            m._lambda(l).copy_(torch.rand(sizes[l], generator=rng))
    m.__dict__.pop("log_partition_", None)
    return m


def joint(m: DBM, v: Tensor) -> tuple[Tensor, list[Tensor]]:
    """−E of every row with every state of the hidden layers, (n, 2^ΣH), and those states."""
    sizes = list(m.n_hidden)
    h = torch.tensor(list(itertools.product((0.0, 1.0), repeat=sum(sizes))), dtype=torch.float64)
    layers = list(h.split(sizes, 1))
    rows = [m.energy(v, *(l[i].expand(len(v), -1) for l in layers)) for i in range(len(h))]
    return -torch.stack(rows, 1), layers


def by_terms(m: DBM, v: Tensor, h: list[Tensor]) -> float:
    """−E of one binary row, every product of a unit and its neighbour written out."""
    lam = [m._lambda(l) for l in range(len(h))]
    total = sum(float(b * x) for b, x in zip(m.b_.detach(), v, strict=True))
    below, centre = v, m.mu_
    for l, layer in enumerate(h):
        W, c = m.W_[l].detach(), m.c_[l].detach()
        for j in range(len(layer)):
            total += float(c[j] * layer[j])
            for i in range(len(below)):
                total += float(W[i, j] * (below[i] - centre[i]) * (layer[j] - lam[l][j]))
        below, centre = layer, lam[l]
    return total


# ---------------------------------------------------------------------- energies and Z


@shapes
def test_the_energy_by_its_terms(sizes: tuple[int, ...]) -> None:
    m, v = deep(sizes), every(SPACES["binary"])
    minus_e, layers = joint(m, v)
    minus_e = minus_e.detach()
    for i, j in ((0, 0), (5, 17), (15, 70)):
        want = by_terms(m, v[i], [l[j] for l in layers])
        assert float(minus_e[i, j]) == pytest.approx(want, abs=1e-9)


@kinds
@shapes
def test_likelihood_by_enumeration(sizes: tuple[int, ...], kind: str) -> None:
    m, v = deep(sizes, kind), every(SPACES[kind])
    minus_e, _ = joint(m, v)
    torch.testing.assert_close(m._free_energy(v), -torch.logsumexp(minus_e, 1))
    log_z = float(torch.logsumexp(minus_e, (0, 1)).detach())
    assert m.log_partition("exact").value == pytest.approx(log_z, abs=1e-9)
    p = m.log_prob(v.numpy())
    assert p.kind == "exact" and np.exp(p.nats).sum() == pytest.approx(1, abs=1e-5)
    for seed in range(2):
        ais = m.log_partition("ais", n_chains=300, n_annealing=300, random_state=seed)
        assert abs(ais.value - log_z) < 3 * ais.stderr + 1e-3
        assert abs(ais.reverse - log_z) < 5 * ais.stderr + 1e-3


@shapes
def test_without_weights_log_z_has_a_closed_form(sizes: tuple[int, ...]) -> None:
    m = deep(sizes)
    with torch.no_grad():
        for W in m.W_:
            W.zero_()
    want = sum(float(torch.nn.functional.softplus(p.detach()).sum()) for p in (m.b_, *m.c_))
    assert m.log_partition("exact").value == pytest.approx(want)
    ais = m.log_partition("ais", n_annealing=50)
    assert ais.value == pytest.approx(want, abs=0.01 + 4 * ais.stderr)


@pytest.mark.parametrize("l", [0, 1, 2])
def test_a_middle_layer_hears_both_its_neighbours(l: int) -> None:
    m, v = deep(THREE), every(SPACES["binary"])
    h = [torch.bernoulli(torch.full((16, n), 0.5).double(), generator=generator(n)) for n in THREE]
    p = torch.sigmoid(m.inputs(l, m.units_.phi(v), h)).detach()
    for j in range(THREE[l]):
        up, down = [[*h], [*h]]
        up[l], down[l] = h[l].clone(), h[l].clone()
        up[l][:, j], down[l][:, j] = 1, 0
        want = torch.sigmoid(m.energy(v, *down) - m.energy(v, *up)).detach()
        torch.testing.assert_close(p[:, j], want)


# ---------------------------------------------------------------------- bounds


@shapes
def test_mean_field_is_a_bound_that_never_falls(sizes: tuple[int, ...]) -> None:
    m, v = deep(sizes, size=1.2), every(SPACES["binary"])
    truth = -m._free_energy(v).detach()
    last = torch.full_like(truth, -math.inf)
    for rounds in range(1, 30):
        bound = m._bound(v, m._mean_field(v, rounds)).detach()
        assert (bound <= truth + 1e-9).all() and (bound >= last - 1e-9).all()
        last = bound
    gap = float((truth - last).mean())
    assert 1e-3 < gap  # it is a bound and no more
    np.testing.assert_allclose(m.elbo(v.numpy()), last - m.log_partition("exact").value, atol=1e-5)


@kinds
@shapes
def test_importance_points_tighten_the_bound(
    sizes: tuple[int, ...], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    m, x = deep(sizes, kind, size=1.0, n_points=256).float(), every(SPACES[kind]).numpy()
    exact = m.score_samples(x)
    monkeypatch.setattr(dbm, "SUMMED", 0)
    p = m.log_prob(x)
    assert p.kind == "lower bound" and p.detail["k"] == 256 and (p.stderr > 0).any()
    assert (p.nats <= exact + 4 * p.stderr + 1e-4).all()
    assert (exact - p.nats).mean() < 0.02
    assert (exact - m.elbo(x)).mean() > (exact - p.nats).mean()
    with pytest.raises(ValueError, match="use elbo or log_prob"):
        m.free_energy(x)


# ---------------------------------------------------------------------- learning


@pytest.mark.parametrize(("sizes", "kind"), [(TWO, "binary"), (THREE, "binary"), (TWO, "ordinal")])
def test_the_chain_enumerated_gives_the_gradient_of_log_z(
    sizes: tuple[int, ...], kind: str
) -> None:
    """The loss, averaged over all states of the even layers, is E_q[E] + log Z to first order."""
    sizes = tuple(min(n, 2) for n in sizes)
    m, v = deep(sizes, kind), every(SPACES[kind])
    parameters = list(m.parameters())
    data = v[torch.randint(len(v), (10,), generator=generator(1))]
    q = [p.detach() for p in m._mean_field(data, int(m.n_mean_field))]
    minus_e, layers = joint(m, v)
    exact = torch.autograd.grad(
        m.energy(data, *q).mean() + torch.logsumexp(minus_e, (0, 1)), parameters
    )
    p = torch.softmax(minus_e.detach().flatten(), 0).reshape(minus_e.shape)
    m.rng, m.spent = generator(0), 0.0
    total = [torch.zeros_like(g) for g in exact]
    m.tracking = 0.0
    for i, j in itertools.product(range(len(v)), range(len(layers[0]))):
        with torch.no_grad():
            h = m._odd_means(m.units_.phi(v[i : i + 1]), [l[j : j + 1] for l in layers])
        m._chain_steps = lambda *_, end=(v[i : i + 1], h): end  # type: ignore[method-assign]
        ((_, loss),) = m.losses(data)
        for t, g in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            t += p[i, j] * g
    for a, b in zip(total, exact, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@kinds
@pytest.mark.parametrize("l", [0, 1, 2])
def test_moving_a_centre_leaves_the_distribution(kind: str, l: int) -> None:
    m, v = deep(THREE, kind), every(SPACES[kind])
    before = torch.log_softmax(-m._free_energy(v).detach(), 0)
    m._move_centre(l, torch.full((THREE[l],), 0.3, dtype=torch.float64))
    after = torch.log_softmax(-m._free_energy(v).detach(), 0)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


def patterns(n: int, seed: int = 0) -> np.ndarray:
    """One of four vectors of 8 bits, each bit turned over with chance 1/20."""
    r = np.random.default_rng(seed)
    four = np.array([[1] * 4 + [0] * 4, [0] * 4 + [1] * 4, [1, 1, 0, 0] * 2, [0, 0, 1, 1] * 2])
    return four[r.integers(0, 4, n)] ^ (r.random((n, 8)) < 0.05)


@pytest.mark.parametrize("sizes", [(6, 4), (6, 4, 3)])
def test_training_finds_the_structure(sizes: tuple[int, ...]) -> None:
    X, held = patterns(1000), patterns(500, seed=1)
    m = DBM(sizes, random_state=0, trainer=Trainer(epochs=30, batch_size=50, lr=0.3)).fit(X)
    p = m.log_prob(held)
    assert p.kind == "exact" and p.mean() > Independent().fit(X).score(held) + 1.5
    codes = m.encode(held)
    assert np.array_equal(m.transform(held), codes)
    assert len(m.get_feature_names_out()) == sum(sizes)
    assert codes.shape == (500, sum(sizes)) and (codes >= 0).all() and (codes <= 1).all()
    assert np.abs(m.reconstruct(held) - held).mean() < 0.25


def test_pretraining_finds_structure_before_all_layers_learn() -> None:
    X = patterns(1000)
    trainer = Trainer(epochs=40, batch_size=50, lr=0.2)
    m = DBM((6, 4, 3), pretrain=True, random_state=0, trainer=trainer).fit(X)
    stages = [line["stage"] for line in m.history_]
    assert [stages.count(s) for s in ("layer 1", "layer 2", "layer 3", "")] == [20, 20, 20, 40]
    with pytest.MonkeyPatch.context() as patch:  # the joint stage left out
        patch.setattr(DBM, "losses", lambda self, x: iter([(self, 0 * self.b_.sum())]))
        started = DBM((6, 4, 3), pretrain=True, random_state=0, trainer=trainer).fit(X)
    assert started.score(X) > Independent().fit(X).score(X) + 0.5
    assert m.score(X) > started.score(X)


def test_pretrained_the_upper_layer_is_in_use() -> None:
    """From small weights mean field leaves h₂ near ½; from v turned over it speaks."""
    X, held = patterns(1000), patterns(500, seed=1)
    trainer = Trainer(epochs=30, batch_size=50, lr=0.2)
    spread, score = [], []
    for pretrain in (False, True):
        m = DBM((6, 8), pretrain=pretrain, random_state=0, trainer=trainer).fit(X)
        spread.append(m.encode(held)[:, 6:].std(0).mean())
        score.append(m.score(held))
    assert spread[0] < 0.05 < 0.15 < spread[1]
    assert score[1] > score[0] + 0.03
    assert {line["stage"] for line in m.history_} == {"layer 1", ""}  # none for layer 2


def test_the_one_neighbour_of_a_layer_speaks_for_both() -> None:
    m, v = deep(THREE), every(SPACES["binary"])
    q = m._upward(0, v, 2.0).detach()
    above = [*(torch.zeros(16, n).double() for n in THREE)]
    with torch.no_grad():
        above[1][:] = m._lambda(1)  # nothing is said from above
        alone = torch.logit(torch.sigmoid(m.inputs(0, v, above))) - m.c_[0]
    torch.testing.assert_close(torch.logit(q) - m.c_[0].detach(), 2 * alone)


def test_k_may_grow_and_the_chain_persists() -> None:
    m = deep(TWO, k=(1, 5))
    steps = []
    for m.spent in (0.0, 0.5, 1.0):
        steps.append(m._steps())
    assert steps == [1, 3, 5]
    m.rng, m.spent = generator(0), 0.0
    list(m.losses(every(SPACES["binary"])))
    assert m._chain.shape == (100, 11)
    before = m._chain.clone()
    list(m.losses(every(SPACES["binary"])))
    assert 0 < float((m._chain != before).double().mean()) < 0.8


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="column 0 is continuous, and DBM needs"):
        DBM().fit(np.random.default_rng(0).normal(size=(20, 2)))
    for sizes in ((3,), (3, 0), (3, 3, 3, 3), 5):
        with pytest.raises(ValueError, match="n_hidden"):
            DBM(sizes).fit(patterns(20))  # type: ignore[arg-type]


# ---------------------------------------------------------------------- missing cells


@kinds
@shapes
def test_missing_cells_are_summed_out(
    sizes: tuple[int, ...], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    m, x = deep(sizes, kind, n_points=512).float(), every(SPACES[kind])
    p = np.exp(m.score_samples(x.numpy()))
    gaps = x.clone()
    gaps[:, 1] = math.nan
    others = np.delete(x.numpy(), 1, 1)
    want = np.log([p[(others == row).all(1)].sum() for row in others])
    np.testing.assert_allclose(m.score_samples(gaps.numpy()), want, atol=1e-4)
    nothing = np.full((1, x.shape[1]), np.nan)
    assert m.score_samples(nothing)[0] == pytest.approx(0, abs=1e-4)
    last, v = torch.full((len(x),), -math.inf), gaps.float()
    for rounds in range(1, 20):
        bound = m._bound(v, m._mean_field(v, rounds)).detach() - m._log_z().value
        assert (bound <= torch.tensor(want) + 1e-4).all() and (bound >= last - 1e-5).all()
        last = bound
    monkeypatch.setattr(dbm, "SUMMED", 0)
    by_points = m.log_prob(gaps.numpy())
    assert (by_points.nats <= want + 4 * by_points.stderr + 1e-4).all()
    assert 0 <= (want - last.numpy()).mean() and (want - by_points.nats).mean() < 0.02


@pytest.mark.parametrize("pretrain", [False, True])
def test_missing_cells_in_fit(pretrain: bool) -> None:
    X = patterns(1000).astype(float)
    X[np.random.default_rng(5).random(X.shape) < 0.2] = np.nan
    trainer = Trainer(epochs=30, batch_size=50, lr=0.3)
    m = DBM((6, 4), pretrain=pretrain, random_state=0, trainer=trainer).fit(X)
    held = patterns(500, seed=1)
    assert m.score(held) > Independent().fit(patterns(1000)).score(held) + 1.2


# ---------------------------------------------------------------------- what mean field says


def test_mean_field_from_several_starts() -> None:
    m, x = deep(THREE).float(), every(SPACES["binary"]).numpy()
    with torch.no_grad():  # h₁ and h₂ agree; at first it looks as if both were up
        for W, size in zip(m.W_, (0.0, 4.0, 0.0), strict=True):
            W.fill_(size)
        for l, bias in enumerate((1.0, -3.0, 0.0)):
            m.c_[l].fill_(bias)
            m._lambda(l).fill_(0.5)
    found = m.mean_field(x, starts=6, random_state=0)
    assert [q.shape for q in found.q] == [(16, H) for H in THREE]
    assert found.starts.shape == (6, 16)
    np.testing.assert_allclose(found.starts[0], m.elbo(x), atol=1e-4)
    np.testing.assert_array_equal(found.bound, found.starts.max(0))
    assert (found.bound > found.starts[0] + 1).all()  # another start finds another maximum
    assert (found.bound <= m.score_samples(x) + 1e-4).all()
    again = m._bound(torch.tensor(x).float(), [torch.tensor(q) for q in found.q])
    np.testing.assert_allclose(found.bound, again.detach() - m._log_z().value, atol=1e-4)
    early = m.mean_field(x, starts=1, rounds=1)
    assert early.moved.min() > 0.05 > 0.01 > found.moved.max()
    assert "starts" in repr(found)


def test_a_conditional_by_name_is_that_of_the_energy() -> None:
    m, x = deep(THREE), every(SPACES["binary"])
    h = [torch.bernoulli(torch.full((16, n), 0.5).double(), generator=generator(n)) for n in THREE]
    up, down = [*h], [*h]
    up[1], down[1] = h[1].clone(), h[1].clone()
    up[1][:, 0], down[1][:, 0] = 1, 0
    want = torch.sigmoid(m.energy(x, *down) - m.energy(x, *up)).detach()
    p = m.conditional(2, x.numpy(), [layer.numpy() for layer in h])
    assert p.shape == (16, 3)
    np.testing.assert_allclose(p[:, 0], want)
    with pytest.raises(ValueError, match="l=0"):
        m.conditional(0, x.numpy(), h)


def test_the_bound_and_the_likelihood_share_one_log_z() -> None:
    m = DBM((12, 11), n_annealing=30, trainer=QUICK, random_state=0).fit(patterns(60))
    m._log_z()
    found = m.elbo(patterns(10))
    m.log_partition_["value"] += 1.0
    np.testing.assert_allclose(m.elbo(patterns(10)), found - 1, atol=1e-9)


# ---------------------------------------------------------------------- watched by held-out rows


@kinds
def test_held_out_rows_are_judged_by_their_pseudo_likelihood(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean field is exact where h₁ hears nothing from above."""
    m = deep(TWO, kind)
    with torch.no_grad():
        m.W_[1].zero_()
    x = every(m.space_)
    log_p = torch.from_numpy(m.log_prob(x).nats).reshape(m.space_.cardinality)
    each = [log_p - log_p.logsumexp(i, keepdim=True) for i in range(log_p.ndim)]
    monkeypatch.setattr("genus.unnormalised.WATCHED", -1)
    m.rng = generator(0)
    many = x.repeat(300, 1)
    empty = torch.full_like(many[:100], torch.nan)
    expected = -sum(float(e.mean()) for e in each)
    with torch.no_grad():
        for rows in (many, torch.cat([empty, many])):
            assert float(m.validate(rows)) == pytest.approx(expected, rel=0.02)


def test_it_stops_where_it_over_fits() -> None:
    train, held = np.random.default_rng(0).integers(0, 2, (2, 60, 16))
    trainer = Trainer(epochs=60, batch_size=10, lr=0.5, weight_decay=0.0, patience=5)
    m = DBM((20, 4), trainer=trainer, random_state=0).fit(train, validation=held)
    seen = [line["validation"] for line in m.history_]
    assert len(seen) == np.argmin(seen) + 1 + 5 < 60
