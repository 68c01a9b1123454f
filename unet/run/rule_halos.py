"""The voxels `(z, y, x)` that the jobs of each blockwise rule read around their blocks."""

from unet.config.root import Config
from unet.geometry.box import Index
from unet.geometry.offsets import offsets_in_voxels
from unet.volumes import constant_regions
from unet.volumes.layout import VolumeLayout


def none(config: Config, layout: VolumeLayout) -> Index:
    """Return the halo of a rule that reads its own blocks alone."""
    return (0, 0, 0)


def next_voxel(config: Config, layout: VolumeLayout) -> Index:
    """Return the halo of a rule that compares each voxel with its neighbours."""
    return (1, 1, 1)


def histogram(config: Config, layout: VolumeLayout) -> Index:
    """Return the pixels that decide whether a pixel belongs to a region of one grey value."""
    return constant_regions.HALO


def segment(config: Config, layout: VolumeLayout) -> Index:
    """Return the halo of a watershed, or of an interior of affinities: the voxel before along each axis."""
    before = [int(config.model.output == "affinities" and axis in config.segment.axes) for axis in range(3)]
    if config.segment.method != "watershed":
        return tuple(before)
    # imported here, since every job reads the Snakefile
    from unet.segmentation.height_map import WatershedParameters

    halos = [WatershedParameters.of(one, layout.voxel_size_nm).halo for one in config.segment.fragment_settings]
    return tuple(max(along) + more for along, more in zip(zip(*halos, strict=True), before, strict=True))


def region_graph(config: Config, layout: VolumeLayout) -> Index:
    """Return the next voxel along each axis; along z also behind the sections that are skipped.

    For affinities it is the largest component of the offsets along each axis.
    """
    if config.model.output == "affinities":
        offsets = offsets_in_voxels(config.model.offsets, config.model.offset_unit, layout.voxel_size_nm)
        return tuple(max(abs(offset[axis]) for offset in offsets) for axis in range(3))
    return (1 + (config.segment.max_section_gap or 0), 1, 1)
