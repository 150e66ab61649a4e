"""Exact queries of genus.BayesNet on four networks beside pyAgrum and pgmpy.

The networks, alarm, insurance, hailfinder and hepar2, are read from the files that pgmpy ships,
or from --networks FOLDER of .bif or .bif.gz files; where there are none, random ones of the same
sizes are made by pyAgrum. Every network is written by genus.models.graphs.bif and read by
pyAgrum. It then judges p(evidence), every posterior, and joint posteriors of two variables, given
five observed ones.

On the first network three times are taken, in turns and in seconds of the processor, all of
BayesNet.query, tables of words in and out:
  - one query of a pattern that was never met before, beside pgmpy's VariableElimination: the order
  of elimination included;
  - rows of evidence of one pattern, beside pyAgrum's LazyPropagation row by row, which keeps its
  junction tree;
  - the same with half of the variables observed, so that few rows are equal.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import common
import numpy as np
import pandas as pd
import torch

from genus import BayesNet
from genus.models.graphs import elimination
from genus.models.graphs.bif import BifNetwork, read_bif, write_bif
from genus.models.graphs.contraction import plan_of

# variables, edges
NAMES = {"alarm": (37, 46), "insurance": (27, 52), "hailfinder": (56, 66), "hepar2": (70, 123)}
PEERS = [name for name in ("pyagrum", "pgmpy") if importlib.util.find_spec(name) is None]


def networks(folder: str, tmp: Path) -> dict[str, BifNetwork]:
    """The networks by name: from the folder, from pgmpy's files, or random."""
    import pyagrum as gum

    places = [Path(folder)] if folder else []
    if "pgmpy" not in PEERS:
        spec = importlib.util.find_spec("pgmpy")
        assert spec is not None and spec.origin is not None
        places.append(Path(spec.origin).parent / "utils" / "example_models")
    found = {}
    for name, (nodes, arcs) in NAMES.items():
        file = next(
            (
                p / f"{name}{end}"
                for p in places
                for end in (".bif", ".bif.gz")
                if (p / f"{name}{end}").exists()
            ),
            None,
        )
        if file is None:
            print(
                f"{name}: no file was found (--networks FOLDER); a random network of {nodes} "
                f"variables and {arcs} edges stands in"
            )
            gum.initRandom(1)
            file = tmp / f"{name}.bif"
            gum.BNGenerator().generate(nodes, arcs, 4).saveBIF(str(file))
        found[name] = read_bif(file)
    return found


def factors_of(net: BifNetwork) -> tuple[list[elimination.Factor], tuple[int, ...]]:
    place = {v: k for k, v in enumerate(net.states)}
    factors = [(tuple(place[u] for u in (*net.parents[v], v)), net.tables[v]) for v in net.states]
    return factors, tuple(len(s) for s in net.states.values())


def in_pyagrum(net: BifNetwork, file: Path):  # type: ignore[no-untyped-def]
    """pyAgrum's network, by way of a file with plain names, and how far its tables were apart.

    After that they are made equal. It reads numbers in single precision; for exact comparisons the
    tables are then set in double.
    """
    import pyagrum as gum

    plain = {v: f"x{k}" for k, v in enumerate(net.states)}
    states = {plain[v]: tuple(f"s{i}" for i in range(len(s))) for v, s in net.states.items()}
    parents = {plain[v]: tuple(plain[u] for u in p) for v, p in net.parents.items()}
    copy = BifNetwork(net.name, states, parents, {plain[v]: t for v, t in net.tables.items()})
    write_bif(copy, file)
    bn = gum.loadBN(str(file))
    apart = 0.0
    for v, table in copy.tables.items():
        axes = (*copy.parents[v], v)
        # its first name runs fastest
        ours = table.permute([axes.index(u) for u in reversed(bn.cpt(v).names)])
        apart = max(apart, float(np.abs(bn.cpt(v).toarray() - ours.numpy()).max()))
        bn.cpt(v).fillWith(ours.reshape(-1).tolist())
    return bn, apart


def judged(name: str, net: BifNetwork, bn, queries: int, rng: torch.Generator) -> float:  # type: ignore[no-untyped-def]
    """The largest difference from pyAgrum over so many sets of evidence."""
    import pyagrum as gum

    factors, cards = factors_of(net)
    d, worst = len(cards), 0.0
    for _ in range(queries):
        order = torch.randperm(d, generator=rng).tolist()
        seen, (a, b) = order[:5], order[5:7]
        row = elimination.draw(factors, cards, tuple(range(d)), {}, rng)[0]
        evidence = {v: row[v : v + 1] for v in seen}
        ie = gum.LazyPropagation(bn)
        ie.setEvidence({f"x{v}": int(row[v]) for v in seen})
        ie.addAllTargets()
        ie.makeInference()
        total = float(elimination.log_marginal(factors, cards, (), evidence))
        worst = max(
            worst,
            abs(np.exp(total) - ie.evidenceProbability()),
            abs(total - np.log(ie.evidenceProbability())),
        )
        for v, p in enumerate(elimination.posteriors(factors, cards, tuple(range(d)), evidence)):
            worst = max(worst, float(np.abs(p[0].numpy() - ie.posterior(f"x{v}").toarray()).max()))
        one = (elimination.log_marginal(factors, cards, (a,), evidence)[0] - total).exp().numpy()
        worst = max(worst, float(np.abs(one - ie.posterior(f"x{a}").toarray()).max()))
        both = (elimination.log_marginal(factors, cards, (a, b), evidence)[0] - total).exp()
        # one with a joint target gives another p(evidence) now and then, at
        # odds with its own chain rule
        ie = gum.LazyPropagation(bn)
        ie.setEvidence({f"x{v}": int(row[v]) for v in seen})
        ie.addJointTarget({f"x{a}", f"x{b}"})
        ie.makeInference()
        joint = ie.jointPosterior({f"x{a}", f"x{b}"})
        i = gum.Instantiation(joint)
        while not i.end():
            worst = max(worst, abs(joint[i] - float(both[i.val(f"x{a}"), i.val(f"x{b}")])))
            i.inc()
    return worst


def seconds(run) -> float:  # type: ignore[no-untyped-def]
    begun = time.process_time()
    run()
    return time.process_time() - begun


def cold(net: BifNetwork, file: Path, queries: int, rng: torch.Generator) -> None:
    """One query after forgetting every plan."""
    from pgmpy.inference import VariableElimination
    from pgmpy.readwrite import BIFReader

    logging.disable(logging.WARNING)
    factors, cards = factors_of(net)
    ve, model = VariableElimination(BIFReader(str(file)).get_model()), BayesNet.from_bif(file)
    ours, theirs, worst = [], [], 0.0
    for q in range(queries + 5):
        order = torch.randperm(len(cards), generator=rng).tolist()
        seen, target = order[:5], order[5]
        row = elimination.draw(factors, cards, tuple(range(len(cards))), {}, rng)[0]
        names = {f"x{v}": f"s{int(row[v])}" for v in seen}
        plan_of.cache_clear()
        elimination._barren.cache_clear()
        answers = {}
        a = lambda: answers.update(a=model.query(f"x{target}", names))  # noqa: B023, E731
        b = lambda: answers.update(b=ve.query([f"x{target}"], evidence=names, show_progress=False))  # noqa: B023, E731
        times = [seconds(a), seconds(b)] if q % 2 else [seconds(b), seconds(a)][::-1]
        p = answers["a"][answers["b"].state_names[f"x{target}"]].to_numpy()[0]
        worst = max(worst, float(np.abs(p - answers["b"].values).max()))
        if q >= 5:  # the first ones load code
            ours.append(times[0])
            theirs.append(times[1])
    print(
        f"one cold query:   genus {common.spread([1e3 * s for s in ours])} ms, pgmpy "
        f"{common.spread([1e3 * s for s in theirs])} ms,"
    )
    print(
        "                  genus / pgmpy "
        f"{statistics.median(ours) / statistics.median(theirs):.2f}   "
        f"(bar: at most 3); {worst:.1e} apart"
    )


def batched(
    net: BifNetwork, bn, file: Path, n: int, observed: int, rounds: int, rng: torch.Generator
) -> None:  # type: ignore[no-untyped-def]
    """Rows of one pattern at once, out of a table of words, beside one at a time, as numbers."""
    import pyagrum as gum

    model, (factors, cards) = BayesNet.from_bif(file), factors_of(net)
    order = torch.randperm(len(cards), generator=rng).tolist()
    seen, target = order[:observed], order[observed]
    every = elimination.draw(
        factors, cards, tuple(range(len(cards))), {0: torch.full((n,), -1)}, rng
    )
    table = pd.DataFrame(
        {
            f"x{v}": pd.Series([f"s{i}" for i in range(cards[v])])[every[:, v].numpy()].array
            for v in seen
        }
    )
    ours, theirs, p = [], [], pd.DataFrame()
    ie = gum.LazyPropagation(bn)
    ie.setEvidence({f"x{v}": 0 for v in seen})
    ie.addTarget(f"x{target}")
    single = min(n, 300)
    answers = np.zeros((single, cards[target]))

    def one_by_one() -> None:
        for r, row in enumerate(every[:single].tolist()):
            for v in seen:
                ie.chgEvidence(f"x{v}", row[v])
            ie.makeInference()
            answers[r] = ie.posterior(f"x{target}").toarray()

    for _ in range(rounds):
        plan_of.cache_clear()
        ours.append(seconds(lambda: model.query(f"x{target}", table)) / n)
        theirs.append(seconds(one_by_one) / single)
    p = model.query(f"x{target}", table)
    distinct = len(torch.unique(every[:, seen], dim=0))
    print(
        f"{n} rows, {observed} observed ({distinct} distinct): genus "
        f"{common.spread([1e6 * s for s in ours])} µs a row,"
    )
    print(
        f"                  pyAgrum {common.spread([1e6 * s for s in theirs])} µs a row, one by "
        f"one (its first {single} rows),"
    )
    ratio, apart = (
        statistics.median(theirs) / statistics.median(ours),
        np.abs(p[:single].to_numpy() - answers).max(),
    )
    print(
        f"                  pyAgrum / genus {ratio:.0f}x   "
        f"(bar: 100x with 5 observed); {apart:.1e} apart"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", default="", help="a folder of .bif or .bif.gz files")
    for option, value in {"threads": 1, "rows": 10_000, "rounds": 5, "queries": 50}.items():
        parser.add_argument(f"--{option}", type=int, default=value, help=f"default {value}")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    if "pyagrum" in PEERS:
        print("pyAgrum is not installed: nothing to compare with")
        return
    import pyagrum as gum

    gum.setNumberOfThreads(args.threads)
    print(common.versions("torch", "opt_einsum", "pyagrum", "pgmpy"))
    rng = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as tmp:
        first = None
        for name, net in networks(args.networks, Path(tmp)).items():
            file = Path(tmp) / f"plain_{name}.bif"
            bn, bits = in_pyagrum(net, file)
            worst = judged(name, net, bn, args.queries, rng)
            print(
                f"{name}: {len(net.states)} variables; "
                f"written and read by pyAgrum: tables {bits:.1e} apart;",
                end=" ",
            )
            print(
                f"{args.queries} sets of evidence: {worst:.1e} apart "
                f"({'yes' if worst < 1e-7 else 'NO'}, bar: 1e-7)"
            )
            first = first or (name, net, bn, file)
        assert first is not None
        name, net, bn, file = first
        print(f"times on {name}, {args.threads} thread(s):")
        if "pgmpy" in PEERS:
            print("one cold query:   pgmpy is not installed")
        else:
            cold(net, file, args.queries, rng)
        for observed in (5, len(net.states) // 2):
            batched(net, bn, file, args.rows, observed, args.rounds, rng)


if __name__ == "__main__":
    main()
