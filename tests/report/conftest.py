"""The comparisons that the tests of the report share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import genus
from genus.compare.run import compare
from genus.compare.table import Comparison
from genus.data.loading import load


@pytest.fixture(scope="session")
def digits() -> Comparison:
    data = load("digits")
    few = genus.Trainer(max_steps=25)
    models = {
        "mixture": genus.GaussianMixture(5),
        "VAE": genus.VAE(latent_dim=2, trainer=few, k=8),
        "RBM": genus.RBM(n_hidden=8, trainer=few),
    }
    return compare(
        models,
        data.train.X[:300],
        test=data.test.X[:80],
        y=data.train.y[:300],
        space=data.space,
        samples=40,
    )


@pytest.fixture(scope="session")
def wine() -> Comparison:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    frame = pd.DataFrame(
        {
            "sweet & <dry>": x[:, 0],
            "acid": 0.8 * x[:, 0] + 0.2 * x[:, 1],
            "colour": np.where(x[:, 0] > 0, "red", "white"),
        }
    )
    return compare([genus.GaussianMixture(2)], frame, samples=40)
