"""Open the image files of a volume on common voxels: intensities, labels and mask.

The user's settings decide which voxels of the raw file the volume takes, and where the other files lie:

```
raw.h5    (200, 3000, 3000)   --- sections, crop --->  (50, 1024, 1024)  --- downsample --->  (50, 512, 512)
labels.h5 (125, 1250, 1250)   --- ids; offset: placed in raw's voxels, then the same
```

All sources of `VolumeSources` have the voxels of the volume's stores. A rule reads them box by box.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from unet.config.source import SourceConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box, Index
from unet.storage.address import is_address, split_path, split_url
from unet.volumes.label_conversion import LabelValues, Unlabelled, label_values, one_value_per_voxel
from unet.volumes.placement import Frame, Placement, placed
from unet.volumes.problems import Problems
from unet.volumes.readers import mrc
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import format_of, open_channel, open_channels, open_source, stacked
from unet.volumes.readers.source import RAW_DTYPES, Nm, Source
from unet.volumes.readers.views import Cropped, Downsampled, ZeroOutsideMask
from unet.volumes.several_labels import SeveralLabels
from unet.volumes.voxel_size import is_impossible, pixel_differs, resolve_voxel_size


@dataclass(frozen=True)
class VolumeSources:
    """The sources of a volume, all with the voxels of its stores.

    Attributes
    ----------
    raw, labels, mask : Source, or None
        Intensities; labels as `unet.volumes.label_conversion` describes them, and mask, if they are given.
    voxel_size_nm, offset_nm : tuple of float
        Voxel size, and position of the centre of the first voxel, `(z, y, x)` in nm.
    remarks : tuple of str
        What the user has to know beyond the remarks of the sources.
    label_boxes : tuple of Box
        Boxes that the label files hold, in voxels of the stores. They may reach beyond the volume.
    """

    raw: Source
    labels: Source | None
    mask: Source | None
    voxel_size_nm: tuple[float, float, float]
    offset_nm: tuple[float, float, float]
    remarks: tuple[str, ...] = ()
    label_boxes: tuple[Box, ...] = ()

    @property
    def given(self) -> list[Source]:
        """Return the sources that are given, raw first."""
        return [source for source in (self.raw, self.mask, self.labels) if source is not None]

    @property
    def box(self) -> Box:
        """Return the box of all voxels."""
        return Box((0, 0, 0), self.raw.shape)

    def all_remarks(self) -> list[str]:
        """Return what the user has to know about how the files are read, each remark once."""
        return list(dict.fromkeys([*self.remarks, *(remark for source in self.given for remark in source.remarks)]))


def open_volume(volume: VolumeConfig, compared: bool = False) -> VolumeSources:
    """Open the sources of a volume. Only headers are read. One error reports all problems.

    Parameters
    ----------
    volume : VolumeConfig
        Settings of the volume.
    compared : bool
        Whether other segmentations (`compare`) are opened and placed as well, to find what is wrong with them.

    Raises
    ------
    SourceError
        If a source cannot be opened, or the voxel size is not known. If labels or mask do not lie on the voxels of raw.
        If `sections` or `crop` exceed the volume.
    """
    problems = Problems()
    opened = {key: problems.tried(key, open_) for key, open_ in _openers(volume, compared).items()}
    channels = [source for key, source in opened.items() if source is not None and key.split(".")[0] == "raw"]
    whole = len(channels) == len(volume.raw)
    raw = problems.tried("raw", partial(stacked, channels)) if whole else None
    if raw is not None:
        problems.tried("raw", partial(check_raw, raw))
    framed = problems.tried("raw", partial(_frame, volume, raw)) if raw is not None else None
    window = problems.tried("raw", partial(used_box, volume, raw.shape, raw.address)) if raw is not None else None
    placements: dict[str, Placement] = {}
    for key, given in _placed_sources(volume, compared).items():
        source = opened[key]
        if framed is not None and source is not None:
            found = problems.tried(key, partial(placed, framed[0], given, source))
            placements |= {key: found} if found is not None else {}
    if problems:  # the headers of sections, which are checked later where all else is well, may tell more
        used = {raw.shape: window} if raw is not None and window is not None else {}
        for key, one in opened.items():
            if one is not None:
                problems.tried(key, partial(one.check, used.get(one.shape, Box.of_shape(one.shape))))
    problems.refuse()
    assert raw is not None
    assert framed is not None
    assert window is not None
    return _in_stores_voxels(volume, raw, framed, window, placements)


def _openers(volume: VolumeConfig, compared: bool) -> dict[str, Callable[[], Source]]:
    """Return what opens each source by its key; labels, mask and segmentations have one value per voxel."""
    openers: dict[str, Callable[[], Source]] = {}
    for key, given in volume.sources.items():
        match key.partition(".")[0]:
            case "raw":
                openers[key] = partial(open_channel, given)
            case "labels":
                openers[key] = partial(_open_ids, given, volume)
            case _:
                openers[key] = partial(_open_values, given)
    if compared:
        openers |= {f"compare.{name}": partial(_open_segmentation, given) for name, given in volume.compare.items()}
    return openers


def _placed_sources(volume: VolumeConfig, compared: bool) -> dict[str, SourceConfig]:
    """Return the sources that are placed in the voxels of raw, by their keys."""
    found = {key: given for key, given in volume.sources.items() if key.partition(".")[0] != "raw"}
    return found | ({f"compare.{name}": given for name, given in volume.compare.items()} if compared else {})


def _open_values(given: SourceConfig) -> Source:
    return one_value_per_voxel(open_source(given, colours=True))


def _open_ids(given: SourceConfig, volume: VolumeConfig) -> Source:
    return label_values(open_source(given, colours=True), volume)


def _open_segmentation(given: SourceConfig) -> Source:
    source = _open_values(given)
    if source.dtype.kind == "f":
        raise SourceError(
            f"{given.path}: dtype {source.dtype.name}, but a segmentation holds ids, which are integers; give the ids "
            "instead of probabilities, or convert them"
        )
    return LabelValues(source, used_as="segmentation")


def _in_stores_voxels(
    volume: VolumeConfig,
    raw: Source,
    framed: tuple[Frame, str | None],
    window: Box,
    placements: Mapping[str, Placement],
) -> VolumeSources:
    """Return the sources as the voxels of the volume's stores."""
    frame, remark = framed
    annotations = [one for key, one in placements.items() if key.partition(".")[0] == "labels"]
    labels = _one_source(volume, annotations) if annotations else None
    mask = placements["mask"].source if "mask" in placements else None
    begin = None if raw.voxel_size_nm and is_impossible(raw.voxel_size_nm) else raw.offset_nm  # of the wrong unit, too
    voxel_size_nm, offset_nm = grid_of_stores(volume, window, frame.voxel_size_nm, begin or (0.0, 0.0, 0.0))
    intensities, tissue = _used(volume, raw, window, "mean"), mask and _used(volume, mask, window, "mode")
    if tissue is not None and intensities.dtype.kind == "f":
        intensities = ZeroOutsideMask(intensities, tissue)
    return VolumeSources(
        intensities,
        labels and Unlabelled(_used(volume, labels, window, "mode")),
        tissue,
        voxel_size_nm,
        offset_nm,
        (*((remark,) if remark else ()), *opposite_rows(volume)),
        tuple(_in_stores(box, window, volume.downsample) for one in annotations for box in one.boxes),
    )


def open_in_volume(volume: VolumeConfig, given: SourceConfig) -> Source:
    """Open a source of labels that is not ingested, such as another segmentation, on the voxels of a volume's stores.

    Raises
    ------
    SourceError
        As `open_volume`; also if it does not contain ids.
    """
    raw = open_channels(volume.raw)
    frame, _ = _frame(volume, raw)
    found = placed(frame, given, _open_segmentation(given)).source
    return _used(volume, found, used_box(volume, raw.shape, raw.address), "mode")


def _frame(volume: VolumeConfig, raw: Source) -> tuple[Frame, str | None]:
    """Return the voxels of the raw files, in which other files are placed, and a remark on their size or None."""
    overrule = volume.voxel_size_from == "configuration"
    remarks = [one for one in raw.remarks if "voxel_size_nm" in one or "how thick" in one]
    size, remark = resolve_voxel_size(
        volume.voxel_size_nm, raw.voxel_size_nm, raw.address, overrule=overrule, remarks=remarks
    )
    remark = remark or pixel_differs(size, raw.pixel_nm, raw.address, raw.voxel_size_from)
    return Frame(raw, size, overrule), remark


def _used(volume: VolumeConfig, source: Source, window: Box, method: str) -> Source:
    """Return the voxels of a source that a volume takes, as coarse as it takes them."""
    cut = source if window.shape == source.shape else Cropped(source, window)
    return Downsampled(cut, volume.downsample, method) if volume.downsample != (1, 1, 1) else cut


def _in_stores(box: Box, window: Box, factors: Index) -> Box:
    """Return a box of the raw file in voxels of the stores; of coarse voxels those that begin in it."""
    moved = box.relative_to(window.start)
    return Box(*(tuple(n // f for n, f in zip(end, factors, strict=True)) for end in (moved.start, moved.stop)))


def _one_source(volume: VolumeConfig, annotations: Sequence[Placement]) -> Source:
    """Return the labels of all files as one source; refuse files that hold the same voxel."""
    if len(annotations) == 1:
        return annotations[0].source
    return SeveralLabels(annotations, distinct=volume.label_kind == "instances")


def opposite_rows(volume: VolumeConfig) -> list[str]:
    """Return a remark where MRC stands beside another format, since their rows run in opposite directions."""
    others = {"labels": volume.labels or (), "mask": (volume.mask,) if volume.mask else ()}
    raw = volume.raw[0]
    return [
        f"{other.path} is {_format_name(other)}, but {raw.path} is {_format_name(raw)}. The first row of MRC is the "
        "bottom of the picture, in other formats the top; a program that converted a file may have turned it. "
        f"Look whether they fit; if they are mirrored, write `{key}: {{path: {other.path}, flip: [y]}}`"
        + (". `check_labels` compares them before the training" if key == "labels" else "")
        for key, found in others.items()
        for other in found
        if (_format_name(raw) == mrc.FORMAT.name) != (_format_name(other) == mrc.FORMAT.name)
        and not {"y"} & {*raw.flip, *other.flip}
    ]


def _format_name(given: SourceConfig) -> str:
    where, _ = split_url(given.path) if is_address(given.path) else split_path(given.path)
    found = format_of(where)
    return found.name if found else "another format"


def grid_of_stores(
    volume: VolumeConfig, window: Box, voxel_size_nm: Nm, offset_nm: Nm
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return voxel size of a volume's stores, and position of the centre of their first voxel, `(z, y, x)` in nm.

    Parameters
    ----------
    volume : VolumeConfig
        Says how many voxels become one.
    window : Box
        Voxels of the raw file that the volume takes.
    voxel_size_nm, offset_nm : tuple of float
        Voxel size of the raw file, and position of the centre of its first voxel.
    """
    z, y, x = (edge * f for edge, f in zip(voxel_size_nm, volume.downsample, strict=True))
    steps = zip(offset_nm, voxel_size_nm, window.start, volume.downsample, strict=True)
    z0, y0, x0 = (nm + edge * (lo + (f - 1) / 2) for nm, edge, lo, f in steps)
    return (z, y, x), (z0, y0, x0)


def used_box(volume: VolumeConfig, shape: Index, address: str) -> Box:
    """Return the box of the raw file that a volume takes, by its `sections` and `crop`.

    Raises
    ------
    SourceError
        If it is empty or exceeds the raw file.
    """
    ranges = volume.crop or ((0, shape[0]), (0, shape[1]), (0, shape[2]))
    ranges = (volume.sections or ranges[0], *ranges[1:])
    for key, axis, (first, stop), n in zip(("sections", "crop", "crop"), "zyx", ranges, shape, strict=True):
        if not 0 <= first < stop <= n:
            raise SourceError(
                f"{address}: {key} [{first}, {stop}] are not inside its {n} "
                f"{'sections' if axis == 'z' else f'voxels along {axis}'}; choose 0 <= first < stop <= {n}"
            )
    return Box(tuple(lo for lo, _ in ranges), tuple(hi for _, hi in ranges))


def check_raw(raw: Source) -> None:
    """Refuse a dtype that is not supported for intensities."""
    if raw.dtype.name not in RAW_DTYPES:
        raise SourceError(
            f"{raw.address}: dtype {raw.dtype.name} is not supported for intensities; convert to one of "
            f"{', '.join(RAW_DTYPES)}"
        )
