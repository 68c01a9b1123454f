"""Count what a job has to do: its volumes, and the voxels of one job."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod

from unet.config.root import Config
from unet.geometry.block_ranges import voxels_per_job
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
        return cls(work.volumes, max(work.block, min(job, work.voxels)))

    @property
    def layouts(self) -> list[VolumeLayout]:
        """Layouts of the volumes."""
        return list(self.volumes.values())

    @property
    def voxels(self) -> int:
        """Voxels of all volumes together."""
        return sum(layout.voxels for layout in self.layouts)

    @property
    def block(self) -> int:
        """Voxels of the largest block."""
        return max(layout.grid.voxels_of_largest() for layout in self.layouts)
