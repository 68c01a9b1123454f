"""Receipts that do not hold: after the job was done, files of a store were lost or cut short, or its inputs changed.

Snakemake compares times, and would say that nothing is to be done. So receipts are compared with what is there before a
run is planned: those of block ranges with the sizes of their blocks' files and tables, which are listed once; those
that name files with the sizes of these, as of a merge table; and those of jobs that read the user's files with the
state of these (`input_states`). Beside a receipt that does not hold a note is written. The note is an input of the
job, newer than its outputs, so the job runs again, also where Snakemake's own records are lost. Its journal tells it
which blocks to make. Other bytes of the same size are found by checksum when they are read, and by `snakemake verify`.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from unet.geometry.box import Box
from unet.storage.files import read_json, write_json
from unet.storage.zarr_store import StoreError
from unet.volumes.volume import Volume

Sizes = dict[Box, int | None] | None
"""Bytes of each block of a store, None where a file of it is missing; None altogether where there is no store."""


class Notes:
    """The notes that receipts do not hold.

    Parameters
    ----------
    dry_run : bool
        Write notes into a temporary folder, which ends with this object: a dry run lists the jobs and leaves nothing.
    """

    def __init__(self, dry_run: bool = False) -> None:
        self._folder = TemporaryDirectory(prefix="unet-em-") if dry_run else None
        self._written: dict[Path, Path] = {}

    def write(self, receipt: Path, problem: str) -> None:
        """Note what is wrong, and when: another content each time, so that the job runs each time."""
        note = receipt.with_suffix(".stale")
        if self._folder is not None:
            note = Path(self._folder.name) / str(len(self._written)) / note.name
        write_json(note, {"receipt": str(receipt), "problem": problem, "found": time.time()})
        self._written[receipt] = note

    def of(self, receipt: Path) -> list[Path]:
        """Return the note beside a receipt, if there is one."""
        note = self._written.get(receipt, receipt.with_suffix(".stale"))
        return [note] if note.exists() else []


def invalid_receipts(results: Path) -> Iterator[tuple[Path, str]]:
    """Each receipt whose blocks and files are not all on disk as they were written, and what is wrong.

    Parameters
    ----------
    results : Path
        Folder of everything that is written.
    """
    for survey in sorted((results / "receipts" / "survey").glob("*.json")):
        volume = Volume.open(results / "volumes" / survey.stem, survey)
        sizes: dict[str, Sizes] = {}
        for receipt in sorted((results / "receipts").glob(f"*/{survey.stem}/**/*.json")):
            values = read_json(receipt)
            for name in values.get("stores", []):
                if name not in sizes:
                    sizes[name] = _sizes(volume, name)
            problem = _problem(volume, receipt, values, sizes) or _of_files(receipt, values.get("files", {}))
            if problem is not None:
                yield receipt, problem


def _problem(volume: Volume, receipt: Path, values: dict, sizes: dict[str, Sizes]) -> str | None:
    """What is wrong with the stores of a block range; None where all have the size that was recorded."""
    if "stores" not in values:
        return None
    found = 0
    for name in values["stores"]:
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


def _of_files(receipt: Path, recorded: dict[str, int]) -> str | None:
    """What is wrong with the files that a receipt names (`unet.jobs.journal.file_sizes`)."""
    for name, size in recorded.items():
        path = Path(os.path.normpath(receipt.parent / name))
        if not path.is_file():
            return f"{path} is not there"
        if path.stat().st_size != size:
            return f"{path} holds {path.stat().st_size} bytes, but {size} were written"
    return None


def _sizes(volume: Volume, name: str) -> Sizes:
    try:
        return volume.named(name).sizes()
    except StoreError:
        return None
