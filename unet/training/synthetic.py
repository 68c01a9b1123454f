"""A synthetic serial-section EM volume of neural tissue, with its 3-D instance ground truth.

It has what makes real sections hard (membranes cut obliquely, organelles as dark as membranes, granular
cytoplasm, sections that differ in contrast), so that a network must learn and a grey-value threshold fails;
and nobody's licence is on it. Lengths are in px of 4 nm, sections are 50 nm thick.

Passes over the tissue:

1. `_pack`           Discs of every calibre, single or in chains, are packed into the plane: a chain is a cell.
2. `_Discs.grown`    They wander and swell along z: each chain becomes a neurite with one id.
3. `_displacement`   A smooth warp, changing slowly along z, bends straight borders into wobbly outlines.
4. `_organelles`     Mitochondria and vesicle clusters are given to wide discs, and move with them.

Passes over each section, with a random stream of its own:

5. `_jitter`         The section is shifted, strained and bent, raw and labels alike.
6. `_cut`            Every pixel belongs to the disc nearest in power distance; near the border between two
                     cells there is membrane, label 0. Top, middle and bottom of the section are cut.
7. `_cytoplasm`      Tone of each cell, granules, microtubules, cisternae, vesicles.
8. `_mitochondria`   Double membrane, dark matrix, pale cristae.
9. `_membranes`      The three cuts are averaged, as the beam does: oblique membranes come out wide and pale.
10. `_densities`     The membrane next to a cluster of vesicles is dark and fuzzy: a synapse.
11. `_artefacts`     Dust, knife marks, a scratch, a fold.
12. `_exposure`      Blur, shot noise, uneven light, contrast and brightness.

Last, `_renumbered` makes the ids of the volume contiguous.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Random = np.random.Generator
Floats = NDArray[np.floating[Any]]
Ids = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]

MARGIN = 60
"""Tissue beyond the edges of a section, so that cells wander in and out (px)."""

CUTS = 3
"""Cuts through the thickness of a section: top, middle, bottom."""

LEAST_DEPTH = 6.0
"""An organelle cut so that it would be thinner than twice this is left out (px)."""

WARPS = ((20.0, 110.0, 5.0), (7.0, 33.0, 5.0), (2.0, 13.0, 3.0))
"""Amplitude (px), scale in the section (px) and along z (sections) of the tissue's displacement."""


def synthesise(sections: int = 24, size: int = 512, seed: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Generate a stack of EM-like sections and the cell that every pixel belongs to.

    Parameters
    ----------
    sections
        Number of sections, 50 nm thick.
    size
        Side of a section in px of 4 nm, at least 64.
    seed
        Of `numpy.random.PCG64`: the same seed (and NumPy) gives the same volume, bit for bit.

    Returns
    -------
    raw : uint8, shape ``(z, y, x)``
        Grey values; membranes are dark.
    labels : uint32, shape ``(z, y, x)``
        0 = membrane or extracellular, 1..n = cells; a cell keeps its id through all sections, and one that
        bends may be met twice in a section.

    Raises
    ------
    ValueError
        If there is no section, or a section is smaller than 64 px.

    Examples
    --------
    >>> raw, labels = synthesise(sections=2, size=64, seed=1)
    >>> raw.shape, raw.dtype, labels.dtype
    ((2, 64, 64), dtype('uint8'), dtype('uint32'))
    """
    if sections < 1 or size < 64:
        raise ValueError(f"cannot generate {sections} sections of {size} px: the least is 1 section of 64 px")
    tissue_rng, *section_rngs = _streams(seed, 1 + sections)
    tissue = _Tissue.grown(tissue_rng, sections, size)
    raw = np.empty((sections, size, size), np.uint8)
    labels = np.empty((sections, size, size), np.uint32)
    for z, rng in enumerate(section_rngs):
        raw[z], labels[z] = _section(rng, tissue, z)
    return raw, _renumbered(labels)


def _streams(seed: int, count: int) -> Iterator[Random]:
    return (Random(np.random.PCG64(child)) for child in np.random.SeedSequence(seed).spawn(count))


def _renumbered(labels: NDArray[np.uint32]) -> NDArray[np.uint32]:
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    return (np.cumsum(present) * present).astype(np.uint32)[labels]


# --- smooth noise -------------------------------------------------------------------------------


def _bumps(length: int, scale: float) -> Floats:
    """Gaussian bumps `scale` apart, rows of unit norm: `bumps @ white noise` is smooth, of unit variance."""
    knots = np.arange(-2, length / scale + 2)
    bumps = np.exp(-(((np.arange(length)[:, None] / scale - knots) / 0.8) ** 2))
    return bumps / np.linalg.norm(bumps, axis=1, keepdims=True)


@dataclass(frozen=True)
class _Noise:
    """Smooth noise over all cuts, of unit variance."""

    lattice: Floats
    bumps: Floats

    @classmethod
    def drawn(cls, rng: Random, cuts: int, size: int, scale: float, along_z: float) -> "_Noise":
        bumps, bumps_z = _bumps(size, scale), _bumps(cuts, along_z)
        white = rng.standard_normal((bumps_z.shape[1], bumps.shape[1], bumps.shape[1]))
        # einsum, not @: the rounding of BLAS depends on its threads, and a seed must always give the same bits.
        return cls(np.einsum("tk,kij->tij", bumps_z, white), bumps)

    def at(self, cut: int) -> Floats:
        """The noise in one cut: shape ``(y, x)``."""
        rows = np.einsum("yj,ji->yi", self.bumps, self.lattice[cut])
        return np.einsum("yi,xi->yx", rows, self.bumps)


def _blotches(rng: Random, size: int, scale: float) -> Floats:
    """Smooth noise of one section, unit variance."""
    return _Noise.drawn(rng, 1, size, scale, 1.0).at(0)


def _grain(rng: Random, size: int, sigma: float) -> Floats:
    """Fine noise of one section, correlated over `sigma` px, about unit variance."""
    white = rng.standard_normal((size, size))
    return ndimage.gaussian_filter(white, sigma, mode="wrap") * (2 * np.sqrt(np.pi) * sigma)


def _along_z(rng: Random, cuts: int, count: int) -> Floats:
    """Smooth noise of `count` things along z, unit variance: shape ``(cuts, count)``."""
    bumps = _bumps(cuts, 5.0 * CUTS)
    return np.einsum("tk,kn->tn", bumps, rng.standard_normal((bumps.shape[1], count)))


# --- passes 1 to 4: the tissue ------------------------------------------------------------------


@dataclass(frozen=True)
class _Discs:
    """The neurites: `cell` (discs), and at each cut `centre` (cuts, discs, yx) and `radius` (cuts, discs)."""

    cell: Ids
    centre: Floats
    radius: Floats

    @classmethod
    def grown(cls, rng: Random, cuts: int, side: float) -> "_Discs":
        cell, centre, radius = _pack(rng, side)
        cells, discs = int(cell.max()) + 1, len(cell)
        wander = [6 * _along_z(rng, cuts, cells)[:, cell] + 2 * _along_z(rng, cuts, discs) for _ in "yx"]
        swelling = 0.13 * _along_z(rng, cuts, cells)[:, cell] + 0.08 * _along_z(rng, cuts, discs)
        return cls(cell, centre + np.stack(wander, axis=2), radius * np.exp(swelling))

    def nearest_cell(self, cut: int, points: Floats) -> Ids:
        """The cell of the disc at the least power distance ``|p - c|^2 - r^2``.

        With ``h = sqrt(R^2 - r^2)`` as third coordinate, ``|p - c|^2 + h^2`` is that distance plus ``R^2``: the
        nearest disc in space, which a tree finds.
        """
        squares = self.radius[cut] ** 2
        height = np.sqrt(squares.max() - squares)
        tree = cKDTree(np.column_stack([self.centre[cut], height]))
        return self.cell[tree.query(np.pad(points, ((0, 0), (0, 0), (0, 1))))[1]]


def _pack(rng: Random, side: float) -> tuple[Ids, Floats, Floats]:
    """Cell, centre and radius of discs that hardly overlap, the widest first; thin ones make long chains."""
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
class _Organelle:
    """An ellipsoid that moves with its disc; lengths in px, `middle` and `half_length` in cuts."""

    disc: int
    offset: Floats
    axes: Floats
    angle: float
    middle: float
    half_length: float

    def size(self, cut: int) -> float:
        """Relative size of its outline in a cut: 1 in the middle, 0 beyond the ends."""
        return float(np.sqrt(max(0.0, 1 - ((cut - self.middle) / self.half_length) ** 2)))

    def frame(self, discs: _Discs, cut: int, points: Floats) -> tuple[Floats, Floats]:
        """Coordinates of `points` along its long and its short axis."""
        y, x = (points - discs.centre[cut, self.disc] - self.offset).T
        sin, cos = np.sin(self.angle), np.cos(self.angle)
        return y * sin + x * cos, y * cos - x * sin


def _organelles(
    rng: Random, discs: _Discs, least_radius: float, share: float, axes: tuple[float, float]
) -> list[_Organelle]:
    """An organelle in a `share` of the wide discs; `axes` are relative to the disc's radius."""
    cuts, mean_radius = len(discs.radius), discs.radius.mean(axis=0)
    chosen = (mean_radius > least_radius) & (rng.random(len(mean_radius)) < share)
    return [
        _Organelle(
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
class _Tissue:
    """All that continues from section to section."""

    size: int
    discs: _Discs
    warps: list[tuple[_Noise, _Noise]]
    gap: _Noise
    tone: Floats
    granules: Floats
    mitochondria: list[_Organelle]
    clusters: list[_Organelle]

    @classmethod
    def grown(cls, rng: Random, sections: int, size: int) -> "_Tissue":
        cuts = sections * CUTS
        discs = _Discs.grown(rng, cuts, size + 2 * MARGIN)
        cells = int(discs.cell.max()) + 1
        glia = rng.random(cells) < 0.07
        y, x = ([_Noise.drawn(rng, cuts, size, scale, z * CUTS) for _, scale, z in WARPS] for _ in "yx")
        return cls(
            size=size,
            discs=discs,
            warps=list(zip(y, x, strict=True)),
            gap=_Noise.drawn(rng, cuts, size, 30.0, 2.0 * CUTS),
            tone=np.where(glia, 130.0, 162.0) + 9 * rng.standard_normal(cells),
            granules=np.where(glia, 2.0, rng.uniform(0.6, 1.4, cells)),
            mitochondria=_organelles(rng, discs, least_radius=14, share=0.35, axes=(0.95, 0.65)),
            clusters=_organelles(rng, discs, least_radius=16, share=0.35, axes=(0.9, 0.65)),
        )


def _displacement(tissue: _Tissue, cut: int) -> Floats:
    """How far the tissue is bent at each pixel of a cut: shape ``(y, x, 2)``, px."""
    bent = [
        amplitude * np.stack([y.at(cut), x.at(cut)], axis=2)
        for (amplitude, _, _), (y, x) in zip(WARPS, tissue.warps, strict=True)
    ]
    return np.sum(bent, axis=0)


# --- passes 5 to 12: a section ------------------------------------------------------------------


@dataclass(frozen=True)
class _Cut:
    """What each pixel of a cut shows: place in the tissue, cell, distance to the cell's border (px)."""

    number: int
    points: Floats
    cell: Ids
    depth: Floats


def _section(rng: Random, tissue: _Tissue, z: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    jitter = _jitter(rng, tissue.size)
    cuts = [_cut(tissue, CUTS * z + part, jitter) for part in range(CUTS)]
    middle = cuts[CUTS // 2]
    inside = _opened(middle.depth > 1.9 + 0.3 * tissue.gap.at(middle.number))
    image = _cytoplasm(rng, tissue, middle)
    image = _mitochondria(image, rng, tissue, middle)
    image = _membranes(image, rng, cuts)
    image = _densities(image, tissue, middle)
    image = _artefacts(image, rng)
    return _exposure(image, rng), np.where(inside, middle.cell + 1, 0).astype(np.uint32)


def _jitter(rng: Random, size: int) -> Floats:
    """Where the pixels of a shifted, strained and bent section lie: shape ``(y, x, 2)``, px."""
    grid = np.moveaxis(np.mgrid[:size, :size], 0, 2) - size / 2
    strain = 0.004 * rng.standard_normal((2, 2))
    bend = np.stack([_blotches(rng, size, 90.0) for _ in "yx"], axis=2)
    return grid + np.einsum("yxi,ij->yxj", grid, strain) + bend + rng.uniform(-3, 3, 2) + size / 2 + MARGIN


def _cut(tissue: _Tissue, number: int, jitter: Floats) -> _Cut:
    points = jitter + _displacement(tissue, number)
    cell = tissue.discs.nearest_cell(number, points)
    return _Cut(number, points, cell, _depth(cell))


def _depth(cell: Ids) -> Floats:
    """Distance to the next border between two cells, smoothed so that outlines are round (px)."""
    border = ndimage.maximum_filter(cell, 3) != ndimage.minimum_filter(cell, 3)
    if not border.any():  # a distance to nothing is not defined
        return np.full(cell.shape, float(sum(cell.shape)))
    return ndimage.gaussian_filter(ndimage.distance_transform_edt(~border), 1.5)


def _opened(inside: Mask) -> Mask:
    """Without slivers thinner than 5 px; cells are taken to go on beyond the section's edges."""
    return ndimage.binary_dilation(ndimage.binary_erosion(inside, iterations=2, border_value=1), iterations=2)


def _cytoplasm(rng: Random, tissue: _Tissue, cut: _Cut) -> Floats:
    size, granules, free = tissue.size, tissue.granules[cut.cell], cut.depth > 6
    image = tissue.tone[cut.cell] + 11 * _blotches(rng, size, 14.0)
    image += (11 * _grain(rng, size, 3.0) + 21 * _grain(rng, size, 1.2)) * (0.6 + 0.4 * granules)
    image -= _scattered(rng, free * granules / 200, _dot(1.2), 75)
    image -= 80 * _cisternae(rng, size) * (cut.depth > 9)
    crowd = _inside(tissue.clusters, tissue.discs, cut)[0] > 0
    for radius in (3.0, 3.8):
        image -= _scattered(rng, free * (1 / 1600 + crowd / 220), _ring(radius), 75)
    return image


def _scattered(rng: Random, density: Floats, stamp: Floats, weight: float) -> Floats:
    """Copies of a stamp, `density` a pixel, each of its own weight; where they overlap they saturate."""
    spikes = rng.uniform(0.5, 1.2, density.shape) * (rng.random(density.shape) < density)
    return weight * np.minimum(ndimage.convolve(spikes, stamp, mode="constant"), 1.3)


def _dot(sigma: float) -> Floats:
    y, x = np.mgrid[-4:5, -4:5]
    return np.exp(-(y**2 + x**2) / (2 * sigma**2))


def _ring(radius: float) -> Floats:
    """A vesicle: dark wall, and a lumen a little paler than the cytoplasm."""
    y, x = np.mgrid[-6:7, -6:7]
    away = np.hypot(y, x)
    return np.exp(-(((away - radius) / 1.1) ** 2)) - 0.1 * (away < radius - 1.5)


def _cisternae(rng: Random, size: int) -> Floats:
    """Short thin lines, as of endoplasmic reticulum: pieces of a level line of noise, 0..1."""
    level = _blotches(rng, size, 16.0)
    away = level / (np.hypot(*np.gradient(level)) + 0.01)
    return np.exp(-((away / 1.2) ** 2)) * np.clip(_blotches(rng, size, 18.0) - 0.8, 0, 1)


def _inside(organelles: list[_Organelle], discs: _Discs, cut: _Cut) -> tuple[Floats, Floats, Floats]:
    """Depth in the organelle at each pixel (px, about; -1 = none), and coordinates along and across it."""
    depth, along, across = np.full(cut.cell.shape, -1.0), np.zeros(cut.cell.shape), np.zeros(cut.cell.shape)
    for organelle in organelles:
        size = organelle.size(cut.number)
        own = np.nonzero(cut.cell == discs.cell[organelle.disc])
        if size == 0 or len(own[0]) == 0:
            continue
        u, v = organelle.frame(discs, cut.number, cut.points[own])
        long, short = organelle.axes * size
        inner = np.minimum((1 - np.hypot(u / long, v / short)) * min(long, short), cut.depth[own] - 6)
        if inner.max() < LEAST_DEPTH:
            continue
        better = inner > depth[own]
        for target, value in ((depth, inner), (along, u), (across, v)):
            target[own] = np.where(better, value, target[own])
    return depth, along, across


def _mitochondria(image: Floats, rng: Random, tissue: _Tissue, cut: _Cut) -> Floats:
    depth, along, across = _inside(tissue.mitochondria, tissue.discs, cut)
    bend = 3 * np.sin(along / 11 + rng.uniform(0, 6)) + 2 * _blotches(rng, tissue.size, 20.0)
    cristae = np.clip(np.sin((across + bend) * 2 * np.pi / 8) - 0.3, 0, 1) * (depth > 5.5)
    matrix = 70 + 100 * cristae + 16 * _grain(rng, tissue.size, 1.1)
    walls = sum(np.exp(-(((depth - wall) / 1.0) ** 2)) for wall in (0.5, 4.5))
    cleft = 45 * np.exp(-(((depth - 2.5) / 1.0) ** 2))
    return np.where(depth > 1.5, matrix + cleft, image) - 32 * walls * (depth > -1)


def _membranes(image: Floats, rng: Random, cuts: list[_Cut]) -> Floats:
    size = len(image)
    sheet = np.mean([np.exp(-(((cut.depth - 1.1) / 1.3) ** 2)) for cut in cuts], axis=0)
    unfocused = ndimage.gaussian_filter(sheet, 2.5) - sheet
    sheet += unfocused * np.clip(_blotches(rng, size, 28.0) - 1, 0, 1)
    contrast = np.clip(0.9 + 0.28 * _blotches(rng, size, 22.0), 0.42, 1.1)
    return image + contrast * sheet * (42 - image)


def _densities(image: Floats, tissue: _Tissue, cut: _Cut) -> Floats:
    spikes = np.zeros(image.shape)
    for cluster in tissue.clusters:
        own = np.nonzero((cut.cell == tissue.discs.cell[cluster.disc]) & (cut.depth < 2))
        if cluster.size(cut.number) > 0.8 and len(own[0]):
            away = np.hypot(*cluster.frame(tissue.discs, cut.number, cut.points[own]))
            spikes[own[0][away.argmin()], own[1][away.argmin()]] = 1
    stain = sum(weight * ndimage.gaussian_filter(spikes, sigma) for weight, sigma in ((70, 3.5), (250, 8)))
    return image + np.clip(stain, 0, 0.8) * (40 - image)


def _artefacts(image: Floats, rng: Random) -> Floats:
    size = len(image)
    y, x = np.mgrid[:size, :size]
    for _ in range(rng.poisson(0.4)):
        away = np.hypot(y - rng.uniform(0, size), x - rng.uniform(0, size)) / rng.uniform(2, 5)
        image = image - 110 * np.exp(-(away**4))
    # Chance, width and weight of knife marks, of a scratch, of a fold.
    for chance, width, weight in ((0.5, 3.0, -7.0), (0.15, 1.0, 35.0), (0.1, 3.0, -35.0)):
        if rng.random() < chance:
            angle = rng.uniform(0, np.pi)
            across = (y - rng.uniform(0, size)) * np.cos(angle) - (x - rng.uniform(0, size)) * np.sin(angle)
            image = image + weight * np.exp(-(((across + 2 * _blotches(rng, size, 60.0)) / width) ** 2))
    return image


def _exposure(image: Floats, rng: Random) -> NDArray[np.uint8]:
    size = len(image)
    light = 8 * _blotches(rng, size, 150.0)
    contrast, brightness = rng.uniform(0.85, 1.15), rng.uniform(-10, 10)
    blurred = ndimage.gaussian_filter(image, 0.7)
    noisy = blurred + 14 * np.sqrt(np.clip(blurred, 20, 255) / 140) * _grain(rng, size, 0.7)
    return np.clip((noisy - 125) * contrast + 125 + brightness + light, 0, 255).round().astype(np.uint8)
