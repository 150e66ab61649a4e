"""The closing table: every family on the same data, what it gives and what it costs.

    GENUS_DATA=folder python benchmarks/closing.py [--sets digits,bits,table] [--seconds 5]
        [--seeds 5] [--families A,B] [--out closing.md]

Nothing in it is asserted, all is measured:

    kind          of likelihood: = exact, ≥ lower bound, ≈ estimate, — none
    bits/dim      of held-out rows, over ± its standard error; the error of the estimate in brackets
    C2ST          how often trees tell draws from held-out rows; ½ is best
    copies        whether draws lie nearer to training rows than held-out rows do
    fit           seconds, of a budget of --seconds each
    draw 1, 1000  seconds for one row and for a thousand
    score 1000    seconds
    latent        whether the model encodes rows
    filled        error of hidden cells over that of the column's own mean or most frequent value
    failed        of --seeds fits: no model, a likelihood that is not finite or worse than that of
                  independent columns, or no rows where it should draw them

Figures other than ``failed`` are those of the first seed.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import genus
from genus.compare.capabilities import as_markdown
from genus.compare.entries import resolve
from genus.evaluate.completion import completion_score


def digits() -> dict[str, Any]:
    data = genus.data.load("digits")
    return {"X": data.train, "test": data.test, "y": data.train.y}


def bits() -> dict[str, Any]:
    """MNIST at 14 × 14, each pixel drawn once with the chance that its grey level says."""
    mnist = genus.data.load("mnist", binarize="sample")
    small = [
        np.asarray(part.X[:n]).reshape(n, 28, 28)[:, ::2, ::2]
        for part, n in ((mnist.train, 10_000), (mnist.test, 1000))
    ]
    return {"X": small[0], "test": small[1], "y": np.asarray(mnist.train.y)[:10_000]}


def table() -> dict[str, Any]:
    """Diamonds: weights, sizes and prices beside words; $GENUS_DATA/tables has the file."""
    folder = Path(os.environ.get("GENUS_DATA", ".")) / "tables"
    train, test = (pd.read_csv(folder / f"diamonds.{part}.csv.gz") for part in ("train", "test"))
    return {"X": train[:5000], "test": test[:1000]}


SETS: dict[str, Callable[[], dict[str, Any]]] = {"digits": digits, "bits": bits, "table": table}


def timed(do: Callable[[], Any]) -> float:
    """Seconds; nan where it cannot be done."""
    start = time.perf_counter()
    try:
        do()
    except Exception:
        return math.nan
    return time.perf_counter() - start


def filled(model: Any, test: Any) -> float:
    """Error of hidden cells of 100 rows, over that of what is usual in the column."""
    if not hasattr(model, "complete"):
        return math.nan
    try:
        c = completion_score(model, test[:100], seconds=60)
    except Exception:
        return math.nan
    if math.isfinite(c.rmse):
        return c.rmse / c.baseline_rmse
    return (1 - c.accuracy) / (1 - c.baseline_accuracy)


def first(row: Any, test: Any) -> dict[str, Any]:
    """What one fitted model gives and costs."""
    told, model = row.numbers(), row.model
    thousand = [test[np.arange(1000) % len(test)]] if isinstance(test, np.ndarray) else []
    if not thousand:
        thousand = [test.iloc[np.arange(1000) % len(test)]]
    mc = told["nats_mc_stderr"] / (math.log(2) * model.space_.dim)
    error = "" if math.isnan(told["bits_per_dim"]) else f" ± {told['bits_stderr']:.3f}"
    loose = f" [{mc:.3f}]" if mc > 0 else ""
    return {
        "kind": told["symbol"],
        "bits/dim": f"{told['bits_per_dim']:.3f}{error}{loose}" if error else "—",
        "C2ST": told["c2st"],
        "copies": told["memorisation"],
        "fit": told["fit_seconds"],
        "draw 1": timed(lambda: model.sample(1)),
        "draw 1000": timed(lambda: model.sample(1000)),
        "score 1000": timed(lambda: model.score_samples(thousand[0])),
        "latent": "yes" if hasattr(model, "encode") else "",
        "filled": filled(model, test),
    }


def failed(row: Any, base: float) -> bool:
    """No model, a likelihood worse than that of independent columns, or draws that are no rows.

    A model that says that it has no likelihood, or draws nothing, has not failed by that.
    """
    if row.error or row.model is None:
        return True
    if row.likelihood is not None:
        return not row.likelihood.nats > base
    try:
        if hasattr(row.model, "log_prob"):
            row.model.log_prob(row.model.sample(2))
            return True  # it has one, and it is not finite
        row.model.sample(2)
    except genus.CapabilityError:
        return False
    except Exception:
        return True
    return False


def closing(data: dict[str, Any], names: list[str], seconds: float, seeds: int) -> pd.DataFrame:
    """The table of one data set, a row a family."""
    test = data["test"]
    test = getattr(test, "X", test)
    rows: dict[str, dict[str, Any]] = {}
    failures = dict.fromkeys(names, 0)
    for seed in range(seeds):
        for name in names:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = genus.compare(
                    [name],
                    budget=seconds,
                    random_state=seed,
                    samples=300 if seed == 0 else 0,
                    max_test=300,
                    progress=False,
                    **data,
                )
                row, base = found[name], found["Independent"].likelihood.nats
                failures[name] += failed(row, base - 1e-9 if name == "Independent" else base)
                if seed == 0:
                    told = row.error or "no model"
                    rows[name] = first(row, test) if row.model is not None else {"kind": told}
            print(f"seed {seed}, {name}: {rows[name] if seed == 0 else failures[name]}", flush=True)
    for name in names:
        rows[name]["failed"] = f"{failures[name]} of {seeds}"
    return pd.DataFrame(rows).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", default="digits,bits,table")
    parser.add_argument("--families", default="")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", default="closing.md")
    asked = parser.parse_args()
    pages = []
    for name in asked.sets.split(","):
        data = SETS[name]()
        suiting = [n for n, _ in resolve("all", genus.Space.of(data["X"]))]
        names = asked.families.split(",") if asked.families else suiting
        found = closing(data, names, asked.seconds, asked.seeds)
        pages.append(f"## {name}\n\n{as_markdown(found.map(in_words))}\n")
        Path(asked.out).write_text("\n".join(pages))
        print(found.to_string())


def in_words(cell: Any) -> str:
    """Three digits of a number; a dash where there is none."""
    if not isinstance(cell, float):
        return "—" if cell is None else str(cell)
    return "—" if math.isnan(cell) else f"{cell:.3g}"


if __name__ == "__main__":
    main()
