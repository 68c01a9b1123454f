"""Find stale receipts: files of a store were lost or truncated after the job, or the inputs of the job changed.

Snakemake compares times only, and would run nothing. Before a run is planned, receipts are therefore compared with the
files on disk:

1. The receipt of a block range records the sizes of its blocks' files and tables, which are listed once per store.
2. A receipt that names files, such as those of a merge table, records their sizes.
3. A receipt that is damaged itself is removed, so its job runs again.
4. The receipt of a job that reads the user's files records their states (`unet.volumes.input_states`).

For each stale receipt a marker file `<receipt>.stale` is written. The marker is an input of the job and newer than the
job's outputs. Snakemake thus runs the job again, even if its own records are lost. The job's journal then tells which
blocks to compute. Changed bytes of the same size are found by checksum when they are read, and by
`snakemake verify`.
"""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from unet.geometry.box import Box
from unet.storage.files import DamagedFileError, read_json, write_json
from unet.volumes.volume import Volume

Sizes = dict[Box, int | None] | None
"""Bytes of each block of a store; None for a block with a missing file. Without a store the whole is None."""


class StaleMarkers:
    """Marker files of stale receipts.

    Parameters
    ----------
    dry_run : bool
        Write markers into a temporary folder, which is removed with this object. A dry run lists the jobs and leaves no
        file behind.
    """

    def __init__(self, dry_run: bool = False) -> None:
        self._folder = TemporaryDirectory(prefix="unet-em-") if dry_run else None
        self._written: dict[Path, Path] = {}

    def write(self, receipt: Path, problem: str) -> None:
        """Write the marker of a receipt. The time in it makes each marker differ, so the job runs again."""
        marker = receipt.with_suffix(".stale")
        if self._folder is not None:
            marker = Path(self._folder.name) / str(len(self._written)) / marker.name
        write_json(marker, {"receipt": str(receipt), "problem": problem, "found": time.time()})
        self._written[receipt] = marker

    def of(self, receipt: Path) -> list[Path]:
        """Return the marker of a receipt in a list, which is empty without a marker."""
        marker = self._written.get(receipt, receipt.with_suffix(".stale"))
        return [marker] if marker.exists() else []


def invalid_receipts(results: Path) -> Iterator[tuple[Path, str]]:
    """Yield each receipt whose blocks or files are not on disk as they were written, with the problem.

    Parameters
    ----------
    results : Path
        Folder of all files that a run writes.
    """
    for survey, _ in _readable((results / "receipts" / "survey").glob("*.json")):
        volume = Volume.open(results / "volumes" / survey.stem, survey)
        sizes: dict[str, Sizes] = {}
        for receipt, values in _readable((results / "receipts").glob(f"*/{survey.stem}/**/*.json")):
            for name in values.get("stores", []):
                if name not in sizes:
                    sizes[name] = _sizes(volume, name)
            problem = _problem(volume, receipt, values, sizes) or _of_files(receipt, values.get("files", {}))
            if problem is not None:
                yield receipt, problem


def unreadable_receipts(results: Path) -> Iterator[tuple[Path, str]]:
    """Yield each receipt that is cut short or whose bits have changed, with the problem."""
    for receipt in sorted([*(results / "receipts").rglob("*.json"), *(results / "volumes").glob("*/evaluation.json")]):
        try:
            read_json(receipt)
        except DamagedFileError as error:
            yield receipt, str(error).partition("; remove ")[0].removeprefix(f"{receipt}: ")


def _readable(receipts: Iterable[Path]) -> Iterator[tuple[Path, dict]]:
    """Yield receipts in order, each with its values; `unreadable_receipts` has the others."""
    for receipt in sorted(receipts):
        try:
            values = read_json(receipt)
        except DamagedFileError:
            continue
        yield receipt, values


def blocks_of_receipt(volume: Volume, receipt: Path) -> list[Box]:
    """Return the blocks of the job with a receipt `<rule>/<volume>/<block range>.json`. `ingest` takes whole layers."""
    together = volume.layout.ingested_together if receipt.parent.parent.name == "ingest" else 1
    return volume.blocks(receipt.stem, together)


def _problem(volume: Volume, receipt: Path, values: dict, sizes: dict[str, Sizes]) -> str | None:
    """Return the problem of a block range's stores; None if all blocks have the recorded sizes."""
    if "stores" not in values:
        return None
    found = 0
    for name in values["stores"]:
        store, listed = f"{volume.address or volume.folder}/{name}", sizes[name]
        if listed is None:
            return f"{store} is not there"
        for box in blocks_of_receipt(volume, receipt):
            size = listed.get(box)  # None also for a block of another grid
            if size is None:
                return f"{store}: block {box} is missing"
            found += size
    if found != values.get("bytes", 0):
        return f"its files hold {found} bytes, but {values['bytes']} were written"
    return None


def _of_files(receipt: Path, recorded: dict[str, int]) -> str | None:
    """Return the problem of the files that a receipt names (`unet.jobs.journal.file_sizes`); None if there is none."""
    for name, size in recorded.items():
        path = Path(os.path.normpath(receipt.parent / name))
        if not path.is_file():
            return f"{path} is not there"
        if path.stat().st_size != size:
            return f"{path} holds {path.stat().st_size} bytes, but {size} were written"
    return None


def _sizes(volume: Volume, name: str) -> Sizes:
    from unet.storage.zarr_store import StoreError

    try:
        return volume.store_named(name).sizes()
    except StoreError:
        return None
