"""Compute the gradient of a batch on a CPU with one thread per sample: the same bits for any number of threads.

```
thread 1   sample 0: forward, backward -> gradient 0 \\
thread 2   sample 1: forward, backward -> gradient 1  + -> sum in the order of the samples -> one step
thread 1   sample 2: forward, backward -> gradient 2 /
```

With many threads in each operation, all threads wait for the slowest at the end of every operation: some hundred times
a step, and most of the time where another process has one of the cores. Here the threads wait once per step. How an
operation divides its sums no longer depends on the number of threads.

Weights are shared, but each sample has a gradient of its own. Dropout draws from a generator that is seeded for each
sample. Batch normalisation alone connects the samples: it takes its statistics over the whole batch, and the threads
wait once more at each of its layers, forward and backward (`unet.training.batch_statistics`).
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import BrokenBarrierError

import torch
from torch import Tensor, nn

from unet.training.batch_statistics import SampleBatchNorm, SampleExchange


class ParallelSamples:
    """Copies of a network, one per sample of a batch, that share its weights.

    Parameters
    ----------
    model : nn.Module
        Network on a CPU, in the memory layout of the training.
    samples : int
        Samples of a batch.
    threads : int
        CPU threads. More threads than samples are shared out among the samples, and sums then depend on their number.
    """

    def __init__(self, model: nn.Module, samples: int, threads: int) -> None:
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._exchange = SampleExchange(samples, min(samples, threads))
        self._copies = [_of_one_sample(model, sample, self._exchange) for sample in range(samples)]
        workers = samples if connects_samples(model) else min(samples, threads)
        self._pool = ThreadPoolExecutor(workers, "samples") if workers > 1 else None
        self.threads_per_sample = max(1, threads // samples)
        torch.set_num_threads(self.threads_per_sample)

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
        torch.set_num_threads(self.threads_per_sample)  # a validation may have changed it
        self._exchange.begin_step()

        def one(index: int) -> tuple[Tensor, list[Tensor]]:
            with self._exchange.computing:
                try:
                    return self._one(self._copies[index], index, seeds[index], loss_of)
                except BaseException:
                    self._exchange.fail()
                    raise

        parts = iter(self._in_turn(one))
        loss, gradients = next(parts)
        for more, others in parts:
            loss = loss + more
            for gradient, other in zip(gradients, others, strict=True):
                gradient.add_(other)
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        return loss

    def _in_turn(self, one: Callable[[int], tuple[Tensor, list[Tensor]]]) -> list[tuple[Tensor, list[Tensor]]]:
        """Return the results of all samples, or raise the first error that is not a consequence of another."""
        indices = range(len(self._copies))
        if self._pool is None:
            return [one(index) for index in indices]
        futures = [self._pool.submit(one, index) for index in indices]
        wait(futures)
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, BrokenBarrierError)):
            raise error
        return [future.result() for future in futures]

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


def _of_one_sample(model: nn.Module, sample: int, exchange: SampleExchange) -> nn.Module:
    """Return a copy of a network that computes one sample of a batch, with the same weights and running statistics."""
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    network = copy.deepcopy(model, shared)
    generator = torch.Generator()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, SeededDropout(child.p, generator))
            elif isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(module, name, SampleBatchNorm(child, sample, exchange))
    return network
