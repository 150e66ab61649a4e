"""Bits a dimension of Fashion-MNIST by a VAE, Glow and the PixelCNN, beside the floors.

Each has a stated budget. 256 levels, 60,000 training rows, the first 2,000 test rows. Glow: a lower
bound, uniform noise within a level. The floors: each pixel for itself, and one Gaussian.

    GENUS_DATA=folder python benchmarks/fashion.py 300     # seconds of training of each
"""

from __future__ import annotations

import sys
import time

import genus
from genus import MLP, VAE, Gaussian, Glow, Independent, PixelCNN, Trainer

TEST = 2000


def main(seconds: float) -> None:
    data = genus.data.load("fashion_mnist")
    test = data.test.X[:TEST]
    models = [
        Independent(),
        Gaussian(),
        VAE(
            50,
            MLP(500, 2, "silu"),
            MLP(500, 2, "silu"),
            likelihood="logistic",
            trainer=Trainer(
                max_time=seconds,
                epochs=1000,
                batch_size=128,
                lr=2e-3,
                schedule="cosine",
                warmup=200,
                weight_decay=0.0,
                ema=0.999,
                validation=0.02,
            ),
            random_state=0,
        ),
        Glow(
            trainer=Trainer(max_time=seconds, epochs=1000, batch_size=32, validation=0.02),
            random_state=0,
        ),
        PixelCNN(
            trainer=Trainer(max_time=seconds, epochs=1000, batch_size=16, lr=6e-3, validation=0.02),
            random_state=0,
        ),
    ]
    for model in models:
        begun = time.perf_counter()
        model.fit(data.train)
        spent = time.perf_counter() - begun
        print(f"{type(model).__name__}: {model.log_prob(test)!r} ({spent:.0f} s)", flush=True)
    print("published: Glow 2.96 bits a dimension")


if __name__ == "__main__":
    main(float(sys.argv[1]))
