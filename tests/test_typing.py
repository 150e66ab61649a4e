"""What an editor knows of genus: mypy reads these functions, and nothing runs them.

``assert_type`` fails where mypy infers another type, and a ``type: ignore`` where its line is no
error any more.
"""

from typing import Any, assert_type

import numpy as np
import pandas as pd
import torch

import genus

X = np.zeros((10, 2))
table = pd.DataFrame({"size": [1.0, 2.0], "colour": ["red", "blue"]})


def what_verbs_return() -> None:
    mixture = genus.GaussianMixture(3)
    assert_type(mixture, genus.GaussianMixture)
    assert_type(mixture.fit(X), genus.GaussianMixture)
    assert_type(mixture.fit(X, sample_weight=np.ones(10)).partial_fit(X), genus.GaussianMixture)
    assert_type(mixture.set_params(n_components=2), genus.GaussianMixture)
    assert_type(genus.VAE(latent_dim=2).fit(table, validation=0.1), genus.VAE)
    assert_type(genus.BayesianLinearRegression().fit(X, X[:, 0]), genus.BayesianLinearRegression)

    p = mixture.log_prob(X)
    assert_type(p, genus.LogProb)
    assert_type(p.mean(), float)
    assert_type(mixture.score(X), float)
    assert_type(mixture.score_samples(table), np.ndarray)
    assert_type(genus.VAE().encode(torch.zeros(3, 2)), np.ndarray)
    assert_type(mixture.sample(5, random_state=np.random.default_rng(0)), Any)
    assert_type(genus.Space.of(table), genus.Space)
    assert_type(genus.Trainer(lr=1e-3).replace(epochs=3), genus.Trainer)


def what_is_underlined() -> None:
    model = genus.VAE()
    model.fit(5)  # type: ignore[arg-type]
    model.fit("digits")  # type: ignore[arg-type]
    model.fit(X, validation="a tenth")  # type: ignore[arg-type]
    model.fit(X, epochs=5)  # type: ignore[call-arg]
    model.sample("many")  # type: ignore[arg-type]
    model.sample(5, random_state="first")  # type: ignore[arg-type]
    model.complete(X, mask="lower")  # type: ignore[arg-type]
    model.log_prob()  # type: ignore[call-arg]
    genus.VAE(latent_dim="two")  # type: ignore[arg-type]
    genus.VAE(latent=2)  # type: ignore[call-arg]
    genus.Trainer(lr="fast")  # type: ignore[arg-type]


def test_a_verb_is_there_only_where_its_hook_is() -> None:
    """The typed ``available_if`` is scikit-learn's."""
    assert hasattr(genus.VAE(), "encode") and not hasattr(genus.GaussianMixture(), "encode")
    assert genus.VAE.encode.__doc__
