"""Suspected merge errors: on graphs made by hand, and the same for any numbering, slabs and blocks."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unet.config.segment import AgglomerateConfig, SuspectedMergesConfig
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.segmentation.edge_slabs import EdgeSlabs
from unet.segmentation.fragments import Fragments
from unet.segmentation.region_graph import HISTOGRAM_BINS, Edges, group_edges, sum_groups
from unet.segmentation.suspected_merges import (
    SoundContact,
    SuspectedMerges,
    contact_centres,
    contact_sums,
    find_suspected_merges,
)

LIMITS = SuspectedMergesConfig(min_size=100, min_contacts=10, margin=0.1)
MEAN = SoundContact(AgglomerateConfig(threshold=0.5), LIMITS)
ROWS = [
    # u, v, pairs of voxels, mean boundary: large A = 0, 1 and B = 3, 4; 2 is a small piece between them
    (0, 1, 50, 0.1),
    (1, 2, 3, 0.2),  # small
    (2, 3, 40, 0.45),  # weak
    (3, 4, 60, 0.3),
    (4, 5, 30, 0.1),  # 5 is another object
]
SIZES = [80, 70, 20, 90, 60, 500]
OBJECTS = [1, 1, 1, 1, 1, 2]


def components(sizes: list[int], first_voxel: list[int] | None = None) -> Fragments:
    """Connected components of these sizes, by default in the order of their first voxels."""
    n = len(sizes)
    first = np.arange(n) if first_voxel is None else np.array(first_voxel)
    number = np.arange(n, dtype=np.int32)
    return Fragments(np.array([0, n]), first, np.array(sizes), np.ones(n, np.uint8), np.zeros(n, bool), number)


def edges(rows: list[tuple[int, int, int, float]]) -> Edges:
    """Edges whose contacts all have the mean boundary."""
    u, v, order, start = group_edges(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]))
    contacts = np.array([row[2] for row in rows])
    level = np.array([round(255 * row[3]) for row in rows])
    histogram = contacts[:, None] * (level[:, None] // 16 == np.arange(HISTOGRAM_BINS))
    columns = (sum_groups(column, order, start) for column in (contacts, contacts * level, histogram))
    return Edges(u, v, *columns)


def pairs(found: SuspectedMerges) -> list[tuple[int, ...]]:
    """Sizes of both parts, pairs of adjacent voxels, and all pairs."""
    sizes = (sorted(found.size[[u, v]].tolist()) for u, v in zip(found.u, found.v, strict=True))
    return sorted((*size, int(a), int(b)) for size, a, b in zip(sizes, *found.columns[:2], strict=True))


def find(rows: Any = ROWS, sizes: Any = SIZES, objects: Any = OBJECTS, sound: SoundContact = MEAN) -> SuspectedMerges:
    graph = EdgeSlabs.whole(edges(rows), len(sizes))
    return find_suspected_merges(components(sizes), np.array(objects, np.uint64), graph, None, sound)


def test_two_large_parts_that_a_small_piece_joins_are_listed_once() -> None:
    """The piece goes to A, with the lower boundary; its contact with B, 40 pairs at 0.45, is weak."""
    found = find()
    assert pairs(found) == [(150, 170, 40, 40)]
    assert found.part_of[:5].tolist() == [0, 0, 0, 3, 3]
    assert (MEAN.is_weak(found.columns).tolist(), MEAN.is_small(found.columns).tolist()) == ([True], [False])
    assert MEAN.score(found.columns).tolist() == pytest.approx([0.45], abs=0.003)


def test_a_contact_of_few_voxels_is_small_whatever_its_score() -> None:
    found = find([(0, 1, 9, 0.0)], [100, 100], [1, 1])
    assert pairs(found) == [(100, 100, 9, 9)]
    assert not MEAN.is_weak(found.columns)
    assert not len(find([(0, 1, 10, 0.0)], [100, 100], [1, 1]))
    assert not len(find([(0, 1, 9, 0.0)], [100, 99], [1, 1]))
    assert not len(find([(0, 1, 9, 0.0)], [100, 100], [1, 2]))
    assert not len(find([(0, 1, 9, 0.0)], [100, 100], [0, 0]))


def test_contacts_that_are_sound_together_join() -> None:
    """Each of three fragments of B touches A in 4 voxels: 12 together."""
    rows = [(0, i, 4, 0.1) for i in (1, 2, 3)] + [(1, 2, 20, 0.1), (2, 3, 20, 0.1)]
    assert not len(find(rows, [100, 40, 40, 40], [1] * 4))
    assert pairs(find(rows[1:], [100, 40, 40, 40], [1] * 4)) == [(100, 120, 8, 8)]


@pytest.mark.parametrize("method", ["mean", "quantile", "average_linkage"])
def test_every_linkage_has_its_own_score(method: str) -> None:
    """Half of the contact has boundary 0.2 and half 0.7: mean 0.45, lower quartile 0.2; as affinity 0.55 and 0.8."""
    rows = [(0, 1, 20, 0.2), (0, 1, 20, 0.7)]
    sound = SoundContact(AgglomerateConfig(method=method, quantile=0.25), LIMITS)  # type: ignore[arg-type]
    found = find(rows, [100, 100], [1, 1], sound)
    assert len(found) == {"mean": 1, "quantile": 0, "average_linkage": 1}[method]
    nothing = SoundContact(sound.agglomerate, LIMITS.model_copy(update={"margin": 0.02}))
    assert not len(find(rows, [100, 100], [1, 1], nothing))


def test_of_affinities_only_pairs_of_adjacent_voxels_touch() -> None:
    """30 pairs of voxels across a gap, of which none are adjacent, are no contact that one would rely on."""
    every, near = edges([(0, 1, 30, 0.0), (1, 2, 30, 0.0)]), edges([(1, 2, 12, 0.0)])
    sound = SoundContact(AgglomerateConfig(method="average_linkage"), LIMITS)
    graph, touching = EdgeSlabs.whole(every, 3), EdgeSlabs.whole(near, 3)
    found = find_suspected_merges(components([100, 100, 100]), np.ones(3, np.uint64), graph, touching, sound)
    assert pairs(found) == [(100, 200, 0, 30)]


def some_graph(seed: int) -> tuple[list[tuple[int, int, int, float]], list[int], NDArray[np.uint64]]:
    """A graph of 40 components in four objects, of small and large contacts."""
    random = np.random.default_rng(seed)
    ends = {(int(min(a, b)), int(max(a, b))) for a, b in random.integers(0, 40, (160, 2)) if a != b}
    rows = [(u, v, int(random.choice([2, 5, 30])), float(random.choice([0.1, 0.2, 0.44]))) for u, v in sorted(ends)]
    return rows, random.integers(5, 90, 40).tolist(), random.integers(0, 4, 40).astype(np.uint64)


@pytest.mark.parametrize("method", ["mean", "quantile", "average_linkage"])
def test_numbering_and_slabs_do_not_matter(method: str) -> None:
    """Take three slabs with a random third of every edge each, and nodes in another order."""
    sound, listed = SoundContact(AgglomerateConfig(method=method), LIMITS), 0  # type: ignore[arg-type]
    for seed in range(20):
        rows, sizes, objects = some_graph(seed)
        expected = find(rows, sizes, objects, sound)
        random = np.random.default_rng(seed)
        new = random.permutation(len(sizes))  # number of each component in the other order
        parts: list[list[tuple[int, int, int, float]]] = [[], [], []]
        for u, v, contacts, boundary in rows:
            for number, share in enumerate(random.multinomial(contacts, [1 / 3] * 3).tolist()):
                if share:
                    parts[number].append((int(new[u]), int(new[v]), share, boundary))
        slabs = [edges(part) for part in parts]
        last = np.zeros(len(sizes), np.int64)
        for number, slab in enumerate(slabs):
            last[slab.u], last[slab.v] = number, number
        moved = components([sizes[i] for i in np.argsort(new)], np.argsort(new).tolist())
        graph = EdgeSlabs(last, lambda slabs=slabs: slabs)
        found = find_suspected_merges(moved, objects[np.argsort(new)], graph, None, sound)
        assert pairs(found) == pairs(expected)
        np.testing.assert_array_equal(found.part_of[new], expected.part_of)
        listed += len(expected)
    assert listed > 20


def test_contacts_are_found_where_they_are_whatever_the_blocks() -> None:
    parts = np.random.default_rng(0).integers(-1, 4, (5, 6, 7)).astype(np.int32)
    steps, n = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 2, -1)], np.array
    found = SuspectedMerges(n([0]), n([0]), n([0, 1, 1], np.int32), n([3, 2, 3], np.int32), [])
    expected = np.zeros((2, 3, 4), np.int64)
    for p in np.ndindex(parts.shape):
        for step in steps:
            q = tuple(a + b for a, b in zip(p, step, strict=True))
            if all(0 <= i < m for i, m in zip(q, parts.shape, strict=True)):
                ends = tuple(sorted((parts[p], parts[q])))
                if ends in [(0, 3), (1, 2), (1, 3)]:
                    row = [(0, 3), (1, 2), (1, 3)].index(ends)
                    expected[int(step == (0, 2, -1)), row] += [1, *(a + b for a, b in zip(p, q, strict=True))]
    total = np.zeros_like(expected)
    grid = Grid(parts.shape, (2, 4, 3))
    for box in grid.boxes():
        read = Box(tuple(a - 2 for a in box.start), tuple(b + 2 for b in box.stop))
        read = read.clipped(parts.shape)
        total += contact_sums(parts[read.slices], box, read, steps, found)
    np.testing.assert_array_equal(total, expected)
    centres = contact_centres(total)
    assert ((centres >= 0) & (centres < parts.shape)).all()
