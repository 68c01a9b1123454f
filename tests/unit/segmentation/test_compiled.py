"""The compiled kernels against the numpy code, to the bit; and the cache of compiled code."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.segmentation.test_watershed import cases
from unet.geometry import compiled
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.segmentation import affinity_graph, agglomeration, region_graph, watershed, watershed_by_kernels
from unet.segmentation.components import first_voxel_and_size, renumber_in_scan_order
from unet.segmentation.foreground import LevelConfidence, compact_confidence
from unet.segmentation.height_map import WatershedParameters
from unet.segmentation.steepest_ascent import NO_FRAGMENT, label_basins

needs_numba = pytest.mark.skipif(not compiled.IS_INSTALLED, reason="numba is not installed")
ROOT = Path(__file__).parents[3]


@contextmanager
def always(choice: bool) -> Iterator[None]:
    """Use the kernels for however few voxels, or never."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (watershed, region_graph, affinity_graph, agglomeration):
            patch.setattr(module, "use_compiled", lambda voxels: choice)
        yield


def assert_same(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    """All arrays, their types and their order in memory are the same: so are the files that they are written to."""
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True, err_msg=name)
        assert found[name].flags.c_contiguous, name


@needs_numba
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), st.sampled_from([None, np.float32, np.uint8]), st.booleans(), st.integers(0, 99))
def test_fragments_of_blocks(
    case: tuple[np.ndarray, Index, WatershedParameters], grey: type | None, masked: bool, seed: int
) -> None:
    """For sections and volumes, cubes and slabs, any smoothing, all kinds of confidence, with and without a mask."""
    cells, block, parameters = case
    random = np.random.default_rng(seed)
    tissue = random.random(cells.shape) > 0.1 if masked else None
    stored = random.integers(0, 9, cells.shape).astype(np.uint8) * 8 + 128 * cells.astype(np.uint8)
    confidence = None if grey is None else compact_confidence(stored if grey is np.uint8 else stored / grey(255), 0.5)
    for box in Grid(cells.shape, block).boxes()[:3]:
        _, read = watershed.labelled_and_read_boxes(box, cells.shape, parameters)
        certain = confidence
        if isinstance(confidence, LevelConfidence):
            certain = LevelConfidence(confidence.levels[read.slices], confidence.of_level)
        elif confidence is not None:
            certain = confidence[read.slices]
        here = None if tissue is None else tissue[read.slices]
        made = []
        for choice in (False, True):
            with always(choice):
                made.append(watershed.watershed_block(cells[read.slices], box, cells.shape, parameters, here, certain))
        expected, found = made
        names = ("first_voxel", "size", "class_value", "touches_border", "labels")
        assert_same(*({name: getattr(one, name) for name in names} for one in (expected, found)))
        for axis, faces in expected.faces.items():
            for one, other in zip(faces, found.faces[axis], strict=True):
                np.testing.assert_array_equal(one, other)


@needs_numba
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.tuples(st.integers(3, 6), st.integers(3, 9), st.integers(3, 12)),
    st.sampled_from([2, 4, 30]),
    st.sampled_from([{1: 1.0, 2: 1.0}, {0: 1.0, 1: 1.0, 2: 1.0}, {0: 2.5, 1: 1.0, 2: 1.25}]),
    st.integers(0, 9999),
)
def test_basins_of_plateaus_and_ties(shape: Index, levels: int, edge_px: dict[int, float], seed: int) -> None:
    random = np.random.default_rng(seed)
    height = random.integers(0, levels, shape).astype(np.float32)
    height[random.random(shape) < 0.1] = NO_FRAGMENT
    expected = renumber_in_scan_order(np.ascontiguousarray(label_basins(height, edge_px)))
    whole = Box.of_shape(expected.shape)
    labels, first, size = watershed_by_kernels.basins(height, edge_px, whole, expected.shape)
    np.testing.assert_array_equal(labels, expected, strict=True)
    for found, wanted in zip((first, size), first_voxel_and_size(expected, int(expected.max())), strict=True):
        np.testing.assert_array_equal(found, wanted, strict=True)


@needs_numba
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 2000), st.sampled_from([np.uint64, np.uint32]), st.booleans(), st.integers(0, 999))
def test_edges_of_classes_and_of_affinities(fragments: int, dtype: type, background: bool, seed: int) -> None:
    """Two thousand edges outgrow the first table."""
    random = np.random.default_rng(seed)
    labels = random.integers(0 if background else 1, fragments + 1, (4, 9, 14))
    ids = np.repeat(labels, 2, axis=2).astype(dtype) << dtype(40 if dtype is np.uint64 else 3)
    boundary = random.integers(0, 256, ids.shape).astype(np.uint8)
    steps = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 0, 0)]
    offsets = [(0, 0, 1), (0, 1, 0), (-1, 0, 0), (1, -2, 3), (0, 4, -9)]
    box = Box((1, 2, 9), (3, 7, 26))
    read = affinity_graph.graph_read_box(box, offsets, ids.shape)
    affinities = random.integers(0, 256, (len(offsets), *box.shape)).astype(np.uint8)
    made = []
    for choice in (False, True):
        with always(choice):
            contacts = region_graph.block_edges(ids, boundary, (3, 7, 28), steps)
            pairs = affinity_graph.block_affinity_edges(ids[read.slices], affinities, box, read, offsets)
            made.append((vars(contacts), vars(pairs)))
    for expected, found in zip(*made, strict=True):
        assert_same(expected, found)


@needs_numba
def test_ids_of_fragments() -> None:
    grid, read = Grid((8, 18, 32), (3, 5, 7)), Box((1, 2, 3), (7, 17, 31))
    labels = np.random.default_rng(0).integers(0, 3, read.shape).astype(np.uint32)
    made = []
    for choice in (False, True):
        with always(choice):
            made.append(region_graph.fragment_ids(labels, read, grid))
    np.testing.assert_array_equal(*made, strict=True)


@needs_numba
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(2, 60), st.integers(1, 300), st.sampled_from([2, 200]), st.booleans(), st.integers(0, 9999))
def test_rounds_of_the_agglomeration(nodes: int, edges: int, levels: int, bounded: bool, seed: int) -> None:
    """Clusters, their names, and the edges that are left; few levels give many ties."""
    random = np.random.default_rng(seed)
    u, v, _, _ = region_graph.group_edges(*random.integers(0, nodes, (2, edges)).astype(np.int32))
    contacts = random.integers(1, 4, len(u))
    boundary = contacts * random.integers(0, levels, len(u)) * (200 // levels)
    kept = random.random(nodes) < 0.2 if bounded else None
    made = []
    for choice in (False, True):
        graph = agglomeration.Graph(nodes, u, v, [contacts, boundary])  # the arrays are not overwritten
        with always(choice):
            cluster = agglomeration.agglomerate(graph, agglomeration.mean_boundary, 0.4, kept)
        order = np.lexsort((graph.v, graph.u))
        left = np.ascontiguousarray(np.stack([graph.u, graph.v, *graph.columns])[:, order])
        made.append({"cluster": cluster, "left": left})
    assert_same(*made)


def test_few_voxels_are_left_to_numpy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "IS_INSTALLED", True)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    for folder, voxels in ((tmp_path / "none", compiled.VOXELS_WHILE_COMPILING), (tmp_path, compiled.VOXELS_BY_NUMPY)):
        monkeypatch.setattr(compiled, "_seen", 0)
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
        (tmp_path / "compiled_watershed.parents-1.py311.nbi").touch()
        assert not compiled.use_compiled(voxels)
        assert compiled.use_compiled(1)
    monkeypatch.setattr(compiled, "IS_INSTALLED", False)
    assert not compiled.use_compiled(10**12)


KERNEL = """
from unet.geometry.compiled import kernel
@kernel
def compiled_sum(a, b):
    return a + b
print(compiled_sum(1, 2), sum(compiled_sum.stats.cache_hits.values()) if compiled_sum.stats.cache_path else "no cache")
"""


@needs_numba
@pytest.mark.slow
def test_processes_share_what_was_compiled_and_do_without_a_folder(tmp_path: Path) -> None:
    module = tmp_path / "package" / "module.py"
    module.parent.mkdir()
    module.write_text(KERNEL)
    shared = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }

    def start(environment: dict[str, str]) -> subprocess.Popen[str]:
        command = [sys.executable, str(module)]
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    at_once = [start(shared) for _ in range(3)]
    assert {process.communicate()[0].split()[0] for process in at_once} == {"3"}
    assert start(shared).communicate()[0].split() == ["3", "1"]
    nowhere = shared | {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"}
    del nowhere["NUMBA_CACHE_DIR"]
    module.parent.joinpath("__pycache__").write_text("")  # numba cannot make the folder, whoever runs this
    out, err = start(nowhere).communicate()
    assert out.split() == ["3", "no", "cache"]
    assert "NUMBA_CACHE_DIR" in err
