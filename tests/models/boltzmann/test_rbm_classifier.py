"""The classification RBM against enumeration of rows, labels and hidden units."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import check_estimator
from torch import Tensor

import genus
from genus import RBMClassifier, Trainer
from genus.learn.rows import generator

K, H, D = 3, 3, 4
QUICK = Trainer(epochs=2, batch_size=20)
STATES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=D)))


def rows(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(seed)
    y = r.integers(0, K, n)
    codes = np.array([[0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0]])
    return codes[y] ^ (r.random((n, D)) < 0.1), y


def shaken(**more: Any) -> RBMClassifier:
    """A machine at random parameters."""
    m = RBMClassifier(H, trainer=QUICK, burn_in=100, random_state=0, **more).fit(*rows(60))
    rng = generator(0)
    with torch.no_grad():
        for p in m.parameters():
            p.add_(0.7 * torch.randn(p.shape, generator=rng))
        m.U_.mul_(2)
        m.rbm_.lambda_.copy_(torch.rand(H, generator=rng))
    m.__dict__.pop("log_partitions_", None)
    return m


def enumerated(m: RBMClassifier) -> Tensor:
    """p(x, y) of all states and labels, from −E(x, y, h) written out; (2^D, K)."""
    rbm = m.rbm_
    table = torch.zeros(len(STATES), K, 2**H, dtype=torch.float64)
    with torch.no_grad():
        for i, bits in enumerate(itertools.product((0.0, 1.0), repeat=H)):
            h = torch.tensor(bits)
            a = (STATES - rbm.mu_) @ rbm.W_ @ (h - rbm.lambda_) + STATES @ rbm.b_ + h @ rbm.c_
            table[:, :, i] = a[:, None] + m.U_ @ (h - rbm.lambda_) + m.d_
    p: Tensor = torch.softmax(table.flatten(), 0).reshape(table.shape).sum(2)
    return p


def test_all_probabilities_by_enumeration() -> None:
    m = shaken()
    p = enumerated(m)
    X = STATES.numpy().astype(int)
    np.testing.assert_allclose(m.predict_proba(X), p / p.sum(1, keepdim=True), atol=1e-5)
    marginal = m.log_prob(X)
    assert marginal.kind == "exact"
    np.testing.assert_allclose(np.exp(marginal.nats), p.sum(1), atol=1e-5)
    for k in range(K):
        given = m.log_prob(X, given=np.full(len(X), k))
        np.testing.assert_allclose(np.exp(given.nats), p[:, k] / p[:, k].sum(), atol=1e-5)
    ais = m.log_partition(method="ais", n_chains=300, n_annealing=300)
    assert abs(ais.value - m.log_partition().value) < 4 * ais.stderr + 1e-3
    assert abs(ais.reverse - m.log_partition().value) < 0.1


def test_missing_cells_are_summed_over() -> None:
    m = shaken()
    p = enumerated(m).reshape(*[2] * D, K)
    X = np.array([[1.0, np.nan, np.nan, 0.0]])
    truth = p[1, :, :, 0].sum((0, 1))
    np.testing.assert_allclose(m.predict_proba(X)[0], truth / truth.sum(), atol=0.03)
    found = m.log_prob(X)
    assert found.kind == "lower bound"
    assert abs(found.nats[0] - float(truth.sum().log())) < 4 * found.stderr[0] + 0.01


@pytest.mark.parametrize("w", [0.0, 0.3, 1.0])
def test_the_gradient_with_its_expectation_enumerated_is_exact(w: float) -> None:
    """Σ_v p(v) ∇ losses(data; fantasy v) = ∇ of −log p(y | x) − w log p(x)."""
    m = shaken(generative=w)
    parameters = list(m.parameters())
    X, y = rows(15, seed=3)
    x, label = torch.tensor(X).float(), torch.tensor(y)[:, None]

    def grad(loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, parameters, allow_unused=True))

    score, every = m._minus_free(x)[0], m._minus_free(STATES)[0]
    log_z = torch.logsumexp(every.flatten(), 0)
    nats = torch.log_softmax(score, 1).gather(1, label).mean()
    exact = grad(-nats - w * (torch.logsumexp(score, 1).mean() - log_z))
    total = [torch.zeros_like(p) for p in parameters]
    m.rng = generator(0)
    for v, share in zip(STATES, enumerated(m).sum(1).float(), strict=True):
        m._fantasy = lambda v=v: v[None]  # type: ignore[method-assign]
        _, loss = next(iter(m.losses(x, label)))
        for t, g in zip(total, grad(loss), strict=True):
            t += share * (0 if g is None else g)
    for t, g in zip(total, exact, strict=True):
        torch.testing.assert_close(t, torch.zeros_like(t) if g is None else g, atol=1e-5, rtol=1e-4)


def test_the_chain_draws_from_the_joint() -> None:
    m = shaken(k=30, n_chains=8000)
    m.rng = generator(1)
    with torch.no_grad():
        v = m._fantasy()
    shares = torch.bincount((v @ 2.0 ** torch.arange(D - 1, -1, -1)).long(), minlength=2**D) / 8000
    assert 0.5 * float((shares - enumerated(m).sum(1)).abs().sum()) < 0.04


def test_moving_the_centre_leaves_the_distribution() -> None:
    m = shaken()
    before, then = enumerated(m), m.rbm_.lambda_.clone()
    m.rng = generator(0)
    X, y = rows(15)
    m.rbm_.tracking = 0.5
    list(m.losses(torch.tensor(X).float(), torch.tensor(y)[:, None]))  # no step is taken
    assert float((m.rbm_.lambda_ - then).abs().max()) > 0.01
    torch.testing.assert_close(enumerated(m), before, atol=1e-6, rtol=0)


def test_draws_and_completions_follow_the_distribution() -> None:
    m = shaken()
    p = enumerated(m)

    def shares(X: np.ndarray) -> Tensor:
        index = (np.asarray(X) @ 2 ** np.arange(D - 1, -1, -1)).astype(int)
        return torch.from_numpy(np.bincount(index, minlength=2**D))

    def distance(X: np.ndarray | Tensor, truth: Tensor) -> float:
        found = X if isinstance(X, Tensor) else shares(X)
        return 0.5 * float((found / found.sum() - truth / truth.sum()).abs().sum())

    assert distance(m.sample(4000, random_state=0), p.sum(1)) < 0.05
    assert distance(m.sample(4000, given=2, random_state=0), p[:, 2]) < 0.05
    gaps = np.tile([1.0, np.nan, np.nan, np.nan], (4000, 1))
    some = p * (STATES[:, :1] == 1)
    assert distance(m.complete(gaps, random_state=0), some.sum(1)) < 0.05
    assert distance(m.complete(gaps, given=1, random_state=0), some[:, 1]) < 0.05
    assert distance(m.complete(gaps, given=2, random_state=0), some[:, 2]) < 0.05
    assert distance(some[:, 2], some.sum(1)) > 0.08


def test_the_weight_leads_from_labels_to_rows() -> None:
    """w = 1 knows p(x) best; w = 0 does not learn it at all."""
    X, y = rows(600)
    held, labels = rows(600, seed=1)
    trainer = Trainer(epochs=40, batch_size=50, lr=0.3)
    by = {w: RBMClassifier(4, w, trainer=trainer, random_state=0).fit(X, y) for w in (0.0, 1.0)}
    nats = {w: m.log_prob(held).mean() for w, m in by.items()}
    assert nats[1.0] > nats[0.0] + 0.1
    assert min(m.score(held, labels) for m in by.values()) > 0.8


def test_rows_with_gaps_are_learned_from() -> None:
    X, y = rows(800)
    gaps = np.where(np.random.default_rng(5).random(X.shape) < 0.3, np.nan, X)
    m = RBMClassifier(4, trainer=Trainer(epochs=30, lr=0.3), random_state=0).fit(gaps, y)
    held, labels = rows(400, seed=1)
    assert m.score(held, labels) > 0.8
    assert np.isfinite(m.score_samples(gaps[:20])).all() and np.isfinite(m.encode(gaps[:20])).all()


def test_features_are_expected_hidden_units() -> None:
    m = shaken()
    X = STATES.numpy().astype(int)
    each = np.stack([m.encode(X, given=np.full(len(X), k)) for k in range(K)], 1)
    p = enumerated(m)
    share = (p / p.sum(1, keepdim=True)).numpy()
    np.testing.assert_allclose(m.transform(X), (share[:, :, None] * each).sum(1), atol=1e-5)
    assert m.decode(each[:, 0]).shape == X.shape


def test_it_is_saved_and_a_broken_run_goes_on(tmp_path: Path) -> None:
    X, y = rows()
    words = np.array(["a", "b", "c"])[y]
    trainer = Trainer(epochs=6, schedule="constant")
    whole = RBMClassifier(H, trainer=trainer, random_state=0).fit(X, words)
    path = tmp_path / "run.ckpt"
    cut = trainer.replace(checkpoint=path)
    RBMClassifier(H, trainer=cut.replace(max_steps=7), random_state=0).fit(X, words)
    again = RBMClassifier(H, trainer=cut, random_state=0).fit(X, words, resume=True)
    assert torch.equal(again.U_, whole.U_) and torch.equal(again._chain, whole._chain)
    whole.score_samples(X[:3])
    whole.save(tmp_path / "m")
    loaded = genus.load(tmp_path / "m")
    assert np.array_equal(loaded.predict(X), whole.predict(X))
    assert np.array_equal(loaded.score_samples(X), whole.score_samples(X))


def test_scikit_learn() -> None:
    model = RBMClassifier(8, trainer=Trainer(epochs=15, batch_size=50), random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(model, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    assert len(results) >= 50
