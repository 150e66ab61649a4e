"""One fit in several processes, as ``torchrun`` starts them.

Every process is given the same rows, sets out from the same seed, and takes its part of the work:

    the gradient of a batch = Σ_r n_r/n · the gradient of the n_r rows of process r
    the sums over all rows = Σ_r the sums over the chunks of process r

so that all of them hold the same model after every step. The noise of a batch is drawn whole by
every process, which keeps that of its own rows: the same row has the same noise, however many
processes there are. What is computed once, before or after the loops, every process computes.
The first one, rank 0, alone writes files, shows progress and warns.

A group that the caller made with ``torch.distributed`` is used as it is; where ``torchrun`` has set
RANK and WORLD_SIZE, the first fit makes one, of NCCL on CUDA devices and else of gloo.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.overrides import TorchFunctionMode

from genus.learn.progress import CtrlC

SIZED = (torch.rand, torch.randn, torch.randint)
BY_TENSOR = {torch.bernoulli: 0.5, torch.multinomial: 1.0, torch.normal: 1.0, torch.poisson: 1.0}
IN_PLACE = ("normal_", "uniform_", "bernoulli_", "exponential_", "random_", "cauchy_")


class ProcessLostError(RuntimeError):
    """Another process of a fit ended, or does not answer."""


# ---------------------------------------------------------------------- who is there


def start() -> None:
    """Join the group of processes that ``torchrun`` started, if this is one of them."""
    if not dist.is_available() or dist.is_initialized():
        return
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        return
    if os.environ.get("GENUS_PROCESS", str(os.getpid())) != str(os.getpid()):
        return  # a worker of one of them, which inherits what torchrun said
    os.environ["GENUS_PROCESS"] = str(os.getpid())
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if cuda else "gloo")
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """How many processes share a fit."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 is the one that writes and prints."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Inside this context a fit is shared, and all but the first process keep quiet."""
    start()
    with contextlib.ExitStack() as stack:
        if rank():
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        yield


# ---------------------------------------------------------------------- what they tell each other


@contextlib.contextmanager
def _talking() -> Iterator[None]:
    """Inside this context a connection that breaks is a ProcessLostError."""
    try:
        yield
    except RuntimeError as e:
        raise ProcessLostError(
            f"another process of this run ended, or does not answer ({str(e)[:200]}): start all of "
            "them again; with Trainer(checkpoint=...), fit(X, resume=True) goes on from the last "
            "checkpoint"
        ) from e


def _there() -> torch.device:
    """Where tensors must be to be sent."""
    cuda = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def added(t: Tensor) -> Tensor:
    """Σ_r t of process r, everywhere."""
    sent = t.detach().to(_there(), copy=True).contiguous()
    with _talking():
        dist.all_reduce(sent)
    return sent.to(t.device)


def first(t: Tensor) -> Tensor:
    """t of the first process, everywhere."""
    sent = t.detach().to(_there(), copy=True).contiguous()
    with _talking():
        dist.broadcast(sent, 0)
    return sent.to(t.device)


def agreed(value: float) -> float:
    """A number as the first process has it: times, which differ a little."""
    return value if count() == 1 else float(first(torch.tensor(value, dtype=torch.float64)))


def agreed_seed(seed: int) -> int:
    """The seed of the first process."""
    return seed if count() == 1 else int(first(torch.tensor(seed, dtype=torch.long)))


def any_of(flag: bool) -> bool:
    """Is it so in any process?"""
    return flag if count() == 1 else bool(added(torch.tensor(float(flag))) > 0)


def check(ctrl_c: CtrlC) -> None:
    """Raise KeyboardInterrupt between two steps in all processes, if it was asked for in one."""
    if any_of(ctrl_c.hit):
        raise KeyboardInterrupt


def check_same_rows(fingerprint: str) -> None:
    """Raise ValueError where processes were given different rows."""
    if count() == 1:
        return
    found: list[Any] = [None] * count()
    with _talking():
        dist.all_gather_object(found, fingerprint)
    if len(set(found)) > 1:
        raise ValueError(
            f"the {count()} processes were given different rows: pass the same X in every one, in "
            "the same order; each takes its part of it"
        )


def settle(model: torch.nn.Module) -> None:
    """Leave every process with the parameters and buffers of the first."""
    if count() == 1:
        return
    with torch.no_grad():
        for t in model.state_dict().values():
            t.copy_(first(t))


# ---------------------------------------------------------------------- sums


def mine(chunks: range) -> range:
    """Those of the chunks whose sums this process computes."""
    return chunks[rank() :: count()]


def add_up(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    """Σ_r of every sum."""
    return sums if count() == 1 else {name: added(sums[name]) for name in sorted(sums)}


# ---------------------------------------------------------------------- descent


@dataclass(frozen=True)
class Part:
    """Rows begin … end of a batch of n: this process's, and their share."""

    begin: int
    end: int
    n: int
    share: float


_part: Part | None = None  # of the batch at hand, where there are several processes
_common = False  # is what is drawn now the same everywhere?


@contextlib.contextmanager
def common() -> Iterator[None]:
    """Inside this context draws belong to no row of the batch, as those of a chain of its own."""
    global _common
    before, _common = _common, True
    try:
        yield
    finally:
        _common = before


def over_batch(value: Tensor) -> Tensor:
    """A mean over the rows of the whole batch, from that over this process's part.

    Its gradient is that of the part.
    """
    if _part is None:
        return value
    own = value.detach()
    return value + (mean(own, _part.share) - own)


def rows_of_batch(n: int) -> int:
    """How many rows the batch has of which this process has n."""
    return n if _part is None else _part.n


def own_rows(t: Tensor) -> Tensor:
    """This process's part of what has a row for each of the whole batch."""
    return t if _part is None else t[_part.begin : _part.end]


def all_rows(t: Tensor) -> Tensor:
    """What has a row for each of the whole batch, from this process's part of it."""
    if _part is None:
        return t
    whole = t.new_zeros(_part.n, *t.shape[1:])
    if _part.share:
        whole[_part.begin : _part.end] = t.detach()
    return added(whole)


@contextlib.contextmanager
def shared(
    batch: tuple[Tensor, ...], rng: torch.Generator
) -> Iterator[tuple[tuple[Tensor, ...], float]]:
    """Inside this context a batch is in parts: that of this process, and its share of the rows.

    What is drawn from ``rng`` for the rows of the part is what is drawn for them in the batch.
    """
    if count() == 1:
        yield batch, 1.0
        return
    n = len(batch[0])
    begin, end = n * rank() // count(), n * (rank() + 1) // count()
    share = (end - begin) / n
    if begin == end:  # there are fewer rows than processes: a row of another's, which counts 0
        begin = min(begin, n - 1)
        end = begin + 1
    global _part
    _part = Part(begin, end, n, share)
    try:
        with OwnNoise(rng, _part):
            yield tuple(t[begin:end] for t in batch), share
    finally:
        _part = None


def mean(value: Any, share: float) -> Any:
    """Σ_r share_r value_r: a loss of the whole batch from those of its parts."""
    if count() == 1:
        return value
    if isinstance(value, Tensor):
        return added(value.detach() * share if share else torch.zeros_like(value))
    return float(added(torch.tensor(value * share if share else 0.0, dtype=torch.float64)))


def average(parameters: list[torch.nn.Parameter], share: float) -> None:
    """Turn gradients of the parts of a batch into those of the batch."""
    if count() == 1:
        return
    grads = [p.grad for p in parameters]
    flat = [
        (torch.zeros_like(p) if g is None or not share else g * share).reshape(-1)
        for p, g in zip(parameters, grads, strict=True)
    ]
    whole = added(torch.cat(flat)).split([p.numel() for p in parameters])
    for g, t in zip(grads, whole, strict=True):
        if g is not None:
            g.copy_(t.view_as(g))


class OwnNoise(TorchFunctionMode):
    """Draws for rows begin … end of a batch of n are cut out of draws for all of them.

    A draw is for the rows where one of its axes has as many entries as there are rows here. All
    other draws are the same everywhere, and so are those inside :func:`common`.
    """

    def __init__(self, rng: torch.Generator, part: Part) -> None:
        super().__init__()
        self.rng, self.begin, self.rows, self.n = rng, part.begin, part.end - part.begin, part.n

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is not self.rng or _common:
            return func(*args, **kwargs)
        if func in SIZED:
            return self._sized(func, args, kwargs)
        if func in BY_TENSOR:
            return self._by_tensor(func, args, kwargs)
        if getattr(func, "__name__", "") in IN_PLACE:
            return self._in_place(func, args, kwargs)
        return func(*args, **kwargs)

    def _axis(self, shape: tuple[int, ...]) -> int | None:
        """The axis of the rows: of draws (k, rows, d) the second, else the first that fits."""
        order = (1, 0, 2) if len(shape) == 3 else range(len(shape))
        return next((i for i in order if shape[i] == self.rows), None)

    def _cut(self, whole: Tensor, axis: int) -> Tensor:
        return whole.narrow(axis, self.begin, self.rows).contiguous()

    def _sized(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        kwargs = dict(kwargs)
        given = kwargs.pop("size", None)
        before: tuple[Any, ...] = ()
        if func is torch.randint:
            before, given = (args, given) if given is not None else (args[:-1], args[-1])
        elif given is None:
            given = args[0] if len(args) == 1 and not isinstance(args[0], int) else args
        size = tuple(int(s) for s in given)
        axis = self._axis(size)
        if axis is not None:
            whole = (*size[:axis], self.n, *size[axis + 1 :])
            return self._cut(func(*before, whole, **kwargs), axis)
        out: Tensor = func(*before, size, **kwargs)
        return out

    def _by_tensor(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        p = args[0]
        if func is torch.multinomial and p.dim() == 1 and args[1] == self.rows:
            return self._cut(func(p, self.n, *args[2:], **kwargs), 0)  # one draw a row
        axis = self._axis(tuple(p.shape))
        if axis is None:
            out: Tensor = func(*args, **kwargs)
            return out
        whole = p.new_full(
            (*p.shape[:axis], self.n, *p.shape[axis + 1 :]), BY_TENSOR[func], requires_grad=False
        )
        whole.narrow(axis, self.begin, self.rows).copy_(p.detach())
        return self._cut(func(whole, *args[1:], **kwargs), axis)

    def _in_place(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        t: Tensor = args[0]
        axis = self._axis(tuple(t.shape))
        if axis is None:
            func(*args, **kwargs)
            return t
        whole = t.new_empty((*t.shape[:axis], self.n, *t.shape[axis + 1 :]))
        func(whole, *args[1:], **kwargs)
        return t.copy_(self._cut(whole, axis))
