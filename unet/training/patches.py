"""Training patches, drawn at random places of volumes that are never loaded whole.

```
window read, larger            patch, input size          output window
+---------------+            +-----------+
|      / \\      |   Warp     |  +-----+  |   margin = (input - output) / 2
|    /     \\    |  ------>   |  |     | <----- targets and weights
|    \\     /    |            |  +-----+  |
|      \\ /      |            +-----------+
+---------------+             raw, float32
```

A patch is a function of (seed, step, index) alone: the same for any number of threads or processes, and resumed.
"""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, product
from math import ceil, prod
from typing import Any, NamedTuple, Protocol

import numpy as np

from unet.config.train import AugmentConfig
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.mirroring import mirrored_indices
from unet.training.augmentation import Transform, Warp, draw
from unet.volumes.intensity import Normalisation

CELL = (1, 64, 64)
"""`(z, y, x)` in voxels of the cells in which labelled voxels are counted, so that few labels are found at once."""

CACHE_MB = 1536
"""Of recently read chunks of a training, all volumes and processes together."""

ATTEMPTS = 50
"""Places tried for a patch with a labelled pixel before one without is accepted."""


class Readable(Protocol):
    """What the sampler needs of a volume; `unet.storage.zarr_store.Image` has it."""

    @property
    def shape(self) -> Index:
        """`(z, y, x)` in voxels."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""

    def read_mirrored(self, box: Box) -> np.ndarray:
        """The voxels of a box, mirrored where it exceeds the volume: `(z, y, x)`, after an axis of channels if any."""


class CachedVolume:
    """A volume whose recently read cubes stay in memory, up to a limit in bytes.

    Annotated volumes are small and patches overlap: most reads find all they need, and a volume larger than the limit
    is still never loaded whole.

    Parameters
    ----------
    volume : unet.storage.zarr_store.Image
        With `shape`, `dtype` and `read(box)`.
    cube : tuple of int
        `(z, y, x)` of what is read at once; best the chunk on disk.
    megabytes : float
        Limit of the memory; at least one cube is kept.
    """

    def __init__(self, volume: Any, cube: Index = (8, 128, 128), megabytes: float = 512) -> None:
        self._volume, self._size = volume, cube
        self.shape, self.dtype = tuple(volume.shape), np.dtype(volume.dtype)
        cubes = int(megabytes * 2**20 / (prod(cube) * self.dtype.itemsize))
        self._cube = lru_cache(maxsize=max(1, cubes))(self._read_cube)

    def read_mirrored(self, box: Box) -> np.ndarray:
        """The voxels of a box, mirrored beyond the volume's faces without repeating the edge voxel."""
        indices = [mirrored_indices(lo, hi, n) for lo, hi, n in zip(box.start, box.stop, self.shape, strict=True)]
        start = tuple(int(i.min()) for i in indices)
        inside = self._read(Box(start, tuple(int(i.max()) + 1 for i in indices)))
        if box.clipped(self.shape) == box:
            return inside
        for axis, (index, lo) in enumerate(zip(indices, start, strict=True)):
            inside = inside.take(index - lo, axis=axis - 3)
        return inside

    def _read(self, box: Box) -> np.ndarray:
        first_to_last = (
            range(lo // n, ceil(hi / n)) for lo, hi, n in zip(box.start, box.stop, self._size, strict=True)
        )
        cubes = {index: self._cube(index) for index in product(*first_to_last)}
        *channels, _, _, _ = next(iter(cubes.values())).shape
        values = np.empty((*channels, *box.shape), self.dtype)
        for index, cube in cubes.items():
            place = self._place(index)
            common = place.intersected(box)
            values[common.relative_to(box.start).trailing] = cube[common.relative_to(place.start).trailing]
        return values

    def _read_cube(self, index: Index) -> np.ndarray:
        return np.asarray(self._volume.read(self._place(index)))

    def _place(self, index: Index) -> Box:
        return Grid(self.shape, self._size).box(index)


@dataclass(frozen=True)
class LabelledVolume:
    """A volume to learn from.

    `raw`, `targets` (class index, 255 = unlabelled) and `weights` (equation 2, 0 = unlabelled) have one shape; grey
    values are normalised with the statistics frozen at ingest.
    """

    raw: Readable
    targets: Readable
    weights: Readable
    normalisation: Normalisation

    def __post_init__(self) -> None:
        shapes = {name: tuple(getattr(self, name).shape) for name in ("raw", "targets", "weights")}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"raw, targets and weights of a training volume differ in shape: {shapes}")


class Batch(NamedTuple):
    """`raw` `(n, c, *in)` float32, `target` `(n, *out)` uint8, `weight` `(n, *out)` float32; sizes (z,) y, x."""

    raw: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def count_labelled(weights: Readable) -> np.ndarray:
    """Labelled voxels (weight > 0) in each cell of `CELL` voxels, read a row of cells at a time.

    Returns
    -------
    numpy.ndarray
        `(z, y, x)` in cells, int64.
    """
    grid, width = Grid(tuple(weights.shape), CELL), weights.shape[2]
    counts = np.zeros(grid.counts, np.int64)
    for z, y in np.ndindex(grid.counts[:2]):
        row = grid.box((z, y, 0))
        labelled = weights.read_mirrored(Box((*row.start[:2], 0), (*row.stop[:2], width))) > 0
        counts[z, y] = np.add.reduceat(labelled.sum(axis=(0, 1)), np.arange(0, width, CELL[2]))
    return counts


@dataclass(frozen=True)
class Backend:
    """Where a patch lies in a volume: the in-section map and the sections, of the input and of the output."""

    outer: Warp
    inner: Warp
    outer_sections: tuple[int, int]
    inner_sections: tuple[int, int]

    @classmethod
    def around(cls, centre: Index, transform: Transform, input_size: Index, output_size: Index) -> "Backend":
        """The place whose middle voxel is `centre`, with the sizes `(z, y, x)` of a network's input and output."""
        start = tuple(c - n // 2 for c, n in zip(centre, output_size, strict=True))
        y, x = (lo + (n - 1) / 2 for lo, n in zip(start[1:], output_size[1:], strict=True))
        margin = (input_size[0] - output_size[0]) // 2
        outer = transform.warp((input_size[1], input_size[2]), (y, x))
        return cls(
            outer=outer,
            inner=outer.inner(output_size),
            outer_sections=(start[0] - margin, start[0] - margin + input_size[0]),
            inner_sections=(start[0], start[0] + output_size[0]),
        )

    def image(self, volume: Readable) -> np.ndarray:
        """Grey values `(c, z, y, x)` of the input window, float32."""
        window = volume.read_mirrored(_box(self.outer_sections, self.outer))
        return np.stack([self.outer.image(channel) for channel in window.reshape(-1, *window.shape[-3:])])

    def labels(self, volume: Readable) -> np.ndarray:
        """Targets or weights `(z, y, x)` of the output window."""
        return self.inner.labels(volume.read_mirrored(_box(self.inner_sections, self.inner)))


def network_input(volume: LabelledVolume, place: Backend, transform: Transform) -> np.ndarray:
    """Raw `(c, z, y, x)` of the input window as the network sees it: normalised, then changed; float32."""
    return transform.changed_intensities(volume.normalisation(place.image(volume.raw)))


def _box(sections: tuple[int, int], warp: Warp) -> Box:
    (y0, x0), (y1, x1) = warp.box()
    return Box((sections[0], y0, x0), (sections[1], y1, x1))


def _weighted(counts: list[np.ndarray], weights: Sequence[float]) -> list[np.ndarray]:
    if len(weights) != len(counts) or min(weights) <= 0:
        raise ValueError(f"volume_weights {list(weights)} for {len(counts)} volume(s): needed is one each, above 0")
    if len(set(weights)) == 1:
        return counts  # equal weights are none, to the last bit of the random stream
    return [count * float(weight) for count, weight in zip(counts, weights, strict=True)]


class PatchSampler:
    """Draws patches from labelled volumes.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Every labelled voxel has the same chance, so each volume is drawn as often as it has any, times its weight.
    input_size, output_size : tuple of int
        `(z, y, x)` of the network's input and output; z is 1 for a 2-D network.
    augment : AugmentConfig or None
        None for no change at all, as in validation.
    dimensions : int
        2 leaves the z axis out of the patches: sections drawn uniformly.
    batch : int
        Patches a step.
    seed : int
        Of all that is random here.
    volume_weights : sequence of float, optional
        One a volume: a labelled voxel of it is drawn that much more often.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        input_size: Index,
        output_size: Index,
        augment: AugmentConfig | None,
        dimensions: int = 2,
        batch: int = 1,
        seed: int = 0,
        volume_weights: Sequence[float] | None = None,
    ) -> None:
        counts = [count_labelled(volume.weights).ravel() for volume in volumes]
        if volume_weights is not None:
            counts = _weighted(counts, volume_weights)
        self.volumes = list(volumes)
        self._first_cell = np.cumsum([0, *map(len, counts)])
        self._labelled_up_to = np.cumsum(np.concatenate(counts))
        if self._labelled_up_to[-1] == 0:
            raise ValueError(f"nothing to learn from: no voxel of {len(volumes)} training volume(s) is labelled")
        self.input_size, self.output_size = input_size, output_size
        self.augment, self.dimensions, self.batch_size, self.seed = augment, dimensions, batch, seed

    def sample(self, step: int, index: int = 0) -> Batch:
        """Patch `index` of a step, without a batch axis: raw `(c, *in)`, target and weight `(*out)`."""
        rng = np.random.default_rng([self.seed % 2**64, step, index])
        transform = Transform() if self.augment is None else draw(rng, self.augment, self.input_size[0])
        for _ in range(ATTEMPTS):
            volume, centre = self._labelled_place(rng)
            place = Backend.around(centre, transform, self.input_size, self.output_size)
            weight = place.labels(volume.weights)
            if weight.any():
                break
        raw, target = network_input(volume, place, transform), place.labels(volume.targets)
        return Batch(raw, target, weight) if self.dimensions == 3 else Batch(raw[:, 0], target[0], weight[0])

    def _labelled_place(self, rng: np.random.Generator) -> tuple[LabelledVolume, Index]:
        """A volume and a voxel in it, uniform within a cell that is drawn as often as it has labelled voxels.

        Of a volume labelled throughout, all voxels are thus equally likely, those at its faces too, where the patch
        is mirrored: counted with its mirror images every voxel is then seen equally often.
        """
        total = self._labelled_up_to[-1]
        drawn = rng.integers(total) if np.issubdtype(total.dtype, np.integer) else rng.uniform(0, total)
        cell = np.searchsorted(self._labelled_up_to, drawn, side="right")
        number = int(np.searchsorted(self._first_cell, cell, side="right")) - 1
        volume = self.volumes[number]
        grid = Grid(tuple(volume.raw.shape), CELL)
        box = grid.box(tuple(map(int, np.unravel_index(cell - self._first_cell[number], grid.counts))))
        return volume, tuple(int(rng.integers(lo, hi)) for lo, hi in zip(box.start, box.stop, strict=True))

    def batch(self, step: int, first: int = 0, count: int | None = None) -> Batch:
        """Patches `first .. first + count - 1` of a step, by default all.

        Of n processes that share a step, process r takes `first=r * b, count=b`: together they have the batch that
        one process has with n b patches a step.
        """
        count = self.batch_size if count is None else count
        patches = [self.sample(step, index) for index in range(first, first + count)]
        return Batch(*(np.stack(part) for part in zip(*patches, strict=True)))

    def batches(
        self, start: int, stop: int, threads: int = 2, ahead: int = 4, first: int = 0, count: int | None = None
    ) -> Generator[Batch, None, None]:
        """The batches of steps `start .. stop - 1` in order; threads prepare at most `ahead` of them meanwhile."""
        steps = iter(range(start, stop))
        pool = ThreadPoolExecutor(threads, thread_name_prefix="patches")
        try:
            pending = deque(pool.submit(self.batch, step, first, count) for step in islice(steps, ahead))
            while pending:
                batch = pending.popleft().result()
                pending.extend(pool.submit(self.batch, step, first, count) for step in islice(steps, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)
