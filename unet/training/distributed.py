"""Train one model with several processes, one per GPU, by torch's distributed data parallel.

```
parent  rank 0   its patches -> gradient --+-- mean over ranks -> the same step everywhere; writes state and curve
child   rank 1   its patches -> gradient --+
...
```

The parent is rank 0, so its log, signals and errors are those of the job. A child ends when its parent ends, for
whatever reason. When a child dies, the job ends.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import SpawnProcess
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

TIMEOUT = timedelta(minutes=30)
"""Time that a rank waits for another rank; it exceeds the time of a validation."""
GRACE_S = 20.0
"""Seconds between the death of a child and the forced end of a parent that has not noticed it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rank:
    """Rank `index` of `count` processes."""

    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Return whether this process is the main one, which writes files and logs."""
        return self.index == 0

    @property
    def may_start_processes(self) -> bool:
        """Return whether this process may start processes. The children of `run_ranks` may not."""
        return not multiprocessing.current_process().daemon

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Return the sum of values over all ranks, in place and equal on every rank."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def parallel(self, model: nn.Module) -> nn.Module:
        """Wrap the model so that gradients are averaged over the ranks after each backward pass.

        On GPUs, batch normalisation takes its statistics over all ranks. PyTorch supports this on GPUs only.
        """
        if self.count == 1:
            return model
        on_gpu = next(model.parameters()).is_cuda
        if on_gpu:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        # buffers are running means and variances: all ranks use rank 0's, which are the ones saved
        return nn.parallel.DistributedDataParallel(model, device_ids=[torch.cuda.current_device()] if on_gpu else None)


SINGLE_PROCESS = Rank()


def run_ranks(devices: Sequence[torch.device], work: Callable[[Rank, torch.device], Any]) -> Any:
    """Call `work` in one process per device and return the result of this process, which is rank 0.

    Parameters
    ----------
    devices : sequence of torch.device
        One device per rank.
    work : callable
        Function of a rank and its device; it must be picklable.

    Raises
    ------
    RuntimeError
        From `torch.distributed`, if another rank has died.
    """
    if len(devices) == 1:
        return work(SINGLE_PROCESS, devices[0])
    with tempfile.TemporaryDirectory(prefix="unet-em-ranks-") as folder:
        meeting = f"file://{folder}/meeting"
        context = torch.multiprocessing.get_context("spawn")
        children = [
            context.Process(
                target=_child, args=(meeting, Rank(r, len(devices)), device, work, os.getpid()), daemon=True
            )
            for r, device in enumerate(devices)
            if r > 0
        ]
        with _watched_children(children):
            return _in_process_group(meeting, Rank(0, len(devices)), devices[0], work)


def _in_process_group(meeting: str, rank: Rank, device: torch.device, work: Callable[[Rank, torch.device], Any]) -> Any:
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=meeting, rank=rank.index, world_size=rank.count, timeout=TIMEOUT)
    try:
        return work(rank, device)
    finally:
        dist.destroy_process_group()


def _child(
    meeting: str, rank: Rank, device: torch.device, work: Callable[[Rank, torch.device], Any], parent: int
) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(
            1, signal.SIGKILL
        )  # PR_SET_PDEATHSIG: an orphan would continue to train during the next run
    if os.getppid() != parent:
        os._exit(1)
    _in_process_group(meeting, rank, device, work)


@contextmanager
def _watched_children(children: list[SpawnProcess]) -> Iterator[None]:
    """Run and watch children within this context: if one dies while the parent waits for it, the parent ends too."""
    ended = threading.Event()
    for child in children:
        child.start()
        threading.Thread(target=_watch, args=(child, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        for child in children:
            child.join(timeout=GRACE_S)
            child.kill()


def _watch(child: SpawnProcess, ended: threading.Event) -> None:
    child.join()
    if child.exitcode == 0 or ended.is_set():
        return
    log.error(
        "training process %d died with exit code %s; the others cannot go on without it", child.pid, child.exitcode
    )
    time.sleep(GRACE_S)
    if not ended.is_set():
        os._exit(1)
