"""Count what a forward pass costs: floating-point operations and bytes, without computing the pass.

Tensors on PyTorch's `meta` device have shapes but no values. A pass with meta tensors calls the same operations in the
same order. Their operations are summed, and so are the bytes of the tensors that are alive at the same time.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from unet.config.model import ModelConfig
from unet.config.root import Config
from unet.config.section import Precision
from unet.geometry.box import Index
from unet.geometry.tiling import full_size
from unet.network.model import build_model, input_channels

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class ForwardCost:
    """Floating-point operations of a forward pass, and the peak of bytes in its tensors."""

    flops: int
    bytes: int


def forward_cost(
    model: ModelConfig, classes: int, tile: Index, channels: int = 1, batch: int = 1, precision: Precision = "float32"
) -> ForwardCost:
    """Return the cost of a forward pass of `batch` tiles of input size `tile` `(z, y, x)`, weights not counted."""
    return _counted(model.model_dump_json(), classes, tile, channels, batch, precision)


@lru_cache(maxsize=256)
def _counted(model: str, classes: int, tile: Index, channels: int, batch: int, precision: Precision) -> ForwardCost:
    config, dtype = ModelConfig.model_validate_json(model), DTYPES[precision]
    with torch.device("meta"):
        network = build_model(config, channels, classes).eval().to(dtype)
        x = torch.empty(batch, input_channels(config, channels), *tile[-config.dimensions :], dtype=dtype)
    with _Counted() as counted, torch.no_grad():
        torch.softmax(network(x).float(), dim=1)
    return ForwardCost(counted.flops, counted.peak + x.nbytes)


def training_step_bytes(model: ModelConfig, classes: int, tile: Index, channels: int = 1, batch: int = 1) -> int:
    """Return the peak bytes of a training step in float32, including what is kept for the backward pass.

    Arguments are those of `forward_cost`. Gradients and the two moments of AdamW are included.
    """
    with torch.device("meta"):
        network = build_model(model, channels, classes)
        x = torch.empty(batch, input_channels(model, channels), *tile[-model.dimensions :])
    with _Counted() as counted:
        torch.softmax(network(x), dim=1).sum().backward()
    return counted.peak + x.nbytes + 2 * sum(weight.nbytes for weight in network.parameters())


def _concatenated(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return an empty tensor of the size of `torch.cat`, which loads PyTorch's compiler for tensors without values."""
    size = list(tensors[0].shape)
    size[axis] = sum(one.shape[axis] for one in tensors)
    return tensors[0].new_empty(size)


class _Counted(TorchDispatchMode):
    """Count the operations within this context, and the peak of bytes in tensors that were made within it."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.alive = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: otherwise PyTorch loads its compiler, which takes over a second and compiles nothing here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = _concatenated(*args) if func is torch.ops.aten.cat.default else func(*args, **kwargs)
        if func.overloadpacket in flop_registry:
            self.flops += int(flop_registry[func.overloadpacket](*args, **kwargs, out_val=result))
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.untyped_storage() not in self._known:
                self._made(made.untyped_storage())
        return result

    def _made(self, storage: torch.UntypedStorage) -> None:
        self._known.add(storage)
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._freed, storage.nbytes())

    def _freed(self, size: int) -> None:
        self.alive -= size


def useful_flops_per_voxel(model: ModelConfig, classes: int, channels: int = 1) -> float:
    """Return the operations per voxel of a zero-padded network on a whole image, where no voxel is computed twice.

    What a tile takes beyond this number is the price of its context.
    """
    padded = model.model_copy(update={"convolution": "same"})
    side = 2 ** (model.depth + 2)
    tile = (1,) * (3 - model.dimensions) + (side,) * model.dimensions
    return forward_cost(padded, classes, tile, channels).flops / prod(tile)


def training_flops(config: Config, classes: int, channels: int = 1) -> float:
    """Return the operations of a whole training: a backward pass takes twice as many as a forward pass."""
    tile = full_size(config.model, config.train.tile)
    return 3.0 * config.train.steps * config.train.batch * forward_cost(config.model, classes, tile, channels).flops
