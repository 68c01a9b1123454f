"""Show the augmentation on a real patch: one HTML page with a row of pictures per kind of change.

1. `most_labelled_voxel` chooses a voxel with many labels around it.
2. Each row of `ROWS` is drawn alone around that voxel, by the code that draws training patches. A change that the
   configuration switches off is drawn at a visible strength, and the page says so.
3. The borders of the targets are drawn over the raw grey values: raw and targets must have moved together.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from scipy.ndimage import uniform_filter

from unet.config.train import AugmentConfig
from unet.geometry.box import Index
from unet.geometry.tiling import TileGeometry
from unet.run.report.augmentation_pictures import (
    GREY_RANGE,
    magnified,
    patch_picture,
    patch_squares,
    stack_picture,
    stack_stripes,
)
from unet.run.report.pictures import Picture, png_uri
from unet.training.augmentation import Transform, draw_transform
from unet.training.labelled_volume import LabelledVolume
from unet.training.patches import COUNT_CELL, PatchLocation, count_labelled, network_input
from unet.training.volume_transform import VolumeTransform, draw_volume_transform

DRAWS = 3
"""Draws shown in a row."""

ATTEMPTS = 40
"""Draws tried to find `DRAWS` that change something; a rare defect leaves most patches unchanged."""

STACK = (24, 160, 160)
"""Largest size `(z, y, x)` of the stack in voxels: so few along x that a jump of some px is visible."""

OFF = AugmentConfig(flips=False, rotation="none", elastic_px=0, brightness=0, contrast=0, noise=0)
"""Configuration without any change."""


@dataclass(frozen=True)
class Row:
    """A kind of change.

    Attributes
    ----------
    name, text : heading and explanation
    keys : keys in `AugmentConfig` that control the change
    visible : values that show the change where the configuration switches it off
    stack : draw the stack of sections instead of the patch
    grid : draw lines of the volume
    magnified : draw the middle of the picture, magnified
    """

    name: str
    keys: tuple[str, ...]
    visible: dict[str, Any]
    text: str
    stack: bool = False
    grid: bool = False
    magnified: bool = False


ROWS = (
    Row("Flips", ("flips",), {"flips": True}, "The patch is mirrored along y, x or both."),
    Row("Rotation", ("rotation",), {"rotation": "any"}, "The corners are real voxels of the volume."),
    Row(
        "Elastic deformation",
        ("elastic_px", "elastic_grid", "elastic_probability"),
        {"elastic_px": 10.0, "elastic_probability": 1.0},
        "Random vectors on a coarse grid, with bicubic interpolation between them. Green: lines of the volume.",
        grid=True,
    ),
    Row("Brightness", ("brightness",), {"brightness": 0.2}, "One number is added to all grey values of the patch."),
    Row("Contrast", ("contrast",), {"contrast": 0.2}, "All grey values of the patch are multiplied by one number."),
    Row(
        "Noise",
        ("noise",),
        {"noise": 0.1},
        "Gaussian noise with a standard deviation drawn per patch; magnified.",
        magnified=True,
    ),
    Row(
        "Contrast shift of sections",
        ("contrast_shift", "contrast_shift_std"),
        {"contrast_shift": 0.1, "contrast_shift_std": 0.7},
        "Some sections have a brightness and contrast of their own.",
        stack=True,
    ),
    Row(
        "Missing sections",
        ("missing_section",),
        {"missing_section": 0.1},
        "Some sections are blank; their targets stay. Only a 3-D network can learn from it.",
        stack=True,
    ),
    Row(
        "Misalignment",
        ("misalignment", "misalignment_px"),
        {"misalignment": 0.1, "misalignment_px": 8.0},
        "From some sections on the volume jumps sideways, and the targets with it. Green: lines of the volume. "
        "For 3-D networks only.",
        stack=True,
        grid=True,
    ),
    Row(
        "Symmetries of the volume",
        ("symmetries",),
        {"symmetries": "flips_3d"},
        "Axes are reversed, with `cube` also exchanged. Only a network that sees several sections can learn from it.",
        stack=True,
    ),
    Row(
        "Elastic deformation in 3-D",
        ("elastic_3d", "elastic_3d_grid", "elastic_3d_probability"),
        {"elastic_3d": (2.0, 2.0, 2.0), "elastic_3d_probability": 1.0},
        "Random vectors on a coarse 3-D grid. Targets from beyond the volume are left out.",
        stack=True,
    ),
    Row(
        "Blur",
        ("blur_px", "blur_probability"),
        {"blur_px": 2.0, "blur_probability": 1.0},
        "A Gaussian.",
        magnified=True,
    ),
    Row(
        "Partial, blurred and shifted sections",
        ("partial_section", "blurred_section", "blurred_section_px", "shifted_section", "shifted_section_px"),
        {"partial_section": 0.1, "blurred_section": 0.1, "shifted_section": 0.1},
        "Some sections are blank in part, out of focus or displaced by themselves; their targets stay.",
        stack=True,
    ),
    Row(
        "Jitter of the alignment",
        ("jitter_px",),
        {"jitter_px": 2.0},
        "Each section is displaced a little, and its targets with it. Green: lines of the volume.",
        stack=True,
        grid=True,
    ),
)


class Setting(NamedTuple):
    """A key, its value in the pictures, and whether the configuration sets that value."""

    key: str
    value: Any
    configured: bool


@dataclass(frozen=True)
class ShownRow:
    """A row with its settings and pictures."""

    row: Row
    settings: Sequence[Setting]
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class PatchView:
    """The position of the pictures: the volume, the voxel in the middle, and the sizes (voxels) of input and target."""

    volume: LabelledVolume
    centre: Index
    input_size: Index
    output_size: Index
    stack: bool = False

    def moved(self, transform: VolumeTransform) -> "PatchView":
        """Return the view of the same position in the transformed volume."""
        volume, centre = transform.applied(self.volume, self.centre, self.input_size, self.output_size)
        return replace(self, volume=volume, centre=centre)

    def picture(self, transform: Transform, grid: bool = False) -> np.ndarray:
        """Draw raw with the borders of the targets, of the middle section or of a cut along x: RGB in [0, 1]."""
        place = PatchLocation.around(self.centre, transform, self.input_size, self.output_size)
        raw = network_input(self.volume, place, transform)[0]  # the first of several channels
        targets = place.labels(self.volume.targets)
        if not self.stack:
            lines = patch_squares(place.outer.positions) if grid else None
            return patch_picture(raw[len(raw) // 2], targets[len(targets) // 2], lines)
        row = raw.shape[1] // 2
        lines = stack_stripes(place.outer, len(raw), row) if grid else None
        return stack_picture(raw[:, row], targets[:, row], lines)


def augmentation_page(
    template: str, style: str, volume: LabelledVolume, geometry: TileGeometry, config: AugmentConfig, seed: int = 0
) -> str:
    """Return the page as one HTML text.

    Parameters
    ----------
    template : str
        Source of the Jinja template (`workflow/report/augmentation.html.j2`).
    style : str
        CSS, see `style_of`.
    volume : LabelledVolume
        Volume that the patch is taken from.
    geometry : TileGeometry
        Sizes of the network's input and output.
    config : AugmentConfig
        Section `train.augment` of the configuration.
    seed : int
        The same seed gives the same page.
    """
    patch, stack = _views(volume, geometry)
    shown = []
    for row in ROWS:
        alone, settings = row_settings(row, config)
        shown.append(ShownRow(row, settings, _pictures(row, alone, stack if row.stack else patch, seed)))
    settings = [Setting(key, value, True) for key, value in config]
    for view in (patch, stack) if geometry.input[0] > 1 else (patch,):
        name = "All together, a stack" if view.stack else "All together"
        together = Row(name, (), {}, "As training draws its patches.", view.stack)
        shown.append(ShownRow(together, settings, _pictures(together, config, view, seed)))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        style=Markup(style), rows=shown, view=patch, stack=stack, grey_range=GREY_RANGE
    )


def style_of(page: str) -> str:
    """Return the CSS of another page's template, so that both pages look alike."""
    found = re.search(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    if found is None:
        raise ValueError("the template of the report has no <style>")
    return found[1]


def row_settings(row: Row, config: AugmentConfig) -> tuple[AugmentConfig, list[Setting]]:
    """Return the configuration that draws a row alone, and the settings that the page shows.

    Only keys that switch the row off take their visible value:

    >>> row = next(row for row in ROWS if row.name == "Misalignment")
    >>> alone, settings = row_settings(row, AugmentConfig(misalignment_px=3))
    >>> alone.misalignment, alone.misalignment_px, [setting.configured for setting in settings]
    (0.1, 3.0, [False, True])
    """
    values = {key: getattr(config, key) for key in row.keys}
    shown = {key: row.visible.get(key, v) if v in (0, False, "none", (0, 0, 0)) else v for key, v in values.items()}
    settings = [Setting(key, value, value == values[key]) for key, value in shown.items()]
    return OFF.model_copy(update=shown), settings


def most_labelled_voxel(counts: np.ndarray, patch: Index) -> Index:
    """Return the voxel `(z, y, x)` with the most labelled voxels around it; of equals the nearest to the middle.

    Parameters
    ----------
    counts : numpy.ndarray
        Labelled voxels of each cell, see `unet.training.patches.count_labelled`.
    patch : tuple of int
        Size of the neighbourhood in voxels.
    """
    cells = tuple(max(1, round(n / side)) for n, side in zip(patch, COUNT_CELL, strict=True))
    around = uniform_filter(counts.astype(float), cells, mode="constant").round(6)
    middle = (np.array(counts.shape) - 1) / 2
    best = np.argwhere(around == around.max())
    z, y, x = best[np.argmin(((best - middle) ** 2).sum(axis=1))]
    return (
        int(z * COUNT_CELL[0] + COUNT_CELL[0] // 2),
        int(y * COUNT_CELL[1] + COUNT_CELL[1] // 2),
        int(x * COUNT_CELL[2] + COUNT_CELL[2] // 2),
    )


def _views(volume: LabelledVolume, geometry: TileGeometry) -> tuple[PatchView, PatchView]:
    """Return the view of the patch, and the view of the stack of sections through it."""
    centre = most_labelled_voxel(count_labelled(volume.weights), geometry.output)
    depth, height, width = (min(most, n) for most, n in zip(STACK, volume.raw.shape, strict=True))
    first = int(np.clip(centre[0] - depth // 2, 0, volume.raw.shape[0] - depth))
    size = (depth, height, width)
    patch = PatchView(volume, centre, geometry.input, geometry.output)
    return patch, PatchView(volume, (first + depth // 2, *centre[1:]), size, size, stack=True)


def _pictures(row: Row, config: AugmentConfig, view: PatchView, seed: int) -> list[Picture]:
    """Return the unchanged patch and `DRAWS` draws; a row of `ROWS` leaves out draws that equal an earlier one."""
    show = magnified if row.magnified else np.asarray
    pictures = [show(view.picture(Transform(), row.grid))]
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed % 2**64, attempt])
        transform = draw_transform(rng, config, view.input_size[0])
        drawn = show(view.moved(draw_volume_transform(rng, config)).picture(transform, row.grid))
        if not row.keys or not any(np.array_equal(drawn, earlier) for earlier in pictures):
            pictures.append(drawn)
        if len(pictures) == 1 + DRAWS:
            break
    captions = ["unchanged", *(f"draw {n}" for n in range(1, len(pictures)))]
    return [Picture(caption, png_uri(picture)) for caption, picture in zip(captions, pictures, strict=True)]
