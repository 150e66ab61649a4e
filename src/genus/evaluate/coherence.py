"""Do the views of one thing agree with one another, when a model made some of them?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Coherence:
    """How often views agree, and the standard errors.

    Attributes
    ----------
    joint, joint_stderr
        The share of joint samples whose views all have the same label.
    across
        {(from, to): share}: how often the view ``to``, drawn given the view ``from`` alone, has the
        label of ``from``.
    n
        Samples, and rows.
    """

    joint: float
    joint_stderr: float
    across: dict[tuple[str, str], float]
    n: int

    def __str__(self) -> str:
        lines = [f"all views agree in {self.joint:.1%} ± {self.joint_stderr:.1%} of samples"]
        lines += [f"{a} → {b}: {share:.1%} agree" for (a, b), share in self.across.items()]
        return "\n".join(lines)


def coherence(
    model: Any, X: Any, label: dict[str, Callable[[Any], Any]], *, random_state: Any = 0
) -> Coherence:
    """How often views that a model draws, together or from one another, say the same.

    Source: Shi et al. (2019).

    Parameters
    ----------
    model : Model
        Fitted on dicts, such as ``MultimodalVAE``.
    X : dict of rows
        Held out, with every view to be judged.
    label : dict of functions
        Of each view to be judged, rows → labels, (n,): a classifier's ``predict``, or the identity
        of a view that is a label itself.
    random_state : int, generator or None, default=0
        An int, or a numpy generator.

    Raises
    ------
    ValueError
        Where fewer than two views are judged, or X lacks one of them.
    """
    if len(label) < 2 or any(X.get(name) is None for name in label):
        raise ValueError(f"label judges {list(label)}: X must have them, and two at least")
    n = len(next(iter(X.values())))
    drawn = model.sample(n, random_state=random_state)
    said = [np.asarray(f(drawn[name])).ravel() for name, f in label.items()]
    agree = np.all([v == said[0] for v in said[1:]], axis=0)
    share = float(agree.mean())
    across = {}
    for a, judge in label.items():
        own = np.asarray(judge(X[a])).ravel()
        filled = model.complete({a: X[a]}, random_state=random_state)
        for b, other in label.items():
            if b != a:
                across[a, b] = float(np.mean(np.asarray(other(filled[b])).ravel() == own))
    return Coherence(share, math.sqrt(share * (1 - share) / n), across, n)
