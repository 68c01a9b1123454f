"""Free memory, cores and speed of a machine, and the memory that a process keeps."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from unet.jobs.device_capacity import _group_limits, free_bytes, measured_flops_per_second, usable_cores

CPU = torch.device("cpu")


def test_a_rate_is_measured() -> None:
    assert measured_flops_per_second(CPU, seconds=0.01) > 1e7


def test_free_memory_of_this_machine() -> None:
    assert 0 < free_bytes(CPU) <= os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()


def test_free_memory_and_cores_where_the_system_is_not_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet.jobs.device_capacity._group_limits", lambda: iter(()))
    monkeypatch.setattr(Path, "read_text", lambda *_: pytest.fail("there is no /proc"))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(psutil.Process, "cpu_affinity")
    assert free_bytes(CPU) > 0
    assert usable_cores() == psutil.cpu_count()


def test_cores_are_those_of_the_process() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert usable_cores() == len(allowed)


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/job/step", {"job/memory.max": "3000", "job/step/memory.max": "max"}, [3000]),
        ("0::/job/step", {"job/memory.max": "3000", "job/step/memory.max": "2000"}, [2000, 3000]),
        ("5:cpu:/a\n4:memory:/a", {"memory/a/memory.limit_in_bytes": "7"}, [7]),
        ("0::/", {}, []),
    ],
)
def test_limits_of_a_batch_system(tmp_path: Path, lines: str, files: dict[str, str], expected: list[int]) -> None:
    for name, content in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(content + "\n")
    (tmp_path / "cgroup").write_text(lines + "\n")
    assert list(_group_limits(tmp_path / "cgroup", tmp_path / "fs")) == expected


FAULTS = """
import resource, sys
import torch
from concurrent.futures import ThreadPoolExecutor
from unet.config.model import ModelConfig
from unet.jobs.device_capacity import keep_freed_memory
from unet.network.model import build_model
if sys.argv[1] == "keep":
    keep_freed_memory()
torch.set_num_threads(1)
network, x = build_model(ModelConfig(depth=3, base_channels=8)).eval(), torch.zeros(1, 1, 1052, 1052)
def forward(_):
    with torch.inference_mode():
        network(x)
def asked_for():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
with ThreadPoolExecutor(1) as pool:
    list(pool.map(forward, range(2)))
    before = asked_for()
    list(pool.map(forward, range(2)))
    print(asked_for() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_freed_memory_is_kept_for_the_next_tile() -> None:
    asked = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout)
        for how in ("keep", "give back")
    }
    assert 10 * asked["keep"] < asked["give back"]
    assert asked["give back"] * resource.getpagesize() > 2 * 4 * 8 * 1000**2  # at least the first level of both passes
