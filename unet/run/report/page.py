"""The report of a run: one HTML page, from plain numbers and arrays.

Every part is optional: the page leaves out what is not given. Pictures and curves are embedded, except for the tiles of
the viewer. The page loads nothing from the network.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from unet.run.plan.estimates import StoreSize
from unet.run.plan.resources import RulePlan
from unet.run.report.costs import rule_costs
from unet.run.report.decoder_table import DecoderTable
from unet.run.report.errors_section import error_rows, suspected_rows
from unet.run.report.figures import agglomeration_curve, learning_curve, threshold_curve, validation_curve
from unet.run.report.inputs_section import InputsAsRead
from unet.run.report.methods_section import Methods
from unet.run.report.scores_section import key_rows, score_rows
from unet.run.report.suspected_section import SuspectedInVolume
from unet.run.report.usual_scores import LEVELS, Kind
from unet.run.report.verdict import Verdict
from unet.run.report.viewer import Viewer


@dataclass(frozen=True)
class ReportData:
    """The content of a report; every part but the title may be missing.

    Attributes
    ----------
    title : title of the page
    warnings : sentences that the page shows first
    verdict : what was made, how good it is, and what to do next
    inputs : volume -> its inputs as they were read
    scores : volume -> {score key: number}; a key that `SCORES` does not list is shown as it is
    kinds : volume -> kind of its objects
    training : records of ``training.jsonl``, see `learning_curve`
    kept_step : step of the weights that were kept
    sweeps : volume -> scores at each threshold, see `threshold_curve`; the ``threshold`` of `scores` is marked
    agglomeration : volume -> scores at each threshold of the agglomeration, see `agglomeration_curve`
    agglomeration_threshold : the threshold that was taken, which is marked
    affinities : whether objects were joined by affinities
    decoder : table of all decoders that were compared; None where none was chosen
    viewer : parts of the page that show the volumes, see `unet.run.report.viewer.render_viewer`
    compare : volume -> {name of the segmentation and the voxels scored: {score key: number}}, our scores included
    worst : volume -> objects with most wrong voxels, as ``evaluation.json`` has them
    suspected : volume -> its suspected merge errors, see `unet.run.report.suspected_section`
    methods : a paragraph for a paper
    benchmarks : time and memory of each job, see `unet.run.report.costs.rule_costs`
    estimated : rule -> estimate of the plan, if a plan was made
    stores : size of each store, found and estimated
    configuration : the merged configuration as YAML
    versions : package -> version
    """

    title: str = "Segmentation report"
    warnings: Sequence[str] = ()
    verdict: Verdict | None = None
    inputs: Mapping[str, InputsAsRead] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    training: Sequence[Mapping[str, Any]] = ()
    kept_step: int | None = None
    sweeps: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    agglomeration: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    agglomeration_threshold: float | None = None
    affinities: bool = False
    decoder: DecoderTable | None = None
    viewer: Viewer | None = None
    compare: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    worst: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    suspected: Mapping[str, SuspectedInVolume] = field(default_factory=dict)
    methods: Methods | None = None
    benchmarks: Sequence[Mapping[str, Any]] = ()
    estimated: Mapping[str, RulePlan] = field(default_factory=dict)
    stores: Sequence[StoreSize] = ()
    configuration: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def render(template: Path, report: ReportData) -> str:
    """Return the report as one HTML page.

    Parameters
    ----------
    template : Jinja template of the page (``workflow/report/report.html.j2``), with its parts in folder ``sections``
    report : content of the page; all its text is escaped
    """
    loader = FileSystemLoader(template.parent)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )
    environment.filters |= {"number": format_number, "duration": format_duration, "memory": format_memory}
    return environment.get_template(template.name).render(
        report=report,
        levels=LEVELS,
        explained=next(iter(report.scores), ""),
        key_rows=key_rows(report.scores, report.kinds),
        score_rows=score_rows(report.scores),
        comparisons={volume: score_rows(own) for volume, own in report.compare.items()},
        curves=_curves(report),
        costs=rule_costs(report.benchmarks),
        worst={volume: error_rows(volume, found) for volume, found in report.worst.items()},
        suspected={volume: suspected_rows(volume, found.largest) for volume, found in report.suspected.items()},
    )


def _curves(report: ReportData) -> dict[str, Markup]:
    """Return the curves that there are, by their title; SVG made by matplotlib, with its text escaped."""
    chosen = [own["threshold"] for own in report.scores.values() if own.get("threshold") is not None]
    joined = [] if report.agglomeration_threshold is None else [report.agglomeration_threshold]
    drawn = {
        "Loss": learning_curve(report.training, report.kept_step),
        "Validation": validation_curve(report.training, report.kept_step),
        "Score over the threshold": threshold_curve(report.sweeps, chosen),
        "VOI over the threshold of the agglomeration": agglomeration_curve(
            report.agglomeration, report.affinities, joined
        ),
    }
    return {title: Markup(svg) for title, svg in drawn.items() if svg}


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
