"""Generate a synthetic serial-section EM volume of neural tissue, with its 3-D instance ground truth.

The volume has what makes real sections hard: oblique membranes, organelles as dark as membranes, granular cytoplasm,
and contrast that differs between sections. A grey-value threshold fails on it, so a network must learn. No licence
restricts it. Lengths are in px of 4 nm; sections are 50 nm thick.

Passes 1 to 4 make the tissue, see `unet.training.synthetic_tissue`. Each section has a random stream of its own:

5. `_jitter`         Shift, strain and bend the section, raw and labels alike.
6. `_cut`            Give each pixel the disc nearest in power distance, at top, middle and bottom of the section.
                     Near the border between two cells is membrane, label 0.
7. `_cytoplasm`      Draw the tone of each cell, granules, microtubules, cisternae, vesicles.
8. `_mitochondria`   Draw a double membrane, dark matrix, pale cristae.
9. `_membranes`      Average the three cuts, as the beam does: oblique membranes come out wide and pale.
10. `_densities`     Darken the membrane next to a cluster of vesicles: a synapse.
11. `_artefacts`     Add dust, knife marks, a scratch, a fold.
12. `_exposure`      Apply blur, shot noise, uneven light, contrast and brightness.

Last, `_renumbered` makes the ids of the volume contiguous.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet.training.synthetic_tissue import (
    CUTS,
    MARGIN,
    Discs,
    Floats,
    Ids,
    Organelle,
    Random,
    Tissue,
    displacement,
    fine_noise,
    smooth_noise,
)

Mask = NDArray[np.bool_]

MIN_DEPTH = 6.0
"""Half the thickness in px below which a cut organelle is left out."""


def synthesise(sections: int = 24, size: int = 512, seed: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Generate a stack of EM-like sections and the cell id of every pixel.

    Parameters
    ----------
    sections
        Number of sections, each 50 nm thick.
    size
        Side of a section in px of 4 nm, at least 64.
    seed
        Seed of `numpy.random.PCG64`. The same seed and NumPy version give the same volume, bit for bit.

    Returns
    -------
    raw : uint8, shape ``(z, y, x)``
        Grey values; membranes are dark.
    labels : uint32, shape ``(z, y, x)``
        0 = membrane or extracellular, 1..n = cells. A cell keeps its id through all sections; where it bends, a
        section may cut it twice.

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
    tissue = Tissue.grown(tissue_rng, sections, size)
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


@dataclass(frozen=True)
class _Cut:
    """One cut: for each pixel its point in the tissue, its cell, and the distance to the cell's border (px)."""

    number: int
    points: Floats
    cell: Ids
    depth: Floats


def _section(rng: Random, tissue: Tissue, z: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
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
    """Return the positions of the pixels of a shifted, strained and bent section, shape ``(y, x, 2)``, in px."""
    grid = np.moveaxis(np.mgrid[:size, :size], 0, 2) - size / 2
    strain = 0.004 * rng.standard_normal((2, 2))
    bend = np.stack([smooth_noise(rng, size, 90.0) for _ in "yx"], axis=2)
    return grid + np.einsum("yxi,ij->yxj", grid, strain) + bend + rng.uniform(-3, 3, 2) + size / 2 + MARGIN


def _cut(tissue: Tissue, number: int, jitter: Floats) -> _Cut:
    points = jitter + displacement(tissue, number)
    cell = tissue.discs.nearest_cell(number, points)
    return _Cut(number, points, cell, _depth(cell))


def _depth(cell: Ids) -> Floats:
    """Return the distance in px to the next border between two cells, smoothed for round outlines."""
    border = ndimage.maximum_filter(cell, 3) != ndimage.minimum_filter(cell, 3)
    if not border.any():  # without a border the distance is undefined
        return np.full(cell.shape, float(sum(cell.shape)))
    return ndimage.gaussian_filter(ndimage.distance_transform_edt(~border), 1.5)


def _opened(inside: Mask) -> Mask:
    """Remove slivers thinner than 5 px, as if cells continued beyond the section's edges."""
    return ndimage.binary_dilation(ndimage.binary_erosion(inside, iterations=2, border_value=1), iterations=2)


def _cytoplasm(rng: Random, tissue: Tissue, cut: _Cut) -> Floats:
    size, granules, free = tissue.size, tissue.granules[cut.cell], cut.depth > 6
    image = tissue.tone[cut.cell] + 11 * smooth_noise(rng, size, 14.0)
    image += (11 * fine_noise(rng, size, 3.0) + 21 * fine_noise(rng, size, 1.2)) * (0.6 + 0.4 * granules)
    image -= _scattered(rng, free * granules / 200, _dot(1.2), 75)
    image -= 80 * _cisternae(rng, size) * (cut.depth > 9)
    crowd = _inside(tissue.clusters, tissue.discs, cut)[0] > 0
    for radius in (3.0, 3.8):
        image -= _scattered(rng, free * (1 / 1600 + crowd / 220), _ring(radius), 75)
    return image


def _scattered(rng: Random, density: Floats, stamp: Floats, weight: float) -> Floats:
    """Place copies of a stamp, `density` per pixel, with random weights; overlapping copies saturate."""
    spikes = rng.uniform(0.5, 1.2, density.shape) * (rng.random(density.shape) < density)
    return weight * np.minimum(ndimage.convolve(spikes, stamp, mode="constant"), 1.3)


def _dot(sigma: float) -> Floats:
    y, x = np.mgrid[-4:5, -4:5]
    return np.exp(-(y**2 + x**2) / (2 * sigma**2))


def _ring(radius: float) -> Floats:
    """Return the stamp of a vesicle: a dark wall, and a lumen slightly paler than the cytoplasm."""
    y, x = np.mgrid[-6:7, -6:7]
    away = np.hypot(y, x)
    return np.exp(-(((away - radius) / 1.1) ** 2)) - 0.1 * (away < radius - 1.5)


def _cisternae(rng: Random, size: int) -> Floats:
    """Draw short thin lines (0..1) like endoplasmic reticulum: pieces of a level line of noise."""
    level = smooth_noise(rng, size, 16.0)
    away = level / (np.hypot(*np.gradient(level)) + 0.01)
    return np.exp(-((away / 1.2) ** 2)) * np.clip(smooth_noise(rng, size, 18.0) - 0.8, 0, 1)


def _inside(organelles: list[Organelle], discs: Discs, cut: _Cut) -> tuple[Floats, Floats, Floats]:
    """Return the approximate depth in an organelle at each pixel (px; -1 = none), and coordinates along and across."""
    depth, along, across = np.full(cut.cell.shape, -1.0), np.zeros(cut.cell.shape), np.zeros(cut.cell.shape)
    for organelle in organelles:
        size = organelle.size(cut.number)
        own = np.nonzero(cut.cell == discs.cell[organelle.disc])
        if size == 0 or len(own[0]) == 0:
            continue
        u, v = organelle.frame(discs, cut.number, cut.points[own])
        long, short = organelle.axes * size
        inner = np.minimum((1 - np.hypot(u / long, v / short)) * min(long, short), cut.depth[own] - 6)
        if inner.max() < MIN_DEPTH:
            continue
        better = inner > depth[own]
        for target, value in ((depth, inner), (along, u), (across, v)):
            target[own] = np.where(better, value, target[own])
    return depth, along, across


def _mitochondria(image: Floats, rng: Random, tissue: Tissue, cut: _Cut) -> Floats:
    depth, along, across = _inside(tissue.mitochondria, tissue.discs, cut)
    bend = 3 * np.sin(along / 11 + rng.uniform(0, 6)) + 2 * smooth_noise(rng, tissue.size, 20.0)
    cristae = np.clip(np.sin((across + bend) * 2 * np.pi / 8) - 0.3, 0, 1) * (depth > 5.5)
    matrix = 70 + 100 * cristae + 16 * fine_noise(rng, tissue.size, 1.1)
    walls = sum(np.exp(-(((depth - wall) / 1.0) ** 2)) for wall in (0.5, 4.5))
    cleft = 45 * np.exp(-(((depth - 2.5) / 1.0) ** 2))
    return np.where(depth > 1.5, matrix + cleft, image) - 32 * walls * (depth > -1)


def _membranes(image: Floats, rng: Random, cuts: list[_Cut]) -> Floats:
    size = len(image)
    sheet = np.mean([np.exp(-(((cut.depth - 1.1) / 1.3) ** 2)) for cut in cuts], axis=0)
    unfocused = ndimage.gaussian_filter(sheet, 2.5) - sheet
    sheet += unfocused * np.clip(smooth_noise(rng, size, 28.0) - 1, 0, 1)
    contrast = np.clip(0.9 + 0.28 * smooth_noise(rng, size, 22.0), 0.42, 1.1)
    return image + contrast * sheet * (42 - image)


def _densities(image: Floats, tissue: Tissue, cut: _Cut) -> Floats:
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
    # Probability, width (px) and weight of knife marks, a scratch, a fold.
    for chance, width, weight in ((0.5, 3.0, -7.0), (0.15, 1.0, 35.0), (0.1, 3.0, -35.0)):
        if rng.random() < chance:
            angle = rng.uniform(0, np.pi)
            across = (y - rng.uniform(0, size)) * np.cos(angle) - (x - rng.uniform(0, size)) * np.sin(angle)
            image = image + weight * np.exp(-(((across + 2 * smooth_noise(rng, size, 60.0)) / width) ** 2))
    return image


def _exposure(image: Floats, rng: Random) -> NDArray[np.uint8]:
    size = len(image)
    light = 8 * smooth_noise(rng, size, 150.0)
    contrast, brightness = rng.uniform(0.85, 1.15), rng.uniform(-10, 10)
    blurred = ndimage.gaussian_filter(image, 0.7)
    noisy = blurred + 14 * np.sqrt(np.clip(blurred, 20, 255) / 140) * fine_noise(rng, size, 0.7)
    return np.clip((noisy - 125) * contrast + 125 + brightness + light, 0, 255).round().astype(np.uint8)
