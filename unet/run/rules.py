"""The rules of the workflow as one table: volumes, whether block ranges share a volume, halo, stores written, and cost.

The Snakefile's inputs (`unet.run.inputs`), the plan (`unet.run.plan`), `verify`, the removal of results and the tests
read `RULES`. A test compares the table with `workflow/rules/*.smk`; others compare the job counts and the stores with a
real run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, NamedTuple

from unet.config.root import Config
from unet.geometry.block_ranges import block_range_count, voxels_per_job
from unet.geometry.box import Index
from unet.geometry.offsets import offsets_in_voxels
from unet.volumes.constant_regions import HALO
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
    block_bytes, raw_copies, label_copies : float
        Bytes held per voxel of a block at work; copies of its grey values and of its labels, each in their own type.
    blocks_at_once : int, optional
        Blocks at work where it is not one per thread.
    section_bytes : float
        Bytes held per pixel of a section at work.
    fragment_bytes, layer_fragment_bytes, solved_fragment_bytes : float
        Bytes held per fragment of the volume, of its largest layer of blocks, and of those that are solved together.
    """

    process_mb: int = 60
    start: float = 0.5
    rate: float = float("inf")
    threads: int = 1
    block_bytes: float = 0
    raw_copies: float = 0
    label_copies: float = 0
    blocks_at_once: int | None = None
    section_bytes: float = 0
    fragment_bytes: float = 0
    layer_fragment_bytes: float = 0
    solved_fragment_bytes: float = 0


def _measure_halo(config: Config, layout: VolumeLayout) -> Index:
    return (1, 1, 1)


def _no_halo(config: Config, layout: VolumeLayout) -> Index:
    return (0, 0, 0)


def _histogram_halo(config: Config, layout: VolumeLayout) -> Index:
    return HALO


def _segment_halo(config: Config, layout: VolumeLayout) -> Index:
    # the interior of a voxel depends on the affinity of the voxel before
    before = [int(config.model.output == "affinities" and axis in config.segment.axes) for axis in range(3)]
    if config.segment.method != "watershed":
        return tuple(before)
    # imported here, since every job reads the Snakefile
    from unet.segmentation.watershed import WatershedParameters

    halos = [WatershedParameters.of(one, layout.voxel_size_nm).halo for one in config.segment.fragment_settings]
    return tuple(max(along) + more for along, more in zip(zip(*halos, strict=True), before, strict=True))


def _region_graph_halo(config: Config, layout: VolumeLayout) -> Index:
    """Return the next voxel along each axis; along z also behind the sections that are skipped.

    For affinities it is the largest component of the offsets along each axis.
    """
    if config.model.output == "affinities":
        offsets = offsets_in_voxels(config.model.offsets, config.model.offset_unit, layout.voxel_size_nm)
        return tuple(max(abs(offset[axis]) for offset in offsets) for axis in range(3))
    return (1 + (config.segment.max_section_gap or 0), 1, 1)


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
    """

    cost: Cost
    volumes: Callable[[Config], list[str]] | None = None
    per_volume: bool = True
    blockwise: bool = False
    stores: tuple[str, ...] = ()
    halo: Callable[[Config, VolumeLayout], Index] = _no_halo
    label_volumes: Callable[[Config], list[str]] | None = None
    together: Callable[[VolumeLayout], int] = lambda layout: 1

    def targets(self, config: Config) -> list[tuple[str | None, str | None]]:
        """Return (volume, store) of each target; None where a job is about several volumes, or a rule has one store."""
        volumes = self.volumes(config) if self.volumes else []
        if not self.per_volume:
            return [(None, None)] if volumes else []
        if self.label_volumes is None:
            return [(name, None) for name in volumes]
        labels = [(name, "labels") for name in self.label_volumes(config)]
        return [*labels, *((name, "segmentation") for name in volumes)]

    def job_count(self, config: Config, layout: VolumeLayout) -> int:
        """Return the number of jobs on a volume: one per block range where the rule is blockwise."""
        if not self.blockwise:
            return 1
        voxels = voxels_per_job(layout.shape, config.predict.job_voxels)
        return block_range_count(layout.grid, voxels, self.together(layout))


class JobCount(NamedTuple):
    """How many jobs a rule has on a volume; `volume` is None where a job is about several."""

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
    between = ("-fragments", "-tables")
    return [
        name
        for name, rule in RULES.items()
        if rule.blockwise and any(not store.endswith(between) for store in rule.stores)
    ]


def cost_of(rule: str, config: Config) -> Cost:
    """Return the cost of a rule with this configuration."""
    if rule == "segment" and config.segment.method == "watershed":
        return WATERSHED
    if rule == "merge" and config.segment.has_graph:
        return SOLVED
    cost = RULES[rule].cost
    if config.model.output == "affinities" and rule in OF_AFFINITIES:
        cost = replace(cost, **OF_AFFINITIES[rule])
    return replace(cost, rate=cost.rate / PER_CANDIDATE[rule](config)) if rule in PER_CANDIDATE else cost


_used = attrgetter("used_volumes")
_labelled = attrgetter("labelled_volumes")
_annotated = attrgetter("annotated_volumes")
_learning = attrgetter("learning_volumes")
_predicted = attrgetter("predict.volumes")
_scored = attrgetter("evaluate.volumes")


def _sampled(config: Config) -> list[str]:
    """Volumes that the cost of the sample is counted by; none where no volume is a part of the sample."""
    sampled = [name for name in config.used_volumes if config.is_sample(config.volumes[name])]
    return (config.learning_volumes or sampled) if sampled else []


def _measured(config: Config) -> list[str]:
    return config.predict.volumes if config.objects.in_every_run else []


def _with_annotated_classes(config: Config) -> list[str]:
    return [name for name in config.labelled_volumes if config.volumes[name].label_kind != "instances"]


def _with_graph(config: Config) -> list[str]:
    return config.predict.volumes if config.segment.has_graph else []


def _searched_for_merges(config: Config) -> list[str]:
    return config.predict.volumes if config.segment.suspected_merges is not None else []


def _choosing_threshold(config: Config) -> list[str]:
    """Volumes that choose the threshold, which the segmentation needs (`auto`) or the evaluation compares."""
    if config.model.output == "affinities":  # have no threshold of a class
        return []
    needed = config.segment.threshold == "auto" or config.evaluate.volumes
    return config.evaluate.threshold_volumes if needed else []


def _threshold_swept(config: Config) -> list[str]:
    scored = config.evaluate.volumes if config.model.output == "classes" else []
    return list(dict.fromkeys([*scored, *_choosing_threshold(config)]))


def _choosing_agglomeration(config: Config) -> list[str]:
    auto = config.segment.has_graph and config.segment.agglomerate.threshold == "auto"
    return config.evaluate.threshold_volumes if auto else []


def _choosing_decoder(config: Config) -> list[str]:
    return config.evaluate.threshold_volumes if config.segment.decoder == "auto" else []


def _sets_of_fragments(config: Config) -> int:
    return len(config.segment.candidates.fragments)


def _graphs(config: Config) -> int:
    reaches = config.segment.candidates.offsets_for(config.model.output == "affinities")
    return _sets_of_fragments(config) * len(reaches)


def _decoders(config: Config) -> int:
    return len(config.segment.candidates.decoders(config.model.output == "affinities"))


OPEN = 0.2
"""Share of the fragments of components that lie at a face between two layers of blocks (16 sections of generated
cells)."""
RULES = {
    "sample": Rule(Cost(220, start=1, rate=0.3e6), _sampled, per_volume=False),
    "survey": Rule(Cost(80, start=0.6), _used),
    "check_model": Rule(Cost(275, start=2), _used),
    "ingest": Rule(
        Cost(88, start=0.7, rate=70e6, threads=2, raw_copies=7, label_copies=2.4),
        _used,
        blockwise=True,
        stores=("raw", "mask", "labels", "classes"),
        together=attrgetter("ingested_together"),
    ),
    "histogram": Rule(
        Cost(95, start=0.6, rate=130e6, threads=2, block_bytes=2.5, raw_copies=2.6),
        _used,
        blockwise=True,
        halo=_histogram_halo,
    ),
    "intensity_statistics": Rule(Cost(75, start=0.6), _used),
    "targets": Rule(
        Cost(75, start=0.65, rate=27e6, threads=2, block_bytes=3.2, label_copies=3),
        _labelled,
        blockwise=True,
        stores=("targets",),
    ),
    "check_labels": Rule(Cost(125, start=1.5, rate=25e6, threads=2, block_bytes=10, label_copies=2.5), _annotated),
    "weight_map": Rule(
        Cost(98, start=0.8, rate=10e6, threads=2, block_bytes=15, label_copies=2),
        _learning,
        blockwise=True,
        stores=("weights",),
    ),
    "train": Rule(Cost(420, start=3.5, threads=8), _learning, per_volume=False),
    "augmentation_preview": Rule(Cost(400, start=3)),
    "predict": Rule(Cost(0, start=4.5, rate=50e6, threads=4), _predicted, blockwise=True, stores=("probability",)),
    "threshold_sweep": Rule(Cost(92, start=0.5, rate=0.55e6, threads=2, section_bytes=82), _threshold_swept),
    "choose_threshold": Rule(Cost(60, start=0.3), _choosing_threshold, per_volume=False),
    "candidate_fragments": Rule(
        Cost(100, start=0.8, rate=6.5e6, threads=2, block_bytes=40),
        _choosing_decoder,
        blockwise=True,
        stores=("candidate-fragments", "candidate-tables"),
        halo=_segment_halo,
    ),
    "candidate_graph": Rule(
        Cost(80, start=0.4, rate=8e6, threads=2, block_bytes=60),
        _choosing_decoder,
        blockwise=True,
        stores=("candidate-tables",),
        halo=_region_graph_halo,
    ),
    "decoder_sweep": Rule(Cost(90, start=0.5, rate=60e6, block_bytes=70, fragment_bytes=360), _choosing_decoder),
    "choose_decoder": Rule(Cost(60, start=0.3), _choosing_decoder, per_volume=False),
    "segment": Rule(
        Cost(102, start=0.8, rate=70e6, threads=2, block_bytes=10.5),
        _predicted,
        blockwise=True,
        stores=("{store}-fragments", "{store}-tables"),
        halo=_segment_halo,
        label_volumes=_with_annotated_classes,
    ),
    "region_graph": Rule(
        Cost(80, start=0.4, rate=8e6, threads=2, block_bytes=44),
        _with_graph,
        blockwise=True,
        stores=("segmentation-tables",),
        halo=_region_graph_halo,
    ),
    "agglomeration_threshold_sweep": Rule(
        Cost(90, start=0.5, rate=8e6, block_bytes=70, fragment_bytes=360), _choosing_agglomeration
    ),
    "choose_agglomeration_threshold": Rule(Cost(60, start=0.3), _choosing_agglomeration, per_volume=False),
    "merge": Rule(
        Cost(95, start=0.65, rate=1e9, fragment_bytes=85 * OPEN, layer_fragment_bytes=160),
        _predicted,
        stores=("{store}-tables",),
        label_volumes=_with_annotated_classes,
    ),
    "relabel": Rule(
        Cost(95, start=0.75, rate=75e6, threads=2, block_bytes=6),
        _predicted,
        blockwise=True,
        stores=("{store}",),
        label_volumes=_with_annotated_classes,
    ),
    "suspected_merges": Rule(
        Cost(95, start=0.8, rate=15e6, block_bytes=34, blocks_at_once=1, fragment_bytes=160, solved_fragment_bytes=300),
        _searched_for_merges,
    ),
    "measure": Rule(
        Cost(165, start=0.9, rate=22e6, threads=2, block_bytes=15),
        _measured,
        blockwise=True,
        stores=("segmentation-tables",),
        halo=_measure_halo,
    ),
    "objects": Rule(Cost(140, start=1.5, rate=300e6, threads=2, fragment_bytes=600), _measured, per_volume=False),
    "surface_faces": Rule(
        Cost(90, start=0.8, rate=20e6, threads=2, block_bytes=20),
        blockwise=True,
        stores=("segmentation-tables",),
        halo=_measure_halo,
    ),
    "meshes": Rule(Cost(400, start=1.5, rate=5e6)),
    "skeletons": Rule(Cost(2000, start=3, rate=1e6)),
    "evaluate": Rule(Cost(140, start=2.5, rate=1.2e6, threads=2, block_bytes=32, blocks_at_once=1), _scored),
    "report": Rule(Cost(220, start=3), _used, per_volume=False),
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
WATERSHED = Cost(100, start=0.8, rate=6.5e6, threads=2, block_bytes=34)
"""Cost of `segment` where fragments are basins: halos and distances (fib25, and benchmarks/segmentation.py). The rate
counts all voxels that are read, those of halos included."""
PER_CANDIDATE: dict[str, Callable[[Config], int]] = {
    "candidate_fragments": _sets_of_fragments,
    "candidate_graph": _graphs,
    "decoder_sweep": _decoders,
}
"""Rules that work every voxel, or every fragment, once per candidate: the number of candidates."""
SOLVED = Cost(90, start=0.8, rate=15e6, fragment_bytes=130, solved_fragment_bytes=230)
"""Cost of `merge` where a region graph is solved in parts: 60 bytes per edge, 6 edges per fragment, and the fragment
itself (benchmarks/agglomeration.py; fib25). For holes of components it is more than is needed."""
OF_AFFINITIES: dict[str, dict[str, Any]] = {
    "candidate_graph": {"rate": 18e6, "block_bytes": 78},
    "decoder_sweep": {"rate": 300e6},
    "region_graph": {"block_bytes": 62},
    "suspected_merges": {"rate": 10e6, "block_bytes": 42},
}
"""What differs from `RULES` for affinities: 64 sections of fib25 at nine offsets, in blocks of 32 x 256 x 256
(2026-11-27). The graphs of one set of fragments read their blocks once."""
