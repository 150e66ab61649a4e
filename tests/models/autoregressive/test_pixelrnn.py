"""The PixelRNN: what a pixel sees, probabilities that sum to 1, draws with kept states."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import logsumexp
from torch import Tensor

import genus
from genus import Exact, Space, Trainer
from genus.learn.rows import generator
from genus.models.autoregressive import pixelrnn
from genus.models.autoregressive.pixelrnn import LSTM, PixelRNN, skew, unskew
from raster import every, many_conditions, naive, noisy, sees, shaken

VARIANTS = ("diagonal", "row")
QUICK = Trainer(epochs=2, batch_size=20, lr=1e-2, validation=0.0, progress=False)
SPACES = {
    "grey": Space((2, 2), "ordinal", levels=4, layout="HW"),
    "binary": Space((3, 3), "binary", layout="HW"),
    "categorical": Space((2, 2), "categorical", levels=3, layout="HW"),
    "colour": Space((3, 1, 2), "ordinal", levels=3, layout="CHW"),
    "colour last": Space((2, 2, 3), "binary", layout="HWC"),
    "column": Space((4, 1), "binary", layout="HW"),
    "row": Space((4,), "binary"),
    "cell": Space((1,), "binary"),
}
both = pytest.mark.parametrize("variant", VARIANTS)


def made(
    space: Space, variant: str, likelihood: str = "auto", given: Any = None, **args: Any
) -> PixelRNN:
    rng = np.random.default_rng(0)
    X = rng.integers(0, space.levels, (40, *space.shape))
    settings: dict[str, Any] = {
        "channels": 4,
        "n_layers": 2,
        "n_components": 2,
        "trainer": QUICK.replace(max_steps=1),
        "random_state": 0,
    }
    model = PixelRNN(variant=variant, likelihood=likelihood, **(settings | args)).fit(
        X, space=space, given=given
    )
    return shaken(model)


CASES = [
    ("grey", "categorical"),
    ("grey", "logistic"),
    ("binary", "auto"),
    ("categorical", "auto"),
    ("colour", "logistic"),
    ("colour last", "auto"),
    ("column", "auto"),
    ("row", "auto"),
    ("cell", "auto"),
]


@both
@pytest.mark.parametrize(("name", "likelihood"), CASES)
def test_probabilities_of_all_images_sum_to_one(name: str, likelihood: str, variant: str) -> None:
    model = made(SPACES[name], variant, likelihood)
    p = model.log_prob(every(SPACES[name]))
    assert isinstance(p, Exact) and p.measure == "probability"
    assert math.exp(logsumexp(p.nats)) == pytest.approx(1, abs=1e-4)
    assert np.std(p.nats) > 0.1


# ---------------------------------------------------------------------- what a pixel sees


@both
@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 3, 3)])
def test_a_cell_sees_nothing_of_itself_or_after(shape: tuple[int, int, int], variant: str) -> None:
    model = made(Space(shape, "ordinal", levels=5, layout="CHW"), variant)
    c, h, w = shape
    for place in range(h * w):
        # in raster order, channels inside the pixel
        J = sees(model, place).permute(0, 2, 3, 1).reshape(c, -1)
        for k in range(c):
            assert (J[k, place * c + k :] == 0).all()
            assert (J[k, place * c : place * c + k] > 0).all(), "the channels before it"


def blind(model: PixelRNN) -> list[tuple[int, int, int, int]]:
    """(i, j, row, column) of what is before a pixel and not seen."""
    _, h, w = model._shape
    J = [sees(model, p)[0, 0].flatten() for p in range(h * w)]
    return [(p // w, p % w, q // w, q % w) for p in range(h * w) for q in range(p) if J[p][q] == 0]


def wide(variant: str, n_layers: int = 1) -> PixelRNN:
    """Of images wider than the first convolutions see."""
    return made(Space((4, 9), "binary", layout="HW"), variant, n_layers=n_layers)


def test_diagonals_see_all_that_is_before() -> None:
    assert blind(wide("diagonal")) == []
    assert (
        blind(made(Space((3, 3, 3), "ordinal", levels=5, layout="CHW"), "diagonal", n_layers=1))
        == []
    )


def without_right_to_left(net: Any, u: Tensor, layer: LSTM) -> Tensor:
    return unskew(pixelrnn.recur(skew(torch.stack(u.split(4 * net.f, -1))), layer), u.shape[2])[0]


def not_moved_down(net: Any, u: Tensor, layer: LSTM) -> Tensor:
    forth, back = u.split(4 * net.f, -1)
    h = unskew(pixelrnn.recur(skew(torch.stack([forth, back.flip(2)])), layer), u.shape[2])
    return h[0] + h[1].flip(2)


def not_skewed(net: Any, u: Tensor, layer: LSTM) -> Tensor:
    forth, back = u.split(4 * net.f, -1)
    columns = torch.stack([forth, back.flip(2)]).permute(3, 0, 1, 2, 4)
    # column after column: (i − 1, j − 1) instead of (i − 1, j)
    h = pixelrnn.recur(columns, layer).permute(1, 2, 3, 0, 4)
    return h[0] + F.pad(h[1, :, :-1].flip(2), (0, 0, 0, 0, 1, 0))


def test_each_part_of_the_diagonal_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wide("diagonal")
    network = type(model.network_)
    monkeypatch.setattr(network, "diagonals", without_right_to_left)
    gone = blind(model)
    assert gone and all(column > j + 3 for _, j, _, column in gone), "what is to the right"
    monkeypatch.setattr(network, "diagonals", not_moved_down)
    J = sees(model, 9 + 3)[0, 0].flatten()
    assert (J[9 + 3 :] > 0).any(), "the future"
    monkeypatch.undo()
    tall = made(Space((8, 2), "binary", layout="HW"), "diagonal", n_layers=1)
    assert blind(tall) == []
    monkeypatch.setattr(network, "diagonals", not_skewed)
    assert blind(tall), "far above"


def test_the_end_of_the_row_above_is_seen() -> None:
    """A row's last pixel is in no feature of the row: a place beyond the end tells the next."""
    model = wide("diagonal")
    J = sees(model, 2 * 9)[0, 0]
    assert J[1, 8] > 0
    network = model.network_
    network.beyond = 0
    network.place = torch.nn.Parameter(network.place[..., :-1].clone())
    assert sees(model, 2 * 9)[0, 0, 1, 8] == 0


@pytest.mark.parametrize(("n_layers", "kernel"), [(1, 3), (2, 3), (1, 5)])
def test_rows_see_a_triangle(n_layers: int, kernel: int) -> None:
    model = made(Space((8, 21), "binary", layout="HW"), "row", n_layers=n_layers, kernel=kernel)
    r, i, j = kernel // 2, 7, 10
    triangle = torch.zeros(8, 21, dtype=torch.bool)
    triangle[i, max(0, j - 3 - r * n_layers) : j] = True
    # wider by r a row; the first convolution sees 3 to each side, from one row above its own
    for above in range(1, i + 1):
        triangle[
            i - above, max(0, j - 3 - r * (n_layers + above)) : j + 3 + r * (above - 1) + 1
        ] = True
    assert torch.equal(sees(model, i * 21 + j)[0, 0] > 0, triangle)


@both
def test_states_reach_further_than_convolutions(variant: str) -> None:
    model = made(Space((8, 5), "binary", layout="HW"), variant, n_layers=1)
    assert (sees(model, 37)[0, 0, :4] > 0).any(1).all()
    with torch.no_grad():
        for layer in model.network_.stack:
            for state in layer.state:
                state.weight.zero_()
    alone = sees(model, 37)[0, 0, :3] > 0
    assert alone.any() == (variant == "row"), "c alone goes down the columns, or along a row"
    with torch.no_grad():
        for layer in model.network_.stack:
            for part, value in ((layer.input.weight, 0.0), (layer.input.bias, -1e9)):
                part.unflatten(0, (-1, 4, model.channels))[:, 1] = value  # forgets all
    assert (sees(model, 37)[0, 0, :3] == 0).all()


def by_hand(model: PixelRNN, z: Tensor, k: int) -> Tensor:
    """z of the next layer from z (H, W, 2f), place by place, from the equations alone."""
    layer, f, (H, W, _) = model.network_.stack[k], model.channels, z.shape
    diagonal = model.variant == "diagonal"

    def run(d: int, z: Tensor) -> dict[tuple[int, int], Tensor]:
        h, c = {}, {}
        zero = torch.zeros(f, dtype=z.dtype)
        for i, j in itertools.product(range(H), range(W)):
            places = [(i - 1, j), (i, j - 1)] if diagonal else [(i - 1, j + s) for s in (-1, 0, 1)]
            reads = [(i, j)] if diagonal else [(i, j - 1), (i, j)]
            K_is, b = (
                t.unflatten(0, (-1, 4 * f))[d] for t in (layer.input.weight, layer.input.bias)
            )
            a = K_is @ torch.cat([z[p] if p[1] >= 0 else z.new_zeros(2 * f) for p in reads]) + b
            a = a + layer.state[d].weight @ torch.cat([h.get(p, zero) for p in places])
            o, forget, i_gate, content = a.split(f)
            before = c.get((i, j - 1) if diagonal else (i - 1, j), zero)
            c[i, j] = torch.sigmoid(forget) * before + torch.sigmoid(i_gate) * torch.tanh(content)
            h[i, j] = torch.sigmoid(o) * torch.tanh(c[i, j])
        return h

    forth = run(0, z)
    back = run(1, z.flip(1)) if diagonal else {}
    out = z.clone()
    for i, j in itertools.product(range(H), range(W)):
        h = forth[i, j] + (back[i - 1, W - 1 - j] if diagonal and i else 0)
        out[i, j] = z[i, j] + layer.up.weight @ h
    return out


@both
def test_layers_are_their_equations(variant: str) -> None:
    model = made(Space((4, 5), "binary", layout="HW"), variant, channels=3)
    network = model.network_.double()
    x = torch.randn(1, 1, 4, 5, generator=generator(1), dtype=torch.float64)
    with torch.no_grad():
        v, h = network.first(x)
        z = (v + h)[0].permute(1, 2, 0)
        for k in range(2):
            z = by_hand(model, z, k)
        expected = network.cells(z[:, :5].permute(2, 0, 1)[None], x)
        torch.testing.assert_close(network(x), expected)


# ---------------------------------------------------------------------- draws


@both
@pytest.mark.parametrize(
    ("shape", "kind", "likelihood", "kernel"),
    [
        ((6, 6), "binary", "auto", 3),
        ((5, 7), "ordinal", "categorical", 5),
        ((3, 4, 5), "ordinal", "logistic", 3),
        ((3, 4, 5), "categorical", "auto", 3),
        ((6, 1), "ordinal", "auto", 3),
        ((7,), "ordinal", "auto", 3),
    ],
)
def test_kept_states_give_the_same_draws(
    shape: tuple[int, ...], kind: str, likelihood: str, kernel: int, variant: str
) -> None:
    layout = {1: None, 2: "HW", 3: "CHW"}[len(shape)]
    levels = 2 if kind == "binary" else 4
    model = made(
        Space(shape, kind, levels=levels, layout=layout),
        variant,
        likelihood,
        kernel=kernel,
        n_layers=3,
    )
    slow = model.space_.decode(naive(model, 10, generator(5)))
    fast = model.sample(10, random_state=5)
    assert np.array_equal(slow, fast) and len(np.unique(fast)) == levels


@both
@pytest.mark.parametrize("shape", [(2,), (4, 5)])
def test_kept_parameters_are_those_of_whole_passes(variant: str, shape: tuple[int, ...]) -> None:
    """Not the draws alone, which small errors would leave as they are.

    Under conditions too, numbers and images, and when images change places.
    """
    given = np.random.default_rng(1).normal(size=(40, *shape))
    model = made(Space((4, 5), "binary", layout="HW"), variant, given=given)
    network = model.network_.double()
    rng, size = generator(3), (6, 2) if shape == (2,) else (6, 1, 4, 5)
    g = torch.randn(size, generator=generator(4), dtype=torch.float64)
    target = torch.randint(2, (6, 1, 4, 5), generator=rng).double()
    swap = torch.tensor([1, 0, 2, 2, 4, 5])
    g[1], g[3] = g[0], g[2]  # images change places within one condition only
    told: dict[tuple[int, int], Tensor] = {}

    def value(i: int, j: int, c: int, p: Tensor) -> Tensor:
        told[i, j] = p[:, 0]
        return target[:, 0, i, j]

    with torch.no_grad():
        x = network.in_order(6, model._features, value, (g,), lambda i: swap if i == 1 else None)
        expected = torch.cat([target[swap, :, :2], target[:, :, 2:]], 2)
        assert torch.equal(x, expected)
        before, after = (network(model._features(v), g)[:, 0] for v in (target, expected))
    for (i, j), p in told.items():
        torch.testing.assert_close(p, (before if i < 2 else after)[:, i, j])


@both
def test_conditions_reach_draws_likelihoods_and_completions(variant: str) -> None:
    r = np.random.default_rng(0)
    y = r.integers(0, 2, 300)
    X = (r.random((300, 4, 4)) < np.where(y, 0.9, 0.1)[:, None, None]).astype(np.uint8)
    model = PixelRNN(4, 1, variant, trainer=QUICK.replace(epochs=5, lr=2e-2), random_state=0).fit(
        X, given=y
    )
    for label in (0, 1):
        assert model.sample(100, given=label, random_state=1).mean() == pytest.approx(
            0.1 + 0.8 * label, abs=0.1
        )
        assert model.complete(
            X[:100], mask=np.ones_like(X[:100]), given=label
        ).mean() == pytest.approx(0.1 + 0.8 * label, abs=0.1)
    likelier = model.log_prob(X, given=1).nats > model.log_prob(X, given=0).nats
    assert (likelier == y).mean() > 0.97
    with pytest.raises(ValueError, match="this PixelRNN models.*pass given="):
        model.sample(3)


@both
def test_an_image_as_condition_is_used_pixel_by_pixel(variant: str) -> None:
    X, G = noisy(200, 6, 0)
    test, told = noisy(100, 6, 1)
    quick = QUICK.replace(epochs=15)
    model = PixelRNN(6, 1, variant, trainer=quick, random_state=0).fit(X, given=G)
    # of 36 bits without order −25 nats, −11.7 given all of them with a tenth turned over
    assert model.log_prob(test, given=told).mean() > -14.5
    drawn = model.sample(100, given=told, random_state=0)
    assert (drawn == told).mean() == pytest.approx(0.9, abs=0.03)


@both
@pytest.mark.parametrize("shape", [(4, 5), (1, 4), (4, 1)])
def test_kept_states_under_images_as_conditions(shape: tuple[int, int], variant: str) -> None:
    given = many_conditions(40, *shape)
    model = made(Space(shape, "binary", layout="HW"), variant, given=given)
    codes = model.given_space_.encode(given)
    slow = model.space_.decode(naive(model, 40, generator(5), codes))
    assert np.array_equal(slow, model.sample(40, given=given, random_state=5))
    moved = given | {"picture": given["picture"][::-1]}
    p, q = (model.log_prob(slow, given=g).nats for g in (given, moved))
    assert np.abs(p - q).max() > 1e-3


def shares(filled: np.ndarray, states: np.ndarray) -> np.ndarray:
    index = {s.tobytes(): i for i, s in enumerate(states)}
    return np.bincount([index[f.tobytes()] for f in filled], minlength=len(states)) / len(filled)


@both
@pytest.mark.parametrize(
    ("observed", "particles", "bar"), [("upper", 1, 0.04), ("lower", 32, 0.05), ("lower", 1, None)]
)
def test_completion(observed: str, particles: int, bar: float | None, variant: str) -> None:
    """What follows given what is before is exact; particles make the other way round right."""
    space = Space((3, 2), "binary", layout="HW")
    model, states = (
        made(space, variant, particles=particles, channels=3),
        every(space).astype(np.uint8),
    )
    n = 2000
    row = np.array([[1, 0], [0, 1], [0, 0]], dtype=np.uint8)
    known = np.zeros((3, 2), dtype=bool)
    known.flat[:3] = True
    known = known if observed == "upper" else ~known
    filled = model.complete(
        np.repeat(row[None], n, 0), mask=np.broadcast_to(~known, (n, 3, 2)), random_state=1
    ).astype(np.uint8)
    assert (filled[:, known] == row[known]).all()
    p = np.exp(model.score_samples(states)) * (states[:, known] == row[known]).all(1)
    distance = 0.5 * np.abs(p / p.sum() - shares(filled, states)).sum()
    assert distance < bar if bar else distance > 0.06


# ---------------------------------------------------------------------- learning, files, refusals


@both
def test_learns_what_independent_pixels_cannot(variant: str) -> None:
    r = np.random.default_rng(0)
    X = np.cumsum(np.cumsum(r.random((300, 6, 6)) < 0.1, 1), 2) % 2
    model = PixelRNN(6, 1, variant, trainer=QUICK.replace(epochs=6, lr=4e-2), random_state=0).fit(
        X.astype(np.uint8)
    )
    assert model.score(X) > -18 > -23 > genus.Independent().fit(X).score(X)


@both
def test_starts_at_the_shares_of_the_levels(variant: str) -> None:
    X = np.random.default_rng(0).choice(4, (500, 5, 5), p=[0.6, 0.3, 0.1, 0.0])
    space = Space((5, 5), "ordinal", levels=4, layout="HW")
    model = PixelRNN(4, 1, variant, trainer=QUICK.replace(epochs=1, lr=1e-9), random_state=0).fit(
        X, space=space
    )
    counts = np.bincount(X.ravel(), minlength=4) / X.size
    assert -model.score(X) == pytest.approx(
        -25 * sum(c * math.log(c) for c in counts if c), rel=0.01
    )


@both
def test_half_precision_while_training(variant: str) -> None:
    X = np.random.default_rng(0).integers(0, 2, (40, 5, 8)).astype(np.uint8)
    half = QUICK.replace(precision="bfloat16")  # which large steps get unasked
    model = PixelRNN(4, 1, variant, trainer=half, random_state=0).fit(X)
    assert -model.score(X) < 1.1 * 40 * math.log(2)


@both
def test_saved_and_loaded(tmp_path: Any, variant: str) -> None:
    model = made(SPACES["colour"], variant, given=np.arange(40) % 3)
    model.save(tmp_path / "m")
    again = genus.load(tmp_path / "m")
    assert again.variant == variant and np.array_equal(
        model.sample(5, given=1), again.sample(5, given=1)
    )


def test_the_bar_shows_pixels(capfd: pytest.CaptureFixture[str]) -> None:
    made(SPACES["grey"], "row").set_params(trainer=QUICK.replace(progress=True)).sample(3)
    said = " ".join(capfd.readouterr().err.split())
    assert "PixelRNN" in said and "4/4 pixels" in said


def test_what_it_refuses() -> None:
    r = np.random.default_rng(0)
    with pytest.raises(ValueError, match="PixelRNN needs images.*use MADE"):
        PixelRNN().fit(r.normal(size=(20, 3)))
    bits = r.integers(0, 2, (20, 3, 3))
    for args, says in [
        ({"variant": "column"}, "variant='column': 'diagonal' or 'row' is needed"),
        ({"kernel": 4}, "kernel=4: an odd number"),
        ({"channels": 0}, "channels=0: a whole number"),
        ({"likelihood": "gaussian"}, "likelihood='gaussian': 'auto', "),
        ({"dropout": 1.0}, "dropout=1.0"),
    ]:
        with pytest.raises(ValueError, match=says):
            PixelRNN(**args).fit(bits)
