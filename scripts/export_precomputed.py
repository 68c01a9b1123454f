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
from unet.jobs.script import run_script
from unet.segmentation.merge_table import load_merge_table
from unet.segmentation.segment_properties import properties_of_objects
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import write_json
from unet.volumes.volume import Volume
from unet.volumes.writers.levels import begin_export, copy_levels
from unet.volumes.writers.precomputed import add_segment_properties, precomputed_scales

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
    for store in export.stores:
        image, target = source.image(store), results / "exports" / source.name / "precomputed" / store
        receipts = receipt.parent / source.name / store
        begin_export(target, receipts, depends_on)
        scales = precomputed_scales(target, image)
        copy_levels(receipt.parent.name, image, scales, receipts, depends_on, threads)
        table = source.merge_table(store)
        if store == "segmentation" and table.is_dir():
            add_segment_properties(target, properties_of_objects(load_merge_table(table)))
        log.info("precomputed://file://%s", target.absolute())
    write_json(receipt, {"rule": receipt.parent.name, "digest": depends_on, "stores": export.stores})


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
