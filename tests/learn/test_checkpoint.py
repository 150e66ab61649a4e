"""A run that was killed and resumed is the run that was not."""

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
from torch import nn

import genus
from genus import MLP, Trainer, files
from genus.learn.descent import Descent
from toys import GAN, Conditional, Stack, ToyVAE
from training import TOYS, Slope, X, resumed, same, slope, stop_after


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


# ------------------------------------------------------------- malice: good checksums, bad contents


def first(tensors: dict[str, Any], part: str) -> str:
    """The name of a tensor of this part, or of this entry of an optimiser."""
    return min(k for k in tensors if k.startswith(part) or k.endswith(part))


def tensor(part: str, change: Any) -> Any:
    """Forges one tensor of a checkpoint."""

    def forge(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        name = first(tensors, part)
        tensors[name] = change(tensors[name])

    return forge


def entry(*path: Any, value: Any = None, drop: bool = False) -> Any:
    """Forges one entry of its JSON."""

    def forge(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        inside = meta
        for key in path[:-1]:
            inside = inside[key]
        if drop:
            del inside[path[-1]]
        else:
            inside[path[-1]] = value

    return forge


def without(part: str) -> Any:
    def forge(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        del tensors[first(tensors, part)]

    return forge


def grown(t: torch.Tensor) -> torch.Tensor:
    return torch.cat([t.reshape(-1), t.reshape(-1)])


FORGED: dict[str, Any] = {
    "a moment of another shape": tensor("/exp_avg", grown),
    "a moment of one number": tensor("/exp_avg_sq", lambda t: t.reshape(-1)[:1].clone()),
    "a moment of another type": tensor("/exp_avg", lambda t: t.double()),
    "a moment below 0": tensor("/exp_avg_sq", lambda t: t - 1),
    "a moment that is NaN": tensor("/exp_avg", lambda t: t * np.nan),
    "steps that are many": tensor("/step", grown),
    "no steps at all": tensor("/step", torch.zeros_like),
    "a moment left out": without("/exp_avg_sq"),
    "an entry of another optimiser": lambda t, m: t.update({"optim//0/square": torch.ones(3)}),
    "a parameter too many": lambda t, m: t.update({"optim//99/exp_avg": torch.ones(3)}),
    "a parameter of another shape": tensor("model/", grown),
    "a parameter of another type": tensor("model/decoder_.1.weight", lambda t: t.long()),
    "a parameter that is NaN": tensor("model/decoder_.1.weight", lambda t: t * np.nan),
    "a parameter left out": without("model/"),
    "an average of another shape": tensor("ema/", grown),
    "an average left out": without("ema/"),
    "best weights of another shape": tensor("best/decoder_.1.weight", grown),
    "best weights left out": without("best/"),
    "a random state of another size": tensor("rng", lambda t: t[:100].clone()),
    "a random state that is none": tensor("rng", lambda t: torch.zeros_like(t) + 255),
    "no random state": without("rng"),
    "a batch beyond the pass": entry("loop", "batch", value=10**9),
    "a batch below 0": entry("loop", "batch", value=-1),
    "an epoch in words": entry("loop", "epoch", value="two"),
    "half a step": entry("loop", "step", value=1.5),
    "a time before the beginning": entry("loop", "elapsed", value=-1e9),
    "a rate of 0": entry("loop", "lr_scale", value=0.0),
    "a rate without end": entry("loop", "lr_scale", value=1e30),
    "a best value in words": entry("loop", "best_value", value="good"),
    "a total in words": entry("loop", "total", value="much"),
    "a history in words": entry("loop", "history", value="long"),
    "a player of no module": entry("players", value=["nobody_"]),
    "players that are a number": entry("players", value=3),
    "no counters": entry("loop", "epoch", drop=True),
    "a loop that is a list": entry("loop", value=[]),
    "no earlier": entry("earlier", drop=True),
    "earlier steps in words": entry("earlier", "steps", value="many"),
    "no seed": entry("seed", drop=True),
    "a seed in words": entry("seed", value="zero"),
    "a seed below 0": entry("seed", value=-3),
    "time spent in words": entry("spent", value="long"),
    "no rows": entry("rows", drop=True),
    "no stage": entry("stage", drop=True),
    "said of nothing": entry("said", value=None),
    "said without arguments": entry("said", "params", drop=True),
    "notes in words": entry("notes", value="none"),
    "a note that replaces parameters": entry("notes", "", "_parameters", value=3),
    "a note that replaces a method": entry("notes", "", "losses", value="none"),
    "a note that is a list": entry("notes", "", "_seed", value=[1]),
    "work in words": entry("work", value="hard"),
}


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the middle of a pass, with averages and best weights."""
    path = tmp_path_factory.mktemp("forged") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 13)
        with pytest.warns(UserWarning, match="interrupted"):
            forgeable(path).fit(X)
    return path


def forgeable(path: Path) -> ToyVAE:
    trainer = Trainer(epochs=4, checkpoint=path, checkpoint_every=0.0, ema=0.9, validation=0.2)
    return ToyVAE(trainer=trainer, random_state=3)


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_checkpoint_is_one_clear_error(
    name: str, checkpoint_file: Path, tmp_path: Path
) -> None:
    tensors, meta = files.read(checkpoint_file)
    FORGED[name](tensors, meta)
    meta.pop("format")
    files.write(tmp_path / "run", tensors, meta)
    with pytest.raises(files.StoreError, match=r"checkpoint.*Start anew|training checkpoint"):
        forgeable(tmp_path / "run").fit(X, resume=True)


def test_arguments_among_the_notes_are_the_callers(checkpoint_file: Path, tmp_path: Path) -> None:
    tensors, meta = files.read(checkpoint_file)
    meta["notes"][""]["latent_dim"] = 7
    meta.pop("format")
    files.write(tmp_path / "run", tensors, meta)
    half = forgeable(tmp_path / "run").fit(X, resume=True)
    assert half.latent_dim == 2
    assert same(half, forgeable(tmp_path / "whole").fit(X))
