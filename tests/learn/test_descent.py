"""The loop: what it promises every family, shown on the toys."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

import genus
from genus import MLP, Trainer
from genus.learn import Rows, descent, rows
from genus.learn import trainer as trainers
from genus.learn.checkpoint import everything
from genus.learn.descent import Descent, descend
from genus.learn.fit import DivergenceError, Fit, time_limit
from genus.learn.trainer import BASE
from toys import EBM, EM, GAN, Conditional, Stack, Toy, ToyVAE

X = np.random.default_rng(0).normal(size=(100, 3)) * [1, 2, 3] + [0, 5, -5]
X2 = X - X.mean(0)
TOYS = [ToyVAE, GAN, EBM, Stack, Conditional]


def extra(cls: type, X: np.ndarray = X) -> dict[str, Any]:
    return {"given": (X[:, 0] > 0).astype(int)} if cls is Conditional else {}


def bits(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in everything(model).items()}


def same(a: Any, b: Any) -> bool:
    a, b = bits(a), bits(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Ctrl-C, as it were, after so many steps (of all stages)."""
    count = 0
    one_step = Descent.one_step

    def counted(self: Descent, batch: Any) -> Any:
        nonlocal count
        count += 1
        if count == steps + 1:
            raise KeyboardInterrupt
        return one_step(self, batch)

    monkeypatch.setattr(Descent, "one_step", counted)


def resumed(
    cls: type, trainer: Trainer, tmp_path: Path, steps: int, fit: Any = None, **args: Any
) -> tuple[Any, Any]:
    """(an uninterrupted model, one killed after ``steps`` steps and resumed)."""
    fit = fit or {}
    whole = cls(trainer=trainer, random_state=3, **args).fit(X, **extra(cls), **fit)
    trainer = trainer.replace(checkpoint=tmp_path / "run", checkpoint_every=0.0)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, steps)
        with pytest.warns(UserWarning, match="interrupted"):
            cls(trainer=trainer, random_state=3, **args).fit(X, **extra(cls), **fit)
    half = cls(trainer=trainer, random_state=3, **args).fit(X, resume=True, **extra(cls), **fit)
    return whole, half


# ---------------------------------------------------------------------- the same bits


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


@pytest.mark.parametrize("cls", [*TOYS, EM])
def test_same_seed_same_bits_and_no_global_state(cls: type) -> None:
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    before, before_np = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, c = (cls(random_state=s).fit(X, **extra(cls)) for s in (1, 1, 2))
    assert same(a, b)
    assert not same(a, c)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(before_np, np.random.get_state()[1])  # noqa: NPY002


def test_two_threads_train_as_each_would_alone() -> None:
    alone = {
        cls: cls(random_state=1, trainer=Trainer(epochs=10)).fit(X2, **extra(cls))
        for cls in (ToyVAE, EBM, GAN)
    }
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    together: dict[type, Any] = {}

    def fit(cls: type) -> None:
        together[cls] = cls(random_state=1, trainer=Trainer(epochs=10)).fit(X2, **extra(cls))

    threads = [threading.Thread(target=fit, args=(cls,)) for cls in alone]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(same(alone[cls], together[cls]) for cls in alone)
    assert torch.equal(before, torch.random.get_rng_state())


class Items(torch.utils.data.Dataset):
    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        return torch.from_numpy(self.x[i]), 0


@pytest.mark.parametrize("trainer", [Trainer(), Trainer(validation=0.2)])
@pytest.mark.parametrize(
    "X",
    [X.astype(np.float32), np.random.default_rng(0).integers(0, 256, (100, 3)).astype(np.uint8)],
    ids=["float", "uint8"],
)
def test_streams_equal_memory_bit_for_bit(
    X: np.ndarray, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = ToyVAE(trainer=trainer, random_state=0).fit(X)
    assert same(memory, ToyVAE(trainer=trainer, random_state=0).fit(Items(X)))
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = ToyVAE(trainer=trainer, random_state=0).fit(mapped)
    assert same(memory, model)
    assert isinstance(model._rows(mapped).x, rows.Stream)


# ---------------------------------------------------------------------- interruptions

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


# ---------------------------------------------------------------------- when it goes wrong


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


def test_an_error_in_a_loss_names_the_step() -> None:
    class Fails(ToyVAE):
        def losses(self, x: torch.Tensor) -> Any:
            raise RuntimeError("out of memory")
            yield

    with pytest.raises(RuntimeError, match="out of memory") as e:
        Fails().fit(X)
    assert e.value.__notes__ == ["(while training Fails, epoch 1, step 1)"]


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


def test_a_player_must_be_a_submodule() -> None:
    class Odd(Toy):
        def build(self, space: Any) -> None:
            self.w_ = nn.Parameter(torch.zeros(()))

        def losses(self, x: torch.Tensor) -> Any:
            yield nn.Linear(1, 1), self.w_ * 1

    with pytest.raises(ValueError, match="no submodule of Odd"):
        Odd().fit(X)


# ---------------------------------------------------------------------- the settings, one by one


class Slope(Toy):
    """One matrix and one bias with a constant gradient of 1 (times ``slope``), told by hand."""

    slope = 1.0
    log: list[dict[str, Any]]

    def build(self, space: Any) -> None:
        self.matrix_ = nn.Parameter(torch.ones(2, 2))
        self.bias_ = nn.Parameter(torch.ones(2))
        self.log = []

    def defaults(self, n: int) -> Trainer:
        return Trainer(epochs=2, batch_size=25, lr=0.1, optimizer="sgd", schedule="constant")

    def losses(self, x: torch.Tensor) -> Any:
        y = self.matrix_ @ self.bias_
        self.log.append(
            {
                "rows": len(x),
                "bias": float(self.bias_.detach()[0]),
                "matrix": float(self.matrix_.detach()[0, 0]),
                "dtype": y.dtype,
            }
        )
        self.log[-1]["threads"] = torch.get_num_threads()
        yield self, self.slope * (self.matrix_.sum() + self.bias_.sum())

    def validate(self, x: torch.Tensor) -> float:
        self.validated_ = getattr(self, "validated_", 0) + len(x)
        return float(self.bias_.detach()[0] - 0.45) ** 2


def slope(**settings: Any) -> Slope:
    return Slope(trainer=Trainer(**settings), random_state=0).fit(X)


def test_epochs_max_steps_and_batch_size() -> None:
    assert [s["rows"] for s in slope().log] == [25] * 8
    assert len(slope(epochs=3).log) == 12
    model = slope(epochs=3, max_steps=5)
    assert len(model.log) == model.n_steps_ == 5
    assert [line["step"] for line in model.history_] == [4, 5]
    assert [s["rows"] for s in slope(epochs=1, batch_size=30).log] == [30, 30, 30, 10]
    assert [s["rows"] for s in slope(epochs=1, batch_size=1000).log] == [100]


def test_lr_and_momentum() -> None:
    assert np.allclose([s["bias"] for s in slope(epochs=1).log], [1, 0.9, 0.8, 0.7])
    assert np.allclose([s["bias"] for s in slope(epochs=1, lr=0.01).log], [1, 0.99, 0.98, 0.97])
    assert np.allclose(
        [s["bias"] for s in slope(epochs=1, momentum=0.5).log], [1, 0.9, 0.75, 0.575]
    )
    plain, heavy = (
        slope(epochs=1, optimizer="rmsprop", momentum=m).log[-1]["bias"] for m in (0.0, 0.5)
    )
    assert plain != heavy


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
        optimizer = run.player(model).optimizer
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


def test_schedule_and_warmup() -> None:
    def rates(**settings: Any) -> np.ndarray:
        return -np.diff([s["bias"] for s in slope(lr=1.0, epochs=2, **settings).log])

    t = np.arange(7) / 8
    assert np.allclose(rates(), 1)
    assert np.allclose(rates(schedule="linear"), 1 - t)
    assert np.allclose(rates(schedule="cosine"), 0.5 + 0.5 * np.cos(np.pi * t))
    assert np.allclose(rates(warmup=4), [0.25, 0.5, 0.75, 1, 1, 1, 1])


def test_grad_clip_really_clips() -> None:
    # the gradient is 6 ones, of norm √6
    assert np.isclose(slope(epochs=1, lr=1.0, grad_clip=0.5).log[1]["bias"], 1 - 0.5 / np.sqrt(6))
    assert np.isclose(slope(epochs=1, lr=1.0, grad_clip=5.0).log[1]["bias"], 0)


def test_ema_is_kept_and_validated() -> None:
    model = slope(epochs=1, ema=0.9)
    average = bias = 1.0
    for step in range(4):
        bias -= 0.1
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * bias
    assert np.isclose(model.bias_[0].item(), average)
    held = Slope(trainer=Trainer(epochs=1, ema=0.9), random_state=0).fit(X, validation=X[:10])
    assert np.isclose(held.history_[0]["validation"], (average - 0.45) ** 2)


def test_validation_and_best_weights() -> None:
    # 4 steps of 20 rows … the bias passes .45 in the third epoch
    model = slope(epochs=5, validation=0.2, lr=0.05)
    assert model.validated_ == 5 * 20
    assert sum(s["rows"] for s in model.log) == 5 * 80
    values = [line["validation"] for line in model.history_]
    best = int(np.argmin(values))
    assert best < 4
    assert np.isclose((model.bias_[0].item() - 0.45) ** 2, values[best])
    assert "validation" not in slope(epochs=1).history_[0]


def test_validation_rows_are_not_trained_on_nor_the_test_set_used() -> None:
    seen: list[torch.Tensor] = []

    class Watch(Slope):
        def losses(self, x: torch.Tensor) -> Any:
            seen.append(x.clone())
            yield from super().losses(x)

        def validate(self, x: torch.Tensor) -> float:
            self.held_ = x
            return 0.0

    model = Watch(trainer=Trainer(epochs=1, validation=0.25)).fit(X)
    trained = {tuple(r) for r in torch.cat(seen).tolist()}
    held = {tuple(r) for r in model.held_.tolist()}
    assert (
        len(held) == 25 and not trained & held and trained | held == {tuple(r) for r in X.tolist()}
    )
    model = Watch(trainer=Trainer(epochs=1)).fit(X, validation=X2[:7])
    assert np.array_equal(model.held_.numpy(), X2[:7])


def test_patience_stops_and_holds_out_a_tenth_by_itself() -> None:
    model = slope(epochs=100, patience=2, lr=0.05)
    assert model.validated_ % 10 == 0
    values = [line["validation"] for line in model.history_]
    assert len(values) == np.argmin(values) + 3 < 100
    assert len(slope(epochs=30, lr=0.05, validation=0.1).history_) == 30


def test_the_default_objective_is_the_mean_log_probability() -> None:
    model = ToyVAE(trainer=Trainer(epochs=3), random_state=0).fit(X, validation=X2)
    best = min(line["validation"] for line in model.history_)
    assert np.isclose(-model.score(X2), best, rtol=1e-5)
    assert "validation" not in GAN(trainer=Trainer(epochs=1)).fit(X, validation=X2).history_[0]


def test_conditions_of_validation_rows() -> None:
    g = (X[:, 0] > 0).astype(int)
    model = Conditional(trainer=Trainer(epochs=3), random_state=0).fit(
        X, given=g, validation=(X2, g)
    )
    assert np.isclose(
        -model.log_prob(X2, given=g).mean(),
        min(line["validation"] for line in model.history_),
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match=r"validation=\(X, given\)"):
        Conditional().fit(X, given=g, validation=X2)


def test_max_time_stops_and_ends_the_schedule() -> None:
    class Slow(Slope):
        def losses(self, x: torch.Tensor) -> Any:
            time.sleep(0.005)
            yield from super().losses(x)

    for fit in (
        lambda: Slow(trainer=Trainer(epochs=10_000, max_time=0.3, schedule="linear")).fit(X),
        lambda: _within(
            0.3, lambda: Slow(trainer=Trainer(epochs=10_000, schedule="linear")).fit(X)
        ),
    ):
        begun = time.perf_counter()
        model = fit()
        assert 0.25 < time.perf_counter() - begun < 2
        assert 5 < model.n_steps_ < 100
        assert model.history_[-1]["lr"] < 0.1 * model.history_[0]["lr"]


def _within(seconds: float, f: Any) -> Any:
    with time_limit(seconds):
        return f()


def test_stages_share_the_time() -> None:
    begun = time.perf_counter()
    model = Stack(trainer=Trainer(epochs=100_000, max_time=0.6)).fit(X)
    assert time.perf_counter() - begun < 3
    spent = {
        s: sum(1 for line in model.history_ if line["stage"] == s) for s in ("first", "second")
    }
    assert spent["first"] > 3 and spent["second"] > 3


def test_time_limit_stops_em() -> None:
    class Slow(EM):
        def statistics(self, x: torch.Tensor) -> Any:
            time.sleep(0.02)
            return super().statistics(x)

        def maximise(self, sums: Any) -> None:
            super().maximise(sums)
            self.means_ = self.means_ + 0.01 * torch.randn(self.means_.shape, generator=self.rng)

    with time_limit(0.2):
        model = Slow(max_iter=10_000, random_state=0).fit(X)
    assert 2 < model.n_iter_ < 20 and not model.converged_


def test_bfloat16_is_chosen_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(Slope):
        network_bound = True

    def dtype(native: bool, large: int, kind: type[Slope] = Wide, **settings: Any) -> torch.dtype:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
        monkeypatch.setattr(descent, "LARGE_STEP", large)
        return kind(trainer=Trainer(epochs=1, **settings), random_state=0).fit(X).log[0]["dtype"]

    assert dtype(True, 150) is torch.bfloat16  # 25 rows x 6 parameters
    assert dtype(True, 151) is dtype(False, 150) is dtype(True, 150, Slope) is torch.float32
    assert dtype(True, 150, precision="float32") is torch.float32


def test_precision() -> None:
    assert slope(epochs=1).log[0]["dtype"] is torch.float32
    assert slope(epochs=1, precision="bfloat16").log[0]["dtype"] is torch.bfloat16
    assert slope(epochs=1, precision="float16").log[0]["dtype"] is torch.float16
    assert np.isfinite(
        ToyVAE(trainer=Trainer(precision="bfloat16"), random_state=0).fit(X).score(X)
    )
    assert not torch.is_autocast_enabled("cpu")


def test_threads() -> None:
    before = torch.get_num_threads()
    assert slope(epochs=1, threads=2).log[0]["threads"] == 2
    assert torch.get_num_threads() == before


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no such device here, so moving to it is written down instead."""
    moved: list[Any] = []
    monkeypatch.setattr(trainers.Device, "accepts", lambda self, name: True)
    for cls in (Slope, Rows):
        monkeypatch.setattr(
            cls, "to", lambda self, device: moved.append((type(self), device)) or self
        )
    monkeypatch.setattr(
        "genus.model.generator",
        lambda seed, device="cpu": moved.append(("generator", device)) or rows.generator(seed),
    )
    Slope(trainer=Trainer(epochs=1, device="cuda:7", validation=0.2), random_state=0).fit(X)
    assert moved == [
        ("generator", "cpu"),
        (Slope, "cuda:7"),
        ("generator", "cuda:7"),
        (Rows, "cuda:7"),
        (Rows, "cuda:7"),
    ]


def test_settings_print_what_was_set() -> None:
    assert repr(Trainer(epochs=2, lr=0.5)) == "Trainer(epochs=2, lr=0.5)"


def test_compile_passes_the_networks_through_torch_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *a, **k: compiled.append(self))
    model = ToyVAE(trainer=Trainer(epochs=1)).fit(X)
    assert not compiled
    model = ToyVAE(trainer=Trainer(epochs=1, compile=True)).fit(X)
    assert compiled == list(model.children())


def test_checkpoint_every(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves: list[int] = []
    save = Descent.save
    monkeypatch.setattr(Descent, "save", lambda self: (saves.append(self.step), save(self))[1])
    slope(epochs=1)
    assert saves == []
    slope(epochs=1, checkpoint=tmp_path / "run")
    assert saves == [0, 4]
    saves.clear()
    slope(epochs=1, checkpoint=str(tmp_path / "run2"), checkpoint_every=0)
    assert saves == [0, 1, 2, 3, 4, 4]


def test_the_bar_is_on_stderr_only(capfd: pytest.CaptureFixture[str]) -> None:
    ToyVAE(trainer=Trainer(epochs=3, progress=True), random_state=0).fit(X)
    out, err = capfd.readouterr()
    assert out == ""
    assert "ToyVAE" in err and "epoch 3" in err and "rows/s" in err and "objective" in err
    ToyVAE(trainer=Trainer(epochs=3), random_state=0).fit(X)
    assert capfd.readouterr() == ("", "")


OUT_OF_RANGE: dict[str, list[Any]] = {
    "epochs": [0, -1, 1.5, True, "3"],
    "max_steps": [0],
    "max_time": [0, -1.0, "x", float("nan")],
    "batch_size": [0, 2.5],
    "optimizer": ["lion", 3],
    "lr": [0, -1, float("inf"), float("nan"), "fast"],
    "momentum": [1.0, -0.1],
    "betas": [(0.9,), (0.9, 1.0), 0.9],
    "weight_decay": [-1],
    "schedule": ["step"],
    "warmup": [-1, 0.5],
    "grad_clip": [0, -2],
    "ema": [1, -0.5],
    "validation": [1.0, -0.1],
    "patience": [0, 1.5],
    "device": ["abacus"],
    "precision": ["float8"],
    "threads": [0],
    "checkpoint": [3],
    "checkpoint_every": [-1],
    "compile": [1],
    "progress": ["no"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(k, v) for k, values in OUT_OF_RANGE.items() for v in values]
)
def test_settings_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Trainer\({name}="):
        ToyVAE(trainer=Trainer(**{name: value})).fit(X)


def test_every_field_has_a_range() -> None:
    assert set(Trainer().get_params()) == set(OUT_OF_RANGE)
    assert BASE.check() is BASE
    Trainer(epochs=np.int64(3), lr=np.float32(0.1), max_time=float("inf")).check()


def test_settings_are_searched_and_cloned() -> None:
    search = GridSearchCV(
        ToyVAE(random_state=0),
        {"trainer__lr": [1e-5, 1e-2], "encoder__width": np.array([4, 6])},
        cv=2,
        error_score="raise",
    ).fit(X)
    assert search.best_params_["trainer__lr"] == 1e-2
    assert search.best_estimator_.trainer.lr == 1e-2 and search.best_estimator_.encoder.width in (
        4,
        6,
    )
    model = clone(ToyVAE(trainer=Trainer(lr=0.5)))
    assert model.trainer == Trainer(lr=0.5)
    assert model.get_params()["trainer__lr"] == 0.5
    with pytest.raises(ValueError, match="has no field 'rate'"):
        model.set_params(trainer__rate=1)
    assert Trainer(lr=1.0).over(Trainer(lr=2.0, epochs=3)) == Trainer(lr=1.0, epochs=3)


# ---------------------------------------------------------------------- EM


def test_em_converges_resumes_and_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    X = np.concatenate(
        [
            np.random.default_rng(0).normal(-3, 1, (50, 2)),
            np.random.default_rng(1).normal(3, 1, (50, 2)),
        ]
    )
    whole = EM(random_state=0, max_iter=30).fit(X)
    values = [-line["objective"] for line in whole.history_]
    assert np.all(np.diff(values) > -1e-9)
    half = EM(random_state=0, max_iter=2).fit(X)
    half.save(tmp_path / "half")
    for go_on in (
        half.set_params(max_iter=30).fit(X, resume=True),
        EM(max_iter=30).fit(X, resume=tmp_path / "half"),
    ):
        assert torch.equal(go_on.means_, whole.means_) and len(go_on.history_) == len(
            whole.history_
        )

    def interrupt(self: EM, sums: Any) -> None:
        EM_maximise(self, sums)
        if len(values) and self.weights_[0] != 0.5:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    EM_maximise = EM.maximise
    monkeypatch.setattr(EM, "maximise", interrupt)
    with pytest.warns(UserWarning, match="interrupted at iteration 1"):
        model = EM(random_state=0).fit(X)
    assert model.interrupted_ and np.isfinite(model.score(X))


def test_em_stops_at_a_number_that_is_none() -> None:
    class Breaks(EM):
        def maximise(self, sums: Any) -> None:
            self.means_ = self.means_ * float("nan")

    with pytest.raises(DivergenceError, match="iteration 2"):
        Breaks().fit(X)


def test_sums_do_not_depend_on_the_chunk() -> None:
    from genus.learn.sums import accumulate

    model = EM(random_state=0).fit(X)
    model.rng = torch.Generator()
    a, b = (accumulate(model, Rows(torch.from_numpy(X)), chunk) for chunk in (7, 1000))
    assert all(torch.allclose(a[k].double(), b[k].double(), rtol=1e-12) for k in a)


# ---------------------------------------------------------------------- the rows


def test_grey_values_under_a_binary_space_are_drawn_afresh_for_every_batch() -> None:
    class Seen(Slope):
        def losses(self, x: torch.Tensor) -> Any:
            self.log.append({"x": x.clone()})
            yield self, self.bias_.sum()

    grey = np.random.default_rng(0).random((400, 3))
    model = Seen(trainer=Trainer(batch_size=400, epochs=20), random_state=0).fit(
        grey, space="binary"
    )
    xs = torch.stack([s["x"].sort(0).values for s in model.log])
    assert set(xs.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(xs[0], xs[1])
    assert np.allclose(xs.mean((0, 1)), grey.mean(0), atol=0.02)


def test_every_row_is_seen_once_an_epoch_in_another_order() -> None:
    seen: list[list[float]] = []

    class Watch(Slope):
        def losses(self, x: torch.Tensor) -> Any:
            seen.append(x[:, 0].tolist())
            yield from super().losses(x)

    Watch(trainer=Trainer(epochs=2, batch_size=30)).fit(X)
    first, second = sum(seen[:4], []), sum(seen[4:], [])
    assert sorted(first) == sorted(second) == sorted(X[:, 0].tolist()) and first != second


def test_descend_leaves_nothing_in_a_deep_copy_or_pickle() -> None:
    import pickle

    model = ToyVAE(encoder=MLP(4, 1, dropout=0.5), random_state=0).fit(X)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(model, other) and other.score(X) == model.score(X)
    assert not hasattr(model, "rng") and "training" not in vars(model)


def test_descend_may_be_called_by_hand() -> None:
    """As a family's ``learn`` does: settings of the call win over the caller's."""

    class Short(Slope):
        def learn(self, fit: Fit) -> None:
            descend(self, fit, epochs=1, batch_size=50)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [s["rows"] for s in Short(trainer=Trainer(epochs=9)).fit(X).log] == [50, 50]
