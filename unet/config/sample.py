"""Section `sample`: the synthetic volume."""

from typing import Annotated

from pydantic import Field

from unet.config.section import Section


class SampleConfig(Section):
    """The generated sample volume, written to `{results}/sample/raw.tif` and `labels.tif`."""

    sections: Annotated[int, Field(ge=4)] = Field(24, description="number of sections")
    size: Annotated[int, Field(ge=64)] = Field(512, description="side of a section in px")
    seed: int = Field(1, description="the same seed gives the same volume, bit for bit")
