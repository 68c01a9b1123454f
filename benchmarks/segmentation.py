"""Components beside cc3d and dask-image; watershed and agglomeration beside scikit-image, bioimage-cpp and waterz.

    OMP_NUM_THREADS=1 python benchmarks/segmentation.py                      # about 8 min; a table, then JSON
    OMP_NUM_THREADS=1 python benchmarks/segmentation.py --only components,cc3d,dask_image
    OMP_NUM_THREADS=1 python benchmarks/segmentation.py --depth 16 --side 512

One run. Printed are the processors' seconds (user and system, all threads), which other work on the machine spoils
little, and seconds of wall time. Each contestant runs in a process of its own, whose peak memory is counted above what
it held before; components and cc3d take turns, `ROUNDS` times, and the best of each counts.

- Components: from `probability.zarr` to `segmentation.zarr` with its pyramid, by the workflow's scripts, in the blocks
  and with the threads that the workflow uses by default; against cc3d on the same volume in memory, Zarr read before,
  nothing written; against dask-image's `label` on the same blocks, its labels counted and dropped. And components and
  cc3d once more on eight times the depth (the volume and its mirror image in turn), for the memory.
- Watershed and agglomeration: the same scripts, in 3-D, with the compiled kernels and without (`watershed_numpy`); and
  against the usual chain on whole arrays: scipy's distance
  transform, scikit-image's seeds and watershed, then our region graph and agglomeration; and the same with
  bioimage-cpp's distance transform and watershed. VOI is against the cells that the volume was made of.
- `waterz`, from the same probability in memory: affinities, its watershed on them with its own thresholds, and its
  agglomeration by the mean affinity; no distances, no seeds. An affinity is the mean of two neighbours' probability.
- Agglomeration alone, ours and waterz's: region graph, joins and final ids of the fragments that scikit-image floods
  before the clock starts. Here an affinity is the smaller probability of two neighbours. So the mean affinity is 1 less
  our mean boundary, and 0.5 is the same threshold. "From ours" is the adapted Rand error between the two results: 0
  where they are the same. Both start from uint8; waterz's affinities are made inside the clock.

dask-image, bioimage-cpp and waterz are left out where they are not installed. Programs that run in memory have run on a
corner of the volume before the clock starts. So their seconds hold no imports and no compiling.

The volume: cells around random points, their walls blurred and noisy, as a network's uint8 probability of the interior.
"""

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree
from starter import script

from unet.config.segment import SegmentConfig
from unet.config.storage import StorageConfig
from unet.evaluation.contingency import adapted_rand_error, contingency, variation_of_information
from unet.geometry import compiled
from unet.geometry.block_ranges import block_range_names
from unet.geometry.box import Box
from unet.segmentation.agglomeration import Graph, agglomerate, mean_boundary
from unet.segmentation.region_graph import block_edges
from unet.storage.files import write_json
from unet.volumes.volume import Volume

WATERSHED = {"method": "watershed", "connectivity": "volume", "agglomerate": {"threshold": 0.5}}
THRESHOLD = 0.5
THREADS = 2
"""Of the rules `segment`, `region_graph` and `relabel`."""
ROUNDS = 3
CELL_VOXELS = 20_000
AGGLOMERATIONS = ("agglomeration", "waterz_agglomeration")
"""Of fragments that are given."""
OPTIONAL = ("dask_image", "bioimage_cpp", "waterz")
"""Packages; a contestant needs the one that its name begins with."""
WATERSHEDS = ("watershed", "watershed_numpy")
"""The workflow's own, with the compiled kernels and without."""
OTHERS = ("skimage", "bioimage_cpp", "waterz", *AGGLOMERATIONS)
CONTESTANTS = ("components", "cc3d", "dask_image", *WATERSHEDS, *OTHERS)


def cells(depth: int, side: int, seed: int = 0) -> np.ndarray:
    """Return the ids of the cells, (z, y, x) uint32."""
    random = np.random.default_rng(seed)
    points = random.random((depth * side**2 // CELL_VOXELS, 3)) * (depth, side, side)
    tree, found = cKDTree(points), np.empty((depth, side, side), np.uint32)
    y, x = np.mgrid[:side, :side]
    for z in range(depth):
        voxels = np.stack([np.full(y.size, z), y.ravel(), x.ravel()], axis=1)
        found[z] = tree.query(voxels)[1].reshape(side, side) + 1
    return found


def probability(ids: np.ndarray, seed: int = 1) -> np.ndarray:
    """Return a network's interior probability: walls two voxels wide, blurred, with noise and weak spots."""
    wall = np.zeros(ids.shape, np.float32)
    for axis in range(3):
        line, marked = np.moveaxis(ids, axis, 0), np.moveaxis(wall, axis, 0)
        differ = line[1:] != line[:-1]
        marked[1:] = np.maximum(marked[1:], differ)
        marked[:-1] = np.maximum(marked[:-1], differ)
    random = np.random.default_rng(seed)
    weak = gaussian_filter(random.standard_normal(ids.shape).astype(np.float32), 6)
    wall = gaussian_filter(wall, 0.7) * np.clip(1.1 + 6 * weak, 0.2, 1)
    noise = gaussian_filter(random.standard_normal(ids.shape).astype(np.float32), 1) * 0.2
    return np.rint(255 * np.clip(1 - wall + noise, 0, 1)).astype(np.uint8)


def stored(folder: Path, values: np.ndarray) -> Volume:
    """Write the volume as the workflow has it after `predict`, in its default chunks and blocks."""
    storage, voxel = StorageConfig(), [10.0, 10.0, 10.0]
    layout: dict[str, Any] = {
        "shape": values.shape,
        "dtype": "uint8",
        "voxel_size_nm": voxel,
        "offset_nm": [0.0, 0.0, 0.0],
    }
    layout |= {"chunk": storage.chunk, "block": storage.block, "labels_dtype": None, "masked": False}
    write_json(folder / "survey.json", {"layout": layout})
    volume = Volume.open(folder / "volume", folder / "survey.json")
    image = volume.create("probability", "uint8", channels=["interior"])
    for box in volume.layout.grid.boxes():
        image.write_block(box, values[box.slices][None])
    return volume


def segmented(folder: Path, volume: Volume, segment: SegmentConfig, number: int) -> None:
    """Run every script from the probability to the final ids, in one block range; each run has its receipts."""
    [block_range] = block_range_names(volume.layout.grid, volume.layout.shape[0] * 10**9)
    rules = ("segment", "region_graph", "merge", "relabel")
    receipts = {rule: folder / str(number) / rule / "0.json" for rule in rules}
    common = {"survey": folder / "survey.json", "folder": volume.folder, "code": "one"}
    own, store = {**common, "block_range": block_range, "threads": THREADS}, {"store": "segmentation"}
    script("segment")(made=[], receipt=receipts["segment"], segment=segment, background=False, **store, **own)
    if segment.has_graph:
        script("region_graph")(segmented=[], receipt=receipts["region_graph"], segment=segment, **own)
    made = {"made": [receipts["segment"]], "layers_per_part": volume.layout.shape[0]}
    script("merge")(receipt=receipts["merge"], segment=segment, **made, **store, **common)
    script("relabel")(receipt=receipts["relabel"], **store, **own)


def whole_volume(volume: Volume, store: str) -> np.ndarray:
    """Return all voxels of a store."""
    return volume.image(store).read(Box.of_shape(volume.layout.shape))


def with_cc3d(values: np.ndarray) -> np.ndarray:
    """Label components in memory."""
    import cc3d

    return cc3d.connected_components(values > 255 * THRESHOLD, connectivity=6)


def with_dask_image(volume: Volume) -> int:
    """Label components of the same blocks by dask-image."""
    import dask.array as da
    from dask_image.ndmeasure import label

    blocks = da.from_zarr(str(volume.folder / "probability.zarr" / "0"))[0].rechunk(volume.layout.block)
    labels, _ = label(blocks > 255 * THRESHOLD)
    return int(labels.max().compute(scheduler="synchronous"))


def with_skimage(values: np.ndarray) -> np.ndarray:
    """Compute distance transform, seeds, watershed, region graph and agglomeration of whole arrays."""
    return agglomerated(flooded(values), values)


def flooded(values: np.ndarray) -> np.ndarray:
    """Return the fragments of scikit-image's watershed."""
    from skimage.segmentation import watershed

    distance = distance_transform_edt(values > 255 * THRESHOLD).astype(np.float32)
    return watershed(255 - values, seeds_of(distance))


def with_bioimage_cpp(values: np.ndarray) -> np.ndarray:
    """Do as `with_skimage`, with bioimage-cpp's distance transform and watershed."""
    import bioimage_cpp as bic

    distance = np.asarray(bic.distance.distance_transform((values > 255 * THRESHOLD).astype(np.uint8)), np.float32)
    boundary = 1 - values.astype(np.float32) / 255
    return agglomerated(bic.segmentation.watershed(boundary, seeds_of(distance).astype(np.uint32)), values)


def seeds_of(distance: np.ndarray) -> np.ndarray:
    """Return the numbered maxima of the smoothed distance."""
    from skimage.feature import peak_local_max

    peaks = peak_local_max(gaussian_filter(distance, 1), min_distance=3, exclude_border=False)
    seeds = np.zeros(distance.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return seeds


def agglomerated(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the fragments joined by their mean boundary, in whole arrays."""
    edges = block_edges(labels.astype(np.uint64), 255 - values, values.shape, [(0, 0, 1), (0, 1, 0), (1, 0, 0)])
    u, v = (ids.astype(np.int32) - 1 for ids in (edges.u, edges.v))
    graph = Graph(int(labels.max()), u, v, [edges.contacts, edges.boundary])
    return agglomerate(graph, mean_boundary, THRESHOLD)[labels.astype(np.int64) - 1] + 1


def with_waterz(values: np.ndarray) -> np.ndarray:
    """Label and join basins by waterz. With the smaller of two voxels, walls would be plateaus and borders anywhere."""
    import waterz

    mean = affinities(values, lambda one, other: np.add(one, other, dtype=np.float32) / 2)
    [found] = waterz.agglomerate(mean, [THRESHOLD])
    return found


def waterz_agglomerated(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Do as `agglomerated`, by waterz."""
    import waterz

    smaller = affinities(values, np.minimum)
    [found] = waterz.agglomerate(smaller, [THRESHOLD], fragments=labels.astype(np.uint64))
    return found


def affinities(values: np.ndarray, of_two: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Return affinities (3, z, y, x) of every voxel and the voxel before it along each axis."""
    found = np.zeros((3, *values.shape), np.float32)
    for axis in range(3):
        line, along = np.moveaxis(values, axis, 0), np.moveaxis(found[axis], axis, 0)
        along[1:] = of_two(line[1:], line[:-1])
    found /= 255
    return found


def quality(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Score a segmentation against the cells."""
    table = contingency(truth, found)
    return {"voi": sum(variation_of_information(table)), "adapted_rand_error": adapted_rand_error(table)}


IN_MEMORY: dict[str, Callable[..., np.ndarray]] = {
    "cc3d": with_cc3d,
    "skimage": with_skimage,
    "bioimage_cpp": with_bioimage_cpp,
    "waterz": with_waterz,
    "agglomeration": agglomerated,
    "waterz_agglomeration": waterz_agglomerated,
}
"""Contestants that take arrays; the others read a stored volume."""


def contest(name: str, data: Path, times: int) -> dict[str, Any]:
    """Run one contestant in this process, on `times` copies of the volume; Zarr is written before the clock starts."""
    values = np.load(data / "probability.npy")
    if times > 1:
        values = np.concatenate([values, values[::-1]] * (times // 2))
    arrays = [values]
    if name in AGGLOMERATIONS:
        arrays = [np.load(data / "fragments.npy"), values]
    with tempfile.TemporaryDirectory(dir=data) as temporary:
        folder = Path(temporary)
        volume, voxels = None if name in IN_MEMORY else stored(folder, values), values.size
        if volume is None:
            IN_MEMORY[name](*(array[:, :64, :64] for array in arrays))
        else:
            del values, arrays
        if name == "watershed_numpy":
            compiled.IS_INSTALLED = False
        segment = SegmentConfig(**(WATERSHED if name in WATERSHEDS else {"connectivity": "volume"}))
        memory, seconds, wall = _resident(), list[float](), list[float]()
        for number in range(2 if name in ("components", "cc3d", *WATERSHEDS) else 1):  # the second one finds all warm
            used, began = _processor_seconds(), time.perf_counter()
            if volume is None:
                found = IN_MEMORY[name](*arrays)
            elif name == "dask_image":
                with_dask_image(volume)
            else:
                segmented(folder, volume, segment, number)
            seconds.append(_processor_seconds() - used)
            wall.append(time.perf_counter() - began)
        row = {"contestant": name, "voxels": voxels, "seconds": min(seconds), "wall": min(wall)}
        row["extra_gb"] = (_peak() - memory) / 1e9
        if name not in ("components", "cc3d", "dask_image"):
            ids = found if volume is None else whole_volume(volume, "segmentation")
            row |= quality(np.load(data / "cells.npy"), ids)
        if name == "waterz_agglomeration":
            row["from_ours"] = adapted_rand_error(contingency(agglomerated(*arrays), found))
        return row


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident() -> int:
    """Return the bytes of this process, and reset its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def is_installed(name: str) -> bool:
    """Return whether the package of a contestant is there."""
    return not any(name.startswith(package) and importlib.util.find_spec(package) is None for package in OPTIONAL)


def run(name: str, data: Path, times: int = 1) -> dict[str, Any]:
    """Run a contestant in a process of its own."""
    command = [sys.executable, __file__, "--contestant", name, "--data", str(data), "--times", str(times)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    row: dict[str, Any] = json.loads(output.splitlines()[-1])
    return row


def alternating(names: Sequence[str], data: Path, times: int = 1) -> dict[str, dict[str, Any]]:
    """Run contestants in turn, and return the best round of each."""
    rounds = [{name: run(name, data, times) for name in names} for _ in range(ROUNDS)]
    fastest = {name: {key: min(row[name][key] for row in rounds) for key in ("seconds", "wall")} for name in names}
    return {name: rounds[0][name] | fastest[name] for name in names}


def show(row: dict[str, Any]) -> None:
    """Print a line of the table."""
    scores = (f"{row[key]:.4f}" if key in row else "" for key in ("voi", "adapted_rand_error", "from_ours"))
    times = (f"{row[key]:.3f}" for key in ("seconds", "wall"))
    rate = row["voxels"] / 1e6 / row["seconds"]
    numbers = (f"{row['voxels']:,}", *times, f"{rate:.2f}", f"{row['extra_gb']:.3f}", *scores)
    print("|", " | ".join((row["contestant"], *numbers)), "|", flush=True)


def verdict_of(rows: dict[str, dict[str, Any]], large: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the ratios of the programs that ran."""
    verdict = {}
    for key in ("seconds", "wall"):
        pairs = [("components", "cc3d"), ("dask_image", "components"), ("skimage", "watershed")]
        pairs += [("watershed_numpy", "watershed"), ("watershed", "waterz"), AGGLOMERATIONS]
        for slow, fast in pairs:
            if slow in rows and fast in rows:
                verdict[f"{slow}_over_{fast}_{key}"] = rows[slow][key] / rows[fast][key]
        if {"components", "cc3d"} <= large.keys():
            verdict[f"components_over_cc3d_{key}_large"] = large["components"][key] / large["cc3d"][key]
    if "components" in large:
        verdict["memory_over_that_of_an_eighth"] = large["components"]["extra_gb"] / rows["components"]["extra_gb"]
    return verdict


def main() -> None:
    """Run all contestants, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--only", default=",".join(CONTESTANTS), help="some of them, with commas between")
    parser.add_argument("--contestant", help="this one alone, in this process")
    parser.add_argument("--data", type=Path, help="where its volume is")
    parser.add_argument("--times", type=int, default=1, help="how often its volume is repeated")
    arguments = parser.parse_args()
    if arguments.contestant:
        print(json.dumps(contest(arguments.contestant, arguments.data, arguments.times)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        compare(Path(temporary), arguments.depth, arguments.side, arguments.only.split(","))


def compare(data: Path, depth: int, side: int, names: list[str]) -> None:
    """Make the volume, let the contestants run, print."""
    ids = cells(depth, side)
    np.save(data / "cells.npy", ids)
    values = probability(ids)
    np.save(data / "probability.npy", values)
    if set(names) & set(AGGLOMERATIONS):
        np.save(data / "fragments.npy", flooded(values))
    print("| contestant | voxels | seconds | wall | Mvoxel/s | extra GB | VOI | adapted Rand error | from ours |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    quick = [name for name in ("components", "cc3d") if name in names]
    rows, large = alternating(quick, data), alternating(quick, data, 8)
    for row in (*rows.values(), *large.values()):
        show(row)
    for name in names:
        if name not in quick and is_installed(name):
            rows[name] = run(name, data)
            show(rows[name])
    print(json.dumps({"verdict": verdict_of(rows, large), "rows": rows, "large": large}))


if __name__ == "__main__":
    main()
