"""A latent space that a strong decoder does without, and its cure, as ``genus.diagnose`` sees them.

The decoder of a VAE of digits of bits also reads the pixels before the one that it draws,

    p(x | z) = Π_j σ((2 x_j − 1)(ℓ_j(z) + m_j(x_1 … x_{j−1})))

and with 2,048 units it learns to do so before z says anything: the posterior collapses. Free bits
keep it open, the decoder as strong as before. Writes diagnose_collapsed.png and diagnose_cured.png
into the folder given (gallery/figures).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import genus
from genus.distributions.draws import flip
from genus.distributions.observation import Bernoulli
from genus.networks.layers import initialise
from genus.networks.masked import MaskedMLP

DIGITS = genus.data.load("digits")


class InTurn(Bernoulli):
    """Bits, each with log-odds ℓ_j + m_j(x_1 … x_{j−1})."""

    def __init__(self, d: int, rng: torch.Generator) -> None:
        super().__init__(d)
        self.before = MaskedMLP(d, 1, width=2048, depth=1)
        initialise(self.before, rng)

    def log_prob(self, p: Tensor, x: Tensor, read: Tensor | None = None) -> Tensor:
        x = x.to(p.dtype)
        return F.logsigmoid((2 * x - 1) * (p + self.before(x)[:, 0]))

    def sample(self, p: Tensor, rng: torch.Generator) -> Tensor:
        p, shape = p.flatten(0, -2), p.shape
        x = torch.zeros_like(p)
        for j in range(p.shape[1]):
            x[:, j] = flip(torch.sigmoid(p + self.before(x)[:, 0])[:, j], rng)
        return x.reshape(shape)


class StrongVAE(genus.VAE):
    """A VAE whose decoder reads the pixels before."""

    def _observe(self, space: genus.Space) -> InTurn:
        return InTurn(space.dim, self.rng)


def bits(part: Any) -> np.ndarray:
    """Digits of 8 × 8 bits."""
    return (np.asarray(part.X) >= 8).astype(int)


def vae(**arguments: Any) -> StrongVAE:
    """A VAE of the digits with 8 latent dimensions."""
    net = genus.MLP(128, 2, "silu")
    trainer = genus.Trainer(epochs=40, batch_size=64, lr=3e-3, progress=False)
    model = StrongVAE(8, net, net, k=64, trainer=trainer, random_state=0, **arguments)
    return model.fit(bits(DIGITS.train))


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures")
    out.mkdir(parents=True, exist_ok=True)
    test = bits(DIGITS.test)
    models = {"collapsed": vae(), "cured": vae(free_bits=1.0)}
    for name, model in models.items():
        found = genus.diagnose(model, test)
        print(f"\n{name}, {model.log_prob(test)}\n{found}", flush=True)
        found.figure().savefig(out / f"diagnose_{name}.png", dpi=130, facecolor="white")
