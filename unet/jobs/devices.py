"""One GPU a process: a pool of locked files, one a visible device.

Snakemake's `--resources gpu=2` counts jobs but shows every one of them all devices. Each job therefore takes the lock
of a device before CUDA starts, and sees that device alone from then on. The kernel drops a lock when its holder ends,
however it ends, so a killed job leaves nothing behind.
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


LOCKS = Path(tempfile.gettempdir()) / f"unet-em-devices-{os.getuid()}"
"""The pool of this user on this machine, shared by all of their runs."""


class NoFreeDevice(RuntimeError):
    """Every visible device stayed locked by other processes."""


def visible_devices(environ: Mapping[str, str], cuda_count: int) -> list[str]:
    """Names of the devices this process may use, as `CUDA_VISIBLE_DEVICES` takes them.

    Parameters
    ----------
    environ : Mapping
        The process's environment.
    cuda_count : int
        Devices that CUDA finds under that environment; 0 on a machine without.

    Examples
    --------
    >>> visible_devices({}, 2), visible_devices({"CUDA_VISIBLE_DEVICES": "3,GPU-5e2a"}, 2), visible_devices({}, 0)
    (['0', '1'], ['3', 'GPU-5e2a'], [])
    """
    named = environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(cuda_count)] if named is None else [name.strip() for name in named.split(",")]
    return names[:cuda_count]


@contextmanager
def acquire_device(
    lock_folder: Path, visible: list[str], *, asked_for: int = 1, timeout: float = 600
) -> Iterator[list[str]]:
    """Hold `asked_for` of the visible devices that no other process of this machine holds.

    Where no more are visible than asked for, a scheduler has assigned them already: they are yielded without a lock.

    Parameters
    ----------
    lock_folder : Path
        Where the locked files lie; made if missing. Shared by all jobs of a run, on any number of machines.
    visible : list of str
        See `visible_devices`.
    timeout : float
        Seconds to wait for a device.

    Raises
    ------
    NoFreeDevice
        After `timeout`.
    """
    if len(visible) <= asked_for:
        yield visible
        return
    held = _wait_for_locks(lock_folder, visible, asked_for, timeout)
    try:
        yield list(held)
    finally:
        for release in held.values():
            release()


@contextmanager
def torch_device(lock_folder: Path, timeout: float = 600) -> Iterator["torch.device"]:
    """A GPU of this process's own if the machine has one, else the CPU; see `torch_devices`."""
    with torch_devices(lock_folder, 1, timeout) as devices:
        yield devices[0]


@contextmanager
def torch_devices(lock_folder: Path, count: int, timeout: float = 600) -> Iterator[list["torch.device"]]:
    """So many GPUs of this process's own, or the CPU so many times where the machine has none.

    Raises
    ------
    RuntimeError
        If CUDA has started already: then it is too late to choose what it sees.
    NoFreeDevice
        If fewer are visible than asked for; see `acquire_device`.
    """
    import torch

    if torch.cuda.is_initialized():
        raise RuntimeError("CUDA has started before a device was chosen; call torch_device before any work on a GPU")
    # device_count asks the driver's management library; is_available would start CUDA and freeze what it sees
    visible = visible_devices(os.environ, torch.cuda.device_count())
    if not visible:
        yield [torch.device("cpu")] * count
        return
    if len(visible) < count:
        raise NoFreeDevice(
            f"{count} GPUs are asked for, but this job sees {len(visible)} ({', '.join(visible)}): "
            "lower train.gpus, or give the job more"
        )
    with acquire_device(lock_folder, visible, asked_for=count, timeout=timeout) as devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        yield [torch.device("cuda", index) for index in range(count)]


def machine_has_gpu() -> bool:
    """Whether there is a GPU, used or not, as far as the device files tell; PyTorch would take seconds to say so."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def place_of_job() -> dict[str, str]:
    """Where this job runs, as far as a scheduler has said: the number of its SLURM job, the GPUs that it was given."""
    said = {"slurm_job": "SLURM_JOB_ID", "cuda_visible_devices": "CUDA_VISIBLE_DEVICES"}
    return {key: os.environ[name] for key, name in said.items() if os.environ.get(name)}


def _wait_for_locks(folder: Path, visible: list[str], asked_for: int, timeout: float) -> dict[str, Callable[[], None]]:
    """What releases each device that was locked. All or none, so that two processes never wait for each other's."""
    deadline = time.monotonic() + timeout
    while True:
        held: dict[str, Callable[[], None]] = {}
        for device in visible:
            release = try_lock(_file_of(folder, device)) if len(held) < asked_for else None
            if release is not None:
                held[device] = release
        if len(held) == asked_for:
            return held
        for release in held.values():
            release()
        if time.monotonic() > deadline:
            raise NoFreeDevice(
                f"{asked_for} of the devices {', '.join(visible)} asked for, but other processes held them for "
                f"{timeout:.0f} s (locks in {folder}); run as many jobs at once as there are devices: "
                f"--resources gpu={len(visible)}"
            )
        time.sleep(0.2)


def _file_of(folder: Path, device: str) -> Path:
    """What is locked for a device; device 0 of two machines that share the folder are two devices."""
    return folder / f"{socket.gethostname()}-{device.replace('/', '-')}.lock"
