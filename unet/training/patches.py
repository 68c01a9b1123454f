"""Sample training patches at random positions of volumes that are never loaded whole.

```
voxels read, larger            patch, input size          patch, output size
+---------------+            +-----------+
|      / \\      |   Warp     |  +-----+  |   margin = (input - output) / 2
|    /     \\    |  ------>   |  |     | <----- targets and weights
|    \\     /    |            |  +-----+  |
|      \\ /      |            +-----------+
+---------------+             raw, float32
```

A patch is a function of (seed, step, index) alone. It is the same for any number of threads or processes, and after a
resume.
"""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, product
from math import ceil, prod
from typing import Any, NamedTuple

import numpy as np

from unet.config.train import AugmentConfig
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.mirroring import mirrored_indices
from unet.training.augmentation import Transform, Warp, draw_transform
from unet.training.labelled_volume import LabelledVolume, Readable
from unet.training.volume_transform import VolumeTransform, draw_volume_transform

COUNT_CELL = (1, 64, 64)
"""Size `(z, y, x)` in voxels of the cells in which labelled voxels are counted, to find sparse labels quickly."""

CACHE_MB = 1536
"""Memory for recently read chunks in MiB, for all volumes and processes of a training together."""

MAX_ATTEMPTS = 50
"""Locations tried before a patch without a labelled pixel is accepted."""

AHEAD = 2
"""Batches that each thread prepares in advance."""


class CachedVolume:
    """A volume that caches recently read cubes in memory, up to a limit.

    Annotated volumes are small and patches overlap, so most reads are served from the cache. A volume larger than the
    limit is never loaded whole.

    Parameters
    ----------
    volume : unet.storage.zarr_store.Image
        Volume with `shape`, `dtype` and `read(box)`.
    cube : tuple of int
        Size `(z, y, x)` of a cube in voxels, best the chunk on disk.
    megabytes : float
        Limit of the cache in MiB; it holds at least one cube.
    """

    def __init__(self, volume: Any, cube: Index = (8, 128, 128), megabytes: float = 512) -> None:
        self._volume, self._size, self._megabytes = volume, cube, megabytes
        self.shape, self.dtype = tuple(volume.shape), np.dtype(volume.dtype)
        self.limit()

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process makes the volume, with an empty cache."""
        return CachedVolume, (self._volume, self._size, self._megabytes)

    def limit(self, share: float = 1.0) -> None:
        """Start with an empty cache that has a share of the memory."""
        cubes = int(share * self._megabytes * 2**20 / (prod(self._size) * self.dtype.itemsize))
        self._cube = lru_cache(maxsize=max(1, cubes))(self._read_cube)

    def read_mirrored(self, box: Box) -> np.ndarray:
        """Return the voxels of a box, mirrored beyond the volume's faces without repeating the edge voxel."""
        indices = [mirrored_indices(lo, hi, n) for lo, hi, n in zip(box.start, box.stop, self.shape, strict=True)]
        start = tuple(int(i.min()) for i in indices)
        inside = self._read(Box(start, tuple(int(i.max()) + 1 for i in indices)))
        if box.clipped(self.shape) == box:
            return inside
        for axis, (index, lo) in enumerate(zip(indices, start, strict=True)):
            inside = inside.take(index - lo, axis=axis - 3)
        return inside

    def _read(self, box: Box) -> np.ndarray:
        pieces = (_pieces(lo, hi, n) for lo, hi, n in zip(box.start, box.stop, self._size, strict=True))
        values: np.ndarray | None = None
        for indices, targets, sources in (zip(*piece, strict=True) for piece in product(*pieces)):
            cube = self._cube(indices)
            if values is None:
                values = np.empty((*cube.shape[:-3], *box.shape), self.dtype)
            values[(..., *targets)] = cube[(..., *sources)]
        assert values is not None
        return values

    def _read_cube(self, index: Index) -> np.ndarray:
        return np.asarray(self._volume.read(self._place(index)))

    def _place(self, index: Index) -> Box:
        return Grid(self.shape, self._size).box(index)


def _pieces(start: int, stop: int, size: int) -> list[tuple[int, slice, slice]]:
    """Divide a range along one axis by cubes: the index of each cube, its slice of the range, and that of the cube.

    Plain numbers instead of boxes: a patch is made of hundreds of cubes, while other threads wait for the interpreter.

    >>> _pieces(3, 8, 4)
    [(0, slice(0, 1, None), slice(3, 4, None)), (1, slice(1, 5, None), slice(0, 4, None))]
    """
    pieces = []
    for index in range(start // size, ceil(stop / size)):
        low, high = max(start, index * size), min(stop, (index + 1) * size)
        pieces.append((index, slice(low - start, high - start), slice(low - index * size, high - index * size)))
    return pieces


class Batch(NamedTuple):
    """Arrays `raw` `(n, c, *in)` float32, `target` `(n, *out)` uint8, `weight` `(n, *out)` float32; sizes (z,) y, x.

    Where affinities are learnt, `target` is `(n, K, *out)`, and `weight` too, or it has axes of length 1 (all are 1).
    """

    raw: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def count_labelled(weights: Readable) -> np.ndarray:
    """Count the labelled voxels (weight > 0) in each cell of `COUNT_CELL` voxels, one row of cells at a time.

    Returns
    -------
    numpy.ndarray
        Counts `(z, y, x)` per cell, int64.
    """
    grid, width = Grid(tuple(weights.shape), COUNT_CELL), weights.shape[2]
    counts = np.zeros(grid.counts, np.int64)
    for z, y in np.ndindex(grid.counts[:2]):
        row = grid.box((z, y, 0))
        labelled = weights.read_mirrored(Box((*row.start[:2], 0), (*row.stop[:2], width))) > 0
        counts[z, y] = np.add.reduceat(labelled.sum(axis=(0, 1)), np.arange(0, width, COUNT_CELL[2]))
    return counts


@dataclass(frozen=True)
class PatchLocation:
    """Location of a patch in a volume: in-section map and range of sections, for input and output."""

    outer: Warp
    inner: Warp
    outer_sections: tuple[int, int]
    inner_sections: tuple[int, int]

    @classmethod
    def around(cls, centre: Index, transform: Transform, input_size: Index, output_size: Index) -> "PatchLocation":
        """Return the location with middle voxel `centre`, for a network's input and output sizes `(z, y, x)`."""
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
        """Return the grey values `(c, z, y, x)` of the patch's input, float32."""
        voxels = volume.read_mirrored(voxels_of(self.outer_sections, self.outer))
        return np.stack([self.outer.image(channel) for channel in voxels.reshape(-1, *voxels.shape[-3:])])

    def labels(self, volume: Readable) -> np.ndarray:
        """Return the targets or weights `(z, y, x)` of the patch's output."""
        return self.inner.labels(volume.read_mirrored(voxels_of(self.inner_sections, self.inner)))


def network_input(volume: LabelledVolume, location: PatchLocation, transform: Transform) -> np.ndarray:
    """Return the patch's input `(c, z, y, x)` as the network sees it: normalised, then augmented; float32."""
    return transform.changed_intensities(volume.normalisation(location.image(volume.raw)))


def voxels_of(sections: tuple[int, int], warp: Warp) -> Box:
    """Return the voxels that a range of sections under a warp needs; the box may exceed the volume."""
    (y0, x0), (y1, x1) = warp.box()
    return Box((sections[0], y0, x0), (sections[1], y1, x1))


def _weighted(counts: list[np.ndarray], weights: Sequence[float]) -> list[np.ndarray]:
    if len(weights) != len(counts) or min(weights) <= 0:
        raise ValueError(
            f"volume_weights {list(weights)} for {len(counts)} volume(s): each volume needs one weight above 0"
        )
    if len(set(weights)) == 1:
        return counts  # equal weights equal no weights, to the last bit of the random stream
    return [count * float(weight) for count, weight in zip(counts, weights, strict=True)]


class PatchSampler:
    """Draws patches from labelled volumes.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Training volumes. Every labelled voxel has the same probability, multiplied by the weight of its volume.
    input_size, output_size : tuple of int
        Sizes `(z, y, x)` of the network's input and output; z is 1 for a 2-D network.
    augment : AugmentConfig or None
        Settings of the augmentation; None for no augmentation.
    dimensions : int
        Dimensions of the network; 2 leaves the z axis out of the patches.
    batch : int
        Patches per step.
    seed : int
        Seed of all random numbers.
    volume_weights : sequence of float, optional
        One weight per volume, by which the probability of its labelled voxels is multiplied.
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
        """Return patch `index` of a step, without a batch axis: raw `(c, *in)`, target and weight `(*out)`."""
        rng = np.random.default_rng([self.seed % 2**64, step, index])
        transform = Transform() if self.augment is None else draw_transform(rng, self.augment, self.input_size[0])
        moved = VolumeTransform() if self.augment is None else draw_volume_transform(rng, self.augment)
        for _ in range(MAX_ATTEMPTS):
            volume, centre = moved.applied(*self._draw_location(rng), self.input_size, self.output_size)
            location = PatchLocation.around(centre, transform, self.input_size, self.output_size)
            weight = location.labels(volume.weights)
            if weight.any():
                break
        patch = Batch(network_input(volume, location, transform), *self._targets(volume, location, weight))
        if self.dimensions == 3:
            return patch
        target, weight = (part[..., 0, :, :] for part in patch[1:])
        return Batch(patch.raw.reshape(-1, *patch.raw.shape[2:]), target, weight)  # sections of context are channels

    def _targets(
        self, volume: LabelledVolume, location: PatchLocation, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return target and weight `(z, y, x)` of a patch whose weight of equation 2 is `weight`."""
        return location.labels(volume.targets), weight

    def _draw_location(self, rng: np.random.Generator) -> tuple[LabelledVolume, Index]:
        """Draw a cell with probability proportional to its labelled voxels, then a voxel uniformly within the cell.

        In a volume that is labelled throughout, all voxels are equally likely, including those at its faces, where the
        patch is mirrored. Counting its mirror images, every voxel is then seen equally often.
        """
        total = self._labelled_up_to[-1]
        drawn = rng.integers(total) if np.issubdtype(total.dtype, np.integer) else rng.uniform(0, total)
        cell = np.searchsorted(self._labelled_up_to, drawn, side="right")
        number = int(np.searchsorted(self._first_cell, cell, side="right")) - 1
        volume = self.volumes[number]
        grid = Grid(tuple(volume.raw.shape), COUNT_CELL)
        box = grid.box(tuple(map(int, np.unravel_index(cell - self._first_cell[number], grid.counts))))
        return volume, tuple(int(rng.integers(lo, hi)) for lo, hi in zip(box.start, box.stop, strict=True))

    def batch(self, step: int, first: int = 0, count: int | None = None) -> Batch:
        """Return patches `first .. first + count - 1` of a step, by default all.

        When n processes share a step, process r takes `first=r * b, count=b`. Together they have the batch of one
        process with n b patches per step.
        """
        count = self.batch_size if count is None else count
        patches = [self.sample(step, index) for index in range(first, first + count)]
        return Batch(*(np.stack(part) for part in zip(*patches, strict=True)))

    def batches(
        self, start: int, stop: int, threads: int = 2, first: int = 0, count: int | None = None
    ) -> Generator[Batch, None, None]:
        """Yield the batches of steps `start .. stop - 1` in order; each thread prepares up to two in advance."""
        steps = iter(range(start, stop))
        pool = ThreadPoolExecutor(threads, thread_name_prefix="patches")
        try:
            pending = deque(pool.submit(self.batch, step, first, count) for step in islice(steps, AHEAD * threads))
            while pending:
                batch = pending.popleft().result()
                pending.extend(pool.submit(self.batch, step, first, count) for step in islice(steps, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)
