"""Grey values drawn as bits, the same on every machine."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from genus.coding import as_array
from genus.data.dataset import Data
from genus.space import Space


def binarize(X: Any, seed: int = 0, *, top: float | None = None) -> np.ndarray:
    """Black and white drawn once from grey, x ~ Bernoulli(X / top), the same for the same seed.

    X: grey values 0 … top. top: the value of white; None: 255 for uint8, else 1.
    """
    return _draw(_grey(X, top), np.random.RandomState(seed))


def _grey(X: Any, top: float | None = None) -> np.ndarray:
    a = as_array(X)
    top = top or (255 if a.dtype == np.uint8 else 1)
    inside = a.size > 0 and a.min() >= 0 and a.max() <= top
    if not inside:
        raise ValueError(f"grey values must lie in 0 … {top:g} (no NaN) to be made binary")
    if a.dtype == np.float32 and top == 1:
        return a
    return np.divide(a, top, dtype=np.float32)


def _draw(grey: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    out = np.empty(grey.shape, np.uint8)
    for i in range(0, len(grey), 1000):  # in pieces the draws are the same
        some = grey[i : i + 1000]
        out[i : i + 1000] = rng.random_sample(some.shape) < some
    return out


def binarized(data: Data, how: str, seed: int) -> Data:
    """Grey images as bits, made in the way that ``how`` names."""
    s = data.space
    if s.kind == "binary":
        return data
    values = s.kind in ("ordinal", "continuous") and s.low == 0
    if not values or isinstance(data.X, torch.utils.data.Dataset):
        raise ValueError(
            f"binarize={how!r} needs grey images, an array of values from 0 up: these rows are {s}"
        )
    grey = _grey(data.X, s.levels - 1 if s.levels else 1)
    if how == "threshold":
        X: np.ndarray = (grey > 0.5).astype(np.uint8)
        note = "pixels cut at ½"
    elif how == "sample":
        X = _drawn_by_part(grey, data, seed)
        note = f"pixels drawn once, seed {seed}"
    else:
        X = _drawn_but_training(grey, data, seed)
        note = f"training pixels drawn afresh for every batch, test pixels once, seed {seed}"
    return dataclasses.replace(
        data,
        X=X,
        space=Space(s.shape, "binary", layout=s.layout, dtype="uint8"),
        name=f"{data.name}, binary",
        note="; ".join(filter(None, (data.note, note))),
    )


def _drawn_by_part(grey: np.ndarray, data: Data, seed: int) -> np.ndarray:
    """Bits of all rows, each part of the data by a stream of its own."""
    if not data.parts:
        return _draw(grey, np.random.RandomState(seed))
    out = np.empty(grey.shape, np.uint8)
    for k, rows in enumerate(data.parts.values()):
        out[rows] = _draw(grey[rows], np.random.RandomState([seed, k]))
    return out


def _drawn_but_training(grey: np.ndarray, data: Data, seed: int) -> np.ndarray:
    """Bits of all parts but the training rows, which stay grey."""
    out = grey.copy()
    for k, (part, rows) in enumerate(data.parts.items()):
        if part != "train":
            out[rows] = _draw(grey[rows], np.random.RandomState([seed, k]))
    return out
