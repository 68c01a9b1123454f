"""Label the connected components of every block of a shard: of the thresholded probability, or of annotated classes.

The components of a block are fragments; `merge` joins them across blocks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from unet.blockwise import Written, run_blocks
from unet.components import Connectivity, label_block, save_block_table
from unet.config import SegmentConfig
from unet.geometry import Box
from unet.job import run
from unet.receipts import bytes_digest, content_digest, fingerprint, read_json
from unet.segmentation import channel_of, foreground
from unet.volume import Volume


def main(
    survey: Path,
    made: list[Path],
    receipt: Path,
    folder: Path,
    shard: str,
    store: Literal["segmentation", "labels"],
    segment: SegmentConfig,
    code: str,
    threshold: Path | None = None,
    threads: int = 1,
) -> None:
    """Write `{store}-fragments.zarr` and one small table a block; `threshold` is a sweep that chooses it."""
    source = Volume.open(folder, survey)
    fragments = source.create(f"{store}-fragments", "uint32", kind="label", pyramid=False)
    chosen = segment.threshold if threshold is None else float(read_json(threshold)["best"]["threshold"])
    values_of, connectivity = _values(source, store, segment, chosen)

    def label(box: Box) -> Written:
        found = label_block(values_of(box), box, source.layout.shape, connectivity)
        save_block_table(source.table(store, box), found)
        fragments.write_block(box, found.labels)
        return digest_of(box), {"fragments": len(found)}

    def digest_of(box: Box) -> str:
        table = source.table(store, box)
        content = bytes_digest(table.read_bytes()) if table.exists() else "absent"
        return fingerprint(table=content, labels=fragments.digest(box))

    run_blocks(
        "segment",
        source.blocks(shard),
        label,
        [fragments],
        receipt=receipt,
        fingerprint=fingerprint(
            made=content_digest(made),
            threshold=chosen,
            foreground=segment.foreground,
            connectivity=connectivity,
            code=code,
        ),
        digest_of=digest_of,
        threads=threads,
    )


def _values(
    source: Volume, store: str, segment: SegmentConfig, threshold: float | str
) -> tuple[Callable[[Box], np.ndarray], Connectivity]:
    """The class values to label in a box, and how voxels connect."""
    if store == "labels":
        return source.image("classes").read, "section"
    probability = source.image("probability")
    channel = channel_of(segment.foreground, probability.spec.channels)
    return lambda box: foreground(probability.read(box)[channel], float(threshold)), segment.connectivity


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
