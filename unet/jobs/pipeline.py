"""The blocks of one job, scheduled by dask.distributed: the work on different blocks overlaps.

```
block 0   read | infer        | write
block 1          read |   infer        | write        so many at once infer on a process's device as it has places;
block 2                 read |           infer ...     at most `window` blocks a process are in flight
```

A block is one task of one process, so no array travels: of this process (`in_this_process`), or of the workers of a
scheduler that somebody else has started (`at_scheduler`).

1. The first `window` blocks a worker are submitted. Each finished one is reported in the calling thread, and the next
   follows; a worker that comes later gets its own.
2. A block that fails, or is not finished after `patience`, is submitted once more, to another worker where there is
   one. A worker that dies is noticed by dask, which gives its blocks to others. What fails again ends the run.
3. When the run ends early, by a failure, SIGINT or SIGTERM, nothing new starts. The blocks in flight have `GRACE`
   seconds to finish and are reported; then they are told to stop. Only then an exception tells.
"""

import logging
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import dask
from distributed import Client, Future, LocalCluster, get_worker

from unet.extras import is_installed, needs
from unet.geometry.box import Box

SETTINGS = {
    "distributed.worker.profile.enabled": False,  # samples every thread a hundred times a second
    "distributed.diagnostics.nvml": False,  # would look at every GPU, also those of other jobs
    "distributed.admin.tick.limit": "1h",  # a long forward pass is no reason to warn
    "distributed.admin.tick.interval": "1s",  # fifty a second keep the interpreter from the tiles
    "distributed.admin.system-monitor.interval": "10s",
}
GRACE = 20.0
"""Seconds that blocks in flight have to finish when the run ends early; then they stop at their next tile."""
LAST_WORDS = 8.0
"""Seconds in which a block that was told to stop answers."""
POLL = 0.2

Stop = Callable[[], bool]
Work = Callable[[Box, Stop], Any]
"""What is done with a block. It asks `stop()` now and then, and raises `Stopped` when that is true."""

log = logging.getLogger(__name__)


class BlockError(RuntimeError):
    """A block failed twice; the message names its box, the cause is the second failure."""


class Interrupted(RuntimeError):
    """A signal ended the run; what was finished is reported."""


class Stopped(RuntimeError):
    """A block was told to stop."""


@dataclass
class Overlapped:
    """The three steps of a block as one `Work`; `infer` of as many blocks at once as `device` has places, here one.

    Parameters
    ----------
    read, infer, write : callables
        `read(box)`, `infer(array, box, stop)` and `write(array, box)`, which is safe to repeat; its result is small.
    """

    read: Callable[[Box], Any]
    infer: Callable[[Any, Box, Stop], Any]
    write: Callable[[Any, Box], Any]
    device: threading.Semaphore = field(default_factory=threading.Semaphore)

    def __call__(self, box: Box, stop: Stop) -> Any:
        array = self.read(box)
        with self.device:
            if stop():
                raise Stopped(f"block {box} was told to stop")
            array = self.infer(array, box, stop)
        return self.write(array, box)


_RUNNING: dict[str, Work] = {}
"""The work of each run of this process. A task that held it would be pickled with all it refers to: the model."""
_STOPPED: set[str] = set()


@contextmanager
def in_this_process(threads: int, dashboard: bool = False) -> Iterator[Client]:
    """A scheduler and one worker in this process, which share its memory; the dashboard is for this machine alone."""
    dashboard = dashboard and dashboard_can_run()
    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            processes=False,
            n_workers=1,
            threads_per_worker=threads,
            memory_limit=0,  # the window bounds memory; dask would spill arrays to disk
            dashboard_address="127.0.0.1:0" if dashboard else None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        if dashboard:
            log.info("dask dashboard: http://127.0.0.1:%d/status", urlsplit(cluster.dashboard_link).port)
        yield client


def dashboard_can_run() -> bool:
    """Return whether dask's dashboard can run here; where it cannot, log why.

    It is logged to the job's file alone: on the terminal the run has said it once, before its first job.
    """
    installed = is_installed("bokeh")
    if not installed:
        log.debug("dask dashboard: none, since it %s", needs("bokeh"))
    return installed


@contextmanager
def at_scheduler(address: str, timeout: float = 60.0) -> Iterator[Client]:
    """The scheduler at an address, once it has a worker; with ``tls://`` by the certificates of dask's configuration.

    It says itself where its dashboard is; whether it has one, and for whom, cannot be asked from here.

    Raises
    ------
    ConnectionError
        If there is no scheduler, or none of its workers has come, within `timeout` seconds.
    """
    with dask.config.set(SETTINGS):
        try:
            client = Client(address, timeout=timeout, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise ConnectionError(f"predict.scheduler: no dask scheduler answers at {address} ({error})") from None
        with client:
            try:
                client.wait_for_workers(1, timeout=timeout)
            except TimeoutError:
                raise ConnectionError(
                    f"predict.scheduler: {address} has no worker after {timeout:.0f} s; start one with "
                    f"`dask worker {address}` where this project is installed (docs/how-to/slurm.md)"
                ) from None
            yield client


def run_pipeline(
    boxes: Iterable[Box],
    work: Work,
    client: Client,
    *,
    done: Callable[[Box, Any], None] = lambda box, result: None,
    window: int = 3,
    patience: float = float("inf"),
) -> int:
    """Do `work` on every block.

    Parameters
    ----------
    boxes : iterable of Box
        The blocks, consumed as they are submitted.
    work : Work
        Where workers are other processes, a function that can be pickled.
    client : Client
        From `in_this_process` or `at_scheduler`.
    done : callable
        `done(box, result)` with what `work` returned, in the calling thread, in the order of completion.
    window : int
        Largest number of blocks in flight a worker, which bounds memory.
    patience : float
        Seconds after which a block in flight counts as failed.

    Returns
    -------
    int
        Number of blocks finished.

    Raises
    ------
    BlockError
        When a block has failed twice.
    Interrupted
        After SIGINT or SIGTERM. A SIGINT that follows acts as if this function were not there.
    """
    run = _Run(client, work, done, window, patience)
    try:
        with _signals_noted() as signals:
            return run.through(iter(boxes), signals)
    finally:
        run.forget()


@dataclass
class _InFlight:
    """A block that was submitted, how often, and since when it is waited for."""

    box: Box
    attempt: int
    since: float


class _Run:
    """The blocks in flight of one call of `run_pipeline`."""

    def __init__(
        self, client: Client, work: Work, done: Callable[[Box, Any], None], window: int, patience: float
    ) -> None:
        self.client, self.done, self.patience = client, done, patience
        self.name = uuid4().hex
        self.work = None if client.scheduler.address.startswith("inproc") else work  # what is sent along
        _RUNNING[self.name] = work
        self.window = window
        self.flight: dict[Future, _InFlight] = {}
        self.answers: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.finished = 0
        self.failure: tuple[Box, BaseException] | None = None

    def through(self, boxes: Iterator[Box], signals: list[str]) -> int:
        """Keep the window full until nothing is left, or the run ends early."""
        self.top_up(boxes)
        while self.flight and not (signals or self.failure):
            self.settle_one()
            self.top_up(boxes)
        self.wind_down()
        if signals:
            raise Interrupted(
                f"{signals[0]} received; {self.finished} blocks are finished, a rerun continues with the others"
            )
        if self.failure is not None:
            box, error = self.failure
            raise BlockError(
                f"block {box} failed twice, at last with {error!r} ({self.finished} blocks are finished)"
            ) from error
        return self.finished

    def top_up(self, boxes: Iterator[Box]) -> None:
        """Submit as many blocks as there is room for, with the workers that there are now."""
        if self.failure is None:
            for box in islice(boxes, max(0, self.window * max(1, len(_workers(self.client))) - len(self.flight))):
                self.submit(box)

    def submit(self, box: Box, attempt: int = 1, not_on: str | None = None) -> None:
        """Submit a block, on the second attempt to another worker if there is one."""
        others = [address for address in _workers(self.client) if address != not_on] if not_on is not None else []
        where = {"workers": others} if others else {}
        future = self.client.submit(_do, self.name, self.work, box, pure=False, **where)
        self.flight[future] = _InFlight(box, attempt, time.monotonic())
        future.add_done_callback(self.answers.put)

    def settle_one(self) -> None:
        """Take the next answer, if one comes soon."""
        try:
            future = self.answers.get(timeout=POLL)
        except queue.Empty:
            self.look_for_hanging()
            return
        if future not in self.flight:
            return  # answered after it had been given up
        block = self.flight.pop(future)
        error = _error_of(future)
        if error is None:
            self.done(block.box, future.result())
            self.finished += 1
        else:
            self.failed(block, error, getattr(error, "worker", None))

    def failed(self, block: _InFlight, error: BaseException, worker: str | None) -> None:
        """Try a block once more, or end the run."""
        if block.attempt == 1 and self.failure is None:
            log.warning("block %s failed with %r; it is tried once more", block.box, error)
            self.submit(block.box, attempt=2, not_on=worker)
        else:
            self.failure = self.failure or (block.box, error)

    def look_for_hanging(self) -> None:
        """Give up the blocks that a worker has had for too long; those that wait for a worker have time."""
        now = time.monotonic()
        late = [future for future, block in self.flight.items() if now - block.since > self.patience]
        if late:
            at_work = {key: address for address, keys in self.client.processing().items() for key in keys}
        for future in late:
            if future.key in at_work:
                block = self.flight.pop(future)
                future.cancel()
                self.failed(block, TimeoutError(f"not finished after {self.patience:.0f} s"), at_work[future.key])
            else:
                self.flight[future].since = now

    def wind_down(self) -> None:
        """Let the blocks in flight finish, then tell them to stop."""
        for seconds, then in ((GRACE, self.stop), (LAST_WORDS, lambda: None)):
            deadline = time.monotonic() + seconds
            while self.flight and time.monotonic() < deadline:
                self.settle_last_ones()
            if self.flight:
                then()

    def settle_last_ones(self) -> None:
        """As `settle_one`, when failures do not matter any more."""
        try:
            future = self.answers.get(timeout=POLL)
        except queue.Empty:
            return
        block = self.flight.pop(future, None)
        if block is not None and _error_of(future) is None:
            self.done(block.box, future.result())
            self.finished += 1

    def stop(self) -> None:
        """Tell the blocks in flight to stop at their next tile."""
        log.info("%d block(s) in flight are told to stop; a rerun makes them", len(self.flight))
        _STOPPED.add(self.name)
        if self.work is not None:
            self.client.run(_stop, self.name, wait=False)

    def forget(self) -> None:
        """Drop what this run has left in this process."""
        del _RUNNING[self.name]
        _STOPPED.discard(self.name)


def _do(run: str, work: Work | None, box: Box) -> Any:
    """Do a run's work on a block, on a worker; an error tells whose."""
    try:
        return (work or _RUNNING[run])(box, partial(_STOPPED.__contains__, run))
    except Exception as error:
        error.worker = get_worker().address  # type: ignore[attr-defined]
        raise


def _stop(run: str) -> None:
    _STOPPED.add(run)


def _workers(client: Client) -> list[str]:
    return list(client.nthreads())


def _error_of(future: Future) -> BaseException | None:
    """What a block failed with; a cancelled one was dropped by the scheduler."""
    if future.cancelled():
        return ConnectionError("the dask scheduler dropped the block")
    error: BaseException | None = future.exception()
    return error


@contextmanager
def _signals_noted() -> Iterator[list[str]]:
    """Names of the signals received, instead of their usual effect; only the main thread can ask for that.

    After the first one a Ctrl-C ends the process at once, but a further SIGTERM does nothing: SLURM sends two to every
    job that it ends, itself and by way of srun.
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
