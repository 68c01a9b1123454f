"""Memory and time that a job requests from a scheduler, from the configuration and the shapes of its volumes.

1. `RULES` (`unet.run.rules`) holds what a rule takes for each voxel, section or fragment. The plan
   (`unet.run.plan.plan`) reads the same table.
2. `held_bytes` adds up what a job holds at its peak, copy by copy, and `core_seconds` what it computes. A network adds
   what `network_cost` counts.
3. Snakemake multiplies both by the attempt: a job that was cut off gets more, and continues where it was. So the
   estimates need not hold for the worst case.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, prod

from unet.config.root import Config
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

Layouts = Mapping[str, VolumeLayout]
"""Layouts of the volumes that a job is about, by name; none where no header can be read yet."""


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


def memory_mb(rule: str, config: Config, layouts: Layouts, threads: int) -> int:
    """Return the memory in MB that a job with so many threads asks for at its first attempt."""
    held = held_bytes(rule, config, layouts, threads)
    if rule in WITH_NETWORK:
        from unet.run.plan.network_cost import network_bytes

        held += network_bytes(rule, config, layouts, threads)
    return SNAKEMAKE_MB + ceil(held / 1e6)


def minutes(rule: str, config: Config, layouts: Layouts) -> int:
    """Return the minutes of a job at its first attempt, after which a scheduler ends it."""
    seconds = core_seconds(rule, config, layouts)
    if rule in WITH_NETWORK:
        from unet.run.plan.network_cost import network_seconds

        seconds += network_seconds(rule, config, layouts)
    return ceil(START_MINUTES + SAFETY * seconds / 60)


def held_bytes(rule: str, config: Config, layouts: Layouts, threads: int) -> float:
    """Return the bytes that the process of a job holds at its peak, without the network: what it holds of each thing
    by `Cost`, times how many of that thing are at work."""
    cost, volumes, per_fragment = cost_of(rule, config), layouts.values(), voxels_per_fragment(config)
    held = 1e6 * cost.process_mb + max((_bytes_at_work(rule, config, one, threads) for one in volumes), default=0)
    held += cost.fragment_bytes * (sum(one.voxels for one in volumes) / per_fragment)
    if cost.solved_fragment_bytes:
        held += cost.solved_fragment_bytes * sum(fragments_at_once(rule, config, one) for one in volumes)
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


def fragments_at_once(rule: str, config: Config, layout: VolumeLayout) -> float:
    """Return the fragments whose edges a job holds together: of a part, or all where a method needs the whole graph."""
    from unet.segmentation.edge_slabs import FRAGMENTS_PER_SLAB
    from unet.segmentation.merging import WHOLE_GRAPH

    segment, affinities, per_fragment = config.segment, config.model.output == "affinities", voxels_per_fragment(config)
    methods = segment.candidates.methods_for(affinities) if segment.decoder == "auto" else [segment.agglomerate.method]
    if set(methods) & set(WHOLE_GRAPH) and rule != "merge_part":
        return layout.voxels / per_fragment
    if rule in MERGING:
        return part_voxels(config, layout) / per_fragment
    return min(layout.voxels, max(FRAGMENTS_PER_SLAB * per_fragment, layout.layer_voxels)) / per_fragment


def counted_halo(rule: str, config: Config, layout: VolumeLayout) -> Index:
    """Return the voxels around a block that a job works through; other costs hold their halo already."""
    return RULES[rule].halo(config, layout) if cost_of(rule, config).with_halo else (0, 0, 0)


def core_seconds(rule: str, config: Config, layouts: Layouts) -> float:
    """Return the processor seconds of a job without the network."""
    cost, seconds = cost_of(rule, config), 0.0
    for layout in layouts.values():
        grid, halo = layout.grid, counted_halo(rule, config, layout)
        own = part_voxels(config, layout) if rule in MERGING else RULES[rule].share_of_job(config, layout)
        seconds += own * grid.voxels_of_largest(halo=halo) / grid.voxels_of_largest() / cost.rate
        seconds += NUMBERED * (rule == "merge") * layout.voxels
    return cost.start + seconds
