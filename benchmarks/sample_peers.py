"""Seconds of a training step beside the peers', each pair with one network, in one run.

    diffusion   Diffusion(prediction="v") beside denoising-diffusion-pytorch: a U-Net on 8 × 8, in
                float32, then in the precision that genus chooses, with the loss of held-out rows
    drawing     a step of DDIM of the same two, 64 draws at a time
    energies    EBM(method="cd") with 20 steps of Langevin beside torchebm: an MLP on 8 numbers
    GAN         GAN(loss="non-saturating") beside torchgan's losses: MLPs on 64 numbers

A step of genus is the difference between fits of 220 and of 20 steps, over 200, with everything
that a fit does; a step of a peer is its loss, the gradient and Adam, in a bare loop.

    pip install denoising-diffusion-pytorch torchebm torchgan
    python benchmarks/sample_peers.py
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any
from unittest import mock

import common
import numpy as np
import torch
from torch import Tensor, nn

import genus
from genus import EBM, GAN, MLP, Diffusion, Trainer, UNet

BATCH, FEW, MANY = 64, 20, 220
for name in ("torchvision", "torchvision.utils", "torchvision.transforms"):
    try:
        __import__(name)
    except Exception:  # absent, or of another build: nothing that is measured calls it
        sys.modules[name] = mock.MagicMock(__spec__=None)


def of_genus(make: Any, X: Any, precision: str | None = "float32", **space: Any) -> float:
    """Processor seconds of a step."""
    spent = []
    for steps in (FEW, MANY):
        trainer = Trainer(
            epochs=10_000, max_steps=steps, batch_size=BATCH, validation=0.0, patience=None,
            precision=precision, progress=False,
        )  # fmt: skip
        begun = time.process_time()
        make(trainer).fit(X, **space)
        spent.append(time.process_time() - begun)
    return (spent[1] - spent[0]) / (MANY - FEW)


def of_peer(step: Any) -> float:
    """Processor seconds of a step."""
    for _ in range(FEW):
        step()
    begun = time.process_time()
    for _ in range(MANY - FEW):
        step()
    return (time.process_time() - begun) / (MANY - FEW)


def their_diffusion() -> Any:
    """GaussianDiffusion of the U-Net that genus uses."""
    from denoising_diffusion_pytorch import GaussianDiffusion

    class Wrapped(nn.Module):
        channels = out_dim = 1
        self_condition = False

        def __init__(self) -> None:
            super().__init__()
            self.network = UNet()((1, 8, 8), (1, 8, 8), context=32)
            self.waves = torch.arange(1, 17)

        def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
            angle = t[:, None] / 1000 * self.waves
            out: Tensor = self.network(x, torch.cat([angle.cos(), angle.sin()], 1))
            return out

    return GaussianDiffusion(Wrapped(), image_size=8, objective="pred_v", sampling_timesteps=50)


def our_diffusion(trainer: Trainer) -> Diffusion:
    return Diffusion(trainer=trainer, random_state=0)


def diffusion(precision: str | None = "float32") -> tuple[float, float]:
    digits = genus.data.load("digits")
    X = torch.as_tensor(np.asarray(digits.train.X), dtype=torch.float32)[:, None] / 16
    theirs = their_diffusion()
    adam = torch.optim.AdamW(theirs.parameters(), 1e-3)

    def step() -> None:
        adam.zero_grad()
        theirs(X[torch.randint(len(X), (BATCH,))]).backward()
        adam.step()

    return of_genus(our_diffusion, digits.train, precision), of_peer(step)


def own_precision() -> tuple[float, float]:
    """The same with the precision that genus chooses; says what held-out rows lose in both."""
    digits = genus.data.load("digits")
    for precision in ("float32", None):
        trainer = Trainer(max_steps=3 * MANY, ema=0.0, precision=precision, progress=False)
        held = our_diffusion(trainer).fit(digits.train).history_[-1]["validation"]
        print(f"held-out loss after {3 * MANY} steps, {precision or 'own precision'}: {held:.4f}")
    return diffusion(None)


def drawing() -> tuple[float, float]:
    """A step of DDIM."""
    few = Trainer(max_steps=FEW, progress=False)
    ours = our_diffusion(few).fit(genus.data.load("digits").train)
    theirs = their_diffusion()
    ours.set_params(sampler="ddim", steps=50)
    spent = []
    for draw in (lambda: ours.sample(BATCH, random_state=0), lambda: theirs.sample(BATCH)):
        draw()
        begun = time.process_time()
        for _ in range(4):
            draw()
        spent.append((time.process_time() - begun) / 200)
    return spent[0], spent[1]


def energies() -> tuple[float, float]:
    from torchebm.core import BaseModel
    from torchebm.losses import ContrastiveDivergence
    from torchebm.samplers import LangevinDynamics

    class Wrapped(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.network = MLP(128, 2, "silu")((8,), (1,))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.network(x)[:, 0]
            return out

    X = np.random.default_rng(0).normal(size=(2000, 8))
    model = Wrapped()
    sampler = LangevinDynamics(model, step_size=0.01, noise_scale=1.0)
    loss = ContrastiveDivergence(model=model, sampler=sampler, k_steps=20)
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    rows = torch.as_tensor(X, dtype=torch.float32)

    def step() -> None:
        adam.zero_grad()
        loss(rows[torch.randint(len(rows), (BATCH,))])[0].backward()
        adam.step()

    def make(trainer: Trainer) -> Any:
        network = MLP(128, 2, "silu")
        return EBM(network, "cd", "langevin", steps=20, trainer=trainer, random_state=0)

    return of_genus(make, X), of_peer(step)


def gan() -> tuple[float, float]:
    from torchgan.losses import MinimaxDiscriminatorLoss, MinimaxGeneratorLoss
    from torchgan.models import Discriminator, Generator

    class G(Generator):
        def __init__(self) -> None:
            super().__init__(16)
            self.model = MLP(256, 2)((16,), (64,))

        def forward(self, z: Tensor) -> Tensor:
            out: Tensor = self.model(z)
            return out

    class D(Discriminator):
        def __init__(self) -> None:
            super().__init__(64)
            self.model = MLP(256, 2)((64,), (1,))

        def forward(self, x: Tensor, feature_matching: bool = False) -> Tensor:
            out: Tensor = self.model(x)
            return out

    X = np.random.default_rng(0).normal(size=(2000, 64))
    rows = torch.as_tensor(X, dtype=torch.float32)
    two = SimpleNamespace(g=G(), d=D())
    of_g, of_d = (torch.optim.Adam(n.parameters(), 2e-4) for n in (two.g, two.d))
    first, second = MinimaxDiscriminatorLoss(), MinimaxGeneratorLoss(nonsaturating=True)
    device = torch.device("cpu")

    def step() -> None:
        x = rows[torch.randint(len(rows), (BATCH,))]
        first.train_ops(two.g, two.d, of_d, x, device)
        second.train_ops(two.g, two.d, of_g, device, BATCH)

    def make(trainer: Trainer) -> Any:
        network = MLP(256, 2)
        return GAN(
            network, network, latent_dim=16, loss="non-saturating", penalty=0.0,
            trainer=trainer.replace(ema=0.0), random_state=0,
        )  # fmt: skip

    return of_genus(make, X, space="continuous"), of_peer(step)


def main() -> None:
    torch.set_num_threads(1)
    for what in (diffusion, own_precision, drawing, energies, gan):
        try:
            ours, theirs = what()
        except Exception as e:
            print(f"{what.__name__}: {type(e).__name__}: {e}"[:200], flush=True)
            continue
        print(
            f"{what.__name__}: genus {1000 * ours:.2f} ms a step, the peer {1000 * theirs:.2f} ms, "
            f"peer / genus {theirs / ours:.2f}x   (bar: 1x)",
            flush=True,
        )


if __name__ == "__main__":
    print(common.versions("genus", "denoising-diffusion-pytorch", "torchebm", "torchgan"))
    main()
