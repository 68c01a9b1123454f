"""Files that are there whole or not at all, whatever happens to the process or the power.

1. The content is written to a file beside its place, under a name that no other writer has, and synchronised.
2. That file is renamed, and the folder synchronised: only then is the name on disk as well.
3. What a killed writer has left beside the place is removed by a later one, an hour after its last change.
"""

import errno
import json
import os
import shutil
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

PARTIAL = ".partial"
"""Suffix of what is being written."""
LEFT_AFTER_S = 3600
"""A partial file that has not changed for so long has no living writer."""
CLAIM_PATIENCE_S = 10.0
"""How long a writer waits for another one that has claimed a file and does not write it: then it was killed."""
CLAIM_LOOK_S = 0.05
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM)
"""Answers of file systems that cannot synchronise a folder, or do not let us open it."""
_TIDIED: set[Path] = set()


def write_with(path: Path, write: Callable[[IO[bytes]], object], *, durable: bool = True) -> None:
    """Write a file with a function that fills it; it is there whole or not at all.

    Parameters
    ----------
    path
        Of the file; its folder is made.
    write
        Is given the open file, e.g. ``partial(torch.save, state)``.
    durable
        Whether the file outlives a power cut once this returns. Not needed where a missing or short file is noticed
        and made again.
    """
    with _aside(path, write, durable) as partial:
        os.replace(partial, path)
    if durable:
        sync_folder(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a kill or a power cut."""
    write_with(path, lambda file: file.write(content))


def write_json(path: Path, values: Any) -> None:
    """Write JSON for people and programs, atomically."""
    write_atomically(path, _as_json(values))


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote."""
    return json.loads(path.read_text())


def write_json_if_absent(path: Path, values: Any) -> None:
    """Write JSON as `write_json` does, unless the file is there already: of several writers the first stands."""
    with _aside(path, lambda file: file.write(_as_json(values))) as partial:
        try:
            os.link(partial, path)  # fails where the name is taken, unlike a rename
        except FileExistsError:
            pass
        except OSError:  # no hard links here: exFAT, SMB, some FUSE file systems
            _rename_first(partial, path)
    sync_folder(path.parent)


def write_folder_with(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder of files with a function that fills it; it is there whole or not at all, also after a power cut.

    An earlier folder of the name is moved aside before it is removed, so that none is ever seen in part.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = partial_path(folder), partial_path(folder)
    new.mkdir()
    try:
        remove_leftovers(folder.parent, new.stat().st_mtime, folder.name)
        write(new)
        for path in new.iterdir():
            _sync(path)
        sync_folder(new)
        with suppress(FileNotFoundError):
            os.replace(folder, old)
        os.replace(new, folder)
        sync_folder(folder.parent)
    finally:
        for path in (new, old):
            shutil.rmtree(path, ignore_errors=True)


def save_arrays(path: Path | str, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays as one compressed ``npz``, as numpy reads it; it is there whole or not at all."""

    def write(file: IO[bytes]) -> None:
        # numpy's own `savez_compressed` takes three times as long, to save little on faces full of long runs.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)

    path = Path(path)
    with _aside(path, write, tidied=_tidy_once) as partial:
        os.replace(partial, path)
    sync_folder(path.parent)


def load_arrays(path: Path | str, *names: str) -> dict[str, NDArray[Any]]:
    """Read what `save_arrays` wrote; an error where one of the names is missing."""
    with np.load(path) as file:
        arrays = dict(file)
    if missing := set(names) - set(arrays):
        raise ValueError(f"{path} holds no {', '.join(sorted(missing))}: not a table of components; remove it")
    return arrays


def partial_path(path: Path) -> Path:
    """A name beside a file for what is being written: another one each time, on whatever machine.

    A process id would not do: in containers that share a file system it is the same small number on every node.
    """
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")


def remove_leftovers(folder: Path, now: float, name: str = "") -> None:
    """Remove what killed writers have left in a folder; what a living one writes has changed within the last hour.

    Parameters
    ----------
    now
        In seconds, by the clock of the file system, which need not be that of this machine: the time of a new file.
    name
        Only what was to become this file; by default every partial file.
    """
    with os.scandir(folder) as entries:
        found = [e for e in entries if e.name.endswith(PARTIAL) and e.name.startswith(f"{name}." if name else "")]
    for entry in found:
        with suppress(OSError):  # another writer may have removed it, or may own it
            path = Path(entry.path)
            inside = list(path.iterdir()) if entry.is_dir(follow_symlinks=False) else []
            if now - max(one.lstat().st_mtime for one in (path, *inside)) > LEFT_AFTER_S:
                if inside or path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk, where its file system can: a rename is not before that."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def _tidy(path: Path, now: float) -> None:
    remove_leftovers(path.parent, now, path.name)


def _tidy_once(path: Path, now: float) -> None:
    """The folder of a block's table holds 100,000 others: it is looked through once a process, not for every table."""
    if path.parent not in _TIDIED:
        _TIDIED.add(path.parent)
        remove_leftovers(path.parent, now)


@contextmanager
def _aside(
    path: Path,
    write: Callable[[IO[bytes]], object],
    durable: bool = True,
    tidied: Callable[[Path, float], object] = _tidy,
) -> Iterator[Path]:
    """The content in a partial file beside its place, to be renamed; what is not is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        with partial.open("wb") as file:
            tidied(path, os.fstat(file.fileno()).st_mtime)
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _rename_first(partial: Path, path: Path) -> None:
    """Do as `write_json_if_absent` where there are no hard links: whoever creates the claim file may rename."""
    claim = path.with_name(f"{path.name}.claim{PARTIAL}")
    deadline = time.monotonic() + CLAIM_PATIENCE_S
    while not path.exists():
        try:
            claim.open("xb").close()
        except FileExistsError:
            if time.monotonic() > deadline:
                claim.unlink(missing_ok=True)
            time.sleep(CLAIM_LOOK_S)
            continue
        try:
            if not path.exists():
                os.replace(partial, path)
        finally:
            claim.unlink(missing_ok=True)


def _as_json(values: Any) -> bytes:
    return (json.dumps(values, indent=1) + "\n").encode()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
