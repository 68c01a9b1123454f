"""Keys of `segment.watershed`: the height map whose basins are the fragments."""

from pydantic import Field

from unet.config.section import NonNegativeFloat, PositiveFloat, Section


class WatershedConfig(Section):
    """Height map of the watershed, whose basins are the fragments (supervoxels). Lengths are in px of the section.

    Height of a foreground voxel = smooth(min(distance to the membrane, max_distance_px)
    + confidence_weight_px x confidence).
    """

    max_distance_px: PositiveFloat = Field(
        4.0,
        description="Distance to the membrane beyond which the height does not grow. A larger value gives fewer "
        "fragments, and each block reads more around itself.",
    )
    confidence_weight_px: NonNegativeFloat = Field(
        5.0,
        description="Weight of the foreground confidence in the height map. A larger value ends fragments at fainter "
        "membranes; with 0 fragments end at constrictions alone.",
    )
    smoothing_px: NonNegativeFloat = Field(
        1.0,
        description="Standard deviation of the Gaussian that smooths the height map. A larger value gives fewer, "
        "larger fragments.",
    )
    expand_px: NonNegativeFloat = Field(
        6.0, description="Distance by which fragments extend into the membrane, until they meet."
    )
