"""The command ``genus``: results on stdout, progress and complaints on stderr.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated.
:mod:`genus_command` stands before it: help at once, without torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from genus.cli.commands import COMMANDS
from genus.cli.line import UsageError
from genus.cli.words import show_warning
from genus.learn.progress import CtrlC, stopping_as_ctrl_c


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line that begins with one of COMMANDS and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    CtrlC.last = 0
    try:
        with warnings.catch_warnings(), stopping_as_ctrl_c(), _first_alone():
            warnings.showwarning = show_warning
            code = COMMANDS[args[0]](args[1:])
            return _stopped() if code == 130 else code
    except KeyboardInterrupt:
        print("genus: interrupted", file=sys.stderr)
        return _stopped()
    except BrokenPipeError:  # whoever read our output has gone
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        return 1
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 0
    except UsageError as e:
        print(f"genus: {e}", file=sys.stderr)
        return 2
    except Exception as e:
        if debug:
            traceback.print_exc()
        else:
            print(f"genus: {_said(e)}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def _first_alone() -> Iterator[None]:
    """Inside this context all but the first of the processes of ``torchrun`` print nothing."""
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _stopped() -> int:
    """130 after Ctrl-C, 143 after SIGTERM: 128 and the number of the signal."""
    return 128 + (CtrlC.last or signal.SIGINT)


def _said(e: Exception) -> str:
    """An error in one line, with its sort where the words were not made for a user."""
    sort = type(e).__name__
    text = " ".join(str(e).split()) or sort
    technical = sort in ("RuntimeError", "UnicodeDecodeError")
    if isinstance(e, ValueError | OSError | RuntimeError) and not technical:
        return text
    return f"{sort}: {text} (--debug shows where)"
