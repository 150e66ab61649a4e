"""Learning the structure of Bayesian networks: genus.BayesNet beside pomegranate and pyAgrum.

Chow–Liu, and hill climbing by BIC. Chow–Liu trees of plants (17,412 × 69) must have the information
of SciPy's spanning tree of scikit-learn's mutual informations; pomegranate's own goes wrong there,
where a column is constant and counts are 0. Greedy graphs of nltcs, plants and dna, with at most
four parents, must be as good on the test rows as published and as pyAgrum's under the same smoothed
tables. All sides take turns in one process; seconds of the processor, one thread. genus's time is
that of the whole fit, tables included. Data: binary_tables.npz in $GENUS_DATA.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import pandas as pd
import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from sklearn.metrics import mutual_info_score

import genus

PUBLISHED = {"nltcs": -6.05, "plants": -13.4, "dna": -80.6}


def seconds(f: Any, *args: Any) -> tuple[float, Any]:
    begun = time.process_time()
    out = f(*args)
    return time.process_time() - begun, out


def pomegranate_tree(x: np.ndarray) -> list[tuple[int, int]]:
    from pomegranate.bayesian_network import BayesianNetwork

    model = BayesianNetwork(algorithm="chow-liu").fit(torch.from_numpy(x.astype(np.int64)))
    return [(p, c) for c, parents in enumerate(model.structure) for p in parents]


def genus_tree(x: np.ndarray) -> list[tuple[int, int]]:
    return genus.BayesNet("chow-liu").fit(x).edges_


def pyagrum_graph(frame: pd.DataFrame) -> list[tuple[int, int]]:
    import pyagrum as gum

    learner = gum.BNLearner(frame)
    learner.setNumberOfThreads(1)
    learner.useGreedyHillClimbing()
    learner.useScoreBIC()
    learner.setMaxIndegree(4)
    return [(int(a), int(b)) for a, b in learner.learnDAG().arcs()]


def genus_graph(x: np.ndarray) -> genus.BayesNet:
    return genus.BayesNet("hill-climb", max_parents=4).fit(x)


def main() -> None:
    args = common.options(__doc__, rounds=5)
    file = Path(os.environ.get("GENUS_DATA", "")) / "binary_tables.npz"
    if not os.environ.get("GENUS_DATA") or not file.exists():
        print("no data: set GENUS_DATA to a folder with binary_tables.npz")
        return
    data = np.load(file)
    print(
        f"{common.versions('genus', 'pyAgrum', 'pomegranate', 'torch')}; {args.threads} "
        f"thread(s), {args.rounds} rounds"
    )

    x = data["plants_train"]
    ours, theirs = [], []
    genus_tree(x), pomegranate_tree(x[:2000])  # both have been imported and have run once
    torch.set_num_threads(args.threads)  # the import changed it
    for _ in range(args.rounds):
        t, their_tree = seconds(pomegranate_tree, x)
        theirs.append(t)
        t, our_tree = seconds(genus_tree, x)
        ours.append(t)
    columns = np.ascontiguousarray(x.T)
    information = np.array(
        [
            [mutual_info_score(a, b) if i < j else 0.0 for j, b in enumerate(columns)]
            for i, a in enumerate(columns)
        ]
    )
    best = -minimum_spanning_tree(-information).sum()
    information += information.T
    total = [sum(information[e] for e in tree) for tree in (our_tree, their_tree)]
    print(f"Chow–Liu, plants: pomegranate {common.spread(theirs)} s, genus {common.spread(ours)} s")
    ratio = statistics.median(theirs) / statistics.median(ours)
    right = "yes" if total[0] > best - 1e-9 else "NO"
    print(f"Chow–Liu, plants: pomegranate / genus {ratio:.1f}x (bar: 20x)")
    print(
        f"Chow–Liu, plants: information of the tree {total[0]:.6f} nats, the best {best:.6f} "
        f"({right}), pomegranate's {total[1]:.6f}"
    )

    for name, bar in PUBLISHED.items():
        x, test = data[f"{name}_train"], data[f"{name}_test"]
        frame = pd.DataFrame(x.astype(np.int64), columns=[str(j) for j in range(x.shape[1])])
        ours, theirs = [], []
        for _ in range(args.rounds):
            t, edges = seconds(pyagrum_graph, frame)
            theirs.append(t)
            t, model = seconds(genus_graph, x)
            ours.append(t)
        peer = genus.BayesNet(edges).fit(x)
        ratio = statistics.median(ours) / statistics.median(theirs)
        good = "yes" if model.score(test) > bar - 0.05 else "NO"
        print(
            f"hill climbing, {name}: pyAgrum {common.spread(theirs)} s, "
            f"genus {common.spread(ours)} s"
        )
        print(f"hill climbing, {name}: genus / pyAgrum {ratio:.2f}x (bar: 3x)")
        print(
            f"hill climbing, {name}: test {model.score(test):.3f} nats "
            f"with {len(model.edges_)} edges, "
            f"pyAgrum's graph {peer.score(test):.3f} with {len(edges)} (bar: {bar} ± 0.05: {good})"
        )


if __name__ == "__main__":
    main()
