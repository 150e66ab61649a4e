"""Rows made of parts, and models made of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import genus
from genus import (
    VAE,
    GaussianMixture,
    IndependentHistogram,
    LogProb,
    Space,
    Trainer,
)
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


@pytest.mark.parametrize("cls", [VAE, GaussianMixture, IndependentHistogram])
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
        ({"x": X, "label": np.array(["maybe"] * 60)}, "part 'label' of X: .*maybe"),
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
