"""The version of genus."""

__version__ = "0.1.0"
