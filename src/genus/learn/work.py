"""How much a step computes, and what follows: how many threads, and how many bits a number."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from genus.learn.checkpoint import everything, put_back
from genus.learn.protocol import Learner

SMALL_STEP = 20_000_000  # multiply-adds of the losses: below it, one thread
LARGE_STEP = 120_000_000  # above it, bfloat16 where the processor has it


class MultiplyAdds(TorchDispatchMode):
    """Inside this context ``count`` grows by every multiply-add.

    Those of matrix products, convolutions and attention count. torch's own FlopCounterMode hooks
    the modules of all threads; this one sees its own thread.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        from torch.utils.flop_counter import flop_registry  # few programs train

        aten = torch.ops.aten
        attention = flop_registry[aten._scaled_dot_product_flash_attention]
        # the processor's own attention is not in torch's list
        on_cpu = {aten._scaled_dot_product_flash_attention_for_cpu: attention}
        self.formulas: dict[Any, Any] = flop_registry | on_cpu
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = self.formulas.get(func._overloadpacket)
        if formula is not None:
            self.count += formula(*args, **(kwargs or {}), out_val=out) // 2
        return out


@contextlib.contextmanager
def undone(model: Learner) -> Iterator[None]:
    """What a model does inside this context leaves no trace in it.

    Its tensors, its random state and the attributes of its modules, with the lists, dicts and sets
    among them, return to what they were.
    """
    tensors = {k: t.detach().clone() for k, t in everything(model).items()}
    random = model.rng.get_state()
    holders = [vars(m) for m in model.modules()]
    inside = [v for h in holders for v in h.values() if isinstance(v, list | dict | set)]
    before = [(holder, copy.copy(holder)) for holder in (*holders, *inside)]
    try:
        yield
    finally:
        for holder, contents in before:
            holder.clear()
            holder.extend(contents) if isinstance(holder, list) else holder.update(contents)
        put_back(model, tensors)
        model.rng.set_state(random)


def native_bfloat16(device: torch.device) -> bool:
    """Does the device compute in bfloat16, rather than imitate it?"""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


class Forked:
    """Is this process a fork? It has none of the threads that torch made in its parent.

    Whoever waits for them waits for ever, so that a fork computes in one thread.
    """

    here = False

    @classmethod
    def note(cls) -> None:
        """Called in the child."""
        cls.here = True
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=Forked.note)


@contextlib.contextmanager
def using_threads(n: int | None) -> Iterator[None]:
    """Inside this context torch uses n threads, in a fork one; None: as many as before."""
    before = torch.get_num_threads()
    n = 1 if Forked.here else n
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        if n is not None:
            torch.set_num_threads(before)


def import_ahead() -> None:
    """Import what the first step would, in a thread: it takes seconds, and Ctrl-C need not wait.

    An import that is cut short can leave a module in halves, so the thread ends it.
    """
    names = [n for n in ("torch._dynamo", "torch.utils.flop_counter") if n not in sys.modules]
    if not names:
        return
    thread = threading.Thread(target=lambda: list(map(importlib.import_module, names)), daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.05)


def keep_memory() -> None:
    """Ask glibc to keep freed memory: fetching the pages of every step anew costs a quarter."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            c = ctypes.CDLL(None)
            c.mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD: up to 32 MB from the heap
            c.mallopt(-1, 1 << 28)  # M_TRIM_THRESHOLD
