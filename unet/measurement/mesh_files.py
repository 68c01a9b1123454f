"""Write meshes for other programs: OBJ, STL, PLY, and neuroglancer's precomputed format.

Coordinates are nm in the order x, y, z, and triangles are counter-clockwise from outside. A file is there whole or not
at all.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from unet.measurement.meshes import Mesh
from unet.storage.files import write_atomically, write_json


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


def neuroglancer_bytes(mesh: Mesh) -> bytes:
    """Return a mesh as a fragment of neuroglancer's single-resolution format.

    uint32 number of vertices, float32 x, y, z of each, uint32 vertices of each triangle, little-endian:
    https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/meshes.md
    """
    count = np.array([len(mesh.vertices)], "<u4").tobytes()
    return count + mesh.vertices[:, ::-1].astype("<f4").tobytes() + mesh.triangles.astype("<u4").tobytes()


FORMATS: dict[str, Callable[[Mesh], bytes]] = {"obj": obj_bytes, "stl": stl_bytes, "ply": ply_bytes}
"""Formats of one file per object, by the suffix of the file."""


def write_mesh(folder: Path, object_id: int, mesh: Mesh, formats: list[str]) -> list[Path]:
    """Write the mesh of an object in some formats; return the files.

    Parameters
    ----------
    folder : folder of the meshes of a volume; neuroglancer's lie in `precomputed` inside
    mesh : mesh in nm
    formats : of `FORMATS`, and `neuroglancer`
    """
    written = [folder / f"{object_id}.{name}" for name in formats if name in FORMATS]
    for path in written:
        write_atomically(path, FORMATS[path.suffix[1:]](mesh))
    if "neuroglancer" in formats:
        fragment = f"{object_id}.mesh"
        paths = [folder / "precomputed" / fragment, folder / "precomputed" / f"{object_id}:0"]
        write_atomically(paths[0], neuroglancer_bytes(mesh))
        write_json(paths[1], {"fragments": [fragment]})
        written += paths
    return written


def write_neuroglancer_info(folder: Path) -> Path:
    """Write the file that says of a folder of fragments what it is."""
    path = folder / "precomputed" / "info"
    write_json(path, {"@type": "neuroglancer_legacy_mesh"})
    return path
