"""Are few steps of a sampler as good as a thousand? MNIST at 14 × 14, 2,000 draws of each.

Draws by k steps of Heun begin at the noise of draws by 1,000 steps of DDIM. Told are the Fréchet
distance between both, that of each to test rows, and how far real rows are from real rows in the
same counts and the same embedding.

    GENUS_DATA=folder python benchmarks/diffusion_steps.py [--seconds 120] [--channels 16]
"""

from __future__ import annotations

import common
import numpy as np

import genus
from genus.evaluate.embedding import Embedding, frechet, frechet_spread


def main() -> None:
    asked = common.options(__doc__, seconds=120, draws=2000, most=1000, channels=16)
    X, T, name = common.mnist(asked.rows)
    X, T = (x.reshape(-1, 28, 28)[:, ::2, ::2] for x in (X, T))
    trainer = genus.Trainer(max_time=asked.seconds, progress=False)
    model = genus.FlowMatching(genus.UNet(asked.channels), trainer=trainer, random_state=0).fit(X)
    embed = Embedding(X[:20_000].reshape(len(X[:20_000]), -1).astype(np.float32))

    def seen(x: np.ndarray) -> np.ndarray:
        return embed(x.reshape(len(x), -1).astype(np.float32))

    n = asked.draws
    real, others = seen(T[:n]), seen(X[-n:])
    low, high = frechet_spread(real, others)
    print(f"{name}; {n} draws after {model.n_steps_} steps of learning; real to real {low:.4f} to "
          f"{high:.4f} ({embed.name})")  # fmt: skip

    def drawn(sampler: str, steps: int) -> np.ndarray:
        model.sampler, model.steps = sampler, steps
        return seen(np.asarray(model.sample(n, random_state=1)))

    slow = drawn("ddim", asked.most)
    print(f"ddim, {asked.most} steps: to test rows {frechet(slow, real):.4f}", flush=True)
    for sampler, steps in (("heun", 5), ("heun", 10), ("heun", 20), ("ddim", 20), ("ddim", 50)):
        fast = drawn(sampler, steps)
        print(
            f"{sampler}, {steps} steps: to those {frechet(fast, slow):.5f}, "
            f"to test rows {frechet(fast, real):.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
