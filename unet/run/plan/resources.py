"""Memory and time that a job requests from a scheduler, from the configuration and the shapes of its volumes.

1. `Workload` says how much work there is: voxels of a block, of a section, of all volumes.
2. `RULES` (`unet.run.rules`) holds what a rule takes for that. The plan (`unet.run.plan.plan`) reads the same table.
3. `held_bytes` adds up what a job holds at its peak, copy by copy. A network adds what `network_cost` counts.
4. Snakemake multiplies both by the attempt: a job that was cut off gets more, and continues where it was. So the
   estimates need not hold for the worst case.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, prod

from unet.config.root import Config
from unet.geometry.block_ranges import voxels_per_job
from unet.geometry.box import Index
from unet.run.merge_parts import part_voxels, voxels_per_fragment
from unet.run.rules import RULES, cost_of
from unet.volumes.block_reader import CACHE_BYTES
from unet.volumes.layout import VolumeLayout

SAFETY = 4.0
"""Requested time over the expected time: nodes differ, and one volume may take twice as long as another."""
SNAKEMAKE_MB = 400
"""Memory of the two Snakemakes around the script of a job on a cluster, in MB; each took up to 190 (2026-11-25)."""
START_MINUTES = 10
"""Minutes that a job may take to load modules, which a shared file system hands out slowly."""
WITH_NETWORK = ("train", "predict", "verify", "export")
"""Rules whose jobs hold a network. What it takes is counted by PyTorch, which takes seconds to load."""
MERGING = ("merge_part", "merge")
"""Rules that read the fragments of a part of a volume."""
NUMBERED = 1e-9
"""Processor seconds per voxel of the volume in which `merge` numbers the objects of all parts."""
DECODED_COPIES = 3
"""Copies of a section while it is decoded: compressed, decoded, and brought to the axes of the volume."""


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


@dataclass(frozen=True)
class RulePlan:
    """All jobs of a rule: seconds one after the other, seconds of the longest job, and its memory."""

    rule: str
    jobs: int
    seconds: float
    core_seconds: float
    job_seconds: float
    memory_mb: float
    gpu_mb: float
    at_once: int

    def __add__(self, other: "RulePlan") -> "RulePlan":
        """Return the jobs of the rule on the volumes of both."""
        added = {key: getattr(self, key) + getattr(other, key) for key in ("jobs", "seconds", "core_seconds")}
        largest = {key: max(getattr(self, key), getattr(other, key)) for key in ("job_seconds", "memory_mb", "gpu_mb")}
        return replace(self, **added, **largest)


def memory_mb(rule: str, config: Config, work: Workload, threads: int) -> int:
    """Return the memory in MB that a job with so many threads asks for at its first attempt."""
    held = held_bytes(rule, config, work, threads)
    if rule in WITH_NETWORK:
        from unet.run.plan.network_cost import network_bytes

        held += network_bytes(rule, config, work, threads)
    return SNAKEMAKE_MB + ceil(held / 1e6)


def held_bytes(rule: str, config: Config, work: Workload, threads: int) -> float:
    """Return the bytes that the process of a job holds at its peak, without the network: what it holds of each thing
    by `Cost`, times how many of that thing are at work."""
    cost = cost_of(rule, config)
    held = 1e6 * cost.process_mb + max(_bytes_at_work(rule, config, one, threads) for one in work.layouts)
    held += cost.fragment_bytes * (work.voxels / voxels_per_fragment(config))
    if cost.solved_fragment_bytes:
        held += cost.solved_fragment_bytes * fragments_at_once(rule, config, work)
    return held


def _bytes_at_work(rule: str, config: Config, layout: VolumeLayout, threads: int) -> float:
    """Return the bytes of the blocks and sections of a volume that a job works on at once."""
    cost, decoded = cost_of(rule, config), _decoded_bytes(layout, threads) if rule == "ingest" else 0
    per_voxel = cost.block_bytes + cost.raw_copies * layout.raw_bytes + cost.label_copies * layout.label_bytes
    voxels = layout.grid.voxels_of_largest(cost.blocks_at_once or threads, counted_halo(rule, config, layout))
    return per_voxel * voxels + cost.section_bytes * threads * layout.section_pixels + decoded


def _decoded_bytes(layout: VolumeLayout, threads: int) -> float:
    """Return the bytes of chunks that blocks share: those being decoded, each in some copies, and those kept."""
    at_work = threads * DECODED_COPIES * prod(layout.decoded) * max(layout.raw_bytes, layout.label_bytes)
    kept = layout.decoded_layers * layout.layer_voxels * (layout.raw_bytes + layout.label_bytes)
    return at_work + min(CACHE_BYTES, kept)


def fragments_at_once(rule: str, config: Config, work: Workload) -> float:
    """Return the fragments whose edges a job holds together: of a part, or all where a method needs the whole graph."""
    from unet.segmentation.merging import WHOLE_GRAPH
    from unet.segmentation.region_graph import FRAGMENTS_PER_SLAB

    segment, affinities, per_fragment = config.segment, config.model.output == "affinities", voxels_per_fragment(config)
    methods = segment.candidates.methods_for(affinities) if segment.decoder == "auto" else [segment.agglomerate.method]
    if set(methods) & set(WHOLE_GRAPH) and rule != "merge_part":
        return work.voxels / per_fragment
    if rule in MERGING:
        return max(part_voxels(config, one) for one in work.layouts) / per_fragment
    layer = max(one.layer_voxels for one in work.layouts)
    return min(work.voxels / per_fragment, max(FRAGMENTS_PER_SLAB, layer / per_fragment))


def counted_halo(rule: str, config: Config, layout: VolumeLayout) -> Index:
    """Return the voxels around a block that a job works through; other costs hold their halo already."""
    return RULES[rule].halo(config, layout) if cost_of(rule, config).with_halo else (0, 0, 0)


def core_seconds(rule: str, config: Config, work: Workload) -> float:
    """Return the processor seconds of a job without the network."""
    cost, read = cost_of(rule, config), max(_voxels_read(rule, config, work, one) for one in work.layouts)
    return cost.start + read / cost.rate + NUMBERED * (rule == "merge") * work.voxels


def _voxels_read(rule: str, config: Config, work: Workload, layout: VolumeLayout) -> float:
    """Return the voxels that a job works through if its blocks are as those of one of its volumes."""
    own = work.job if RULES[rule].blockwise else work.voxels
    if rule in MERGING:
        own = part_voxels(config, layout)
    if rule == "ingest":  # at least the blocks that share what image files decode at once
        own = max(own, min(layout.ingested_together * prod(layout.block), layout.voxels))
    grid, halo = layout.grid, counted_halo(rule, config, layout)
    return own * grid.voxels_of_largest(halo=halo) / grid.voxels_of_largest()


def minutes(rule: str, config: Config, work: Workload) -> int:
    """Return the minutes of a job at its first attempt, after which a scheduler ends it."""
    seconds = core_seconds(rule, config, work)
    if rule in WITH_NETWORK:
        from unet.run.plan.network_cost import network_seconds

        seconds += network_seconds(rule, config, work)
    return ceil(START_MINUTES + SAFETY * seconds / 60)
