"""What networks see of conditions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from genus import MADE, FlowMatching, Glow, RealNVP, SameConv, Trainer, UNet
from genus.networks.conditions import LABELS, Conditions
from genus.space import Space

IMAGE = (1, 4, 6)  # of the rows


def seen(given: Any, image: tuple[int, int, int] | None = None) -> tuple[Conditions, Any]:
    """Conditions fitted to all of what is given, and its codes."""
    space = Space.of(given)
    codes = space.encode(given)
    return Conditions(space, image).fit(codes), codes


def test_categories_and_few_levels_have_a_place_each() -> None:
    names = [f"c{i}" for i in range(LABELS + 20)]
    table = pd.DataFrame(
        {
            "who": pd.Categorical(names),
            "age": np.arange(84.0) + 0.5,
            "bit": np.arange(84) % 2,
            "year": np.arange(84),
        }
    )
    told, codes = seen(table)
    f = told.context(codes, torch.float32)
    assert f.shape == (84, told.width) and f.dtype == torch.float32
    # more categories than LABELS, and yet a place each
    assert bool((f[:, :84].sum(1) == 1).all()) and len(f[:, :84].unique(dim=0)) == 84
    rest = f[:, 84:]
    numbers = [j for j in range(rest.shape[1]) if len(rest[:, j].unique()) == 84]
    assert len(numbers) == 2  # the age and the many levels of the year, in standard units
    assert torch.allclose(rest[:, numbers].mean(0), torch.zeros(2), atol=1e-5)
    assert rest.shape[1] == 2 + 2


def test_a_context_goes_column_by_column() -> None:
    table = pd.DataFrame({"a": [0.5, 2.5], "b": [1, 0], "c": [True, False], "d": ["x", "y"]})
    told, codes = seen(table)
    expected = [[-1, 0, 1, 0, 1, 1, 0], [1, 1, 0, 1, 0, 0, 1]]
    assert told.context(codes, torch.float64).tolist() == expected


@pytest.mark.parametrize("offset", [1e6, 1e8])
def test_an_offset_costs_nothing(offset: float) -> None:
    r = np.random.default_rng(0)
    for shape in ((50, 2), (50, 4, 6)):
        given = r.normal(size=shape)
        near, far = (seen(g, IMAGE) for g in (given, given + offset))
        for a, b in zip(near[0].seen(near[1], torch.float32), far[0].seen(far[1], torch.float32)):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("layout", ["HW", "CHW", "HWC"])
def test_an_image_of_the_rows_size_is_channels(layout: str) -> None:
    r = np.random.default_rng(0)
    pictures = r.normal([3.0, -50.0, 0.0], [1.0, 20.0, 1e-3], (40, 4, 6, 3))  # (n, H, W, C)
    given = {
        "HW": pictures[..., 1],
        "CHW": pictures.transpose(0, 3, 1, 2),
        "HWC": pictures,
    }[layout]
    told, codes = seen(given, IMAGE)
    (channels,) = told.seen(codes, torch.float64)
    expected = (pictures - pictures.mean((0, 1, 2))) / pictures.std((0, 1, 2))
    expected = expected[..., 1:2] if layout == "HW" else expected
    np.testing.assert_allclose(channels, expected.transpose(0, 3, 1, 2), atol=1e-9)
    assert (told.width, told.n_channels) == (0, expected.shape[-1])


def test_an_image_of_twice_or_half_the_size_is_channels_beside_what_it_covers() -> None:
    small = np.random.default_rng(0).normal(size=(40, 2, 3))
    told, codes = seen(small, IMAGE)
    (channels,) = told.seen(codes, torch.float64)
    assert (told.width, told.n_channels) == (0, 1)
    expected = ((small - small.mean()) / small.std()).repeat(2, 1).repeat(2, 2)
    np.testing.assert_allclose(channels[:, 0], expected, atol=1e-9)
    large = np.random.default_rng(0).normal(size=(40, 8, 12))
    told, codes = seen(large, IMAGE)
    (channels,) = told.seen(codes, torch.float64)
    assert (told.width, told.n_channels) == (0, 4) and channels.shape == (40, 4, 4, 6)
    expected = (large - large.mean()) / large.std()
    for k in range(4):
        np.testing.assert_allclose(channels[:, k], expected[:, k // 2 :: 2, k % 2 :: 2], atol=1e-9)


def test_categories_of_an_image_have_a_channel_each() -> None:
    labels = np.random.default_rng(0).choice([3, 5, 9], (40, 4, 6, 2))
    space = Space((4, 6, 2), "categorical", values=(3, 5, 9), layout="HWC")
    told = Conditions(space, IMAGE)
    channels = told.channels(space.encode(labels), torch.float32)
    assert channels.shape == (40, told.n_channels, 4, 6) and told.n_channels == 2 * 3
    for c in range(2):
        for k, value in enumerate((3, 5, 9)):
            assert torch.equal(channels[:, 3 * c + k] == 1, torch.tensor(labels[..., c] == value))


@pytest.mark.parametrize("times", [0.5, 2])
def test_categories_of_twice_or_half_the_size_stand_beside_what_they_cover(times: float) -> None:
    values, (h, w) = (3, 5, 9), (int(4 * times), int(6 * times))
    labels = np.random.default_rng(0).choice(values, (40, h, w))
    space = Space((h, w), "categorical", values=values, layout="HW")
    told = Conditions(space, IMAGE)
    channels = told.channels(space.encode(labels), torch.float32)
    each = 1 if times < 1 else 4  # pixels beside one of the rows
    assert (told.width, told.n_channels) == (0, 3 * each)
    assert channels.shape == (40, 3 * each, 4, 6)
    for k, value in enumerate(values):
        ones = (labels == value).astype(np.float32)
        if times < 1:
            expected = [ones.repeat(2, 1).repeat(2, 2)]
        else:
            expected = [ones[:, i // 2 :: 2, i % 2 :: 2] for i in range(4)]
        for i, map_ in enumerate(expected):
            np.testing.assert_array_equal(channels[:, each * k + i], map_)


def test_an_image_of_another_size_or_for_other_networks_is_a_context() -> None:
    pictures = np.random.default_rng(0).normal(size=(40, 4, 6))
    for image in ((1, 4, 5), (1, 8, 6), None):
        told, codes = seen(pictures, image)
        assert (told.width, told.n_channels) == (24, 0)
        (context,) = told.seen(codes, torch.float64)
        expected = (pictures - pictures.mean(0)) / pictures.std(0)
        np.testing.assert_allclose(context, expected.reshape(40, 24), atol=1e-9)


def test_parts_are_channels_or_context_each_by_itself() -> None:
    r = np.random.default_rng(0)
    given = {
        "before": r.normal(size=(40, 4, 6)),
        "kind": r.choice(["a", "b", "c"], 40),
        "mask": r.integers(0, 2, (40, 4, 6)),
        "age": r.normal(size=40),
    }
    told, codes = seen(given, IMAGE)
    context, channels = told.seen(codes, torch.float64)
    assert context.shape == (40, 3 + 1) and channels.shape == (40, 2, 4, 6)
    assert torch.equal(context[:, 0] == 1, torch.tensor(given["kind"] == "a"))
    ages = (given["age"] - given["age"].mean()) / given["age"].std()
    np.testing.assert_allclose(context[:, 3], ages, atol=1e-9)
    scaled = (given["before"] - given["before"].mean()) / given["before"].std()
    np.testing.assert_allclose(channels[:, 0], scaled, atol=1e-9)
    assert torch.equal(channels[:, 1] > 0, torch.tensor(given["mask"] == 1))


@pytest.mark.parametrize(
    "model",
    [FlowMatching(UNet(4), steps=2), Glow(1, SameConv(4), levels=2), RealNVP(1, SameConv(4))],
    ids=lambda m: type(m).__name__,
)
def test_images_are_drawn_under_images_of_half_their_size(model: Any) -> None:
    r = np.random.default_rng(0)
    X = r.integers(0, 4, (24, 16, 16)).astype(np.uint8)
    small = X[:, ::2, ::2].copy()
    quick = Trainer(epochs=1, batch_size=12, max_steps=2, lr=0.1, progress=False)
    model.set_params(trainer=quick, random_state=0).fit(X, given=small)
    assert (model.context_.width, model.context_.n_channels) == (0, 1)
    one, two = (model.sample(3, given=g[:3], random_state=0) for g in (small, 3 - small))
    assert one.shape == (3, 16, 16) and not np.array_equal(one, two)


def test_a_model_learns_from_more_categories_than_levels() -> None:
    r = np.random.default_rng(0)
    who = r.integers(0, 80, 2000)
    X = (r.random((2000, 1)) < np.where(who % 2, 0.9, 0.1)[:, None]).astype(int)
    y = np.array([f"c{w}" for w in who])
    quick = Trainer(epochs=15, lr=2e-2, validation=0.0, progress=False)
    model = MADE(prior=0.0, trainer=quick, random_state=0).fit(X, given=y)
    # each category by itself: −0.33; all alike: −0.69
    assert model.log_prob(X, given=y).mean() > -0.45
