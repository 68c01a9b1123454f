"""Write skeletons of chosen objects of all predicted volumes.

Inputs: `segmentation.zarr`, the tables of `measure` (bounding boxes), the merge table and its receipt.

Outputs: `skeletons/` in the folder of each volume, with an SWC file per object and neuroglancer's in
`skeletons/precomputed/`; `skeletons.csv` with nodes, ends, branch points and length; a receipt per volume.

1. Choose the objects: those that `skeletons.ids` names, or the largest.
2. Gather the voxels of an object from all its blocks. An object that is too large is down-sampled, with a warning.
3. Skeletonise the whole object, and write it. Objects whose files exist already are left out.
"""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from unet.config.meshes import SkeletonsConfig
from unet.geometry.box import Box
from unet.jobs.journal import file_sizes
from unet.jobs.log_line import format_sizes
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.measurement.block_measures import load_measures
from unet.measurement.chosen_objects import chosen_ids, made_once, recorded_files
from unet.measurement.object_sums import sum_of_objects
from unet.measurement.skeleton_files import write_neuroglancer_info, write_skeleton
from unet.measurement.skeletons import Skeleton, factors_for, object_mask, require_teasar, skeleton_of_mask
from unet.measurement.table_files import write_csv
from unet.segmentation.merge_table import load_merge_table
from unet.storage.digests import bytes_digest, fingerprint, receipts_digest
from unet.storage.files import write_receipt
from unet.volumes.block_inputs import BlockInputs
from unet.volumes.volume import Volume

NM_PER_UM = 1e3
COLUMNS = ("id", "nodes", "trees", "ends", "branch_points", "length_um", "z_factor", "y_factor", "x_factor")
log = logging.getLogger(__name__)


def main(
    surveys: list[Path],
    merged: list[Path],
    receipts: list[Path],
    folders: list[Path],
    tables: list[Path],
    skeletons: SkeletonsConfig,
    code: str,
) -> None:
    """Write the skeletons of each volume to its folder, and a table of them."""
    require_teasar()
    for survey, objects, receipt, folder, table in zip(surveys, merged, receipts, folders, tables, strict=True):
        source, rows, files = Volume.open(folder, survey), list[dict[str, float]](), list[Path]()
        inputs, boxes = BlockInputs(source), dict(_boxes(source, skeletons))
        progress = Progress("skeletons", len(boxes), "objects")
        for object_id, box in boxes.items():
            record = folder / "skeletons" / "records" / f"{object_id}.json"
            how = skeletons.model_dump(exclude={"ids", "largest"})
            input_fingerprint = fingerprint(
                voxels=inputs.digests("segmentation", box), box=str(box), settings=how, code=code
            )
            rows.append(made_once(record, input_fingerprint, partial(_make, source, object_id, box, skeletons)))
            files += recorded_files(record)
            progress.advance(1)
        files.append(write_neuroglancer_info(folder / "skeletons"))
        write_csv(table, {name: np.array([row[name] for row in rows]) for name in COLUMNS})
        sizes = file_sizes([*files, table], receipt)
        digest, of_objects = bytes_digest(table.read_bytes()), receipts_digest([objects])
        write_receipt(receipt, {"rule": "skeletons", "digest": digest, "merged": of_objects, "files": sizes})


def _boxes(source: Volume, skeletons: SkeletonsConfig) -> Iterator[tuple[int, Box]]:
    """Yield the chosen objects with their bounding boxes."""
    merged, key = load_merge_table(source.merge_table("segmentation")), f"skeletons.ids.{source.name}"
    chosen = chosen_ids(key, merged.sizes, merged.first_id, skeletons.ids.get(source.name), skeletons.largest)
    tables = source.object_tables("segmentation")
    sums = sum_of_objects(load_measures(tables.of(box)).sums for box in source.layout.grid.boxes())
    for one in sorted(chosen):
        row = int(np.searchsorted(sums.ids, np.uint64(one)))
        yield one, Box(tuple(sums.start[row].tolist()), tuple(sums.stop[row].tolist()))


def _make(source: Volume, object_id: int, box: Box, skeletons: SkeletonsConfig) -> tuple[list[Path], dict[str, float]]:
    """Write the files of an object; return them, and the object's row of the table."""
    layout = source.layout
    factors = factors_for(box, layout.voxel_size_nm, skeletons.max_voxels)
    if max(factors) > 1:
        log.warning(
            "%s: the bounding box of object %d has %s voxels, more than skeletons.max_voxels: %s voxels become one",
            *(source.name, object_id, format_sizes(box.shape), format_sizes(factors)),
        )
    mask = object_mask(object_id, box, layout.grid, source.image("segmentation").read, factors)
    size = np.multiply(layout.voxel_size_nm, factors)
    found = skeleton_of_mask(mask, size.tolist(), skeletons.scale, skeletons.radius_nm)
    first = np.add(box.start, (np.array(factors) - 1) / 2) * layout.voxel_size_nm + np.array(layout.offset_nm)
    placed = Skeleton(found.nodes + first, found.radius, found.parent)
    degree = placed.degree
    figures: dict[str, float] = {
        **{"id": object_id, "nodes": len(placed.nodes), "trees": int((placed.parent < 0).sum())},
        **{"ends": int((degree == 1).sum()), "branch_points": int((degree > 2).sum())},
        "length_um": placed.length_nm / NM_PER_UM,
        **dict(zip(COLUMNS[-3:], factors, strict=True)),
    }
    log.info("%s: skeleton of object %d, %.4g um", source.name, object_id, figures["length_um"])
    return write_skeleton(source.folder / "skeletons", object_id, placed), figures


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
