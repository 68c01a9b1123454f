"""Shared by all tests: how hypothesis draws its examples, a process left as it was, one finished run, an S3 server."""

import fcntl
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.stand_in import SHARED, write_stand_in
from tests.workflow.conftest import CONFIG, Project, write_input

# Before PyTorch is imported, also by the processes that tests start. The workers of xdist share the cores: threads of
# OpenMP would wait for each other in loops that take the cores from the thread that they wait for.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Tests start a thousand processes. Without files of bytecode each of them would compile the package anew, for 0.4 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No deadline: a busy machine is not a defect. The same examples on every CI run; elsewhere they are drawn anew.
settings.register_profile("unet-em", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("unet-em")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: tests of the workflow wait for SLURM, locks and signals a quarter of their time."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


LONGEST_FIRST = ("test_slurm", "test_demo", "test_readme", "test_watershed", "test_resume", "test_predict")
"""Files of several minutes, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first, then other real runs: at the end no process waits for one of them."""

    def place(item: pytest.Item) -> tuple[int, bool]:
        runs = bool({"workflow", "cluster", "scripts", "benchmarks"} & set(item.path.parent.parts))
        named = runs and item.path.stem in LONGEST_FIRST
        return LONGEST_FIRST.index(item.path.stem) if named else len(LONGEST_FIRST), not runs

    items.sort(key=place)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test draws the same random weights whatever tests ran before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """A job sets up the whole process: its log and its answer to SIGTERM."""
    handler, root = signal.getsignal(signal.SIGTERM), logging.getLogger()
    level, handlers, hook = root.level, list(root.handlers), sys.unraisablehook
    yield
    sys.unraisablehook = hook
    signal.signal(signal.SIGTERM, handler)
    root.handlers[:] = handlers
    root.setLevel(level)


ACCESS_KEY, SECRET_KEY = "AKIATESTOFUNETEM0000", "kept-secret-by-everybody"
"""Of the local server, which takes any; they may appear nowhere."""


SERVE_S3 = """
import ctypes, signal
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no server outlives its tests
from moto.server import main
main()
"""


@dataclass(frozen=True)
class S3Server:
    """A server on this machine, and a client of it that shares nothing with the project."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables that a user sets."""
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        here = {"AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}
        return {**keys, **here}

    @cached_property
    def client(self) -> Any:
        """Return the client of botocore."""
        import boto3

        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **keys)

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Content of every object by what follows the prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {key[len(prefix) :]: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def upload(self, bucket: str, objects: dict[str, bytes]) -> None:
        """Write objects."""
        for key, content in objects.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object."""
        self.client.delete_object(Bucket=bucket, Key=key)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Start an S3 server in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVE_S3, "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not _listens(port):
            assert process.poll() is None, "the S3 server has ended"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.05)
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, and this process set up for it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def bucket(s3: S3Server, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own: a client is kept for an address as long as the process lives."""
    name = f"test-{abs(hash(request.node.nodeid))}"
    s3.client.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session", params=["generated", "real"])
def em_data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of volumes with labels: a generated stand-in everywhere, and the real ones where they are."""
    if request.param == "real":
        if not SHARED.is_dir():
            pytest.skip("the real volumes are not beside this checkout; the stand-in has the same files")
        return SHARED
    folder = tmp_path_factory.mktemp("data")
    write_stand_in(folder)
    return folder


@pytest.fixture(scope="session")
def input_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image files of the volume, written once."""
    folder = tmp_path_factory.mktemp("workflow") / "input"
    write_input(folder)
    return folder


@pytest.fixture(scope="session")
def finished(input_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run, to be read only; one for all workers of xdist, whose folders lie in one."""
    folder = tmp_path_factory.getbasetemp()
    project = Project((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "finished")
    done = project.folder.with_suffix(".done")
    with project.folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(project.folder, ignore_errors=True)  # of a worker that failed
            shutil.copytree(input_folder, project.folder / "input")
            project.configure(CONFIG)
            project.run()
            done.touch()
    return project
