"""Run a piece of work over the blocks of a shard: only what is missing, recorded block by block."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from unet.geometry import Box
from unet.progress import Progress
from unet.receipts import BlockRecord, Journal, summarise, write_json
from unet.receipts import fingerprint as fingerprint_of

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
    inputs_of: Callable[[Box], Any] | None = None,
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
    inputs_of
        What a block alone depends on beside the fingerprint, as JSON values, e.g. the state of the files it reads.
    threads
        Blocks at once; the answer does not depend on it.

    Returns
    -------
    list of BlockRecord
        Of all blocks of the shard, in scan order.
    """
    journal = Journal.beside(receipt)
    made_from = {box: _of_block(fingerprint, inputs_of, box) for box in boxes}
    records = finished_blocks(journal, made_from, digest_of)
    waiting = [box for box in boxes if box not in records]
    progress = Progress(rule, sum(b.size for b in boxes), "voxels", sum(b.size for b in records))

    def keep(box: Box, written: Written) -> None:
        records[box] = BlockRecord(box, made_from[box], *written)
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


def _of_block(base: str, inputs_of: Callable[[Box], Any] | None, box: Box) -> str:
    return base if inputs_of is None else fingerprint_of(base=base, inputs=inputs_of(box))


def finished_blocks(
    journal: Journal, made_from: Mapping[Box, str], digest_of: Callable[[Box], str | None]
) -> dict[Box, BlockRecord]:
    """The blocks of this shard, given with their fingerprints, that need no work."""
    finished = journal.finished(made_from, digest_of)
    log.info("%d of %d blocks are finished already", len(finished), len(made_from))
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
