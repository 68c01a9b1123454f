"""Section `weights`: the weight map (paper, equation 2)."""

from typing import Annotated

from pydantic import Field

from unet.config.section import NonNegativeFloat, PositiveFloat, Section


class WeightsConfig(Section):
    """Equation 2: w(x) = w_c(x) + w0 exp(-(d1 + d2)^2 / (2 sigma^2)). The paper's: w0 10, class_balance true."""

    w0: NonNegativeFloat = Field(5.0, description="weight of the borders between touching cells; the paper's is 10")
    sigma: PositiveFloat = Field(5.0, description="width of that border weight in px")
    class_balance: bool = Field(
        False,
        description="weigh the classes by their frequency over `train.volumes`, as the paper does; it widens membranes",
    )
    separation_border: Annotated[int, Field(ge=0)] = Field(
        1, description="px made background on either side where two cells touch"
    )
