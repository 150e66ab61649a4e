r"""How a network takes a context: one vector c of time and conditions, beside its input x.

    vectors     W [x, c] + b                       c is put beside the flattened input
    images      a ⊙ (1 + S c) + T c                scale and shift of every feature map a (FiLM)

S and T are 0 at the start, where a network of images is the one without a context.
Source of FiLM: Perez, Strub, de Vries, Dumoulin & Courville (2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genus.networks.layers import Linear


class Layers(nn.Sequential):
    """Layers one after another; :class:`Beside` and :class:`FiLM` among them are given the context.

    context: the size of the vector c, 0 for a network that takes none.
    """

    def __init__(self, *layers: nn.Module, context: int = 0) -> None:
        super().__init__(*layers)
        self.context = context

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (n, *in_shape), and context (n, context) where the network takes one."""
        size = 0 if context is None else context.shape[1]
        if size != self.context:
            raise ValueError(
                f"this network takes a context of {self.context} numbers a row, and got {size}"
            )
        for layer in self:
            x = layer(x, context) if isinstance(layer, Beside | FiLM) else layer(x)
        return x


class Beside(nn.Flatten):
    """x flattened, with the context beside it."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(n, …), (n, context) → (n, numbers of x + context)."""
        flat = super().forward(x)
        return flat if context is None else torch.cat([flat, context], 1)


class FiLM(nn.Module):
    """a ⊙ (1 + S c) + T c of feature maps a; S = T = 0 at the start."""

    def __init__(self, context: int, channels: int) -> None:
        super().__init__()
        self.scale_and_shift = Linear(context, 2 * channels, bias=False, zero=True)

    def forward(self, a: Tensor, context: Tensor) -> Tensor:
        """(n, channels, H, W), (n, context) → (n, channels, H, W)."""
        s, t = self.scale_and_shift(context)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(a + t, a, s)
