"""A step reads, around each block, what it tells as its inputs, and nothing else."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.storage.digests import bytes_digest
from unet.volumes.block_step import BlockStep, the_block

GRID = Grid((2, 12, 12), (1, 4, 4))


@dataclass
class Array:
    """A store in memory."""

    values: np.ndarray

    def read(self, box: Box) -> np.ndarray:
        return self.values[box.slices]

    def digest(self, box: Box) -> str:
        return bytes_digest(self.read(box).tobytes())


def step(raw: np.ndarray, halo: Index, **how: Any) -> BlockStep:
    """A step that reads `raw` with a halo, and `mask` without."""
    stores = {"raw": Array(raw), "mask": Array(raw > 0)}
    source: Any = SimpleNamespace(layout=SimpleNamespace(grid=GRID), image=stores.__getitem__)
    around = {"raw": lambda box: box.grown(halo).clipped(GRID.shape), "mask": the_block}
    return BlockStep("a rule", source, around, [], **how)


@pytest.mark.parametrize("halo", [(0, 0, 0), (0, 1, 1), (1, 5, 0)])
def test_a_block_depends_on_the_blocks_in_its_halo_alone(halo: Index) -> None:
    raw = np.random.default_rng(0).integers(1, 9, GRID.shape)
    for changed in GRID.boxes():
        other = raw.copy()
        other[changed.slices] += 10
        for box in GRID.boxes():
            reads_it = changed in GRID.touched(box.grown(halo).clipped(GRID.shape))
            assert (step(raw, halo).inputs_of(box) != step(other, halo).inputs_of(box)) == reads_it


@pytest.mark.parametrize("halo", [(0, 0, 0), (1, 2, 3)])
def test_the_block_is_found_in_what_is_read(halo: Index) -> None:
    raw = np.arange(np.prod(GRID.shape)).reshape(GRID.shape)
    one = step(raw, halo)
    for box in GRID.boxes():
        np.testing.assert_array_equal(one.read("raw", box)[one.inner("raw", box)], raw[box.slices])
        np.testing.assert_array_equal(one.read("mask", box), raw[box.slices] > 0)


def test_what_else_a_block_depends_on_is_among_its_inputs() -> None:
    raw, [box, *_] = np.ones(GRID.shape), GRID.boxes()
    plain, more = step(raw, (0, 0, 0)), step(raw, (0, 0, 0), depends_on=lambda box, inputs: {"weight": 2})
    assert more.inputs_of(box) == [*plain.inputs_of(box), {"weight": 2}]
