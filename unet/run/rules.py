"""The rules of the workflow as one table: volumes, whether block ranges share a volume, halo, stores written, and cost.

The Snakefile's inputs (`unet.run.inputs`), the plan (`unet.run.plan`), `verify`, the removal of results and the tests
read `RULES`. A test compares the table with `workflow/rules/*.smk`; others compare the job counts and the stores with a
real run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from operator import attrgetter
from typing import Any, NamedTuple

from unet.config.root import Config
from unet.geometry.block_ranges import block_range_count, voxels_per_job
from unet.geometry.box import Index
from unet.run import rule_halos, rule_volumes
from unet.run.merge_parts import merge_tree
from unet.volumes.layout import VolumeLayout


@dataclass(frozen=True)
class Cost:
    """The cost of a job without its network.

    Parameters
    ----------
    process_mb : int
        Memory of the process before it reads a voxel, in MB.
    start : float
        Processor seconds before the job reads a voxel: mostly the import of modules.
    rate : float
        Voxels per second and processor; infinite where the job reads none.
    threads : int
        Threads of a job, as its rule says; as many blocks or sections are worked on at once.
    with_halo : bool
        Whether `rate` and the bytes of a block count the voxels of its halo too.
    block_bytes, raw_copies, label_copies : float
        Bytes held per voxel of a block at work; copies of its grey values and of its labels, each in their own type.
    blocks_at_once : int, optional
        Blocks at work where it is not one per thread.
    section_bytes : float
        Bytes held per pixel of a section at work.
    fragment_bytes, solved_fragment_bytes : float
        Bytes held per fragment of the volume, and of those that are solved together.
    """

    process_mb: int = 60
    start: float = 0.5
    rate: float = float("inf")
    threads: int = 1
    with_halo: bool = False
    block_bytes: float = 0
    raw_copies: float = 0
    label_copies: float = 0
    blocks_at_once: int | None = None
    section_bytes: float = 0
    fragment_bytes: float = 0
    solved_fragment_bytes: float = 0


@dataclass(frozen=True)
class Rule:
    """One rule of the workflow.

    Parameters
    ----------
    cost : Cost
        Cost of one job.
    volumes : callable
        Return the volumes that the rule works on, in a run from nothing to the report. None where the rule runs only
        on demand.
    per_volume : bool
        Whether each volume has jobs of its own. Otherwise one job is about all of `volumes`, and there is none without.
    blockwise : bool
        Whether the block ranges of a volume are one job each.
    stores : tuple of str
        Stores that the jobs write, without the suffix; ``{store}`` stands for ``segmentation`` or ``labels``.
    halo : callable
        Return the voxels (z, y, x) that a job reads around its blocks, so that it needs the block ranges there.
    label_volumes : callable, optional
        Return the volumes whose instance labels the rule makes out of annotated classes (store ``labels``). Rules that
        have it make the store ``segmentation`` for `volumes`.
    together : callable
        Return the blocks of a volume that a job of a blockwise rule takes together.
    jobs : callable, optional
        Return the number of jobs on a volume, where it is neither one nor one per block range.
    """

    cost: Cost
    volumes: Callable[[Config], list[str]] | None = None
    per_volume: bool = True
    blockwise: bool = False
    stores: tuple[str, ...] = ()
    halo: Callable[[Config, VolumeLayout], Index] = rule_halos.none
    label_volumes: Callable[[Config], list[str]] | None = None
    together: Callable[[VolumeLayout], int] = lambda layout: 1
    jobs: Callable[[Config, VolumeLayout], int] | None = None

    def worked_on(self, config: Config) -> list[str]:
        """Return the volumes that the rule works on in a run; none where it runs only on demand."""
        return self.volumes(config) if self.volumes else []

    def targets(self, config: Config) -> list[tuple[str | None, str | None]]:
        """Return (volume, store) of each target; None where a job is about several volumes, or a rule has one store."""
        volumes = self.worked_on(config)
        if not self.per_volume:
            return [(None, None)] if volumes else []
        if self.label_volumes is None:
            return [(name, None) for name in volumes]
        labels = [(name, "labels") for name in self.label_volumes(config)]
        return [*labels, *((name, "segmentation") for name in volumes)]

    def job_count(self, config: Config, layout: VolumeLayout) -> int:
        """Return the number of jobs on a volume: one per block range where the rule is blockwise."""
        if self.jobs is not None:
            return self.jobs(config, layout)
        if not self.blockwise:
            return 1
        voxels = voxels_per_job(layout.shape, config.predict.job_voxels)
        return block_range_count(layout.grid, voxels, self.together(layout))

    def share_of_job(self, config: Config, layout: VolumeLayout) -> int:
        """Return the voxels of a volume that a job has on average; they need not be whole blocks."""
        return ceil(layout.voxels / max(1, self.job_count(config, layout)))


class JobCount(NamedTuple):
    """Number of jobs of a rule on a volume; `volume` is None where a job is about several."""

    rule: str
    volume: str | None
    jobs: int
    store: str | None = None


def job_counts(config: Config, layouts: Mapping[str, VolumeLayout]) -> list[JobCount]:
    """Count the jobs of a run from nothing to the report, in the order of the chain."""
    return [
        JobCount(name, volume, rule.job_count(config, layouts[volume]) if volume else 1, store)
        for name, rule in RULES.items()
        for volume, store in rule.targets(config)
        if not volume or rule.job_count(config, layouts[volume])
    ]


def names_of_stores(rule: str) -> list[str]:
    """Return the names of all stores that a rule can write.

    >>> names_of_stores("segment")
    ['labels-fragments', 'segmentation-fragments', 'labels-tables', 'segmentation-tables']
    """
    kinds = ("labels", "segmentation")
    return list(dict.fromkeys(name.format(store=kind) for name in RULES[rule].stores for kind in kinds))


def result_rules() -> list[str]:
    """Return the blockwise rules whose stores are results: images, but no fragments or tables on the way to them."""
    return [name for name, rule in RULES.items() if rule.blockwise and _has_images(rule)]


def intermediate_rules() -> list[str]:
    """Return the blockwise rules of a run that store fragments and tables alone."""
    return [
        name
        for name, rule in RULES.items()
        if rule.blockwise and rule.volumes and rule.stores and not _has_images(rule)
    ]


def _has_images(rule: Rule) -> bool:
    return any(not store.endswith(("-fragments", "-tables")) for store in rule.stores)


def cost_of(rule: str, config: Config) -> Cost:
    """Return the cost of a rule with this configuration."""
    if rule == "segment" and config.segment.method == "watershed":
        return WATERSHED
    if rule in ("merge", "merge_part") and config.segment.has_graph:
        return SOLVED
    cost = RULES[rule].cost
    if config.model.output == "affinities" and rule in OF_AFFINITIES:
        cost = replace(cost, **OF_AFFINITIES[rule])
    return replace(cost, rate=cost.rate / PER_CANDIDATE[rule](config)) if rule in PER_CANDIDATE else cost


def _sets_of_fragments(config: Config) -> int:
    return len(config.segment.candidates.fragments)


def _graphs(config: Config) -> int:
    reaches = config.segment.candidates.offsets_for(config.model.output == "affinities")
    return _sets_of_fragments(config) * len(reaches)


def _decoders(config: Config) -> int:
    return len(config.segment.candidates.decoders(config.model.output == "affinities"))


def _parts(config: Config, layout: VolumeLayout) -> int:
    """Return the parts of a volume that are merged before the last one; none where one job merges it."""
    return len(list(merge_tree(config, layout).parts())) - 1


RULES = {
    "sample": Rule(Cost(220, start=1, rate=0.3e6), rule_volumes.sampled, per_volume=False),
    "survey": Rule(Cost(80, start=0.6), rule_volumes.used),
    "check_model": Rule(Cost(275, start=2), rule_volumes.used),
    "ingest": Rule(
        Cost(88, start=0.7, rate=70e6, threads=2, raw_copies=7, label_copies=2.4),
        rule_volumes.used,
        blockwise=True,
        stores=("raw", "mask", "labels", "classes"),
        together=attrgetter("ingested_together"),
    ),
    "histogram": Rule(
        Cost(95, start=0.6, rate=130e6, threads=2, block_bytes=2.5, raw_copies=2.6),
        rule_volumes.used,
        blockwise=True,
        halo=rule_halos.histogram,
    ),
    "intensity_statistics": Rule(Cost(75, start=0.6), rule_volumes.used),
    "targets": Rule(
        Cost(75, start=0.65, rate=27e6, threads=2, block_bytes=3.2, label_copies=3),
        rule_volumes.labelled,
        blockwise=True,
        stores=("targets",),
    ),
    "check_labels": Rule(
        Cost(125, start=1.5, rate=25e6, threads=2, block_bytes=10, label_copies=2.5), rule_volumes.annotated
    ),
    "weight_map": Rule(
        Cost(98, start=0.8, rate=10e6, threads=2, block_bytes=15, label_copies=2),
        rule_volumes.learning,
        blockwise=True,
        stores=("weights",),
    ),
    "train": Rule(Cost(420, start=3.5, threads=8), rule_volumes.learning, per_volume=False),
    "augmentation_preview": Rule(Cost(400, start=3)),
    "predict": Rule(
        Cost(0, start=4.5, rate=50e6, threads=4), rule_volumes.predicted, blockwise=True, stores=("probability",)
    ),
    "threshold_sweep": Rule(
        Cost(92, start=0.5, rate=0.55e6, threads=2, section_bytes=82), rule_volumes.threshold_swept
    ),
    "choose_threshold": Rule(Cost(60, start=0.3), rule_volumes.choosing_threshold, per_volume=False),
    "candidate_fragments": Rule(
        Cost(100, start=0.8, rate=6.5e6, threads=2, with_halo=True, block_bytes=40),
        rule_volumes.choosing_decoder,
        blockwise=True,
        stores=("candidate-fragments", "candidate-tables"),
        halo=rule_halos.segment,
    ),
    "candidate_graph": Rule(
        Cost(80, start=0.4, rate=8e6, threads=2, block_bytes=60),
        rule_volumes.choosing_decoder,
        blockwise=True,
        stores=("candidate-tables",),
        halo=rule_halos.region_graph,
    ),
    "decoder_sweep": Rule(
        Cost(90, start=0.5, rate=60e6, block_bytes=70, fragment_bytes=360), rule_volumes.choosing_decoder
    ),
    "choose_decoder": Rule(Cost(60, start=0.3), rule_volumes.choosing_decoder, per_volume=False),
    "segment": Rule(
        Cost(102, start=0.8, rate=70e6, threads=2, block_bytes=10.5),
        rule_volumes.predicted,
        blockwise=True,
        stores=("{store}-fragments", "{store}-tables"),
        halo=rule_halos.segment,
        label_volumes=rule_volumes.with_annotated_classes,
    ),
    "region_graph": Rule(
        Cost(80, start=0.4, rate=8e6, threads=2, block_bytes=44),
        rule_volumes.with_graph,
        blockwise=True,
        stores=("segmentation-tables",),
        halo=rule_halos.region_graph,
    ),
    "agglomeration_threshold_sweep": Rule(
        Cost(90, start=0.5, rate=8e6, block_bytes=70, fragment_bytes=360), rule_volumes.choosing_agglomeration
    ),
    "choose_agglomeration_threshold": Rule(Cost(60, start=0.3), rule_volumes.choosing_agglomeration, per_volume=False),
    "merge_part": Rule(
        Cost(95, start=0.65, rate=1e9, solved_fragment_bytes=160),
        rule_volumes.predicted,
        stores=("{store}-tables",),
        label_volumes=rule_volumes.with_annotated_classes,
        jobs=_parts,
    ),
    "merge": Rule(
        Cost(95, start=0.65, rate=1e9, solved_fragment_bytes=160),
        rule_volumes.predicted,
        stores=("{store}-tables",),
        label_volumes=rule_volumes.with_annotated_classes,
    ),
    "relabel": Rule(
        Cost(95, start=0.75, rate=75e6, threads=2, block_bytes=6),
        rule_volumes.predicted,
        blockwise=True,
        stores=("{store}",),
        label_volumes=rule_volumes.with_annotated_classes,
    ),
    "suspected_merges": Rule(
        Cost(95, start=0.8, rate=15e6, block_bytes=34, blocks_at_once=1, fragment_bytes=160, solved_fragment_bytes=300),
        rule_volumes.searched_for_merges,
    ),
    "measure": Rule(
        Cost(165, start=0.9, rate=22e6, threads=2, block_bytes=15),
        rule_volumes.measured,
        blockwise=True,
        stores=("segmentation-tables",),
        halo=rule_halos.next_voxel,
    ),
    "objects": Rule(
        Cost(140, start=1.5, rate=300e6, threads=2, fragment_bytes=600), rule_volumes.measured, per_volume=False
    ),
    "surface_faces": Rule(
        Cost(90, start=0.8, rate=20e6, threads=2, block_bytes=20),
        blockwise=True,
        stores=("segmentation-tables",),
        halo=rule_halos.next_voxel,
    ),
    "meshes": Rule(Cost(400, start=1.5, rate=5e6)),
    "skeletons": Rule(Cost(2000, start=3, rate=1e6)),
    "evaluate": Rule(
        Cost(140, start=2.5, rate=1.2e6, threads=2, block_bytes=32, blocks_at_once=1), rule_volumes.scored
    ),
    "report": Rule(Cost(220, start=3), rule_volumes.used, per_volume=False),
    "export": Rule(Cost(3000, start=5, threads=4)),
    "export_tiff": Rule(Cost(700, start=1, rate=15e6), per_volume=False),
    "export_precomputed": Rule(Cost(900, start=1, rate=8e6, threads=2), per_volume=False),
    "export_webknossos": Rule(Cost(900, start=1, rate=8e6, threads=2), per_volume=False),
    "view": Rule(Cost(150, start=2)),
    "plan": Rule(Cost(600, start=5)),
    "verify": Rule(Cost(600, start=3, rate=10e6, threads=4, block_bytes=12)),
}
"""By name, in the order of the chain.

Costs were measured on generated cells, on ISBI 2012 and on the sample (2026-11-25, as the jobs counted themselves). The
cells fill 32 x 2048 x 2048 voxels and 1 Gvoxel, in blocks of 16 x 1024 x 1024. Bytes are a little more than the largest
of these. `benchmarks/plan.py` compares them with new runs.
"""
WATERSHED = Cost(100, start=0.8, rate=6.5e6, threads=2, with_halo=True, block_bytes=34)
"""Cost of `segment` where fragments are basins: halos and distances (fib25, and benchmarks/segmentation.py)."""
PER_CANDIDATE: dict[str, Callable[[Config], int]] = {
    "candidate_fragments": _sets_of_fragments,
    "candidate_graph": _graphs,
    "decoder_sweep": _decoders,
}
"""Rules that work every voxel, or every fragment, once per candidate: the number of candidates."""
SOLVED = Cost(90, start=0.8, rate=15e6, solved_fragment_bytes=360)
"""Cost of `merge_part` and `merge` where a region graph is solved: 60 bytes per edge, 6 edges per fragment, and the
fragment itself (benchmarks/agglomeration.py; fib25). For holes of components it is more than is needed."""
OF_AFFINITIES: dict[str, dict[str, Any]] = {
    "candidate_graph": {"rate": 18e6, "block_bytes": 78},
    "decoder_sweep": {"rate": 300e6},
    "region_graph": {"block_bytes": 62},
    "suspected_merges": {"rate": 10e6, "block_bytes": 42},
}
"""What differs from `RULES` for affinities: 64 sections of fib25 at nine offsets, in blocks of 32 x 256 x 256
(2026-11-27). The graphs of one set of fragments read their blocks once."""
