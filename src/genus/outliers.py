"""A model as an outlier detector of scikit-learn's kind."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils.validation import check_is_fitted

from genus.model import Model, take_features
from genus.models.mixtures.gaussian_mixture import GaussianMixture
from genus.settings import Instance, Number, Rule, check_arguments
from genus.space import Space
from genus.typing import RowsLike


class OutlierDetector(OutlierMixin, BaseEstimator):
    """Rows that a model finds less probable than a share of those it learned from are outliers.

        t: the quantile ``share`` of log p(x) over the rows of fit
        decision_function(x) = log p(x) − t        predict(x) = −1 where it is negative, else 1

    Parameters
    ----------
    model : Model or None, default=None
        A model with ``log_prob``; None: ``GaussianMixture()``. It is cloned.
        ``model__n_components`` can be searched.
    share : float, default=0.05
        Of the rows of fit, those called outliers, 0 < share < 1. Of new rows of the same source it
        is somewhat larger, for the model has not seen them.

    Attributes
    ----------
    model_
        The fitted model.
    offset_
        t, in nats.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = genus.OutlierDetector(genus.Gaussian(), share=0.02).fit(X)
    >>> detector.predict([[0.0, 0.0], [5.0, -5.0]]).tolist()
    [1, -1]
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "model": Instance(Model, says="a model, such as genus.Gaussian()") | None,
        "share": Number(above=0, below=1),
    }

    model_: Any
    offset_: float

    def __init__(self, model: Model | None = None, share: float = 0.05) -> None:
        self.model = model
        self.share = share

    def fit(self, X: RowsLike, y: Any = None, *, space: Space | str | None = None) -> Self:
        """Learn the model, and the threshold, from the rows of X; ``y`` is ignored.

        Raises
        ------
        ValueError
            Where the model has no ``log_prob``, and what its ``fit`` raises.
        """
        check_arguments(self)
        model: Any = GaussianMixture(random_state=0) if self.model is None else clone(self.model)
        if not hasattr(model, "log_prob"):
            name = type(model).__name__
            raise ValueError(f"model={name}: it has no log_prob; one that has it is needed")
        self.model_ = model.fit(X, space=space)
        take_features(self, model)
        self.offset_ = float(np.quantile(self.score_samples(X), self.share))
        return self

    def score_samples(self, X: RowsLike) -> np.ndarray:
        """log p(x) of each row in nats, (n,): the lower, the stranger."""
        check_is_fitted(self, "model_")
        return np.asarray(self.model_.score_samples(X), dtype=np.float64)

    def decision_function(self, X: RowsLike) -> np.ndarray:
        """log p(x) − t of each row, (n,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: RowsLike) -> np.ndarray:
        """−1 for outliers, 1 for others, (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = (self.model or GaussianMixture()).allow_nan
        return tags
