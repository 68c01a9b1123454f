"""What the augmentation does to a real patch: one HTML page, a row of pictures a kind of change.

1. `densest` chooses a voxel with many labels around it.
2. Each row of `ROWS` is drawn alone around that voxel, by the code that draws training patches; what the configuration
   has switched off is shown at a telling strength, and the page says so.
3. The borders of the targets are drawn over the raw: one sees that both have moved together.

```
patch as the network takes it          stack of sections, for what befalls single ones
+-------------------+                  +-------------------+
|  raw, input       |                  | section 0         |
|  +-------------+  |                  | section 1         |  z
|  | with borders|  |                  |   ...             |
|  |  of targets |  |                  | cut along x       |
|  +-------------+  |                  +-------------------+
+-------------------+
```
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from scipy.ndimage import uniform_filter

from unet.config.train import AugmentConfig
from unet.geometry.box import Index
from unet.geometry.tiling import TileGeometry
from unet.run.report.page import Picture, boundary, png_uri
from unet.training.augmentation import Transform, Warp, draw_transform
from unet.training.patches import COUNT_CELL, LabelledVolume, PatchLocation, count_labelled, network_input

DRAWS = 3
ATTEMPTS = 40
"""Draws tried for three that change something; a rare defect spares most patches."""

STACK = (24, 160, 160)
"""Most voxels `(z, y, x)` of the stack: few enough along x that a jump of some px is seen."""

WIDTH = 480
"""Pixels along x up to which a smaller picture is enlarged, a whole number of times, so that lines stay thin."""

MAGNIFIED = 3
GREY_RANGE = 3.0
"""Black and white of all pictures, in std from the mean: the same, so that grey values compare."""

SQUARES = 8
"""Along a picture, of the lines of the volume."""

BORDER, FRAME, GRID = (1.0, 0.55, 0.0), (0.2, 0.75, 1.0), (0.35, 1.0, 0.35)

OFF = AugmentConfig(flips=False, rotation="none", elastic_px=0, brightness=0, contrast=0, noise=0)


@dataclass(frozen=True)
class Row:
    """A kind of change: its keys in `AugmentConfig`, and the values that show it where the configuration does not."""

    name: str
    keys: tuple[str, ...]
    telling: dict[str, Any]
    text: str
    stack: bool = False
    grid: bool = False
    magnified: bool = False


ROWS = (
    Row("Flips", ("flips",), {"flips": True}, "Mirrored along y, x or both."),
    Row("Rotation", ("rotation",), {"rotation": "any"}, "The corners are real voxels of the volume."),
    Row(
        "Elastic deformation",
        ("elastic_px", "elastic_grid", "elastic_probability"),
        {"elastic_px": 10.0, "elastic_probability": 1.0},
        "Random vectors on a coarse grid, with bicubic interpolation between; in green lines of the volume.",
        grid=True,
    ),
    Row("Brightness", ("brightness",), {"brightness": 0.2}, "One number is added to all grey values of the patch."),
    Row("Contrast", ("contrast",), {"contrast": 0.2}, "All grey values of the patch have one gain."),
    Row(
        "Noise",
        ("noise",),
        {"noise": 0.1},
        "Normal noise of a strength drawn for each patch; magnified.",
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
        "From some sections on the volume jumps sideways, and the targets with it; in green lines of the volume. "
        "For 3-D networks only.",
        stack=True,
        grid=True,
    ),
)


class Setting(NamedTuple):
    """A key, its value in the pictures, and whether that is the configured one."""

    key: str
    value: Any
    configured: bool


@dataclass(frozen=True)
class ShownRow:
    """A row with its pictures."""

    row: Row
    settings: Sequence[Setting]
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class View:
    """Where the pictures are taken: the volume, the middle voxel, and the sizes of patch and target."""

    volume: LabelledVolume
    centre: Index
    input_size: Index
    output_size: Index
    stack: bool = False

    def picture(self, transform: Transform, grid: bool = False) -> np.ndarray:
        """RGB `(y, x, 3)` in [0, 1]: raw with the borders of the targets, of the middle section or cut along x."""
        place = PatchLocation.around(self.centre, transform, self.input_size, self.output_size)
        raw = network_input(self.volume, place, transform)[0]  # of several channels the first one is shown
        targets = place.labels(self.volume.targets)
        if not self.stack:
            lines = _squares(place.outer.positions) if grid else None
            return patch_picture(raw[len(raw) // 2], targets[len(targets) // 2], lines)
        row = raw.shape[1] // 2
        lines = _stripes(place.outer, len(raw), row) if grid else None
        return stack_picture(raw[:, row], targets[:, row], lines)


def augmentation_page(
    template: str, style: str, volume: LabelledVolume, geometry: TileGeometry, config: AugmentConfig, seed: int = 0
) -> str:
    """The page as one HTML text.

    Parameters
    ----------
    template : str
        Source of the Jinja template (`workflow/report/augmentation.html.j2`).
    style : str
        CSS, see `style_of`.
    volume : LabelledVolume
        Of which the patch is taken.
    geometry : TileGeometry
        Sizes of the network's input and output.
    config : AugmentConfig
        Section `train.augment` of the configuration.
    seed : int
        The same seed gives the same page.
    """
    views = _views(volume, geometry)
    shown = []
    for row in ROWS:
        alone, settings = settings_of(row, config)
        shown.append(ShownRow(row, settings, _pictures(row, alone, views[row.stack], seed)))
    settings = [Setting(key, value, True) for key, value in config]
    for stack in (False, True) if geometry.input[0] > 1 else (False,):
        together = Row(f"All together{', a stack' * stack}", (), {}, "As training draws its patches.", stack)
        shown.append(ShownRow(together, settings, _pictures(together, config, views[stack], seed)))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        style=Markup(style), rows=shown, view=views[False], stack=views[True], grey_range=GREY_RANGE
    )


def style_of(page: str) -> str:
    """The CSS of another page's template, so that both look alike."""
    found = re.search(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    if found is None:
        raise ValueError("the template of the report has no <style>")
    return found[1]


def settings_of(row: Row, config: AugmentConfig) -> tuple[AugmentConfig, list[Setting]]:
    """The configuration that draws a row alone, and what of it is configured.

    Keys that switch the row off take their telling value, and only those:

    >>> row = next(row for row in ROWS if row.name == "Misalignment")
    >>> alone, settings = settings_of(row, AugmentConfig(misalignment_px=3))
    >>> alone.misalignment, alone.misalignment_px, [setting.configured for setting in settings]
    (0.1, 3.0, [False, True])
    """
    values = {key: getattr(config, key) for key in row.keys}
    shown = {key: row.telling.get(key, v) if v in (0, False, "none") else v for key, v in values.items()}
    settings = [Setting(key, value, value == values[key]) for key, value in shown.items()]
    return OFF.model_copy(update=shown), settings


def densest(counts: np.ndarray, patch: Index) -> Index:
    """The voxel `(z, y, x)` with the most labelled voxels around it; of equal ones the nearest to the volume's middle.

    Parameters
    ----------
    counts : numpy.ndarray
        Labelled voxels of each cell, see `unet.training.patches.count_labelled`.
    patch : tuple of int
        Size in voxels of the neighbourhood.
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


def patch_picture(raw: np.ndarray, targets: np.ndarray, lines: np.ndarray | None = None) -> np.ndarray:
    """A section `(y, x)` of raw, with the borders of its smaller targets in the middle and a frame around these."""
    times = _times(raw.shape[1])
    picture = _grey(enlarged(raw, times))
    if lines is not None:
        picture[boundary(enlarged(lines, times))] = GRID
    margins = [times * ((n - m) // 2) for n, m in zip(raw.shape, targets.shape, strict=True)]
    inner = tuple(slice(k, k + times * m) for k, m in zip(margins, targets.shape, strict=True))
    picture[inner][boundary(enlarged(targets, times))] = BORDER  # a view
    if min(margins) > 0:
        covered = np.zeros(picture.shape[:2], bool)
        covered[inner] = True
        picture[boundary(covered)] = FRAME
    return picture


def stack_picture(raw: np.ndarray, targets: np.ndarray, lines: np.ndarray | None = None) -> np.ndarray:
    """Sections `(z, x)` below each other, each as thick as makes the picture 3/4 as high as wide."""
    times = _times(raw.shape[1])
    picture = _grey(np.repeat(raw, times, axis=1))
    for cut, colour in ((targets, BORDER), (lines, GRID)):
        if cut is not None:
            ids = np.repeat(cut, times, axis=1)
            picture[np.concatenate([boundary(section[None]) for section in ids])] = colour
    thick = max(1, round(picture.shape[1] * 3 / 4 / len(picture)))
    return np.repeat(picture, thick, axis=0)


def magnified(picture: np.ndarray) -> np.ndarray:
    """The middle of a picture, as large as the whole."""
    height, width = (n // MAGNIFIED for n in picture.shape[:2])
    return enlarged(picture[height : 2 * height, width : 2 * width], MAGNIFIED)


def enlarged(picture: np.ndarray, times: int) -> np.ndarray:
    """Every pixel a square of so many."""
    return np.repeat(np.repeat(picture, times, axis=0), times, axis=1)


def _times(width: int) -> int:
    return max(1, WIDTH // width)


def _grey(raw: np.ndarray) -> np.ndarray:
    shade = np.clip((raw.astype(np.float64) + GREY_RANGE) / (2 * GREY_RANGE), 0, 1)
    return np.repeat(shade[..., None], 3, axis=-1)


def _squares(positions: np.ndarray) -> np.ndarray:
    """Which of the volume's squares each pixel comes from: one of four kinds, unlike those beside it."""
    y, x = np.floor(positions * SQUARES / max(positions.shape[1:])).astype(np.int64) % 2
    return 2 * y + x


def _stripes(warp: Warp, sections: int, row: int) -> np.ndarray:
    """Number `(z, x)` of the stripe of the volume that each pixel of a row comes from."""
    shifts = np.zeros((sections, 2)) if warp.shifts is None else warp.shifts
    columns = warp.positions[1, row] + shifts[:, 1:]
    return np.floor(columns * SQUARES / columns.shape[1]).astype(np.int64)


def _views(volume: LabelledVolume, geometry: TileGeometry) -> dict[bool, View]:
    """The patch, and the stack of sections through it."""
    centre = densest(count_labelled(volume.weights), geometry.output)
    depth, height, width = (min(most, n) for most, n in zip(STACK, volume.raw.shape, strict=True))
    first = int(np.clip(centre[0] - depth // 2, 0, volume.raw.shape[0] - depth))
    size = (depth, height, width)
    return {
        False: View(volume, centre, geometry.input, geometry.output),
        True: View(volume, (first + depth // 2, *centre[1:]), size, size, stack=True),
    }


def _pictures(row: Row, config: AugmentConfig, view: View, seed: int) -> list[Picture]:
    """The unchanged patch and three draws; of a kind of change those that are like an earlier one are left out."""
    show = magnified if row.magnified else np.asarray
    pictures = [show(view.picture(Transform(), row.grid))]
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed % 2**64, attempt])
        drawn = show(view.picture(draw_transform(rng, config, view.input_size[0]), row.grid))
        if not row.keys or not any(np.array_equal(drawn, earlier) for earlier in pictures):
            pictures.append(drawn)
        if len(pictures) == 1 + DRAWS:
            break
    captions = ["unchanged", *(f"draw {n}" for n in range(1, len(pictures)))]
    return [Picture(caption, png_uri(picture)) for caption, picture in zip(captions, pictures, strict=True)]
