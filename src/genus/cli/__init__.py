"""The command line: ``genus fit``, ``sample``, ``evaluate``, ``score``, ``complete``, ``compare``."""

from genus.cli.entry import main

__all__ = ["main"]
