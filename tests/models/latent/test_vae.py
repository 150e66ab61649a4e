"""The variational autoencoder where the truth is known: probabilistic PCA, and quadrature."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

import genus
from genus import MLP, VAE, Conv, Space, Trainer
from genus.learn.rows import generator

FAST = Trainer(epochs=15, batch_size=50, lr=1e-2, validation=0.0)
NET = MLP(16, 1, "tanh")


def ones(n: int, kind: str, seed: int = 0) -> tuple[np.ndarray, Space]:
    """Rows of 4 cells with one common factor."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, 1)) * np.array([1.0, -1.0, 1.5, 0.5]) + 0.5 * rng.normal(size=(n, 4))
    if kind == "continuous":
        return 3 * y + 10, Space((4,), "continuous")
    if kind == "binary":
        return (y > 0).astype(int), Space((4,), "binary")
    return np.clip(np.round(y + 1), 0, 2).astype(int), Space((4,), kind, levels=3)


KINDS = {
    "continuous": "gaussian",
    "binary": "bernoulli",
    "ordinal": "logistic",
    "categorical": "categorical",
}
KINDS["ordinal gaussian"] = "gaussian"


def fitted(case: str, **more: Any) -> tuple[VAE, np.ndarray]:
    X, space = ones(400, case.split()[0])
    kw: dict[str, Any] = {
        "latent_dim": 1,
        "encoder": NET,
        "decoder": NET,
        "trainer": FAST,
        "random_state": 0,
        "likelihood": KINDS[case],
    }
    return VAE(**{**kw, **more}).fit(X, space=space), ones(200, case.split()[0], seed=1)[0]


def quadrature(m: VAE, X: Any, span: float = 8.0, points: int = 4001) -> np.ndarray:
    """log ∫ p(z) p(x | z) dz over the one latent dimension."""
    z = torch.linspace(-span, span, points)[:, None]
    x = m.space_.encode(X).float()
    with torch.no_grad():
        like = torch.stack(
            [m._log_likelihood(z, row[None].flatten(1).expand(points, -1)) for row in x]
        ).double()
    prior = torch.tensor(stats.norm.logpdf(z[:, 0].numpy()))
    return torch.logsumexp(like + prior, 1).numpy() + math.log(2 * span / (points - 1))


# ---------------------------------------------------------------------- bounds


def test_a_linear_gaussian_vae_is_probabilistic_pca() -> None:
    rng = np.random.default_rng(0)
    X = (
        rng.normal(size=(600, 2)) @ rng.normal(size=(2, 5)) * 3
        + 0.7 * rng.normal(size=(600, 5))
        + 20
    )
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    s2 = values[:3].mean()
    W = vectors[:, 3:] * np.sqrt(values[3:] - s2)
    truth = stats.multivariate_normal(X.mean(0), W @ W.T + s2 * np.eye(5)).logpdf(X)
    line = MLP(depth=0)
    trainer = Trainer(epochs=150, batch_size=100, lr=1e-2, weight_decay=0.0, validation=0.0)
    m = VAE(2, line, line, variance=float(s2), trainer=trainer, random_state=0, k=64).fit(X)
    m.rng = generator(1)
    with torch.no_grad():
        elbo = torch.stack([m.elbo(torch.tensor(X)) for _ in range(200)]).mean(0)
    assert truth.mean() - 0.02 < float(elbo.mean()) < truth.mean() + 0.005
    np.testing.assert_allclose(m.score_samples(X), truth, atol=0.4)
    assert m.score(X) == pytest.approx(truth.mean(), abs=0.02)


@pytest.mark.parametrize("case", KINDS)
def test_bounds_rise_with_k_and_stay_below_the_truth(case: str) -> None:
    m, X = fitted(case)
    truth = quadrature(m, X)
    means = []
    for k in (1, 4, 32, 512):
        m.k = k
        lp = m.log_prob(X)
        assert lp.kind == "lower bound" and lp.detail["k"] == k
        means.append(lp.mean())
    m.rng = generator(2)
    x = m.space_.encode(X).float()
    with torch.no_grad():
        elbo = float(torch.stack([m.elbo(x) for _ in range(200)]).mean())
    few = 4 / math.sqrt(len(np.unique(X, axis=0)))  # equal rows have equal points
    assert means[0] == pytest.approx(elbo, abs=few)  # k = 1 is the ELBO
    assert means[2] > elbo and means[2] < truth.mean() + 0.2 * few
    assert means[3] == pytest.approx(truth.mean(), abs=0.02)
    assert elbo < truth.mean()
    error = lp.nats - truth
    # errors are themselves estimated, from 8 blocks of points
    assert np.square(error).mean() < np.square(lp.stderr).mean() + 1e-3**2
    assert np.sqrt(np.mean((error / lp.stderr) ** 2)) < 2


@pytest.mark.parametrize("case", ["binary", "ordinal", "categorical", "ordinal gaussian"])
def test_probabilities_of_all_rows_sum_to_one_by_quadrature(case: str) -> None:
    m, _ = fitted(case)
    every = np.array(list(itertools.product(*map(range, m.space_.cardinality))))
    p = np.exp(quadrature(m, every, points=401))
    assert p.sum() == pytest.approx(1, abs=1e-4)
    assert 0.9 < np.exp(m.score_samples(every)).sum() < 1.01
    draws = m.sample(20_000).astype(int)
    base = m.space_.cardinality[0]
    index = sum(draws[:, j] * base ** (3 - j) for j in range(4))
    assert 0.5 * np.abs(np.bincount(index, minlength=len(p)) / 20_000 - p).sum() < 0.05


def test_kl_against_monte_carlo() -> None:
    m, X = fitted("binary", latent_dim=3)
    mean, s = torch.tensor([[0.5, -2.0, 0.0]]), torch.tensor([[0.3, 1.5, 1.0]])
    z = mean + s * torch.randn(200_000, 3, generator=generator(0))
    log_ratio = torch.distributions.Normal(mean, s).log_prob(z) - torch.distributions.Normal(
        0, 1
    ).log_prob(z)
    torch.testing.assert_close(m.kl(mean, s)[0], log_ratio.mean(0), atol=0.02, rtol=0)
    with torch.no_grad():
        expected = m.kl(*m.posterior(m.space_.encode(X).float())).mean(0)
    np.testing.assert_allclose(m.kl_per_dimension(X), expected, rtol=1e-5)


def test_iwae_is_the_log_mean_of_the_weights_and_its_loss_is_used() -> None:
    m, X = fitted("continuous", k_train=5, bound="iwae")
    x = torch.tensor(X[:6])
    m.rng = generator(3)
    with torch.no_grad():
        got = m.iwae(x)
        m.rng = generator(3)
        ((_, loss),) = m.losses(x)
        assert float(loss) == pytest.approx(-float(got.mean()))
        mean, s = m.posterior(x)
        e = torch.randn(5, 6, 1, generator=generator(3))
        z = mean + s * e
        normal = torch.distributions.Normal
        weights = (
            m._log_likelihood(z, x)
            + normal(0, 1).log_prob(z).sum(-1)
            - normal(mean, s).log_prob(z).sum(-1)
        )
    torch.testing.assert_close(got, torch.logsumexp(weights, 0) - math.log(5))
    with torch.no_grad():
        values = []
        for k in (1, 5, 50):
            m.k_train, m.rng = k, generator(4)
            values.append(float(torch.stack([m.iwae(torch.tensor(X)) for _ in range(20)]).mean()))
    assert values[0] < values[1] < values[2] < quadrature(m, X).mean() + 0.02


def test_beta_presses_the_posterior_to_the_prior() -> None:
    kl = [
        fitted("continuous", beta=b)[0].kl_per_dimension(ones(200, "continuous", 1)[0]).sum()
        for b in (0.2, 1.0, 30.0)
    ]
    assert kl[0] > kl[1] + 0.3 > kl[2] + 0.5
    m, X = fitted("continuous", beta=30.0, k=4096)
    # the likelihood reported is that of the model, not of the loss
    assert abs(m.score(X) - quadrature(m, X).mean()) < 0.05


# ------------------------------------------------------------- likelihoods in the units of the data


def test_a_fixed_variance_is_in_the_units_of_the_data() -> None:
    m, X = fitted("continuous", variance=9.0)
    z = torch.zeros(20_000, 1)
    draws = m._shaped(m.observation_.sample(m.parameters_of(z), generator(0)))
    np.testing.assert_allclose(draws.std(0).detach(), 3.0, rtol=0.03)
    scaled = VAE(1, NET, NET, variance=9e4, trainer=FAST, random_state=0).fit(
        100 * ones(400, "continuous")[0]
    )
    assert scaled.score(100 * X) == pytest.approx(m.score(X) - 4 * math.log(100), abs=0.02)


def test_missing_cells_drop_out() -> None:
    m, X = fitted("continuous", k=2000)
    holes = X[:30].copy()
    holes[:, 1:] = np.nan
    lp, truth = m.log_prob(holes), quadrature(m, holes)
    assert (lp.nats < truth + 0.1).all() and np.mean(truth - lp.nats) < 0.5 and (lp.dims == 1).all()
    z, x = torch.randn(30, 1, generator=generator(0)), torch.tensor(X[:30])
    with torch.no_grad():
        first = m.observation_.log_prob(m.parameters_of(z), x)[:, 0]
        torch.testing.assert_close(m.log_likelihood(z, torch.tensor(holes)), first)
        holey = torch.tensor(holes)
        middle = torch.where(torch.isnan(holey), m.features_.shift_, holey)
        # the encoder sees their mean
        torch.testing.assert_close(m.posterior(torch.tensor(holes)), m.posterior(middle))
    rng = np.random.default_rng(0)
    full, _ = ones(800, "continuous")
    pierced = np.where(rng.random(full.shape) < 0.3, np.nan, full)
    gappy = VAE(1, NET, NET, trainer=FAST, random_state=0).fit(pierced)
    shuffled = VAE(1, NET, NET, trainer=FAST, random_state=0).fit(rng.permuted(full, axis=0))
    assert gappy.score(X) > shuffled.score(X) + 0.5


def test_rows_are_scored_on_their_own_and_errors_are_independent() -> None:
    m, X = fitted("binary", k=16)
    once = m.score_samples(X)
    np.testing.assert_allclose(m.score_samples(X[::-1])[::-1], once, atol=1e-5)
    np.testing.assert_allclose(
        [m.score_samples(X[i : i + 1])[0] for i in range(5)], once[:5], atol=1e-5
    )
    m, X = fitted("continuous", k=4)
    lp = m.log_prob(X)
    error = lp.nats - quadrature(m, X)
    halves = np.array(
        [error[np.random.default_rng(s).permutation(200)[:100]].mean() for s in range(200)]
    )
    # a shared set of points would not average out
    assert halves.std() < 2 * error.std() / math.sqrt(200)
    assert np.corrcoef(error[:-1], error[1:])[0, 1] < 0.25


# ---------------------------------------------------------------------- verbs


@pytest.mark.parametrize("case", ["binary", "ordinal gaussian", "continuous"])
def test_completions_against_brute_force(case: str) -> None:
    m, _ = fitted(case)
    if case == "continuous":
        row = np.array([np.nan, 7.0, 13.0, np.nan])
        done = m.complete(np.tile(row, (1500, 1)), random_state=1)
        grid = np.linspace(-5, 25, 46)
        cells = np.array([[a, 7.0, 13.0, b] for a in grid for b in grid])
        p = np.exp(quadrature(m, cells, points=201))
        p /= p.sum()
        for j in (0, 3):
            mean = p @ cells[:, j]
            sd = math.sqrt(p @ (cells[:, j] - mean) ** 2)
            assert done[:, j].mean() == pytest.approx(mean, abs=0.12 * sd) and done[
                :, j
            ].std() == pytest.approx(sd, rel=0.12)
        assert np.corrcoef(done[:, [0, 3]].T)[0, 1] == pytest.approx(corr(cells, p), abs=0.1)
        return
    top = m.space_.cardinality[0] - 1
    row = np.array([np.nan, 0, np.nan, top])
    done = m.complete(np.tile(row, (3000, 1)), random_state=1)
    pairs = list(itertools.product(range(top + 1), repeat=2))
    p = np.exp(quadrature(m, np.array([[a, 0, b, top] for a, b in pairs])))
    seen = np.array([((done[:, 0] == a) & (done[:, 2] == b)).mean() for a, b in pairs])
    assert (done[:, [1, 3]] == [0, top]).all()
    assert 0.5 * np.abs(seen - p / p.sum()).sum() < 0.05


def corr(cells: np.ndarray, p: np.ndarray) -> float:
    cov = np.cov(cells[:, [0, 3]].T, aweights=p)
    return float(cov[0, 1] / math.sqrt(cov[0, 0] * cov[1, 1]))


def test_completions_where_q_lies_beside_the_posterior() -> None:
    m, _ = fitted("continuous", likelihood="auto")
    row = torch.tensor([[-1.0, math.nan, math.nan, math.nan]])  # lower than any that was seen
    z = torch.linspace(-8, 8, 2001)[:, None]
    with torch.no_grad():
        log_p = m._log_likelihood(z, row.expand(2001, -1)).double() - 0.5 * z.square().sum(1)
        expected = float(torch.softmax(log_p, 0) @ z[:, 0].double())
        posterior = m.posterior(row)
        m.posterior = lambda x, given=None: tuple(0.6 * t.expand(len(x), -1) for t in posterior)
        drawn = m._resampled(row.expand(300, -1), None, generator(0), 256, 1)[0]
    assert abs(expected) > 2
    assert float(drawn.mean()) == pytest.approx(expected, abs=0.2)


def test_interpolation_has_its_ends() -> None:
    m, X = fitted("continuous")
    path = m.interpolate(X[0], X[1], 5)
    np.testing.assert_allclose(path[[0, -1]], m.reconstruct(X[:2]), rtol=1e-4)
    np.testing.assert_allclose(
        path, m.decode(np.linspace(m.encode(X[:1])[0], m.encode(X[1:2])[0], 5)), rtol=1e-4
    )
    assert np.corrcoef(m.reconstruct(X).ravel(), X.ravel())[0, 1] > 0.8


def test_dead_dimensions_are_seen() -> None:
    m, X = fitted(
        "continuous",
        latent_dim=6,
        trainer=Trainer(epochs=40, batch_size=50, lr=1e-2, validation=0.0),
    )
    kl = np.sort(m.kl_per_dimension(X))[::-1]
    assert kl.shape == (6,) and kl[0] > 0.8 and kl[4:].max() < 0.1
    assert 1 <= m.active_units(X) <= 4
    assert m.active_units(X, threshold=1e9) == 0


# ---------------------------------------------------------------------- images


SHAPES = {"HW": (7, 6), "CHW": (3, 5, 8), "HWC": (9, 6, 3)}


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("case", ["bernoulli", "categorical", "logistic", "gaussian", "continuous"])
def test_convolutions_on_images_of_every_layout(layout: str, case: str) -> None:
    shape, rng = SHAPES[layout], np.random.default_rng(0)
    kind = {"bernoulli": "binary", "continuous": "continuous"}.get(case, "ordinal")
    levels = {"binary": 2, "ordinal": 4, "continuous": None}[kind]
    bright = rng.random(shape)  # every cell has its own mean
    X = bright + 0.3 * rng.normal(size=(80, *shape))
    if levels:
        X = np.clip(np.round(X * (levels - 1)), 0, levels - 1).astype(np.uint8)
    space = Space(shape, kind, levels=levels, layout=layout, dtype=str(X.dtype))
    likelihood = "auto" if case == "continuous" else case
    m = VAE(
        2, Conv(4, 2), Conv(4, 2), likelihood, trainer=Trainer(epochs=2), random_state=0, k=4
    ).fit(X, space=space)
    assert (
        m.sample(3).shape == (3, *shape)
        and m.sample(1).dtype == X.dtype
        and m.reconstruct(X[:2]).shape == (2, *shape)
    )
    assert m.encode(X).shape == (80, 2) and np.isfinite(m.score_samples(X)).all()
    x = m.space_.encode(X).float()
    assert torch.equal(m._shaped(x.flatten(1)), x)
    # without a network what is left is the offset: a mean a cell, each in its place
    with torch.no_grad():
        for p in (*m.decoder_.parameters(), *(m.line_.parameters() if m.line_ else ())):
            p.zero_()
        m.output_.offset_.copy_(m.observation_.offset(x.flatten(1)))
        mean = m.space_.rows(m._decode(torch.zeros(1, 2)))[0].numpy()
    if case == "categorical":
        expected = np.stack([(X == v).sum(0) for v in range(4)]).argmax(0)
        assert (mean == expected).all()
    else:
        assert np.corrcoef(mean.ravel(), X.mean(0).ravel())[0, 1] > 0.97
        np.testing.assert_allclose(mean, X.mean(0), atol=0.25)
    holes = X.astype(float)
    holes[:, 2:] = np.nan
    done = m.complete(holes[:3])
    assert (
        np.isfinite(done).all() and (done[:, :2] == X[:3, :2]).all()
        if levels
        else np.isfinite(done).all()
    )


def test_a_table_of_mixed_kinds() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=400)
    words = np.where(z > 0.5, "hi", np.where(z < -0.5, "lo", "mid"))
    frame = pd.DataFrame(
        {"x": 5 + 2 * z + 0.3 * rng.normal(size=400), "c": words, "b": (z > 0).astype(int)}
    )
    m = VAE(1, NET, NET, trainer=FAST, random_state=0).fit(frame)
    lp = m.log_prob(frame)
    assert lp.measure == "mixed" and np.abs(lp.nats - quadrature(m, frame)).mean() < 0.05
    draws = m.sample(3000)
    means = draws.groupby("c")["x"].mean()
    assert list(draws.columns) == ["x", "c", "b"] and means["hi"] > means["lo"] + 1
    grid = np.linspace(-7, 17, 241)
    parts = [pd.DataFrame({"x": grid, "c": c, "b": b}) for c in ("hi", "lo", "mid") for b in (0, 1)]
    total = sum(np.exp(quadrature(m, part, points=201)).sum() * 0.1 for part in parts)
    assert total == pytest.approx(1, abs=2e-3)


def test_any_callable_makes_a_network() -> None:
    def tiny(in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module:
        return nn.Linear(math.prod(in_shape), math.prod(out_shape))

    m, X = fitted("binary", encoder=tiny, decoder=tiny)
    assert isinstance(m.encoder_, nn.Linear) and np.isfinite(m.score(X))


@pytest.mark.parametrize(
    "name, value",
    [
        ("latent_dim", 0),
        ("bound", "vlb"),
        ("k", 0),
        ("k_train", 0),
        ("variance", 0.0),
        ("likelihood", "poisson"),
        ("marginals", "logit"),
    ],
)
def test_arguments_that_make_no_sense(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        VAE(**{name: value, "trainer": FAST}).fit(ones(60, "continuous")[0])


@pytest.mark.full
def test_a_table_of_bits_and_words_says_the_same_in_another_process(tmp_path: Path) -> None:
    """Its observation has no tensor to save: what it needs beside is made anew."""
    r = np.random.default_rng(0)
    table = pd.DataFrame({"old": r.random(60) < 0.4, "colour": r.choice(["red", "blue", "x"], 60)})
    model = VAE(1, NET, NET, k=8, trainer=FAST.replace(epochs=1), random_state=0).fit(table)
    model.save(tmp_path / "m.genus")
    table.to_pickle(tmp_path / "table")
    script = f"""
import json, pandas as pd, genus
model = genus.load({str(tmp_path / "m.genus")!r})
table = pd.read_pickle({str(tmp_path / "table")!r})
draws = model.sample(5, random_state=1).astype(str).to_numpy().tolist()
print(json.dumps([model.score_samples(table).tolist(), draws]))
"""
    env = {**os.environ, "PYTHONPATH": str(Path(genus.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    scores, draws = json.loads(done.stdout)
    assert scores == model.score_samples(table).tolist()
    assert draws == model.sample(5, random_state=1).astype(str).to_numpy().tolist()


# ---------------------------------------------------------------------- tables


BRIEF = Trainer(epochs=3, batch_size=50, lr=1e-3, validation=0.0)
STILL = Trainer(epochs=1, max_steps=1, lr=1e-12, validation=0.0)


def shop(n: int = 600, seed: int = 0) -> pd.DataFrame:
    """Counts, prices of two decimals, discounts that are mostly 0, and words, of one factor."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    e = rng.normal(size=(n, 3))
    return pd.DataFrame(
        {
            "count": rng.poisson(np.exp(1 + 0.6 * z)),
            "price": np.round(np.exp(2 + z + 0.3 * e[:, 0]), 2),
            "off": np.where(z + e[:, 1] > 0.7, np.abs(e[:, 2]), 0.0),
            "size": np.where(z > 0.5, "l", np.where(z < -0.5, "s", "m")),
        }
    )


@cache
def shopkeeper() -> VAE:
    return VAE(2, NET, NET, trainer=BRIEF, random_state=0).fit(shop())


def test_a_table_is_drawn_as_its_columns_are() -> None:
    frame, draws = shop(), shopkeeper().sample(4000, random_state=0)
    assert (draws.dtypes == frame.dtypes).all()
    assert (draws["count"] >= 0).all() and (draws["price"] >= 0).all()
    assert np.allclose(draws["price"], draws["price"].round(2))
    assert (draws["off"] == 0).mean() == pytest.approx((frame["off"] == 0).mean(), abs=0.05)
    for name in ("count", "price"):
        np.testing.assert_allclose(
            draws[name].quantile([0.1, 0.5, 0.9]), frame[name].quantile([0.1, 0.5, 0.9]), rtol=0.2
        )
    assert draws["count"].max() > frame["count"].quantile(0.99)
    means = draws.groupby("size")["price"].median()
    assert means["l"] > 1.5 * means["m"] > 2.25 * means["s"]


def test_values_that_fit_did_not_see_are_scored() -> None:
    model, frame = shopkeeper(), shop()
    rows = frame[:4].copy()
    rows.loc[0, "count"] = 400
    rows.loc[1, "size"] = "xl"
    rows.loc[2, "price"] = -3.0
    with pytest.warns(UserWarning):
        got = model.log_prob(rows).nats
    assert np.isfinite(got[[0, 1, 3]]).all() and got[2] == -np.inf
    assert got[3] == pytest.approx(model.log_prob(frame[3:4]).nats[0], abs=1e-4)
    rows.loc[1, "price"] = np.nan
    with pytest.warns(UserWarning):
        again = model.log_prob(rows).nats
    assert again[2] == -np.inf and np.isfinite(again[1])


def test_no_row_is_much_less_likely_than_by_its_columns() -> None:
    frame = shop()
    rows = frame[:1].copy()
    rows["count"], rows["price"] = 60, 0.02  # each can be, and not together
    share = torch.nn.functional.logsigmoid(shopkeeper().observation_.parts[0].share_.detach())
    own = genus.Independent(random_state=0).fit(frame).log_prob(rows).nats[0]
    assert shopkeeper().log_prob(rows).nats[0] > own + 1.5 * float(share.sum())


def test_a_table_starts_at_factor_analysis() -> None:
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(800, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(800, 6))
    frame = pd.DataFrame(np.sinh(Z), columns=list("abcdef"))
    still = VAE(2, NET, NET, trainer=STILL, random_state=0).fit(frame[:600])
    truth = genus.FactorAnalysis(2, marginals="learned", random_state=0).fit(frame[:600])
    test = frame[600:]
    assert still.score(test) == pytest.approx(truth.score(test), abs=0.15)
    assert still.log_prob(test).detail["ess"] > 0.7 * still.k  # q is the posterior
    word = frame.assign(word=np.where(rng.random(800) < 0.5, "u", "v"))
    both = VAE(2, NET, NET, trainer=STILL, random_state=0).fit(word[:600])
    assert both.score(word[600:]) == pytest.approx(still.score(test) - math.log(2), abs=0.15)


def test_two_columns_of_one_are_drawn_together_beside_a_word() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=1000)
    other = z + 0.0447 * rng.normal(size=1000)  # a correlation of .999
    words = np.where(rng.random(1000) < 0.5, "u", "v")
    frame = pd.DataFrame({"a": 10 + 3 * z, "b": other, "w": words})
    model = VAE(trainer=BRIEF, random_state=0).fit(frame)
    draws = model.sample(2000, random_state=0)
    assert draws["a"].corr(draws["b"]) > 0.98


def test_words_that_go_together_are_found_at_the_start() -> None:
    rng = np.random.default_rng(0)
    k = rng.integers(0, 3, 600)
    names = [np.array(list(s))[np.where(rng.random(600) < 0.9, k, 0)] for s in ("abc", "uvw")]
    frame = pd.DataFrame({"first": names[0], "second": names[1]})
    still = VAE(2, NET, NET, trainer=STILL, random_state=0).fit(frame)
    alone = genus.Independent(random_state=0).fit(frame).score(frame)
    assert still.score(frame) > alone + 0.05
    # words of one column, which exclude each other, are no common factor
    mixed = frame.assign(second=rng.permutation(frame["second"]))
    apart = VAE(2, NET, NET, trainer=STILL, random_state=0).fit(mixed)
    assert apart.score(mixed) == pytest.approx(alone, abs=0.03)


def test_heavy_tails_cost_nothing() -> None:
    X = np.random.default_rng(0).standard_t(2, size=(800, 3))
    model = VAE(2, NET, NET, trainer=BRIEF, random_state=0).fit(X[:600])
    alone = genus.Independent(random_state=0).fit(X[:600]).score(X[600:])
    assert model.score(X[600:]) > alone - 0.1
    plain = VAE(2, NET, NET, trainer=BRIEF, marginals="affine", random_state=0).fit(X[:600])
    assert plain.score(X[600:]) < alone - 0.3


def test_the_scale_of_a_number_follows_the_row() -> None:
    rng = np.random.default_rng(0)
    loud = rng.random(2000) < 0.5
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=2000) * np.where(loud, 3.0, 0.2),
            "loud": np.where(loud, "yes", "no"),
            "volume": np.where(loud, 5.0, 0.0) + rng.normal(size=2000),
        }
    )
    model = VAE(2, trainer=FAST.replace(epochs=15, lr=3e-3), random_state=0).fit(frame)
    spread = model.sample(4000, random_state=0).groupby("loud")["x"].std()
    assert spread["yes"] > 4 * spread["no"]


def test_cells_are_read_once_or_at_every_step_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = shop(200)
    frame.loc[::7, "price"] = np.nan
    frame.loc[::5, "size"] = None

    def learned() -> VAE:
        return VAE(2, NET, NET, k=8, trainer=BRIEF, random_state=0).fit(frame, validation=0.2)

    once = learned()
    monkeypatch.setattr("genus.models.latent.decoded.MOST", 0)
    np.testing.assert_allclose(learned().score_samples(frame), once.score_samples(frame), atol=1e-4)


def test_when_marginals_are_learned() -> None:
    X = ones(60, "continuous")[0]
    grey = Space((2, 2), "continuous", layout="HW")

    def learns(X: np.ndarray, space: Any = None, **more: Any) -> bool:
        few = BRIEF.replace(epochs=1)
        return VAE(1, NET, NET, trainer=few, random_state=0, **more).fit(X, space=space)._learned

    assert learns(X) and learns(X.astype(int)) and not learns(X.astype(int).reshape(60, 2, 2))
    assert not learns(X, likelihood="gaussian") and not learns(X, variance=4.0)
    assert not learns(X, marginals="affine") and not learns(X.reshape(60, 2, 2), grey)
    assert not learns(*ones(60, "ordinal")) and not learns(*ones(60, "binary"))
    assert learns(*ones(60, "categorical"))
    for units in ({"variance": 4.0}, {"likelihood": "gaussian"}):
        with pytest.raises(ValueError, match=f"{next(iter(units))}=.*marginals='affine'"):
            learns(X, marginals="learned", **units)


def test_a_table_goes_on_from_a_checkpoint_and_from_disk(tmp_path: Path) -> None:
    frame = shop(200)
    trainer = BRIEF.replace(checkpoint=tmp_path / "run", epochs=4, schedule="constant")

    def model(**more: Any) -> VAE:
        return VAE(2, NET, NET, k=8, trainer=trainer.replace(**more), random_state=0)

    whole = model(checkpoint=None).fit(frame)
    model(epochs=2).fit(frame)
    resumed = model().fit(frame, resume=True)
    np.testing.assert_array_equal(resumed.score_samples(frame), whole.score_samples(frame))
    whole.save(tmp_path / "vae")
    again = genus.load(tmp_path / "vae")
    np.testing.assert_array_equal(again.score_samples(frame), whole.score_samples(frame))
    assert again.sample(5, random_state=0).equals(whole.sample(5, random_state=0))


# ---------------------------------------------------------------------- conditions


@cache
def conditional(kind: str) -> tuple[VAE, np.ndarray, np.ndarray]:
    """Rows with one common factor, which a label turns over or moves; a VAE of them given it."""
    X, space = ones(600, kind)
    label = np.random.default_rng(5).integers(0, 3, 600)
    if kind == "binary":
        X = X ^ (np.arange(4) == label[:, None])
        X[:, 3] = label == 2
    else:
        X = X + 10.0 * (np.arange(4) == label[:, None])
    quick = FAST.replace(epochs=40)
    model = VAE(1, NET, NET, trainer=quick, random_state=0)
    return model.fit(X, space=space, given=label), X, label


@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_a_label_is_learned(kind: str) -> None:
    model, X, label = conditional(kind)
    plain = VAE(1, NET, NET, trainer=FAST.replace(epochs=40), random_state=0).fit(
        X, space=model.space_
    )
    right, wrong = (model.log_prob(X, given=g).mean() for g in (label, (label + 1) % 3))
    assert right > wrong + 1 and right > plain.score(X) + 0.5
    for k in range(3):
        drawn = model.sample(500, given=k, random_state=0)
        np.testing.assert_allclose(
            drawn.mean(0), X[label == k].mean(0), atol=0.1 if kind == "binary" else 1.5
        )


def test_a_label_holds_in_reconstructions_and_completions() -> None:
    model, X, label = conditional("continuous")
    back = model.reconstruct(X, given=label)
    other = model.decode(model.encode(X, given=label), given=(label + 1) % 3)
    assert np.abs(back - X).mean() < 3 < np.abs(other - X).mean()
    mask = np.arange(4) == label[:, None]  # the cell that the label moves
    filled, wrong = (
        model.complete(X, mask=mask, given=g, random_state=0) for g in (label, (label + 1) % 3)
    )
    assert abs((filled - X)[mask].mean()) < 1 < 5 < (X - wrong)[mask].mean()
    assert (filled == X)[~mask].all()
    kl = model.kl_per_dimension(X, given=label)
    expected = model.kl(*model.posterior(torch.from_numpy(X), torch.from_numpy(label[:, None])))
    np.testing.assert_allclose(kl, expected.mean(0).detach(), rtol=1e-5)
    assert model.active_units(X, given=label) == 1


def test_conditional_probabilities_sum_to_one_by_quadrature() -> None:
    model, _, _ = conditional("binary")
    every = np.array(list(itertools.product((0, 1), repeat=4)))
    z = torch.linspace(-8, 8, 801)[:, None]
    prior = torch.tensor(stats.norm.logpdf(z[:, 0].numpy()))
    for k in range(3):
        g, total = torch.full((801, 1), float(k)), 0.0
        truths = []
        for row in every:
            cells = torch.from_numpy(row).float().expand(801, -1)
            with torch.no_grad():
                log_p = model.log_likelihood(z, cells, g).double() + prior
            truths.append(float(torch.logsumexp(log_p, 0)) + math.log(16 / 800))
        total = float(np.exp(truths).sum())
        assert total == pytest.approx(1, abs=1e-4)
        bound = model.log_prob(every, given=k)
        assert bound.mean() == pytest.approx(np.mean(truths), abs=0.05)


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_convolutions_and_the_callers_networks_take_the_label(bound: str, tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    label = r.integers(0, 2, 100)
    X = (r.random((100, 4, 4)) < np.where(label, 0.8, 0.2)[:, None, None]).astype(np.uint8)
    quick = FAST.replace(epochs=60)
    conv = Conv(channels=4, depth=1)
    m = VAE(2, conv, conv, bound=bound, trainer=quick, random_state=0).fit(X, given=label)
    assert m.sample(200, given=1, random_state=0).mean() > 0.6
    assert m.sample(200, given=0, random_state=0).mean() < 0.4
    m.save(tmp_path / "vae")
    again = genus.load(tmp_path / "vae")
    np.testing.assert_array_equal(
        again.log_prob(X, given=label).nats, m.log_prob(X, given=label).nats
    )
    with pytest.raises(TypeError, match=r"signature \(in_shape, out_shape, context=0\)"):
        VAE(2, lambda i, o: nn.Linear(16, 4), trainer=quick).fit(X, given=label)
    with pytest.raises(ValueError, match="pass given="):
        m.log_prob(X)


def test_conditions_far_from_0_keep_their_precision() -> None:
    X, space = ones(200, "continuous")
    g = X.mean(1, keepdims=True)
    near, far = (
        VAE(1, NET, NET, trainer=FAST, random_state=0).fit(X, space=space, given=g + offset)
        for offset in (0, 1e8)
    )
    a, b = near.log_prob(X, given=g).nats, far.log_prob(X, given=g + 1e8).nats
    np.testing.assert_allclose(a, b, atol=1e-2)
    z, x = torch.zeros(200, 1), torch.from_numpy(X)
    with torch.no_grad():
        p = far.log_likelihood(z, x, torch.from_numpy(g + 1e8))
        np.testing.assert_allclose(p, near.log_likelihood(z, x, torch.from_numpy(g)), atol=1e-2)


# ---------------------------------------------------------------------- bounds, term by term


def test_both_forms_of_the_elbo_on_the_callers_rows() -> None:
    m, X = fitted("binary")
    terms = m.elbo_terms(X, draws=200, random_state=0)
    elbo = terms["reconstruction"] - terms["kl"]
    np.testing.assert_allclose(terms["energy"] + terms["entropy"], elbo, atol=1e-9)
    np.testing.assert_allclose(terms["elbo"], elbo, atol=1e-9)
    assert terms["kl"].mean() == pytest.approx(m.kl_per_dimension(X).sum(), rel=1e-5)
    mean, s = m.posterior(X)
    entropy = 0.5 * (1 + math.log(2 * math.pi)) + np.log(s[:, 0])
    np.testing.assert_allclose(terms["entropy"], entropy, rtol=1e-5)
    one = np.mean([m.elbo(X, random_state=i) for i in range(50)], 0)
    np.testing.assert_allclose(terms["elbo"].mean(), one.mean(), atol=0.03)
    assert (terms["elbo"].to_numpy() < quadrature(m, X) + 0.2).all()
    frame = pd.DataFrame(X, index=np.arange(len(X)) + 7)
    assert m.elbo_terms(frame).index[0] == 7
    # where nothing is in closed form the two forms are of the same draws
    bent, X = fitted("binary", posterior_family="flow", prior="mixture", prior_components=3)
    terms = bent.elbo_terms(X, draws=3, random_state=0)
    gap = terms["reconstruction"] - terms["kl"] - terms["energy"] - terms["entropy"]
    assert gap.abs().max() < 1e-5 and not hasattr(bent, "kl_per_dimension")


def test_elbo_below_iwae_10_below_iwae_1000_below_the_truth() -> None:
    m, X = fitted("continuous", beta=4.0)  # whose q is far from the posterior
    elbo = m.elbo_terms(X, draws=20, random_state=0)["elbo"].to_numpy()
    bounds = [elbo]
    for k in (10, 1000):
        m.k = k
        bounds.append(m.score_samples(X).astype(float))
    bounds.append(quadrature(m, X))
    for low, high in itertools.pairwise(bounds):
        gap = high - low
        assert gap.mean() > -4 * gap.std() / math.sqrt(len(gap)) - 1e-3
    assert bounds[1].mean() > elbo.mean() + 0.01


def gradients(m: VAE, x: torch.Tensor, seed: int = 0) -> dict[str, torch.Tensor]:
    m.train()
    m.rng = generator(seed)
    m.zero_grad()
    m.objective(x).backward()
    m.eval()
    return {n: p.grad.clone() for n, p in m.named_parameters() if p.grad is not None}


def test_dreg_changes_the_gradient_of_the_encoder_alone() -> None:
    m, X = fitted("binary", bound="iwae", prior="gaussian", latent_dim=2, k_train=4)
    x = m.space_.encode(X).float()
    plain = gradients(m, x)
    m.gradient = "dreg"
    with torch.no_grad():
        m.rng = generator(5)
        value = float(m.iwae(x).mean())
        m.gradient = "reparameterised"
        m.rng = generator(5)
        assert float(m.iwae(x).mean()) == pytest.approx(value, abs=1e-5)
    m.gradient = "dreg"
    doubly = gradients(m, x)
    for name in plain:
        same = torch.allclose(plain[name], doubly[name], rtol=1e-4, atol=1e-6)
        assert same == (not name.startswith("encoder_")), name


def test_three_gradients_are_of_one_bound() -> None:
    """Their means agree; the score's varies most, DReG's least."""
    m, X = fitted("binary", bound="iwae", k_train=8)
    x = m.space_.encode(X[:40]).float()
    name = "encoder_.3.bias"
    found = {}
    for gradient in ("reparameterised", "score", "dreg"):
        m.gradient = gradient
        found[gradient] = torch.stack([gradients(m, x, i)[name] for i in range(300)])
    spread = {k: float(v.var(0).sum()) for k, v in found.items()}
    assert spread["score"] > 3 * spread["reparameterised"]
    assert spread["dreg"] < spread["reparameterised"]
    truth = found["dreg"].mean(0)
    for v in found.values():
        error = v.std(0) / math.sqrt(300) + found["dreg"].std(0) / math.sqrt(300)
        assert ((v.mean(0) - truth).abs() < 4 * error + 1e-6).all()


def test_a_score_gradient_of_the_elbo_is_the_reparameterised_one_in_the_mean() -> None:
    m, X = fitted("binary")
    x = m.space_.encode(X[:40]).float()
    name = "encoder_.3.bias"
    plain = torch.stack([gradients(m, x, i)[name] for i in range(200)])
    m.gradient = "score"
    score = torch.stack([gradients(m, x, i)[name] for i in range(600)])
    error = score.std(0) / math.sqrt(600) + plain.std(0) / math.sqrt(200)
    assert ((score.mean(0) - plain.mean(0)).abs() < 4 * error).all()
    assert (score.std(0) > plain.std(0)).all()


def test_free_bits_give_no_gain_below_them() -> None:
    m, X = fitted("binary", latent_dim=3)
    x = m.space_.encode(X).float()
    with torch.no_grad():
        kl = m.kl(*m.posterior(x)).mean(0)
    least = float(kl.sort().values[1])  # one dimension is above, one below
    m.rng = generator(0)
    plain = float(m.objective(x).detach())
    m.free_bits, m.rng = least, generator(0)
    free = m.objective(x)
    expected = plain + float(kl.sum() - kl.clamp_min(least).sum())
    assert float(free.detach()) == pytest.approx(expected, abs=1e-4)
    m.free_bits = 100.0  # KL is free: it has no gradient left
    whole = gradients(m, x)["encoder_.3.bias"][3:]
    m.free_bits, m.beta = 0.0, 0.0
    torch.testing.assert_close(gradients(m, x)["encoder_.3.bias"][3:], whole)
    m.beta = 1.0
    assert not torch.allclose(gradients(m, x)["encoder_.3.bias"][3:], whole)


def test_free_bits_keep_a_latent_in_use() -> None:
    strong = Trainer(epochs=20, batch_size=50, lr=1e-2, validation=0.0)
    used = {
        free: fitted("binary", beta=3.0, free_bits=free, trainer=strong)[0]
        .kl_per_dimension(ones(200, "binary", 1)[0])
        .sum()
        for free in (0.0, 0.5)
    }
    assert used[0.5] > 0.4 > used[0.0]


def test_kl_warms_up_and_patience_waits() -> None:
    m, X = fitted("binary", kl_warmup=0.5)
    x = m.space_.encode(X).float()
    m.train()
    found = []
    for spent in (0.0, 0.25, 0.5, 0.9):
        m.spent, m.rng = spent, generator(0)
        found.append(float(m.objective(x).detach()))
    m.kl_warmup, m.rng = 0.0, generator(0)
    full = float(m.objective(x).detach())
    kl = (found[0] - full) / 1.0
    assert kl > 0.05 and found[2] == found[3] == full
    assert found[1] == pytest.approx(full + kl / 2, abs=1e-4)
    m.eval()
    m.spent = 0.0
    m.kl_warmup, m.rng = 0.5, generator(0)
    with torch.no_grad():
        warm = float(m.validate(x))
    m.kl_warmup, m.rng = 0.0, generator(0)
    with torch.no_grad():
        assert warm == float(m.validate(x))  # rows that are held out see all of KL
    still = Trainer(epochs=10, batch_size=50, lr=1e-12, validation=0.2, patience=1)
    waits, not_so = (
        fitted("binary", kl_warmup=share, trainer=still)[0].history_ for share in (0.5, 0.0)
    )
    assert len(waits) == 5 and len(not_so) == 2


def test_outside_of_a_descent_all_of_kl_counts(tmp_path: Path) -> None:
    m, X = fitted("binary", kl_warmup=0.5)
    m.save(tmp_path / "m.genus")
    again = genus.load(tmp_path / "m.genus")
    np.testing.assert_array_equal(m.elbo(X), again.elbo(X))
    for model in (m, again):
        model.train()
        assert model._warmth() == 1 and model.patience_from == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"gradient": "dreg"}, "bound='iwae'"),
        ({"gradient": "score", "posterior_family": "flow"}, "posterior_family='full'"),
        ({"free_bits": 0.1, "bound": "iwae"}, "free_bits"),
        ({"prior": "vamp", "posterior_family": "flow"}, "prior='flow'"),
        ({"prior": genus.Gaussian()}, "does not learn by gradient"),
    ],
)
def test_what_does_not_go_together(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fitted("binary", **arguments)


# ---------------------------------------------------------------------- priors and posteriors


def ring(n: int = 400) -> np.ndarray:
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * np.random.default_rng(1).normal(
        size=(n, 2)
    )


@pytest.mark.parametrize("prior", ["gaussian", "mixture", "vamp", "flow"])
def test_a_learned_prior_is_nearer_to_the_codes(prior: str, tmp_path: Path) -> None:
    """β < 1 leaves codes that N(0, I) does not hold; a learned prior follows them."""
    X = ring()
    trainer = Trainer(epochs=30, batch_size=50, lr=1e-2, validation=0.0)

    def model(prior: Any) -> VAE:
        return VAE(
            2, NET, NET, variance=0.01, prior=prior, prior_components=8, trainer=trainer, k=64,
            random_state=0,
        ).fit(X)  # fmt: skip

    learned, plain = model(prior), model("normal")
    assert learned.score(X) > plain.score(X) - 0.02
    if prior != "gaussian":
        assert learned.score(X) > plain.score(X) + 0.03
    z = torch.from_numpy(learned.encode(X))
    with torch.no_grad():
        own = float(learned._p().log_prob(z).mean())
        assert own > float(plain._p().log_prob(z).mean())
    learned.save(tmp_path / "vae")
    again = genus.load(tmp_path / "vae")
    np.testing.assert_array_equal(again.score_samples(X), learned.score_samples(X))
    np.testing.assert_array_equal(
        again.sample(3, random_state=0), learned.sample(3, random_state=0)
    )


def test_an_identity_flow_is_the_plain_vae() -> None:
    """Prior and posterior: KL sampled by the same noise, to 1e-6."""
    X, space = ones(100, "binary")
    still = Trainer(max_steps=1, lr=1e-12, validation=0.0)
    m = VAE(
        2, NET, NET, posterior_family="flow", prior=genus.MAF(2), trainer=still, random_state=0
    ).fit(X, space=space)
    x = m.space_.encode(X).float()
    m.rng = generator(3)
    normal = torch.distributions.Normal
    with torch.no_grad():
        got = m.elbo(x)
        mean, s, _ = m._q(x)
        z = mean + s * torch.randn(100, 2, generator=generator(3))
        kl = (normal(mean, s).log_prob(z) - normal(0, 1).log_prob(z)).sum(1)
        expected = m.log_likelihood(z, x) - kl
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=0)


def test_a_full_covariance_closes_the_gap_of_a_diagonal_one() -> None:
    """The decoder's two latents are seen only by their sum: the posterior is correlated."""
    X, space = ones(400, "binary")
    trainer = Trainer(epochs=40, batch_size=50, lr=1e-2, validation=0.0)
    gaps = {}
    for family in ("diagonal", "full", "flow"):
        m = VAE(
            2, MLP(16, 1, "tanh"), NET, posterior_family=family, trainer=trainer, random_state=0
        ).fit(X, space=space)

        def tied(z: torch.Tensor, x: torch.Tensor, given: Any = None, m: VAE = m) -> torch.Tensor:
            both = z.sum(-1, keepdim=True)
            return -4 * (both - x.flatten(1)[:, :1]).square().sum(-1)

        m.log_likelihood = tied  # type: ignore[method-assign]
        optimiser = torch.optim.Adam(m.encoder_.parameters(), 1e-2)
        optimiser.add_param_group({"params": list(m.posterior_.parameters())})
        m.rng = generator(0)
        x = m.space_.encode(X).float()
        for _ in range(150):
            optimiser.zero_grad()
            (-m.elbo(x).mean()).backward()
            optimiser.step()
        with torch.no_grad():
            gaps[family] = float(torch.stack([m.elbo(x) for _ in range(20)]).mean())
    assert gaps["full"] > gaps["diagonal"] + 0.3 and gaps["flow"] > gaps["diagonal"] + 0.3


# ---------------------------------------------------------------------- linear-Gaussian


def test_one_shared_variance_learned_is_probabilistic_pca() -> None:
    """Started away from the solution, trained by the closed-form expectation: to 1e-2 nats.

    E_q log N(x | W z + b, v I) = log N(x | W m + b, v I) − Σ_j s_j² |w_j|² / 2v.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 4)) + 0.5 * rng.normal(size=(300, 4)) + 3
    truth = genus.ProbabilisticPCA(2, random_state=0).fit(X).log_prob(X).mean()
    line = MLP(depth=0)
    m = VAE(
        2, line, line, likelihood="gaussian", variance="shared", trainer=STILL, random_state=0
    ).fit(X)
    r = generator(7)
    with torch.no_grad():  # away from where it starts
        for p in m.parameters():
            p += 0.5 * torch.randn(p.shape, generator=r)
        m.observation_.log_v_.fill_(0.5)
    x = torch.from_numpy(X)
    m.train()
    optimiser = torch.optim.LBFGS(m.parameters(), lr=1, max_iter=600, line_search_fn="strong_wolfe")
    zero = torch.zeros(1, 2)

    def bound() -> torch.Tensor:
        q = m._q(x)
        z, s = q[0], q[1]
        base = m.parameters_of(zero)
        W = torch.cat([m.parameters_of(zero + e) - base for e in torch.eye(2)])  # (2, d)
        lost = 0.5 * (s.square() @ (W.square() / m.observation_._variance()).sum(1))
        return (m.log_likelihood(z, x) - lost - m.kl(*q).sum(1)).mean()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = -bound()
        loss.backward()
        return loss

    assert float(bound()) < truth - 0.5
    optimiser.step(closure)
    with torch.no_grad():
        assert float(bound()) == pytest.approx(truth, abs=1e-2)
    m.eval()
    assert m.elbo_terms(X, draws=300, random_state=0)["elbo"].mean() == pytest.approx(
        truth, abs=0.03
    )
    mask = np.zeros(X.shape, bool)
    mask[:, 2:] = True
    filled = m.complete(X[:60], 200, mask=mask[:60], random_state=0).mean(0)
    expected = (
        genus.ProbabilisticPCA(2, random_state=0)
        .fit(X)
        .complete(X[:60], mask=mask[:60], how="mean")
    )
    np.testing.assert_allclose(filled, expected, atol=0.4)
    assert np.abs(filled - expected)[:, 2:].mean() < 0.1


@pytest.mark.parametrize("kind", ["continuous", "binary"])
def test_where_the_training_rows_have_gaps_the_encoder_is_told_of_them(
    kind: str, tmp_path: Path
) -> None:
    full, _ = ones(400, kind)
    holes = np.random.default_rng(0).random(full.shape) < 0.3
    pierced = np.where(holes, np.nan, full.astype(float))
    few = Trainer(epochs=3, batch_size=50)
    m = VAE(1, NET, NET, trainer=few, random_state=0).fit(pierced, space=kind)
    assert m.gaps_
    x = m.space_.encode(pierced).float()
    x[:, 0] = math.nan
    middle = torch.where(torch.isnan(x), m.features_.shift_.to(x.dtype), x)
    with torch.no_grad():
        apart = m._q(x)[0] - m._q(middle)[0]
    assert float(apart.abs().mean()) > 1e-3
    m.save(tmp_path / "m.genus")
    np.testing.assert_array_equal(genus.load(tmp_path / "m.genus").elbo(pierced), m.elbo(pierced))
    assert not m.fit(full, space=kind).gaps_
