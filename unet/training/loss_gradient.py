"""The gradient of a step's loss: of the whole batch at once, or on a CPU with one thread per sample.

The loss is a sum over the tiles of all ranks. So each rank, and each thread, sets the gradient of its own part.
"""

import numpy as np
import torch
from torch import Tensor, nn

from unet.config.train import TrainConfig
from unet.network.centre_crop import centre_crop
from unet.network.precision import choose_precision
from unet.training.device_batch import DeviceBatch
from unet.training.distributed import Rank
from unet.training.loss import Objective
from unet.training.parallel_samples import ParallelSamples

COMPILE_FROM_STEPS = 2000
"""Steps from which compiling pays: it takes about a minute."""


class LossGradient:
    """Compute the loss of a network and its gradient.

    Parameters
    ----------
    model : nn.Module
        Network on the device, in the memory layout of the training.
    config : TrainConfig
        Section `train` of the configuration.
    device : torch.device
    rank : Rank
        This process among several that train together.
    objective : Objective
        The loss.
    threads : int
        CPU threads of the samples of a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        device: torch.device,
        rank: Rank,
        objective: Objective,
        threads: int,
    ) -> None:
        self._model, self._config, self._device, self._rank, self._objective = model, config, device, rank, objective
        self._bfloat16 = choose_precision(config.precision, device) == "bfloat16"
        compiles = config.compile == "always" or (
            config.compile == "auto" and device.type == "cuda" and config.steps >= COMPILE_FROM_STEPS
        )
        in_parallel = device.type == "cpu" and config.batch > 1 and not compiles
        self._samples = ParallelSamples(model, config.batch, threads) if in_parallel else None
        self._forward = model if in_parallel else rank.parallel(model)  # which averages gradients over the ranks
        if compiles:
            self._forward = torch.compile(self._forward)  # type: ignore[assignment]

    def set(self, batch: DeviceBatch, counts: Tensor, step: int) -> Tensor:
        """Set the gradients of the loss over the tiles of all ranks, and return this rank's part of it."""
        if self._samples is None:
            loss = self._loss(self._forward, batch, counts)
            (loss * self._rank.count).backward()  # gradients of ranks are averaged, but parts of a loss must be summed
            return loss
        first, seed = self._rank.index * self._config.batch, self._config.seed
        seeds = [seed_of_step(seed, step, first + index) for index in range(self._config.batch)]
        loss = self._samples.backward(lambda network, i: self._loss(network, batch.sample(i), counts), seeds)
        for weight in self._model.parameters():
            if weight.grad is not None:
                self._rank.sum_over_ranks(weight.grad)
        return loss

    def _loss(self, network: nn.Module, batch: DeviceBatch, counts: Tensor) -> Tensor:
        """Return the part of these tiles in the loss over the tiles of all ranks."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16, cache_enabled=False):
            logits = network(batch.raw)
        # A zero-padded network returns more than the tile's output. Its border depends on the padding, and is left out.
        logits = centre_crop(logits, batch.target.shape[-(logits.ndim - 2) :])
        return self._objective.loss(logits, batch.target, batch.weight, counts)


def seed_of_step(seed: int, step: int, rank: int = 0) -> int:
    """Return the seed of one step on one rank, which differs from every other step and rank."""
    parts = [seed % 2**64, step] if rank == 0 else [seed % 2**64, step, rank]
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
