"""The blocks of one job, scheduled by dask.distributed: read, infer and write of different blocks overlap.

```
block 0   read | infer        | write
block 1          read |         infer        | write        one infer at a time holds the device;
block 2                 read |                 infer ...     at most `window` blocks are in flight
```

1. The first `window` blocks are submitted, three tasks each; `read` hands its array to `infer`, `infer` to `write`,
   inside this process and without a copy. An array is dropped when its reader is done.
2. Each finished block is reported in the calling thread, and the next one is submitted.
3. A block that fails is submitted once more, then it ends the run. So does a signal. Either way nothing new starts,
   the blocks in flight are finished and reported, and only then an exception tells.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, Future, LocalCluster, as_completed

from unet.geometry import Box

SETTINGS = {
    "distributed.worker.profile.enabled": False,  # samples every thread a hundred times a second
    "distributed.diagnostics.nvml": False,  # would look at every GPU, also those of other jobs
    "distributed.scheduler.work-stealing": False,
    "distributed.admin.tick.limit": "1h",  # a long forward pass is no reason to warn
}


class BlockError(RuntimeError):
    """A block failed twice; the message names its box, the cause is the second failure."""


class Interrupted(RuntimeError):
    """A signal ended the run; every block that had started was finished and reported."""


_RUNNING: dict[str, tuple[Callable[..., Any], ...]] = {}  # the three steps of each run of this process


def run_pipeline(
    boxes: Iterable[Box],
    read: Callable[[Box], Any],
    infer: Callable[[Any, Box], Any],
    write: Callable[[Any, Box], Any],
    *,
    done: Callable[[Box, Any], None] = lambda box, result: None,
    workers: int = 2,
    window: int = 3,
    device_slots: int = 1,
) -> int:
    """Take every block through `read(box)`, `infer(array, box)` and `write(array, box)`.

    Parameters
    ----------
    boxes : iterable of Box
        The blocks, consumed as they are submitted.
    read, infer, write : callables
        Run in threads of this process. `write` must be safe to repeat, and its result small.
    done : callable
        `done(box, result)` with what `write` returned, in the calling thread, in the order of completion.
    workers : int
        Threads that read and write; `infer` has threads of its own.
    window : int
        Largest number of blocks in flight, which bounds memory.
    device_slots : int
        Blocks that may be in `infer` at once.

    Returns
    -------
    int
        Number of blocks finished.

    Raises
    ------
    BlockError
        When a block has failed twice.
    Interrupted
        After SIGINT or SIGTERM. A second signal acts as if this function were not there.
    """
    run = uuid4().hex
    _RUNNING[run] = (read, infer, write)
    try:
        with _signals_noted() as signals, _local_cluster(workers, device_slots) as client:
            return _run_window(client, run, iter(boxes), done, window, signals)
    finally:
        del _RUNNING[run]


def _run_window(
    client: Client,
    run: str,
    boxes: Iterator[Box],
    done: Callable[[Box, Any], None],
    window: int,
    signals: list[str],
) -> int:
    """Keep `window` blocks in flight until none is left, one has failed twice, or a signal came."""
    flight, box_of, retried = as_completed(), {}, set()
    finished, failure = 0, None

    def start(box: Box) -> None:
        future = _submit_block(client, run, box)
        box_of[future] = box
        flight.add(future)

    for box in islice(boxes, window):
        start(box)
    for future in flight:
        box = box_of.pop(future)
        error = future.exception()
        stopping = bool(signals or failure)
        if error is None:
            done(box, future.result())
            finished += 1
        elif box not in retried and not stopping:
            retried.add(box)
            start(box)
            continue
        else:
            failure = failure or (box, error)
        if not (signals or failure):
            for following in islice(boxes, 1):
                start(following)
    _raise_reason(finished, failure, signals)
    return finished


def _raise_reason(finished: int, failure: tuple[Box, BaseException] | None, signals: list[str]) -> None:
    """Say why the run ended early, if it did."""
    if signals:
        raise Interrupted(f"{signals[0]} received; {finished} blocks are finished, a rerun continues with the others")
    if failure is not None:
        box, error = failure
        raise BlockError(
            f"block {box} failed twice, at last with {error!r} ({finished} blocks are finished)"
        ) from error


def _submit_block(client: Client, run: str, box: Box) -> Future:
    """Submit a block's three tasks; only the last one's future is kept, so each array goes when it has been used."""
    array = _submit(client, "io", run, 0, box)
    result = _submit(client, "device", run, 1, array, box)
    return _submit(client, "io", run, 2, result, box)


def _submit(client: Client, resource: str, *arguments: Any) -> Future:
    return client.submit(_call, *arguments, resources={resource: 1}, pure=False)


def _call(run: str, step: int, *arguments: Any) -> Any:
    """Call a step of a run by name.

    A task that held the function itself would be pickled with all it refers to: the model, for every block.
    """
    return _RUNNING[run][step](*arguments)


@contextmanager
def _local_cluster(workers: int, device_slots: int) -> Iterator[Client]:
    """A scheduler and one worker in this process: threads share its memory, so no array ever travels."""
    threads = {"io": workers, "device": device_slots}
    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            processes=False,
            n_workers=1,
            threads_per_worker=sum(threads.values()),
            resources=threads,
            memory_limit=0,  # the window bounds memory; dask would spill arrays to disk
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def _signals_noted() -> Iterator[list[str]]:
    """Names of the signals received, instead of their usual effect; only the main thread can ask for that.

    The first one restores the usual effect, so that a second ends the process at once.
    """
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        received.append(signal.Signals(number).name)
        restore()

    for number in usual:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()
