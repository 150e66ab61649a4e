"""JEM, GAN and FlowMatching on seven tables beside their peers, at equal seconds of the processor.

    jem     accuracy, ECE and the AUROC of rows with swapped cells, beside gradient boosting and
            IsolationForest; a target of numbers is cut into thirds
    gan     how draws are told from test rows, beside CTGAN (pip install ctgan)
    flow    the same beside ForestDiffusion (pip install ForestDiffusion)

Draws are judged by genus's two-sample tests, which lay the holes of the test rows over them. CTGAN
gets tables without gaps (medians and modes in their place), the others the tables as they are.

    GENUS_DATA=folder python benchmarks/tables_peers.py jem gan flow --seconds 10
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

time.perf_counter = time.process_time  # budgets are of the processor; genus reads this clock

import tables  # noqa: E402

import genus  # noqa: E402
from genus import JEM  # noqa: E402
from genus.evaluate import SampleTest  # noqa: E402
from genus.evaluate.calibration import calibration, reliability  # noqa: E402
from genus.learn.fit import time_limit  # noqa: E402


def plain(t: tables.Table, rows: pd.DataFrame) -> pd.DataFrame:
    """Dates as days; numbers and words stay."""
    out = t.coded(rows)[t.numbers]
    for c in t.words:
        out[c] = rows[c].astype(object).where(rows[c].notna(), None).to_numpy()
    return out[list(rows)]


def seconds(f: Any) -> tuple[Any, float]:
    """What f returns, and how long it took."""
    begun = time.process_time()
    return f(), time.process_time() - begun


# ---------------------------------------------------------------------- a classifier


def classes(t: tables.Table) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the training and test rows, None where there is none."""
    c = t.meta["target"]
    train, test = t.train[c], t.test[c]
    if c in t.numbers and t.train[c].nunique() > 10:
        cuts = np.unique(np.nanquantile(train, [1 / 3, 2 / 3]))
        train, test = (s.map(lambda v: f"part {np.searchsorted(cuts, v)}") for s in (train, test))
    whole = (s.astype(str).where(s.notna(), None).to_numpy() for s in (train, test))
    first, second = whole
    return first, second


def jem(t: tables.Table, budget: float) -> dict[str, str]:
    """JEM beside gradient boosting and an isolation forest."""
    y, z = classes(t)
    known, judged = pd.notna(y), pd.notna(z)
    swaps = tables.Swapped(t)
    target = t.meta["target"]
    X, Z = (plain(t, f).drop(columns=target) for f in (t.train, t.test))
    model = JEM(random_state=0)
    with time_limit(budget):
        _, spent = seconds(lambda: model.fit(X, y))
    c = calibration(model, Z[judged], z[judged])
    energy = model.energy(plain(t, swaps.rows).drop(columns=target))
    booster = HistGradientBoostingClassifier(
        random_state=0, categorical_features=t.nominal([c for c in t.coded(t.train) if c != target])
    )
    coded, held = (t.coded(f).drop(columns=target).to_numpy() for f in (t.train, t.test))
    booster.fit(coded[known], y[known])
    codes = pd.Index(booster.classes_).get_indexer(pd.Index(z[judged]))
    b = reliability(booster.predict_proba(held[judged]), codes)
    return {
        "JEM s": f"{spent:.0f}",
        "accuracy": f"{c.accuracy:.3f} ± {c.stderr:.3f}",
        "boosting": f"{b.accuracy:.3f} ± {b.stderr:.3f}",
        "ECE": f"{c.ece:.3f}",
        "boosting's": f"{b.ece:.3f}",
        "AUROC": f"{roc_auc_score(swaps.bad, energy):.3f}",
        "IsolationForest's": f"{swaps.peers()['IsolationForest']:.3f}",
    }


# ---------------------------------------------------------------------- draws


def by_ctgan(t: tables.Table, rows: pd.DataFrame, n: int, budget: float) -> tuple[Any, float]:
    """Draws of CTGAN, as many epochs as its first ones say the budget is enough for."""
    from ctgan import CTGAN

    rows = rows.copy()
    for c in rows:
        usual = rows[c].median() if c in t.numbers else rows[c].mode()[0]
        rows[c] = rows[c].fillna(usual)

    def fitted(epochs: int) -> Any:
        torch.manual_seed(0)
        model = CTGAN(epochs=epochs, enable_gpu=False)
        model.fit(rows, discrete_columns=t.words)
        return model

    one, more = seconds(lambda: fitted(1))[1], seconds(lambda: fitted(6))[1]
    each = max((more - one) / 5, 1e-3)
    model, spent = seconds(lambda: fitted(max(1, int(1 + (budget - one) / each))))
    return model.sample(n), spent


def by_forests(t: tables.Table, rows: pd.DataFrame, n: int, budget: float) -> tuple[Any, float]:
    """Draws of ForestDiffusion by flow, with as many trees as a small fit says will do."""
    from ForestDiffusion import ForestDiffusionModel

    coded = t.coded(rows)
    places = {c: i for i, c in enumerate(coded)}
    whole = [c for c in t.numbers if rows[c].nunique() > 2 and (rows[c].dropna() % 1 == 0).all()]

    def fitted(trees: int) -> Any:
        return ForestDiffusionModel(
            coded.to_numpy(),
            n_t=10,
            duplicate_K=5,
            n_estimators=trees,
            diffusion_type="flow",
            cat_indexes=[places[c] for c in t.words if len(t.levels[c]) > 2],
            bin_indexes=[places[c] for c in t.words if len(t.levels[c]) == 2],
            int_indexes=[places[c] for c in whole],
            n_jobs=1,
            seed=0,
        )

    one, more = seconds(lambda: fitted(1))[1], seconds(lambda: fitted(4))[1]
    each = max((more - one) / 3, 1e-3)
    trees = int(np.clip(1 + (budget - one) / each, 1, 100))
    model, spent = seconds(lambda: fitted(trees))
    drawn = pd.DataFrame(np.asarray(model.generate(batch_size=n), dtype=float), columns=list(coded))
    for c in t.words:
        codes = drawn[c].round().clip(0, len(t.levels[c]) - 1)
        drawn[c] = np.asarray(t.levels[c], dtype=object)[codes.fillna(0).astype(int)]
    return drawn[list(rows)], spent


PEERS = {"gan": ("GAN", "CTGAN", by_ctgan), "flow": ("FlowMatching", "ForestDiffusion", by_forests)}


def draws(t: tables.Table, what: str, budget: float) -> dict[str, str]:
    """A family beside its peer: trees and a network between draws and test rows."""
    family, name, peer = PEERS[what]
    rows, held = plain(t, t.train), plain(t, t.test)
    model = getattr(genus, family)(random_state=0)
    with time_limit(budget):
        _, spent = seconds(lambda: model.fit(rows))
    judge = SampleTest(model.space_, rows, held)
    n = judge.n + len(rows)
    fake = {family: (model.sample(n, random_state=1), spent)}
    try:
        fake[name] = peer(t, rows, n, budget)
    except Exception as e:
        print(f"{t.name}: {name} failed: {type(e).__name__}: {e}"[:200], flush=True)
    line = {}
    for who, (drawn, took) in fake.items():
        if who != family:
            drawn = agreeing(drawn, rows, t)
        told = judge(drawn)
        line[f"{who} s"] = f"{took:.0f}"
        line[f"{who} trees"] = f"{told.classifier.accuracy:.3f} ± {told.classifier.stderr:.3f}"
        line[f"{who} network"] = f"{told.network.accuracy:.3f}" if told.network else "—"
    return line


def agreeing(drawn: pd.DataFrame, rows: pd.DataFrame, t: tables.Table) -> pd.DataFrame:
    """Draws in the columns of the rows: whole where these are, no further out than these."""
    drawn = drawn[list(rows)].copy()
    for c in t.numbers:
        seen = rows[c].dropna()
        x = drawn[c].astype(float).fillna(seen.median()).clip(seen.min(), seen.max())
        drawn[c] = x.round() if (seen % 1 == 0).all() else x
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="+", choices=["jem", *PEERS])
    parser.add_argument("--tables", default="")
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    folder = Path(os.environ.get("GENUS_DATA", ".")) / "tables"
    names = (
        args.tables.split(",")
        if args.tables
        else list(json.loads((folder / "meta.json").read_text()))
    )
    for part in args.parts:
        head = None
        for name in names:
            t = tables.read(folder, name)
            try:
                line = jem(t, args.seconds) if part == "jem" else draws(t, part, args.seconds)
            except Exception as e:
                print(f"{name}: {type(e).__name__}: {e}"[:200], flush=True)
                continue
            if head is None:
                head = list(line)
                print("\n| table |", " | ".join(head), "|")
                print("|---" * (1 + len(head)) + "|")
            print("|", " | ".join([name, *(line.get(h, "—") for h in head)]), "|", flush=True)


if __name__ == "__main__":
    main()
