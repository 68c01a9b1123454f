"""The state of neuroglancer: which layers it shows, in which colours, and where it opens.

A state is JSON; https://neuroglancer-docs.web.app describes it. Neuroglancer takes scale and translation of a store
from its OME metadata, and places the centre of voxel i at `offset_nm / voxel_size_nm + i`, in voxels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from unet.geometry.box import Index

SPLIT_COLOUR, MERGE_COLOUR, BOTH_COLOUR = "#e6ab02", "#e7298a", "#7570b3"
"""Colours of voxels that are split off, merged with others, and both. Readers who see no red can distinguish them."""
PROBABILITY_SHADER = """\
#uicontrol invlerp normalized
#uicontrol vec3 color color(default="#ff7f00")
void main() { emitRGBA(vec4(color, normalized())); }
"""
GREY_SHADER = """\
#uicontrol invlerp normalized
void main() { emitGrayscale(normalized()); }
"""


@dataclass(frozen=True)
class VoxelSpace:
    """The voxels of a volume in space, `(z, y, x)` in nm."""

    voxel_size_nm: tuple[float, ...]
    offset_nm: tuple[float, ...]

    @property
    def dimensions(self) -> dict[str, list[Any]]:
        """Names and scales of the axes, x first, so that a section is seen as an image."""
        return {axis: [size * 1e-9, "m"] for axis, size in zip("xyz", self.voxel_size_nm[::-1], strict=True)}

    def point(self, voxel: Sequence[float]) -> list[float]:
        """Return the centre of a voxel `(z, y, x)` as the viewer counts, `[x, y, z]`.

        >>> VoxelSpace((40.0, 4.0, 4.0), (80.0, 0.0, 2.0)).point((1, 5, 6))
        [6.5, 5.0, 3.0]
        """
        return [o / s + v for o, s, v in zip(self.offset_nm, self.voxel_size_nm, voxel, strict=True)][::-1]


@dataclass(frozen=True)
class ErrorMark:
    """An erroneous object of `evaluation.json` and where it is marked.

    Attributes
    ----------
    number : rank among the objects with most wrong voxels, 1 for the worst
    kind : ``split`` of a true object, or ``merge`` by a predicted one
    object_id : id in the truth of a split, in the segmentation of a merge
    centre : voxel `(z, y, x)`
    text : what is said of it
    """

    number: int
    kind: str
    object_id: int
    centre: Index
    text: str

    @classmethod
    def of_row(cls, number: int, row: Mapping[str, Any]) -> "ErrorMark":
        """Return the mark of a row of `worst` in `evaluation.json`."""
        text = (
            f"{number}: {row['kind']} of {row['object']}: {row['wrong']:,} of {row['size']:,} voxels, "
            f"{row['partners']} pieces"
        )
        return cls(number, row["kind"], row["object"], tuple(row["centre"]), text)


def image_layer(
    name: str,
    url: str,
    contrast: tuple[float, float] | None = None,
    channel: int | None = None,
    shader: str = GREY_SHADER,
    **more: Any,
) -> dict[str, Any]:
    """Return a layer of grey values.

    Parameters
    ----------
    url : str
        Address of the Zarr store.
    contrast : (float, float), optional
        Values that are drawn black and white; else the range of the type.
    channel : int, optional
        Channel that is shown at first, of a store with channels.
    more
        Further keys of the layer, such as `opacity`.
    """
    layer: dict[str, Any] = {"type": "image", "name": name, "source": f"zarr://{url}", "shader": shader, **more}
    if contrast is not None:
        layer["shaderControls"] = {"normalized": {"range": list(contrast)}}
    if channel is not None:
        layer |= {"localDimensions": {"c'": [1, ""]}, "localPosition": [channel]}
    return layer


def segmentation_layer(name: str, url: str, properties: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a layer of ids, each in a colour of its own; `properties` is the address of names and sizes."""
    sources = [f"zarr://{url}"] + ([f"precomputed://{properties}"] if properties else [])
    return {"type": "segmentation", "name": name, "source": sources, "selectedAlpha": 0.4, **more}


def error_layers(
    place: VoxelSpace, marks: Sequence[ErrorMark], selected: int | None, linked: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the erroneous objects as points, in one layer of splits and one of merges; none where there are none.

    Parameters
    ----------
    selected : int, optional
        Number of the mark that is selected.
    linked : mapping
        Layer of the ids that a mark names, by its kind.
    """
    layers = []
    for kind, name, colour in (("split", "splits", SPLIT_COLOUR), ("merge", "merges", MERGE_COLOUR)):
        own = [mark for mark in marks if mark.kind == kind]
        if own:
            layers.append(_annotation_layer(place, name, colour, own, linked.get(kind)))
            if selected in [mark.number for mark in own]:
                layers[-1]["selectedAnnotation"] = str(selected)
    return layers


def _annotation_layer(
    place: VoxelSpace, name: str, colour: str, marks: Sequence[ErrorMark], linked: str | None
) -> dict[str, Any]:
    points = [
        {
            "type": "point",
            "id": str(mark.number),
            "point": place.point(mark.centre),
            "description": mark.text,
            "segments": [[str(mark.object_id)]],
        }
        for mark in marks
    ]
    layer: dict[str, Any] = {
        "type": "annotation",
        "name": name,
        "source": {"url": "local://annotations", "transform": {"outputDimensions": place.dimensions}},
        "annotationRelationships": ["segments"],
        "annotations": points,
        "annotationColor": colour,
        "tab": "annotations",
    }
    if linked is not None:
        layer["linkedSegmentationLayer"] = {"segments": linked}
    return layer


def viewer_state(
    place: VoxelSpace, layers: Sequence[dict[str, Any]], position: Sequence[float], selected: str | None, title: str
) -> dict[str, Any]:
    """Return the state of the viewer.

    Parameters
    ----------
    position : sequence of float
        Voxel `(z, y, x)` in the middle of each view.
    selected : str, optional
        Name of the layer whose panel is open.
    """
    state: dict[str, Any] = {
        "title": title,
        "dimensions": place.dimensions,
        "position": place.point(position),
        "crossSectionScale": 1,
        "layers": list(layers),
        "layout": "4panel",
    }
    if selected is not None:
        state["selectedLayer"] = {"visible": True, "layer": selected}
    return state


def page_that_opens(state: Mapping[str, Any], client: str) -> bytes:
    """Return a page that opens neuroglancer with a state in its address.

    Neuroglancer 2.41.2 may lose a layer of annotations, or a hidden one, if it fetches the state while it starts. It
    did in 2 of 16 starts on a busy machine, and in none of 28 with the state in the address.

    Parameters
    ----------
    client : address of neuroglancer, relative to the page

    >>> page_that_opens({"layout": "xy"}, "v/").decode()
    '<!doctype html><title>unet-em</title><script>location.replace("v/#!%7B%22layout%22%3A%20%22xy%22%7D")</script>'
    """
    address = f"{client}#!{quote(json.dumps(state), safe='')}"
    return f'<!doctype html><title>unet-em</title><script>location.replace("{address}")</script>'.encode()
