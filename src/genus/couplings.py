r"""Maps of rows with a triangular Jacobian, made of monotone maps of one coordinate whose parameters a network gives.

    coupling            z_A = y_A,   z_B = g(y_B; θ(y_A))
    autoregressive      z_j = g(y_j; θ(y_1 … y_{j−1}))

    log |det ∂z/∂y| = Σ_j log g′(y_j)

Coordinates may be float64 while networks are float32: what networks see is rounded, and the same both ways, so that maps
invert to the precision of the coordinates. Far from the data networks see an edge, and the maps stay tame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.bijections import Bijection, Chain
from genus.networks import MaskedMLP

BEND = 2.0  # largest |log-scale| of an affine step
FAR = 8.0  # standard deviations beyond which a network sees no difference


# ---------------------------------------------------------------------- maps of one coordinate: y, its parameters → g(y), log g′(y)


class Shift:
    """g(y) = y + t."""

    each = 1

    def forward(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """(g(y), log g′)."""
        return y + p.squeeze(-1), torch.zeros_like(y)

    def inverse(self, z: Tensor, p: Tensor) -> Tensor:
        """y with g(y) = z."""
        return z - p.squeeze(-1)


class Affine:
    """g(y) = y e^s + t, |s| < 2."""

    each = 2

    def forward(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """(g(y), log g′ = s)."""
        s, t = self.parts(p, y.dtype)
        return torch.addcmul(t, y, s.exp()), s

    def inverse(self, z: Tensor, p: Tensor) -> Tensor:
        """y with g(y) = z."""
        s, t = self.parts(p, z.dtype)
        return (z - t) * torch.exp(-s)

    def parts(self, p: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """s and t, as precise as the coordinates from here on."""
        s, t = p.unbind(-1)
        return (BEND * torch.tanh(s)).to(dtype), t.to(dtype)


class Spline:
    """g a monotone rational-quadratic spline on [−B, B] with K bins, the identity beyond (Gregory & Delbourgo, 1982).

    In a bin of width w, height h and slope s = h/w, with derivatives δ₀, δ₁ at its ends and t = (y − y₀)/w:

        g = z₀ + h (s t² + δ₀ t(1−t)) / q,    q = s + (δ₀ + δ₁ − 2s) t(1−t),
        g′ = s² (δ₁ t² + 2 s t(1−t) + δ₀ (1−t)²) / q²
    """

    least = 1e-3  # share of a bin
    steep = 4.0  # largest |log δ|

    def __init__(self, bins: int, bound: float) -> None:
        self.K, self.B = bins, bound
        self.each = 3 * bins - 1

    def bin(self, v: Tensor, p: Tensor, inverse: bool) -> tuple[Tensor, ...]:
        """y₀, z₀, w, h, δ₀, δ₁ of the bin in which each v of [0, 1] lies; the square is the unit one."""
        K = self.K
        wide, high, slopes = p.split([K, K, K - 1], -1)
        floor = self.least * torch.arange(1, K + 1, dtype=p.dtype, device=p.device)
        ends = [torch.add(floor, torch.softmax(a, -1).cumsum(-1), alpha=1 - self.least * K) for a in (wide, high)]
        with torch.no_grad():
            k = torch.searchsorted(ends[inverse], v.to(p.dtype)[..., None], right=True).clamp_max_(K - 1)
            before, first, last = (k - 1).clamp_min_(0), k == 0, k == K - 1
        out = []
        for e in ends:  # from here on as precise as v
            low = torch.where(first, 0.0, e.gather(-1, before)).to(v.dtype)
            out += [low, torch.where(last, 1.0, e.gather(-1, k)).to(v.dtype) - low]
        for edge, at in ((first, before), (last, k.clamp_max(K - 2))):
            out.append(torch.where(edge, 1.0, torch.exp(self.steep * torch.tanh(slopes.gather(-1, at) / self.steep))).to(v.dtype))
        y0, w, z0, h, d0, d1 = (a.squeeze(-1) for a in out)
        return y0, z0, w, h, d0, d1

    def forward(self, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """(g(y), log g′(y))."""
        inside = y.abs() < self.B
        v = torch.where(inside, y / (2 * self.B) + 0.5, 0.5)
        y0, z0, w, h, d0, d1 = self.bin(v, p, inverse=False)
        s, t = h / w, (v - y0) / w
        r = 1 - t
        u = t * r
        q = s + (d0 + d1 - 2 * s) * u
        z = z0 + h * (s * t.square() + d0 * u) / q
        log_slope = torch.log(s.square() * (d1 * t.square() + 2 * s * u + d0 * r.square()) / q.square())
        return torch.where(inside, self.B * (2 * z - 1), y), torch.where(inside, log_slope, 0.0)

    def inverse(self, z: Tensor, p: Tensor) -> Tensor:
        """y with g(y) = z: the root in [0, 1] of a quadratic in t."""
        inside = z.abs() < self.B
        v = torch.where(inside, z / (2 * self.B) + 0.5, 0.5)
        y0, z0, w, h, d0, d1 = self.bin(v, p, inverse=True)
        s, r = h / w, v - z0
        bend = (d0 + d1 - 2 * s) * r
        a, b, c = h * (s - d0) + bend, h * d0 - bend, -s * r
        t = 2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0).sqrt())
        return torch.where(inside, self.B * (2 * (y0 + w * t) - 1), z)


# ---------------------------------------------------------------------- maps of rows


class Coupling(Bijection):
    """The first h coordinates (or channels) kept, the others bent by maps whose parameters the network gives.

    network: (n, h [+ g], …) → (n, rest, each, …). swap: those that were bent go first, so that the next step sees them.
    """

    def __init__(self, h: int, g: Shift | Affine | Spline, network: nn.Module, swap: bool = False) -> None:
        super().__init__()
        self.h, self.g, self.network, self.swap = h, g, network, swap

    def parameters_of(self, a: Tensor, *given: Tensor) -> Tensor:
        """θ(a), (n, rest, …, each)."""
        seen = torch.cat([_near(a, self.network), *(_over(v, a) for v in given)], 1)
        p: Tensor = self.network(seen)
        return p if a.dim() == 2 else p.reshape(len(p), -1, self.g.each, *p.shape[2:]).movedim(2, -1)

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.tensor_split([self.h], 1)
        z, log_slope = self.g.forward(b, self.parameters_of(a, *given))
        return torch.cat([z, a] if self.swap else [a, z], 1), log_slope.flatten(1).sum(1)

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        a, b = y.tensor_split([y.shape[1] - self.h], 1)[::-1] if self.swap else y.tensor_split([self.h], 1)
        return torch.cat([a, self.g.inverse(b, self.parameters_of(a, *given))], 1)


class Autoregressive(Bijection):
    """Every coordinate bent by a map whose parameters those before it give; the inverse goes one coordinate at a time."""

    def __init__(self, g: Affine | Spline, network: MaskedMLP) -> None:
        super().__init__()
        self.g, self.network = g, network

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        z, log_slope = self.g.forward(x, self.network(_near(x, self.network), *given))
        return z, log_slope.sum(1)

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        return self.network.in_order(len(y), lambda j, p: self.g.inverse(y[:, j], p), *given, bound=FAR)


def _near(x: Tensor, network: nn.Module) -> Tensor:
    """What a network sees of x."""
    weight = next(network.parameters(), None)
    return F.hardtanh(x, -FAR, FAR).to(x.dtype if weight is None else weight.dtype)


def _over(given: Tensor, like: Tensor) -> Tensor:
    """Conditions (n, g) as they stand beside x: everywhere the same, where x is an image."""
    return given if like.dim() == 2 else given[:, :, None, None].expand(-1, -1, *like.shape[2:])


# ---------------------------------------------------------------------- images


def squeeze(x: Tensor) -> Tensor:
    """(n, C, 2H, 2W) → (n, 4C, H, W): the four pixels of each square become channels."""
    return F.pixel_unshuffle(x, 2)


def board(channels: int) -> Tensor:
    """An order of the 4C channels of a squeezed image that puts the white squares of a checkerboard first, the black ones last."""
    return torch.tensor([0, 1, 1, 0]).repeat(channels).argsort(stable=True)


class Level(Bijection):
    """One scale of a multi-scale flow: steps, then half of the channels leave and ``rest`` bends the others (Dinh et al., 2017).

    Images (n, *shape) → vectors (n, d), those that left last at the end. ``leave``: a coupling by which the channels that
    stay give mean and scale of those that leave, the conditional base of Glow.
    """

    def __init__(self, shape: tuple[int, int, int], steps: Chain, rest: Level | None = None, leave: Coupling | None = None) -> None:
        super().__init__()
        self.shape, self.steps, self.rest, self.leave = shape, steps, rest, leave

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = self.steps(squeeze(x), *given)
        if self.leave is not None:
            x, more = self.leave(x, *given)
            log_det = log_det + more
        if self.rest is None:
            return x.flatten(1), log_det
        stay, gone = x.chunk(2, 1)
        z, more = self.rest(stay, *given)
        return torch.cat([z, gone.flatten(1)], 1), log_det + more

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        c, h, w = self.shape
        if self.rest is not None:
            stay, gone = y.chunk(2, 1)
            y = torch.cat([self.rest.inverse(stay, *given), gone.reshape(len(y), 2 * c, h // 2, w // 2)], 1)
        y = y.reshape(len(y), 4 * c, h // 2, w // 2)
        if self.leave is not None:
            y = self.leave.inverse(y, *given)
        return F.pixel_shuffle(self.steps.inverse(y, *given), 2)
