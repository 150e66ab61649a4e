"""When training diverges: what is healthy, the last good state, and the way back to it."""

from __future__ import annotations

import copy
import math
import warnings

import torch

from genus.learn.checkpoint import everything, put_back
from genus.learn.fit import DivergenceError
from genus.learn.run import Run

CURE = "lower the learning rate (trainer=Trainer(lr=...)), set grad_clip, or rescale the data"
TRIES = 3  # rollbacks before training is given up
APART = 100  # steps at least between two good states


class Rescue:
    """The last good state of a run: parameters and buffers, their averages, the optimisers."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.wrong = ""  # what the model said of the last loss
        self.remember()

    def remember(self) -> None:
        """Take the state of now as the good one."""
        run = self.run
        self.step = run.at.step
        self.tensors = {k: v.detach().clone() for k, v in everything(run.model).items()}
        self.average = [v.clone() for v in run.average.values] if run.average else []
        self.optimizers = {n: copy.deepcopy(p.optimizer.state_dict()) for n, p in run.players}

    def remember_now_and_then(self) -> None:
        """The same, where the good state has grown old."""
        if self.run.at.step - self.step >= APART:
            self.remember()

    def healthy(self, loss: float) -> bool:
        """Does the model find nothing wrong with a loss? ``wrong`` has what it said of it."""
        at = self.run.at
        if at.scale is None and math.isfinite(loss):
            at.scale = abs(loss)
        self.wrong = self.run.model.trouble(loss, at.scale or 0.0)
        return not self.wrong

    def finite(self) -> bool:
        """Are all weights numbers?"""
        finite = all(bool(p.isfinite().all()) for p in self.run.weights.values())
        self.wrong = "" if finite else "a weight is not finite"
        return finite

    def roll_back(self, budget_left: bool) -> bool:
        """Return to the last good state, at half the rate and with another order of the rows.

        Returns whether training goes on; it does not after three times in vain. Raises
        DivergenceError where nothing was learned.
        """
        run, at = self.run, self.run.at
        if at.step == 0:
            raise DivergenceError(
                f"{self.wrong} at the very first step ({run.where()}): rescale the data, "
                "or look for a log or a division by 0"
            )
        self._restore()
        at.rollbacks += 1
        goes_on = at.rollbacks <= TRIES and budget_left
        if not goes_on and self.step == 0:
            raise DivergenceError(
                f"training diverged at {run.where()}, {self.wrong}, "
                f"and has no good state to return to: {CURE}"
            )
        then = "goes on at half the learning rate" if goes_on else "stopped"
        warnings.warn(
            f"training diverged at {run.where()}, {self.wrong}: rolled back to its last good state "
            f"(step {self.step}), it {then}. To cure it, {CURE}",
            stacklevel=2,
        )
        at.lr_scale /= 2
        run.next_pass()
        return goes_on

    def _restore(self) -> None:
        put_back(self.run.model, self.tensors)
        if self.run.average:
            torch._foreach_copy_(self.run.average.values, self.average)
        for name, player in self.run.players:
            if name in self.optimizers:
                player.optimizer.load_state_dict(copy.deepcopy(self.optimizers[name]))
            else:  # it has come since
                player.optimizer.state.clear()
