"""Return the digests of all blocks that a block reads from other stores, its halo included.

A job passes the digests to `unet.jobs.blockwise` as `inputs_of`. If an input changes, the job thus computes again
only the blocks that read the changed input.
"""

from functools import cache
from typing import Any

from unet.geometry.box import Box
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume


class BlockInputs:
    """Digests of a volume's blocks. Each is computed once, although a block lies in the halo of up to 26 others."""

    def __init__(self, source: Volume) -> None:
        self._source = source
        self._image = cache(source.image)
        self._digest = cache(self._digest_of)

    def digests(self, store: str, box: Box) -> list[str | None]:
        """Return the digests of the blocks of a store that a box touches; None for a block that is not there."""
        return [self._digest(store, block) for block in self._source.layout.grid.touched(box)]

    def tissue_mask_digests(
        self, box: Box, normalisation: Normalisation | None = None, bridge_single_sections: bool = False
    ) -> list[Any]:
        """Return the digests of all that `Volume.tissue_mask` of a box depends on. Arguments as for `tissue_mask`."""
        mask = self.digests("mask", box) if self._source.layout.masked else []
        read = self._source.tissue_read_box(box, normalisation, bridge_single_sections)
        if normalisation is None or read is None:
            return [mask]
        return [mask, normalisation.fill_values, bridge_single_sections, self.digests("raw", read)]

    def _digest_of(self, store: str, block: Box) -> str | None:
        return self._image(store).digest(block)
