"""Held-out likelihood of the flows of flow_peers.py beside zuko and nflows on four sets of data.

Architectures, steps and optimiser are equal.
"""

from __future__ import annotations

import math
import warnings

import common
import flow_peers as peers
import numpy as np
import torch
from sklearn import datasets
from torch import Tensor


def quality(steps: int, seeds: int) -> None:
    """Held-out nats after the steps that the validation rows choose; mean of the seeds.

    All go through the same loop.
    """
    for name, x, width in real():
        d = x.shape[1]
        a, b = len(x) * 6 // 10, len(x) * 8 // 10
        mean, std = x[:a].mean(0), x[:a].std(0)
        train, valid, test = ((x - mean) / std).split([a, b - a, len(x) - b])
        batch = min(peers.BATCH, len(train) // 4)
        for kind in ("RealNVP", "MAF", "spline"):
            scores = {
                who: torch.zeros(seeds, len(test), dtype=torch.float64)
                for who in ("genus", "zuko", "nflows")
            }
            for seed in range(seeds):
                torch.manual_seed(seed)
                sides = {
                    "genus": peers.genus_side(kind, d, width, train, seed),
                    "zuko": peers.zuko_side(kind, d, width),
                    "nflows": peers.nflows_side(kind, d, width),
                }
                for who, side in sides.items():
                    scores[who][seed] = chosen(side, train, valid, test, batch, steps, seed)
            means = {who: s.mean(1) for who, s in scores.items()}
            shown = ", ".join(
                f"{who} {float(m.mean()):.3f} ± {float(m.std()) / seeds**0.5:.3f}"
                for who, m in means.items()
            )
            other = max(
                (who for who in means if who != "genus"), key=lambda who: float(means[who].mean())
            )
            more = (scores["genus"] - scores[other]).mean(0)
            error = math.hypot(
                float(more.std()) / len(more) ** 0.5,
                *(float(means[w].std()) / seeds**0.5 for w in ("genus", other)),
            )
            print(
                f"{name}, {kind}, held-out nats: {shown}; genus - {other} "
                f"{float(more.mean()):+.3f} ± {error:.3f}",
                flush=True,
            )


def chosen(
    side: peers.Side, train: Tensor, valid: Tensor, test: Tensor, batch: int, steps: int, seed: int
) -> Tensor:
    """log p of the test rows at the best of twenty moments, by the validation rows."""
    rng, best = torch.Generator().manual_seed(seed), (-math.inf, torch.zeros(len(test)))
    for step in range(1, steps + 1):
        side.step(train[torch.randint(len(train), (batch,), generator=rng)])
        if step % max(1, steps // 20) == 0:
            with torch.no_grad():
                best = max(
                    best,
                    (float(side.log_prob(valid).mean()), side.log_prob(test).double()),
                    key=lambda v: v[0],
                )
    return best[1]


def real() -> list[tuple[str, Tensor, int]]:
    """Data, and the width of the networks.

    A curved chain, moons, the digits with noise within a level, a table of 30 measurements.
    """
    rng = np.random.default_rng(0)
    digits, table = datasets.load_digits().data, datasets.load_breast_cancer().data
    sets = {
        "6-d chain": (peers.data(6, 16_000, 1).numpy(), 64),
        "2-d moons": (datasets.make_moons(16_000, noise=0.1, random_state=0)[0], 64),
        "64-d digits": (digits[rng.permutation(len(digits))] + rng.random(digits.shape), 128),
        "30-d table": (np.log1p(table[rng.permutation(len(table))]), 128),
    }
    return [
        (name, torch.from_numpy(np.ascontiguousarray(x)).float(), width)
        for name, (x, width) in sets.items()
    ]


def main() -> None:
    args = common.options(__doc__, steps=600, seeds=3)
    warnings.simplefilter("ignore")
    print(
        f"{common.versions('genus', 'torch', 'zuko', 'nflows')}; {args.threads} thread(s), "
        f"{args.seeds} seeds, {args.steps} steps at most"
    )
    quality(args.steps, args.seeds)


if __name__ == "__main__":
    main()
