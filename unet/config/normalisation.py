"""Section `normalisation`: how intensities are given to the network."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator

from unet.config.section import Percent, PositiveFloat, Section


class NormalisationConfig(Section):
    """How grey values are given to the network: (x - centre) / scale, two numbers of each channel of a volume.

    The same rule holds for all volumes. It is kept in the model file, which brings it along as `model.checkpoint`.
    """

    ignore_value: FiniteFloat | Literal["auto", "none"] = Field(
        "auto",
        description="What is left out of the statistics. auto: regions of one value, as the frame of aligned sections "
        "or blank sections; they also count as outside the mask. none: nothing. A number: all voxels of that value.",
    )
    percentiles: tuple[Percent, Percent] | None = Field(
        None,
        description="Two percentiles, such as [1, 99], which become -1 and 1. null: the mean becomes 0, the standard "
        "deviation 1.",
    )
    mean: FiniteFloat | Annotated[list[FiniteFloat], Field(min_length=1)] | None = Field(
        None,
        description="A grey value that becomes 0 in all volumes, or a list with one for each channel; needs `std`.",
    )
    std: PositiveFloat | Annotated[list[PositiveFloat], Field(min_length=1)] | None = Field(
        None, description="Grey values that become a distance of 1 in all volumes, or a list; needs `mean`."
    )

    @model_validator(mode="after")
    def _one_way(self) -> "NormalisationConfig":
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"mean is {self.mean} and std is {self.std}; give both or neither")
        if self.mean is not None and self.percentiles is not None:
            raise ValueError("mean and std are given, and percentiles as well; leave one out")
        if self.percentiles is not None and self.percentiles[0] >= self.percentiles[1]:
            raise ValueError(f"percentiles: got {list(self.percentiles)}; the first has to be the lower one")
        numbers = [len(given) for given in (self.mean, self.std) if isinstance(given, list)]
        if len(set(numbers)) > 1:
            raise ValueError(f"mean has {numbers[0]} numbers and std has {numbers[1]}; one each a channel")
        return self
