"""A deep belief network as a classifier (Hinton & Salakhutdinov, 2006; Erhan et al., 2010).

    h_l = σ(c_l + W_lᵀ(φ(h_{l−1}) − μ_l)),  h_0 = v        the recognition stack of a DBN
    p(y | v) = softmax(d + Uᵀ h_L)

The DBN learns p(v) layer by layer, from all rows, with a label or without. A copy of its
recognition stack then learns by back-propagation of

    −log p(y | v)

from the rows with a label, U from 0. Rows without one say where the stack begins.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.classifier import Classifier
from genus.encoder import Encoder
from genus.learn.descent import descend
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer
from genus.models.boltzmann.dbm import refuse_numbers
from genus.models.boltzmann.dbn import DBN
from genus.models.boltzmann.rbm import usual_trainer
from genus.networks.layers import Linear
from genus.settings import Each, OneOf, Rule, Several, Whole
from genus.space import Space

RATE = 0.1  # of Adam in fine-tuning, of that of the layers


class DBNClassifier(Encoder, Classifier):
    r"""A deep belief network whose recognition stack is fine-tuned to labels by ``fit(X, y)``.

    ``predict``, ``predict_proba`` and ``encode`` are of the fine-tuned stack. p(x) is that of the
    DBN as it was before, ``dbn_``, with its own ``log_prob``, ``sample`` and ``complete``. Rows
    whose label is None or NaN count for the DBN alone. Rows are bits, words or levels, and NaN
    marks missing cells in fit and in every verb.

    Parameters
    ----------
    n_hidden : tuple of ints, default=(128, 128)
        Sizes of the layers, the lowest first; at least one.
    method : {"pcd", "cd"}, default="pcd"
        How each layer of the DBN learns.
    k : int or pair of ints, default=1
        Gibbs steps a gradient; a pair: at the beginning and at the end of a layer.
    trainer : Trainer or None, default=None
        How each layer descends; None: as an RBM does. Fine-tuning has as many steps as a layer, by
        Adam with a tenth of the rate and no decay. Held-out rows and patience are for it.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Raises
    ------
    ValueError
        Where a column is of real numbers, for which there is RBMClassifier, or no row has a label.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.repeat([[0, 0, 1, 1], [1, 1, 0, 0]], 50, axis=0)
    >>> y = np.repeat(["left", "right"], 50)
    >>> model = genus.DBNClassifier((4, 3), random_state=0).fit(X, y)
    >>> model.predict_proba(X).shape, model.score(X, y)
    ((100, 2), 1.0)
    >>> model.dbn_.sample(1, random_state=0).shape
    (1, 4)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "n_hidden": Each(Whole(1), says="a list of sizes"),
        "method": OneOf("pcd", "cd"),
        "k": Whole(1) | Several(Whole(1), Whole(1), says="a pair of them"),
    }
    allow_nan = True
    may_lack_labels = True
    learned_by = "contrastive divergence, back-propagation"

    dbn_: Any
    network_: nn.Sequential

    def __init__(
        self,
        n_hidden: tuple[int, ...] = (128, 128),
        method: str = "pcd",
        k: int | tuple[int, int] = 1,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_hidden = n_hidden
        self.method = method
        self.k = k
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        refuse_numbers(space, "DBNClassifier", "RBMClassifier")
        dbn = DBN(self.n_hidden, self.method, self.k, trainer=self.trainer)
        self.dbn_ = self.part(dbn, space)
        layers: list[nn.Module] = []
        for layer in self.dbn_.layers_:
            layers += [Linear(*layer.W_.shape), nn.Sigmoid()]
        layers.append(Linear(int(self.n_hidden[-1]), int(self.given_space_.levels or 1)))
        self.network_ = nn.Sequential(*layers)
        for p in self.network_.parameters():
            nn.init.zeros_(p)

    def defaults(self, n: int) -> Trainer:
        return usual_trainer(n)

    # ------------------------------------------------------------------ learning

    def learn(self, fit: Fit) -> None:
        """The DBN from all rows, then p(y | x) from those with a label."""
        rows = Rows(fit.rows.x)
        rows.draw, rows.device = fit.rows.draw, fit.rows.device
        own = Fit(rows, None, fit.trainer, fit.seed, fit.resume, fit.begun)
        self.dbn_.learn_layers(own, self, 1)
        self._copy_recognition()
        seen = torch.cat([~torch.isnan(y[:, 0]) for _, y in fit.rows.chunks(8192)])
        told = Fit(
            fit.rows.subset(seen.nonzero()[:, 0]),
            fit.held,
            fit.trainer,
            fit.seed,
            fit.resume,
            fit.begun,
        )
        descend(
            self,
            told,
            stage="fine-tuning",
            optimizer="adam",
            lr=RATE * float(fit.trainer.lr or 0),
            weight_decay=0.0,
            epochs=math.ceil(int(fit.trainer.epochs or 1) * len(rows) / len(told.rows)),
        )

    @torch.no_grad()
    def _copy_recognition(self) -> None:
        """The network as the DBN reads upwards; its first layer is told φ(v) − μ."""
        for l, layer in enumerate(self.dbn_.layers_):
            own: Any = self.network_[2 * l]
            own.weight.copy_(layer.W_.T)
            own.bias.copy_(layer.c_ - layer.mu_ @ layer.W_ if l else layer.c_)

    def losses(self, x: Tensor, given: Tensor) -> Any:
        """Mean −log p(y | x) of rows with a label."""
        yield self.network_, F.cross_entropy(self._log_joint(x), given[:, 0].long())

    def validate(self, x: Tensor, given: Tensor) -> Tensor | None:
        """Mean −log p(y | x) of held-out rows with a label; None where none has one."""
        seen = ~torch.isnan(given[:, 0])
        if not bool(seen.any()):
            return None
        return F.cross_entropy(self._log_joint(x[seen]), given[seen, 0].long())

    # ------------------------------------------------------------------ hooks

    def _inputs(self, x: Tensor) -> Tensor:
        """φ(v) − μ of codes x, gaps at their means given the other cells by the DBN."""
        with torch.no_grad():
            found: Tensor = self.dbn_._heard(0, self.dbn_._states(x))
        return found

    def _log_joint(self, x: Tensor) -> Tensor:
        found: Tensor = self.network_(self._inputs(x))
        return found

    def _encode(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """Activities of the top layer of the fine-tuned stack, (n, H_L); labels change nothing."""
        found: Tensor = self.network_[:-1](self._inputs(x))
        return found

    @property
    def _n_features_out(self) -> int:
        return int(self.n_hidden[-1])
