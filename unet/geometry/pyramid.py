"""Multi-resolution pyramid of a volume: the down-sampling factors of each level, and down-sampling itself."""

from itertools import product
from math import prod
from typing import Any, Literal

import numpy as np

from unet.geometry.box import Index
from unet.geometry.compiled import use_compiled

COARSEST_PX = 128
"""No coarser level is added once both sides of a section are at most this long (px)."""
SMALLEST_BLOCK_PX = 16
"""Smallest side of a block (px) in y and x on any level; smaller blocks would make many tiny files."""
SUMS = {1: np.int16, 2: np.int32, 4: np.int64, 8: np.int64}
"""The smallest type that holds the sum of 8 voxels, by the bytes per voxel."""
PER_SEGMENTED_VOXEL = 500
"""Voxels that numpy down-samples in the time in which it segments one, by which `use_compiled` counts."""


def pyramid_factors(shape: Index, block: Index, voxel_size_nm: tuple[float, ...]) -> list[Index]:
    """Return the down-sampling factors of every level relative to level 0.

    The axes with the smallest voxel size are halved first, until voxels are nearly cubes.

    Parameters
    ----------
    shape, block
        `(z, y, x)` in voxels. An axis is halved only while the side of the block is even, so that blocks stay whole.
    voxel_size_nm
        `(z, y, x)` in nm.

    >>> pyramid_factors((20, 512, 512), (16, 256, 256), (50.0, 4.0, 4.0))
    [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    >>> pyramid_factors((256, 256, 256), (64, 64, 64), (10.0, 10.0, 10.0))
    [(1, 1, 1), (2, 2, 2)]
    """
    factors: list[Index] = [(1, 1, 1)]
    while True:
        current = factors[-1]
        sizes = [v * f for v, f in zip(voxel_size_nm, current, strict=True)]
        # An axis whose voxel size exceeds the smallest by more than sqrt(2) is not halved on this level.
        step = [2 if size <= min(sizes) * 1.4143 else 1 for size in sizes]
        level = tuple(f * s for f, s in zip(current, step, strict=True))
        section = max(-(-n // f) for n, f in zip(shape[1:], current[1:], strict=True))
        halves = all(b % f == 0 for b, f in zip(block, level, strict=True))
        large = min(b // f for b, f in zip(block[1:], level[1:], strict=True)) >= SMALLEST_BLOCK_PX
        if section <= COARSEST_PX or not (halves and large):
            return factors
        factors.append(level)


def downsample(values: np.ndarray, step: Index, kind: Literal["image", "label"]) -> np.ndarray:
    """Down-sample by `step`: the mean of an image, the most frequent id of labels, so that no new id appears.

    Parameters
    ----------
    values
        `(..., z, y, x)` of any dtype. An odd last voxel is repeated.
    step
        Factor 1 or 2 along `(z, y, x)`.

    >>> downsample(np.array([[[1, 1, 7], [2, 9, 7]]]), (1, 2, 2), "label").tolist()
    [[[1, 7]]]
    >>> downsample(np.array([[[1, 1, 7], [2, 9, 7]]], np.uint8), (1, 2, 2), "image").tolist()
    [[[3, 7]]]
    """
    padding = [(0, 0)] * (values.ndim - 3) + [(0, -n % s) for n, s in zip(values.shape[-3:], step, strict=True)]
    padded = np.pad(values, padding, mode="edge") if any(after for _, after in padding) else values
    combine = _mode if kind == "label" else _mean_of_floats if values.dtype.kind == "f" else _mean_of_integers
    sides = (n // s for n, s in zip(padded.shape[-3:], step, strict=True))
    coarse = np.empty((*padded.shape[:-3], *sides), values.dtype)
    if _has_kernel(values.dtype, kind) and use_compiled(values.size // PER_SEGMENTED_VOXEL):
        from unet.geometry import compiled_pyramid

        fill = compiled_pyramid.most_frequent if kind == "label" else compiled_pyramid.mean_of_integers
        for at in np.ndindex(coarse.shape[:-3]):
            fill(padded[at], coarse[at])
        return coarse
    for z in range(coarse.shape[-3]):  # a section at a time stays in the processor's caches
        coarse[..., z : z + 1, :, :] = combine(padded[..., z * step[0] : (z + 1) * step[0], :, :], step)
    return coarse


def _has_kernel(dtype: np.dtype, kind: Literal["image", "label"]) -> bool:
    """Return whether there is a kernel for voxels in the machine's byte order: ids, and the mean of small integers."""
    return dtype.isnative and dtype.kind in "iu" and (kind == "label" or dtype.itemsize <= 2)


def _mean_of_integers(values: np.ndarray, step: Index) -> np.ndarray:
    """Return the mean, halves rounded up. Neighbours are added along one axis after another, x last.

    Sums along z and y are of whole rows, and leave less to add along x, where every second voxel is slow to reach.
    """
    total, dtype = values, SUMS[values.dtype.itemsize]
    for axis, n in zip((-3, -2, -1), step, strict=True):
        if n == 2:
            halves: list[Any] = [(..., slice(i, None, 2), *[slice(None)] * (-1 - axis)) for i in (0, 1)]
            total = np.add(total[halves[0]], total[halves[1]], dtype=dtype)
    count = prod(step)
    if count > 1:
        total += count // 2
        total >>= count.bit_length() - 1  # divides by 2, 4 or 8, and rounds down
    return total


def _mean_of_floats(values: np.ndarray, step: Index) -> np.ndarray:
    voxels = _voxels(values, step)
    total = np.zeros(voxels[0].shape, np.float64)
    for one in voxels:
        total += one
    total /= len(voxels)
    return total


def _voxels(values: np.ndarray, step: Index) -> list[np.ndarray]:
    """Return the first, second ... voxel of each coarse voxel."""
    parts = product(*(range(s) for s in step))
    return [values[..., a :: step[0], b :: step[1], c :: step[2]] for a, b, c in parts]


def _mode(values: np.ndarray, step: Index) -> np.ndarray:
    """Return the most frequent value; of equally frequent ones the first.

    If half of the voxels equal the first one, no other value is more frequent. Only elsewhere all values are counted.
    """
    voxels = _voxels(values, step)
    lines = [np.ascontiguousarray(one).reshape(-1) for one in voxels]  # comparing strided arrays takes twice as long
    best, alike = lines[0].copy(), np.ones(lines[0].shape, dtype=np.uint8)
    for other in lines[1:]:
        alike += other == best
    undecided = np.flatnonzero(2 * alike < len(lines))
    best[undecided] = _most_frequent([one[undecided] for one in lines])
    return best.reshape(voxels[0].shape)


def _most_frequent(voxels: list[np.ndarray]) -> np.ndarray:
    best, best_count = voxels[0], np.zeros(voxels[0].shape, dtype=np.uint8)
    for candidate in voxels:
        count = np.zeros(best.shape, dtype=np.uint8)
        for other in voxels:
            count += candidate == other
        best = np.where(count > best_count, candidate, best)
        best_count = np.maximum(best_count, count)
    return best
