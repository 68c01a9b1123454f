"""The viewer of the report: the tiles of all volumes, and the part of the page that shows them.

A page that is opened from a disk may not read files by scripts, but may show pictures. All that the script has to know
is therefore in the page. Only the pictures lie in the folder `report` beside it:

```
report.html
report/{volume}/{layer}/{factor}/{z}-{y}-{x}.webp    factor: voxels per pixel, as 1-2-2; z-y-x: index of the brick
```
"""

import base64
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from unet.geometry.box import Box, Index
from unet.run.report.pictures import ERROR_COLOURS, Picture
from unet.run.report.tiles import Layers, LevelTiles, TileLevel, brick_shape, pyramid_tiles
from unet.run.report.webp import webp_bytes, webp_data

FOLDER = "report"
"""Folder of the tiles, beside the page."""
STILL_PX = 400
"""Longest side in px of a still picture, at most; for print, and for browsers without scripts."""
OPACITY = {"raw": 1.0, "probability": 0.6, "segmentation": 0.45, "truth": 0.45, "errors": 0.7}
"""Layers from the lowest to the uppermost, with their opacity at the beginning."""
SCRIPT_PARTS = ("state", "tiles", "levels", "drawing", "panes", "moving", "gestures", "controls", "status", "links")
"""Files of the script, in the order in which they run; a browser loads no modules from a disk."""
AT_FIRST = ("raw", "segmentation")
"""Layers that are shown at the beginning."""


@dataclass(frozen=True)
class ViewedVolume:
    """The tiles of one volume.

    Attributes
    ----------
    name : name of the volume
    shape : (z, y, x) in voxels
    voxel_size_nm : (z, y, x) in nm
    layers : names of its layers
    brick : pixels of a brick (z, y, x)
    levels : tiles, the finest level first
    stills : pictures of the middle section, for print
    """

    name: str
    shape: Index
    voxel_size_nm: Sequence[float]
    layers: Sequence[str]
    brick: Index
    levels: Sequence[LevelTiles]
    stills: Sequence[Picture] = ()

    @property
    def file_bytes(self) -> int:
        """Size of all tiles."""
        return sum(tiles.file_bytes for tiles in self.levels)

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the path below `FOLDER` and the content of each tile."""
        for tiles in self.levels:
            for (layer, index), content in tiles.files.items():
                yield f"{self.name}/{layer}/{_joined(tiles.level.factor)}/{_joined(index)}.webp", content

    def described(self) -> dict[str, Any]:
        """Return what the script of the page has to know, as JSON values."""
        levels = [
            {
                "factor": tiles.level.factor,
                "shape": tiles.level.shape,
                "bricks": None if tiles.is_whole else [_joined(index) for index in tiles.bricks],
                "tiles": {layer: tiles.states(layer) for layer in self.layers},
            }
            for tiles in self.levels
        ]
        sizes = {"shape": self.shape, "voxel": [float(nm) for nm in self.voxel_size_nm], "brick": self.brick}
        layers = [{"name": name, "opacity": OPACITY[name], "shown": name in AT_FIRST} for name in self.layers]
        return {"name": self.name, **sizes, "layers": layers, "levels": levels}


class Viewer(NamedTuple):
    """The parts of the page: style, section, and the hash of the script for the page's content security policy."""

    style: Markup
    section: Markup
    script_hash: str


def _joined(index: Index) -> str:
    return "-".join(map(str, index))


def viewed_volume(
    name: str,
    shape: Index,
    voxel_size_nm: Sequence[float],
    layers: Layers,
    levels: Sequence[TileLevel],
    budget: int,
    places: Sequence[Index] = (),
) -> ViewedVolume:
    """Return the tiles of a volume, of at most `budget` bytes; see `unet.run.report.tiles.pyramid_tiles`."""
    brick = brick_shape(voxel_size_nm)
    tiles = pyramid_tiles(layers, levels, brick, budget, places)
    return ViewedVolume(name, shape, voxel_size_nm, layers.names, brick, tiles, still_pictures(layers, levels))


def still_pictures(layers: Layers, levels: Sequence[TileLevel]) -> list[Picture]:
    """Return pictures of the middle section: its objects over raw, and its errors over raw if there is a truth."""
    level = next((one for one in levels if max(one.shape[1:]) <= STILL_PX), levels[-1])
    middle = level.shape[0] // 2
    box = Box((middle, 0, 0), (middle + 1, *level.shape[1:]))
    where = f"section {middle * level.factor[0]}"
    return [
        Picture(
            f"{layer} over raw, {where}", still_uri(layers.pictures("raw", level, box)[0], drawn[0], OPACITY[layer])
        )
        for layer in ("segmentation", "errors")
        if layer in layers.names
        for drawn in [layers.pictures(layer, level, box)]
    ]


def still_uri(grey: NDArray[np.uint8], colours: NDArray[np.uint8], opacity: float) -> str:
    """Return RGBA colours ``(y, x, 4)`` over grey values ``(y, x)`` as WebP in a ``data:`` URI."""
    alpha = opacity * (colours[..., 3:] / 255)
    mixed = grey[..., None] * (1 - alpha) + colours[..., :3] * alpha
    return webp_data(webp_bytes(np.rint(mixed).astype(np.uint8), lossy=True))


def write_tiles(volumes: Sequence[ViewedVolume], folder: Path) -> None:
    """Write all tiles into a folder, and remove those of an earlier report."""
    shutil.rmtree(folder, ignore_errors=True)
    for volume in volumes:
        for path, content in volume.files():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)


def viewer_script(templates: Path) -> str:
    """Return the script of the page, out of its parts. All of them share the scope of one function."""
    parts = [(templates / f"{part}.js").read_text() for part in SCRIPT_PARTS]
    return "\n".join(['"use strict";\n(() => {', *parts, "})();\n"])


def render_viewer(templates: Path, volumes: Sequence[ViewedVolume], single_file: bool) -> Viewer:
    """Return the viewer's parts of the page.

    Parameters
    ----------
    templates : folder with `viewer.html.j2`, `viewer.css` and the files of `SCRIPT_PARTS`
    volumes : at least one volume
    single_file : whether the page holds the tiles, or finds them in `FOLDER`
    """
    script = viewer_script(templates)
    files = (
        {path: webp_data(content) for volume in volumes for path, content in volume.files()} if single_file else None
    )
    known = {"folder": FOLDER, "volumes": [volume.described() for volume in volumes], "files": files}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    section = environment.from_string((templates / "viewer.html.j2").read_text()).render(
        volumes=volumes,
        known=known,
        script=Markup(script),
        layers=[name for name in OPACITY if any(name in volume.layers for volume in volumes)],
        colours={
            kind: _hex(colour) for kind, colour in zip(("split", "merged", "both"), ERROR_COLOURS[1:], strict=True)
        },
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = Markup((templates / "viewer.css").read_text())
    return Viewer(style, Markup(section), f"sha256-{digest}")


def _hex(colour: NDArray[np.float64]) -> str:
    """Return a colour in [0, 1] as CSS writes it."""
    return "#" + "".join(f"{round(255 * value):02x}" for value in colour)
