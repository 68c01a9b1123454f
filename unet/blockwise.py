"""Run a piece of work over the blocks of a shard: only what is missing, recorded block by block."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from unet.geometry import Box
from unet.progress import Progress
from unet.receipts import BlockRecord, Journal, summarise, write_json

log = logging.getLogger(__name__)

Written = tuple[str, dict[str, Any]]
"""Digest of the files of a block, and the figures to keep of it."""


def run_blocks(
    rule: str,
    boxes: Sequence[Box],
    work: Callable[[Box], Written],
    *,
    receipt: Path,
    fingerprint: str,
    digest_of: Callable[[Box], str | None],
    threads: int = 1,
) -> list[BlockRecord]:
    """Do `work` on every block that is not finished, then write the receipt.

    Parameters
    ----------
    rule
        Name for progress and the receipt.
    boxes
        The blocks of this job's shard.
    work
        Reads, computes and writes one block; returns its digest and figures.
    receipt
        The job's declared output, written last.
    fingerprint
        Of model, parameters, input and code: a block recorded under another one is made again.
    digest_of
        Digest of what is on disk for a block; None where there is nothing.
    threads
        Blocks at once; the answer does not depend on it.

    Returns
    -------
    list of BlockRecord
        Of all blocks of the shard, in scan order.
    """
    journal = Journal.beside(receipt)
    records = finished_blocks(journal, boxes, fingerprint, digest_of)
    waiting = [box for box in boxes if box not in records]
    progress = Progress(rule, sum(b.size for b in boxes), "voxels", sum(b.size for b in records))

    def keep(box: Box, written: Written) -> None:
        records[box] = BlockRecord(box, fingerprint, *written)
        journal.add(records[box])
        progress.advance(box.size)

    with ThreadPoolExecutor(threads) as pool:
        jobs = {pool.submit(work, box): box for box in waiting}
        try:
            for job in as_completed(jobs):
                keep(jobs[job], job.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)  # waits for the blocks in flight; they are finished work too
            for job, box in jobs.items():
                if box not in records and not job.cancelled() and job.exception() is None:
                    keep(box, job.result())
            raise
    return write_receipt(rule, receipt, fingerprint, [records[box] for box in boxes], made=len(waiting))


def finished_blocks(
    journal: Journal, boxes: Sequence[Box], fingerprint: str, digest_of: Callable[[Box], str | None]
) -> dict[Box, BlockRecord]:
    """The blocks of this shard that need no work."""
    ours = set(boxes)
    finished = journal.finished(fingerprint, lambda box: digest_of(box) if box in ours else None)
    log.info("%d of %d blocks are finished already", len(finished), len(boxes))
    return finished


def write_receipt(
    rule: str,
    receipt: Path,
    fingerprint: str,
    records: list[BlockRecord],
    made: int,
    **more: Any,
) -> list[BlockRecord]:
    """Declare a shard done: every block of it is on disk."""
    run = {"blocks_made": made, **more.pop("run", {})}
    write_json(receipt, {"rule": rule, "fingerprint": fingerprint, **summarise(records), **more, "run": run})
    return records
