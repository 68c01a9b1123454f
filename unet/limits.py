"""Where a run meets a limit: what does not work is refused before the first job, with what to set instead."""

from math import ceil, prod

from unet.geometry import Index

MOST_SHARDS = 10_000
"""Of a volume: what Snakemake was seen to schedule (benchmarks/scheduling.py); beyond, planning alone takes minutes."""


def too_many_shards(volume: str, shards: int, shape: Index) -> str | None:
    """Why a volume cannot have so many shards, and what to set; None if it can.

    >>> print(too_many_shards("all", 20_000, (10_000, 10_000, 10_000)))
    predict.shard_voxels: volume 'all' would have 20000 shards, and a run is planned with 10000 at most; set it to at \
least 100000000, or to auto
    """
    if shards <= MOST_SHARDS:
        return None
    return (
        f"predict.shard_voxels: volume {volume!r} would have {shards} shards, and a run is planned with {MOST_SHARDS} "
        f"at most; set it to at least {ceil(prod(shape) / MOST_SHARDS)}, or to auto"
    )
