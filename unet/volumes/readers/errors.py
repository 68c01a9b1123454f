"""Errors about the user's image files: the file, the cause and what to do, whatever a library says."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unet.geometry.box import Box
from unet.storage.error_causes import cause_of


class SourceError(ValueError):
    """An image file is not there, not whole, or not what it should be."""


@contextmanager
def read_errors(where: Path | str, format_name: str, box: Box | None = None) -> Iterator[None]:
    """Name the file, the cause and what to do in whatever error its reader raises; where voxels are read, the box too.

    Errors of this package have a message of their own and pass.

    Raises
    ------
    SourceError
        From every other error.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith("unet."):
            raise
        cause = cause_of(error, where)
        place = f"{where}, box {box} (z, y, x)" if box is not None else where
        raise SourceError(
            f"{place}: cannot be read as {format_name}, {cause.what} ({type(error).__name__}: {error}); {cause.advice}"
        ) from error
