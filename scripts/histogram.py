"""Count the grey values of a block range of a volume, those of constant regions apart.

A block is read with the pixels around it that decide what is constant, so the counts of all blocks are those of the
whole volume. They go into a file beside the receipt, and their digest into the receipt.
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
from unet.storage.files import save_arrays, write_json
from unet.volumes.constant_regions import HALO, constant_regions
from unet.volumes.histogram import KEYS, histogram, rows_of
from unet.volumes.volume import Volume


def main(survey: Path, receipt: Path, folder: Path, block_range: str, code: str, threads: int = 1) -> None:
    """Write the sum over the blocks of `block_range`, int64 `(channel, part, row, key)`; see `_counts`."""
    source = Volume.open(folder, survey)
    boxes, layout = source.blocks(block_range), source.layout
    total = np.zeros((layout.channels, 3, rows_of(layout.dtype), KEYS), np.int64)
    progress, adding = Progress("histogram", sum(box.size for box in boxes), "voxels"), threading.Lock()

    def count(box: Box) -> None:
        window = box.grown(HALO).clipped(layout.shape)
        grey, tissue = source.image("raw").read(window).reshape(-1, *window.shape), source.tissue(box)
        for channel, values in enumerate(grey):
            counts = _counts(values, box.relative_to(window.start), tissue)
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
    write_json(receipt, {"rule": "histogram", **found})


def _counts(values: np.ndarray, inner: Box, tissue: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """`histogram` of a box in `values`: tissue outside constant regions, inside, and these where there is no tissue."""
    block, constant = values[inner.slices], constant_regions(values)[inner.slices]
    if not constant.any():
        outside = histogram(block, tissue)
        return np.stack([outside, np.zeros_like(outside), np.zeros_like(outside)])
    wanted = np.ones_like(constant) if tissue is None else tissue
    return np.stack([histogram(block, part) for part in (wanted & ~constant, wanted & constant, ~wanted & constant)])


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
