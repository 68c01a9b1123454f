"""Cells followed through thick sections: a missing, blank or shifted section neither parts nor joins them."""

import numpy as np
import pytest

from unet.config.segment import AgglomerateConfig
from unet.geometry.grid import Grid
from unet.segmentation.edge_slabs import EdgeSlabs, gather_edges
from unet.segmentation.fragments import join_blocks
from unet.segmentation.height_map import WatershedParameters
from unet.segmentation.merge_table import number_objects, relabel
from unet.segmentation.merging import solve_objects
from unet.segmentation.region_graph import block_edges, fragment_ids
from unet.segmentation.watershed import watershed_block

SIDE, PITCH, WALL = 96, 24, 3
PARAMETERS = WatershedParameters(6, 1, 4, "section", (50.0, 4.0, 4.0))


def sections(depth: int) -> np.ndarray:
    """Interior probability x 255 of 16 square cells with walls between them, that drift slowly."""
    y, x = np.mgrid[:SIDE, :SIDE]
    stack = []
    for z in range(depth):
        wall = ((y + z) % PITCH < WALL) | ((x - z) % PITCH < WALL)
        stack.append(np.where(wall, 20, 240))
    return np.array(stack, np.uint8)


def segmented(probability: np.ndarray, bridge: int, mismatch: float = 0.1) -> np.ndarray:
    """Fragments per section, linked over sections."""
    grid = Grid(probability.shape, probability.shape)
    [box] = grid.boxes()
    found = watershed_block(probability > 127, box, grid.shape, PARAMETERS)
    fragments = join_blocks(grid, [found])
    steps = [(0, 0, 1), (0, 1, 0), *((ahead, 0, 0) for ahead in range(1, bridge + 2))]
    edges = block_edges(fragment_ids(found.labels, box, grid), 255 - probability, box.shape, steps)
    settings = AgglomerateConfig(threshold=0.4, size_mismatch_penalty=mismatch)
    graph = EdgeSlabs.whole(gather_edges(fragments, [edges]), fragments.component_count)
    objects = solve_objects(fragments.merge_components(), graph, settings, SIDE * SIDE)
    return relabel(found.labels, number_objects(fragments, objects).lut_of_block(0))


def cells_of(segmentation: np.ndarray) -> list[int]:
    """The ids at the middle of the four inner cells of a section."""
    middle = (PITCH + WALL) // 2
    return [int(segmentation[PITCH * i + middle, PITCH * j + middle]) for i in (1, 2) for j in (1, 2)]


def test_cells_are_followed_and_kept_apart() -> None:
    ids = segmented(sections(6), bridge=1)
    assert len(set(cells_of(ids[0]))) == 4
    assert all(cells_of(section) == cells_of(ids[0]) for section in ids[1:4])


@pytest.mark.parametrize("lost", [0, 255], ids=["all membrane", "all interior"])
def test_a_lost_section_is_bridged_and_joins_nothing(lost: int) -> None:
    probability = sections(6)
    probability[3] = lost
    ids = segmented(probability, bridge=1)
    assert len(set(cells_of(ids[0]))) == 4
    assert cells_of(ids[2]) == cells_of(ids[4]) == cells_of(ids[0])
    assert not set(cells_of(ids[3])) & set(cells_of(ids[0]))
    apart = segmented(probability, bridge=0)
    assert not set(cells_of(apart[2])) & set(cells_of(apart[4]))


@pytest.mark.parametrize("shift", [4, 8])
def test_a_shifted_section_parts_nothing(shift: int) -> None:
    probability = sections(6)
    probability[3] = np.roll(probability[3], shift, axis=1)
    ids = segmented(probability, bridge=1)
    assert len(set(cells_of(ids[0]))) == 4
    assert cells_of(ids[2]) == cells_of(ids[4]) == cells_of(ids[0])


def test_without_the_mismatch_a_blank_section_would_join_cells() -> None:
    probability = sections(6)
    probability[3] = 255
    ids = segmented(probability, bridge=1, mismatch=0)
    assert len(set(cells_of(ids[0]))) < 4
