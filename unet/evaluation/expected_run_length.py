"""Expected run length (ERL): the length of skeleton that one can follow until the segmentation errs.

1. `ExpectedRunLength.add`: look up the segment of every node of the true skeletons, block by block.
2. An edge is correct if its two nodes lie in one segment. Otherwise it is split, or omitted where a node has segment 0.
3. All correct edges of one skeleton in one segment are an error-free run.
4. A segment that holds runs of several skeletons is a merger; all of its runs count 0.

Pick a point uniformly along all skeletons. It lies on an error-free run of length L with probability L / total, where
total is the length of all skeletons. From there one can follow the whole run of length L. Hence

    ERL = sum over runs of length^2 / length of all skeletons

Januszewski et al. 2018, Nature Methods 15:605, doi:10.1038/s41592-018-0049-4, Methods; `expected_run_length` of
funlib.evaluate computes the same formula. The implementations differ in details:

- Here a merger needs runs of two skeletons that are at least `MERGER_NM` long: nodes set a little beside their neurite
  then merge nothing. funlib.evaluate takes one node of each skeleton, segmentation-skeleton-metrics more than 50. A
  number of nodes depends on their spacing (docs/results.md).
- Here only the runs in the merger count 0. In funlib.evaluate one merger removes all runs of its skeletons. There,
  segment 0 is a merger too if two skeletons have a node in it.
- segmentation-skeleton-metrics counts only the first connected piece of each segment that it meets. It assigns gaps of
  segment 0 between two nodes of one segment to that segment. It averages over the runs of a skeleton instead of its
  whole length: split and omitted edges then cost nothing.

Nothing is looked up between nodes. The straight line between two distant nodes leaves a winding neurite. Segments that
the line crosses there would count as splits and mergers of the skeleton, not of the segmentation (docs/results.md). A
split is therefore located with the precision of the nodes' spacing. A merger with a neuron that has no skeleton is not
found.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.evaluation.skeletons import PlacedSkeletons
from unet.geometry.box import Box

MERGER_NM = 100.0
"""nm: runs of two skeletons that are this long make their segment a merger; about the thickness of a thin neurite."""


@dataclass
class ExpectedRunLength:
    """The segment of every node, looked up block by block; the scores do not depend on the blocks.

    Attributes
    ----------
    skeletons : the true skeletons
    segment : (n,) uint64, segment of each node; 0 = none, or not looked up yet
    """

    skeletons: PlacedSkeletons
    segment: NDArray[np.uint64] = field(init=False)

    def __post_init__(self) -> None:
        self.segment = np.zeros(len(self.skeletons.skeleton), np.uint64)

    def add(self, box: Box, ids: NDArray[Any]) -> None:
        """Look up the nodes in a block; `ids` are the segments `(z, y, x)` of the voxels of the box."""
        first, stop = np.searchsorted(self.skeletons.voxel[0], (box.start[0], box.stop[0]))
        voxel = self.skeletons.voxel[:, first:stop] - np.array(box.start)[:, None]
        inside = ((voxel >= 0) & (voxel < np.array(box.shape)[:, None])).all(axis=0)
        self.segment[first:stop][inside] = ids[tuple(voxel[:, inside])]

    def scores(self) -> dict[str, float | int | None]:
        """Return the scores, see `expected_run_length_scores`."""
        return expected_run_length_scores(self.skeletons, self.segment)


def expected_run_length_scores(
    skeletons: PlacedSkeletons, segment: NDArray[np.uint64]
) -> dict[str, float | int | None]:
    """Return the expected run length, and the counts of the errors that shorten it.

    Parameters
    ----------
    skeletons : PlacedSkeletons
        The truth.
    segment : (n,) uint64
        Segment of each node; 0 = none.

    Returns
    -------
    dict
        `erl_nm`: expected run length. `erl_perfect_nm`: expected run length of a segmentation without errors, which is
        the mean length of the skeletons weighted by their length. Both are None where no edge lies in the volume.
        `skeletons`: number of skeletons with an edge in the volume, `skeleton_nm`: their length. Numbers of
        `split_edges`, `omitted_edges`, `merging_segments` and `skeleton_nodes_outside`.
    """
    one, other = skeletons.edges.T
    omitted = (segment[one] == 0) | (segment[other] == 0)
    split = ~omitted & (segment[one] != segment[other])
    correct = ~omitted & ~split
    _, number = np.unique(segment, return_inverse=True)
    count = int(skeletons.skeleton.max(initial=0)) + 1
    run, run_nm = _sums((number * count + skeletons.skeleton)[one[correct]], skeletons.length_nm[correct])
    merging = np.bincount(run[run_nm >= MERGER_NM] // count, minlength=len(segment)) > 1
    kept = run_nm[~merging[run // count]]
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
    """Return each key, and the sum of the lengths with that key."""
    found, number = np.unique(keys, return_inverse=True)
    return found, np.bincount(number, weights=lengths).astype(np.float64)  # bincount of no keys has dtype int
