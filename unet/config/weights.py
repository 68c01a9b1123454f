"""Section `weights`: the weight map of the loss (paper, equation 2)."""

from typing import Annotated

from pydantic import Field

from unet.config.section import NonNegativeFloat, PositiveFloat, Section


class WeightsConfig(Section):
    """Weight of each voxel in the loss, equation 2 of the paper: w(x) = w_c(x) + w0 exp(-(d1 + d2)^2 / (2 sigma^2)).

    d1 and d2 are the distances to the nearest and the second nearest cell, w_c is the weight of the voxel's class.
    The paper sets w0 to 10 and class_balance to true.
    """

    w0: NonNegativeFloat = Field(
        5.0,
        description="Weight added to the borders between touching cells. A larger value closes more membranes and "
        "makes them wider. The paper uses 10.",
    )
    sigma: PositiveFloat = Field(
        5.0, description="Width of the border weight in px: the weight falls to 61 % where d1 + d2 equals sigma."
    )
    class_balance: bool = Field(
        False,
        description="Whether classes are weighed by their inverse frequency over `train.volumes`, as the paper does. "
        "With true the network predicts wider membranes.",
    )
    separation_border: Annotated[int, Field(ge=0)] = Field(
        1,
        description="Width in px of the background drawn into each of two touching instances. It makes a membrane "
        "where the annotation has none.",
    )
