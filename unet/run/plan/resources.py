"""Memory and time that a job requests from a scheduler, from the configuration and the shapes of its volumes.

1. `Workload` says how much work there is: voxels of a block, of a section, of all volumes.
2. `RULES` (`unet.run.rules`) holds what a rule takes for that. The plan (`unet.run.plan.plan`) reads the same table.
3. `held_bytes` adds up what a job holds at its peak, copy by copy. A network adds what `network_cost` counts.
4. Snakemake multiplies both by the attempt: a job that was cut off gets more, and continues where it was. So the
   estimates need not hold for the worst case.
"""

from dataclasses import dataclass, replace
from math import ceil, prod

from unet.config.root import Config
from unet.geometry.box import Index
from unet.run.merge_parts import layers_per_part, voxels_per_fragment
from unet.run.plan.workload import Workload
from unet.run.rules import RULES, WATERSHED, cost_of
from unet.volumes.block_reader import CACHE_BYTES

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
    cost, per_fragment, halo = cost_of(rule, config), voxels_per_fragment(config), counted_halo(rule, config, work)
    per_voxel = cost.block_bytes + cost.raw_copies * work.raw_bytes + cost.label_copies * work.label_bytes
    parts = (
        (1e6, cost.process_mb),
        (per_voxel, work.blocks(cost.blocks_at_once or threads, halo) if per_voxel else 0),
        (cost.section_bytes, threads * work.section),
        (rule == "ingest", _decoded_bytes(work, threads)),
        (cost.fragment_bytes, work.voxels / per_fragment),
        (cost.solved_fragment_bytes, fragments_at_once(rule, config, work) if cost.solved_fragment_bytes else 0),
    )
    return sum(each * number for each, number in parts)


def _decoded_bytes(work: Workload, threads: int) -> float:
    """Return the bytes of chunks that blocks share: those being decoded, each in some copies, and those kept."""
    at_work = threads * DECODED_COPIES * work.decoded * max(work.raw_bytes, work.label_bytes)
    kept = work.decoded_layers * work.layer * (work.raw_bytes + work.label_bytes)
    return at_work + min(CACHE_BYTES, kept)


def part_voxels(config: Config, work: Workload) -> int:
    """Return the most voxels of a part whose fragments a job of `merge` or `merge_part` reads."""
    depths = [(one, min(layers_per_part(config, one) * one.block[0], one.shape[0])) for one in work.layouts]
    return max(depth * prod(layout.shape[1:]) for layout, depth in depths)


def fragments_at_once(rule: str, config: Config, work: Workload) -> float:
    """Return the fragments whose edges a job holds together: of a part, or all where a method needs the whole graph."""
    from unet.segmentation.merging import WHOLE_GRAPH
    from unet.segmentation.region_graph import FRAGMENTS_PER_SLAB

    total, layer = (voxels / voxels_per_fragment(config) for voxels in (work.voxels, work.layer))
    segment, affinities = config.segment, config.model.output == "affinities"
    methods = segment.candidates.methods_for(affinities) if segment.decoder == "auto" else [segment.agglomerate.method]
    if set(methods) & set(WHOLE_GRAPH) and rule != "merge_part":
        return total
    if rule in MERGING:
        return part_voxels(config, work) / voxels_per_fragment(config)
    return min(total, max(FRAGMENTS_PER_SLAB, layer))


def counted_halo(rule: str, config: Config, work: Workload) -> Index:
    """Return the voxels around a block that a job works through; other costs hold their halo already."""
    works = cost_of(rule, config) is WATERSHED or rule == "candidate_fragments"
    return RULES[rule].halo(config, work.layouts[0]) if works else (0, 0, 0)


def core_seconds(rule: str, config: Config, work: Workload) -> float:
    """Return the processor seconds of a job without the network."""
    cost, own = cost_of(rule, config), work.job if RULES[rule].blockwise else work.voxels
    if rule in MERGING:
        return cost.start + part_voxels(config, work) / cost.rate + NUMBERED * (rule == "merge") * work.voxels
    if rule == "ingest":
        own = max(own, work.ingested_together)
    return cost.start + own * work.blocks(1, counted_halo(rule, config, work)) / work.blocks() / cost.rate


def minutes(rule: str, config: Config, work: Workload) -> int:
    """Return the minutes of a job at its first attempt, after which a scheduler ends it."""
    seconds = core_seconds(rule, config, work)
    if rule in WITH_NETWORK:
        from unet.run.plan.network_cost import network_seconds

        seconds += network_seconds(rule, config, work)
    return ceil(START_MINUTES + SAFETY * seconds / 60)
