"""JEM: identities of its logits, labels of any sort, draws of a class, and laws of the house."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

import genus
from genus import CapabilityError
from genus.evaluate import calibration, detection, robustness
from genus.learn.rows import generator

QUICK = genus.Trainer(epochs=12, batch_size=50, lr=1e-2, progress=False)
NET = genus.MLP(16, 1, "silu")


def jem(**args):
    settings = {"n_annealing": 100, "burn_in": 50, "n_chains": 200, "steps": 4}
    return genus.JEM(NET, trainer=QUICK, random_state=0, **(settings | args))


@pytest.fixture(scope="module")
def blobs():
    """Two classes of a table, with words as labels."""
    r = np.random.default_rng(0)
    up = r.random(400) < 0.4
    X = np.stack([np.where(up, 2.0, -1.0), np.where(up, 1.0, -1.0)], 1) + 0.5 * r.normal(
        size=(400, 2)
    )
    return X, np.where(up, "up", "down")


@pytest.fixture(scope="module")
def model(blobs):
    return jem().fit(*blobs)


class Shifted(nn.Module):
    """Logits of a network with c(x) added to all."""

    def __init__(self, network, c):
        super().__init__()
        self.network, self.c = network, c

    def forward(self, y):
        return self.network(y) + self.c(y)[:, None]


def test_the_identities_of_the_logits(model, blobs):
    y = torch.randn(50, 2, generator=generator(0), dtype=torch.float64)
    network = model.network_
    model.network_ = network.double()
    f = model.logits(y)
    log_p = torch.log_softmax(f, 1)
    torch.testing.assert_close(model._energy(y), -torch.logsumexp(f, 1), atol=1e-6, rtol=0)
    # log p(x, y) − log p(x) = log p(y | x), p₀ and Z drop out
    for k in range(2):
        joint = model.log_density(y, torch.full((50, 1), float(k)))
        torch.testing.assert_close(joint - model.log_density(y), log_p[:, k], atol=1e-6, rtol=0)
    before, told = model._energy(y), log_p
    model.network_ = Shifted(network, lambda v: v.square().sum(1))
    after = torch.log_softmax(model.logits(y), 1)
    torch.testing.assert_close(after, told, atol=1e-6, rtol=0)
    moved = before - model._energy(y)
    torch.testing.assert_close(moved, y.square().sum(1), atol=1e-6, rtol=0)
    model.network_ = network.float()


def test_words_are_labels_and_accuracy_is_the_score(model, blobs):
    X, y = blobs
    assert model.classes_.tolist() == ["down", "up"]
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-6)
    assert (model.predict(X) == model.classes_[proba.argmax(1)]).all()
    assert model.score(X, y) == (model.predict(X) == y).mean() > 0.97
    with pytest.raises(ValueError, match="'left' \\(row 0\\), a class that was not seen"):
        model.sample(2, given="left")


def test_draws_of_a_class_are_like_its_rows(model, blobs):
    X, y = blobs
    for word in ("up", "down"):
        draws = model.sample(300, given=word, random_state=0)
        assert np.abs(np.median(draws, 0) - np.median(X[y == word], 0)).max() < 0.5
    mixed = model.sample(4, given=["up", "down", "up", "down"], random_state=0)
    assert mixed.shape == (4, 2)


def test_a_class_has_its_density_by_bayes(model, blobs):
    X, y = blobs
    p, of_class = model.log_prob(X), model.log_prob(X, given=y)
    assert isinstance(p, genus.Estimate) and isinstance(of_class, genus.Estimate)
    log_told = np.log(model.predict_proba(X)[np.arange(400), (y == "up").astype(int)])
    log_share = np.array(model.log_shares_)[(y == "up").astype(int)]
    np.testing.assert_allclose(of_class.nats, p.nats + log_told - log_share, atol=1e-3)
    axis = np.linspace(-8, 8, 121)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    mass = np.exp(model.log_prob(grid, given="up").nats).sum() * (axis[1] - axis[0]) ** 2
    assert mass == pytest.approx(1, abs=0.15)


def test_rows_without_a_label_count_for_the_density(blobs):
    X, y = blobs
    few = y.astype(object).copy()
    few[10:] = None
    few[:4] = ["up", "down", "up", "down"]
    half = jem().fit(X, few)
    alone = jem().fit(X[:10], few[:10])
    assert half.score_samples(X).mean() > alone.score_samples(X).mean() + 0.5
    as_numbers = jem(weight=0.0).fit(X, np.where(np.arange(400) < 200, y == "up", np.nan))
    assert as_numbers.classes_.tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="no label at all"):
        jem().fit(X, np.full(400, np.nan))


def test_the_weight_is_that_of_the_density(blobs):
    X, y = blobs
    far = X + [0.0, 6.0]
    plain, whole = (jem(weight=w).fit(X, y) for w in (0.0, 1.0))
    gaps = [float(m.energy(far).mean() - m.energy(X).mean()) for m in (plain, whole)]
    assert gaps[1] > gaps[0]


def test_joint_chains_know_their_label(blobs, monkeypatch):
    X, y = blobs
    seen = []
    moved = genus.JEM._moved

    def watch(self, begin, steps, rng, log_f=None, adapt=False):
        if adapt:
            seen.append(log_f)
        return moved(self, begin, steps, rng, log_f, adapt)

    monkeypatch.setattr(genus.JEM, "_moved", watch)
    own = jem(joint=True).set_params(trainer__epochs=2).fit(X, y)
    chains = own._chains
    joint = own._log_f_of(own._theirs)(chains)
    assert seen and all(f is not None for f in seen)
    assert bool((joint < own._log_f(chains)).all())  # one class of two
    assert own.score(X, y) > 0.9


def test_held_out_labels_stop_it_early(blobs):
    X, y = blobs
    own = jem().set_params(trainer=QUICK.replace(epochs=4, patience=2))
    own.fit(X[:300], y[:300], validation=(X[300:], y[300:]))
    last = own.history_[-1]["validation"]
    assert 0 < last < 0.5


def images():
    """Three sorts of stripes, 4 × 4 levels."""
    r = np.random.default_rng(0)
    y = r.integers(0, 3, 300)
    X = r.binomial(4, 0.2, (300, 4, 4)).astype(np.uint8)
    X[np.arange(300), y] += 10
    return X, y


def test_images_classify_rank_and_resist():
    X, y = images()
    own = jem(steps=5).set_params(trainer__epochs=20).fit(X[:200], y[:200])
    assert own.score(X[200:], y[200:]) > 0.9
    with pytest.raises(CapabilityError):
        own.log_prob(X)
    mixed = np.random.default_rng(0).permuted(X[200:].reshape(100, 16), axis=1).reshape(-1, 4, 4)
    assert detection(own, X[200:], mixed, n_bootstrap=2).auroc > 0.8
    assert calibration(own, X[200:], y[200:]).n == 100
    told = robustness(own, X[200:], y[200:], eps=[0.01, 0.1], steps=5, restarts=1)
    assert told.table.pgd[1] < told.table.pgd[0] and not told.masked
    refined = robustness(own, X[200:], y[200:], eps=[0.01], steps=2, restarts=0, refine=2)
    assert refined.clean > 0.8
    draws = own.sample(60, given=1, random_state=0)
    assert (draws.mean(0).mean(1).argmax() == 1) and (own.predict(draws) == 1).mean() > 0.8
    gaps = X[200:].astype(float)
    gaps[:, 3] = np.nan
    assert (own.predict(gaps) == y[200:]).mean() > 0.9


def test_shifts_are_of_the_classifier_alone():
    X, y = images()
    own = jem(augment=1).set_params(trainer__epochs=1).fit(X, y)
    own.rng = generator(0)
    rows = torch.arange(16.0).repeat(40, 1)
    moved = own._shifted(rows).reshape(40, 4, 4)
    places = {
        (int(i), int(j)) for m in moved for i, j in ((m == 5).nonzero().tolist() or [(-1, -1)])
    }
    assert places == {(i, j) for i in range(3) for j in range(3)}


def test_the_common_checks_of_classifiers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = QUICK.replace(epochs=10, batch_size=16)
        quick = jem(steps=1, n_annealing=5, burn_in=2, n_chains=20)
        tried = check_estimator(quick.set_params(trainer=trainer), on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in tried if r["status"] == "failed"}
    assert not failed and len(tried) >= 45


def test_a_saved_one_says_the_same_in_another_process(model, blobs, tmp_path):
    X, _ = blobs
    model.save(tmp_path / "jem")
    code = (
        "import sys, numpy as np, genus\n"
        "m = genus.load(sys.argv[1])\n"
        "X = np.load(sys.argv[2])\n"
        "np.save(sys.argv[3], np.c_[m.predict_proba(X), m.energy(X), m.score_samples(X)])\n"
        "print(*m.predict(X[:5]), m.sample(2, given='up', random_state=0).tolist())\n"
    )
    np.save(tmp_path / "x.npy", X)
    source = str(Path(genus.__file__).parents[1])
    paths = [str(tmp_path / n) for n in ("jem", "x.npy", "out.npy")]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": source, "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    here = np.c_[model.predict_proba(X), model.energy(X), model.score_samples(X)]
    np.testing.assert_array_equal(np.load(paths[2]), here)
    draws = model.sample(2, given="up", random_state=0).tolist()
    assert done.stdout.strip() == " ".join([*model.predict(X[:5]), str(draws)])


def test_tables_with_words_and_gaps():
    r = np.random.default_rng(0)
    y = r.random(200) < 0.5
    X = pd.DataFrame(
        {"word": np.where(y ^ (r.random(200) < 0.1), "a", "b"), "x": y + 0.4 * r.normal(size=200)}
    )
    X.loc[:20, "x"] = np.nan
    own = jem().fit(X, np.where(y, "yes", "no"))
    assert own.score(X, np.where(y, "yes", "no")) > 0.85
    draws = own.sample(100, given="yes", random_state=0)
    assert (draws["word"] == "a").mean() > 0.6 and not draws.isna().any(axis=None)
    filled = own.complete(X, given="yes", random_state=0)
    assert not filled.isna().any(axis=None)
