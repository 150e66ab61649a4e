"""How models learn: ``descend`` steps on ``losses``, ``solve`` iterates sums and ``maximise``.

Both share one bargain with the caller: progress is shown, Ctrl-C leaves a usable model, a time
budget is kept, and the same seed gives the same numbers.
"""

from genus.learn.descent import descend
from genus.learn.fit import DivergenceError, Fit, time_limit
from genus.learn.rows import Rows, generator
from genus.learn.sums import accumulate, solve
from genus.learn.trainer import Trainer

__all__ = [
    "DivergenceError",
    "Fit",
    "Rows",
    "Trainer",
    "accumulate",
    "descend",
    "generator",
    "solve",
    "time_limit",
]
