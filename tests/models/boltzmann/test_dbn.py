"""The deep belief network against enumeration of everything."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genus import DBN, RBM, Independent, Trainer
from genus.distributions.draws import flip
from genus.learn.rows import generator

QUICK = Trainer(epochs=2, batch_size=20)
V = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))


def stack(*sizes: int, size: float = 0.7, **more: Any) -> DBN:
    """A network of four visible units at random parameters."""
    X = np.random.default_rng(3).integers(0, 2, (40, 4))
    m = DBN(sizes, trainer=QUICK, random_state=0, **more).fit(X)
    rng = generator(0)
    with torch.no_grad():
        for layer in m.layers_:
            for p in layer.parameters():
                p.add_(size * torch.randn(p.shape, generator=rng))
            layer.lambda_.copy_(torch.rand(layer.lambda_.shape, generator=rng))
            layer.__dict__.pop("log_partition_", None)
    return m


def conditionals(layer: RBM, below: Tensor, above: Tensor) -> Tensor:
    """log p(below | above) of every pair of states, by the energies of the layer's RBM; (n, m)."""
    e = torch.stack([layer.energy(below, h.expand(len(below), -1)) for h in above], 1).double()
    return torch.log_softmax(-e, 0)


def truth(m: DBN) -> Tensor:
    """log p(v) of every row: the top RBM's marginal handed down, layer by layer."""
    top = m.layers_[-1]
    states = [V] + [
        torch.tensor(list(itertools.product((0.0, 1.0), repeat=int(H)))) for H in m.n_hidden
    ]
    e = torch.stack([top.energy(states[-2], h.expand(len(states[-2]), -1)) for h in states[-1]], 1)
    log_p = torch.logsumexp(torch.log_softmax(-e.double().flatten(), 0).reshape(e.shape), 1)
    for l in reversed(range(len(m.layers_) - 1)):
        down = conditionals(m.layers_[l], states[l], states[l + 1])
        log_p = torch.logsumexp(down + log_p, 1)
    return log_p.detach()


@pytest.mark.parametrize("sizes", [(4, 4), (4, 3, 4)])
def test_the_bound_against_enumeration(sizes: tuple[int, ...]) -> None:
    m = stack(*sizes, n_points=512)
    exact = truth(m).numpy()
    assert np.exp(exact).sum() == pytest.approx(1)
    p = m.log_prob(V.numpy().astype(int))
    assert p.kind == "lower bound"
    assert (p.nats <= exact + 4 * p.stderr + 1e-4).all()
    assert (exact - p.nats).mean() < 0.03
    plain = m.elbo(V.numpy().astype(int))
    assert (plain <= p.nats + 1e-5).all()
    assert (exact - plain).mean() > 0.05  # it is a bound and no more


def test_one_layer_is_an_rbm() -> None:
    m = stack(3)
    X = V.numpy().astype(int)
    assert m.log_prob(X).kind == "exact"
    np.testing.assert_allclose(m.score_samples(X), truth(m), atol=1e-5)
    gaps = np.where(np.arange(4) < 2, X, np.nan)
    rbm = m.layers_[0]
    assert m.log_prob(gaps).mean() == pytest.approx(rbm.log_prob(gaps).mean(), abs=0.1)
    assert (m.complete(gaps, random_state=0)[:, :2] == X[:, :2]).all()


@pytest.mark.parametrize("sizes", [(4, 4), (4, 3, 4)])
def test_missing_cells_are_summed_out(sizes: tuple[int, ...]) -> None:
    m = stack(*sizes, n_points=512)
    p = truth(m).exp().reshape(2, 2, 2, 2)
    gaps = np.array([[1, np.nan, 0, np.nan], [np.nan] * 4, [0, 1, 1, np.nan]])
    found = m.log_prob(gaps)
    want = np.log([p[1, :, 0, :].sum(), 1.0, p[0, 1, 1, :].sum()])
    assert (found.nats <= want + 4 * found.stderr + 1e-4).all()
    np.testing.assert_allclose(found.nats, want, atol=0.05)


@pytest.mark.parametrize("sizes", [(4, 4), (4, 3, 4)])
def test_completions_follow_the_conditional(sizes: tuple[int, ...]) -> None:
    m = stack(*sizes, size=1.2, burn_in=60)
    p = truth(m).exp().reshape(2, 2, 2, 2)[1, :, :, 0].flatten().numpy()
    gaps = np.repeat([[1, np.nan, np.nan, 0]], 4000, 0)
    drawn = m.complete(gaps, random_state=0).astype(int)
    assert (drawn[:, 0] == 1).all() and (drawn[:, 3] == 0).all()
    shares = np.bincount(drawn[:, 1:3] @ (2, 1), minlength=4) / 4000
    assert 0.5 * np.abs(shares - p / p.sum()).sum() < 0.03


@pytest.mark.parametrize("l", [0, 1])
def test_moves_leave_the_conditional_alone(l: int) -> None:
    """Of a layer whose neighbours are held: its law is that of the energies, also far from 0."""
    m = stack(2, 2, 3, size=2.0)
    below = V[[5]] if l == 0 else torch.tensor([[1.0, 0.0]])
    states = V[[0, 1, 2, 3], 2:]
    above = states[[2]] if l == 0 else torch.tensor([[1.0, 0.0, 1.0]])
    down = conditionals(m.layers_[l], V if l == 0 else states, states)[5 if l == 0 else 2]
    prior = conditionals(m.layers_[l + 1], states, above)[:, 0]
    want = torch.softmax(down + prior, 0).detach().numpy()
    n, rng = 4000, generator(1)
    h = flip(torch.full((n, 2), 0.5), rng)
    with torch.no_grad():
        for _ in range(8):
            h = m._moved(l, below.expand(n, -1), h, above.expand(n, -1), rng)
    shares = np.bincount((h @ torch.tensor([2.0, 1.0])).long().numpy(), minlength=4) / n
    assert 0.5 * np.abs(shares - want).sum() < 0.025


def test_the_bound_is_tight_where_the_top_is_the_bottom_turned_over() -> None:
    m = stack(4, 4)
    bottom, top = m.layers_
    with torch.no_grad():
        top.W_.copy_(bottom.W_.T)
        top.b_.copy_(bottom.c_)
        top.c_.copy_(bottom.b_)
        top.mu_.copy_(bottom.lambda_)
        top.lambda_.copy_(bottom.mu_)
    X = V.numpy().astype(int)
    np.testing.assert_allclose(m.elbo(X), truth(m), atol=1e-4)
    np.testing.assert_allclose(m.score_samples(X), bottom.score_samples(X), atol=1e-4)
    assert (m.log_prob(X).stderr < 1e-4).all()


@pytest.mark.parametrize("sizes", [(4, 4), (4, 3, 4)])
def test_samples_follow_the_distribution(sizes: tuple[int, ...]) -> None:
    m = stack(*sizes)
    p = truth(m).exp().numpy()
    drawn = m.sample(8000, random_state=0)
    shares = np.bincount(drawn @ (8, 4, 2, 1), minlength=16) / 8000
    assert 0.5 * np.abs(shares - p).sum() < 0.03


def patterns(n: int, seed: int = 0) -> np.ndarray:
    """One of four vectors of 8 bits, each bit turned over with chance 1/20."""
    r = np.random.default_rng(seed)
    four = np.array([[1] * 4 + [0] * 4, [0] * 4 + [1] * 4, [1, 1, 0, 0] * 2, [0, 0, 1, 1] * 2])
    return four[r.integers(0, 4, n)] ^ (r.random((n, 8)) < 0.05)


def test_training_finds_the_structure() -> None:
    X, held = patterns(1000), patterns(500, seed=1)
    trainer = Trainer(epochs=40, batch_size=50, lr=0.3)
    m = DBN((6, 4), random_state=0, trainer=trainer).fit(X)
    assert m.score(held) > Independent().fit(X).score(held) + 1.5
    assert {line["stage"] for line in m.history_} == {"layer 1", "layer 2"}
    assert m.transform(held).shape == (500, 4) and len(m.get_feature_names_out()) == 4
    assert np.abs(m.reconstruct(held) - held).mean() < 0.3
    alone = RBM(6, random_state=0, trainer=trainer).fit(X)
    assert alone.W_.shape == m.layers_[0].W_.shape


@pytest.fixture(scope="module")
def tuned() -> DBN:
    trainer = Trainer(epochs=60, batch_size=50, lr=0.5)
    return DBN((6, 4), fine_tune=True, random_state=0, trainer=trainer).fit(patterns(500))


@pytest.mark.parametrize("part", ["R_.0", "layers_.0.W_", "layers_.1.W_"])
def test_up_down_mends_every_part(part: str, tuned: DBN) -> None:
    """What lost a matrix learns it again: recognition asleep, and what generates awake."""
    X, m = patterns(500), copy.deepcopy(tuned)
    assert {line["stage"] for line in m.history_} == {"layer 1", "layer 2", "up-down"}
    m.layers_[-1].__dict__.pop("log_partition_", None)
    good = m.elbo(X).mean()
    own = dict(m.named_parameters())
    rng = generator(0)
    with torch.no_grad():
        own[part].mul_(0.1)
    m.layers_[-1].__dict__.pop("log_partition_", None)
    bad = m.elbo(X).mean()
    assert bad < good - 0.5
    codes = torch.tensor(X).float()
    m.rng = m.layers_[0].rng = m.layers_[1].rng = rng
    optimizer = torch.optim.SGD([own[part]], 0.1)
    for i in range(300):
        m.spent = i / 300
        for _, loss in m._up_down(codes[torch.randint(500, (100,), generator=rng)]):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    del m.rng, m.layers_[0].rng, m.layers_[1].rng
    m.layers_[-1].__dict__.pop("log_partition_", None)
    assert m.elbo(X).mean() > bad + 0.6 * (good - bad)


def test_missing_cells_in_fit() -> None:
    X = patterns(1000).astype(float)
    X[np.random.default_rng(5).random(X.shape) < 0.2] = np.nan
    trainer = Trainer(epochs=40, batch_size=50, lr=0.3)
    held = patterns(500, seed=1)
    alone = Independent().fit(patterns(1000)).score(held)
    for fine_tune in (False, True):
        m = DBN((6, 4), fine_tune=fine_tune, random_state=0, trainer=trainer).fit(X)
        assert m.score(held) > alone + 1.2
        assert m.complete(X[:50], random_state=0).shape == (50, 8)


def test_upper_layers_learn_the_activities_below() -> None:
    m = DBN((5, 3), random_state=0, trainer=Trainer(epochs=10, batch_size=50, lr=0.3))
    m.fit(patterns(600))
    activities = m.layers_[0].encode(patterns(600))
    np.testing.assert_allclose(m.layers_[1].mu_, activities.mean(0), atol=0.05)


@pytest.mark.parametrize("more", [0, 3])
def test_a_layer_starts_as_the_one_below_turned_over(more: int) -> None:
    """p(v) is then that of the machine below; units that hardly vary are the ones left out."""
    X = np.concatenate([patterns(600), np.ones((600, more), int)], 1)
    X[::200, 8:] = 0
    trainer = Trainer(epochs=20, batch_size=50, lr=0.3)
    with pytest.MonkeyPatch.context() as patch:
        learn = DBN._learn_layer
        lowest = [True, False]
        patch.setattr(DBN, "_learn_layer", lambda *a: learn(*a) if lowest.pop(0) else None)
        m = DBN((6, 8), random_state=0, trainer=trainer).fit(X)
    bottom, top = m.layers_
    assert bottom.score(X) > Independent().fit(X).score(X) + 0.5
    np.testing.assert_allclose(m.elbo(X).mean(), bottom.score(X), atol=0.02 if more else 1e-4)
    torch.testing.assert_close(top._chain.mean(0), bottom.mu_[:8], atol=0.15, rtol=0)


@pytest.mark.parametrize("steps", [20, 45])  # within either layer
def test_an_interrupted_run_goes_on(steps: int, tmp_path: Any) -> None:
    X = patterns(300)
    trainer = Trainer(epochs=5, batch_size=50, schedule="constant")
    whole = DBN((5, 3), random_state=0, trainer=trainer).fit(X)
    calls = 0
    losses = RBM.losses

    def stop(self: Any, x: Tensor) -> Any:
        nonlocal calls
        calls += 1
        if calls == steps:
            raise KeyboardInterrupt
        yield from losses(self, x)

    saving = trainer.replace(checkpoint=tmp_path / "run", checkpoint_every=0.0)
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="interrupted"):
        patch.setattr(RBM, "losses", stop)
        DBN((5, 3), random_state=0, trainer=saving).fit(X)
    again = DBN((5, 3), random_state=0, trainer=saving).fit(X, resume=True)
    for a, b in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)


def test_every_layer_is_watched_by_held_out_rows() -> None:
    """Of coins there is nothing to learn: every layer stops where it over-fits."""
    train, held = np.random.default_rng(0).integers(0, 2, (2, 60, 20))
    trainer = Trainer(epochs=60, batch_size=10, lr=0.5, weight_decay=0.0, patience=5)
    m = DBN((40, 30), trainer=trainer, random_state=0).fit(train, validation=held)
    for stage in ("layer 1", "layer 2"):
        seen = [line["validation"] for line in m.history_ if line["stage"] == stage]
        assert 5 < len(seen) < 60
    seen = [line["validation"] for line in m.history_ if line["stage"] == "layer 1"]
    with torch.no_grad():
        kept = -m.layers_[0].pseudo_log_likelihood(torch.tensor(held).float()).mean()
    assert float(kept) == pytest.approx(min(seen), abs=1e-4)


def test_a_large_top_is_estimated_and_says_so() -> None:
    m = DBN((24, 22), n_annealing=50, trainer=QUICK, random_state=0).fit(patterns(60))
    p = m.log_prob(patterns(5))
    assert p.kind == "estimate" and p.shared_stderr > 0 and set(p.detail) >= {"k", "ess", "moved"}
    assert not m.log_partition(n_annealing=20).exact


def test_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="and DBN needs"):
        DBN().fit(np.random.default_rng(0).normal(size=(20, 2)))
    with pytest.raises(ValueError, match="n_hidden"):
        DBN(()).fit(patterns(20))
