"""Affinities: the interior and the region graph, block by block, by plain loops and worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet.config.segment import AgglomerateConfig, SegmentConfig
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.offsets import Offset, is_nearest
from unet.segmentation.affinities import (
    MethodMismatchError,
    MissingAffinity,
    graph_channels,
    interior,
    interior_read_box,
    require_method_for,
)
from unet.segmentation.affinity_graph import (
    SUMS,
    AffinityEdges,
    block_affinity_edges,
    graph_read_box,
    load_affinity_edges,
    save_affinity_edges,
)

NEAREST: list[Offset] = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
OFFSETS: list[Offset] = [*NEAREST, (3, 0, 0), (0, 2, -2), (1, -1, 0), (0, 0, 9)]
Sums = dict[tuple[int, int], list[int]]


@st.composite
def volumes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Index]:
    """Fragments `(z, y, x)`, affinities `(c, z, y, x)`, and the shape of a block."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)))
    block = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    random = np.random.default_rng(draw(st.integers(0, 9999)))
    ids = random.integers(draw(st.integers(0, 1)), 5, shape).astype(np.uint64) << np.uint64(
        draw(st.sampled_from([0, 40]))
    )
    return ids, random.integers(0, 256, (len(OFFSETS), *shape), dtype=np.uint8), block


def inside(voxel: tuple[int, ...], shape: Index) -> bool:
    return all(0 <= n < full for n, full in zip(voxel, shape, strict=True))


def interior_by_loops(affinities: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    shape, found = affinities.shape[1:], np.zeros(affinities.shape[1:], np.uint8)
    for here in np.ndindex(shape):
        least = []
        for axis in axes:
            before = tuple(n - (a == axis) for a, n in enumerate(here))
            next_ = tuple(n + (a == axis) for a, n in enumerate(here))
            ahead = int(affinities[axis][here]) if inside(next_, shape) else 255
            least.append(min(ahead, int(affinities[axis][before]) if inside(before, shape) else 255))
        found[here] = int(sum(least) / len(least) + 0.5)
    return found


@given(volumes(), st.sampled_from([(0, 1, 2), (1, 2)]))
def test_the_interior_of_blocks_is_that_of_the_volume(
    volume: tuple[np.ndarray, np.ndarray, Index], axes: tuple[int, ...]
) -> None:
    _, affinities, block = volume
    shape = affinities.shape[1:]
    found = np.zeros(shape, np.uint8)
    for box in Grid(shape, block).boxes():
        read = affinities[interior_read_box(box, axes).trailing]
        found[box.slices] = interior(read, box, shape, OFFSETS, axes)
    np.testing.assert_array_equal(found, interior_by_loops(affinities, axes))


def test_a_membrane_between_two_cells_is_no_interior() -> None:
    ahead = np.array([[[[255, 0, 255, 255]]]], np.uint8)
    row = Box.of_shape((1, 1, 4))
    assert interior(ahead, row, row.shape, [(0, 0, 1)], axes=(2,)).tolist() == [[[255, 0, 0, 255]]]
    as_floats = (ahead / 255).astype(np.float32)
    assert interior(as_floats, row, row.shape, [(0, 0, 1)], axes=(2,)).tolist() == [[[255, 0, 0, 255]]]


def test_affinities_of_the_wrong_shape_are_refused() -> None:
    """The block is at 1:2 along x: the voxel before it is to be read too."""
    box = Box((0, 0, 1), (1, 1, 2))
    with pytest.raises(
        ValueError, match=r"affinities of shape \(1, 1, 3\) for 0:1,0:1,0:2, to be read for 0:1,0:1,1:2"
    ):
        interior(np.zeros((1, 1, 1, 3), np.uint8), box, (1, 1, 3), [(0, 0, 1)], axes=(2,))


def test_without_a_nearest_offset_the_message_names_it() -> None:
    row = Box.of_shape((1, 1, 4))
    with pytest.raises(
        MissingAffinity, match=r"gives the affinities \['y\+1', 'x\+1'\], but the segmentation needs z\+1"
    ):
        interior(np.zeros((2, 1, 1, 4), np.uint8), row, row.shape, NEAREST[1:], axes=(0, 1, 2))


def as_dict(edges: AffinityEdges) -> Sums:
    rows = zip(edges.u.tolist(), edges.v.tolist(), *(getattr(edges, name).tolist() for name in SUMS), strict=True)
    return {(u, v): sums for u, v, *sums in rows}


def sums_by_loops(ids: np.ndarray, affinities: np.ndarray) -> Sums:
    found: Sums = {}
    for offset, levels in zip(OFFSETS, affinities, strict=True):
        for here in np.ndindex(ids.shape):
            there = tuple(n + d for n, d in zip(here, offset, strict=True))
            if inside(there, ids.shape) and ids[here] != ids[there] and ids[here] and ids[there]:
                one, other = sorted((int(ids[here]), int(ids[there])))
                sums = found.setdefault((one, other), [0] * 4)
                column = 0 if is_nearest(offset) else 2
                sums[column] += 1
                sums[column + 1] += int(levels[here])
    return found


@given(volumes())
def test_sums_of_blocks_add_up_to_those_of_plain_loops(volume: tuple[np.ndarray, np.ndarray, Index]) -> None:
    ids, affinities, block = volume
    found: Sums = {}
    for box in Grid(ids.shape, block).boxes():
        read = graph_read_box(box, OFFSETS, ids.shape)
        part = as_dict(block_affinity_edges(ids[read.slices], affinities[box.trailing], box, read, OFFSETS))
        assert list(part) == sorted(part)
        for pair, sums in part.items():
            found[pair] = [a + b for a, b in zip(found.get(pair, [0] * 4), sums, strict=True)]
    assert found == sums_by_loops(ids, affinities)


def test_fragments_that_do_not_touch_have_an_edge_of_long_pairs_alone(tmp_path) -> None:  # type: ignore[no-untyped-def]
    ids, row = np.array([[[1, 2, 2, 3]]], np.uint64), Box.of_shape((1, 1, 4))
    affinities = np.array([[[[10, 255, 20, 0]]], [[[99, 0, 0, 0]]]], np.uint8)
    found = block_affinity_edges(ids, affinities, row, row, [(0, 0, 1), (0, 0, 3)])
    assert as_dict(found) == {(1, 2): [1, 10, 0, 0], (1, 3): [0, 0, 1, 99], (2, 3): [1, 20, 0, 0]}
    touching = found.as_boundary("nearest")
    assert list(zip(touching.u.tolist(), touching.v.tolist(), strict=True)) == [(1, 2), (2, 3)]
    assert found.as_boundary().boundary.tolist() == [245, 156, 235]
    save_affinity_edges(tmp_path / "edges.npz", found)
    assert as_dict(load_affinity_edges(tmp_path / "edges.npz")) == as_dict(found)


def test_a_block_without_pairs_has_no_edges() -> None:
    row = Box.of_shape((1, 1, 2))
    one = np.ones((1, 1, 2), np.uint64)
    assert len(block_affinity_edges(one, np.zeros((1, 1, 1, 2), np.uint8), row, row, [(0, 0, 1)])) == 0
    assert len(block_affinity_edges(one, np.zeros((0, 1, 1, 2), np.uint8), row, row, [])) == 0


def test_offsets_that_the_graph_counts() -> None:
    offsets: list[Offset] = [(1, 0, 0), (2, 0, 0), (0, 0, 1), (0, 9, -9)]
    assert graph_channels(offsets, None, 1, section=False) == [0, 1, 2, 3]
    assert graph_channels(offsets, 3, None, section=False) == [0, 1, 2]
    assert graph_channels(offsets, None, 0, section=True) == [0, 2, 3]
    assert graph_channels(offsets, None, None, section=True) == [2, 3]


@pytest.mark.parametrize(("method", "offsets"), [("average_linkage", None), ("mean", NEAREST), ("multicut", NEAREST)])
def test_a_method_that_does_not_fit_the_output_is_refused(method: str, offsets: list[Offset] | None) -> None:
    segment = SegmentConfig(method="watershed", agglomerate=AgglomerateConfig.model_validate({"method": method}))
    with pytest.raises(MethodMismatchError, match=f"segment.agglomerate.method is {method}, but the network gives"):
        require_method_for(segment, offsets)
    require_method_for(SegmentConfig(), offsets)
