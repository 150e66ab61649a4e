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
    if a.size == 0 or not (a.min() >= 0 and a.max() <= top):
        raise ValueError(f"grey values must lie in 0 … {top:g} (no NaN) to be made binary")
    return a if a.dtype == np.float32 and top == 1 else np.divide(a, top, dtype=np.float32)


def _draw(grey: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    out = np.empty(grey.shape, np.uint8)
    for i in range(0, len(grey), 1000):  # the stream is the same in one piece
        out[i : i + 1000] = rng.random_sample(grey[i : i + 1000].shape) < grey[i : i + 1000]
    return out


def binarized(data: Data, how: str, seed: int) -> Data:
    """Grey images as bits, made in the way that ``how`` names."""
    s = data.space
    if s.kind == "binary":
        return data
    if (
        s.kind not in ("ordinal", "continuous")
        or s.low != 0
        or isinstance(data.X, torch.utils.data.Dataset)
    ):
        raise ValueError(
            f"binarize={how!r} needs grey images, an array of values from 0 up: these rows are {s}"
        )
    grey = _grey(data.X, s.levels - 1 if s.levels else 1)
    if how == "threshold":
        X: np.ndarray = (grey > 0.5).astype(np.uint8)
    else:
        X = grey.copy() if how == "dynamic" else np.empty(grey.shape, np.uint8)
        for k, (part, rows) in enumerate(data.parts.items()):
            if how == "sample" or part != "train":
                X[rows] = _draw(grey[rows], np.random.RandomState([seed, k]))
        if not data.parts:
            X[:] = _draw(grey, np.random.RandomState(seed)) if how == "sample" else grey
    space = Space(s.shape, "binary", layout=s.layout, dtype="uint8")
    said = {"sample": f"pixels drawn once, seed {seed}", "threshold": "pixels cut at ½"}
    note = said.get(
        how, f"training pixels drawn afresh for every batch, test pixels once, seed {seed}"
    )
    return dataclasses.replace(
        data,
        X=X,
        space=space,
        name=f"{data.name}, binary",
        note="; ".join(filter(None, (data.note, note))),
    )
