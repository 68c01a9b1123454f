"""Report errors in the user's image files with the file, the cause and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unet.geometry.box import Box
from unet.storage.error_causes import ANOTHER_FORMAT, cause_of
from unet.volumes.readers.signatures import signature_of


class SourceError(ValueError):
    """An image file is missing, truncated, or not what it should be."""


@contextmanager
def read_errors(where: Path | str, format_name: str, box: Box | None = None) -> Iterator[None]:
    """Turn any error of a reader into one that names the file, the cause, what to do and, if given, the box.

    Errors raised by this package pass unchanged, since they have a message of their own.

    Raises
    ------
    SourceError
        Raised from every other error.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith("unet."):
            raise
        cause = cause_of(error, where)
        place = f"{where}, box {box} (z, y, x)" if box is not None else where
        found = signature_of(Path(where)) if cause is ANOTHER_FORMAT else None
        what = f"{cause.what}: by its first bytes it is {found.name}" if found is not None else cause.what
        raise SourceError(
            f"{place}: cannot be read as {format_name}, {what} ({type(error).__name__}: {error}); {cause.advice}"
        ) from error
