"""Players: their optimisers and their rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from genus import Trainer
from genus.learn.descent import Descent
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from toys import GAN, Duel, Toy
from training import Slope, X, bits, resumed, slope


def test_a_player_must_be_a_submodule() -> None:
    class Odd(Toy):
        def build(self, space: Any) -> None:
            self.w_ = nn.Parameter(torch.zeros(()))

        def losses(self, x: torch.Tensor) -> Any:
            yield nn.Linear(1, 1), self.w_ * 1

    with pytest.raises(ValueError, match="no submodule of Odd"):
        Odd().fit(X)


def test_optimizer_and_betas() -> None:
    for name, kind in (
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("rmsprop", torch.optim.RMSprop),
    ):
        run = Descent(
            model := slope(),
            Fit(Rows(torch.zeros(4, 1))),
            Trainer(optimizer=name, betas=(0.5, 0.6)),
            None,
            None,
            "",
        )
        model.requires_grad_(True)
        optimizer = run.players.of(model).optimizer
        assert type(optimizer) is kind
        if name.startswith("adam"):
            assert optimizer.defaults["betas"] == (0.5, 0.6)
            assert optimizer.defaults["fused"]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_weight_decay_is_of_matrices_only(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slope, "slope", 0.0)
    log = slope(epochs=1, optimizer=optimizer, weight_decay=0.5).log
    assert log[-1]["matrix"] < 1
    assert log[-1]["bias"] == 1
    assert slope(epochs=1, optimizer=optimizer).log[-1]["matrix"] == 1


# ---------------------------------------------------------------------- several players


def weights(model: Duel) -> tuple[float, float]:
    return model.left_.weight.item(), model.right_.weight.item()


def test_each_player_has_its_number_and_they_add_up_to_the_objective() -> None:
    model = Duel(trainer=Trainer(epochs=1)).fit(X)
    (line,) = model.history_
    # before each of 4 steps the weights are 1, 0.9, 0.8, 0.7 and 1, 0.8, 0.6, 0.4
    assert np.isclose(line["left_"], 0.85)
    assert np.isclose(line["right_"], 2 * 0.7)
    assert np.isclose(line["objective"], line["left_"] + line["right_"])
    assert "" not in line
    # uneven batches count by their rows
    (line,) = Duel(trainer=Trainer(epochs=1, batch_size=80)).fit(X).history_
    assert np.isclose(line["left_"], 0.8 * 1 + 0.2 * 0.9)


def test_one_player_needs_no_number_of_its_own() -> None:
    assert set(slope(epochs=1).history_[0]) == {
        "stage", "epoch", "step", "objective", "lr", "seconds",
    }  # fmt: skip


def test_a_player_that_takes_no_turn_for_a_pass_has_no_number_then() -> None:
    class Late(Duel):
        def losses(self, x: torch.Tensor) -> Any:
            left, right = super().losses(x)
            yield left
            if self.spent >= 0.5:
                yield right
                yield right[0], right[0].weight.sum()

    first, second = Late(trainer=Trainer(lr=1e-9)).fit(X).history_
    assert "right_" not in first
    assert np.isclose(second["right_"], 1.5)  # the mean of its turns, 2 and 1
    assert np.isclose(second["objective"], 1 + 2 + 1)


def test_a_player_may_ask_for_a_share_of_the_rate() -> None:
    class Slower(Duel):
        def build(self, space: Any) -> None:
            super().build(space)
            self.right_.learning_rate = 0.25

    settings = {"epochs": 1, "schedule": "linear", "lr": 0.1}
    plain = 1 - np.array(weights(Duel(trainer=Trainer(**settings)).fit(X)))
    slower = 1 - np.array(weights(Slower(trainer=Trainer(**settings)).fit(X)))
    assert np.allclose(plain, 0.1 * (1 + 0.75 + 0.5 + 0.25) * np.array([1, 2]))
    assert np.allclose(slower, plain * [1, 0.25])


def test_a_player_has_its_say_in_the_moving_average() -> None:
    class Judge(Duel):
        def build(self, space: Any) -> None:
            super().build(space)
            self.right_.averaged = False

    def averages(gradient: float) -> float:
        average = w = 1.0
        for step in range(4):
            w -= 0.1 * gradient
            decay = min(0.9, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * w
        return average

    both = Duel(trainer=Trainer(epochs=1, ema=0.9)).fit(X)
    assert np.allclose(weights(both), [averages(1), averages(2)])
    judge = Judge(trainer=Trainer(epochs=1, ema=0.9)).fit(X)
    assert np.allclose(weights(judge), [averages(1), 1 - 4 * 0.2])


def test_nobody_in_the_moving_average() -> None:
    class Judges(Duel):
        def build(self, space: Any) -> None:
            super().build(space)
            self.left_.averaged = self.right_.averaged = False

    model = Judges(trainer=Trainer(epochs=1, ema=0.9)).fit(X)
    assert np.allclose(weights(model), [0.6, 0.2])


@pytest.mark.parametrize("steps", [3, 10])
def test_two_players_resume_with_their_averages_and_numbers(steps: int, tmp_path: Path) -> None:
    class Judged(GAN):
        def build(self, space: Any) -> None:
            super().build(space)
            self.critic_.averaged = False

        def validate(self, x: torch.Tensor) -> torch.Tensor:
            return self.critic_(x.float()).square().mean()

    trainer = Trainer(epochs=3, ema=0.9, validation=0.2, patience=5)
    whole, half = resumed(Judged, trainer, tmp_path, steps)
    assert {k: v.tolist() for k, v in bits(whole).items()} == {
        k: v.tolist() for k, v in bits(half).items()
    }
    for a, b in zip(whole.history_, half.history_, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }
        assert np.isclose(a["objective"], a["critic_"] + a["generator_"])
