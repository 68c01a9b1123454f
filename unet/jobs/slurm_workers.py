"""Run dask workers as SLURM jobs: one prediction on many nodes (`predict.workers: slurm`).

```
prediction job (scheduler, journal, receipt)
   |-- sbatch --> worker 0   |==========| ends before its time limit ...
   |-- sbatch --> worker 1   |=======|
   |-- sbatch --> worker 2              |=========|     ... and another worker is submitted
   `-- scancel the remaining workers
```

1. dask-jobqueue submits one SLURM job per worker. A worker takes blocks as soon as it has started. Scheduler and
   workers communicate by TLS with a certificate of their own. Its key is in a file that only the user can read, in the
   folder of the workers' logs.
2. `_WorkerPool` asks SLURM every few seconds which of these jobs have ended, and submits others in their place.
3. In the end all jobs are cancelled. If this process is killed before that, its workers end when they lose the
   scheduler. A worker that starts later does not find the scheduler within `CONNECT_TIMEOUT_S` seconds, and ends.
"""

import logging
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from platform import node
from shutil import which
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import dask
from distributed import Client
from distributed.security import Security

from unet.config.slurm import SlurmConfig
from unet.extras import needs
from unet.jobs.dask_clients import SETTINGS, dashboard_can_run

CONNECT_TIMEOUT_S = 60
"""Seconds in which a worker that starts has to connect to its scheduler."""
CHECK_INTERVAL_S = 5.0
"""Seconds between two queries of the worker jobs' states."""
MAX_LOST_AT_START = 3
"""Worker jobs that may end before the first worker has connected; more are no accident."""
POLL_S = 0.2
"""Seconds between two checks whether the first worker has connected."""

log = logging.getLogger(__name__)


class NoWorkersError(RuntimeError):
    """SLURM starts no workers. The message says why, or names the folder of the workers' logs."""


@contextmanager
def slurm_client(slurm: SlurmConfig, blocks: int, logs: Path, dashboard: bool = False) -> Iterator[Client]:
    """Start a scheduler in this process and workers as SLURM jobs, and yield a client once a worker has connected.

    All worker jobs are cancelled on exit.

    Parameters
    ----------
    slurm : SlurmConfig
        Section `slurm` of the configuration.
    blocks : int
        Number of blocks to process; no more workers than that are submitted.
    logs : Path
        Folder of the workers' logs.
    dashboard : bool
        Serve dask's dashboard, on this machine only.

    Raises
    ------
    NoWorkersError
        If dask-jobqueue or SLURM is missing, SLURM refuses the jobs, or the first workers end before they connect.
    """
    name = f"unet-em-{uuid4().hex[:8]}"
    dashboard = dashboard and dashboard_can_run()
    with dask.config.set(SETTINGS):
        cluster = _cluster(slurm, name, logs.absolute(), dashboard)
        try:
            pool = _WorkerPool(cluster, name, min(slurm.workers, blocks))
            with cluster, Client(cluster, set_as_default=False) as client, pool:
                pool.wait_for_first(client, logs)
                if dashboard:
                    port = urlsplit(cluster.dashboard_link).port
                    log.info("dask dashboard: http://127.0.0.1:%d/status on %s", port, node())
                yield client
        finally:
            subprocess.run(["scancel", f"--name={name}"], check=False)


def _cluster(slurm: SlurmConfig, name: str, logs: Path, dashboard: bool) -> Any:
    """Return a dask-jobqueue cluster without workers, after a test that SLURM would accept a worker's job."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise NoWorkersError(f"predict.workers: slurm {needs('dask-jobqueue')}") from None
    if which("sbatch") is None:
        raise NoWorkersError("predict.workers: slurm needs SLURM, but there is no sbatch on this machine")
    logs.mkdir(parents=True, exist_ok=True)
    gpus = [f"--gpus={slurm.gpu_model}:{slurm.gpus}" if slurm.gpu_model else f"--gpus={slurm.gpus}"]
    lifetime = slurm.time_limit_minutes - slurm.lifetime_margin_minutes - slurm.lifetime_stagger_minutes
    cluster = SLURMCluster(
        job_name=name,
        queue=slurm.partition,
        account=slurm.account,
        cores=slurm.cores,
        processes=1,
        memory=f"{slurm.memory_mb} MB",
        walltime=_walltime(60 * slurm.time_limit_minutes),
        interface=slurm.interface,
        death_timeout=CONNECT_TIMEOUT_S,
        worker_extra_args=[
            *(
                "--lifetime",
                f"{60 * lifetime:.0f}s",
                "--lifetime-stagger",
                f"{60 * slurm.lifetime_stagger_minutes:.0f}s",
            ),
            *("--memory-limit", "0"),  # SLURM bounds memory; dask would pause workers, and wait
            *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
        ],
        job_extra_directives=[*(gpus if slurm.gpus else []), *slurm.options],
        job_script_prologue=[f"export DASK_INTERNAL_INHERIT_CONFIG={dask.config.serialize(dask.config.global_config)}"],
        log_directory=str(logs),
        protocol="tls://",
        security=_certificate(),
        shared_temp_directory=str(logs),
        scheduler_options={"dashboard_address": "127.0.0.1:0", "dashboard": dashboard},
        silence_logs=logging.CRITICAL,
    )
    refused = subprocess.run(["sbatch", "--test-only"], input=cluster.job_script(), capture_output=True, text=True)
    if refused.returncode:
        cluster.close()
        raise NoWorkersError(f"SLURM does not take a worker's job, see section `slurm`: {refused.stderr.strip()}")
    return cluster


def _certificate() -> Security:
    """Return a TLS certificate for one scheduler and its workers; without it nobody can connect to them or listen."""
    try:
        return Security.temporary()
    except ImportError:
        raise NoWorkersError(f"predict.workers: slurm {needs('cryptography')}") from None


class _WorkerPool:
    """Keep up the number of worker jobs: submit a new job for each that has ended. Used as a context manager."""

    def __init__(self, cluster: Any, name: str, count: int) -> None:
        self.cluster, self.name, self.count = cluster, name, count
        self.lost = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._replace_ended, daemon=True)

    def __enter__(self) -> None:
        self.cluster.scale(self.count)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for_first(self, client: Client, logs: Path) -> None:
        """Wait until a worker has connected, without a time limit: SLURM may start it after hours."""
        log.info("waiting for the first of %d workers, SLURM jobs %s", self.count, self.name)
        while not client.nthreads():
            if self.lost > MAX_LOST_AT_START:
                raise NoWorkersError(f"{self.lost} workers have ended before they could work; {logs} says why")
            time.sleep(POLL_S)

    def _replace_ended(self) -> None:
        while not self._stop.wait(CHECK_INTERVAL_S):
            submitted = {job.job_id: worker for worker, job in dict(self.cluster.workers).items() if job.job_id}
            alive = self._queued_jobs()
            ended = [worker for number, worker in submitted.items() if alive is not None and number not in alive]
            self.lost += len(ended)
            self.cluster.loop.add_callback(self._replace, ended)

    def _queued_jobs(self) -> set[str] | None:
        """Return the numbers of the jobs that wait or run; None if SLURM does not answer."""
        found = subprocess.run(
            ["squeue", "--noheader", "--format=%i", f"--name={self.name}"], capture_output=True, text=True
        )
        return None if found.returncode else set(found.stdout.split())

    def _replace(self, ended: list[str]) -> None:
        """Remove the ended workers from the cluster, and submit as many new ones. Runs in the cluster's thread.

        The cluster itself removes workers that have disconnected, but submits new ones only on request.
        """
        for worker in ended:
            self.cluster.workers.pop(worker, None)
        if len(self.cluster.workers) < self.count:
            log.info("%d worker(s) have left; others are submitted", self.count - len(self.cluster.workers))
            self.cluster.scale(self.count)


def _walltime(seconds: float) -> str:
    """Return a duration in the form of SLURM's time limits.

    >>> _walltime(90 * 60)
    '01:30:00'
    """
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
