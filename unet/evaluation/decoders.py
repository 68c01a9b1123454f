"""Choose the settings of the decoding together: score every combination, and take one that its neighbours agree with.

1. `decoder_scores`: of one volume, VOI and adapted Rand error of each decoder. Voxels are counted once per set of
   fragments, in a contingency table of true ids and components of fragments; a decoder renames the components.
2. `mean_over_volumes`: the mean over volumes, weighted by their labelled voxels.
3. `curves_of`: the VOI over the threshold, one curve for each combination of the other settings. The first is that with
   the least VOI in the mean over three neighbouring thresholds (`threshold_curve`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config.decoder import Decoder
from unet.config.segment import AgglomerateConfig
from unet.evaluation.contingency import Contingency, adapted_rand_error, variation_of_information
from unet.evaluation.scores import EvaluationError
from unet.evaluation.threshold_curve import ThresholdCurve, threshold_curve
from unet.segmentation.edge_slabs import EdgeSlabs
from unet.segmentation.fragments import Fragments
from unet.segmentation.merging import mergeable_edges, solve_objects
from unet.segmentation.small_objects import join_small_objects

SCORES = ("voi_split", "voi_merge", "adapted_rand_error")

Row = Mapping[str, Any]
"""The settings of a `Decoder`, and its `SCORES` on a volume or on several."""


def decoder_scores(
    table: Contingency,
    components: Fragments,
    edges: EdgeSlabs,
    decoders: Sequence[Decoder],
    settings: AgglomerateConfig,
    section_voxels: int | None,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each decoder: its settings and its scores.

    Parameters
    ----------
    table : Contingency
        Voxels of each pair of true id and component of fragments (from 1; 0 = no fragment).
    components, edges, section_voxels
        See `unet.segmentation.merging.solve_objects`. `edges` holds the whole graph in one slab.
    decoders : sequence of Decoder
        Decoders of these fragments and edges.
    settings : AgglomerateConfig
        The settings that no decoder chooses.
    """
    solved: dict[tuple[str, float], NDArray[np.int32]] = {}
    for decoder in decoders:
        how = settings.model_copy(update={"method": decoder.method, "threshold": decoder.threshold})
        at = decoder.method, decoder.threshold
        if at not in solved:  # the size is applied afterwards
            solved[at] = solve_objects(
                components, edges, how.model_copy(update={"join_fragments_below": 0}), section_voxels
            )
        slabs = mergeable_edges(components, edges, how, section_voxels)
        objects = join_small_objects(solved[at], components.size, slabs, decoder.join_fragments_below)
        yield {**decoder.model_dump(), **scores_of(table, objects)}


def scores_of(table: Contingency, objects: NDArray[np.int32]) -> dict[str, float]:
    """Return the `SCORES` of objects, 0 to n - 1, of the components (from 1) that a table counts; {} of no voxel."""
    if not table.voxels:
        return {}
    renamed = table.relabelled(np.concatenate([[0], objects + 1]))
    return dict(zip(SCORES, (*variation_of_information(renamed), adapted_rand_error(renamed)), strict=True))


def mean_over_volumes(volumes: Sequence[Sequence[Row]], voxels: Sequence[int]) -> list[dict[str, Any]]:
    """Return the mean scores of each decoder, or of each threshold, over volumes, weighted by their labelled voxels.

    Parameters
    ----------
    volumes : sequence of rows
        Rows of each volume, of the same settings in the same order.
    voxels : sequence of int
        Labelled voxels of each volume. A volume of none does not count.

    Raises
    ------
    EvaluationError
        If no volume has a labelled voxel.
    """
    counted = [(rows, n) for rows, n in zip(volumes, voxels, strict=True) if n > 0]
    if not counted:
        raise EvaluationError("no labelled voxel: there are no settings to choose; check the labels")
    weights = [n for _, n in counted]
    return [
        {**same[0], **{key: float(np.average([row[key] for row in same], weights=weights)) for key in SCORES}}
        for same in zip(*(rows for rows, _ in counted), strict=True)
    ]


@dataclass(frozen=True, eq=False)
class DecoderCurve(ThresholdCurve):
    """The scores of one combination of settings over the threshold.

    Attributes
    ----------
    decoders : the combination at each threshold, in increasing order
    """

    decoders: Sequence[Decoder]

    def row(self) -> dict[str, Any]:
        """Return the settings, the best threshold and the curve, as plain values."""
        return {**self.decoders[self.best].model_dump(), **super().row()}


def curves_of(rows: Sequence[Row]) -> list[DecoderCurve]:
    """Return a curve for each combination of settings, the one with the least smoothed VOI first."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(_decoder(row).kind, []).append(row)
    curves = [
        DecoderCurve(**vars(threshold_curve(own)), decoders=[_decoder(row) for row in own]) for own in found.values()
    ]
    return sorted(curves, key=lambda curve: float(curve.smoothed.min()))


def _decoder(row: Row) -> Decoder:
    return Decoder(**{key: row[key] for key in Decoder.model_fields})
