"""Rows as the critic sees them, and rows of a generator's numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from genus import Space
from genus.learn.rows import generator
from genus.models.adversarial.sight import Sight

NAN = float("nan")


def table() -> pd.DataFrame:
    r = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "word": np.array(["a", "b", "c"])[r.integers(0, 3, 300)],
            "flag": r.random(300) < 0.3,
            "size": np.exp(r.normal(size=300)),
            "count": r.poisson(3, 300),
        }
    )


def sight_of(
    X: object, gaps: list[int] | None = None, **more: object
) -> tuple[Sight, torch.Tensor]:
    space = Space.of(X)
    codes = space.encode(X).float().flatten(1)
    sight = Sight(space, gaps or [], **more)
    sight.fit(codes)
    return sight, codes


def test_levels_fill_minus_one_to_one_and_come_back() -> None:
    X = np.random.default_rng(0).integers(0, 17, (50, 4, 4)).astype(np.uint8)
    space = Space((4, 4), "ordinal", levels=17, layout="HW", dtype="uint8")
    sight, codes = Sight(space, []), torch.from_numpy(X).float().flatten(1)
    seen = sight.seen(codes)
    assert seen.shape == (50, 1, 4, 4) and seen.min() == -1 and seen.max() == 1
    y = torch.atanh(seen.clamp(-1 + 1e-6, 1 - 1e-6))
    assert torch.equal(sight.codes(y, generator(0)).flatten(1).float(), codes)
    between = torch.atanh(seen.clamp(-0.9, 0.9) * 0.97)
    drawn = sight.codes(between, generator(0))
    assert torch.equal(drawn, drawn.round()), "draws are rounded"
    means = sight.means(between)
    assert not torch.equal(means, means.round())
    torch.testing.assert_close(sight.drawn(y, generator(0)), seen, atol=1e-5, rtol=0)


def test_numbers_of_a_table_are_normal_scores() -> None:
    sight, codes = sight_of(table())
    seen = sight.seen(codes, generator(0))
    numbers = seen[:, :2]
    assert numbers.mean(0).abs().max() < 0.1 and (numbers.std(0) - 1).abs().max() < 0.1
    whole = codes[:, 3] == 3
    assert seen[whole, 1].unique().numel() > 10, "a whole number is drawn within its mass"
    y = torch.cat([numbers, torch.zeros(300, 4)], 1)
    back = sight.codes(y, generator(0))
    np.testing.assert_allclose(back[:, 2], codes[:, 2], rtol=1e-3)
    assert torch.equal(back[:, 3].float(), codes[:, 3])


def test_numbers_of_an_image_have_one_scale() -> None:
    X = 5 + 3 * np.random.default_rng(0).normal(size=(40, 3, 4))
    space = Space((3, 4), layout="HW")
    sight = Sight(space, [])
    codes = torch.from_numpy(X).flatten(1)
    sight.fit(codes)
    seen = sight.seen(codes)
    assert seen.shape == (40, 1, 3, 4)
    np.testing.assert_allclose(seen.flatten(1) * 3, (codes - 5), atol=0.7)
    np.testing.assert_allclose(sight.codes(seen, generator(0)).flatten(1), codes, rtol=1e-4)


def test_words_and_bits_are_drawn_with_the_gradient_of_their_probabilities() -> None:
    sight, _ = sight_of(table())
    y = torch.zeros(4000, 6)
    y[:, 2], y[:, 3:] = 1.0, torch.tensor([2.0, 1.0, 0.0])  # the bit, and the word
    y.requires_grad_()
    drawn = sight.drawn(y, generator(0))
    bit, word = drawn[:, 2], drawn[:, 3:]
    assert set(bit.detach().round(decimals=4).tolist()) == {-1.0, 1.0}
    assert torch.equal(word.detach().round(decimals=4).sum(1), torch.ones(4000))
    p = torch.softmax(torch.tensor([2.0, 1.0, 0.0]), 0)
    np.testing.assert_allclose(word.detach().mean(0), p, atol=0.03)
    assert bit.detach().mean().item() == pytest.approx(2 / (1 + np.exp(-1)) - 1, abs=0.05)
    (gradient,) = torch.autograd.grad(word[:, 0].sum() + bit.sum(), y)
    np.testing.assert_allclose(gradient[0, 3:], p[0] * (torch.eye(3)[0] - p), atol=1e-5)
    q = 1 / (1 + np.exp(-1))
    assert gradient[0, 2].item() == pytest.approx(2 * q * (1 - q), abs=1e-5)
    codes = sight.codes(y.detach(), generator(1))
    shares = np.bincount(codes[:, 0].int().numpy(), minlength=3) / 4000
    np.testing.assert_allclose(shares, p, atol=0.03)
    assert set(sight.means(y.detach())[:, 0].tolist()) == {0.0}  # the likeliest


def test_relaxed_draws_lie_between() -> None:
    sight, _ = sight_of(table(), relaxed=True)
    y = torch.zeros(500, 6, requires_grad=True)
    drawn = sight.drawn(y, generator(0))
    word = drawn[:, 3:]
    assert ((word > 0.05) & (word < 0.95)).any() and torch.allclose(word.sum(1), torch.ones(500))
    assert ((drawn[:, 2] > -0.9) & (drawn[:, 2] < 0.9)).any()
    (gradient,) = torch.autograd.grad(word[:, 0].sum(), y)
    assert (gradient[:, 3:] != 0).any()
    codes = sight.codes(y.detach(), generator(0))
    assert torch.equal(codes[:, [0, 1, 3]], codes[:, [0, 1, 3]].round()), "and none when sampling"


def test_a_gap_is_seen_and_hides_its_value() -> None:
    X = table().astype({"flag": object})
    X.loc[:99, "size"] = NAN
    X.loc[:49, "word"] = None
    sight, codes = sight_of(X, gaps=[0, 2])
    assert sight.shape == (8,)
    seen = sight.seen(codes, generator(0))
    assert torch.equal(seen[:, 6:], torch.isnan(codes[:, [0, 2]]).float())
    assert not seen[:50, 3:6].any() and seen[50:, 3:6].any(1).all()
    assert not seen[:100, 0].any() and seen[100:, 0].all()
    known = sight.known(codes)
    assert not known[:, 6:].any() and not known[:100, 0].any() and known[:, 1].all()
    y = torch.zeros(2000, 8)
    y[:, 0], y[:, 6], y[:, 7] = 1.0, -30.0, 0.0  # the word never, the size half of the time
    drawn = sight.drawn(y, generator(0))
    hidden = drawn[:, 7] == 1
    assert 0.4 < hidden.float().mean() < 0.6
    assert not drawn[hidden, 0].any() and (drawn[~hidden, 0] == 1).all()
    assert drawn[:, 3:6].any(1).all()
    assert not torch.isnan(sight.codes(y, generator(0))).any()


def test_words_of_images_are_seen_in_a_row() -> None:
    space = Space((2, 2), "categorical", values=("x", "y", "z"), layout="HW")
    sight = Sight(space, [])
    assert sight.shape == (12,)
    codes = torch.tensor([[0.0, 1.0, 2.0, 0.0]])
    assert sight.seen(codes).reshape(4, 3).argmax(1).tolist() == [0, 1, 2, 0]
    assert sight.means(sight.seen(codes)).shape == (1, 2, 2)
