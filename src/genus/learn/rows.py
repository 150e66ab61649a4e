"""Training rows: a tensor in memory, indexed, or a source that is read batch by batch.

What a model must know of its rows before it learns comes from a *look*: all rows where they are
few, else one drawn from each of as many equal stretches. What it learns by passes over codes of its
own, as EM does, it makes with :meth:`Rows.mapped`, which keeps them where the rows are: in memory,
or on disk.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genus.learn import processes
from genus.sources import OnDisk, spread, stacked
from genus.space import Space

STATES = (5056, 16)  # bytes of the state of a stream of the processor, and of a GPU
LOOK = 1 << 16  # rows that are looked at before learning, where a model does not say
CELLS = 1 << 24  # cells of a stream that are looked at, at most


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random stream of its own; genus never touches the global ones."""
    return torch.Generator(device=device).manual_seed(seed % 2**63)


def take_up(rng: torch.Generator, state: Tensor) -> None:
    """Set a stream to a state; that of another sort of device seeds it, by its digest."""
    if state.numel() in STATES and state.numel() != rng.get_state().numel():
        rng.manual_seed(zlib.crc32(state.numpy().data))
    else:
        rng.set_state(state)


class Rows:
    """Training rows and what stands beside them.

    x: (n, *shape) tensor of codes, or an object with ``len`` and ``[indices]`` (:class:`Stream`).
    given: (n, …) conditions, a tensor or a stream. weight: (n,) nonnegative.
    """

    def __init__(self, x: Any, given: Any = None, weight: Tensor | None = None) -> None:
        self.x, self.given, self.weight = x, given, weight
        self.device = x.device if isinstance(x, Tensor) else torch.device("cpu")
        # grey values under a binary space are probabilities: pixels are
        # drawn afresh for every batch
        self.draw = False

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device | str) -> Rows:
        """The rows on a device; a stream's batches go there one by one."""
        self.device = torch.device(device)
        for name in ("x", "given", "weight"):
            t = getattr(self, name)
            if isinstance(t, Tensor):
                setattr(self, name, t.to(device))
        return self

    def take(self, index: Tensor | slice, rng: torch.Generator | None = None) -> tuple[Tensor, ...]:
        """(x,) or (x, given) of some rows, as floating-point codes.

        rng: where pixels are drawn from; None: always the same draw.
        """
        x = self._some(self.x, index)
        if self.draw:
            rng = rng or generator(0, x.device)
            u = torch.rand(x.shape, generator=rng, device=rng.device)
            x = (u.to(x.device) < x).to(x.dtype)
        return (x,) if self.given is None else (x, self._some(self.given, index))

    def _some(self, source: Any, index: Tensor | slice) -> Tensor:
        """Some of the codes as floating-point numbers on the device."""
        if isinstance(index, Tensor) and isinstance(source, Tensor):
            x = source.index_select(0, index)  # several times faster than source[index]
        else:
            x = source[index]
        x = x.to(self.device)
        return x if x.is_floating_point() else x.to(torch.get_default_dtype())

    def order(self, rng: torch.Generator) -> Tensor:
        """The numbers of the rows in a random order, where ``take`` wants them."""
        order = torch.randperm(len(self), generator=rng, device=rng.device)
        return order.to(self.x.device if isinstance(self.x, Tensor) else "cpu")

    def chunks(self, size: int, rng: torch.Generator | None = None) -> Iterator[tuple[Tensor, ...]]:
        """All rows in order, ``size`` at a time."""
        for i in range(0, len(self), size):
            yield self.take(slice(i, i + size), rng)

    @property
    def streams(self) -> bool:
        """Are the rows read as they are needed?"""
        return not isinstance(self.x, Tensor)

    @property
    def looked(self) -> int:
        """How many rows are looked at where a model does not say."""
        return min(len(self), LOOK, self._most())

    def _most(self) -> int:
        """How many rows can be looked at: of a stream, no more cells than CELLS."""
        dim = int(np.prod(self.x.shape[1:]))
        return max(1, CELLS // max(dim, 1)) if self.streams else len(self)

    @property
    def at_once(self) -> int:
        """Rows whose sums are computed in one piece, where a model has nothing against many."""
        return -(-self.looked // processes.count())

    def places(self, most: int | None = None) -> Tensor | slice:
        """Where the rows of a look are: all, or one drawn from each of so many equal stretches."""
        most = self.looked if most is None else min(most, self._most())
        if most >= len(self):
            return slice(0, most)
        at = torch.from_numpy(spread(len(self), most))
        return at if self.streams else at.to(self.device)

    def look(
        self, most: int | None = None, rng: torch.Generator | None = None
    ) -> tuple[Tensor, ...]:
        """(x,) or (x, given) of at most so many rows; None: of as many as are looked at."""
        return self.take(self.places(most), rng)

    def mapped(
        self, f: Callable[..., Tensor], rng: torch.Generator | None = None, size: int = 8192
    ) -> Rows:
        """Rows f(x), or f(x, given), with the same weights and without conditions.

        Computed once, and kept on disk where these are streams.
        """
        chunks = (f(*batch) for batch in self.chunks(size, rng))
        if self.streams:
            kept = Kept(OnDisk.of(c.cpu().numpy() for c in chunks))
            return Rows(kept, weight=self.weight).to(self.device)
        out: Tensor | None = None
        for i, c in enumerate(chunks):
            out = c.new_empty(len(self), *c.shape[1:]) if out is None else out
            out[i * size : i * size + len(c)] = c
        assert out is not None
        return Rows(out, weight=self.weight)

    def split(self, share: float, seed: int) -> tuple[Rows, Rows | None]:
        """(kept, held out): a fixed random share of the rows set aside, None if that is no row."""
        n_held = int(share * len(self))
        if n_held < 1 or n_held >= len(self):
            return self, None
        order = torch.randperm(len(self), generator=generator(seed))
        return self.subset(order[n_held:].sort().values), self.subset(order[:n_held].sort().values)

    def subset(self, index: Tensor) -> Rows:
        """The rows of ``index``."""
        part = Rows(
            _subset(self.x, index),
            None if self.given is None else _subset(self.given, index),
            None if self.weight is None else self.weight[index],
        )
        part.draw, part.device = self.draw, self.device
        return part

    def fingerprint(self) -> str:
        """A short digest, so that a run is not resumed on other rows.

        Of a stream: of its first and last 1024.
        """
        parts = _ends(self.x)
        if self.given is not None:
            parts += [t.to(torch.get_default_dtype()) for t in _ends(self.given)]
        if self.weight is not None:
            parts.append(self.weight)
        digest = 0
        for t in parts:
            digest = zlib.crc32(
                t.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data, digest
            )
        return f"{len(self)}x{tuple(parts[0].shape[1:])}:{digest:08x}"


def _subset(source: Any, index: Tensor) -> Any:
    """Some rows of a tensor or of a stream."""
    return source[index] if isinstance(source, Tensor) else _Part(source, index)


def _ends(source: Any) -> list[Tensor]:
    """All of a tensor; of a stream its first and last 1024 rows."""
    if isinstance(source, Tensor):
        return [source]
    n = len(source)
    return [source[slice(0, 1024)], source[slice(max(0, n - 1024), n)]]


class Kept:
    """Codes on disk, read as they are needed."""

    def __init__(self, codes: OnDisk) -> None:
        self.codes = codes

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all codes."""
        return self.codes.shape

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Any) -> Tensor:
        return torch.from_numpy(self.codes[index.numpy() if isinstance(index, Tensor) else index])


class Stream:
    """Rows of a dataset or memory map, read and encoded as they are needed."""

    def __init__(self, source: Any, space: Space, missing: bool) -> None:
        self.source, self.space, self.missing = source, space, missing
        self.shape = (len(source), *space.shape)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(self.source, np.memmap | OnDisk):
            batch: Any = np.asarray(
                self.source[index.numpy() if isinstance(index, Tensor) else index]
            )
        elif isinstance(index, slice):
            batch = stacked(self.source, range(*index.indices(len(self))))
        else:
            batch = stacked(self.source, index.tolist())
        return self.space.encode(batch, missing=self.missing)


class _Part:
    """Some rows of a stream."""

    def __init__(self, source: Any, index: Tensor) -> None:
        self.source, self.index = source, index
        self.shape = (len(index), *source.shape[1:])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Any) -> Tensor:
        part: Tensor = self.source[self.index[index]]
        return part
