"""Run benchmarks and write their sections of RESULTS.md.

Output, date, versions, machine and the exact commands.

python benchmarks/run.py                     # all of them
python benchmarks/run.py flow_peers digits   # these; the sections of the others stay
"""

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
    "rbm_peers",
    "bayesnet_queries",
    "bayesnet_structure",
    "flow_peers",
    "flow_quality",
    "pixelcnn_sampling 56",
    "transformer_sampling 28",
    "made_tables",
    "boltzmann_tables",
    "mnist rbm 8",
    "mnist vae 600",
    "mnist made 240",
    "mnist pixelcnn 1200",
    "mnist transformer 1200",
    "fashion 300",
)
BUDGETS = ("mnist", "fashion")  # seconds of all cores
PEERS = (
    "pythae",
    "ppca-py",
    "pyAgrum",
    "pgmpy",
    "pomegranate",
    "zuko",
    "nflows",
    "normflows",
    "rbms",
    "learnergy",
)
HEAD = """# Results

Written by `make bench`, or section by section by `python benchmarks/run.py NAME ...`. Each ratio
compares two things measured in the same run; `median [least, most]`.
"""


ONE_THREAD = {f"{v}_NUM_THREADS": "1" for v in ("OMP", "MKL", "OPENBLAS")}


def main() -> int:
    chosen = sys.argv[1:] or BENCHMARKS
    results = HERE / "RESULTS.md"
    versions = common.versions("genus", "torch", "numpy", "scikit-learn", *PEERS)
    failed = []
    for name in chosen:
        file, *args = name.split()
        if not (HERE / f"{file}.py").exists():
            print(f"no benchmark {name!r}: choose from {', '.join(BENCHMARKS)}", file=sys.stderr)
            return 2
        print(f"== {name}", flush=True)
        where = (
            f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC; "
            f"{common.machine()}; {versions}"
        )
        env = {**os.environ, **({} if file in BUDGETS else ONE_THREAD)}
        # -u: lines appear as they are measured
        done = subprocess.Popen(
            [sys.executable, "-u", str(HERE / f"{file}.py"), *args],
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        lines = []
        for line in done.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
        if done.wait():
            failed.append(name)
            lines.append(f"FAILED with exit status {done.returncode}\n")
        data = "GENUS_DATA=... " if os.environ.get("GENUS_DATA") else ""
        settings = (
            "" if file in BUDGETS else " ".join(f"{k}={v}" for k, v in ONE_THREAD.items()) + " "
        )
        command = (
            f"{data}{settings}.bench/venv/bin/python benchmarks/{file}.py {' '.join(args)}".rstrip()
        )
        old = results.read_text(encoding="utf-8").split("\n## ")[1:] if results.exists() else []
        sections = {part.split("\n", 1)[0]: part.rstrip() for part in old}
        sections[name] = "\n".join(
            [name, "", f"`{command}`", "", where, "", "```", *"".join(lines).splitlines(), "```"]
        )
        order = [n for n in BENCHMARKS if n in sections]
        text = "\n".join([HEAD, *(f"## {sections[n]}\n" for n in order)])
        results.write_text(text, encoding="utf-8")  # after each: a run may be cut short
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
