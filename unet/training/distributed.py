"""Several processes that train one model, one a GPU, by torch's own distributed data parallel.

```
parent  rank 0   its patches -> gradient --+-- mean over ranks -> the same step everywhere; writes state and curve
child   rank 1   its patches -> gradient --+
...
```

The parent is rank 0, so its log, its signals and its errors are those of the job. A child lives no longer than its
parent, however that ends; the end of a child ends the job.
"""

import ctypes
import logging
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
"""How long a rank waits for another: longer than a look at the validation volumes takes."""
GRACE_S = 20.0
"""Between the death of a child and the end of a parent that has not noticed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rank:
    """One of `count` processes; the first one speaks for all."""

    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.index == 0

    def total(self, values: Tensor) -> Tensor:
        """Sum of the ranks' values, the same everywhere; `values` itself where there is one rank."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model, with gradients averaged over the ranks after each backward pass.

        On GPUs batch normalisation takes its statistics over all ranks; PyTorch has that for no other device.
        """
        if self.count == 1:
            return model
        on_gpu = next(model.parameters()).is_cuda
        if on_gpu:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        # a buffer is a running mean and variance: rank 0's are kept, as they are what is saved
        return nn.parallel.DistributedDataParallel(model, device_ids=[torch.cuda.current_device()] if on_gpu else None)


SINGLE_PROCESS = Rank()


def run_ranks(devices: Sequence[torch.device], work: Callable[[Rank, torch.device], Any]) -> Any:
    """Call `work` in one process a device, this one being the first, and return what it returned here.

    Parameters
    ----------
    devices : sequence of torch.device
        One a rank.
    work : callable
        Can be pickled; gets its rank and its device.

    Raises
    ------
    RuntimeError
        From `torch.distributed`, if another rank died.
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
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: an orphan would train on beside the next run
    if os.getppid() != parent:
        os._exit(1)
    _in_process_group(meeting, rank, device, work)


@contextmanager
def _watched_children(children: list[SpawnProcess]) -> Iterator[None]:
    """Children that run, watched: where one dies while its parent waits for it in vain, the parent ends as well."""
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
