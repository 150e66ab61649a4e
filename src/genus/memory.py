"""What does not fit into memory is refused by name: before it is asked for where that is known."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

SIZES = ("n_components", "n_hidden", "latent_dim", "max_levels")  # arguments that size a model
ALLOCATORS = ("CPUAllocator", "CUDA out of memory", "Invalid buffer size")  # in torch's errors


def available() -> int:
    """Bytes of memory that this machine has; 2⁶² where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 62


def check_fits(numbers: float, what: str, cure: str, itemsize: int = 8) -> None:
    """Raise ValueError where so many numbers are more than this machine holds."""
    needed, has = numbers * itemsize, available()
    if needed > has:
        raise ValueError(
            f"{what} would take {needed / 1e9:,.0f} GB of memory, "
            f"and this machine has {has / 1e9:,.0f}: {cure}"
        )


@contextlib.contextmanager
def naming_what_is_large(model: Any) -> Iterator[None]:
    """Inside this context an allocator's error becomes a ValueError that says what is large."""
    try:
        yield
    except (MemoryError, RuntimeError) as e:
        raw = isinstance(e, MemoryError) or any(word in str(e) for word in ALLOCATORS)
        if not raw:
            raise
        refusal = ValueError(_said(model, str(e)))
        for note in getattr(e, "__notes__", ()):  # where it was
            refusal.add_note(note)
        raise refusal from e


def _said(model: Any, error: str) -> str:
    """The refusal: the size of a row, its widest column, and what can be made smaller."""
    large = [f"a model of {type(model).__name__}"]
    cures = ["use fewer columns"]
    space = getattr(model, "space_", None)
    if space is not None:
        large.append(f"rows of {space.dim:,} cells")
        levels = max(space.cardinality, default=0)
        if levels > 1000:
            name = space.names()[space.cardinality.index(levels)]
            large.append(f"{levels:,} levels in {name}")
            cures.append('pass space="continuous" or round the values to fewer levels')
    params = model.get_params(deep=False)
    sizes = [name for name in SIZES if isinstance(params.get(name), int)]
    large += [f"{name}={params[name]}" for name in sizes]
    cures += [f"a smaller {name}=" for name in sizes]
    return f"{', '.join(large)} does not fit into memory ({error[:100]}): {', or '.join(cures)}"
