"""JEM on CIFAR-10: what is asked of a GPU, and the same recipe in plain float32 beside it.

    GENUS_DATA=folder python benchmarks/jem_cifar.py smoke      # 64 images, two steps, anywhere
    GENUS_DATA=folder python benchmarks/jem_cifar.py run 720    # seconds, on a GPU

The folder has cifar10_jpeg.npz, the images as JPEG, which changed their pixels a little.

A wide residual network without norms that mix rows, bfloat16 inside and float32 energies. The
steps of ``run`` are timed in both precisions in one process before training begins. Then come
accuracy, ECE, AUROC against permuted pixels and the steps made; a checkpoint is written, and
``fit(..., resume=True)`` goes on from it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genus
from genus import JEM, Trainer
from genus.evaluate import calibration, detection


def images(part: str, n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """n images (n, 3, 32, 32) of ``train`` or ``test``, of all classes, and their labels."""
    rows: Any = getattr(genus.data.load("cifar10"), part)
    some = np.random.default_rng(0).permutation(len(rows.X))[:n]  # the file has class after class
    return np.asarray(rows.X)[some].transpose(0, 3, 1, 2), np.asarray(rows.y)[some]


class Block(nn.Module):
    """x + conv(φ(conv(φ(x)))), with a convolution beside it where the shape changes."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(a, b, 3, stride, 1)
        self.second = nn.Conv2d(b, b, 3, 1, 1)
        self.beside = nn.Conv2d(a, b, 1, stride) if a != b or stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(F.leaky_relu(x, 0.2))
        out: Tensor = self.beside(x) + self.second(F.leaky_relu(h, 0.2))
        return out


class WideResNet(nn.Module):
    """WRN-depth-width without norms; it computes in ``dtype`` and returns float32."""

    def __init__(
        self, in_shape: tuple[int, ...], out: int, depth: int, width: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.dtype = dtype
        a = 16
        layers: list[nn.Module] = [nn.Conv2d(in_shape[0], a, 3, 1, 1)]
        for i in range(3):
            b = 16 * width * 2**i
            for j in range((depth - 4) // 6):
                layers.append(Block(a, b, 2 if i and not j else 1))
                a = b
        self.body, self.last = nn.Sequential(*layers), nn.Linear(a, out)

    def forward(self, x: Tensor) -> Tensor:
        on = self.dtype != torch.float32
        with torch.autocast(x.device.type, self.dtype, enabled=on):
            h = self.body(x)
        out: Tensor = self.last(F.leaky_relu(h.float(), 0.2).mean((2, 3)))
        return out


def network(depth: int, width: int, dtype: torch.dtype) -> Any:
    """A function of shapes that makes one."""
    return lambda a, b: WideResNet(a, b[0], depth, width, dtype)


def seconds_a_step(model: JEM, X: Any, y: Any, steps: int) -> float:
    """Of a fit of so many steps, what one takes; the first ones warm up."""
    trainer = Trainer(max_steps=steps, batch_size=64, progress=False)
    own = model.set_params(trainer=trainer).fit(X, y)
    return float(own.history_[-1]["seconds"]) / own.n_steps_


def main(what: str, seconds: float) -> None:
    smoke = what == "smoke"
    X, y = images("train", 64 if smoke else None)
    depth, width, steps = (10, 1, 2) if smoke else (16, 4, 30)
    both = {torch.float32: 0.0, torch.bfloat16: 0.0}
    for dtype in both:
        model = JEM(network(depth, width, dtype), steps=20, random_state=0)
        both[dtype] = seconds_a_step(model, X[:2048], y[:2048], steps)
        print(f"{dtype}: {1e3 * both[dtype]:.1f} ms a step", flush=True)
    print(f"plain float32 / bfloat16: {both[torch.float32] / both[torch.bfloat16]:.2f}")
    if smoke:
        return
    trainer = Trainer(
        max_time=seconds, epochs=100, batch_size=64, checkpoint=Path("jem_cifar.ckpt")
    )
    begun = time.perf_counter()
    model = JEM(network(depth, width, torch.bfloat16), augment=4, trainer=trainer, random_state=0)
    model.fit(X, y)
    test, labels = images("test", 2000)
    print(f"{model.n_steps_} steps in {time.perf_counter() - begun:.0f} s")
    print(calibration(model, test, labels))
    flat = test.reshape(len(test), -1)
    permuted = np.random.default_rng(0).permuted(flat, axis=1).reshape(test.shape)
    for score in ("log_prob", "max_softmax", "complexity"):
        print(detection(model, test, permuted, score=score))


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "smoke",
        float(sys.argv[2]) if len(sys.argv) > 2 else 720,
    )
