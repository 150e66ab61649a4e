"""The one base class: a torch module and a scikit-learn estimator in one object.

A family writes the mathematics on tensors of codes; this file gives it the verbs. What a model can
do is the methods it has:

    build(space)                 parameters and buffers, once the data are known        (required)
    losses(x), or statistics(x) and maximise(sums), or learn(fit)             (one of them)
    _log_prob(x) -> LogProb      gives  log_prob, score_samples, score
    _sample(n, rng) -> x         gives  sample
    _complete(x, rng) -> x       gives  complete; NaN marks what is missing
    _complete_many(x, n, rng), _complete_mean(x)   where n draws or their mean come cheaper
    _encode(x) -> z, _decode(z) -> x   give  encode, decode, reconstruct, interpolate

Models of p(x | given) say so by ``conditions``, and each hook takes one more argument, ``given``:
losses(x, given), _log_prob(x, given), _sample(n, rng, given), _complete(x, rng, given),
_encode(x, given), _decode(z, given).
"""

from __future__ import annotations

import contextlib
import inspect
import math
import re
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data
from torch import Tensor, nn

from genus import files, filling, sources
from genus.coding import as_frame, check_in_memory
from genus.learn import checkpoint, processes
from genus.learn.descent import descend
from genus.learn.fit import Fit
from genus.learn.rows import Kept, Rows, Stream, generator
from genus.learn.starts import warn_unless_converged
from genus.learn.sums import solve
from genus.learn.trainer import BASE, Device, Trainer, usual_device
from genus.likelihood import LogProb, concatenate
from genus.memory import naming_what_is_large
from genus.networks.blueprints import MLP, Blueprint, Shape
from genus.networks.construct import construct
from genus.networks.layers import Dropout
from genus.settings import Instance, Rule, Settings, Whole, check_arguments
from genus.space import Space, column_vector, has_parts, unwrap
from genus.typing import ArrayLike, GivenLike, RandomState, RowsLike, available_if

RANDOM_STATE = (
    Whole(0) | Instance(np.random.Generator, np.random.RandomState, says="a numpy generator") | None
)


CONDITIONS = ("none", "optional", "required")


class CapabilityError(RuntimeError):
    """A verb that exists but cannot answer here; the message names what can.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> genus.Gaussian().fit(X).sample(2, given=[1, 2])
    Traceback (most recent call last):
    genus.model.CapabilityError: Gaussian does not model p(x | given): leave given out
    """


def _has(*hooks: str) -> Callable[[Any], bool]:
    def check(model: Any) -> bool:
        return all(hasattr(type(model), h) for h in hooks)

    return check


def on_rows(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of codes that stands in the equations, as ``elbo(x)``, take rows as well.

    A tensor is codes, as in training, and the answer keeps its gradient. Anything else is rows of
    the caller's, with ``given`` where there are conditions, and the answer is an array, or several;
    ``random_state`` repeats what is drawn.
    """

    @wraps(hook)
    def method(self: Any, x: Any, given: Any = None, *, random_state: Any = None) -> Any:
        self._check_fitted()
        learning = "rng" in self.__dict__
        model = self if learning else self._with_stream(random_state)
        if isinstance(x, Tensor):
            return hook(model, x) if given is None else hook(model, x, given)
        codes, conditions = self._enter(x, given)
        pieces = []
        with torch.no_grad():
            for some in zip(*(c.split(self.chunk) for c in (codes, *conditions)), strict=True):
                out = hook(model, *some)
                pieces.append(out if isinstance(out, tuple) else (out,))
        whole = tuple(torch.cat(piece).cpu().numpy() for piece in zip(*pieces, strict=True))
        return whole if len(whole) > 1 else whole[0]

    return method


class Model(nn.Module, BaseEstimator):
    """Base class of every family. The constructor of a subclass only stores its arguments.

    Examples
    --------
    A family is the methods that it writes, here what it learns and how it draws:

    >>> import numpy as np, torch, genus
    >>> class Coin(genus.Model):
    ...     def __init__(self, random_state=None):
    ...         self.random_state = random_state
    ...     def build(self, space):
    ...         self.register_buffer("p_", torch.zeros(space.shape))
    ...     def learn(self, fit):
    ...         self.p_ = fit.rows.x.float().mean(0)
    ...     def _sample(self, n, rng):
    ...         return torch.bernoulli(self.p_.expand(n, -1), generator=rng)
    >>> Coin().fit(np.array([[0, 1], [1, 1], [0, 1], [1, 1]])).sample(2, random_state=0)
    array([[..., 1],
           [..., 1]]...)
    """

    training = False
    by_default: ClassVar[bool] = True  # does compare() take it unasked?
    allow_nan: ClassVar[bool] = False  # may X hold missing values in fit and log_prob?
    # what each argument of the constructor may be; a class adds its own to those of its bases
    arguments: ClassVar[dict[str, Rule]] = {
        "random_state": RANDOM_STATE,
        "trainer": Instance(Trainer, says="genus.Trainer(epochs=..., lr=...)") | None,
    }
    # p(x | given): "none", "optional" (fit may have conditions) or "required" (fit must)
    conditions: ClassVar[str] = "none"
    null_condition: ClassVar[bool] = False  # may verbs leave out what fit had? hooks then see None
    y_is_given: ClassVar[bool] = False  # is y of fit(X, y) the condition, as of classifiers?
    with_labels: ClassVar[str] = ""  # the class of the same family that learns from labels
    # what learns it, in a few words: EM, counting, contrastive divergence
    learned_by: ClassVar[str] = ""
    learned_shapes: ClassVar[tuple[str, ...]] = ()  # buffers whose shape is learned, not built
    is_part: bool = False  # is it a part of another model?
    frozen: ClassVar[tuple[str, ...]] = ()  # parameters that no gradient moves
    chunk = 4096  # rows a verb takes at a time
    # may large networks run in bfloat16? Only where the likelihood is computed in float32 from
    # their outputs. Three digits are too few for the log-determinants of a flow or the free
    # energies of an RBM, which are sums of many terms.
    may_use_bfloat16: ClassVar[bool] = False

    random_state: Any
    space_: Space
    rng: torch.Generator  # while it learns
    spent: float = 1.0  # share of the budget behind it, while it descends; 1 outside of a descent
    history_: list[dict[str, Any]]
    n_steps_: int
    n_iter_: int
    converged_: bool
    interrupted_: bool
    novelty_: Tensor  # the share of new words, a column each
    _done: dict[str, Tensor]  # the stages it has been through, with the random state after each

    if TYPE_CHECKING:  # the hooks that a family has or has not
        get_params: Callable[..., dict[str, Any]]
        n_features_in_: int
        losses: Callable[..., Iterator[tuple[nn.Module, Tensor]]]
        statistics: Callable[..., dict[str, Tensor]]
        maximise: Callable[..., None]
        validate: Callable[..., Tensor | float | None]
        _log_prob: Callable[..., LogProb]
        _sample: Callable[..., Tensor]
        _complete: Callable[..., Tensor]
        _encode: Callable[..., Tensor]
        _decode: Callable[..., Tensor]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        nn.Module.__init__(self)
        del self.__dict__["training"]  # a constructor sets nothing but its arguments
        return self

    def __init__(self) -> None:
        pass

    def __setattr__(self, name: str, value: Any) -> None:
        """Arguments are settings: a module given to a constructor is no part of this model."""
        if isinstance(value, nn.Module) and name in type(self)._get_param_names():
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    # ------------------------------------------------------------------ what a family writes

    def build(self, space: Space) -> None:
        """Create parameters and buffers (names end in ``_``) for rows of this space."""
        raise NotImplementedError(f"{type(self).__name__} does not define build(space)")

    def before_build(self, rows: Rows) -> None:
        """Note what ``build`` must know of the training rows, in facts whose names end in ``_``.

        A file keeps them, and sets them before it builds. Nothing by default.
        """

    def prepare(self, rows: Rows) -> None:
        """Learn from the training rows what does not depend on how the model learns.

        Called once, after ``build``. Nothing by default.
        """

    def defaults(self, n: int) -> Trainer:
        """The family's own good training settings for n rows."""
        return Trainer()

    @property
    def patience_from(self) -> float:
        """The share of the budget, 0 to 1, before which patience does not count."""
        return 0.0

    def start(self, rows: Rows) -> None:
        """Initialise from the training rows: scales, biases, first centres. Nothing by default."""

    def learn(self, fit: Fit) -> None:
        """How the model learns: solve where it has ``maximise``, else descend its ``losses``.

        Iterations and tolerance are the arguments ``max_iter`` and ``tol``, where it has them.
        """
        if fit.fresh and not hasattr(self, "n_iter_"):
            self.start(fit.rows)
        if hasattr(self, "maximise"):
            most, tol = getattr(self, "max_iter", 100), getattr(self, "tol", 1e-4)
            begin = getattr(self, "n_iter_", 0)
            self.converged_ = solve(self, fit, max_iter=most, tol=tol, start=begin)
            if hasattr(self, "max_iter") and hasattr(self, "tol"):
                warn_unless_converged(self)
        elif hasattr(self, "losses"):
            descend(self, fit)
        else:
            raise NotImplementedError(
                f"{type(self).__name__} does not say how it learns: define losses(x), or "
                "statistics(x) and maximise(sums), or learn(fit)"
            )

    def plan(self) -> Hashable:
        """What decides how a step runs, beside its rows: the number of Gibbs steps, say.

        Steps of another plan are captured anew on a CUDA device.
        """
        return None

    def ramp(self, share: float) -> Any:
        """How far a warm-up over this share of the budget is, 0 to 1.

        A number, also one on the device where steps are captured.
        """
        on_device = getattr(self.spent, "tensor", None)
        if on_device is None:
            return min(1.0, self.spent / share)
        return (on_device / share).clamp(max=1.0)

    def trouble(self, loss: float, first: float) -> str:
        """What is wrong with a loss, in words, or nothing. first: the size of the first loss."""
        if not math.isfinite(loss):
            return "the loss is not finite"
        if abs(loss) > 1e6 * (1 + first):
            return f"the loss is {loss:.1e} and the first one was {first:.1e}"
        return ""

    # ------------------------------------------------------------------ fit

    def fit(
        self,
        X: RowsLike,
        y: Any = None,
        *,
        given: GivenLike = None,
        space: Space | str | None = None,
        validation: float | RowsLike | None = None,
        resume: bool | str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> Self:
        """Learn from the rows of X.

        X: array, DataFrame, tensor, dataset, dict of arrays or ``genus.data`` set, (n, *shape).
        y: the conditions of models with labels, else ignored, for scikit-learn.
        given: (n, …) conditions, for models of p(x | given): labels, numbers, images, a table.
        space: a Space or a kind's name, where the inferred one is not wanted.
        validation: rows, or the share of X, held out to stop early and keep the best weights.
        resume: True, or the checkpoint file to go on from.
        device: where to learn, as ``"cuda"``; the model stays there. None: that of the trainer,
        where the model has one, else the processor.
        A failed fit leaves the old model whole. Returns self.
        """
        given = self._labels_as_given(y, given)
        return self._fit(X, given, space, validation, resume, device)

    def _fit(
        self,
        X: Any,
        given: Any,
        space: Any,
        validation: Any,
        resume: Any,
        device: Any,
        weight: Any = None,
    ) -> Self:
        fresh = type(self)(**self.get_params(deep=False))
        X = sources.opened(X)  # a loader is read through once
        with processes.joined(), naming_what_is_large(fresh):
            fresh._learn(self, X, given, space, validation, resume, device, weight)
        others = {
            k: v for k, v in self.__dict__.items() if k.startswith("_") and k not in fresh.__dict__
        }
        self.__dict__ = {**others, **fresh.__dict__}
        return self

    def _learn(
        self,
        old: Model,
        X: Any,
        given: Any,
        space: Any,
        validation: Any,
        resume: Any,
        device: Any,
        weight: Any,
    ) -> None:
        check_arguments(self)
        (Device() | None).check("device", device)
        if self.conditions not in CONDITIONS:
            raise TypeError(
                f"{type(self).__name__}.conditions is {self.conditions!r}: "
                f"write one of {', '.join(CONDITIONS)}"
            )
        self._look(X, given, space)
        sums = hasattr(self, "maximise")  # EM needs no checkpoint file
        state = (
            checkpoint.read(resume, self, self._trainer().checkpoint)
            if resume and not sums
            else None
        )
        seed = processes.agreed_seed(state[1]["seed"] if state else seed_of(self.random_state))
        self._seed, self._done = seed, {}
        x = self._rows(X, given, weight)
        trainer = self._trainer().over(self.defaults(len(x)), BASE)
        fit = Fit(x, None, trainer, seed, state)
        if state:
            fit.begun -= state[1]["spent"]
        usual = (
            (0.1 if trainer.patience else 0.0) if trainer.validation is None else trainer.validation
        )
        share = usual if validation is None else validation
        if isinstance(share, int | float):
            if not 0 <= share < 1:
                raise ValueError(
                    f"validation={validation!r}: "
                    "a share of the rows from 0 up to 1, or the rows themselves"
                )
            fit.rows, fit.held = x.split(share, seed)
        else:
            fit.held = self._rows(*share) if isinstance(share, tuple) else self._rows(share)
            if (fit.held.given is None) != (x.given is None):
                raise ValueError(
                    "validation needs conditions just where X has them: pass validation=(X, given)"
                )
        del x  # what is held out is not kept twice
        processes.check_same_rows(fit.rows.fingerprint() if processes.count() > 1 else "")
        self.rng = generator(seed)
        self.before_build(fit.rows)
        self._make(self.space_)
        unasked = usual_device() if hasattr(self, "trainer") else "cpu"
        device = torch.device(device or trainer.device or unasked)
        if device.type != "cpu":
            self._check_types(device)
            self.to(device)
            self._lend(generator(seed, device))
            for part in (fit.rows, fit.held):
                if part is not None:
                    part.to(device)
        if resume and sums:
            self._go_on_from(old if resume is True else self._earlier(resume))
        else:
            self._count_words(fit.rows)
            self.prepare(fit.rows)
        self.learn(fit)
        processes.settle(self)
        self.eval()
        self._take_back()
        for name in ("spent", "training"):
            self.__dict__.pop(name, None)

    def _look(self, X: Any, given: Any, space: Any) -> None:
        """Note the spaces of the rows and of their conditions, and the names of the features."""
        self.space_ = Space.of(X, space)
        _note_features(self, X)
        if given is not None:
            self._check_takes_given()
            with _about_given():
                self.given_space_ = Space.of_labels(given)
        elif self.conditions == "required":
            raise ValueError(self._needs_given())

    def _make(self, space: Space) -> None:
        """``build``, and what every model has besides."""
        if any(space.open):
            self.register_buffer("novelty_", torch.zeros(space.dim, dtype=torch.float64))
        self.build(space)

    def _check_types(self, device: torch.device) -> None:
        """Raise ValueError where the device lacks the numbers that the model is made of."""
        tensors = [*self.named_parameters(), *self.named_buffers()]
        doubles = [name for name, t in tensors if t.dtype == torch.float64]
        if device.type == "mps" and doubles:
            raise ValueError(
                f"device='mps' has no float64, in which {type(self).__name__} keeps {doubles[0]}: "
                "learn on the processor, device='cpu'"
            )

    def _count_words(self, rows: Rows) -> None:
        """Learn the share of words that come for the first time, a column each.

        ν = (n_1 + ½)/(n + 1), n_1 the number of words that were seen once (Good, 1953).
        """
        may = np.flatnonzero(self.space_.open).tolist()
        counts = {j: torch.zeros(self.space_.cardinality[j], dtype=torch.long) for j in may}
        for x, *_ in rows.chunks(65536) if may else ():
            for j, seen in counts.items():
                codes = x[:, j]
                codes = codes[~torch.isnan(codes)].long()
                seen += torch.bincount(codes, minlength=len(seen)).cpu()
        for j, seen in counts.items():
            self.novelty_[j] = ((seen == 1).sum() + 0.5) / (seen.sum() + 1)

    def _lend(self, rng: torch.Generator | None) -> None:
        """Give the model, its parts, and layers that draw while training, a random stream."""
        for module in self.modules():
            if isinstance(module, Model | Dropout):
                module.rng = rng

    def _take_back(self) -> None:
        """Learning is over: no part keeps a random stream."""
        self._lend(None)
        for module in self.modules():
            if isinstance(module, Model):
                module.__dict__.pop("rng", None)

    def part(self, model: Model, space: Space, given_space: Space | None = None) -> Model:
        """A model given as an argument, built afresh for rows of ``space``, as a part of this one.

        Assign it in ``build`` to a name that ends in ``_``, as
        ``self.prior_ = self.part(self.prior, Space((d,)))``: it is trained, moved and saved with
        the whole, and draws from its generator. The argument itself is left as it is.
        """
        own: Model = clone(model)
        own.space_ = space
        if given_space is not None:
            own.given_space_ = given_space
        own.rng, own._done, own.is_part = self.rng, {}, True
        own._make(space)
        return own

    def _earlier(self, path: str | Path) -> Any:
        """What a saved model of this class learned, under the names of its attributes."""
        tensors, meta = files.read(path)
        if "model" not in meta:
            raise files.StoreError(
                f"{path} is a training checkpoint, "
                f"and {type(self).__name__} goes on from a saved model"
            )
        said = meta["model"]
        if said["class"] != type(self).__name__:
            raise ValueError(f"resume: {path} holds a {said['class']}, not a {type(self).__name__}")
        facts = {k: files.from_json(v, {"Space": Space}) for k, v in said["facts"].items()}
        return SimpleNamespace(**facts, **tensors, state_dict=lambda: tensors)

    def _go_on_from(self, source: Any) -> None:
        """Take up what an earlier model learned."""
        if hasattr(source, "space_"):
            learned = source.state_dict()
            for where, module in self.named_modules():
                for name in getattr(module, "learned_shapes", ()):
                    if name in module._buffers:
                        full = f"{where}.{name}" if where else name
                        module._buffers[name] = learned[full].clone()
            if source.space_.shape != self.space_.shape:
                raise ValueError(
                    f"resume: the earlier model has rows of shape {source.space_.shape}, X of "
                    f"shape {self.space_.shape}"
                )
            self.load_state_dict(source.state_dict())
            self.history_ = list(getattr(source, "history_", []))
            self.n_iter_ = getattr(source, "n_iter_", 0)

    def _rows(self, X: Any, given: Any = None, weight: Any = None) -> Rows:
        inner = sources.opened(unwrap(X))
        if sources.is_large(inner):
            out = Rows(self._read_as_needed(inner, self.space_, self.allow_nan), weight=weight)
        else:
            codes = self.space_.encode(X, missing=self.allow_nan, fractional=True)
            out = Rows(self._without_words_that_are_new(codes), weight=weight)
            out.draw = (
                self.space_.kind == "binary"
                and out.x.is_floating_point()
                and not bool(torch.isnan(out.x).any())
            )
        if given is not None:
            if not hasattr(self, "given_space_"):
                raise ValueError("validation has conditions, and X has none: pass given= to fit")
            out.given = self._given_source(given)
            if len(out.given) != len(out):
                raise ValueError(f"given has {len(out.given)} rows, X has {len(out)}")
        return out

    def _given_source(self, given: Any) -> Tensor | Stream | Kept:
        """The conditions of rows to learn from: codes, or a stream where they are many."""
        inner = sources.opened(unwrap(given))
        with _about_given():
            if sources.is_large(inner):
                return self._read_as_needed(inner, self.given_space_, missing=False)
            return self.given_space_.encode(column_vector(inner), missing=False)

    def _read_as_needed(self, source: Any, space: Space, missing: bool) -> Stream | Kept:
        """Codes of rows that are read as they are needed; those of Parquet are kept on disk."""
        if not isinstance(source, sources.Parquet):
            return Stream(source, space, missing)
        codes = (space.encode(chunk, missing=missing) for chunk in source.chunks())
        if space is self.space_:
            codes = (self._without_words_that_are_new(c) for c in codes)
        return Kept(sources.OnDisk.of(c.numpy() for c in codes))

    def _without_words_that_are_new(self, codes: Tensor) -> Tensor:
        """Codes to learn from; rows that are held out, or not looked at, may bring new words."""
        if not any(self.space_.open):
            return codes
        return self._hidden(codes, self._new_words(codes))

    def _trainer(self) -> Trainer:
        return getattr(self, "trainer", None) or Trainer()

    def make_network(
        self,
        blueprint: Blueprint | None,
        in_shape: Shape,
        out_shape: Shape,
        default: Blueprint | None = None,
        context: int = 0,
    ) -> nn.Module:
        """A blueprint (``MLP()`` when None) as a module, its weights from the model's generator.

        context: the size of the vector that it takes beside its input; 0: none.
        """
        rng = getattr(self, "rng", None) or generator(0)
        return construct(blueprint or default or MLP(), in_shape, out_shape, rng, context)

    def set_params(self, **params: Any) -> Self:
        """Set arguments; ``trainer__lr=0.1`` changes one field of a frozen settings object."""
        plain = {k: v for k, v in params.items() if "__" not in k}
        for k, v in params.items():
            name, nested, key = k.partition("__")
            if not nested:
                continue
            if name not in self.get_params(deep=False):
                known = ", ".join(self.get_params(deep=False))
                raise ValueError(
                    f"Invalid parameter {name!r} for {type(self).__name__}: choose from {known}"
                )
            value = plain.get(name, getattr(self, name))
            if value is None:
                value = Trainer() if name == "trainer" else MLP()
            if isinstance(value, Settings):
                plain[name] = value.replace(**{key: v})
            elif hasattr(value, "set_params"):
                value.set_params(**{key: v})
            else:
                kind = type(value).__name__
                raise ValueError(f"{name} is a {kind} of your own, which has no setting {key!r}")
        super().set_params(**plain)
        return self

    # ------------------------------------------------------------------ verbs

    @available_if(_has("_log_prob"))
    def log_prob(self, X: RowsLike, *, given: GivenLike = None) -> LogProb:
        """Log-probability of each row of X, in nats of the caller's units.

        It is Exact, a LowerBound or an Estimate.
        """
        self._check_fitted()
        chunks = sources.chunks_of(unwrap(X)) if sources.is_large(unwrap(X)) else None
        if chunks is not None:
            return self._log_prob_of_chunks(chunks, given)
        x = self._as_float(self._encode_rows(X, missing=self.allow_nan))
        conditions = self._conditions(given, len(x))
        parts = []
        with torch.no_grad():
            for i in range(0, len(x), self.chunk):
                seen = (~torch.isnan(x[i : i + self.chunk])).flatten(1).sum(1)
                some, log_words = self._without_new_words(x[i : i + self.chunk])
                part = self._log_prob(some, *(g[i : i + self.chunk] for g in conditions))
                if not isinstance(part, LogProb):
                    raise TypeError(
                        f"{type(self).__name__}._log_prob returned a {type(part).__name__}: "
                        "return genus.Exact(nats), LowerBound(nats) or Estimate(nats)"
                    )
                part = part.with_rows(dims=seen, measure=self.space_.measure)
                parts.append(concatenate([part if log_words is None else part.plus(log_words)]))
        out = concatenate(parts)
        self._check_scores(x, out)
        return out

    def _log_prob_of_chunks(self, chunks: Iterator[Any], given: Any) -> LogProb:
        """``log_prob`` of rows that are read a chunk at a time."""
        parts, begin = [], 0
        conditions = Conditions(given)
        for chunk in chunks:
            try:
                parts.append(self.log_prob(chunk, given=conditions.next(len(chunk))))
            except (ValueError, TypeError) as e:
                e.add_note(f"(row 0 is row {begin} of X)")
                raise
            begin += len(chunk)
        return concatenate(parts)

    def _without_new_words(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Codes whose words fit never saw are missing, and log p of which words are new, (n,).

        Each word of an open column is new with probability ν_j, whatever else the row holds: a row
        with new words has the probability of that and of its other cells. None: no word is open.
        """
        if not any(self.space_.open):
            return x, None
        new = self._new_words(x)
        may = torch.tensor(self.space_.open, device=x.device)
        old = may & ~new & ~torch.isnan(x)
        share = torch.where(may, self.novelty_.to(x.device), 0.5)
        log_words = (new * share.log() + old * torch.log1p(-share)).sum(1)
        return self._hidden(x, new), log_words

    def _new_words(self, x: Tensor) -> Tensor:
        """Which of the codes x stand for words that fit never saw."""
        levels = torch.tensor(self.space_.cardinality, device=x.device)
        return torch.tensor(self.space_.open, device=x.device) & (x >= levels)

    def _hidden(self, x: Tensor, new: Tensor) -> Tensor:
        """Codes x with what is ``new`` missing; ValueError where the model takes no such cells."""
        if not new.any():
            return x
        if not self.allow_nan:
            row, j = new.nonzero()[0].tolist()
            raise ValueError(
                f"X has a new word in {self.space_.names()[j]} (row {row}): "
                f"{type(self).__name__} takes no missing cells, and so no words that fit never saw"
            )
        x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
        return x.masked_fill(new, math.nan)

    def _check_scores(self, x: Tensor, p: LogProb) -> None:
        """No silent NaN; what is impossible is −inf for its row alone, and says so once."""
        bad = np.isnan(p.nats) | (p.nats == np.inf)
        if bad.any():
            name, value, row = self._farthest(x, bad)
            raise ValueError(
                f"X has {value} in {name} (row {row}), so far from what was fitted that the "
                "log-probability is not a finite number: drop the row or rescale the column"
            )
        impossible = np.isneginf(p.nats)
        if impossible.any():
            name, value, row = self._farthest(x, impossible)
            warnings.warn(
                f"{int(impossible.sum())} of {len(x)} rows have probability 0, log p = −inf: "
                f"the first has {value} in {name} (row {row}), which cannot be, or is too far "
                "from what was fitted",
                stacklevel=3,
            )

    def _farthest(self, x: Tensor, some: np.ndarray) -> tuple[str, str, int]:
        """The name and the value of the oddest cell of the first of some rows, and its place."""
        row = int(some.argmax())
        cells = x[row].flatten().double().cpu()
        names = self.space_.names()
        for j in range(len(cells)):
            low, high = self.space_.bounds(j)
            below, above = low is not None and cells[j] < low, high is not None and cells[j] > high
            if below or above:
                return names[j], self.space_.value_of(j, float(cells[j])), row
        j = int(cells.nan_to_num().abs().argmax())
        return names[j], self.space_.value_of(j, float(cells[j])), row

    @available_if(_has("_log_prob"))
    def score_samples(self, X: RowsLike, *, given: GivenLike = None) -> np.ndarray:
        """Log-probability of each row in nats, shape (n,)."""
        return self.log_prob(X, given=given).nats

    @available_if(_has("_log_prob"))
    def score(self, X: RowsLike, y: Any = None, *, given: GivenLike = None) -> float:
        """Mean log-probability in nats."""
        return self.log_prob(X, given=self._labels_as_given(y, given)).mean()

    @available_if(_has("_sample"))
    def sample(
        self, n: int = 1, *, given: GivenLike = None, random_state: RandomState = None
    ) -> Any:
        """n draws from the model, in the type of the data it was fitted on.

        ``given``: one condition, or n of them.
        """
        return self._draws(n, given, random_state)

    def _draws(self, n: int, given: Any, random_state: Any, **how: Any) -> Any:
        """``sample`` of a family that can be told how: ``how`` are arguments of ``_sample``."""
        self._check_fitted()
        Whole(1).check("n", n)
        rng = self._stream(random_state)
        conditions = self._conditions(given, int(n))
        with torch.no_grad():
            return self.space_.decode(self._sample(int(n), rng, *conditions, **how))

    @available_if(_has("_complete"))
    def complete(
        self,
        X: RowsLike,
        n: int | None = None,
        *,
        how: str = "draw",
        q: float | Sequence[float] | None = None,
        mask: ArrayLike | None = None,
        given: GivenLike = None,
        random_state: RandomState = None,
    ) -> Any:
        """X with its missing cells filled in from p(missing | observed, given).

        Missing are the NaN cells, or those where ``mask`` (boolean, the shape of X) is True.
        ``given``: one condition, or one a row.

        how: ``"draw"``, a draw of the missing cells together; with n, a leading axis of n draws.
        ``"mean"``, the expected value of numbers and the most frequent value of words and bits;
        whole numbers are rounded and keep their type, but means of grey images lie between levels.
        ``"mode"``, the most frequent value of words, bits and numbers of at most 20 levels, and the
        median of other numbers. ``"quantile"``, the quantile ``q`` of numbers, with several q on a
        leading axis, and the most frequent value of words and bits. Where the family has no closed
        form, these sum up n draws (32, for quantiles 100), each cell alone.
        """
        self._check_fitted()
        filling.check(how, q)
        (Whole(1) | None).check("n", n)
        x = self._encode_rows(X, missing=True)
        x = x.to(torch.get_default_dtype()) if not x.is_floating_point() else x.clone()
        if mask is not None:
            x[self._mask(mask, x, X)] = math.nan
        codes, x = x, self._without_new_words(x)[0]
        draws = n or filling.DRAWS[how]
        size = max(1, self.chunk // draws)
        parts = [c.split(size) for c in (x, *self._conditions(given, len(x)))]
        rng = self._stream(random_state)
        with torch.no_grad():
            filled = [self._filled(c, draws, how, q, rng, *g) for c, *g in zip(*parts, strict=True)]
        out = torch.cat(filled, -x.dim())
        one = how == "draw" and n is None
        answer = with_index(filling.decoded(out[0] if one else out, how, self.space_), X)
        return self._with_new_words(answer, X, torch.isnan(x) & ~torch.isnan(codes))

    def _with_new_words(self, answer: Any, X: Any, new: Tensor) -> Any:
        """An answer of ``complete`` with the words that fit never saw as they stand in X."""
        if not new.any():
            return answer
        if isinstance(answer, list):
            return [self._with_new_words(frame, X, new) for frame in answer]
        row, j = new.nonzero()[0].tolist()
        if not isinstance(answer, pd.DataFrame):
            raise ValueError(
                f"X has a new word in {self.space_.names()[j]} (row {row}): pass a DataFrame, in "
                "which it can stay"
            )
        rows = as_frame(X)
        for j in new.any(0).nonzero().flatten().tolist():
            at = new[:, j].cpu().numpy()
            name = self.space_.columns[j].name
            own = rows[name] if name in rows else rows.iloc[:, j]
            answer[name] = answer[name].where(~at, own.to_numpy(dtype=object))
        return answer

    def _filled(
        self, x: Tensor, n: int, how: str, q: Any, rng: torch.Generator, *given: Tensor
    ) -> Tensor:
        """Answers to x, (…, rows, *cell_shape), from n draws where there is no closed form."""
        there = x.to(self._device())
        answer = self._complete_mean(there, *given) if how == "mean" else None
        if answer is None:
            draws = self._complete_many(there, n, rng, *given)
            answer = draws.reshape(n, *x.shape).to(x.dtype)
            if how != "draw":
                answer = filling.summary(answer, how, q, self.space_)
        return torch.where(torch.isnan(x), answer.cpu().to(x.dtype), x)

    def _complete_many(
        self, x: Tensor, n: int, rng: torch.Generator, given: Tensor | None = None
    ) -> Tensor:
        """n completions of every row, (n, rows, …), in one pass: here of each row n times.

        A family that draws many particles a row keeps n of them.
        """
        some = (x,) if given is None else (x, given)
        many, *conditions = (c.repeat(n, *[1] * (c.dim() - 1)) for c in some)
        return self._complete(many, rng, *conditions).reshape(n, *x.shape)

    def _complete_mean(self, x: Tensor, given: Tensor | None = None) -> Tensor | None:
        """NaN at the conditional mean of numbers and at the likeliest label.

        None, as here: there is no closed form.
        """
        return None

    @available_if(_has("_encode"))
    def encode(self, X: RowsLike, *, given: GivenLike = None) -> np.ndarray:
        """The latent representation of each row, shape (n, …)."""
        x, conditions = self._enter(X, given)
        return self._chunked(self._encode, x, *conditions).numpy()

    @available_if(_has("_decode"))
    def decode(self, Z: ArrayLike, *, given: GivenLike = None) -> Any:
        """The expected observation of each latent row.

        Like the data, but between levels where a mean falls there.
        """
        self._check_fitted()
        z = torch.as_tensor(np.asarray(Z), dtype=torch.get_default_dtype(), device=self._device())
        conditions = self._conditions(given, len(z))
        return self.space_.means(self._chunked(self._decode, z, *conditions))

    @available_if(_has("_encode", "_decode"))
    def reconstruct(self, X: RowsLike, *, given: GivenLike = None) -> Any:
        """decode(encode(X))."""
        x, conditions = self._enter(X, given)

        def there_and_back(some: Tensor, *g: Tensor) -> Tensor:
            return self._decode(self._encode(some, *g), *g)

        return with_index(self.space_.means(self._chunked(there_and_back, x, *conditions)), X)

    @available_if(_has("_encode", "_decode"))
    def interpolate(
        self, a: RowsLike, b: RowsLike, steps: int = 8, *, given: GivenLike = None
    ) -> Any:
        """Decodings from row a to row b along a line in latent space, (steps, *shape).

        Both ends are included. given: the one condition that holds along the line.
        """
        Whole(2).check("steps", steps)
        self._check_fitted()
        x = self._codes(_stack(a, b, self.space_))
        condition = self._conditions(given, 1)
        with torch.no_grad():
            ends = self._encode(x, *(g.expand(2, *g.shape[1:]) for g in condition))
            t = torch.linspace(0, 1, steps, dtype=ends.dtype, device=ends.device)
            t = t.reshape(-1, *[1] * (ends.dim() - 1))
            line = (1 - t) * ends[0] + t * ends[1]
            between = self._decode(line, *(g.expand(steps, *g.shape[1:]) for g in condition))
            return self.space_.means(between)

    def save(self, path: str | Path) -> None:
        """Write the fitted model to one file (safetensors with JSON, no pickle), atomically."""
        self._check_fitted()
        if processes.rank():  # of several processes the first writes
            return
        files.write(path, self.state_dict(), {"model": files.describe(self)})

    def n_parameters(self) -> int:
        """Number of learned values."""
        self._check_fitted()
        return sum(p.numel() for p in self.parameters())

    # ----------------------------------------------------------- between the caller and the tensors

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with "
                "appropriate arguments first."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "space_") and bool(self._parameters or self._buffers or self._modules)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = type(self).allow_nan
        tags.input_tags.three_d_array = True
        return tags

    def __repr__(self) -> str:
        return str(BaseEstimator.__repr__(self))

    def _device(self) -> torch.device:
        for t in (*self.parameters(), *self.buffers()):
            return t.device
        return torch.device("cpu")

    def _stream(self, random_state: Any) -> torch.Generator:
        state = self.random_state if random_state is None else random_state
        return generator(seed_of(state), self._device())

    def discrete_cells(self, device: torch.device) -> Tensor:
        """True where a cell is discrete, (d,)."""
        return torch.tensor(self.space_.discrete, device=device)

    def _with_stream(self, random_state: Any) -> Self:
        """This fitted model with a random stream of its own: nothing is copied but the names."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.__dict__["rng"] = self._stream(random_state)
        view.__dict__["_fitted"] = self  # where what is computed once is kept
        return view

    def _encode_rows(self, X: Any, *, missing: bool) -> Tensor:
        inner = unwrap(X)
        check_in_memory(inner)
        if _is_matrix(inner, self.space_):
            validate_data(self, inner, skip_check_array=True, reset=False)
        return self.space_.encode(inner, missing=missing)

    def _codes(self, X: Any) -> Tensor:
        """Rows as floating-point codes on the model's device; new words are missing."""
        return self._without_new_words(
            self._as_float(self._encode_rows(X, missing=self.allow_nan))
        )[0]

    def _as_float(self, x: Tensor) -> Tensor:
        """Codes as floating-point numbers on the model's device."""
        x = x.to(self._device())
        return x if x.is_floating_point() else x.to(torch.get_default_dtype())

    def _enter(self, X: Any, given: Any = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Rows as codes, and their conditions as a hook's further arguments."""
        self._check_fitted()
        x = self._codes(X)
        return x, self._conditions(given, len(x))

    def _mask(self, mask: Any, x: Tensor, X: Any) -> Tensor:
        """A caller's mask, of the shape of the rows X, as one of the codes x."""
        if has_parts(mask):
            return torch.cat(self._masks_of_parts(mask, len(x)), 1)
        mask = self._mask_by_name(mask, unwrap(X))
        m = torch.from_numpy(np.array(mask, dtype=bool))
        shape = (len(x), *self.space_.shape)
        if tuple(m.shape) != shape:
            try:
                m = m.expand(shape)
            except RuntimeError:
                raise ValueError(f"mask has shape {tuple(m.shape)}, X has {shape}") from None
        cells: Tensor = self.space_.cells(m)
        return cells

    def _mask_by_name(self, mask: Any, X: Any) -> Any:
        """A mask in the order of fit's columns, where rows or mask come in another."""
        if not isinstance(X, pd.DataFrame) or not self.space_.columns:
            return mask
        if not isinstance(mask, pd.DataFrame):
            if np.shape(mask)[-1:] != (X.shape[1],):
                return mask
            m = np.broadcast_to(np.asarray(mask), X.shape)
            mask = pd.DataFrame(m, index=X.index, columns=X.columns)
        names = [c.name for c in self.space_.columns]
        absent = [n for n in names if n not in mask.columns]
        if absent:
            raise ValueError(f"mask lacks the column {absent[0]!r} that the model was fitted on")
        if not mask.index.equals(X.index):
            raise ValueError("mask has another index than X: pass mask.loc[X.index], or an array")
        return mask[names]

    def _masks_of_parts(self, mask: Any, n: int) -> list[Tensor]:
        """The mask of each part, (n, its cells): of a whole part, of its rows or of its cells."""
        known = [name for name, _ in self.space_.parts]
        for name in mask:
            if name not in known:
                raise ValueError(f"mask has a part {name!r} that X has not: it has {known}")
        masks = []
        for name, part in self.space_.parts:
            m = np.array(mask.get(name, False), dtype=bool)
            if m.ndim not in (0, len(part.shape) + 1) and m.shape != (n,):
                raise ValueError(f"mask of {name!r} has shape {m.shape}, and X has {n} rows")
            m = m.reshape(n, *[1] * len(part.shape)) if m.shape == (n,) else m
            try:
                rows = np.broadcast_to(m, (n, *part.shape))
            except ValueError:
                needed = f"(), ({n},) or {(n, *part.shape)} is needed"
                raise ValueError(f"mask of {name!r} has shape {m.shape}: {needed}") from None
            masks.append(torch.from_numpy(np.array(part.cells(rows))).reshape(n, -1))
        return masks

    # ------------------------------------------------------------------ conditions

    def _labels_as_given(self, y: Any, given: Any) -> Any:
        """The y of scikit-learn's verbs as conditions, where a model learns from labels."""
        return y if self.y_is_given and given is None else given

    def _check_takes_given(self) -> None:
        if self.conditions != "none":
            return
        name = type(self).__name__
        for hook in ("losses", "statistics", "_log_prob", "_sample"):
            f = getattr(type(self), hook, None)
            if f is not None and "given" in inspect.signature(f).parameters:
                raise TypeError(
                    f"{name}.{hook} takes given, but the class does not say so: write "
                    'conditions = "optional" (or "required") in its body'
                )
        instead = f", or use {self.with_labels} for labels" if self.with_labels else ""
        raise CapabilityError(f"{name} does not model p(x | given): leave given out{instead}")

    def _needs_given(self) -> str:
        return f"this {type(self).__name__} models p(x | given): pass given="

    def _conditions(self, given: Any, n: int) -> tuple[Tensor, ...]:
        """The conditions of n rows as a hook's arguments: none where the model has none.

        One condition serves all rows. ValueError where they are needed and not there.
        """
        if given is None:
            if hasattr(self, "given_space_") and not self.null_condition:
                raise ValueError(self._needs_given())
            return ()
        g = self._encode_given(given)
        if len(g) not in (1, n):
            raise ValueError(f"given has {len(g)} rows: pass one, or one for each of {n} rows")
        return (g.expand(n, *g.shape[1:]),)

    def _encode_given(self, given: Any) -> Tensor:
        self._check_takes_given()
        if not hasattr(self, "given_space_"):
            raise CapabilityError(
                f"this {type(self).__name__} was fitted without given=: it has no conditions"
            )
        with _about_given():
            many = _with_leading_axis(unwrap(given), self.given_space_)
            g = self.given_space_.encode(column_vector(many), missing=False).to(self._device())
        return g if g.is_floating_point() else g.to(torch.get_default_dtype())

    def _chunked(self, f: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
        """f of some rows at a time, joined on the processor."""
        pieces = zip(*(a.split(self.chunk) for a in arguments), strict=True)
        with torch.no_grad():
            return torch.cat([f(*some).cpu() for some in pieces])


def seed_of(random_state: Any) -> int:
    """An integer seed from None (fresh entropy), an int, or a numpy generator."""
    RANDOM_STATE.check("random_state", random_state)
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) % 2**62
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**62))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    return int(random_state) % 2**62


@contextlib.contextmanager
def _about_given() -> Iterator[None]:
    """Errors about conditions speak of given, not of X."""
    try:
        yield
    except (ValueError, TypeError) as e:
        text = re.sub(r"\bX\b", "given", str(e))
        if "no missing values" in text:
            where = text.split(":")[0]
            text = f"{where}: conditions have no missing values; fill them, or drop those rows"
        raise type(e)(text) from None


def _with_leading_axis(given: Any, space: Space) -> Any:
    """Conditions as rows, also where one alone came without a leading axis."""
    if has_parts(given):
        if not space.parts and space.columns:  # one row, or rows, of a table
            return pd.DataFrame({name: np.atleast_1d(v) for name, v in given.items()})
        parts = dict(space.parts)
        return {
            name: _with_leading_axis(v, parts[name]) if name in parts else v
            for name, v in given.items()
        }
    if isinstance(given, pd.Series) and list(given.index) == [c.name for c in space.columns]:
        return given.to_frame().T.infer_objects()
    if hasattr(given, "columns") or isinstance(given, torch.utils.data.Dataset):
        return given
    shape = np.shape(given)
    if shape == ():
        return np.asarray([given])
    if shape == space.shape and shape != (1,):
        return given[None] if hasattr(given, "shape") else np.asarray(given)[None]
    return given


def _is_matrix(X: Any, space: Space) -> bool:
    """Does scikit-learn know how many features such rows have?"""
    if space.parts or len(space.shape) != 1 or isinstance(X, torch.utils.data.Dataset):
        return False
    return getattr(X, "ndim", 2) == 2


class Conditions:
    """Conditions of rows that come in chunks: None, one for all, or those of every chunk."""

    def __init__(self, given: Any) -> None:
        self.given, self.at = unwrap(given), 0
        large = sources.is_large(self.given)
        self.more = sources.chunks_of(self.given) if large else None
        self.left: Any = None  # of a source: what was read and is not yet taken

    def next(self, n: int) -> Any:
        """The conditions of the next n rows."""
        if self.more is not None:
            while self.left is None or len(self.left) < n:
                chunk = next(self.more, None)
                if chunk is None:
                    break
                self.left = chunk if self.left is None else _joined(self.left, chunk)
            out, self.left = _between(self.left, 0, n), _between(self.left, n, None)
            return out
        if self.given is None or has_parts(self.given) or np.ndim(self.given) == 0:
            return self.given
        if len(self.given) == 1:
            return self.given
        self.at += n
        return _between(self.given, self.at - n, self.at)


def _between(rows: Any, begin: int, end: int | None) -> Any:
    return (rows.iloc if hasattr(rows, "iloc") else rows)[begin:end]


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, pd.DataFrame):
        return pd.concat([first, second], ignore_index=True)
    return torch.cat([torch.as_tensor(first), torch.as_tensor(second)])


def _note_features(model: Model, X: Any) -> None:
    inner = sources.look_at(unwrap(X)) if isinstance(unwrap(X), sources.Parquet) else unwrap(X)
    countable = not has_parts(inner) and not isinstance(inner, torch.utils.data.Dataset)
    if len(model.space_.shape) == 1 and countable:
        validate_data(model, inner, skip_check_array=True, reset=True)
    model.n_features_in_ = model.space_.dim


def with_index(out: Any, X: Any) -> Any:
    """Frames with the index of the caller's; anything else as it is."""
    X = unwrap(X)
    if has_parts(out) and has_parts(X):
        return {name: with_index(part, X.get(name)) for name, part in out.items()}
    if not isinstance(X, pd.DataFrame | pd.Series):
        return out
    if isinstance(out, list):
        return [with_index(frame, X) for frame in out]
    return out.set_axis(X.index) if isinstance(out, pd.DataFrame) else out


def take_features(own: Any, model: Model) -> None:
    """Note the number and the names of a fitted model's features on an estimator that holds it."""
    own.n_features_in_ = model.n_features_in_
    if hasattr(model, "feature_names_in_"):
        own.feature_names_in_ = model.feature_names_in_
    elif hasattr(own, "feature_names_in_"):
        del own.feature_names_in_


def _stack(a: Any, b: Any, space: Space) -> Any:
    """Two rows as rows."""
    if has_parts(a):
        parts = dict(space.parts)
        return {name: _stack(a[name], b[name], parts.get(name, space)) for name in a}
    if hasattr(a, "columns") or hasattr(a, "to_frame"):
        frames = [v.to_frame().T if isinstance(v, pd.Series) else v for v in (a, b)]
        return pd.concat(frames, ignore_index=True)
    rows = [np.asarray(v) for v in (a, b)]
    return np.stack([r.reshape(space.shape) for r in rows])
