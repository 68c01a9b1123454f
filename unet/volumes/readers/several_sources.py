"""Base of sources that consist of several other sources: files, states and checks are those of all of them."""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike

from unet.geometry.box import Box
from unet.volumes.readers.source import MissingChunks, Source


class SeveralSources(Source):
    """A source of several others with voxels of the same shape. A subclass defines `_read`.

    Parameters
    ----------
    sources : sequence of Source
        The sources; shape and origin of the axes are those of the first.
    dtype : dtype
        Type of the voxels.
    remarks : sequence of str
        Remarks beside those of the sources.
    **known
        Further arguments of the constructor of `Source`.
    """

    def __init__(self, sources: Sequence[Source], dtype: DTypeLike, remarks: Sequence[str] = (), **known: Any) -> None:
        self._sources = list(sources)
        super().__init__(
            address=", ".join(source.address for source in sources),
            files=[file for source in sources for file in source.files],
            shape=sources[0].shape,
            dtype=dtype,
            axes_from=sources[0].axes_from,
            remarks=[*(remark for source in sources for remark in source.remarks), *remarks],
            **known,
        )
        self.pixel_nm = sources[0].pixel_nm
        chunks = [source.chunk for source in sources if source.chunk is not None]
        self.chunk = max(chunks, key=attrgetter("size"), default=None)
        self.parallel_reads = all(source.parallel_reads for source in sources)

    def keep_not_finite(self) -> None:
        """Return NaN and infinity from now on."""
        super().keep_not_finite()
        for source in self._sources:
            source.keep_not_finite()

    def files_of(self, box: Box) -> list[Path]:
        """Return the files of every source that the voxels of a box come from."""
        return [file for source in self._sources for file in source.files_of(box)]

    def state(self, box: Box) -> list[list[Any]]:
        """Return the state of every source, which may hold more than the states of its files."""
        return [state for source in self._sources for state in source.state(box)]

    def listed(self, box: Box) -> Iterable[list[Any]]:
        """Return the content of `state` in any order."""
        return [state for source in self._sources for state in source.listed(box)]

    def missing_chunks(self, box: Box) -> list[MissingChunks]:
        """Return the missing chunks of every source."""
        return [found for source in self._sources for found in source.missing_chunks(box)]

    def check(self, box: Box) -> None:
        """Check the headers of the sections of a box in every source."""
        for source in self._sources:
            source.check(box)
            self.remarks += [remark for remark in source.remarks if remark not in self.remarks]

    def probe(self, box: Box) -> None:
        """Read a few voxels at the beginning of a box from every source."""
        for source in self._sources:
            source.probe(box)
