"""Draws of Fashion-MNIST by families of all kinds, at equal time.

Told of 2,000 draws against test rows: the Fréchet distance beside that of real rows against real
ones in the same counts, precision and recall, how often trees tell them apart, memorisation.

    GENUS_DATA=folder python benchmarks/fashion_samples.py [--seconds 600] [--side 28]
        [--families VAE,GAN,FlowMatching,Glow,PixelCNN] [--picture fashion.png]
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import genus
from genus.evaluate.samples import SampleTest

SHOWN = 16  # draws of each in the picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="of each fit (600)")
    parser.add_argument("--side", type=int, default=28, choices=(14, 28))
    parser.add_argument("--families", default="VAE,GAN,FlowMatching,Glow,PixelCNN")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--picture", default="fashion.png")
    asked = parser.parse_args()
    data = genus.data.load("fashion_mnist")
    train, test = (
        np.asarray(part.X).reshape(-1, 28, 28)[:, :: 28 // asked.side, :: 28 // asked.side]
        for part in (data.train, data.test)
    )
    judge = SampleTest(
        genus.Space.of(train), train[:20_000], test, np.asarray(data.train.y)[:20_000],
        rows=asked.draws,
    )  # fmt: skip
    print(f"{judge.n} draws against as many test rows; budgets of {asked.seconds:.0f} s")
    strips = {"test rows": test[:SHOWN]}
    for name in asked.families.split(","):
        trainer = genus.Trainer(max_time=asked.seconds, progress=False)
        model = getattr(genus, name)(trainer=trainer, random_state=0)
        begun = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(train)
        fitted = time.perf_counter() - begun
        begun = time.perf_counter()
        drawn = np.asarray(model.sample(asked.draws, random_state=1))
        seconds = time.perf_counter() - begun
        strips[name] = drawn[:SHOWN]
        q = judge(drawn)
        print(
            f"{name}: Fréchet {q.frechet.distance:.3f} (real {q.frechet.spread[0]:.3f} to "
            f"{q.frechet.spread[1]:.3f}), precision {q.overlap.precision:.2f}, recall "
            f"{q.overlap.recall:.2f}, told apart {q.classifier.accuracy:.3f}, "
            f"{q.memorisation.word}; fitted in {fitted:.0f} s, drawn in {seconds:.0f} s",
            flush=True,
        )
        picture(strips, Path(asked.picture))


def picture(strips: dict[str, np.ndarray], path: Path) -> None:
    fig, axes = plt.subplots(len(strips), 1, figsize=(11, 0.75 * len(strips)))
    for ax, (name, images) in zip(np.atleast_1d(axes), strips.items(), strict=True):
        ax.imshow(np.concatenate(list(images), 1), cmap="gray_r", vmin=0, vmax=255)
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.set_xticks([])
        ax.set_yticks([])
    fig.tight_layout()
    fig.savefig(path, dpi=100, facecolor="white")
    plt.close(fig)


if __name__ == "__main__":
    main()
