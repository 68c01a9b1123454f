"""Receipts that promise more than there is: a store or a file of it was deleted, or cut short, after its job was done.

Snakemake looks at receipts alone and would say that nothing is to be done. So, before a run is planned, every receipt
of a shard is compared with the sizes of its blocks' files, which each store lists once. Beside one that does not hold a
note is written, which is an input of its job from then on: so the job runs again, also where only its own successors
were missing it. Its journal tells it which blocks to make. Other bytes of the same size are found by checksum when they
are read, and by `snakemake verify`.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from unet.geometry import Box
from unet.receipts import read_json, write_json
from unet.store import StoreError
from unet.volume import Volume

Sizes = dict[Box, int | None] | None
"""Bytes of each block of a store, None where a file of it is missing; None altogether where there is no store."""


def note_of(receipt: Path) -> Path:
    """Where it is noted that a receipt does not hold."""
    return receipt.with_suffix(".damage")


def write_note(receipt: Path, problem: str) -> None:
    """Note what is wrong, and when: another content each time, so that the job runs each time."""
    write_json(note_of(receipt), {"problem": problem, "found": time.time()})


def damaged_receipts(results: Path) -> Iterator[tuple[Path, str]]:
    """Each receipt whose blocks are not all on disk as they were written, and what is wrong.

    Parameters
    ----------
    results : Path
        Folder of everything that is written.
    """
    for survey in sorted((results / "receipts" / "survey").glob("*.json")):
        volume = Volume.open(results / "volumes" / survey.stem, survey)
        sizes: dict[str, Sizes] = {}
        for receipt in sorted((results / "receipts").glob(f"*/{survey.stem}/**/*-of-*.json")):
            values = read_json(receipt)
            for name in values.get("stores", []):
                if name not in sizes:
                    sizes[name] = _sizes(volume, name)
            problem = _problem(volume, receipt, values, sizes)
            if problem is not None:
                yield receipt, problem


def _problem(volume: Volume, receipt: Path, values: dict, sizes: dict[str, Sizes]) -> str | None:
    """What is wrong with the files of a shard; None where all have the size that was recorded."""
    found = 0
    for name in values.get("stores", []):
        store, listed = f"{volume.address or volume.folder}/{name}", sizes[name]
        if listed is None:
            return f"{store} is not there"
        for box in volume.blocks(receipt.stem):
            size = listed.get(box)  # of another cut there is none
            if size is None:
                return f"{store}: block {box} is missing"
            found += size
    if found != values.get("bytes", 0):
        return f"its files hold {found} bytes, but {values['bytes']} were written"
    return None


def _sizes(volume: Volume, name: str) -> Sizes:
    try:
        return volume.image(name.removesuffix(".zarr")).sizes()
    except StoreError:
        return None
