"""Ask the machine what a job may use: free memory, cores, and arithmetic rate."""

import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Parameters of `mallopt`, from glibc's `malloc.h`."""


def measured_flops_per_second(device: "torch.device", seconds: float = 0.5) -> float:
    """Measure the floating-point operations per second of a large matrix product on a device."""
    import torch

    n = 1024 if device.type == "cpu" else 8192
    a = torch.randn(n, n, device=device, dtype=torch.float32 if device.type == "cpu" else torch.bfloat16)
    a @ a
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        product = a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        count += 1
    del product
    return 2 * n**3 * count / (time.perf_counter() - start)


def free_bytes(device: "torch.device") -> int:
    """Return the free memory of a device in bytes; on a CPU at most the limits of this process's control groups."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return min([psutil.virtual_memory().available, *_group_limits()])


def usable_cores() -> int:
    """Return the number of cores in this process's affinity, or of the machine where the system has no affinity."""
    process = psutil.Process()
    affinity: list[int] = process.cpu_affinity() if hasattr(process, "cpu_affinity") else []  # macOS has none
    return len(affinity) or psutil.cpu_count() or 1


def _group_limits(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Yield the memory limits (bytes) of this process's control groups, version 1 or 2, as batch systems set them."""
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, name = (root, "memory.max") if controllers == "" else (root / "memory", "memory.limit_in_bytes")
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):
            limit = group / name
            if limit.exists() and limit.read_text().strip().isdigit():
                yield int(limit.read_text())
            if group == top:
                break


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep freed memory for the next tile. Call it before threads that compute tiles start.

    By default glibc requests memory for each large tensor from the system and returns it afterwards; in threads also
    for small ones. The system fills new memory with zeros, which takes up to a quarter of a forward pass. With another
    C library nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
        mallopt(M_ARENA_MAX, 1)  # the arenas of threads return freed memory whatever the threshold
