"""What the loops need of a model: the page of hooks for someone who adds one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer


class Learner(Protocol):
    """A model as the loops see it; ``genus.Model`` is one, with the verbs of the caller around it.

    ``build(space)`` has made parameters and buffers before anything here is called. ``x`` is a
    batch of codes, (n, *shape). Models of p(x | given) take ``given`` after it. A model learns in
    one of three ways.

    **By gradient**: it writes ``losses``, and ``descend`` does the rest. ::

        def losses(self, x):                    # one player: the model itself
            yield self, -self.elbo(x).mean()

        def losses(self, x):                    # two players, in turn
            fake = self.generate(len(x))
            yield self.critic_, self.critic_loss(x, fake.detach())
            yield self.generator_, self.generator_loss(fake)

    A player is a submodule, and a loss is a mean over rows. The loop steps the player's optimiser
    at each ``yield`` before it asks for the next one, so that alternation reads like the algorithm
    box of the paper. A stage with losses of its own passes them to ``descend(self, fit, losses=)``.

    A player may say two things of itself, as attributes that ``build`` sets:
    ``self.critic_.learning_rate = 0.5`` steps it at that share of the trainer's rate, and
    ``self.critic_.averaged = False`` keeps it out of the moving average (``Trainer(ema=...)``).
    ``history_`` has the sum of the losses as ``objective``, and the mean loss of each player under
    its name where there are several.

    **By sums** (EM, counting, coordinate ascent): it writes ``statistics`` and ``maximise``, and
    ``solve`` repeats θ ← maximise(Σ statistics(x; θ)). ::

        def statistics(self, x):
            r, log_p = self.responsibilities(x)
            return {
                "log_likelihood": log_p.sum(),
                "weight": torch.tensor(float(len(x))),
                "n": r.sum(0),
                "x": r.T @ x,
            }

        def maximise(self, sums):
            self.weights_ = sums["n"] / sums["weight"]
            self.means_ = sums["x"] / sums["n"][:, None]

    Where one pass is the answer, ``self.maximise(accumulate(self, fit.rows))`` is all of ``learn``.

    **In its own way**, or in stages: it writes ``learn(fit)``, and calls ``descend``, ``solve`` and
    ``accumulate`` as often as it needs.

    What is random while a model learns is drawn from ``self.rng``, never from torch's global
    generator. A checkpoint holds all parameters and buffers, also those that ``state_dict`` leaves
    out, and the attributes that are numbers, flags or words. So what ``start`` finds out, and what
    a model carries from step to step, is kept in one of these.
    """

    # what the loops lend the model
    rng: torch.Generator  # all randomness while it learns
    spent: float  # share of the budget behind it, 0 to 1, while it descends; 1 outside of it

    # what they leave behind
    history_: list[dict[str, Any]]  # a line an epoch or iteration: stage, epoch, objective, ...
    n_steps_: int  # steps of an optimiser
    n_iter_: int  # iterations of ``solve``
    interrupted_: bool  # only after Ctrl-C
    _done: dict[str, Tensor]  # the stages it has been through, with the random state after each

    # what a model says of itself
    may_use_bfloat16: ClassVar[bool]  # are likelihoods computed in float32 from its networks?
    frozen: ClassVar[tuple[str, ...]]  # names of parameters that no gradient moves

    # ------------------------------------------------------------------ hooks

    def defaults(self, n: int) -> Trainer:
        """The family's own good settings for n rows."""
        ...

    @property
    def patience_from(self) -> float:
        """The share of the budget, 0 to 1, before which patience does not count."""
        ...

    def start(self, rows: Rows) -> None:
        """Initialise from the training rows: scales, biases, first centres.

        For fresh fits only: one that goes on has what ``start`` left behind.
        """
        ...

    def learn(self, fit: Fit) -> None:
        """How the model learns from rows, within the budget of the fit.

        By default: ``start`` where the fit is fresh, then ``solve`` where the model has
        ``maximise``, else ``descend``.
        """
        ...

    def losses(self, *batch: Any, **kwargs: Any) -> Iterator[tuple[nn.Module, Tensor]]:
        """Yield (player, loss), once a step of that player. Arguments: x, or x and given."""
        ...

    def validate(self, *batch: Any, **kwargs: Any) -> Tensor | float | None:
        """The objective on held-out rows, lower is better.

        It stops training early and picks the best weights. Without it they go by the mean
        −log_prob, where that is exact or a bound.
        """
        ...

    def plan(self) -> Hashable:
        """What decides how a step runs, beside its rows, where it hangs on the share of the budget.

        On a CUDA device steps of one plan are captured once. ``losses`` reads the share as
        ``ramp(share)``, or the plan that follows from it; nothing else of it reaches them.
        """
        ...

    def trouble(self, loss: float, first: float) -> str:
        """What is wrong with a loss, in words, or nothing: then training is rolled back.

        first: the size of the first loss. By default a loss that is no number, or a million times
        the first one, is wrong.
        """
        ...

    def statistics(self, *batch: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Sums over the rows of a batch.

        Arguments: x, then given and the weights of the rows where there are any. ``solve`` reads
        two of the sums: ``log_likelihood``, Σ log p(x), and ``weight``, the number of rows or the
        sum of their weights.
        """
        ...

    def summed(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sums over all rows, with what is no sum of parts, as the terms of a prior.

        By default the sums as they are.
        """
        ...

    def maximise(self, *sums: Any, **kwargs: Any) -> None:
        """The parameters that these sums, over all rows, call for."""
        ...

    # ------------------------------------------------------------------ what every module has

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
    def named_buffers(self) -> Iterator[tuple[str, Tensor]]: ...
    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...
    def get_submodule(self, target: str) -> nn.Module: ...
    def get_buffer(self, target: str) -> Tensor: ...
    def _lend(self, rng: torch.Generator | None) -> None: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def children(self) -> Iterator[nn.Module]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Any) -> Any: ...
    def train(self) -> Any: ...
    def eval(self) -> Any: ...
