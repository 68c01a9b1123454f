"""Collect the problems of a volume's files, so that one message reports all of them."""

from collections.abc import Callable
from typing import TypeVar

from unet.config.label_kinds import AnnotationError
from unet.volumes.readers.errors import SourceError

KEYS = ("raw", "labels", "mask", "compare")
"""Keys of a volume's sources, in the order in which their problems are reported."""
Result = TypeVar("Result")


class SeveralProblems(SourceError):
    """Several problems of one volume, a line for each after the first."""


class Problems:
    """Problems of the sources of a volume, by the keys of the configuration."""

    def __init__(self) -> None:
        self._found: list[tuple[str, Exception]] = []

    def tried(self, key: str, make: Callable[[], Result]) -> Result | None:
        """Return what a function returns; None if it raises an error about a source, which is kept."""
        try:
            return make()
        except (SourceError, AnnotationError) as error:
            if str(error) not in {str(known) for _, known in self._found}:
                self._found.append((key, error))
            return None

    def __len__(self) -> int:
        """Return the number of problems."""
        return len(self._found)

    def refuse(self) -> None:
        """Raise what was found: a single error as it is, several as one with a line for each.

        Raises
        ------
        SourceError, AnnotationError
            If there is one problem.
        SeveralProblems
            If there are several.
        """
        if len(self._found) == 1:
            raise self._found[0][1]
        if self._found:
            by_key = sorted(self._found, key=lambda one: KEYS.index(one[0].partition(".")[0]))
            listed = [f"{key}: {error}" for key, error in by_key]
            raise SeveralProblems("\n".join([f"{len(listed)} problems with its files:", *listed]))
