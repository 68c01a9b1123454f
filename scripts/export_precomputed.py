"""Write stores in neuroglancer's precomputed format, shard by shard, each level of the pyramid as it is.

Inputs: the stores that `export_precomputed.stores` names; the merge table, for the sizes of objects.

Outputs: `exports/{volume}/precomputed/{store}`, a precomputed volume each, and receipts.

1. Make `info`, or begin anew where the voxels have changed.
2. Copy each level box by box, a shard per box, and record each shard in a journal.
3. Add the sizes of the objects as segment properties.
"""

import logging
from pathlib import Path

from unet.config.export_volumes import ExportPrecomputedConfig
from unet.jobs.journal import file_sizes
from unet.jobs.script import run_script
from unet.segmentation.merge_table import load_merge_table
from unet.segmentation.segment_properties import properties_of_objects
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import write_receipt
from unet.volumes.volume import Volume
from unet.volumes.writers.levels import begin_export, copy_levels
from unet.volumes.writers.precomputed import add_segment_properties, precomputed_scales

RULE = "export_precomputed"
log = logging.getLogger(__name__)


def main(
    survey: Path,
    made: list[Path],
    receipt: Path,
    folder: Path,
    results: Path,
    export: ExportPrecomputedConfig,
    code: str,
    threads: int = 1,
) -> None:
    """Write the stores that `export` names below `results`, and then `receipt`."""
    source = Volume.open(folder, survey)
    depends_on = fingerprint(made=receipts_digest(made), code=code, volume=source.name)
    volumes = results / "exports" / source.name / "precomputed"
    for store in export.stores:
        image, target, journal = source.image(store), volumes / store, volumes / ".journal" / store
        begin_export(target, journal, depends_on)
        scales = precomputed_scales(target, image)
        copy_levels(RULE, image, scales, journal, depends_on, threads)
        table = source.merge_table(store)
        if store == "segmentation" and table.is_dir():
            add_segment_properties(target, properties_of_objects(load_merge_table(table)))
        log.info("precomputed://file://%s", target.absolute())
    files = file_sizes((volumes / store / "info" for store in export.stores), receipt)
    write_receipt(receipt, {"rule": RULE, "digest": depends_on, "exported": export.stores, "files": files})


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
