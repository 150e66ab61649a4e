"""A model as a step of a scikit-learn pipeline: what is missing is filled in."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from genus.model import RANDOM_STATE, Model, take_features
from genus.models.mixtures.gaussian_mixture import GaussianMixture
from genus.settings import Instance, OneOf, Rule, check_arguments
from genus.space import Space
from genus.typing import RowsLike


class Imputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fills in missing cells by a model of the rows, as a step of a scikit-learn pipeline.

        fit: a model p(x) of the rows, gaps included        transform: its ``complete``

    Frames keep their index, and every column its name and type.

    Parameters
    ----------
    model : Model or None, default=None
        A model that takes missing values in ``fit``, and has ``complete``; None:
        ``GaussianMixture()``. It is cloned. ``model__n_components`` can be searched.
    how : {"mean", "mode", "draw"}, default="mean"
        As in ``complete``: expected numbers and the likeliest words, the likeliest values, or a
        draw, which keeps the spread of a column where a mean narrows it.
    random_state : int, generator or None, default=None
        Of the draws, and of a model that has none of its own.

    Attributes
    ----------
    model_
        The fitted model.

    Examples
    --------
    >>> import numpy as np, genus
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> rng = np.random.default_rng(0)
    >>> X = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 200)
    >>> y = X.sum(1) > 0
    >>> X[rng.random(X.shape) < 0.2] = np.nan
    >>> pipeline = make_pipeline(genus.Imputer(genus.Gaussian()), LogisticRegression())
    >>> pipeline.fit(X, y).score(X, y) > 0.9
    True
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "model": Instance(Model, says="a model, such as genus.Gaussian()") | None,
        "how": OneOf("mean", "mode", "draw"),
        "random_state": RANDOM_STATE,
    }

    model_: Model

    def __init__(
        self, model: Model | None = None, how: str = "mean", random_state: Any = None
    ) -> None:
        self.model = model
        self.how = how
        self.random_state = random_state

    def fit(self, X: RowsLike, y: Any = None, *, space: Space | str | None = None) -> Self:
        """Learn the model from the rows of X, (n, d); ``y`` is ignored. ``space``: see its ``fit``.

        Raises
        ------
        ValueError
            Where the model takes no missing values or cannot complete, and what its ``fit`` raises.
        """
        check_arguments(self)
        model: Any = GaussianMixture() if self.model is None else clone(self.model)
        name = type(model).__name__
        if not hasattr(model, "complete"):
            raise ValueError(f"model={name}: it cannot complete rows; one that can is needed")
        if model.get_params(deep=False).get("random_state", 0) is None:
            model.set_params(random_state=self.random_state)
        self.model_ = model.fit(X, space=space)
        take_features(self, model)
        return self

    def transform(self, X: RowsLike) -> Any:
        """X with its missing cells filled in, in the type of X; see ``complete``."""
        check_is_fitted(self, "model_")
        return self.model_.complete(X, how=self.how, random_state=self.random_state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
