"""Models of rows and their labels together, p(x, y): densities that are classifiers.

    p(y | x) = p(x, y) / Σ_k p(x, k)        known exactly, although Z of p(x, y) may not be
    p(x) = Σ_k p(x, k)

Labels are the condition, so that ``fit(X, y)`` is ``fit(X, given=y)``. A verb without ``given``
speaks of p(x), with it of p(x | y). A family writes ``_log_joint(x)``, log p(x, y = k) of codes x
but for what k does not change, (n, K), and the hooks of ``Model`` with ``given``: the codes
0 … K − 1 of labels, (n, 1), NaN for a row of fit without one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score
from sklearn.utils import ClassifierTags, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from genus.model import Model
from genus.space import Space, unwrap
from genus.typing import ArrayLike, GivenLike, RowsLike


class Classifier(Model):
    """A model of p(x, y): a density of rows, and a classifier.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.repeat([[0, 0, 1, 1], [1, 1, 0, 0]], 20, axis=0)
    >>> model = genus.RBMClassifier(4, random_state=0).fit(X, np.repeat(["a", "b"], 20))
    >>> isinstance(model, genus.classifier.Classifier), model.predict([[0, 0, 1, 1]])
    (True, array(['a'], dtype='<U1'))
    """

    by_default = False  # it needs labels
    conditions = "required"
    null_condition = True
    y_is_given = True
    may_lack_labels: ClassVar[bool] = False  # may rows of fit be without one, None or NaN?

    classes_: np.ndarray  # labels, sorted

    # ------------------------------------------------------------------ what a family writes

    def _log_joint(self, x: Tensor) -> Tensor:
        """log p(x, y = k) of codes x but for what k does not change, (n, K)."""
        raise NotImplementedError

    # ------------------------------------------------------------------ verbs

    def predict_proba(self, X: RowsLike) -> np.ndarray:
        """p(y | x) of each row, (n, K), in the order of ``classes_``."""
        self._check_fitted()

        def posterior(x: Tensor) -> Tensor:
            return torch.softmax(self._log_joint(x).double(), 1)

        return self._chunked(posterior, self._codes(X)).numpy()

    def predict(self, X: RowsLike) -> np.ndarray:
        """The likeliest label of each row, (n,)."""
        best = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[best])

    def score(self, X: RowsLike, y: ArrayLike | None = None, *, given: GivenLike = None) -> float:
        """The share of rows whose label is predicted, as in scikit-learn.

        ``log_prob(X)`` has nats.
        """
        return float(accuracy_score(self._labels(given if y is None else y), self.predict(X)))

    # ------------------------------------------------------------------ labels and their codes

    def _look(self, X: Any, given: Any, space: Any) -> None:
        labels = self._labels(given, gaps=self.may_lack_labels)
        known = labels[~pd.isna(labels)]
        if len(labels) and not len(known):
            raise ValueError("y has no label at all: a class needs at least one row")
        if known.dtype.kind == "O":
            known = np.asarray(pd.Series(known).infer_objects())
        check_classification_targets(known)
        super()._look(X, known, space)
        self.classes_ = np.unique(known)
        self.given_space_ = Space((1,), "categorical", levels=len(self.classes_))

    def _labels(self, y: Any, gaps: bool = False) -> np.ndarray:
        """Labels as a vector, without gaps unless they may be; ValueError that names the row."""
        name = type(self).__name__
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        y = y.detach().cpu().numpy() if isinstance(y, Tensor) else unwrap(y)
        a = column_or_1d(y, warn=True)
        missing = pd.isna(a)
        if missing.any() and not gaps:
            raise ValueError(f"y contains NaN (row {int(missing.argmax())}): drop those rows")
        if a.dtype.kind == "f" and np.isinf(a).any():
            row = int(np.isinf(a).argmax())
            raise ValueError(f"y has inf (row {row}), which is no label: drop the row")
        return np.asarray(pd.Series(a).infer_objects()) if a.dtype.kind == "O" else a

    def _given_source(self, given: Any) -> Tensor:
        return self._codes_of_labels(given, gaps=self.may_lack_labels)

    def _encode_given(self, given: Any) -> Tensor:
        return self._codes_of_labels(np.atleast_1d(given)).to(self._device())

    def _codes_of_labels(self, y: Any, gaps: bool = False) -> Tensor:
        """0 … K − 1 for each label, (n, 1); ValueError for one that fit never saw."""
        a = self._labels(y, gaps)
        code = pd.Index(self.classes_).get_indexer(pd.Index(a))
        missing = np.asarray(pd.isna(a))
        unknown = (code < 0) & ~missing
        if unknown.any():
            row = int(unknown.argmax())
            raise ValueError(
                f"y has {a.tolist()[row]!r} (row {row}), a class that was not seen in fit: "
                "drop the row"
            )
        codes = torch.from_numpy(code.astype(np.int64))[:, None]
        if missing.any():
            codes = codes.to(torch.get_default_dtype())
            codes[torch.from_numpy(missing)] = torch.nan
        return codes

    # ------------------------------------------------------------------ scikit-learn

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        return tags
