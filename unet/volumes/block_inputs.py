"""What a block was made from: the digests of the blocks of other stores that it reads, with its halo.

A job gives them to `unet.jobs.blockwise` (`inputs_of`), so that a change of its inputs costs the blocks that read it.
"""

from functools import cache
from typing import Any

from unet.geometry.box import Box
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume


class BlockInputs:
    """The digests of the blocks of a volume, each computed once: a block lies in the halo of up to 26 others."""

    def __init__(self, source: Volume) -> None:
        self._source = source
        self._image = cache(source.image)
        self._digest = cache(self._digest_of)

    def digests(self, store: str, box: Box) -> list[str | None]:
        """Of the blocks of a store that a box lies in; None for one that is not there."""
        return [self._digest(store, block) for block in self._source.layout.grid.touched(box)]

    def tissue_mask_digests(
        self, box: Box, normalisation: Normalisation | None = None, bridge_single_sections: bool = False
    ) -> list[Any]:
        """All that decides where there is tissue in a box; arguments as of `Volume.tissue_mask`."""
        mask = self.digests("mask", box) if self._source.layout.masked else []
        window = self._source.tissue_read_box(box, normalisation, bridge_single_sections)
        if normalisation is None or window is None:
            return [mask]
        return [mask, normalisation.fill_values, bridge_single_sections, self.digests("raw", window)]

    def _digest_of(self, store: str, block: Box) -> str | None:
        return self._image(store).digest(block)
