"""Conditions: every verb takes them, and whether they are needed is decided once a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from genus import (
    CapabilityError,
    Exact,
    LogProb,
    Space,
    Trainer,
    sources,
)
from genus.learn import rows
from genus.model import on_rows
from toys import Conditional, Toy

X = np.random.default_rng(0).normal(size=(60, 3)) + 2
QUICK = Trainer(epochs=2, batch_size=32)
LABELS = (X[:, 0] > 2).astype(int)


# ---------------------------------------------------------------------- conditions on every verb


class Shifted(Toy):
    """z = x − w·given, so that every verb is known in closed form."""

    conditions = "optional"

    def build(self, space: Space) -> None:
        self.w_ = nn.Parameter(torch.ones(()))

    def losses(self, x: torch.Tensor, given: torch.Tensor | None = None) -> Any:
        yield self, self._encode(x, given).square().mean()

    def _shift(self, given: torch.Tensor | None) -> Any:
        return 0 * self.w_ if given is None else self.w_ * given.flatten(1).sum(1, keepdim=True)

    def _encode(self, x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        return x - self._shift(given)

    def _decode(self, z: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        return z + self._shift(given)

    def _log_prob(self, x: torch.Tensor, given: torch.Tensor | None = None) -> LogProb:
        return Exact(-self._encode(x, given).square().sum(1))

    def _sample(self, n: int, rng: Any, given: torch.Tensor | None = None) -> torch.Tensor:
        return self._decode(torch.zeros(n, self.space_.dim), given)

    @on_rows
    def distance(self, x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        return self._encode(x, given).square().sum(1)

    @on_rows
    def noisy(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x + torch.randn(x.shape, generator=self.rng)


class Free(Shifted):
    null_condition = True


class Labelled(Shifted):
    y_is_given = True


def test_every_verb_takes_conditions() -> None:
    numbers = X[:, 0] + 10
    m = Shifted(trainer=QUICK, random_state=0).fit(X, given=numbers)
    w = float(m.w_.detach())
    z = X - w * numbers[:, None]
    assert np.allclose(m.encode(X, given=numbers), z)
    assert np.allclose(m.decode(z[:4], given=numbers[:4]), X[:4], atol=1e-5)
    assert np.allclose(m.decode(z[:4], given=3.0), z[:4] + 3 * w, atol=1e-5)
    assert np.allclose(m.reconstruct(X, given=numbers), X)
    assert np.allclose(m.score_samples(X, given=numbers), -np.square(z).sum(1))
    assert m.score(X, given=numbers) == pytest.approx(-np.square(z).sum(1).mean())
    line = m.interpolate(X[0], X[1], 3, given=2.0)
    assert np.allclose(line, [X[0], (X[0] + X[1]) / 2, X[1]])
    assert np.allclose(m.sample(2, given=[1.0, 2.0]), w * np.array([[1.0], [2.0]]))
    for verb in (
        lambda: m.encode(X),
        lambda: m.decode(z),
        lambda: m.reconstruct(X),
        lambda: m.interpolate(X[0], X[1]),
        lambda: m.log_prob(X),
        lambda: m.score_samples(X),
        lambda: m.score(X),
        lambda: m.sample(2),
        lambda: m.distance(X),
    ):
        with pytest.raises(ValueError, match=r"^this Shifted models p\(x \| given\): pass given=$"):
            verb()
    plain = Shifted(trainer=QUICK, random_state=0).fit(X)
    assert np.allclose(plain.encode(X), X)
    with pytest.raises(CapabilityError, match="fitted without given=: it has no conditions"):
        plain.encode(X, given=numbers)


def test_no_condition_is_a_value_where_the_class_says_so() -> None:
    m = Free(trainer=QUICK, random_state=0).fit(X, given=X[:, 0])
    assert np.allclose(m.encode(X), X) and m.sample(2).shape == (2, 3)
    assert not np.allclose(m.encode(X, given=5.0), X)


def test_labels_of_scikit_learn_are_conditions_where_the_class_says_so() -> None:
    by_label = Labelled(trainer=QUICK, random_state=0).fit(X, LABELS)
    by_given = Labelled(trainer=QUICK, random_state=0).fit(X, given=LABELS)
    assert by_label.score(X, LABELS) == by_given.score(X, given=LABELS)
    ignored = Shifted(trainer=QUICK, random_state=0).fit(X, LABELS)
    assert not hasattr(ignored, "given_space_") and ignored.score(X, LABELS) == ignored.score(X)


def test_a_class_that_takes_conditions_must_say_so() -> None:
    class Silent(Shifted):
        conditions = "none"

    with pytest.raises(TypeError, match='Silent.losses takes given.*conditions = "optional"'):
        Silent(trainer=QUICK).fit(X, given=LABELS)
    with pytest.raises(ValueError, match="pass given="):
        Conditional(trainer=QUICK).fit(X)


def test_errors_about_conditions_speak_of_given() -> None:
    words = np.where(LABELS, "a", "b")
    m = Shifted(trainer=QUICK, random_state=0).fit(X, given=words)
    with pytest.raises(ValueError, match="^given has 'c' in column"):
        m.sample(2, given="c")
    numbers = Shifted(trainer=QUICK, random_state=0).fit(X, given=X[:, 0])
    with pytest.raises(
        ValueError, match="^given contains NaN .*: conditions have no missing values"
    ):
        numbers.sample(1, given=np.nan)
    table = pd.DataFrame({"w": words, "r": X[:, 0]})
    of_table = Shifted(trainer=QUICK, random_state=0).fit(X, given=table)
    one = of_table.encode(X[:1], given={"w": words[0], "r": X[0, 0]})
    assert np.array_equal(one, of_table.encode(X[:1], given=table[:1]))

    class Perhaps(Shifted):
        conditions = "perhaps"

    with pytest.raises(TypeError, match="Perhaps.conditions is 'perhaps': write one of none, opt"):
        Perhaps().fit(X)


def test_images_as_conditions_keep_their_shape_and_one_needs_no_leading_axis() -> None:
    images = np.random.default_rng(0).integers(0, 2, (60, 2, 3)).astype(np.uint8)
    m = Shifted(trainer=QUICK, random_state=0).fit(X, given=images)
    assert m.given_space_.image_shape == (1, 2, 3)
    one = m.encode(X[:5], given=images[7])
    assert np.array_equal(one, m.encode(X[:5], given=np.repeat(images[7:8], 5, 0)))
    row = Shifted(trainer=QUICK, random_state=0).fit(X, given=X)
    assert np.array_equal(row.encode(X[:5], given=X[7]), row.encode(X[:5], given=X[7:8]))


def test_conditions_stream_like_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "given.npy", X + 1)
    mapped = np.load(tmp_path / "given.npy", mmap_mode="r")
    memory = Shifted(trainer=QUICK, random_state=0).fit(X, given=X + 1, validation=0.2)
    monkeypatch.setattr(sources, "IN_MEMORY", 0)
    model = Shifted(trainer=QUICK, random_state=0)
    stream = model.fit(X, given=mapped, validation=0.2)
    assert isinstance(stream._given_source(mapped), rows.Stream)
    assert torch.equal(memory.w_, stream.w_) and memory.history_[0]["validation"] is not None


def test_conditions_keep_their_precision() -> None:
    """An offset of 1e8 leaves float32 no digit to tell such conditions apart."""
    far = 1e8 + X[:, 0]
    m = Shifted(trainer=QUICK, random_state=0).fit(X, given=far)
    assert np.ptp(m.encode(np.zeros_like(X), given=far)) > 1


# ---------------------------------------------------------------------- what stands in equations


def test_functions_of_codes_take_rows_too() -> None:
    m = Shifted(trainer=QUICK, random_state=0).fit(X)
    assert np.allclose(m.distance(pd.DataFrame(X)), np.square(X).sum(1))
    codes = torch.tensor(X, requires_grad=True)
    m.distance(codes).sum().backward()
    assert torch.allclose(codes.grad, 2 * codes.detach())
    plain, noise = m.noisy(X, random_state=1)
    assert np.array_equal(plain, X) and np.array_equal(noise, m.noisy(X, random_state=1)[1])
    assert not np.array_equal(noise, m.noisy(X, random_state=2)[1]) and not hasattr(m, "rng")
    with pytest.raises(NotFittedError):
        Shifted().distance(X)
