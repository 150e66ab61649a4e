"""The PixelCNN: what a pixel sees, probabilities that sum to 1, draws with kept activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

import genus
from genus import Exact, Space, Trainer
from genus.distributions.observation import Logistic, LogisticMixture
from genus.learn.descent import Descent
from genus.learn.fit import Fit
from genus.learn.rows import Rows, generator
from genus.models.autoregressive.pixelcnn import PixelCNN
from raster import every, many_conditions, naive, noisy, sees, shaken

QUICK = Trainer(epochs=2, batch_size=20, lr=1e-2, validation=0.0, progress=False)
SPACES = {
    "grey": Space((2, 2), "ordinal", levels=4, layout="HW"),
    "binary": Space((2, 3), "binary", layout="HW"),
    "categorical": Space((2, 2), "categorical", levels=3, layout="HW"),
    "colour": Space((3, 1, 2), "ordinal", levels=3, layout="CHW"),
    "colour last": Space((2, 2, 3), "binary", layout="HWC"),
    "row": Space((4,), "binary"),
}


def made(space: Space, likelihood: str = "auto", given: Any = None, **args: Any) -> PixelCNN:
    rng = np.random.default_rng(0)
    X = rng.integers(0, space.levels, (40, *space.shape))
    settings: dict[str, Any] = {
        "channels": 6,
        "n_layers": 2,
        "n_components": 2,
        "trainer": QUICK,
        "random_state": 0,
    }
    model = PixelCNN(likelihood=likelihood, **(settings | args)).fit(X, space=space, given=given)
    return shaken(model)


CASES = [
    ("grey", "categorical"),
    ("grey", "logistic"),
    ("binary", "auto"),
    ("categorical", "auto"),
    ("colour", "logistic"),
    ("colour", "categorical"),
    ("colour last", "auto"),
    ("row", "auto"),
]


@pytest.mark.parametrize(("name", "likelihood"), CASES)
def test_probabilities_of_all_images_sum_to_one(name: str, likelihood: str) -> None:
    model = made(SPACES[name], likelihood)
    p = model.log_prob(every(SPACES[name]))
    assert isinstance(p, Exact) and p.measure == "probability"
    assert math.exp(logsumexp(p.nats)) == pytest.approx(1, abs=1e-4)
    assert np.std(p.nats) > 0.1


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 3, 3)])
def test_a_cell_sees_all_before_it_and_nothing_else(shape: tuple[int, int, int]) -> None:
    model = made(Space(shape, "ordinal", levels=5, layout="CHW"), n_layers=3)
    c, h, w = shape
    for place in range(h * w):
        # in raster order, channels inside the pixel
        J = sees(model, place, 12).permute(0, 2, 3, 1).reshape(c, -1)
        for k in range(c):
            cell = place * c + k
            assert (J[k, cell:] == 0).all(), "it sees itself or what comes after"
            assert (J[k, :cell] > 0).all(), "a blind spot"


def test_one_layer_sees_three_rows_and_one_more() -> None:
    model = made(Space((7, 15), "binary", layout="HW"), n_layers=1)
    seen = sees(model, 5 * 15 + 7, 12)[0, 0] > 0
    box = torch.zeros(7, 15, dtype=torch.bool)
    box[1:5, 3:12] = True  # 3 rows above v's own, and one row more by its layer; 3 + 1 to each side
    box[5, 3:7] = True  # 3 + 1 to the left
    assert torch.equal(seen, box)


@pytest.mark.parametrize(
    ("shape", "kind", "likelihood", "kernel"),
    [
        ((6, 6), "binary", "auto", 3),
        ((6, 6), "ordinal", "categorical", 5),
        ((6, 6), "ordinal", "logistic", 3),
        ((3, 4, 5), "ordinal", "logistic", 3),
        ((3, 4, 5), "categorical", "auto", 3),
        ((7,), "ordinal", "auto", 3),
    ],
)
def test_kept_activations_give_the_same_draws(
    shape: tuple[int, ...], kind: str, likelihood: str, kernel: int
) -> None:
    layout = {1: None, 2: "HW", 3: "CHW"}[len(shape)]
    levels = 2 if kind == "binary" else 4
    model = made(
        Space(shape, kind, levels=levels, layout=layout), likelihood, kernel=kernel, n_layers=3
    )
    slow = model.space_.decode(naive(model, 50, generator(5)))
    fast = model.sample(50, random_state=5)
    assert np.array_equal(slow, fast) and len(np.unique(fast)) == levels


def test_conditions_reach_draws_and_likelihoods() -> None:
    r = np.random.default_rng(0)
    y = r.integers(0, 2, 300)
    X = (r.random((300, 4, 4)) < np.where(y, 0.9, 0.1)[:, None, None]).astype(np.uint8)
    model = PixelCNN(6, 2, trainer=QUICK.replace(epochs=8), random_state=0).fit(X, given=y)
    for label in (0, 1):
        draws = model.sample(100, given=label, random_state=1)
        assert draws.mean() == pytest.approx(0.1 + 0.8 * label, abs=0.08)
    both = [model.log_prob(X, given=np.full(300, v)).nats for v in (0, 1)]
    assert ((both[1] > both[0]) == y).mean() > 0.97
    space = SPACES["binary"]
    conditional = made(space, given=r.normal(size=40))
    for g in (-1.0, 2.0):
        assert math.exp(
            logsumexp(conditional.log_prob(every(space), given=g).nats)
        ) == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="pass given="):
        conditional.sample(3)


@pytest.mark.parametrize("shape", [(1,), (3, 3)])
def test_conditions_far_from_0_keep_their_precision(shape: tuple[int, ...]) -> None:
    g = np.random.default_rng(0).normal(size=(100, *shape))
    X = (g.reshape(100, -1).mean(1)[:, None, None] + np.zeros((3, 3)) > 0).astype(np.uint8)
    near, far = (
        PixelCNN(4, 2, trainer=QUICK, random_state=0).fit(X, given=g + offset)
        for offset in (0, 1e8)
    )
    x, codes = torch.from_numpy(X).float(), torch.from_numpy(g + 1e8)
    with torch.no_grad():
        p, expected = far.log_likelihood(x, codes), near.log_likelihood(x, codes - 1e8)
    np.testing.assert_allclose(p, expected, atol=1e-3)
    np.testing.assert_allclose(far.log_prob(X, given=g + 1e8).nats, p, atol=1e-3)


def test_an_image_as_condition_is_used_pixel_by_pixel() -> None:
    X, G = noisy(200, 6, 0)
    test, told = noisy(100, 6, 1)
    quick = QUICK.replace(epochs=20)
    model = PixelCNN(8, 2, trainer=quick, random_state=0).fit(X, given=G)
    plain = PixelCNN(8, 2, trainer=quick, random_state=0).fit(X)
    # of 36 bits without order −25 nats, −11.7 given all of them with a tenth turned over
    assert model.log_prob(test, given=told).mean() > -14.5 > -24 > plain.score(test)
    drawn = model.sample(100, given=told, random_state=0)
    assert (drawn == told).mean() == pytest.approx(0.9, abs=0.03)
    turned = told.copy()
    turned[:, 2, 3] ^= 1
    moved = (model.sample(100, given=turned, random_state=0) != drawn).mean(0)
    assert moved[2, 3] > 0.6 and np.delete(moved.reshape(-1), 15).max() < 0.2


@pytest.mark.parametrize("shape", [(4, 5), (1, 4)])
def test_kept_activations_under_images_as_conditions(shape: tuple[int, int]) -> None:
    given = many_conditions(40, *shape)
    model = made(Space(shape, "binary", layout="HW"), given=given, n_layers=3)
    assert model.context_.n_channels == 1 + 3 and model.context_.width == 2 + 2
    codes = model.given_space_.encode(given)
    slow = model.space_.decode(naive(model, 40, generator(5), codes))
    assert np.array_equal(slow, model.sample(40, given=given, random_state=5))
    p = [
        model.log_prob(slow, given=given | {name: given[name][::-1]}).nats
        for name in ("picture", "labels", "small", "kind")
    ]
    assert all(np.abs(q - model.log_prob(slow, given=given).nats).max() > 1e-3 for q in p)


def shares(filled: np.ndarray, states: np.ndarray) -> np.ndarray:
    index = {s.tobytes(): i for i, s in enumerate(states)}
    return np.bincount([index[f.tobytes()] for f in filled], minlength=len(states)) / len(filled)


@pytest.mark.parametrize(
    ("observed", "particles", "bar"), [("upper", 1, 0.03), ("lower", 64, 0.04), ("lower", 1, None)]
)
def test_completion(observed: str, particles: int, bar: float | None) -> None:
    """The lower half given the upper is exact; particles make the other way round right."""
    space = SPACES["binary"]
    model, states = shaken(made(space, particles=particles), 0.6), every(space).astype(np.uint8)
    n = 2000
    row = np.array([[1, 0, 1], [1, 1, 0]], dtype=np.uint8)
    known = np.zeros((2, 3), dtype=bool)
    known[0 if observed == "upper" else 1] = True
    filled = model.complete(
        np.repeat(row[None], n, 0), mask=np.broadcast_to(~known, (n, 2, 3)), random_state=1
    ).astype(np.uint8)
    assert (filled[:, known] == row[known]).all()
    p = np.exp(model.score_samples(states)) * (states[:, known] == row[known]).all(1)
    distance = 0.5 * np.abs(p / p.sum() - shares(filled, states)).sum()
    assert distance < bar if bar else distance > 0.06


@pytest.mark.parametrize("observed", ["upper", "lower"])
def test_completions_hold_the_conditions_fixed(observed: str) -> None:
    space = SPACES["binary"]
    model, states = (
        made(space, given=np.random.default_rng(0).normal(size=40)),
        every(space).astype(np.uint8),
    )
    row, known = np.array([[1, 0, 1], [1, 1, 0]], dtype=np.uint8), np.zeros((2, 3), dtype=bool)
    known[0 if observed == "upper" else 1] = True
    g, truths = np.tile([-1.5, 1.5], 2000), []
    filled = model.complete(
        np.repeat(row[None], 4000, 0),
        mask=np.broadcast_to(~known, (4000, 2, 3)),
        given=g,
        random_state=1,
    )
    for i, value in enumerate((-1.5, 1.5)):
        p = np.exp(model.log_prob(states, given=value).nats) * (states[:, known] == row[known]).all(
            1
        )
        truths.append(p / p.sum())
        assert 0.5 * np.abs(truths[i] - shares(filled[i::2].astype(np.uint8), states)).sum() < 0.04
    assert 0.5 * np.abs(truths[0] - truths[1]).sum() > 0.1, (
        "the condition says nothing: this test could not fail"
    )
    with pytest.raises(ValueError, match="pass given="):
        model.complete(states[:3], mask=~known)


def test_particles_are_drawn_anew_between_rows() -> None:
    """Upper rows seen through the lowest: a chain of copies, observed in its last pixel only."""
    r = np.random.default_rng(0)
    X = np.repeat(r.integers(0, 2, (400, 8, 1)), 3, 2).astype(np.uint8)  # rows of one colour
    model = PixelCNN(8, 2, trainer=QUICK.replace(epochs=10), particles=32, random_state=0).fit(X)
    mask = np.ones((8, 3), dtype=bool)
    mask[:, 2] = False
    filled = model.complete(X[:50], mask=np.broadcast_to(mask, (50, 8, 3)), random_state=0)
    # 8 rows: 32 particles without new draws would seldom hold one that fits
    assert (filled == X[:50]).mean() > 0.95


def test_a_mixture_of_logistics() -> None:
    o = LogisticMixture(2, 7, 3)
    p = torch.randn(5, 2 * 9, generator=generator(0))
    x = torch.arange(7.0)[:, None, None].expand(7, 5, 2)
    log_p = o.log_prob(p, x)
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(5, 2))
    cells = p.reshape(5, 2, 9)
    one = Logistic(1, 7)
    by_hand = sum(
        torch.softmax(cells[..., :3], -1)[..., k]
        * one.log_prob(cells[..., 3 + 2 * k : 5 + 2 * k], x[..., None])[..., 0].exp()
        for k in range(3)
    )
    torch.testing.assert_close(log_p.exp(), by_hand)
    draws = o.sample(p[:1].expand(20_000, -1), generator(1))
    for j in range(2):
        seen = torch.bincount(draws[:, j].long(), minlength=7) / 20_000
        torch.testing.assert_close(seen, log_p[:, 0, j].exp(), atol=0.015, rtol=0)


def test_starts_at_the_shares_of_the_levels() -> None:
    X = np.random.default_rng(0).choice(4, (500, 5, 5), p=[0.6, 0.3, 0.1, 0.0])
    model = PixelCNN(4, 1, trainer=QUICK.replace(epochs=1, lr=1e-9), random_state=0).fit(
        X, space=Space((5, 5), "ordinal", levels=4, layout="HW")
    )
    counts = np.bincount(X.ravel(), minlength=4) / X.size
    entropy = -sum(c * math.log(c) for c in counts if c)
    assert -model.score(X) == pytest.approx(25 * entropy, rel=0.01)


def test_learns_what_independent_pixels_cannot() -> None:
    r = np.random.default_rng(0)
    X = np.cumsum(np.cumsum(r.random((300, 6, 6)) < 0.1, 1), 2) % 2
    model = PixelCNN(8, 2, trainer=QUICK.replace(epochs=15), random_state=0).fit(X.astype(np.uint8))
    assert model.score(X) > -18 > -23 > genus.Independent().fit(X).score(X)


def test_a_step_is_as_large_as_its_pixels() -> None:
    X = np.random.default_rng(0).integers(0, 2, (40, 5, 8)).astype(np.uint8)
    # which larger steps get unasked
    model = PixelCNN(4, 1, trainer=QUICK.replace(precision="bfloat16"), random_state=0).fit(X)
    model.rng = torch.Generator()
    run = Descent(model, Fit(Rows(torch.zeros(40, 5, 8))), QUICK, model.losses, None, "")
    assert 0.7 < run.count_work() / (20 * 40 * model.n_parameters()) < 1.1
    assert -model.score(X) < 1.1 * 40 * math.log(2)


def test_saved_and_loaded(tmp_path: Any) -> None:
    model = made(SPACES["colour"], given=np.arange(40) % 3)
    model.save(tmp_path / "m")
    again = genus.load(tmp_path / "m")
    assert np.array_equal(model.sample(5, given=1), again.sample(5, given=1))


def test_the_bar_shows_pixels(capfd: pytest.CaptureFixture[str]) -> None:
    model = made(SPACES["grey"]).set_params(trainer=QUICK.replace(progress=True))
    model.sample(3)
    assert "4/4 pixels" in " ".join(capfd.readouterr().err.split())
    model.set_params(trainer=QUICK).sample(3)
    assert capfd.readouterr().err == ""


def test_what_it_refuses() -> None:
    r = np.random.default_rng(0)
    with pytest.raises(ValueError, match="PixelCNN needs images.*use MADE"):
        PixelCNN().fit(r.normal(size=(20, 3)))
    with pytest.raises(ValueError, match="PixelCNN needs images.*use MADE"):
        PixelCNN().fit(r.normal(size=(20, 4, 4)))
    bits = r.integers(0, 2, (20, 3, 3))
    for args, says in [
        ({"kernel": 4}, "kernel=4: an odd number"),
        ({"channels": 0}, "channels=0: a whole number"),
        ({"likelihood": "gaussian"}, "likelihood='gaussian': 'auto', "),
        ({"dropout": 1.0}, "dropout=1.0"),
    ]:
        with pytest.raises(ValueError, match=says):
            PixelCNN(**args).fit(bits)
    with pytest.raises(
        ValueError,
        match="likelihood='bernoulli' does not suit X, which is ordinal: use categorical or "
        "logistic",
    ):
        PixelCNN(likelihood="bernoulli").fit(r.integers(0, 200, (20, 3, 3)))
