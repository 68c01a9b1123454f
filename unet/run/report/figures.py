"""The figures of the report: curves as inline SVG that take the text colour of the page."""

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
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


def learning_curve(records: Sequence[Mapping[str, Any]]) -> str:
    """Draw loss and validation over training steps, as SVG; empty text without records.

    Parameters
    ----------
    records : each with ``step`` and any of ``loss`` and ``validation...``; of two records of one step, as after a
        restart, the later one counts
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
    """Draw V_rand (and V_info, dashed) over the threshold, one colour per volume, as SVG; empty text without sweeps.

    Parameters
    ----------
    sweeps : volume -> records with ``threshold``, ``v_rand`` and, if known, ``v_info``
    chosen : thresholds that the segmentations were made with; each is marked
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


def _colours() -> Iterable[str]:
    """Return an endless cycle of colours that are readable on light and dark ground."""
    return cycle(("#2f80ed", "#f2790f", "#12a594", "#d6409f", "#8e6fe8", "#c99a06", "#e5484d", "#5b9f2e"))


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


def _svg(figure: Figure) -> str:
    """Return the figure for use inside HTML: no prologue, no namespaces, text and axes in the page's text colour."""
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out)
    svg = out.getvalue()
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (xmlns(:xlink)?|width|height|version)="[^"]*"', "", svg, count=5)
    return svg.replace("xlink:href", "href").replace(INK, "currentColor")
