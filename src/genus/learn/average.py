"""A moving average of the weights, which often fits new rows better than the last weights do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from genus.learn.checks import check_tensors
from genus.learn.protocol import Learner


class Average:
    """θ̄ ← d θ̄ + (1 − d) θ after step t, with d = min(decay, (1 + t) / (10 + t)).

    The growth of d at the beginning forgets the random initial weights. A submodule that says
    ``averaged = False`` keeps its own weights: the critic of a GAN, which judges the generator of
    now. (Polyak & Juditsky, 1992.)
    """

    def __init__(self, model: Learner, decay: float) -> None:
        self.decay = decay
        own: set[nn.Parameter] = set()
        for module in model.modules():
            if not getattr(module, "averaged", True):
                own |= set(module.parameters())
        named = [(name, p.detach()) for name, p in model.named_parameters() if p not in own]
        self.names = [name for name, _ in named]
        self.weights = [p for _, p in named]
        self.values = [p.clone() for p in self.weights]

    def update(self, step: int) -> None:
        """Take in the weights after a step, the first of which is 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, self.weights, 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside this context the model has its averaged weights."""
        mine = [p.clone() for p in self.weights]
        self.give()
        try:
            yield
        finally:
            torch._foreach_copy_(self.weights, mine)

    def give(self) -> None:
        """Leave the model with its averaged weights."""
        torch._foreach_copy_(self.weights, self.values)

    def state(self) -> dict[str, Tensor]:
        """The averages by the names of the parameters."""
        return dict(zip(self.names, self.values, strict=True))

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up the averages of :meth:`state`. Raises StoreError where they are another's."""
        mine = dict(zip(self.names, self.weights, strict=True))
        check_tensors("the average of", state, mine, finite=mine)
        torch._foreach_copy_(self.values, [state[name] for name in self.names])
