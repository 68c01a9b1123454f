"""The report of a run: one self-contained HTML page from plain numbers and arrays.

Every part is optional: what is not given is left out of the page.  Pictures are embedded, curves are inline SVG that
takes the page's text colour, and the page asks nothing of the network.
"""

import base64
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, NamedTuple

import imagecodecs
import matplotlib
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from unet.run.plan.estimates import RuleEstimate, StoreSize


class Score(NamedTuple):
    """A score's key in the evaluation, its name, its definition in one line, and which way is better."""

    key: str
    name: str
    definition: str
    better: str = ""


SCORES = (
    # of the stored objects
    Score("segmentation_v_rand", "V_rand, segmentation", "of the final objects, section by section", "↑"),
    Score("segmentation_v_info", "V_info, segmentation", "of the final objects, section by section", "↑"),
    Score("adapted_rand_error", "Adapted Rand error", "1 − F-score of pairs of voxels in one object", "↓"),
    Score("voi_split", "VOI split", "H(segmentation | truth) in bits: what was cut apart", "↓"),
    Score("voi_merge", "VOI merge", "H(truth | segmentation) in bits: what was run together", "↓"),
    Score("objects", "Objects", "that were found where somebody has looked"),
    Score("true_objects", "True objects", "that are labelled"),
    Score("split_errors", "Splits", "found objects that share a true one with another, beyond the first", "↓"),
    Score("merge_errors", "Merges", "true objects that share a found one with another, beyond the first", "↓"),
    Score("average_precision_50", "Average precision, 0.5", "TP / (TP + FP + FN) at IoU > 0.5", "↑"),
    Score("mean_average_precision", "Average precision, mean", "over IoU 0.5, 0.55, ... 0.95", "↑"),
    Score("cremi_score", "CREMI score", "√(VOI · adapted Rand error), 25 nm along true borders ignored", "↓"),
    Score("cremi_adapted_rand_error", "Adapted Rand error, CREMI", "without 25 nm along true borders", "↓"),
    Score("cremi_voi_split", "VOI split, CREMI", "without 25 nm along true borders", "↓"),
    Score("cremi_voi_merge", "VOI merge, CREMI", "without 25 nm along true borders", "↓"),
    Score("erl_nm", "Expected run length, nm", "of a walk along a true skeleton until the first error; mergers 0", "↑"),
    Score("erl_perfect_nm", "Expected run length, most, nm", "of a segmentation without errors"),
    Score("skeletons", "Skeletons", "of true neurons in the volume"),
    Score("skeleton_nm", "Length of skeletons, nm", "all together, in the volume"),
    Score("split_edges", "Split edges", "of skeletons, between two segments", "↓"),
    Score("omitted_edges", "Omitted edges", "of skeletons, with a node in no segment", "↓"),
    Score("merging_segments", "Merging segments", "that hold 100 nm or more of several skeletons each", "↓"),
    Score("skeleton_nodes_outside", "Nodes outside", "of skeletons; left out with their edges"),
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
    Score("warping_error", "Warping error", "share of pixels that no simple-point warp mends (Jain 2010)", "↓"),
    Score("warping_splits_and_mergers", "Warping, splits + mergers", "clusters of such pixels over pixels", "↓"),
    # of the classes
    Score("pixel_error", "Pixel error", "share of labelled pixels whose most probable class is wrong", "↓"),
    Score("foreground_iou", "Foreground IoU", "intersection over union of the two foregrounds", "↑"),
    Score("mean_iou", "Mean IoU", "mean over the classes of the intersection over union of each", "↑"),
)


class Picture(NamedTuple):
    """A picture's caption and its PNG as a ``data:`` URI."""

    caption: str
    uri: str


@dataclass(frozen=True)
class RuleCost:
    """What all jobs of a rule took; ``*_share`` are parts of the largest rule's, 0 to 1, for the bars."""

    rule: str
    jobs: int
    seconds: float
    longest_seconds: float
    memory_mb: float | None
    time_share: float = 0.0
    memory_share: float = 0.0


@dataclass(frozen=True)
class ReportData:
    """What a report tells; everything but the title may be missing.

    Attributes
    ----------
    title : of the page
    warnings : sentences shown before all else
    summary : label -> text or number, shown as tiles
    scores : volume -> {score key: number}; keys as in `SCORES`, others are shown by their key
    training : records of ``training.jsonl``, see `learning_curve`
    sweeps : volume -> scores at each threshold, see `threshold_curve`; the ``threshold`` of `scores` is marked
    sections : volume -> {title of the section: pictures of `section_row`}
    compare : volume -> {whose segmentation, over which voxels: {score key: number}}, beside ours
    errors : volume -> {what is wrong, and where: pictures of `error_row`}, the worst first
    benchmarks : what each job took, see `rule_costs` and `unet.run.plan.estimates.measured_jobs`
    estimated : rule -> what the plan said of it, if one was made
    stores : what each store takes, beside what the plan said
    configuration : the merged configuration, YAML
    versions : package -> version
    """

    title: str = "Segmentation report"
    warnings: Sequence[str] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training: Sequence[Mapping[str, Any]] = ()
    sweeps: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Sequence[Picture]]] = field(default_factory=dict)
    compare: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    errors: Mapping[str, Mapping[str, Sequence[Picture]]] = field(default_factory=dict)
    benchmarks: Sequence[Mapping[str, Any]] = ()
    estimated: Mapping[str, RuleEstimate] = field(default_factory=dict)
    stores: Sequence[StoreSize] = ()
    configuration: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def render(template: str, report: ReportData) -> str:
    """The report as one HTML page.

    Parameters
    ----------
    template : source of the Jinja template (``workflow/report/report.html.j2``)
    report : what to tell; all text in it is escaped
    """
    chosen = [own["threshold"] for own in report.scores.values() if own.get("threshold") is not None]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": format_number, "duration": format_duration, "memory": format_memory}
    return environment.from_string(template).render(
        report=report,
        score_rows=_score_rows(report.scores),
        comparisons={volume: _score_rows(own) for volume, own in report.compare.items()},
        learning=Markup(learning_curve(report.training)),  # our own SVG, its text escaped
        thresholds=Markup(threshold_curve(report.sweeps, chosen)),
        costs=rule_costs(report.benchmarks),
    )


def learning_curve(records: Sequence[Mapping[str, Any]]) -> str:
    """Loss and validation over training steps, as SVG; empty text without records.

    Parameters
    ----------
    records : each with ``step`` and any of ``loss`` and ``validation...``; where a step comes twice, as after a
        restart, the later record counts
    """
    by_step: dict[float, Mapping[str, Any]] = {int(record["step"]): record for record in records}
    names = sorted({key for r in records for key in r if key == "loss" or key.startswith("validation")})
    curves = {name: _points(by_step, name) for name in names}
    if not any(len(points) for points in curves.values()):
        return ""
    with _style("learning"):
        figure, axes = _axes("step", "loss")
        for colour, (name, points) in zip(_colours(), curves.items(), strict=False):
            _draw_loss(axes, points, name.replace("_", " "), colour)
        if min(points[:, 1].min() for points in curves.values() if len(points)) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        _legend(axes)
        return _svg(figure)


def threshold_curve(sweeps: Mapping[str, Sequence[Mapping[str, float]]], chosen: Iterable[float] = ()) -> str:
    """V_rand (and V_info, dashed) over the threshold, a colour a volume, as SVG; empty text without sweeps.

    Parameters
    ----------
    sweeps : volume -> records with ``threshold``, ``v_rand`` and, if known, ``v_info``
    chosen : thresholds that segmentations were made with
    """
    if not any(sweeps.values()):
        return ""
    with _style("thresholds"):
        figure, axes = _axes("threshold", "score")
        for colour, (volume, records) in zip(_colours(), sweeps.items(), strict=False):
            for name, line, key in [("V_rand", "-", "v_rand"), ("V_info", "--", "v_info")]:
                points = _points({record["threshold"]: record for record in records}, key)
                if len(points):
                    axes.plot(*points.T, line, color=colour, lw=1.2, label=f"{name} {volume}")
        for threshold in sorted(set(chosen)):
            axes.axvline(threshold, color=INK, alpha=0.5, lw=1, ls=":", label=f"chosen: {threshold:g}")
        _legend(axes)
        return _svg(figure)


def section_row(
    raw: NDArray[Any],
    probability: NDArray[Any] | None = None,
    segmentation: NDArray[Any] | None = None,
    truth: NDArray[Any] | None = None,
    errors: NDArray[np.uint8] | None = None,
    longest_side: int = 512,
) -> list[Picture]:
    """Pictures of one section side by side: raw, probability, segmentation and ground truth over raw, errors.

    Parameters
    ----------
    raw : (y, x) grey values, any dtype; stretched between their 0.5th and 99.5th percentile
    probability : (y, x) of the foreground, float in [0, 1] or uint8 in [0, 255]
    segmentation, truth : (y, x) ids, 0 = none; an id has one colour wherever it is shown
    errors : (y, x), see `unet.evaluation.error_analysis.error_map`
    longest_side : larger sections are made smaller by a whole factor (px)
    """
    factor = math.ceil(max(raw.shape) / longest_side)
    grey = _shrink(_stretch(raw), factor)
    pictures = [Picture("raw", png_uri(grey))]
    if probability is not None:
        scale = 255 if probability.dtype == np.uint8 else 1
        pictures.append(Picture("probability", png_uri(_shrink(probability / scale, factor))))
    for caption, ids in [("segmentation", segmentation), ("ground truth", truth)]:
        if ids is not None:
            pictures.append(Picture(caption, png_uri(overlay(grey, _thin_out(ids, factor)))))
    if errors is not None:
        pictures.append(Picture(ERROR_CAPTION, png_uri(error_overlay(grey, _thin_out(errors, factor)))))
    return pictures


ERROR_CAPTION = "split orange, merged blue"
ERROR_COLOURS = np.array([[0, 0, 0], [1.0, 0.55, 0.0], [0.15, 0.45, 1.0], [0.85, 0.2, 0.85]])
"""By the bits of `unet.evaluation.error_analysis.error_map`: right, split, merged, both."""


def error_overlay(grey: NDArray[np.float64], errors: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Wrong pixels in colour over a grey picture; ``(y, x, 3)`` in [0, 1]."""
    opacity = 0.6 * (errors > 0)[..., None]
    mixed: NDArray[np.float64] = grey[..., None] + opacity * (ERROR_COLOURS[errors] - grey[..., None])
    return mixed


def error_row(raw: NDArray[Any], segmentation: NDArray[Any], truth: NDArray[Any], kind: str, id_: int) -> list[Picture]:
    """An erroneous object: raw, then the object outlined in white over the other segmentation's ids inside it.

    Parameters
    ----------
    raw, segmentation, truth : (y, x)
    kind : ``split``: a true object, its pieces in colour; ``merge``: a predicted one, what it runs together in colour
    id_ : of the object
    """
    grey = _stretch(raw)
    own, other = (truth, segmentation) if kind == "split" else (segmentation, truth)
    inside = own == id_
    picture = overlay(grey, np.where(inside, other, 0))
    picture[inside & boundary(inside)] = 1.0
    named = [("segmentation", segmentation), ("ground truth", truth)]
    pieces = Picture("pieces of one object" if kind == "split" else "objects run together", png_uri(picture))
    return [Picture("raw", png_uri(grey)), pieces, *(Picture(name, png_uri(overlay(grey, ids))) for name, ids in named)]


def overlay(grey: NDArray[np.float64], ids: NDArray[Any]) -> NDArray[np.float64]:
    """Ids in colour over a grey picture, their inner boundary in full colour; ``(y, x, 3)`` in [0, 1]."""
    opacity = np.where(boundary(ids), 1.0, 0.4) * (ids > 0)
    mixed: NDArray[np.float64] = grey[..., None] + opacity[..., None] * (label_colours(ids) - grey[..., None])
    return mixed


def label_colours(ids: NDArray[Any]) -> NDArray[np.float64]:
    """A bright colour an id, from a hash of the id alone; shape of ``ids`` and 3, RGB in [0, 1].

    >>> bool((label_colours(np.array([7])) == label_colours(np.array([1, 7]))[1]).all())
    True
    """
    mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # the finaliser of splitmix64
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    hue, saturation, value = ((mixed >> np.uint64(shift) & np.uint64(0xFFFF)) / 0xFFFF for shift in (0, 16, 32))
    return np.asarray(hsv_to_rgb(np.stack([hue, 0.6 + 0.4 * saturation, 0.75 + 0.25 * value], axis=-1)))


def rule_costs(rows: Iterable[Mapping[str, Any]]) -> list[RuleCost]:
    """Time (sum and longest job) and memory (maximum) of each rule, in the order in which the rules first come.

    Parameters
    ----------
    rows : one a job: ``rule`` and the columns of Snakemake's benchmark file, of which ``s`` (wall-clock seconds)
        and ``max_rss`` (MB) are read; text or numbers; ``NA`` and ``-`` are missing

    >>> [cost] = rule_costs([{"rule": "predict", "s": "2.5", "max_rss": "NA"}, {"rule": "predict", "s": 4}])
    >>> cost.jobs, cost.seconds, cost.longest_seconds, cost.memory_mb
    (2, 6.5, 4.0, None)
    """
    jobs: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        jobs.setdefault(str(row["rule"]), []).append(row)
    times = {rule: [_measured(row.get("s")) or 0.0 for row in own] for rule, own in jobs.items()}
    memory = {rule: max(_measured(row.get("max_rss")) or 0.0 for row in own) for rule, own in jobs.items()}
    most_time = max(map(sum, times.values()), default=0.0) or 1.0
    most_memory = max(memory.values(), default=0.0) or 1.0
    return [
        RuleCost(rule, len(s), sum(s), max(s), memory[rule] or None, sum(s) / most_time, memory[rule] / most_memory)
        for rule, s in times.items()
    ]


def format_number(value: Any) -> str:
    """A number for reading; a dash where there is none.

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
    """
    >>> format_duration(3.14), format_duration(75), format_duration(3720)
    ('3.1 s', '1 min 15 s', '1 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_memory(megabytes: float | None) -> str:
    """
    >>> format_memory(512.4), format_memory(2048), format_memory(0.0621), format_memory(None)
    ('512 MB', '2.0 GB', '0.062 MB', '–')
    """
    if megabytes is None:
        return "–"
    if megabytes >= 1024:
        return f"{megabytes / 1024:.1f} GB"
    return f"{megabytes:.0f} MB" if megabytes >= 10 else f"{megabytes:.2g} MB"


def _score_rows(scores: Mapping[str, Mapping[str, Any]]) -> list[tuple[Score, list[Any]]]:
    """A row a score that some volume has, with the values in the order of the volumes."""
    known = {score.key for score in SCORES}
    others = {key: Score(key, key, "") for own in scores.values() for key in own if key not in known}
    rows = [(score, [own.get(score.key) for own in scores.values()]) for score in (*SCORES, *others.values())]
    return [(score, values) for score, values in rows if any(value is not None for value in values)]


def _measured(value: Any) -> float | None:
    return None if value in (None, "", "-", "NA") else float(value)


def _points(records: Mapping[float, Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """(n, 2) place and value of the records that have a value, in order of the place."""
    pairs = [(place, records[place].get(name)) for place in sorted(records)]
    found = [(place, value) for place, value in pairs if value is not None and math.isfinite(value)]
    return np.array(found, float).reshape(-1, 2)


def _draw_loss(axes: Any, points: NDArray[np.float64], label: str, colour: str) -> None:
    """A noisy curve is drawn pale with its running median over it."""
    if len(points) < 40:
        axes.plot(*points.T, "o-", ms=3, color=colour, label=label)
        return
    axes.plot(*points.T, color=colour, lw=0.6, alpha=0.35)
    smooth = median_filter(points[:, 1], len(points) // 30 * 2 + 1, mode="reflect")
    axes.plot(points[:, 0], smooth, color=colour, label=label)


INK = "#010203"  # stands for the page's text colour, see `_svg`


def _colours() -> Iterable[str]:
    """Readable on light and dark ground."""
    return cycle(("#2f80ed", "#f2790f", "#12a594", "#d6409f", "#8e6fe8", "#c99a06", "#e5484d", "#5b9f2e"))


def _style(salt: str) -> Any:
    """Matplotlib's settings of a figure; the salt keeps the ids of two SVGs in one page apart."""
    settings: Any = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    settings |= {"axes.edgecolor": INK, "axes.facecolor": "none", "figure.facecolor": "none"}
    settings |= {"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9}
    return matplotlib.rc_context(settings)


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.0, 2.9), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=INK, alpha=0.12, lw=0.6)
    return figure, axes


def _legend(axes: Any) -> None:
    for text in axes.legend(frameon=False).get_texts():
        text.set_parse_math(False)  # a volume may be called a$b$


def _svg(figure: Figure) -> str:
    """The figure for use inside HTML: no prologue, no foreign names, text and axes in the page's text colour."""
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out)
    svg = out.getvalue()
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (xmlns(:xlink)?|width|height|version)="[^"]*"', "", svg, count=5)
    return svg.replace("xlink:href", "href").replace(INK, "currentColor")


def _stretch(raw: NDArray[Any]) -> NDArray[np.float64]:
    low, high = np.percentile(raw, [0.5, 99.5])
    return np.clip((raw - low) / max(high - low, 1e-12), 0, 1)


def _shrink(image: NDArray[Any], factor: int) -> NDArray[np.float64]:
    """Mean over squares of ``factor`` pixels; a rest at the far sides is left out."""
    y, x = (n // factor for n in image.shape)
    cut = image[: y * factor, : x * factor].astype(float)
    return np.asarray(cut.reshape(y, factor, x, factor).mean(axis=(1, 3)))


def _thin_out(ids: NDArray[Any], factor: int) -> NDArray[Any]:
    """The id at the middle of the squares of `_shrink`."""
    y, x = (n // factor for n in ids.shape)
    middle = factor // 2
    return ids[middle::factor, middle::factor][:y, :x]


def boundary(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels with another id beside, above or below them."""
    padded = np.pad(ids, 1, mode="edge")
    beside = (padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1])
    return np.logical_or.reduce([ids != other for other in beside])


def png_uri(image: NDArray[np.float64]) -> str:
    """(y, x) or (y, x, 3) in [0, 1] as a ``data:`` URI."""
    encoded = imagecodecs.png_encode(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), level=9)
    return "data:image/png;base64," + base64.b64encode(encoded).decode()
