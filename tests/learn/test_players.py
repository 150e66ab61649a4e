"""Players: their optimisers and their rates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from genus import Trainer
from genus.learn.descent import Descent
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from toys import Toy
from training import Slope, X, slope


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
