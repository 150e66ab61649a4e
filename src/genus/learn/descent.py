"""Gradient descent: step an optimiser of each player on the losses that a model yields."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from genus.learn import checkpoint, checks, processes
from genus.learn.capture import Capture
from genus.learn.fit import Fit
from genus.learn.players import Losses, Player, turns
from genus.learn.progress import Bar, CtrlC
from genus.learn.protocol import Learner
from genus.learn.rescue import Rescue
from genus.learn.rows import generator, take_up
from genus.learn.run import Run
from genus.learn.trainer import PRECISIONS, SCHEDULES, Trainer
from genus.learn.work import (
    LARGE_STEP,
    SMALL_STEP,
    MultiplyAdds,
    import_ahead,
    keep_memory,
    native_bfloat16,
    undone,
    using_threads,
)
from genus.likelihood import Estimate
from genus.missing import learning_from

LATE = 0.05  # of the budget: a look at held-out rows is given up when it lasts so far beyond it

Objective = Callable[..., "Tensor | float | None"]


def descend(
    model: Learner,
    fit: Fit,
    *,
    losses: Losses | None = None,
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
    if losses is None and not hasattr(model, "losses"):
        raise NotImplementedError(
            f"{type(model).__name__} does not define losses(x), and descend was given none: let it "
            "yield (player, loss), as in `yield self, loss`"
        )
    import_ahead()
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
            with checks.naming_what_is_wrong():
                take_up(model.rng, ended[stage])
            return
        resumed = meta["stage"] == stage
        if resumed:
            checkpoint.unpack(run, tensors, meta)
    run.choose()
    keep_memory()
    with using_threads(run.threads):
        run.go(resumed)
    if not getattr(model, "interrupted_", False):
        model._done[stage] = model.rng.get_state()


def held_out_objective(model: Learner) -> Objective | None:
    """``model.validate``; else mean −log_prob, where that is exact or a bound; else none."""
    if hasattr(model, "validate"):
        return model.validate
    if not hasattr(model, "_log_prob"):
        return None

    def mean_surprise(*batch: Tensor) -> Tensor | None:
        p = model._log_prob(*batch)
        return None if isinstance(p, Estimate) else -p.nats.mean()

    return mean_surprise


class Descent(Run):
    """The loop around one run."""

    def __init__(
        self,
        model: Learner,
        fit: Fit,
        trainer: Trainer,
        losses: Losses,
        validate: Objective | None,
        stage: str,
    ) -> None:
        super().__init__(model, fit, trainer, stage)
        self.losses, self.objective = losses, validate
        self.whole = True  # between two steps
        self.compiled = False
        self.stopped = False
        steps = int(self.t.epochs or 1) * self.batches
        self.total_steps = min(steps, self.t.max_steps or steps)
        self.device = next(iter(self.weights.values())).device
        self.threads = self.t.threads  # None: as many as torch has
        x = fit.rows.x
        self.no_gaps = isinstance(x, Tensor) and not (
            x.is_floating_point() and bool(torch.isnan(x.sum()))  # NaN stays in a sum
        )
        self.capture: Capture | None = None  # of steps on a CUDA device
        self.dtype = PRECISIONS[self.t.precision or "float32"]  # of networks, None: the weights'
        if self.dtype is torch.float16:
            self.scaler = torch.amp.GradScaler(self.device.type)
        alone = processes.count() == 1
        if self.device.type == "cuda" and self.t.capture is not False and alone:
            self.capture = Capture(self)

    # -------------------------------------------------------------- before the first step

    def choose(self) -> None:
        """Choose threads and precision by what a step computes, where the trainer says neither.

        One thread where a step is too small to share: the others would only wait. bfloat16 for
        networks large enough to gain by it, on devices that compute in it.
        """
        any_threads = self.t.threads is None and torch.get_num_threads() > 1
        any_precision = self.t.precision is None and self.model.may_use_bfloat16
        any_precision = any_precision and native_bfloat16(self.device)
        if not (any_threads or any_precision):
            return
        if self.work is None:
            self.work = self.count_work()
        if any_threads and self.work < SMALL_STEP:
            self.threads = 1
        if any_precision and self.work >= LARGE_STEP:
            self.dtype = torch.bfloat16

    def count_work(self) -> int:
        """The multiply-adds of the losses of one batch; the model is left as it was."""
        model = self.model
        with self.naming_errors(), undone(model), MultiplyAdds() as work:
            model.train()
            model.spent = 0.0
            batch = self.fit.rows.take(slice(0, self.batch_size), model.rng)
            for _ in turns(model, self.losses, batch):
                pass
        return work.count

    # -------------------------------------------------------------- the loop

    def go(self, resumed: bool = False) -> None:
        """Run to the end of the budget, leave a checkpoint if asked for, keep the best weights."""
        model = self.model
        self.max_time = min(self.t.max_time or math.inf, self.fit.time_left() + self.at.elapsed)
        self.started = time.perf_counter() - self.at.elapsed
        self.rescue = Rescue(self)
        if self.t.checkpoint is not None and not resumed:
            self.save()  # an error now is better than one in an hour
        self.saved_at = time.perf_counter()
        if not resumed and (self.objective is None or self.fit.held is None):
            self.say_if_impatient()
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
                with CtrlC() as ctrl_c, self.naming_errors(), learning_from(self.no_gaps):
                    while self.more():
                        self.run_epoch(bar, ctrl_c)
            except KeyboardInterrupt:
                more = "; fit(X, resume=True) goes on" if self.t.checkpoint is not None else ""
                warnings.warn(
                    f"interrupted at {self.where()}: the model is usable as it is{more}",
                    stacklevel=2,
                )
                model.interrupted_ = True
            finally:
                if self.compiled:
                    torch.compiler.set_stance("default")
            self.clock()
            self.say_if_plain()
            if self.t.checkpoint is not None and self.whole:
                self.try_to_save()
        if not self.at.step and not getattr(model, "interrupted_", False):
            name = f"{type(model).__name__} {self.stage}".strip()
            warnings.warn(
                f"{name} learned nothing: max_time={self.t.max_time} was over before its first "
                "step; give it more time",
                stacklevel=2,
            )
        if self.at.batch and not self.stopped:  # part of a pass, which counts
            self.end_epoch()
        self.keep_best()
        model.eval()
        model.history_ = [*getattr(model, "history_", []), *self.history]
        model.n_steps_ = getattr(model, "n_steps_", 0) + self.at.step

    def more(self) -> bool:
        """Is there budget left?"""
        if self.at.step >= self.total_steps or self.stopped:
            return False
        return not (self.max_time < math.inf and self.clock() >= self.max_time)

    def run_epoch(self, bar: Bar, ctrl_c: CtrlC) -> None:
        """The rest of one pass over the rows."""
        rows, size, at = self.fit.rows, self.batch_size, self.at
        saves = self.t.checkpoint is not None
        order = torch.randperm(len(rows), generator=generator(self.fit.seed * 1_000_003 + at.epoch))
        if isinstance(rows.x, Tensor):
            order = order.to(rows.device)
        while at.batch < self.batches and self.more():
            index = order[at.batch * size : (at.batch + 1) * size]
            self.whole = False  # from here to the end of the step no checkpoint is written
            begun, compiles = time.perf_counter(), bool(self.t.compile) and not self.compiled
            loss = self.one_step(index)
            if compiles:  # not of the budget; rows of another number run as they are
                self.compiled = True
                self.started += time.perf_counter() - begun
                torch.compiler.set_stance("eager_on_recompile")
            if loss is None:
                self.roll_back()
                self.whole = True
                return
            at.batch += 1
            at.step += 1
            self.total = self.total + loss * len(index)
            self.whole = True
            processes.check(ctrl_c)
            if bar.due(at.step):
                bar.update(at.step, at.epoch, float(self.total) / self.seen(), size)
            if saves and time.perf_counter() - self.saved_at >= (self.t.checkpoint_every or 0):
                self.try_to_save()
        if at.batch == self.batches:
            self.end_epoch()
            if self.history and "validation" in self.history[-1]:
                bar.note_validation(self.history[-1]["validation"])

    def one_step(self, index: Tensor) -> float | Tensor | None:
        """Every player's step on the rows of an index.

        Returns the sum of the losses, or None when a loss is not finite.
        """
        rate, on_cpu, rows = self.rate(), self.device.type == "cpu", len(index)
        self.model.spent = self.fraction()
        value: float | Tensor = 0.0
        losses = None
        if self.capture:
            self.capture.tell(self.model.spent)
            for _, player in self.players:
                player.set_rate(rate)
            losses = self.capture.step(index)
        if losses is not None:
            for player, captured in losses:
                player.note(captured, rows)
                value = value + captured
        else:
            whole = self.fit.rows.take(index, self.model.rng)
            with processes.shared(whole, self.model.rng) as (batch, share):
                for module, loss in turns(self.model, self.losses, batch, self.dtype):
                    player = self.players.of(module)
                    now = processes.mean(loss.item() if on_cpu else loss.detach(), share)
                    if on_cpu and not self.rescue.healthy(float(now)):
                        return None
                    player.set_rate(rate)
                    self.move(player, loss, share)
                    player.note(now, rows)
                    value = value + now
        if self.average:
            self.average.update(self.at.step)
        # a look costs a wait for the device
        if not on_cpu and self.at.step % 32 == 0 and not self.rescue.healthy(float(value)):
            return None
        return value

    def move(self, player: Player, loss: Tensor, share: float = 1.0) -> None:
        """A player's step down the gradient of its loss on this share of the rows of a batch."""
        for p in player.parameters:  # what zero_grad does, without its bookkeeping
            p.grad = None
        (self.scaler.scale(loss) if self.scaler else loss).backward(inputs=player.parameters)
        processes.average(player.parameters, share)
        player.check_moved(self.model)
        if self.scaler:
            self.scaler.unscale_(player.optimizer)
        if self.t.grad_clip:
            nn.utils.clip_grad_norm_(player.parameters, self.t.grad_clip)
        if self.scaler:
            self.scaler.step(player.optimizer)
            self.scaler.update()
        else:
            player.optimizer.step()

    def rate(self) -> float:
        """The learning rate of this step: warm-up, schedule and the halvings after a divergence."""
        warm = min(1.0, (self.at.step + 1) / self.t.warmup) if self.t.warmup else 1.0
        decay = SCHEDULES[self.t.schedule or "constant"](self.fraction())
        return float(self.t.lr or 0) * self.at.lr_scale * warm * decay

    def fraction(self) -> float:
        """The share of the budget that is spent."""
        fraction = self.at.step / self.total_steps
        if self.max_time == math.inf:
            return fraction
        return min(1.0, max(fraction, self.clock() / self.max_time))

    def clock(self) -> float:
        """Seconds spent in this descent, earlier sessions included."""
        self.at.elapsed = processes.agreed(time.perf_counter() - self.started)
        return self.at.elapsed

    def seen(self) -> int:
        """Rows of this pass behind ``total``."""
        return min(self.at.batch * self.batch_size, len(self.fit.rows))

    def roll_back(self) -> None:
        """Return to the last good state, and stop there where that does not help."""
        self.stopped = not self.rescue.roll_back(self.more())
        if self.capture:
            self.capture.forget()

    # -------------------------------------------------------------- the end of an epoch

    def end_epoch(self) -> None:
        """Validate, write a line of history, remember the best weights and a good state."""
        if not self.rescue.finite():
            self.roll_back()
            return
        at = self.at
        line: dict[str, Any] = {"stage": self.stage, "epoch": at.epoch + 1, "step": at.step}
        line |= {
            "objective": float(self.total) / self.seen(),
            **self.players.means(),
            "lr": self.rate(),
            "seconds": self.clock(),
        }
        value = self.validate()
        if value is not None:
            line["validation"] = value
            self.judge(value)
        elif self.objective and not self.history and self.more():  # it is an estimate
            self.say_if_impatient()
        self.history.append(line)
        self.next_pass()
        self.rescue.remember_now_and_then()

    def judge(self, value: float) -> None:
        """Keep the weights if the held-out objective was never better; stop when patience ends."""
        at = self.at
        if value < at.best_value:
            at.best_value, at.bad_epochs = value, 0
            with self.averaged():
                self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        elif self.fraction() >= self.model.patience_from:
            at.bad_epochs += 1
            self.stopped = at.bad_epochs >= (self.t.patience or math.inf)

    def say_if_plain(self) -> None:
        """Warn where captured steps were asked for, and could not be made."""
        if self.t.capture and (self.capture is None or self.capture.refused):
            why = self.capture.refused if self.capture else "they are for CUDA devices"
            name = f"{type(self.model).__name__} {self.stage}".strip()
            warnings.warn(f"the steps of {name} were not captured: {why}", stacklevel=2)

    def say_if_impatient(self) -> None:
        """Warn where patience was asked for, and nothing can try it."""
        held = self.fit.held is not None
        asked = getattr(getattr(self.model, "trainer", None), "patience", None)
        if not self.t.patience or not (held or asked):
            return
        if held or self.objective is None:
            name = f"{type(self.model).__name__} {self.stage}".strip()
            missing = (
                f"{name} has nothing to judge held-out rows by: it needs validate(x), lower is "
                "better, or a log_prob that is exact or a bound"
            )
        else:
            missing = "no rows are held out: raise validation"
        text = f"patience={self.t.patience} does not end this training, because {missing}"
        warnings.warn(text, stacklevel=2)

    def validate(self) -> float | None:
        """The held-out objective, with the same noise each time, so that epochs can be compared.

        None where there is none to compare, or where the look would last beyond the budget.
        """
        model, held = self.model, self.fit.held
        if held is None or self.objective is None:
            return None
        # the same stream, which parts of the model and layers draw from as well
        before = model.rng.get_state()
        model.rng.manual_seed((self.fit.seed + 1) % 2**63)
        model.eval()
        try:
            with torch.no_grad(), self.averaged():
                total, late = 0.0, max(self.clock(), self.max_time) + LATE * self.max_time
                for whole in held.chunks(1024, model.rng):
                    if self.clock() > late:
                        return None
                    with processes.shared(whole, model.rng) as (batch, share):
                        value = self.objective(*batch)
                    if value is None:
                        return None
                    total += processes.mean(float(value), share) * len(whole[0])
            return total / len(held)
        finally:
            model.rng.set_state(before)
            model.train()

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Inside this context the model has its averaged weights, where it has any."""
        return self.average.in_place() if self.average else contextlib.nullcontext()

    def keep_best(self) -> None:
        """Leave the model with the best weights on held-out rows, or the averaged, or the last."""
        if self.best is not None:
            self.model.load_state_dict(self.best)
        elif self.average:
            self.average.give()

    # -------------------------------------------------------------- checkpoints

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
