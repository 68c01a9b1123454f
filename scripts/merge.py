"""Join the fragments of all blocks into objects, and number the objects in scan order.

Inputs: the fragment tables of `segment`, and the edges of `region_graph` where there is a graph; or the last parts of
`merge_part` where the volume is merged in several.

Outputs: the merge table, which maps each fragment to its final id, and the store of the final ids, still empty.

1. Without a region graph: fragments that touch across block borders are one object.
2. With a region graph: components of touching fragments are agglomerated, and holes are filled.
3. Remove objects below `min_size`, and number the others consecutively in scan order of their first voxels.
"""

import logging
from pathlib import Path

import numpy as np

from unet.config.segment import SegmentConfig
from unet.geometry.part_tree import TreePart, tree_of_parts
from unet.jobs.journal import file_sizes
from unet.jobs.script import run_script
from unet.segmentation.merge_table import id_dtype, save_merge_table
from unet.segmentation.merge_tree import Outcome, object_tables
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
    layers_per_part: int,
    store: str,
    segment: SegmentConfig,
    code: str,
    threshold: Path | None = None,
    decoder: Path | None = None,
) -> None:
    """Write the merge table, and create the store of the final ids in uint32, or in uint64 if an id needs it.

    `made` are the receipts of what is read. `threshold` is the receipt of `choose_agglomeration_threshold`, `decoder`
    that of `choose_decoder`.
    """
    source = Volume.open(folder, survey)
    grid, segment = source.layout.grid, chosen_settings(segment, threshold, decoder)
    merge, tree = VolumeMerge(source, store, segment), tree_of_parts(source.layout.grid.counts[0], layers_per_part)
    last, settled_last = merge.merge(tree)

    def outcome_of(part: TreePart) -> Outcome:
        return settled_last if part is tree else merge.load_outcome(part)

    counted = {part: merge.count_settled(part) for part in tree.parts() if part is not tree}
    counted[tree] = int(settled_last.objects.is_object(segment.min_size).sum()), settled_last.starts
    objects, first_id = sum(number for number, _ in counted.values()), segment.first_id
    starts = np.cumsum(np.concatenate([[0], *(np.diff(counted[leaf][1]) for leaf in tree.leaves())]))
    pieces = object_tables(grid, tree, outcome_of, objects, first_id, segment.min_size)
    table = source.merge_table(store)
    lut = save_merge_table(table, starts, first_id, objects, pieces)
    dtype = id_dtype(first_id, objects).name
    source.create(store, dtype, kind="label")
    log.info("%d fragments became %d objects", starts[-1], objects)
    write_receipt(
        receipt,
        {
            "rule": "merge",
            "digest": fingerprint(lut=lut, dtype=dtype, made=receipts_digest(made), code=code),
            "fragments": int(starts[-1]),
            "components": last.components,
            "objects": objects,
            "dtype": dtype,
            "files": file_sizes(sorted(table.iterdir()), receipt),
        },
    )


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
