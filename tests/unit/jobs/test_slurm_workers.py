"""SLURM workers on a machine without SLURM: the error says what is missing. `tests/cluster` tests the rest."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client

from unet.config.root import load_config
from unet.config.slurm import SlurmConfig
from unet.jobs import slurm_workers
from unet.jobs.slurm_workers import NoWorkersError, slurm_client


def test_without_dask_jobqueue_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with (
        pytest.raises(NoWorkersError, match=r"needs dask-jobqueue, of the extra slurm: pip install"),
        slurm_client(SlurmConfig(), 1, tmp_path),
    ):
        pass


def test_without_slurm_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoWorkersError, match="no sbatch on this machine"), slurm_client(SlurmConfig(), 1, tmp_path):
        pass


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Start the scheduler of SLURM workers with a fake SLURM that accepts every job and starts none."""
    for name in ("sbatch", "squeue", "scancel"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with slurm_workers._cluster(SlurmConfig(), "ours", tmp_path / "logs", dashboard=True) as cluster:
        yield cluster


OUTSIDER = """
import sys
from distributed import Client
try:
    client = Client(sys.argv[1], timeout=2)
except Exception as error:
    print("refused", type(error).__name__)
else:
    print("ran", client.run_on_scheduler(int))
"""


@pytest.mark.parametrize("protocol", ["tls", "tcp"])
def test_who_has_no_certificate_cannot_talk_to_the_scheduler(cluster: Any, protocol: str) -> None:
    address = cluster.scheduler_address.replace("tls", protocol)
    outsider = subprocess.run([sys.executable, "-c", OUTSIDER, address], capture_output=True, text=True)
    assert outsider.stdout.startswith("refused "), outsider.stdout + outsider.stderr


def test_who_has_a_certificate_of_its_own_making_cannot_either(cluster: Any) -> None:
    with pytest.raises(OSError, match=r"Timed out|certificate"):
        Client(cluster.scheduler_address, security=slurm_workers._certificate(), timeout=2, set_as_default=False)


def test_the_job_itself_talks_to_its_scheduler_and_workers_get_its_certificate(cluster: Any, tmp_path: Path) -> None:
    with Client(cluster, set_as_default=False) as client:
        assert client.run_on_scheduler(os.getpid) == os.getpid()
    files = {Path(word) for word in cluster.job_script().split() if f"{tmp_path}/logs/." in word}
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert "PRIVATE KEY" not in cluster.job_script()


def test_the_dashboard_is_for_this_machine_alone(cluster: Any) -> None:
    listening = {
        c.laddr.ip for c in psutil.Process().net_connections() if c.laddr.port == _port(cluster.dashboard_link)
    }
    assert listening == {"127.0.0.1"}


def _port(link: str) -> int:
    return int(link.rpartition(":")[2].partition("/")[0])


def test_without_cryptography_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(NoWorkersError, match=r"needs cryptography, of the extra slurm: pip install"):
        slurm_workers._certificate()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"slurm": {"time_limit_minutes": 30}}, r"stop at once: time_limit_minutes 30 .* is -5"),
        ({"predict": {"workers": "slurm", "scheduler": "tcp://127.0.0.1:1"}}, "two ways to predict"),
        ({"slurm": {"walltime": 30}}, r"slurm.walltime: unknown key; allowed here: workers, partition"),
    ],
)
def test_impossible_settings_are_told(sections: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config({"volumes": {"train": {"raw": "a", "labels": "b"}}, **sections})
