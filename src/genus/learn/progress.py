"""What the caller sees and says while a model learns: a bar on stderr, Ctrl-C and SIGTERM."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class CtrlC:
    """Ctrl-C and SIGTERM wait for the end of the step in hand; a second one does not.

    Handlers of the caller's own are left alone.
    """

    last = 0  # the number of the last signal that asked a loop to stop

    def __enter__(self) -> CtrlC:
        self.hit = False
        self.before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number, usual in USUAL.items():
                handler = signal.getsignal(number)
                if handler in usual:
                    self.before[number] = handler
                    signal.signal(number, self.note)
        return self

    def note(self, number: int, frame: Any) -> None:
        """The signal handler."""
        CtrlC.last = number
        if self.hit:
            raise KeyboardInterrupt
        self.hit = True

    def check(self) -> None:
        """Raise KeyboardInterrupt here, between two steps, if it was asked for."""
        if self.hit:
            raise KeyboardInterrupt

    def __exit__(self, *exc: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def stop(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt: what Ctrl-C does, for another signal."""
    CtrlC.last = number
    raise KeyboardInterrupt


USUAL = {
    signal.SIGINT: (signal.default_int_handler,),
    signal.SIGTERM: (signal.SIG_DFL, stop),
}


@contextmanager
def stopping_as_ctrl_c() -> Iterator[None]:
    """Inside this context SIGTERM raises KeyboardInterrupt, so that what is done can be kept."""
    main = threading.current_thread() is threading.main_thread()
    mine = main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Bar:
    """A progress bar on stderr: epoch, objective, that of held-out rows, rows a second, time left.

    None: shown where stderr is a terminal.
    """

    def __init__(self, progress: bool | None, name: str, total: int, max_time: float) -> None:
        shown = sys.stderr.isatty() if progress is None else bool(progress)
        self.shown = shown and not int(os.environ.get("RANK", "0"))  # of processes, the first
        self.name, self.total, self.max_time = name, total, max_time

    def __enter__(self) -> Bar:
        if self.shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn(
                    "epoch {task.fields[epoch]}  objective {task.fields[objective]:.4f}  "
                    "{task.fields[held]}{task.fields[speed]:,.0f} rows/s"
                ),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.bar.start()
            timed = self.max_time < math.inf
            self.task = self.bar.add_task(
                self.name,
                total=self.max_time if timed else self.total,
                epoch=0,
                objective=math.nan,
                held="",
                speed=0.0,
            )
            self.begun = self.last = time.perf_counter()
            self.first: int | None = None
        return self

    def due(self, step: int) -> bool:
        """Is it time to show the run again? At most ten times a second."""
        if not self.shown:
            return False
        self.first = step - 1 if self.first is None else self.first
        return time.perf_counter() - self.last >= 0.1 or step >= self.total

    def update(self, step: int, epoch: int, objective: float, rows: int) -> None:
        """Show where the run is."""
        if not self.shown:
            return
        self.last = now = time.perf_counter()
        self.first = step - 1 if self.first is None else self.first
        spent = now - self.begun
        done = max(spent, step / self.total * self.max_time) if self.max_time < math.inf else step
        self.bar.update(
            self.task,
            completed=done,
            epoch=epoch + 1,
            objective=objective,
            speed=(step - self.first) * rows / max(spent, 1e-9),
        )

    def note_validation(self, value: float) -> None:
        """Show the objective on held-out rows, from now on."""
        if self.shown:
            self.bar.update(self.task, held=f"validation {value:.4f}  ")

    def __exit__(self, *exc: object) -> None:
        if self.shown:
            self.bar.stop()


# ---------------------------------------------------------------------- what the caller sees


@contextmanager
def drawing(
    progress: bool | None, name: str, total: int, what: str = "pixels"
) -> Iterator[Callable[[], None]]:
    """A bar on stderr of the cells that are drawn. progress None: where stderr is a terminal."""
    if not (sys.stderr.isatty() if progress is None else progress):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(what),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total)
        yield lambda: bar.advance(task)
