"""The tissue of the synthetic volume: neurites and organelles that continue from section to section.

1. `_pack`          Pack discs of all sizes into the plane, single or in chains; a chain is a cell.
2. `Discs.grown`    Move and resize the discs smoothly along z, so that each chain becomes a neurite with one id.
3. `displacement`   Bend straight borders into wavy outlines by a smooth warp that changes slowly along z.
4. `_organelles`    Place mitochondria and vesicle clusters into wide discs; they move with the discs.

Lengths are in px of 4 nm. A *cut* is one of the `CUTS` planes through the thickness of a section.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Random = np.random.Generator
Floats = NDArray[np.floating[Any]]
Ids = NDArray[np.integer[Any]]

MARGIN = 60
"""Tissue beyond the edges of a section in px, so that cells can leave and enter."""

CUTS = 3
"""Cuts through the thickness of a section: top, middle, bottom."""

WARPS = ((20.0, 110.0, 5.0), (7.0, 33.0, 5.0), (2.0, 13.0, 3.0))
"""Amplitude (px), scale in the section (px) and scale along z (sections) of each warp."""


def _bumps(length: int, scale: float) -> Floats:
    """Return Gaussian bumps `scale` apart with rows of unit norm: `bumps @ white noise` is smooth, of unit variance."""
    knots = np.arange(-2, length / scale + 2)
    bumps = np.exp(-(((np.arange(length)[:, None] / scale - knots) / 0.8) ** 2))
    return bumps / np.linalg.norm(bumps, axis=1, keepdims=True)


@dataclass(frozen=True)
class SmoothNoise:
    """Smooth noise of unit variance over all cuts."""

    lattice: Floats
    bumps: Floats

    @classmethod
    def drawn(cls, rng: Random, cuts: int, size: int, scale: float, along_z: float) -> "SmoothNoise":
        bumps, bumps_z = _bumps(size, scale), _bumps(cuts, along_z)
        white = rng.standard_normal((bumps_z.shape[1], bumps.shape[1], bumps.shape[1]))
        # einsum, not @: the rounding of BLAS depends on its threads, and a seed must always give the same bits.
        return cls(np.einsum("tk,kij->tij", bumps_z, white), bumps)

    def at(self, cut: int) -> Floats:
        """Return the noise of one cut, shape ``(y, x)``."""
        rows = np.einsum("yj,ji->yi", self.bumps, self.lattice[cut])
        return np.einsum("yi,xi->yx", rows, self.bumps)


def smooth_noise(rng: Random, size: int, scale: float) -> Floats:
    """Draw smooth noise of one section, of unit variance."""
    return SmoothNoise.drawn(rng, 1, size, scale, 1.0).at(0)


def fine_noise(rng: Random, size: int, sigma: float) -> Floats:
    """Draw noise of one section, correlated over `sigma` px, of about unit variance."""
    white = rng.standard_normal((size, size))
    return ndimage.gaussian_filter(white, sigma, mode="wrap") * (2 * np.sqrt(np.pi) * sigma)


def _along_z(rng: Random, cuts: int, count: int) -> Floats:
    """Draw smooth noise along z, of unit variance, shape ``(cuts, count)``."""
    bumps = _bumps(cuts, 5.0 * CUTS)
    return np.einsum("tk,kn->tn", bumps, rng.standard_normal((bumps.shape[1], count)))


@dataclass(frozen=True)
class Discs:
    """Neurites: `cell` (discs), and in each cut `centre` (cuts, discs, yx) and `radius` (cuts, discs)."""

    cell: Ids
    centre: Floats
    radius: Floats

    @classmethod
    def grown(cls, rng: Random, cuts: int, side: float) -> "Discs":
        cell, centre, radius = _pack(rng, side)
        cells, discs = int(cell.max()) + 1, len(cell)
        wander = [6 * _along_z(rng, cuts, cells)[:, cell] + 2 * _along_z(rng, cuts, discs) for _ in "yx"]
        swelling = 0.13 * _along_z(rng, cuts, cells)[:, cell] + 0.08 * _along_z(rng, cuts, discs)
        return cls(cell, centre + np.stack(wander, axis=2), radius * np.exp(swelling))

    def nearest_cell(self, cut: int, points: Floats) -> Ids:
        """Return the cell of the disc with the smallest power distance ``|p - c|^2 - r^2``.

        With ``h = sqrt(R^2 - r^2)`` as third coordinate, ``|p - c|^2 + h^2`` is the power distance plus ``R^2``. A
        k-d tree finds the smallest.
        """
        squares = self.radius[cut] ** 2
        height = np.sqrt(squares.max() - squares)
        tree = cKDTree(np.column_stack([self.centre[cut], height]))
        return self.cell[tree.query(np.pad(points, ((0, 0), (0, 0), (0, 1))))[1]]


def _pack(rng: Random, side: float) -> tuple[Ids, Floats, Floats]:
    """Return cell, centre and radius of discs that hardly overlap, the widest first; thin discs form long chains."""
    radii = np.sort((12 * np.exp(0.6 * rng.standard_normal(int(side**2 / 600)))).clip(7.5, 62))[::-1]
    cell, centre, radius = np.zeros(1, int), rng.random((1, 2)) * side, radii[:1]
    for number, first in enumerate(radii[1:], start=1):
        tries, r, heading = rng.random((40, 2)) * side, first, rng.uniform(0, 2 * np.pi)
        for _ in range(1 + int(rng.exponential(24 / first + 0.5))):
            away = np.hypot(tries[:, :1] - centre[:, 0], tries[:, 1:] - centre[:, 1])
            free = np.where(cell == number, np.inf, away - 0.85 * radius).min(axis=1) > 0.7 * r
            if not free.any():
                break
            spot = tries[free.argmax()]
            cell, centre, radius = np.append(cell, number), np.vstack([centre, spot]), np.append(radius, r)
            heading, r = heading + 0.6 * rng.standard_normal(), max(7.0, r * rng.uniform(0.75, 1.15))
            tries = spot + 1.3 * r * np.array([[np.sin(heading), np.cos(heading)]])
    return cell, centre, radius


@dataclass(frozen=True)
class Organelle:
    """An ellipsoid that moves with its disc; lengths in px, `middle` and `half_length` in cuts."""

    disc: int
    offset: Floats
    axes: Floats
    angle: float
    middle: float
    half_length: float

    def size(self, cut: int) -> float:
        """Return the relative size of the outline in a cut: 1 in the middle, 0 beyond the ends."""
        return float(np.sqrt(max(0.0, 1 - ((cut - self.middle) / self.half_length) ** 2)))

    def frame(self, discs: Discs, cut: int, points: Floats) -> tuple[Floats, Floats]:
        """Return the coordinates of `points` along the long and the short axis."""
        y, x = (points - discs.centre[cut, self.disc] - self.offset).T
        sin, cos = np.sin(self.angle), np.cos(self.angle)
        return y * sin + x * cos, y * cos - x * sin


def _organelles(
    rng: Random, discs: Discs, least_radius: float, share: float, axes: tuple[float, float]
) -> list[Organelle]:
    """Place an organelle in a `share` of the wide discs; `axes` are relative to the disc's radius."""
    cuts, mean_radius = len(discs.radius), discs.radius.mean(axis=0)
    chosen = (mean_radius > least_radius) & (rng.random(len(mean_radius)) < share)
    return [
        Organelle(
            disc=int(disc),
            offset=rng.uniform(-0.3, 0.3, 2) * mean_radius[disc],
            axes=min(mean_radius[disc], 36.0) * np.array(axes) * rng.uniform(0.8, 1.2, 2),
            angle=rng.uniform(0, np.pi),
            middle=rng.uniform(0, cuts),
            half_length=rng.uniform(4, 12) * CUTS,
        )
        for disc in np.flatnonzero(chosen)
    ]


@dataclass(frozen=True)
class Tissue:
    """Everything that continues from section to section."""

    size: int
    discs: Discs
    warps: list[tuple[SmoothNoise, SmoothNoise]]
    gap: SmoothNoise
    tone: Floats
    granules: Floats
    mitochondria: list[Organelle]
    clusters: list[Organelle]

    @classmethod
    def grown(cls, rng: Random, sections: int, size: int) -> "Tissue":
        cuts = sections * CUTS
        discs = Discs.grown(rng, cuts, size + 2 * MARGIN)
        cells = int(discs.cell.max()) + 1
        glia = rng.random(cells) < 0.07
        y, x = ([SmoothNoise.drawn(rng, cuts, size, scale, z * CUTS) for _, scale, z in WARPS] for _ in "yx")
        return cls(
            size=size,
            discs=discs,
            warps=list(zip(y, x, strict=True)),
            gap=SmoothNoise.drawn(rng, cuts, size, 30.0, 2.0 * CUTS),
            tone=np.where(glia, 130.0, 162.0) + 9 * rng.standard_normal(cells),
            granules=np.where(glia, 2.0, rng.uniform(0.6, 1.4, cells)),
            mitochondria=_organelles(rng, discs, least_radius=14, share=0.35, axes=(0.95, 0.65)),
            clusters=_organelles(rng, discs, least_radius=16, share=0.35, axes=(0.9, 0.65)),
        )


def displacement(tissue: Tissue, cut: int) -> Floats:
    """Return the displacement of the tissue at each pixel of a cut, shape ``(y, x, 2)``, in px."""
    bent = [
        amplitude * np.stack([y.at(cut), x.at(cut)], axis=2)
        for (amplitude, _, _), (y, x) in zip(WARPS, tissue.warps, strict=True)
    ]
    return np.sum(bent, axis=0)
