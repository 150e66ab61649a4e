"""A collapsed latent space and a cured one, as ``genus.diagnose`` sees them.

β = 8 shuts the latent space of a VAE of the digits; free bits, at the same β, keep it open. Writes
diagnose_collapsed.png and diagnose_cured.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import genus

DIGITS = genus.data.load("digits")


def vae(**arguments: Any) -> genus.VAE:
    """A VAE of the digits with 8 latent dimensions."""
    net = genus.MLP(128, 2, "silu")
    trainer = genus.Trainer(epochs=40, batch_size=64, lr=3e-3, progress=False)
    model = genus.VAE(8, net, net, k=64, trainer=trainer, random_state=0, **arguments)
    return model.fit(DIGITS.train)


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures")
    out.mkdir(parents=True, exist_ok=True)
    models = {"collapsed": vae(beta=8.0), "cured": vae(beta=8.0, free_bits=1.0)}
    for name, model in models.items():
        found = genus.diagnose(model, DIGITS.test)
        print(f"\n{name}\n{found}", flush=True)
        found.figure().savefig(out / f"diagnose_{name}.png", dpi=130, facecolor="white")
