"""Kernels of `pyramid`: the mean of small integers and the most frequent id, in one pass over the voxels."""

import numpy as np
from numpy.typing import NDArray

from unet.geometry.compiled import kernel


@kernel
def mean_of_integers(values: NDArray[np.integer], coarse: NDArray[np.integer]) -> None:
    """Write the mean of integers of 8 or 16 bits, halves rounded up. Each side of `coarse` is whole or half."""
    depth, rows, columns = coarse.shape
    step_z, step_y, step_x = values.shape[0] // depth, values.shape[1] // rows, values.shape[2] // columns
    count = step_z * step_y * step_x
    shift = (1 if step_z == 2 else 0) + (1 if step_y == 2 else 0) + (1 if step_x == 2 else 0)
    total = np.empty(columns, np.int32)
    for z in range(depth):
        for y in range(rows):
            total[:] = count // 2
            for line in range(step_z * step_y):
                fine = values[z * step_z + line // step_y, y * step_y + line % step_y]
                if step_x == 2:
                    for x in range(columns):
                        total[x] += np.int32(fine[2 * x]) + np.int32(fine[2 * x + 1])
                else:
                    for x in range(columns):
                        total[x] += np.int32(fine[x])
            out = coarse[z, y]
            for x in range(columns):
                out[x] = total[x] >> shift


@kernel
def most_frequent(values: NDArray[np.integer], coarse: NDArray[np.integer]) -> None:
    """Write the most frequent id; of equally frequent ones the first. Each side of `coarse` is whole or half."""
    depth, rows, columns = coarse.shape
    step_z, step_y, step_x = values.shape[0] // depth, values.shape[1] // rows, values.shape[2] // columns
    count = step_z * step_y * step_x
    ids, alike = np.empty(count, values.dtype), np.empty(columns, np.int32)
    for z in range(depth):
        for y in range(rows):
            cells = values[z * step_z : (z + 1) * step_z, y * step_y : (y + 1) * step_y]
            first, out = cells[0, 0], coarse[z, y]
            alike[:] = 0
            for line in range(step_z * step_y):
                fine = cells[line // step_y, line % step_y]
                if step_x == 2:
                    for x in range(columns):
                        own = first[2 * x]
                        alike[x] += np.int32(fine[2 * x] == own) + np.int32(fine[2 * x + 1] == own)
                else:
                    for x in range(columns):
                        alike[x] += np.int32(fine[x] == first[x])
            for x in range(columns):
                out[x] = first[x * step_x]
                if 2 * alike[x] < count:  # else no other id is more frequent
                    for n in range(count):
                        ids[n] = cells[n // (step_y * step_x), n // step_x % step_y, x * step_x + n % step_x]
                    out[x] = _first_of_most(ids)


@kernel
def _first_of_most(ids: NDArray[np.integer]) -> np.integer:
    best, most = ids[0], 0
    for candidate in ids:
        times = 0
        for other in ids:
            times += 1 if other == candidate else 0
        if times > most:
            best, most = candidate, times
    return best
