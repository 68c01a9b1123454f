"""A raw volume of any size, made block by block: cells that differ from block to block, and a labelled corner of it."""

from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path

import numpy as np
import zarr

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.training.synthetic import synthesise

SECTION = 4096
"""Side of a section in px; of a volume of less than 64 sections so it is smaller."""
BLOCK = (16, 512, 512)
PIECE = (16, 512)
"""Sections and side of the generated cells, of which each block is a turned and mirrored copy with noise of its own."""


def shape_of(voxels: int) -> tuple[int, int, int]:
    """Return the shape of a volume of about `voxels` voxels.

    >>> shape_of(2**30), shape_of(2**25)
    ((64, 4096, 4096), (32, 1024, 1024))
    """
    side = SECTION
    while side > 512 and voxels < 32 * side * side:
        side //= 2
    return max(1, ceil(voxels / side**2)), side, side


def make_volume(folder: Path, voxels: int) -> None:
    """Write `raw.zarr`, and `corner.zarr` with `corner-labels.zarr`, which are one block, in Zarr v3."""
    raw, labels = synthesise(sections=PIECE[0], size=PIECE[1], seed=1)
    grid = Grid(shape_of(voxels), BLOCK)
    whole = zarr.create_array(folder / "raw.zarr", shape=grid.shape, chunks=BLOCK, dtype="uint8")
    for name, values in (("corner", raw), ("corner-labels", labels)):
        stored = values.astype("uint8" if name == "corner" else "uint32")
        zarr.create_array(folder / f"{name}.zarr", data=stored, chunks=BLOCK)

    def write(number: int) -> None:
        box = grid.box(grid.index_of(number))
        whole[box.slices] = block(raw, number, box)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(len(grid))))


def block(raw: np.ndarray, number: int, box: Box) -> np.ndarray:
    """Return the grey values of a block: a turned, mirrored, shifted copy of the generated cells, with noise."""
    random = np.random.default_rng(number)
    turned = np.rot90(raw, int(random.integers(4)), axes=(1, 2))
    turned = np.roll(turned, random.integers(PIECE[1], size=2), axis=(1, 2))
    grey = turned[tuple(slice(n) for n in box.shape)].astype(np.int16) + random.integers(-3, 4, box.shape, np.int16)
    return np.clip(grey, 0, 255).astype(np.uint8)
