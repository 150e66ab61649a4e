"""The Bayesian network against linear regression, where all is known, and against brute force."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.model_selection import GridSearchCV
from torch import nn

import genus
from genus import MLP, BayesianLinearRegression, BayesianMLP, Conv, Estimate, Exact, Trainer
from genus.learn.rows import generator
from genus.models.regression.bayesian_mlp import rhat

NOISE = 0.6
STEPS = Trainer(epochs=600, batch_size=40, lr=5e-2, progress=False)
# for variational inference, whose gradients are noisy
PATIENT = STEPS.replace(epochs=1500, lr=2e-2)
QUICK = Trainer(epochs=60, batch_size=40, lr=2e-2, progress=False)
NET = MLP(5, 1, "tanh")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains that begin to count early."""
    monkeypatch.setattr("genus.models.regression.bayesian_mlp.WARM_UP", 40)


@cache
def line() -> tuple[np.ndarray, np.ndarray]:
    """Standardised rows with dependent columns: the posterior's weights are dependent too."""
    r = np.random.default_rng(0)
    X = r.normal(size=(40, 1)) + 0.5 * r.normal(size=(40, 2))
    y = X @ [1.0, 0.5] + NOISE * r.normal(size=40)
    return (X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std()


@cache
def truth() -> BayesianLinearRegression:
    X, y = line()
    # weights: s²/fan-in
    return BayesianLinearRegression(alpha=1.0, beta=NOISE**-2, intercept=True).fit(
        X / math.sqrt(2), y
    )


@cache
def linear(posterior: str) -> BayesianMLP:
    return BayesianMLP(
        MLP(4, 0),
        posterior,
        prior_scale=1.0,
        noise=NOISE,
        n_draws=2000,
        trainer=PATIENT if posterior == "vi" else STEPS,
        random_state=0,
    ).fit(*line())


def weights(model: BayesianMLP) -> np.ndarray:
    """Draws in the units of the closed form, the intercept first."""
    D = model.draws_.numpy()
    return np.column_stack([D[:, 2], D[:, :2] * math.sqrt(2)])


def curve(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(1)
    x = r.uniform(-2, 2, (n, 1))
    return x, 10 + 3 * np.sin(2 * x[:, 0]) + 0.3 * r.normal(size=n)


def classes(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(2)
    X = r.normal(size=(n, 2))
    return X, np.where(X[:, 0] * X[:, 1] > 0, "same", "other")


# ---------------------------------------------------------------- one linear layer: the closed form


@pytest.mark.parametrize("posterior", ["map", "vi", "laplace", "hmc"])
def test_the_mean_of_a_linear_network_is_linear_regressions(posterior: str) -> None:
    X, _ = line()
    error = 3 * np.sqrt(np.diag(truth().covariance_) / 2000) if posterior == "hmc" else 0.01
    assert (
        np.abs(weights(linear(posterior)).mean(0) - truth().mean_.numpy()) < np.maximum(error, 0.01)
    ).all()
    np.testing.assert_allclose(
        linear(posterior).predict(X), truth().predict(X / math.sqrt(2)), atol=0.02
    )


def test_the_variances_of_a_linear_network() -> None:
    C, D = truth().covariance_, 1 / np.diag(np.linalg.inv(truth().covariance_))
    assert (np.diag(C) / D)[1:].min() > 1.5  # or else this test could not tell them apart
    chance = 4 * math.sqrt(2 / 2000)
    # what mean field converges to
    np.testing.assert_allclose(weights(linear("vi")).var(0), D, rtol=chance + 0.05)
    np.testing.assert_allclose(np.cov(weights(linear("laplace")).T), C, atol=chance * C.max())
    np.testing.assert_allclose(np.cov(weights(linear("hmc")).T), C, atol=1.5 * chance * C.max())
    np.testing.assert_allclose(weights(linear("hmc")).var(0), np.diag(C), rtol=1.5 * chance)
    hmc = linear("hmc")
    assert 0.6 < hmc.acceptance_ < 0.95 and hmc.rhat_ < 1.05


@pytest.mark.parametrize("posterior", ["laplace", "hmc"])
def test_the_predictions_of_a_linear_network(posterior: str) -> None:
    X, y = line()
    mean, std = linear(posterior).predict(3 * X, return_std=True)
    m, s = truth().predict(3 * X / math.sqrt(2), return_std=True)
    np.testing.assert_allclose(mean, m, atol=0.05)
    np.testing.assert_allclose(std, s, rtol=0.05)
    p, exact = linear(posterior).log_prob(y, given=X), truth().log_prob(y, given=X / math.sqrt(2))
    assert isinstance(p, Estimate) and (np.abs(p.nats - exact.nats) < 6 * p.stderr + 0.02).all()


def test_learned_noise_of_a_linear_network() -> None:
    X, y = line()
    model = BayesianMLP(MLP(4, 0), "laplace", prior_scale=1.0, trainer=STEPS, random_state=0).fit(
        X, y
    )
    drawn = BayesianMLP(
        MLP(4, 0), "hmc", prior_scale=1.0, n_draws=800, trainer=STEPS, random_state=0
    ).fit(X, y)
    r = drawn.log_noise_draws_.numpy()
    grid = np.linspace(-1.5, 0.5, 100)  # p(log σ | y) by the evidence at every σ

    def evidence(g: float) -> float:
        exact = BayesianLinearRegression(alpha=1.0, beta=math.exp(-2 * g), intercept=True)
        return exact.fit(X / math.sqrt(2), y).log_evidence_

    log_p = [evidence(g) for g in grid]
    log_p += stats.norm(-1, 1).logpdf(grid)
    # Laplace's point is the mode
    assert math.log(model.noise_) == pytest.approx(grid[np.argmax(log_p)], abs=0.03)
    p = np.exp(log_p - max(log_p))
    p /= p.sum()
    mean = (p * grid).sum()
    assert r.mean() == pytest.approx(mean, abs=0.03)
    assert r.std() == pytest.approx(math.sqrt((p * (grid - mean) ** 2).sum()), rel=0.15)


# ---------------------------------------------------------------------- what defines each


def test_the_network_is_the_module() -> None:
    model = BayesianMLP(MLP(6, 2, "relu"), trainer=QUICK.replace(max_steps=1), random_state=0).fit(
        *classes()
    )
    net = MLP(6, 2, "relu")((2,), (2,))
    theta = torch.randn(3, model.n_parameters() // 2, generator=generator(0), dtype=torch.float64)
    x = torch.randn(7, 2, generator=generator(1), dtype=torch.float64)
    for t, out in zip(theta, model.forward(theta, x), strict=True):
        nn.utils.vector_to_parameters(t, net.double().parameters())
        torch.testing.assert_close(net(x), out)


def test_local_reparameterisation_draws_what_weights_would() -> None:
    model = BayesianMLP(MLP(4, 0), trainer=QUICK, random_state=0).fit(*line())
    model.rng = generator(0)
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    with torch.no_grad():
        local = model.noisy(x.repeat(20_000, 1))[:, 0]
        e = torch.randn(20_000, 3, generator=generator(1), dtype=torch.float64)
        global_ = model.forward(model.mean_ + model.log_std_.exp() * e, x)[:, 0, 0]
        assert stats.ks_2samp(local, global_).pvalue > 1e-3
        assert torch.unique(model.noisy(x.repeat(5, 1))).numel() == 5  # apart for every row
        kl = torch.distributions.kl_divergence(
            torch.distributions.Normal(model.mean_, model.log_std_.exp()),
            torch.distributions.Normal(0 * model.mean_, model.prior_std_),
        ).sum()
        assert float(model.kl()) == pytest.approx(float(kl))


def test_laplace_is_the_hessian_of_the_linear_model() -> None:
    X, y = classes(30)
    model = BayesianMLP(MLP(3, 1, "tanh"), "laplace", trainer=QUICK, random_state=0).fit(X, y)
    x, c = model._scaled(model._given(X)), model._encode_rows(y, missing=False)
    theta = model.mean_.detach()
    flat = lambda t: model.forward(t[None], x)[0]  # noqa: E731
    J = torch.autograd.functional.jacobian(flat, theta)
    f = flat(theta)

    def energy(t: torch.Tensor) -> torch.Tensor:
        return (
            -model.log_likelihood(f + J @ (t - theta), c, model.log_noise_).sum()
            + 0.5 * (t / model.prior_std_).square().sum()
        )

    L = model._curvature(x, c)
    torch.testing.assert_close(
        L @ L.T, torch.autograd.functional.hessian(energy, theta), rtol=1e-8, atol=1e-8
    )
    out = model._outputs(model._given(X[:4]))
    torch.testing.assert_close(
        out, f[:4] + torch.einsum("nkp,sp->snk", J[:4], model.draws_ - theta)
    )


def test_map_without_a_prior_is_maximum_likelihood() -> None:
    X, y = line()
    ml = BayesianMLP(
        MLP(4, 0), "map", prior_scale=math.inf, noise=NOISE, trainer=STEPS, random_state=0
    ).fit(X, y)
    w = np.linalg.lstsq(np.column_stack([X, np.ones(40)]), y, rcond=None)[0]
    np.testing.assert_allclose(ml.mean_.detach().numpy(), w, atol=1e-4)
    assert np.abs(linear("map").mean_.detach().numpy() - w).max() > 0.01
    assert isinstance(ml.log_prob(y, given=X), Exact)


@pytest.mark.usefixtures("hasty")
@pytest.mark.filterwarnings("ignore:the chains of HMC")
@pytest.mark.parametrize("posterior", ["vi", "laplace", "hmc"])
def test_uncertainty_grows_away_from_the_data(posterior: str) -> None:
    x, y = curve()
    # mean field takes tanh's ends for certain
    network = MLP(8, 1, "relu" if posterior == "vi" else "tanh")
    model = BayesianMLP(
        network, posterior, n_draws=64, trainer=PATIENT.replace(epochs=1000), random_state=0
    ).fit(x, y)
    assert model.score(x, y) > 0.7
    F = model.functions(x)
    assert model.functions(np.array([[-8.0], [8.0]])).std(0).min() > 2 * F.std(0).mean()
    assert 0.2 < model.noise_ < 1.5  # in the units of y
    _, std = model.predict(x, return_std=True)
    np.testing.assert_allclose(std, np.sqrt(F.var(0) + model.noise_**2))
    assert F.shape == (64, 40)
    np.testing.assert_allclose(F.mean(0), model.predict(x))


def test_few_rows_hold_against_the_prior() -> None:
    """Without KL's slow start R² stays at 0.2."""
    x, y = curve()
    model = BayesianMLP(trainer=Trainer(progress=False), random_state=0).fit(x, y)
    assert model.score(x, y) > 0.9 and model.noise_ < 0.6


@pytest.mark.usefixtures("hasty")
@pytest.mark.filterwarnings("ignore:the chains of HMC")
@pytest.mark.parametrize("posterior", ["map", "vi", "laplace", "hmc"])
def test_classes(posterior: str) -> None:
    X, y = classes(120)
    trainer = QUICK.replace(epochs=300)
    model = BayesianMLP(
        MLP(8, 1, "tanh"), posterior, prior_scale=4.0, n_draws=32, trainer=trainer, random_state=0
    ).fit(X, y)
    p = model.predict_proba(X)
    assert model.task_ == "classification" and list(model.classes_) == ["other", "same"]
    np.testing.assert_allclose(p.sum(1), 1)
    assert model.score(X, y) > 0.85 and set(model.predict(X)) == {"other", "same"}
    np.testing.assert_allclose(
        model.log_prob(y, given=X).nats,
        np.log(p[np.arange(120), (y == "same").astype(int)]),
        rtol=1e-6,
    )
    draws = model.sample(given=X[:1].repeat(400, 0), random_state=0)
    assert (draws == "same").mean() == pytest.approx(p[0, 1], abs=4 * math.sqrt(0.25 / 400))
    with pytest.raises(ValueError, match="return_std=True: classes have no"):
        model.predict(X, return_std=True)
    with pytest.raises(ValueError, match=r"'else' \(row 1\), a class that was not seen"):
        model.log_prob(["same", "else"], given=X[:2])


@cache
def held_out(posterior: str, prior_scale: float) -> tuple[float, float]:
    """How much surer than right a model of 40 rows is of others, and its nats."""
    r = np.random.default_rng(3)
    X = r.normal(size=(3040, 2))
    y = (r.random(3040) < 1 / (1 + np.exp(X[:, 1] - 2 * X[:, 0]))).astype(int)
    model = BayesianMLP(
        NET,
        posterior,
        prior_scale=prior_scale,
        n_draws=32,
        trainer=STEPS.replace(epochs=800),
        random_state=0,
    ).fit(X[:40], y[:40])
    sure = model.predict_proba(X[40:]).max(1).mean() - model.score(X[40:], y[40:])
    return sure, model.log_prob(y[40:], given=X[40:]).mean()


@pytest.mark.usefixtures("hasty")
@pytest.mark.filterwarnings("ignore:the chains of HMC")
@pytest.mark.parametrize("posterior", ["vi", "laplace", "hmc"])
def test_classes_are_calibrated(posterior: str) -> None:
    """Chances between 0 and 1, few rows: one network is far too sure, the mean is not."""
    alone, nats_alone = held_out("map", math.inf)
    sure, nats = held_out(posterior, 1.0)
    assert alone > 0.15 and abs(sure) < 0.12
    assert nats > nats_alone + 0.1 and nats > -0.6


@pytest.mark.parametrize(
    ("y", "task"),
    [
        ([0.5, 1.5, 2.5], "regression"),
        ([0.0, 1.0, 1.0], "classification"),
        ([1, 2, 3], "classification"),
        (["a", "b", "a"], "classification"),
    ],
)
def test_the_task_follows_from_y(y: Any, task: str) -> None:
    X = np.arange(6.0).reshape(3, 2)
    quick = Trainer(max_steps=2, progress=False)
    assert BayesianMLP(NET, trainer=quick, random_state=0).fit(X, y).task_ == task
    assert (
        BayesianMLP(NET, trainer=quick, random_state=0)
        .fit(X, np.arange(3) * 1000 + np.arange(3) % 2 * 0.5)
        .task_
        == "regression"
    )


def test_rhat() -> None:
    e = torch.randn(400, 4, 2, generator=generator(0), dtype=torch.float64)
    assert rhat(e) == pytest.approx(1, abs=0.02)
    e[:, 0, 1] += 2
    assert rhat(e) > 1.2


@pytest.mark.usefixtures("hasty")
@pytest.mark.filterwarnings("ignore:the chains of HMC")
def test_settings_are_searched_and_saved(tmp_path: Any) -> None:
    x, y = curve()
    search = GridSearchCV(
        BayesianMLP(NET, trainer=QUICK, n_draws=8, random_state=0),
        {"network__width": [2, 4], "prior_scale": [2.0]},
        cv=2,
    )
    assert search.fit(x, y).best_estimator_.task_ == "regression"
    for posterior in ("map", "vi", "laplace", "hmc"):
        model = BayesianMLP(NET, posterior, n_draws=8, trainer=QUICK, random_state=0).fit(x, y)
        model.save(tmp_path / "m")
        back = genus.load(tmp_path / "m")
        assert (back.functions(x) == model.functions(x)).all() and back.noise_ == model.noise_


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"posterior": "mcmc"}, "posterior='mcmc': 'map', 'vi'"),
        ({"task": "rank"}, "task='rank': 'auto'"),
        ({"prior_scale": 0}, "prior_scale=0: a positive"),
        ({"prior_scale": math.inf}, "prior_scale=inf is no prior"),
        ({"noise": -1}, "noise=-1: .*'learned'"),
        ({"n_draws": 0}, "n_draws=0"),
        ({"chains": 1.5}, "chains=1.5"),
        ({"network": Conv(4, 1)}, "Conv needs images"),
        ({"network": genus.ResNet(4, 1)}, "has no posterior here; use a sequence of linear layers"),
        ({"network": MLP(6000, 1), "posterior": "laplace"}, "network has 18001 weights.*use fewer"),
        (
            {"network": MLP(60, 1), "noise": 1e-12, "posterior": "laplace"},
            "posterior='laplace': Λ is singular to rounding; raise noise",
        ),
    ],
)
def test_arguments_out_of_range_say_so(args: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BayesianMLP(**{"network": NET, "trainer": QUICK, "random_state": 0} | args).fit(
            curve()[0], curve()[1]
        )
