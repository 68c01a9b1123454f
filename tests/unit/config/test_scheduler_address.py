"""A scheduler is trusted with certificates, on this machine, or by a decision of the user."""

from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster
from distributed.security import Security

from unet.config.root import load_config
from unet.config.scheduler_address import PLAIN, checked_scheduler
from unet.jobs.dask_clients import scheduler_client


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:8786"])
def test_plain_tcp_is_for_this_machine(address: str) -> None:
    assert checked_scheduler(address) == address


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://node1:8786", r"whoever can reach that port can run code as you.*write tls://node1:8786"),
        ("tcp://10.0.0.1:8786", r"is plain TCP to another machine"),
        ("node1:8786", r"got 'node1:8786'; a scheduler's address is like tls://node1:8786"),
        ("http://node1:8787", r"a scheduler's address is like"),
        ("tls://node1", r"a scheduler's address is like"),
        (
            "tls://node1:8786",
            r"lacks distributed.comm.tls.ca-file, .*client.cert, .*client.key; see docs/how-to/slurm.md",
        ),
    ],
)
def test_other_addresses_stop_the_run_before_it_begins(address: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config({"volumes": {"train": {"raw": "a", "labels": "b"}}, "predict": {"scheduler": address}})


def test_plain_tcp_elsewhere_is_somebodys_decision() -> None:
    with dask.config.set({PLAIN: False}):
        assert checked_scheduler("tcp://node1:8786") == "tcp://node1:8786"


@pytest.fixture
def certificates(tmp_path: Path) -> Iterator[Security]:
    """Write certificates of a user, and name their files in dask's configuration."""
    security = Security.temporary()
    parts = {"ca-file": security.tls_ca_file, "cert": security.tls_client_cert, "key": security.tls_client_key}
    for name, content in parts.items():
        (tmp_path / name).write_text(content)
    keys = {"ca-file": "ca-file", "client.cert": "cert", "client.key": "key"}
    with dask.config.set({f"distributed.comm.tls.{key}": str(tmp_path / name) for key, name in keys.items()}):
        yield security


def test_a_scheduler_of_the_user_is_talked_to_by_the_certificates_of_dasks_configuration(
    certificates: Security, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "unet")
    settings = {"n_workers": 1, "processes": False, "dashboard_address": None}
    with LocalCluster(protocol="tls://", host="127.0.0.1", security=certificates, **settings) as cluster:
        address = checked_scheduler(cluster.scheduler_address)
        assert address.startswith("tls://127.0.0.1:")
        with scheduler_client(address, timeout=30) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        assert "dashboard" not in " ".join(one.getMessage() for one in caplog.records if one.name.startswith("unet"))
        with pytest.raises(OSError, match=r"Timed out|certificate"):
            Client(address, security=Security.temporary(), timeout=2, set_as_default=False)
