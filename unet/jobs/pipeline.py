"""The blocks of one job, scheduled by dask.distributed: the work on different blocks overlaps.

```
block 0   read | infer        | write
block 1          read |   infer        | write        one block per device slot is inferred at a time;
block 2                 read |           infer ...     `max_in_flight` blocks per worker are submitted at most
```

A block is one task of one process, so no array is sent between processes. The process is this one, or a worker of a
scheduler that somebody else has started (`unet.jobs.dask_clients`).

1. Submit the first `max_in_flight` blocks per worker. Report each finished block in the calling thread, and submit the
   next one. A worker that starts later gets its own `max_in_flight` blocks.
2. Submit a block once more if it fails or takes longer than `block_timeout`, to another worker where there is one. dask
   notices a worker that dies, and gives its blocks to other workers. A second failure of a block ends the run. A worker
   that let a block exceed its timeout gets no further blocks as long as there is another one.
3. If the run ends early, by a failure, SIGINT or SIGTERM, submit nothing more. The blocks in flight have
   `DRAIN_TIMEOUT_S` seconds to finish, and are reported. Then they are cancelled. Only then the exception is raised.
"""

import logging
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any
from uuid import uuid4

from distributed import Client, Future, get_worker

from unet.geometry.box import Box
from unet.jobs.dask_clients import worker_of_tasks, workers_of, workers_to_choose

DRAIN_TIMEOUT_S = 20.0
"""Seconds in which the blocks in flight may finish when the run ends early; then they stop at their next tile."""
STOP_TIMEOUT_S = 8.0
"""Seconds to wait for blocks that were cancelled."""
POLL_S = 0.2
"""Seconds to wait for a finished block before signals and timeouts are checked."""
RESULT_TIMEOUT_S = 10.0
"""Seconds to wait for the result of a block that has ended. A worker that dies takes its results with it."""
MESSAGE_TIMEOUT_S = 5.0
"""Seconds to wait for workers that receive a message. A worker that hangs never confirms it."""

Stop = Callable[[], bool]
Work = Callable[[Box, Stop], Any]
"""Function that processes a block. It calls `stop()` now and then, and raises `Stopped` if the result is true."""

log = logging.getLogger(__name__)


class BlockError(RuntimeError):
    """A block failed twice. The message names its box; the cause is the second failure."""


class Interrupted(RuntimeError):
    """A signal ended the run. All finished blocks have been reported."""


class Stopped(RuntimeError):
    """A block was cancelled."""


@dataclass
class ReadInferWrite:
    """The three steps of a block as one `Work`.

    Parameters
    ----------
    read, infer, write : callables
        `read(box)`, `infer(array, box, stop)` and `write(array, box)`. `write` must be safe to repeat, and return
        something small.
    device : Semaphore
        Number of blocks that are inferred at the same time; one by default.
    """

    read: Callable[[Box], Any]
    infer: Callable[[Any, Box, Stop], Any]
    write: Callable[[Any, Box], Any]
    device: threading.Semaphore = field(default_factory=threading.Semaphore)

    def __call__(self, box: Box, stop: Stop) -> Any:
        array = self.read(box)
        with self.device:
            if stop():
                raise Stopped(f"block {box} was cancelled")
            array = self.infer(array, box, stop)
        return self.write(array, box)


_RUNNING: dict[str, Work] = {}
"""The work of each call of `run_pipeline` in this process, by id. A task that held it would carry the pickled model."""
_STOPPED: set[str] = set()
"""Ids of the calls whose blocks have to stop."""


def run_pipeline(
    boxes: Iterable[Box],
    work: Work,
    client: Client,
    *,
    done: Callable[[Box, Any], None] = lambda box, result: None,
    max_in_flight: int = 3,
    block_timeout: float = float("inf"),
) -> int:
    """Process every block with `work`.

    Parameters
    ----------
    boxes : iterable of Box
        The blocks, consumed as they are submitted.
    work : Work
        Function that processes a block. It must be possible to pickle it if workers are other processes.
    client : Client
        Client of `unet.jobs.dask_clients`.
    done : callable
        Called as `done(box, result)` with the result of `work`, in the calling thread, in the order of completion.
    max_in_flight : int
        Largest number of submitted blocks per worker; bounds the memory.
    block_timeout : float
        Seconds after which a block that a worker processes counts as failed.

    Returns
    -------
    int
        Number of finished blocks.

    Raises
    ------
    BlockError
        If a block has failed twice.
    Interrupted
        After SIGINT or SIGTERM. A second SIGINT has its usual effect.
    """
    pipeline = _Pipeline(client, work, done, max_in_flight, block_timeout)
    try:
        with _record_signals() as signals:
            return pipeline.process(iter(boxes), signals)
    finally:
        pipeline.clean_up()


@dataclass
class _InFlight:
    """A submitted block, the number of its attempt, and the time (s) from which its timeout counts."""

    box: Box
    attempt: int
    since: float


class _Pipeline:
    """State of one call of `run_pipeline`: its submitted blocks and what they have answered."""

    def __init__(
        self, client: Client, work: Work, done: Callable[[Box, Any], None], max_in_flight: int, block_timeout: float
    ) -> None:
        self.client, self.done, self.block_timeout = client, done, block_timeout
        self.name = uuid4().hex
        self.work = None if client.scheduler.address.startswith("inproc") else work  # sent with each task
        _RUNNING[self.name] = work
        self.max_in_flight = max_in_flight
        self.in_flight: dict[Future, _InFlight] = {}
        self.answers: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.hanging: set[str] = set()
        self.finished = 0
        self.failure: tuple[Box, BaseException] | None = None

    def process(self, boxes: Iterator[Box], signals: list[str]) -> int:
        """Keep `max_in_flight` blocks per worker submitted until none is left, or the run ends early."""
        self.submit_next(boxes)
        while self.in_flight and not (signals or self.failure):
            self.collect_finished()
            self.submit_next(boxes)
        self.drain()
        if signals:
            raise Interrupted(
                f"{signals[0]} received; {self.finished} blocks are finished, a rerun continues with the others"
            )
        if self.failure is not None:
            box, error = self.failure
            raise BlockError(
                f"block {box} failed twice, at last with {_told(error)} ({self.finished} blocks are finished)"
            ) from error
        return self.finished

    def submit_next(self, boxes: Iterator[Box]) -> None:
        """Submit the next blocks, up to `max_in_flight` per worker that is there now."""
        if self.failure is None:
            most = self.max_in_flight * max(1, len(workers_of(self.client)))
            for box in islice(boxes, max(0, most - len(self.in_flight))):
                self.submit(box)

    def submit(self, box: Box, attempt: int = 1, not_on: str | None = None) -> None:
        """Submit a block; on the second attempt to another worker than `not_on`, if there is one."""
        where = workers_to_choose(self.client, self.hanging, not_on)
        future = self.client.submit(_run_task, self.name, self.work, box, pure=False, **where)
        self.in_flight[future] = _InFlight(box, attempt, time.monotonic())
        future.add_done_callback(self.answers.put)

    def collect_finished(self) -> None:
        """Report or retry the next block that has ended, if one ends within `POLL_S` seconds."""
        try:
            future = self.answers.get(timeout=POLL_S)
        except queue.Empty:
            self.fail_overdue()
            return
        if future not in self.in_flight:
            return  # ended after its timeout
        block = self.in_flight.pop(future)
        result, error = _outcome(future)
        if error is None:
            self.done(block.box, result)
            self.finished += 1
        else:
            self.failed(block, error, getattr(error, "worker", None))

    def failed(self, block: _InFlight, error: BaseException, worker: str | None) -> None:
        """Submit a failed block once more, or end the run."""
        if block.attempt == 1 and self.failure is None:
            log.warning("block %s failed with %s; it is tried once more", block.box, _told(error))
            self.submit(block.box, attempt=2, not_on=worker)
        else:
            self.failure = self.failure or (block.box, error)

    def fail_overdue(self) -> None:
        """Fail the blocks that a worker has had for longer than `block_timeout`.

        The timeout of a block that still waits for a worker starts anew.
        """
        now = time.monotonic()
        overdue = [future for future, block in self.in_flight.items() if now - block.since > self.block_timeout]
        if overdue:
            worker_of = worker_of_tasks(self.client)
        for future in overdue:
            if future.key in worker_of:
                block = self.in_flight.pop(future)
                future.cancel()
                error = TimeoutError(f"not finished after {self.block_timeout:.0f} s")
                self.hanging.add(worker_of[future.key])
                self.failed(block, error, worker_of[future.key])
            else:
                self.in_flight[future].since = now

    def drain(self) -> None:
        """Let the blocks in flight finish within `DRAIN_TIMEOUT_S`, then cancel the others."""
        for seconds, then in ((DRAIN_TIMEOUT_S, self.stop), (STOP_TIMEOUT_S, lambda: None)):
            deadline = time.monotonic() + seconds
            while self.in_flight and time.monotonic() < deadline:
                self.collect_while_stopping()
            if self.in_flight:
                then()

    def collect_while_stopping(self) -> None:
        """Report the next block that has finished, as `collect_finished` does, but ignore failures."""
        try:
            future = self.answers.get(timeout=POLL_S)
        except queue.Empty:
            return
        block = self.in_flight.pop(future, None)
        if block is None:
            return
        result, error = _outcome(future)
        if error is None:
            self.done(block.box, result)
            self.finished += 1

    def stop(self) -> None:
        """Tell the blocks in flight to stop at their next tile."""
        log.info("%d block(s) in flight are cancelled; a rerun makes them", len(self.in_flight))
        _STOPPED.add(self.name)
        if self.work is not None:
            with suppress(TimeoutError):
                self.client.sync(self.tell_workers_to_stop, callback_timeout=MESSAGE_TIMEOUT_S)

    async def tell_workers_to_stop(self) -> None:
        """Send the name of this call to all workers at once, which then stop its blocks."""
        await self.client.run(_stop_tasks, self.name)

    def clean_up(self) -> None:
        """Remove the entries of this call from the tables of the process."""
        del _RUNNING[self.name]
        _STOPPED.discard(self.name)


def _run_task(name: str, work: Work | None, box: Box) -> Any:
    """Process a block on a worker; an error carries the worker's address."""
    try:
        return (work or _RUNNING[name])(box, partial(_STOPPED.__contains__, name))
    except Exception as error:
        error.worker = get_worker().address  # type: ignore[attr-defined]
        raise


def _stop_tasks(name: str) -> None:
    _STOPPED.add(name)


def _outcome(future: Future) -> tuple[Any, BaseException | None]:
    """Return the result of a block that has ended, and its error, None if it has none.

    The scheduler itself cancels a block that it has dropped. A result is gone if its worker dies before this process
    has asked for the result. dask would wait without an end for a worker that makes the block again.
    """
    if future.cancelled():
        return None, ConnectionError("the dask scheduler dropped the block")
    try:
        error: BaseException | None = future.exception(timeout=RESULT_TIMEOUT_S)
        return (None, error) if error is not None else (future.result(timeout=RESULT_TIMEOUT_S), None)
    except TimeoutError:
        future.cancel()
        return None, ConnectionError("its result was lost with its worker")
    except Exception as failed:  # dask has made it again meanwhile
        return None, failed


@contextmanager
def _record_signals() -> Iterator[list[str]]:
    """Yield a list that collects the names of received signals, whose usual effect is suspended meanwhile.

    After the first signal a Ctrl-C ends the process at once, but another SIGTERM does nothing: SLURM sends two to every
    job that it ends, itself and through srun. Outside the main thread nothing is collected, since Python forbids it.
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
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    for number in usual:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()


def _told(error: BaseException) -> str:
    """Return the kind of an error and its words; `repr` leaves out the file of a system error."""
    return f"{type(error).__name__}: {error}"
