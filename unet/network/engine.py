"""A network on its device: what differs between a CPU and a GPU.

A CPU computes several batches at once, each by one thread: libraries share one sum out differently for different
numbers of threads, which changes the last bits. Its threads serve all blocks, so the next one's tiles fill up what the
last tiles of a block leave idle.

A GPU computes one batch after the other, in one stream, while other streams copy what the blocks before and after need:

```
up        | window k + 1 |                 | window k + 2 |             pinned memory of the host to the device
compute   |       tiles of block k         |       tiles of block k + 1       |
down                                       | block k |                  and back
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
from unet.network.complexity import DTYPES
from unet.network.model import channels_last, is_2d

Item = TypeVar("Item")
CUDNN_FLAGS: dict[str, Any] = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}
"""Of cuDNN; by default it would try several algorithms and take the fastest, or compute in TF32."""


class Engine:
    """A model on a device.

    Parameters
    ----------
    model : nn.Module
        From `build_model`; put into evaluation mode and moved to `device`, its weights channels last.
    device : torch.device
        Where it runs.
    precision : {"float32", "bfloat16", "float16"}
        Of the convolutions.
    compiled : bool
        Compile the network for the shape of its tiles (`torch.compile`).
    threads : int
        Batches at once on a CPU.
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
        """What the network says of a batch, float32, the same for the same batch every time."""
        x = x.contiguous(memory_format=self._layout)
        with ExitStack() as settings:
            settings.enter_context(
                torch.autocast(self.device.type, DTYPES[self.precision], self.precision != "float32")
            )
            if self.on_gpu:
                settings.enter_context(torch.backends.cudnn.flags(**CUDNN_FLAGS))
            return self._network(x).float()

    def each(self, work: Callable[[Item], None], items: Iterable[Item]) -> None:
        """Do `work` on every item; on a CPU several at once, on a GPU in turn with what other blocks launch."""
        if not self.on_gpu:
            list(self._threads.map(work, items))
            return
        for item in items:
            with self._launching:  # what a batch has freed is there for the next one, whatever its block
                work(item)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Within this context work goes to the stream that computes."""
        with ExitStack() as context:
            if self.on_gpu:
                context.enter_context(torch.cuda.stream(self._compute))
            yield

    def to_device(self, array: NDArray[Any]) -> Tensor:
        """An array on the device; on a GPU the copy runs beside computing, which waits for it."""
        values = torch.from_numpy(np.ascontiguousarray(array))
        if not self.on_gpu:
            return values
        with torch.cuda.stream(self._up):
            values = values.pin_memory().to(self.device, non_blocking=True)
        self._compute.wait_stream(self._up)
        values.record_stream(self._compute)
        return values

    def to_host(self, values: Tensor) -> NDArray[Any]:
        """What was computed as an array, once it has been."""
        if not self.on_gpu:
            return values.numpy()
        self._down.wait_stream(self._compute)
        with torch.cuda.stream(self._down):
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            values.record_stream(self._down)
        self._down.synchronize()
        return host.numpy()
