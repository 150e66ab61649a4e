"""Latent rows as features of a pipeline."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import genus

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(200, 2))
X = pd.DataFrame(Z @ RNG.normal(size=(2, 5)) + 0.1 * RNG.normal(size=(200, 5)))
X = X.set_axis(list("abcde"), axis=1).set_axis(RNG.permutation(200))
BITS = (RNG.random((200, 6)) < np.where(Z[:, :1] > 0, 0.9, 0.1)).astype(int)
FEW = genus.Trainer(epochs=20)
MODELS = {
    "ProbabilisticPCA": (genus.ProbabilisticPCA(2), X, 2),
    "FactorAnalysis": (genus.FactorAnalysis(2), X, 2),
    "VAE": (genus.VAE(3, trainer=FEW, random_state=0), X, 3),
    "RBM": (genus.RBM(4, trainer=genus.Trainer(epochs=300), random_state=0), BITS, 4),
}


@pytest.mark.parametrize("name", MODELS)
def test_features_are_latent_rows(name):
    model, rows, k = MODELS[name]
    z = model.fit_transform(rows)
    assert z.shape == (200, k)
    np.testing.assert_array_equal(z, model.encode(rows))
    assert model.get_feature_names_out().tolist() == [f"{name.lower()}{j}" for j in range(k)]


def test_frames_keep_their_index():
    z = genus.ProbabilisticPCA(2).set_output(transform="pandas").fit_transform(X)
    assert z.index.equals(X.index) and list(z.columns) == ["probabilisticpca0", "probabilisticpca1"]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_a_step_of_a_pipeline(name):
    model, rows, _ = MODELS[name]
    steps = make_pipeline(model, LogisticRegression())
    assert steps.fit(rows, Z[:, 0] > 0).score(rows, Z[:, 0] > 0) > 0.8


def test_models_without_latent_rows_have_no_transform():
    assert not hasattr(genus.Gaussian(), "transform")
