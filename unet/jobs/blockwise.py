"""Process the blocks of one job: only unfinished blocks, each recorded in a journal, each by one process at a time.

1. `BlockRangeJob` locks its blocks. It waits for a process that an earlier run left behind and that still writes one.
2. The journals list the finished blocks. A block stays finished if its inputs are the same and its files are unchanged.
3. The other blocks are processed in any order, by threads (`run_blocks`) or by a scheduler. `BlockRangeJob.record`
   records each of them.
4. `BlockRangeJob.finish` writes the receipt.
"""

import errno
import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unet.geometry.box import Box
from unet.jobs.devices import scheduler_assignment
from unet.jobs.journal import BlockRecord, Journal, summarise
from unet.jobs.progress import Progress
from unet.storage.digests import fingerprint as fingerprint_of
from unet.storage.files import write_receipt
from unet.storage.locks import blocks_locked

log = logging.getLogger(__name__)

BlockOutput = tuple[str, dict[str, Any]]
"""Digest of the files of a block, and the counts to record with it."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
INPUT_STATE_THREADS = 4
"""Threads that read the state of the blocks' inputs before the work begins; they mostly wait for files."""


class DiskFullError(OSError):
    """The disk of a store is full. The message says how much is free and how much is needed."""


class Store(Protocol):
    """A store that a job writes, e.g. `unet.storage.zarr_store.Image`."""

    @property
    def name(self) -> str:
        """Name in the folder of the volume, by which `unet.volumes.volume.Volume.named` finds the store."""

    @property
    def path(self) -> Path:
        """Folder of the store."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""

    def digest(self, box: Box) -> str | None:
        """Return the digest of a block's files; None if a file is missing."""

    def size(self, box: Box) -> int | None:
        """Return the bytes of a block's files; None if a file is missing."""


class BlockRangeJob:
    """The blocks of one job. Used as a context manager, it keeps other processes from writing these blocks.

    Parameters
    ----------
    rule
        Name of the rule, for progress and the receipt.
    boxes
        The blocks of the job's block range.
    stores
        Stores that the job writes. A block has files in each of them.
    receipt
        Declared output of the job, written last.
    fingerprint
        Hash of everything that all blocks depend on: model, parameters and code. A block with another hash is made
        again.
    inputs_of
        Function that returns, as JSON values, what one block depends on in addition: the state of the files, or the
        digests of the blocks, that it reads (`unet.volumes.block_inputs`).
    total_voxels
        Voxels of all jobs of the rule on the volume. If given, the log shows the progress of all jobs together.
    """

    def __init__(
        self,
        rule: str,
        boxes: Sequence[Box],
        stores: Sequence[Store],
        *,
        receipt: Path,
        fingerprint: str,
        inputs_of: Callable[[Box], Any] | None = None,
        total_voxels: int | None = None,
    ) -> None:
        self.rule, self.boxes, self.stores, self.receipt, self.fingerprint = rule, boxes, stores, receipt, fingerprint
        self._inputs_of, self._total_voxels = inputs_of, total_voxels
        self._made = 0

    def __enter__(self) -> "BlockRangeJob":
        with ExitStack() as held:  # releases the locks if one of the next lines fails
            held.enter_context(blocks_locked(self.receipt.parent / ".blocks.lock", self.boxes))
            self._journal = Journal.of_receipt(self.receipt)
            self._input_fingerprints = self._fingerprints()
            digest_of = partial(digest_of_block, self.stores)
            self._records = self._journal.finished(self._input_fingerprints, digest_of)
            if self._records:
                log.info("%d of %d blocks are finished already", len(self._records), len(self.boxes))
            done = sum(box.size for box in self._records)
            counted = partial(self._journal.count_voxels, self.fingerprint)
            all_jobs = (self._total_voxels, counted) if self._total_voxels else None
            self._progress = Progress(self.rule, sum(box.size for box in self.boxes), "voxels", done, all_jobs)
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._held.close()
        if error is not None:
            with suppress(OSError):  # the disk may be full; the error that is raised says more
                why = {"ended": str(error) or kind.__name__, "fingerprint": self.fingerprint}
                self._journal.add_interruption(why | self._run)
        full = _cause(error, DISK_FULL)
        if full is not None:
            raise DiskFullError(self._disk_full_message(full)) from error

    @property
    def unfinished(self) -> list[Box]:
        """Blocks that are not finished, in scan order."""
        return [box for box in self.boxes if box not in self._records]

    def is_finished(self, box: Box) -> bool:
        """Tell whether a block is finished."""
        return box in self._records

    def record(self, box: Box, written: BlockOutput) -> None:
        """Record a block whose files are on disk. The record itself is on disk when this returns."""
        digest, figures = written
        record = BlockRecord(box, self._input_fingerprints[box], digest, {**figures, "bytes": self._bytes(box)})
        self._records[box] = self._journal.add(record)
        self._made += 1
        self._progress.advance(box.size)

    def finish(self, **more: Any) -> None:
        """Write the receipt, once every block is on disk.

        Parameters
        ----------
        more
            Further entries. The entry `run` describes this run. `finish` adds where the job ran, and how earlier,
            unfinished runs of the job ended.
        """
        earlier = self._journal.interruptions(self.fingerprint)
        run = {**self._run, **({"ended_before": earlier} if earlier else {}), **more.pop("run", {})}
        whole = summarise(self._records[box] for box in self.boxes)
        stores = [store.name for store in self.stores]
        values = {"rule": self.rule, "fingerprint": self.fingerprint, "stores": stores, **whole, **more, "run": run}
        write_receipt(self.receipt, values)

    @property
    def _run(self) -> dict[str, Any]:
        return {"blocks_made": self._made, **scheduler_assignment()}

    def _fingerprints(self) -> dict[Box, str]:
        """Return each block's fingerprint: the job's, by which `Journal.count_voxels` finds the block, and its
        inputs'."""
        inputs_of = self._inputs_of
        if inputs_of is None:
            return dict.fromkeys(self.boxes, self.fingerprint)
        with ThreadPoolExecutor(INPUT_STATE_THREADS) as pool:
            own = pool.map(lambda box: fingerprint_of(inputs=inputs_of(box)), self.boxes)
            return {box: self.fingerprint + inputs for box, inputs in zip(self.boxes, own, strict=True)}

    def _bytes(self, box: Box) -> int:
        return sum(store.size(box) or 0 for store in self.stores)

    def _disk_full_message(self, error: OSError) -> str:
        """Return the message of a full disk.

        The space that is needed is estimated from the blocks so far; before the first block, from its raw voxels.
        """
        folder, left = self.stores[0].path.parent, len(self.unfinished)
        taken = [record.figures["bytes"] for record in self._records.values()]
        of_voxels = max(box.size for box in self.boxes) * sum(store.dtype.itemsize for store in self.stores)
        needed = left * (sum(taken) / len(taken) if taken else of_voxels)
        return (
            f"{folder}: {error.strerror}; {shutil.disk_usage(folder).free / 1e6:.1f} MB are free, and the {left} "
            f"block(s) that this job has yet to write take about {needed / 1e6:.1f} MB. Make space and run again: "
            "what is finished is kept"
        )


def digest_of_block(stores: Sequence[Store], box: Box) -> str | None:
    """Return the digest of a block's files in several stores; None if the only store lacks a file."""
    digests = [store.digest(box) for store in stores]
    return None if digests == [None] else digest_of_stores(digests)


def digest_of_stores(digests: Sequence[str | None]) -> str:
    """Return the digest of a block in several stores from its digest in each of them."""
    first, *others = digests
    return fingerprint_of(stores=digests) if others else str(first)


def run_blocks(
    rule: str,
    boxes: Sequence[Box],
    work: Callable[[Box], BlockOutput],
    stores: Sequence[Store],
    *,
    receipt: Path,
    fingerprint: str,
    inputs_of: Callable[[Box], Any] | None = None,
    threads: int = 1,
    order: Callable[[Sequence[Box]], Sequence[Box]] = lambda unfinished: unfinished,
) -> None:
    """Process every unfinished block with `work`, then write the receipt.

    Parameters
    ----------
    work
        Function that reads, computes and writes one block, and returns its digest and counts.
    threads
        Number of blocks that are processed at the same time; the result does not depend on it.
    order
        Function that is called with the unfinished blocks, and returns them in the order in which they are started.

    The other parameters are those of `BlockRangeJob`.
    """
    with (
        BlockRangeJob(rule, boxes, stores, receipt=receipt, fingerprint=fingerprint, inputs_of=inputs_of) as job,
        ThreadPoolExecutor(threads) as pool,
    ):
        running = {pool.submit(work, box): box for box in order(job.unfinished)}
        try:
            for future in as_completed(running):
                job.record(running[future], future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)  # waits for the blocks in flight, which are recorded below
            for future, box in running.items():
                if not job.is_finished(box) and not future.cancelled() and future.exception() is None:
                    job.record(box, future.result())
            raise
        job.finish()


def _cause(error: BaseException | None, numbers: Sequence[int]) -> OSError | None:
    """Return the first system error with one of the given numbers among an exception and its causes; else None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in numbers and not isinstance(error, DiskFullError):
            return error
        error = error.__cause__ or error.__context__
    return None
