"""A step of the chain that makes blocks out of blocks: what it reads around each block, and which stores it writes.

The box that is read is stated once, in `BlockStep.reads`. The step reads this box, and records the digests of the
blocks in it. So a block is made again if a block that it reads has changed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput, Store, run_blocks
from unet.storage.digests import fingerprint
from unet.volumes.block_inputs import BlockInputs
from unet.volumes.volume import Volume

if TYPE_CHECKING:
    from unet.storage.zarr_store import Image


def the_block(box: Box) -> Box:
    """Return the block itself: the box that a step without a halo reads."""
    return box


@dataclass(frozen=True)
class BlockStep:
    """One blockwise step on a volume.

    Parameters
    ----------
    rule : str
        Name of the rule.
    source : Volume
        Volume whose blocks are made.
    reads : mapping
        Function that returns the box that is read for a block, its halo included, by the name of the store.
    writes : sequence of Store
        Stores of which a block is written.
    depends_on : callable, optional
        Return, as JSON values, what a block depends on beside the blocks of `reads`.
    """

    rule: str
    source: Volume
    reads: Mapping[str, Callable[[Box], Box]]
    writes: Sequence[Store]
    depends_on: Callable[[Box, BlockInputs], Any] | None = None

    @cached_property
    def _inputs(self) -> BlockInputs:
        return BlockInputs(self.source)

    @cached_property
    def _image(self) -> Callable[[str], "Image"]:
        return cache(self.source.image)

    def read(self, store: str, box: Box) -> np.ndarray:
        """Return the voxels of a store that are read for a block, `(z, y, x)` or `(channel, z, y, x)`."""
        return self._image(store).read(self.reads[store](box))

    def inner(self, store: str, box: Box) -> tuple[slice, ...]:
        """Return the slices of a block, along z, y and x, in the box that is read for it."""
        return box.relative_to(self.reads[store](box).start).slices

    def inputs_of(self, box: Box) -> list[Any]:
        """Return the digests of the blocks that are read for a block, and what else it depends on."""
        digests: list[Any] = [self._inputs.digests(store, read_box(box)) for store, read_box in self.reads.items()]
        return digests if self.depends_on is None else [*digests, self.depends_on(box, self._inputs)]

    def run(
        self,
        work: Callable[[Box], BlockOutput],
        block_range: str,
        receipt: Path,
        threads: int,
        **settings: Any,
    ) -> None:
        """Make the blocks of a block range that are not finished (`run_blocks`).

        Parameters
        ----------
        work : callable
            Read, compute and write one block, and return its digest and counts.
        settings
            What all blocks depend on, as JSON values: parameters and the digest of the code.
        """
        run_blocks(
            self.rule,
            self.source.blocks(block_range),
            work,
            self.writes,
            receipt=receipt,
            fingerprint=fingerprint(**settings),
            inputs_of=self.inputs_of,
            threads=threads,
        )
