"""How much a step computes, and what follows: how many threads, and how many bits a number."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

import torch

from genus.learn.run import Run
from genus.learn.trainer import PRECISIONS

SMALL_STEP = 20_000_000  # rows × parameters: below it, one thread
LARGE_STEP = 200_000_000  # above it, bfloat16 where the processor has it


def threads(run: Run) -> int | None:
    """One thread where a step is too small to share (the others would only wait), else torch's
    own number.
    """
    return run.t.threads or (1 if work(run) < SMALL_STEP else None)


def work(run: Run) -> int:
    """Rows × parameters of a step, times the places of a row where each is used."""
    rows = int(run.t.batch_size or 1)
    return rows * run.model.reuse * sum(p.numel() for p in run.weights.values())


def autocast_type(run: Run) -> torch.dtype | None:
    """The type in which networks compute: what the trainer says, else bfloat16 for those large
    enough to gain by it, on devices that compute in it natively; None is the weights' own.
    """
    if run.t.precision:
        return PRECISIONS[run.t.precision]
    pays = run.model.network_bound and work(run) >= LARGE_STEP
    device = next(iter(run.weights.values())).device
    return torch.bfloat16 if pays and native_bfloat16(device) else None


def native_bfloat16(device: torch.device) -> bool:
    """Does the device compute in bfloat16, rather than imitate it?"""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


@contextlib.contextmanager
def using_threads(n: int | None) -> Iterator[None]:
    """Inside this context torch uses n threads; None: as many as before."""
    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        if n is not None:
            torch.set_num_threads(before)


def keep_memory() -> None:
    """Ask glibc to keep freed memory: the same buffers come and go every step, and fetching their
    pages anew costs a quarter.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            c = ctypes.CDLL(None)
            c.mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD: up to 32 MB from the heap
            c.mallopt(-1, 1 << 28)  # M_TRIM_THRESHOLD
