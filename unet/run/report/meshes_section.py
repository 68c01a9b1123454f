"""The section of the report that `snakemake meshes` inserts: a picture of the largest objects in 3-D, and their sizes.

All triangles of all objects are one collection of matplotlib, which draws those that are farther away first. Objects
that lie one behind the other are therefore drawn in the right order, triangle by triangle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection
from numpy.typing import NDArray

from unet.geometry.box import Index
from unet.measurement.meshes import Mesh
from unet.run.report.inserted_sections import rendered
from unet.run.report.pictures import label_colours
from unet.run.report.webp import as_bytes, webp_bytes, webp_data
from unet.storage.digests import receipts_digest
from unet.storage.files import read_json

MAX_OBJECTS = 10
"""Objects in the picture, the largest."""
SIDE_PX = 900
INK = "#7d8794"
"""Lines and words, which are read on a light page and on a dark one."""
ZOOM = 0.64
"""Size of the box in the picture, as matplotlib counts it: a box of any sides stays inside."""
LIGHT = np.array([0.35, -0.5, 0.8])
"""Direction of the light (x, y, z), as the picture is seen."""
NM_PER_UM = 1e3


@dataclass(frozen=True)
class MeshedObject:
    """A row of the table beside the picture.

    Attributes
    ----------
    id : id in the segmentation
    colour : its colour in the picture, as CSS writes it
    volume_um3, surface_um2 : of its mesh
    voxel : a voxel at its surface, (z, y, x)
    """

    id: int
    colour: str
    volume_um3: float
    surface_um2: float
    voxel: Index


@dataclass(frozen=True)
class MeshesOfVolume:
    """The picture of a volume (a ``data:`` URI), and the objects in it."""

    picture: str
    objects: Sequence[MeshedObject]


def meshes_of_volume(
    figures: Sequence[Mapping[str, float]], meshes: Mapping[int, Mesh], extent_nm: tuple[NDArray[Any], NDArray[Any]]
) -> MeshesOfVolume:
    """Return the picture of the largest objects of a volume.

    Parameters
    ----------
    figures : of each object ``id``, ``volume_um3``, ``surface_um2``, and ``z``, ``y``, ``x`` of a voxel
    meshes : by id, in nm; of few triangles, because each is drawn
    extent_nm : first and last corner of the volume, (z, y, x)
    """
    largest = sorted(figures, key=lambda row: (-row["volume_um3"], row["id"]))[:MAX_OBJECTS]
    ids = [int(row["id"]) for row in largest]
    colours = label_colours(np.array(ids, np.uint64))
    objects = [
        MeshedObject(
            number,
            "#" + "".join(f"{value:02x}" for value in as_bytes(colour)),
            row["volume_um3"],
            row["surface_um2"],
            (int(row["z"]), int(row["y"]), int(row["x"])),
        )
        for number, colour, row in zip(ids, colours, largest, strict=True)
    ]
    drawn = draw_meshes([meshes[number] for number in ids], colours, extent_nm)
    return MeshesOfVolume(webp_data(webp_bytes(drawn)), objects)


def draw_meshes(
    meshes: Sequence[Mesh], colours: NDArray[np.float64], extent_nm: tuple[NDArray[Any], NDArray[Any]]
) -> NDArray[np.uint8]:
    """Return meshes in the box of their volume, seen from above one corner, as RGBA ``(y, x, 4)``.

    Parameters
    ----------
    meshes : closed meshes in nm
    colours : (meshes, 3) RGB in [0, 1]
    extent_nm : first and last corner of the box, (z, y, x)
    """
    low, high = (np.asarray(end, float)[::-1] / NM_PER_UM for end in extent_nm)
    figure = Figure(figsize=(SIDE_PX / 100, SIDE_PX / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((0, 0, 1, 1), projection="3d", computed_zorder=False)
    axes.view_init(elev=28, azim=-58)
    axes.set_axis_off()
    axes.add_collection3d(Line3DCollection(box_edges(low, high), colors=INK, linewidths=0.8, zorder=1))
    corners = [mesh.vertices[mesh.triangles][..., ::-1] / NM_PER_UM for mesh in meshes]
    shades = [shaded(own, colour) for own, colour in zip(corners, colours, strict=True)]
    solid = Poly3DCollection(np.concatenate(corners), facecolors=np.concatenate(shades), linewidths=0, zorder=2)
    solid.set_antialiased(False)  # seams between triangles would show
    axes.add_collection3d(solid)
    for axis, name in enumerate("xyz"):
        place = np.where(np.arange(3) == axis, (low + high) / 2, LABELLED[axis] * (high - low) * 1.06 + low)
        axes.text(*place, f"{name}: {high[axis] - low[axis]:.3g} µm", color=INK, fontsize=13, ha="center", va="center")
    axes.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), zlim=(high[2], low[2]))  # as in a section: y goes down
    sides = np.maximum(high - low, (high - low).max() / 4)
    axes.set_box_aspect(sides, zoom=ZOOM * np.linalg.norm(sides) / sides.max())  # matplotlib divides by the norm
    figure.patch.set_alpha(0)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


LABELLED = np.array([[0, 1, 1], [1, 0, 1], [0, 0, 0]])
"""Ends of the other two axes between which an axis is named."""


def shaded(corners: NDArray[np.float64], colour: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a colour for each triangle: the more it faces the light, the brighter.

    Parameters
    ----------
    corners : (n, 3, 3) corners (x, y, z) of the triangles, counter-clockwise from outside
    colour : RGB in [0, 1]
    """
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    light = LIGHT * (1, -1, -1) / np.linalg.norm(LIGHT)  # axes y and z are turned round
    bright = 0.45 + 0.55 * np.clip(0.5 + 0.5 * (normal @ light), 0, 1)
    return np.concatenate([bright[:, None] * colour, np.ones((len(bright), 1))], axis=1)


def box_edges(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the twelve edges of a box, ``(12, 2, 3)``."""
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
    pairs = [(i, i | 1 << axis) for i in range(8) for axis in range(3) if not i & 1 << axis]
    return corners[np.array(pairs)]


def record_of(volume: MeshesOfVolume) -> dict[str, Any]:
    """Return what a receipt keeps of it, as JSON values."""
    return {"picture": volume.picture, "objects": [asdict(one) for one in volume.objects]}


def recorded_meshes(receipts: Sequence[Path], merged: Sequence[Path]) -> dict[str, MeshesOfVolume]:
    """Return the pictures of all volumes whose meshes are of the present objects, by the volumes' names.

    Parameters
    ----------
    receipts : of `meshes`, whether they are there or not
    merged : receipts of `merge` for the same volumes
    """
    found = {}
    for receipt, objects in zip(receipts, merged, strict=True):
        known = read_json(receipt) if receipt.exists() else {}
        if known.get("drawn") and known["merged"] == receipts_digest([objects]):
            rows = [MeshedObject(**{**row, "voxel": tuple(row["voxel"])}) for row in known["drawn"]["objects"]]
            found[receipt.parent.name] = MeshesOfVolume(known["drawn"]["picture"], rows)
    return found


def render_meshes_section(template: str, volumes: Mapping[str, MeshesOfVolume]) -> str:
    """Return the section as HTML; `template` is the source of `workflow/report/meshes.html.j2`."""
    return rendered(template, volumes=volumes, side=SIDE_PX)
