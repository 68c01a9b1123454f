"""Section `sample`: the synthetic volume for a first run and for the tests."""

from typing import Annotated

from pydantic import Field

from unet.config.section import Section, Seed


class SampleConfig(Section):
    """Synthetic serial-section volume with labels, written to `{results}/sample/raw.tif` and `labels.tif`."""

    sections: Annotated[int, Field(ge=4)] = Field(24, description="Number of sections of the sample.")
    size: Annotated[int, Field(ge=64)] = Field(512, description="Side of each square section in px.")
    seed: Seed = Field(1, description="Seed of the random cells. The same seed gives the same volume, bit for bit.")
