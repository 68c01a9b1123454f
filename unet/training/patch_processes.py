"""Prepare training patches in processes of their own, so that a GPU never waits for the interpreter.

A step on a GPU is a thousand short calls of one Python thread. Threads that prepare patches take the interpreter's lock
from it, and their tensor operations start threads of their own. Each process here has one thread and one interpreter:

```
process 0   batch 0   batch n      ...      batches in shared memory, two in advance per process
process 1   batch 1   batch n + 1  ...   ->  trainer: pinned memory -> GPU, in the order of the steps
```

A batch is a function of its step alone. The batches are therefore those of `PatchSampler.batches`, for any number of
processes.
"""

import logging
import shutil
import signal
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from unet.config.train import TrainConfig
from unet.jobs.device_capacity import keep_freed_memory
from unet.training.distributed import Rank
from unet.training.patches import AHEAD, Batch, CachedVolume, PatchSampler

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps shared memory; a container often has 64 MiB of it."""
FROM_BATCHES = 500
"""Batches from which processes pay: they take seconds to start."""

log = logging.getLogger(__name__)


class _Batches(Dataset[tuple[torch.Tensor, ...]]):
    """The batches of a training by their step, as tensors."""

    def __init__(self, sampler: PatchSampler, first: int, count: int) -> None:
        self.sampler, self.first, self.count = sampler, first, count

    def __getitem__(self, step: int) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(part) for part in self.sampler.batch(step, self.first, self.count))


def prepared_batches(
    sampler: PatchSampler, start: int, config: TrainConfig, rank: Rank, threads: int, device: torch.device
) -> Generator[Batch, None, None]:
    """Yield the batches of a rank from step `start` to the end of the training, prepared by processes or threads.

    Parameters
    ----------
    sampler : PatchSampler
    start : int
        First step.
    config : TrainConfig
        Steps, and patches per step of a rank.
    rank : Rank
    threads : int
        Number of processes for a GPU, if there are many steps and memory for their batches; else of threads.
    device : torch.device
        Device of the training.
    """
    first, stop, count = rank.index * config.batch, config.steps, config.batch
    many = threads > 1 and stop - start >= FROM_BATCHES
    if not (device.type == "cuda" and many and rank.may_start_processes and isinstance(sampler, PatchSampler)):
        return sampler.batches(start, stop, threads=threads, first=first, count=count)
    batch = sampler.batch(start, first, count)  # its size tells whether processes fit
    if processes_fit(sum(part.nbytes for part in batch), threads):
        return _followed(batch, batches_of_processes(sampler, start + 1, stop, threads, first, count))
    return _followed(batch, sampler.batches(start + 1, stop, threads=threads, first=first, count=count))


def _followed(batch: Batch, others: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
    with closing(others):
        yield batch
        yield from others


def batches_of_processes(
    sampler: PatchSampler, start: int, stop: int, processes: int, first: int = 0, count: int | None = None
) -> Generator[Batch, None, None]:
    """Yield the batches of steps `start .. stop - 1` in order, prepared by processes, in pinned memory.

    Parameters
    ----------
    sampler : PatchSampler
        Sampler whose volumes can be sent to a process. The processes divide the memory of its caches.
    start, stop : int
        First step, and the step after the last one.
    processes : int
        Number of processes.
    first, count : int
        Patches of each step: `first .. first + count - 1`.

    Yields
    ------
    Batch
        Its arrays share the memory of the tensors that the processes filled.
    """
    batches = _Batches(sampler, first, sampler.batch_size if count is None else count)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=processes,
        worker_init_fn=_begin,
        prefetch_factor=AHEAD,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="spawn",  # a fork of a process that uses CUDA or threads may hang
    )
    iterator: Any = iter(loader)
    try:
        for tensors in iterator:
            yield Batch(*tensors)
    finally:
        iterator._shutdown_workers()  # an error's traceback keeps the iterator, so its end would not end the processes


def processes_fit(batch_bytes: int, processes: int) -> bool:
    """Return whether shared memory holds the batches that processes prepare in advance; log it if it does not."""
    if not SHARED_MEMORY.is_dir():
        return False
    needed, free = 2 * (AHEAD * processes + 1) * batch_bytes, shutil.disk_usage(SHARED_MEMORY).free
    if needed > free:
        log.info(
            "patches are prepared by threads, since %s has %d MB free and processes would need %d MB",
            SHARED_MEMORY,
            free // 10**6,
            needed // 10**6,
        )
    return needed <= free


def _begin(_: int) -> None:
    """Set up a process: the trainer stops it, no signal does; it has a part of the memory for caches.

    Freed memory is kept. Each patch takes hundreds of megabytes in pieces, and the kernel would clear each page anew.
    """
    keep_freed_memory()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    worker: Any = torch.utils.data.get_worker_info()
    for volume in worker.dataset.sampler.volumes:
        for part in (volume.raw, volume.targets, volume.weights):
            if isinstance(part, CachedVolume):
                part.limit(1 / worker.num_workers)
