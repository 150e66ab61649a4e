"""What the benchmarks share: the data, the machine, and lines that can be read by eye."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch


def mnist(rows: int | None = None) -> tuple[np.ndarray, np.ndarray, str]:
    """(train, test, what it is): uint8 (n, 784) from $GENUS_DATA/mnist.npz, or synthetic rows."""
    file = Path(os.environ.get("GENUS_DATA", "")) / "mnist.npz"
    if os.environ.get("GENUS_DATA") and file.exists():
        with np.load(file) as z:
            train, test = z["x_train"].reshape(-1, 784), z["x_test"].reshape(-1, 784)
        name = "MNIST"
    else:
        rng = np.random.default_rng(0)
        # ten blurred prototypes, about as much ink as digits
        ink = 255 * rng.beta(0.15, 0.6, (10, 784))

        def make(n: int) -> np.ndarray:
            grey = ink[rng.integers(10, size=n)] + rng.normal(0, 20, (n, 784))
            return np.clip(grey, 0, 255).astype(np.uint8)

        train, test = make(60_000), make(10_000)
        name = (
            "SYNTHETIC rows of MNIST's shape (set GENUS_DATA to a folder with mnist.npz): speeds "
            "only, likelihoods mean nothing"
        )
    return train[:rows], test, name


def binarised(x: np.ndarray, seed: int) -> np.ndarray:
    """Every pixel drawn once with its grey value as the probability, as float32 zeros and ones."""
    return (np.random.default_rng(seed).random(x.shape, dtype=np.float32) * 255 < x).astype(
        np.float32
    )


def options(description: str | None, **defaults: int) -> argparse.Namespace:
    """--threads, --rows, --rounds and the benchmark's own whole numbers."""
    parser = argparse.ArgumentParser(description=description)
    for name, value in {"threads": 1, "rows": 60_000, "rounds": 3, **defaults}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    return args


def versions(*names: str) -> str:
    """Name and version of each package."""

    def one(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"{name} (absent)"

    return ", ".join([f"Python {platform.python_version()}", *map(one, names)])


def machine() -> str:
    """Processor, cores, and how busy they are with other work."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor() or "unknown processor",
    )
    load = (
        f", load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    )
    return f"{model}, {os.cpu_count()} cores{load}"


def spread(values: list[float]) -> str:
    """median [least, most]."""
    return f"{statistics.median(values):.4g} [{min(values):.4g}, {max(values):.4g}]"
