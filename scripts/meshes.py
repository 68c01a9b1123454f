"""Write meshes of chosen objects of all predicted volumes, for other programs.

Inputs: the tables of `surface_faces`.

Outputs: `meshes/` in the folder of each volume, with a file per object and format, neuroglancer's in
`meshes/precomputed/`; `meshes.csv` with vertices, triangles, volume and surface; a receipt per volume.

1. Join the faces of each object at their corners, in integers: the mesh is closed, and the same for any blocks.
2. Smooth it, and remove triangles where it is nearly flat.
3. Write it. An object whose files are there already is left out.
"""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from unet.config.meshes import MeshesConfig
from unet.jobs.journal import file_sizes
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.measurement.chosen_objects import made_once, recorded_files
from unet.measurement.mesh_files import write_mesh, write_neuroglancer_info
from unet.measurement.meshes import mesh_of_faces, require_simplification, simplify
from unet.measurement.surface_faces import SurfaceFaces
from unet.measurement.table_files import write_csv
from unet.storage.digests import bytes_digest, fingerprint
from unet.storage.files import load_arrays, write_json
from unet.volumes.volume import Volume

NM_PER_UM = 1e3
log = logging.getLogger(__name__)


def main(
    surveys: list[Path], receipts: list[Path], folders: list[Path], tables: list[Path], meshes: MeshesConfig, code: str
) -> None:
    """Write the meshes of each volume to its folder, and a table of them."""
    require_simplification(meshes.reduction)
    for survey, receipt, folder, table in zip(surveys, receipts, folders, tables, strict=True):
        source, rows, files = Volume.open(folder, survey), list[dict[str, float]](), list[Path]()
        objects = list(_objects(source))
        progress = Progress("meshes", len(objects), "objects")
        for faces in objects:
            record = folder / "meshes" / "records" / f"{int(faces.ids[0])}.json"
            settings = meshes.model_dump(exclude={"ids", "largest"})
            made_from = fingerprint(faces=_digest(faces), settings=settings, code=code)
            rows.append(made_once(record, made_from, partial(_make, source, faces, meshes)))
            files += recorded_files(record)
            progress.advance(1)
        if "neuroglancer" in meshes.formats:
            files.append(write_neuroglancer_info(folder / "meshes"))
        names = ("id", "vertices", "triangles", "volume_um3", "surface_um2")
        write_csv(table, {name: np.array([row[name] for row in rows]) for name in names})
        sizes = file_sizes([*files, table], receipt)
        write_json(receipt, {"rule": "meshes", "digest": bytes_digest(table.read_bytes()), "files": sizes})


def _objects(source: Volume) -> Iterator[SurfaceFaces]:
    """Yield the faces of each chosen object, from the tables of all blocks."""
    tables = source.face_tables("segmentation")
    parts = [SurfaceFaces(**load_arrays(tables.of(box), "ids", "voxel", "side")) for box in source.layout.grid.boxes()]
    faces = SurfaceFaces.joined(parts)
    for one in np.unique(faces.ids).tolist():
        yield faces.of(one)


def _make(source: Volume, faces: SurfaceFaces, meshes: MeshesConfig) -> tuple[list[Path], dict[str, float]]:
    """Return the files of an object, which are written, and its row of the table."""
    object_id = int(faces.ids[0])
    mesh = mesh_of_faces(faces, meshes.smoothing)
    if meshes.reduction:
        mesh = simplify(mesh, meshes.reduction)
    mesh = mesh.scaled(source.layout.voxel_size_nm, source.layout.offset_nm)
    figures = {
        **{"id": object_id, "vertices": len(mesh.vertices), "triangles": len(mesh.triangles)},
        **{"volume_um3": mesh.volume / NM_PER_UM**3, "surface_um2": mesh.area / NM_PER_UM**2},
    }
    log.info("%s: mesh of object %d, %d triangles", source.name, object_id, len(mesh.triangles))
    return write_mesh(source.folder / "meshes", object_id, mesh, list(meshes.formats)), figures


def _digest(faces: SurfaceFaces) -> str:
    return bytes_digest(faces.voxel.tobytes() + faces.side.tobytes())


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
