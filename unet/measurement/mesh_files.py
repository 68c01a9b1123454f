"""Write meshes for other programs: OBJ, STL, PLY, and neuroglancer's multi-resolution format.

Coordinates are nm in the order x, y, z, and triangles are counter-clockwise from outside. A file is there whole or not
at all.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unet.measurement.meshes import Mesh
from unet.measurement.multiresolution_files import write_multiresolution
from unet.storage.files import load_arrays, save_arrays, write_atomically

PREVIEW_TRIANGLES = 12_000
"""Triangles of an object in a picture, at most where a level has as few."""


def obj_bytes(mesh: Mesh) -> bytes:
    """Return a mesh as Wavefront OBJ, which counts vertices from 1."""
    lines = ["v {:.7g} {:.7g} {:.7g}".format(*point) for point in mesh.vertices[:, ::-1].tolist()]
    lines += ["f {} {} {}".format(*triangle) for triangle in (mesh.triangles + 1).tolist()]
    return "\n".join([*lines, ""]).encode()


def stl_bytes(mesh: Mesh) -> bytes:
    """Return a mesh as binary STL: per triangle its normal and three points in float32, after a header."""
    points = mesh.vertices[mesh.triangles][:, :, ::-1]
    normal = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    rows = np.zeros(len(points), np.dtype([("normal", "<f4", 3), ("points", "<f4", (3, 3)), ("attribute", "<u2")]))
    rows["normal"], rows["points"] = normal, points
    return b"mesh in nm, x y z".ljust(80) + np.uint32(len(rows)).tobytes() + rows.tobytes()


def ply_bytes(mesh: Mesh) -> bytes:
    """Return a mesh as binary PLY, little-endian, with vertices in float32."""
    header = [
        *("ply", "format binary_little_endian 1.0", "comment unit nm", f"element vertex {len(mesh.vertices)}"),
        *(f"property float {axis}" for axis in "xyz"),
        *(f"element face {len(mesh.triangles)}", "property list uchar int vertex_indices", "end_header", ""),
    ]
    rows = np.zeros(len(mesh.triangles), np.dtype([("count", "u1"), ("vertices", "<i4", 3)]))
    rows["count"], rows["vertices"] = 3, mesh.triangles
    return "\n".join(header).encode() + mesh.vertices[:, ::-1].astype("<f4").tobytes() + rows.tobytes()


FORMATS: dict[str, Callable[[Mesh], bytes]] = {"obj": obj_bytes, "stl": stl_bytes, "ply": ply_bytes}
"""Formats of one file per object, by the suffix of the file."""


def write_meshes(
    folder: Path, object_id: int, levels: Sequence[Mesh], scales_nm: Sequence[float], formats: Sequence[str]
) -> list[Path]:
    """Write the mesh of an object in some formats; return the files.

    Parameters
    ----------
    folder : folder of the meshes of a volume; neuroglancer's lie in `precomputed` inside
    levels : meshes in nm, the finest first; files of `FORMATS` hold the finest
    scales_nm : length of a voxel at each level
    formats : of `FORMATS`, and `neuroglancer`
    """
    written = [folder / f"{object_id}.{name}" for name in formats if name in FORMATS]
    for path in written:
        write_atomically(path, FORMATS[path.suffix[1:]](levels[0]))
    if "neuroglancer" in formats:
        written += write_multiresolution(folder / "precomputed", object_id, levels, scales_nm)
    return written


def preview_file(folder: Path, object_id: int) -> Path:
    """Return the path of the mesh that pictures are made of."""
    return folder / "previews" / f"{object_id}.npz"


def write_preview(folder: Path, object_id: int, levels: Sequence[Mesh]) -> Path:
    """Write the finest level of at most `PREVIEW_TRIANGLES`, or else the coarsest one; return the file."""
    small = [level for level in levels if len(level.triangles) <= PREVIEW_TRIANGLES]
    mesh, path = (small or levels[-1:])[0], preview_file(folder, object_id)
    save_arrays(path, {"vertices": mesh.vertices.astype(np.float32), "triangles": mesh.triangles.astype(np.uint32)})
    return path


def load_preview(path: Path) -> Mesh:
    """Return the mesh of `write_preview`, in nm."""
    found = load_arrays(path, "vertices", "triangles")
    return Mesh(found["vertices"].astype(np.float64), found["triangles"].astype(np.int64))
