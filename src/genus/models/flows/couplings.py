r"""Maps of rows with a triangular Jacobian, made of monotone maps of one coordinate.

A network gives the parameters of those maps.

    coupling            z_A = y_A,   z_B = g(y_B; θ(y_A))
    autoregressive      z_j = g(y_j; θ(y_1 … y_{j−1}))

    log |det ∂z/∂y| = Σ_j log g′(y_j)

Coordinates may be float64 while networks are float32. What the network of a coupling sees is then
rounded, and the same both ways; an autoregressive one, whose units are added up in another order on
the way back, reckons in float64. So maps invert to the precision of the coordinates. Far from the
data networks see an edge, and the maps stay tame.

Rows (n, d) lie in memory coordinate by coordinate: coordinates are then taken and put together
without a stride, and narrow layers multiply fast.

Conditions reach the networks of vectors as a context. Those of images see them as channels: an
image of the same size pixel beside pixel, and the numbers of a context the same at all places.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.bijections import Bijection, Chain
from genus.networks.masked import MaskedMLP
from genus.networks.transposed import Transposed

FAR = 8.0  # standard deviations beyond which a network sees no difference


# ---------------------------------------------------------------------- maps of one coordinate
# from y (…) and parameters p (each, …) to g(y) and log g′(y)


class Shift:
    """g(y) = y + t."""

    each = 1

    def forward(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """(g(y), log g′)."""
        return y + p[0], torch.zeros_like(y)

    def inverse(self, z: Tensor, p: Tensor) -> Tensor:
        """y with g(y) = z."""
        return z - p[0]


class Affine:
    """g(y) = y e^s + t, |s| < π/2."""

    each = 2

    def forward(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """(g(y), log g′ = s)."""
        s, t = self.parts(p, y.dtype)
        return torch.addcmul(t, y, s.exp()), s

    def inverse(self, z: Tensor, p: Tensor) -> Tensor:
        """y with g(y) = z."""
        s, t = self.parts(p, z.dtype)
        return (z - t) / s.exp()

    def parts(self, p: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """s and t, as precise as the coordinates from here on."""
        s, t = p.unbind(0) if p.dtype == dtype else p.to(dtype).unbind(0)
        return torch.atan(s), t


class Spline(nn.Module):
    """g a monotone rational-quadratic spline on [−B, B] with K bins, the identity beyond.

    Gregory & Delbourgo (1982). In a bin of width w, height h and slope s = h/w, with derivatives
    δ₀, δ₁ at its ends and t = (y − y₀)/w in [0, 1]:

        g = z₀ + h (s t² + δ₀ t(1−t)) / q,    q = s + (δ₀ + δ₁ − 2s) t(1−t),
        g′ = s² (δ₁ t² + 2 s t(1−t) + δ₀ (1−t)²) / q²
    """

    least = 1e-3  # share of a bin

    floor: Tensor
    below: Tensor
    ends: Tensor
    flat: Tensor
    steep: Tensor

    def __init__(self, bins: int, bound: float) -> None:
        super().__init__()
        self.K, self.B, self.each = bins, bound, 3 * bins - 1
        K = bins
        inner = (torch.arange(K + 1) % K > 0)[:, None]  # knots 0 and K stay at −B and B
        share = torch.where(inner, self.least, 1 / K) * torch.arange(K + 1)[:, None]
        below = 2 * bound * (1 - self.least * K) * torch.ones(K + 1, K).tril(-1) * inner
        self.register_buffer("floor", bound * (2 * share - 1).repeat(2, 1), persistent=False)
        self.register_buffer("below", torch.block_diag(below, below), persistent=False)
        self.register_buffer("ends", torch.arange(2)[:, None], persistent=False)
        self.register_buffer("steep", torch.tensor(4.0), persistent=False)  # largest |log δ|
        self.register_buffer("flat", torch.zeros(1, 1), persistent=False)

    def bin(self, v: Tensor, p: Tensor, inverse: bool) -> tuple[Tensor, ...]:
        """y₀, z₀, w, h, δ₀, δ₁ of the bin in which each v (N,) of [−B, B] lies; p (each, N)."""
        K, N = self.K, len(v)
        shares, slopes = p.split_with_sizes([2 * K, K - 1])
        shares = torch.softmax(shares.reshape(2, K, N), 1).view(2 * K, N)
        knots = torch.addmm(self.floor.to(p.dtype), self.below.to(p.dtype), shares).view(
            2, K + 1, N
        )
        ends = self.ends + (knots[int(inverse), 1:K] <= v.to(p.dtype)).sum(0)
        low, high = knots.gather(1, ends.expand(2, 2, N)).to(v.dtype).unbind(1)
        flat = self.flat.expand(1, N)  # δ = 1 at −B and B
        slopes = torch.cat([flat, slopes, flat]).gather(0, ends)
        d0, d1 = torch.exp(self.steep * torch.tanh(slopes / self.steep)).to(v.dtype)
        (y0, z0), (w, h) = low, high - low
        return y0, z0, w, h, d0, d1

    def forward(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """(g(y), log g′(y))."""
        near = y.clamp(-self.B, self.B)
        v = near.flatten()
        y0, z0, w, h, d0, d1 = self.bin(v, p.reshape(self.each, -1), inverse=False)
        s, t = h / w, (v - y0) / w
        r = 1 - t
        tt, u = t * t, t * r
        q = torch.addcmul(s, torch.sub(d0 + d1, s, alpha=2), u)
        z = torch.addcmul(z0, h, torch.addcmul(s * tt, d0, u) / q)
        log_slope = torch.log((s / q).square() * (d1 * tt + 2 * s * u + d0 * r * r))
        inside = near == y
        return torch.where(inside, z.reshape(y.shape), y), torch.where(
            inside, log_slope.reshape(y.shape), 0.0
        )

    def inverse(self, z: Tensor, p: Tensor) -> Tensor:
        """y with g(y) = z: the root in [0, 1] of a t² + b t = c."""
        near = z.clamp(-self.B, self.B)
        v = near.flatten()
        y0, z0, w, h, d0, d1 = self.bin(v, p.reshape(self.each, -1), inverse=True)
        s, r = h / w, v - z0
        bend = torch.sub(d0 + d1, s, alpha=2) * r
        a, b, c = torch.addcmul(bend, h, s - d0), h * d0 - bend, s * r
        t = (c + c) / (b + torch.addcmul(b * b, a, c, value=4).clamp_min(0).sqrt())
        return torch.where(near == z, torch.addcmul(y0, w, t).reshape(z.shape), z)


# ---------------------------------------------------------------------- maps of rows


class Coupling(Bijection):
    """The first h coordinates (or channels) kept, the others bent by maps that a network sets.

    network: (n, h), and a context (n, g) where there is one → (n, each · rest); of images
        (n, h [+ g + channels], H, W) → (n, each · rest, H, W).
    swap: those that were bent go first, so that the next step sees them.
    """

    def __init__(
        self, h: int, g: Shift | Affine | Spline, network: nn.Module, swap: bool = False
    ) -> None:
        super().__init__()
        self.h, self.g, self.network, self.swap = h, g, network, swap
        self.transposed = Transposed(network)

    def parameters_of(self, a: Tensor, *context: Tensor) -> Tensor:
        """θ(a), (each, …), beside what is bent."""
        seen = _near(a, self.network)
        if a.dim() == 2:
            p = self.transposed(seen, *context)
            return p.view(self.g.each, -1, p.shape[1])
        if context:
            seen = torch.cat([seen, *(_everywhere(v, a) for v in context)], 1)
        p = self.network(seen)
        return p.reshape(len(p), self.g.each, -1, *p.shape[2:]).movedim(1, 0)

    def forward(self, x: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        a, b = _parts(x, self.h)
        z, log_slope = self.g.forward(b, self.parameters_of(a, *context))
        return _whole(z, a) if self.swap else _whole(a, z), log_slope.sum(
            0
        ) if x.dim() == 2 else log_slope.flatten(1).sum(1)

    def inverse(self, y: Tensor, *context: Tensor) -> Tensor:
        a, b = _parts(y, y.shape[1] - self.h)[::-1] if self.swap else _parts(y, self.h)
        return _whole(a, self.g.inverse(b, self.parameters_of(a, *context)))


class Autoregressive(Bijection):
    """Every coordinate bent by a map that those before it set.

    The inverse goes one coordinate at a time.
    """

    def __init__(self, g: Affine | Spline, network: MaskedMLP) -> None:
        super().__init__()
        self.g, self.network = g, network

    def forward(self, x: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        y = x.t().contiguous()
        p = self.network.transposed(F.hardtanh(y, -FAR, FAR), *context)
        z, log_slope = self.g.forward(y, p.view(self.g.each, *y.shape))
        return z.t(), log_slope.sum(0)

    def inverse(self, y: Tensor, *context: Tensor) -> Tensor:
        z = y.t().contiguous()
        return self.network.in_order(z, self.g.inverse, *context, bound=FAR).t()


def _parts(x: Tensor, h: int) -> tuple[Tensor, ...]:
    """The first h coordinates and the others.

    Of rows (n, d): (h, n) and the rest; of images: the first h channels (n, h, H, W) and the rest.
    """
    sizes = [h, x.shape[1] - h]
    return (
        x.t().contiguous().split_with_sizes(sizes) if x.dim() == 2 else x.split_with_sizes(sizes, 1)
    )


def _whole(*parts: Tensor) -> Tensor:
    """Rows (n, d) or images of such parts."""
    return torch.cat(parts).t() if parts[0].dim() == 2 else torch.cat(parts, 1)


def _near(x: Tensor, network: nn.Module) -> Tensor:
    """What a network sees of x."""
    near = F.hardtanh(x, -FAR, FAR)  # a clamp with one kernel for its gradient
    if x.dtype == torch.float32:
        return near
    weight = next(network.parameters(), None)
    return near if weight is None else near.to(weight.dtype)


# ---------------------------------------------------------------------- images


def _everywhere(context: Tensor, image: Tensor) -> Tensor:
    """A context (n, g) as channels, the same at all places of the image; channels as they are."""
    if context.dim() > 2:
        return context
    return context[:, :, None, None].expand(-1, -1, *image.shape[2:])


def squeeze(x: Tensor) -> Tensor:
    """(n, C, 2H, 2W) → (n, 4C, H, W): the four pixels of each square become channels."""
    return F.pixel_unshuffle(x, 2)


def board(channels: int) -> Tensor:
    """The 4C channels of a squeezed image, a checkerboard's white squares before the black."""
    return torch.tensor([0, 1, 1, 0]).repeat(channels).argsort(stable=True)


class Level(Bijection):
    """One scale of a multi-scale flow: steps, then half of the channels leave. ``rest`` goes on.

    Dinh et al. (2017). Images (n, *shape) → vectors (n, d), those that left last at the end.
    ``leave``: a coupling by which the channels that stay give mean and scale of those that leave,
    the conditional base of Glow.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        steps: Chain,
        rest: Level | None = None,
        leave: Coupling | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.steps, self.rest, self.leave = shape, steps, rest, leave

    def forward(self, x: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        context = _halved(context)
        x, log_det = self.steps(squeeze(x), *context)
        if self.leave is not None:
            x, more = self.leave(x, *context)
            log_det = log_det + more
        if self.rest is None:
            return x.flatten(1), log_det
        stay, gone = x.chunk(2, 1)
        z, more = self.rest(stay, *context)
        return torch.cat([z, gone.flatten(1)], 1), log_det + more

    def inverse(self, y: Tensor, *context: Tensor) -> Tensor:
        c, h, w = self.shape
        context = _halved(context)
        if self.rest is not None:
            stay, gone = y.chunk(2, 1)
            rest = self.rest.inverse(stay, *context)
            y = torch.cat([rest, gone.reshape(len(y), 2 * c, h // 2, w // 2)], 1)
        y = y.reshape(len(y), 4 * c, h // 2, w // 2)
        if self.leave is not None:
            y = self.leave.inverse(y, *context)
        return F.pixel_shuffle(self.steps.inverse(y, *context), 2)


def _halved(context: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The context of the next scale: images are squeezed as the rows are."""
    return tuple(squeeze(v) if v.dim() > 2 else v for v in context)
