"""Processes that run at the same time get distinct devices, and a killed process keeps none."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unet.jobs.devices import NoFreeDevice, acquire_devices, torch_device, visible_devices

HOLD = """
import sys
from pathlib import Path
from unet.jobs.devices import acquire_devices
with acquire_devices(Path(sys.argv[1]), sys.argv[2].split(","), timeout=20) as devices:
    print(",".join(devices), flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def hold(tmp_path: Path):
    """Start a process that takes a device and holds it until its input closes; yields (process, device)."""
    processes = []

    def start(visible: str) -> tuple[subprocess.Popen, str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), visible],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_processes_at_once_hold_distinct_devices(hold) -> None:
    assert {hold("0,1,GPU-5e2a")[1] for _ in range(3)} == {"0", "1", "GPU-5e2a"}


def test_a_killed_process_frees_its_device(hold, tmp_path: Path) -> None:
    victim, device = hold("0,1")
    hold("0,1")
    with (
        pytest.raises(NoFreeDevice, match=r"devices 0, 1 .* --resources gpu=2"),
        acquire_devices(tmp_path, ["0", "1"], timeout=0),
    ):
        pass
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    with acquire_devices(tmp_path, ["0", "1"], timeout=0) as devices:
        assert devices == [device]


def test_a_device_is_free_again_after_the_context(tmp_path: Path) -> None:
    for _ in range(2):
        with acquire_devices(tmp_path, ["0", "1"], timeout=0) as devices:
            assert devices == ["0"]


def test_several_devices_are_taken_all_or_none(tmp_path: Path) -> None:
    visible = ["0", "1", "2"]
    with acquire_devices(tmp_path, visible, count=2, timeout=0) as first:
        assert first == ["0", "1"]
        with pytest.raises(NoFreeDevice), acquire_devices(tmp_path, visible, count=2, timeout=0):
            pass
        with acquire_devices(tmp_path, visible, timeout=0) as third:
            assert third == ["2"]


def test_devices_that_a_scheduler_assigned_need_no_lock(tmp_path: Path) -> None:
    for _ in range(2):
        with acquire_devices(tmp_path / "locks", ["3"]) as outer, acquire_devices(tmp_path / "locks", ["3"]) as inner:
            assert outer == inner == ["3"]
    assert not (tmp_path / "locks").exists()


@pytest.mark.parametrize(
    ("environ", "count", "devices"),
    [
        ({}, 0, []),
        ({}, 2, ["0", "1"]),
        ({"CUDA_VISIBLE_DEVICES": "2, 5"}, 2, ["2", "5"]),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,0"}, 1, ["1"]),  # CUDA ignores what follows an invalid name
        ({"CUDA_VISIBLE_DEVICES": ""}, 0, []),
        ({"CUDA_VISIBLE_DEVICES": "0"}, 0, []),
    ],
)
def test_visible_devices(environ: dict[str, str], count: int, devices: list[str]) -> None:
    assert visible_devices(environ, count) == devices


def test_a_machine_without_gpu_gives_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)  # on a GPU's machine another test may start CUDA
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with torch_device(tmp_path) as device:
        assert device == torch.device("cpu")


def test_cuda_sees_the_taken_device_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with acquire_devices(tmp_path, ["4", "7"]), torch_device(tmp_path, timeout=0) as device:
        assert device == torch.device("cuda", 0)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


def test_it_is_too_late_once_cuda_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="CUDA has started"), torch_device(tmp_path):
        pass
