"""Which model describes these data? Several models fitted, timed and judged on the same rows."""

from genus.compare.capabilities import capabilities
from genus.compare.run import compare
from genus.compare.table import Comparison

__all__ = ["Comparison", "capabilities", "compare"]
