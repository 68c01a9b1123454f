"""The scores of the report: a few with a reading aid, and all of them with their definitions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from unet.run.report.usual_scores import Kind


class Score(NamedTuple):
    """A score: its key in the evaluation, its name, its definition in one line, and the better direction, ↑ or ↓."""

    key: str
    name: str
    definition: str
    better: str = ""


SCORES = (
    # of the stored objects
    Score("segmentation_v_rand", "V_rand, segmentation", "Rand F-score of stored objects, by section", "↑"),
    Score("segmentation_v_info", "V_info, segmentation", "information F-score of stored objects, by section", "↑"),
    Score("adapted_rand_error", "Adapted Rand error", "1 − F-score of pairs of voxels in one object", "↓"),
    Score("voi_split", "VOI split", "H(segmentation | truth) in bits: true objects that were split", "↓"),
    Score("voi_merge", "VOI merge", "H(truth | segmentation) in bits: true objects that were merged", "↓"),
    Score("objects", "Objects", "predicted objects in the annotated voxels"),
    Score("true_objects", "True objects", "labelled objects"),
    Score("split_errors", "Splits", "predicted objects per true object, beyond the first", "↓"),
    Score("merge_errors", "Merges", "true objects per predicted object, beyond the first", "↓"),
    Score("average_precision_50", "Average precision, 0.5", "TP / (TP + FP + FN) at IoU > 0.5", "↑"),
    Score("mean_average_precision", "Average precision, mean", "over IoU 0.5, 0.55, ... 0.95", "↑"),
    Score("cremi_score", "CREMI score", "√(VOI · adapted Rand error), 25 nm along true borders ignored", "↓"),
    Score("cremi_adapted_rand_error", "Adapted Rand error, CREMI", "without 25 nm along true borders", "↓"),
    Score("cremi_voi_split", "VOI split, CREMI", "without 25 nm along true borders", "↓"),
    Score("cremi_voi_merge", "VOI merge, CREMI", "without 25 nm along true borders", "↓"),
    Score("erl_nm", "Expected run length, nm", "length of true skeleton followed until the first error", "↑"),
    Score("erl_perfect_nm", "Expected run length, perfect, nm", "expected run length of a segmentation without errors"),
    Score("skeletons", "Skeletons", "skeletons of true neurons in the volume"),
    Score("skeleton_nm", "Length of skeletons, nm", "sum over the skeletons, in the volume"),
    Score("split_edges", "Split edges", "edges of skeletons between two segments", "↓"),
    Score("omitted_edges", "Omitted edges", "edges of skeletons with a node in no segment", "↓"),
    Score("merging_segments", "Merging segments", "segments with 100 nm or more of each of several skeletons", "↓"),
    Score("skeleton_nodes_outside", "Nodes outside", "nodes outside the volume, left out with their edges"),
    # of thresholding the probability, as the ISBI challenge and the paper score; not of what is stored
    Score("threshold", "Threshold", "probability above which a pixel counts as foreground"),
    Score("v_rand", "V_rand, thresholding", "foreground-restricted Rand F-score of the thinned cells (ISBI 2012)", "↑"),
    Score("v_info", "V_info, thresholding", "foreground-restricted information F-score, same tables (ISBI 2012)", "↑"),
    Score("best_v_rand", "V_rand, best step", "the highest over thresholds in steps of 0.1", "↑"),
    Score("best_v_info", "V_info, best step", "at the same threshold", "↑"),
    Score("best_step", "Best step", "the threshold in steps of 0.1 with the highest V_rand"),
    Score("fine_v_rand", "V_rand, fine sweep", "the highest over finer thresholds, up to 0.98", "↑"),
    Score("fine_v_info", "V_info, fine sweep", "at the same threshold", "↑"),
    Score("fine_threshold", "Best fine threshold", "the finer threshold with the highest V_rand"),
    Score("rand_error", "Rand error", "1 − F-score of pairs of pixels, not thinned (U-Net paper)", "↓"),
    Score("warping_error", "Warping error", "share of pixels that differ after warping (Jain 2010)", "↓"),
    Score("warping_splits_and_mergers", "Warping, splits + mergers", "clusters of such pixels over all pixels", "↓"),
    # of the classes
    Score("pixel_error", "Pixel error", "share of labelled pixels whose most probable class is wrong", "↓"),
    Score("foreground_iou", "Foreground IoU", "intersection over union of the two foregrounds", "↑"),
    Score("mean_iou", "Mean IoU", "mean over the classes of the intersection over union of each", "↑"),
)

KEY_SCORES: Mapping[Kind, tuple[str, ...]] = {
    "sections": ("segmentation_v_rand", "segmentation_v_info", "split_errors", "merge_errors", "objects"),
    "volume": ("adapted_rand_error", "voi_split", "voi_merge", "objects", "erl_nm"),
    "separate": ("average_precision_50", "split_errors", "merge_errors", "objects"),
}
"""Scores that are shown first, by the kind of objects."""


class KeyRow(NamedTuple):
    """A row of the table of a few scores.

    Attributes
    ----------
    name : name of the score
    direction : ``higher is better``, ``lower is better``, or empty
    values : the score of each volume, in their order
    reading : what the first known value means
    """

    name: str
    direction: str
    values: Sequence[Any]
    reading: str


def key_rows(scores: Mapping[str, Mapping[str, Any]], kinds: Mapping[str, Kind]) -> list[KeyRow]:
    """Return a few scores of the stored objects, each with what it means.

    Parameters
    ----------
    scores : volume -> {score key: number}; the first volume is the one whose values are explained
    kinds : volume -> kind of its objects; a volume that is not named has objects in 3-D
    """
    shown = {key for name in scores for key in KEY_SCORES[kinds.get(name, "volume")]}
    rows = []
    for score in (one for one in SCORES if one.key in shown):
        values = [own.get(score.key) for own in scores.values()]
        explained = next((own for own in scores.values() if own.get(score.key) is not None), None)
        if explained is not None:
            direction = {"↑": "higher is better", "↓": "lower is better", "": ""}[score.better]
            rows.append(KeyRow(score.name, direction, values, reading(score.key, explained)))
    return rows


def reading(key: str, scores: Mapping[str, Any]) -> str:
    """Return what the value of a score means, in one sentence; empty where there is nothing to say.

    >>> reading("voi_split", {"voi_split": 1.0})
    '0 is perfect; 1.00 bits: a true object lies in 2.0 found ones of one size, on average'
    >>> reading("segmentation_v_rand", {"segmentation_v_rand": 0.97})
    '1 is perfect; 0.970: of 100 pairs of pixels in one object, about 97 are so both in the truth and in the result'
    """
    say = READINGS.get(key)
    return say(scores[key], scores) if say is not None else ""


def _of_pairs(value: float, perfect: int, what: str) -> str:
    both = 100 * (value if perfect else 1 - value)
    pairs = f"of 100 pairs of {what} in one object, about {both:.0f} are so both in the truth and in the result"
    return f"{perfect} is perfect; {value:.3f}: {pairs}"


def _errors(value: float, scores: Mapping[str, Any], what: str) -> str:
    number = scores.get("true_objects")
    per = f": {100 * value / number:.0f} for 100 true objects" if number else ""
    return f"0 is perfect; {value:,} {what}{per}"


def _objects(value: float, scores: Mapping[str, Any]) -> str:
    number = scores.get("true_objects")
    return "" if number is None else f"{value:,} found where {number:,} are annotated"


def _run_length(value: float, scores: Mapping[str, Any]) -> str:
    best = scores.get("erl_perfect_nm")
    share = f", {100 * value / best:.0f} % of what is possible here" if best else ""
    return f"a neuron is followed for {value / 1000:.2f} µm before the first error, on average{share}"


READINGS: Mapping[str, Callable[[Any, Mapping[str, Any]], str]] = {
    "segmentation_v_rand": lambda value, _: _of_pairs(value, 1, "pixels"),
    "segmentation_v_info": lambda value, _: (
        f"1 is perfect; {value:.3f}: {100 * value:.0f} % of the information in the truth and in the result is shared"
    ),
    "adapted_rand_error": lambda value, _: _of_pairs(value, 0, "voxels"),
    "voi_split": lambda value, _: (
        f"0 is perfect; {value:.2f} bits: a true object lies in {2**value:.1f} found ones of one size, on average"
    ),
    "voi_merge": lambda value, _: (
        f"0 is perfect; {value:.2f} bits: a found object holds {2**value:.1f} true ones of one size, on average"
    ),
    "average_precision_50": lambda value, _: (
        f"1 is perfect; {value:.2f}: {100 * value:.0f} of 100 objects are found, the others missed or invented"
    ),
    "split_errors": lambda value, scores: _errors(value, scores, "splits"),
    "merge_errors": lambda value, scores: _errors(value, scores, "merges"),
    "objects": _objects,
    "erl_nm": _run_length,
}
"""What a value of a score means, from the value and the other scores of the volume."""


def score_rows(scores: Mapping[str, Mapping[str, Any]]) -> list[tuple[Score, list[Any]]]:
    """Return one row per score that some volume has, with the values in the order of the volumes."""
    known = {score.key for score in SCORES}
    others = {key: Score(key, key, "") for own in scores.values() for key in own if key not in known}
    rows = [(score, [own.get(score.key) for own in scores.values()]) for score in (*SCORES, *others.values())]
    return [(score, values) for score, values in rows if any(value is not None for value in values)]
