"""Augment a training patch: flips, rotation, elastic deformation, grey values (paper, section 3.1), section defects.

1. `draw_transform` fixes a `Transform`: a few random numbers.
2. `Transform.warp` computes the position q in the volume of each pixel p of the patch,

   ```
   q = centre + R F p + d(p) + s(k)     F flips, R rotates, d is the elastic displacement, p counts from the centre,
   ```                                  s is the displacement of section k in whole pixels

3. The caller reads `Warp.box`, which contains all voxels that the map needs. `Warp.image` and `Warp.labels` resample
   them. A patch therefore has no empty corners, and grey values, targets and weights share one map.

The map acts within sections. Except for s, it is the same for every section of a 3-D patch: a microscope images one
section at a time, and voxels are often several times as deep as wide.

Defects of single sections are drawn for each section of the patch:

```
section    contrast shift    missing        misalignment: from a section on,
   0       ||||||||||||      ||||||||||||   ||||||||||||     until the next jump
   1       ::::::::::::      ............     ||||||||||||
   2       ||||||||||||      ||||||||||||     ||||||||||||
targets    unchanged         unchanged      move along
```
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from unet.config.train import AugmentConfig
from unet.geometry.box import Index
from unet.training.section_defects import SectionDefect, draw_section_defects, with_defects

CUBIC_SUPPORT = (1, 3)
"""Pixels that cubic interpolation reads below and (exclusively) above the floor of a position."""

BLANK_STD = 4.0
"""Largest distance of a missing section's grey value from the mean, in std.

Stitching software fills in black, white or a mean grey. 0 and 255 are 2.3 to 4.0 std from the mean in ISBI 2012, VNC
and FIB-25. A network that knows one fill value only would take another one for tissue."""


@dataclass(frozen=True)
class Transform:
    """One random augmentation; the default changes nothing.

    `flips` apply to y and x; `angle` is in degrees from y to x; `vectors` `(2, g, g)` are displacements in px on a grid
    stretched over the patch. A grey value v becomes `gain * v + offset` plus normal noise of std `noise`, all in std of
    the volume.

    Other fields hold one value per section of the patch's input: `shifts` `(z, 2)` in whole px; `gains` and `offsets`
    `(z,)`, applied after `gain` and `offset`; `blanks` `(z,)`, the grey value of a missing section, else NaN.

    `blur` is the std in px of a Gaussian within sections. `defects` are of single sections, and come after it.
    """

    flips: tuple[bool, bool] = (False, False)
    angle: float = 0.0
    vectors: np.ndarray | None = None
    gain: float = 1.0
    offset: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0
    shifts: np.ndarray | None = None
    gains: np.ndarray | None = None
    offsets: np.ndarray | None = None
    blanks: np.ndarray | None = None
    blur: float = 0.0
    defects: tuple[SectionDefect, ...] = ()

    @property
    def exact(self) -> bool:
        """Return whether pixels fall onto voxels, so that nothing has to be interpolated."""
        return self.vectors is None and self.angle % 90 == 0

    def matrix(self) -> np.ndarray:
        """Return the matrix R F, exact for quarter turns."""
        turn = np.deg2rad(self.angle)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix = rotation @ np.diag([-1.0 if flip else 1.0 for flip in self.flips])
        return np.rint(matrix) if self.angle % 90 == 0 else matrix

    def warp(self, shape: tuple[int, int], centre: tuple[float, float]) -> "Warp":
        """Return the positions in the volume of the pixels of a patch.

        Parameters
        ----------
        shape : tuple of int
            Size `(y, x)` of the patch.
        centre : tuple of float
            Position `(y, x)` of the patch's centre in the volume; half-integer along axes of even size.
        """
        y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
        matrix = self.matrix()
        positions = np.stack([a * y[:, None] + b * x + c for (a, b), c in zip(matrix, centre, strict=True)])
        if self.vectors is not None:
            positions += displacements(self.vectors, shape)
        return Warp(positions, self.exact, self.shifts)

    def changed_intensities(self, values: np.ndarray) -> np.ndarray:
        """Apply brightness, contrast, noise and blanks to normalised grey values (mean 0, std 1).

        Parameters
        ----------
        values : numpy.ndarray
            float32 `(z, y, x)`; any shape if no field is per section.
        """
        if self.blur > 0:
            values = gaussian_filter(values, (*(0,) * (values.ndim - 2), self.blur, self.blur), mode="mirror")
        values = with_defects(values, self.defects)
        values = values * np.float32(self.gain) + np.float32(self.offset)
        if self.gains is not None and self.offsets is not None:
            values = values * _per_section(self.gains) + _per_section(self.offsets)
        if self.noise > 0:
            normal = np.random.default_rng(self.noise_seed).standard_normal(values.shape, dtype=np.float32)
            values += np.float32(self.noise) * normal
        if self.blanks is not None:
            blanks = _per_section(self.blanks)
            values = np.where(np.isnan(blanks), values, blanks)
        return values


def _per_section(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.float32)[:, None, None]


@dataclass(frozen=True)
class Warp:
    """Positions `(2, y, x)` float64 of a patch's pixels in the volume; section z is displaced by `shifts[z]` px."""

    positions: np.ndarray
    exact: bool
    shifts: np.ndarray | None = None

    def inner(self, shape: Index) -> "Warp":
        """Return the warp of the middle `(z, y, x)` of the patch, which the network's output covers."""
        rows, columns = (_middle(n, m) for n, m in zip(self.positions.shape[1:], shape[1:], strict=True))
        shifts = None if self.shifts is None else self.shifts[_middle(len(self.shifts), shape[0])]
        return Warp(self.positions[:, rows, columns], self.exact, shifts)

    def box(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return start and stop `(y, x)` of the voxels that all sections of the patch need; may exceed the volume."""
        low, high = self._section_box()
        if self.shifts is not None:
            low, high = low + self.shifts.min(axis=0), high + self.shifts.max(axis=0)
        return (int(low[0]), int(low[1])), (int(high[0]), int(high[1]))

    def _section_box(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = (np.floor(f(self.positions, axis=(1, 2))).astype(int) for f in (np.min, np.max))
        below, above = CUBIC_SUPPORT
        return low - below, high + above

    def _aligned(self, voxels: np.ndarray) -> np.ndarray:
        """Crop the voxels of `box` to those that each section needs, so that one map serves all sections."""
        if self.shifts is None:
            return voxels
        low, high = self._section_box()
        height, width = high - low
        corners = self.shifts - self.shifts.min(axis=0)
        return np.stack([s[y : y + height, x : x + width] for s, (y, x) in zip(voxels, corners, strict=True)])

    def labels(self, voxels: np.ndarray) -> np.ndarray:
        """Resample targets or weights by the nearest voxel.

        A class index cannot be averaged. A weight belongs to the class and the annotation of its own voxel. An average
        would give a membrane pixel the weight of its neighbour in the cell, and weight to an unlabelled voxel.

        Parameters
        ----------
        voxels : numpy.ndarray
            `(z, y, x)`, the voxels of `box`.

        Returns
        -------
        numpy.ndarray
            `(z, y, x)` of the patch, in the dtype of `voxels`.
        """
        start, _ = self._section_box()
        y, x = (np.floor(q + 0.5).astype(np.intp) - lo for q, lo in zip(self.positions, start, strict=True))
        voxels, (y0, x0) = self._aligned(voxels), (int(y[0, 0]), int(x[0, 0]))
        height, width = y.shape
        if self.exact and (y == y0 + np.arange(height)[:, None]).all() and (x == x0 + np.arange(width)).all():
            return voxels[:, y0 : y0 + height, x0 : x0 + width]  # neither turned nor flipped: nothing is copied
        return voxels[:, y, x]

    def image(self, voxels: np.ndarray) -> np.ndarray:
        """Resample grey values by cubic interpolation; linear interpolation would teach the network blurred images.

        Pixels that fall onto voxels (`exact`) are only moved. See `labels` for arguments; returns float32.
        """
        if self.exact:
            return self.labels(voxels).astype(np.float32)
        voxels, (start, _) = self._aligned(voxels), self._section_box()
        size = voxels.shape[1:]
        grid = np.stack(
            [2 * (self.positions[a] - start[a]) / (size[a] - 1) - 1 for a in (1, 0)], axis=-1, dtype=np.float32
        )
        source = torch.from_numpy(voxels.astype(np.float32))[None]  # sections are its channels
        patch = torch.nn.functional.grid_sample(
            source, torch.from_numpy(grid)[None], mode="bicubic", padding_mode="border", align_corners=True
        )
        return patch[0].numpy()


def _middle(outer: int, inner: int) -> slice:
    margin = (outer - inner) // 2
    return slice(margin, margin + inner)


def draw_transform(rng: np.random.Generator, config: AugmentConfig, sections: int = 1) -> Transform:
    """Draw a random transform.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of every random number; for the noise it draws a seed.
    config : AugmentConfig
        Section `train.augment` of the configuration.
    sections : int
        Number of sections of the patch's input.

    Source: Ronneberger, Fischer, Brox 2015, section 3.1, which does not give standard deviations of brightness,
    contrast and noise.
    """
    flips = tuple(bool(flip) for flip in rng.integers(2, size=2)) if config.flips else (False, False)
    angle = {"none": 0.0, "right": 90.0 * rng.integers(4), "any": rng.uniform(0, 360)}[config.rotation]
    elastic = config.elastic_px > 0 and rng.random() < config.elastic_probability
    grid = (2, config.elastic_grid, config.elastic_grid)
    return Transform(
        flips=(flips[0], flips[1]),
        angle=float(angle),
        vectors=rng.normal(0, config.elastic_px, grid) if elastic else None,
        gain=float(2 ** rng.normal(0, config.contrast)),
        offset=float(rng.normal(0, config.brightness)),
        noise=float(rng.uniform(0, config.noise)),
        noise_seed=int(rng.integers(2**63)),
        **_draw_defects(rng, config, sections),  # last, so that defects do not change the numbers above
    )


def _draw_defects(rng: np.random.Generator, config: AugmentConfig, sections: int) -> dict[str, Any]:
    """Draw defects of single sections, and blur; what is switched off takes no random number."""
    drawn: dict[str, Any] = {}
    if config.contrast_shift > 0:
        hit = rng.random(sections) < config.contrast_shift
        drawn["gains"] = np.where(hit, 2 ** rng.normal(0, config.contrast_shift_std, sections), 1)
        drawn["offsets"] = np.where(hit, rng.normal(0, config.contrast_shift_std, sections), 0)
    if config.missing_section > 0:
        hit = rng.random(sections) < config.missing_section
        drawn["blanks"] = np.where(hit, rng.uniform(-BLANK_STD, BLANK_STD, sections), np.nan)
    if config.misalignment > 0:
        hit = rng.random(sections) < config.misalignment
        jumps = np.where(hit[:, None], rng.normal(0, config.misalignment_px, (sections, 2)), 0)
        displaced = np.rint(np.cumsum(jumps, axis=0)).astype(int)
        drawn["shifts"] = displaced - displaced[sections // 2]  # the location drawn for its labels stays in the patch
    if config.jitter_px > 0:
        apart = np.rint(rng.normal(0, config.jitter_px, (sections, 2))).astype(int)
        drawn["shifts"] = drawn.get("shifts", 0) + apart - apart[sections // 2]
    if config.blur_px > 0 and rng.random() < config.blur_probability:
        drawn["blur"] = rng.uniform(0, config.blur_px)
    drawn["defects"] = draw_section_defects(rng, config, sections, BLANK_STD)
    return drawn


def displacements(vectors: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the displacement of every pixel by bicubic interpolation of vectors on a coarse grid.

    The grid's outer points lie on the outer pixels. Cubic interpolation is separable, so it takes one matrix per axis:
    `d = S_y vectors S_x^T`.

    Parameters
    ----------
    vectors : numpy.ndarray
        `(2, g, g)` in px, components y and x.
    shape : tuple of int
        Size `(y, x)` of the patch.

    Returns
    -------
    numpy.ndarray
        `(2, y, x)` in px.

    Source: Ronneberger, Fischer, Brox 2015, section 3.1.
    """
    return spline_matrix(shape[0], vectors.shape[1]) @ vectors @ spline_matrix(shape[1], vectors.shape[2]).T


@lru_cache(maxsize=16)
def spline_matrix(pixels: int, points: int) -> np.ndarray:
    """Return the natural cubic spline through `points` evenly spaced nodes as a matrix `(pixels, points)`.

    >>> spline_matrix(5, 3).round(4)[:3]
    array([[ 1.    ,  0.    ,  0.    ],
           [ 0.4062,  0.6875, -0.0938],
           [ 0.    ,  1.    ,  0.    ]])
    """
    nodes = np.linspace(0, max(pixels - 1, 1), points)
    return CubicSpline(nodes, np.eye(points), bc_type="natural")(np.arange(pixels))
