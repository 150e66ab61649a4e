"""Three views of one thing: a digit of MNIST, its name, and a Fashion-MNIST image of its class.

Each view is drawn from another one alone, by a mixture of products. The name weighs 20 in training.
Writes multimodal.png into the folder given (gallery/figures), and prints how often the views agree
for three sorts of joint posterior.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from sklearn.linear_model import LogisticRegression

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import genus
from genus.data import binarize

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
N, TEST = 6000, 400


def views(part: str, n: int) -> tuple[dict[str, Any], np.ndarray]:
    """Rows of three views with the same class, and the class."""
    digits, clothes = genus.data.load("mnist"), genus.data.load("fashion_mnist")
    digit, cloth = getattr(digits, part), getattr(clothes, part)
    y = digit.y[:n]
    rng = np.random.default_rng(0)
    match = np.array([rng.choice(np.flatnonzero(cloth.y == k)) for k in y])
    bits = {
        "digit": binarize(digit.X[:n]),
        "cloth": binarize(cloth.X[match]),
    }
    return bits | {"name": NAMES[y]}, y


def judge(X: np.ndarray, y: np.ndarray) -> Any:
    """A classifier of images, as a function of rows."""
    found = LogisticRegression(max_iter=60).fit(X.reshape(len(X), -1), y)
    return lambda images: found.predict(np.asarray(images).reshape(len(images), -1))


def picture(model: genus.MultimodalVAE, X: dict[str, Any], path: Path) -> None:
    """What is drawn from the name alone, and from the digit alone."""
    rows = [int(np.flatnonzero(X["name"] == name)[0]) for name in NAMES]
    seen = X["digit"][rows]
    by_name = model.complete({"name": NAMES}, random_state=0)
    by_digit = model.complete({"digit": seen}, random_state=0)
    grey = [model.reconstruct(drawn) for drawn in (by_name, by_digit)]  # chances, not bits
    lines = {
        "digit given name": grey[0]["digit"],
        "cloth given name": grey[0]["cloth"],
        "a digit": seen,
        "cloth given digit": grey[1]["cloth"],
    }
    fig, axes = plt.subplots(len(lines), 10, figsize=(8.4, 3.9))
    for line, (label, images) in zip(axes, lines.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(np.asarray(image).reshape(28, 28), cmap="gray_r", interpolation="none")
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(label, fontsize=7, rotation=0, ha="right", va="center")
    for ax, name in zip(axes[0], NAMES, strict=True):
        ax.set_title(name, fontsize=8)
    for ax, name in zip(axes[3], by_digit["name"], strict=True):
        ax.set_xlabel(str(name), fontsize=8)
    fig.subplots_adjust(left=0.13, right=0.99, top=0.94, bottom=0.06, wspace=0.05, hspace=0.1)
    fig.savefig(path, dpi=130, facecolor="white")


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures")
    out.mkdir(parents=True, exist_ok=True)
    train, y = views("train", N)
    test, _ = views("test", TEST)
    label = {
        "digit": judge(train["digit"], NAMES[y]),
        "cloth": judge(train["cloth"], NAMES[y]),
        "name": np.asarray,
    }
    trainer = genus.Trainer(epochs=20, batch_size=100, lr=2e-3, progress=False)
    net = genus.MLP(256, 2, "silu")
    for joint in ("product", "mixture", "mixture of products"):
        model = genus.MultimodalVAE(
            16,
            joint,
            weights={"name": 20.0},  # one cell beside 784
            encoder=net,
            decoder=net,
            k=64,
            trainer=trainer,
            random_state=0,
        )
        model.fit(train)
        print(f"{joint}: {model.log_prob(test)!r}")
        print(f"  log p(name | images): {model.log_conditional(test, of='name')!r}")
        print(genus.evaluate.coherence(model, test, label), flush=True)
        if joint == "mixture of products":
            picture(model, test, out / "multimodal.png")
