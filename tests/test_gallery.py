"""Scripts of the gallery and of the benchmarks that measure all families, in a small version."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genus
from genus.learn.rows import generator

HOME = Path(__file__).parents[1]


def script(name: str, folder: str = "gallery") -> Any:
    spec = importlib.util.spec_from_file_location(name, HOME / folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_images_given_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = script("images_given_images")
    digits = genus.data.load("digits")
    X, T = (np.asarray(part.X)[:n] * 15 for part, n in ((digits.train, 300), (digits.test, 12)))
    X, T = X.astype(np.uint8), T.astype(np.uint8)
    task = s.Task("super-resolution", s.halved(X), X, s.halved(T), T)
    monkeypatch.setattr(s, "MODELS", {"VAE": genus.VAE, "PixelCNN": genus.PixelCNN})
    found = s.table(task, genus.Trainer(max_steps=3, progress=False), tmp_path)
    assert list(found.index) == ["VAE", "PixelCNN"]
    assert (found["PSNR of the mean"] >= found["PSNR of one"]).all()
    assert (found["diversity"].astype(float) > 0).all()
    assert (tmp_path / "given_super_resolution.png").stat().st_size > 5000


def test_two_sets_without_pairs_are_learned_there_and_back() -> None:
    s = script("images_given_images")
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (64, 4, 4)).astype(np.uint8)
    net = genus.MLP(8, 1)
    train = genus.Trainer(max_steps=4, batch_size=16, progress=False)
    model = s.CycleGAN(net, net, latent_dim=2, trainer=train, random_state=0)
    model.fit(X, given=s.halved(X))
    assert model.sample(64, given=s.halved(X), random_state=0).shape == X.shape
    assert {"critic_", "judge_", "both_"} <= set(model.history_[-1])
    alone = model.history_[-1]["both_"]
    s.CycleGAN.cycle = 0.0  # without the way there and back it loses less
    model.fit(X, given=s.halved(X))
    assert model.history_[-1]["both_"] < alone


def test_a_question_keeps_what_the_task_says() -> None:
    s = script("images_given_images")
    X = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    assert s.halved(X).tolist() == [[[2, 4], [10, 12]]]
    assert s.left_half(X)[0, :, :2].tolist() == X[0, :, :2].tolist()
    assert not s.left_half(X)[0, :, 2:].any()
    assert s.psnr(np.zeros((1, 2, 2)), np.full((1, 2, 2), 25.5)) == pytest.approx(20)
    assert s.grey(np.full((1, 1, 1, 3), 200, np.uint8)).tolist() == [[[200]]]


def test_the_strong_decoder_is_a_distribution_and_draws_from_it() -> None:
    s = script("diagnose")
    rng = generator(0)
    seen = s.InTurn(4, rng)
    with torch.no_grad():
        last = seen.before.layers[-1]
        last.weight.copy_(last.mask * torch.randn(last.weight.shape, generator=rng) / 10)
        x = torch.cartesian_prod(*[torch.arange(2.0)] * 4)
        p = seen.log_prob(torch.randn(2, 1, 4, generator=rng).expand(2, 16, 4), x).sum(-1).exp()
        torch.testing.assert_close(p.sum(1), torch.ones(2))
        logits = torch.randn(4, generator=rng)
        p = seen.log_prob(logits.expand(16, 4), x).sum(-1).exp()
        drawn = seen.sample(logits.expand(2, 10_000, 4), rng).reshape(-1, 4)
    shares = torch.bincount((drawn @ torch.tensor([8.0, 4, 2, 1])).long(), minlength=16) / 20_000
    assert float((shares - p).abs().sum()) < 0.04
    assert float((p - p.view(4, 4).sum(1).repeat_interleave(4) / 4).abs().sum()) > 0.1


def test_the_functions_of_a_basis_give_the_predictions() -> None:
    s = script("bayesian_regression")
    rng = np.random.default_rng(0)
    x, at = rng.uniform(0, 1, 20), np.linspace(0, 1, 7)
    bumps, powers = genus.GaussianBasis(5, low=0, high=1), genus.Polynomial(3)
    for basis, intercept in ((bumps, False), (powers, True)):
        model = genus.BayesianLinearRegression(basis, alpha=0.1, beta=9.0, intercept=intercept)
        model.fit(x[:, None], np.sin(6 * x))
        m = np.r_[[model.intercept_] if intercept else [], model.coef_]
        assert s.design(model, at) @ m == pytest.approx(model.predict(at[:, None]), abs=1e-9)


def test_the_closing_table() -> None:
    s = script("closing", "benchmarks")
    X = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 300)
    data = {"X": X[:200], "test": X[200:]}
    found = s.closing(data, ["Gaussian", "Independent", "GAN"], 0.5, 2)
    assert found["kind"].tolist() == ["=", "=", "—"]
    assert found["failed"].tolist()[:2] == ["0 of 2", "0 of 2"]
    assert found.loc["Gaussian", "filled"] < 0.8 < found.loc["Independent", "filled"]
    assert found.loc["GAN", "bits/dim"] == "—" and found.loc["GAN", "draw 1"] > 0
    assert not np.isfinite(found.loc["GAN", "score 1000"])


def test_what_counts_as_a_failure() -> None:
    s = script("closing", "benchmarks")
    X = np.random.default_rng(0).normal(size=(60, 2))
    row = genus.compare("Gaussian", X, samples=0, progress=False)["Gaussian"]
    assert row.likelihood is not None
    assert not s.failed(row, row.likelihood.nats - 1) and s.failed(row, row.likelihood.nats + 1)
    row.model = None
    assert s.failed(row, -1e9)


def test_flow_matching_goes_on_after_a_break(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s = script("flow_cifar", "benchmarks")
    digits = genus.data.load("digits").train
    X, y = np.asarray(digits.X)[:64], np.asarray(digits.y)[:64]
    trainer = genus.Trainer(epochs=4, validation=0.2, checkpoint=tmp_path / "c", progress=False)
    model = s.in_two_halves(genus.UNet(2), X, y, trainer, 120.0)  # over long before that
    first, second = (int(line.split()[-2]) for line in capsys.readouterr().out.splitlines())
    assert 0 < first <= second == model.n_steps_
    assert len(model.history_) == 4  # it went on, and did not begin again
    assert len(s.curve(model, tmp_path / "curve.png")) > 1
    assert (tmp_path / "curve.png").stat().st_size > 2000
