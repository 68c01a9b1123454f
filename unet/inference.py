"""Overlap-tile inference (paper, figure 2): probabilities of any box of a volume, whatever the box.

For a box:
1. `read` the window that all of its tiles need, mirrored at the volume's own faces (edge voxel not repeated).
2. Normalise grey values with the statistics of the whole volume, never of a tile.
3. Cut the tiles' inputs, run them through the network in batches of one fixed size, softmax, and average over
   mirrored or rotated tiles where asked for.
4. Crop each tile's result to its cell of the lattice (see `unet.tiling`), and the cells to the box.

A cell's result depends on the volume and the model alone: bit for bit for one tile size, and within rounding across
tile sizes, since tiles of all sizes meet the pooling grid in the same phase.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet.geometry import Box
from unet.grey_values import normalise
from unet.tiling import TileGeometry, tiles_for

Average = Literal["none", "flips", "symmetries"]
Precision = Literal["float32", "bfloat16"]
Symmetry = tuple[int, bool]

SYMMETRIES: dict[Average, list[Symmetry]] = {
    "none": [(0, False)],
    "flips": [(0, False), (2, False), (0, True), (2, True)],
    "symmetries": [(quarter_turns, mirrored) for mirrored in (False, True) for quarter_turns in range(4)],
}
"""Quarter turns in the (y, x) plane after mirroring x or not. Two turns are both flips; with a mirror, the y flip."""


class Image(Protocol):
    """A volume that answers for voxels beyond its faces."""

    def read_mirrored(self, window: Box) -> NDArray[Any]:
        """Grey values of `window`, mirrored beyond the faces without repeating the edge voxel."""


@dataclass(frozen=True)
class Predictor:
    """A model with all that its result depends on beside the volume.

    Parameters
    ----------
    model : nn.Module
        From `build_model`, one input channel; put into evaluation mode and moved to `device`.
    geometry : TileGeometry
        Of that model.
    mean, std : float
        Grey-value statistics of the volume.
    average : {"none", "flips", "symmetries"}
        Mean over nothing, the 4 flips or the square's 8 symmetries in the (y, x) plane.
    device : torch.device or str
        Where the network runs.
    batch : int
        Tiles that go through the network at once.
    precision : {"float32", "bfloat16"}
        Of the convolutions; softmax and averaging are float32 always.
    threads : int
        Batches at once on a CPU. Each is computed by one thread, because libraries share one sum out differently for
        different numbers of threads, which changes the last bits.

    Raises
    ------
    ValueError
        If "symmetries" is asked for and a tile is no square.
    """

    model: nn.Module
    geometry: TileGeometry
    mean: float
    std: float
    average: Average = "none"
    device: torch.device | str = "cpu"
    batch: int = 1
    precision: Precision = "float32"
    threads: int = 1

    def __post_init__(self) -> None:
        _, y, x = self.geometry.input
        _, unit_y, unit_x = self.geometry.stride_unit
        if self.average == "symmetries" and (y != x or unit_y != unit_x):
            raise ValueError(
                f"average: symmetries turns tiles, but y and x differ: tile {y} x {x}, pooling {unit_y} x {unit_x}; "
                "choose a square tile or average: flips"
            )
        self.model.eval().to(self.device)
        if self._on_cpu:
            torch.set_num_threads(1)
        if self._is_2d:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def _on_cpu(self) -> bool:
        return torch.device(self.device).type == "cpu"

    @property
    def _classes(self) -> int:
        return cast(int, self.model.classes)

    @property
    def _is_2d(self) -> bool:
        return any(isinstance(module, nn.Conv2d) for module in self.model.modules())

    def predict_box(self, image: Image, box: Box) -> NDArray[np.float32]:
        """Class probabilities of a box, float32 `(K, z, y, x)`, each voxel's summing to 1: `read`, then `infer`."""
        return self.infer(self.read(image, box), box)

    def read(self, image: Image, box: Box) -> NDArray[Any]:
        """Grey values that `infer` needs for `box`, in the volume's dtype, in one piece `(z, y, x)`."""
        return image.read_mirrored(self.geometry.window(box))

    def infer(self, window: NDArray[Any], box: Box) -> NDArray[np.float32]:
        """Class probabilities of `box` from its `window`, float32 `(K, z, y, x)`.

        Memory beside window and result is that of `batch` tiles a thread.
        """
        origin = self.geometry.window(box).start
        cells = tiles_for(box, self.geometry)
        result = np.empty((self._classes, *box.shape), np.float32)

        def fill(some: list[Box]) -> None:
            tiles = [window[self.geometry.input_box(cell).relative_to(origin).slices] for cell in some]
            for cell, tile in zip(some, self._probabilities(np.stack(tiles)), strict=True):
                part = cell.intersected(box)
                result[:, *part.relative_to(box.start).slices] = tile[:, *part.relative_to(cell.start).slices]

        with ThreadPoolExecutor(self.threads if self._on_cpu else 1) as pool:
            list(pool.map(fill, (cells[i : i + self.batch] for i in range(0, len(cells), self.batch))))
        return result

    def _probabilities(self, tiles: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities `(n, K, z, y, x)` of the output of up to `batch` tiles `(n, z, y, x)`.

        A short batch is filled up with empty tiles: libraries choose their algorithm by the shape, and with another
        algorithm the last bits differ.
        """
        grey = np.zeros((self.batch, 1, *tiles.shape[1:]), np.float32)
        grey[: len(tiles), 0] = normalise(tiles, self.mean, self.std)
        x = torch.from_numpy(grey[:, :, 0] if self._is_2d else grey).to(self.device)
        with torch.inference_mode(), _convolutions_in(self.precision, x.device):
            mean = _mean_over(SYMMETRIES[self.average], self._output, x)
        result = mean.cpu().numpy()[: len(tiles)]
        return result[:, :, None] if self._is_2d else result

    def _output(self, x: Tensor) -> Tensor:
        """Softmax of the network's result, cropped to the tile's output."""
        if self._is_2d:
            x = x.contiguous(memory_format=torch.channels_last)
        logits = self.model(x)
        for axis, n in enumerate(self.geometry.output[-(logits.ndim - 2) :], start=2):
            logits = logits.narrow(axis, (logits.shape[axis] - n) // 2, n)
        return torch.softmax(logits.float(), dim=1)


def quantise(probabilities: NDArray[np.float32], dtype: Literal["uint8", "float32"]) -> NDArray[Any]:
    """Probabilities as they are stored: `round(255 p)` in uint8, or unchanged.

    >>> quantise(np.array([0, 0.5, 0.998, 1], np.float32), "uint8")
    array([  0, 128, 254, 255], dtype=uint8)
    """
    if dtype == "float32":
        return probabilities
    return np.rint(probabilities * np.float32(255)).astype(np.uint8)


def _mean_over(symmetries: list[Symmetry], function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Mean of `g^-1(function(g(x)))` over symmetries g."""
    first, *others = symmetries
    total = _undone(first, function(_applied(first, x)))
    for g in others:
        total += _undone(g, function(_applied(g, x)))
    return total / len(symmetries)


def _applied(symmetry: Symmetry, x: Tensor) -> Tensor:
    """Mirror x if asked to, then turn."""
    quarter_turns, mirrored = symmetry
    return torch.rot90(x.flip(-1) if mirrored else x, quarter_turns, dims=(-2, -1))


def _undone(symmetry: Symmetry, x: Tensor) -> Tensor:
    """Inverse of `_applied`."""
    quarter_turns, mirrored = symmetry
    x = torch.rot90(x, -quarter_turns, dims=(-2, -1))
    return x.flip(-1) if mirrored else x


@contextmanager
def _convolutions_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Reproducible convolutions of a precision; PyTorch's default on a GPU is neither (TF32, benchmarked kernels)."""
    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        yield
