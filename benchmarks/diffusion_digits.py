"""Digits by flow matching with no arguments: time, how its draws are told from data, steps."""

from __future__ import annotations

import time

import common
import numpy as np
import torch

import genus
from genus.evaluate.samples import SampleTest


def main() -> None:
    args = common.options(__doc__, epochs=0)
    print(f"{common.versions('genus', 'torch')}; {args.threads} thread(s)")
    data = genus.data.load("digits")
    trainer = genus.Trainer(epochs=args.epochs or None, progress=False)
    wall, processor = time.perf_counter(), time.process_time()
    model = genus.FlowMatching(trainer=trainer, random_state=0).fit(data.train)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"fit: {wall:.0f} s, {processor:.0f} s of the processor   (bar: 90 s on two cores)")
    test = SampleTest(model.space_, data.train.X, data.test.X, data.train.y)
    n = len(data.test.X) + len(data.train.X)  # to judge, and for a network to learn from
    for steps in (2, 5, 10, 20, 100):
        model.steps = steps
        found = [test(model.sample(n, random_state=seed)) for seed in range(3)]
        told = np.mean([q.classifier.accuracy for q in found])
        network = np.mean([q.network.accuracy for q in found if q.network])
        distance = np.mean([q.frechet.distance for q in found])
        words = sorted({q.memorisation.word for q in found})
        print(
            f"{steps} Heun steps: told from data by trees {told:.3f}, by a network {network:.3f} "
            f"(bars: 0.57 and 0.65 by the default), Frechet {distance:.4f} (real to real "
            f"{found[0].frechet.floor:.4f}), "
            f"{', '.join(words)}",
            flush=True,
        )
    model.steps = None
    with torch.no_grad():
        print(f"held-out digits: {model.log_prob(data.test)}")


if __name__ == "__main__":
    main()
