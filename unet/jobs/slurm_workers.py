"""Workers that are SLURM jobs of their own: one prediction on many nodes (`predict.workers: slurm`).

```
prediction job (scheduler, journal, receipt)
   |-- sbatch --> worker 0   |==========| leaves before its time limit ...
   |-- sbatch --> worker 1   |=======|
   |-- sbatch --> worker 2              |=========|     ... and another one is submitted
   `-- scancel what is left
```

1. dask-jobqueue submits a SLURM job a worker; each takes blocks as soon as it has started. Scheduler and workers speak
   TLS with a certificate of their own: its key is in a file that the user alone may read, beside what the workers say.
2. `_WorkerPool` looks every few seconds which of these jobs have ended, and has others submitted for them.
3. In the end all are cancelled. Where this process has no time for that, its workers end when they miss its scheduler,
   and one that starts later does not find it within `CONNECT_TIMEOUT_S` seconds.
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
from unet.jobs.pipeline import SETTINGS

CONNECT_TIMEOUT_S = 60
"""Seconds in which a worker that starts has to find its scheduler."""
CHECK_INTERVAL_S = 5.0
"""Seconds between two looks at the jobs."""
MAX_LOST_AT_START = 3
"""Jobs that may end before the first worker has come: more are no accident."""
POLL_S = 0.2

log = logging.getLogger(__name__)


class NoWorkersError(RuntimeError):
    """SLURM gives no workers; the message says why, or where they say so."""


@contextmanager
def slurm_client(slurm: SlurmConfig, blocks: int, logs: Path, dashboard: bool = False) -> Iterator[Client]:
    """A scheduler in this process, once the first of its workers has come; afterwards none of them is left.

    Parameters
    ----------
    slurm : SlurmConfig
        Section `slurm` of the configuration.
    blocks : int
        That there are to do: more workers than that are not asked for.
    logs : Path
        Folder for what the workers say.

    Raises
    ------
    NoWorkersError
        If dask-jobqueue or SLURM is not there, SLURM refuses the jobs, or the first ones end before they have come.
    """
    name = f"unet-em-{uuid4().hex[:8]}"
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
    """A cluster of dask-jobqueue without workers yet, whose job SLURM would take."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise NoWorkersError("predict.workers: slurm needs dask-jobqueue: pip install 'unet-em[slurm]'") from None
    if which("sbatch") is None:
        raise NoWorkersError("predict.workers: slurm needs SLURM, but there is no sbatch on this machine")
    logs.mkdir(parents=True, exist_ok=True)
    gpus = [f"--gpus={slurm.gpu_model}:{slurm.gpus}" if slurm.gpu_model else f"--gpus={slurm.gpus}"]
    stays = slurm.time_limit_minutes - slurm.lifetime_margin_minutes - slurm.lifetime_stagger_minutes
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
            *("--lifetime", f"{60 * stays:.0f}s", "--lifetime-stagger", f"{60 * slurm.lifetime_stagger_minutes:.0f}s"),
            *(
                "--memory-limit",
                "0",
                "--no-dashboard",
                "--dashboard-address",
                "127.0.0.1:0",
            ),  # SLURM bounds memory; dask would pause workers, and wait
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
    """A certificate for one scheduler and its workers; who has not got it can neither listen nor talk to them."""
    try:
        return Security.temporary()
    except ImportError:
        raise NoWorkersError("predict.workers: slurm needs cryptography: pip install 'unet-em[slurm]'") from None


class _WorkerPool:
    """Keeps up the number of worker jobs while it is entered."""

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
        """Wait until a worker has come, as long as SLURM may take to start one."""
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
        """Numbers of the jobs that wait or run; None where SLURM does not answer."""
        found = subprocess.run(
            ["squeue", "--noheader", "--format=%i", f"--name={self.name}"], capture_output=True, text=True
        )
        return None if found.returncode else set(found.stdout.split())

    def _replace(self, ended: list[str]) -> None:
        """Forget some workers, in the cluster's own thread, and have what is missing submitted.

        The cluster itself forgets those that have left, but submits nothing before it is told.
        """
        for worker in ended:
            self.cluster.workers.pop(worker, None)
        if len(self.cluster.workers) < self.count:
            log.info("%d worker(s) have left; others are submitted", self.count - len(self.cluster.workers))
            self.cluster.scale(self.count)


def _walltime(seconds: float) -> str:
    """
    >>> _walltime(90 * 60)
    '01:30:00'
    """
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
