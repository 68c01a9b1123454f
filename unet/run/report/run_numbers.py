"""Collect the numbers that the verdict and the methods paragraph need, from the receipts of a run.

Only receipts that the configuration asks for are read: a folder of results may hold older ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.config.root import Config
from unet.config.segment import SegmentConfig
from unet.config.unused_keys import learnt_volumes
from unet.run.report.next_steps import SMALL_VOXELS, RunNumbers, ScoredVolume, Sweep
from unet.run.report.usual_scores import kind_of_objects
from unet.segmentation.merge_table import load_merge_table
from unet.storage.files import read_json


class Decoding(NamedTuple):
    """The way objects were made, with the settings that the run chose.

    Attributes
    ----------
    segment : settings of the segmentation in force
    threshold : foreground probability above which a voxel is foreground
    agglomeration_threshold : threshold of the agglomeration; None without one
    sweeps : thresholds that were chosen, with the scores of all that were tried
    agglomeration : volume -> scores at each threshold of the agglomeration, where one was chosen
    """

    segment: SegmentConfig
    threshold: float
    agglomeration_threshold: float | None
    sweeps: Sequence[Sweep]
    agglomeration: Mapping[str, Sequence[Mapping[str, float]]]


def decoding(receipts: Path, config: Config) -> Decoding:
    """Return how objects were made.

    Parameters
    ----------
    receipts : folder of the receipts of a run
    config : its configuration
    """
    own = config.segment
    if own.decoder == "auto":
        chosen = read_json(receipts / "choose_decoder" / "all.json")
        own = own.decoded_by(chosen["settings"])
        sweep = _agglomeration_sweep(chosen["thresholds"], chosen["candidates"][0])
        return Decoding(own, _number(own.threshold), _number(own.agglomerate.threshold), [sweep], {})
    threshold, joined = own.threshold, own.agglomerate.threshold
    sweeps: list[Sweep] = []
    agglomeration: dict[str, Any] = {}
    if threshold == "auto":
        found = read_json(receipts / "choose_threshold" / "all.json")
        threshold = found["best"]["threshold"]
        points = [(row["threshold"], row["v_rand"]) for row in found["scores"]]
        sweeps.append(Sweep("segment.threshold", "V_rand", points, threshold))
    if joined == "auto":
        chosen = read_json(receipts / "choose_agglomeration_threshold" / "all.json")
        joined = chosen["best"]["threshold"]
        folder = receipts / "agglomeration_threshold_sweep"
        read = {name: read_json(folder / f"{name}.json") for name in config.evaluate.threshold_volumes}
        agglomeration = {name: one["scores"] for name, one in read.items() if one["voxels"]}
        sweeps.append(_agglomeration_sweep(chosen["thresholds"], chosen["best"]))
    graph = own.method == "watershed" and own.agglomerate.method != "none"
    return Decoding(own, _number(threshold), _number(joined) if graph else None, sweeps, agglomeration)


def _number(threshold: float | str) -> float:
    return float(threshold)


def _agglomeration_sweep(thresholds: Sequence[float], best: Mapping[str, Any]) -> Sweep:
    """Return the VOI at each threshold, from a row of `unet.evaluation.threshold_curve`."""
    points = list(zip(thresholds, best["curve"], strict=True))
    return Sweep("segment.agglomerate.threshold", "VOI", points, best["threshold"])


def scored_volumes(
    scores: Mapping[str, Mapping[str, Any]], config: Config, labels: Mapping[str, Mapping[str, Any]]
) -> list[ScoredVolume]:
    """Return the volumes that have scores, those first from which the network did not learn.

    Parameters
    ----------
    scores : volume -> {score key: number}
    config : configuration of the run
    labels : volume -> receipt of rule `check_labels`
    """
    learnt = learnt_volumes(config)
    found = [
        ScoredVolume(
            name,
            name in learnt,
            kind_of_objects(config.segment.sections_alone, foreground_share(labels.get(name, {}), config)),
            own,
        )
        for name, own in scores.items()
    ]
    return sorted(found, key=lambda one: one.learnt)


def foreground_share(checked: Mapping[str, Any], config: Config) -> float | None:
    """Return the share of the annotated voxels in the class that makes objects; None where it is not known."""
    counts = checked.get("class_voxels") or {}
    if not sum(counts.values()):
        return None
    name = config.segment.main_class or list(counts)[-1]
    return counts[name] / sum(counts.values()) if name in counts else None


def object_shares(sizes: NDArray[np.int64]) -> tuple[float, float]:
    """Return the share of all object voxels that the largest object has, and the share of small objects.

    >>> object_shares(np.array([10, 30, 60]))
    (0.6, 0.6666666666666666)
    """
    if not len(sizes):
        return 0.0, 0.0
    return float(sizes.max() / sizes.sum()), float((sizes < SMALL_VOXELS).mean())


def run_numbers(
    results: Path,
    config: Config,
    objects: Mapping[str, int],
    scored: Sequence[ScoredVolume],
    decoded: Decoding,
    training: Sequence[Mapping[str, Any]],
) -> RunNumbers:
    """Return all numbers that the rules of the verdict look at.

    Parameters
    ----------
    results : folder of everything that the run wrote
    config : its configuration
    objects : volume -> objects that are stored
    scored : volumes that have scores
    decoded : how objects were made
    training : records of ``training.jsonl``
    """
    tables = {name: results / "volumes" / name / "segmentation-tables" / "merge" for name in objects}
    shares = {name: object_shares(load_merge_table(folder).sizes) for name, folder in tables.items()}
    losses = [(record["step"], record["validation_loss"]) for record in training if "validation_loss" in record]
    border = config.weights.w0 if config.model.checkpoint is None and config.model.output == "classes" else None
    return RunNumbers(
        objects=objects,
        largest_share={name: largest for name, (largest, _) in shares.items()},
        small_share={name: small for name, (_, small) in shares.items()},
        scored=scored,
        method=config.segment.method,
        affinities=config.model.output == "affinities",
        min_size=config.segment.min_size,
        border_weight=border,
        sweeps=decoded.sweeps,
        validation_losses=[loss for _, loss in sorted(dict(losses).items())],
    )
