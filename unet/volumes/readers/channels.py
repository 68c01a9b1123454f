"""Read several sources on the same voxels as the channels of one source."""

from collections.abc import Sequence

import numpy as np

from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.several_sources import SeveralSources
from unet.volumes.readers.source import Source


class ChannelStack(SeveralSources):
    """Source with the channels of several sources, in their order.

    Parameters
    ----------
    sources : sequence of Source
        Sources of one shape and dtype. Voxel size and offset come from the first source that knows them.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        first, *others = sources
        for other in others:
            _refuse_other_voxels(first, other)
        super().__init__(
            sources,
            first.dtype,
            [remark for source in sources for remark in _other_numbers(first, source)],
            voxel_size_nm=next((source.voxel_size_nm for source in sources if source.voxel_size_nm), None),
            offset_nm=next((source.offset_nm for source in sources if source.offset_nm), None),
            channels=sum(source.channels for source in sources),
            voxel_size_from=first.voxel_size_from,
        )
        self.numbers = first.numbers

    def refuse_gaps(self) -> None:
        """Raise where numbers are missing between those of the sections of a source."""
        for source in self._sources:
            source.refuse_gaps()

    def _read(self, box: Box) -> np.ndarray:
        return np.concatenate([source.read(box).reshape(-1, *box.shape) for source in self._sources])


def _other_numbers(first: Source, other: Source) -> list[str]:
    """Return remarks where the sections of two channels have different numbers in their names.

    Raises
    ------
    SourceError
        If both lie in one folder, where the same number means the same section.
    """
    if first.numbers is None or other.numbers is None or first.numbers == other.numbers or first.shape[0] == 1:
        return []
    theirs, ours = (f"numbers {one.numbers[0]} to {one.numbers[-1]}" for one in (other, first) if one.numbers)
    told = f"{other.address}: sections of {theirs}, but {first.address} has {ours}"
    if first.files[0] == other.files[0]:
        raise SourceError(f"{told}; channels have the same sections: choose them by a pattern, or add what is missing")
    return [f"{told}; they are taken as channels of the same sections, in their order"]


def _refuse_other_voxels(first: Source, other: Source) -> None:
    """Raise an error if a source cannot be a channel beside another one."""
    for name, one, theirs in (
        ("shape", first.shape, other.shape),
        ("dtype", first.dtype.name, other.dtype.name),
        ("a voxel size in nm", first.voxel_size_nm, other.voxel_size_nm),
        ("an offset in nm", first.offset_nm, other.offset_nm),
    ):
        if one != theirs and None not in (one, theirs):
            raise SourceError(
                f"{other.address}: {name} of {theirs}, but {first.address} has {one}; all channels of a volume have "
                "the same voxels and dtype: crop, pad or convert one of them"
            )
