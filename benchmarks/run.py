"""Run every benchmark and write RESULTS.md: output, date, versions, machine and the exact commands."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

import common

HERE = Path(__file__).resolve().parent
BENCHMARKS = (
    "digits",
    "mixture_sklearn",
    "bayesian_mixture_sklearn",
    "linear_sklearn",
    "ppca_peers",
    "loop",
    "vae_pythae",
    "rbm_sklearn",
    "bayesnet_queries",
    "bayesnet_structure",
    "mnist rbm 8",
    "mnist vae 600",
)


ONE_THREAD = {f"{v}_NUM_THREADS": "1" for v in ("OMP", "MKL", "OPENBLAS")}


def main() -> int:
    chosen = sys.argv[1:] or BENCHMARKS
    parts = [
        "# Results",
        "",
        "Written by `make bench`. Each ratio compares two things measured in the same run; `median [least, most]`.",
        "",
        f"- date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        f"- machine: {common.machine()}",
        f"- versions: {common.versions('genus', 'torch', 'numpy', 'scikit-learn', 'pythae', 'ppca-py', 'pyAgrum', 'pgmpy', 'pomegranate')}",
    ]
    failed = []
    for name in chosen:
        file, *args = name.split()
        if not (HERE / f"{file}.py").exists():
            print(f"no benchmark {name!r}: choose from {', '.join(BENCHMARKS)}", file=sys.stderr)
            return 2
        print(f"== {name}", flush=True)
        env = {**os.environ, **({} if file == "mnist" else ONE_THREAD)}  # a stated budget of all cores
        # -u: lines appear as they are measured
        done = subprocess.Popen([sys.executable, "-u", str(HERE / f"{file}.py"), *args], stdout=subprocess.PIPE, text=True, env=env)
        lines = []
        for line in done.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
        if done.wait():
            failed.append(name)
            lines.append(f"FAILED with exit status {done.returncode}\n")
        data = "GENUS_DATA=... " if os.environ.get("GENUS_DATA") else ""
        settings = "" if file == "mnist" else " ".join(f"{k}={v}" for k, v in ONE_THREAD.items()) + " "
        command = f"{data}{settings}.bench/venv/bin/python benchmarks/{file}.py {' '.join(args)}".rstrip()
        parts += ["", f"## {name}", "", f"`{command}`", "", "```", *"".join(lines).splitlines(), "```"]
    if tuple(chosen) == BENCHMARKS:
        (HERE / "RESULTS.md").write_text("\n".join(parts) + "\n", encoding="utf-8")
        print(f"written: {HERE / 'RESULTS.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
