"""Section `normalisation`: how the intensities of a volume are scaled for the network."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator

from unet.config.section import Percent, PositiveFloat, Section


class NormalisationConfig(Section):
    """Scaling of intensities for the network: (x - centre) / scale, with two numbers per channel of a volume.

    The same rule holds for all volumes. A model file stores its rule, so `model.checkpoint` brings the rule along.
    """

    ignore_value: FiniteFloat | Literal["auto", "none"] = Field(
        "auto",
        description="Voxels that are left out of the statistics. `auto`: constant regions, such as the frame of "
        "aligned sections or blank sections, which also count as outside the mask. `none`: no voxels. A number: all "
        "voxels of that value.",
    )
    percentiles: tuple[Percent, Percent] | None = Field(
        None,
        description="Two percentiles, such as [1, 99], whose intensities become -1 and 1. With null the mean becomes 0 "
        "and the standard deviation becomes 1.",
    )
    mean: FiniteFloat | Annotated[list[FiniteFloat], Field(min_length=1)] | None = Field(
        None,
        description="Intensity that becomes 0 in every volume, or a list with one intensity per channel. Set `std` as "
        "well. With null the centre is computed from each volume.",
    )
    std: PositiveFloat | Annotated[list[PositiveFloat], Field(min_length=1)] | None = Field(
        None,
        description="Difference of intensities that becomes 1 in every volume, or a list with one number per channel. "
        "Set `mean` as well. With null the scale is computed from each volume.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> "NormalisationConfig":
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"mean is {self.mean} and std is {self.std}; give both or neither")
        if self.mean is not None and self.percentiles is not None:
            raise ValueError("mean and std are given, and percentiles as well; leave one out")
        if self.percentiles is not None and self.percentiles[0] >= self.percentiles[1]:
            raise ValueError(f"percentiles: got {list(self.percentiles)}; the first has to be the lower one")
        if self.percentiles is not None and self.percentiles[1] <= 1:
            percent = [round(100 * share, 6) for share in self.percentiles]
            raise ValueError(
                f"percentiles: got {list(self.percentiles)}, which are in %, so 99 % of the voxels lie above both; if "
                f"they are shares, write {percent}"
            )
        numbers = [len(given) for given in (self.mean, self.std) if isinstance(given, list)]
        if len(set(numbers)) > 1:
            raise ValueError(f"mean has {numbers[0]} numbers and std has {numbers[1]}; give one of each per channel")
        return self
