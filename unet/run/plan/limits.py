"""Where a run meets a limit: what does not work is refused before the first job, with what to set instead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING

from unet.config.root import Config
from unet.geometry.box import Index
from unet.run.rules import OPEN, RULES

if TYPE_CHECKING:
    from unet.run.plan.plan import RunPlan
    from unet.volumes.volume import Layout

MAX_RANGES = 10_000
"""Of a volume: over two minutes and 1.2 GB to plan a run (benchmarks/scheduling.py)."""
MOST_FRAGMENTS = 2**31 - 1
"""Of a volume: `merge` numbers unions of fragments with 32 bits."""
LONG_JOB_HOURS = 24
"""Clusters end most jobs by then; a job continues where it was, but it has to be submitted again."""
WORTH_RECUTTING = 1.5
"""Times as many voxels as in blocks of the best shape: when more are read, that is said."""


@dataclass(frozen=True)
class Free:
    """What this machine has: bytes on the disk of the results, files that may be made there, bytes of memory."""

    disk: float
    files: float | None
    memory: float


def too_many_ranges(volume: str, block_ranges: int, shape: Index) -> str | None:
    """Why a volume cannot have so many block ranges, and what to set; None if it can.

    >>> print(too_many_ranges("all", 20_000, (10_000, 10_000, 10_000)))
    predict.job_voxels: volume 'all' would have 20000 block ranges, and a run is planned with 10000 at most; set it to \
at least 100000000, or to auto
    """
    if block_ranges <= MAX_RANGES:
        return None
    return (
        f"predict.job_voxels: volume {volume!r} would have {block_ranges} block ranges, and a run is planned with "
        f"{MAX_RANGES} at most; set it to at least {ceil(prod(shape) / MAX_RANGES)}, or to auto"
    )


def refused(config: Config, plan: "RunPlan", volumes: Mapping[str, tuple[Index, int]]) -> list[str]:
    """What cannot work at all; `volumes` are shapes and numbers of block ranges."""
    from unet.run.plan.resources import voxels_a_fragment

    joined = 1 if config.segment.has_graph else OPEN  # the others are merged layer by layer
    found = [too_many_ranges(name, block_ranges, shape) for name, (shape, block_ranges) in volumes.items()]
    for one in plan.volumes:
        fragments = joined * prod(one.shape) / voxels_a_fragment(config)
        if fragments > MOST_FRAGMENTS:
            most = MOST_FRAGMENTS / joined * voxels_a_fragment(config)
            found.append(
                f"volume {one.name!r} has about {fragments:.2g} fragments to be joined, and one solve numbers "
                f"{MOST_FRAGMENTS} at most: predict and segment it in parts (volumes.<name>.sections) of about "
                f"{most:.2g} voxels; docs/scale.md says what would replace it"
            )
    return [problem for problem in found if problem is not None]


def limits_of(plan: "RunPlan", free: Free) -> list[str]:
    """What may not work here, and what to set."""
    found = []
    disk, files = sum(one.bytes for one in plan.stores), sum(one.files for one in plan.stores)
    if disk > free.disk:
        found.append(
            f"disk: about {disk / 1e9:.3g} GB are needed and {free.disk / 1e9:.3g} GB are free where results lie"
        )
    if free.files is not None and files > free.files:
        found.append(
            f"files: {files} are needed and {free.files:.0f} may be made where results lie; make storage.block larger: "
            "a store has one file a block and level"
        )
    for one in plan.rules:
        if 1e6 * one.memory_mb > free.memory:
            what = {
                "merge": "it holds a table of all fragments: give it a larger node (docs/scale.md)",
                "predict": "make storage.block, predict.tile or predict.max_blocks_in_flight smaller",
                "train": "make train.tile or train.batch smaller",
            }.get(one.rule, "make storage.block smaller")
            found.append(
                f"memory: a job of {one.rule} needs about {one.memory_mb / 1e3:.3g} GB and this machine has "
                f"{free.memory / 1e9:.3g} GB; {what}"
            )
        if one.job_seconds > 3600 * LONG_JOB_HOURS:
            what = "make predict.job_voxels smaller" if RULES[one.rule].blockwise else "it cannot be shared out"
            found.append(
                f"time: a job of {one.rule} takes {one.job_seconds / 3600:.0f} h, clusters end it by then; {what}"
            )
    return found


def read_around(config: Config, layouts: Sequence["Layout"]) -> list[str]:
    """Where a watershed in 3-D reads much more than its blocks hold, and which blocks as large would spare it."""
    from unet.segmentation.watershed import WatershedParameters

    if config.segment.method != "watershed" or not layouts:
        return []
    deepest = max(layouts, key=lambda layout: layout.shape[0])
    halo = WatershedParameters.of(config.segment, deepest.voxel_size_nm).halo
    times = {block: read_over_own(block, halo, deepest.shape) for block in _as_large(deepest)}
    # the shallowest that will do: a 2-D network takes longer the narrower they are
    better = next(block for block in times if times[block] < WORTH_RECUTTING * min(times.values()))
    if better == deepest.block:
        return []
    return [
        f"time: the watershed looks {' x '.join(map(str, halo))} voxels around each block, so that in blocks of "
        f"{' x '.join(map(str, deepest.block))} it works through {times[deepest.block]:.1f} times the volume; "
        f"storage.block: {list(better)} makes that {times[better]:.1f}"
    ]


def read_over_own(block: Index, halo: Index, shape: Index) -> float:
    """Voxels that are read for each voxel of a block in the midst of a volume.

    >>> read_over_own((16, 1024, 1024), (16, 0, 0), (500, 4096, 4096))
    3.0
    """
    return prod(min(b + 2 * h, n) / min(b, n) for b, h, n in zip(block, halo, shape, strict=True))


def _as_large(layout: "Layout") -> list[Index]:
    """The blocks of a volume, and deeper ones of as many voxels that are whole chunks, too."""
    found, (z, y, x) = [layout.block], layout.block
    while y % (2 * layout.chunk[1]) == 0 and x % (2 * layout.chunk[2]) == 0 and 4 * z <= layout.shape[0]:
        z, y, x = 4 * z, y // 2, x // 2
        found.append((z, y, x))
    return found
