"""Draws of an AutoregressiveTransformer from kept keys and values: how fast, and how near.

    python benchmarks/transformer_sampling.py 28

They stand beside draws that compute the prefix anew for every pixel. 28 pixels, evenly spaced over
the 784, are drawn that slow way, and its time is integrated over them (trapezium); with 784 every
pixel is timed, in about half an hour.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from genus import AutoregressiveTransformer, Trainer
from genus.learn.rows import generator

N, SIDE = 64, 28
CELLS = SIDE * SIDE


def fitted(X: np.ndarray) -> AutoregressiveTransformer:
    """A model of default size, after a few steps; a draw costs the same whatever was learned."""
    return AutoregressiveTransformer(
        random_state=0, trainer=Trainer(max_steps=30, batch_size=8, validation=0.0, progress=False)
    ).fit(X)


def naive(
    model: AutoregressiveTransformer, x: torch.Tensor, t: int, u: torch.Tensor
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Processor seconds of pixel t of images x from all before it, its logits, its value at u."""
    begun = time.process_time()
    p = (
        model._attend(x, model.order_[None], None, 0, t + 1)[:, -1] @ model.head_[0].T
        + model.bias_[t]
    )
    drawn = model._draw(p, model.order_[t][None], u)
    return time.process_time() - begun, p, drawn


def main(pixels: int) -> None:
    torch.set_num_threads(1)
    model = fitted(
        (np.random.default_rng(0).random((256, SIDE, SIDE)) < np.linspace(0, 1, SIDE)).astype(
            np.uint8
        )
    )
    at = np.unique(np.linspace(0, CELLS - 1, pixels).round().astype(int))
    empty = torch.full((N, CELLS), torch.nan, dtype=torch.float64)
    kept, parts, same, far = [], [], [], 0.0
    with torch.no_grad():
        rng = generator(1)
        uniforms = [torch.rand(N, 2, generator=rng, dtype=torch.float64) for _ in range(CELLS)]
        cache = [
            model.value_.new_zeros(2, N, model.heads, CELLS, model.width // model.heads)
            for _ in model.blocks_
        ]
        # warm up, and the images whose pixels are drawn again
        x = model._fill(empty, model.order_[None], generator(1))
        for _ in range(3):  # both sides in turn
            begun = time.process_time()
            x = model._fill(empty, model.order_[None], generator(1))
            kept.append(time.process_time() - begun)
            parts.append([])
            for t in at:
                seconds, _, drawn = naive(model, x, t, uniforms[t])
                parts[-1].append(seconds)
                same.append(drawn == x[:, t])
        for t in range(CELLS):
            p = (
                model._attend(x, model.order_[None], None, t, t + 1, cache)[:, -1]
                @ model.head_[0].T
                + model.bias_[t]
            )
            if t in at:
                q = naive(model, x, t, uniforms[t])[1]
                far = max(far, float(((p - q).abs() / q.abs().clamp_min(1)).max()))
    seconds = np.median(parts, 0)
    whole = float(np.trapezoid(seconds, at)) * CELLS / (CELLS - 1)
    how = (
        "every pixel timed"
        if len(at) == CELLS
        else f"{len(at)} of {CELLS} pixels timed, the others by trapezium"
    )
    agree = 100 * float(torch.stack(same).float().mean())
    print(
        f"{N} images of {SIDE} x {SIDE}, width {model.width}, depth {model.depth}, processor "
        "seconds on one thread, median of 3:"
    )
    print(
        f"kept keys and values {np.median(kept):.2f}; the prefix anew for every pixel {whole:.0f}"
    )
    print(f"  ({how}; from {seconds[0]:.3f} for the first to {seconds[-1]:.3f} for the last)")
    print(
        f"ratio {whole / np.median(kept):.0f}   (bar: 40); the same pixels {agree:.2f} %; logits "
        f"within {far:.1e} of max(1, |logit|)"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 28)
