"""Read the files of a store that lies in one zip archive, such as `volume.zarr.zip` or `volume.ozx`."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unet.storage.local_folder import FileRangeReader, FileState


class ZipArchive:
    """The files in a zip archive; the methods are those of `LocalFolder` that read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, key: str) -> bytes | None:
        """Return the content of a file; None if the file does not exist."""
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(key) if key in archive.namelist() else None

    def size(self, key: str) -> int | None:
        """Return the bytes of a file; None if the file does not exist."""
        state = self.state(key)
        return None if state is None else int(state[0])

    def state(self, key: str) -> FileState | None:
        """Return bytes and checksum of a file; None if the file does not exist."""
        return dict(self.listing()).get(key)

    def listing(self, within: str = "") -> Iterator[tuple[str, FileState]]:
        """Yield key and state of every file below the folder `within`."""
        with zipfile.ZipFile(self.path) as archive:
            files = [(one.filename, (one.file_size, one.CRC)) for one in archive.infolist() if not one.is_dir()]
        yield from (one for one in files if not within or one[0].startswith(f"{within}/"))

    @contextmanager
    def open(self, key: str) -> Iterator[FileRangeReader]:
        """Open a file to read parts of it."""
        with zipfile.ZipFile(self.path) as archive, archive.open(key) as file:
            yield FileRangeReader(file)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Do nothing: errors of the system already name their file."""
        yield
