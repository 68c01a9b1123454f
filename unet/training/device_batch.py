"""Hold the tensors of a batch on the device of a training."""

from typing import NamedTuple

import torch
from torch import Tensor

from unet.network.centre_crop import channels_last
from unet.training.patches import Batch


class DeviceBatch(NamedTuple):
    """A batch as tensors on the device."""

    raw: Tensor
    target: Tensor
    weight: Tensor

    def sample(self, index: int) -> "DeviceBatch":
        """Return one sample as a batch of one."""
        return DeviceBatch(*(part[index : index + 1] for part in self))


def on_device(batch: Batch, device: torch.device) -> DeviceBatch:
    """Copy a batch to the device; to a GPU from pinned memory, while the GPU still computes earlier steps."""
    parts = [torch.as_tensor(part) for part in batch]
    parts[0] = parts[0].contiguous(memory_format=channels_last(parts[0].ndim - 2))
    if device.type == "cuda":
        parts = [part.pin_memory().to(device, non_blocking=True) for part in parts]
    return DeviceBatch(*parts)
