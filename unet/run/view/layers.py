"""The layers of one volume of a run: where each is read, how it is drawn, and what marks its errors.

```
layer                       read from                                  served as
raw, probability            raw.zarr, probability.zarr                 files, by byte ranges
truth, segmentation         labels.zarr, segmentation.zarr             files; names and sizes as segment properties
its meshes, skeletons       meshes/precomputed, skeletons/precomputed  files, by byte ranges
errors                      both, and overlap.npz                      computed chunk by chunk
{name} of `compare`         the files of the user, in any format       read chunk by chunk
splits, merges              evaluation.json                            points in the state
```

A store that is not there, or not yet, is left out.
"""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import not_annotated_id
from unet.config.root import Config
from unet.evaluation.contingency import Contingency
from unet.evaluation.error_analysis import MERGE, SPLIT, ErrorFinder
from unet.evaluation.scores import joined_over_sections
from unet.geometry.box import Box
from unet.geometry.offsets import affinity_offsets
from unet.run.view.section_errors import SectionErrors
from unet.run.view.server import Content, Mount, precomputed_mount, zarr_mount
from unet.run.view.state import (
    BOTH_COLOUR,
    MERGE_COLOUR,
    PROBABILITY_SHADER,
    SPLIT_COLOUR,
    ErrorMark,
    VoxelSpace,
    error_layers,
    image_layer,
    segmentation_layer,
    viewer_state,
)
from unet.run.view.virtual_zarr import virtual_labels
from unet.segmentation.foreground import channel_of
from unet.segmentation.merge_table import load_merge_table
from unet.segmentation.segment_properties import properties_of_objects, segment_properties
from unet.storage.digests import receipts_digest
from unet.storage.files import load_arrays, read_json
from unet.storage.zarr_store import Image, StoreError
from unet.volumes.sources import open_in_volume
from unet.volumes.volume import Volume

CONTRAST = 2.5
"""Standard deviations around the mean intensity that are drawn from black to white."""


BYTES_OF_NUMBERED_IDS = 8
"""Labels of so many bytes get new ids where sections are scored alone, so the table has none of their ids."""


class ViewError(ValueError):
    """A volume or store to be shown is not there; the message says what is."""


@dataclass
class View:
    """View of a run: what a viewer shows of it.

    Attributes
    ----------
    state : state of neuroglancer, as JSON values
    mounts : what the server has to serve for it, by path below its address
    left_out : layers that need the server of this workflow, and are not in a state for another one
    """

    state: dict[str, Any]
    mounts: dict[str, Mount]
    left_out: list[str] = field(default_factory=list)


def view_of(config: Config, url: str, static: bool = False) -> View:
    """Return what a viewer shows of the volume and at the position that section `view` names.

    Parameters
    ----------
    config : Config
        Configuration of the run.
    url : str
        Address of the folder of results, with a slash at its end.
    static : bool
        Whether another server serves the folder: only stores that lie there, or behind an address, are shown then.

    Raises
    ------
    ViewError
        If the volume has not been read yet, or the position or the error is not there.
    """
    results, asked = Path(config.results), config.view
    name = config.volume_or_first(asked.volume)
    survey = results / "receipts" / "survey" / f"{name}.json"
    if not survey.exists():
        raise ViewError(f"view.volume: volume {name!r} has not been read into {results} yet; run `snakemake` first")
    volume = Volume.open(results / "volumes" / name, survey)
    found = _Layers(config, volume, url, static)
    marks = found.marks()
    position, mark = _position(config, volume, marks)
    layers = [*found.images(), *found.segmentations(mark), *found.errors()]
    linked = {"split": "truth", "merge": "segmentation"}
    names = [layer["name"] for layer in layers]
    linked = {kind: layer for kind, layer in linked.items() if layer in names}
    # first, since they are what one goes through
    layers[:0] = error_layers(found.place, marks, mark.number if mark else None, linked)
    selected = {"split": "splits", "merge": "merges"}[mark.kind] if mark else None
    state = viewer_state(found.place, layers, position, selected, f"unet-em: {name}")
    return View(state, found.mounts, found.left_out)


def _position(config: Config, volume: Volume, marks: list[ErrorMark]) -> tuple[tuple[float, ...], ErrorMark | None]:
    """Return the voxel at which the viewer opens, and the error that lies there if the section names one."""
    asked, shape = config.view, volume.layout.shape
    if asked.error is not None:
        if asked.error > len(marks):
            known = f"{len(marks)} are known" if marks else "none are known: it was not scored, or has none"
            raise ViewError(f"view.error: got {asked.error}, but of the errors of volume {volume.name!r} {known}")
        return marks[asked.error - 1].centre, marks[asked.error - 1]
    if asked.position is None:
        return tuple(n // 2 for n in shape), None
    if any(at >= n for at, n in zip(asked.position, shape, strict=True)):
        raise ViewError(
            f"view.position: voxel {list(asked.position)} is outside volume {volume.name!r} of {list(shape)} voxels "
            "(z, y, x)"
        )
    return asked.position, None


class _Layers:
    """The layers of a volume; `mounts` grows with them."""

    def __init__(self, config: Config, volume: Volume, url: str, static: bool) -> None:
        self.config, self.volume, self.url, self.static = config, volume, url, static
        self.place = VoxelSpace(volume.layout.voxel_size_nm, volume.layout.offset_nm)
        self.mounts: dict[str, Mount] = {}
        self.left_out: list[str] = []

    def images(self) -> list[dict[str, Any]]:
        """Return the layers of grey values and probabilities."""
        layers = []
        if raw := self._store("raw"):
            several = 0 if raw.spec.channels else None
            layers.append(image_layer("raw", self._address("raw", raw), self._contrast(raw), several))
        if probability := self._store("probability"):
            channels, top = probability.spec.channels, 1 if probability.dtype.kind == "f" else 255
            affinities = affinity_offsets(channels) is not None
            shown = 0 if affinities else channel_of(self.config.segment.main_class, channels)
            drawn: dict[str, Any] = {"shader": PROBABILITY_SHADER, "opacity": 0.5, "visible": False}
            address = self._address("probability", probability)
            layers.append(image_layer("probability", address, (0, top), shown, **drawn))
        return layers

    def segmentations(self, mark: ErrorMark | None) -> list[dict[str, Any]]:
        """Return the layers of truth, segmentation and segmentations of others; the marked object is highlighted."""
        layers = []
        if labels := self._store("labels"):
            colours = {str(not_annotated_id(labels.dtype)): "#000000"}
            shown = mark is not None and mark.kind == "split"
            more = {"visible": shown, "segmentColors": colours, **_highlighted(mark if shown else None)}
            properties = self._properties("truth", self._true_sizes)
            layers.append(segmentation_layer("truth", self._address("labels", labels), properties, **more))
        if segmentation := self._store("segmentation"):
            own = mark if mark is not None and mark.kind == "merge" else None
            properties = self._properties("segmentation", self._sizes)
            address = self._address("segmentation", segmentation)
            layers.append(segmentation_layer("segmentation", address, properties, **_highlighted(own)))
            self._add_solids(layers, selected=own is None)
        return [*layers, *self._compared()]

    def _add_solids(self, layers: list[dict[str, Any]], selected: bool) -> None:
        """Add the meshes to the last layer, and a layer of skeletons, where they are of the present objects.

        The viewer draws meshes of selected objects alone, so all that have one are `selected`; sections look the same.
        """
        for rule in ("meshes", "skeletons"):
            ids = self._solids(rule)
            if not ids:
                continue
            path = f"volumes/{self.volume.name}/{rule}/precomputed"
            self.mounts[f"{path}/"] = precomputed_mount(self.volume.folder / rule / "precomputed")
            address = f"precomputed://{self.url}{path}"
            if rule == "meshes":
                layers[-1]["source"].append(address)
                if selected:
                    layers[-1] |= {"segments": ids, "notSelectedAlpha": layers[-1]["selectedAlpha"]}
            else:
                layers.append({"type": "segmentation", "name": rule, "source": address, "segments": ids})

    def _solids(self, rule: str) -> list[str]:
        """Return the ids of the objects whose meshes or skeletons were made since the last merge."""
        receipts, name = Path(self.config.results) / "receipts", self.volume.name
        made, merged = receipts / rule / name / "all.json", receipts / "merge" / name / "segmentation.json"
        if not all(path.exists() for path in (made, merged, self.volume.folder / rule / "precomputed" / "info")):
            return []
        if read_json(made).get("merged") != receipts_digest([merged]):
            return []
        with (self.volume.folder / f"{rule}.csv").open() as rows:
            return [row["id"] for row in csv.DictReader(rows)]

    def _compared(self) -> list[dict[str, Any]]:
        """Return the layers of segmentations that others made."""
        own, layout, layers = self.config.volumes[self.volume.name], self.volume.layout, []
        for name, given in own.compare.items():
            if self.static:
                self.left_out.append(name)
                continue
            source = open_in_volume(own, given)
            where = layout.voxel_size_nm, layout.offset_nm
            mount = virtual_labels(name, layout.shape, source.dtype, layout.chunk, *where, source.read)
            address = self._virtual(f"compare-{name}", mount)
            layers.append(segmentation_layer(name, address, visible=False))
        return layers

    def errors(self) -> list[dict[str, Any]]:
        """Return the layer of wrong voxels: 1 = split off, 2 = merged with others, 3 = both."""
        read = self._errors_of()
        if read is None:
            return []
        if self.static:
            self.left_out.append("errors")
            return []
        layout = self.volume.layout
        where = layout.voxel_size_nm, layout.offset_nm
        mount = virtual_labels("errors", layout.shape, np.dtype(np.uint8), layout.chunk, *where, read)
        kinds = {SPLIT: ("split", SPLIT_COLOUR), MERGE: ("merge", MERGE_COLOUR), SPLIT | MERGE: ("both", BOTH_COLOUR)}
        colours = {str(value): colour for value, (_, colour) in kinds.items()}
        address = self._virtual("errors", mount)
        more: dict[str, Any] = {"visible": False, "segmentColors": colours, "selectedAlpha": 0.6}
        return [segmentation_layer("errors", address, **more)]

    def _errors_of(self) -> Callable[[Box], NDArray[np.uint8]] | None:
        """Return what computes the errors of a box; None where there is nothing to compare."""
        table, volume = self.volume.folder / "overlap.npz", self.volume
        segmentation = self._store("segmentation")
        if not table.exists() or segmentation is None or self._store("labels") is None:
            return None
        read = segmentation.read
        if self.config.segment.sections_alone:
            return SectionErrors(volume.layout.shape, volume.layout.block, volume.true_ids, read).errors
        finder = ErrorFinder(Contingency(**load_arrays(table)))
        return lambda box: finder.errors(volume.true_ids(box), read(box))

    def marks(self) -> list[ErrorMark]:
        """Return the objects with most wrong voxels, worst first."""
        path = self.volume.folder / "evaluation.json"
        worst = read_json(path)["worst"] if path.exists() else []
        return [ErrorMark.of_row(number, row) for number, row in enumerate(worst, start=1)]

    def _store(self, name: str) -> Image | None:
        """Return a store, or None where it is not there."""
        try:
            return self.volume.image(name)
        except StoreError:
            return None

    def _address(self, name: str, image: Image) -> str:
        """Return the address of a store, and let the server serve it."""
        if self.static and self.volume.address:
            return f"{self.volume.address}/{name}.zarr"
        path = f"volumes/{self.volume.name}/{name}.zarr"
        self.mounts[f"{path}/"] = zarr_mount(image.backend)
        return self.url + path

    def _virtual(self, name: str, mount: Mount) -> str:
        path = f"virtual/{self.volume.name}/{name}.zarr"
        self.mounts[f"{path}/"] = mount
        return self.url + path

    def _contrast(self, raw: Image) -> tuple[float, float] | None:
        """Return the intensities that are drawn black and white, from the statistics of the first channel."""
        receipt = Path(self.config.results) / "receipts" / "intensity_statistics" / f"{self.volume.name}.json"
        if not receipt.exists():
            return None
        first = read_json(receipt)["statistics"][0]
        low, high = (first["centre"] + sign * CONTRAST * first["scale"] for sign in (-1, 1))
        if raw.dtype.kind in "ui":
            limits = np.iinfo(raw.dtype)
            low, high = max(low, int(limits.min)), min(high, int(limits.max))
        return (low, high) if low < high else None

    def _properties(self, name: str, sizes: Callable[[], Mapping[str, Any] | None]) -> str | None:
        """Return the address of the sizes of a layer's objects; None where they are not known."""
        known = None if self.static else sizes()
        if known is None:
            return None
        content = Content.of_bytes(json.dumps(known).encode())
        path = f"properties/{self.volume.name}/{name}"
        self.mounts[f"{path}/"] = partial({"info": content}.get)
        return self.url + path

    def _sizes(self) -> Mapping[str, Any] | None:
        folder = self.volume.merge_table("segmentation")
        classes = self.config.segment.classes
        return properties_of_objects(load_merge_table(folder), classes) if folder.is_dir() else None

    def _true_sizes(self) -> Mapping[str, Any] | None:
        path = self.volume.folder / "overlap.npz"
        if not path.exists():
            return None
        table = Contingency(**load_arrays(path))
        ids, sizes = np.unique(table.truth), table.truth_sizes
        if self.config.segment.sections_alone:
            labels = self._store("labels")
            if labels is None or labels.dtype.itemsize == BYTES_OF_NUMBERED_IDS:
                return None
            ids, sizes = joined_over_sections(ids, sizes)
        return segment_properties(ids, sizes, [f"true object {one}" for one in ids.tolist()])


def _highlighted(mark: ErrorMark | None) -> dict[str, Any]:
    """Return the keys of a layer that select the object of a mark, with the others still to be seen."""
    return {} if mark is None else {"segments": [str(mark.object_id)], "notSelectedAlpha": 0.12}
