"""Run a network on its device, and hide what differs between a CPU and a GPU.

A CPU computes several batches at the same time, one per thread. One batch is never shared between threads: libraries
split a sum differently for different numbers of threads, which changes the last bits. The threads serve all blocks, so
the next block's tiles use the threads that the last tiles of a block leave idle.

A GPU computes one batch after another in one stream. Other streams copy the input of the next block and the result of
the block before:

```
up        | input of k + 1 |                 | input of k + 2 |             pinned memory of the host to the device
compute   |       tiles of block k         |       tiles of block k + 1       |
down                                       | block k |                      and back
```
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet.config.section import Precision
from unet.network.centre_crop import channels_last
from unet.network.complexity import DTYPES
from unet.network.model import is_2d

Item = TypeVar("Item")
CUDNN_FLAGS: dict[str, Any] = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}
"""Flags of cuDNN. By default cuDNN times several algorithms and takes the fastest, and it may compute in TF32."""


class Engine:
    """A model on a device.

    Parameters
    ----------
    model : nn.Module
        From `build_model`. It is put into evaluation mode and moved to `device`, with weights in channels-last layout.
    device : torch.device
        Device on which the network runs.
    precision : {"float32", "bfloat16", "float16"}
        Numeric precision of the convolutions.
    compiled : bool
        Whether to compile the network for the shape of its tiles (`torch.compile`).
    threads : int
        Batches computed at the same time on a CPU.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, precision: Precision, compiled: bool = False, threads: int = 1
    ) -> None:
        self.device, self.precision, self.on_gpu = device, precision, device.type == "cuda"
        self.is_2d = is_2d(model)
        self._layout = channels_last(2 if self.is_2d else 3)
        model.eval().to(device).to(memory_format=self._layout)  # type: ignore[call-overload]
        self._network = torch.compile(model, dynamic=False) if compiled else model
        self._launching = threading.Lock()
        if self.on_gpu:
            self._up, self._compute, self._down = (torch.cuda.Stream(device) for _ in range(3))
        else:
            torch.set_num_threads(1)
            self._threads = ThreadPoolExecutor(threads, "tiles")

    def logits(self, x: Tensor) -> Tensor:
        """Return the float32 logits of a batch; equal batches give equal bits."""
        x = x.contiguous(memory_format=self._layout)
        with ExitStack() as settings:
            settings.enter_context(
                torch.autocast(self.device.type, DTYPES[self.precision], self.precision != "float32")
            )
            if self.on_gpu:
                settings.enter_context(torch.backends.cudnn.flags(**CUDNN_FLAGS))
            return self._network(x).float()

    def each(self, work: Callable[[Item], None], items: Iterable[Item]) -> None:
        """Call `work` on every item: several at a time on a CPU, on a GPU one at a time over all blocks."""
        if not self.on_gpu:
            list(self._threads.map(work, items))
            return
        for item in items:
            with self._launching:  # memory that a batch frees is free for the next batch, whatever its block
                work(item)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Send the work within this context to the stream that computes."""
        with ExitStack() as context:
            if self.on_gpu:
                context.enter_context(torch.cuda.stream(self._compute))
            yield

    def to_device(self, array: NDArray[Any]) -> Tensor:
        """Copy an array to the device. On a GPU the copy has a stream of its own, and later computing waits for it."""
        values = torch.from_numpy(np.ascontiguousarray(array))
        if not self.on_gpu:
            return values
        with torch.cuda.stream(self._up):
            values = values.pin_memory().to(self.device, non_blocking=True)
        self._compute.wait_stream(self._up)
        values.record_stream(self._compute)
        return values

    def to_host(self, values: Tensor) -> NDArray[Any]:
        """Return a result as an array, after it has been computed."""
        if not self.on_gpu:
            return values.numpy()
        self._down.wait_stream(self._compute)
        with torch.cuda.stream(self._down):
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            values.record_stream(self._down)
        self._down.synchronize()
        return host.numpy()
