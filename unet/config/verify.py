"""Section `verify`: the crops that `snakemake verify` predicts again."""

from pydantic import Field

from unet.config.section import PositiveInt, Section, Seed


class VerifyConfig(Section):
    """Crops that `snakemake verify` predicts a second time and compares with the stored probabilities."""

    crops: PositiveInt = Field(
        8,
        description="Number of crops per volume. They lie across block borders, across borders of block ranges, at the "
        "volume's faces and at random positions, in turn.",
    )
    crop_px: PositiveInt = Field(64, description="Side of a crop in px along y and x.")
    seed: Seed = Field(0, description="Seed of the crops' random positions.")
