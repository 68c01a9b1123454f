"""GPUs shared between processes: one lock file per visible device.

Snakemake's `--resources gpu=2` limits how many jobs run at once, but every job sees all devices. Each job therefore
locks a device before CUDA starts, and makes that device the only visible one. The kernel releases a lock when its
holder ends, however the holder ends. A killed job leaves no lock behind.
"""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unet.storage.locks import try_lock

if TYPE_CHECKING:
    import torch


LOCK_FOLDER = Path(tempfile.gettempdir()) / f"unet-em-devices-{os.getuid()}"
"""Folder of the lock files of this user on this machine; all runs of the user share it."""
POLL_S = 0.2
"""Seconds between two attempts to lock a device."""


class NoFreeDevice(RuntimeError):
    """Too few devices are visible, or other processes kept the visible devices locked."""


def visible_devices(environ: Mapping[str, str], cuda_count: int) -> list[str]:
    """Return the names of the devices that this process may use, in the form of `CUDA_VISIBLE_DEVICES`.

    Parameters
    ----------
    environ : Mapping
        Environment variables of the process.
    cuda_count : int
        Number of devices that CUDA finds with this environment; 0 on a machine without a GPU.

    Examples
    --------
    >>> visible_devices({}, 2), visible_devices({"CUDA_VISIBLE_DEVICES": "3,GPU-5e2a"}, 2), visible_devices({}, 0)
    (['0', '1'], ['3', 'GPU-5e2a'], [])
    """
    named = environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(cuda_count)] if named is None else [name.strip() for name in named.split(",")]
    return names[:cuda_count]


@contextmanager
def acquire_devices(
    lock_folder: Path, visible: list[str], *, count: int = 1, timeout: float = 600
) -> Iterator[list[str]]:
    """Lock `count` visible devices that no other process of this machine holds, and yield their names.

    If no more than `count` devices are visible, a scheduler has already assigned them. They are yielded without a lock.

    Parameters
    ----------
    lock_folder : Path
        Folder of the lock files, created if it is missing. All jobs of a run share it, on any number of machines.
    visible : list of str
        Result of `visible_devices`.
    count : int
        Number of devices to lock.
    timeout : float
        Seconds to wait for the devices.

    Raises
    ------
    NoFreeDevice
        If `count` devices are not free within `timeout` seconds.
    """
    if len(visible) <= count:
        yield visible
        return
    held = _wait_for_locks(lock_folder, visible, count, timeout)
    try:
        yield list(held)
    finally:
        for release in held.values():
            release()


@contextmanager
def torch_device(lock_folder: Path, timeout: float = 600) -> Iterator["torch.device"]:
    """Yield a GPU that this process alone uses, or the CPU of a machine without a GPU; see `torch_devices`."""
    with torch_devices(lock_folder, 1, timeout) as devices:
        yield devices[0]


@contextmanager
def torch_devices(lock_folder: Path, count: int, timeout: float = 600) -> Iterator[list["torch.device"]]:
    """Yield `count` GPUs that this process alone uses, or `count` times the CPU of a machine without a GPU.

    Raises
    ------
    RuntimeError
        If CUDA has already started. The visible devices cannot be changed after that.
    NoFreeDevice
        If fewer than `count` devices are visible, or as in `acquire_devices`.
    """
    import torch

    if torch.cuda.is_initialized():
        raise RuntimeError("CUDA has started before a device was chosen; call torch_device before any work on a GPU")
    # device_count asks the driver's management library; is_available would start CUDA and fix the visible devices.
    visible = visible_devices(os.environ, torch.cuda.device_count())
    if not visible:
        yield [torch.device("cpu")] * count
        return
    if len(visible) < count:
        raise NoFreeDevice(
            f"{count} GPUs are asked for, but this job sees {len(visible)} ({', '.join(visible)}): "
            "lower train.gpus, or give the job more"
        )
    with acquire_devices(lock_folder, visible, count=count, timeout=timeout) as devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        yield [torch.device("cuda", index) for index in range(count)]


def machine_has_gpu() -> bool:
    """Tell from the device files whether there is a GPU, used or not; importing PyTorch would take seconds."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def scheduler_assignment() -> dict[str, str]:
    """Return the SLURM job number and the assigned GPUs of this job, where a scheduler has set them."""
    variables = {"slurm_job": "SLURM_JOB_ID", "cuda_visible_devices": "CUDA_VISIBLE_DEVICES"}
    return {key: os.environ[name] for key, name in variables.items() if os.environ.get(name)}


def _wait_for_locks(folder: Path, visible: list[str], count: int, timeout: float) -> dict[str, Callable[[], None]]:
    """Lock `count` devices, and return the function that releases each device.

    An attempt locks all of them or none. Two processes with one device each would otherwise wait for each other.
    """
    deadline = time.monotonic() + timeout
    while True:
        held: dict[str, Callable[[], None]] = {}
        for device in visible:
            release = try_lock(_lock_file(folder, device)) if len(held) < count else None
            if release is not None:
                held[device] = release
        if len(held) == count:
            return held
        for release in held.values():
            release()
        if time.monotonic() > deadline:
            raise NoFreeDevice(
                f"{count} of the devices {', '.join(visible)} asked for, but other processes held them for "
                f"{timeout:.0f} s (locks in {folder}); run as many jobs at once as there are devices: "
                f"--resources gpu={len(visible)}"
            )
        time.sleep(POLL_S)


def _lock_file(folder: Path, device: str) -> Path:
    """Return the lock file of a device; the host name distinguishes device 0 of two machines that share the folder."""
    return folder / f"{socket.gethostname()}-{device.replace('/', '-')}.lock"
