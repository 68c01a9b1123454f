"""The decoding of affinities on fib25: settings chosen on `train` alone, scored once on `validation`, beside FFN.

    python benchmarks/affinity_decoding.py                # ../shared/data/fib25/affinities.h5; a table, then JSON
    python benchmarks/affinity_decoding.py --generated 24 # cells of a generated cube of that side, for a look alone

The affinities are stored: nothing is trained or predicted here, so what differs is the decoding alone. All steps are
functions of the project: interior, watershed, region graph, average linkage (or mutex watershed), joining of small
objects. All combinations of `CANDIDATES` are scored on `train`. For each method, the one that `curves_of` puts first is
scored on `validation`. So `segment.decoder: auto` chooses, too.

Scores count every labelled voxel; the voxels that FFN leaves 0 are one segment. The row `fragments` shows what no
linkage can mend. The row `within` counts only the voxels whose 26 neighbours are of one true object: it is free of the
noise of borders between objects.
"""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from starter import DATA

from unet.config.decoder import CandidatesConfig, Decoder, FragmentSettings
from unet.config.segment import AgglomerateConfig, SegmentConfig
from unet.config.watershed import WatershedConfig
from unet.evaluation.contingency import Contingency, adapted_rand_error, contingency, variation_of_information
from unet.evaluation.decoders import SCORES, curves_of, decoder_scores
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.geometry.offsets import ISOTROPIC_OFFSETS, Offset
from unet.segmentation.affinities import graph_channels, interior
from unet.segmentation.affinity_graph import block_affinity_edges
from unet.segmentation.edge_slabs import EdgeSlabs, gather_edges
from unet.segmentation.foreground import confidence, foreground
from unet.segmentation.fragments import Fragments, join_blocks
from unet.segmentation.height_map import WatershedParameters
from unet.segmentation.region_graph import fragment_ids
from unet.segmentation.watershed import watershed_block

AXES = (0, 1, 2)
CANDIDATES = CandidatesConfig(
    fragments=[
        FragmentSettings(
            watershed=WatershedConfig(max_distance_px=4, smoothing_px=1, expand_px=12, confidence_weight_px=0)
        ),
        FragmentSettings(watershed=WatershedConfig(max_distance_px=4, smoothing_px=0.7, expand_px=12)),
    ],
    max_offset_px=[1, 3, 9],
    thresholds=[0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55],
    join_fragments_below=[0, 500],
)
"""The threshold of the interior stays 0.3; between 0.1 and 0.5 it does not matter on `train`."""


class Volume(NamedTuple):
    """Affinities `(c, z, y, x)` of each offset, true ids `(z, y, x)`, and another segmentation or None."""

    affinities: NDArray[np.uint8]
    offsets: list[Offset]
    truth: NDArray[np.unsignedinteger]
    peer: NDArray[np.integer] | None


def stored(name: str) -> Volume:
    """Return the affinities and labels of a volume of fib25."""
    import h5py

    folder = DATA / "fib25"
    with h5py.File(folder / "affinities.h5") as file, h5py.File(folder / f"{name}.h5") as labelled:
        found = file[f"{name}/affinities"]
        offsets: list[Offset] = [(int(z), int(y), int(x)) for z, y, x in found.attrs["offsets_zyx"]]
        peer = labelled["volumes/peers/ffn"][()] if "volumes/peers" in labelled else None
        return Volume(found[()], offsets, labelled["volumes/labels/neuron_ids"][()], peer)


def generated(side: int, seed: int) -> Volume:
    """Return the affinities and labels of Voronoi cells; the affinities are right but for noise."""
    random = np.random.default_rng(seed)
    seeds = random.integers(0, side, (max(2, side**3 // 1000), 3))
    voxels = np.moveaxis(np.mgrid[:side, :side, :side], 0, -1)
    cells = np.argmin([((voxels - one) ** 2).sum(axis=-1) for one in seeds], axis=0) + 1
    affinities = np.zeros((len(ISOTROPIC_OFFSETS), *cells.shape), np.uint8)
    for levels, offset in zip(affinities, ISOTROPIC_OFFSETS, strict=True):
        same = cells == np.roll(cells, [-d for d in offset], axis=AXES)
        levels[:] = np.clip(255 * (0.15 + 0.7 * same) + random.normal(0, 20, cells.shape), 0, 255)
    return Volume(affinities, list(ISOTROPIC_OFFSETS), cells.astype(np.uint64), None)


def fragments_of(volume: Volume, settings: FragmentSettings) -> tuple[Fragments, NDArray[np.uint32]]:
    """Return the basins of the watershed on the interior."""
    shape, threshold = volume.truth.shape, settings.threshold
    box = Box.of_shape(shape)
    segment = SegmentConfig(method="watershed", connectivity="volume", watershed=settings.watershed)
    inside = interior(volume.affinities, box, shape, volume.offsets, AXES)
    parameters = WatershedParameters.of(segment, (1, 1, 1))
    found = watershed_block(foreground(inside, threshold), box, shape, parameters, None, confidence(inside, threshold))
    return join_blocks(Grid(shape, shape), [found]), found.labels


def within_objects(truth: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
    """Return where all 26 neighbours of a voxel belong to its object."""
    return maximum_filter(truth, 3) == minimum_filter(truth, 3)


def edges_of(volume: Volume, fragments: Fragments, labels: NDArray[np.uint32], max_offset: int | None) -> EdgeSlabs:
    """Return the edges of the region graph, in one slab."""
    box, shape = Box.of_shape(volume.truth.shape), volume.truth.shape
    used = graph_channels(volume.offsets, max_offset, None, section=False)
    ids = fragment_ids(labels, box, Grid(shape, shape))
    found = block_affinity_edges(ids, volume.affinities[used], box, box, [volume.offsets[c] for c in used])
    return EdgeSlabs.whole(gather_edges(fragments, [found.as_boundary()]), fragments.component_count)


def scores(table: Contingency) -> dict[str, float]:
    """Return VOI and adapted Rand error."""
    return dict(zip(SCORES, (*variation_of_information(table), adapted_rand_error(table)), strict=True))


def decoded(volume: Volume, decoders: list[Decoder], seconds: dict[str, float]) -> Iterator[tuple[str, Any, dict]]:
    """Return the scores of each variant's fragments, and of each decoder; add the time of each step to `seconds`."""

    def timed(step: str, began: float) -> None:
        seconds[step] = seconds.get(step, 0) + time.perf_counter() - began

    for number in dict.fromkeys(decoder.fragments for decoder in decoders):
        began = time.perf_counter()
        fragments, labels = fragments_of(volume, CANDIDATES.fragments[number])
        timed("fragments", began)
        table, components = contingency(volume.truth, labels.astype(np.int64)), fragments.merge_components()
        component_of = np.concatenate([[0], fragments.component_of + 1])
        table = table.relabelled(component_of)
        yield f"fragments {number}", None, scores(table)
        within = contingency(volume.truth * within_objects(volume.truth), labels.astype(np.int64))
        yield f"fragments {number} within", None, scores(within.relabelled(component_of))
        for max_offset in dict.fromkeys(one.max_offset_px for one in decoders if one.fragments == number):
            began = time.perf_counter()
            edges = edges_of(volume, fragments, labels, max_offset)
            timed("region graph", began)
            own = [one for one in decoders if (one.fragments, one.max_offset_px) == (number, max_offset)]
            began = time.perf_counter()
            for one, row in zip(
                own, decoder_scores(table, components, edges, own, AgglomerateConfig(), None), strict=True
            ):
                yield name_of(one), one, row
            timed("linkage", began)


def name_of(decoder: Decoder) -> str:
    """Return the settings of a decoder as text, in the order of the table's title."""
    return ", ".join(map(str, (*decoder.kind[:3], decoder.threshold, decoder.join_fragments_below)))


def show(volume: str, name: str, row: dict[str, float]) -> None:
    """Print a line of the table."""
    split, merge, error = (row[key] for key in SCORES)
    print("|", " | ".join((volume, name, f"{split + merge:.3f}", f"{split:.3f}", f"{merge:.3f}", f"{error:.4f}")), "|")


def chosen_on(volume: Volume, rows: dict[str, dict[str, float]]) -> list[Decoder]:
    """Return each method's decoder with the least smoothed VOI; print the best of each combination of settings."""
    found: dict[str, dict[str, Any]] = {}
    for name, decoder, row in decoded(volume, CANDIDATES.decoders(affinities=True), {}):
        if decoder is None:
            rows[f"train {name}"] = row
            show("train", name, row)
        else:
            found[name] = row
    curves = curves_of(list(found.values()))
    best = [curve.decoders[curve.best] for curve in curves]
    for name in map(name_of, best):
        rows[f"train {name}"] = found[name]
        show("train", name, found[name])
    return [next(one for one in best if one.method == method) for method in CANDIDATES.methods_for(affinities=True)]


def main() -> None:
    """Choose on one volume, score on the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generated", type=int, help="side of a generated cube instead of fib25")
    side = parser.parse_args().generated
    train, validation = (generated(side, 0), generated(side, 1)) if side else (stored("train"), stored("validation"))
    rows: dict[str, dict[str, float]] = {}
    print("| volume | fragments, max_offset, method, threshold, join_below | VOI | split | merge | ARE |")
    print("|---|---|---|---|---|---|")
    seconds: dict[str, float] = {}
    decoders = chosen_on(train, rows)
    for name, _, row in decoded(validation, decoders, seconds):
        rows[f"validation {name}"] = row
        show("validation", name, row)
    if validation.peer is not None:
        rows["validation FFN"] = scores(contingency(validation.truth, validation.peer.astype(np.int64) + 1))
        show("validation", "FFN", rows["validation FFN"])
    print(json.dumps({"chosen": [one.model_dump() for one in decoders], "seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
