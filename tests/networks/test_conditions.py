"""What networks see of conditions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from genus import MADE, Trainer
from genus.networks.conditions import LABELS, Conditions
from genus.space import Space


def test_categories_and_few_levels_have_a_place_each() -> None:
    names = [f"c{i}" for i in range(LABELS + 20)]
    table = pd.DataFrame(
        {
            "who": pd.Categorical(names),
            "age": np.arange(84.0) + 0.5,
            "bit": np.arange(84) % 2,
            "year": np.arange(84),
        }
    )
    space = Space.of(table)
    told = Conditions(space)
    codes = space.encode(table)
    told.fit(codes)
    f = told.features(codes, torch.float32)
    assert f.shape == (84, told.width) and f.dtype == torch.float32
    # more categories than LABELS, and yet a place each
    assert torch.equal(f[:, :84], torch.eye(84)) or bool((f[:, :84].sum(1) == 1).all())
    rest = f[:, 84:]
    numbers = [j for j in range(rest.shape[1]) if len(rest[:, j].unique()) == 84]
    assert len(numbers) == 2  # the age and the many levels of the year, in standard units
    assert (
        torch.allclose(rest[:, numbers].mean(0), torch.zeros(2), atol=1e-5)
        and rest.shape[1] == 2 + 2
    )


def test_a_model_learns_from_more_categories_than_levels() -> None:
    r = np.random.default_rng(0)
    who = r.integers(0, 80, 2000)
    X = (r.random((2000, 1)) < np.where(who % 2, 0.9, 0.1)[:, None]).astype(int)
    y = np.array([f"c{w}" for w in who])
    quick = Trainer(epochs=15, lr=2e-2, validation=0.0, progress=False)
    model = MADE(prior=0.0, trainer=quick, random_state=0).fit(X, given=y)
    # each category by itself: −0.33; all alike: −0.69
    assert model.log_prob(X, given=y).mean() > -0.45
