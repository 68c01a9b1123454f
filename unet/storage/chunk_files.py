"""The files, or objects, that the voxels of a Zarr array lie in: which there are, and in what state.

A file is a chunk; of a sharded array it is a shard. Its key follows from its index, by the array's own metadata:

```
            flat            nested (only the first axis's folders that a selection touches are listed)
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

from unet.geometry.box import Index
from unet.storage.backends import Backend, FileState, LocalFolder

Selection = Sequence[slice]
"""One slice of voxels per axis, with start and stop, not empty."""


class ChunkFiles:
    """The files of the chunks of one array.

    Parameters
    ----------
    backend : Backend
        Where the store lies.
    path : str
        Of the array in the store, empty where it is the store's root.
    shape, chunk : tuple of int
        Voxels of the array, and of what one file holds.
    encode
        The key of a file below `path`, by its index.
    """

    def __init__(self, backend: Backend, path: str, shape: Index, chunk: Index, encode: Callable[[Index], str]) -> None:
        self.backend, self.path, self.shape, self.chunk, self._encode = backend, path.strip("/"), shape, chunk, encode
        self._origin = encode((0,) * len(shape))
        self._is_nested = self._origin.count("/") >= len(shape) - 1 > 0
        self._lock = Lock()
        self._listed = cache(lambda folder: dict(backend.listing(folder)))

    def count(self, selection: Selection) -> int:
        """Return how many files a selection touches, whether they are there or not."""
        return prod(len(indices) for indices in self._touched(selection))

    def states(self, selection: Selection) -> dict[str, FileState]:
        """Return the state of each file that a selection touches and that is there, by its key.

        In a folder each file is looked at by itself. Objects are listed, once for all selections of their prefix.

        Raises
        ------
        CannotList
            As `Backend.listing`.
        """
        keys = [self._key(index) for index in product(*self._touched(selection))]
        if isinstance(self.backend, LocalFolder):
            found = {key: self.backend.state(key) for key in keys}
        else:
            with self._lock:  # several threads ask at once
                found = {key: self._listed(self._listed_with(key)).get(key) for key in keys}
        return {key: state for key, state in found.items() if state is not None}

    def listed(self, selection: Selection) -> Iterator[tuple[str, FileState]]:
        """Yield key and state of each file that a selection touches and that is there, from one listing, in any order.

        Raises
        ------
        CannotList
            As `Backend.listing`.
        """
        touched = self._touched(selection)
        for folder in self._folders(touched[0]):
            for key, state in self.backend.listing(folder):
                found = self._pattern.fullmatch(key)
                if found and all(int(i) in indices for i, indices in zip(found.groups(), touched, strict=True)):
                    yield key, state

    def _touched(self, selection: Selection) -> list[range]:
        """Indices of the files that a selection touches along each axis."""
        return [range(s.start // c, -(-s.stop // c)) for s, c in zip(selection, self.chunk, strict=True)]

    def _key(self, index: Index) -> str:
        return "/".join(filter(None, (self.path, self._encode(index))))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """What keys look like, with a group per axis."""
        below = re.escape(self._origin).replace("0", r"(\d+)")
        return re.compile(re.escape(f"{self.path}/") + below if self.path else below)

    def _folders(self, first: range) -> list[str]:
        """The folders to list for indices of the first axis: the array's own, for flat keys or where all are wanted."""
        whole = range(-(-self.shape[0] // self.chunk[0]))
        if not self._is_nested or first == whole:
            return [self.path]
        rest = (0,) * (len(self.shape) - 1)
        return [self._key((i, *rest)).rsplit("/", len(rest))[0] for i in first]

    def _listed_with(self, key: str) -> str:
        """The folder that is listed to know one object: of nested keys without the last two axes."""
        axes = min(2, len(self.shape) - 1)
        return key.rsplit("/", axes)[0] if self._is_nested else self.path
