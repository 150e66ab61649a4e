"""Flow matching of CIFAR-10 given its classes: what is asked of a GPU.

    GENUS_DATA=folder python benchmarks/flow_cifar.py smoke      # 128 images, six steps, anywhere
    GENUS_DATA=folder python benchmarks/flow_cifar.py run 720    # seconds, on a GPU

The folder has cifar10_jpeg.npz, the images as JPEG, which changed their pixels a little.

Half of the time is spent in one fit, which leaves a checkpoint; the other half goes on from it by
``resume=True``, as after a break. Told are steps, the learning curve of held-out images, and of
2,000 draws the Fréchet distance beside that of real rows, precision and recall. Two pictures are
written: flow_cifar.png, ten draws of each class, and flow_cifar_curve.png.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import genus
from genus.evaluate.samples import SampleTest


def in_two_halves(
    network: genus.UNet, X: np.ndarray, y: np.ndarray, trainer: genus.Trainer, seconds: float
) -> genus.FlowMatching:
    """A model fitted for half of the seconds, and then from its checkpoint to their end."""
    model = genus.FlowMatching(network, trainer=trainer, random_state=0)
    for part in (0.5, 1.0):
        model.set_params(trainer=trainer.replace(max_time=part * seconds))
        model.fit(X, given=y, resume=part == 1.0)
        print(f"after {part * seconds:.0f} s: {model.n_steps_} steps", flush=True)
    return model


def curve(model: genus.FlowMatching, path: Path) -> list[float]:
    """The objective on held-out images after every pass, which is drawn and returned."""
    found = [line for line in model.history_ if "validation" in line]
    fig, ax = plt.subplots(figsize=(5, 3))
    ax.plot([line["seconds"] for line in found], [line["validation"] for line in found], "o-")
    ax.set_xlabel("seconds")
    ax.set_ylabel("held-out objective")
    fig.tight_layout()
    fig.savefig(path, dpi=100, facecolor="white")
    plt.close(fig)
    return [line["validation"] for line in found]


def main(what: str, seconds: float) -> None:
    smoke = what == "smoke"
    data: Any = genus.data.load("cifar10")
    n, m = (128, 32) if smoke else (len(data.train.X), 2000)
    rng = np.random.default_rng(0)  # the file has class after class
    some, others = (rng.permutation(len(p.X))[:k] for p, k in ((data.train, n), (data.test, m)))
    X, y = np.asarray(data.train.X)[some], np.asarray(data.train.y)[some]
    T = np.asarray(data.test.X)[others]
    network = genus.UNet(8) if smoke else genus.UNet(128, blocks=2, patch=1)
    trainer = genus.Trainer(
        epochs=3 if smoke else 1000, batch_size=128, lr=1e-3, ema=0.999,
        checkpoint=Path("flow_cifar.ckpt"),
    )  # fmt: skip
    begun = time.perf_counter()
    model = in_two_halves(network, X, y, trainer, seconds)
    print(f"{model.n_steps_} steps in {time.perf_counter() - begun:.0f} s")
    print("held out:", " ".join(f"{v:.4f}" for v in curve(model, Path("flow_cifar_curve.png"))))
    begun = time.perf_counter()
    drawn = np.asarray(model.sample(m, given=np.arange(m) % 10, random_state=1))
    print(f"{m} draws in {time.perf_counter() - begun:.0f} s")
    q = SampleTest(model.space_, X[:20_000], T, y[:20_000], rows=m)(drawn)
    print(
        f"Fréchet {q.frechet.distance:.3f} (real {q.frechet.spread[0]:.3f} to "
        f"{q.frechet.spread[1]:.3f}), precision {q.overlap.precision:.2f}, "
        f"recall {q.overlap.recall:.2f}, {q.memorisation.word}"
    )
    ten = drawn[: min(100, m - m % 10)].reshape(-1, 10, 32, 32, 3)
    plt.imsave("flow_cifar.png", np.concatenate([np.concatenate(list(r), 1) for r in ten]))


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "smoke",
        float(sys.argv[2]) if len(sys.argv) > 2 else 720,
    )
