"""Derive the layout of a volume's stores from the headers of its image files. No voxel is read."""

from pathlib import Path

import numpy as np

from unet.config.label_kinds import as_instances, grey_levels
from unet.config.root import Config
from unet.config.storage import StorageConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Index
from unet.volumes.readers.source import Source
from unet.volumes.sources import VolumeSources, open_volume
from unet.volumes.volume import VolumeLayout


def expected_layout(config: Config, name: str) -> VolumeLayout:
    """Return the layout that rule `survey` will find; for the sample from its settings, since it may not exist yet."""
    volume, storage = config.volumes[name], config.storage
    if not is_sample(config, volume):
        return layout_from_sources(volume, storage, open_volume(volume))
    first, stop = volume.sections or (0, config.sample.sections)
    shape: Index = (stop - first, config.sample.size, config.sample.size)
    voxel_size_nm = volume.voxel_size_nm or (50.0, 4.0, 4.0)
    ids, masked = "uint32" if volume.labels else None, volume.mask is not None
    return VolumeLayout(
        shape, "uint8", voxel_size_nm, (first * voxel_size_nm[0], 0.0, 0.0), storage.chunk, storage.block, ids, masked
    )


def layout_from_sources(volume: VolumeConfig, storage: StorageConfig, sources: VolumeSources) -> VolumeLayout:
    """Return the layout of a volume from its open image files.

    Raises
    ------
    AnnotationError
        If the dtype of the labels cannot be used.
    """
    return VolumeLayout(
        shape=sources.raw.shape,
        dtype=sources.raw.dtype.name,
        voxel_size_nm=sources.voxel_size_nm,
        offset_nm=sources.offset_nm,
        chunk=storage.chunk,
        block=storage.block,
        labels_dtype=_labels_dtype(sources.labels, volume),
        masked=sources.mask is not None,
        channels=sources.raw.channels,
        decoded_sections=max(one.sections_together if one.whole_sections else 0 for one in sources.given),
    )


def _labels_dtype(labels: Source | None, volume: VolumeConfig) -> str | None:
    """Return the dtype of the instance ids. Refuse a dtype of the labels that `label_kind` does not allow."""
    if labels is None:
        return None
    nothing = np.empty(0, labels.dtype)
    if volume.label_kind == "instances":
        return as_instances(nothing, labels.address).dtype.name
    grey_levels(nothing, labels.address)
    return "uint32"


def is_sample(config: Config, volume: VolumeConfig) -> bool:
    """Return whether the volume is the sample that this workflow makes."""
    return len(volume.raw) == 1 and Path(volume.raw[0].path).parent == Path(config.results) / "sample"
