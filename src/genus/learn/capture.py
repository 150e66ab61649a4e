"""A step of descent as one CUDA graph: the same kernels, launched together.

A small network's step is hundreds of kernels, each of which waits for the processor to launch it.
A graph holds them all, and one launch runs them again: on other rows, which stand in a buffer of
indices; with other noise, whose generator is known to the graph; at another rate and share of the
budget, which are numbers on the device. What a step decides by looking at numbers of the device
cannot be captured, and neither can what it does in Python beside its tensors. Such steps are found
by two trial steps before, and are made in the plain way.
"""

from __future__ import annotations

import contextlib
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genus.learn.checkpoint import everything, notes
from genus.learn.players import Player, turns

WARM = 3  # plain steps first: they make what only a first step makes
CLOSE = 1e-3  # of the losses of two captured steps and two plain ones

Losses = list[tuple[Player, Tensor]]


class Share(float):
    """The share of the budget behind a step, with the same number on the device."""

    tensor: Tensor | None = None


class Graph:
    """What ``record`` launched, to be launched again by ``replay``."""

    def __init__(self, rng: torch.Generator) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(rng)

    def record(self, body: Callable[[], Losses]) -> Losses:
        with torch.cuda.graph(self.graph):
            return body()

    def replay(self) -> None:
        self.graph.replay()


class Capture:
    """The graphs of a descent, one for each plan of its model.

    run: the Descent whose steps they are.
    refused: why steps are not captured, in words; empty where they are.
    """

    kind: Any = Graph  # tests on a processor put another in its place

    def __init__(self, run: Any) -> None:
        self.run = run
        self.refused = ""
        self.seen: dict[Any, int] = {}  # steps of each plan so far
        self.graphs: dict[Any, tuple[Any, Losses]] = {}
        rows = min(run.batch_size, len(run.fit.rows))
        self.index = torch.zeros(rows, dtype=torch.long, device=run.device)
        self.spent = torch.zeros((), device=run.device)
        x = run.fit.rows.x
        if not isinstance(x, Tensor) or x.device != run.device:
            self.refused = "the rows are not on the device"
        elif run.scaler is not None:
            self.refused = "float16 scales its losses as they come"

    def forget(self) -> None:
        """Drop the graphs, whose optimisers have other memory from now on."""
        self.graphs.clear()

    def tell(self, spent: float) -> None:
        """Tell the model the share of the budget, also as a number on the device."""
        self.run.model.spent = share = Share(spent)
        share.tensor = self.spent.fill_(spent)
        self.plan = self.run.model.plan()

    def trials(self) -> tuple[float, float]:
        """The share of now and one far from it, at which the model's plan is the same.

        What a step reads of it elsewhere than through ``ramp`` and ``plan`` makes a difference.
        """
        now, plan = self.run.model.spent, self.plan
        for other in (0.9, 0.1, 0.5, 0.99 * now, min(1.0, 1.01 * now)):
            self.tell(other)
            if self.plan == plan and other != now:
                return now, other
        return now, now

    def step(self, index: Tensor) -> Losses | None:
        """The losses of a captured step; None where this one is to be made in the plain way."""
        if self.refused or len(index) != len(self.index):
            return None
        plan = self.plan
        self.index.copy_(index)
        if plan not in self.graphs:
            self.seen[plan] = self.seen.get(plan, 0) + 1
            if self.seen[plan] <= WARM:
                return None
            begun = time.perf_counter()
            try:
                self.graphs[plan] = self.record()
            except Exception as e:  # whatever it was, the plain way meets it again or does not
                self.refused = _in_words(e)
                self.forget()
                return None
            finally:  # not of the budget
                self.run.started += time.perf_counter() - begun
        graph, losses = self.graphs[plan]
        graph.replay()
        return losses

    def body(self) -> Losses:
        """A step on the rows that ``index`` names, what is carried from step to step in place."""
        run, model = self.run, self.run.model
        before = dict(model.named_buffers())
        losses = []
        for module, loss in turns(
            model, run.losses, run.fit.rows.take(self.index, model.rng), run.dtype
        ):
            player = run.players.of(module)
            run.move(player, loss)
            losses.append((player, loss.detach()))
        for name, old in before.items():
            new = model.get_buffer(name)
            if new is not old:
                old.copy_(new)  # raises where its shape has changed
                _put(model, name, old)
        return losses

    def record(self) -> tuple[Any, Losses]:
        """A graph that was tried. Raises where it cannot be, or is not as good as plain steps."""
        run, model = self.run, self.run.model
        shares = self.trials()
        with self.undone():
            plain = []
            for share in shares:
                self.tell(share)
                told = notes(model)
                with _no_waiting(run.device):
                    losses = self.body()
                if notes(model) != told:
                    raise NotImplementedError("its step changes numbers that are not tensors")
                plain += [float(loss) for _, loss in losses]
            plain_noise = model.rng.get_state()
        self.tell(shares[0])
        rng = self.drawing()
        model._lend(rng)
        try:
            graph = self.kind(rng)
            losses = graph.record(self.body)
        except Exception:
            model._lend(self.drawing())  # a capture that fails leaves its generator unusable
            raise
        with self.undone():
            again = []
            for share in shares:
                self.tell(share)
                graph.replay()
                again += [float(loss) for _, loss in losses]
            same_noise = torch.equal(plain_noise, model.rng.get_state())
        self.tell(shares[0])
        apart = max(abs(a - b) / (1 + abs(a)) for a, b in zip(plain, again, strict=True))
        if not (same_noise and apart < CLOSE):
            raise NotImplementedError(f"captured steps differ from plain ones by {apart:.1e}")
        return graph, losses

    def drawing(self) -> torch.Generator:
        """A generator where the model's stood when ``undone`` began."""
        rng = torch.Generator(self.run.device)
        rng.set_state(self.random)
        return rng

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """Steps inside this context leave no trace in weights, buffers, optimisers and noise."""
        model = self.run.model
        tensors = list(everything(model).values())
        for _, player in self.run.players:
            for memory in player.optimizer.state.values():
                tensors += [t for t in memory.values() if isinstance(t, Tensor)]
        kept = [t.detach().clone() for t in tensors]
        self.random = model.rng.get_state()
        try:
            yield
        finally:
            with torch.no_grad():
                for t, old in zip(tensors, kept, strict=True):
                    t.copy_(old)
            model.rng.set_state(self.random)


def _in_words(e: Exception) -> str:
    """What was wrong, and where in genus or in a model of one's own."""
    places = [f for f in traceback.extract_tb(e.__traceback__) if "/torch/" not in f.filename]
    at = f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""
    return f"{str(e).strip().splitlines()[0]:.200}{at}"


def _put(model: Any, name: str, tensor: Tensor) -> None:
    """Set a buffer by its full name."""
    path, _, leaf = name.rpartition(".")
    model.get_submodule(path)._buffers[leaf] = tensor


@contextlib.contextmanager
def _no_waiting(device: torch.device) -> Iterator[None]:
    """Inside this context whoever waits for a CUDA device to tell a number raises RuntimeError."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
