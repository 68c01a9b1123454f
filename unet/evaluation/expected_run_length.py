"""How far one can follow a neuron before the segmentation errs: the expected run length (ERL) along skeletons.

1. Every node of the true skeletons lies in one segment, looked up block by block (`RunLength.add`).
2. An edge whose two nodes lie in one segment is right; else it is split, or omitted where a node has segment 0.
3. The right edges of one skeleton in one segment are a run.
4. A segment that holds runs of several skeletons is a merger; all of them count 0.

Whoever sets out from a point that is drawn evenly from all skeletons is on a run with a probability of its length over
that of all skeletons, and is led along the whole run, hence

    ERL = sum over runs of length^2 / length of all skeletons

Januszewski et al. 2018, Nature Methods 15:605, doi:10.1038/s41592-018-0049-4, Methods; as `expected_run_length` of
funlib.evaluate computes it. What differs, here and there:

- A merger needs runs of two skeletons that are at least `MERGER_NM` long, so that nodes set a little beside their
  neurite merge nothing. funlib.evaluate takes one node of each, segmentation-skeleton-metrics more than 50: a number of
  nodes is as much as their spacing makes of it (docs/results.md).
- In funlib.evaluate one merger takes away all runs of its skeletons, and segment 0 is a merger too where two skeletons
  have a node in it. Here only the runs in the merger count 0.
- segmentation-skeleton-metrics counts of each segment the one connected piece that it comes to first, gives gaps of 0
  between two nodes of one segment to that segment, and averages over the runs of a skeleton instead of its whole
  length: the edges that are split or omitted cost nothing.

Nothing is looked up between nodes: the straight line between two distant nodes leaves a winding neurite, and what it
crosses there would be split and merged by the skeleton, not by the segmentation (docs/results.md). A split is therefore
seen with the precision of the nodes' spacing. A merger with a neuron that has no skeleton is not seen at all.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.evaluation.skeletons import PlacedSkeletons
from unet.geometry.box import Box

MERGER_NM = 100.0
"""Runs of two skeletons this long make their segment a merger: about the thickness of a thin neurite."""


@dataclass
class RunLength:
    """The segment of every node, added block by block; the scores do not depend on the blocks."""

    skeletons: PlacedSkeletons
    segment: NDArray[np.uint64] = field(init=False)

    def __post_init__(self) -> None:
        self.segment = np.zeros(len(self.skeletons.skeleton), np.uint64)

    def add(self, box: Box, ids: NDArray[Any]) -> None:
        """Add a block: ids `(z, y, x)` of the voxels of a box."""
        first, stop = np.searchsorted(self.skeletons.voxel[0], (box.start[0], box.stop[0]))
        voxel = self.skeletons.voxel[:, first:stop] - np.array(box.start)[:, None]
        inside = ((voxel >= 0) & (voxel < np.array(box.shape)[:, None])).all(axis=0)
        self.segment[first:stop][inside] = ids[tuple(voxel[:, inside])]

    def scores(self) -> dict[str, float | int | None]:
        """See `expected_run_length_scores`."""
        return expected_run_length_scores(self.skeletons, self.segment)


def expected_run_length_scores(
    skeletons: PlacedSkeletons, segment: NDArray[np.uint64]
) -> dict[str, float | int | None]:
    """The expected run length and what shortens it.

    Parameters
    ----------
    skeletons : PlacedSkeletons
        The truth.
    segment : (n,) uint64
        Segment of each node; 0 = none.

    Returns
    -------
    dict
        `erl_nm`, and `erl_perfect_nm`, that of a segmentation without an error: the mean length of the skeletons,
        weighted by it; None where no edge lies in the volume. `skeletons`, with an edge in the volume, and their length
        `skeleton_nm`. Numbers of `split_edges`, `omitted_edges`, `merging_segments`, and `skeleton_nodes_outside`.
    """
    one, other = skeletons.edges.T
    omitted = (segment[one] == 0) | (segment[other] == 0)
    split = ~omitted & (segment[one] != segment[other])
    right = ~omitted & ~split
    _, number = np.unique(segment, return_inverse=True)
    count = int(skeletons.skeleton.max(initial=0)) + 1
    run, runs = _sums((number * count + skeletons.skeleton)[one[right]], skeletons.length_nm[right])
    merging = np.bincount(run[runs >= MERGER_NM] // count, minlength=len(segment)) > 1
    kept = runs[~merging[run // count]]
    _, whole = _sums(skeletons.skeleton[one], skeletons.length_nm)
    total = float(whole.sum())
    return {
        "erl_nm": float((kept**2).sum() / total) if total else None,
        "erl_perfect_nm": float((whole**2).sum() / total) if total else None,
        "skeletons": len(whole),
        "skeleton_nm": total,
        "split_edges": int(split.sum()),
        "omitted_edges": int(omitted.sum()),
        "merging_segments": int(merging.sum()),
        "skeleton_nodes_outside": skeletons.outside,
    }


def _sums(keys: NDArray[np.int64], lengths: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each key, and the sum of the lengths that have it."""
    found, number = np.unique(keys, return_inverse=True)
    return found, np.bincount(number, weights=lengths).astype(np.float64)  # of nothing it makes whole numbers
