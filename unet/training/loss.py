"""The weighted cross-entropy of the U-Net paper, and the interface of any loss of a training."""

from typing import Protocol

from torch import Tensor
from torch.nn.functional import cross_entropy

from unet.config.label_kinds import UNLABELLED


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor, labelled: Tensor | None = None) -> Tensor:
    """Return the weighted pixel-wise cross-entropy: equation 1 of the paper, with the minus sign it leaves out.

    ```
    E = - 1/n sum_x w(x) log p_l(x)(x),    p = softmax(logits),    n = labelled pixels
    ```

    The paper's sum is divided by the number of labelled pixels (`target` not 255 and `weight` > 0). So one learning
    rate serves every tile size, batch and share of annotated pixels. The sum is not divided by the sum of the weights.
    That would cancel the emphasis on a tile with many touching cells. The logarithm of the softmax is computed as one
    function and does not overflow.

    Parameters
    ----------
    logits : Tensor
        `(n, K, *size)` of any floating type; the loss is computed in float32.
    target : Tensor
        Class indices `(n, *size)`, int64 or uint8; 255 is unlabelled.
    weight : Tensor
        w(x) of equation 2, `(n, *size)`, float32, not negative; 0 is unlabelled.
    labelled : Tensor, optional
        The number n of labelled pixels; by default of these tiles. A part of a batch needs the n of the whole batch.

    Returns
    -------
    Tensor
        A scalar, float32; 0 with zero gradients where nothing is labelled.

    Source: Ronneberger, Fischer, Brox 2015, equations 1 and 2.
    """
    pixel_loss = cross_entropy(logits.float(), target.long(), ignore_index=UNLABELLED, reduction="none")
    if labelled is None:
        labelled = labelled_pixels(target, weight)
    return (pixel_loss * weight).sum() / labelled.clamp(min=1)


def labelled_pixels(target: Tensor, weight: Tensor) -> Tensor:
    """Return the number n of labelled pixels in `weighted_cross_entropy`, a scalar int64."""
    return ((target != UNLABELLED) & (weight > 0)).sum()


class Objective(Protocol):
    """The loss of a training. A step asks for the counts of its whole batch first, then for the loss of each part."""

    state: Tensor | None
    """What the loss remembers of earlier steps; a part of the training's state."""

    def counts(self, target: Tensor, weight: Tensor) -> Tensor:
        """Return the counts of a part of a batch, int64 `(m,)`; those of parts add up to those of the batch."""

    def begin_step(self, counts: Tensor) -> None:
        """Take in the counts of a step's whole batch, over all ranks."""

    def loss(self, logits: Tensor, target: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
        """Return the part of the batch's loss that a part of the batch contributes, a scalar float32."""


class WeightedCrossEntropy:
    """`weighted_cross_entropy` as the loss of a training that learns classes; it remembers nothing."""

    state: Tensor | None = None

    def counts(self, target: Tensor, weight: Tensor) -> Tensor:
        """Return the number of labelled pixels, int64 `(1,)`."""
        return labelled_pixels(target, weight).reshape(1)

    def begin_step(self, counts: Tensor) -> None:
        """Do nothing."""

    def loss(self, logits: Tensor, target: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
        """Return this part's share of equation 1."""
        return weighted_cross_entropy(logits, target, weight, counts[0])
