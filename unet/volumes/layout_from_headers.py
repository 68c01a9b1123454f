"""Derive the layout of a volume's stores from the headers of its image files. No voxel is read."""

from math import prod

from unet.config.root import Config
from unet.config.storage import StorageConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Index
from unet.volumes.block_reader import unit_shape
from unet.volumes.layout import VolumeLayout
from unet.volumes.readers.source import Source
from unet.volumes.sources import VolumeSources, grid_of_stores, open_volume, used_box


def expected_layout(config: Config, name: str) -> VolumeLayout:
    """Return the layout that rule `survey` will find; for the sample from its settings, since it may not exist yet."""
    volume, storage = config.volumes[name], config.storage
    if not config.is_sample(volume):
        return layout_from_sources(volume, storage, open_volume(volume))
    made: Index = (config.sample.sections, config.sample.size, config.sample.size)
    window = used_box(volume, made, volume.raw[0].path)
    shape = tuple(n // f for n, f in zip(window.shape, volume.downsample, strict=True))
    size, offset = grid_of_stores(volume, window, volume.voxel_size_nm or (50.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    ids, masked = "uint32" if volume.labels else None, volume.mask is not None
    return VolumeLayout(shape, "uint8", size, offset, storage.chunk, storage.block, ids, masked)


def layout_from_sources(volume: VolumeConfig, storage: StorageConfig, sources: VolumeSources) -> VolumeLayout:
    """Return the layout of a volume from its open image files."""
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
        decoded=max((unit_shape(one, storage.block) for one in sources.given), key=prod),
    )


def _labels_dtype(labels: Source | None, volume: VolumeConfig) -> str | None:
    """Return the dtype of the instance ids: of annotated instances that of the file, else that of found objects."""
    if labels is None:
        return None
    return labels.dtype.name if volume.label_kind == "instances" else "uint32"
