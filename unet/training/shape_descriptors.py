"""Local shape descriptors: statistics of the object around each voxel, a further target beside affinities.

Sheridan et al. 2022 (doi:10.1038/s41592-022-01711-z) let a network learn, beside affinities, what the object at a voxel
looks like within a Gaussian neighbourhood. The task asks for more context than a pair of voxels does. It is an
auxiliary one: the descriptors themselves are not stored.

g(d) is the Gaussian weight of an offset d. V(p) is the set of offsets d for which p + d is of the object at p:

```
size         s    = sum_V g(d) / sum g(d)
mean offset  m_i  = sum_V d_i g(d) / sum_V g(d)
covariance   c_ij = sum_V d_i d_j g(d) / sum_V g(d) - m_i m_j
```

Channels, each scaled to [0, 1] and clipped to it; sigma_i is the standard deviation of g along axis i:

```
3-D  2-D
0-2  0-1  mean offset along each axis           m_i / (2 sigma_i) + 1/2
3-5  2-3  variance along each axis              c_ii / sigma_i^2
6-8  4    normalised covariance zy, zx, yx; yx  c_ij / (2 sqrt(c_ii c_jj)) + 1/2;  1/2 where a variance is 0
9    5    size                                  s
```

All channels are 0 in the background, and 255 (does not count) where nobody annotated. Voxels without annotation, of the
background, of another object, beyond the volume or in its mirror image are not of the object.

Passes, for each object of a patch:

1. Cut its mask out, with the margin of g around it.
2. Sum along x with the weights g, d g and d^2 g, then along y and z, up to order 2 in all: ten sums in 3-D, six in 2-D.
   Each is a product with a banded matrix.
3. Turn the sums into descriptors at the voxels of the object.

The weights along an axis are whole numbers, so small that every sum is a whole number below 2^53. Sums in float64 are
then exact, in any order: a symmetry of the patch moves its descriptors bit for bit, and so does any number of threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from unet.config.label_kinds import UNLABELLED, not_annotated_id
from unet.config.model import ModelConfig
from unet.config.train import TrainConfig
from unet.geometry.box import Index
from unet.segmentation.region_graph import compact_ids

CUTOFF_SIGMAS = 3.0
"""Standard deviations at which the Gaussian neighbourhood ends."""
LARGEST_SIGMA = 50.0
"""Largest standard deviation in voxels: whole numbers describe no wider Gaussian well, and sums would take seconds."""
EXACT = 2.0**52
"""Bound of the sums: whole numbers up to 2^53 are exact in float64; half of it leaves room for rounded weights."""


@dataclass(frozen=True)
class ShapeDescriptors:
    """The local shape descriptors that a network learns.

    Parameters
    ----------
    sigma : tuple of float
        Standard deviation `(z, y, x)` of the Gaussian neighbourhood in voxels.
    axes : tuple of int
        Axes of the neighbourhood: all three (0, 1, 2), or y and x (1, 2).

    Raises
    ------
    ValueError
        If a standard deviation exceeds `LARGEST_SIGMA`.
    """

    sigma: tuple[float, float, float]
    axes: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        widest = max(self.sigma[axis] for axis in self.axes)
        if widest > LARGEST_SIGMA:
            raise ValueError(
                f"the neighbourhood of shape descriptors has a standard deviation of {widest:g} voxels, but at most "
                f"{LARGEST_SIGMA:g} are possible: lower train.affinities.shape_descriptors.sigma_nm"
            )

    @classmethod
    def of(cls, sigma_nm: float, dimensions: int, voxel_size_nm: Sequence[float]) -> "ShapeDescriptors":
        """Return the descriptors for a network: in 3-D, or within the section.

        >>> ShapeDescriptors.of(80, 2, (50, 4, 4)).sigma
        (1.6, 20.0, 20.0)
        """
        z, y, x = (sigma_nm / size for size in voxel_size_nm)
        return cls((z, y, x), (0, 1, 2) if dimensions == 3 else (1, 2))

    @property
    def channels(self) -> int:
        """Number of descriptors: 10 in 3-D, 6 within the section."""
        return descriptor_count(len(self.axes))

    @property
    def margin(self) -> Index:
        """Voxels `(z, y, x)` of ids that are needed on each side of the voxels that are described.

        >>> ShapeDescriptors((1.6, 20, 20), (1, 2)).margin
        (0, 60, 60)
        """
        z, y, x = (round(CUTOFF_SIGMAS * self.sigma[axis]) if axis in self.axes else 0 for axis in range(3))
        return z, y, x

    def targets(
        self, ids: NDArray[np.unsignedinteger], images: NDArray[np.integer] | None = None
    ) -> NDArray[np.float32]:
        """Return the descriptors of each voxel: 0 to 1; 0 in the background, 255 where nothing is annotated.

        Parameters
        ----------
        ids : unsigned array (z, y, x)
            Ids with `margin` voxels on each side; 0 is background, the largest number is not annotated.
        images : int array (z, y, x), optional
            The mirror image that each voxel belongs to (`unet.training.affinities.mirror_images`). An object and its
            image are two objects.

        Returns
        -------
        float32 array (channels, z, y, x), without the margin.
        """
        inner = tuple(slice(m, n - m) for m, n in zip(self.margin, ids.shape, strict=True))
        known = ids != not_annotated_id(ids.dtype)
        bodies = _bodies(np.where(known, ids, 0), images)
        described = bodies[inner]
        found = np.zeros((self.channels, *described.shape), np.float32)
        for number, box in enumerate(find_objects(described), start=1):
            if box is None:
                continue
            here = described[box] == number
            window = tuple(slice(s.start, s.stop + 2 * m) for s, m in zip(box, self.margin, strict=True))
            sums = self._sums(bodies[window] == number, here)
            found[(slice(None), *box)][:, here] = self._descriptors(sums)
        found[:, ~known[inner]] = UNLABELLED
        return found

    def _sums(self, mask: NDArray[np.bool_], here: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the sums over an object at each of its voxels in a box, in the order of `_powers`: (sums, n) (pass 2).

        Parameters
        ----------
        mask : bool array (z, y, x)
            The object, with the margin around the box.
        here : bool array (z, y, x)
            The object in the box.
        """
        kept = tuple(_extent(mask, axis) for axis in range(3))
        matrices = {axis: self._matrices(axis, here.shape[axis])[..., kept[axis]] for axis in self.axes}
        along_x = _sums_along_x(mask[kept], matrices[2])
        planes: dict[tuple[int, ...], NDArray[np.float64]] = {
            (power, power_x): matrices[1][power] @ along_x[:, :, power_x]
            for power_x in range(3)
            for power in range(3 - power_x)
        }
        if self.axes == (1, 2):
            return np.stack([planes[powers][here] for powers in _powers(2)])
        described = here.any(axis=0)
        columns = {powers: plane[:, described] for powers, plane in planes.items()}
        voxels = here[:, described]
        return np.stack([(matrices[0][power] @ columns[y, x])[voxels] for power, y, x in _powers(3)])

    def _matrices(self, axis: int, size: int) -> NDArray[np.float64]:
        """Return the banded matrices of d^k g(d) along an axis for k = 0, 1, 2: (3, size, size and margin)."""
        margin, weights = self.margin[axis], self._weights(axis)
        offset = np.arange(size + 2 * margin) - margin - np.arange(size)[:, None]
        banded = np.where(abs(offset) <= margin, weights[np.clip(offset + margin, 0, 2 * margin)], 0.0)
        return np.stack([banded, banded * offset, banded * offset**2])

    def _weights(self, axis: int) -> NDArray[np.float64]:
        """Return the weights of the offsets -margin to margin along an axis: whole numbers, a rounded Gaussian.

        Their sum is about S, with S^n margin^2 = 2^52 for the n axes and the largest margin.
        """
        margin = self.margin[axis]
        gauss = np.exp(-0.5 * (np.arange(-margin, margin + 1) / self.sigma[axis]) ** 2)
        total = (EXACT / max(1, *self.margin) ** 2) ** (1 / len(self.axes))
        return np.rint(gauss / gauss.sum() * total)

    def _descriptors(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the descriptors (channels, n) of n voxels from their sums (pass 3)."""
        axes = len(self.axes)
        sigma = np.array([self.sigma[axis] for axis in self.axes])[:, None]
        whole = np.prod([self._weights(axis).sum() for axis in self.axes])
        weight, mean, second = sums[0], sums[1 : axes + 1] / sums[0], sums[axes + 1 :] / sums[0]
        variance = second[:axes] - mean**2
        pairs = list(combinations(range(axes), 2))
        mixed = [second[axes + k] - mean[i] * mean[j] for k, (i, j) in enumerate(pairs)]
        product = [variance[i] * variance[j] for i, j in pairs]
        covariance = [
            np.divide(one, np.sqrt(both), out=np.zeros_like(one), where=both > 0)
            for one, both in zip(mixed, product, strict=True)
        ]
        scaled = [mean / (2 * sigma) + 0.5, variance / sigma**2, np.stack(covariance) / 2 + 0.5, weight[None] / whole]
        return np.clip(np.concatenate(scaled), 0, 1)


def learnt_descriptors(
    model: ModelConfig, train: TrainConfig, voxel_size_nm: Sequence[float]
) -> ShapeDescriptors | None:
    """Return the shape descriptors that a network learns beside affinities; None if it learns none."""
    chosen = train.affinities.shape_descriptors
    if chosen is None or model.output != "affinities":
        return None
    return ShapeDescriptors.of(chosen.sigma_nm, model.dimensions, voxel_size_nm)


def descriptor_count(dimensions: int) -> int:
    """Return the number of descriptors: means, variances, covariances and size.

    >>> descriptor_count(2), descriptor_count(3)
    (6, 10)
    """
    return 2 * dimensions + dimensions * (dimensions - 1) // 2 + 1


def _powers(axes: int) -> list[tuple[int, ...]]:
    """Return the powers of the offset along each axis in the sums: 0; means; squares; mixed products.

    >>> _powers(2)
    [(0, 0), (1, 0), (0, 1), (2, 0), (0, 2), (1, 1)]
    """

    def power(*raised: int) -> tuple[int, ...]:
        return tuple(raised.count(axis) for axis in range(axes))

    single = range(axes)
    return [
        power(),
        *(power(i) for i in single),
        *(power(i, i) for i in single),
        *(power(i, j) for i, j in combinations(single, 2)),
    ]


def _bodies(ids: NDArray[np.unsignedinteger], images: NDArray[np.integer] | None) -> NDArray[np.int32]:
    """Return a number for each object in each mirror image, 1, 2, ... without gaps; 0 stays background."""
    known, numbers = compact_ids(ids)
    if images is not None:
        several = (numbers + np.uint32(1)) * np.uint32(images.max() + 1) + images.astype(np.uint32)
        known, numbers = compact_ids(np.where(ids > 0, several, np.uint32(0)))
    return numbers.astype(np.int32) + np.int32(known[0] > 0)


def _extent(mask: NDArray[np.bool_], axis: int) -> slice:
    """Return the range along an axis from the first plane with a True to the last."""
    where = np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis)))
    return slice(int(where[0]), int(where[-1]) + 1)


def _sums_along_x(mask: NDArray[np.bool_], matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the products of three matrices with the rows of a mask along x: (z, y, 3, x).

    A thin object leaves most rows of its box empty; these cost nothing.
    """
    filled = mask.any(axis=2)
    sums = np.zeros((*mask.shape[:2], *matrices.shape[:2]))
    sums[filled] = (mask[filled].astype(np.float64) @ np.concatenate(matrices).T).reshape(-1, *matrices.shape[:2])
    return sums
