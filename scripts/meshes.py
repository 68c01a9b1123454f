"""Write meshes of chosen objects of all predicted volumes, for other programs.

Inputs: the tables of `surface_faces`, the receipts of `merge`.

Outputs: `meshes/` in the folder of each volume, with a file per object and format, neuroglancer's in
`meshes/precomputed/`; `meshes.csv` with vertices, triangles, volume and surface; a receipt per volume; a section of
the report.

1. Join the faces of each object at their corners, in integers: the mesh is closed, and the same for any blocks.
2. Smooth it, and remove triangles where it is nearly flat.
3. Make coarser levels of it for neuroglancer and for the report's picture.
4. Write it. An object whose files are there already is left out.
5. Draw the largest objects of each volume in 3-D, and insert the picture into the report.
"""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.meshes import MeshesConfig
from unet.jobs.journal import file_sizes
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.measurement.chosen_objects import made_once, recorded_files
from unet.measurement.coarser_surfaces import levels_of_detail
from unet.measurement.mesh_files import load_preview, preview_file, write_meshes, write_preview
from unet.measurement.meshes import mesh_of_faces, require_packages, simplify
from unet.measurement.multiresolution_files import write_info
from unet.measurement.surface_faces import SurfaceFaces
from unet.measurement.table_files import write_csv
from unet.run.report.inserted_sections import has_markers_for, insert_section
from unet.run.report.meshes_section import MeshesOfVolume, meshes_of_volume, record_of, render_meshes_section
from unet.storage.digests import bytes_digest, fingerprint, receipts_digest
from unet.storage.files import load_arrays, write_atomically, write_receipt
from unet.volumes.volume import Volume

NM_PER_UM = 1e3
log = logging.getLogger(__name__)


def main(
    surveys: list[Path],
    merged: list[Path],
    receipts: list[Path],
    folders: list[Path],
    tables: list[Path],
    meshes: MeshesConfig,
    report: Path,
    template: Path,
    code: str,
) -> None:
    """Write the meshes of each volume to its folder, a table of them, and their picture into the report."""
    require_packages(meshes)
    drawn: dict[str, MeshesOfVolume] = {}
    for survey, objects, receipt, folder, table in zip(surveys, merged, receipts, folders, tables, strict=True):
        source = Volume.open(folder, survey)
        rows, files = _meshed(source, meshes, code)
        names = ("id", "vertices", "triangles", "volume_um3", "surface_um2")
        write_csv(table, {name: np.array([row[name] for row in rows]) for name in names})
        recorded: dict[str, Any] = {"rule": "meshes", "digest": bytes_digest(table.read_bytes())}
        if rows:
            drawn[source.name] = _drawn(source, rows)
            recorded |= {"merged": receipts_digest([objects]), "drawn": record_of(drawn[source.name])}
        write_receipt(receipt, {**recorded, "files": file_sizes([*files, table], receipt)})
    if drawn and report.exists():
        page = report.read_text()
        if has_markers_for(page, "meshes"):
            section = render_meshes_section(template.read_text(), drawn)
            write_atomically(report, insert_section(page, "meshes", section).encode())
        else:
            log.info("%s has no markers for the meshes; the next report shows them", report)


def _meshed(source: Volume, meshes: MeshesConfig, code: str) -> tuple[list[dict[str, float]], list[Path]]:
    """Return a row of figures per object of a volume, and all files of its meshes, which are written."""
    rows, files, objects = list[dict[str, float]](), list[Path](), list(_objects(source))
    progress = Progress("meshes", len(objects), "objects")
    for faces in objects:
        record = source.folder / "meshes" / "records" / f"{int(faces.ids[0])}.json"
        settings = meshes.model_dump(exclude={"ids", "largest"})
        input_fingerprint = fingerprint(faces=_digest(faces), settings=settings, code=code)
        rows.append(made_once(record, input_fingerprint, partial(_make, source, faces, meshes)))
        files += recorded_files(record)
        progress.advance(1)
    if "neuroglancer" in meshes.formats:
        files.append(write_info(source.folder / "meshes" / "precomputed"))
    return rows, files


def _objects(source: Volume) -> Iterator[SurfaceFaces]:
    """Yield the faces of each chosen object, from the tables of all blocks."""
    tables = source.face_tables("segmentation")
    parts = [SurfaceFaces(**load_arrays(tables.of(box), "ids", "voxel", "side")) for box in source.layout.grid.boxes()]
    faces = SurfaceFaces.joined(parts)
    for one in np.unique(faces.ids).tolist():
        yield faces.of(one)


def _make(source: Volume, faces: SurfaceFaces, meshes: MeshesConfig) -> tuple[list[Path], dict[str, float]]:
    """Return the files of an object, which are written, and its figures."""
    object_id, layout = int(faces.ids[0]), source.layout
    mesh = mesh_of_faces(faces, meshes.smoothing)
    if meshes.reduction:
        mesh = simplify(mesh, meshes.reduction)
    levels = levels_of_detail(mesh, faces, meshes.smoothing, layout.voxel_size_nm)
    placed = [level.mesh.scaled(layout.voxel_size_nm, layout.offset_nm) for level in levels]
    scales = [min(n * nm for n, nm in zip(level.factor, layout.voxel_size_nm, strict=True)) for level in levels]
    triangles, voxel = len(placed[0].triangles), faces.voxel[len(faces) // 2].tolist()
    figures = {
        **{"id": object_id, "vertices": len(placed[0].vertices), "triangles": triangles},
        **{"volume_um3": placed[0].volume / NM_PER_UM**3, "surface_um2": placed[0].area / NM_PER_UM**2},
        **dict(zip("zyx", voxel, strict=True)),
    }
    log.info("%s: mesh of object %d, %d triangles, %d levels", source.name, object_id, triangles, len(levels))
    folder = source.folder / "meshes"
    files = write_meshes(folder, object_id, placed, scales, list(meshes.formats))
    return [*files, write_preview(folder, object_id, placed)], figures


def _drawn(source: Volume, rows: list[dict[str, float]]) -> MeshesOfVolume:
    """Return the picture of the largest objects of a volume."""
    layout = source.layout
    low = np.array(layout.offset_nm) - np.array(layout.voxel_size_nm) / 2
    extent = low, low + np.array(layout.shape) * layout.voxel_size_nm
    previews = {int(row["id"]): preview_file(source.folder / "meshes", int(row["id"])) for row in rows}
    return meshes_of_volume(rows, {one: load_preview(path) for one, path in previews.items()}, extent)


def _digest(faces: SurfaceFaces) -> str:
    return bytes_digest(faces.voxel.tobytes() + faces.side.tobytes())


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
