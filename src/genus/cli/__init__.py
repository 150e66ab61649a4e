"""The command line: ``genus fit``, ``sample``, ``score``, ``evaluate``, ``complete``, …"""

from genus.cli.entry import main

__all__ = ["main"]
