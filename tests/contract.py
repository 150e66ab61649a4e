"""What the laws of test_contract.py need: models, small spaces that can be enumerated, bad input.

A new family costs one line of ``ROWS``.

``make test`` asks every class on its first kind, one class of each sort on mixed tables too, and
every variant on its first kind; the rest is marked ``full``, and ``make test-all`` asks it too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from bad import Bad
from genus import (
    DBM,
    DBN,
    EBM,
    GAN,
    IAF,
    JEM,
    MADE,
    MAF,
    MLP,
    NICE,
    RBM,
    VAE,
    Autoencoder,
    AutoregressiveTransformer,
    BayesianGaussianMixture,
    BayesianLinearRegression,
    BayesianMLP,
    BayesNet,
    BoltzmannMachine,
    CategoricalMixture,
    Conv,
    DBNClassifier,
    DensityModel,
    Diffusion,
    FactorAnalysis,
    FlowMatching,
    Gaussian,
    GaussianBasis,
    GaussianMixture,
    Glow,
    HierarchicalVAE,
    Independent,
    LowerBound,
    MultimodalVAE,
    PixelCNN,
    PixelRNN,
    ProbabilisticPCA,
    RBMClassifier,
    RealNVP,
    ResNet,
    ScoreModel,
    SplineFlow,
    Trainer,
    UNet,
)

KINDS = ("binary", "ordinal", "categorical", "continuous", "mixed")
REAL = ("continuous", "binary", "ordinal", "categorical", "mixed")  # of a model of real numbers


# ---------------------------------------------------------------------- small spaces


@dataclass(frozen=True, eq=False)
class Toy:
    """A few hundred rows, and every state that a row can be in, so that p(x) can be summed.

    axes: the values of each cell, midpoints of a fine grid where it is continuous. coarse: how many
    neighbours on an axis count as one outcome when draws are counted.
    """

    X: Any
    axes: tuple[np.ndarray, ...]
    coarse: tuple[int, ...]
    space: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(a) for a in self.axes)

    @property
    def cell(self) -> float:
        """log of the volume of a state; 0 where all is discrete."""
        return sum(
            math.log(a[1] - a[0]) for a, c in zip(self.axes, self.coarse, strict=True) if c > 1
        )

    def states(self, **fixed: int) -> Any:
        """Every state in the caller's type."""
        grid = np.meshgrid(*self.axes, indexing="ij")
        if isinstance(self.X, pd.DataFrame):
            return pd.DataFrame(
                {
                    n: pd.Series(g.reshape(-1)).astype(self.X[n].dtype)
                    for n, g in zip(self.X, grid, strict=True)
                }
            )
        return (
            np.stack([g.reshape(-1) for g in grid], 1)
            .astype(self.X.dtype)
            .reshape(-1, *self.X.shape[1:])
        )

    def counted(self, p: np.ndarray) -> np.ndarray:
        """Probabilities of states as those of outcomes."""
        for j, c in enumerate(self.coarse):
            p = p.reshape(*p.shape[:j], p.shape[j] // c, c, *p.shape[j + 1 :]).sum(j + 1)
        return p

    def places(self, X: Any) -> np.ndarray:
        """The outcome of each cell of X, (n, d); −1 off the grid."""
        cells = (
            X.to_numpy(dtype=object)
            if isinstance(X, pd.DataFrame)
            else np.asarray(X).reshape(len(X), -1)
        )
        out = np.full(cells.shape, -1)
        for j, (a, c) in enumerate(zip(self.axes, self.coarse, strict=True)):
            if c > 1:
                step = a[1] - a[0]
                place = np.floor((cells[:, j].astype(float) - a[0]) / step + 0.5).astype(int)
                out[:, j] = np.where((place >= 0) & (place < len(a)), place // c, -1)
            else:
                for i, v in enumerate(a):
                    out[cells[:, j] == v, j] = i
        return out

    def shares(self, X: Any) -> np.ndarray:
        """The empirical distribution of X over the outcomes; what is off the grid is lost."""
        places = self.places(X)
        shape = tuple(n // c for n, c in zip(self.shape, self.coarse, strict=True))
        out = np.zeros(shape)
        np.add.at(out, tuple(places[(places >= 0).all(1)].T), 1 / len(places))
        return out


@cache
def toy(kind: str) -> Toy:
    """Dependent cells of a kind, 240 rows."""
    r = np.random.default_rng(7)
    n = 240
    a = r.random(n) < 0.6
    flip = r.random((n, 4)) < 0.12
    if kind in ("binary", "image"):
        bits = (a[:, None] ^ flip).astype(np.uint8)
        X = bits.reshape(n, 2, 2) if kind == "image" else bits.astype(np.float64)
        return Toy(X, (np.arange(2),) * 4, (1,) * 4)
    if kind in ("ordinal", "categorical"):
        level = (2 * a + r.integers(0, 2, (3, n))).clip(0, 2).T
        if kind == "ordinal":
            return Toy(level + 3, (np.arange(3, 6),) * 3, (1,) * 3, "ordinal")
        values = np.array([-5, 2, 40])
        return Toy(values[level[:, :2]], (values,) * 2, (1,) * 2, "categorical")
    real = np.where(a, 1.0, -1.0) + 0.7 * r.normal(size=n)
    if kind == "continuous":
        X = 20 + 3 * np.stack([real, real + 0.6 * r.normal(size=n)], 1)
        axis = 20 + 3 * (np.arange(128) + 0.5 - 60) / 8  # no outcome ends where a mode is
        return Toy(X, (axis, axis), (16, 16))
    X = pd.DataFrame(
        {"colour": np.where(a ^ flip[:, 0], "red", "blue"), "old": a ^ flip[:, 1], "size": 5 * real}
    )
    return Toy(
        X,
        (
            np.array(["blue", "red"], dtype=object),
            np.array([False, True]),
            5 * (np.arange(128) + 0.5 - 64) / 10,
        ),
        (1, 1, 16),
    )


# ---------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Row:
    """A model under the laws.

    make: a fresh one with settings that take a moment, ``random_state=0``. fits: the kinds of data
        it suits, first the one that it is about.
    truth: log p(x) of every state of a toy by brute force, where ``log_prob`` is a bound; a
        DensityModel needs none.
    chain: its losses compare data with a chain, or with draws. independent: it models no
        dependence, and so cannot learn any.
    refuses: what it says of data that an argument does not suit.
    digits: settings that beat the independent histogram on the digits within seconds (on digits of
        bits, where it suits no levels); one row of every class has them.
    """

    name: str
    make: Callable[[], Any]
    fits: tuple[str, ...] = KINDS
    truth: Callable[[Any, Toy], np.ndarray] | None = None
    chain: bool = False
    independent: bool = False
    refuses: str = ""
    digits: Callable[[], Any] | None = None

    def fit(self, kind: str, **more: Any) -> Any:
        t = toy(kind)
        return self.make().fit(t.X, space=t.space, **more)

    @property
    def hasty(self) -> Any:
        """The model with one pass over the rows, for tests that fit a hundred times."""
        model = self.make()
        return (
            model.set_params(trainer=model.trainer.replace(epochs=1))
            if hasattr(model, "trainer")
            else model
        )


def over_latent(model: Any, t: Toy) -> np.ndarray:
    """log ∫ p(x | z) N(z | 0, I) dz of every state, on a grid of z in two dimensions."""
    assert model.latent_dim == 2
    step = 0.05
    axis = torch.arange(-5.5, 5.5, step) + step / 2
    z = torch.cartesian_prod(axis, axis)
    prior = torch.exp(-0.5 * z.double().square().sum(1)) / (2 * math.pi) * step**2
    if hasattr(model, "log_prior"):
        prior = torch.from_numpy(model.log_prior(z)).double().exp() * step**2
    codes = model.space_.encode(t.states()).double().flatten(1)
    tables = []  # p(x_j | z) of the values of each cell; given z the cells are independent
    with torch.no_grad():
        p = model.parameters_of(z)
        for j, (values, name) in enumerate(
            zip((c.unique() for c in codes.T), "abcd", strict=False)
        ):
            rows = torch.zeros(len(values), 1, codes.shape[1], dtype=torch.float64)
            rows[:, 0, j] = values
            log_p = torch.cat(
                [model.observation_.log_prob(p, r)[:, j][None].double() for r in rows]
            )
            tables.append((name, log_p.exp()))
    names = "".join(n for n, _ in tables)
    total = torch.einsum(
        ",".join(f"{n}z" for n in names) + f",z->{names}", *(table for _, table in tables), prior
    )
    return np.log(total.numpy())


def in_boxes(model: Any, x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """log Σ_k w_k P_k(box of the logits of a row's levels), the ends with their tails, by scipy."""

    def edge(codes: np.ndarray) -> np.ndarray:
        s = 0.01 + 0.98 * codes / levels
        return np.asarray(np.log(s / (1 - s)))

    low, high = edge(x), edge(x + 1)
    low[x == 0], high[x == levels - 1] = -np.inf, np.inf
    log_w, mean, cov, at = model.gaussians(torch.from_numpy(x))
    assert at == list(range(len(levels)))
    mass = np.zeros(len(x))
    for w, m, S in zip(log_w.T.exp().numpy(), mean.numpy(), cov.numpy(), strict=True):
        joint = stats.multivariate_normal(m, S)
        each = [joint.cdf(b, lower_limit=a) for a, b in zip(low, high, strict=True)]
        mass += w * np.array(each)
    return np.log(mass)


def over_noise(model: DensityModel, t: Toy) -> np.ndarray:
    """log ∫ p(y(x, u)) |∂y/∂u| du of every state over the unit cube, on a grid of u.

    Written out: by a logit, y = log(s/(1 − s)), s = α + (1 − 2α)(x + u)/L, α = 0.01; learned, z =
    Φ⁻¹((1 − u) F(x−) + u F(x)) and |∂z/∂u| = P(x)/φ(z); affine, y = x + u − ½.
    """
    codes = model.space_.encode(t.states()).double().flatten(1)
    x = codes.numpy()
    levels = np.array(model.space_.cardinality)
    way = model.coordinates_
    if way.how == "logit" and hasattr(model, "gaussians") and (levels > 0).all():
        return in_boxes(model, x, levels)
    m = {1: 96, 2: 64, 3: 28, 4: 18}[int((levels > 0).sum())]
    if way.how == "logit":
        place = (np.arange(m) + 0.5) / m
        nodes = (place, 1 - place, np.full(m, 1 / m))
    else:  # u = Φ(s) on a grid of s, so that the ends of a cell are seen as well as its middle
        s = np.linspace(-6, 6, m)
        nodes = (stats.norm.cdf(s), stats.norm.sf(s), stats.norm.pdf(s) * (s[1] - s[0]))
    one = (np.zeros(1), np.ones(1), np.ones(1))
    grids = [nodes if l else one for l in levels]
    u, rest, weight = (
        np.stack([g.reshape(-1) for g in np.meshgrid(*(n[i] for n in grids), indexing="ij")], 1)
        for i in range(3)
    )
    v = x[:, None] + u
    log_det = np.zeros(v.shape[:2])
    plain = np.zeros(len(levels), bool)
    if way.how == "affine":
        plain = way.plain_.numpy().astype(bool) & (levels > 0)
        v[..., plain] -= 0.5
    if way.marginals_ is not None:
        low, high, log_p = (a.numpy()[:, None] for a in way.marginals_.look(codes))
    for j, l in enumerate(levels):
        if way.how == "logit" and l:
            s = 0.01 + 0.98 * v[..., j] / l
            v[..., j] = np.log(s / (1 - s))
            log_det += np.log(0.98 / l) - np.log(s * (1 - s))
        elif way.how == "learned" or (way.how == "affine" and l and not plain[j]):
            F = rest[:, j] * stats.norm.cdf(low[..., j]) + u[:, j] * stats.norm.cdf(high[..., j])
            far = low[..., j] + high[..., j] > 0  # by the tail in which nothing cancels
            S = rest[:, j] * stats.norm.sf(low[..., j]) + u[:, j] * stats.norm.sf(high[..., j])
            v[..., j] = np.where(far, -stats.norm.ppf(S), stats.norm.ppf(F)).clip(-37, 37)
            log_det += log_p[..., j] - stats.norm.logpdf(v[..., j])
    with torch.no_grad():
        log_p = (
            model.log_density(torch.from_numpy(v.reshape(-1, x.shape[1])))
            .numpy()
            .reshape(log_det.shape)
        )
    words = model._without_new_words(codes)[1]
    old = 0.0 if words is None else words.numpy()
    return logsumexp(log_p + log_det + np.log(weight).sum(1), axis=1) + old


def truth(row: Row, model: Any, t: Toy) -> np.ndarray | None:
    """log p of every state, normalised, in the shape of the axes; None where nobody knows."""
    p = model.log_prob(t.states())
    if not isinstance(p, LowerBound):
        value = p.nats
    elif row.truth is not None:
        value = row.truth(model, t)
    elif isinstance(model, DensityModel):
        value = over_noise(model, t)
    else:
        return None
    return np.asarray(value, dtype=np.float64).reshape(t.shape) + t.cell


QUICK = Trainer(epochs=30, batch_size=40, lr=1e-2, validation=0.0, progress=False)
NET = MLP(8, 1, "tanh")
IMAGES = Conv(channels=8, depth=1)
GAME = QUICK.replace(betas=(0.0, 0.99), schedule="constant")  # of two players
DIGITS = Trainer(epochs=12, batch_size=64, progress=False)


def vae(network: Any = NET, lr: float = 1e-2, **args: Any) -> Callable[[], VAE]:
    return lambda: VAE(
        2, network, network, k=32, trainer=QUICK.replace(lr=lr), random_state=0, **args
    )


def multimodal(joint: str = "product", **args: Any) -> Callable[[], MultimodalVAE]:
    settings: dict[str, Any] = {"encoder": NET, "decoder": NET, "k": 32, "trainer": QUICK}
    return lambda: MultimodalVAE(2, joint, modalities=2, random_state=0, **(settings | args))


def autoencoder(**args: Any) -> Callable[[], Autoencoder]:
    density = GaussianMixture(3)
    return lambda: Autoencoder(2, NET, NET, density=density, trainer=QUICK, random_state=0, **args)


def rbm(**args: Any) -> Callable[[], RBM]:
    settings: dict[str, Any] = {
        "n_hidden": 4,
        "burn_in": 400,
        "n_annealing": 200,
        "trainer": QUICK.replace(lr=1.0),
        "random_state": 0,
    }
    return lambda: RBM(**(settings | args))


def machine(**args: Any) -> Callable[[], BoltzmannMachine]:
    settings: dict[str, Any] = {
        "burn_in": 100,
        "n_annealing": 200,
        "trainer": QUICK.replace(lr=0.1),
    }
    return lambda: BoltzmannMachine(random_state=0, **(settings | args))


def dbn(*n_hidden: int, **args: Any) -> Callable[[], DBN]:
    settings: dict[str, Any] = {
        "burn_in": 400,
        "n_annealing": 200,
        "trainer": QUICK.replace(lr=1.0),
    }
    return lambda: DBN(n_hidden, random_state=0, **(settings | args))


def dbm(*n_hidden: int, **args: Any) -> Callable[[], DBM]:
    settings: dict[str, Any] = {
        "burn_in": 400,
        "n_annealing": 200,
        "n_chains": 40,
        "trainer": QUICK.replace(epochs=60, lr=1.5),
    }
    return lambda: DBM(n_hidden, random_state=0, **(settings | args))


def over_layers(model: DBN, t: Toy) -> np.ndarray:
    """log Σ_h p(v | h₁) p(h₁) of every state, h₁ enumerated under an RBM of two layers of bits."""
    bottom, top = model.layers_
    H = int(model.n_hidden[0])
    h = torch.cartesian_prod(*[torch.arange(2.0)] * H)
    v = bottom._states(model._as_float(model.space_.encode(t.states())).flatten(1))
    with torch.no_grad():
        log_prior = -top._free_energy(h).double() - top._enumerate()
        a = (h - bottom.lambda_) @ bottom.W_.T
        units = bottom.units_
        joint = units.linear(v, bottom.b_).double()[:, None] + (units.phi(v) @ a.T).double()
        log_p = torch.logsumexp(joint - units.log_partition(bottom.b_, a) + log_prior, 1)
    return log_p.numpy()


def mixture(covariance: str) -> Callable[[], GaussianMixture]:
    return lambda: GaussianMixture(3, covariance, random_state=0)


def flow(family: Any, **args: Any) -> Callable[[], Any]:
    return lambda: family(2, NET, trainer=QUICK, random_state=0, **args)


def denoiser(family: Any) -> Callable[[], Any]:
    trainer = QUICK.replace(epochs=80, lr=5e-3)
    return lambda: family(ResNet(32, 2), trainer=trainer, random_state=0)


def on_digits(family: Any, steps: int) -> Callable[[], Any]:
    return lambda: family(steps, MLP(64, 1), trainer=DIGITS.replace(lr=3e-3))


def made(**args: Any) -> Callable[[], MADE]:
    return lambda: MADE(NET, n_components=3, trainer=QUICK, random_state=0, **args)


def transformer(**args: Any) -> Callable[[], AutoregressiveTransformer]:
    settings: dict[str, Any] = {
        "n_components": 3,
        "dropout": 0.0,
        "trainer": QUICK,
        "random_state": 0,
    }
    return lambda: AutoregressiveTransformer(8, 1, 2, **(settings | args))


def gan(network: Any = NET, **args: Any) -> Callable[[], GAN]:
    settings: dict[str, Any] = {"latent_dim": 2, "trainer": GAME, "random_state": 0}
    return lambda: GAN(network, network, **(settings | args))


def ebm(**args: Any) -> Callable[[], EBM]:
    settings: dict[str, Any] = {"n_annealing": 200, "burn_in": 100, "n_chains": 200}
    return lambda: EBM(MLP(8, 1, "silu"), trainer=QUICK, random_state=0, **(settings | args))


def bayesian(**args: Any) -> Callable[[], BayesianGaussianMixture]:
    return lambda: BayesianGaussianMixture(3, random_state=0, **args)


ROWS = [
    Row("histogram", lambda: Independent(random_state=0), independent=True),
    Row("bayesnet", lambda: BayesNet(bins=6, random_state=0), digits=BayesNet),
    Row(
        "bayesnet-tree",
        lambda: BayesNet("chow-liu", bins=None, random_state=0),
        ("binary", "ordinal", "categorical"),
        refuses="pass bins=8",
    ),
    Row("gaussian", lambda: Gaussian(random_state=0), REAL, digits=Gaussian),
    Row("mixture-full", mixture("full"), REAL, digits=lambda: GaussianMixture(5, max_iter=20)),
    Row("mixture-tied", mixture("tied"), REAL),
    Row("mixture-diag", mixture("diag"), REAL),
    Row("mixture-spherical", mixture("spherical"), REAL),
    Row(
        "bayesian-mixture", bayesian(), REAL, digits=lambda: BayesianGaussianMixture(5, max_iter=20)
    ),
    Row("bayesian-mixture-diag", bayesian(covariance="diag", weights="dirichlet-process"), REAL),
    Row("bayesian-mixture-svi", bayesian(inference="svi", batch_size=40, max_iter=20), REAL),
    Row("ppca", lambda: ProbabilisticPCA(1, random_state=0), REAL, digits=ProbabilisticPCA),
    Row("factor-analysis", lambda: FactorAnalysis(1, random_state=0), REAL, digits=FactorAnalysis),
    Row(
        "categorical-mixture",
        lambda: CategoricalMixture(3, random_state=0),
        digits=CategoricalMixture,
    ),
    Row("nice", flow(NICE), REAL, digits=on_digits(NICE, 4)),
    Row("realnvp", flow(RealNVP), REAL, digits=on_digits(RealNVP, 4)),
    Row("realnvp-mixture", flow(RealNVP, base=3), ("continuous", "categorical")),
    Row("realnvp-variational", flow(RealNVP, dequantisation="variational"), ("ordinal", "mixed")),
    Row("glow", flow(Glow), REAL, digits=on_digits(Glow, 4)),
    Row("maf", flow(MAF), REAL, digits=on_digits(MAF, 3)),
    Row(
        "iaf",
        flow(IAF),
        ("continuous", "binary", "mixed"),
        digits=lambda: IAF(2, MLP(32, 1), trainer=DIGITS.replace(epochs=6, lr=1e-2)),
    ),
    Row("spline", flow(SplineFlow, bins=4), REAL, digits=on_digits(SplineFlow, 4)),
    Row(
        "spline-autoregressive",
        flow(SplineFlow, bins=4, autoregressive=True),
        ("continuous", "ordinal"),
    ),
    Row(
        "flow-matching",
        denoiser(FlowMatching),
        (*REAL, "image"),
        digits=lambda: FlowMatching(UNet(8), trainer=DIGITS.replace(lr=5e-3)),
    ),
    Row(
        "diffusion",
        denoiser(Diffusion),
        REAL,
        digits=lambda: Diffusion(UNet(8), trainer=DIGITS.replace(lr=5e-3)),
    ),
    Row(
        "score-model",
        denoiser(ScoreModel),
        REAL,
        digits=lambda: ScoreModel(UNet(8), trainer=DIGITS.replace(lr=5e-3)),
    ),
    Row(
        "made",
        made(),
        digits=lambda: MADE(MLP(64, 1), n_components=3, trainer=DIGITS.replace(lr=1e-2)),
    ),
    Row("made-orders", made(n_orders=2), ("binary", "categorical", "mixed")),
    Row("made-masses", made(max_logits=1, order="learned"), ("ordinal",)),
    Row(
        "transformer",
        transformer(),
        (*KINDS, "image"),
        digits=lambda: AutoregressiveTransformer(
            16, 1, 2, trainer=DIGITS.replace(epochs=3, batch_size=32, lr=1e-2)
        ),
    ),
    Row("transformer-rotary", transformer(positions="rotary", dropout=0.1), ("image",)),
    Row(
        "transformer-any-order",
        transformer(any_order=True, order="learned", n_orders=2),
        ("ordinal", "mixed"),
    ),
    Row("rbm", rbm(), chain=True, digits=lambda: RBM(12, trainer=DIGITS.replace(epochs=8))),
    Row("rbm-fpcd", rbm(method="fpcd"), ("binary",), chain=True),
    Row("rbm-tempering", rbm(method="tempering", n_temperatures=3), ("binary",), chain=True),
    Row("rbm-sparse", rbm(sparsity=0.3), ("binary",), chain=True),
    Row("rbm-cd", rbm(method="cd", k=2, centred=False), chain=True),
    # too many units to enumerate
    Row("rbm-ais", rbm(n_hidden=24), ("ordinal", "categorical", "continuous", "mixed"), chain=True),
    Row(
        "rbm-bernoulli",
        rbm(visible="bernoulli"),
        ("binary", "image"),
        chain=True,
        refuses="does not suit",
    ),
    Row(
        "rbm-categorical",
        rbm(visible="categorical"),
        ("categorical", "binary", "ordinal"),
        chain=True,
        refuses="does not suit",
    ),
    Row(
        "rbm-gaussian",
        rbm(visible="gaussian"),
        ("continuous",),
        chain=True,
        refuses="does not suit",
    ),
    Row(
        "boltzmann-machine",
        machine(),
        ("binary", "image"),
        refuses="needs bits",
        digits=lambda: BoltzmannMachine(n_annealing=300, trainer=DIGITS.replace(lr=0.02)),
    ),
    Row(
        "boltzmann-machine-hidden",
        machine(n_hidden=2, states="spins", method="pcd"),
        ("binary",),
        chain=True,
        refuses="needs bits",
    ),
    Row("boltzmann-machine-pseudo", machine(method="pseudo"), ("binary",), refuses="needs bits"),
    Row(
        "dbn",
        dbn(4, 3),
        ("binary", "ordinal", "categorical", "image"),
        truth=over_layers,
        refuses="and DBN needs",
        digits=lambda: DBN((24, 12), trainer=DIGITS.replace(epochs=8)),
    ),
    Row(
        "dbn-fine-tuned",
        dbn(4, 3, fine_tune=True),
        ("binary",),
        truth=over_layers,
        refuses="and DBN needs",
    ),
    Row(
        "dbm",
        dbm(3, 3),
        ("binary", "ordinal", "categorical", "image"),
        chain=True,
        refuses="and DBM needs",
        digits=lambda: DBM((10, 8), n_annealing=300, trainer=DIGITS.replace(epochs=8)),
    ),
    Row(
        "dbm-pretrained",
        dbm(3, 3, pretrain=True),
        ("binary",),
        chain=True,
        refuses="and DBM needs",
    ),
    Row("dbm-3", dbm(3, 3, 2), ("binary",), chain=True, refuses="and DBM needs"),
    Row(
        "vae",
        vae(),
        truth=over_latent,
        digits=lambda: VAE(
            8, MLP(64, 1), MLP(64, 1), k=32, trainer=DIGITS.replace(epochs=20, lr=3e-3)
        ),
    ),
    Row("vae-iwae", vae(bound="iwae", k_train=4), truth=over_latent),
    Row(
        "vae-bernoulli",
        vae(likelihood="bernoulli"),
        ("binary",),
        over_latent,
        refuses="does not suit",
    ),
    Row(
        "vae-categorical",
        vae(likelihood="categorical"),
        ("categorical", "binary", "ordinal"),
        over_latent,
        refuses="does not suit",
    ),
    Row(
        "vae-logistic",
        vae(likelihood="logistic"),
        ("ordinal", "binary"),
        over_latent,
        refuses="does not suit",
    ),
    Row(
        "vae-gaussian",
        vae(likelihood="gaussian"),
        ("continuous", "binary", "ordinal"),
        over_latent,
        refuses="does not suit",
    ),
    Row(
        "vae-gaussian-fixed",
        vae(likelihood="gaussian", variance=2.0),
        ("continuous",),
        over_latent,
        refuses="does not suit|variance=2.0 is lost beside X",
    ),
    Row(
        "hierarchical-vae",
        lambda: HierarchicalVAE((1, 1), 16, k=32, trainer=QUICK, random_state=0),
        truth=over_latent,
        digits=lambda: HierarchicalVAE(
            (8, 4), 64, k=32, trainer=DIGITS.replace(epochs=20, lr=3e-3)
        ),
    ),
    Row(
        "multimodal-vae",
        multimodal(),
        truth=over_latent,
        digits=lambda: MultimodalVAE(
            8,
            modalities=2,
            encoder=MLP(64, 1),
            decoder=MLP(64, 1),
            k=32,
            trainer=DIGITS.replace(lr=3e-3),
        ),
    ),
    Row("multimodal-vae-full", multimodal(covariance="full"), truth=over_latent),
    Row("multimodal-vae-mixture", multimodal("mixture"), truth=over_latent),
    Row("multimodal-vae-products", multimodal("mixture of products"), truth=over_latent),
    Row("vae-conv", vae(IMAGES, lr=2e-2), ("image",), over_latent),
    Row(
        "autoencoder",
        autoencoder(),
        digits=lambda: Autoencoder(
            8,
            MLP(64, 1),
            MLP(64, 1),
            density=GaussianMixture(10),
            trainer=DIGITS.replace(epochs=20, lr=3e-3),
        ),
    ),
    Row("autoencoder-denoising", autoencoder(corruption=0.2), ("mixed", "ordinal")),
    Row("vae-flows", vae(posterior_family="flow", prior="flow"), ("binary", "mixed"), over_latent),
    Row(
        "vae-full-mixture",
        vae(
            posterior_family="full",
            prior="mixture",
            prior_components=4,
            bound="iwae",
            k_train=4,
            gradient="dreg",
        ),
        ("binary", "continuous"),
        over_latent,
    ),
    Row("vae-vamp", vae(prior="vamp", prior_components=8, kl_warmup=0.2), truth=over_latent),
    Row(
        "vae-score",
        vae(gradient="score", prior="gaussian", lr=2e-2),
        ("binary", "ordinal"),
        over_latent,
    ),
    Row(
        "vae-shared-variance",
        vae(variance="shared"),
        ("continuous",),
        over_latent,
    ),
    *(
        Row(f"vae-{name}", vae(likelihood=name), ("ordinal",), over_latent, refuses="does not suit")
        for name in ("continuous-bernoulli", "logistic-mixture", "beta-binomial")
    ),
    Row(
        "pixelcnn",
        lambda: PixelCNN(6, 2, trainer=QUICK, random_state=0),
        ("image", "binary", "ordinal", "categorical"),
        refuses="PixelCNN needs images",
        digits=lambda: PixelCNN(8, 2, trainer=DIGITS.replace(epochs=3, lr=1e-2)),
    ),
    Row(
        "pixelcnn-logistic",
        lambda: PixelCNN(
            6, 2, likelihood="logistic", n_components=2, trainer=QUICK, random_state=0
        ),
        ("ordinal", "image"),
        refuses="PixelCNN needs images|does not suit",
    ),
    Row(
        "pixelrnn",
        lambda: PixelRNN(4, 1, trainer=QUICK, random_state=0),
        ("image", "binary", "ordinal", "categorical"),
        refuses="PixelRNN needs images",
        digits=lambda: PixelRNN(8, 1, trainer=DIGITS.replace(epochs=3, lr=2e-2)),
    ),
    Row(
        "pixelrnn-row",
        lambda: PixelRNN(4, 1, "row", trainer=QUICK, random_state=0),
        ("image",),
        refuses="PixelRNN needs images",
        digits=lambda: PixelRNN(8, 1, "row", trainer=DIGITS.replace(epochs=3, lr=2e-2)),
    ),
    Row(
        "gan",
        gan(penalty=0.1, trainer=GAME.replace(epochs=60)),
        chain=True,
        digits=lambda: GAN(
            MLP(64, 2, norm=True),
            MLP(64, 2),
            trainer=DIGITS.replace(epochs=40, lr=2e-3, betas=(0.0, 0.99), ema=0.99),
        ),
    ),
    Row("gan-minimax", gan(loss="minimax", penalty=0.1), ("continuous", "binary"), chain=True),
    Row("gan-wasserstein", gan(loss="wasserstein-gp", critic_steps=2), ("continuous",), chain=True),
    Row("gan-hinge", gan(loss="hinge"), ("ordinal", "continuous"), chain=True),
    Row("gan-gumbel", gan(words="gumbel"), ("mixed", "binary", "categorical"), chain=True),
    Row("gan-conv", gan(IMAGES, shifts=1), ("image",), chain=True),
    Row(
        "ebm",
        ebm(),
        REAL,
        chain=True,
        digits=lambda: EBM(
            MLP(64, 1, "silu"),
            "nce",
            marginals="learned",
            n_annealing=100,
            trainer=DIGITS.replace(lr=3e-3),
        ),
    ),
    Row("ebm-nce", ebm(method="nce"), ("continuous", "mixed"), chain=True),
    Row("ebm-hmc", ebm(sampler="hmc", method="cd", steps=3), ("continuous",), chain=True),
    Row("ebm-denoising", ebm(method="denoising", data_noise=0.1), ("continuous",), chain=True),
]
PAIRS = [(row, kind) for row in ROWS for kind in row.fits]
SCORED = [row for row in ROWS if hasattr(row.make(), "log_prob")]  # the others only draw
SCORED_PAIRS = [(row, kind) for row in SCORED for kind in row.fits]


@cache
def fitted(row: Row, kind: str) -> Any:
    """The fitted model, shared by tests that only look at it."""
    return row.fit(kind)


# ---------------------------------------------------------------------- who is asked when


def first_of_each_class(rows: list[Any]) -> list[Any]:
    """The rows that speak for their class; the others are its variants."""
    found: dict[type, Any] = {}
    for row in rows:
        found.setdefault(type(row.make()), row)
    return list(found.values())


CLASSES = first_of_each_class(ROWS)
# the other classes of a sort differ from one of these in a schedule or in a transform alone
ALIKE = {"diffusion", "score-model", "nice", "maf", "iaf"}
SPEAKERS = [row for row in CLASSES if row.name not in ALIKE]
# ask what a Space refuses, or reads alike for every family
DOOR = ("gaussian", "vae", "bayesian-linear")


def once_a_class(rows: list[Row]) -> list[Any]:
    """The rows, those of variants and of classes alike in the full matrix."""
    return [pytest.param(r, id=r.name, marks=_full(r not in SPEAKERS)) for r in rows]


def at_the_door(rows: list[Row]) -> list[Any]:
    """The rows, those that do not stand at the door in the full matrix."""
    return [pytest.param(r, id=r.name, marks=_full(r.name not in DOOR)) for r in rows]


def matrix(pairs: list[tuple[Row, str]]) -> list[Any]:
    """Rows with kinds: a speaker on its first and on mixed tables, the others on their first.

    The others are in the full matrix.
    """
    cases = []
    for row, kind in pairs:
        asked = kind == row.fits[0] or (kind == "mixed" and row in SPEAKERS)
        cases.append(pytest.param(row, kind, id=f"{row.name}-{kind}", marks=_full(not asked)))
    return cases


def with_bad_input(rows: list[Any], door: list[Bad], behind: list[Bad]) -> list[Any]:
    """Rows with bad input: at the door the rows DOOR, behind it one of each sort of class.

    The others are in the full matrix.
    """
    classes = [row for row in first_of_each_class(rows) if row.name not in ALIKE]
    cases = []
    for row in rows:
        for bad in door + behind:
            asked = row.name in DOOR if bad in door else row in classes
            name = f"{row.name}-{bad.name}"
            cases.append(pytest.param(row, bad, id=name, marks=_full(not asked)))
    return cases


def _full(yes: bool) -> list[Any]:
    return [pytest.mark.full] if yes else []


# ---------------------------------------------------------------------- models of p(y | X)


@dataclass(frozen=True)
class Predicts:
    """A Predictor under the laws of test_predictor.py: its name, how to make it, its rows."""

    name: str
    make: Callable[[], Any]
    task: str = "regression"

    def fit(self, **more: Any) -> Any:
        return self.make().fit(*questions(self.task), **more)


@cache
def questions(task: str) -> tuple[np.ndarray, np.ndarray]:
    """(X, y): 60 rows of two columns, a smooth function with noise, or three classes."""
    r = np.random.default_rng(11)
    X = 20 + 3 * r.normal(size=(60, 2))
    f = (X[:, 0] - 20) / 3 + 0.5 * np.sin(X[:, 1])
    return X, (
        50 + 4 * f + r.normal(size=60)
        if task == "regression"
        else np.array(["a", "b", "c"])[np.digitize(f, [-0.5, 0.5])]
    )


def bayesian_mlp(posterior: str, task: str) -> Callable[[], BayesianMLP]:
    return lambda: BayesianMLP(
        NET, posterior, task, n_draws=16, trainer=QUICK.replace(epochs=15), random_state=0
    )


PREDICTORS = [
    Predicts("bayesian-linear", lambda: BayesianLinearRegression(random_state=0)),
    Predicts(
        "bayesian-linear-evidence",
        lambda: BayesianLinearRegression(alpha="evidence", beta="evidence", random_state=0),
    ),
    Predicts(
        "bayesian-linear-student",
        lambda: BayesianLinearRegression(
            GaussianBasis(5, low=0, high=40), beta=(2.0, 2.0), random_state=0
        ),
    ),
    *(
        Predicts(f"bayesian-mlp-{p}", bayesian_mlp(p, "regression"))
        for p in ("map", "vi", "laplace", "hmc")
    ),
    *(
        Predicts(f"bayesian-mlp-{p}-classes", bayesian_mlp(p, "classification"), "classification")
        for p in ("map", "vi", "laplace", "hmc")
    ),
]


# ---------------------------------------------------------------------- models of p(x, y)


@dataclass(frozen=True)
class Classifies:
    """A Classifier under the laws of test_classifier.py: its name, and how to make it."""

    name: str
    make: Callable[[], Any]

    def fit(self, y: Any = None, **more: Any) -> Any:
        X, words = labelled()
        return self.make().fit(X, words if y is None else y, **more)


@cache
def labelled() -> tuple[np.ndarray, np.ndarray]:
    """(X, y): 120 rows of four bits, of which three tell the label, "no" or "yes", with noise."""
    r = np.random.default_rng(0)
    bit = r.integers(0, 2, 120)
    X = np.column_stack([bit, bit, bit, r.integers(0, 2, 120)]) ^ (r.random((120, 4)) < 0.05)
    return X, np.array(["no", "yes"])[bit]


TOLD = Trainer(epochs=12, batch_size=20, progress=False)
BRIEF: dict[str, Any] = {"n_annealing": 20, "burn_in": 10, "n_chains": 100}

CLASSIFIERS = [
    Classifies(
        "rbm-classifier",
        lambda: RBMClassifier(3, trainer=TOLD, random_state=0, **BRIEF),
    ),
    Classifies(
        "dbn-classifier",
        lambda: DBNClassifier((6, 4), trainer=TOLD.replace(epochs=40, lr=0.3), random_state=0),
    ),
    Classifies(
        "jem",
        lambda: JEM(
            MLP(8, 1, "silu"), steps=2, trainer=TOLD.replace(lr=1e-2), random_state=0, **BRIEF
        ),
    ),
]
