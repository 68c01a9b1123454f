"""Checksums of the pages of a file, so that a part of a large file can be checked by itself when it is read."""

from pathlib import Path

from google_crc32c import value as crc32c

from unet.storage.files import DamagedFileError

PAGE_BYTES = 2**20
"""Bytes of a page; the last page of a file may be shorter."""


def page_checksums(path: Path) -> list[int]:
    """Return the CRC-32C of each page of a file."""
    with path.open("rb") as file:
        return [crc32c(page) for page in iter(lambda: file.read(PAGE_BYTES), b"")]


def require_pages(path: Path, checksums: list[int], start: int = 0, stop: int | None = None) -> None:
    """Compare the pages of a file that hold the bytes from `start` to before `stop` with their checksums.

    Parameters
    ----------
    checksums
        What `page_checksums` returned when the file was written.
    stop
        By default all pages to the end are compared, and their number as well.

    Raises
    ------
    DamagedFileError
        If a page is not what was written.
    """
    first, last = start // PAGE_BYTES, None if stop is None else -(-stop // PAGE_BYTES)
    with path.open("rb") as file:
        file.seek(first * PAGE_BYTES)
        wanted = checksums[first:last]
        found = [crc32c(file.read(PAGE_BYTES)) for _ in wanted]
        is_longer = last is None and file.read(1) != b""
    if found != wanted or is_longer:
        page = next((k for k, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b), len(wanted))
        raise DamagedFileError(
            f"{path}: is damaged (the checksum of its page {first + page} is wrong); remove {path.parent} and run again"
        )
