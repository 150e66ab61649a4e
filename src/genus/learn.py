"""How models learn: ``descend`` steps optimisers on ``losses``, ``solve`` iterates ``statistics`` and ``maximise``.

Both share one bargain with the caller: progress is shown, Ctrl-C leaves a usable model, a time budget is
kept, and the same seed gives the same numbers.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import math
import signal
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genus import store
from genus.networks import Settings

if TYPE_CHECKING:
    from genus.model import Model

__all__ = ["Data", "DivergenceError", "Rows", "Trainer", "descend", "generator", "solve", "time_limit"]


class DivergenceError(FloatingPointError):
    """Training left the finite numbers and no earlier state could save it."""


@dataclass(frozen=True)
class Trainer(Settings):
    """How a gradient is descended. Every field is None = the model's own good value.

    epochs: passes over the rows. max_steps: a cap on optimiser steps. max_time: seconds; the learning-rate
        schedule is stretched to end with whichever budget ends first.
    batch_size: rows a step.
    optimizer: ``adam``, ``adamw``, ``sgd`` or ``rmsprop``; lr: its peak rate; momentum: of sgd;
        betas: of adam; weight_decay: its decay.
    schedule: ``constant``, ``linear`` or ``cosine`` decay of the rate to 0; warmup: steps of linear growth first.
    grad_clip: largest gradient norm a step. ema: decay of an exponential moving average of the weights,
        which is what is validated and kept.
    validation: share of the rows held out, 0 to 1. patience: epochs without progress before stopping.
    device: ``cpu``, ``cuda``, …; precision: ``float32``, ``bfloat16`` or ``float16`` autocast;
        compile: pass the networks through torch.compile; threads: of the processor, while training.
    checkpoint: file that holds the whole state of training, rewritten every ``checkpoint_every`` seconds
        and at the end; ``fit(X, resume=True)`` goes on from it bit for bit.
    progress: show a bar on stderr (None: where stderr is a terminal).
    """

    epochs: int | None = None
    max_steps: int | None = None
    max_time: float | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    lr: float | None = None
    momentum: float | None = None
    betas: tuple[float, float] | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    warmup: int | None = None
    grad_clip: float | None = None
    ema: float | None = None
    validation: float | None = None
    patience: int | None = None
    device: str | None = None
    precision: str | None = None
    compile: bool | None = None
    threads: int | None = None
    checkpoint: str | Path | None = None
    checkpoint_every: float | None = None
    progress: bool | None = None

    def over(self, *others: Trainer) -> Trainer:
        """These settings, with the fields left at None taken from ``others``, first come first served."""
        values = self.get_params()
        for other in others:
            values = {k: getattr(other, k) if v is None else v for k, v in values.items()}
        return Trainer(**values)

    def check(self) -> Trainer:
        """Raise ValueError for a value out of range."""
        positive = ("epochs", "max_steps", "batch_size", "threads")
        for name in positive:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"Trainer({name}={value!r}): a positive whole number is needed")
        for name in ("lr", "max_time", "grad_clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Trainer({name}={value!r}): a positive number is needed")
        for name in ("ema", "validation", "momentum"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"Trainer({name}={value!r}): a number from 0 up to 1 is needed")
        for name, known in (("schedule", _SCHEDULES), ("optimizer", _OPTIMIZERS), ("precision", _PRECISIONS)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ValueError(f"Trainer({name}={value!r}) is unknown: choose from {', '.join(known)}")
        return self


_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda f: 1.0,
    "linear": lambda f: 1.0 - f,
    "cosine": lambda f: 0.5 + 0.5 * math.cos(math.pi * f),
}
_OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}

BASE = Trainer(
    epochs=100,
    batch_size=128,
    optimizer="adam",
    lr=1e-3,
    momentum=0.0,
    weight_decay=0.0,
    schedule="cosine",
    warmup=0,
    validation=0.0,
    precision="float32",
    compile=False,
    checkpoint_every=30.0,
)

_LIMIT: contextvars.ContextVar[float | None] = contextvars.ContextVar("genus_time_limit", default=None)


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Inside this context every fit, by gradient or by EM, ends after so many seconds with a usable model."""
    token = _LIMIT.set(seconds)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random stream of its own; genus never touches the global ones."""
    return torch.Generator(device=device).manual_seed(seed % 2**63)


# ---------------------------------------------------------------------- the rows


class Rows:
    """Training rows: a tensor in memory (indexed, never collated) or a source that is read batch by batch.

    x: (n, *shape) tensor of codes, or an object with ``len`` and ``[indices]``. given: conditions beside the
    rows. weight: (n,) nonnegative.
    """

    def __init__(self, x: Any, given: Tensor | None = None, weight: Tensor | None = None) -> None:
        self.x, self.given, self.weight = x, given, weight
        # grey values under a binary space are probabilities: pixels are drawn afresh for every batch
        self.draw = False

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device | str) -> Rows:
        """The rows on a device."""
        for name in ("x", "given", "weight"):
            t = getattr(self, name)
            if isinstance(t, Tensor):
                setattr(self, name, t.to(device))
        return self

    def take(self, index: Tensor | slice, rng: torch.Generator | None = None) -> tuple[Tensor, ...]:
        """(x,) or (x, given) of some rows, as floating-point codes."""
        x = self.x[index]
        x = x.to(torch.get_default_dtype()) if not x.is_floating_point() else x
        if self.draw:
            x = (torch.rand(x.shape, generator=rng, device=x.device) < x).to(x.dtype)
        return (x,) if self.given is None else (x, self.given[index])

    def chunks(self, size: int, rng: torch.Generator | None = None) -> Iterator[tuple[Tensor, ...]]:
        """All rows in order, ``size`` at a time."""
        for i in range(0, len(self), size):
            yield self.take(slice(i, i + size), rng)

    def split(self, share: float, seed: int) -> tuple[Rows, Rows | None]:
        """(kept, held out): a fixed random share of the rows set aside; None when that is no row."""
        n_held = int(share * len(self))
        if n_held < 1 or n_held >= len(self):
            return self, None
        order = torch.randperm(len(self), generator=generator(seed))
        return self.subset(order[n_held:].sort().values), self.subset(order[:n_held].sort().values)

    def subset(self, index: Tensor) -> Rows:
        """The rows of ``index``."""
        part = Rows(
            self.x[index] if isinstance(self.x, Tensor) else _Part(self.x, index),
            None if self.given is None else self.given[index],
            None if self.weight is None else self.weight[index],
        )
        part.draw = self.draw
        return part


class _Part:
    """Some rows of a source that is not in memory."""

    def __init__(self, source: Any, index: Tensor) -> None:
        self.source, self.index = source, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Any) -> Tensor:
        return self.source[self.index[index]]


@dataclass
class Data:
    """What ``Model.learn`` is given: the rows, those held out, the settings and the state to resume from."""

    rows: Rows
    held: Rows | None = None
    trainer: Trainer = field(default_factory=Trainer)
    seed: int = 0
    resume: tuple[dict[str, Tensor], dict[str, Any]] | None = None


# ---------------------------------------------------------------------- gradient descent


def descend(
    model: Model,
    data: Data,
    *,
    losses: Callable[..., Iterator[tuple[nn.Module, Tensor]]] | None = None,
    stage: str = "",
    **settings: Any,
) -> None:
    """Step an optimiser of each player at every (player, loss) that ``losses`` yields, until the budget ends.

    losses: by default ``model.losses``. stage: a name, for models that learn in several. settings: fields of
    Trainer that this stage overrides. The best weights on the held-out rows (their moving average when
    ``ema`` is set) are kept. Raises DivergenceError when no finite state is left.
    """
    trainer = Trainer(**settings).over(data.trainer)
    run = _Descent(model, data, trainer, losses or model.losses, stage)
    if data.resume is not None:
        if stage in data.resume[1]["done"]:
            return
        if data.resume[1]["stage"] == stage:
            run.restore(*data.resume)
    with _threads(trainer.threads):
        run.go()
    model._done.append(stage)


class _Descent:
    """The state of one descent: everything that a checkpoint holds."""

    def __init__(self, model: Model, data: Data, trainer: Trainer, losses: Any, stage: str) -> None:
        self.model, self.data, self.t, self.losses, self.stage = model, data, trainer.over(BASE).check(), losses, stage
        self.rows = data.rows
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.step = self.epoch = self.batch = self.bad_epochs = self.rollbacks = 0
        self.elapsed, self.lr_scale = 0.0, 1.0
        self.whole = True  # between two steps
        self.total = torch.zeros((), dtype=torch.float64)  # of the loss over this epoch
        self.scale: float | None = None
        self.history: list[dict[str, Any]] = []
        self.best_value = math.inf
        self.best: dict[str, Tensor] | None = None
        self.ema: dict[str, Tensor] | None = None
        if self.t.ema:
            self.ema = {k: v.detach().clone() for k, v in model.named_parameters()}
        self.names = {m: n for n, m in model.named_modules()}
        self.batches = max(1, math.ceil(len(self.rows) / self.t.batch_size))  # type: ignore[operator]
        steps = self.t.epochs * self.batches  # type: ignore[operator]
        self.total_steps = min(steps, self.t.max_steps or steps)
        limits = [s for s in (self.t.max_time, _LIMIT.get()) if s is not None]
        self.max_time = min(limits) if limits else math.inf
        self.cpu = next(model.parameters()).device.type == "cpu"
        self.scaler = torch.amp.GradScaler(next(model.parameters()).device.type) if self.t.precision == "float16" else None

    # -------------------------------------------------------------- the loop

    def go(self) -> None:
        """Run to the end of the budget; keep the best weights; leave a checkpoint if one is asked for."""
        model = self.model
        self.started = time.perf_counter() - self.elapsed
        self.saved_at = time.perf_counter()
        self.good = self.snapshot()
        model.train()
        if self.t.compile:
            for child in model.children():
                child.compile()
        with _Bar(self.t.progress, f"{type(model).__name__} {self.stage}".strip(), self.total_steps, self.max_time) as bar:
            try:
                with _CtrlC() as self.ctrl_c:
                    while self.step < self.total_steps and not self.over_time() and not self.impatient():
                        if not self.run_epoch(bar):
                            break
            except KeyboardInterrupt:
                warnings.warn(
                    f"interrupted at epoch {self.epoch + 1}, step {self.step}: the model is usable as it is"
                    + ("; fit(X, resume=True) goes on" if self.t.checkpoint else ""),
                    stacklevel=2,
                )
                model.interrupted_ = True
            self.clock()
            if self.whole:
                self.checkpoint(force=True)
        if self.epoch == 0 and self.batch and self.best is None:
            self.record(self.batch)
        self.keep_best()
        model.eval()
        model.history_ = [*getattr(model, "history_", []), *self.history]
        model.n_steps_ = getattr(model, "n_steps_", 0) + self.step

    def run_epoch(self, bar: _Bar) -> bool:
        """The rest of one pass over the rows. False when the run is over."""
        order = torch.randperm(len(self.rows), generator=generator(self.data.seed * 1_000_003 + self.epoch))
        size = self.t.batch_size or 1
        if isinstance(self.rows.x, Tensor):
            order = order.to(self.rows.x.device)
        while self.batch < self.batches:
            index = order[self.batch * size : (self.batch + 1) * size]
            self.whole = False  # from here to the end of the step no checkpoint is written
            loss = self.one_step(self.rows.take(index, self.model.rng))
            if loss is None:
                self.whole = True
                return self.roll_back()
            self.batch += 1
            self.step += 1
            self.total += loss * len(index)
            self.whole = True
            self.ctrl_c.check()
            if bar.shown:
                bar.update(self.step, self.epoch, float(self.total) / min(self.batch * size, len(self.rows)), size)
            self.checkpoint()
            if self.step >= self.total_steps or self.over_time():
                break
        partial = self.batch < self.batches
        self.record(self.batch)
        self.batch, self.epoch = 0, self.epoch + 1
        self.total.zero_()
        self.good = self.snapshot()
        return not partial

    def one_step(self, batch: tuple[Tensor, ...]) -> float | Tensor | None:
        """Every player's step on one batch; the sum of the losses, or None when it is no finite number."""
        rate = self.rate()
        game = iter(self.losses(*batch))
        value: float | Tensor = 0.0
        while True:
            with self.autocast():  # around next(): inside the generator the context would leak
                turn = next(game, None)
            if turn is None:
                break
            player, loss = turn
            optimizer = self.optimizer(player)
            now = loss.item() if self.cpu else loss.detach()
            if self.cpu and not self.healthy(now):
                return None
            optimizer.zero_grad(set_to_none=True)
            mine = [p for g in optimizer.param_groups for p in g["params"]]
            (self.scaler.scale(loss) if self.scaler else loss).backward(inputs=mine)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            if self.scaler:
                self.scaler.unscale_(optimizer)
            if self.t.grad_clip:
                nn.utils.clip_grad_norm_(mine, self.t.grad_clip)
            if self.scaler:
                self.scaler.step(optimizer)
                self.scaler.update()
            else:
                optimizer.step()
            value = value + now
        if self.ema is not None:
            decay = min(self.t.ema or 0.0, (1 + self.step) / (10 + self.step))
            own = dict(self.model.named_parameters())
            torch._foreach_lerp_([self.ema[k] for k in own], [p.detach() for p in own.values()], 1 - decay)
        if not self.cpu and (self.step % 32 == 0) and not self.healthy(float(value)):
            return None
        return value

    def healthy(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return False
        if self.scale is None:
            self.scale = abs(loss)
        return abs(loss) <= 1e6 * (1 + self.scale)

    def rate(self) -> float:
        fraction = min(1.0, self.step / self.total_steps)
        if self.max_time < math.inf:
            fraction = min(1.0, max(fraction, self.clock() / self.max_time))
        warm = min(1.0, (self.step + 1) / self.t.warmup) if self.t.warmup else 1.0
        return self.t.lr * self.lr_scale * warm * _SCHEDULES[self.t.schedule or "constant"](fraction)  # type: ignore[operator]

    def optimizer(self, player: nn.Module) -> torch.optim.Optimizer:
        """The player's own optimiser, made at its first turn."""
        name = self.names[player]
        if name not in self.optimizers:
            t = self.t
            frozen = {id(p) for n, p in self.model.named_parameters() if n in self.model.frozen}
            free = [p for p in player.parameters() if p.requires_grad and id(p) not in frozen]
            plain = [p for p in free if p.dim() < 2]  # biases and scales are not decayed
            matrices = [p for p in free if p.dim() >= 2]
            rate = getattr(player, "learning_rate", 1.0)  # a player may ask for a share of the rate
            groups = [
                {"params": matrices, "weight_decay": t.weight_decay, "share": rate},
                {"params": plain, "weight_decay": 0.0, "share": rate},
            ]
            groups = [g for g in groups if g["params"]]
            if t.optimizer == "sgd":
                made: torch.optim.Optimizer = torch.optim.SGD(groups, lr=t.lr, momentum=t.momentum or 0.0, fused=True)  # type: ignore[arg-type]
            elif t.optimizer == "rmsprop":
                made = torch.optim.RMSprop(groups, lr=t.lr)  # type: ignore[arg-type]
            else:
                kind = torch.optim.AdamW if t.optimizer == "adamw" else torch.optim.Adam
                made = kind(groups, lr=t.lr, betas=t.betas or (0.9, 0.999), fused=True)  # type: ignore[arg-type]
            self.optimizers[name] = made
        return self.optimizers[name]

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        dtype = _PRECISIONS[self.t.precision or "float32"]
        if dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(next(self.model.parameters()).device.type, dtype=dtype)

    # -------------------------------------------------------------- the end of an epoch

    def record(self, batches: int) -> None:
        """Validate, write a line of history, remember the best weights."""
        seen = min(batches * (self.t.batch_size or 1), len(self.rows))
        line = {
            "stage": self.stage,
            "epoch": self.epoch + 1,
            "step": self.step,
            "objective": float(self.total) / max(seen, 1),
            "lr": self.rate(),
            "seconds": self.clock(),
        }
        value = self.validate()
        if value is not None:
            line["validation"] = value
            if value < self.best_value:
                self.best_value, self.bad_epochs = value, 0
                with self.averaged():
                    self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            else:
                self.bad_epochs += 1
        self.history.append(line)

    def validate(self) -> float | None:
        """The model's held-out objective, with the same noise each time, so that epochs can be compared."""
        model, held = self.model, self.data.held
        if held is None or not hasattr(model, "validate"):
            return None
        mine, model.rng = model.rng, generator(self.data.seed + 1, model.rng.device)
        model.eval()
        try:
            with torch.no_grad(), self.averaged():
                total = 0.0
                for batch in held.chunks(1024, model.rng):
                    total += float(model.validate(*batch)) * len(batch[0])
            return total / len(held)
        finally:
            model.rng = mine
            model.train()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside this context the model has its averaged weights."""
        if self.ema is None:
            yield
            return
        mine = {k: p.detach().clone() for k, p in self.model.named_parameters()}
        with torch.no_grad():
            for k, p in self.model.named_parameters():
                p.copy_(self.ema[k])
        try:
            yield
        finally:
            with torch.no_grad():
                for k, p in self.model.named_parameters():
                    p.copy_(mine[k])

    def keep_best(self) -> None:
        if self.best is not None:
            self.model.load_state_dict(self.best)
        elif self.ema is not None:
            with torch.no_grad():
                for k, p in self.model.named_parameters():
                    p.copy_(self.ema[k])

    def clock(self) -> float:
        self.elapsed = time.perf_counter() - self.started
        return self.elapsed

    def over_time(self) -> bool:
        return self.max_time < math.inf and self.clock() >= self.max_time

    def impatient(self) -> bool:
        return bool(self.t.patience) and self.bad_epochs >= (self.t.patience or 0)

    # -------------------------------------------------------------- when it goes wrong

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The last state known to be good."""
        tensors = {k: v.detach().clone() for k, v in _everything(self.model).items()}
        return tensors, {n: copy.deepcopy(o.state_dict()) for n, o in self.optimizers.items()}

    def roll_back(self) -> bool:
        """Return to the last good state at half the rate; False (with a warning) once that has not helped."""
        where = f"epoch {self.epoch + 1}, step {self.step + 1}"
        cure = "lower the learning rate (trainer=Trainer(lr=...)), set grad_clip, or rescale the data"
        tensors, optimizers = self.good
        if self.step == 0 and self.rollbacks >= 3:
            raise DivergenceError(f"the loss is not finite at the very first steps ({where}): {cure}")
        _put_back(self.model, tensors)
        for n, o in self.optimizers.items():
            if n in optimizers:
                o.load_state_dict(optimizers[n])
            else:
                o.state.clear()
        self.rollbacks += 1
        self.lr_scale /= 2
        self.batch = 0
        self.total.zero_()
        if self.rollbacks > 3:
            warnings.warn(f"training diverged at {where} and was stopped at its last good state: {cure}", stacklevel=2)
            return False
        warnings.warn(f"training diverged at {where}: rolled back to the last good state, learning rate halved. To cure it, {cure}", stacklevel=2)
        self.epoch += 1  # another order of the rows
        return True

    # -------------------------------------------------------------- checkpoints

    def checkpoint(self, force: bool = False) -> None:
        t = self.t
        if t.checkpoint is None or not (force or time.perf_counter() - self.saved_at >= (t.checkpoint_every or 0)):
            return
        tensors = {f"model/{k}": v for k, v in _everything(self.model).items()}
        tensors["rng"] = self.model.rng.get_state()
        for k, v in (self.ema or {}).items():
            tensors[f"ema/{k}"] = v
        for k, v in (self.best or {}).items():
            tensors[f"best/{k}"] = v
        groups = {}
        for n, o in self.optimizers.items():
            state = o.state_dict()
            groups[n] = sum(len(g["params"]) for g in state["param_groups"])
            for i, entries in state["state"].items():
                for k, v in entries.items():
                    tensors[f"optim/{n}/{i}/{k}"] = torch.as_tensor(v)
        loop = {k: getattr(self, k) for k in _SCALARS}
        if not math.isfinite(self.best_value):
            loop["best_value"] = None
        meta = {
            "stage": self.stage,
            "done": list(self.model._done),
            "earlier": getattr(self.model, "history_", []),
            "earlier_steps": getattr(self.model, "n_steps_", 0),
            "loop": {**loop, "total": float(self.total), "history": self.history},
            "players": groups,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "said": store.describe(self.model),
            "rows": fingerprint(self.rows),
            "seed": self.data.seed,
        }
        store.write(t.checkpoint, tensors, meta)
        self.saved_at = time.perf_counter()

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Take up the state of a checkpoint, bit for bit. Raises ValueError when it was trained on other rows."""
        if meta["rows"] != fingerprint(self.rows):
            raise ValueError(f"the checkpoint {self.t.checkpoint} was trained on other rows: resume on the same data and validation split")
        _put_back(self.model, _under(tensors, "model/"))
        self.model.rng.set_state(tensors["rng"])
        self.model.history_ = list(meta["earlier"])
        self.model.n_steps_ = meta["earlier_steps"]
        self.model._done = list(meta["done"])
        for k in _SCALARS:
            setattr(self, k, meta["loop"][k])
        self.best_value = math.inf if self.best_value is None else self.best_value
        self.history = list(meta["loop"]["history"])
        self.total.fill_(meta["loop"]["total"])
        self.ema = _under(tensors, "ema/") or self.ema
        self.best = _under(tensors, "best/") or None
        if self.scaler and meta["scaler"]:
            self.scaler.load_state_dict(meta["scaler"])
        device = next(self.model.parameters()).device
        if self.ema is not None:
            self.ema = {k: v.to(device) for k, v in self.ema.items()}
        modules = dict(self.model.named_modules())
        for n in meta["players"]:
            o = self.optimizer(modules[n])
            state: dict[int, dict[str, Tensor]] = {}
            for k, v in _under(tensors, f"optim/{n}/").items():
                i, _, name = k.partition("/")
                state.setdefault(int(i), {})[name] = v
            o.load_state_dict({"state": state, "param_groups": o.state_dict()["param_groups"]})


_SCALARS = ("step", "epoch", "batch", "bad_epochs", "rollbacks", "elapsed", "lr_scale", "scale", "best_value")


def _everything(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, those left out of state_dict (chains, replay buffers) too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _put_back(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, t in _everything(model).items():
            saved = tensors[name]
            if saved.shape == t.shape:
                t.copy_(saved)
            else:
                path, _, leaf = name.rpartition(".")
                model.get_submodule(path)._buffers[leaf] = saved.to(t.device)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def fingerprint(rows: Rows) -> str:
    """A short digest of the training rows, so that a run is not resumed on others."""
    x = rows.x if isinstance(rows.x, Tensor) else rows.take(slice(0, 1024))[0]
    return f"{len(rows)}x{tuple(x.shape[1:])}:{zlib.crc32(x.detach().cpu().contiguous().numpy().tobytes()):08x}"  # type: ignore[arg-type]


def open_checkpoint(resume: str | Path | bool, model: Model, trainer: Trainer) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the checkpoint to resume from and make sure that it is of this very model.

    ``resume=True`` means the file of ``trainer.checkpoint``, or a fresh start where there is none yet.
    """
    if resume is True:
        if trainer.checkpoint is None:
            raise ValueError("resume=True needs trainer=Trainer(checkpoint='file'), the file to go on from")
        if not Path(trainer.checkpoint).exists():
            return None
        resume = trainer.checkpoint
    tensors, meta = store.read(resume)  # type: ignore[arg-type]
    if "loop" not in meta:
        raise store.StoreError(f"{resume} is a saved model, not a training checkpoint: genus.load reads it")
    here = store.describe(model)
    there = meta["said"]
    if there["class"] != here["class"]:
        raise ValueError(f"{resume} is a checkpoint of {there['class']}, not of {here['class']}")
    for k, v in here["params"].items():
        if k != "trainer" and there["params"].get(k) != v:
            raise ValueError(f"{resume} was trained with {k}={there['params'].get(k)!r}, not {v!r}: resume with the same arguments")
    free = {"epochs", "max_steps", "max_time", "checkpoint", "checkpoint_every", "progress", "patience", "device", "compile", "threads"}
    mine, theirs = here["params"].get("trainer"), there["params"].get("trainer")
    a, b = ((t or {}).get("params", {}) for t in (mine, theirs))
    for k in (set(a) | set(b)) - free:
        if a.get(k) != b.get(k):
            raise ValueError(f"{resume} was trained with trainer {k}={b.get(k)!r}, not {a.get(k)!r}: resume with the same settings")
    return tensors, meta


# ---------------------------------------------------------------------- sums: EM, counting, closed form


def solve(model: Model, data: Data, *, max_iter: int, tol: float, start: int = 0, stage: str = "", chunk: int = 8192) -> bool:
    """Iterate θ ← maximise(Σ statistics(x; θ)) until the mean log-likelihood gains less than ``tol`` nats.

    ``statistics(x)`` (or ``statistics(x, weight)``) returns a dict of sums, among them ``log_likelihood`` and
    ``weight``. Returns whether it converged; ``history_`` gains a line an iteration.
    """
    begun = time.perf_counter()
    limit = _LIMIT.get()
    previous = -math.inf
    converged = False
    history = list(getattr(model, "history_", []))
    with torch.no_grad(), _CtrlC() as ctrl_c, _Bar(data.trainer.progress, type(model).__name__, max_iter, limit or math.inf) as bar:
        try:
            for i in range(start, max_iter):
                sums = accumulate(model, data.rows, chunk)
                now = float(sums["log_likelihood"] / sums["weight"])
                if not math.isfinite(now):
                    raise DivergenceError(f"the log-likelihood is not finite at iteration {i + 1}: rescale the data or raise the regularisation")
                model.maximise(sums)
                model.n_iter_ = i + 1
                history.append({"stage": stage, "epoch": i + 1, "objective": -now, "seconds": time.perf_counter() - begun})
                bar.update(i + 1, i, -now, len(data.rows))
                ctrl_c.check()
                if abs(now - previous) < tol:
                    converged = True
                    break
                previous = now
                if limit is not None and time.perf_counter() - begun > limit:
                    break
        except KeyboardInterrupt:
            warnings.warn(f"interrupted at iteration {getattr(model, 'n_iter_', start)}: the model is usable as it is", stacklevel=2)
            model.interrupted_ = True
    model.history_ = history
    return converged


def accumulate(model: Model, rows: Rows, chunk: int = 8192) -> dict[str, Tensor]:
    """Σ statistics over all rows, chunk by chunk."""
    sums: dict[str, Tensor] = {}
    for i in range(0, len(rows), chunk):
        batch = rows.take(slice(i, i + chunk), model.rng)
        weight = () if rows.weight is None else (rows.weight[i : i + chunk],)
        part = model.statistics(*batch, *weight)
        sums = {k: sums[k] + v for k, v in part.items()} if sums else dict(part)
    return sums


# ---------------------------------------------------------------------- small things


@contextlib.contextmanager
def _threads(n: int | None) -> Iterator[None]:
    if n is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _CtrlC:
    """Ctrl-C waits for the end of the step in hand; a second one does not."""

    def __enter__(self) -> _CtrlC:
        self.hit = False
        self.mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self.mine:
            signal.signal(signal.SIGINT, self.note)
        return self

    def note(self, number: int, frame: Any) -> None:
        if self.hit:
            raise KeyboardInterrupt
        self.hit = True

    def check(self) -> None:
        """Raise KeyboardInterrupt here, between two steps, if it was asked for."""
        if self.hit:
            raise KeyboardInterrupt

    def __exit__(self, *exc: object) -> None:
        if self.mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class _Bar:
    """A progress bar on stderr: epoch, objective, samples a second, time left. Nothing where there is no terminal."""

    def __init__(self, progress: bool | None, name: str, total: int, max_time: float) -> None:
        import sys

        self.shown = sys.stderr.isatty() if progress is None else bool(progress)
        self.name, self.total, self.max_time = name, total, max_time

    def __enter__(self) -> _Bar:
        if self.shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("epoch {task.fields[epoch]}  objective {task.fields[objective]:.4f}  {task.fields[speed]:,.0f} rows/s"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=False,
            )
            self.bar.start()
            timed = self.max_time < math.inf
            self.task = self.bar.add_task(self.name, total=self.max_time if timed else self.total, epoch=0, objective=math.nan, speed=0.0)
            self.begun = self.last = time.perf_counter()
            self.first: int | None = None
        return self

    def update(self, step: int, epoch: int, objective: float, rows: int) -> None:
        """Show where the run is, at most ten times a second."""
        if not self.shown:
            return
        now = time.perf_counter()
        self.first = step - 1 if self.first is None else self.first
        if now - self.last < 0.1 and step < self.total:
            return
        self.last = now
        spent = now - self.begun
        done = max(spent, step / self.total * self.max_time) if self.max_time < math.inf else step
        self.bar.update(self.task, completed=done, epoch=epoch + 1, objective=objective, speed=(step - self.first) * rows / max(spent, 1e-9))

    def __exit__(self, *exc: object) -> None:
        if self.shown:
            self.bar.stop()
