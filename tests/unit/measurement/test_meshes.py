"""Meshes: closed 2-manifolds whatever the object, the same for any blocks, and as large as what they enclose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import euler_number

from tests.unit.measurement.test_object_sums import CUTS, boxes_between
from unet.geometry.box import Box
from unet.measurement.block_measures import read_ahead
from unet.measurement.chosen_objects import ChoiceError, chosen_ids, made_once
from unet.measurement.mesh_files import FORMATS, PREVIEW_TRIANGLES, load_preview, write_meshes, write_preview
from unet.measurement.meshes import Mesh, mesh_of_faces, simplify
from unet.measurement.surface_faces import SurfaceFaces, block_faces


def faces_of(ids: np.ndarray, boxes: list[Box], chosen: list[int]) -> SurfaceFaces:
    """The faces of some objects, block by block."""
    own = np.array(chosen, ids.dtype)
    return SurfaceFaces.joined(
        [block_faces(ids[read_ahead(box, ids.shape).slices], box, ids.shape, own) for box in boxes]
    )


def mesh_of(mask: np.ndarray, smoothing: int = 0) -> Mesh:
    """The mesh of a mask in one block."""
    ids = mask.astype(np.uint32)
    return mesh_of_faces(faces_of(ids, [Box.of_shape(ids.shape)], [1]), smoothing)


def ball(radius: int) -> np.ndarray:
    """A ball with a voxel of room around it."""
    line = np.arange(-radius - 1, radius + 2)
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    return np.asarray(z**2 + y**2 + x**2 <= radius**2)


def assert_closed_manifold(mesh: Mesh) -> None:
    """Every edge is run along once in each direction, so two triangles share it, and they agree which side is out."""
    edges = np.concatenate([mesh.triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    forth = edges[:, 0] * len(mesh.vertices) + edges[:, 1]
    back = edges[:, 1] * len(mesh.vertices) + edges[:, 0]
    assert len(np.unique(forth)) == len(forth) > 0
    np.testing.assert_array_equal(np.sort(forth), np.sort(back))


@settings(max_examples=15, deadline=None)
@given(cuts=CUTS, seed=st.integers(0, 2**20), shape=st.tuples(*[st.integers(1, 9)] * 3))
def test_any_blocks_give_the_same_mesh_and_it_is_closed(
    cuts: list[list[int]], seed: int, shape: tuple[int, int, int]
) -> None:
    ids = (
        np.random.default_rng(seed).integers(1, 4, shape).astype(np.uint32)
    )  # noise: voxels touch in edges and corners
    cut, whole = (faces_of(ids, boxes, [2, 1]) for boxes in (boxes_between(shape, cuts), [Box.of_shape(shape)]))
    for one in set(np.unique(ids).tolist()) & {1, 2}:
        mesh, expected = mesh_of_faces(cut.of(one), 2), mesh_of_faces(whole.of(one), 2)
        np.testing.assert_array_equal(mesh.vertices, expected.vertices)
        np.testing.assert_array_equal(mesh.triangles, expected.triangles)
        assert_closed_manifold(mesh)
    assert set(np.unique(cut.ids).tolist()) <= {1, 2}


def test_a_ball_has_the_volume_of_its_voxels_and_the_surface_of_a_ball() -> None:
    mask = ball(14)
    mesh = mesh_of(mask, smoothing=5)
    assert_closed_manifold(mesh)
    assert mesh.volume == pytest.approx(mask.sum(), rel=0.01)
    assert mesh.area == pytest.approx(4 * np.pi * 14**2, rel=0.04)
    np.testing.assert_allclose(mesh.vertices.mean(axis=0), [15, 15, 15], atol=0.01)


def test_holes_of_the_object_are_holes_of_the_mesh() -> None:
    """The surface of a solid has twice its Euler characteristic: a ball 1, with a cavity 2, with a tunnel 0."""
    cavity, tunnel = ball(6), ball(6)
    cavity[7, 6:8, 7] = False
    tunnel[7, :, 6:8] = False
    for mask, expected in ((ball(6), 1), (cavity, 2), (tunnel, 0)):
        mesh = mesh_of(mask)
        edges = len(mesh.triangles) * 3 // 2
        assert euler_number(mask, connectivity=1) == expected
        assert len(mesh.vertices) - edges + len(mesh.triangles) == 2 * expected


def test_two_voxels_that_touch_in_an_edge_are_two_cubes() -> None:
    mask = np.zeros((1, 2, 2), bool)
    mask[0, 0, 0] = mask[0, 1, 1] = True
    mesh = mesh_of(mask)
    assert (len(mesh.vertices), len(mesh.triangles)) == (16, 24)
    assert_closed_manifold(mesh)


def test_a_simplified_mesh_stays_closed_and_keeps_its_volume() -> None:
    pytest.importorskip("bioimage_cpp")
    mesh = mesh_of(ball(9), smoothing=3)
    small = simplify(mesh, 0.7)
    assert_closed_manifold(small)
    assert len(small.triangles) == pytest.approx(0.3 * len(mesh.triangles), rel=0.02)
    assert small.volume == pytest.approx(mesh.volume, rel=0.01)


def test_files_hold_the_mesh_in_nm_and_x_y_z(tmp_path) -> None:
    mesh = mesh_of(ball(3)).scaled((40.0, 8.0, 4.0), (100.0, 0.0, 0.0))
    assert mesh.vertices.max(axis=0).tolist() == pytest.approx(
        (mesh_of(ball(3)).vertices.max(axis=0) * (40, 8, 4) + (100, 0, 0)).tolist()
    )
    files = write_meshes(tmp_path, 7, [mesh], [4.0], list(FORMATS))
    assert [path.name for path in files] == ["7.obj", "7.stl", "7.ply"]
    points = mesh.vertices[:, ::-1]
    lines = files[0].read_text().splitlines()
    vertices = np.array([line.split()[1:] for line in lines if line.startswith("v")], float)
    np.testing.assert_allclose(vertices, points, rtol=1e-6, atol=1e-3)
    triangles = np.array([line.split()[1:] for line in lines if line.startswith("f")], int) - 1
    np.testing.assert_array_equal(triangles, mesh.triangles)
    stl = np.frombuffer(
        files[1].read_bytes()[84:], np.dtype([("normal", "<f4", 3), ("points", "<f4", 9), ("end", "<u2")])
    )
    np.testing.assert_allclose(stl["points"].reshape(-1, 3), points[mesh.triangles.ravel()], rtol=1e-6)
    outwards = stl["points"].reshape(-1, 3, 3).mean(axis=1) - points.mean(axis=0)
    assert ((stl["normal"] * outwards).sum(axis=1) > 0).all()
    body = files[2].read_bytes().partition(b"end_header\n")[2]
    assert len(body) == 12 * len(points) + 13 * len(triangles)


def test_pictures_are_made_of_a_level_with_few_triangles(tmp_path) -> None:
    fine, coarse, coarsest = (Mesh(np.zeros((3, 3)), np.zeros((n, 3), np.int64)) for n in (PREVIEW_TRIANGLES + 1, 9, 5))
    for levels, expected in (([fine, coarse, coarsest], 9), ([fine], PREVIEW_TRIANGLES + 1), ([coarsest], 5)):
        assert len(load_preview(write_preview(tmp_path, 7, levels)).triangles) == expected


def test_named_objects_or_the_largest_are_chosen() -> None:
    sizes = np.array([5, 9, 9, 1])
    assert chosen_ids("meshes.ids.a", sizes, 10, None, 3) == [11, 12, 10]
    assert chosen_ids("meshes.ids.a", sizes, 10, [13, 10, 13], 1) == [13, 10]
    with pytest.raises(ChoiceError, match=r"meshes.ids.a: there is no object 14; the ids of the volume are 10 to 13"):
        chosen_ids("meshes.ids.a", sizes, 10, [14], 1)


def test_an_object_is_made_again_if_something_has_changed_or_a_file_is_lost(tmp_path) -> None:
    made = []

    def make():
        made.append(1)
        path = tmp_path / "7.obj"
        path.write_text("mesh")
        return [path], {"triangles": 2}

    record = tmp_path / "records" / "7.json"
    for fingerprint, lost, times in (("a", False, 1), ("a", False, 1), ("b", False, 2), ("b", True, 3)):
        if lost:
            (tmp_path / "7.obj").unlink()
        assert made_once(record, fingerprint, make) == {"triangles": 2}
        assert len(made) == times
