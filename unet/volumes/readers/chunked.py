"""Tell the states of the files of an array in chunks, and count the chunks that are not stored."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from unet.geometry.box import Box
from unet.storage.local_folder import FileState
from unet.storage.object_storage import CannotList
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.source import ArraySource, MissingChunks


class FilesOfChunks(Protocol):
    """The files of the chunks of one array, such as `unet.storage.chunk_files.ChunkFiles`."""

    def count(self, selection: Sequence[slice]) -> int:
        """Return how many files a selection touches, existing or not."""
        ...

    def states(self, selection: Sequence[slice]) -> dict[str, FileState]:
        """Return the state of each existing file that a selection touches, by its key."""
        ...

    def listed(self, selection: Sequence[slice]) -> Iterator[tuple[str, FileState]]:
        """Yield key and state of each existing file that a selection touches."""
        ...


class ChunkedSource(ArraySource):
    """An array in chunks, each in a file of its own or together with others in a shard.

    A reader sets these attributes before it calls the constructor.

    Attributes
    ----------
    metadata_states : list
        Key and state of each file of metadata, and links.
    chunk_files : FilesOfChunks
        Files of the chunks.
    fill_value : float
        Value as which a chunk is read that is not stored.
    stored_in : str
        Counted unit: chunks, blocks or shards.
    backend : object
        Place of the files, for messages.
    """

    metadata_states: list[list[Any]]
    fill_value: float = 0.0
    stored_in = "chunks"
    backend: Any

    @property
    def chunk_files(self) -> FilesOfChunks:
        """Return the files of the chunks."""
        raise NotImplementedError

    def state(self, box: Box) -> list[list[Any]]:
        """Return the states of the metadata, and of the chunks (of a sharded array: the shards) that a box touches.

        If a server does not list its content, the states of the metadata only.
        """
        with suppress(CannotList):
            states = self.chunk_files.states(self.order.selection(box))
            return [*self.metadata_states, *([key, *state] for key, state in states.items())]
        return self.metadata_states

    def listed(self, box: Box) -> Iterator[list[Any]]:
        """Yield the content of `state` in any order, from one listing of the store."""
        yield from self.metadata_states
        with suppress(CannotList):
            yield from ([key, *state] for key, state in self.chunk_files.listed(self.order.selection(box)))

    def missing_chunks(self, box: Box) -> list[MissingChunks]:
        """Count the chunks that a box touches and that are not stored, also those inside of shards.

        Raises
        ------
        SourceError
            If the file of a chunk is empty: a copy broke off there, and nobody left the chunk out. Also if a shard is
            damaged.
        """
        selection = self.order.selection(box)
        count, stored = self.chunk_files.count(selection), []
        for key, (size, *_) in self.chunk_files.listed(selection):
            if size == 0:
                raise SourceError(f"{self.backend}/{key}: the file of a chunk is empty; copy it again")
            stored.append((key, int(size)))
        found = [MissingChunks(self.address, count - len(stored), count, self.fill_value, self.stored_in)]
        missing, chunks, shards = self.missing_in_shards(selection, stored)
        if missing:
            kind = f"chunks in {shards:,} {self.stored_in} that are stored"
            if shards < len(stored):
                kind = f"chunks in {shards:,} of {len(stored):,} {self.stored_in}, those that were looked at,"
            found.append(MissingChunks(self.address, missing, chunks, self.fill_value, kind))
        return found

    def missing_in_shards(
        self, selection: tuple[slice, ...], stored: Sequence[tuple[str, int]]
    ) -> tuple[int, int, int]:
        """Count the chunks of a selection that shards lack. A reader of a format with shards overrides it.

        Parameters
        ----------
        selection
            Voxels of the stored array.
        stored
            Key and bytes of each stored shard that the selection touches.

        Returns
        -------
        missing, count, shards : int
            Chunks that are not stored, all chunks of the shards that were looked at, and number of these shards.
        """
        return 0, 0, 0
