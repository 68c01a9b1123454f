"""Count what a job has to do: voxels of a block, of a section, of a layer of blocks, of all its volumes."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

import numpy as np

from unet.config.root import Config
from unet.geometry.block_ranges import voxels_per_job
from unet.geometry.box import Index
from unet.volumes.layout import VolumeLayout


@dataclass(frozen=True)
class Workload:
    """The layouts of the volumes that a job is about, and the voxels of one job where several share a volume."""

    volumes: Mapping[str, VolumeLayout]
    job: int

    def __hash__(self) -> int:
        """Return a hash, so that what jobs of one workload ask for is estimated once."""
        return hash((tuple(self.volumes.items()), self.job))

    @classmethod
    def of(cls, config: Config, layouts: Mapping[str, VolumeLayout]) -> "Workload":
        """Return the workload of a job about some volumes: a block at least, and all voxels at most.

        Before the survey one volume is assumed that fills a job, with 16 bits per voxel.
        """
        shapes, storage = [one.shape for one in layouts.values()] or [()], config.storage
        job = max(voxels_per_job(shape, config.predict.job_voxels) for shape in shapes)
        depth, *section = storage.block
        shape = (max(depth, ceil(job / prod(section))), *section)
        assumed = VolumeLayout(shape, "uint16", (1, 1, 1), (0, 0, 0), storage.chunk, storage.block, None, False)
        work = cls(layouts or {"": assumed}, job)
        return cls(work.volumes, max(work.blocks(), min(job, work.voxels)))

    @property
    def layouts(self) -> list[VolumeLayout]:
        """Layouts of the volumes."""
        return list(self.volumes.values())

    @property
    def section(self) -> int:
        """Pixels of the largest section."""
        return max(prod(layout.shape[1:]) for layout in self.layouts)

    @property
    def layer(self) -> int:
        """Voxels of the largest layer of blocks."""
        return max(prod((min(layout.block[0], layout.shape[0]), *layout.shape[1:])) for layout in self.layouts)

    @property
    def voxels(self) -> int:
        """Voxels of all volumes together."""
        return sum(prod(layout.shape) for layout in self.layouts)

    @property
    def decoded(self) -> int:
        """Voxels that image files decode at once and that blocks share; 0 where each block is read alone."""
        return max(prod(layout.decoded) for layout in self.layouts)

    @property
    def decoded_layers(self) -> int:
        """Layers of blocks that what is decoded at once reaches through."""
        return max(-(-layout.decoded[0] // layout.block[0]) for layout in self.layouts)

    @property
    def ingested_together(self) -> int:
        """Voxels that a job of `ingest` takes at least, since they share what image files decode at once."""
        return max(min(one.ingested_together * prod(one.block), prod(one.shape)) for one in self.layouts)

    @property
    def label_bytes(self) -> int:
        """Bytes per instance id; 0 where nothing is annotated."""
        return max(np.dtype(layout.labels_dtype).itemsize if layout.labels_dtype else 0 for layout in self.layouts)

    @property
    def raw_bytes(self) -> int:
        """Bytes of the grey values per voxel, all channels together."""
        return max(layout.channels * np.dtype(layout.dtype).itemsize for layout in self.layouts)

    def blocks(self, at_once: int = 1, halo: Index = (0, 0, 0)) -> int:
        """Return the voxels of the largest `at_once` blocks of a volume, each with its halo; those at the far faces
        are smaller."""
        return max(_largest_blocks(layout, at_once, halo) for layout in self.layouts)


def _largest_blocks(layout: VolumeLayout, at_once: int, halo: Index) -> int:
    whole_and_last = (
        [(min(b + 2 * h, n), n // b), (min(n % b + h, n), int(n % b > 0))]
        for n, b, h in zip(layout.shape, layout.block, halo, strict=True)
    )
    sizes = [[prod(along) for along in zip(*kinds, strict=True)] for kinds in product(*whole_and_last)]
    total = 0
    for voxels, number in sorted(sizes, reverse=True):
        total += voxels * min(number, at_once)
        at_once -= min(number, at_once)
    return total
