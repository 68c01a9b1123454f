"""Write stores as a dataset of WEBKNOSSOS in wkw, cube by cube, each level of the pyramid as it is.

Inputs: the stores that `export_webknossos.stores` names.

Outputs: `exports/{volume}/webknossos/{volume}`, a dataset with a layer per store, and receipts.

1. Make the layers, or begin anew where the voxels have changed.
2. Copy each level box by box, a cube file per box, and record each cube in a journal.
3. Write `datasource-properties.json`, by which WEBKNOSSOS finds the layers.
"""

import logging
from pathlib import Path

from unet.config.export_volumes import ExportWebknossosConfig
from unet.jobs.journal import file_sizes
from unet.jobs.script import run_script
from unet.segmentation.merge_table import load_merge_table
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import write_receipt
from unet.storage.zarr_store import Image
from unet.volumes.volume import Volume
from unet.volumes.writers.levels import begin_export, copy_levels
from unet.volumes.writers.wkw_dataset import PROPERTIES, wkw_magnifications, write_properties

RULE = "export_webknossos"
log = logging.getLogger(__name__)


def main(
    survey: Path,
    made: list[Path],
    receipt: Path,
    folder: Path,
    results: Path,
    export: ExportWebknossosConfig,
    code: str,
    threads: int = 1,
) -> None:
    """Write the stores that `export` names below `results`, and then `receipt`."""
    source = Volume.open(folder, survey)
    depends_on = fingerprint(made=receipts_digest(made), code=code, volume=source.name)
    dataset = results / "exports" / source.name / "webknossos" / source.name
    images: dict[str, Image] = {store: source.image(store) for store in export.stores}
    for store, image in images.items():
        journal = dataset.parent / ".journal" / store
        begin_export(dataset / store, journal, depends_on)
        levels = wkw_magnifications(dataset / store, image)
        copy_levels(RULE, image, levels, journal, depends_on, threads)
    write_properties(dataset, images, _largest_id(source))
    log.info("%s: copy this folder into the folder of binary data of your WEBKNOSSOS", dataset)
    files = file_sizes([dataset / PROPERTIES], receipt)
    write_receipt(receipt, {"rule": RULE, "digest": depends_on, "exported": export.stores, "files": files})


def _largest_id(source: Volume) -> int | None:
    """Return the largest id of the segmentation, where there is one."""
    folder = source.merge_table("segmentation")
    if not folder.is_dir():
        return None
    table = load_merge_table(folder)
    return table.first_id + table.objects - 1


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
