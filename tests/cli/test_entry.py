"""The command genus: help at once, one line for a mistake, exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import genus_command
from genus.cli import commands as cli

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_help_needs_no_torch():
    text = (
        "import sys, genus_command as g; g.main(['--help']); assert not {'torch', 'numpy', "
        "'genus'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], env=ENV, capture_output=True, text=True, check=True
    )
    for name, f in cli.COMMANDS.items():
        assert re.search(
            rf"^  {name} +{re.escape(genus_command.COMMANDS[name])}$",
            done.stdout,
            flags=re.MULTILINE,
        )
        assert f.__doc__ == genus_command.COMMANDS[name]
    assert genus_command.COMMANDS.keys() == cli.COMMANDS.keys()


def test_no_command_and_wrong_commands(run):
    assert run(code=2)[1].startswith("usage: genus")
    assert "did you mean sample?" in run("sampel", code=2)[1]


def test_debug_shows_the_traceback(here: Path, run):
    assert "Traceback" in run("--debug", "sample", "absent", code=1)[1]


def test_a_reader_that_goes_away_is_no_error(here: Path):
    command = f"{sys.executable} -m genus sample run -n 3000 | head -1"
    done = subprocess.run(
        command, shell=True, cwd=here, env=ENV, capture_output=True, text=True, timeout=60
    )
    assert "cell (0, 0)" in done.stdout and done.stderr == ""
