"""The figures of the report: curves as inline SVG that take the text colour of the page."""

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray
from scipy.ndimage import median_filter

INK = "#010203"
"""Stands for the text colour of the page until `_svg` replaces it."""


def learning_curve(records: Sequence[Mapping[str, Any]], kept_step: int | None = None) -> str:
    """Draw the losses over training steps, on a logarithmic axis, as SVG; empty text without records.

    Parameters
    ----------
    records : each with ``step`` and any of ``loss`` and ``validation_loss``; of two records of one step, as after a
        restart, the later one counts
    kept_step : step of the weights that were kept, which is marked
    """
    names = {"loss": "training", "validation_loss": "validation"}
    curves = _curves(records, names)
    if not curves:
        return ""
    with _style("learning"):
        figure, axes = _axes("optimiser step", "loss (cross-entropy)")
        for colour, (label, points) in zip(_colours(), curves.items(), strict=False):
            _draw_loss(axes, points, label, colour)
        if min(points[:, 1].min() for points in curves.values()) > 0:
            axes.set_yscale("log")
            axes.set_ylabel("loss (cross-entropy), logarithmic")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        _mark(axes, [] if kept_step is None else [kept_step], "weights kept: step {:g}")
        _legend(axes)
        last = {label: points[-1, 1] for label, points in curves.items()}
        return _svg(figure, f"Loss over optimiser steps; at the end {_listed(last)}")


def validation_curve(records: Sequence[Mapping[str, Any]], kept_step: int | None = None) -> str:
    """Draw the validation score over training steps as SVG; empty text where there was no validation."""
    curves = _curves(records, {"validation_score": "validation score"})
    if not curves:
        return ""
    with _style("validation"):
        figure, axes = _axes("optimiser step", "validation score (1 = perfect)")
        [(label, points)] = curves.items()
        axes.plot(*points.T, "o-", ms=3, color=next(iter(_colours())), label=label)
        _mark(axes, [] if kept_step is None else [kept_step], "weights kept: step {:g}")
        _legend(axes)
        best = points[points[:, 1].argmax()]
        return _svg(figure, f"Validation score over optimiser steps; best {best[1]:.4f} at step {best[0]:.0f}")


def threshold_curve(sweeps: Mapping[str, Sequence[Mapping[str, float]]], chosen: Iterable[float] = ()) -> str:
    """Draw V_rand (and V_info, dashed) over the threshold, one colour per volume, as SVG; empty text without sweeps.

    Parameters
    ----------
    sweeps : volume -> records with ``threshold``, ``v_rand`` and, if known, ``v_info``
    chosen : thresholds that the segmentations were made with; each is marked
    """
    if not any(sweeps.values()):
        return ""
    with _style("thresholds"):
        figure, axes = _axes("threshold of the foreground probability", "score (1 = perfect)")
        for colour, (volume, records) in zip(_colours(), sweeps.items(), strict=False):
            for name, line, key in [("V_rand", "-", "v_rand"), ("V_info", "--", "v_info")]:
                points = _points({record["threshold"]: record for record in records}, key)
                if len(points):
                    axes.plot(*points.T, line, color=colour, lw=1.2, label=f"{name} {volume}")
        chosen = sorted(set(chosen))
        _mark(axes, chosen, "chosen: {:g}")
        _legend(axes)
        listed = "" if not chosen else f"; chosen {', '.join(f'{one:g}' for one in chosen)}"
        return _svg(figure, f"V_rand and V_info over the threshold of {', '.join(sweeps)}{listed}")


def agglomeration_curve(
    sweeps: Mapping[str, Sequence[Mapping[str, float]]], affinities: bool, chosen: Iterable[float] = ()
) -> str:
    """Draw VOI over the threshold of the agglomeration, one colour per volume, as SVG; empty text without sweeps.

    Parameters
    ----------
    sweeps : volume -> records with ``threshold``, ``voi_split`` and ``voi_merge``
    affinities : whether the threshold is one of affinities, where a larger one joins less
    chosen : thresholds that the segmentations were made with; each is marked
    """
    if not any(sweeps.values()):
        return ""
    with _style("agglomeration"):
        what = "mean affinity: larger joins less" if affinities else "boundary score: larger joins more"
        figure, axes = _axes(f"threshold of the agglomeration ({what})", "VOI in bits (0 = perfect)")
        for colour, (volume, records) in zip(_colours(), sweeps.items(), strict=False):
            voi = [{**one, "voi": one["voi_split"] + one["voi_merge"]} for one in records]
            by_threshold = {one["threshold"]: one for one in voi}
            for name, line, key in [("VOI", "-", "voi"), ("split", "--", "voi_split"), ("merge", ":", "voi_merge")]:
                points = _points(by_threshold, key)
                if len(points):
                    axes.plot(*points.T, line, color=colour, lw=1.2, label=f"{name} {volume}")
        axes.set_ylim(bottom=0)
        _mark(axes, sorted(set(chosen)), "chosen: {:g}")
        _legend(axes)
        return _svg(figure, f"Variation of information over the threshold of the agglomeration of {', '.join(sweeps)}")


def _curves(records: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, NDArray[np.float64]]:
    """Return the points of the values that have any, by their label; the later record of a step counts."""
    by_step: dict[float, Mapping[str, Any]] = {int(record["step"]): record for record in records}
    found = {label: _points(by_step, name) for name, label in names.items()}
    return {label: points for label, points in found.items() if len(points)}


def _points(records: Mapping[float, Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """Return the (n, 2) points of a curve, sorted by x; records without a finite value are left out."""
    pairs = [(x, records[x].get(name)) for x in sorted(records)]
    found = [(x, value) for x, value in pairs if value is not None and math.isfinite(value)]
    return np.array(found, float).reshape(-1, 2)


def _draw_loss(axes: Any, points: NDArray[np.float64], label: str, colour: str) -> None:
    """Draw one curve; a long one is noisy and is drawn faintly, with its running median over it."""
    if len(points) < 40:
        axes.plot(*points.T, "o-", ms=3, color=colour, label=label)
        return
    axes.plot(*points.T, color=colour, lw=0.6, alpha=0.35)
    smooth = median_filter(points[:, 1], len(points) // 30 * 2 + 1, mode="reflect")
    axes.plot(points[:, 0], smooth, color=colour, label=label)


def _mark(axes: Any, places: Iterable[float], words: str) -> None:
    """Mark values of x by a dotted line each."""
    for place in places:
        axes.axvline(place, color=INK, alpha=0.6, lw=1, ls=":", label=words.format(place))


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{label} {value:.3g}" for label, value in values.items())


def _colours() -> Iterable[str]:
    """Return an endless cycle of colours that are seen on light and dark ground."""
    return cycle(("#2f80ed", "#d9690a", "#0f8f80", "#d6409f", "#8e6fe8", "#a87f00", "#e5484d", "#4f8a29"))


def _style(salt: str) -> Any:
    """Return matplotlib's settings of a figure; the salt makes the ids of two SVGs in one page differ."""
    settings: Any = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    settings |= {"axes.edgecolor": INK, "axes.facecolor": "none", "figure.facecolor": "none"}
    settings |= {"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9}
    return matplotlib.rc_context(settings)


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    """Return a figure with one pair of axes with these labels."""
    figure = Figure(figsize=(5.0, 2.9), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=INK, alpha=0.12, lw=0.6)
    return figure, axes


def _legend(axes: Any) -> None:
    """Add the legend."""
    for text in axes.legend(frameon=False).get_texts():
        text.set_parse_math(False)  # a volume may be called a$b$


def _svg(figure: Figure, words: str) -> str:
    """Return the figure for use inside HTML: no prologue, no namespaces, text and axes in the page's text colour.

    `words` say what is seen, for readers who see no pictures.
    """
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out)
    svg = out.getvalue()
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (xmlns(:xlink)?|width|height|version)="[^"]*"', "", svg, count=5)
    used = set(re.findall(r"#([\w-]+)", svg))  # matplotlib names every part, alike in every figure
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(words)}"', 1)
    return svg.replace("xlink:href", "href").replace(INK, "currentColor")
