r"""The variational bound of a chain of ancestral steps.

    log p(x_0) ≥ E_q[log p(x_0 | x_1)] − Σ_i KL[q(x_{i−1} | x_i, x_0) ‖ p(x_{i−1} | x_i)]
                 − KL[q(x_n | x_0) ‖ p(x_n)]

with x_1 … x_n at the times of the chain. All terms are of Gaussians, p's means those of the field's
data; its last step has the variance β. One noise a term and a row. (Sohl-Dickstein et al., 2015; Ho
et al., 2020.)
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from genus.distributions.points import LOG_2PI
from genus.models.diffusion.samplers import Field, Variance, posterior
from genus.models.diffusion.schedules import Schedule

Prior = tuple[Tensor, Tensor]  # mean and standard deviation of x_n


def variational_bound(
    field: Field,
    schedule: Schedule,
    x0: Tensor,
    times: Tensor,
    noise: Tensor,
    variance: Variance | str = "beta",
    prior: Prior | None = None,
) -> Tensor:
    """The bound of rows (n, d) in nats, (n,), of the chain through the times from 1 to 0.

    noise: (n, len(times) − 1, d), normal. variance: as of ``samplers.ancestral``. prior: None is
    that of standard normal data, N(0, r²).
    """
    last = times[0]
    mean, spread = prior or (x0.new_zeros(()), schedule.radius(last))
    far = (schedule.alpha(last) * x0 - mean) / spread
    share = (schedule.sigma(last) / spread).square()
    total = -0.5 * (share - share.log() - 1 + far.square()).sum(1)
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        x = schedule.alpha(t) * x0 + schedule.sigma(t) * noise[:, i]
        said, _ = field(x, t)
        true, small, beta = posterior(schedule, x, x0, t, s)
        mean, _, _ = posterior(schedule, x, said, t, s)
        if callable(variance):
            w = variance(x, t, s)
        else:
            w = beta if variance == "beta" or s == 0 else small
        wrong = (true - mean).square() / w
        if s == 0:
            each = 0.5 * (wrong + torch.log(w) + LOG_2PI)
        else:
            each = 0.5 * (small / w - torch.log(small / w) - 1 + wrong)
        total = total - each.expand(x.shape).sum(1)
    return total
