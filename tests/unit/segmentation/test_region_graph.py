"""The region graph: contacts counted by hand, by plain loops, and over blocks."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.segmentation.region_graph import (
    HISTOGRAM_BINS,
    Edges,
    add_section_penalty,
    block_edges,
    contact_steps,
    group_edges,
    sum_groups,
)

STEPS = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 0, 0)]


def as_dict(edges: Edges) -> dict[tuple[int, int], tuple[int, int, list[int]]]:
    rows = zip(edges.u.tolist(), edges.v.tolist(), edges.contacts, edges.boundary, edges.histogram, strict=True)
    return {(u, v): (int(n), int(b), h.tolist()) for u, v, n, b, h in rows}


def counted_plainly(ids: np.ndarray, boundary: np.ndarray, steps: list[Index]) -> dict:
    levels: dict[tuple[int, int], list[int]] = {}
    for here in np.ndindex(ids.shape):
        for step in steps:
            there = tuple(a + b for a, b in zip(here, step, strict=True))
            if all(n < full for n, full in zip(there, ids.shape, strict=True)):
                pair = sorted((int(ids[here]), int(ids[there])))
                if pair[0] != pair[1] and pair[0]:
                    levels.setdefault((pair[0], pair[1]), []).append(max(int(boundary[here]), int(boundary[there])))
    bins = {pair: np.bincount(np.array(own) // 16, minlength=HISTOGRAM_BINS).tolist() for pair, own in levels.items()}
    return {pair: (len(own), sum(own), bins[pair]) for pair, own in levels.items()}


@st.composite
def volumes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)))
    random = np.random.default_rng(draw(st.integers(0, 9999)))
    ids = random.integers(0, 5, shape).astype(np.uint64) << np.uint64(draw(st.sampled_from([0, 40])))
    return ids, random.integers(0, 256, shape, dtype=np.uint8)


@given(volumes(), st.integers(1, 4))
def test_contacts_are_those_of_plain_loops(volume: tuple[np.ndarray, np.ndarray], steps: int) -> None:
    found = block_edges(*volume, volume[0].shape, STEPS[:steps])
    assert as_dict(found) == counted_plainly(*volume, STEPS[:steps])
    assert (found.u < found.v).all()


@given(volumes(), st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
def test_edges_of_blocks_add_up_to_those_of_the_volume(volume: tuple[np.ndarray, np.ndarray], block: Index) -> None:
    ids, boundary = volume
    parts = []
    for box in Grid(ids.shape, block).boxes():
        read = Box(box.start, tuple(hi + d for hi, d in zip(box.stop, (2, 1, 1), strict=True))).clipped(ids.shape)
        parts.append(block_edges(ids[read.slices], boundary[read.slices], box.shape, STEPS))
    number_of = {int(value): number for number, value in enumerate(np.unique(ids))}
    u, v = (np.array([number_of[int(i)] for part in parts for i in getattr(part, end)], np.int64) for end in "uv")
    columns = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("contacts", "boundary", "histogram")
    )
    whole = block_edges(ids, boundary, ids.shape, STEPS)
    known = np.unique(ids)
    u, v, order, start = group_edges(u, v)
    assert as_dict(Edges(known[u], known[v], *(sum_groups(column, order, start) for column in columns))) == as_dict(
        whole
    )


def test_the_boundary_of_a_contact_is_the_larger_of_its_two_voxels() -> None:
    ids = np.array([[[1, 2], [1, 2]]], np.uint64)
    found = block_edges(ids, np.array([[[10, 200], [30, 20]]], np.uint8), ids.shape, STEPS)
    assert as_dict(found)[1, 2][:2] == (2, 230)


def test_an_edge_from_a_node_to_itself_is_dropped_and_nothing_gives_nothing() -> None:
    u, v, order, start = group_edges(np.array([5, 5]), np.array([5, 5]))
    assert (len(u), len(v), len(sum_groups(np.array([1, 2]), order, start))) == (0, 0, 0)
    assert len(block_edges(np.ones((1, 2, 2), np.uint64), np.zeros((1, 2, 2), np.uint8), (1, 2, 2), STEPS)) == 0


def test_edges_within_a_section_are_left_as_they_are() -> None:
    edges = Edges(np.array([0]), np.array([1]), np.array([1]), np.array([7]), np.eye(1, HISTOGRAM_BINS, dtype=np.int64))
    same = add_section_penalty(edges, np.array([4, 4]), np.array([100, 100]), size_mismatch_penalty=1)
    assert as_dict(same) == as_dict(edges)


def test_the_penalty_is_a_whole_number_of_contacts_rounded_down() -> None:
    """sqrt(2 * 3) - 1 = 1.45 contacts are missing: one is added, through a full membrane."""
    edges = Edges(np.array([0]), np.array([1]), np.array([1]), np.array([7]), histogram=None)
    found = add_section_penalty(edges, np.array([4, 5]), np.array([2, 3]), size_mismatch_penalty=1)
    assert (found.contacts.tolist(), found.boundary.tolist()) == ([2], [7 + 255])


def test_a_fragment_as_large_as_a_section_is_like_none_that_it_covers() -> None:
    cells, blank = 9, 90_000
    histogram = cells * np.eye(1, HISTOGRAM_BINS, dtype=int).repeat(2, axis=0)
    # both lie wholly on fragment 0, without a membrane between
    edges = Edges(np.array([0, 0]), np.array([1, 2]), np.full(2, cells), np.zeros(2, int), histogram)
    found = add_section_penalty(edges, np.array([0, 1, 1]), np.array([cells, cells, blank]), size_mismatch_penalty=0.1)
    mean = found.boundary / found.contacts / 255
    np.testing.assert_array_equal(found.histogram.sum(axis=1), found.contacts)
    assert mean[0] == 0
    assert mean[1] > 0.9


def test_every_step_counts_once() -> None:
    ids = np.arange(1, 9, dtype=np.uint64).reshape(2, 2, 2)
    found = block_edges(ids, np.zeros((2, 2, 2), np.uint8), ids.shape, STEPS)
    pairs = [(a, b) for a, b in product(range(1, 9), repeat=2) if bin((a - 1) ^ (b - 1)).count("1") == 1 and a < b]
    assert sorted(as_dict(found)) == sorted(pairs)


@pytest.mark.parametrize(
    ("settings", "ahead"),
    [
        ({"method": "watershed", "connectivity": "volume", "max_section_gap": None}, [1]),
        ({"method": "watershed"}, [1, 2]),
        ({"method": "watershed", "max_section_gap": 0}, [1]),
        ({"method": "watershed", "max_section_gap": None}, []),
        ({"method": "components"}, []),
    ],
)
def test_contacts_lead_to_the_sections_that_a_link_may_reach(settings: dict, ahead: list[int]) -> None:
    within = [(0, 0, 1), (0, 1, 0)]
    assert contact_steps(SegmentConfig(**settings)) == within + [(z, 0, 0) for z in ahead]
