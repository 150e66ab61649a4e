"""Players: the submodules that ``losses`` yields, each with an optimiser and a rate of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from genus.learn.checks import check_memory, refuse
from genus.learn.protocol import Learner
from genus.learn.trainer import Trainer

Turn = tuple[nn.Module, Tensor]
Losses = Callable[..., Iterator[Turn]]
_END = object()


class Player:
    """A submodule that ``losses`` yields, its optimiser, and its losses in this pass over the rows.

    ``learning_rate`` of the submodule, where it has one, is its share of the trainer's rate: 0.5
    steps it at half of that.
    """

    def __init__(self, module: nn.Module, name: str, frozen: set[nn.Parameter], t: Trainer) -> None:
        self.name = name
        self.parameters = [p for p in module.parameters() if p.requires_grad and p not in frozen]
        if not self.parameters:
            raise ValueError(
                f"losses yielded {name or 'the model'}, "
                "which has no parameter that a gradient may move"
            )
        self.optimizer = optimizer_of(self.parameters, t)
        self.kind = t.optimizer or "adam"
        self.share = float(getattr(module, "learning_rate", 1.0))
        self.moved = False  # has any loss given it a gradient?
        self.total: float | Tensor = 0.0  # of its losses over the rows of this pass
        self.rows = 0

    def note(self, loss: float | Tensor, rows: int) -> None:
        """Take a turn's loss on so many rows into the mean of this pass."""
        self.total = self.total + loss * rows
        self.rows += rows

    def forget(self) -> None:
        """A pass begins."""
        self.total, self.rows = 0.0, 0

    def check_moved(self, model: Learner) -> None:
        """Raise ValueError where the first loss gave the player no gradient."""
        if not self.moved and all(p.grad is None for p in self.parameters):
            raise ValueError(
                f"{type(model).__name__}.losses yielded {self.name or 'self'} with a loss that "
                "does not depend on it: yield each loss with the submodule that it is to move"
            )
        self.moved = True

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):  # on a device, where a captured step reads it
                group["lr"].fill_(rate * self.share)
            else:
                group["lr"] = rate * self.share

    def state(self) -> dict[int, dict[str, Any]]:
        """What the optimiser remembers of each parameter, by its number."""
        state: dict[int, dict[str, Any]] = self.optimizer.state_dict()["state"]
        return state

    def load(self, state: dict[int, dict[str, Any]]) -> None:
        """Take up the memory of :meth:`state`. Raises StoreError where it is another's."""
        check_memory(self.name, self.optimizer, self.kind, state)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def optimizer_of(parameters: list[nn.Parameter], t: Trainer) -> torch.optim.Optimizer:
    """The optimiser that a trainer asks for. Weight decay is of matrices only.

    On a CUDA device the rate is a number of the device, so that a step can be captured.
    """
    decay = float(t.weight_decay or 0)
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if decay:
        matrices = [p for p in parameters if p.dim() >= 2]
        others = [p for p in parameters if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others}]
    groups = [g for g in groups if g["params"]]
    device, momentum = parameters[0].device, float(t.momentum or 0)
    on_cuda = device.type == "cuda"
    rate: float | Tensor = float(t.lr or 0)
    if on_cuda:
        rate = torch.tensor(rate, device=device)
    if t.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum, fused=True)
    if t.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, rate, momentum=momentum, capturable=on_cuda)
    kind = torch.optim.AdamW if t.optimizer == "adamw" else torch.optim.Adam
    betas = t.betas or (0.9, 0.999)
    return kind(groups, rate, betas, weight_decay=0.0, fused=True, capturable=on_cuda)


def turns(
    model: Learner, losses: Losses, batch: tuple[Tensor, ...], autocast: torch.dtype | None = None
) -> Iterator[Turn]:
    """The (player, loss) of a batch, one by one as ``losses`` yields them.

    autocast: the type in which networks compute. Raises TypeError or ValueError, which says what to
    write, where something else is yielded.
    """
    game = losses(*batch)
    if not isinstance(game, Iterator):
        raise TypeError(
            f"{type(model).__name__}.losses returned {_name(game)}: "
            "write `yield self, loss` in place of `return`"
        )
    while True:
        if autocast is None:
            turn = next(game, _END)
        else:
            # around next(): inside the generator it would leak
            with torch.autocast(batch[0].device.type, dtype=autocast):
                turn = next(game, _END)
        if turn is _END:
            return
        yield _checked(model, turn)


def _checked(model: Learner, turn: Any) -> Turn:
    """A turn as it is. Raises TypeError or ValueError where it is none."""
    said = f"{type(model).__name__}.losses yielded"
    pair = isinstance(turn, tuple) and len(turn) == 2
    if not (pair and isinstance(turn[0], nn.Module) and isinstance(turn[1], Tensor)):
        raise TypeError(
            f"{said} {_name(turn)}: yield a pair (player, loss), "
            "a submodule and a tensor, as in `yield self, loss`"
        )
    loss = turn[1]
    if loss.numel() != 1:
        raise ValueError(
            f"{said} a loss of shape {tuple(loss.shape)}: yield one number, as loss.mean() is"
        )
    if not loss.requires_grad:
        raise ValueError(
            f"{said} a loss that has no gradient: compute it from the parameters of its player, "
            "without detach() and no_grad()"
        )
    return turn


def _name(value: Any) -> str:
    """What a hook gave, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, tuple):
        return f"a tuple ({', '.join(type(v).__name__ for v in value)})"
    return f"a {type(value).__name__}"


class Players:
    """The players of a run by name, each made at its first turn."""

    def __init__(self, model: Learner, t: Trainer) -> None:
        self.model, self.t = model, t
        self.names = {m: n for n, m in model.named_modules()}
        self.frozen = {p for n, p in model.named_parameters() if n in model.frozen}
        self.by_name: dict[str, Player] = {}
        self.by_module: dict[nn.Module, Player] = {}

    def __iter__(self) -> Iterator[tuple[str, Player]]:
        return iter(self.by_name.items())

    def of(self, module: nn.Module) -> Player:
        """The player of a submodule. Raises ValueError when it is none of the model's."""
        player = self.by_module.get(module)
        if player is not None:
            return player
        if module not in self.names:
            name = type(self.model).__name__
            raise ValueError(
                f"losses yielded a {type(module).__name__} that is no "
                f"submodule of {name}: assign it in build"
            )
        name = self.names[module]
        player = Player(module, name, self.frozen, self.t)
        self.by_name[name] = self.by_module[module] = player
        return player

    def forget(self) -> None:
        """A pass begins."""
        for _, player in self:
            player.forget()

    def means(self) -> dict[str, float]:
        """The mean loss of each player over its turns of this pass, where there are several."""
        means = {}
        if len(self.by_name) > 1:
            for name, player in self:
                if player.rows:
                    means[name or type(self.model).__name__] = float(player.total) / player.rows
        return means

    def state(self) -> dict[str, Tensor]:
        """What all optimisers remember, under player/parameter/entry."""
        tensors = {}
        for name, player in self:
            for i, entries in player.state().items():
                for entry, value in entries.items():
                    tensors[f"{name}/{i}/{entry}"] = torch.as_tensor(value)
        return tensors

    def load(self, names: list[str], tensors: dict[str, Tensor]) -> None:
        """Take up the memory of :meth:`state`, of the players of these names."""
        modules = dict(self.model.named_modules())
        for name in names:
            if name not in modules:
                refuse(f"{type(self.model).__name__} has no part {name!r:.40}")
            state: dict[int, dict[str, Tensor]] = {}
            for key, t in tensors.items():
                owner, i, entry = key.rsplit("/", 2)
                if owner == name:
                    state.setdefault(int(i), {})[entry] = t
            self.of(modules[name]).load(state)
