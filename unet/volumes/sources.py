"""Open the image files of a volume on common voxels: intensities, labels and mask.

The user's settings decide which voxels of the raw file the volume takes, and where the other files lie:

```
raw.h5    (200, 3000, 3000)   --- sections, crop --->  (50, 1024, 1024)  --- downsample --->  (50, 512, 512)
labels.h5 (125, 1250, 1250)   --- offset: placed in raw's voxels, then the same
```

All sources of `VolumeSources` have the voxels of the volume's stores. A rule reads them box by box.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unet.config.source import SourceConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box, Index
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_channels, open_source
from unet.volumes.readers.source import RAW_DTYPES, Nm, Source
from unet.volumes.readers.views import Downsampled, Placed, Window
from unet.volumes.voxel_size import TOLERANCE, resolve_voxel_size


@dataclass(frozen=True)
class VolumeSources:
    """The sources of a volume, all with the voxels of its stores.

    Attributes
    ----------
    raw, labels, mask : Source, or None
        Intensities; labels and mask, if they are given.
    voxel_size_nm, offset_nm : tuple of float
        Voxel size, and place of the centre of the first voxel, `(z, y, x)` in nm.
    """

    raw: Source
    labels: Source | None
    mask: Source | None
    voxel_size_nm: tuple[float, float, float]
    offset_nm: tuple[float, float, float]
    remarks: tuple[str, ...] = ()

    @property
    def given(self) -> list[Source]:
        """Return the sources that are given, raw first."""
        return [source for source in (self.raw, self.mask, self.labels) if source is not None]

    @property
    def box(self) -> Box:
        """Return the box of all voxels."""
        return Box((0, 0, 0), self.raw.shape)

    def told(self) -> list[str]:
        """Return what the user has to know about how the files are read, each remark once."""
        return list(dict.fromkeys([*self.remarks, *(remark for source in self.given for remark in source.remarks)]))


def open_volume(volume: VolumeConfig) -> VolumeSources:
    """Open the sources of a volume. Only headers are read.

    Raises
    ------
    SourceError
        If a source cannot be opened, if labels or mask do not lie on the voxels of raw, if the voxel size is not known,
        or if `sections` or `crop` exceed the volume.
    """
    raw = open_channels(volume.raw)
    check_raw(raw)
    overrule = volume.voxel_size_from == "configuration"
    size, remark = resolve_voxel_size(volume.voxel_size_nm, raw.voxel_size_nm, raw.address, overrule=overrule)
    frame = Frame(raw, size, overrule)
    labels = open_annotation(frame, volume.labels) if volume.labels is not None else None
    mask = open_annotation(frame, (volume.mask,)) if volume.mask is not None else None
    window = used_box(volume, raw)
    steps = zip(raw.offset_nm or (0.0, 0.0, 0.0), size, window.start, volume.downsample, strict=True)
    z, y, x = (nm + edge * (lo + (f - 1) / 2) for nm, edge, lo, f in steps)
    coarse = [edge * f for edge, f in zip(size, volume.downsample, strict=True)]
    return VolumeSources(
        _used(volume, raw, window, "mean"),
        labels and _used(volume, labels, window, "mode"),
        mask and _used(volume, mask, window, "mode"),
        (coarse[0], coarse[1], coarse[2]),
        (z, y, x),
        (remark,) if remark else (),
    )


def open_in_volume(volume: VolumeConfig, given: SourceConfig) -> Source:
    """Open a source of labels that is not ingested, such as another segmentation, on the voxels of a volume's stores.

    Raises
    ------
    SourceError
        As `open_volume`.
    """
    raw = open_channels(volume.raw)
    overrule = volume.voxel_size_from == "configuration"
    size, _ = resolve_voxel_size(volume.voxel_size_nm, raw.voxel_size_nm, raw.address, overrule=overrule)
    return _used(volume, open_annotation(Frame(raw, size, overrule), (given,)), used_box(volume, raw), "mode")


def _used(volume: VolumeConfig, source: Source, window: Box, method: str) -> Source:
    """Return the voxels of a source that a volume takes, as coarse as it takes them."""
    cut = source if window.shape == source.shape else Window(source, window)
    return Downsampled(cut, volume.downsample, method) if volume.downsample != (1, 1, 1) else cut


@dataclass(frozen=True)
class Frame:
    """The voxels of the raw files, in which labels, masks and other segmentations are placed."""

    raw: Source
    voxel_size_nm: Nm
    overrule: bool = False


def open_annotation(frame: Frame, given: Sequence[SourceConfig]) -> Source:
    """Open labels, a mask or another segmentation, and place it in the voxels of the raw files.

    Raises
    ------
    SourceError
        If it has several channels, other voxels than raw, or no known place in raw.
    """
    if len(given) > 1:
        raise SourceError(f"{given[1].path}: several files for the labels of one volume are not read yet")
    return _placed(frame, given[0], open_source(given[0]))


def _placed(frame: Frame, given: SourceConfig, source: Source) -> Source:
    raw = frame.raw
    if source.channels != 1:
        raise SourceError(
            f"{source.address}: {source.channels} channels, but labels and masks have one value per voxel; choose one "
            "with `channels: [0]` at this source"
        )
    if source.voxel_size_nm:
        resolve_voxel_size(
            tuple(frame.voxel_size_nm), source.voxel_size_nm, source.address, other=raw.address, overrule=frame.overrule
        )
    if given.offset is not None:
        return Placed(source, given.offset, raw.shape)
    at = _whole_voxels(frame, source)
    if source.shape == raw.shape and at in (None, (0, 0, 0)):
        return source
    if source.shape == raw.shape and at is not None:
        raise SourceError(
            f"{source.address}: offset {source.offset_nm} nm, but {raw.address} has {raw.offset_nm} nm (z, y, x); "
            "crop both to the same place"
        )
    if at is None:
        raise SourceError(
            f"{source.address}: shape {source.shape}, but {raw.address} has shape {raw.shape} (z, y, x); both need the "
            "same voxels: crop or pad one of them, or say with `offset: [z, y, x]` at which voxel of raw it begins"
        )
    return Placed(source, at, raw.shape)


def _whole_voxels(frame: Frame, source: Source) -> Index | None:
    """Return the voxel of raw at which a source begins by the offsets of both; None if its file says no offset."""
    if source.offset_nm is None or (source.shape == frame.raw.shape and frame.raw.offset_nm is None):
        return None
    begin = frame.raw.offset_nm or (0.0, 0.0, 0.0)
    steps = [(a - b) / edge for a, b, edge in zip(source.offset_nm, begin, frame.voxel_size_nm, strict=True)]
    if any(abs(step - round(step)) > TOLERANCE for step in steps):
        raise SourceError(
            f"{source.address}: offset {source.offset_nm} nm, but {frame.raw.address} has {tuple(begin)} nm (z, y, x): "
            f"{steps} voxels are not whole; correct the offset, or crop both to the same place"
        )
    z, y, x = (round(step) for step in steps)
    return z, y, x


def used_box(volume: VolumeConfig, raw: Source) -> Box:
    """Return the box of the raw file that a volume takes, by its `sections` and `crop`.

    Raises
    ------
    SourceError
        If it is empty or exceeds the raw file.
    """
    ranges = volume.crop or ((0, raw.shape[0]), (0, raw.shape[1]), (0, raw.shape[2]))
    ranges = (volume.sections or ranges[0], *ranges[1:])
    for key, axis, (first, stop), n in zip(("sections", "crop", "crop"), "zyx", ranges, raw.shape, strict=True):
        if not 0 <= first < stop <= n:
            raise SourceError(
                f"{raw.address}: {key} [{first}, {stop}] are not inside its {n} "
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
