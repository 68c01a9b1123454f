"""The border term of equation 2: exact, fast, and as fast per pixel for any number of cells.

    OMP_NUM_THREADS=1 python benchmarks/weights.py                       # about 1 min; a table, then the same as JSON
    OMP_NUM_THREADS=1 python benchmarks/weights.py --fib25 train.h5      # real EM from elsewhere

One run, one thread, sigma = 5 px. Contestants take turns, and the best of their rounds counts. Time is the CPU time of
this process, so that other work on the machine spoils the ratios little; absolute times still depend on it.

- Speed: against its definition, one Euclidean distance transform a cell of which the two smallest are kept.
- Flatness: cost per pixel from 50 to 5,000 cells, with cells 12 times as long as wide, and with real neurites (fib25).
- Error: the largest difference from the definition, in units of w0.
- Blocks: blocks with a halo of `ceil(reach)` pixels against whole sections, bit for bit, and what the halo costs.

Cells touch, and are separated as in the pipeline: one pixel is removed on each side of a contact.
"""

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from starter import DATA

from unet.geometry.grid import Grid
from unet.training.weight_map import border_weight, cutoff_distance, separation_border

W0, SIGMA = 10.0, 5.0
FIB25 = DATA / "fib25" / "train.h5"


def voronoi(size: int, count: int, elongation: float = 1, seed: int = 0) -> NDArray[np.int64]:
    """Return a square section of `count` cells around random points; elongated ones lie along the diagonal."""
    pixels = np.indices((size, size)).reshape(2, -1).T
    points = np.random.default_rng(seed).random((count, 2)) * size
    across = np.array([[1, 1 / elongation], [-1, 1 / elongation]])  # squeezed along the diagonal
    return separated(cKDTree(points @ across).query(pixels @ across)[1].reshape(size, size) + 1)


def separated(labels: NDArray) -> NDArray:
    """Return the labels without the pixels on each side of a contact."""
    return np.where(separation_border(labels, 1), 0, labels)


def fib25_mosaic(path: Path) -> NDArray[np.int64]:
    """Return four sections of real neurites side by side, with the ids of each section distinct."""
    import h5py

    with h5py.File(path) as file:
        volume = file["volumes/labels/neuron_ids"]
        sections = [volume[z].astype(np.int64) for z in (0, 40, 80, 120)]
    ids = max(int(section.max()) for section in sections) + 1
    apart = [separated(np.where(section > 0, section + k * ids, 0)) for k, section in enumerate(sections)]
    return np.block([apart[:2], apart[2:]])


def one_transform_per_cell(labels: NDArray) -> NDArray[np.float64]:
    """Return the border term by its definition: the two smallest exact distances to all cells, without a cutoff."""
    nearest, second = np.full((2, *labels.shape), np.inf)
    for cell in np.unique(labels[labels > 0]):
        distance = distance_transform_edt(labels != cell)
        np.minimum(second, np.maximum(nearest, distance), out=second)
        np.minimum(nearest, distance, out=nearest)
    return np.where(labels == 0, W0 * np.exp(-((nearest + second) ** 2) / (2 * SIGMA**2)), 0)


def ours(labels: NDArray) -> NDArray[np.float32]:
    """Call the function under test."""
    return border_weight(labels, W0, SIGMA)


def blockwise(labels: NDArray, block: int) -> NDArray[np.float32]:
    """Return the border term from blocks of `block` x `block` pixels, each read with its halo."""
    halo = ceil(cutoff_distance(SIGMA))
    term = np.empty(labels.shape, np.float32)
    for box in Grid(labels.shape, (1, block, block)).boxes():
        window = box.grown((0, halo, halo)).clipped(labels.shape)
        term[box.slices] = ours(labels[window.slices])[box.relative_to(window.start).slices]
    return term


def best_times(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the CPU seconds of each contestant's best round; the contestants take turns."""
    best = dict.fromkeys(contestants, np.inf)
    for _ in range(rounds):
        for name, work in contestants.items():
            start = process_time()
            work()
            best[name] = min(best[name], process_time() - start)
    return best


def error(labels: NDArray) -> float:
    """Return the largest difference from the definition, in units of w0."""
    return float(np.abs(ours(labels) - one_transform_per_cell(labels)).max() / W0)


def speed(rounds: int, scale: int) -> list[dict[str, Any]]:
    """Measure how many times faster 400 cells on 512 x 512 are than one distance transform per cell."""
    labels = voronoi(512 // scale, 400 // scale**2)
    best = best_times({"transforms": partial(one_transform_per_cell, labels), "ours": partial(ours, labels)}, rounds)
    ratio = best["transforms"] / best["ours"]
    shown = f"{1e3 * best['ours']:.1f} ms against {best['transforms']:.2f} s"
    return [
        verdict("times faster, 400 cells on 512 x 512", shown, ratio, ratio >= 50, ">= 50"),
        error_verdict("400 cells on 512 x 512", labels),
    ]


def flatness(rounds: int, scale: int, fib25: Path) -> list[dict[str, Any]]:
    """Measure the cost per pixel for few and many, round and long cells; each size is compared within itself."""
    side, of = 512 // scale, scale**2
    sections = {f"{count} cells": voronoi(side, count // of) for count in (50, 500, 5000)}
    sections["500 long cells"] = voronoi(side, 500 // of, elongation=12)
    if fib25.is_file():
        sections["fib25"] = fib25_mosaic(fib25)
    else:
        print(f"no fib25: {fib25} is missing, its rows are left out; name the file with --fib25\n")
    large = {f"{count} cells on 2048 x 2048": voronoi(4 * side, count // of) for count in (800, 8000, 80000)}
    rows = []
    for group, title, turns in ((sections, "512 x 512", rounds), (large, "2048 x 2048", ceil(rounds / 3))):
        best = best_times({name: partial(ours, section) for name, section in group.items()}, turns)
        cost = {name: 1e9 * seconds / group[name].size for name, seconds in best.items()}
        rows += [verdict(f"ns per pixel, {name}", background(group[name]), cost[name]) for name in group]
        ratio = max(cost.values()) / min(cost.values())
        rows.append(verdict(f"dearest over cheapest, {title}", "", ratio, ratio <= 1.5, "<= 1.5"))
    return rows + [error_verdict(name, sections[name]) for name in ("500 long cells", "fib25") if name in sections]


def blocks(rounds: int, scale: int) -> list[dict[str, Any]]:
    """Measure three sections of 1024 x 1024 in blocks with a halo: the difference, and the cost relative to whole
    sections.

    The halo is extra work, but small windows stay in the cache: the cost can be below 1.
    """
    labels = np.stack([voronoi(1024 // scale, count // scale**2, seed=count) for count in (200, 2000, 20000)])
    whole, rows = ours(labels), []
    for block in (256, 512):
        difference = float(np.abs(blockwise(labels, block) - whole).max())
        best = best_times({"blocks": partial(blockwise, labels, block), "whole": partial(ours, labels)}, rounds)
        name = f"blocks of {block} x {block} over the whole"
        rows.append(verdict(f"{name}: largest difference", "", difference, difference == 0, "0"))
        rows.append(verdict(f"{name}: cost", "", best["blocks"] / best["whole"]))
    return rows


def background(labels: NDArray) -> str:
    """Return the share of pixels that have a border term."""
    return f"{100 * np.mean(labels == 0):.0f} % background, {np.unique(labels[labels > 0]).size} cells"


def error_verdict(name: str, labels: NDArray) -> dict[str, Any]:
    """Return the row on exactness."""
    largest = error(labels)
    return verdict(f"largest error / w0, {name}", "", largest, largest < 1e-6, "< 1e-6")


def verdict(
    measured: str, detail: str, value: float, met: bool | None = None, target: str | None = None
) -> dict[str, Any]:
    """Return one row of the table."""
    met = None if met is None else bool(met)
    return {"measured": measured, "detail": detail, "value": float(f"{value:.3g}"), "target": target, "met": met}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows in Markdown."""
    lines = ["| measured | value | target | met | detail |", "|---|---|---|---|---|"]
    for row in rows:
        met = {True: "yes", False: "NO", None: ""}[row["met"]]
        lines.append(f"| {row['measured']} | {row['value']:g} | {row['target'] or ''} | {met} | {row['detail']} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fib25", type=Path, default=FIB25, help="HDF5 with volumes/labels/neuron_ids")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contestant; slow ones take fewer")
    parser.add_argument("--scale", type=int, default=1, help="sides are divided by it, for a first try")
    arguments = parser.parse_args()
    rounds, scale = arguments.rounds, arguments.scale
    rows = speed(ceil(rounds / 5), scale) + flatness(rounds, scale, arguments.fib25) + blocks(ceil(rounds / 5), scale)
    print(table(rows))
    print(json.dumps({"clock": "process_time", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"), "rows": rows}))


if __name__ == "__main__":
    main()
