"""Write skeletons for other programs: SWC in um, and neuroglancer's precomputed format in nm."""

from pathlib import Path

import numpy as np

from unet.measurement.skeletons import Skeleton
from unet.storage.files import write_atomically, write_json

NM_PER_UM = 1e3


def swc_text(skeleton: Skeleton) -> str:
    """Return a skeleton as SWC: number, type (0 = unknown), x, y, z, radius in um, number of the parent or -1.

    >>> print(swc_text(Skeleton(np.array([[0, 500.0, 1000]]), np.array([250.0]), np.array([-1]))))
    # number type x y z radius parent; in um
    1 0 1 0.5 0 0.25 -1
    <BLANKLINE>
    """
    parent = np.where(skeleton.parent >= 0, skeleton.parent + 1, -1).tolist()
    rows = zip(
        (skeleton.nodes[:, ::-1] / NM_PER_UM).tolist(), (skeleton.radius / NM_PER_UM).tolist(), parent, strict=True
    )
    lines = [f"{k} 0 {x:.7g} {y:.7g} {z:.7g} {r:.5g} {p}" for k, ((x, y, z), r, p) in enumerate(rows, 1)]
    return "\n".join(["# number type x y z radius parent; in um", *lines, ""])


def neuroglancer_bytes(skeleton: Skeleton) -> bytes:
    """Return a skeleton in neuroglancer's format.

    uint32 numbers of vertices and edges, float32 x, y, z, uint32 ends of each edge, float32 radius, little-endian:
    https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/skeletons.md
    """
    counts = np.array([len(skeleton.nodes), len(skeleton.edges)], "<u4").tobytes()
    nodes, edges = skeleton.nodes[:, ::-1].astype("<f4").tobytes(), skeleton.edges.astype("<u4").tobytes()
    return counts + nodes + edges + skeleton.radius.astype("<f4").tobytes()


def write_skeleton(folder: Path, object_id: int, skeleton: Skeleton) -> list[Path]:
    """Write the skeleton of an object in both formats; return the files."""
    files = [folder / f"{object_id}.swc", folder / "precomputed" / str(object_id)]
    write_atomically(files[0], swc_text(skeleton).encode())
    write_atomically(files[1], neuroglancer_bytes(skeleton))
    return files


def write_neuroglancer_info(folder: Path) -> Path:
    """Write the file that says of a folder of skeletons what it is."""
    path = folder / "precomputed" / "info"
    radius = {"id": "radius", "data_type": "float32", "num_components": 1}
    identity = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    write_json(path, {"@type": "neuroglancer_skeletons", "transform": identity, "vertex_attributes": [radius]})
    return path
