"""Held-out likelihood of the flows of flow_peers.py beside zuko and nflows on four sets of data: equal architectures, steps, optimiser."""

from __future__ import annotations

import math
import warnings

import common
import flow_peers as peers
import numpy as np
import torch
from sklearn import datasets
from torch import Tensor


def quality(steps: int) -> None:
    """Held-out nats after the steps that the validation rows choose, of the same loop for all."""
    for name, x, width in real():
        a, b = len(x) * 6 // 10, len(x) * 8 // 10
        mean, std = x[:a].mean(0), x[:a].std(0)
        train, valid, test = ((x - mean) / std).split([a, b - a, len(x) - b])
        for kind in ("RealNVP", "MAF", "spline"):
            d = x.shape[1]
            sides = {
                "genus": peers.genus_side(kind, d, width, train),
                "zuko": peers.zuko_side(kind, d, width),
                "nflows": peers.nflows_side(kind, d, width),
            }
            scores = {}
            for who, side in sides.items():
                rng, best = torch.Generator().manual_seed(0), (-math.inf, torch.zeros(len(test)))
                for step in range(1, steps + 1):
                    side.step(train[torch.randint(len(train), (min(peers.BATCH, len(train) // 4),), generator=rng)])
                    if step % max(1, steps // 20) == 0:
                        with torch.no_grad():
                            best = max(best, (float(side.log_prob(valid).mean()), side.log_prob(test).double()), key=lambda v: v[0])
                scores[who] = best[1]
            shown = ", ".join(f"{who} {float(s.mean()):.3f}" for who, s in scores.items())
            other = max((s for who, s in scores.items() if who != "genus"), key=lambda s: float(s.mean()))
            more = scores["genus"] - other
            error = float(more.std()) / len(more) ** 0.5
            print(f"{name}, {kind}, held-out nats: {shown}; genus - best {float(more.mean()):+.3f} ± {error:.3f}", flush=True)


def real() -> list[tuple[str, Tensor, int]]:
    """Data: a curved chain, moons, the digits with noise within a level, a table of 30 measurements; and the width of the networks."""
    rng = np.random.default_rng(0)
    digits, table = datasets.load_digits().data, datasets.load_breast_cancer().data
    sets = {
        "6-d chain": (peers.data(6, 16_000, 1).numpy(), 64),
        "2-d moons": (datasets.make_moons(16_000, noise=0.1, random_state=0)[0], 64),
        "64-d digits": (digits[rng.permutation(len(digits))] + rng.random(digits.shape), 128),
        "30-d table": (np.log1p(table[rng.permutation(len(table))]), 128),
    }
    return [(name, torch.from_numpy(np.ascontiguousarray(x)).float(), width) for name, (x, width) in sets.items()]


def main() -> None:
    args = common.options(__doc__, steps=600)
    warnings.simplefilter("ignore")
    print(f"{common.versions('genus', 'torch', 'zuko', 'nflows')}; {args.threads} thread(s), {args.steps} steps at most")
    quality(args.steps)


if __name__ == "__main__":
    main()
