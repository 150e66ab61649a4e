"""The transformer: what depends on what, normalisation, caches, orders, completion."""

from __future__ import annotations

import copy
import itertools
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import genus
from genus import AutoregressiveTransformer, Space, Trainer
from genus.learn.rows import generator
from genus.models.autoregressive import transformer
from genus.networks.attention import Block

QUICK = Trainer(epochs=4, batch_size=50, lr=1e-2, validation=0.0, progress=False)
VARIANTS: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary": {"positions": "rotary"},
    "any-order": {"any_order": True},
    "any-order-rotary": {"any_order": True, "positions": "rotary"},
}
every = pytest.mark.parametrize("variant", VARIANTS)


def made(variant: str = "learned", **args: Any) -> AutoregressiveTransformer:
    settings: dict[str, Any] = {
        "n_components": 3,
        "dropout": 0.0,
        "trainer": QUICK,
        "random_state": 0,
    }
    return AutoregressiveTransformer(16, 2, 2, **(settings | VARIANTS[variant] | args))


def bits(n: int = 200, d: int = 10) -> np.ndarray:
    r = np.random.default_rng(0)
    return (r.random((n, 1)) < r.random((n, d))).astype(np.uint8)


def images(n: int = 200, side: int = 2) -> np.ndarray:
    r = np.random.default_rng(1)
    return (r.integers(0, 3, (n, 1, 1)) + r.integers(0, 2, (n, side, side))).astype(np.int64)


def mixed(n: int = 200) -> pd.DataFrame:
    r = np.random.default_rng(2)
    a = r.integers(0, 3, n)
    return pd.DataFrame(
        {
            "word": np.array(["x", "y", "z"])[a],
            "real": a + 0.3 * r.normal(size=n),
            "flag": a > 0,
            "count": 400 * a + r.integers(0, 50, n),
        }
    )


def stirred(model: AutoregressiveTransformer) -> AutoregressiveTransformer:
    """Large random weights, so that whatever can depend on something does."""
    rng = generator(4)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=rng, dtype=p.dtype))
    return model


# ---------------------------------------------------------------------- the factorisation


@every
def test_cells_depend_on_those_before_them_in_every_order(variant: str) -> None:
    X = np.random.default_rng(0).normal(size=(60, 4))
    any_order = "any" in variant
    models = [stirred(made(variant).fit(X))] if any_order else []
    for order in itertools.permutations(range(4)):
        m = (
            models[0]
            if any_order
            else stirred(made(variant, order=order, trainer=QUICK.replace(max_steps=1)).fit(X))
        )
        assert any_order or m.order_.tolist() == list(order)
        m = m.double()
        x = torch.from_numpy(X[:2])
        # of everything a cell's conditional is made of
        r = torch.rand(9, generator=generator(0), dtype=torch.float64)
        J = torch.autograd.functional.jacobian(
            lambda x, m=m, o=torch.tensor([order]), r=r: (m.parameters_of(x, o) @ r).sum(0), x
        )
        depends = J.abs().amax(1) > 1e-12  # (d, n, d)
        place = np.argsort(order)
        assert depends.tolist() == (place[:, None] > place[None]).tolist()


@every
def test_probabilities_sum_to_one(variant: str) -> None:
    states = np.array(list(itertools.product((0, 1), repeat=10)), dtype=np.uint8)
    assert np.exp(stirred(made(variant).fit(bits())).score_samples(states)).sum() == pytest.approx(
        1, abs=1e-5
    )
    grid = np.array(list(itertools.product(range(4), repeat=4))).reshape(-1, 2, 2)
    m = stirred(made(variant).fit(images(), space=Space((2, 2), "ordinal", 4, layout="HW")))
    assert np.exp(m.score_samples(grid)).sum() == pytest.approx(1, abs=1e-5)
    if m.any_order:  # in each of the 24 orders
        x = torch.from_numpy(grid.reshape(-1, 4)).double()
        with torch.no_grad():
            for order in itertools.permutations(range(4)):
                assert m.log_likelihood(x, torch.tensor([order])).exp().sum() == pytest.approx(
                    1, abs=1e-5
                )


def test_a_whole_number_of_many_levels_has_the_mass_around_it() -> None:
    X = np.random.default_rng(0).integers(-50, 950, (300, 1)) // np.array([1, 2])
    m = made().fit(X)
    assert bool(m.many.all())
    x = torch.cartesian_prod(torch.arange(-4000.0, 5000.0), torch.tensor([7.0]))
    with torch.no_grad():
        p = m.parameters_of(x)[:, :1]
        assert m._log_cells(p, x[:, :1], torch.tensor([[0]])).exp().sum() == pytest.approx(
            1, abs=1e-4
        )
    S = m.sample(200)
    assert S.dtype == X.dtype and S.min() >= X.min() - 200 and S[:, 1].max() < 600
    assert m.score(X) == pytest.approx(-np.log(1000) - np.log(500), abs=1.0)


# ---------------------------------------------------------------------- caches


@every
def test_cached_steps_are_the_full_forward(variant: str) -> None:
    """To 1e-6 in float32, as it is learned, and with any weights to the rounding of float64."""
    m = made(variant).fit(images(side=4))
    x = m.space_.encode(images(8, 4)).flatten(1).float()
    order = (
        torch.stack([torch.randperm(16, generator=generator(i)) for i in range(8)])
        if m.any_order
        else m.order_[None]
    )
    with torch.no_grad():
        for dtype, far in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
            m = m if dtype == torch.float32 else stirred(m.double())
            whole = m.parameters_of(x, order)
            assert whole.dtype == dtype
            cache = [torch.zeros(2, 8, 2, 16, 8, dtype=dtype) for _ in m.blocks_]
            for t in [0, *range(5, 16)]:  # the first five at once
                h = m._attend(m._seen(x), order, None, t, t + 1 if t else 5, cache)[:, -1]
                j = order[:, t if t else 4].expand(8)
                one = whole[torch.arange(8), j]
                assert (
                    (h @ m.head_[0].T + m.bias_[j] - one).abs() / one.abs().clamp_min(1)
                ).max() < far


@pytest.mark.parametrize("X", [bits(), images(side=3), mixed()], ids=["bits", "images", "mixed"])
@every
def test_cached_draws_are_the_naive_ones(variant: str, X: Any) -> None:
    m = made(variant, order="learned").fit(X)
    empty = torch.full((40, m.space_.dim), torch.nan, dtype=torch.float64)
    some = m.space_.encode(X[:40]).flatten(1).double()
    some[:, 1] = torch.nan
    for x, k in ((empty, 1), (some, 8)):
        with torch.no_grad():
            fast, slow = (
                m._fill(x, m.order_[None], generator(3), k=k, cached=c) for c in (True, False)
            )
        torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
        assert not fast.isnan().any()


def test_caches_take_each_cell_once(monkeypatch: pytest.MonkeyPatch) -> None:
    m, count, forward = made().fit(images(side=4)), 0, Block.forward

    def counted(self: Block, h: Tensor, *more: Any) -> Tensor:
        nonlocal count
        count += h.shape[1]
        return forward(self, h, *more)

    monkeypatch.setattr(Block, "forward", counted)
    m.sample(3)
    assert count == m.depth * 16
    count = 0
    m.complete(images(3, 4), mask=np.arange(16).reshape(4, 4) >= 8)  # the upper half in one go
    assert count == m.depth * 16


def test_pieces_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    X = mixed()
    m = made().fit(X, given=X.index.to_numpy() % 2)
    whole = m.log_prob(X, given=1).nats
    monkeypatch.setattr(transformer, "TOKENS", 28)
    monkeypatch.setattr(transformer, "CACHE", 8 * m.depth * m.width * 4 * 30)
    np.testing.assert_allclose(m.log_prob(X, given=1).nats, whole, atol=1e-4)
    assert len(m.sample(100, given=np.arange(100) % 2)) == 100


def test_conditions_far_from_0_keep_their_precision() -> None:
    g = np.random.default_rng(0).normal(size=(200, 1))
    X = mixed()
    near, far = (made().fit(X, given=g + offset) for offset in (0, 1e8))
    x, codes = near.space_.encode(X).double(), torch.from_numpy(g + 1e8)
    with torch.no_grad():
        p, expected = (
            far.log_likelihood(x, given=codes),
            near.log_likelihood(x, given=codes - 1e8),
        )
    np.testing.assert_allclose(p, expected, atol=1e-2)
    np.testing.assert_allclose(far.log_prob(X, given=g + 1e8).nats, p, atol=1e-2)


def test_the_bar_counts_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    m = made().fit(images(side=4))
    m.sample(2)
    assert "pixels" not in capsys.readouterr().err
    m.trainer = QUICK.replace(progress=True)
    m.sample(2)
    assert "16/16 pixels" in capsys.readouterr().err


# ---------------------------------------------------------------------- what it learns


def repeated(n: int = 400, d: int = 9, lag: int = 3) -> np.ndarray:
    """Each bit is that of ``lag`` cells before."""
    return np.tile(np.random.default_rng(3).integers(0, 2, (n, lag)), (1, d // lag)).astype(
        np.uint8
    )


@cache
def repeater(variant: str) -> AutoregressiveTransformer:
    return made(variant, trainer=QUICK.replace(epochs=50 if variant == "any-order" else 15)).fit(
        repeated()
    )


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_positions_tell_where_a_cell_is(positions: str) -> None:
    m = copy.deepcopy(repeater(positions))
    assert m.score(repeated(50)) > -3 * np.log(2) - 0.3
    taken = ["target_", "angles"][positions == "rotary"]
    with torch.no_grad():
        getattr(m, taken).zero_()
    assert m.score(repeated(50)) < -3 * np.log(2) - 0.6


def test_any_order_completes_what_comes_first() -> None:
    m, only = repeater("any-order"), repeater("learned")
    asked = repeated(40)
    # 6 given the last 3, …
    for mask in (np.arange(9) < 6, np.arange(9) % 2 == 0, np.arange(9) >= 3):
        assert (m.complete(asked, mask=mask, random_state=0) == asked).mean() > 0.97
    x, backwards = torch.from_numpy(asked).float(), torch.arange(9).flip(0)[None]
    with torch.no_grad():
        assert m.log_likelihood(x, backwards).mean() > only.log_likelihood(x, backwards).mean() + 1


def test_particles_complete_what_comes_first() -> None:
    m = repeater("learned")
    asked = repeated(40)
    for mask in (np.arange(9) < 3, np.arange(9) % 4 != 0):
        known = np.zeros(9, dtype=bool)
        known[~mask] = True
        filled = m.complete(asked, mask=mask, random_state=0)
        assert (filled[:, known] == asked[:, known]).all()
        assert m.score(filled) > -3 * np.log(2) - 0.6  # rows that agree with themselves
    assert (m.complete(asked, mask=np.arange(9) < 3, random_state=0) == asked).mean() > 0.97


def test_an_order_is_declared_or_learned() -> None:
    r = np.random.default_rng(0)
    a = r.integers(0, 2, 400)
    X = pd.DataFrame(
        {
            "noise": r.normal(size=400),
            "weak": a ^ (r.random(400) < 0.2),
            "copy": 3.0 * a + 0.1 * r.normal(size=400),
            "a": a,
        }
    )
    assert made(order=["a", "noise", "copy", "weak"]).fit(X).order_.tolist() == [3, 0, 2, 1]
    learned = made(order="learned").fit(X).order_.tolist()
    assert set(learned[:2]) == {2, 3} and learned[2:] == [1, 0]
    assert made(order=np.array([3, 1, 0, 2])).fit(X).order_.tolist() == [3, 1, 0, 2]


def test_what_is_read_as_a_number() -> None:
    """A column of 70 levels has no logit for each; a pixel or token, which shares them, has."""
    r = np.random.default_rng(0)
    once = QUICK.replace(max_steps=1)
    table = pd.DataFrame(
        {"age": r.integers(20, 90, 60), "children": r.integers(0, 5, 60), "real": r.normal(size=60)}
    )
    m = made(trainer=once).fit(table)
    assert (m.many.tolist(), m.real.tolist()) == ([True, True, False], [True, True, True])
    stated = {"age": "ordinal", "children": "ordinal"}
    m = made(trainer=once).fit(table, space=stated)
    assert (m.many.tolist(), m.real.tolist()) == ([True, False, False], [True, False, True])
    assert (
        not made(trainer=once)
        .fit(r.integers(0, 70, (60, 4, 4)), space=Space((4, 4), "ordinal", 70, layout="HW"))
        .many.any()
    )
    assert made(trainer=once).fit(r.integers(0, 70, (60, 3)), space="ordinal").many.all()
    assert not made(trainer=once).fit(r.integers(0, 70, (60, 80)), space="ordinal").many.any()


def test_channels_of_a_pixel_come_together_in_any_layout() -> None:
    X = np.random.default_rng(0).integers(0, 4, (60, 3, 4, 4)).astype(np.uint8)
    kind: dict[str, Any] = {"kind": "ordinal", "levels": 4}
    first, last = (
        made().fit(x, space=Space(x.shape[1:], layout=layout, **kind))
        for x, layout in ((X, "CHW"), (X.transpose(0, 2, 3, 1), "HWC"))
    )
    assert first.order_[:4].tolist() == [0, 16, 32, 1]
    np.testing.assert_array_equal(
        first.score_samples(X), last.score_samples(X.transpose(0, 2, 3, 1))
    )
    np.testing.assert_array_equal(first.sample(5).transpose(0, 2, 3, 1), last.sample(5))
    named = made(order=np.arange(48)).fit(
        X.transpose(0, 2, 3, 1), space=Space((4, 4, 3), layout="HWC", **kind)
    )
    assert named.order_.tolist() == last.order_.tolist()


def test_conditions_say_which_class(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    y = r.integers(0, 3, 300)
    words = np.array(["a", "b", "c"])[y]
    X = (r.random((300, 4)) < np.array([0.05, 0.5, 0.95])[y, None]).astype(np.uint8)
    m = made(trainer=QUICK.replace(epochs=12)).fit(X, given=words)
    states = np.array(list(itertools.product((0, 1), repeat=4)), dtype=np.uint8)
    for c, rate in (("a", 0.05), ("b", 0.5), ("c", 0.95)):
        assert np.exp(m.log_prob(states, given=c).nats).sum() == pytest.approx(1, abs=1e-5)
        assert m.sample(400, given=c, random_state=1).mean() == pytest.approx(rate, abs=0.08)
    assert (
        m.log_prob(X, given=words).mean()
        > made(trainer=QUICK.replace(epochs=12)).fit(X).score(X) + 0.3
    )
    m.save(tmp_path / "m.genus")
    np.testing.assert_array_equal(
        genus.load(tmp_path / "m.genus").log_prob(X, given=words).nats,
        m.log_prob(X, given=words).nats,
    )
    with pytest.raises(ValueError, match="pass given="):
        m.sample(2)
    with pytest.raises(ValueError, match="pass given="):
        m.complete(X, mask=X == 1)


def shares(X: np.ndarray) -> np.ndarray:
    return np.bincount(
        X.astype(int) @ (1 << np.arange(X.shape[1])[::-1]), minlength=1 << X.shape[1]
    ) / len(X)


def distances(
    m: AutoregressiveTransformer, mask: list[bool], given: tuple[float, ...] = (), n: int = 1000
) -> list[float]:
    """Total variation of completions from p(missing | observed, given), for each condition."""
    states = np.array(list(itertools.product((0, 1), repeat=len(mask))), dtype=np.uint8)
    fits, out, many = (states[:, ~np.array(mask)] == 1).all(1), [], max(1, len(given))
    g = {"given": np.tile(given, n)} if given else {}
    filled = m.complete(
        np.ones((n * many, len(mask)), dtype=np.uint8),
        mask=np.tile(mask, (n * many, 1)),
        random_state=0,
        **g,
    )
    for i in range(many):
        p = np.exp(m.log_prob(states, **({"given": given[i]} if given else {})).nats) * fits
        out.append(0.5 * np.abs(p / p.sum() - shares(filled[i::many])).sum())
    return out


@pytest.mark.parametrize("variant", ["learned", "any-order"])
def test_completions_hold_the_conditions_fixed(variant: str) -> None:
    m = stirred(
        made(variant, particles=32, n_orders=2).fit(
            bits(200, 4), given=np.random.default_rng(0).normal(size=200)
        )
    )
    # exact in the order as it is, and by particles
    for mask in ([False, False, True, True], [True, False, True, False]):
        assert max(distances(m, mask, given=(-1.5, 1.5))) < 0.06
    X = np.ones((400, 4), dtype=np.uint8)
    low, high = (
        m.complete(X, mask=[False, True, True, True], given=g, random_state=0).mean(0)
        for g in (-1.5, 1.5)
    )
    assert np.abs(low - high).max() > 0.1, "the condition says nothing: this test could not fail"


def test_orders_are_averaged_as_probabilities() -> None:
    X = bits(200, 4)
    m = stirred(made("any-order", n_orders=3).fit(X))
    assert (
        m.orders_.shape == (3, 4)
        and m.orders_[0].tolist() == [0, 1, 2, 3]
        and len(m.orders_.unique(dim=0)) == 3
    )
    with torch.no_grad():
        each = torch.stack(
            [m.log_likelihood(torch.from_numpy(X).float(), o[None]) for o in m.orders_]
        ).numpy()
    assert np.abs(each[0] - each[1]).max() > 0.1
    np.testing.assert_allclose(m.score_samples(X), np.log(np.exp(each).mean(0)), rtol=1e-5)
    states = np.array(list(itertools.product((0, 1), repeat=4)), dtype=np.uint8)
    p = np.exp(m.score_samples(states))
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert 0.5 * np.abs(p - shares(m.sample(4000, random_state=0))).sum() < 0.04
    first = np.exp(
        m.set_params(n_orders=1).log_likelihood(torch.from_numpy(states).float()).detach().numpy()
    )
    assert 0.5 * np.abs(first - p).sum() > 0.06, "the orders agree: this test could not fail"


def test_any_order_completes_by_what_log_prob_says() -> None:
    """Orders of large random weights agree about nothing: picking the one that suits is wrong."""
    m = stirred(made("any-order", particles=16).fit(bits(200, 4)))
    mask = [True, False, True, False]
    assert distances(m, mask)[0] < 0.1 < 0.25 < distances(m.set_params(particles=1), mask)[0]


def test_real_cells_may_have_several_modes() -> None:
    r = np.random.default_rng(0)
    sign = r.choice([-1.0, 1.0], 500)
    X = np.stack([r.normal(size=500), 100 + 10 * (sign + 0.1 * r.normal(size=500))], 1)
    three, one = (
        made(n_components=k, marginals="affine", trainer=QUICK.replace(epochs=12)).fit(X).score(X)
        for k in (3, 1)
    )
    assert three > one + 0.8
    assert three == pytest.approx(-0.5 * np.log(2 * np.pi * np.e) * 2 - np.log(2), abs=0.25)


def test_dropout_is_for_training() -> None:
    m = stirred(made(dropout=0.5).fit(bits(50)))
    x, values = torch.from_numpy(bits(20)).float(), []
    for training in (True, True, False, False):
        m.train(training)
        values.append(float((next(iter(m.losses(x)))[1] if training else m.validate(x)).detach()))
        for layer in m.modules():
            if hasattr(layer, "rng"):
                layer.rng = generator(len(values))
    assert values[0] != values[1] and values[2] == values[3]


@every
def test_half_precision(variant: str) -> None:
    half, whole = (
        made(variant, trainer=QUICK.replace(precision=p)).fit(mixed()).score(mixed())
        for p in ("bfloat16", "float32")
    )
    assert half != whole and half == pytest.approx(whole, abs=0.3)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"width": 10, "heads": 4}, "width=10 does not fall into heads=4"),
        ({"width": 6, "heads": 2, "positions": "rotary"}, "even size"),
        ({"depth": 0}, "depth=0: a whole number"),
        ({"particles": 0}, "particles=0: a whole number"),
        ({"any_order": True, "n_orders": 1.5}, "n_orders=1.5: a whole number"),
        ({"positions": "sine"}, "positions='sine': 'learned' or 'rotary'"),
        ({"order": [0, 1, 1]}, "every one of the 10 cells is needed once"),
        ({"order": "best"}, "'learned', a list of all columns, by name or number, or None"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_arguments_out_of_range(args: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made().set_params(**args).fit(bits())


# ---------------------------------------------------------------------- columns as they are


def many_words(n: int = 600) -> pd.DataFrame:
    """5000 categories, of which few are common; the common ones say what the number is."""
    r = np.random.default_rng(4)
    code = np.where(r.random(n) < 0.8, r.integers(0, 3, n), r.integers(0, 5000, n))
    names = np.array([f"w{i}" for i in range(5000)])
    word = pd.Categorical(names[code], categories=names)
    return pd.DataFrame({"word": word, "x": np.minimum(code, 3) + 0.1 * r.normal(size=n)})


def test_rare_ones_of_very_many_words_share_a_logit(tmp_path: Path) -> None:
    X = many_words()
    m = made(trainer=QUICK.replace(epochs=20)).fit(X)
    assert int(m.levels[0]) == 1024 == m.bias_.shape[1]
    one = X.iloc[[0] * 5000].assign(word=X["word"].cat.categories)
    one["word"] = one["word"].astype(X["word"].dtype)
    assert np.exp(m.log_prob(one[["word", "x"]].assign(x=np.nan)).nats).sum() == pytest.approx(
        1, abs=1e-5
    )
    S = m.sample(500, random_state=0)
    assert S["word"].isin(["w0", "w1", "w2"]).mean() == pytest.approx(0.8, abs=0.08)
    assert S["word"].nunique() > 30
    m.save(tmp_path / "m.genus")
    again = genus.load(tmp_path / "m.genus")
    assert np.array_equal(again.log_prob(X[:9]).nats, m.log_prob(X[:9]).nats)


@every
def test_numbers_and_words_beyond_those_seen_are_scored(variant: str) -> None:
    m = made(variant).fit(mixed())
    X = mixed(3).assign(word=["x", "never", "z"], count=[1, 100, 2000])
    X["real"] = [0.5, 40.0, np.nan]
    p, own = m.log_prob(X).nats, genus.Independent().fit(mixed()).log_prob(X).nats
    # the last of flag and word may be certain of what it says
    assert np.isfinite(p).all() and (p > own + 2 * np.log(0.01) - 12).all()


@every
def test_probabilities_of_what_is_observed_sum_to_one(variant: str) -> None:
    m = stirred(made(variant).fit(bits(d=5)))
    states = np.full((8, 5), np.nan)
    states[:, [0, 2, 3]] = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    assert np.exp(m.log_prob(states).nats).sum() == pytest.approx(1, abs=1e-5)


def test_gaps_come_last_where_any_order_may() -> None:
    """Their values change nothing, so that p(observed) is the model's own."""
    m = stirred(made("any-order").fit(bits(d=4)))
    x = torch.tensor([[1.0, torch.nan, 0.0, 1.0]])
    order = m._gaps_last(x, torch.tensor([[1, 3, 0, 2]]))
    assert order.tolist() == [[3, 0, 2, 1]]
    parts = [m.log_likelihood(torch.tensor([[1.0, v, 0.0, 1.0]]), order).exp() for v in (0.0, 1.0)]
    assert float(sum(parts)) == pytest.approx(float(m.log_likelihood(x, order).exp()), rel=1e-5)


@pytest.mark.parametrize(
    "gaps", [pytest.param(False, marks=pytest.mark.full), True], ids=["whole", "with gaps"]
)
@pytest.mark.parametrize("variant", ["learned", "any-order"])
def test_what_is_missing_is_left_out(variant: str, gaps: bool) -> None:
    X = mixed(400)
    if gaps:
        X["real"] = X["real"].mask(np.arange(400) % 3 == 0)
    quick = QUICK.replace(epochs=40)
    m = made(variant, trainer=quick).fit(X)
    seen = ["word", "flag", "count"]
    alone = made(variant, trainer=quick).fit(X[seen])
    rows = mixed(300).assign(real=np.nan)
    assert m.score(rows) == pytest.approx(alone.score(rows[seen]), abs=0.35)


@pytest.mark.parametrize("variant", ["learned", "any-order"])
@pytest.mark.parametrize("last", [False, True])
def test_many_completions_are_one_pass(variant: str, last: bool) -> None:
    m = stirred(made(variant, particles=256).fit(bits(d=6)))
    row = torch.from_numpy(bits(1, 6)).double()
    gaps = [4, 5] if last else [0, 2]
    seen = row.clone()
    seen[:, gaps] = torch.nan
    filled = m._complete_many(seen.repeat(2, 1), 1500, generator(0))
    assert filled.shape == (1500, 2, 6) and (filled[..., [1, 3]] == row[:, [1, 3]]).all()
    states = row.repeat(4, 1)
    states[:, gaps] = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0)).double()
    p = np.exp(m.log_prob(states.numpy()).nats)
    places = (filled[:, 1][:, gaps] @ torch.tensor([2.0, 1.0]).double()).long()
    shares = torch.bincount(places, minlength=4).numpy() / 1500
    assert 0.5 * np.abs(shares - p / p.sum()).sum() < 0.08


def test_a_model_of_any_order_is_saved_and_loads(tmp_path: Path) -> None:
    X = np.random.default_rng(0).integers(0, 3, (60, 4))
    model = AutoregressiveTransformer(
        8, 1, 2, any_order=True, n_orders=3, trainer=QUICK, random_state=0
    ).fit(X)
    model.save(tmp_path / "m.genus")
    again = genus.load(tmp_path / "m.genus")
    assert np.array_equal(again.log_prob(X).nats, model.log_prob(X).nats) and torch.equal(
        again.orders_, model.orders_
    )
