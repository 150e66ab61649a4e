"""Draws of a PixelCNN from kept activations beside a whole pass of the network for every pixel.

    python benchmarks/pixelcnn_sampling.py 56

Both make the same images, and the time of both is measured. 56 of the 784 pixels are drawn the slow
way; each costs the same.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from genus import PixelCNN, Trainer
from genus.learn.rows import generator

N, SIDE = 64, 28


def naive(model: PixelCNN, n: int, pixels: int, seed: int) -> torch.Tensor:
    """The first pixels of n binary images, (n, pixels)."""
    rng, cell = generator(seed), model._observe(model.space_, 1)
    x = torch.zeros(n, 1, SIDE, SIDE)
    for k in range(pixels):
        p = model.network_(model._features(x))[:, :, k // SIDE, k % SIDE]
        x[:, 0, k // SIDE, k % SIDE] = cell.sample(p, rng)[:, 0]
    return x.flatten(1)[:, :pixels]


def main(pixels: int) -> None:
    torch.set_num_threads(1)
    X = (np.random.default_rng(0).random((256, SIDE, SIDE)) < np.linspace(0, 1, SIDE)).astype(
        np.uint8
    )
    model = PixelCNN(trainer=Trainer(epochs=4, validation=0.0), random_state=0).fit(X)
    kept = []
    for _ in range(3):
        begun = time.process_time()
        fast = model.sample(N, random_state=1)
        kept.append(time.process_time() - begun)
    begun = time.process_time()
    with torch.no_grad():
        slow = naive(model, N, pixels, 1)
    each = (time.process_time() - begun) / pixels
    same = float((torch.from_numpy(fast).flatten(1)[:, :pixels] == slow).float().mean())
    whole = each * SIDE * SIDE
    print(
        f"{N} images of {SIDE} x {SIDE}, {model.channels} channels, {model.n_layers} layers, "
        "processor seconds on one thread:"
    )
    print(
        f"kept activations {np.median(kept):.2f}; a pass for every pixel {whole:.0f} ({pixels} of "
        f"{SIDE * SIDE} pixels timed)"
    )
    print(f"ratio {whole / np.median(kept):.0f}   (bar: 100); same cells {100 * same:.2f} %")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SIDE * SIDE)
