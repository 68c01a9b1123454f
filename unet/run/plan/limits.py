"""The limits that a run meets: what cannot work is refused before the first job, with what to set instead."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, prod
from pathlib import Path

from unet.config.root import Config
from unet.geometry.box import Index
from unet.run.merge_parts import part_voxels, voxels_per_fragment
from unet.run.plan.disk import StorePlan
from unet.run.plan.resources import RulePlan
from unet.run.rules import RULES
from unet.volumes.layout import VolumeLayout

MAX_RANGES = 10_000
"""Block ranges per volume. More take over two minutes and 1.2 GB to plan a run (benchmarks/scheduling.py)."""
MAX_FRAGMENTS = 2**31 - 1
"""Fragments per part of a volume: unions of fragments are numbered with 32 bits."""
LONG_JOB_HOURS = 24
"""Clusters end most jobs by then. A job continues where it was, but it has to be submitted again."""
WORTH_RECUTTING = 1.5
"""Times as many voxels as in blocks of the best shape: when more are read, that is said."""
FEWER_FILES = "make storage.block larger: a store has one file per block and level"
LESS_MEMORY = {
    "merge": "make segment.merge_voxels smaller",
    "merge_part": "make segment.merge_voxels, or the first number of storage.block, smaller",
    "suspected_merges": "it holds a table of all fragments: set segment.suspected_merges: null, or take a larger node",
    "predict": "make storage.block, predict.tile or predict.max_blocks_in_flight smaller",
    "train": "make train.tile or train.batch smaller",
}


@dataclass(frozen=True)
class Free:
    """Free space: bytes on the disk of the results, files that may be made there (infinite where the file system does
    not count), and bytes of memory."""

    disk: float
    files: float
    memory: float

    @classmethod
    def here(cls, config: Config) -> "Free":
        """Return what the file system of the results and this machine have."""
        folder = Path(config.results).absolute()
        while not folder.exists():
            folder = folder.parent
        files = config.plan.max_files or os.statvfs(folder).f_favail or inf
        return cls(shutil.disk_usage(folder).free, files, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def too_many_ranges(volume: str, block_ranges: int, shape: Index) -> str | None:
    """Return why a volume cannot have so many block ranges, and what to set; None if it can.

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


def too_many_fragments(config: Config, volume: str, layout: VolumeLayout) -> str | None:
    """Return why the fragments of a part of a volume cannot be joined in one solve; None if they can."""
    fragments = part_voxels(config, layout) / voxels_per_fragment(config)
    if fragments <= MAX_FRAGMENTS:
        return None
    return (
        f"volume {volume!r} has about {fragments:.2g} fragments in a part that one job merges, and one solve numbers "
        f"{MAX_FRAGMENTS} at most: set segment.merge_voxels to auto, and the first number of storage.block smaller"
    )


def errors_of(config: Config, layouts: Mapping[str, VolumeLayout]) -> list[str]:
    """Return what cannot work at all."""
    ranges = [(name, RULES["predict"].job_count(config, one), one.shape) for name, one in layouts.items()]
    found = [too_many_ranges(*one) for one in ranges]
    found += [too_many_fragments(config, name, layouts[name]) for name in config.predict.volumes]
    return [problem for problem in found if problem is not None]


def warnings_of(rules: Sequence[RulePlan], stores: Sequence[StorePlan], free: Free) -> list[str]:
    """Return what may not work here, and what to set."""
    disk, files = sum(one.bytes for one in stores), sum(one.files for one in stores)
    on_disk = f"about {disk / 1e9:.3g} GB are needed and {free.disk / 1e9:.3g} GB are free"
    files_there = f"{files} are needed and {free.files:.0f} may be made"
    found = [
        (disk, free.disk, f"disk: {on_disk} where results lie"),
        (files, free.files, f"files: {files_there} where results lie; {FEWER_FILES}"),
    ]
    for one in rules:
        memory = f"a job of {one.rule} needs about {one.memory_mb / 1e3:.3g} GB and this machine has"
        smaller = LESS_MEMORY.get(one.rule, "make storage.block smaller")
        shorter = "make predict.job_voxels smaller" if RULES[one.rule].blockwise else "it cannot be shared out"
        time = f"a job of {one.rule} takes {one.job_seconds / 3600:.0f} h, clusters end it by then; {shorter}"
        found += [
            (1e6 * one.memory_mb, free.memory, f"memory: {memory} {free.memory / 1e9:.3g} GB; {smaller}"),
            (one.job_seconds, 3600 * LONG_JOB_HOURS, f"time: {time}"),
        ]
    return [sentence for needed, limit, sentence in found if needed > limit]


def advice_on_blocks(config: Config, layouts: Sequence[VolumeLayout]) -> list[str]:
    """Return whether a watershed in 3-D reads much more than its blocks hold, and which blocks would spare that."""
    if config.segment.method != "watershed" or not layouts:
        return []
    deepest = max(layouts, key=lambda layout: layout.shape[0])
    halo, (z, y, x) = RULES["segment"].halo(config, deepest), deepest.block
    times = {deepest.block: read_over_own(deepest.block, halo, deepest.shape)}
    # deeper blocks of as many voxels that are whole chunks, too
    while y % (2 * deepest.chunk[1]) == 0 and x % (2 * deepest.chunk[2]) == 0 and 4 * z <= deepest.shape[0]:
        z, y, x = 4 * z, y // 2, x // 2
        times[z, y, x] = read_over_own((z, y, x), halo, deepest.shape)
    # the shallowest that will do: a 2-D network takes longer the narrower they are
    better = next(block for block in times if times[block] < WORTH_RECUTTING * min(times.values()))
    around, block = (" x ".join(map(str, one)) for one in (halo, deepest.block))
    advice = (
        f"time: the watershed reads {around} voxels around each block. In blocks of {block} it reads "
        f"{times[deepest.block]:.1f} times the volume; with storage.block: {list(better)} {times[better]:.1f} times"
    )
    return [] if better == deepest.block else [advice]


def read_over_own(block: Index, halo: Index, shape: Index) -> float:
    """Return the voxels that are read per voxel of a block in the midst of a volume.

    >>> read_over_own((16, 1024, 1024), (16, 0, 0), (500, 4096, 4096))
    3.0
    """
    return prod(min(b + 2 * h, n) / min(b, n) for b, h, n in zip(block, halo, shape, strict=True))
