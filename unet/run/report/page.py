"""The report of a run: one HTML page, from plain numbers and arrays.

Every part is optional: the page leaves out what is not given. Pictures and curves are embedded, except for the tiles of
the viewer. The page loads nothing from the network.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from unet.run.plan.estimates import StoreSize
from unet.run.plan.resources import RulePlan
from unet.run.report.costs import rule_costs
from unet.run.report.decoder_table import DecoderTable
from unet.run.report.figures import learning_curve, threshold_curve
from unet.run.report.inputs_section import InputsAsRead
from unet.run.report.suspected_section import COLUMNS as SUSPECTED_COLUMNS
from unet.run.report.suspected_section import SuspectedInVolume
from unet.run.report.viewer import Viewer


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


@dataclass(frozen=True)
class ReportData:
    """The content of a report; every part but the title may be missing.

    Attributes
    ----------
    title : title of the page
    warnings : sentences that the page shows first
    summary : label -> text or number, shown as tiles
    inputs : volume -> its inputs as they were read
    scores : volume -> {score key: number}; a key that `SCORES` does not list is shown as it is
    training : records of ``training.jsonl``, see `learning_curve`
    sweeps : volume -> scores at each threshold, see `threshold_curve`; the ``threshold`` of `scores` is marked
    decoder : table of all decoders that were compared; None where none was chosen
    viewer : parts of the page that show the volumes, see `unet.run.report.viewer.render_viewer`
    compare : volume -> {name of the segmentation and the voxels scored: {score key: number}}, our scores included
    errors : volume -> {kind and position of the error: link that opens the viewer there}, the worst first
    suspected : volume -> its suspected merge errors, see `unet.run.report.suspected_section`
    benchmarks : time and memory of each job, see `unet.run.report.costs.rule_costs`
    estimated : rule -> estimate of the plan, if a plan was made
    stores : size of each store, found and estimated
    configuration : the merged configuration as YAML
    versions : package -> version
    """

    title: str = "Segmentation report"
    warnings: Sequence[str] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, InputsAsRead] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training: Sequence[Mapping[str, Any]] = ()
    sweeps: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    decoder: DecoderTable | None = None
    viewer: Viewer | None = None
    compare: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    errors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    suspected: Mapping[str, SuspectedInVolume] = field(default_factory=dict)
    benchmarks: Sequence[Mapping[str, Any]] = ()
    estimated: Mapping[str, RulePlan] = field(default_factory=dict)
    stores: Sequence[StoreSize] = ()
    configuration: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def render(template: str, report: ReportData) -> str:
    """Return the report as one HTML page.

    Parameters
    ----------
    template : source of the Jinja template (``workflow/report/report.html.j2``)
    report : content of the page; all its text is escaped
    """
    chosen = [own["threshold"] for own in report.scores.values() if own.get("threshold") is not None]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": format_number, "duration": format_duration, "memory": format_memory}
    return environment.from_string(template).render(
        report=report,
        score_rows=_score_rows(report.scores),
        comparisons={volume: _score_rows(own) for volume, own in report.compare.items()},
        learning=Markup(learning_curve(report.training)),  # SVG made by matplotlib, with its text escaped
        thresholds=Markup(threshold_curve(report.sweeps, chosen)),
        costs=rule_costs(report.benchmarks),
        suspected_columns=SUSPECTED_COLUMNS,
    )


def _score_rows(scores: Mapping[str, Mapping[str, Any]]) -> list[tuple[Score, list[Any]]]:
    """Return one row per score that some volume has, with the values in the order of the volumes."""
    known = {score.key for score in SCORES}
    others = {key: Score(key, key, "") for own in scores.values() for key in own if key not in known}
    rows = [(score, [own.get(score.key) for own in scores.values()]) for score in (*SCORES, *others.values())]
    return [(score, values) for score, values in rows if any(value is not None for value in values)]


def format_number(value: Any) -> str:
    """Return a number as people read it; a dash where it is missing.

    >>> format_number(0.98765432), format_number(1234567), format_number(None), format_number("auto")
    ('0.9877', '1,234,567', '–', 'auto')
    >>> format_number(23456.7), format_number(1e9)
    ('23,457', '1e+09')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float) and 1e4 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    if isinstance(value, float):
        short = value == round(value, 1) or not 1e-3 <= abs(value) < 1e4
        return f"{value:.3g}" if short else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def format_duration(seconds: float) -> str:
    """Return a duration in s, min or h.

    >>> format_duration(3.14), format_duration(75), format_duration(3720)
    ('3.1 s', '1 min 15 s', '1 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_memory(megabytes: float | None) -> str:
    """Return a memory size in MB or GB.

    >>> format_memory(512.4), format_memory(2048), format_memory(0.0621), format_memory(None)
    ('512 MB', '2.0 GB', '0.062 MB', '–')
    """
    if megabytes is None:
        return "–"
    if megabytes >= 1024:
        return f"{megabytes / 1024:.1f} GB"
    return f"{megabytes:.0f} MB" if megabytes >= 10 else f"{megabytes:.2g} MB"
