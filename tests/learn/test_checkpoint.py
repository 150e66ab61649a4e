"""A run that was killed and resumed is the run that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import genus
from genus import MLP, Trainer
from genus.learn.descent import Descent
from toys import GAN, Conditional, Stack, ToyVAE
from training import TOYS, Slope, X, resumed, same, slope


@pytest.mark.parametrize("cls", TOYS)
@pytest.mark.parametrize("steps", [1, 10, 31])
def test_resume_in_the_middle_of_an_epoch_is_bit_exact(
    cls: type, steps: int, tmp_path: Path
) -> None:
    whole, half = resumed(cls, Trainer(epochs=5), tmp_path, steps)
    assert same(whole, half)
    assert [{k: v for k, v in line.items() if k != "seconds"} for line in whole.history_] == [
        {k: v for k, v in line.items() if k != "seconds"} for line in half.history_
    ]
    assert whole.n_steps_ == half.n_steps_ == 35 * (2 if cls is Stack else 1)
    assert not hasattr(half, "interrupted_")


def test_resume_in_the_second_stage_is_bit_exact(tmp_path: Path) -> None:
    whole, half = resumed(Stack, Trainer(epochs=5), tmp_path, 35 + 17)
    assert same(whole, half)
    assert [line["stage"] for line in half.history_] == ["first"] * 5 + ["second"] * 5


@pytest.mark.parametrize(
    "trainer",
    [
        Trainer(ema=0.9),
        Trainer(optimizer="sgd", momentum=0.9, lr=1e-3),
        Trainer(optimizer="sgd", lr=1e-3),
        Trainer(optimizer="rmsprop", lr=1e-3),
        Trainer(optimizer="adamw", weight_decay=0.1),
        Trainer(precision="bfloat16"),
        Trainer(precision="float16"),
        Trainer(schedule="linear", warmup=5, grad_clip=0.5),
        Trainer(validation=0.2, ema=0.9, patience=3),
    ],
    ids=str,
)
def test_resume_is_bit_exact_whatever_the_settings(trainer: Trainer, tmp_path: Path) -> None:
    whole, half = resumed(ToyVAE, trainer.replace(epochs=6), tmp_path, 17)
    assert same(whole, half)


def test_resume_keeps_the_best_weights(tmp_path: Path) -> None:
    whole, half = resumed(Slope, Trainer(epochs=5, validation=0.2, lr=0.05), tmp_path, 14)
    values = [line["validation"] for line in whole.history_]
    assert np.argmin(values) < len(values) - 1  # the best is not the last
    assert same(whole, half)


def test_resume_with_dropout_is_bit_exact(tmp_path: Path) -> None:
    whole, half = resumed(ToyVAE, Trainer(epochs=5), tmp_path, 12, encoder=MLP(8, 1, dropout=0.3))
    assert same(whole, half)
    assert not same(whole, ToyVAE(trainer=Trainer(epochs=5), random_state=3).fit(X))


def test_a_longer_run_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    trainer = Trainer(epochs=6, schedule="constant")
    whole = ToyVAE(trainer=trainer, random_state=3).fit(X)
    for short in (trainer.replace(epochs=2), trainer.replace(max_steps=17)):
        path = tmp_path / f"run {short.epochs}"
        ToyVAE(trainer=short.replace(checkpoint=path), random_state=3).fit(X)
        assert same(
            whole,
            ToyVAE(trainer=trainer.replace(checkpoint=path), random_state=3).fit(X, resume=True),
        )


def test_resume_after_the_end_changes_nothing(tmp_path: Path) -> None:
    model = Stack(trainer=Trainer(checkpoint=tmp_path / "run"), random_state=0).fit(X)
    assert same(
        model,
        Stack(trainer=Trainer(checkpoint=tmp_path / "run"), random_state=0).fit(X, resume=True),
    )
    assert same(
        model,
        Stack(trainer=Trainer(checkpoint=tmp_path / "run"), random_state=0).fit(
            X, resume=str(tmp_path / "run")
        ),
    )


def test_resume_true_without_a_file_starts_afresh(tmp_path: Path) -> None:
    model = ToyVAE(trainer=Trainer(checkpoint=tmp_path / "none"), random_state=0).fit(
        X, resume=True
    )
    assert same(model, ToyVAE(random_state=0).fit(X))


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
import numpy as np
from toys import {cls}
from genus import Trainer
X = np.random.default_rng(0).normal(size=(100, 3)) * [1, 2, 3] + [0, 5, -5]
class Slow({cls}):
    def losses(self, x):
        time.sleep(0.003)
        yield from super().losses(x)
Slow.__name__ = "{cls}"
print("begin", flush=True)
trainer = Trainer(epochs=12, checkpoint={path!r}, checkpoint_every=0.0)
model = Slow(trainer=trainer, random_state=3).fit(X, resume=True)
print("end", getattr(model, "interrupted_", False), flush=True)
model.save({path!r} + ".model")
"""


ENV = {**os.environ, "PYTHONPATH": str(Path(genus.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def child(cls: str, path: Path) -> subprocess.Popen[str]:
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), cls=cls, path=str(path))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n", process.stderr.read()  # type: ignore[union-attr]
    return process


def wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)


KILLS = """
import os, signal, sys, time
import torch._dynamo  # what an optimiser imports at first
child = "print = lambda *a, **k: None" + sys.stdin.read()
kills = 0
for i in range(8):
    pid = os.fork()
    if pid == 0:
        exec(child)
        os._exit(0)
    while not os.path.exists({path!r}) and os.waitpid(pid, os.WNOHANG)[0] == 0:
        time.sleep(0.001)
    time.sleep(0.02 + 0.01 * i)
    os.kill(pid, signal.SIGKILL)
    kills += os.waitpid(pid, 0)[1] == signal.SIGKILL
print(kills)
"""


@pytest.mark.full
def test_kill_9_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run"
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), cls="ToyVAE", path=str(path))
    program = "import genus\n" + KILLS.format(path=str(path))
    out = subprocess.run(
        [sys.executable, "-c", program],
        input=script,
        capture_output=True,
        text=True,
        env=ENV,
        check=True,
    ).stdout
    assert int(out) >= 5
    half = ToyVAE(trainer=Trainer(epochs=12, checkpoint=path), random_state=3).fit(X, resume=True)
    assert same(half, ToyVAE(trainer=Trainer(epochs=12), random_state=3).fit(X))


def test_ctrl_c_leaves_a_usable_model_and_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = child("ToyVAE", path)
    wait_for(path)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out == "end True\n"
    assert "interrupted at epoch" in err
    model = genus.load(f"{path}.model", models=[ToyVAE])
    assert np.isfinite(model.score(X)) and model.interrupted_ and model.history_
    half = ToyVAE(trainer=Trainer(epochs=12, checkpoint=path), random_state=3).fit(X, resume=True)
    assert same(half, ToyVAE(trainer=Trainer(epochs=12), random_state=3).fit(X))


def test_a_checkpoint_that_cannot_be_written_says_so_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="checkpoint .*run cannot be written"):
        ToyVAE(trainer=Trainer(checkpoint=tmp_path / "file" / "run")).fit(X)
    with pytest.raises(TypeError, match="encoder"):
        ToyVAE(
            encoder=lambda i, o: nn.Linear(i[0], o[0]), trainer=Trainer(checkpoint=tmp_path / "run")
        ).fit(X)


def test_a_disk_that_fills_up_costs_the_checkpoint_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    ToyVAE(trainer=Trainer(checkpoint=path), random_state=0).fit(X)
    calls = 0
    fsync = os.fsync

    def full(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:  # the file and the folder of the first checkpoint
            raise OSError(28, "No space left on device")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match=r"no checkpoint at epoch .* step .*No space left") as said:
        model = ToyVAE(trainer=Trainer(checkpoint=path, checkpoint_every=0.0), random_state=1).fit(
            X
        )
    assert len(said) >= 1 and np.isfinite(model.score(X))
    monkeypatch.undo()
    assert sorted(tmp_path.iterdir()) == [path]  # whole, and no debris beside it
    again = ToyVAE(trainer=Trainer(checkpoint=path), random_state=1).fit(X, resume=True)
    assert same(model, again)


def test_resume_refuses_other_data_arguments_and_files(tmp_path: Path) -> None:
    path = tmp_path / "run"
    trainer = Trainer(checkpoint=path, validation=0.2)
    ToyVAE(trainer=trainer, random_state=0).fit(X)
    with pytest.raises(ValueError, match="other rows"):
        ToyVAE(trainer=trainer, random_state=0).fit(X + 1e-9, resume=True)
    with pytest.raises(ValueError, match="other rows"):
        ToyVAE(trainer=trainer, random_state=0).fit(X, validation=0.3, resume=True)
    with pytest.raises(ValueError, match="latent_dim=2, not 3"):
        ToyVAE(latent_dim=3, trainer=trainer, random_state=0).fit(X, resume=True)
    with pytest.raises(ValueError, match="lr=None, not 0.5"):
        ToyVAE(trainer=trainer.replace(lr=0.5), random_state=0).fit(X, resume=True)
    with pytest.raises(ValueError, match="checkpoint of ToyVAE, not of GAN"):
        GAN(trainer=trainer, random_state=0).fit(X, resume=True)
    with pytest.raises(ValueError, match="resume=True needs"):
        ToyVAE().fit(X, resume=True)
    with pytest.raises(FileNotFoundError):
        ToyVAE().fit(X, resume=tmp_path / "absent")
    model = ToyVAE().fit(X)
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="saved model, not a training checkpoint"):
        ToyVAE().fit(X, resume=tmp_path / "model")
    other = (X[:, 0] > 1).astype(int)
    trainer = Trainer(checkpoint=tmp_path / "given")
    Conditional(trainer=trainer, random_state=0).fit(X, given=other)
    with pytest.raises(ValueError, match="other rows"):
        Conditional(trainer=trainer, random_state=0).fit(X, given=1 - other, resume=True)


def test_checkpoint_every(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves: list[int] = []
    save = Descent.save
    monkeypatch.setattr(Descent, "save", lambda self: (saves.append(self.at.step), save(self))[1])
    slope(epochs=1)
    assert saves == []
    slope(epochs=1, checkpoint=tmp_path / "run")
    assert saves == [0, 4]
    saves.clear()
    slope(epochs=1, checkpoint=str(tmp_path / "run2"), checkpoint_every=0)
    assert saves == [0, 1, 2, 3, 4, 4]
