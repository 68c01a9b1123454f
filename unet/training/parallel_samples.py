"""Compute the gradient of a batch on a CPU with one thread per sample: the same bits for any number of threads.

```
thread 1   sample 0: forward, backward -> gradient 0 \\
thread 2   sample 1: forward, backward -> gradient 1  + -> sum in the order of the samples -> one step
thread 1   sample 2: forward, backward -> gradient 2 /
```

With many threads in each operation, all threads wait for the slowest at the end of every operation: some hundred times
a step, and most of the time where another process has one of the cores. Here the threads wait once a step. How an
operation divides its sums no longer depends on the number of threads.

A sample sees nothing of the others. Weights are shared, but each sample has a gradient of its own. Dropout draws from a
generator that is seeded for each sample. Batch normalisation connects the samples of a batch, so a network that has it
is not computed in this way (`connects_samples`).
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn


class ParallelSamples:
    """Copies of a network, one per sample of a batch, that share its weights.

    Parameters
    ----------
    model : nn.Module
        Network on a CPU without batch normalisation, in the memory layout of the training.
    samples : int
        Samples of a batch.
    threads : int
        CPU threads. More threads than samples are shared out among the samples, and sums then depend on their number.
    """

    def __init__(self, model: nn.Module, samples: int, threads: int) -> None:
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._copies = [_sharing_weights(model) for _ in range(samples)]
        self._pool = ThreadPoolExecutor(min(samples, threads), "samples") if min(samples, threads) > 1 else None
        self.threads_per_sample = max(1, threads // samples)

    def backward(self, loss_of: Callable[[nn.Module, int], Tensor], seeds: Sequence[int]) -> Tensor:
        """Set the gradients of the weights to those of the sum of the samples' losses.

        Parameters
        ----------
        loss_of : callable
            `loss_of(network, index)` is the part that a sample has in the loss, a scalar. It is called in a thread.
        seeds : sequence of int
            Seed of the dropout of each sample.

        Returns
        -------
        Tensor
            The sum of the losses, a scalar.
        """
        torch.set_num_threads(self.threads_per_sample)

        def one(index: int) -> tuple[Tensor, list[Tensor]]:
            return self._one(self._copies[index], index, seeds[index], loss_of)

        in_turn = self._pool.map if self._pool else map
        parts = iter(in_turn(one, range(len(self._copies))))
        loss, gradients = next(parts)
        for more, others in parts:
            loss = loss + more
            for gradient, other in zip(gradients, others, strict=True):
                gradient.add_(other)
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        return loss

    def _one(
        self, network: nn.Module, index: int, seed: int, loss_of: Callable[[nn.Module, int], Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return loss and gradients of one sample."""
        network.train()
        for module in network.modules():
            if isinstance(module, SeededDropout):
                module.generator.manual_seed(seed)
        loss = loss_of(network, index)
        gradients = torch.autograd.grad(loss, self._weights, allow_unused=True, materialize_grads=True)
        return loss.detach(), list(gradients)


def connects_samples(model: nn.Module) -> bool:
    """Return whether what a network computes of one sample depends on the others, as in batch normalisation."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


class SeededDropout(nn.Module):
    """Dropout whose mask is drawn from a generator of its own; PyTorch's is shared by all threads of a process."""

    def __init__(self, probability: float, generator: torch.Generator) -> None:
        super().__init__()
        self.probability, self.generator = probability, generator

    def forward(self, x: Tensor) -> Tensor:
        """Set each feature to 0 with the probability, and divide the others by the share that is kept."""
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        return x * torch.empty_like(x).bernoulli_(keep, generator=self.generator).div_(keep)


def _sharing_weights(model: nn.Module) -> nn.Module:
    """Return a copy of a network with the same weights, and dropout that can be seeded."""
    network = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
    generator = torch.Generator()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, SeededDropout(child.p, generator))
    return network
