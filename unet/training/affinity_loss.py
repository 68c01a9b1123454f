"""The loss of affinities: binary cross-entropy, with both classes balanced in each channel.

With the logit z of a pair, its probability a = sigmoid(z) and its target t in {0, 1},

```
E = 1/n sum_k sum_pairs v b_k(t) (- t log a - (1 - t) log(1 - a)),     n = pairs that count, of all channels
```

Balance. Most neighbours belong to one object, so a network that answers "one object" everywhere is nearly right. Let
s_k be the share of pairs with t = 1 among those of channel k, kept within `smallest_share` and 1 - `smallest_share`:

```
b_k(1) = 1 / (2 s_k),    b_k(0) = 1 / (2 (1 - s_k)),    s_k b_k(1) + (1 - s_k) b_k(0) = 1
```

Both classes then have the same weight in total, and the mean weight of a pair is 1. So one learning rate serves
balanced and unbalanced losses. The bounds keep a channel with few pairs of a class from gradients that rest on them
alone.

The share is a running one, s_k = P_k / N_k. With p_k pairs of target 1 and n_k pairs in the batch of a step, over all
its patches and ranks,

```
P_k <- r P_k + p_k,    N_k <- r N_k + n_k,    r = 0.99
```

The share of a patch alone is no choice: a patch within one body has the share 1, and the minimum of E would be another
one for each patch. P and N are a part of the training's state (`AffinityLoss.state`), so that a resumed training
continues bit for bit.

Gradient. Since d a / d z = a (1 - a), the derivative of E with respect to the logit of a pair is
`v b_k(t) (a - t) / n`.

The sum is divided by the number n of pairs, not by the sum of weights, for the reasons given in
`unet.training.loss.weighted_cross_entropy`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from unet.config.label_kinds import UNLABELLED
from unet.network.centre_crop import channels_last

MEMORY = 0.99
"""Factor r by which earlier steps count less in the running share: about 100 steps count."""


class AffinityLoss:
    """The loss of a training that learns affinities; see `unet.training.loss.Objective`.

    Parameters
    ----------
    smallest_share : float or None
        Bound of the share of a class, above 0 and up to 0.5; None leaves the classes unbalanced.
    """

    def __init__(self, smallest_share: float | None = 0.05) -> None:
        self.smallest_share = smallest_share
        self.state: Tensor | None = None
        """Running counts P and N of each channel, float64 `(K, 2)`; None before the first step."""

    def counts(self, target: Tensor, weight: Tensor) -> Tensor:
        """Return the pairs of target 1 and the pairs that count of each channel, int64 `(2 K,)`.

        The counts of the parts of a batch add up to those of the batch.
        """
        channels = target.movedim(1, 0).flatten(1)
        return torch.stack([(channels == 1).sum(1), (channels != UNLABELLED).sum(1)], dim=1).flatten()

    def begin_step(self, counts: Tensor) -> None:
        """Take the counts of a step's whole batch into the running shares."""
        new = counts.double().reshape(-1, 2)
        self.state = new if self.state is None else MEMORY * self.state.to(new.device) + new

    def loss(self, logits: Tensor, target: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
        """Return the part of E that a part of the batch contributes, a scalar, float32.

        Parameters
        ----------
        logits : Tensor
            `(n, K, *size)` of any floating type; the loss is computed in float32.
        target : Tensor
            `(n, K, *size)`, uint8: 1 one object, 0 not, 255 does not count.
        weight : Tensor
            Weight v of each pair, float32, of the shape of `target` or one that broadcasts to it.
        counts : Tensor
            Counts of the whole batch, of all ranks.

        Returns
        -------
        Tensor
            0 with zero gradients where no pair counts.
        """
        layout = channels_last(
            logits.ndim - 2
        )  # that of the logits; operations on two layouts take several times as long
        target = target.contiguous(memory_format=layout)
        truth, known = (target == 1).float(), target != UNLABELLED
        weights = weight * known
        if self.smallest_share is not None and self.state is not None:
            share = positive_share(self.state, self.smallest_share).float()
            share = share.reshape(1, -1, *(1,) * (target.ndim - 2))
            of_one, of_other = 0.5 / share, 0.5 / (1 - share)
            weights *= (truth * (of_one - of_other)).add_(of_other)
        pairs = counts.reshape(-1, 2)[:, 1].sum().clamp(min=1)
        loss: Tensor = _WeightedCrossEntropy.apply(logits.float(), truth, weights.div_(pairs))
        return loss


class _WeightedCrossEntropy(torch.autograd.Function):
    """Sum of weighted binary cross-entropies of logits; its gradient is computed with it, in one go."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
        """Return `sum v (log(1 + exp z) - t z)`, a scalar."""
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(torch.sigmoid(logits).sub_(truth).mul_(weights))
        return (softplus(logits) - logits * truth).mul_(weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return `v (sigmoid(z) - t)`, times the gradient of the sum."""
        (of_logits,) = ctx.saved_tensors
        return of_logits * grad, None, None


def positive_share(counts: Tensor, smallest: float) -> Tensor:
    """Return the share of pairs of one object in each channel, within the bounds.

    Parameters
    ----------
    counts : Tensor
        Pairs of target 1 and pairs that count, float64 `(K, 2)`.
    smallest : float
        Smallest share; 1 less this is the largest.

    >>> positive_share(torch.tensor([[3, 4], [0, 0], [9, 9]]).double(), 0.05).tolist()
    [0.75, 0.05, 0.95]
    """
    return (counts[:, 0] / counts[:, 1].clamp(min=1)).clamp(smallest, 1 - smallest)
