"""Sizes that follow from the layers of a network: its output, its pooling, and the receptive field of a voxel.

Each axis is counted by itself. All sizes are in voxels, and indices have axes `(z, y, x)`.
"""

from collections.abc import Sequence
from math import prod
from typing import Literal, Protocol

from unet.geometry.box import Index

Interval = tuple[int, int]


class NetworkShape(Protocol):
    """The settings of a network that determine its tile sizes: keys of the section `model` of the configuration."""

    @property
    def dimensions(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def architecture(self) -> str: ...
    @property
    def convolution(self) -> str: ...
    @property
    def upsampling(self) -> str: ...
    @property
    def pooling(self) -> Sequence[Index] | Literal["auto"] | None: ...
    @property
    def kernels(self) -> Sequence[Index] | None: ...
    @property
    def sections(self) -> int: ...


def stride_unit(config: NetworkShape) -> Index:
    """Return the product of the pooling factors along `(z, y, x)`: the network is invariant to shifts by it."""
    return tuple(prod(_factors(config, axis)) for axis in range(3))


def receptive_field_overhang(config: NetworkShape, axis: int = 2) -> int:
    """Return how far (voxels) the receptive field of a period of the pooling grid exceeds that period along `axis`.

    It is 94 for a zero-padded network of the paper's depth. Traced back from the output, an interval [a, b] of voxels
    depends on

    ```
    two 3x3 convolutions          [a - 2, b + 2]       (size 1: unchanged)
    max-pool by f                 [a f, b f + f - 1]
    up-convolution by f           [a // f, b // f]
    interpolation by f > 1        [(a + f/2) // f - 1, (b + f/2) // f]
    ```

    A level depends on the interval of its skip connection and on that of the level below. Tiles start and end with a
    period of `stride_unit` voxels, so the intervals of its first and last voxel determine the result. A voxel in the
    middle may depend on voxels further from itself (107), but not on voxels beyond these two intervals.
    """
    if not is_convolved(config, axis):
        return 0
    last = stride_unit(config)[axis] - 1
    return max(-_interval_read(config, axis, 0)[0], _interval_read(config, axis, last)[1] - last)


def network_output(config: NetworkShape, axis: int, size: int) -> int:
    """Return the length of the network's result along one axis; 0 if a pool or the crop of a skip has a remainder.

    ```
    two 3x3 convolutions    s' = s - 4                 (zero-padded or of size 1: s)
    max-pool by f           s' = s / f
    up-convolution by f     s' = s f
    interpolation by f      s' = s f - 2 floor(f / 2)  (zero-padded: s f)
    skip                    cut to s', the same on both sides
    ```
    """
    valid, overhang = config.convolution == "valid", _overhang(config, axis)
    skips, n = [], size - (2 * overhang[0] if valid else 0)
    for deeper, f in enumerate(_factors(config, axis), start=1):
        if n < f or n % f:
            return 0
        skips.append(n)
        n = n // f - (2 * overhang[deeper] if valid else 0)
    for f, level in _expanding_path(config, axis):
        n = n * f - (f // 2 * 2 if _interpolates(config) and valid else 0)
        if level is not None and (skips[level] < n or (skips[level] - n) % 2):
            return 0
        n -= 2 * overhang[level] if valid and level is not None and config.architecture == "unet" else 0
    return max(0, n)


def _interval_read(config: NetworkShape, axis: int, voxel: int) -> Interval:
    """Return the first and last input voxel that an output voxel of a zero-padded network depends on."""
    a = b = voxel
    skips: dict[int, Interval] = {}
    overhang = _overhang(config, axis)
    for f, level in reversed(_expanding_path(config, axis)):
        if config.architecture == "unet" and level is not None:
            a, b = a - overhang[level], b + overhang[level]
        if level is not None:
            skips[level] = a, b
        a, b = (_interpolated(a, f)[0], _interpolated(b, f)[1]) if _interpolates(config) else (a // f, b // f)
    for level, f in reversed(list(enumerate(_factors(config, axis)))):
        a, b = (a - overhang[level + 1]) * f, (b + overhang[level + 1]) * f + f - 1
        c, d = skips.get(level, (a, b))
        a, b = min(a, c), max(b, d)
    return a - overhang[0], b + overhang[0]


def _interpolated(voxel: int, f: int) -> Interval:
    """Return the first and last voxel from which linear interpolation by `f` (1 or even) computes an output voxel."""
    last = (voxel + f // 2) // f
    return last - (f > 1), last


def _expanding_path(config: NetworkShape, axis: int) -> list[tuple[int, int | None]]:
    """Return the up-sampling factors from the deepest level on, each with the level of the skip that joins after it."""
    factors = _factors(config, axis)
    if config.architecture == "unet":
        return [(factors[level], level) for level in reversed(range(len(factors)))]
    last = len(factors) - 1  # FCN-8s joins two skips, then up-samples to full resolution in one step
    return [(factors[last], last), (factors[last - 1], last - 1), (prod(factors[: last - 1]), None)]


def pooling_factors(config: NetworkShape) -> Sequence[Index]:
    """Return the factors `(z, y, x)` of each pooling.

    Raises
    ------
    ValueError
        If poolings are still to be chosen by the voxel size.
    """
    if config.pooling == "auto":
        raise ValueError("pooling: auto depends on the voxel size: use `ModelConfig.for_voxels` first")
    default = (1, 2, 2) if config.dimensions == 2 else (2, 2, 2)
    return config.pooling or [default] * (config.depth - 1)


def _factors(config: NetworkShape, axis: int) -> list[int]:
    """Return the pooling factors along one axis, level by level."""
    return [factor[axis] for factor in pooling_factors(config)]


def _overhang(config: NetworkShape, axis: int) -> list[int]:
    """Return how many voxels the two convolutions of each level reach along one axis: 2 with 3x3, 0 with size 1."""
    return [kernel[axis] - 1 for kernel in config.kernels or [(3, 3, 3)] * config.depth]


def _interpolates(config: NetworkShape) -> bool:
    """Tell whether up-sampling interpolates between voxels; FCN-8s always does."""
    return config.architecture == "fcn8s" or config.upsampling == "bilinear"


def is_convolved(config: NetworkShape, axis: int) -> bool:
    """Tell whether the network convolves along the axis; a 2-D network does not convolve along z."""
    return axis >= 3 - config.dimensions
