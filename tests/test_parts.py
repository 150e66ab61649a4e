"""Rows made of parts, and models made of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from torch import nn

import genus
from genus import (
    VAE,
    GaussianMixture,
    Independent,
    LogProb,
    RealNVP,
    Space,
    Trainer,
)
from genus.report.writing import write_rows
from toys import EM, Toy, ToyVAE

X = np.random.default_rng(0).normal(size=(60, 3)) + 2
QUICK = Trainer(epochs=2, batch_size=32)
LABELS = (X[:, 0] > 2).astype(int)


# ---------------------------------------------------------------------- dicts of arrays


PARTS = {
    "image": np.random.default_rng(1).integers(0, 2, (60, 2, 3)).astype(np.uint8),
    "label": np.where(LABELS, "yes", "no"),
    "x": X,
}


@pytest.mark.parametrize("cls", [VAE, GaussianMixture, Independent])
def test_dicts_of_arrays_are_rows(cls: Any, tmp_path: Path) -> None:
    more = {"trainer": QUICK} if cls is VAE else {}
    m = cls(random_state=0, **more).fit(PARTS)
    assert np.isfinite(m.log_prob(PARTS).nats).all() and m.log_prob(PARTS).measure == "mixed"
    drawn = m.sample(5, random_state=0)
    assert {k: v.shape for k, v in drawn.items()} == {
        "image": (5, 2, 3),
        "label": (5,),
        "x": (5, 3),
    }
    assert drawn["image"].dtype == np.uint8 and set(drawn["label"]) <= {"yes", "no"}
    m.save(tmp_path / "m")
    again = genus.load(tmp_path / "m")
    assert again.space_ == m.space_
    assert np.array_equal(again.score_samples(PARTS), m.score_samples(PARTS))


def test_a_missing_part_is_missing_cells() -> None:
    m = GaussianMixture(2, random_state=0).fit(PARTS)
    some = {"x": X[:4], "label": None}
    gaps = {"x": X[:4], "label": np.array([None] * 4), "image": np.full((4, 2, 3), np.nan)}
    assert np.allclose(m.score_samples(some), m.score_samples(gaps))
    filled = m.complete(some, random_state=0)
    assert np.array_equal(filled["x"], X[:4]) and filled["image"].shape == (4, 2, 3)
    hidden = m.complete({k: v[:4] for k, v in PARTS.items()}, mask={"label": True}, random_state=0)
    assert np.array_equal(hidden["image"], PARTS["image"][:4]) and len(hidden["label"]) == 4
    several = m.complete(some, 3, random_state=0)
    assert several["image"].shape == (3, 4, 2, 3)


@pytest.mark.parametrize(
    "bad, says",
    [
        ({"y": X}, "part 'y' that fit did not see"),
        ({}, "none of the parts"),
        ({"x": X, "label": PARTS["label"][:3]}, "'label' of X has 3 rows, 'x' has 60"),
        ({"x": X[:, :2]}, "part 'x' of X: X has rows of shape"),
        ({"x": X, "label": np.full(60, 0.5)}, "part 'label' of X"),
    ],
)
def test_bad_dicts_name_the_part(bad: Any, says: str) -> None:
    m = GaussianMixture(2, random_state=0).fit(PARTS)
    with pytest.raises(ValueError, match=says):
        m.score_samples(bad)
    with pytest.raises(TypeError, match="X must be a dict of arrays"):
        m.score_samples(X)
    with pytest.raises(ValueError, match="part 'x' of X is None"):
        GaussianMixture().fit({"x": None})
    with pytest.raises(ValueError, match="lacks the part 'label'.*no missing values"):
        EM(random_state=0).fit({"x": X, "label": LABELS}).score_samples({"x": X})


@pytest.mark.parametrize(
    "mask, says",
    [
        ({"img": True}, "mask has a part 'img' that X has not"),
        ({"x": np.ones((3, 3), bool)}, r"mask of 'x' has shape \(3, 3\): .*\(4, 3\) is needed"),
        ({"x": np.ones(5, bool)}, r"mask of 'x' has shape \(5,\)"),
    ],
)
def test_masks_of_dicts_are_checked(mask: Any, says: str) -> None:
    m = GaussianMixture(2, random_state=0).fit(PARTS)
    with pytest.raises(ValueError, match=says):
        m.complete({k: v[:4] for k, v in PARTS.items()}, mask=mask)


def test_masks_of_dicts_hide_parts_rows_or_cells() -> None:
    m = GaussianMixture(2, random_state=0).fit(PARTS)
    some = {k: v[:4] for k, v in PARTS.items()}
    rows = m.complete(some, mask={"x": np.array([True, False, False, True])}, random_state=0)
    assert (rows["x"] == some["x"]).all(1).tolist() == [False, True, True, False]
    cells = np.zeros((4, 3), bool)
    cells[:, 0] = True
    one = m.complete(some, mask={"x": cells}, random_state=0)
    assert (one["x"] == some["x"]).all(0).tolist() == [False, True, True]


def test_one_value_in_place_of_rows_is_named() -> None:
    with pytest.raises(ValueError, match="part 'w' of X: X is the one value 'x': pass an array"):
        GaussianMixture().fit({"x": X, "w": "x"})
    with pytest.raises(ValueError, match="given is the one value 'a': pass an array"):
        RealNVP(trainer=QUICK).fit(X, given="a")


def test_dicts_are_written_as_parts_or_as_a_table(tmp_path: Path) -> None:
    space = Space.of(PARTS)
    write_rows(tmp_path / "rows.npz", PARTS, space)
    with np.load(tmp_path / "rows.npz") as z:
        assert np.array_equal(z["image"], PARTS["image"]) and set(z) == set(PARTS)
    write_rows(tmp_path / "rows.csv", PARTS, space)
    table = pd.read_csv(tmp_path / "rows.csv")
    assert table.shape == (60, 10) and list(table["label"]) == list(PARTS["label"])


# ---------------------------------------------------------------------- arguments are settings


class Holder(Toy):
    """A model made of a model: its rows are those of its part, moved by one."""

    def __init__(
        self, prior: Any = None, trainer: Trainer | None = None, random_state: Any = None
    ) -> None:
        self.prior = prior
        self.trainer = trainer
        self.random_state = random_state

    def build(self, space: Space) -> None:
        self.prior_ = self.part(self.prior, Space((space.dim,)))
        self.move_ = nn.Parameter(torch.zeros(space.dim))

    def learn(self, fit: Any) -> None:
        self.prior_.learn(fit)
        self.prior_.late_ = 3

    def _log_prob(self, x: torch.Tensor) -> LogProb:
        return self.prior_._log_prob(x - self.move_)

    def _sample(self, n: int, rng: torch.Generator) -> torch.Tensor:
        return self.prior_._sample(n, rng) + self.move_


@pytest.mark.parametrize("prior", [EM(random_state=0), ToyVAE(trainer=QUICK, random_state=0)])
def test_a_model_made_of_a_model(prior: Any, tmp_path: Path) -> None:
    m = Holder(prior, trainer=QUICK, random_state=0)
    assert m.prior is prior and list(m.state_dict()) == [] and clone(m).prior is not prior
    m.fit(X)
    assert m.prior is prior and not hasattr(prior, "space_"), "the argument stays as it was"
    assert {n.split(".")[0] for n in m.state_dict()} == {"prior_", "move_"}
    assert not hasattr(m.prior_, "rng") and not hasattr(m, "rng")
    m.save(tmp_path / "m")
    again = genus.load(tmp_path / "m", models=[Holder, type(prior)])
    assert np.array_equal(again.score_samples(X), m.score_samples(X))
    assert np.array_equal(again.sample(4, random_state=0), m.sample(4, random_state=0))
    assert again.prior_.late_ == 3
    m.fit(X[:30])
    assert {n.split(".")[0] for n in m.state_dict()} == {"prior_", "move_"}


def test_a_module_as_an_argument_is_no_submodule() -> None:
    net = nn.Linear(3, 2)
    m = Holder(net)
    assert m.prior is net and not list(m.modules())[1:] and m.get_params()["prior"] is net
    m.set_params(prior=None)
    assert m.prior is None


# ---------------------------------------------------------------------- networks of one's own


class Own(nn.Module):
    """An encoder that somebody wrote."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def made(in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module:
    """A function that makes a network."""
    return nn.Sequential(nn.Linear(in_shape[0], 5), nn.Tanh(), nn.Linear(5, out_shape[0]))


def test_a_module_of_ones_own_is_an_encoder_and_is_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = Own()
    before = [p.clone() for p in own.parameters()]
    m = VAE(2, encoder=own, k=4, trainer=QUICK, random_state=0).fit(X)
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), before, strict=True))
    assert not torch.equal(m.encoder_.layers[0].weight, own.layers[0].weight)
    assert "encoder_.layers.0.weight" in m.state_dict() and not any(
        n.startswith("encoder.") for n in m.state_dict()
    )
    m.save(tmp_path / "m")
    again = genus.load(tmp_path / "m", models=[Own])
    assert np.array_equal(again.score_samples(X), m.score_samples(X))
    with pytest.raises(
        genus.files.StoreError, match=r"'Own', which genus does not.*models=\[Own\]"
    ):
        genus.load(tmp_path / "m")


def test_a_module_with_arguments_is_loaded_with_one_made_alike(tmp_path: Path) -> None:
    class Wide(Own):
        def __init__(self, width: int) -> None:
            super().__init__(width)

    m = VAE(2, encoder=Wide(11), k=4, trainer=QUICK, random_state=0).fit(X)
    m.save(tmp_path / "m")
    with pytest.raises(
        genus.files.StoreError, match=r"without arguments: pass a module.*Wide\(...\)"
    ):
        genus.load(tmp_path / "m", models=[Wide])
    again = genus.load(tmp_path / "m", models=[Wide(11)])
    assert np.array_equal(again.score_samples(X), m.score_samples(X))
    with pytest.raises(genus.files.StoreError, match="shape"):
        genus.load(tmp_path / "m", models=[Wide(12)])


def test_a_function_that_makes_a_network_is_saved_by_name(tmp_path: Path) -> None:
    m = VAE(2, encoder=made, k=4, trainer=QUICK, random_state=0).fit(X)
    m.save(tmp_path / "m")
    again = genus.load(tmp_path / "m", models=[made])
    assert np.array_equal(again.score_samples(X), m.score_samples(X))
    with pytest.raises(genus.files.StoreError, match=r"models=\[made\]"):
        genus.load(tmp_path / "m")
    nameless = VAE(2, encoder=lambda a, b: made(a, b), k=4, trainer=QUICK, random_state=0).fit(X)
    with pytest.raises(TypeError, match=r"VAE\(encoder\).*a function that has a name"):
        nameless.save(tmp_path / "n")
    assert not (tmp_path / "n").exists()


def test_a_module_that_does_not_fit_says_what_is_needed() -> None:
    with pytest.raises(ValueError, match=r"Own does not take rows of shape \(2,\)"):
        VAE(2, encoder=Own(), trainer=QUICK).fit(X[:, :2])
    with pytest.raises(
        ValueError, match=r"Own makes \(4,\) of rows of shape \(3,\), and \(6,\) is"
    ):
        VAE(3, encoder=Own(), trainer=QUICK).fit(X)
    with pytest.raises(TypeError, match=r"Own is a class of modules: pass a module, Own\(...\)"):
        VAE(2, encoder=Own, trainer=QUICK).fit(X)
    with pytest.raises(
        ValueError, match="encoder is a Own of your own, which has no setting 'width'"
    ):
        VAE(2, encoder=Own()).set_params(encoder__width=3)
    with pytest.raises(TypeError, match=r"Own takes no context.*forward\(x, context=None\)"):
        VAE(2, encoder=Own(), trainer=QUICK).fit(X, given=LABELS)


def test_a_build_that_asks_a_question_of_a_tensor_is_named(tmp_path: Path) -> None:
    class Asks(Toy):
        def build(self, space: Space) -> None:
            self.register_buffer("n_", torch.zeros(space.dim))
            if float(self.n_.sum()) == 0:
                self.m_ = nn.Parameter(torch.zeros(space.dim))

        def losses(self, x: torch.Tensor) -> Any:
            yield self, (x - self.m_).square().mean()

    Asks(trainer=QUICK, random_state=0).fit(X).save(tmp_path / "m")
    with pytest.raises(genus.files.StoreError, match=r"Asks.build asks for the value of a tensor"):
        genus.load(tmp_path / "m", models=[Asks])


def test_a_log_prob_that_is_no_log_prob_is_named() -> None:
    class Plain(Toy):
        def build(self, space: Space) -> None:
            self.m_ = nn.Parameter(torch.zeros(space.dim))

        def losses(self, x: torch.Tensor) -> Any:
            yield self, (x - self.m_).square().mean()

        def _log_prob(self, x: torch.Tensor) -> Any:
            return -x.square().sum(1)

    with pytest.raises(TypeError, match=r"Plain._log_prob returned a Tensor: return genus.Exact"):
        Plain(trainer=QUICK, random_state=0).fit(X).score(X)
