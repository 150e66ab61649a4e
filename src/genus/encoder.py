"""Latent rows as features: scikit-learn's verbs of a step of a pipeline."""

from __future__ import annotations

from typing import Any

from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from genus.typing import RowsLike


class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """What a model with one latent vector a row has besides: ``transform`` is its ``encode``.

    The features are called by the class and a number, ``vae0``, ``vae1``, …. With
    ``set_output(transform="pandas")`` they come as a frame that keeps the caller's index.
    """

    def transform(self: Any, X: RowsLike) -> Any:
        """The latent vector of each row, (n, features)."""
        return self.encode(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
