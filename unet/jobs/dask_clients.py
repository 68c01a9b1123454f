"""Clients of dask schedulers: one in this process, or one that somebody else has started; and calls of its workers."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import dask
from distributed import Client, LocalCluster, Security, Worker
from distributed.comm import connect

from unet.extras import is_installed, needs

SETTINGS = {
    "distributed.worker.profile.enabled": False,  # samples every thread a hundred times per second
    "distributed.diagnostics.nvml": False,  # would look at every GPU, also those of other jobs
    "distributed.admin.tick.limit": "1h",  # a long forward pass is no reason to warn
    "distributed.admin.tick.interval": "1s",  # fifty per second keep the interpreter from the tiles
    "distributed.admin.system-monitor.interval": "10s",
}

LOOPBACK = "127.0.0.1:0"
"""Where pages about a scheduler or worker are served: to this machine alone. Without an address dask serves all."""

log = logging.getLogger(__name__)


class _LoopbackWorker(Worker):
    """A worker without a dashboard. Its pages about health and metrics are for this machine alone."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **(settings | {"dashboard": False, "dashboard_address": LOOPBACK}))


@contextmanager
def local_client(threads: int, dashboard: bool = False) -> Iterator[Client]:
    """Start a scheduler and one worker in this process, and yield a client; only this machine sees the dashboard.

    Scheduler and worker share the memory of this process.
    """
    dashboard = dashboard and dashboard_can_run()
    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            processes=False,
            n_workers=1,
            threads_per_worker=threads,
            memory_limit=0,  # max_in_flight bounds memory; dask would spill arrays to disk
            dashboard_address=LOOPBACK,
            scheduler_kwargs={"dashboard": dashboard},
            worker_class=_LoopbackWorker,
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
def scheduler_client(address: str, timeout: float = 60.0) -> Iterator[Client]:
    """Connect to the scheduler at an address, wait until it has a worker, and yield a client.

    A ``tls://`` address needs the certificates of dask's configuration. The scheduler itself logs the address of its
    dashboard; a client cannot ask for it.

    Raises
    ------
    ConnectionError
        If no scheduler answers, or it has no worker, within `timeout` seconds.
    """
    with dask.config.set(SETTINGS):
        try:
            asyncio.run(asyncio.wait_for(_shake_hands(address, timeout), timeout))
            client = Client(address, timeout=timeout, set_as_default=False)
        except Exception as error:  # another program may answer with any bytes
            why = str(error) or f"nothing was heard for {timeout:.0f} s"
            raise ConnectionError(
                f"predict.scheduler: no dask scheduler answers at {address} ({why}); start one there, or correct "
                "predict.scheduler (docs/how-to/slurm.md)"
            ) from None
        with client:
            try:
                client.wait_for_workers(1, timeout=timeout)
            except TimeoutError:
                raise ConnectionError(
                    f"predict.scheduler: {address} has no worker after {timeout:.0f} s; start one with "
                    f"`dask worker {address}` where this project is installed (docs/how-to/slurm.md)"
                ) from None
            yield client


async def _shake_hands(address: str, timeout: float) -> None:
    """Connect as a client does, and leave. `Client` itself waits for the first answer without an end."""
    comm = await connect(address, timeout=timeout, **Security().get_connection_args("client"))
    await comm.close()


def call_on_worker(client: Client, function: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
    """Return `function(*arguments)` from a worker, or from another worker if it takes longer than `timeout` seconds.

    Time in which the call waits for a worker does not count.

    Raises
    ------
    TimeoutError
        If every worker has taken longer.
    """
    hanging: set[str] = set()
    while not hanging or hanging < set(workers_of(client)):
        future = client.submit(function, *arguments, pure=False, **workers_to_choose(client, hanging))
        worker: str | None = None
        while worker is None:
            try:
                return future.result(timeout=timeout)
            except TimeoutError:
                if future.done():
                    raise
                worker = worker_of_tasks(client).get(future.key)
        log.warning("worker %s has not answered after %.0f s; another one is asked", worker, timeout)
        future.cancel()
        hanging.add(worker)
    raise TimeoutError(f"none of the {len(hanging)} dask worker(s) has answered after {timeout:.0f} s")


def workers_of(client: Client) -> list[str]:
    """Return the addresses of the workers that are there now."""
    return list(client.nthreads())


def worker_of_tasks(client: Client) -> dict[Any, str]:
    """Return the worker that processes a task, by the key of the task."""
    return {key: address for address, keys in client.processing().items() for key in keys}


def workers_to_choose(client: Client, hanging: set[str], not_on: str | None = None) -> dict[str, list[str]]:
    """Return the argument of `Client.submit` that avoids workers that hang, and `not_on` where there is another."""
    everyone = workers_of(client)
    answering = [address for address in everyone if address not in hanging]
    chosen = [address for address in answering if address != not_on] or answering
    return {"workers": chosen} if 0 < len(chosen) < len(everyone) else {}
