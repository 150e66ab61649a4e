"""What the tests of compare share: rows, settings, and a model that misbehaves as it is told."""

import math
import warnings

import numpy as np
import torch

from genus import Exact, Model

X = np.random.RandomState(0).randn(150, 2)
few = {"samples": 30, "random_state": 0}
none = {"samples": 0, "random_state": 0}  # likelihoods alone


class Toy(Model):
    """A unit Gaussian about the mean of the rows; ``mode`` says how it misbehaves."""

    learned_by = "closed form"

    def __init__(self, mode="", seconds=0.0, random_state=None):
        self.mode = mode
        self.seconds = seconds
        self.random_state = random_state

    def build(self, space):
        self.register_buffer("mean_", torch.zeros(space.dim, dtype=torch.float64))

    def learn(self, data):
        if self.mode == "broken":
            raise FloatingPointError("the loss is not finite")
        if self.mode == "interrupted":
            raise KeyboardInterrupt
        if self.mode == "stopped":
            self.interrupted_ = True
        if self.mode == "warns":
            warnings.warn("careful with that", stacklevel=2)
        self.mean_ = data.rows.take(slice(None))[0].double().mean(0)
        self.seed_ = self._seed

    def _log_prob(self, x):
        if self.mode == "unscored":
            raise RuntimeError("too large to normalise")
        value = -0.5 * (x.double() - self.mean_).square().sum(1) - x.shape[1] / 2 * math.log(
            2 * math.pi
        )
        return Exact(value + (math.nan if self.mode == "nan" else 0))

    def _sample(self, n, rng):
        draws = self.mean_ + torch.randn(n, len(self.mean_), generator=rng, dtype=torch.float64)
        return draws * math.nan if self.mode == "nan" else draws
