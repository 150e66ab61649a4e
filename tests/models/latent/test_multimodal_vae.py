"""Several views of one thing where the truth is known: linear-Gaussian views, and quadrature."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn

import genus
from genus import MLP, MultimodalVAE, Trainer
from genus.learn.rows import generator
from genus.models.latent.multimodal_vae import JOINTS, log_mixture, log_normal

FAST = Trainer(epochs=30, batch_size=50, lr=1e-2, validation=0.0, progress=False)
SHORT = FAST.replace(epochs=2)
NET = MLP(16, 1, "tanh")
RNG = np.random.default_rng(0)
Z = RNG.normal(size=(300, 2))
W = [np.array([[1.0, 0.4], [0.5, -1.0], [0.2, 0.3]]), np.array([[0.6, 0.9], [-0.8, 0.5]])]
NOISE = 0.5
REAL = {
    name: Z @ w.T + NOISE * RNG.normal(size=(300, len(w)))
    for name, w in zip(("a", "b"), W, strict=True)
}
BITS = {name: (x > 0).astype(int) for name, x in REAL.items()}


def fitted(X: Any = None, joint: str = "product", **more: Any) -> MultimodalVAE:
    kw: dict[str, Any] = {"encoder": NET, "decoder": NET, "trainer": FAST, "random_state": 0}
    return MultimodalVAE(2, joint, **{**kw, **more}).fit(BITS if X is None else X)


# ---------------------------------------------------------------------- the exact posterior


def linear(covariance: str) -> MultimodalVAE:
    """Views x_i = W_i z + noise with the experts that they have: Λ = WᵀW/v, η = Wᵀx/v."""
    settings: dict[str, Any] = {"likelihood": "gaussian", "marginals": "affine", "trainer": SHORT}
    line = MLP(1, 0)
    model = MultimodalVAE(
        2, covariance=covariance, encoder=line, decoder=line, random_state=0, **settings
    ).fit(REAL)
    for leg, w in zip(model.legs_, W, strict=True):
        normal = leg.observation_
        shift, scale = normal.shift.numpy(), normal.scale.numpy()
        Lambda = w.T @ w / NOISE**2
        with torch.no_grad():
            leg.line_.project_.weight.zero_()
            leg.line_.expand_.weight.zero_()
            encoder = [m for m in leg.encoder_ if isinstance(m, nn.Linear)][-1]
            decoder = [m for m in leg.decoder_ if isinstance(m, nn.Linear)][-1]
            if covariance == "diagonal":
                Lambda = np.diag(np.diag(Lambda))
            inverse = np.linalg.inv(Lambda + np.eye(2))
            encoder.weight.zero_()
            encoder.weight[:2] = torch.tensor(inverse @ (w * scale[:, None]).T / NOISE**2)
            encoder.bias[:2] = torch.tensor(inverse @ w.T @ shift / NOISE**2)
            A = np.linalg.cholesky(Lambda)
            encoder.bias[2:4] = torch.tensor(2 * np.log(np.diag(A)))
            if covariance == "full":
                encoder.bias[4:] = A[1, 0] / A[1, 1]
            decoder.weight.copy_(torch.tensor(w / scale[:, None]))
            decoder.bias.copy_(torch.tensor(-shift / scale))
            normal.log_v_.copy_(torch.tensor(np.log(NOISE**2 / scale**2 - normal.floor**2)))
    return model


def exact(names: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of z given some of the views."""
    w = np.concatenate([W["ab".index(n)] for n in names])
    x = np.concatenate([REAL[n] for n in names], 1)
    cov = np.linalg.inv(np.eye(2) + w.T @ w / NOISE**2)
    return x @ w @ cov / NOISE**2, cov


@pytest.fixture(scope="module")
def line() -> MultimodalVAE:
    return linear("full")


@pytest.mark.parametrize("names", ["ab", "a", "b"])
def test_a_product_of_full_experts_is_the_posterior_of_what_is_seen(line, names):
    X = {n: REAL[n] for n in names}
    mean, cov = exact(names)
    _, found, root = line.experts_of(line._codes(X))
    np.testing.assert_allclose(found[:, 0].detach(), mean, atol=2e-4)
    np.testing.assert_allclose((root @ root.mT)[0, 0].detach(), cov, atol=2e-4)


def test_diagonal_experts_miss_the_mean():
    found = linear("diagonal").encode(REAL)
    mean, _ = exact("ab")
    assert np.abs(found - mean).mean() > 0.02


def test_bound_and_conditional_are_exact_where_the_posterior_is(line):
    w, x = np.concatenate(W), np.concatenate([REAL["a"], REAL["b"]], 1)
    joint = multivariate_normal(np.zeros(5), w @ w.T + NOISE**2 * np.eye(5)).logpdf(x)
    alone = multivariate_normal(np.zeros(3), W[0] @ W[0].T + NOISE**2 * np.eye(3)).logpdf(x[:, :3])
    np.testing.assert_allclose(line.score_samples(REAL), joint, atol=2e-3)
    np.testing.assert_allclose(line.score_samples({"a": REAL["a"]}), alone, atol=2e-3)
    found = line.log_conditional(REAL, of="b")
    np.testing.assert_allclose(found.nats, joint - alone, atol=0.03)
    assert found.mean() == pytest.approx((joint - alone).mean(), abs=1e-3)
    assert (np.abs(found.nats - joint + alone) <= 6 * found.stderr + 1e-3).all()
    assert isinstance(found, genus.Estimate) and (found.dims == 2).all()
    elbo = np.mean([line.elbo(REAL, random_state=i).mean() for i in range(30)])
    assert elbo == pytest.approx(joint.mean(), abs=0.03)


def test_completions_are_draws_of_the_conditional(line):
    """x_b given one x_a: N(W_b m, W_b S W_bᵀ + v)."""
    one = {"a": np.repeat(REAL["a"][:1], 3000, 0)}
    drawn = line.complete(one, random_state=0)["b"]
    mean, cov = exact("a")
    np.testing.assert_allclose(drawn.mean(0), W[1] @ mean[0], atol=0.06)
    spread = W[1] @ cov @ W[1].T + NOISE**2 * np.eye(2)
    np.testing.assert_allclose(np.cov(drawn.T), spread, atol=0.06)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_it_starts_at_factor_analysis_of_all_views(covariance):
    """Before the first step the bound is that of the linear model, but for what experts miss."""
    slow = SHORT.replace(epochs=1, lr=1e-9)
    args = {"likelihood": "gaussian", "marginals": "affine", "covariance": covariance}
    model = fitted(REAL, trainer=slow, k=64, **args)
    x = np.concatenate([REAL["a"], REAL["b"]], 1)
    truth = genus.FactorAnalysis(2).fit(x).score(x)
    assert model.score(REAL) == pytest.approx(truth, abs=0.03)
    gap = model.score(REAL) - np.mean([model.elbo(REAL, random_state=i) for i in range(20)])
    assert gap < 0.03 if covariance == "full" else gap > -0.02


# ---------------------------------------------------------------------- mixtures


@pytest.mark.parametrize("joint", JOINTS)
def test_components_are_products_of_the_subsets_that_were_seen(joint):
    model = fitted(joint=joint, trainer=SHORT)
    three = model.experts_of(model._codes(BITS))
    C = {"product": 1, "mixture": 2, "mixture of products": 3}[joint]
    assert three[0].shape == (300, C)
    assert torch.allclose(three[0].exp(), torch.full((300, C), 1 / C))
    # of one view all components that are left are its own expert's
    log_w, mean, root = model.experts_of(model._codes({"a": BITS["a"]}))
    alone = model._components(
        model._experts(model._views(model._codes(BITS)), None),
        torch.tensor([[True, False]]).expand(300, 2),
        torch.ones(1, 2, dtype=torch.bool),
    )
    for c in range(C):
        used = log_w[:, c].exp() > 0
        assert torch.allclose(mean[used, c], alone[1][used, 0], atol=1e-5)
    assert torch.allclose(log_w.exp().sum(1), torch.ones(300))


@pytest.mark.parametrize("joint", JOINTS)
def test_a_row_without_any_view_is_the_prior(joint):
    model = fitted(joint=joint, trainer=SHORT)
    nothing = {"a": np.full((4, 3), np.nan), "b": np.full((4, 2), np.nan)}
    mean, spread = model.posterior(nothing)
    assert not mean.any() and np.allclose(spread, 1)
    p = model.log_prob(nothing)
    np.testing.assert_allclose(p.nats, 0, atol=1e-5)
    filled = model.complete(nothing, random_state=0)
    assert filled["a"].shape == (4, 3) and not np.isnan(filled["b"]).any()


def test_a_mixture_weighs_by_its_own_density():
    """Weights by the drawn component alone would be another number, too high or too low."""
    model = fitted(joint="mixture")
    x = model._codes(BITS)
    with torch.no_grad():
        views = model._views(x)
        log_w, mean, L = model._q(views)
        z = torch.randn(300, 1, 2, generator=generator(0))
        found = log_mixture(z, log_w, mean, L)[:, 0]
        each = [
            torch.distributions.Normal(mean[:, c], 1 / L[:, c]).log_prob(z[:, 0]).sum(1)
            for c in range(2)
        ]
        w = model._log_weights(x, 64, None)
    assert torch.allclose(found, torch.logsumexp(torch.stack(each), 0) - math.log(2), atol=1e-4)
    truth = by_quadrature(model)
    np.testing.assert_allclose(torch.logsumexp(w, 0) - math.log(64), truth, atol=0.15)


def by_quadrature(model: MultimodalVAE, X: Any = None) -> np.ndarray:
    """log ∫ p(x | z) N(z | 0, I) dz on a grid."""
    axis = torch.linspace(-5, 5, 101)
    z = torch.cartesian_prod(axis, axis)
    x = model._codes(BITS if X is None else X)
    with torch.no_grad():
        p = [model.log_likelihood(c[:, None].expand(-1, len(x), -1), x) for c in z.split(500)]
    log_p = torch.cat(p) + log_normal(z)[:, None] + 2 * math.log(0.1)
    return torch.logsumexp(log_p, 0).numpy()


@pytest.mark.parametrize("joint", JOINTS)
def test_bounds_are_ordered_below_the_truth(joint):
    model = fitted(joint=joint)
    truth = by_quadrature(model)
    elbo = np.mean([model.elbo(BITS, random_state=i) for i in range(20)], 0)
    few = model.set_params(k=10).score_samples(BITS)
    many = model.set_params(k=1000).score_samples(BITS)
    for low, high in ((elbo, few), (few, many), (many, truth)):
        gap = high - low
        assert gap.mean() >= -4 * gap.std() / math.sqrt(len(gap)) - 1e-4
    assert many.mean() == pytest.approx(truth.mean(), abs=0.01)


def test_more_than_four_views_have_subsets_that_are_drawn():
    X = {f"v{i}": BITS["a"][:60] for i in range(5)}
    model = fitted(X, "mixture of products", trainer=SHORT)
    a, b = (model._subsets(generator(i)) for i in (0, 1))
    assert a.shape == b.shape == (12, 5) and a[0].all() and a.any(1).all()
    assert not torch.equal(a, b)
    one = model.log_prob({"v3": BITS["a"][:60]})
    assert np.isfinite(one.nats).all()
    again = model.log_prob({"v3": BITS["a"][:10]})
    np.testing.assert_allclose(again.nats, one.nats[:10], rtol=1e-5)


# ---------------------------------------------------------------------- training


@pytest.mark.parametrize("joint", JOINTS)
def test_one_view_is_generated_from_the_other(joint):
    """Views that agree: a word for the sign of a number, whatever was learned of them together."""
    sign = np.where(REAL["a"][:, 0] > 0, "plus", "minus")
    X = {"number": 3 * np.sign(REAL["a"][:, :1]) + REAL["a"][:, 1:2], "word": sign}
    model = fitted(X, joint)
    least = 0.85 if joint == "product" else 0.7  # a mixture's experts agree less; chance is 0.5
    words = model.complete({"number": X["number"]}, random_state=0)["word"]
    numbers = model.complete({"word": sign}, random_state=0)["number"]
    assert np.mean(words == sign) > least
    assert np.mean((numbers[:, 0] > 0) == (sign == "plus")) > least


def test_rows_that_miss_views_are_learned_from():
    X = {name: x.astype(float) for name, x in BITS.items()}
    X["b"][:100], X["a"][200:] = np.nan, np.nan
    model = fitted(X)
    truth, p = by_quadrature(model, X), model.log_prob(X)
    assert p.mean() == pytest.approx(truth.mean(), abs=0.02)
    assert (p.dims[:100] == 3).all() and (p.dims[200:] == 2).all()


def test_weights_count_in_training_only():
    plain, heavy = (fitted(trainer=SHORT, weights=w) for w in (None, {"a": 5.0}))
    heavy.load_state_dict(plain.state_dict())
    np.testing.assert_array_equal(
        plain.elbo(BITS, random_state=0), heavy.elbo(BITS, random_state=0)
    )
    np.testing.assert_array_equal(plain.score_samples(BITS), heavy.score_samples(BITS))
    x = plain._codes(BITS)
    losses = []
    for model in (plain, heavy):
        model.rng = generator(0)
        losses.append(float(next(model.losses(x))[1].detach()))
    assert losses[1] > losses[0] + 1


def test_private_latents_are_of_one_view():
    model = fitted(private_dim=1, trainer=SHORT)
    assert model.encode(BITS).shape == (300, 4)
    z = torch.zeros(1, 4)
    moved = z.clone()
    moved[0, 3] = 5.0  # the coordinate of the second view's own
    with torch.no_grad():
        apart = model.parameters_of(moved) - model.parameters_of(z)
    assert not apart[0, :3].any() and apart[0, 3:].abs().sum() > 0
    mean, spread = model.posterior({"a": BITS["a"]})
    assert not mean[:, 3].any() and np.allclose(spread[:, 3], 1) and mean[:, 2].any()


# ---------------------------------------------------------------------- what goes in and out


def test_frames_images_and_vectors_come_back_as_they_were():
    frame = pd.DataFrame({"n": RNG.integers(0, 9, 80), "w": RNG.choice(["x", "y"], 80)})
    images = (RNG.random((80, 4, 4)) < 0.4).astype(np.uint8)
    X = {"table": frame, "image": images, "label": np.where(images[:, 0, 0] > 0, "on", "off")}
    conv = {"image": genus.Conv(4, 1)}
    model = fitted(X, trainer=SHORT, encoder=conv, decoder=conv)
    drawn = model.sample(5, random_state=0)
    assert drawn["table"].dtypes.equals(frame.dtypes) and drawn["image"].shape == (5, 4, 4)
    assert drawn["label"].shape == (5,) and drawn["image"].dtype == np.uint8
    filled = model.complete({"table": frame[:3], "label": X["label"][:3]}, 2, random_state=0)
    assert filled["image"].shape == (2, 3, 4, 4)
    assert model.reconstruct(X)["image"].shape == (80, 4, 4)


def test_a_table_in_two_halves():
    frame = pd.DataFrame(np.concatenate([REAL["a"], REAL["b"]], 1), columns=list("pqrst"))
    parts = {"left": ["t", "p"], "right": ["q", "r", "s"]}
    model = fitted(frame, trainer=SHORT, modalities=parts)
    assert model.names_ == ["left", "right"] and list(model.sample(3)) == list("pqrst")
    runs = fitted(frame, trainer=SHORT, modalities=2)
    assert [len(at) for at in runs._columns] == [3, 2]
    assert np.isfinite(runs.log_conditional(frame, of="part 1").nats).all()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"modalities": {"left": ["p"]}}, "'?q'? is in no modality"),
        ({"modalities": {"left": list("pqrst"), "right": ["p"]}}, "in several modalities"),
        ({"modalities": {"left": ["u"]}}, "names a column 'u'"),
        ({"modalities": 2, "weights": {"left": 2.0}}, "weights names a modality 'left'"),
        ({"modalities": 2, "likelihood": {"part 0": "logistic"}}, "does not suit"),
    ],
)
def test_what_does_not_fit_is_said(more, says):
    frame = pd.DataFrame(np.concatenate([REAL["a"], REAL["b"]], 1), columns=list("pqrst"))
    with pytest.raises(ValueError, match=says):
        fitted(frame, **more)


def test_the_conditional_of_a_word_is_a_probability():
    """Also where few points count: the two means are over the same points."""
    sign = np.where(REAL["a"][:, 0] > 0, "plus", "minus")
    model = fitted({"a": REAL["a"], "word": sign}, trainer=SHORT, k=8)
    each = [
        np.exp(model.log_conditional({"a": REAL["a"], "word": np.full(300, w)}, of="word").nats)
        for w in ("plus", "minus")
    ]
    assert max(p.max() for p in each) < 1
    assert np.mean(sum(each)) == pytest.approx(1, abs=0.05)


def test_a_modality_that_is_not_there_has_no_conditional(line):
    with pytest.raises(ValueError, match="of='c'"):
        line.log_conditional(REAL, of="c")


def test_conditions_files_and_diagnosis(tmp_path):
    label = np.arange(300) % 2
    X = {"a": np.stack([label, label], 1), "b": BITS["b"]}
    given = MultimodalVAE(2, encoder=NET, decoder=NET, trainer=FAST, random_state=0)
    given.fit(X, given=label)
    assert given.sample(100, given=1, random_state=0)["a"].mean() > 0.9
    given.save(tmp_path / "m")
    again = genus.load(tmp_path / "m")
    few = {name: x[:5] for name, x in X.items()}
    scores = [m.score_samples(few, given=label[:5]) for m in (again, given)]
    np.testing.assert_array_equal(*scores)
    found = genus.diagnose(fitted(joint="mixture", trainer=SHORT, k=16), BITS, n=60)
    assert math.isnan(found.amortisation[0]) and np.isfinite(found.kl)


def test_experts_are_told_of_gaps_within_a_modality(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = {"a": rng.normal(size=(200, 3)), "b": rng.normal(size=(200, 2))}
    few = Trainer(epochs=2)
    whole = MultimodalVAE(1, trainer=few, random_state=0)
    X["b"][:50] = np.nan  # a modality that is not there is no expert
    assert not whole.fit(X).gaps_
    X["a"][50:90, 0] = np.nan
    m = MultimodalVAE(1, trainer=few, random_state=0).fit(X)
    assert m.gaps_ and m.legs_[0].gaps_
    x = m.space_.encode(X)
    filled = torch.where(torch.isnan(x), x.nanmean(0), x)
    views, others = m._views(x), m._views(filled)
    with torch.no_grad():
        told, untold = m.legs_[0].expert(views[0], None)[0], m.legs_[0].expert(others[0], None)[0]
    assert float((told - untold)[50:90].abs().max()) > 1e-4
    m.save(tmp_path / "m.genus")
    np.testing.assert_array_equal(genus.load(tmp_path / "m.genus").elbo(X), m.elbo(X))
