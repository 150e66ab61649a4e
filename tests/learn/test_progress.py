"""The bar, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genus import Trainer
from genus.learn.rows import Rows
from toys import Stack, ToyVAE
from training import X, stop_after


def test_the_bar_is_on_stderr_only(capfd: pytest.CaptureFixture[str]) -> None:
    ToyVAE(trainer=Trainer(epochs=3, progress=True), random_state=0).fit(X)
    out, err = capfd.readouterr()
    assert out == ""
    assert "ToyVAE" in err and "epoch 3" in err and "rows/s" in err and "objective" in err
    ToyVAE(trainer=Trainer(epochs=3), random_state=0).fit(X)
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_in_the_first_stage_starts_no_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 10)
    with pytest.warns(UserWarning, match="first epoch 2, step 11"):
        model = Stack(random_state=0).fit(X)
    assert {line["stage"] for line in model.history_} == {"first"}
    assert np.isfinite(model.encode(X)).all()


def test_ctrl_c_waits_for_the_end_of_the_step() -> None:
    class Signals(ToyVAE):
        def losses(self, x: torch.Tensor) -> Any:
            if len(self.seen_) == 3:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
            self.seen_.append(1)
            yield from super().losses(x)

        def start(self, rows: Rows) -> None:
            super().start(rows)
            self.seen_: list[int] = []

    with pytest.warns(UserWarning, match="interrupted at epoch 1, step 5"):
        model = Signals(random_state=0).fit(X)
    assert model.n_steps_ == 4
    assert len(model.history_) == 1 and np.isfinite(model.score(X))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
