"""Gradient descent: step an optimiser of each player on the losses that a model yields."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genus.learn import checkpoint
from genus.learn.fit import DivergenceError, Fit
from genus.learn.progress import Bar, CtrlC
from genus.learn.rows import generator
from genus.learn.trainer import BASE, PRECISIONS, SCHEDULES, Trainer
from genus.likelihood import Estimate

if TYPE_CHECKING:
    from genus.model import Model


SMALL_STEP = 20_000_000  # rows × parameters: below it, one thread


LARGE_STEP = 200_000_000  # above it, bfloat16 where the processor has it


Objective = Callable[..., "Tensor | float | None"]


def descend(
    model: Model,
    fit: Fit,
    *,
    losses: Callable[..., Iterator[tuple[nn.Module, Tensor]]] | None = None,
    validate: Objective | None = None,
    stage: str = "",
    **settings: Any,
) -> None:
    """Step an optimiser of each player at every (player, loss) that ``losses`` yields.

    Steps are made until the budget ends.

    losses, validate: by default the model's own; a stage with losses of its own validates only
        where it says how.
    stage: a name, for models that learn in several; each may take a share of the time,
    ``max_time=0.5 * fit.time_left()``. settings: fields of Trainer that this stage overrides. The
    best weights on the held-out rows (their moving average when ``ema`` is set) are kept. Raises
    DivergenceError when no finite state is left.
    """
    if getattr(model, "interrupted_", False):
        return  # Ctrl-C in an earlier stage
    trainer = Trainer(**settings).over(fit.trainer)
    if validate is None and losses is None:
        validate = held_out_objective(model)
    run = Descent(model, fit, trainer, losses or model.losses, validate, stage)
    resumed = False
    if fit.resume is not None:
        tensors, meta = fit.resume
        ended = checkpoint.under(tensors, "ended/")
        if stage in ended:
            checkpoint.restore_model(model, tensors, meta)
            model.rng.set_state(ended[stage])
            return
        resumed = meta["stage"] == stage
        if resumed:
            checkpoint.unpack(run, tensors, meta)
    keep_memory()
    with _threads(run.threads()):
        run.go(resumed)
    if not getattr(model, "interrupted_", False):
        model._done[stage] = model.rng.get_state()


def held_out_objective(model: Model) -> Objective | None:
    """``model.validate``; else mean −log_prob, where that is exact or a bound; else none."""
    if hasattr(model, "validate"):
        return model.validate
    if not hasattr(model, "_log_prob"):
        return None

    def mean_surprise(*batch: Tensor) -> Tensor | None:
        p = model._log_prob(*batch)
        return None if isinstance(p, Estimate) else -p.nats.mean()

    return mean_surprise


class Player:
    """A submodule that losses name, and its optimiser."""

    def __init__(self, module: nn.Module, name: str, frozen: set[nn.Parameter], t: Trainer) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad and p not in frozen]
        if not self.parameters:
            raise ValueError(
                f"losses yielded {name or 'the model'}, "
                "which has no parameter that a gradient may move"
            )
        decay = float(t.weight_decay or 0)
        groups: list[dict[str, Any]] = [{"params": self.parameters}]
        if decay:  # of matrices; biases and scales are left alone
            groups = [
                {"params": [p for p in self.parameters if p.dim() >= 2], "weight_decay": decay}
            ]
            groups.append({"params": [p for p in self.parameters if p.dim() < 2]})
        groups = [g for g in groups if g["params"]]
        rate, momentum = float(t.lr or 0), float(t.momentum or 0)
        self.optimizer: torch.optim.Optimizer
        if t.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(groups, rate, momentum, fused=True)
        elif t.optimizer == "rmsprop":
            self.optimizer = torch.optim.RMSprop(groups, rate, momentum=momentum)
        else:
            kind = torch.optim.AdamW if t.optimizer == "adamw" else torch.optim.Adam
            self.optimizer = kind(
                groups, rate, t.betas or (0.9, 0.999), weight_decay=0.0, fused=True
            )
        # a player may ask for a share of the rate
        self.share = float(getattr(module, "learning_rate", 1.0))

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.share


class Descent:
    """One descent and its state, all of which a checkpoint holds."""

    def __init__(
        self,
        model: Model,
        fit: Fit,
        trainer: Trainer,
        losses: Any,
        validate: Objective | None,
        stage: str,
    ) -> None:
        self.model, self.fit, self.losses, self.objective, self.stage = (
            model,
            fit,
            losses,
            validate,
            stage,
        )
        self.t = trainer.over(BASE).check()
        self.players: dict[str, Player] = {}  # by name
        self.player_of: dict[nn.Module, Player] = {}
        self.names = {m: n for n, m in model.named_modules()}
        self.step = self.epoch = self.batch = self.bad_epochs = self.rollbacks = 0
        self.elapsed, self.lr_scale, self.best_value = 0.0, 1.0, math.inf
        self.total: float | Tensor = 0.0  # of the loss over this epoch
        self.scale: float | None = None  # of the first loss
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] | None = None
        self.weights = dict(model.named_parameters())
        self.ema = {k: v.detach().clone() for k, v in self.weights.items()} if self.t.ema else None
        self.whole = True  # between two steps
        self.stopped = False

        self.batch_size = int(self.t.batch_size or 1)
        self.batches = math.ceil(len(fit.rows) / self.batch_size)
        steps = int(self.t.epochs or 1) * self.batches
        self.total_steps = min(steps, self.t.max_steps or steps)
        self.device = next(iter(self.weights.values())).device
        self.dtype = PRECISIONS[self.t.precision or self.precision()]
        self.scaler = (
            torch.amp.GradScaler(self.device.type) if self.dtype is torch.float16 else None
        )

    def threads(self) -> int | None:
        """One thread where a step is too small to share, else torch's own number.

        The other threads would only wait.
        """
        return self.t.threads or (1 if self.work() < SMALL_STEP else None)

    def work(self) -> int:
        """Rows × parameters of a step, times the places of a row where each is used."""
        return self.batch_size * self.model.reuse * sum(p.numel() for p in self.weights.values())

    def precision(self) -> str:
        """bfloat16 for large networks on devices that compute in it natively; else float32."""
        native = (
            torch.cpu._is_avx512_bf16_supported
            if self.device.type == "cpu"
            else torch.cuda.is_bf16_supported
        )
        pays = self.model.network_bound and self.work() >= LARGE_STEP
        return (
            "bfloat16" if pays and self.device.type in ("cpu", "cuda") and native() else "float32"
        )

    # -------------------------------------------------------------- the loop

    def go(self, resumed: bool = False) -> None:
        """Run to the end of the budget, leave a checkpoint if asked for, keep the best weights."""
        model = self.model
        self.max_time = min(self.t.max_time or math.inf, self.fit.time_left() + self.elapsed)
        self.started = time.perf_counter() - self.elapsed
        self.good, self.good_step = self.snapshot(), self.step
        if self.t.checkpoint is not None and not resumed:
            self.save()  # an error now is better than one in an hour
        self.saved_at = time.perf_counter()
        model.train()
        if self.t.compile:
            for child in model.children():
                # compiled code need not check its own sizes at every step
                child.compile(options={"size_asserts": False})
        with Bar(
            self.t.progress,
            f"{type(model).__name__} {self.stage}".strip(),
            self.total_steps,
            self.max_time,
        ) as bar:
            try:
                with CtrlC() as ctrl_c:
                    while self.more():
                        self.run_epoch(bar, ctrl_c)
            except KeyboardInterrupt:
                more = "; fit(X, resume=True) goes on" if self.t.checkpoint is not None else ""
                warnings.warn(
                    f"interrupted at {self.where()}: the model is usable as it is{more}",
                    stacklevel=2,
                )
                model.interrupted_ = True
            except Exception as e:
                e.add_note(f"(while training {type(model).__name__}, {self.where()})")
                raise
            self.clock()
            if self.t.checkpoint is not None and self.whole:
                self.try_to_save()
        if self.batch and not self.stopped:  # part of a pass, which counts
            self.end_epoch()
        self.keep_best()
        model.eval()
        model.history_ = [*getattr(model, "history_", []), *self.history]
        model.n_steps_ = getattr(model, "n_steps_", 0) + self.step

    def more(self) -> bool:
        """Is there budget left?"""
        if self.step >= self.total_steps or self.stopped:
            return False
        return not (self.max_time < math.inf and self.clock() >= self.max_time)

    def run_epoch(self, bar: Bar, ctrl_c: CtrlC) -> None:
        """The rest of one pass over the rows."""
        rows, size, rng, saves = (
            self.fit.rows,
            self.batch_size,
            self.model.rng,
            self.t.checkpoint is not None,
        )
        order = torch.randperm(
            len(rows), generator=generator(self.fit.seed * 1_000_003 + self.epoch)
        )
        if isinstance(rows.x, Tensor):
            order = order.to(rows.device)
        while self.batch < self.batches and self.more():
            index = order[self.batch * size : (self.batch + 1) * size]
            self.whole = False  # from here to the end of the step no checkpoint is written
            loss = self.one_step(rows.take(index, rng))
            if loss is None:
                self.roll_back()
                self.whole = True
                return
            self.batch += 1
            self.step += 1
            self.total = self.total + loss * len(index)
            self.whole = True
            ctrl_c.check()
            if bar.shown:
                bar.update(self.step, self.epoch, float(self.total) / self.seen(), size)
            if saves and time.perf_counter() - self.saved_at >= (self.t.checkpoint_every or 0):
                self.try_to_save()
        if self.batch == self.batches:
            self.end_epoch()

    def one_step(self, batch: tuple[Tensor, ...]) -> float | Tensor | None:
        """Every player's step on one batch; the sum of the losses, or None when not finite."""
        rate, on_cpu = self.rate(), self.device.type == "cpu"
        self.model.spent = self.fraction()
        game = iter(self.losses(*batch))
        value: float | Tensor = 0.0
        while True:
            if self.dtype is None:
                turn = next(game, None)
            else:
                # around next(): inside the generator it would leak
                with torch.autocast(self.device.type, dtype=self.dtype):
                    turn = next(game, None)
            if turn is None:
                break
            module, loss = turn
            player = self.player_of.get(module) or self.player(module)
            now = loss.item() if on_cpu else loss.detach()
            if on_cpu and not self.healthy(now):
                return None
            for p in player.parameters:  # what zero_grad does, without its bookkeeping
                p.grad = None
            (self.scaler.scale(loss) if self.scaler else loss).backward(inputs=player.parameters)
            player.set_rate(rate)
            if self.scaler:
                self.scaler.unscale_(player.optimizer)
            if self.t.grad_clip:
                nn.utils.clip_grad_norm_(player.parameters, self.t.grad_clip)
            if self.scaler:
                self.scaler.step(player.optimizer)
                self.scaler.update()
            else:
                player.optimizer.step()
            value = value + now
        if self.ema is not None:
            decay = min(self.t.ema or 0.0, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(
                list(self.ema.values()), [p.detach() for p in self.weights.values()], 1 - decay
            )
        # a look costs a wait for the device
        if not on_cpu and self.step % 32 == 0 and not self.healthy(float(value)):
            return None
        return value

    def player(self, module: nn.Module) -> Player:
        """The player of a submodule, made at its first turn."""
        if module not in self.names:
            what = f"a {type(module).__name__} that is no submodule of {type(self.model).__name__}"
            raise ValueError(f"losses yielded {what}: assign it in build")
        name = self.names[module]
        frozen = {p for n, p in self.weights.items() if n in self.model.frozen}
        self.players[name] = self.player_of[module] = Player(module, name, frozen, self.t)
        return self.players[name]

    def rate(self) -> float:
        """The learning rate of this step: warm-up, schedule and the halvings after a divergence."""
        warm = min(1.0, (self.step + 1) / self.t.warmup) if self.t.warmup else 1.0
        return (
            float(self.t.lr or 0)
            * self.lr_scale
            * warm
            * SCHEDULES[self.t.schedule or "constant"](self.fraction())
        )

    def fraction(self) -> float:
        """The share of the budget that is spent."""
        fraction = self.step / self.total_steps
        return (
            min(1.0, max(fraction, self.clock() / self.max_time))
            if self.max_time < math.inf
            else fraction
        )

    def clock(self) -> float:
        """Seconds spent in this descent, earlier sessions included."""
        self.elapsed = time.perf_counter() - self.started
        return self.elapsed

    def seen(self) -> int:
        """Rows of this pass behind ``total``."""
        return min(self.batch * self.batch_size, len(self.fit.rows))

    def where(self) -> str:
        """The place, for messages."""
        return f"{self.stage} epoch {self.epoch + 1}, step {self.step + 1}".strip()

    # -------------------------------------------------------------- the end of an epoch

    def end_epoch(self) -> None:
        """Validate, write a line of history, remember the best weights and a good state."""
        if not all(bool(p.isfinite().all()) for p in self.weights.values()):
            self.roll_back()
            return
        line: dict[str, Any] = {"stage": self.stage, "epoch": self.epoch + 1, "step": self.step}
        line |= {
            "objective": float(self.total) / self.seen(),
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
                self.stopped = self.bad_epochs >= (self.t.patience or math.inf)
        self.history.append(line)
        self.epoch, self.batch, self.total = self.epoch + 1, 0, 0.0
        if self.step - self.good_step >= 100:
            self.good, self.good_step = self.snapshot(), self.step

    def validate(self) -> float | None:
        """The held-out objective, with the same noise each time, so that epochs can be compared."""
        model, held = self.model, self.fit.held
        if held is None or self.objective is None:
            return None
        mine, model.rng = model.rng, generator(self.fit.seed + 1, model.rng.device)
        model.eval()
        try:
            with torch.no_grad(), self.averaged():
                total = 0.0
                for batch in held.chunks(1024, model.rng):
                    value = self.objective(*batch)
                    if value is None:
                        return None
                    total += float(value) * len(batch[0])
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
        weights = [p.detach() for p in self.weights.values()]
        mine = [p.clone() for p in weights]
        torch._foreach_copy_(weights, list(self.ema.values()))
        try:
            yield
        finally:
            torch._foreach_copy_(weights, mine)

    def keep_best(self) -> None:
        """Leave the model with the best weights on held-out rows, or the averaged, or the last."""
        if self.best is not None:
            self.model.load_state_dict(self.best)
        elif self.ema is not None:
            torch._foreach_copy_(
                [p.detach() for p in self.weights.values()], list(self.ema.values())
            )

    # -------------------------------------------------------------- when it goes wrong

    def healthy(self, loss: float) -> bool:
        """Is the loss a number, and not a million times the first one?"""
        if not math.isfinite(loss):
            return False
        if self.scale is None:
            self.scale = abs(loss)
        return abs(loss) <= 1e6 * (1 + self.scale)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
        """The state to return to: parameters and buffers, their averages, the optimisers."""
        tensors = {k: v.detach().clone() for k, v in checkpoint.everything(self.model).items()}
        ema = {k: v.clone() for k, v in (self.ema or {}).items()}
        return (
            tensors,
            ema,
            {n: copy.deepcopy(p.optimizer.state_dict()) for n, p in self.players.items()},
        )

    def roll_back(self) -> None:
        """Return to the last good state at half the rate; stop once three times did not help."""
        cure = (
            "lower the learning rate (trainer=Trainer(lr=...)), set grad_clip, or rescale the data"
        )
        if self.step == 0:
            look = "rescale the data, or look for a log or a division by 0"
            raise DivergenceError(
                f"the loss is not finite at the very first step ({self.where()}): {look}"
            )
        tensors, ema, optimizers = self.good
        checkpoint.put_back(self.model, tensors)
        if self.ema is not None:
            torch._foreach_copy_(list(self.ema.values()), [ema[k] for k in self.ema])
        for n, p in self.players.items():
            if n in optimizers:
                p.optimizer.load_state_dict(copy.deepcopy(optimizers[n]))
            else:
                p.optimizer.state.clear()
        self.rollbacks += 1
        self.stopped = self.rollbacks > 3 or not self.more()
        if self.stopped and self.good_step == 0:
            raise DivergenceError(
                f"training diverged at {self.where()} and has no good state to return to: {cure}"
            )
        then = "stopped" if self.stopped else "goes on at half the learning rate"
        good = f"its last good state (step {self.good_step})"
        warnings.warn(
            f"training diverged at {self.where()}: "
            f"rolled back to {good}, it {then}. To cure it, {cure}",
            stacklevel=2,
        )
        self.lr_scale /= 2
        self.epoch, self.batch, self.total = self.epoch + 1, 0, 0.0  # another order of the rows

    def save(self) -> None:
        """Write the checkpoint. Raises OSError that names the file."""
        checkpoint.save(self)
        self.saved_at = time.perf_counter()

    def try_to_save(self) -> None:
        """Write the checkpoint; a full disk costs the checkpoint, not the training."""
        try:
            self.save()
        except OSError as e:
            self.saved_at = time.perf_counter()
            warnings.warn(
                f"no checkpoint at {self.where()} ({e}): training goes on, an earlier file is kept",
                stacklevel=2,
            )


def keep_memory() -> None:
    """Ask glibc to keep freed memory: fetching the pages of every step anew costs a quarter."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            c = ctypes.CDLL(None)
            c.mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD: up to 32 MB from the heap
            c.mallopt(-1, 1 << 28)  # M_TRIM_THRESHOLD


@contextlib.contextmanager
def _threads(n: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        if n is not None:
            torch.set_num_threads(before)
