"""List the chunk files, or objects, of a Zarr array, and their states.

A file holds one chunk, or one shard of a sharded array. The array's metadata define how a file's key follows from its
index:

```
            flat            nested (of the first axis only the folders that a selection touches are listed)
Zarr v2     a/1.0.2         a/1/0/2
Zarr v3     a/c.1.0.2       a/c/1/0/2
```
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from itertools import product
from math import prod
from threading import Lock
from typing import Any, Protocol

from unet.geometry.box import Index
from unet.storage.local_folder import FileState, LocalFolder

Selection = Sequence[slice]
"""One slice of voxels per axis, each with start and stop, none of them empty."""


class Listing(Protocol):
    """Storage of files that returns their states: a backend, or a zip archive."""

    def state(self, key: str) -> FileState | None:
        """Return the state of a file; None if the file does not exist."""
        ...

    def listing(self, within: str = "") -> Iterator[tuple[str, FileState]]:
        """Yield key and state of every file below the folder `within`."""
        ...


class ChunkFiles:
    """The files of the chunks of one array.

    Parameters
    ----------
    backend : Listing
        Backend of the store.
    path : str
        Path of the array in the store; empty if the array is the root.
    shape, chunk : tuple of int
        Shapes of the array and of the voxels in one file.
    encode : callable
        Function that returns a file's key below `path` from its index.
    """

    def __init__(self, backend: Listing, path: str, shape: Index, chunk: Index, encode: Callable[[Index], str]) -> None:
        self.backend, self.path, self.shape, self.chunk, self._encode = backend, path.strip("/"), shape, chunk, encode
        self._origin = encode((0,) * len(shape))
        self._is_nested = self._origin.count("/") >= len(shape) - 1 > 0
        self._lock = Lock()
        self._listed = cache(lambda folder: dict(backend.listing(folder)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what another process makes the same files from; neither the lock nor what was listed travels."""
        return ChunkFiles, (self.backend, self.path, self.shape, self.chunk, self._encode)

    def selections(self, selection: Selection) -> Iterator[tuple[str, tuple[slice, ...]]]:
        """Yield the key of each file that a selection touches, existing or not, and its part of the selection."""
        for index in product(*self._touched(selection)):
            parts = zip(index, self.chunk, selection, strict=True)
            yield self._key(index), tuple(slice(max(s.start, i * c), min(s.stop, (i + 1) * c)) for i, c, s in parts)

    def count(self, selection: Selection) -> int:
        """Return how many files a selection touches, existing or not."""
        return prod(indices.stop - indices.start for indices in self._touched(selection))  # len ends at 2**63

    def states(self, selection: Selection) -> dict[str, FileState]:
        """Return the state of each existing file that a selection touches, by its key.

        In a folder each file is checked by itself. Objects are listed, once per prefix for all selections.

        Raises
        ------
        CannotList
            As `Backend.listing`.
        """
        keys = [self._key(index) for index in product(*self._touched(selection))]
        if isinstance(self.backend, LocalFolder):
            found = {key: self.backend.state(key) for key in keys}
        else:
            with self._lock:  # several threads call this at the same time
                found = {key: self._listed(self._folder_of(key)).get(key) for key in keys}
        return {key: state for key, state in found.items() if state is not None}

    def listed(self, selection: Selection) -> Iterator[tuple[str, FileState]]:
        """Yield key and state of each existing file that a selection touches, from a listing, in any order.

        Raises
        ------
        CannotList
            As `Backend.listing`.
        """
        touched = self._touched(selection)
        for folder in self._folders(touched[0]):
            for key, state in self.backend.listing(folder):
                index = self.index_of(key)
                if index and all(i in indices for i, indices in zip(index, touched, strict=True)):
                    yield key, state

    def _touched(self, selection: Selection) -> list[range]:
        """Return the indices of the files that a selection touches along each axis."""
        return [range(s.start // c, -(-s.stop // c)) for s, c in zip(selection, self.chunk, strict=True)]

    def _key(self, index: Index) -> str:
        return "/".join(filter(None, (self.path, self._encode(index))))

    def index_of(self, key: str) -> Index | None:
        """Return the index of a file from its key; None if the file is no chunk."""
        found = self._pattern.fullmatch(key)
        return tuple(map(int, found.groups())) if found else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Return the pattern of the keys, with one group per axis."""
        below = re.escape(self._origin).replace("0", r"(\d+)")
        return re.compile(re.escape(f"{self.path}/") + below if self.path else below)

    def _folders(self, first: range) -> list[str]:
        """Return the folders to list for indices of the first axis.

        It is only the array's own folder if keys are flat, or if all indices are wanted.
        """
        whole = range(-(-self.shape[0] // self.chunk[0]))
        if not self._is_nested or first == whole:
            return [self.path]
        rest = (0,) * (len(self.shape) - 1)
        return [self._key((i, *rest)).rsplit("/", len(rest))[0] for i in first]

    def _folder_of(self, key: str) -> str:
        """Return the folder to list for one object; for nested keys its path ends before the last two axes."""
        axes = min(2, len(self.shape) - 1)
        return key.rsplit("/", axes)[0] if self._is_nested else self.path
