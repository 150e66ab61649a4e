"""25 Gaussians in the plane: how many of them each loss of a GAN finds, and how good its draws are.

The grid of centres is turned by 30°, so that the columns' own distributions do not give it away. A
draw is good within 3 deviations of a centre; a mode is found that has a quarter of its share of
good draws.

    python benchmarks/gan_modes.py [--steps 3000] [--seeds 2]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

import genus

DEVIATION = 0.05
LOSSES = {
    "non-saturating, R1": {"penalty": 0.1},
    "minimax, R1": {"loss": "minimax", "penalty": 0.1},
    "wasserstein-gp": {"loss": "wasserstein-gp", "penalty": 1.0, "critic_steps": 2},
    "hinge, spectral": {"loss": "hinge"},
}


def centres() -> np.ndarray:
    """(25, 2)."""
    axis = np.linspace(-2, 2, 5)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(25, 2)
    a = np.pi / 6
    return grid @ np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


def rows(n: int, seed: int) -> np.ndarray:
    """n rows of the 25 Gaussians."""
    r = np.random.default_rng(seed)
    return centres()[r.integers(0, 25, n)] + DEVIATION * r.normal(size=(n, 2))


def found(draws: np.ndarray) -> tuple[int, float]:
    """Modes that are found, and the share of good draws."""
    distance = np.linalg.norm(draws[:, None] - centres(), axis=2)
    good = distance.min(1) < 3 * DEVIATION
    each = np.bincount(distance.argmin(1)[good], minlength=25)
    return int((each >= good.sum() / 25 / 4).sum()) if good.any() else 0, float(good.mean())


def fitted(X: np.ndarray, steps: int, seed: int, **args: object) -> genus.GAN:
    """A GAN of small networks after so many steps of the generator."""
    network = genus.MLP(128, 3, "leaky_relu")
    batch = 128 * int(args.get("critic_steps", 1))
    trainer = genus.Trainer(
        epochs=10**6, max_steps=steps, batch_size=batch, lr=1e-3, schedule="linear", progress=False
    )
    model = genus.GAN(network, network, latent_dim=2, trainer=trainer, random_state=seed, **args)
    return model.fit(X)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=2)
    said = parser.parse_args()
    torch.set_num_threads(1)
    print("| loss | modes of 25 | good draws | processor s |")
    print("|---|---|---|---|")
    for name, args in LOSSES.items():
        modes, good, seconds = [], [], []
        for seed in range(said.seeds):
            begun = time.process_time()
            model = fitted(rows(10_000, seed), said.steps, seed, **args)
            seconds.append(time.process_time() - begun)
            m, g = found(model.sample(10_000, random_state=seed))
            modes.append(m)
            good.append(g)
        every = ", ".join(map(str, modes))
        print(f"| {name} | {every} | {np.mean(good):.2f} | {np.mean(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()
