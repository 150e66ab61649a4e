"""Is a cell missing? Rows are asked once before they are learned from, not batch after batch."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch
from torch import Tensor


class _Known(threading.local):
    whole = False  # are the rows at hand known to have no gap?


_known = _Known()


@contextlib.contextmanager
def learning_from(whole: bool) -> Iterator[None]:
    """Inside this context ``has_gaps`` need not look where the rows are whole.

    Looking makes the processor wait for the device that holds the rows.
    """
    before, _known.whole = _known.whole, whole
    try:
        yield
    finally:
        _known.whole = before


def has_gaps(x: Tensor) -> bool:
    """Is a cell of x NaN? x: codes of a batch, or what was computed of each of its cells."""
    return not _known.whole and bool(torch.isnan(x).any())
