"""Count the intensities of a block range in bins, voxels in constant regions separately.

Inputs: `raw.zarr` and `mask.zarr`, with the pixels around a block that decide which regions are constant.

Outputs: a file of counts beside the receipt, and a receipt with their digest.

1. Read each block with the halo of `unet.volumes.constant_regions`, so that counts do not depend on the blocks.
2. Count three parts: tissue outside constant regions, tissue inside, and constant regions outside the mask.
3. Add up the counts of all blocks.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box
from unet.jobs.journal import file_sizes
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.storage.digests import bytes_digest
from unet.storage.files import save_arrays, write_receipt
from unet.volumes.constant_regions import HALO, constant_regions
from unet.volumes.histogram import BINS, histogram, rows_of
from unet.volumes.volume import Volume


def main(survey: Path, receipt: Path, folder: Path, block_range: str, code: str, threads: int = 1) -> None:
    """Write the counts of the blocks of `block_range`, int64 `(channel, part, row, bin)`; see `_counts`."""
    source = Volume.open(folder, survey)
    boxes, layout = source.blocks(block_range), source.layout
    total = np.zeros((layout.channels, 3, rows_of(layout.dtype), BINS), np.int64)
    progress, adding = Progress("histogram", sum(box.size for box in boxes), "voxels"), threading.Lock()

    def count(box: Box) -> None:
        read = box.grown(HALO).clipped(layout.shape)
        intensities, tissue = source.image("raw").read(read).reshape(-1, *read.shape), source.tissue_mask(box)
        for channel, values in enumerate(intensities):
            counts = _counts(values, box.relative_to(read.start), tissue)
            with adding:
                total[channel] += counts
        with adding:
            progress.advance(box.size)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(count, boxes))
    receipt.parent.mkdir(parents=True, exist_ok=True)
    table = receipt.with_suffix(".npz")
    save_arrays(table, {"counts": total})
    found = {"digest": bytes_digest(total.tobytes()), "blocks": len(boxes), "files": file_sizes([table], receipt)}
    write_receipt(receipt, {"rule": "histogram", **found})


def _counts(values: np.ndarray, inner: Box, tissue: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Return three histograms of a box: tissue outside constant regions, tissue inside, and constant non-tissue."""
    block, constant = values[inner.slices], constant_regions(values)[inner.slices]
    if not constant.any():
        outside = histogram(block, tissue)
        return np.stack([outside, np.zeros_like(outside), np.zeros_like(outside)])
    wanted = np.ones_like(constant) if tissue is None else tissue
    return np.stack([histogram(block, part) for part in (wanted & ~constant, wanted & constant, ~wanted & constant)])


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
