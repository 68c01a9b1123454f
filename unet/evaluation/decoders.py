"""Choose the settings of the decoding together: score every combination, and take one that its neighbours agree with.

1. `decoder_scores`: of one volume, VOI and adapted Rand error of each decoder. Voxels are counted once per set of
   fragments, in a contingency table of true ids and components of fragments; a decoder renames the components.
2. `mean_over_volumes`: the mean over volumes, weighted by their labelled voxels.
3. `curves_of`: the VOI over the threshold, one curve for each combination of the other settings.
4. `DecoderCurve.smoothed`: the mean over a threshold and its two neighbours. One join of two large objects, by luck at
   one threshold alone, moves the VOI by more than all other settings, and is no reason to choose it.
5. `chosen_curve`: the curve with the least smoothed VOI. The flat part around its threshold says how sure that is.

```
VOI    .    .              . the scores      one good threshold between two bad ones is not chosen
         .      . . .        flat part       three good ones beside each other are
           .         .
threshold 0.1 ...  0.5
```
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
from unet.segmentation.fragments import Fragments
from unet.segmentation.merging import mergeable_edges, solve_objects
from unet.segmentation.region_graph import EdgeSlabs
from unet.segmentation.small_objects import join_small_objects

SCORES = ("voi_split", "voi_merge", "adapted_rand_error")
FLAT_BITS = 0.05
"""VOI above the chosen one, in bits, up to which neighbouring thresholds count as equally good."""
DIGITS = 9
"""Digits of a score that do not depend on the order of the components, which differs with the blocks."""

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
        yield {**decoder.model_dump(), **_scores(table.relabelled(np.concatenate([[0], objects + 1])))}


def _scores(table: Contingency) -> dict[str, float]:
    if not table.voxels:
        return {}
    exact = (*variation_of_information(table), adapted_rand_error(table))
    return {key: round(value, DIGITS) for key, value in zip(SCORES, exact, strict=True)}


def mean_over_volumes(volumes: Sequence[Sequence[Row]], voxels: Sequence[int]) -> list[dict[str, Any]]:
    """Return each decoder's mean scores over volumes, weighted by their labelled voxels.

    Parameters
    ----------
    volumes : sequence of rows
        Rows of each volume, of the same decoders in the same order.
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
class DecoderCurve:
    """The scores of one combination of settings over the threshold.

    Attributes
    ----------
    decoders : the combination at each threshold, in increasing order
    voi : (thresholds,) float64, VOI in bits
    adapted_rand_error : (thresholds,) float64
    """

    decoders: list[Decoder]
    voi: NDArray[np.float64]
    adapted_rand_error: NDArray[np.float64]

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """Return the mean VOI over each threshold and its two neighbours; infinite at the ends, which have but one.

        Of fewer than three thresholds each stands for itself.

        >>> decoders = [Decoder(fragments=0, max_offset_px=1, method="mean", threshold=t, join_fragments_below=0)
        ...             for t in (0.1, 0.2, 0.3, 0.4)]
        >>> DecoderCurve(decoders, np.array([3.0, 0, 3, 0]), np.zeros(4)).smoothed.tolist()
        [inf, 2.0, 1.0, inf]
        """
        if len(self.voi) < 3:
            return self.voi
        inner = (self.voi[:-2] + self.voi[1:-1] + self.voi[2:]) / 3
        return np.concatenate([[np.inf], inner, [np.inf]])

    @property
    def best(self) -> int:
        """Return the index of the threshold with the least smoothed VOI; of equals the one in the middle."""
        equals = np.flatnonzero(self.smoothed == self.smoothed.min())
        return int(equals[(len(equals) - 1) // 2])

    @property
    def flat(self) -> tuple[float, float]:
        """Return the lowest and highest threshold around the best one with a VOI at most `FLAT_BITS` above its own."""
        near = self.voi <= self.voi[self.best] + FLAT_BITS
        first = last = self.best
        while first > 0 and near[first - 1]:
            first -= 1
        while last + 1 < len(near) and near[last + 1]:
            last += 1
        return self.decoders[first].threshold, self.decoders[last].threshold

    @property
    def beyond(self) -> bool:
        """Return whether an end of the list, which is never chosen, has a lower VOI than the threshold beside it."""
        ends = ((1, 0), (len(self.voi) - 2, -1))
        return any(self.best == beside and self.voi[end] < self.voi[beside] for beside, end in ends)

    def row(self) -> dict[str, Any]:
        """Return the curve and its best threshold, as plain values."""
        best = self.best
        return {
            **self.decoders[best].model_dump(),
            "voi": float(self.voi[best]),
            "smoothed_voi": float(self.smoothed[best]),
            "adapted_rand_error": float(self.adapted_rand_error[best]),
            "flat": list(self.flat),
            "curve": self.voi.tolist(),
        }


def curves_of(rows: Sequence[Row]) -> list[DecoderCurve]:
    """Return a curve for each combination of settings, the one with the least smoothed VOI first."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(_decoder(row).kind, []).append(row)
    curves = [
        DecoderCurve(
            [_decoder(row) for row in own],
            np.array([row["voi_split"] + row["voi_merge"] for row in own]),
            np.array([row["adapted_rand_error"] for row in own]),
        )
        for own in found.values()
    ]
    return sorted(curves, key=lambda curve: float(curve.smoothed.min()))


def _decoder(row: Row) -> Decoder:
    return Decoder(**{key: row[key] for key in Decoder.model_fields})
