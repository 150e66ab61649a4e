"""Models of p(y | X): the same base class, seen from scikit-learn's side.

The observation is y and the condition is X, so that ``fit(X, y)`` is ``Model.fit(y, given=X)``, and
``log_prob(y, given=X)`` and ``sample(given=X)`` are those of every model of p(x | given).
``space_`` is the space of y, ``given_space_`` that of X.

A family writes ``_log_prob(y, given)``, ``_sample(n, rng, given)`` and ``_predict(given)``; targets
are real numbers (n, 1), or the codes 0 … K − 1 of classes where ``task_`` is ``"classification"``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import ClassifierTags, RegressorTags, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import Tensor

from genus.coding import LARGEST
from genus.learn.rows import Rows
from genus.likelihood import LogProb
from genus.model import Model
from genus.space import Space, unwrap
from genus.typing import ArrayLike, GivenLike, RandomState, RowsLike, available_if

TASKS = ("auto", "regression", "classification")


class Predictor(Model):
    """A model of p(y | X): a regressor, or (where its constructor has ``task``) a classifier.

    Examples
    --------
    >>> import genus
    >>> model = genus.BayesianLinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
    >>> isinstance(model, genus.Predictor), model.predict([[3.0]]).shape
    (True, (1,))
    >>> model.log_prob([0.5], given=[[0.5]]).kind
    'exact'
    """

    given_space_: Space
    conditions = "required"
    task_: str  # regression or classification
    classes_: np.ndarray  # of a classifier, sorted

    # ------------------------------------------------------------------ fit

    def fit(  # type: ignore[override]
        self,
        X: RowsLike,
        y: ArrayLike | None = None,
        *,
        validation: float | tuple[RowsLike, ArrayLike] | None = None,
        resume: bool | str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> Self:
        """Learn p(y | X).

        X: array, DataFrame or tensor of numbers, (n, d). y: (n,) numbers, or labels for a
        classifier.
        validation: the share of the rows held out, or a pair (X, y). resume: True, or the
        checkpoint file to go on from. A failed fit leaves the old model whole. Returns self.
        """
        held: Any = validation[::-1] if isinstance(validation, tuple) else validation
        return self._fit(y, X, None, held, resume, device)

    def _look(self, y: Any, X: Any, space: Any) -> None:  # type: ignore[override]
        self.given_space_ = Space.of(X, "continuous")
        words = [c.name for c in self.given_space_.columns if c.kind == "categorical"]
        if words:
            raise ValueError(
                f"column {words[0]!r} holds categories: turn it into numbers, with "
                "pandas.get_dummies(X), or drop it"
            )
        self._note(X, reset=True)
        self.n_features_in_ = self.given_space_.dim
        a = self._vector(y)
        self.task_ = self._task_of(a)
        if self.task_ == "classification":
            _check_finite(a)
            check_classification_targets(a)
            self.classes_ = np.unique(a)
            self.space_ = Space((1,), "categorical", levels=len(self.classes_))
        else:
            self.space_ = Space((1,))

    def _task_of(self, y: np.ndarray) -> str:
        """What is asked: bits, words and few whole numbers are classes, and all else is numbers."""
        task = getattr(self, "task", "regression")
        if task != "auto":
            return str(task)
        if y.dtype.kind in "iuf" and Space.of_labels(y).kind in (
            "continuous",
            "ordinal",
            "integer",
        ):
            return "regression"
        return "classification"

    def _vector(self, y: Any) -> np.ndarray:
        """y as a vector without gaps; ValueError that names the row."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        y = y.detach().cpu().numpy() if isinstance(y, Tensor) else y
        a = column_or_1d(y, warn=True)
        missing = pd.isna(a)
        if missing.any():
            raise ValueError(f"y contains NaN (row {int(missing.argmax())}): drop those rows")
        if len(a) == 0:
            raise ValueError("Found array with 0 sample(s) in y while a minimum of 1 is required.")
        return np.asarray(pd.Series(a).infer_objects()) if a.dtype.kind == "O" else a

    def _rows(self, y: Any, given: Any = None, weight: Any = None) -> Rows:
        if given is None:
            raise ValueError("validation needs X and y: pass validation=(X, y)")
        codes, numbers = self._encode_rows(y, missing=False), self._numbers(given)
        if len(codes) != len(numbers):
            raise ValueError(
                f"y has {len(codes)} rows, X has {len(numbers)}: one y a row is needed"
            )
        return Rows(codes, numbers, weight)

    # ------------------------------------------------------------------ verbs

    def log_prob(self, y: ArrayLike, *, given: RowsLike | None = None) -> LogProb:  # type: ignore[override]
        """log p(y | X) of each row, in nats of y's own units. y: (n,); given: X, (n, d)."""
        return super().log_prob(y, given=given)

    @available_if(lambda self: False)
    def score_samples(self, X: RowsLike, *, given: GivenLike = None) -> np.ndarray:
        """Not here: without y there is nothing to score.

        ``log_prob(y, given=X)`` has the nats of each row.
        """
        raise NotImplementedError

    def score(self, X: RowsLike, y: ArrayLike | None = None) -> float:  # type: ignore[override]
        """R² of a regressor, accuracy of a classifier, as in scikit-learn."""
        measure = accuracy_score if self._kind() == "classification" else r2_score
        return float(measure(self._vector(y), self.predict(X)))

    def predict(self, X: RowsLike) -> np.ndarray:
        """E[y | x] of each row, or its likeliest class; (n,)."""
        raise NotImplementedError(f"{type(self).__name__} does not define predict(X)")

    def sample(
        self, n: int | None = None, *, given: Any = None, random_state: RandomState = None
    ) -> np.ndarray:
        """Draws from p(y | X): one a row of ``given`` (n = None), or n of them for a single row.

        Every draw is independent.
        """
        self._check_fitted()
        if given is None:
            raise ValueError(f"{type(self).__name__} models p(y | X): pass given=X")
        rows: Any = len(given) if n is None and hasattr(given, "__len__") else n
        drawn = super().sample(rows, given=given, random_state=random_state)
        y = np.asarray(drawn)[:, 0]
        if self.task_ == "classification":
            return np.asarray(self.classes_[y.astype(int)])
        return y

    # ----------------------------------------------------------- between the caller and the tensors

    def _kind(self) -> str | None:
        """The task as far as it is known: ``auto`` learns it from y."""
        task = getattr(self, "task_", getattr(self, "task", "regression"))
        return task if task in TASKS[1:] else None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        if self._kind() == "regression":
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        elif self._kind() == "classification":
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        return tags

    def _note(self, X: Any, reset: bool) -> None:
        X = unwrap(X)
        if len(self.given_space_.shape) == 1 and getattr(X, "ndim", 2) == 2:
            validate_data(self, X, skip_check_array=True, reset=reset)

    def _numbers(self, X: Any) -> Tensor:
        return self.given_space_.encode(X, missing=False).double()

    def _encode_given(self, X: Any) -> Tensor:
        self._note(X, reset=False)
        return self._numbers(X).to(self._device())

    def _given(self, X: Any) -> Tensor:
        """X of a fitted model as float64."""
        self._check_fitted()
        return self._encode_given(X)

    def _encode_rows(self, y: Any, *, missing: bool) -> Tensor:
        a = self._vector(y)
        if self.task_ == "classification":
            code = pd.Index(self.classes_).get_indexer(pd.Index(a))
            if (code < 0).any():
                row = int((code < 0).argmax())
                raise ValueError(
                    f"y has {a.tolist()[row]!r} (row {row}), "
                    "a class that was not seen in fit: drop the row"
                )
            return torch.from_numpy(code.astype(np.float64))[:, None]
        if a.dtype.kind in "OUSb":
            try:
                a = a.astype(np.float64)
            except (TypeError, ValueError) as e:
                raise type(e)(f"y must hold numbers: {e}") from None
        if a.dtype.kind == "c":
            raise ValueError("Complex data not supported: y has complex numbers; pass real numbers")
        a = a.astype(np.float64)
        _check_finite(a)
        return torch.from_numpy(a)[:, None]

    def _check_scores(self, x: Tensor, p: LogProb) -> None:
        bad = ~np.isfinite(p.nats)
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"log p(y | X) of row {row} is not a finite number, so far is it from what was "
                "fitted: drop or rescale it"
            )


def _check_finite(y: np.ndarray) -> None:
    """ValueError that names the row of a number which is infinite or too large."""
    if y.dtype.kind != "f":
        return
    bad = ~(np.abs(y) <= LARGEST)
    if bad.any():
        row = int(bad.argmax())
        why = "inf is not a number a model can use; drop the row"
        if np.isfinite(y[row]):
            why = "rescale y"
        raise ValueError(f"y has {float(y[row])!r} (row {row}): {why}")
