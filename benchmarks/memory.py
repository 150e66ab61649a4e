"""Peak memory of fit: rows of Parquet that stay on disk, and rows in memory.

    python benchmarks/memory.py    10 million × 20 rows of Parquet, 1 million × 20 in memory
    python benchmarks/memory.py --parquet 2000000
    python benchmarks/memory.py --models Gaussian VAE

Every fit is a process of its own. Its peak is that of the resident memory of the whole process as
the kernel counted it (VmHWM), Python, torch and all; of rows in memory it is also given less what
the process held before it made the rows, as a multiple of the data. Training is cut short (a few
iterations or 200 steps), which changes seconds and not memory. Bars: 1.5 GB for Parquet, 4 × the
data in memory, the data included.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = 20
FAST: dict[str, dict[str, Any]] = {
    "Independent": {},
    "Gaussian": {},
    "GaussianMixture": {"n_components": 5, "max_iter": 5},
    "BayesianGaussianMixture": {"n_components": 5, "max_iter": 5},
    "CategoricalMixture": {"n_components": 5, "max_iter": 5},
    "ProbabilisticPCA": {"n_components": 5},
    "FactorAnalysis": {"n_components": 5, "max_iter": 5},
    "BayesNet": {},
    "MADE": {},
    "RealNVP": {},
    "VAE": {},
    "RBM": {},
    "Diffusion": {},
}


def rows(n: int, seed: int) -> np.ndarray:
    """n rows of 20 numbers that hang together, float32."""
    r = np.random.default_rng(seed)
    W = np.random.default_rng(0).normal(size=(4, COLUMNS)).astype(np.float32)
    x = r.standard_normal((n, 4), dtype=np.float32) @ W
    x += r.standard_normal((n, COLUMNS), dtype=np.float32)
    return x


def write(folder: Path, n: int, files: int = 10) -> None:
    """A folder of Parquet files with n rows."""
    names = [f"x{j}" for j in range(COLUMNS)]
    for i in range(files):
        x = rows(n // files, i)
        pd.DataFrame(x, columns=names).to_parquet(
            folder / f"part-{i:02}.parquet", row_group_size=100_000
        )


def memory(name: str) -> float:
    """MB of this process: VmRSS now, VmHWM at its peak."""
    with open("/proc/self/status") as f:
        line = next(line for line in f if line.startswith(name))
    return int(line.split()[1]) / 1024


def one(name: str, source: str, n: int) -> None:
    """Fit and score one model, and print its line."""
    import genus
    from genus.learn.work import import_ahead

    params = dict(FAST[name])
    cls = getattr(genus, name)
    if "trainer" in cls._get_param_names():
        params["trainer"] = genus.Trainer(max_steps=200, progress=False)
    model = cls(**params, random_state=0)
    import_ahead()  # what is loaded at the first fit is not of the rows
    genus.Gaussian().fit(rows(100, 0))
    before = memory("VmRSS")
    X: Any = rows(n, 0) if source == "array" else genus.data.Parquet(source)
    begun = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - begun
    peak = memory("VmHWM")
    line = f"{name:24s} {seconds:8.1f} {peak:9.0f}"
    if source == "array":
        print(f"{line} {(peak - before) / (X.nbytes / 2**20):9.2f}", flush=True)
        return
    begun, scored = time.perf_counter(), ""
    if hasattr(model, "log_prob"):
        some = X if name not in SLOW else X.part(slice(0, 20_000))
        model.score(some)
        scored = f"{time.perf_counter() - begun:8.1f} {memory('VmHWM'):9.0f} {len(some):11,}"
    print(f"{line} {scored}", flush=True)


SLOW = ("VAE", "RBM", "Diffusion")  # scores of which take many points or passes a row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parquet", type=int, default=10_000_000, help="rows on disk; 0: none")
    parser.add_argument("--array", type=int, default=1_000_000, help="rows in memory; 0: none")
    parser.add_argument("--models", nargs="+", default=list(FAST))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(*args.one, args.array)
        return
    me = [sys.executable, __file__, "--array", str(args.array), "--one"]

    def each(source: str) -> None:
        for name in args.models:
            run = subprocess.run([*me, name, source], capture_output=True, text=True)
            said = (run.stderr.strip().splitlines() or [""])[-1]
            print(run.stdout.rstrip() or f"{name:24s} {said}", flush=True)

    if args.parquet:
        folder = Path(tempfile.mkdtemp(prefix="genus-memory-"))
        try:
            write(folder, args.parquet)
            size = sum(f.stat().st_size for f in folder.iterdir()) / 2**20
            print(f"{args.parquet:,} × {COLUMNS} rows of Parquet, {size:,.0f} MB on disk")
            print(f"{'model':24s} {'fit s':>8s} {'peak MB':>9s} {'score s':>8s} {'peak MB':>9s}")
            each(str(folder))
        finally:
            shutil.rmtree(folder)
    if args.array:
        data = args.array * COLUMNS * 4 / 2**20
        print(f"\n{args.array:,} × {COLUMNS} float32 rows in memory, {data:,.0f} MB")
        print(f"{'model':24s} {'fit s':>8s} {'peak MB':>9s} {'× data':>9s}")
        each("array")


if __name__ == "__main__":
    main()
