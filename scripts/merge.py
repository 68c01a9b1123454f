"""Join the fragments of all blocks to objects by one global union, and number these in scan order."""

import logging
from pathlib import Path

from unet.fragments import load_block_table, merge_blocks, save_merge_table
from unet.job import run
from unet.receipts import bytes_digest, content_digest, fingerprint, write_json
from unet.volume import Volume

log = logging.getLogger(__name__)


def main(
    survey: Path,
    segmented: list[Path],
    receipt: Path,
    folder: Path,
    store: str,
    minimum_size: int,
    first_id: int,
    code: str,
) -> None:
    """Write the merge table, and create the store of the final ids, in uint64 where an id needs it."""
    source = Volume.open(folder, survey)
    tables = (load_block_table(source.table(store, box)) for box in source.layout.grid.boxes())
    table = merge_blocks(source.layout.grid, tables, first_id=first_id, minimum_size=minimum_size)
    save_merge_table(source.merge_table(store), table)
    source.create(store, table.lut.dtype.name, kind="label")
    log.info("%d fragments became %d objects", len(table.lut), table.objects)
    lut = bytes_digest(table.lut.tobytes())
    write_json(
        receipt,
        {
            "rule": "merge",
            "digest": fingerprint(lut=lut, dtype=table.lut.dtype.name, made=content_digest(segmented), code=code),
            "fragments": len(table.lut),
            "objects": table.objects,
            "dtype": table.lut.dtype.name,
        },
    )


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
