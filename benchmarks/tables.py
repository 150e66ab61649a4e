"""Seven ordinary tables: every family beside what people use today.

    GENUS_DATA=folder python benchmarks/tables.py [table ...] [--families A,B] [--seconds 30]

The folder holds tables/NAME.train.csv.gz, tables/NAME.test.csv.gz and tables/meta.json. At most
2,500 training and 625 test rows; default arguments; ``--seconds`` caps each fit. One line a model:

    nats      mean log-probability of the test rows
    auc       of a booster that tells test rows from draws: 0.5 cannot be told
    utility   of a booster trained on draws, on the test rows: R², AUC or accuracy
    atoms     the largest gap between the drawn and the real share of a frequent value
    broken    share of drawn rows that break a bound or are off the decimals of the data
    numbers   error of hidden numbers filled in, in standard deviations; words: their accuracy
    swapped   AUROC of rows that hold cells of other rows, by −log p

Peers: scikit-learn's iterative and nearest-neighbour imputers, chained boosters as missForest does
it, isolation forest and local outlier factor; arfpy where it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import LocalOutlierFactor

import genus
from genus.learn.fit import time_limit

FAMILIES = (
    "Independent",
    "Gaussian",
    "GaussianMixture",
    "BayesianGaussianMixture",
    "CategoricalMixture",
    "FactorAnalysis",
    "BayesNet",
    "VAE",
    "MADE",
    "RealNVP",
    "SplineFlow",
    "AutoregressiveTransformer",
    "RBM",
)
TRAIN, TEST, HIDDEN_ROWS = 2500, 625, 300


@dataclass
class Table:
    """Rows of a table, and numbers and codes of its columns for those who need them."""

    name: str
    meta: dict[str, Any]
    train: pd.DataFrame
    test: pd.DataFrame
    words: list[str] = field(init=False)
    numbers: list[str] = field(init=False)

    def __post_init__(self) -> None:
        whole = pd.concat([self.train, self.test])
        numeric = [
            c
            for c in whole
            if pd.api.types.is_numeric_dtype(whole[c])
            or pd.api.types.is_datetime64_any_dtype(whole[c])
        ]
        self.numbers = numeric
        self.words = [c for c in whole if c not in numeric]
        self.levels = {c: sorted(whole[c].dropna().unique()) for c in self.words}

    def coded(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Numbers, dates as days, then words as codes; NaN stays."""
        out = pd.DataFrame(index=range(len(rows)))
        for c in self.numbers:
            s = rows[c].reset_index(drop=True)
            if pd.api.types.is_datetime64_any_dtype(s.dtype):
                s = (s - pd.Timestamp(0)) / pd.Timedelta(days=1)
            out[c] = s.astype(float)
        for c in self.words:
            codes = pd.Categorical(rows[c], categories=self.levels[c]).codes.astype(float)
            out[c] = np.where(codes < 0, np.nan, codes)
        return out

    def nominal(self, columns: list[str]) -> list[int]:
        """Places of columns of words that a booster can take as categories."""
        return [i for i, c in enumerate(columns) if c in self.words and len(self.levels[c]) <= 250]


def read(folder: Path, name: str) -> Table:
    """The rows of a table, as they come."""
    meta = json.loads((folder / "meta.json").read_text())[name]
    dates = meta.get("dates") or False
    train, test = (
        pd.read_csv(folder / f"{name}.{part}.csv.gz", parse_dates=dates)
        for part in ("train", "test")
    )
    if len(train) > TRAIN:
        train = train.sample(TRAIN, random_state=0).reset_index(drop=True)
        test = test.sample(min(len(test), TEST), random_state=0).reset_index(drop=True)
    seen = [c for c in train if train[c].nunique()]
    return Table(name, meta, train[seen], test[seen])


# ---------------------------------------------------------------------- draws


def told(t: Table, fake: pd.DataFrame) -> float:
    """AUC of a booster between test rows and draws."""
    X = pd.concat([t.coded(t.test), t.coded(fake)], ignore_index=True)
    y = np.repeat([0, 1], [len(t.test), len(fake)])
    booster = HistGradientBoostingClassifier(
        max_iter=60, random_state=0, categorical_features=t.nominal(list(X))
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    p = cross_val_predict(booster, X.to_numpy(), y, cv=folds, method="predict_proba")
    return float(roc_auc_score(y, p[:, 1]))


def utility(t: Table, rows: pd.DataFrame) -> float:
    """Score on the test rows of a booster trained on ``rows``."""
    y = t.meta["target"]
    rows, test = (f[f[y].notna()] for f in (rows, t.test))
    X, Z = (t.coded(f).drop(columns=y) for f in (rows, test))
    nominal = t.nominal(list(X))
    if y in t.numbers and t.train[y].nunique() > 10:
        reg = HistGradientBoostingRegressor(random_state=0, categorical_features=nominal)
        target, truth = t.coded(rows)[y], t.coded(test)[y]
        return float(reg.fit(X.to_numpy(), target).score(Z.to_numpy(), truth))
    model = HistGradientBoostingClassifier(
        max_iter=60, random_state=0, categorical_features=nominal
    )
    target, truth = rows[y].astype(str), test[y].astype(str)
    if target.nunique() < 2:
        return float("nan")
    model.fit(X.to_numpy(), target)
    if truth.nunique() == 2 and set(model.classes_) == set(truth):
        last = model.predict_proba(Z.to_numpy())[:, 1]
        return float(roc_auc_score(truth == model.classes_[1], last))
    return float(model.score(Z.to_numpy(), truth))


def atoms(t: Table, fake: pd.DataFrame) -> float:
    """The largest gap between the shares of a value that a tenth of the training rows hold."""
    real, drawn, train = (t.coded(f) for f in (t.test, fake, t.train))
    gaps = [0.0]
    for c in t.numbers:
        share = train[c].value_counts(normalize=True)
        if share.iloc[0] > 0.1:
            v = share.index[0]
            gaps.append(float((drawn[c] == v).mean() - (real[c] == v).mean()))
    return max(gaps, key=abs)


def broken(t: Table, fake: pd.DataFrame) -> float:
    """Share of rows below 0, above 100 %, off a constant, or off the decimals of the data."""
    drawn, train = (t.coded(f)[t.numbers] for f in (fake, t.train))
    bad = np.zeros(len(drawn), dtype=bool)
    for c in t.numbers:
        x, seen = drawn[c], train[c].dropna()
        bad |= ((x < 0) & (seen.min() >= 0)).to_numpy()
        bad |= (x > 100).to_numpy() & (c in t.meta.get("percent", []))
        bad |= ((x != seen.iloc[0]) & x.notna()).to_numpy() & (seen.nunique() == 1)
        for places in range(5):
            if np.allclose(seen * 10**places % 1 % 1, 0, atol=1e-6) or np.allclose(
                (seen * 10**places).round() / 10**places, seen, rtol=1e-9, atol=1e-9
            ):
                off = (x - x.round(places)).abs() > 1e-9 * x.abs().clip(lower=1)
                bad |= off.fillna(False).to_numpy()
                break
    return float(bad.mean())


# ---------------------------------------------------------------------- hidden cells


class Hidden:
    """A fifth of the cells of some test rows, and how well they are filled in."""

    def __init__(self, t: Table) -> None:
        rng = np.random.default_rng(0)
        self.t = t
        self.rows = t.test.sample(min(len(t.test), HIDDEN_ROWS), random_state=0)
        self.rows = self.rows.reset_index(drop=True)
        self.mask = (rng.random(self.rows.shape) < 0.2) & self.rows.notna().to_numpy()
        self.truth, self.train = t.coded(self.rows), t.coded(t.train)
        self.hidden = pd.DataFrame(self.mask, columns=list(self.rows))[list(self.truth)]
        self.holed = self.truth.mask(self.hidden)
        self.unit = self.train[t.numbers].std().replace(0, np.nan)

    def score(self, filled: pd.DataFrame) -> dict[str, float]:
        """Root mean square error of numbers in standard deviations, accuracy of words."""
        t, out = self.t, {}
        if t.numbers:
            e = (filled[t.numbers] - self.truth[t.numbers]) / self.unit
            out["numbers"] = float(np.sqrt((e.where(self.hidden) ** 2).mean()).mean())
        if t.words:
            hit = (filled[t.words] == self.truth[t.words]).where(self.hidden[t.words])
            out["words"] = float(hit.astype(float).mean().mean())
        return out

    def by(self, model: Any) -> dict[str, float]:
        """By a model of genus: means of numbers, modes of words."""
        filled = model.complete(self.rows, mask=self.mask, how="mean", random_state=0)
        return self.score(self.t.coded(filled))

    def peers(self) -> dict[str, Any]:
        """Functions that fill in, by name."""
        t, W = self.t, self.train
        start = {**W[t.numbers].mean(), **{c: W[c].mode()[0] for c in t.words}}
        base = self.holed.fillna(start)
        mean, sd = W[t.numbers].mean(), W[t.numbers].std().replace(0, 1)

        def hot(f: pd.DataFrame) -> np.ndarray:
            blocks = [((f[t.numbers] - mean) / sd).to_numpy()]
            for c in t.words:
                k = len(t.levels[c])
                if k <= 60:
                    bits = (f[[c]].to_numpy() == np.arange(1, k)).astype(float)
                    blocks.append(np.where(f[[c]].isna(), np.nan, bits))
            return np.concatenate(blocks, 1)

        def cold(z: np.ndarray) -> pd.DataFrame:
            out, k = base.copy(), len(t.numbers)
            out[t.numbers] = z[:, :k] * sd.to_numpy() + mean.to_numpy()
            for c in t.words:
                n = len(t.levels[c])
                if n <= 60:
                    p = z[:, k : k + n - 1]
                    out[c] = np.c_[1 - p.sum(1), p].argmax(1).astype(float)
                    k += n - 1
            return out.where(self.hidden, self.truth)

        def forest() -> pd.DataFrame:
            full, now = W.fillna(start), base.copy()
            models = {}
            for c in W:
                known = W[c].notna()
                if W[c].nunique() < 2 or (c in t.words and len(t.levels[c]) > 60):
                    continue
                kind: Any = (
                    HistGradientBoostingClassifier(max_iter=25, random_state=0)
                    if c in t.words
                    else HistGradientBoostingRegressor(max_iter=60, random_state=0)
                )
                models[c] = kind.fit(full.loc[known].drop(columns=c).to_numpy(), W.loc[known, c])
            for _ in range(4):
                for c, m in models.items():
                    hole = self.holed[c].isna()
                    if hole.any():
                        now.loc[hole, c] = m.predict(now.loc[hole].drop(columns=c).to_numpy())
            return now.where(self.hidden, self.truth)

        def run(imputer: Any) -> pd.DataFrame:
            return cold(imputer.fit(hot(W)).transform(hot(self.holed)))

        near = min(30, hot(W).shape[1])
        return {
            "mean / mode": lambda: base,
            "IterativeImputer": lambda: run(
                IterativeImputer(max_iter=10, random_state=0, n_nearest_features=near)
            ),
            "KNNImputer": lambda: run(KNNImputer(n_neighbors=10)),
            "chained boosters": forest,
        }


# ---------------------------------------------------------------------- swapped cells


class Swapped:
    """Test rows, a tenth of which have a fifth of their cells from other rows."""

    def __init__(self, t: Table) -> None:
        rng = np.random.default_rng(1)
        self.t, self.rows = t, t.test.copy()
        self.bad = rng.random(len(self.rows)) < 0.1
        k = max(2, self.rows.shape[1] // 5)
        for i in np.flatnonzero(self.bad):
            for j in rng.choice(self.rows.shape[1], k, replace=False):
                self.rows.iat[i, j] = t.test.iat[int(rng.integers(len(t.test))), j]

    def by(self, model: Any) -> float:
        """AUROC by −log p."""
        return float(roc_auc_score(self.bad, -model.score_samples(self.rows)))

    def peers(self) -> dict[str, float]:
        """AUROC of detectors on standardised numbers and one-hot words."""
        t = self.t

        def hot(f: pd.DataFrame) -> pd.DataFrame:
            codes = t.coded(f)
            bits = {
                f"{c}={v}": (codes[c] == v).astype(float)
                for c in t.words
                for v in range(len(t.levels[c]))
                if len(t.levels[c]) <= 30
            }
            return codes[t.numbers].join(pd.DataFrame(bits))

        W, Z = hot(t.train), hot(self.rows)
        middle, sd = W.median(), W.std().replace(0, 1)
        w, z = (((f.fillna(middle) - middle) / sd).to_numpy() for f in (W, Z))
        forest = IsolationForest(random_state=0).fit(w)
        near = LocalOutlierFactor(n_neighbors=20, novelty=True).fit(w)
        return {
            "IsolationForest": float(roc_auc_score(self.bad, -forest.score_samples(z))),
            "LocalOutlierFactor": float(roc_auc_score(self.bad, -near.score_samples(z))),
        }


# ---------------------------------------------------------------------- all of it


def judged(t: Table, family: str, seconds: float, hidden: Hidden, swaps: Swapped) -> dict[str, Any]:
    """What one family reaches on a table; what fails says so in its place."""
    cls = getattr(genus, family)
    more = {"random_state": 0}
    line: dict[str, Any] = {"table": t.name, "model": family}
    begun = time.perf_counter()
    try:
        with time_limit(seconds):
            model = cls(**more).fit(t.train)
    except Exception as e:
        return line | {"refused": f"{type(e).__name__}: {e}"[:200]}
    line["fit"] = time.perf_counter() - begun

    def noted(what: str, f: Any) -> None:
        start = time.perf_counter()
        try:
            value = f()
            line.update(value if isinstance(value, dict) else {what: value})
        except Exception as e:
            line[what] = f"{type(e).__name__}: {e}"[:200]
        line["seconds"] = line.get("seconds", 0.0) + time.perf_counter() - start

    def nats() -> dict[str, Any]:
        p = model.log_prob(t.test)
        return {
            "nats": p.mean(),
            "stderr": p.mean_stderr(),
            "kind": p.symbol,
            "worst": float(p.nats.min()),
        }

    def draws() -> dict[str, Any]:
        fake = model.sample(len(t.train), random_state=0)
        gaps = t.train.isna().sample(len(fake), replace=True, random_state=1)
        fake = fake.mask(gaps.reset_index(drop=True))
        return {
            "auc": told(t, fake.iloc[: len(t.test)]),
            "utility": utility(t, fake),
            "atoms": atoms(t, fake),
            "broken": broken(t, fake),
        }

    noted("nats", nats)
    noted("auc", draws)
    noted("numbers", lambda: hidden.by(model))
    noted("swapped", lambda: swaps.by(model))
    return line


def say(line: dict[str, Any]) -> None:
    """One JSON line."""
    short = {k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}
    print(json.dumps(short), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tables", nargs="*")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    folder = Path(os.environ.get("GENUS_DATA", ".")) / "tables"
    names = args.tables or list(json.loads((folder / "meta.json").read_text()))
    for name in names:
        t = read(folder, name)
        hidden, swaps = Hidden(t), Swapped(t)
        say({"table": name, "model": "(real rows)", "utility": utility(t, t.train)})
        for family in args.families.split(","):
            say(judged(t, family, args.seconds, hidden, swaps))
        if args.no_peers:
            continue
        for who, fill in hidden.peers().items():
            say({"table": name, "model": who, **hidden.score(fill())})
        for who, value in swaps.peers().items():
            say({"table": name, "model": who, "swapped": value})


if __name__ == "__main__":
    main()
