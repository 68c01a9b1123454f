"""Multi-resolution meshes: every level is closed after it is cut, rounded and compressed, and lies where it should."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from tests.unit.measurement.test_meshes import ball, faces_of
from unet.geometry.box import Box
from unet.measurement.coarser_surfaces import LevelOfDetail, coarser_faces, levels_of_detail
from unet.measurement.meshes import Mesh, mesh_of_faces
from unet.measurement.multiresolution_files import STEPS, Grid, fragments, morton, write_info, write_multiresolution
from unet.measurement.surface_faces import SurfaceFaces

VOXEL_NM, OFFSET_NM = (40.0, 8.0, 4.0), (120.0, 20.0, 4.0)


def faces_of_mask(mask: np.ndarray) -> SurfaceFaces:
    """All faces of a mask."""
    return faces_of(mask.astype(np.uint32), [Box.of_shape(mask.shape)], [1])


def levels_of(mask: np.ndarray, smoothing: int = 2) -> list[LevelOfDetail]:
    """The levels of a mask, in voxels."""
    faces = faces_of_mask(mask)
    return levels_of_detail(mesh_of_faces(faces, smoothing), faces, smoothing, (1, 1, 1))


def assert_closed(points: np.ndarray, triangles: np.ndarray) -> None:
    """Every edge between two places is run along as often forth as back."""
    _, place = np.unique(points, axis=0, return_inverse=True)
    joined = place.ravel()[triangles]
    edges = np.concatenate([joined[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    count = len(points)
    forth, back = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    assert len(forth)
    np.testing.assert_array_equal(np.sort(forth), np.sort(back))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**20), shape=st.tuples(*[st.integers(1, 9)] * 3), factor=st.tuples(*[st.integers(1, 3)] * 3)
)
def test_a_coarse_voxel_belongs_to_the_object_if_half_of_its_voxels_do(
    seed: int, shape: tuple[int, int, int], factor: tuple[int, int, int]
) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.6
    padded = np.pad(mask, [(0, -n % f) for n, f in zip(shape, factor, strict=True)])
    (fz, fy, fx), (z, y, x) = factor, (n // f for n, f in zip(padded.shape, factor, strict=True))
    shares = padded.reshape(z, fz, y, fy, x, fx).mean(axis=(1, 3, 5))
    if not mask.any():
        return
    found, expected = coarser_faces(faces_of_mask(mask), factor), faces_of_mask(shares >= 0.5)
    np.testing.assert_array_equal(found.voxel, expected.voxel)
    np.testing.assert_array_equal(found.side, expected.side)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_fragments_are_closed_together_and_stay_in_their_halves(level: int) -> None:
    """Take noise, whose voxels touch in edges and corners; the viewer shows halves of cells from level 1 on."""
    mask = gaussian_filter(np.random.default_rng(3).random((14, 15, 13)), 0.8) > 0.5
    mesh = mesh_of_faces(faces_of_mask(mask), 1)
    found = fragments(mesh, Grid.around([mesh] * 3), level, 3)
    assert len(found) == 8 ** (2 - level)
    points, triangles = [np.zeros((0, 3), np.int64)], [np.zeros((0, 3), np.int64)]
    for cell, one in found.items():
        assert one.vertices.max() <= STEPS
        if level:
            side = np.sign(one.vertices.astype(int) - 32768)[one.triangles]
            assert not ((side.min(axis=1) < 0) & (side.max(axis=1) > 0)).any()
        triangles.append(one.triangles.astype(int) + sum(map(len, points)))
        points.append(one.vertices.astype(int) + np.array(cell) * STEPS)
    assert_closed(np.concatenate(points), np.concatenate(triangles))


def test_levels_get_coarser_and_keep_the_volume() -> None:
    mask = ball(16)
    levels = levels_of(mask)
    assert [level.factor for level in levels] == [(1, 1, 1), (2, 2, 2), (4, 4, 4)]
    sizes = [len(level.mesh.triangles) for level in levels]
    assert all(fine > 3 * coarse for fine, coarse in pairwise(sizes))
    for level in levels:
        assert level.mesh.volume == pytest.approx(mask.sum(), rel=0.1)
        np.testing.assert_allclose(level.mesh.vertices.mean(axis=0), [17, 17, 17], atol=0.6)


def test_what_is_thinner_than_half_a_coarse_voxel_ends_the_levels() -> None:
    sheet = np.zeros((20, 20, 3), bool)
    sheet[:, :, 1] = True
    faces = faces_of_mask(sheet)
    assert len(coarser_faces(faces, (4, 4, 4))) == 0
    assert len(levels_of(sheet)) == 2  # at twice the size half of the voxels are there


def read(folder: Path, object_id: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Points (x, y, z) in nm and triangles of each level, read as the format's description says."""
    draco = pytest.importorskip("DracoPy", reason="needs DracoPy: pip install '.[meshes]'")
    raw, data, at = (folder / f"{object_id}.index").read_bytes(), (folder / f"{object_id}").read_bytes(), 0

    def take(kind: str, *shape: int) -> np.ndarray:
        nonlocal at
        values = np.frombuffer(raw, kind, int(np.prod(shape)), at).reshape(shape)
        at += values.nbytes
        return values

    cell, origin, [count] = take("<f4", 3), take("<f4", 3), take("<u4", 1)
    take("<f4", count), take("<f4", count, 3)
    levels, start, above = [], 0, None
    for level, number in enumerate(take("<u4", count)):
        places, sizes = take("<u4", 3, number).T, take("<u4", number)
        assert (np.diff([morton(tuple(place)) for place in places.tolist()]) > 0).all()
        if above is not None:
            assert {tuple(place) for place in (above // 2).tolist()} <= {tuple(place) for place in places.tolist()}
        points, triangles = [np.zeros((0, 3))], [np.zeros((0, 3), int)]
        for place, size in zip(places, sizes, strict=True):
            if size:
                mesh = draco.decode(data[start : start + size])
                assert np.issubdtype(mesh.points.dtype, np.integer)
                triangles.append(mesh.faces.astype(int) + sum(map(len, points)))
                points.append(origin + cell * 2.0**level * (place + mesh.points / STEPS))
            start += size
        levels.append((np.concatenate(points), np.concatenate(triangles)))
        above = places
    assert (at, start) == (len(raw), len(data))
    return levels


def test_files_hold_closed_levels_in_nm(tmp_path: Path) -> None:
    pytest.importorskip("DracoPy", reason="needs DracoPy: pip install '.[meshes]'")
    levels = levels_of(ball(12))
    meshes = [level.mesh.scaled(VOXEL_NM, OFFSET_NM) for level in levels]
    files = write_multiresolution(tmp_path, 7, meshes, [4.0 * 2**n for n in range(len(levels))])
    assert [path.name for path in files] == ["7", "7.index"]
    for (points, triangles), mesh in zip(read(tmp_path, 7), meshes, strict=True):
        assert_closed(points.round(2), triangles)
        found = Mesh(points[:, ::-1], triangles)
        assert found.volume == pytest.approx(mesh.volume, rel=1e-4)
        np.testing.assert_allclose(found.vertices.max(axis=0), mesh.vertices.max(axis=0), atol=0.02)
        np.testing.assert_allclose(found.vertices.min(axis=0), mesh.vertices.min(axis=0), atol=0.02)
    assert "neuroglancer_multilod_draco" in write_info(tmp_path).read_text()
