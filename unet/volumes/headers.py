"""What the headers of a volume's image files say, before `survey` has written it down: the jobs follow from it."""

from pathlib import Path

from unet.config.root import Config
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Index
from unet.volumes.readers.open import agree_voxel_size, check_sections, open_raw, open_source
from unet.volumes.volume import Layout


def layout_of(config: Config, name: str) -> Layout:
    """As `survey` will find it; of the sample from its settings alone, since it is not made yet."""
    volume: VolumeConfig = config.volumes[name]
    storage, channels, labels = config.storage, 1, None
    if is_sample(config, volume):
        first, stop = volume.sections or (0, config.sample.sections)
        shape: Index = (stop - first, config.sample.size, config.sample.size)
        dtype, voxel_size_nm = "uint8", volume.voxel_size_nm or (50.0, 4.0, 4.0)
        labels = "uint32" if volume.labels else None
    else:
        raw = open_raw(volume.raw)
        first, stop = check_sections(raw, volume.sections)
        shape, dtype, channels = (stop - first, *raw.shape[1:]), raw.dtype.name, raw.channels
        voxel_size_nm = agree_voxel_size(volume.voxel_size_nm, raw.voxel_size_nm, raw.address)
        labels = _ids(volume)
    masked = volume.mask is not None
    return Layout(shape, dtype, voxel_size_nm, (0.0, 0.0, 0.0), storage.chunk, storage.block, labels, masked, channels)


def _ids(volume: VolumeConfig) -> str | None:
    """Type of the instance ids, as `survey` chooses it."""
    if volume.labels is None:
        return None
    wide = volume.label_kind == "instances" and open_source(volume.labels).dtype.itemsize > 4
    return "uint64" if wide else "uint32"


def is_sample(config: Config, volume: VolumeConfig) -> bool:
    """Whether the volume is the sample that this workflow has yet to make."""
    raw = Path(volume.raw) if isinstance(volume.raw, str) else None
    return raw is not None and raw.parent == Path(config.results) / "sample"
