"""The bar, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genus
from genus import Trainer
from genus.learn.progress import CtrlC, stopping_as_ctrl_c
from genus.learn.rows import Rows
from toys import Stack, ToyVAE
from training import X, stop_after


def test_the_bar_is_on_stderr_only(capfd: pytest.CaptureFixture[str]) -> None:
    ToyVAE(trainer=Trainer(epochs=3, progress=True), random_state=0).fit(X)
    out, err = capfd.readouterr()
    assert out == ""
    assert "ToyVAE" in err and "epoch 3" in err and "rows/s" in err and "objective" in err
    assert "validation" not in err
    ToyVAE(trainer=Trainer(epochs=3), random_state=0).fit(X)
    assert capfd.readouterr() == ("", "")


def test_the_bar_shows_the_objective_on_held_out_rows(capfd: pytest.CaptureFixture[str]) -> None:
    trainer = Trainer(epochs=3, progress=True, validation=0.2)
    model = ToyVAE(trainer=trainer, random_state=0).fit(X)
    last = model.history_[-1]["validation"]
    assert f"validation {last:.4f}" in capfd.readouterr().err


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


ENV = {**os.environ, "PYTHONPATH": str(Path(genus.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
SLOW = """
import sys, threading, os, time, signal
sys.path.insert(0, {tests!r})
import numpy as np, genus
from genus.learn.sums import solve
rng = np.random.default_rng(0)
X = rng.normal(size=(400, 3))
class Slow(genus.GaussianMixture):
    def statistics(self, *a):
        time.sleep(0.05)
        return super().statistics(*a)
Slow.__name__ = "GaussianMixture"
def later():
    time.sleep(3.0)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=later, daemon=True).start()
{body}
"""
FIT = """
model = Slow(3, tol=0.0, max_iter=100_000, random_state=0).fit(X)
print(model.interrupted_, bool(np.isfinite(model.score(X))))
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
COMPARE = """
table = genus.compare([Slow(3, tol=0.0, max_iter=100_000), genus.Gaussian()], X, samples=0)
print([bool(r.error) for r in table.rows if r.name == "Gaussian"], len(table.rows) > 1)
print("not run: interrupted" in str([r.error for r in table.rows]))
"""


@pytest.mark.parametrize(("body", "says"), [(FIT, "True True"), (COMPARE, "[True] True")])
def test_sigterm_is_ctrl_c_for_sums_and_for_compare(body: str, says: str) -> None:
    program = SLOW.format(tests=str(Path(__file__).parents[1]), body=body)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=ENV,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [says, "True"]


def test_a_handler_of_the_callers_own_is_left_alone() -> None:
    def own(number: int, frame: Any) -> None:
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        with CtrlC(), stopping_as_ctrl_c():
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


IMPORTS = """
import os, signal, sys, threading, time, types
import numpy as np, genus
from genus.learn import work
import importlib
real = importlib.import_module
def slow(name, *a):
    time.sleep(20)
    return real(name, *a)
work.importlib.import_module = slow
for name in ("torch._dynamo", "torch.utils.flop_counter"):
    sys.modules.pop(name, None)
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
begun = time.monotonic()
try:
    genus.MADE().fit(np.random.default_rng(0).normal(size=(50, 2)))
except KeyboardInterrupt:
    print(time.monotonic() - begun)
"""


def test_ctrl_c_does_not_wait_for_imports() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=ENV,
    )
    assert float(done.stdout) < 10, done.stderr
