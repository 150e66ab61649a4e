"""Models whose rows are decoded from a vector z: p(x | z) = observation(decoder(z)).

    h    = features(x)                    bits, other cells standardised, missing ones at 0
    g    = 1 where x is missing, else 0   where the training rows have gaps
    code = encoder(h, g) + A h            what q(z | x), or z itself, is made of
    p    = decoder(z) + offset + B z      the observation's parameters, cell after cell

The offset is the best model without z; A and B are a linear path (``line.py``), where there is one.
Missing cells drop out of p(x | z).
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from genus.distributions.columns import check_observed
from genus.distributions.observation import LIKELIHOODS, Normal, Observation, observe
from genus.encoder import Encoder
from genus.learn.fit import Fit
from genus.learn.rows import Rows, generator
from genus.learn.trainer import Trainer, batch_of
from genus.model import Model
from genus.models.latent.line import WIDEST, Line
from genus.networks.blueprints import BLUEPRINT, MLP, Blueprint
from genus.networks.conditions import Conditions
from genus.networks.layers import Linear, output_layer
from genus.settings import Number, OneOf, Rule, Whole
from genus.space import Space

FIRST = 1 << 17  # rows from which columns are learned, at most
LARGEST = 1e15  # feature: the square of what comes of it is still a number in float32
MOST = 4_000_000  # cells that are read before learning starts, at most


class Decoded(Encoder, Model):
    """The base of models of one vector z a row, with its observation, encoder and decoder.

    A family says how many numbers its encoder puts out, ``code_size``, writes ``losses`` and its
    verbs, and stores the arguments below. ``start_spread`` sets the posterior where the linear
    path knows it.
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "latent_dim": Whole(1),
        "encoder": BLUEPRINT | None,
        "decoder": BLUEPRINT | None,
        "likelihood": OneOf("auto", *LIKELIHOODS),
        "variance": Number(above=0) | None,
        "marginals": OneOf("learned", "affine") | None,
    }
    earlier_marginals = "affine"  # what files of before had
    allow_nan = True
    conditions = "optional"
    may_use_bfloat16 = True
    # where files of before had tensors that now belong to a part
    earlier_names: ClassVar[dict[str, str]] = {
        "shift_": "features_.shift_",
        "scale_": "features_.scale_",
        "offset_": "output_.offset_",
        "project_.weight": "line_.project_.weight",
        "expand_.weight": "line_.expand_.weight",
    }

    gaps_: bool = False  # have the training rows gaps, and is the encoder told of them?

    latent_dim: int
    encoder: Blueprint | None
    decoder: Blueprint | None
    likelihood: str
    variance: float | str | None
    marginals: str | None
    observation_: Observation
    features_: Features
    encoder_: nn.Module
    decoder_: nn.Module
    output_: Output
    line_: Line | None
    context_: Conditions

    # ------------------------------------------------------------------ the model

    def code(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """What the encoder puts out, (n, code_size), the linear path added to the first numbers."""
        return self.code_of(self.features(x), given, self._gap(x) if self.gaps_ else None)

    def code_of(self, h: Tensor, given: Tensor | None = None, gap: Tensor | None = None) -> Tensor:
        """The same of features h, of which cells ``gap`` (n, d) are missing; None: none is."""
        seen = torch.cat([h, self._indicators(h, gap)], 1) if self.gaps_ else h
        raw: Tensor = self.encoder_(seen, *self._context(given)).float()
        if self.line_ is None:
            return raw
        first, others = raw[:, : self.latent_dim], raw[:, self.latent_dim :]
        return torch.cat([first + self.line_.project(h), others], 1)

    def _gap(self, x: Tensor) -> Tensor:
        """Which cells are missing, (n, d)."""
        return torch.isnan(self._split(x.flatten(1))[0])

    def _indicators(self, h: Tensor, gap: Tensor | None) -> Tensor:
        """1 for each missing cell, in the shape of features h: (n, d) or (n, C, H, W)."""
        if gap is None:
            gap = h.new_zeros(len(h), self.space_.dim)
        image = self.space_.image_shape
        return (gap.reshape(len(h), *image) if image else gap).to(h.dtype)

    def features(self, x: Tensor) -> Tensor:
        """What the encoder sees: bits, other cells standardised, missing ones at their mean.

        Where marginals are learned: scores of numbers, a 1 for each word, all standardised.
        """
        out: Tensor = self.features_(self._seen(x.flatten(1)), self._whole(x))
        return out

    def log_likelihood(self, z: Tensor, x: Tensor, given: Tensor | None = None) -> Tensor:
        """log p(x | z) of the observed cells; z (..., n, latent_dim), x (n, *shape) → (..., n)."""
        return self._log_likelihood(z, x.flatten(1), given)

    def parameters_of(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """The observation's parameters, (..., n_out), cell after cell; z (..., n, latent_dim)."""
        flat = z.reshape(-1, self.latent_dim)
        context = [c.repeat(len(flat) // len(c), 1) for c in self._context(given)]
        p = self.output_(self.decoder_(flat, *context).float())
        p = p.reshape(*z.shape[:-1], -1)
        return p if self.line_ is None else p + self.line_.expand(z)

    def _log_likelihood(self, z: Tensor, cells: Tensor, given: Tensor | None = None) -> Tensor:
        return self._log_p(self.parameters_of(z, given), cells)

    def _log_p(self, p: Tensor, cells: Tensor) -> Tensor:
        """log p(cells | parameters p) of the observed cells, (...)."""
        if self._whole(cells):
            return self.observation_.log_prob(p, *self._split(cells)).sum(-1)
        gap = torch.isnan(cells)
        each = self.observation_.log_prob(p, *self._split(cells.masked_fill(gap, 0.0)))
        return each.masked_fill(self._split(gap)[0], 0.0).sum(-1)

    def _context(self, given: Tensor | None) -> tuple[Tensor, ...]:
        """What the networks see of conditions, (n, g); () without."""
        return () if given is None else self.context_.seen(given, self.features_.shift_.dtype)

    # ------------------------------------------------------------------ construction

    def code_size(self) -> int:
        """Numbers that the encoder puts out, the first ``latent_dim`` of them a place in z."""
        return self.latent_dim

    def before_build(self, rows: Rows) -> None:
        self.gaps_ = _any_gap(rows)

    def build(self, space: Space) -> None:
        self._learned = self._learns_marginals(space)
        self.observation_ = self._observe(space)
        n_out, d = self.observation_.n_out, space.dim
        if self._learned:
            d = len(self.observation_.places)
        image = space.image_shape
        default = MLP(512 if d > 256 else 256, 2, "silu")
        context = 0
        if hasattr(self, "given_space_"):
            self.context_ = Conditions(self.given_space_)
            context = self.context_.width
        code, z = (self.code_size(),), (self.latent_dim,)
        seen = image or (d,)
        if self.gaps_:  # a channel of indicators for each, or an indicator a column
            seen = (2 * image[0], *image[1:]) if image else (d + space.dim,)
        self.encoder_ = self.make_network(self.encoder, seen, code, default, context)
        per_cell = self.observation_.per_cell
        out = (per_cell * image[0], *image[1:]) if image else (n_out,)
        self.decoder_ = self.make_network(self.decoder, z, out, default, context)
        self.output_ = Output(n_out, image, output_layer(self.decoder_))
        self.features_ = Features(d, space)
        path = (self._learned or isinstance(self.observation_, Normal)) and d <= WIDEST
        self.line_ = Line(d, self.latent_dim, n_out, self.rng) if path else None

    def _observe(self, space: Space) -> Observation:
        """p(x | parameters) of rows of a space."""
        return observe(space, self.likelihood, self.variance, self._learned)

    def _learns_marginals(self, space: Space) -> bool:
        """Are numbers observed by their scores, and words seen one by one?"""
        stated = self.marginals == "learned"
        if self.marginals is None:
            plain = self.variance is None and self.likelihood == "auto"
            image = space.layout is not None and space.kind != "integer"
            stated = plain and space.kind not in ("binary", "ordinal") and not image
        units = {"variance": self.variance, "likelihood": self.likelihood}
        for name, value in units.items():
            if stated and value not in (None, "auto", "bernoulli", "categorical"):
                raise ValueError(
                    f"{name}={value!r} is in the units of the data, which learned marginals "
                    f"leave: use marginals='affine', or leave {name} out"
                )
        return stated

    # ------------------------------------------------------------------ learning

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Learn the columns' own distributions."""
        if self._learned:
            x = rows.look(FIRST, self.rng)[0].flatten(1)
            check_observed(self.space_, (~torch.isnan(x)).any(0))
            self.observation_.fit(x)

    def defaults(self, n: int) -> Trainer:
        batch = batch_of(n, 20, 16, 256)
        epochs = min(300, max(40, 2500 * batch // max(n, 1)))  # about 2,500 steps
        share = 0.1 if n >= 50 else 0.0
        return Trainer(
            epochs=epochs,
            batch_size=batch,
            lr=1e-3,
            optimizer="adamw",
            weight_decay=0.01,
            validation=share,
        )

    def learn(self, fit: Fit) -> None:
        """Descend; where they are not too many, all cells are read once before."""
        few = len(fit.rows) * self.space_.dim <= MOST
        if self._learned and few and isinstance(fit.rows.x, Tensor):
            fit.rows = self._all_read(fit.rows)
            fit.held = self._all_read(fit.held) if fit.held is not None else None
        super().learn(fit)

    @torch.no_grad()
    def _all_read(self, rows: Rows) -> Rows:
        """Rows with what the observation reads of them beside."""
        out = copy.copy(rows)
        size = 1 + 500_000 // self.space_.dim
        out.x = rows.mapped(lambda x, *_: self._read(x.flatten(1)), self.rng, size).x
        return out

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        self._no_gaps = not (self.gaps_ or _any_gap(rows))
        x, *given = rows.look(65536, self.rng)
        x = self._split(x.flatten(1))[0]
        if given:
            self.context_.fit(given[0])
        offset = self.observation_.offset(x)  # standardises real cells as well
        if isinstance(self.observation_, Normal):
            self.features_.take(self.observation_.shift, self.observation_.scale, self._learned)
        else:
            self.features_.fit(self._seen(x).double(), self._learned)
        # start near the model without a latent variable
        for network in (self.encoder_, self.decoder_):
            if (last := output_layer(network)) is not None:
                last.weight.mul_(0.3 if self.line_ is None else 0.0)
        self.output_.start(offset, output_layer(self.decoder_))
        if self.line_ is None:
            return
        if self._learned:
            shift, scale = self.features_.shift_.double(), self.features_.scale_.double()
            h = (self._seen(x).double() - self.features_.shift_) / self.features_.scale_
            spread = self.line_.start_at_factors(h, self.observation_, shift, scale)
        else:
            normal: Any = self.observation_
            spread, noise = self.line_.start_at_pca(normal.standardised(x))
            normal.start_at_noise(noise)
        self.start_spread(spread)

    def start_spread(self, s: Tensor) -> None:
        """Set the standard deviations of q(z | x) of the first latent dimensions, 1 for others."""

    # ------------------------------------------------------------------ cells

    def _shaped(self, cells: Tensor) -> Tensor:
        """Cells (…, d) as codes (…, *cell_shape)."""
        return cells.reshape(*cells.shape[:-1], *self.space_.cell_shape)

    def _seen(self, x: Tensor) -> Tensor:
        """Cells x as features, before they are standardised."""
        return self.observation_.features(*self._split(x)) if self._learned else x

    def _read(self, x: Tensor) -> Tensor:
        """Cells (n, d) with what the observation reads of them beside, (n, d + …)."""
        return torch.cat([x, self.observation_.read(x)], 1) if self._learned else x

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Cells, and what was read of them, where it stands beside."""
        d = self.space_.dim
        return (x, None) if x.shape[1] == d else (x[:, :d], x[:, d:])

    def _whole(self, x: Tensor) -> bool:
        """Is nothing missing? In training it was seen once for all."""
        return self._no_gaps if self.training else not bool(torch.isnan(x).any())

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim

    def _decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        return self._shaped(self.observation_.mean(self.parameters_of(z, given)))


def _any_gap(rows: Rows) -> bool:
    """Is a cell of the rows missing?"""
    batches = rows.chunks(65536, generator(0))
    return any(bool(torch.isnan(x).any()) for x, *_ in batches)


class Features(nn.Module):
    """Features of rows as the encoder sees them: (h − shift) / scale, and 0 where h is missing.

    Bits stay as they are.
    """

    shift_: Tensor
    scale_: Tensor

    def __init__(self, d: int, space: Space) -> None:
        super().__init__()
        self.bits, self.table = space.kind == "binary", space.kind == "table"
        self.image = space.image_shape
        self.shape = self.image or (d,)
        self.register_buffer("shift_", torch.zeros(d))
        self.register_buffer("scale_", torch.ones(d))

    def forward(self, h: Tensor, whole: bool) -> Tensor:
        """(n, d) → (n, d) or (n, C, H, W); whole: nothing is missing."""
        h = h if whole else torch.where(torch.isnan(h), self.shift_, h)
        if not self.bits:
            h = ((h - self.shift_) / self.scale_).clamp(-LARGEST, LARGEST)
        h = h.float()
        return h.reshape(len(h), *self.image) if self.image else h

    def fit(self, h: Tensor, learned: bool) -> None:
        """Take mean and standard deviation of features h (n, d), NaN left out."""
        mean = torch.nanmean(h, 0).nan_to_num()
        self.take(mean, torch.nanmean((h - mean).square(), 0).nan_to_num().sqrt(), learned)

    def take(self, mean: Tensor, std: Tensor, learned: bool) -> None:
        """Take a mean and a standard deviation, which is kept from 0."""
        self.shift_.copy_(mean)
        if learned:  # a rare word counts no more than one of a hundred rows
            self.scale_.copy_(std.clamp_min(0.1))
            return
        overall = std.new_zeros(()) if self.table else std.square().mean().sqrt()
        self.scale_.copy_(torch.maximum(std, 0.1 * overall).where(std > 0, torch.ones_like(std)))


class Output(nn.Module):
    """What the decoder's network puts out as parameters of the observation, cell after cell.

    The best parameters without z are added. Where the network's last layer has a bias for each of
    them, that holds them, else ``offset_`` does.
    """

    offset_: Tensor

    def __init__(
        self, n_out: int, image: tuple[int, int, int] | None, last: nn.Module | None
    ) -> None:
        super().__init__()
        self.image = image
        bias = last.bias if isinstance(last, Linear) else None
        self.biased = bias is not None and len(bias) == n_out
        if not self.biased:
            self.offset_ = nn.Parameter(torch.zeros(n_out))

    def forward(self, out: Tensor) -> Tensor:
        """(n, n_out), or (n, P·C, H, W) of images → (n, n_out)."""
        if self.image is not None:
            c, h, w = self.image
            out = out.reshape(len(out), -1, c, h, w).permute(0, 2, 3, 4, 1)
        out = out.reshape(len(out), -1)
        return out if self.biased else out + self.offset_

    def start(self, offset: Tensor, last: Any) -> None:
        """Take the best parameters without z, (n_out,)."""
        if not self.biased:
            self.offset_.copy_(offset)
        elif self.image is None:
            last.bias.copy_(offset)
        else:  # the outputs of images stand parameter after parameter
            cells = self.image[0] * self.image[1] * self.image[2]
            last.bias.copy_(offset.reshape(cells, -1).T.flatten())
