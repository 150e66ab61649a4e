"""Seconds an epoch of genus.RBM beside rbms, learnergy and scikit-learn, all in one process.

MNIST with pixels binarised by sampling once, 500 hidden units, batches of 100, one Gibbs step a
gradient. They take turns, after an epoch that is not counted. genus also with products in bfloat16,
where the processor has them. rbms: its ``fit_batch_pcd`` and SGD, without the file that its
``train`` writes at every step. learnergy: its ``fit``, which also computes an error of
reconstruction and a pseudo-likelihood a batch. scikit-learn: its ``fit``.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable

import common
import numpy as np
import rbm_sklearn
import torch
from torch.utils.data import TensorDataset

HIDDEN, BATCH = 500, 100


def run_rbms(x: np.ndarray) -> float:
    """Processor seconds of an epoch of rbms."""
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.dataset.dataset_class import RBMDataset
    from rbms.training.pcd import fit_batch_pcd

    n = len(x)
    labels, names, ones = np.zeros(n, np.int32), np.arange(n).astype(str), np.ones(n, np.float32)
    rows = RBMDataset(x, labels, ones, names, "mnist", True, device="cpu")
    cpu = torch.device("cpu")
    model = BBRBM.init_parameters(num_hiddens=HIDDEN, dataset=rows, device=cpu, dtype=torch.float32)
    chains = model.init_chains(BATCH)
    model.init_grad()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, maximize=True)
    begun = time.process_time()
    with torch.no_grad():
        for index in torch.randperm(n).split(BATCH):
            optimiser.zero_grad(set_to_none=False)
            batch = (rows.data[index], rows.weights[index])
            chains, _ = fit_batch_pcd(batch, chains, model, gibbs_steps=1, beta=1.0)
            optimiser.step()
    return time.process_time() - begun


def run_learnergy(x: np.ndarray) -> float:
    """Processor seconds of an epoch of learnergy."""
    from learnergy.models.bernoulli import RBM

    model = RBM(n_visible=x.shape[1], n_hidden=HIDDEN, steps=1, learning_rate=0.1)
    rows = TensorDataset(torch.from_numpy(x), torch.zeros(len(x)))
    begun = time.process_time()
    model.fit(rows, batch_size=BATCH, epochs=1)
    return time.process_time() - begun


def main() -> None:
    args = common.options(__doc__)
    train, _, name = common.mnist(args.rows)
    x = common.binarised(train, 0)
    print(common.versions("torch", "scikit-learn", "rbms", "learnergy"))
    print(f"data: {name}, {len(x)} rows; {HIDDEN} hidden, batch {BATCH}, {args.threads} thread(s)")
    runs: dict[str, Callable[[int], float]] = {
        "genus": lambda seed: rbm_sklearn.run_genus(x, 1, seed, args.threads)[0],
        "genus, bfloat16": lambda seed: rbm_sklearn.run_genus(x, 1, seed, args.threads, "bfloat16")[
            0
        ],
        "scikit-learn": lambda seed: rbm_sklearn.run_sklearn(x, 1, 0.05, seed)[0],
    }
    for peer, run in (("rbms", run_rbms), ("learnergy", run_learnergy)):
        if importlib.util.find_spec(peer):
            runs[peer] = lambda seed, run=run: run(x)  # type: ignore[misc]
    seconds: dict[str, list[float]] = {who: [] for who in runs}
    for r in range(args.rounds + 1):
        for who in list(runs)[:: 1 if r % 2 else -1]:
            spent = runs[who](r)
            if r:
                seconds[who].append(spent)
    for who, times in seconds.items():
        print(f"{who:16} {common.spread(times)} s of the processor an epoch")
    bars = {"rbms": 1.4, "learnergy": 1.4, "scikit-learn": 1.0}
    for mine, factor in (("genus", 1.0), ("genus, bfloat16", 1.5)):
        for peer, bar in bars.items():
            if peer in seconds:
                ratio = statistics.median(seconds[peer]) / statistics.median(seconds[mine])
                bar = factor * bar if peer == "scikit-learn" else bar
                print(f"{peer} / {mine}: {ratio:.2f}x   (bar: {bar}x)")


if __name__ == "__main__":
    main()
