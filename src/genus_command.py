"""The command ``genus``: help and the version at once, all else by :mod:`genus.cli`.

The latter imports torch, which takes seconds.

It stands outside the package because importing anything of the package
imports all of it, torch included.
"""

from __future__ import annotations

import sys

COMMANDS = {
    "models": "list the families of models",
    "data": "list the named data sets",
    "fit": "learn a model from data and save it",
    "sample": "draw rows from a model",
    "evaluate": "judge a model on held-out rows",
    "score": "print the log-probability of every row of a file",
    "complete": "fill in the missing cells of a file",
    "compare": "compare models on data, and write the report",
}

HELP = """\
usage: genus COMMAND ...

Every family of generative model behind one interface, with numbers that may be compared.

commands:
{commands}

examples:
  genus compare digits --report report.html     which model describes these data best?
  genus fit VAE digits --out run                learn a model and save it
  genus sample run -n 64 --out samples.png      draw from it
  genus score run rows.csv --lowest 10          find the rows that do not belong
  genus COMMAND --help                          more examples, and every option

options:
  -h, --help     this help
  --version      the version
  --debug        with any command: show the whole traceback of an error

DATA is a name that `genus data` lists, a file (.csv, .json, .parquet, .npy, .npz, and .csv.gz), a
folder of images, or - for a CSV on stdin.
RUN is the file of a saved model, with or without its ending .genus.
Every command takes --config FILE.yaml, and --print_config shows one.
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    args = sys.argv[1:] if argv is None else argv
    first = next((a for a in args if a != "--debug"), None)
    if first in (None, "-h", "--help", "help"):
        listing = "\n".join(f"  {name:<10}{about}" for name, about in COMMANDS.items())
        print(HELP.format(commands=listing), end="", file=sys.stdout if first else sys.stderr)
        return 0 if first else 2
    if first == "--version":
        from importlib.metadata import version

        print(f"genus {version('genus')}")
        return 0
    if first not in COMMANDS:
        from difflib import get_close_matches

        near = get_close_matches(first, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else "the commands are " + ", ".join(COMMANDS)
        print(f"genus: there is no command {first!r}: {hint}", file=sys.stderr)
        return 2
    from genus.cli import main as run

    return run(args)
