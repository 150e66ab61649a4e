"""Boltzmann machines on five binary tables beside trees, graphs, mixtures and MADE.

Test nats a row, with the kind of number (= exact, ≥ a bound, ≈ rests on annealed importance
sampling) and its error: that of the mean over rows and, of an estimate, that of log Z. Sizes are
stated, not searched; where training stops early, the validation rows say when. The test rows are
scored once.

    GENUS_DATA=folder python benchmarks/boltzmann_tables.py [table ...]

The folder holds binary_tables.npz; processor seconds are of one thread.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genus import MADE, MLP, RBM, BayesNet, BoltzmannMachine, CategoricalMixture, Trainer

TABLES = ("nltcs", "mushrooms", "dna", "plants", "baudio")
MARKS = {"exact": "=", "lower bound": "≥", "estimate": "≈"}


def models(n: int) -> dict[str, Any]:
    """What is compared, for n rows."""
    epochs = min(200, max(20, 500_000 // n))
    steady = Trainer(epochs=epochs, batch_size=50 if n < 5000 else 100, progress=False)
    watched = Trainer(epochs=epochs, lr=5e-3, patience=10, progress=False)
    return {
        "Chow–Liu": BayesNet("chow-liu"),
        "hill climbing": BayesNet("hill-climb", max_parents=4),
        "mixture of 20": CategoricalMixture(20, random_state=0),
        "MADE 256": MADE(MLP(256, 1), prior=5.0, trainer=watched, random_state=0),
        "pairwise": BoltzmannMachine(method="pseudo", n_annealing=1000, random_state=0),
        "RBM 100": RBM(100, k=(1, 5), n_annealing=2000, trainer=steady, random_state=0),
    }


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'table':10} {'model':14} {'test':>9}   rows' error  of log Z      ESS  processor")
    with np.load(Path(os.environ.get("GENUS_DATA", ".")) / "binary_tables.npz") as z:
        for name in sys.argv[1:] or TABLES:
            train, valid, test = (z[f"{name}_{part}"].astype(int) for part in TABLE_PARTS)
            for what, model in models(len(train)).items():
                begun = time.process_time()
                if isinstance(model, MADE):
                    model.fit(train, validation=valid)
                else:
                    model.fit(train)
                p = model.log_prob(test)
                error = p.nats.std(ddof=1) / np.sqrt(len(p.nats))
                print(
                    f"{name:10} {what:14} {MARKS[p.kind]}{p.mean():8.3f} ± {error:10.3f}  "
                    f"{getattr(p, 'shared_stderr', 0.0):8.3f} {p.detail.get('ess', np.inf):8.0f}  "
                    f"{time.process_time() - begun:7.0f} s",
                    flush=True,
                )


TABLE_PARTS = ("train", "valid", "test")

if __name__ == "__main__":
    main()
