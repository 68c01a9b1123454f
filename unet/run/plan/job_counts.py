"""Which jobs a run has, of each rule on each volume. It follows `workflow/rules/*.smk`; a test counts them there."""

from collections.abc import Mapping
from typing import NamedTuple

from unet.config.root import Config


class Jobs(NamedTuple):
    """The jobs of a rule on a volume; `volume` None where they are about several."""

    rule: str
    volume: str | None
    jobs: int
    store: str | None = None


def jobs_of_run(config: Config, block_ranges: Mapping[str, int], makes_sample: bool = False) -> list[Jobs]:
    """All jobs of a run from nothing to the report, in the order of the chain.

    Parameters
    ----------
    block_ranges : mapping
        How many a volume has, by its name.
    makes_sample : bool
        Whether the sample volume is among the sources.
    """
    learning, labelled, segment = config.learning_volumes, config.labelled_volumes, config.segment
    used, predicted, scored = config.used_volumes, config.predict.volumes, config.evaluate.volumes
    from_classes = [name for name in labelled if config.volumes[name].label_kind != "instances"]
    choosing = config.evaluate.threshold_volumes
    auto = segment.threshold == "auto"
    auto_graph = segment.has_graph and segment.agglomerate.threshold == "auto"
    swept = list(dict.fromkeys([*scored, *(choosing if auto or scored else [])]))
    jobs = [Jobs("sample", None, 1)] if makes_sample else []
    for rule, names, store in (
        ("survey", used, None),
        ("check_model", used, None),
        ("ingest", used, None),
        ("histogram", used, None),
        ("intensity_statistics", used, None),
        ("segment", from_classes, "labels"),
        ("merge", from_classes, "labels"),
        ("relabel", from_classes, "labels"),
        ("targets", labelled, None),
        ("check_labels", config.annotated_volumes, None),
        ("weight_map", learning, None),
        ("train", [None] if learning else [], None),
        ("predict", predicted, None),
        ("threshold_sweep", swept, None),
        ("choose_threshold", [None] if choosing and (auto or scored) else [], None),
        ("segment", predicted, "segmentation"),
        ("region_graph", predicted if segment.has_graph else [], None),
        ("agglomeration_threshold_sweep", choosing if auto_graph else [], None),
        ("choose_agglomeration_threshold", [None] if auto_graph else [], None),
        ("merge", predicted, "segmentation"),
        ("relabel", predicted, "segmentation"),
        ("evaluate", scored, None),
        ("report", [None], None),
    ):
        blockwise = rule in BLOCKWISE
        jobs += [Jobs(rule, name, block_ranges[name] if blockwise and name else 1, store) for name in names]
    return jobs


BLOCKWISE = {"ingest", "histogram", "targets", "weight_map", "predict", "segment", "region_graph", "relabel"}
"""Rules that share a volume out."""
