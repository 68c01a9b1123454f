"""The blocks of one job: only what is missing is made, recorded block by block, and by one process at a time.

1. `BlockRangeJob` locks its blocks: an orphan of an earlier run that still writes one of them is waited for.
2. The journals tell which blocks are finished: made from the same, and still on disk as they were written.
3. The others are made, in any order, by threads (`run_blocks`) or by a scheduler; `BlockRangeJob.record` records each.
4. `BlockRangeJob.finish` writes the receipt.
"""

import errno
import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unet.geometry.box import Box
from unet.jobs.devices import scheduler_assignment
from unet.jobs.journal import BlockRecord, Journal, summarise
from unet.jobs.progress import Progress
from unet.storage.digests import fingerprint as fingerprint_of
from unet.storage.files import write_json
from unet.storage.locks import blocks_locked

log = logging.getLogger(__name__)

BlockOutput = tuple[str, dict[str, Any]]
"""Digest of the files of a block, and the figures to keep of it."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
INPUT_STATE_THREADS = 4
"""Blocks whose inputs are looked at together, before the work begins: most of that is waiting for files."""


class DiskFullError(OSError):
    """A store has no room left; the message says how much is free and how much is needed."""


class Store(Protocol):
    """What a job needs of a store that it writes; `unet.storage.zarr_store.Image` has it."""

    @property
    def name(self) -> str:
        """In the folder of the volume; `unet.volumes.volume.Volume.named` finds it by that."""

    @property
    def path(self) -> Path:
        """The store's folder."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""

    def digest(self, box: Box) -> str | None:
        """Fingerprint of a block's files; None where one is not there."""

    def size(self, box: Box) -> int | None:
        """Bytes of a block's files; None where one is not there."""


class BlockRangeJob:
    """The blocks of one job; use it as a context, within which no other process writes them.

    Parameters
    ----------
    rule
        Name for progress and the receipt.
    boxes
        The blocks of this job's block range.
    stores
        What the job writes; a block has its files in each of them.
    receipt
        The job's declared output, written last.
    fingerprint
        Of model, parameters and code, of all that every block depends on: one made from another is made again.
    inputs_of
        What a block alone depends on beside the fingerprint, as JSON values, e.g. the state of the files it reads, or
        the digests of the blocks that it reads (`unet.volumes.block_inputs`).
    total_voxels
        Voxels of all jobs of the rule on the volume: then progress tells how far they are together.
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
        with ExitStack() as held:  # which lets go of them where one of the next lines fails
            held.enter_context(blocks_locked(self.receipt.parent / ".blocks.lock", self.boxes))
            self._journal = Journal.of_receipt(self.receipt)
            with ThreadPoolExecutor(INPUT_STATE_THREADS) as pool:
                self._input_fingerprints = dict(zip(self.boxes, pool.map(self._of_block, self.boxes), strict=True))
            self._records = self._journal.finished(
                self._input_fingerprints, lambda box: digest_of_block(self.stores, box)
            )
            if self._records:
                log.info("%d of %d blocks are finished already", len(self._records), len(self.boxes))
            done = sum(box.size for box in self._records)
            all_jobs = (
                (self._total_voxels, lambda: self._journal.count_voxels(self.fingerprint))
                if self._total_voxels
                else None
            )
            self._progress = Progress(self.rule, sum(box.size for box in self.boxes), "voxels", done, all_jobs)
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._held.close()
        if error is not None:
            with suppress(OSError):  # of a full disk; the error itself tells more
                why = {"ended": str(error) or kind.__name__, "fingerprint": self.fingerprint}
                self._journal.add_interruption(why | self._run)
        full = _cause(error, DISK_FULL)
        if full is not None:
            raise DiskFullError(self._no_room(full)) from error

    @property
    def unfinished(self) -> list[Box]:
        """The blocks that are not finished, in scan order."""
        return [box for box in self.boxes if box not in self._records]

    def is_finished(self, box: Box) -> bool:
        """Whether a block is finished."""
        return box in self._records

    def record(self, box: Box, written: BlockOutput) -> None:
        """Record a block that is on disk, before anything else happens to this process."""
        digest, figures = written
        record = BlockRecord(box, self._input_fingerprints[box], digest, {**figures, "bytes": self._bytes(box)})
        self._records[box] = self._journal.add(record)
        self._made += 1
        self._progress.advance(box.size)

    def finish(self, **more: Any) -> None:
        """Write the receipt: every block is on disk. `run` among `more` says what this run was like.

        The receipt's `run` also says where it ran, and how earlier runs of the job ended that did not finish.
        """
        earlier = self._journal.interruptions(self.fingerprint)
        run = {**self._run, **({"ended_before": earlier} if earlier else {}), **more.pop("run", {})}
        whole = summarise(self._records[box] for box in self.boxes)
        stores = [store.name for store in self.stores]
        values = {"rule": self.rule, "fingerprint": self.fingerprint, "stores": stores, **whole, **more, "run": run}
        write_json(self.receipt, values)

    @property
    def _run(self) -> dict[str, Any]:
        return {"blocks_made": self._made, **scheduler_assignment()}

    def _of_block(self, box: Box) -> str:
        """The fingerprint of a block begins with that of the job, so that `Journal.count_voxels` counts it."""
        own = "" if self._inputs_of is None else fingerprint_of(inputs=self._inputs_of(box))
        return self.fingerprint + own

    def _bytes(self, box: Box) -> int:
        return sum(store.size(box) or 0 for store in self.stores)

    def _no_room(self, error: OSError) -> str:
        """How much is free and needed: by what the blocks so far have taken, before the first by their voxels."""
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
    """Fingerprint of a block's files in some stores; None where a single store lacks one of them."""
    digests = [store.digest(box) for store in stores]
    return digests[0] if len(digests) == 1 else fingerprint_of(stores=digests)


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
) -> None:
    """Do `work` on every block that is not finished, then write the receipt.

    Parameters
    ----------
    work
        Reads, computes and writes one block; returns its digest and figures.
    threads
        Blocks at once; the answer does not depend on it.

    The others are those of `BlockRangeJob`.
    """
    with (
        BlockRangeJob(rule, boxes, stores, receipt=receipt, fingerprint=fingerprint, inputs_of=inputs_of) as job,
        ThreadPoolExecutor(threads) as pool,
    ):
        running = {pool.submit(work, box): box for box in job.unfinished}
        try:
            for future in as_completed(running):
                job.record(running[future], future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)  # waits for the blocks in flight; they are finished work too
            for future, box in running.items():
                if not job.is_finished(box) and not future.cancelled() and future.exception() is None:
                    job.record(box, future.result())
            raise
        job.finish()


def _cause(error: BaseException | None, numbers: Sequence[int]) -> OSError | None:
    """The system's error with one of some numbers among an exception and its causes."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in numbers and not isinstance(error, DiskFullError):
            return error
        error = error.__cause__ or error.__context__
    return None
