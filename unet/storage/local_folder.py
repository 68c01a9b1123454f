"""Files of a store in a local folder, and the state of a file, by which two versions of it differ."""

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from unet.storage.files import named_errors, write_with

METADATA = "zarr.json"
"""Key of the metadata of a Zarr v3 store."""
FileState = tuple[int | str, ...]
"""Values that differ between two versions of a file: bytes, time of the last change (ns) and, for a link, its target.
For an object they are bytes and entity tag."""


def file_state(path: Path | str) -> FileState:
    """Return the state of a file.

    Raises
    ------
    FileNotFoundError
        If the file, or the target of a link, does not exist.
    """
    found = os.lstat(path)
    target: FileState = ()
    if stat.S_ISLNK(found.st_mode):
        found, target = os.stat(path), (os.readlink(path),)
    return found.st_size, found.st_mtime_ns, *target


def links_of(path: Path) -> list[list[str]]:
    """Return name and target of each part of a path that is a link.

    Sizes and times alone do not show that a link points elsewhere, since other files may have the same.
    """
    return [[part.name, os.readlink(part)] for part in (path, *path.parents) if part.is_symlink()]


class LocalFolder:
    """Files in a local folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, key: str) -> bytes | None:
        """Return the content of a file; None if the file does not exist."""
        with suppress(FileNotFoundError):
            return (self.path / key).read_bytes()
        return None

    def size(self, key: str) -> int | None:
        """Return the bytes of a file; None if the file does not exist."""
        with suppress(FileNotFoundError):
            return (self.path / key).stat().st_size
        return None

    def state(self, key: str) -> FileState | None:
        """Return the state of a file; None if the file does not exist."""
        with suppress(FileNotFoundError, NotADirectoryError):
            return file_state(f"{self.path}/{key}")
        return None

    def listing(self, within: str = "") -> Iterator[tuple[str, FileState]]:
        """Yield key and state of every file below the folder `within`, in any order.

        Links to folders are followed, except those to a folder that the link itself lies in.
        """
        folders = [within]
        while folders:
            folder = folders.pop()
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.path / folder) as entries:
                for entry in entries:
                    key = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir():
                        if not (entry.is_symlink() and self._is_above(key)):
                            folders.append(key)
                    elif (state := self.state(key)) is not None:
                        yield key, state

    def _is_above(self, key: str) -> bool:
        """Return whether a link leads to one of the folders that it lies in, so that it would be followed for ever."""
        link = self.path / key
        return any(link.samefile(folder) for folder in (*link.parents, *link.parent.resolve().parents))

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file by its key."""
        return {key: int(state[0]) for key, state in self.listing()}

    @contextmanager
    def open(self, key: str) -> Iterator["FileRangeReader"]:
        """Open a file to read parts of it."""
        with (self.path / key).open("rb") as file:
            yield FileRangeReader(file)

    def write(self, key: str, pieces: Sequence[bytes]) -> None:
        """Write a file from its pieces under another name, then rename it.

        Does not wait for the disk, which would take longer than many a block. A file that a power cut destroys is found
        by its size (`unet.volumes.integrity`), or by its checksum when it is read.
        """
        write_with(self.path / key, lambda file: file.writelines(pieces), durable=False)

    def clear(self) -> None:
        """Remove everything, the metadata first, so that a kill never leaves a store that looks complete."""
        (self.path / METADATA).unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Add the name of the folder to errors of the system that name no file, such as of a full disk."""
        with named_errors(self.path):
            yield


class FileRangeReader:
    """Read parts of an open file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read_tail(self, count: int) -> bytes:
        """Return the last `count` bytes, or all if there are fewer."""
        self._file.seek(max(0, self._file.seek(0, os.SEEK_END) - count))
        return self._file.read()

    def read_ranges(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes at each (offset, length)."""
        return [self._at(*span) for span in spans]

    def _at(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)
