"""The report: one self-contained page of a comparison, and the plots it is made of."""

from genus.report.page import write

__all__ = ["write"]
