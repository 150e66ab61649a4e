"""Point answers of complete: means, modes and quantiles, against the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import genus
from genus import CategoricalMixture, Gaussian, Space, filling

RNG = np.random.default_rng(0)
A = RNG.normal(size=300)
X = np.stack([A, 0.8 * A + 0.6 * RNG.normal(size=300), RNG.normal(size=300) + 5], 1)
GAPS = np.zeros((300, 3), bool)
GAPS[::2, 1] = GAPS[::3, 2] = True
TABLE = pd.DataFrame(
    {
        "size": A,
        "count": RNG.poisson(np.exp(3 + 0.5 * A)),
        "word": np.where(A > 0, "big", "small"),
        "flag": A + 0.3 * RNG.normal(size=300) > 0,
    },
    index=np.arange(300) + 1000,
)
HIDDEN = np.random.default_rng(1).random(TABLE.shape) < 0.3


class Dice(genus.Model):
    """Every missing cell is one of the values 0 … 4, by weights that are the same for all."""

    allow_nan = True

    def __init__(self, random_state: Any = None) -> None:
        self.random_state = random_state

    def build(self, space: Space) -> None:
        self.register_buffer("p_", torch.tensor([0.1, 0.2, 0.1, 0.2, 0.4]))

    def learn(self, data: Any) -> None:
        pass

    def _complete(self, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return torch.multinomial(self.p_, x.numel(), True, generator=rng).reshape(x.shape)


def dice(space: Space) -> Dice:
    return Dice(random_state=0).fit(np.zeros((2, *space.shape), dtype=int), space=space)


@pytest.mark.parametrize(
    "model",
    [
        Gaussian(),
        genus.GaussianMixture(3, random_state=0),
        genus.FactorAnalysis(1, random_state=0),
        genus.ProbabilisticPCA(1, random_state=0),
        CategoricalMixture(3, random_state=0),
    ],
    ids=lambda m: type(m).__name__,
)
def test_a_mean_in_closed_form_is_where_the_mean_of_many_draws_goes(model: Any) -> None:
    model.fit(X)
    mean = model.complete(X, how="mean", mask=GAPS)
    assert np.array_equal(mean[~GAPS], X[~GAPS])
    assert np.array_equal(mean, model.complete(X, how="mean", mask=GAPS, random_state=7))
    draws = model.complete(X, 800, mask=GAPS, random_state=0)
    error = (mean - draws.mean(0))[GAPS] / (draws.std(0)[GAPS] / 800**0.5)
    assert abs(error).max() < 4.5 and error.std() < 1.3


def test_a_conditional_mean_of_a_gaussian_is_its_regression() -> None:
    model = Gaussian(shrinkage=0.0).fit(X)
    mean = model.complete(X, how="mean", mask=np.array([False, True, False]))
    others = np.column_stack([np.ones(300), X[:, [0, 2]]])
    fitted = others @ np.linalg.lstsq(others, X[:, 1], rcond=None)[0]
    np.testing.assert_allclose(mean[:, 1], fitted, atol=1e-8)


def test_classes_give_the_mean_of_whole_numbers_and_the_likeliest_word() -> None:
    model = CategoricalMixture(4, random_state=0).fit(TABLE)
    mean = model.complete(TABLE, how="mean", mask=HIDDEN)
    draws = model.complete(TABLE, 600, mask=HIDDEN, random_state=0)
    counts = np.mean([d["count"] for d in draws], 0)
    assert abs(mean["count"] - counts).max() < 5  # a standard error of it is below 1
    votes = pd.concat([d["word"].reset_index(drop=True) for d in draws], axis=1) == "big"
    sure = (abs(votes.mean(axis=1) - 0.5) > 0.1).to_numpy()
    assert ((mean["word"] == "big").to_numpy() == (votes.mean(axis=1) > 0.5))[sure].all()


@pytest.mark.parametrize("how", ["draw", "mean", "mode", "quantile"])
@pytest.mark.parametrize("model", [Gaussian(random_state=0), CategoricalMixture(2, random_state=0)])
def test_frames_keep_their_index_and_every_column_its_type(how: str, model: Any) -> None:
    model.fit(TABLE)
    q = 0.2 if how == "quantile" else None
    filled = model.complete(TABLE, how=how, q=q, mask=HIDDEN, random_state=0)
    assert filled.dtypes.equals(TABLE.dtypes) and filled.index.equals(TABLE.index)
    for j, name in enumerate(TABLE):
        assert (filled[name] == TABLE[name])[~HIDDEN[:, j]].all()
    assert len(filled) == 300 and not filled.isna().any(axis=None)


def test_several_draws_of_a_frame_keep_its_index() -> None:
    draws = Gaussian(random_state=0).fit(TABLE).complete(TABLE, 2, mask=HIDDEN)
    assert all(d.index.equals(TABLE.index) for d in draws)


def test_means_of_grey_images_lie_between_levels_and_rows_of_numbers_are_rounded() -> None:
    images = np.zeros((6, 2, 3), dtype=np.uint8)
    mask = np.arange(6).reshape(2, 3) < 2
    grey = dice(Space((2, 3), "ordinal", 5, layout="HW"))
    mean = grey.complete(images, 2000, how="mean", mask=mask)
    assert mean.shape == images.shape and mean[:, ~mask].max() == 0
    np.testing.assert_allclose(mean[:, mask], 2.6, atol=0.15)
    assert grey.complete(images, how="mode", mask=mask).dtype.kind in "iu"
    flat = dice(Space((6,), "ordinal", 5)).complete(
        images.reshape(6, 6), 2000, how="mean", mask=mask.reshape(6)
    )
    assert (flat[:, :2] == 3).all() and flat.dtype.kind in "iu"


def test_words_and_numbers_of_few_levels_get_the_most_frequent_value() -> None:
    rows, mask = np.zeros((9, 2), dtype=int), np.array([True, False])
    for space in (Space((2,), "ordinal", 5), Space((2,), "categorical", 5)):
        mode = dice(space).complete(rows, 2000, how="mode", mask=mask)
        assert (mode == [4, 0]).all()
    many = dice(Space((2,), "ordinal", 50)).complete(rows, 2000, how="mode", mask=mask)
    assert (many == [3, 0]).all()  # the median
    words = dice(Space((2,), "categorical", 5))
    assert (words.complete(rows, 2000, how="mean", mask=mask) == [4, 0]).all()
    assert (words.complete(rows, 2000, how="quantile", q=0.1, mask=mask) == [4, 0]).all()


def test_quantiles_cover_what_they_say() -> None:
    model = Gaussian(random_state=0).fit(X)
    mask = np.broadcast_to([False, True, True], (1000, 3))
    truth = model.sample(1000, random_state=1)
    low, high = model.complete(truth, how="quantile", q=(0.05, 0.95), mask=mask)
    inside = ((low <= truth) & (truth <= high))[mask].mean()
    assert inside == pytest.approx(0.9, abs=0.03)
    few = model.complete(truth, 19, how="quantile", q=[0.1, 0.9], mask=mask)
    inside = ((few[0] <= truth) & (truth <= few[1]))[mask].mean()
    assert inside == pytest.approx(0.8, abs=0.04)
    one = model.complete(truth, how="quantile", q=0.5, mask=mask)
    assert one.shape == truth.shape and (low <= one).all() and (one <= high).all()


def test_quantiles_are_those_of_sorted_draws() -> None:
    draws = torch.tensor([3.0, 1.0, 2.0, 4.0])[:, None]
    assert filling.quantiles(draws, [0.2, 0.5, 0.9]).flatten().tolist() == [1.0, 2.5, 4.0]
    assert filling.quantiles(draws, 0.3).tolist() == [pytest.approx(1.5)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"how": "average"}, "how='average'"),
        ({"how": None}, "how=None"),
        ({"how": "quantile"}, "q=None"),
        ({"how": "quantile", "q": 1.0}, r"q=1\.0"),
        ({"how": "quantile", "q": (0.1, 2)}, "q="),
        ({"how": "mean", "q": 0.5}, "leave q out"),
        ({"how": "mean", "n": 0}, "n=0"),
    ],
)
def test_nonsense_is_refused_by_name(arguments: dict[str, Any], says: str) -> None:
    model = Gaussian().fit(X)
    with pytest.raises(ValueError, match=says):
        model.complete(X, **arguments)


def test_parts_of_a_dict_are_answered_each_in_its_form() -> None:
    parts = {"image": RNG.integers(0, 5, (50, 2, 2)).astype(np.uint8), "number": A[:50]}
    model = genus.VAE(latent_dim=1, trainer=genus.Trainer(max_steps=5), random_state=0).fit(parts)
    filled = model.complete({"number": A[:4]}, how="mean", random_state=0)
    assert filled["image"].shape == (4, 2, 2) and filled["image"].dtype.kind == "f"
    assert (filled["number"].reshape(-1) == A[:4].astype(filled["number"].dtype)).all()


class Counted(Gaussian):
    """A Gaussian that counts how often it draws."""

    calls = 0

    def draw_given(self, y: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        Counted.calls += 1
        return super().draw_given(y, rng)


def test_many_draws_are_one_pass() -> None:
    model = Counted(random_state=0).fit(X)
    Counted.calls = 0
    draws = model.complete(X[:20], 30, mask=GAPS[:20])
    assert Counted.calls == 1 and len(np.unique(draws[:, 0, 1])) == 30
