"""Decide the voxel size of a configuration: given by the user, stated by a file, or assumed and said to be so."""

from unet.jobs.log_line import format_sizes
from unet.run.inspection.samples import likeness, section_distance_px
from unet.run.inspection.source_summary import SourceSummary
from unet.run.inspection.suggested_settings import VoxelSize
from unet.volumes.voxel_size import differ, is_impossible, is_placeholder

UNLIKE = 0.2
"""Difference of two correlations of neighbouring voxels from which it tells which axis counts the sections."""
Nm = tuple[float, float, float]
THICK_PX = 3.0
"""Distance of neighbouring sections in px from which sections count as thick."""
ASSUMED_THICK_NM: Nm = (50.0, 4.0, 4.0)
"""Usual voxel size of serial sections in a transmission electron microscope."""
ASSUMED_CUBES_NM: Nm = (8.0, 8.0, 8.0)
"""Usual voxel size of FIB-SEM."""


def voxel_size_of(raw: SourceSummary, labels: SourceSummary | None, given: Nm | None) -> VoxelSize:
    """Return the voxel size of intensities `(z, y, x)` in nm, and where it is from.

    It is the user's, else the file's, else that of the labels. If nobody says it, it is assumed: the ratio of z to x
    follows from how neighbouring sections correlate.
    """
    stated = _stated(raw)
    if given is not None:
        overrule = stated is not None and differ(given, stated)
        return VoxelSize(given, "as --voxel-size says", True, overrule)
    if stated is not None:
        return VoxelSize(stated, f"from {raw.source.voxel_size_from}", False)
    of_labels = _stated(labels) if labels is not None else None
    if of_labels is not None and labels is not None:
        return VoxelSize(of_labels, f"{raw.address} does not state it, {labels.address} does", True)
    return _assumed(raw)


def _stated(summary: SourceSummary) -> Nm | None:
    """Return the voxel size that a file states, without one that nobody has set, or that no microscope has."""
    size = summary.source.voxel_size_nm
    if size is None or is_placeholder(size) or is_impossible(size):
        return None
    z, y, x = size
    return z, y, x


def _assumed(raw: SourceSummary) -> VoxelSize:
    """Return the usual size for sections that correlate as these do; a known size of a pixel is kept."""
    distance = section_distance_px(raw.source)
    if distance is None:
        measured = "sections do not correlate" if raw.source.shape[0] > 1 else "there is one section"
    else:
        measured = f"neighbouring sections correlate as pixels {distance:.1f} px apart"
    is_cube = distance is not None and distance < THICK_PX
    source, size = raw.source, raw.source.voxel_size_nm
    if source.pixel_nm is not None:
        y, x = source.pixel_nm
        why = f"ASSUMED along z ({measured}), pixels by {source.voxel_size_from}: CORRECT IT"
        return VoxelSize((x if is_cube else ASSUMED_THICK_NM[0], y, x), why, True)
    unusable = "a placeholder" if size and is_placeholder(size) else "one that no microscope has"
    stated = f"the file's {format_sizes(size)} nm is {unusable}" if size else "no file states it"
    return VoxelSize(
        ASSUMED_CUBES_NM if is_cube else ASSUMED_THICK_NM, f"ASSUMED, {stated} ({measured}): CORRECT IT", True
    )


def doubt_of_axes(raw: SourceSummary) -> str | None:
    """Return a sentence if neighbouring voxels are much less alike along y or x than along the other two axes.

    Sections are thicker than pixels, or as thick. So the axis along which voxels are least alike counts sections.
    """
    alike = likeness(raw.source)
    if alike is None:
        return None
    least, second = sorted(zip(alike, "zyx", strict=True))[:2]
    if least[1] == "z" or second[0] - least[0] < UNLIKE:
        return None
    told = ", ".join(f"{value:.2f} along {axis}" for value, axis in zip(alike, "zyx", strict=True))
    order = {"x": "`axes: xyz` or `axes: yxz`", "y": "`axes: yzx`"}[least[1]]
    return (
        f"{raw.address}: neighbouring voxels correlate by {told}, so that {least[1]} rather counts the sections. Look "
        f"at a section; if that is so, write {order} at this source"
    )


def doubt_of(raw: SourceSummary, size: VoxelSize) -> str | None:
    """Return a sentence if sections correlate quite differently from what a stated voxel size lets expect.

    Only voxels that are stated to be cubes are looked at: of thick sections the correlation depends on alignment.
    """
    if not size.is_isotropic:
        return None
    distance = section_distance_px(raw.source)
    if distance is None or distance < 2 * THICK_PX:
        return None
    z, _, x = size.nm
    return (
        f"{raw.address}: voxels of z {z:g} nm and x {x:g} nm, but neighbouring sections correlate as pixels "
        f"{distance:.0f} px apart; are sections thicker, or is the order of the sections or of the axes another one?"
    )
