"""What happens when a loss or a weight leaves the finite numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from genus import Trainer
from genus.learn.fit import DivergenceError
from toys import ToyVAE
from training import X, bits


class Blows(ToyVAE):
    """Its loss goes wrong at the steps of ``at``."""

    at: tuple[int, ...] = ()
    to = float("nan")
    count = 0

    def losses(self, x: torch.Tensor) -> Any:
        for player, loss in super().losses(x):
            type(self).count += 1
            yield player, loss * (self.to if self.count in self.at else 1)


@pytest.mark.parametrize("to", [float("nan"), float("inf"), 1e12])
def test_divergence_rolls_back_and_names_the_step_and_the_cure(
    to: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Blows, "at", (10,))
    monkeypatch.setattr(Blows, "to", to)
    monkeypatch.setattr(Blows, "count", 0)
    with pytest.warns(
        UserWarning, match=r"diverged at epoch 2, step 10.*rolled back.*Trainer\(lr=.*grad_clip"
    ):
        model = Blows(random_state=0, trainer=Trainer(epochs=8, ema=0.9)).fit(X)
    assert np.isfinite(model.score(X))
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert model.history_[-1]["epoch"] == 9  # one was lost


def test_a_model_says_what_is_wrong_with_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    class Calm(Blows):
        """Losses of any finite size are its own affair, and it dislikes the twelfth."""

        def trouble(self, loss: float, first: float) -> str:
            return "" if self.count != 12 else "I do not like it"

    monkeypatch.setattr(Blows, "at", (10,))
    monkeypatch.setattr(Blows, "to", 1e12)
    Calm.count = 0
    with pytest.warns(UserWarning, match="step 12, I do not like it: rolled back") as said:
        Calm(random_state=0, trainer=Trainer(epochs=3)).fit(X)
    assert len(said) == 1


def test_weights_that_leave_the_finite_numbers_roll_back() -> None:
    """The last step's loss is fine, the weights after it are not: no epoch may start from them."""

    class Poisoned(ToyVAE):
        def losses(self, x: torch.Tensor) -> Any:
            yield from super().losses(x)
            self.count_ = getattr(self, "count_", 0) + 1
            if self.count_ == 7 * 20:  # the last step of an epoch
                with torch.no_grad():
                    self.log_sigma_.fill_(float("nan"))

    with pytest.warns(UserWarning, match="rolled back to its last good state \\(step 105\\)"):
        model = Poisoned(random_state=0, trainer=Trainer(epochs=25, ema=0.5)).fit(X)
    assert np.isfinite(model.score(X))


def test_divergence_at_the_first_step_raises_and_keeps_the_old_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Blows, "count", 0)
    model = Blows(random_state=0).fit(X)
    before, score = bits(model), model.score(X)
    monkeypatch.setattr(Blows, "at", tuple(range(10_000)))
    with pytest.raises(DivergenceError, match="very first step"):
        model.fit(X)
    assert (
        all(torch.equal(before[k], v) for k, v in bits(model).items()) and model.score(X) == score
    )
    with pytest.raises(DivergenceError, match="very first step"):
        clone(model).fit(X)


def test_divergence_that_never_heals_raises_unless_something_was_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Blows, "at", tuple(range(4, 10_000)))
    monkeypatch.setattr(Blows, "count", 0)
    with (
        pytest.warns(UserWarning, match="diverged"),
        pytest.raises(DivergenceError, match="no good state") as e,
    ):
        Blows(random_state=0).fit(X)
    assert "while training Blows" in "".join(e.value.__notes__)
    monkeypatch.setattr(Blows, "at", tuple(range(110, 10_000)))
    monkeypatch.setattr(Blows, "count", 0)
    with pytest.warns(UserWarning, match="diverged"), pytest.warns(UserWarning, match="it stopped"):
        model = Blows(random_state=0, trainer=Trainer(epochs=30)).fit(X)
    assert np.isfinite(model.score(X))
