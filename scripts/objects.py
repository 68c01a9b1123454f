"""Write the tables of objects and of their contacts, of all predicted volumes.

Inputs: the tables of `measure`; the merge table; the second stores that `volumes.<name>.inside` names.

Outputs: `objects.csv`, `contacts.csv` and one `inside-{name}.csv` per second store in the folder of each volume; the
same as Parquet with `objects.parquet`; a receipt per volume.

1. Add up the counts of all blocks.
2. Count the voxels of every value of a second store in every object, block by block.
3. Write a row per object: size, surface, position, principal axes, probability, class, best true match, voxels inside.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from unet.config.objects import ObjectsConfig
from unet.config.volumes import VolumeConfig
from unet.evaluation.contingency import Contingency, contingency
from unet.geometry.box import Box
from unet.geometry.offsets import affinity_offsets
from unet.jobs.journal import file_sizes
from unet.jobs.log_line import format_values
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.measurement.block_measures import Measures, sum_of_measures, sum_of_overlaps
from unet.measurement.object_table import (
    Table,
    best_matches,
    contact_table,
    inside_columns,
    inside_table,
    object_table,
    summary,
)
from unet.measurement.table_files import require_parquet, write_csv, write_parquet
from unet.segmentation.merge_table import load_merge_table
from unet.storage.digests import bytes_digest
from unet.storage.files import write_receipt
from unet.volumes.block_reader import BlockReader, in_reading_order
from unet.volumes.input_states import inside_input_states
from unet.volumes.readers.source import Source
from unet.volumes.sources import open_in_volume
from unet.volumes.volume import Volume

log = logging.getLogger(__name__)


def main(
    surveys: list[Path],
    receipts: list[Path],
    folders: list[Path],
    volumes: list[VolumeConfig],
    classes: list[str | None],
    objects: ObjectsConfig,
    threads: int = 1,
) -> None:
    """Write the tables of each volume to its folder, and a receipt with a summary of them."""
    if objects.parquet:
        require_parquet()
    for survey, receipt, folder, config in zip(surveys, receipts, folders, volumes, strict=True):
        states = inside_input_states(config)
        tables = _tables(Volume.open(folder, survey), config, classes, threads)
        found = summary(tables["objects"])
        log.info("%s: %s", folder.name, format_values(found))
        files = [folder / f"{name}.csv" for name in tables]
        for path, table in zip(files, tables.values(), strict=True):
            write_csv(path, table)
            if objects.parquet:
                write_parquet(path.with_suffix(".parquet"), table)
        digests = {path.name: bytes_digest(path.read_bytes()) for path in files}
        if objects.parquet:
            files += [path.with_suffix(".parquet") for path in files]
        sizes = {"files": file_sizes(files, receipt)}
        write_receipt(
            receipt, {"rule": "objects", "digests": digests, "input_states": states, "summary": found, **sizes}
        )


def _tables(source: Volume, config: VolumeConfig, classes: Sequence[str | None], threads: int) -> dict[str, Table]:
    """Return all tables of a volume by the names of their files."""
    layout, boxes = source.layout, source.layout.grid.boxes()
    measures = sum_of_measures(source.object_tables("segmentation").of(box) for box in boxes)
    table = object_table(measures.sums, measures.contacts, layout.voxel_size_nm, layout.offset_nm)
    table["class"] = _class_names(source, measures, classes)
    if len(measures.overlap):
        table |= best_matches(measures.overlap, measures.sums.ids)
    inside = {
        name: inside_table(_overlap(source, open_in_volume(config, given), threads), layout.voxel_size_nm)
        for name, given in config.inside.items()
    }
    contacts = contact_table(measures.contacts, layout.voxel_size_nm)
    named = {f"inside-{name}": found for name, found in inside.items()}
    return {"objects": table | inside_columns(inside, measures.sums.ids), "contacts": contacts, **named}


def _class_names(source: Volume, measures: Measures, classes: Sequence[str | None]) -> np.ndarray:
    """Return the name of the class of each object: the network's last class where none is named."""
    merged, channels = load_merge_table(source.merge_table("segmentation")), source.image("probability").spec.channels
    last = channels[-1] if affinity_offsets(channels) is None else "interior"
    names = np.array([name or last for name in classes])
    place = (measures.sums.ids - np.uint64(merged.first_id)).astype(np.int64)
    return names[np.maximum(merged.class_values[place].astype(np.int64), 1) - 1]


def _overlap(source: Volume, other: Source, threads: int) -> Contingency:
    """Return the contingency table of the objects and a second store."""
    image, boxes = source.image("segmentation"), in_reading_order(source.layout.grid.boxes(), [other])
    reader = BlockReader(other, source.folder)
    progress = Progress("objects", len(boxes), "blocks")

    def count(box: Box) -> Contingency:
        found = contingency(image.read(box), reader.read(box))
        progress.advance(1)
        return found

    reader.expect(boxes)
    with ThreadPoolExecutor(threads) as pool:
        return sum_of_overlaps(pool.map(count, boxes))


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
