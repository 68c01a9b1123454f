"""Write files atomically: a file is complete or absent, whatever happens to the process or the power.

1. Write the content to a partial file in the same folder, under a name that no other writer has, and synchronise it.
2. Rename the partial file, and synchronise the folder. Only then the name is on disk as well.
3. Remove the partial files of killed writers, an hour after their last change.
"""

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

PARTIAL = ".partial"
"""Suffix of a partial file."""
LEFTOVER_AGE_S = 3600
"""Seconds without a change after which the writer of a partial file counts as killed."""
CLAIM_TIMEOUT_S = 10.0
"""Seconds to wait for a writer that has claimed a file and does not write it; then it counts as killed."""
CLAIM_POLL_S = 0.05
"""Seconds between two checks whether a claimed file exists."""
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM)
"""System error numbers of file systems that cannot synchronise a folder, or do not allow it to be opened."""
CHECKSUM = "checksum"
"""Key of the checksum of a receipt."""
_CLEANED: set[Path] = set()
"""Folders from which this process has removed the files of killed writers."""


class DamagedFileError(ValueError):
    """A small file of the results is not what was written."""


def write_with(path: Path, write: Callable[[IO[bytes]], object], *, durable: bool = True) -> None:
    """Write a file atomically with a function that fills it.

    Parameters
    ----------
    path
        Path of the file; its folder is created.
    write
        Function that is called with the open file, e.g. ``partial(torch.save, state)``.
    durable
        Let the file survive a power cut once this returns. That is unnecessary where a missing or short file is noticed
        and written again.
    """
    with _partial_file(path, write, durable) as partial:
        os.replace(partial, path)
    if durable:
        sync_folder(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is complete or absent, also after a kill or a power cut."""
    write_with(path, lambda file: file.write(content))


def write_json(path: Path, values: Any) -> None:
    """Write indented JSON, atomically."""
    write_atomically(path, _as_json(values))


def write_receipt(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON as `write_json` does, with a checksum by which `read_json` notices changed bits."""
    write_json(path, {**values, CHECKSUM: _checksum(values)})


def read_json(path: Path) -> Any:
    """Read a JSON file. A checksum that `write_receipt` has written is compared, and left out.

    Raises
    ------
    DamagedFileError
        If the file is no JSON, such as one that was cut short, or if the checksum is another one.
    """
    try:
        values = json.loads(path.read_text())
    except ValueError as error:  # of JSON, or of UTF-8
        raise DamagedFileError(f"{path}: is damaged ({error}); remove {path} and run again") from None
    if isinstance(values, dict) and (noted := values.pop(CHECKSUM, None)) not in (None, _checksum(values)):
        raise DamagedFileError(
            f"{path}: is damaged (its checksum is {_checksum(values)}, but {noted} was written); remove {path} and run "
            "again"
        )
    return values


def write_json_if_absent(path: Path, values: Any) -> None:
    """Write JSON as `write_json` does, unless the file exists; of several writers the first one succeeds."""
    with _partial_file(path, lambda file: file.write(_as_json(values))) as partial:
        try:
            os.link(partial, path)  # fails where the name is taken, unlike a rename
        except FileExistsError:
            pass
        except OSError:  # no hard links on this file system: exFAT, SMB, some FUSE file systems
            _rename_if_absent(partial, path)
    sync_folder(path.parent)


def write_folder_with(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder of files with a function that fills it. It is complete or absent, also after a power cut.

    An existing folder is renamed before it is removed, so that nobody ever sees a part of it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = partial_path(folder), partial_path(folder)
    new.mkdir()
    try:
        remove_leftovers(folder.parent, new.stat().st_mtime, folder.name)
        with named_errors(new):
            write(new)
        for path in new.iterdir():
            _sync(path)
        sync_folder(new)
        _replace_folder(new, folder, old)
        sync_folder(folder.parent)
    finally:
        for path in (new, old):
            shutil.rmtree(path, ignore_errors=True)


def _replace_folder(new: Path, folder: Path, old: Path) -> None:
    """Rename a folder to the name of another one. Of several that do so at once, the last one wins."""
    while True:
        with suppress(FileNotFoundError):
            os.replace(folder, old)
        try:
            os.replace(new, folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        shutil.rmtree(old, ignore_errors=True)  # another writer came in between


def save_arrays(path: Path | str, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays atomically as one compressed ``npz`` file that numpy can read."""

    def write(file: IO[bytes]) -> None:
        # numpy's own `savez_compressed` takes three times as long, to save little on faces full of long runs.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)

    path = Path(path)
    with _partial_file(path, write, clean_up=_remove_leftovers_once) as partial:
        os.replace(partial, path)
    sync_folder(path.parent)


def load_arrays(path: Path | str, *names: str) -> dict[str, NDArray[Any]]:
    """Read the arrays that `save_arrays` wrote.

    Raises
    ------
    DamagedFileError
        If the file is cut short, or its bits have changed: each array carries a checksum.
    ValueError
        If one of the names is missing.
    """
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, KeyError) as error:
        if getattr(error, "errno", None) is not None:  # the disk has not answered, or the file is not there
            raise
        raise DamagedFileError(
            f"{path}: is damaged ({error}); remove {path} and run again, which makes the table again"
        ) from error
    if missing := set(names) - set(arrays):
        raise ValueError(f"{path} holds no {', '.join(sorted(missing))}: not a table of components; remove it")
    return arrays


def partial_path(path: Path) -> Path:
    """Return a path for a partial file in the folder of `path`, different at each call on any machine.

    A process id would not be unique: in containers that share a file system it is the same small number on every node.
    """
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")


def remove_leftovers(folder: Path, now: float, name: str = "") -> None:
    """Remove the partial files and folders of killed writers: those that have not changed for an hour.

    Parameters
    ----------
    folder
        Folder to clean.
    now
        Current time in seconds by the clock of the file system, which is the time of a new file. The clock of this
        machine may differ.
    name
        Remove only partial files of the file with this name; by default all partial files.
    """
    with os.scandir(folder) as entries:
        found = [e for e in entries if e.name.endswith(PARTIAL) and e.name.startswith(f"{name}." if name else "")]
    for entry in found:
        with suppress(OSError):  # another writer may have removed it, or another user may own it
            path = Path(entry.path)
            inside = list(path.iterdir()) if entry.is_dir(follow_symlinks=False) else []
            if now - max(one.lstat().st_mtime for one in (path, *inside)) > LEFTOVER_AGE_S:
                if inside or path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to disk, if the file system can. A rename is not on disk before that."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Add the name of a file to system errors without one: the system names files when it opens them alone."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _remove_leftovers_of(path: Path, now: float) -> None:
    remove_leftovers(path.parent, now, path.name)


def _remove_leftovers_once(path: Path, now: float) -> None:
    """Remove partial files of a folder once per process: searching a folder of 100,000 block tables takes long."""
    if path.parent not in _CLEANED:
        _CLEANED.add(path.parent)
        remove_leftovers(path.parent, now)


@contextmanager
def _partial_file(
    path: Path,
    write: Callable[[IO[bytes]], object],
    durable: bool = True,
    clean_up: Callable[[Path, float], object] = _remove_leftovers_of,
) -> Iterator[Path]:
    """Write a partial file, and yield its path for the caller to rename; remove it if it was not renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        with named_errors(partial), partial.open("wb") as file:
            clean_up(path, os.fstat(file.fileno()).st_mtime)
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _rename_if_absent(partial: Path, path: Path) -> None:
    """Rename a partial file unless `path` exists, without hard links; only the writer with the claim file renames."""
    claim = path.with_name(f"{path.name}.claim{PARTIAL}")
    deadline = time.monotonic() + CLAIM_TIMEOUT_S
    while not path.exists():
        try:
            claim.open("xb").close()
        except FileExistsError:
            if time.monotonic() > deadline:
                claim.unlink(missing_ok=True)
            time.sleep(CLAIM_POLL_S)
            continue
        try:
            if not path.exists():
                os.replace(partial, path)
        finally:
            claim.unlink(missing_ok=True)


def _checksum(values: Mapping[str, Any]) -> str:
    text = json.dumps(dict(values), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _as_json(values: Any) -> bytes:
    return (json.dumps(values, indent=1) + "\n").encode()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
