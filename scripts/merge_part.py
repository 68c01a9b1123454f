"""Merge a part of a volume, a range of layers of blocks, as far as the rest of the volume cannot change the result.

Inputs: the fragment tables of `segment`, and the edges of `region_graph` where there is a graph; or the parts that
this part joins.

Outputs: what is settled in the part, and what may still change, two files in `{store}-tables/parts`; a receipt.

`merge` joins the last parts and numbers the objects.
"""

import logging
from pathlib import Path

from unet.config.segment import SegmentConfig
from unet.geometry.part_tree import tree_of_parts
from unet.jobs.journal import file_sizes
from unet.jobs.script import run_script
from unet.segmentation.volume_merge import VolumeMerge, chosen_settings
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import write_receipt
from unet.volumes.volume import Volume

log = logging.getLogger(__name__)


def main(
    survey: Path,
    made: list[Path],
    receipt: Path,
    folder: Path,
    part: str,
    layers_per_part: int,
    store: str,
    segment: SegmentConfig,
    code: str,
    threshold: Path | None = None,
    decoder: Path | None = None,
) -> None:
    """Merge the part named ``{first layer}-{layer behind the last}``; `made` are the receipts of what it reads."""
    source = Volume.open(folder, survey)
    merge = VolumeMerge(source, store, chosen_settings(segment, threshold, decoder))
    tree = tree_of_parts(source.layout.grid.counts[0], layers_per_part)
    live, outcome = merge.merge(tree.named(part))
    files = merge.save(tree.named(part), live, outcome)
    log.info("part %s: %d objects are settled, %d may change", part, len(outcome.objects), len(live.nodes))
    write_receipt(
        receipt,
        {
            "rule": "merge_part",
            "digest": fingerprint(made=receipts_digest(made), code=code),
            "settled": len(outcome.objects),
            "live": len(live.nodes),
            "components": live.components,
            "files": file_sizes(files, receipt),
        },
    )


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
