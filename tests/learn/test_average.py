"""The moving average of the weights."""

from __future__ import annotations

import numpy as np

from genus import Trainer
from training import Slope, X, slope


def test_ema_is_kept_and_validated() -> None:
    model = slope(epochs=1, ema=0.9)
    average = bias = 1.0
    for step in range(4):
        bias -= 0.1
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * bias
    assert np.isclose(model.bias_[0].item(), average)
    held = Slope(trainer=Trainer(epochs=1, ema=0.9), random_state=0).fit(X, validation=X[:10])
    assert np.isclose(held.history_[0]["validation"], (average - 0.45) ** 2)
