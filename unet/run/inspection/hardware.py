"""Look up what there is to compute with, and choose networks that suit it."""

from dataclasses import dataclass
from typing import Any

from unet.config.model import ModelConfig
from unet.geometry.tiling import TileSizeError, tile_geometry, valid_input_sizes
from unet.jobs.device_capacity import free_bytes, usable_cores
from unet.run.plan.text import size

LARGE_GPU_BYTES = 20e9
"""Free memory of a GPU from which the network of the paper's size is trained with patches of 572 px."""


@dataclass(frozen=True)
class Hardware:
    """Cores, free memory in bytes, and the GPU if there is one."""

    cores: int
    memory_bytes: float
    gpu: str | None = None
    gpu_bytes: float = 0

    def __str__(self) -> str:
        gpu = f"GPU {self.gpu} with {size(self.gpu_bytes)} free" if self.gpu else "no GPU"
        return f"{self.cores} cores, {size(self.memory_bytes)} of memory free, {gpu}"


def hardware_here() -> Hardware:
    """Return the hardware of this machine."""
    import torch

    cores, memory = usable_cores(), free_bytes(torch.device("cpu"))
    if not torch.cuda.is_available():
        return Hardware(cores, memory)
    return Hardware(cores, memory, torch.cuda.get_device_name(0), free_bytes(torch.device("cuda", 0)))


@dataclass(frozen=True)
class NetworkChoice:
    """A network, and a training that suits it.

    Attributes
    ----------
    model : dict
        Keys of the section `model`.
    tile, batch : int
        Side of a training patch in px, and patches per step.
    least_steps, most_steps : int
        Steps below which a smaller network learns more, and beyond which little is gained.
    learning_rate : float
        Learning rate of AdamW.
    """

    model: dict[str, Any]
    tile: int
    batch: int
    least_steps: int
    most_steps: int
    learning_rate: float

    def fitting_tile(self, longest_side: int) -> int:
        """Return the largest side of a patch that the network takes, and that is no larger than a section.

        >>> NETWORKS_OF_CPU[0].fitting_tile(150), NETWORKS_OF_CPU[0].fitting_tile(512)
        (148, 188)
        """
        config = ModelConfig(**self.model)
        fitting = [side for side in valid_input_sizes(config, self.tile) if _fits(config, side)]
        return max((side for side in fitting if side <= longest_side), default=fitting[0])


def _fits(config: ModelConfig, side: int) -> bool:
    try:
        tile_geometry(config, side)
    except TileSizeError:
        return False
    return True


def _small(depth: int, channels: int) -> dict[str, Any]:
    return {"depth": depth, "base_channels": channels, "normalisation": "batch", "dropout": 0}


NETWORKS_OF_CPU = (
    NetworkChoice(_small(4, 16), 188, 8, 400, 1200, 0.003),
    NetworkChoice(_small(4, 8), 188, 4, 200, 800, 0.003),
    NetworkChoice(_small(3, 8), 140, 4, 40, 600, 0.005),
)
"""Networks for a few cores, the largest first (docs/how-to/choose-settings.md)."""
NETWORKS_OF_GPU = (
    NetworkChoice({"depth": 5, "base_channels": 64, "normalisation": "batch"}, 572, 4, 4000, 20_000, 0.001),
    NetworkChoice({"depth": 5, "base_channels": 32, "normalisation": "batch"}, 572, 4, 200, 10_000, 0.001),
)
"""Networks for one GPU, the largest first."""


def networks_for(hardware: Hardware) -> tuple[NetworkChoice, ...]:
    """Return the networks that suit the hardware, the largest first."""
    if hardware.gpu is None:
        return NETWORKS_OF_CPU
    return NETWORKS_OF_GPU if hardware.gpu_bytes >= LARGE_GPU_BYTES else NETWORKS_OF_GPU[1:]
